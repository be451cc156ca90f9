# syntax=docker/dockerfile:1
# A small image of one node: built in one stage, run in another without a compiler, as a user without rights.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches stay with the builder; the binary leaves without its line tables.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin mqueue \
    && install -s -D target/release/mqueue /out/mqueue \
    && install -d -o 10001 -g 10001 -m 0700 /out/data

FROM debian:bookworm-slim
COPY --from=build /out/mqueue /usr/local/bin/mqueue
COPY --from=build --chown=10001:10001 /out/data /data
USER 10001:10001
WORKDIR /data
ENV MQUEUE_DATA_DIR=/data \
    MQUEUE_LISTEN=0.0.0.0:8080
VOLUME /data
EXPOSE 8080
# Longer than server.shutdown_deadline must be given to stop: docker stop --time 30.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["mqueue", "healthcheck"]
ENTRYPOINT ["mqueue"]
CMD ["serve"]

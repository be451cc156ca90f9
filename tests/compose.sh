#!/usr/bin/env bash
# What Docker Compose says of docker-compose.yml, with every profile: no daemon is needed for that. Compose is docker's own
# plugin, else docker-compose on the PATH, else Debian's package of it, unpacked into target/compose and not installed.
# Without any of them the check is left out. COMPOSE names the program instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Version 1 ended before secrets could come from the environment.
is_version_2() { "$@" version --short 2>/dev/null | grep -Eq '^v?([2-9]|[1-9][0-9])\.'; }

# Unpacks Debian's docker-compose, of the first release that has version 2, from where this machine gets its packages.
unpack() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg site here
    [ -e "$keys" ] || return 1
    site="$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Component: main' | grep '/debian/*$' | head -n 1)"
    [ -n "$site" ] || return 1
    rm -rf target/compose
    mkdir -p target/compose/{lists,cache}/partial
    here="$PWD/target/compose"
    echo "deb [signed-by=$keys] $site trixie main" >"$here/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$here/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$here/lists" -o "Dir::Cache=$here/cache" -o APT::Sandbox::User=
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    "${apt[@]}" update && (cd "$here" && "${apt[@]}" download docker-compose) || return 1
    dpkg-deb -x "$here"/docker-compose_*.deb "$here/root"
    rm -rf "$here"/{lists,cache,sources.list} "$here"/*.deb
}

unpacked=target/compose/root/usr/libexec/docker/cli-plugins/docker-compose
if [ -n "${COMPOSE:-}" ]; then
    compose=("$COMPOSE")
elif command -v docker >/dev/null && is_version_2 docker compose; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null && is_version_2 docker-compose; then
    compose=(docker-compose)
elif is_version_2 "$unpacked" || { unpack && is_version_2 "$unpacked"; }; then
    compose=("$unpacked")
else
    echo "without Docker Compose docker-compose.yml is not checked by it"
    exit 0
fi

# With these profiles the file is valid and starts these services.
holds() {
    local expected="$1" profiles=() profile services
    shift
    for profile in "$@"; do profiles+=(--profile "$profile"); done
    services="$(env JWT_SECRET=x POSTGRES_PASSWORD=x REDIS_PASSWORD=x METRICS_TOKEN=x \
        "${compose[@]}" --env-file /dev/null --file docker-compose.yml "${profiles[@]}" config --services | sort | paste -sd ' ')"
    [ "$services" = "$expected" ] || { echo "with the profiles '$*' there are: $services" >&2; exit 1; }
    env JWT_SECRET=x POSTGRES_PASSWORD=x REDIS_PASSWORD=x METRICS_TOKEN=x \
        "${compose[@]}" --env-file /dev/null --file docker-compose.yml "${profiles[@]}" config --quiet
}
holds "mqueue"
holds "mqueue node-1 node-2 redis shard-0 shard-1" cluster
holds "grafana mqueue prometheus" observe
holds "grafana mqueue node-1 node-2 prometheus redis shard-0 shard-1" cluster observe
# Without a secret nothing starts, and the reason is said.
if said="$(env -u JWT_SECRET "${compose[@]}" --env-file /dev/null --file docker-compose.yml config --quiet 2>&1)"; then
    echo "it starts without JWT_SECRET" >&2
    exit 1
fi
case "$said" in
*JWT_SECRET*) ;;
*)
    echo "it does not say that JWT_SECRET is missing: $said" >&2
    exit 1
    ;;
esac
echo "docker-compose.yml is valid with every profile ($("${compose[@]}" version --short))"

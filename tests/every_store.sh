#!/usr/bin/env bash
# The whole suite of tests/it on every combination of a hot tier and a shard: memory or Redis, SQLite or PostgreSQL. ./test
# runs it on the first one and most of it on two others; this takes about four times as long. It needs what ./test found or
# started: a PostgreSQL (MQUEUE_TEST_POSTGRES, or port 5432), a Redis (MQUEUE_TEST_REDIS, or port 6379), and redis-server.
#
#     tests/every_store.sh [COMBINATION...] [-- ARGUMENTS OF cargo nextest run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What is the same on every combination and runs on the first one only. A test holds that what names its own stores is here.
once=(
    cluster       # two nodes over a Redis and shards of their own, which are cut off, stand still and forget
    follow        # two nodes tell each other of changes through shards of their own
    hook_changes  # hooks change while stores of the nodes' own are away
    growth        # shards are added to shards
    lost_keys     # two nodes over a Redis of their own that forgets
    nodes         # nodes claim one number in one catalog
    orphans       # a Redis of its own is flushed, and nodes end over it
    redis_kinds   # a Redis Cluster, several servers, TLS
    redis_terms   # Redis servers with bounds of their own
    shards        # one of several shards breaks
    shared        # nodes that are one queue, over Redis servers that fail
    shared_explain # nodes that are one queue explain each other's items
    shared_quotas # nodes that share rates through a Redis of their own
    readme        # the commands of the documents, with the defaults, as a reader runs them
    compose       # docker-compose.yml is read; no node runs
    architecture  # sources are read; no node runs
    documents     # documents are read; no node runs
    engine        # WebAssembly without a queue
    plugins       # examples are built and tested; no node runs
    history       # the checker itself
    order         # the checker itself
    stores        # the combinations themselves
)

# What is lost with a damaged log, when nothing else has it: Redis has it yet.
log_alone=(
    command_line::the_log_is_inspected_verified_and_repaired
    command_line::a_node_starts_on_a_damaged_log_when_it_is_told_to_leave_out_what_is_lost
)

combinations=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    combinations+=("$1")
    shift
done
[ $# = 0 ] || shift
[ "${#combinations[@]}" != 0 ] || combinations=(memory+sqlite memory+postgres redis+sqlite redis+postgres)

failed=()
for stores in "${combinations[@]}"; do
    # The stories of on_postgres and on_redis are those of the other modules, on what they are named after.
    left_out='test(/^on_/)'
    if [ "$stores" != memory+sqlite ]; then
        for module in "${once[@]}"; do
            left_out="$left_out | test(/^${module}::/)"
        done
    fi
    if [ "${stores%+*}" = redis ]; then
        for name in "${log_alone[@]}"; do
            left_out="$left_out | test(=$name)"
        done
    fi
    printf '\n== %s\n' "$stores"
    # Built as ./test builds it, so that it is built already.
    MQUEUE_TEST_STORES="$stores" cargo nextest run --release --workspace --locked --test it --no-fail-fast \
        --config profile.release.package.mqueue.opt-level=0 --config profile.release.package.mqueue.codegen-units=16 \
        -E "not ($left_out)" "$@" || failed+=("$stores")
done
[ "${#failed[@]}" = 0 ] || { printf 'every_store: failed on %s\n' "${failed[*]}" >&2; exit 1; }

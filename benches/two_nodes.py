#!/usr/bin/env python3
"""Runs two nodes over one Redis and one PostgreSQL, beside what Redis and PostgreSQL do alone, and prints one table.

    cargo build --release --bins
    python3 benches/two_nodes.py [--seconds 5] [--rounds 3] [--dir DIR] [--postgres URL]

Everything runs on this machine: two nodes with logs of their own on --dir, a Redis without persistence that the script
starts, a database of its own in the PostgreSQL of --postgres, which is dropped at the end, and one load generator a node, each with half of the connections.
In each round the plain figures of `redis-benchmark` and, where it is there, `pgbench` are taken next to the nodes'.
PostgreSQL itself counts its transactions and rows, so the table says how much of it an item costs.
"""

import argparse
import concurrent.futures
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from side_by_side import CLIENTS, MQUEUE, PAYLOAD_BYTES, Server, bench, free_port, mqueue, token

# A counter of PostgreSQL is up to date so long after the work.
SETTLES_S = 2.5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(server):
    with open(f"/proc/{server.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def sql(url, text):
    command = ["psql", "-X", "-At", "-F", " ", "-d", url, "-c", text]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def database(server):
    """The address of an empty database, which is dropped in the end."""
    name = f"mqueue_bench_{os.getpid()}"
    sql(f"{server}/postgres", f"CREATE DATABASE {name}")
    try:
        yield f"{server}/{name}"
    finally:
        sql(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")


def plain_redis():
    port = free_port()
    return Server(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], port)


def redis_rate(server, pipeline, seconds):
    """Sorted-set inserts of PAYLOAD_BYTES a second, the cheapest thing that an ordered queue in Redis does."""
    count = int(seconds * (300_000 if pipeline > 1 else 60_000))
    command = ["redis-benchmark", "-p", str(server.port), "-c", str(CLIENTS), "-P", str(pipeline), "-n", str(count)]
    command += ["-r", "1000000", "--csv", "ZADD", "plain", "__rand_int__", "x" * PAYLOAD_BYTES]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))


def pgbench_rate(url, directory, seconds):
    """Inserts of PAYLOAD_BYTES a second, a transaction each."""
    script = os.path.join(directory, "insert.sql")
    with open(script, "w", encoding="ascii") as file:
        file.write(f"INSERT INTO plain (payload) VALUES ('{'x' * PAYLOAD_BYTES}');\n")
    sql(url, "CREATE TABLE IF NOT EXISTS plain (id bigserial PRIMARY KEY, payload text)")
    command = ["pgbench", "-n", "-f", script, "-c", "16", "-j", "2", "-T", str(seconds), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return float(line.split()[2])


def counters(url):
    """Transactions, and rows written, of the database so far."""
    time.sleep(SETTLES_S)
    text = "SELECT xact_commit, tup_inserted + tup_updated + tup_deleted FROM pg_stat_database"
    return [int(number) for number in sql(url, f"{text} WHERE datname = current_database()").split()]


class Pair:
    """Two nodes that are one queue."""

    def __init__(self, directory, url, redis):
        self.redis, self.url = redis, f"{url}?schema=mqueue"
        self.plain_url = url
        self.nodes = []
        for number in ("1", "2"):
            data = os.path.join(directory, f"node-{number}")
            settings = [f"node.id={number}", f"storage.database_urls={self.url}", f"redis.addrs=127.0.0.1:{redis.port}"]
            self.nodes.append(mqueue(data, *settings, "hot.bytes_max=8GiB", "wal.disk_free_bytes_min=16MiB"))
        # Every node has the secret of the first one.
        self.secret = token(os.path.join(directory, "node-1"))

    def measure(self, mode, batch, seconds, prefix):
        """Drives both nodes at once: items a second, their and Redis' processor time, and PostgreSQL's work, an item."""
        size = ["--batch", str(batch), "--duration", f"{seconds}s", "--warmup", "1s", "--topic-prefix", prefix]
        before = counters(self.plain_url)
        redis_before = cpu_s(self.redis)
        cpu_before = sum(map(cpu_s, self.nodes))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            runs = [pool.submit(bench, mode, node, size, secret=self.secret, clients=CLIENTS // 2) for node in self.nodes]
            reports = [run.result() for run in runs]
        node_cpu, redis_cpu = sum(map(cpu_s, self.nodes)) - cpu_before, cpu_s(self.redis) - redis_before
        rate = sum(report["items_per_s"] for report in reports)
        # The counters hold the second of warm-up, too.
        items = rate * (seconds + 1)
        transactions, rows = (now - then for now, then in zip(counters(self.plain_url), before))
        return {
            "rate": rate,
            "node_us": node_cpu / items * 1e6,
            "redis_us": redis_cpu / items * 1e6,
            "transactions": transactions / items,
            "rows": rows / items,
        }

    def stop(self):
        for node in self.nodes:
            node.stop()


LOADS = [
    ("enqueue, singles", "enqueue", 1),
    ("enqueue, batches of 100", "enqueue", 100),
    ("enqueue, dequeue and ack, singles", "e2e", 1),
    ("enqueue, dequeue and ack, batches of 100", "e2e", 100),
]


def table(measured, plain):
    def middle(rows, field):
        return statistics.median(row[field] for row in rows)

    lines = ["| two nodes | items/s | nodes, µs an item | Redis, µs an item | PostgreSQL transactions an item | rows written an item |",
             "|---|---|---|---|---|---|"]
    for name, _, _ in LOADS:
        rows = measured[name]
        lines.append(f"| {name} | {middle(rows, 'rate'):,.0f} | {middle(rows, 'node_us'):.1f} | {middle(rows, 'redis_us'):.1f} "
                     f"| {middle(rows, 'transactions'):.5f} | {middle(rows, 'rows'):.3f} |")
    lines += ["", "| alone, in the same rounds | a second |", "|---|---|"]
    lines += [f"| {name} | {statistics.median(values):,.0f} |" for name, values in plain.items() if values]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each comparison")
    parser.add_argument("--dir", help="where the nodes' logs go")
    parser.add_argument("--postgres", default="postgres://postgres@127.0.0.1:5432", help="the server, without a database")
    options = parser.parse_args()
    if not os.path.exists(MQUEUE):
        sys.exit(f"{MQUEUE} is missing: cargo build --release --bins")
    for program in ("redis-server", "redis-benchmark", "psql"):
        if not shutil.which(program):
            sys.exit(f"{program} is not on the PATH")
    os.environ.setdefault("JWT_SECRET", "of two nodes that are measured, and of no others")
    measured = {name: [] for name, _, _ in LOADS}
    plain = {"redis-benchmark ZADD": [], "redis-benchmark ZADD, 100 at once": [], "pgbench, one insert a transaction": []}
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir))
        url = stack.enter_context(database(options.postgres))
        redis, alone = plain_redis(), plain_redis()
        stack.callback(redis.stop)
        stack.callback(alone.stop)
        pair = Pair(directory, url, redis)
        stack.callback(pair.stop)
        for number in range(options.rounds):
            for name, mode, batch in LOADS:
                measured[name].append(pair.measure(mode, batch, options.seconds, f"round-{number}-{mode}-{batch}"))
                print("  ", name, measured[name][-1], flush=True)
            plain["redis-benchmark ZADD"].append(redis_rate(alone, 1, options.seconds))
            plain["redis-benchmark ZADD, 100 at once"].append(redis_rate(alone, 100, options.seconds))
            if shutil.which("pgbench"):
                plain["pgbench, one insert a transaction"].append(pgbench_rate(url, directory, options.seconds))
    print()
    print(table(measured, plain))


if __name__ == "__main__":
    main()

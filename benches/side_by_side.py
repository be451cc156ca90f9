#!/usr/bin/env python3
"""Runs MQueue side by side with a bare server and with Redis, and prints one table.

    cargo build --release --bins --examples
    python3 benches/side_by_side.py [--seconds 5] [--rounds 3] [--dir DIR]

Everything runs on this machine, on 127.0.0.1, with fsync on; the load generator is `mqueue bench`, a
process of its own on the same cores. In each round the rows of one comparison run one after the other, so
that a machine whose speed drifts drifts for all of them; the table shows medians and ratios of rounds.
Redis rows need `redis-server` and `redis-benchmark`; without them they are left out.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MQUEUE = os.path.join(ROOT, "target", "release", "mqueue")
BARE = os.path.join(ROOT, "target", "release", "examples", "bare")
PAYLOAD_BYTES = 256
CLIENTS = 64


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"a server ended with {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.005)
    sys.exit("a server does not listen")


class Server:
    """A process that listens on a port of its own."""

    def __init__(self, command, port):
        self.port = port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(port, self.process)
        self.pid = self.process.pid

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=60)
        return errors.decode()

    def memory_mib(self, field):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) / 1024
        return float("nan")


def bare(*log):
    port = free_port()
    return Server([BARE, f"127.0.0.1:{port}", *log], port)


def mqueue(data, *settings):
    port = free_port()
    command = [MQUEUE, "serve", "--data-dir", data, "--listen", f"127.0.0.1:{port}", "--log-encoding", "json"]
    for setting in settings:
        command += ["--set", setting]
    server = Server(command, port)
    # The port is open from the start; it answers once the log is replayed.
    ready = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ready.request("GET", "/readyz")
    if ready.getresponse().status != 200:
        sys.exit("the node is not ready")
    return server


def token(data):
    command = [MQUEUE, "token", "--data-dir", data]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def bench(mode, server, args, target="mqueue", secret="", clients=CLIENTS):
    command = [MQUEUE, "bench", mode, "--url", f"http://127.0.0.1:{server.port}", "--target", target]
    command += ["--output", "json", "--server-pid", str(server.pid), "--connections", str(clients)]
    command += ["--payload-bytes", str(PAYLOAD_BYTES), *args]
    environment = {**os.environ, "MQUEUE_TOKEN": secret}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    report = json.loads(done.stdout)
    if report["errors"]:
        sys.exit(f"the load met errors: {report['errors']}")
    return report


def redis(directory):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
    return Server([*command, "--appendonly", "yes", "--appendfsync", "always"], port)


def redis_xadd(server, pipeline, seconds):
    """Messages a second of XADD with 256 bytes; a short run first sizes the measured one."""
    rate = 20_000
    for share in (0.3, 1.0):
        count = max(20_000, int(rate * seconds * share))
        command = ["redis-benchmark", "-p", str(server.port), "-c", str(CLIENTS), "-P", str(pipeline)]
        command += ["-n", str(count), "--csv", "XADD", "stream", "MAXLEN", "~", "1000000", "*", "p", "x" * PAYLOAD_BYTES]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rate = float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))
    return rate


def median(values):
    return statistics.median(values)


class Table:
    """Rows of the report."""

    def __init__(self):
        self.rows = []

    def row(self, what, value, against="", ratio=None, wanted=""):
        self.rows.append((what, value, against, "" if ratio is None else f"{ratio:.2f}", wanted))
        print("  ", *[cell for cell in self.rows[-1] if cell], sep="  ", flush=True)

    def markdown(self):
        lines = ["| what | MQueue | against | ratio | wanted |", "|---|---|---|---|---|"]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in self.rows])


def throughput(table, directory, options):
    """Singles and batches beside a bare server and Redis; end to end beside batches."""
    data = os.path.join(directory, "throughput")
    # Nothing is taken out while only enqueues are measured, so memory must hold what they bring.
    node, plain = mqueue(data, "hot.bytes_max=8GiB"), bare()
    logging = bare(os.path.join(directory, "log-alone"))
    secret = token(data)
    other = redis(directory) if shutil.which("redis-server") and shutil.which("redis-benchmark") else None
    seconds = ["--duration", f"{options.seconds}s", "--warmup", "1s"]
    rounds = {name: [] for name in ("bare1", "log1", "mq1", "bare100", "log100", "mq100", "e2e", "redis1", "redis100")}
    for number in range(options.rounds):
        for batch in (1, 100):
            size = ["--batch", str(batch), *seconds]
            rounds[f"bare{batch}"].append(bench("enqueue", plain, size, "bare"))
            rounds[f"log{batch}"].append(bench("enqueue", logging, size, "bare"))
            topic = f"round-{number}-{batch}"
            rounds[f"mq{batch}"].append(bench("enqueue", node, [*size, "--topic-prefix", topic], secret=secret))
            purge(node, secret, f"{topic}-0")
            if other:
                rounds[f"redis{batch}"].append(redis_xadd(other, batch, options.seconds))
        # A node of its own: the other one is still giving back the memory of what was purged.
        fresh = os.path.join(directory, f"near-empty-{number}")
        near_empty = mqueue(fresh)
        rounds["e2e"].append(bench("e2e", near_empty, ["--batch", "100", *seconds], secret=token(fresh)))
        near_empty.stop()
    node.stop()
    plain.stop()
    logging.stop()

    def rate(name):
        return median([report["items_per_s"] for report in rounds[name]])

    def ratio(one, two, figure):
        return median([figure(a) / figure(b) for a, b in zip(rounds[one], rounds[two])])

    def items(report):
        return report["items_per_s"]

    def p99(report):
        return report["latency_us"]["enqueue"]["p99"]

    def cpu(report):
        return report["server_cpu_s_per_million"]

    table.row("singles, items/s", f"{rate('mq1'):,.0f}", f"bare server {rate('bare1'):,.0f}",
              ratio("mq1", "bare1", items), "≥ 0.70")
    table.row("singles, p99 ms", f"{median(map(p99, rounds['mq1'])) / 1000:.2f}",
              f"bare server {median(map(p99, rounds['bare1'])) / 1000:.2f}", ratio("mq1", "bare1", p99), "≤ 3")
    table.row("batches of 100, items/s", f"{rate('mq100'):,.0f}", f"bare server {rate('bare100'):,.0f}",
              ratio("mq100", "bare100", items), "≥ 0.60")
    for batch, name in ((1, "singles"), (100, "batches of 100")):
        table.row(f"{name}, items/s", f"{rate(f'mq{batch}'):,.0f}", f"log alone {rate(f'log{batch}'):,.0f}",
                  ratio(f"mq{batch}", f"log{batch}", items))
        table.row(f"{name}, the log alone, items/s", f"{rate(f'log{batch}'):,.0f}",
                  f"bare server {rate(f'bare{batch}'):,.0f}", ratio(f"log{batch}", f"bare{batch}", items))
    table.row("end to end in batches, items/s", f"{rate('e2e'):,.0f}", f"batches {rate('mq100'):,.0f}",
              ratio("e2e", "mq100", items), "≥ 0.50")
    table.row("end to end, CPU µs an item", f"{median(map(cpu, rounds['e2e'])):.2f}",
              f"batches {median(map(cpu, rounds['mq100'])):.2f}", ratio("e2e", "mq100", cpu), "≤ 2")
    if other:
        other.stop()
        for batch, wanted in ((1, "≥ 1.0"), (100, "≥ 3")):
            redis_rate = median(rounds[f"redis{batch}"])
            pairs = zip(rounds[f"mq{batch}"], rounds[f"redis{batch}"])
            against = f"Redis XADD, fsync always {redis_rate:,.0f}"
            name = "singles" if batch == 1 else "batches of 100"
            table.row(f"{name}, items/s", f"{rate(f'mq{batch}'):,.0f}", against,
                      median([report["items_per_s"] / other_rate for report, other_rate in pairs]), wanted)
    return rate("e2e")


def call(server, secret, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {text.decode()}")
    return json.loads(text)


def purge(server, secret, topic):
    call(server, secret, f"/v1/namespaces/default/topics/{topic}/purge", {})


def backlog(table, directory, options, near_empty):
    """A backlog that does not fit into memory: its memory, the urgent item behind it, its drain."""
    data = os.path.join(directory, "backlog")
    node = mqueue(data)
    secret = token(data)
    budget_mib = 256
    count = str(options.backlog)
    report = bench("enqueue", node, ["--batch", "100", "--count", count, "--topic-prefix", "backlog"], secret=secret)
    table.row(f"building a backlog of {options.backlog:,}, items/s", f"{report['items_per_s']:,.0f}")
    peak = node.memory_mib("VmHWM")
    table.row("peak memory meanwhile, MiB", f"{peak:.0f}", f"budget {budget_mib} + 150", wanted="below")
    topic = "/v1/namespaces/default/topics/backlog-0"
    waits = []
    for _ in range(21):
        began = time.monotonic()
        call(node, secret, topic + "/enqueue", {"items": [{"text": "urgent", "priority": -1}]})
        first = call(node, secret, topic + "/dequeue", {"max": 1})["items"][0]
        waits.append((time.monotonic() - began) * 1000)
        if first.get("text") != "urgent":
            sys.exit("an urgent item was not the next one out")
        call(node, secret, "/v1/ack", {"leases": [{"lease_id": first["lease_id"]}]})
    table.row("an urgent item behind it, enqueue to delivery, ms", f"{median(waits):.1f}", f"worst {max(waits):.1f}",
              wanted="milliseconds")
    report = bench("dequeue", node, ["--batch", "100", "--topic-prefix", "backlog"], secret=secret)
    table.row("draining it (dequeue + ack), items/s", f"{report['items_per_s']:,.0f}",
              f"near empty, end to end {near_empty:,.0f}", report["items_per_s"] / near_empty, "≥ 0.50")
    table.row("peak memory in all, MiB", f"{node.memory_mib('VmHWM'):.0f}", f"budget {budget_mib} + 150", wanted="below")
    node.stop()


def replay(table, directory, options):
    """Kill a node that stored nothing, and see how fast the next one reads its log."""
    data = os.path.join(directory, "replay")
    settings = ["hot.bytes_max=8GiB", "hot.buffer_ttl=1h"]
    node = mqueue(data, *settings)
    secret = token(data)
    bench("enqueue", node, ["--batch", "100", "--count", str(options.backlog), "--topic-prefix", "replay"], secret=secret)
    node.stop(signal.SIGKILL)
    began = time.monotonic()
    node = mqueue(data, *settings)
    ready = time.monotonic() - began
    errors = node.stop(signal.SIGKILL)
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    replayed = next((line for line in lines if "replay_ms" in line), None)
    if replayed is None or replayed["live_items"] < options.backlog:
        sys.exit(f"the log was not replayed whole: {errors}")
    rate = replayed["live_items"] / max(replayed["replay_ms"], 1) * 1000
    table.row("start-up replay, items/s", f"{rate:,.0f}", f"ready after {ready:.1f} s", wanted="≥ 500,000")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each comparison")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="items of the backlog")
    parser.add_argument("--dir", help="where the data goes; it decides which disk is measured")
    options = parser.parse_args()
    for binary in (MQUEUE, BARE):
        if not os.path.exists(binary):
            sys.exit(f"{binary} is missing: cargo build --release --bins --examples")
    table = Table()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        near_empty = throughput(table, directory, options)
        backlog(table, directory, options, near_empty)
        replay(table, directory, options)
    print()
    print(table.markdown())


if __name__ == "__main__":
    main()

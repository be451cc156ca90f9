#!/usr/bin/env python3
"""Measures what hooks cost: the same load with and without one, in the same run, and prints one table.

    cargo build --release --bins --examples
    python3 benches/hooks_side_by_side.py [--seconds 5] [--rounds 3] [--tenants 1000] [--dir DIR]

The hook is plugins/examples/size, which looks at every item and lets it pass. One node serves all: in each
round the load goes to a topic without a hook, to one with it as its folder has it, which asks for no payloads,
and to one with its module alone, which is given them. "Nobody's hook" is a topic without one on a node that has
hooks elsewhere, against a node that never saw one.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from side_by_side import CLIENTS, MQUEUE, ROOT, Table, bench, median, mqueue, purge, token

# As many as keep both processors busy with singles: fewer wait for each other's syncs.
MANY_CLIENTS = 256
HOOK = os.path.join(ROOT, "plugins", "examples", "size", "hook.wat")


def cli(server, secret, *args):
    command = [MQUEUE, "hooks", *args, "--url", f"http://127.0.0.1:{server.port}"]
    environment = {**os.environ, "MQUEUE_TOKEN": secret}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")


def request(port, secret, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json",
               **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, answer.getheader("etag"), json.loads(text) if text else None


def items(report):
    return report["items_per_s"]


def cost(table, directory, options):
    """A topic with a hook beside one without, and a topic without on a node with hooks beside a node without."""
    data = os.path.join(directory, "cost")
    node = mqueue(data, "hot.bytes_max=8GiB", "hooks.cpu_per_second=10s", "hooks.cpu_burst=60s")
    bare_data = os.path.join(directory, "no-hooks")
    bare = mqueue(bare_data, "hot.bytes_max=8GiB")
    secret, bare_secret = token(data), token(bare_data)
    cli(node, secret, "push", os.path.dirname(HOOK))
    cli(node, secret, "bind", "size", "--topic", "hooked*")
    cli(node, secret, "push", HOOK, "--hook", "size-given-all")
    cli(node, secret, "bind", "size-given-all", "--topic", "given*")
    seconds = ["--duration", f"{options.seconds}s", "--warmup", "1s"]
    loads = ((100, CLIENTS), (1, CLIENTS), (1, MANY_CLIENTS))
    rounds = {(name, load): [] for name in ("none", "plain", "hooked", "given") for load in loads}
    for number in range(options.rounds):
        for load in loads:
            batch, clients = load
            size = ["--batch", str(batch), *seconds]
            for name, server, key in (("none", bare, bare_secret), ("plain", node, secret), ("hooked", node, secret),
                                      ("given", node, secret)):
                topic = f"{name}-{number}-{batch}-{clients}"
                report = bench("enqueue", server, [*size, "--topic-prefix", topic], secret=key, clients=clients)
                rounds[name, load].append(report)
                purge(server, key, f"{topic}-0")
    node.stop()
    bare.stop()
    for load in loads:
        batch, clients = load
        wanted = "≥ 0.75" if batch == 1 else "≥ 0.80"
        name = "singles" if batch == 1 else f"batches of {batch}"
        name += f" of {clients} connections"
        labels = {"hooked": "through a hook", "given": "through a hook given payloads", "plain": "nobody's hook"}
        for one, two, against, aim in (("hooked", "plain", "the same node, no hook", wanted),
                                       ("given", "plain", "the same node, no hook", wanted),
                                       ("plain", "none", "a node that has no hooks", "1, within noise")):
            pairs = [(items(a), items(b)) for a, b in zip(rounds[one, load], rounds[two, load])]
            label = f"{name}, {labels[one]}, items/s"
            table.row(label, f"{median(a for a, _ in pairs):,.0f}", f"{against} {median(b for _, b in pairs):,.0f}",
                      median(a / b for a, b in pairs), aim)


def tenants(table, directory, options):
    """Many namespaces with a hook each: the node's memory, and how long a single enqueue takes round robin."""
    data = os.path.join(directory, "tenants")
    node = mqueue(data)
    secret = token(data)
    before = node.memory_mib("VmRSS")
    with open(HOOK, encoding="utf-8") as file:
        text = file.read()

    def upload(number):
        # A comment makes each tenant's text another one; an export of its own makes it another module.
        own = text.rstrip()[:-1] + f'\n (global (export "tenant-{number}") i32 (i32.const {number})))'
        namespace = f"tenant-{number}"
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=120)
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "text/wat"}
        while True:
            connection.request("POST", f"/v1/namespaces/{namespace}/hooks/size/versions", own, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status not in (429, 503):
                break
            time.sleep(0.2)
        if answer.status not in (200, 201):
            sys.exit(f"{namespace}: {answer.status} {said.decode()}")
        body = {"hook": "size", "version": 1, "topic": "*", "side": "enqueue"}
        status, _, said = request(node.port, secret, "PUT", f"/v1/namespaces/{namespace}/bindings/size", body,
                                  If_None_Match="*")
        if status not in (200, 201):
            sys.exit(f"{namespace}: {status} {said}")

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, range(options.tenants)))
    took = time.monotonic() - began
    waits, connection = [], http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    for turn in range(3):
        for number in range(options.tenants):
            began = time.monotonic()
            path = f"/v1/namespaces/tenant-{number}/topics/t/enqueue"
            connection.request("POST", path, '{"items":[{"text":"x"}]}', headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                sys.exit(f"{path}: {answer.status} {said.decode()}")
            if turn:
                waits.append((time.monotonic() - began) * 1000)
    waits.sort()
    table.row(f"{options.tenants} namespaces with a hook each: uploads took, s", f"{took:.0f}")
    table.row("their memory, MiB", f"{node.memory_mib('VmRSS') - before:.0f}", f"an empty node {before:.0f}")
    table.row("an enqueue round robin over them, median ms", f"{median(waits):.2f}",
              f"p99 {waits[int(len(waits) * 0.99)]:.2f}, worst {waits[-1]:.2f}")
    node.stop()


def swaps(table, directory, options):
    """Two versions in turn every 50 ms under full load."""
    data = os.path.join(directory, "swaps")
    node = mqueue(data, "hot.bytes_max=8GiB", "hooks.cpu_per_second=10s", "hooks.cpu_burst=60s")
    secret = token(data)
    with open(HOOK, encoding="utf-8") as file:
        text = file.read()
    for number in (1, 2):
        path = os.path.join(directory, f"swap-{number}.wat")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.rstrip()[:-1] + f'\n (global (export "v{number}") i32 (i32.const {number})))')
        cli(node, secret, "push", path, "--hook", "size", "--no-tests")
    cli(node, secret, "bind", "size", "--topic", "swapped*")
    stop, done = threading.Event(), []

    def swap():
        path, version = "/v1/namespaces/default/bindings/size", 1
        _, etag, _ = request(node.port, secret, "GET", path)
        while not stop.wait(0.05):
            status, etag, said = request(node.port, secret, "POST", path + "/activate", {"version": version},
                                         If_Match=etag)
            if status != 200:
                sys.exit(f"activate: {status} {said}")
            done.append(version)
            version = 3 - version

    swapper = threading.Thread(target=swap)
    swapper.start()
    report = bench("enqueue", node, ["--batch", "100", "--duration", f"{options.seconds}s", "--topic-prefix", "swapped"],
                   secret=secret)
    stop.set()
    swapper.join()
    table.row("a swap every 50 ms, batches of 100, items/s", f"{items(report):,.0f}",
              f"{len(done)} swaps, no request failed")
    node.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each comparison")
    parser.add_argument("--tenants", type=int, default=1000, help="namespaces with a hook each")
    parser.add_argument("--dir", help="where the data goes; it decides which disk is measured")
    options = parser.parse_args()
    if not os.path.exists(MQUEUE):
        sys.exit(f"{MQUEUE} is missing: cargo build --release --bins --examples")
    table = Table()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        cost(table, directory, options)
        swaps(table, directory, options)
        tenants(table, directory, options)
    print()
    print(table.markdown())


if __name__ == "__main__":
    main()

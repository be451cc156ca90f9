#!/usr/bin/env python3
"""What a quota lets through in a minute at five times its limit, over HTTP.

Starts a node of its own for each tier it can: in memory, and over a Redis where `redis-server` is at hand (or one is
named by --redis). One tenant is sent five times its quota, spread evenly, for two minutes: the first one begins when it
was idle. With --burst that is spent before. What was accepted in each minute is compared with the quota: it must be
within +1 % and -5 %.

    cargo build --release
    benches/quota_accuracy.py
    benches/quota_accuracy.py --burst 10
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SECRET = "quota-accuracy-secret-of-32-bytes!"
NAMESPACE = "tenant-a"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(ready, what):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"{what} does not answer")


class Node:
    """A node with one quota, in a folder of its own, and its Redis if it has one."""

    def __init__(self, binary, quota, redis):
        self.dir = tempfile.mkdtemp(prefix="mqueue-quota-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "PATH": os.environ.get("PATH", ""),
            "JWT_SECRET": SECRET,
            "MQUEUE_DATA_DIR": os.path.join(self.dir, "data"),
            "NAMESPACE_QUOTAS": quota,
        }
        if redis:
            self.env["REDIS_ADDRS"] = redis
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--set", f"redis.prefix=quota-{self.port}"],
            env=self.env, cwd=self.dir, stdout=self.log, stderr=self.log,
        )
        ready = lambda: urllib.request.urlopen(f"{self.url}/readyz", timeout=1).status == 200
        wait_for(ready, "the node")
        minted = subprocess.run([binary, "token"], env=self.env, cwd=self.dir, check=True, capture_output=True)
        self.token = minted.stdout.decode().strip()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


async def enqueue(reader, writer, node, batch):
    """Sends one batch; how many of it were accepted."""
    body = json.dumps({"items": [{"text": "x"}] * batch}).encode()
    head = (
        f"POST /v1/namespaces/{NAMESPACE}/topics/t/enqueue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {node.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    answer = await reader.readuntil(b"\r\n\r\n")
    lines = answer.decode().lower().split("\r\n")
    status = int(lines[0].split()[1])
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    if status not in (200, 429):
        sys.exit(f"{status}: {body.decode()}")
    return sum(result["status"] == "accepted" for result in json.loads(body).get("results", []))


async def minutes(node, args):
    """How many items were sent and accepted in each minute, and how long it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    if args.burst:
        # It goes first, so that any minute would do.
        while await enqueue(reader, writer, node, args.batch) > 0:
            pass
    asks = round(5 * args.per_minute * args.seconds / 60 / args.batch)
    for _ in range(args.minutes):
        began = time.monotonic()
        accepted = 0
        for ask in range(1, asks + 1):
            late = began + args.seconds * ask / asks - time.monotonic()
            if late > 0:
                await asyncio.sleep(late)
            accepted += await enqueue(reader, writer, node, args.batch)
        yield asks * args.batch, accepted, time.monotonic() - began
    writer.close()


async def measure(tier, node, args):
    """Tells how each minute went; whether all were as they should be."""
    is_fine = True
    async for sent, accepted, lasted in minutes(node, args):
        due = args.per_minute * lasted / 60
        off = 100 * (accepted / due - 1)
        is_fine &= -5 <= off <= 1
        print(f"{tier}: {sent} sent in {lasted:.1f} s, {accepted} accepted of {due:.0f} due: {off:+.2f} %", flush=True)
    return is_fine


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", default="target/release/mqueue")
    options.add_argument("--per-minute", type=int, default=1_000)
    options.add_argument("--burst", type=int, help="items at once beside those of a minute; none by default")
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--minutes", type=int, default=2)
    options.add_argument("--redis", help="host:port of a Redis to use instead of one of its own")
    args = options.parse_args()
    binary = os.path.abspath(args.binary)
    tiers = [("memory", None)]
    server, folder = None, None
    if args.redis:
        tiers.append(("redis", args.redis))
    elif shutil.which("redis-server"):
        port, folder = free_port(), tempfile.mkdtemp(prefix="mqueue-quota-redis-")
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, "Redis")
        tiers.append(("redis", f"127.0.0.1:{port}"))
    is_fine = True
    try:
        for tier, redis in tiers:
            burst = f":{args.burst}" if args.burst else ""
            node = Node(binary, f"{NAMESPACE}:{args.per_minute}{burst}", redis)
            try:
                is_fine &= asyncio.run(measure(tier, node, args))
            finally:
                node.end()
    finally:
        if server:
            server.terminate()
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if is_fine else 1)


if __name__ == "__main__":
    main()

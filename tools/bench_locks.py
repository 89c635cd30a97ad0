"""Lock cycles a second: coati's client beside kazoo, on the same server, in the same run.

A cycle takes a lock that nobody else wants and gives it back. Short bursts of the two take turns, so that what else the
machine does meets both; the medians of the bursts are compared.

    python -m tools.bench_locks                     # on coati and on Java 3.9.3
    python -m tools.bench_locks --server coati --rounds 100
    python -m tools.bench_locks --no-sync           # without the disk, which others may be using
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

from kazoo.client import KazooClient

import coati
from tests.interop.peers import CoatiServer
from tools.javapeer import JavaServer

LOCK: Final = "/bench/lock"
JAVA: Final = "3.9.3"
WARM: Final = 200


async def ours(zk: coati.Client, cycles: int) -> float:
    """Seconds for so many."""
    lock = zk.lock(LOCK, layout="kazoo")
    began = time.perf_counter()
    for _ in range(cycles):
        async with lock:
            pass
    return time.perf_counter() - began


def theirs(zk: KazooClient, cycles: int) -> float:
    """The same with kazoo."""
    lock = zk.Lock(LOCK)
    began = time.perf_counter()
    for _ in range(cycles):
        with lock:
            pass
    return time.perf_counter() - began


async def measure(address: str, rounds: int, cycles: int) -> tuple[list[float], list[float]]:
    """Cycles a second of each burst, ours and kazoo's."""
    kazoo = KazooClient(address)
    await asyncio.to_thread(kazoo.start)
    async with coati.Client(address) as zk:
        await ours(zk, WARM)
        await asyncio.to_thread(theirs, kazoo, WARM)
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            rates[0].append(cycles / await ours(zk, cycles))
            rates[1].append(cycles / await asyncio.to_thread(theirs, kazoo, cycles))
    kazoo.stop()
    kazoo.close()
    return rates


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--server", choices=("coati", JAVA), action="append")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--cycles", type=int, default=20, help="of one burst")
    parser.add_argument("--no-sync", action="store_true", help="the servers do not wait for the disk (forceSync=no)")
    options = parser.parse_args(arguments)
    props = {"zookeeper.forceSync": "no"} if options.no_sync else {}
    for kind in options.server or ("coati", JAVA):
        with CoatiServer(props=props) if kind == "coati" else JavaServer(JAVA, props=props) as server:
            found = asyncio.run(measure(server.address, options.rounds, options.cycles))
        told = []
        for name, rates in zip(("coati's client", "kazoo"), found, strict=True):
            low, middle, high = statistics.quantiles(rates, n=4)
            told.append(f"{name} {middle:.0f}/s ({low:.0f} to {high:.0f})")
        ratio = statistics.median(found[0]) / statistics.median(found[1])
        print(f"on {kind}: {', '.join(told)}: {ratio:.1f} times", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

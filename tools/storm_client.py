"""Storms over the client: cancellations, timeouts and a bad network among operations that know their answer.

Workers share a few clients and do all kinds of operations, each of which can tell its own answer from any other. A
proxy between them and the server drops, stalls and cuts connections at any byte. Invariants: no answer reaches another
caller; an unclear write says so; and when the storm is over nothing is left: no call in flight, no task, no watch here
or on the server, no open file. A seed decides what is tried, the network's timing does the rest.

Command line: `python -m tools.storm_client --operations 100000` adds a line to docs/ledger.md.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from coati import (
    Check,
    Children,
    Client,
    ConnectionLoss,
    Create,
    Get,
    Mode,
    MultiError,
    NoNode,
    SessionExpired,
    Set,
    Trigger,
)
from tools.javapeer import four_letter

LEDGER: Final = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
KEYS: Final = 40
WORKERS: Final = 24
SESSION_TIMEOUT_S: Final = 6.0
CALM_S: Final = 30.0


class Wrong(AssertionError):
    """An invariant is broken."""


# --- the network ----------------------------------------------------------------------------------


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = (reader, writer)
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.flows = asyncio.Event()
        self.flows.set()
        # Bytes that still pass in each direction, None: all.
        self.left: list[int | None] = [None, None]

    def cut(self) -> None:
        for _, writer in (self.client, *((self.server,) if self.server else ())):
            writer.transport.abort()

    async def run(self) -> None:
        try:
            self.server = await asyncio.open_connection(*self.proxy.target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(self.client[0], self.server[1], 0))
                group.create_task(self._pump(self.server[0], self.client[1], 1))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self.cut()
            self.proxy.links.pop(self, None)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        while data := await reader.read(1 << 16):
            await self.flows.wait()
            left = self.left[way]
            if left is not None:
                data = data[:left]
                self.left[way] = left - len(data)
            writer.write(data)
            await writer.drain()
            if self.left[way] == 0:
                break
        raise ConnectionResetError


class Proxy:
    """Between clients and one server."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.links: dict[Link, None] = {}
        self.refuses = False
        self.faults: Counter[str] = Counter()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        link = Link(self, reader, writer)
        self.links[link] = None
        await link.run()

    def heal(self) -> None:
        self.refuses = False
        for link in self.links:
            link.flows.set()
            link.left = [None, None]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.links):
            link.cut()
        await until(lambda: not self.links)

    async def rage(self, dice: Random) -> None:
        """Until it is cancelled: one fault after the other."""
        while True:
            await asyncio.sleep(dice.expovariate(1 / 0.01))
            links = list(self.links)
            fault = dice.choice(("drop", "stall", "cut up", "cut down", "cut down", "refuse", "silence"))
            self.faults[fault] += 1
            if fault == "refuse":
                self.refuses = True
                for link in links:
                    link.cut()
                await asyncio.sleep(dice.uniform(0, 0.1))
                self.refuses = False
            elif links:
                link = dice.choice(links)
                if fault == "drop":
                    link.cut()
                elif fault == "silence" and dice.random() < 0.05:
                    # Until the client gives it up.
                    link.flows.clear()
                elif fault == "stall":
                    link.flows.clear()
                    await asyncio.sleep(dice.uniform(0, 0.05))
                    link.flows.set()
                elif fault.startswith("cut"):
                    link.left[fault == "cut down"] = int(dice.expovariate(1 / 300)) + 1


# --- the operations -------------------------------------------------------------------------------


@dataclass
class Tally:
    """What has happened."""

    operations: int = 0
    results: Counter[str] = field(default_factory=Counter)


def expect(is_so: bool, what: object) -> None:
    if not is_so:
        raise Wrong(str(what))


class Worker:
    """One after the other, operations whose answers nobody else's can be taken for."""

    def __init__(self, zk: Client, number: int, dice: Random) -> None:
        self.zk = zk
        self.number = number
        self.dice = dice
        self.count = 0
        self.verbs: tuple[Callable[[Client], Awaitable[None]], ...] = (
            self.get,
            self.get,
            self.exists,
            self.children,
            self.missing,
            self.set,
            self.create,
            self.ephemeral,
            self.multi,
            self.refused_multi,
            self.multi_read,
            self.ephemerals,
            self.trigger,
            self.watch,
        )

    def key(self) -> int:
        return self.dice.randrange(KEYS)

    async def once(self, zk: Client, tally: Tally) -> None:
        self.count += 1
        verb = self.dice.choice(self.verbs)
        chance = self.dice.random()
        if chance < 0.2:
            zk = zk.with_options(timeout=self.dice.choice((0.0, 0.001, 0.005, 0.05)))
        task = asyncio.ensure_future(verb(zk))
        if chance > 0.6:
            await asyncio.sleep(self.dice.choice((0.0, 0.0, 0.0005, 0.002, 0.02)))
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        tally.operations += 1
        tally.results[type(outcome).__name__ if outcome is not None else "answered"] += 1
        if isinstance(outcome, asyncio.CancelledError | TimeoutError | SessionExpired):
            return
        if isinstance(outcome, ConnectionLoss):
            # Reads, and what was not sent, are repeated.
            expect(outcome.maybe_applied, f"{verb.__name__}: {outcome!r}")
        elif outcome is not None:
            raise outcome

    async def get(self, zk: Client) -> None:
        key = self.key()
        node = await zk.get(f"/k/{key}")
        expect(node.data.startswith(b"%d:" % key), node)

    async def exists(self, zk: Client) -> None:
        key = self.key()
        stat = await zk.exists(f"/s/{key}")
        expect(stat is not None and stat.data_length == key, stat)

    async def children(self, zk: Client) -> None:
        key = self.key()
        names = await zk.children(f"/c/{key}")
        expect(names == [f"child-{key}"], names)

    async def missing(self, zk: Client) -> None:
        path = f"/none/{self.number}/{self.count}"
        try:
            await zk.get(path)
        except NoNode as error:
            expect(error.path == path, error)
        else:
            raise Wrong(path)

    async def set(self, zk: Client) -> None:
        key = self.key()
        data = b"%d:%d/%d" % (key, self.number, self.count)
        stat = await zk.set(f"/k/{key}", data)
        expect(stat.data_length == len(data), stat)

    async def create(self, zk: Client) -> None:
        path = f"/w/{self.number}-{self.count}-"
        data = path.encode()
        node = await zk.create(path, data, mode=Mode.SEQUENTIAL)
        expect(node.path.startswith(path) and node.stat.data_length == len(data), node)
        await zk.delete(node.path, missing_ok=True)

    async def ephemeral(self, zk: Client) -> None:
        path = f"/w/e-{self.number}-{self.count}"
        node = await zk.create(path, b"x" * (self.count % 50), mode=Mode.EPHEMERAL)
        expect(node.path == path and node.stat.data_length == self.count % 50, node)
        await zk.delete(path, missing_ok=True)

    async def multi(self, zk: Client) -> None:
        key = self.key()
        path = f"/w/m-{self.number}-{self.count}"
        made, checked, stat = await zk.multi([Create(path, b"m"), Check(f"/s/{key}"), Set(path, bytes(key))])
        expect(checked is None and getattr(made, "path", "") == path and getattr(stat, "data_length", -1) == key, made)

    async def refused_multi(self, zk: Client) -> None:
        at = self.dice.randrange(4)
        ops = [Check("/k")] * at + [Check(f"/none/{self.number}/{self.count}")] + [Check("/k")] * 2
        try:
            await zk.multi(ops)
        except MultiError as error:
            fault = error.results[at]
            expect(error.index == at and fault is not None and fault.path == ops[at].path, error)
        else:
            raise Wrong("a multi that must be refused")

    async def multi_read(self, zk: Client) -> None:
        key = self.key()
        node, names, error = await zk.multi_read([Get(f"/k/{key}"), Children(f"/c/{key}"), Get(f"/none/{key}")])
        expect(getattr(node, "data", b"").startswith(b"%d:" % key) and names == [f"child-{key}"], (node, names))
        expect(isinstance(error, NoNode) and error.path == f"/none/{key}", error)

    async def ephemerals(self, zk: Client) -> None:
        prefix = f"/w/e-{self.number}-"
        expect(all(path.startswith(prefix) for path in await zk.ephemerals(prefix)), prefix)

    async def trigger(self, zk: Client) -> None:
        key = self.key()
        async with Trigger() as trigger:
            stat = await zk.exists(f"/k/{key}", watch=trigger)
            expect(stat is not None, key)
            if self.dice.random() < 0.5:
                await self.set(zk)
                await trigger.wait(0.02)
                expect(trigger.event is not None and trigger.event.path == f"/k/{key}", trigger.event)

    async def watch(self, zk: Client) -> None:
        key = self.key()
        path = f"/k/{key}"
        async with zk.watch(path, recursive=self.dice.random() < 0.5) as events:
            await zk.set(path, b"%d:watched" % key)
            async with asyncio.timeout(0.05):
                async for event in events:
                    expect(event.path == path, event)


async def prepare(zk: Client) -> None:
    await zk.ensure("/w")
    for key in range(KEYS):
        await zk.put(f"/k/{key}", b"%d:" % key)
        await zk.put(f"/s/{key}", bytes(key))
        await zk.ensure(f"/c/{key}/child-{key}")


async def until(is_so: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(CALM_S):
        while not is_so():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def storm(address: str, seed: int, operations: int) -> tuple[Tally, Counter[str]]:
    """Raises Wrong, or whatever no operation may raise. Afterwards nothing is left."""
    dice = Random(seed)
    host, _, port = address.rpartition(":")
    tally = Tally()
    async with Client(address) as calm:
        await prepare(calm)
        files = open_files()
        proxy = Proxy(host, int(port))
        through = await proxy.start()
        clients = [
            Client(through, session_timeout=SESSION_TIMEOUT_S, max_inflight=inflight, entropy=Random(seed))
            for inflight in (1024, 1024, 3)
        ]
        async with clients[0], clients[1], clients[2]:
            await _rage(clients, proxy, dice, tally, operations)
            proxy.heal()
            await _check_clients(clients, proxy)
            await asyncio.to_thread(_check_watches, host, int(port))
        expect(asyncio.all_tasks() - _of_proxy(proxy) == {asyncio.current_task()}, asyncio.all_tasks())
        await proxy.stop()
        await until(lambda: open_files() <= files)
        await calm.delete_tree("/w")
    return tally, proxy.faults


def _of_proxy(proxy: Proxy) -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if "Proxy._accept" in repr(task) or "Link._pump" in repr(task)}


async def _rage(clients: list[Client], proxy: Proxy, dice: Random, tally: Tally, operations: int) -> None:
    raging = asyncio.ensure_future(proxy.rage(Random(dice.random())))

    async def work(number: int) -> None:
        zk = clients[number % len(clients)]
        worker = Worker(zk, number, Random(dice.random()))
        while tally.operations < operations:
            await worker.once(zk, tally)
            if tally.operations > operations * 0.9 and not raging.done():
                # The rest in peace: what it leaves on the server, no lost connection takes away.
                raging.cancel()
                await asyncio.gather(raging, return_exceptions=True)
                proxy.heal()

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(work(number))
    finally:
        raging.cancel()
        await asyncio.gather(raging, return_exceptions=True)


def _is_idle(zk: Client) -> bool:
    return zk._core.machine.inflight == 0


async def _check_clients(clients: list[Client], proxy: Proxy) -> None:
    for zk in clients:
        machine = zk._core.machine
        # What was stalled may have to be given up first.
        await zk.with_options(timeout=CALM_S).get("/k/0")
        await until(functools.partial(_is_idle, zk))
        expect(len(machine.watches) == 0, "watches here")
        expect(machine.watches._arming == {}, "watches on their way")
        expect(zk._core.pump.open_watches == {}, "open watches")
        expect(zk._core.pump._tasks == {}, "tasks of the client")
        expect(zk._core.pump._listeners == {}, "listeners")


def _check_watches(host: str, port: int) -> None:
    deadline = time.monotonic() + CALM_S
    while not (told := four_letter(host, port, "wchs")).rstrip().endswith("Total watches:0"):
        if time.monotonic() > deadline:
            raise Wrong(f"watches on the server: {told} {four_letter(host, port, 'wchp')}")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--address", default="", help="host:port of a server; without it, one of coati's is started")
    options = parser.parse_args()
    began = time.monotonic()
    if options.address:
        tally, faults = asyncio.run(storm(options.address, options.seed, options.operations))
    else:
        # The tests' own way to start a server.
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from tests.interop.peers import CoatiServer

        with CoatiServer(cfg={"tickTime": "500", "maxClientCnxns": "0"}) as server:
            tally, faults = asyncio.run(storm(server.address, options.seed, options.operations))
    minutes = (time.monotonic() - began) / 60
    results = ", ".join(f"{name} {count}" for name, count in tally.results.most_common())
    told = ", ".join(f"{name} {count}" for name, count in sorted(faults.items()))
    command = f"python -m tools.storm_client --seed {options.seed} --operations {options.operations}"
    line = (
        f"| {datetime.datetime.now(datetime.UTC):%Y-%m-%d} | client storm | `{command}` | {minutes:.0f} min: "
        f"{tally.operations} operations ({results}); faults: {told} | nothing |\n"
    )
    print(line)
    with LEDGER.open("a", encoding="utf-8") as ledger:
        ledger.write(line)


if __name__ == "__main__":
    main()

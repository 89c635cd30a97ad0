"""smoke: whether an ensemble does what clients need, server by server, in a second.

A znode of its own is made, read on every server, watched, changed and deleted; nothing is left.
"""

from __future__ import annotations

import argparse
import asyncio

from coati.cli.exits import CHECK_FAILED
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.reach import members_of, reach_of
from coati.client.client import BaseClient
from coati.client.ops import Check, Set
from coati.client.types import EventType, Mode
from coati.client.watching import Trigger
from coati.errors import ZKError


class Wrong(Exception):
    """A server said something else than it should."""


class Trial:
    """What is tried with one server; `home` is the znode that another session has made."""

    def __init__(self, zk: BaseClient, home: str, data: bytes) -> None:
        self._zk = zk
        self._home = home
        self._data = data

    async def read(self) -> None:
        """What was written elsewhere is here, behind a sync."""
        await self._zk.sync(self._home)
        node = await self._zk.get(self._home)
        _check(node.data == self._data, f"{node.data!r} instead of {self._data!r}")

    async def write(self) -> None:
        """Create, change and delete."""
        made = await self._zk.create(f"{self._home}/n-", b"1", mode=Mode.SEQUENTIAL)
        await self._zk.multi([Check(made.path, 0), Set(made.path, b"2", 0)])
        node = await self._zk.get(made.path)
        _check((node.data, node.version) == (b"2", 1), "a multi was not done")
        await self._zk.delete(made.path, version=1)
        _check(await self._zk.exists(made.path) is None, "a znode is there that was deleted")

    async def watch(self) -> None:
        """An event comes, and before the answer to what is asked afterwards."""
        trigger = Trigger()
        path = f"{self._home}/{self._zk.unique()}"
        await self._zk.exists(path, watch=trigger)
        await self._zk.create(path, mode=Mode.EPHEMERAL)
        event = await trigger.wait(self._zk.session.timeout)
        _check(event.type is EventType.CREATED, f"the event is {event.type.name}")
        await self._zk.delete(path)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="?", default="/", help="below which to try; default /")


async def _smoke(call: OnlineCall) -> int:
    top = call.path(call.options.path).rstrip("/")
    reach = reach_of(call)
    hosts = await members_of(call, reach)
    async with call.connect() as zk:
        data = zk.unique().encode()
        home = (await zk.create(f"{top}/coati-smoke-{zk.unique()}", data)).path
        try:
            outcomes: list[str] = []
            with call.out.table("server", "trial", "ms", "outcome") as table:
                for host in hosts:
                    for trial, ms, outcome in await _with(call, f"{host}{reach.chroot}", home, data):
                        table.row(str(host), trial, ms, outcome)
                        outcomes.append(outcome)
        finally:
            await zk.with_options(timeout=None).delete_tree(home)
    return 0 if all(outcome == "ok" for outcome in outcomes) else CHECK_FAILED


async def _with(call: OnlineCall, server: str, home: str, data: bytes) -> list[tuple[str, float | None, str]]:
    """What each trial took with one server, in milliseconds, and how it ended."""
    loop = asyncio.get_running_loop()
    told: list[tuple[str, float | None, str]] = []
    try:
        async with call.connect(server) as zk:
            trial = Trial(zk, home, data)
            for work in (trial.read, trial.write, trial.watch):
                began = loop.time()
                await work()
                told.append((work.__name__, round(1000 * (loop.time() - began), 1), "ok"))
    except (ZKError, Wrong, TimeoutError) as error:
        name = ("read", "write", "watch", "close")[len(told)]
        told.append((name, None, str(error) or type(error).__name__))
    return told


SMOKE = OnlineCommand("smoke", _flags, _smoke, "  coati smoke\n  coati -s zk1,zk2,zk3 smoke /app")

"""Once: what is done by exactly one member, at most once for each key. Scheduler: jobs that the leader runs in time.

At most once means what it says: a job whose member dies in the middle is not run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from coati.client.client import BaseClient
from coati.client.ops import Create, MultiError, Op, Set
from coati.client.types import join_path
from coati.errors import BAD_VERSION, NO_NODE, NODE_EXISTS, ConnectionLoss, NodeExists, NoNode
from coati.recipes.election import Election, Term
from coati.recipes.marks import Bell, insist_later, mark, patient
from coati.recipes.wallclock import wall_clock

Job = Callable[[], Awaitable[None]]
LeaderJob = Callable[[Term], Awaitable[None]]

# How long a leader without a job sleeps.
IDLE_S: Final = 3600.0
_DONE: Final = b"done"
_FAILED: Final = b"failed"


class KeyState(Enum):
    """Of a key: RUNNING may also mean that its member died in the middle."""

    FREE = "free"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Once:
    """`await once.run("2026-11-21", job)`: the first one to come runs it; nobody runs that key again."""

    def __init__(self, client: BaseClient, path: str) -> None:
        self.path = path
        self._client = client

    async def run(self, key: str, job: Job) -> bool:
        """Runs the job if the key is free; whether it did. What the job raises goes on, and the key has failed."""
        path = join_path(self.path, key)
        if not await self._claim(path):
            return False
        try:
            await job()
        except BaseException:
            self._client.spawn(self._mark(path, _FAILED))
            raise
        await self._mark(path, _DONE)
        return True

    async def state(self, key: str) -> KeyState:
        """Now."""
        try:
            return _state((await self._client.get(join_path(self.path, key))).data)
        except NoNode:
            return KeyState.FREE

    async def wait(self, key: str, timeout: float | None = None) -> KeyState:
        """Until it is done or has failed; raises TimeoutError after so many seconds."""
        client = patient(self._client)
        path = join_path(self.path, key)
        async with asyncio.timeout(timeout):
            with Bell(client) as bell:
                while True:
                    bell.reset()
                    try:
                        state = _state((await client.get(path, watch=bell.rope())).data)
                    except NoNode:
                        state = KeyState.FREE
                        if await client.exists(path, watch=bell.rope()) is not None:
                            continue
                    if state in (KeyState.DONE, KeyState.FAILED):
                        return state
                    await bell.wait()

    async def forget(self, key: str) -> None:
        """The key is free again."""
        await self._client.delete(join_path(self.path, key), missing_ok=True)

    async def _claim(self, path: str) -> bool:
        stamp = mark(self._client).encode()
        try:
            while True:
                try:
                    await self._client.create(path, stamp, parents=True)
                except NodeExists:
                    return False
                except ConnectionLoss:
                    await self._client.sync(path)
                    try:
                        return (await self._client.get(path)).data == stamp
                    except NoNode:
                        continue
                return True
        except BaseException:
            # Nobody will run it, so it must not look as if somebody did.
            insist_later(self._client, lambda: self._take_back(path, stamp), None)
            raise

    async def _take_back(self, path: str, stamp: bytes) -> None:
        # A create over a connection that is gone may be done after a read, but not after a sync.
        await self._client.sync(path)
        with suppress(NoNode):
            node = await self._client.get(path)
            if node.data == stamp:
                await self._client.delete(path, version=node.version)

    async def _mark(self, path: str, how: bytes) -> None:
        try:
            await patient(self._client).set(path, how)
        except NoNode:
            # Forgotten meanwhile.
            return


def _state(data: bytes) -> KeyState:
    if data == _DONE:
        return KeyState.DONE
    return KeyState.FAILED if data == _FAILED else KeyState.RUNNING


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    interval_s: float
    job: LeaderJob


class LeaderScheduler:
    """Jobs at regular times, each time run by whoever leads, one after the other, and at most once.

    `scheduler.every(60, "tidy", tidy)`, then `await scheduler.run()` on each member. Times are counted from 1970 by the
    wall clock, so members agree on them; those that passed while nobody led are not made up for. What a job raises ends
    `run`, except the loss of the office.
    """

    def __init__(self, client: BaseClient, path: str, *, id: bytes, clock: Callable[[], float] = wall_clock) -> None:
        self.path = path
        self._client = client
        self._clock = clock
        self._entries: list[_Entry] = []
        self._election = Election(client, join_path(path, "leader"), id=id)
        self._jobs = join_path(path, "jobs")

    @property
    def election(self) -> Election:
        """Who leads: see `observe`."""
        return self._election

    def every(self, interval: float, name: str, job: LeaderJob) -> None:
        """A job for every so many seconds. It is given the term, whose `guard()` belongs into its writes."""
        if interval <= 0:
            raise ValueError("an interval is above 0 s")
        self._entries.append(_Entry(name, interval, job))

    async def run(self) -> None:
        """Stands for the office and runs the jobs whenever it has it; until cancelled."""
        await self._client.ensure(self._jobs)
        async for term in self._election.terms():
            async with term:
                await self._lead(term)

    async def _lead(self, term: Term) -> None:
        ticks = dict.fromkeys(self._entries, -1)
        while True:
            for entry in ticks:
                tick = int(self._clock() / entry.interval_s)
                if tick > ticks[entry]:
                    ticks[entry] = tick
                    if await self._is_first(entry, tick, term):
                        await entry.job(term)
            now = self._clock()
            due = min((tick + 1) * entry.interval_s for entry, tick in ticks.items()) if ticks else now + IDLE_S
            await asyncio.sleep(max(due - now, 0.0))

    async def _is_first(self, entry: _Entry, tick: int, term: Term) -> bool:
        """Notes that this time's run has begun; False if somebody has begun it."""
        path = join_path(self._jobs, entry.name)
        data = b"%d" % tick
        try:
            node = await self._client.get(path)
        except NoNode:
            op: Op = Create(path, data)
        else:
            if node.data and int(node.data) >= tick:
                return False
            op = Set(path, data, node.version)
        try:
            await self._client.multi([term.guard(), op])
        except MultiError as error:
            if error.code not in (BAD_VERSION, NO_NODE, NODE_EXISTS):
                raise
            term.check()
            return False
        except ConnectionLoss:
            # Perhaps noted, perhaps not: at most once means not.
            return False
        return True

"""Games that clients play on a simulated ensemble while it is disturbed, each with rules that nobody may break.

A game has players, each a client on a host of its own, and a verdict when all is healed and every player is done. The
rules are those of the recipes' users: two holders never overlap, nothing is lost or taken twice, who follows arrives.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import coati
from coati.errors import ZKError
from coati.testing.world import SimWorld

SESSION_S: Final = 4.0


class Foul(AssertionError):
    """A rule was broken."""


class Game(ABC):
    """One game of one run. `moves` counts what succeeded: a run in which nothing happens proves nothing."""

    def __init__(self, world: SimWorld, name: str) -> None:
        self.world = world
        self.name = name
        self.moves = 0
        self.ends_at = 0.0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[coati.Client]:
        """A client with dice of the run, which starts whatever the weather."""
        client = coati.Client(self.world.hosts, session_timeout=SESSION_S, entropy=self.world.random())
        await client.start(timeout=None)
        try:
            yield client
        finally:
            await client.aclose()

    def dice(self) -> Random:
        """For one player."""
        return self.world.random()

    @property
    def is_over(self) -> bool:
        """Players come to an end."""
        return asyncio.get_running_loop().time() >= self.ends_at

    @abstractmethod
    async def setup(self, zk: coati.Client) -> None:
        """Before the faults begin."""

    @abstractmethod
    def players(self) -> list[Coroutine[object, object, None]]:
        """Each plays until `is_over`."""

    @abstractmethod
    async def verdict(self, zk: coati.Client) -> None:
        """After the last one is done. Raises Foul."""


class Counting(Game):
    """Everybody adds one by compare and set: what was acknowledged is in the sum, what was not may be, once."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "counting")
        self.unclear = 0

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/count", b"0")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._play() for _ in range(3)]

    async def _play(self) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                try:
                    await zk.update("/count", lambda data: b"%d" % (int(data) + 1))
                    self.moves += 1
                except ZKError as error:
                    self.unclear += error.maybe_applied
                await asyncio.sleep(dice.random() * 0.5)

    async def verdict(self, zk: coati.Client) -> None:
        total = int((await zk.get("/count")).data)
        if not self.moves <= total <= self.moves + self.unclear:
            raise Foul(f"{self.moves} were acknowledged and {self.unclear} are unclear, and the sum is {total}")


class Following(Game):
    """One writes growing numbers, others follow: nobody sees a smaller one after a larger one, all see the last one."""

    LAST: Final = b"1000000"

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "following")

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/news", b"0")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._write(), self._follow(), self._follow()]

    async def _write(self) -> None:
        dice = self.dice()
        number = 0
        async with self.client() as zk:
            while not self.is_over:
                number += 1
                try:
                    await zk.put("/news", b"%d" % number)
                    if dice.random() < 0.1:
                        await zk.delete("/news")
                except ZKError:
                    continue
                await asyncio.sleep(dice.random())
            await persist(zk.put, "/news", self.LAST)

    async def _follow(self) -> None:
        last = -1
        async with self.client() as zk, zk.values("/news") as nodes:
            async for node in nodes:
                if node is None:
                    continue
                if int(node.data) < last:
                    raise Foul(f"{node.data!r} was seen after {last}")
                last = int(node.data)
                self.moves += 1
                if node.data == self.LAST:
                    return

    async def verdict(self, zk: coati.Client) -> None:
        if (await zk.get("/news")).data != self.LAST:
            raise Foul("the last number was not written")


class Roll(Game):
    """Members come and go, others follow the list: in the end all see the same one."""

    END: Final = frozenset(f"p{number}-has-left" for number in range(3))

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "roll")
        self.lists: list[frozenset[str]] = []

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/roll")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [*(self._come_and_go(f"p{number}") for number in range(3)), self._follow(), self._follow()]

    async def _come_and_go(self, name: str) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                try:
                    await zk.create(f"/roll/{name}", mode=coati.Mode.EPHEMERAL)
                    self.moves += 1
                    await asyncio.sleep(dice.random() * 2)
                    await zk.delete(f"/roll/{name}", missing_ok=True)
                except ZKError:
                    await asyncio.sleep(dice.random())
            # Who leaves in good order leaves nothing; this one says that it is over.
            await persist(zk.ensure, f"/roll/{name}-has-left")

    async def _follow(self) -> None:
        async with self.client() as zk, zk.members("/roll") as rolls:
            async for names in rolls:
                if names == self.END:
                    self.lists.append(names)
                    return

    async def verdict(self, zk: coati.Client) -> None:
        if frozenset(await zk.children("/roll")) != self.END or len(self.lists) != 2:
            raise Foul(f"the lists are {self.lists}, on the server there is {await zk.children('/roll')}")


async def persist(verb: object, *arguments: object) -> None:
    """Calls until it succeeds: everything is healed by then."""
    assert callable(verb)
    while True:
        try:
            await verb(*arguments)
            return
        except ZKError:
            continue


GAMES: Final = (Counting, Following, Roll)

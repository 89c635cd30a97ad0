"""Counter: a number that many add to. IdSequence: numbers that nobody gets twice.

Layouts of a counter: `native` and `kazoo` are decimal text, as kazoo's Counter with int or float; `curator` is
DistributedAtomicLong, 8 bytes; `curator-int` SharedCount and DistributedAtomicInteger, 4 bytes, which is also kazoo's
with support_curator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from struct import Struct
from typing import Final, Generic, Literal, TypeVar

from coati.client.client import BaseClient
from coati.client.types import ANY, Node
from coati.errors import ConnectionLoss, NodeExists, NoNode
from coati.recipes.compare import Cell
from coati.recipes.line import LOCK, Line
from coati.recipes.marks import Bell, patient

CounterLayout = Literal["native", "kazoo", "curator", "curator-int"]
Number = TypeVar("Number", int, float)

# Races that a writer loses before it stands in line.
PROMOTE_AFTER: Final = 5
_BINARY: Final[dict[CounterLayout, Struct]] = {"curator": Struct(">q"), "curator-int": Struct(">i")}


class Counter(Generic[Number]):
    """A number in a znode, which is made when it is first written. `default` is what it is before, and its type.

    A write that loses the race is tried again, after a random pause that grows. One whose answer was lost is raised as
    ConnectionLoss with `maybe_applied` unless it can be told that it was not done. With `lock_path`, whoever has lost
    `promote_after` races stands in a line there, that of Curator's PromotedToLock, so that the unlucky take turns.
    """

    def __init__(
        self,
        client: BaseClient,
        path: str,
        *,
        default: Number,
        layout: CounterLayout = "native",
        lock_path: str | None = None,
        promote_after: int = PROMOTE_AFTER,
    ) -> None:
        self._type: type[Number] = type(default)
        if layout in _BINARY and not isinstance(default, int):
            raise ValueError(f"a counter in the layout {layout} counts whole numbers")
        self.path = path
        self._client = client
        self._cell = Cell(client, path)
        self._default: Number = default
        self._struct = _BINARY.get(layout)
        self._line = None if lock_path is None else Line(client, lock_path, LOCK["curator"], is_patient=False)
        self._promote_after = promote_after

    async def get(self) -> Number:
        """Its value, as the server that was asked knows it."""
        return self._number(await self._cell.read())

    async def add(self, n: Number) -> Number:
        """Adds `n`, which may be negative; the sum. Raises OverflowError if it does not fit the layout."""
        return await self.update(lambda value: value + n)

    async def set(self, value: Number) -> None:
        """Whatever it was."""
        await self._client.put(self.path, self._bytes(value))

    async def compare_and_set(self, expected: Number, value: Number) -> bool:
        """Sets it if it is what was expected; whether it was."""
        failures = 0
        while True:
            seen = await self._cell.read()
            if self._number(seen) != expected:
                return False
            if await self._cell.swap(seen, self._bytes(value)) is not None:
                return True
            failures += 1
            await self._cell.pause(failures)

    async def update(self, fn: Callable[[Number], Number]) -> Number:
        """Replaces it by `fn` of it, and again if somebody else was faster; what it is then."""
        failures = 0
        while self._line is None or failures < self._promote_after:
            value = await self._try(fn)
            if value is not None:
                return value
            failures += 1
            await self._cell.pause(failures)
        return await self._update_in_turn(self._line, fn)

    async def _update_in_turn(self, line: Line, fn: Callable[[Number], Number]) -> Number:
        place = await line.stand("-lock-", b"")
        try:
            # The line only keeps the others of it away: the comparison still decides.
            failures = 0
            while (value := await self._try(fn)) is None:
                failures += 1
                await self._cell.pause(failures)
            return value
        finally:
            await line.release.delete(place.path)

    async def _try(self, fn: Callable[[Number], Number]) -> Number | None:
        seen = await self._cell.read()
        value = fn(self._number(seen))
        return value if await self._cell.swap(seen, self._bytes(value)) is not None else None

    async def values(self) -> AsyncIterator[Number]:
        """Its value now, and after each change; a slow reader gets the newest."""
        told: Number | None = None
        async for node in nodes(self._client, self.path):
            value = self._number(node)
            if value != told:
                told = value
                yield value

    def _number(self, node: Node | None) -> Number:
        if node is None or not node.data:
            return self._default
        if self._struct is None:
            return self._type(node.data.decode("ascii"))
        if len(node.data) != self._struct.size:
            raise ValueError(f"{self.path} holds {len(node.data)} bytes, not a counter of {self._struct.size}")
        return self._type(self._struct.unpack(node.data)[0])

    def _bytes(self, value: Number) -> bytes:
        if self._struct is None:
            return repr(value).encode("ascii")
        bound = 1 << (self._struct.size * 8 - 1)
        if not -bound <= value < bound:
            raise OverflowError(f"{value} does not fit the {self._struct.size} bytes of {self.path}")
        return self._struct.pack(value)


async def nodes(client: BaseClient, path: str) -> AsyncIterator[Node | None]:
    """A znode now, None if it is not there, and after each change."""
    told = 0
    waiting = patient(client)
    with Bell(client) as bell:
        while True:
            bell.reset()
            node: Node | None = None
            try:
                node = await waiting.get(path, watch=bell.rope())
            except NoNode:
                if await waiting.exists(path, watch=bell.rope()) is not None:
                    continue
            zxid = -1 if node is None else node.zxid
            if zxid != told:
                told = zxid
                yield node
            await bell.wait()


class IdSequence:
    """Numbers that nobody else gets, each larger than those of earlier requests: `await ids.next()`.

    A request takes `cache` numbers at a time, of which those not used are never given. The znode holds how many, and
    whoever made it decides that for all. Deleting it begins from 1 again. Nobody waits for anybody: each request is one
    write without a condition, and a lost answer leaves a gap.
    """

    def __init__(self, client: BaseClient, path: str, *, cache: int = 1) -> None:
        if cache < 1:
            raise ValueError("a request takes at least one number")
        self.path = path
        self._client = client
        self._cache = cache
        self._size = 0
        self._next = 0
        self._left = 0

    async def next(self) -> int:
        """One more."""
        while self._left == 0:
            await self._take()
        self._left -= 1
        self._next += 1
        return self._next - 1

    async def _take(self) -> None:
        if not self._size:
            self._size = await self._agreed()
        data = b"%d" % self._size
        try:
            # The version of a znode counts its writes: what nobody else can get.
            stat = await self._client.set(self.path, data, version=ANY)
        except NoNode:
            # Deleted: the next znode may be of another size.
            self._size = 0
            return
        except ConnectionLoss:
            # These numbers are lost, if they were taken; the next ones are as good.
            return
        if self._left == 0:
            # Versions are signed 32-bit numbers.
            self._next = (stat.version % (1 << 32) - 1) * self._size + 1
            self._left = self._size

    async def _agreed(self) -> int:
        while True:
            try:
                return int((await self._client.get(self.path)).data)
            except NoNode:
                pass
            with suppress(NodeExists):
                await self._client.create(self.path, b"%d" % self._cache, parents=True)

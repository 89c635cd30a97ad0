"""Walks a tree in the order of its paths: many znodes in each request, several requests under way, bounded memory.

Knows requests and order; must not know what is done with a znode. What is read ahead is a chain: znodes that are read
or asked for, and between them runs of names that nobody has asked for yet. The front of the chain is handed out. Each
request takes what is nearest to the front, so what waits is a window of the tree and not a level of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from coati.cli.command import Call
from coati.cli.exits import NOT_AUTHORISED
from coati.client.ops import Children, Get, Read, ReadResult
from coati.client.types import ACL, AclInfo, Node, Stat, join_path
from coati.errors import MARSHALLING_ERROR, KeeperError, MarshallingError, NoAuth, NoNode, ZKError

# Requests: how many znodes in one, so many bytes of data and names an answer should have, how many are under way.
BATCH: Final = 200
FIRST_BATCH: Final = 16
ANSWER_BYTES: Final = 1 << 20
ANSWER_NAMES: Final = 20_000
IN_FLIGHT: Final = 3
# ACLs have a request each.
ACL_LANES: Final = 32
# How far it reads ahead: znodes, bytes of their data, and names that nobody has asked for.
WINDOW: Final = 2000
HELD_BYTES: Final = 16 << 20
HELD_NAMES: Final = 50_000
# How many paths that may not be read are named.
NAMED: Final = 5
SERVERS_OWN: Final = "/zookeeper"


class Znode(NamedTuple):
    """One that was met. `acl` is None unless it was asked for; data that were not asked for are empty."""

    path: str
    data: bytes
    stat: Stat
    acl: tuple[ACL, ...] | None = None


class Reads(Protocol):
    """What is needed of a client."""

    async def multi_read(self, ops: Iterable[Read]) -> list[ReadResult]: ...

    async def get_acl(self, path: str) -> AclInfo: ...


_ASKED: Final = 0
_READ: Final = 1
_LISTED: Final = 2
_READY: Final = 3
_GONE: Final = 4


class _Spot:
    """A znode of the chain; `after` is the next of the chain."""

    __slots__ = ("after", "found", "path", "state")

    def __init__(self, path: str) -> None:
        self.path = path
        self.state = _ASKED
        self.found: Znode | None = None
        self.after: _Spot | _Run | None = None


class _Run:
    """Names below a parent from `at` on: nobody has asked for them."""

    __slots__ = ("after", "at", "names", "parent")

    def __init__(self, parent: str, names: Sequence[str], after: _Spot | _Run | None) -> None:
        self.parent = parent
        self.names = names
        self.at = 0
        self.after = after


class Walk:
    """The znode and all below it: each parent before its children, these sorted. What goes meanwhile is left out.

    What may not be read is left out, too, and counted in `refused`. `spares`: /zookeeper of a server is left out.
    """

    def __init__(self, client: Reads, path: str, *, data: bool = True, acl: bool = False, spares: bool = False) -> None:
        self._client = client
        self._has_data = data
        self._has_acl = acl
        self._spares = spares
        self._path = path
        self._front = _Spot("")
        self._held = 0
        self._names = 0
        self._size = FIRST_BATCH
        self._tasks: list[asyncio.Task[None]] = []
        self.refused = 0
        self.named: list[str] = []

    async def batches(self) -> AsyncGenerator[list[Znode], None]:
        """Raises NoNode if there is nothing at the path, and whatever the connection does."""
        try:
            await self._begin()
            while self._front.after is not None:
                self._ask_more()
                ready = self._take_ready()
                if ready:
                    yield ready
                elif self._front.after is not None:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                    done = [task for task in self._tasks if task.done()]
                    self._tasks = [task for task in self._tasks if not task.done()]
                    for task in done:
                        task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self) -> None:
        # Nobody holds it longer: behind what is handed out the chain would stay.
        root = _Spot(self._path)
        self._front.after = root
        await self._ask([root])
        if root.state == _GONE and not self.refused:
            raise NoNode(root.path)

    def _take_ready(self) -> list[Znode]:
        ready: list[Znode] = []
        item = self._front.after
        while isinstance(item, _Spot) and item.state >= _READY:
            if item.found is not None and item.state == _READY:
                ready.append(item.found)
                self._held -= len(item.found.data)
            item = item.after
        self._front.after = item
        return ready

    def _ask_more(self) -> None:
        while len(self._tasks) < IN_FLIGHT:
            spots = self._next_spots()
            if not spots:
                return
            self._tasks.append(asyncio.ensure_future(self._ask(spots)))

    def _next_spots(self) -> list[_Spot]:
        """What to ask for in the next request: znodes to read, and znodes whose children to list."""
        spots: list[_Spot] = []
        names = seen = 0
        before: _Spot = self._front
        item = before.after
        while item is not None and seen < WINDOW and len(spots) < self._size:
            if isinstance(item, _Run):
                if seen and self._held > HELD_BYTES:
                    break
                some = item.names[item.at : item.at + self._size - len(spots)]
                item.at += len(some)
                self._names -= len(some)
                for name in some:
                    spot = _Spot(join_path(item.parent, name))
                    before.after = spot
                    before = spot
                    spots.append(spot)
                seen += len(some)
                before.after = item if item.at < len(item.names) else item.after
                item = before.after
                continue
            if item.state == _READ:
                assert item.found is not None
                names += item.found.stat.num_children
                if (spots and names > ANSWER_NAMES) or (seen and self._names > HELD_NAMES):
                    break
                item.state = _LISTED
                spots.append(item)
            seen += 1
            before = item
            item = item.after
        return spots

    async def _ask(self, spots: Sequence[_Spot]) -> None:
        ops = [Children(spot.path) if spot.state == _LISTED else Get(spot.path) for spot in spots]
        try:
            results = await self._client.multi_read(ops)
        except (MarshallingError, KeeperError) as error:
            # More than the server wants to say, or we to hear, at once.
            if len(spots) == 1 or (isinstance(error, KeeperError) and error.code != MARSHALLING_ERROR):
                raise
            self._size = max(len(spots) // 4, 1)
            half = len(spots) // 2
            await self._ask(spots[:half])
            await self._ask(spots[half:])
            return
        acls = await self._acls(results) if self._has_acl else {}
        read = said = 0
        for spot, result in zip(spots, results, strict=True):
            if isinstance(result, Node):
                read += 1
                said += len(result.data)
                self._on_node(spot, result, acls.get(spot.path))
            elif isinstance(result, list):
                self._on_names(spot, result)
            else:
                self._on_error(spot, result)
        if said > ANSWER_BYTES:
            self._size = max(read * ANSWER_BYTES // said, 1)
        elif read == self._size:
            self._size = min(self._size * 2, BATCH)

    async def _acls(self, results: Sequence[ReadResult]) -> dict[str, AclInfo | Exception]:
        # A task for each lane and not for each znode: that is a quarter of the time.
        paths = iter([result.path for result in results if isinstance(result, Node)])
        found: dict[str, AclInfo | Exception] = {}

        async def lane() -> None:
            for path in paths:
                try:
                    found[path] = await self._client.get_acl(path)
                except ZKError as error:
                    found[path] = error

        await asyncio.gather(*(lane() for _ in range(ACL_LANES)))
        return found

    def _on_node(self, spot: _Spot, node: Node, acl: AclInfo | Exception | None) -> None:
        if isinstance(acl, Exception):
            self._on_error(spot, acl)
            return
        if self._spares and node.path == SERVERS_OWN and not node.stat.czxid:
            spot.state = _GONE
            return
        data = node.data if self._has_data else b""
        spot.found = Znode(node.path, data, node.stat, None if acl is None else acl.acl)
        self._held += len(data)
        spot.state = _READ if node.stat.num_children else _READY

    def _on_names(self, spot: _Spot, names: Sequence[str]) -> None:
        if names:
            spot.after = _Run(spot.path, names, spot.after)
            self._names += len(names)
        spot.state = _READY

    def _on_error(self, spot: _Spot, error: Exception) -> None:
        if isinstance(error, NoAuth):
            self.refused += 1
            if len(self.named) < NAMED:
                self.named.append(spot.path)
        elif not isinstance(error, NoNode):
            raise error
        if spot.found is not None:
            # It was read, but is not told: it has gone since.
            self._held -= len(spot.found.data)
        spot.state = _GONE

    def end(self, call: Call) -> int | None:
        """Says what could not be read; the exit code of that."""
        if not self.refused:
            return None
        more = f" and {self.refused - len(self.named)} more" if self.refused > len(self.named) else ""
        call.note(f"not allowed to read {', '.join(self.named)}{more}; what is below is left out")
        return NOT_AUTHORISED


class Meter:
    """How many znodes there were, for whoever waits."""

    EVERY: Final = 20_000

    def __init__(self, call: Call) -> None:
        self._call = call
        self._shown = 0
        self.count = 0

    def add(self, count: int) -> None:
        """So many more."""
        self.count += count
        if self.count - self._shown >= self.EVERY:
            self._shown = self.count
            self._call.progress(f"{self.count:,} znodes")

    def end(self) -> None:
        """The line goes, if there was one."""
        if self._shown:
            self._call.progress_ends()


async def walked(call: Call, walk: Walk) -> AsyncGenerator[list[Znode], None]:
    """The batches of a walk, while a person sees how far it is."""
    meter = Meter(call)
    batches = walk.batches()
    try:
        async for batch in batches:
            yield batch
            meter.add(len(batch))
    finally:
        await batches.aclose()
        meter.end()

"""Streams of what is now: the data of a znode, the names of its children. Levels, not edges.

Knows reading with a one-shot watch: read, wait until that is out of date, read again. It is exact across connections
and sessions, since a client tells each new server what it has read and until when, and that server fires what has
changed since; what has not changed is not read again, however many clients come back at once (SetWatches).
Invariant: what is yielded is never older than what was yielded before, and the newest state is never left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from coati.client.streams import Stream
from coati.client.types import Node, Stat
from coati.client.watching import Trigger
from coati.errors import ClientClosed, ConnectionLoss, NoNode, OperationTimeout

T = TypeVar("T")
Seen = TypeVar("Seen")

# Is equal to the mark of nothing that is read.
_NOT_YET: Final = object()
_MISSING: Final = -1


class Ends(Protocol):
    """What is needed of a session."""

    def on_end(self, callback: Callable[[str], None]) -> Callable[[], None]: ...


class Reads(Protocol):
    """What is needed of a client; its calls end in a time that it knows itself."""

    @property
    def session(self) -> Ends: ...

    @property
    def is_closed(self) -> bool: ...

    async def get(self, path: str, *, watch: Trigger | None = None) -> Node: ...

    async def exists(self, path: str, *, watch: Trigger | None = None) -> Stat | None: ...

    async def children(self, path: str, *, watch: Trigger | None = None) -> list[str]: ...


class Level(Stream[T], Generic[Seen, T]):
    """`read` reads and sets a watch, `mark` tells whether that is new, `show` makes of it what is yielded."""

    def __init__(
        self,
        client: Reads,
        read: Callable[[Trigger], Awaitable[Seen]],
        *,
        mark: Callable[[Seen], object],
        show: Callable[[Seen], T],
    ) -> None:
        super().__init__()
        self._client = client
        self._read = read
        self._mark = mark
        self._show = show
        self._last = _NOT_YET
        # Set: what was read last is the newest, until it fires.
        self._trigger: Trigger | None = None
        self._is_over = False
        self._stop_counting: Callable[[], None] | None = None

    async def _next(self) -> T:
        if self._stop_counting is None and not self._is_over:
            self._stop_counting = self._client.session.on_end(self._count_gap)
        while not self._is_over:
            if self._trigger is not None:
                await self._trigger.wait()
                self._trigger = None
                continue
            try:
                seen = await self._look()
            except (ConnectionLoss, OperationTimeout):
                # The next call waits for a server; only the end of the client is the end.
                continue
            except ClientClosed:
                if not self._client.is_closed:
                    # It was never opened.
                    raise
                break
            mark = self._mark(seen)
            if mark != self._last:
                self._last = mark
                # If this raises, since what was read is not what was meant, the next call waits for something newer.
                return self._show(seen)
        raise StopAsyncIteration

    async def _look(self) -> Seen:
        trigger = Trigger()
        try:
            seen = await self._read(trigger)
        except BaseException:
            trigger.close()
            raise
        if self._is_over:
            trigger.close()
        else:
            self._trigger = trigger
        return seen

    def _count_gap(self, reason: str) -> None:
        self.gaps += 1

    def close(self) -> None:
        """No more items; the server is told if nobody else waits for the same."""
        self._is_over = True
        if self._stop_counting is not None:
            self._stop_counting()
            self._stop_counting = None
        if self._trigger is not None:
            self._trigger.close()


def values(client: Reads, path: str) -> Stream[Node | None]:
    """The znode now, then each newer one that is found; None while there is none."""
    return Level(client, lambda trigger: read_node(client, path, trigger), mark=version_of, show=lambda node: node)


def members(client: Reads, path: str) -> Stream[frozenset[str]]:
    """The names of the children now, then each other set that is found; none while there is no parent."""

    async def read(trigger: Trigger) -> frozenset[str]:
        while True:
            try:
                return frozenset(await client.children(path, watch=trigger))
            except NoNode:
                if await client.exists(path, watch=trigger) is None:
                    return frozenset()

    return Level(client, read, mark=lambda names: names, show=lambda names: names)


async def read_node(client: Reads, path: str, trigger: Trigger) -> Node | None:
    """The znode, or None; the trigger fires when that is out of date."""
    while True:
        try:
            return await client.get(path, watch=trigger)
        except NoNode:
            # Made between these two: the trigger is set anew with what is read.
            if await client.exists(path, watch=trigger) is None:
                return None


def version_of(node: Node | None) -> object:
    """Equal for two reads only if nothing was written between them: a txn has a zxid of its own."""
    return _MISSING if node is None else node.stat.mzxid

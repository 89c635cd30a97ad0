"""TreeCache: a copy of a tree, or of a part of it, that follows the servers.

Knows the znodes that were read, and which must be read again. One persistent watch covers all of it; its events only
say what to read, so it does not matter how many are lost, come late or come twice. Must not know connections.
Invariants: a path is read by one reader at a time, so an older answer never takes the place of a newer one. What is
marked is read after it was marked. A gap (a new connection or session, a buffer that ran over) marks everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from coati.client.streams import Feed, Stream
from coati.client.types import Event, EventType, Node, Stat, WatchMode, join_path, parent_path
from coati.client.watching import Watch
from coati.errors import ConnectionLoss, NoAuth, NoNode, OperationTimeout, Throttled, Unimplemented, ZKError

READERS: Final = 64
CHANGES: Final = 1024
# Events are taken as soon as the loop gets round to it: a burst may be as long as what one read of a socket brings.
EVENTS: Final = 1 << 16


class Change(NamedTuple):
    """What a cache has learned: CREATED has no `old`, DELETED no `new`, RESYNC neither.

    RESYNC: a gap is healed, all is read again, and the changes found were told before. Several changes of a znode may
    be told as one.
    """

    type: EventType
    path: str
    old: Node | None
    new: Node | None


class Watches(Protocol):
    """What is needed of a client; its calls end in a time that it knows itself."""

    def watch(
        self, path: str, *, recursive: bool = False, mode: WatchMode = WatchMode.PERSISTENT, buffer: int = 1024
    ) -> Watch: ...

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]: ...

    @property
    def is_closed(self) -> bool: ...

    async def get(self, path: str) -> Node: ...

    async def exists(self, path: str) -> Stat | None: ...

    async def children(self, path: str) -> list[str]: ...

    async def sync(self, path: str = "/") -> int: ...


class TreeCache:
    """`async with zk.cache(path) as cache:` the block begins when all is read; it may be missing, and come later.

    Reading it asks no server and may be a little behind; `await cache.sync()` catches up. Znodes that may not be read
    are left out. The Stat of a znode is that of its last change of data: for children ask `children`.
    """

    def __init__(self, client: Watches, path: str, *, depth: int | None = None, data: bool = True) -> None:
        """`depth`: how many levels below `path`; None stands for all."""
        self.path = path
        self._client = client
        self._depth = depth
        self._data = data
        self._base = 0 if path == "/" else path.count("/")
        self._nodes: dict[str, Node] = {}
        # Names by parent: those of `_nodes`.
        self._names: dict[str, dict[str, None]] = {}
        # What is to be read, and whether its children are to be listed too. What is being read waits in `_again`.
        self._marked: dict[str, bool] = {}
        self._reading: dict[str, None] = {}
        self._again: dict[str, bool] = {}
        self._readers: dict[asyncio.Task[None], None] = {}
        self._follower: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._gap_is_open = False
        self._is_loaded = False
        self._is_over = False
        # Why no more is read.
        self._failure: ZKError | None = None
        self._feeds: dict[Feed[Change], None] = {}
        self._watch = client.watch(path, recursive=depth != 0, buffer=EVENTS)

    # --- for whoever reads it ---------------------------------------------------------------------

    def get(self, path: str) -> Node | None:
        """The znode as it was read last; None if there is none, or it is not covered. Without `data`, data is empty."""
        return self._nodes.get(path)

    def children(self, path: str) -> list[str]:
        """The names of the children that are in the cache, sorted; empty if there are none."""
        return sorted(self._names.get(path, ()))

    def paths(self) -> list[str]:
        """All paths, sorted."""
        return sorted(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    @property
    def is_current(self) -> bool:
        """It is followed, and nothing is known to be out of date."""
        return self._settled.is_set() and not self._is_over

    def changes(self, *, buffer: int = CHANGES) -> Stream[Change]:
        """What changes from now on; a RESYNC where more than `buffer` changes waited unread, or a gap was healed."""
        feed: Feed[Change] = _Changes(self._feeds, Change(EventType.RESYNC, self.path, None, None), buffer)
        self._feeds[feed] = None
        if self._is_over:
            feed.end()
        return feed

    async def sync(self) -> None:
        """All that was written before this call is in the cache. Raises what the client's `sync` raises."""
        await self._client.sync(self.path)
        # Events come before the answer; they are here, if not yet taken.
        while (event := self._watch.take()) is not None:
            self._on_event(event)
        await self._until_settled()

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._watch.__aenter__()
            self._follower = self._client.spawn(self._follow())
            self._mark(self.path, lists=True)
            await self._until_settled()
            self._is_loaded = True
        except Unimplemented as error:
            error.hint = "servers before 3.6 have no persistent watches; follow single znodes by `values` and `members`"
            raise
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Follows no more: what was read stays, streams of changes end. Can be repeated."""
        self._watch.close()
        tasks = [*self._readers, *([self._follower] if self._follower else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _end(self) -> None:
        self._is_over = True
        for feed in self._feeds:
            feed.end()
        self._settled.set()

    async def _until_settled(self) -> None:
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    # --- events -----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for event in self._watch:
            self._on_event(event)
        # The client has come to its end.
        self._end()

    def _on_event(self, event: Event) -> None:
        if event.type is EventType.RESYNC:
            self._gap_is_open = True
            self._mark(self.path, lists=True)
            for path in self._nodes:
                self._mark(path, lists=True)
        elif self._covers(event.path):
            self._on_change(event)

    def _on_change(self, event: Event) -> None:
        path = event.path
        known = self._nodes.get(path)
        if path not in self._marked and path not in self._reading and event.zxid > 0:
            # Nothing is under way, so what is known is told by its zxids; servers before 3.9 do not tell the event's.
            if event.type is EventType.DELETED:
                if known is not None and known.stat.czxid < event.zxid:
                    self._remove(path)
                return
            if known is not None and known.stat.mzxid >= event.zxid:
                return
        self._mark(path, lists=False)

    def _covers(self, path: str) -> bool:
        return self._depth is None or self._level(path) <= self._depth

    def _level(self, path: str) -> int:
        return (0 if path == "/" else path.count("/")) - self._base

    # --- reading ----------------------------------------------------------------------------------

    def _mark(self, path: str, *, lists: bool) -> None:
        """It is to be read, from now on."""
        where = self._again if path in self._reading else self._marked
        where[path] = lists or where.get(path, False)
        self._settled.clear()
        self._read_soon()

    def _read_soon(self) -> None:
        if self._marked and len(self._readers) < READERS and not self._is_over:
            task = self._client.spawn(self._read())
            self._readers[task] = None
            task.add_done_callback(self._on_read)

    def _on_read(self, task: asyncio.Task[None]) -> None:
        del self._readers[task]
        if self._failure is not None:
            self._end()
        elif not task.cancelled():
            # Marked when all readers were about to end.
            self._read_soon()
        if self._readers or self._is_over:
            return
        if self._gap_is_open:
            self._gap_is_open = False
            self._tell(Change(EventType.RESYNC, self.path, None, None))
        self._settled.set()

    async def _read(self) -> None:
        """One of the readers: reads what is marked, until nothing is."""
        while self._marked:
            path = next(iter(self._marked))
            lists = self._marked.pop(path)
            self._reading[path] = None
            try:
                await self._visit(path, lists=lists)
            except (ConnectionLoss, OperationTimeout, Throttled):
                # The next request waits for a server.
                self._again[path] = True
            except ZKError as error:
                self._failure = error
                return
            finally:
                del self._reading[path]
                if path in self._again:
                    self._marked[path] = self._again.pop(path)

    async def _visit(self, path: str, *, lists: bool) -> None:
        try:
            node = await self._look(path)
        except NoNode:
            self._remove(path)
            return
        except NoAuth:
            if path == self.path and not self._is_loaded:
                raise
            self._remove(path)
            return
        is_new = self._put(node)
        if (lists or is_new) and (self._depth is None or self._level(path) < self._depth):
            await self._list(path, is_leaf=node.stat.num_children == 0)

    async def _look(self, path: str) -> Node:
        if self._data:
            return await self._client.get(path)
        stat = await self._client.exists(path)
        if stat is None:
            raise NoNode(path)
        return Node(path, b"", stat)

    async def _list(self, path: str, *, is_leaf: bool) -> None:
        try:
            names = [] if is_leaf else await self._client.children(path)
        except NoNode:
            self._mark(path, lists=True)
            return
        # Those that are known and not listed have an event of their own, or were marked with the gap.
        known = self._names.get(path, {})
        for name in names:
            if name not in known:
                self._mark(join_path(path, name), lists=True)

    # --- what is known ----------------------------------------------------------------------------

    def _put(self, node: Node) -> bool:
        """Whether it was not known before, or is another one by that name."""
        path = node.path
        old = self._nodes.get(path)
        self._nodes[path] = node
        if old is None:
            if path != self.path:
                self._names.setdefault(parent_path(path), {})[node.name] = None
            self._tell(Change(EventType.CREATED, path, None, node))
            return True
        if old.stat.mzxid != node.stat.mzxid:
            self._tell(Change(EventType.CHANGED, path, old, node))
        return old.stat.czxid != node.stat.czxid

    def _remove(self, path: str) -> None:
        old = self._nodes.pop(path, None)
        if old is None:
            return
        if path != self.path:
            parent = parent_path(path)
            names = self._names[parent]
            del names[old.name]
            if not names:
                del self._names[parent]
        # Gone before their parent, or come back after it: each is asked for by itself.
        for name in self._names.get(path, ()):
            self._mark(join_path(path, name), lists=False)
        self._tell(Change(EventType.DELETED, path, old, None))

    def _tell(self, change: Change) -> None:
        for feed in self._feeds:
            feed.put(change)


class _Changes(Feed[Change]):
    """A feed that leaves its cache when it is closed."""

    def __init__(self, feeds: dict[Feed[Change], None], gap: Change, buffer: int) -> None:
        super().__init__(buffer, marker=lambda oldest: gap)
        self._feeds = feeds

    def close(self) -> None:
        self._feeds.pop(self, None)
        super().close()

"""What a client of coati.sync gives besides values: watches, streams, caches, transactions, views.

Written by tools/gen_sync.py: do not edit.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from coati.client.cache import CHANGES, Change
from coati.client.cache import TreeCache as AsyncTreeCache
from coati.client.client import SessionView as AsyncSessionView
from coati.client.ops import Op, OpResult
from coati.client.quota import Quota, Usage
from coati.client.quota import QuotaView as AsyncQuotaView
from coati.client.streams import Stream as AsyncStream
from coati.client.transaction import Transaction as AsyncTransaction
from coati.client.typed import TypedClient as AsyncTypedClient
from coati.client.typed import TypedNode
from coati.client.types import ANY, ACLs, Event, Mode, Node, SessionToken, Stat, State
from coati.client.watching import Trigger as AsyncTrigger
from coati.client.watching import Watch as AsyncWatch
from coati.sync.bridge import Bridge, Mirror, PolledMirror, T, asking


class Stream(PolledMirror[AsyncStream[T], T]):
    """`with ... as stream: async for item in stream`, or `stream.poll(timeout)` for one item.

    A wait may be cancelled at any time: nothing is lost, the next one goes on. `close` it, or leave the block,
    and its watch is taken back. `gaps` counts how often something may have happened that no item shows.
    """

    @property
    def gaps(self) -> int:
        """How often something may have happened that no item shows."""
        return self._it.gaps

    def close(self) -> None:
        """No more items: whoever iterates comes to the end. Can be repeated."""
        self._on.do(lambda: self._it.close())

    async def _advance(self) -> T:
        return await self._it.__anext__()

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Trigger(Mirror[AsyncTrigger]):
    """Waits for one change: give it to `get`, `exists` or `children` as `watch=`, then `trigger.wait()`.

    A lost connection does not fire it: the next server is asked what happened meanwhile. The end of the session,
    if no new one follows, fires it with a RESYNC. A trigger belongs to one request at a time; then it can be
    given again.
    """

    def __init__(self) -> None:
        super().__init__(AsyncTrigger(), Bridge())

    @property
    def event(self) -> Event | None:
        """What has happened, or None so far."""
        return self._it.event

    @property
    def has_fired(self) -> bool:
        """The change has happened."""
        return self._it.has_fired

    def wait(self, timeout: float | None = None) -> Event:
        """The event, or a RESYNC when it is closed; raises TimeoutError after so many seconds. Can be asked again."""
        return self._on.call(self._it.wait(timeout))

    def close(self) -> None:
        """Waits no more; the server is told if nobody else waits for it."""
        self._on.do(lambda: self._it.close())

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Watch(PolledMirror[AsyncWatch, Event]):
    """Events of a path, and of all below it if it is recursive: `with client.watch(path) as events`, `for`.

    It is armed when the block is entered. A RESYNC event stands where some may be missing: after each reconnect,
    since servers do not report what happened meanwhile, and where more than `buffer` events waited unread (the
    oldest are dropped). Read again what you depend on, then go on. The end of the session ends it, after a
    RESYNC.
    """

    @property
    def gaps(self) -> int:
        """How often something may have happened that no item shows."""
        return self._it.gaps

    def close(self) -> None:
        """No more events; the server is told if nobody else waits for them. Whoever iterates comes to the end."""
        self._on.do(lambda: self._it.close())

    async def _advance(self) -> Event:
        return await self._it.__anext__()

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class TreeCache(Mirror[AsyncTreeCache]):
    """`with zk.cache(path) as cache:` the block begins when all is read; it may be missing, and come later.

    Reading it asks no server and may be a little behind; `cache.sync()` catches up. Znodes that may not be read
    are left out. The Stat of a znode is that of its last change of data: for children ask `children`.
    """

    @property
    def path(self) -> str:
        return self._it.path

    def get(self, path: str) -> Node | None:
        """The znode as it was read last; None if there is none, or it is not covered. Without `data`, data is empty."""
        return self._it.get(path)

    def children(self, path: str) -> list[str]:
        """The names of the children that are in the cache, sorted; empty if there are none."""
        return self._on.do(lambda: self._it.children(path))

    def paths(self) -> list[str]:
        """All paths, sorted."""
        return self._on.do(lambda: self._it.paths())

    def __len__(self) -> int:
        return len(self._it)

    def __contains__(self, path: str) -> bool:
        return path in self._it

    @property
    def is_current(self) -> bool:
        """It is followed, and nothing is known to be out of date."""
        return self._it.is_current

    def changes(self, *, buffer: int = CHANGES) -> Stream[Change]:
        """What changes from now on; a RESYNC where more than `buffer` changes waited unread, or a gap was healed."""
        return Stream(self._on.do(lambda: self._it.changes(buffer=buffer)), self._on)

    def sync(self) -> None:
        """All that was written before this call is in the cache. Raises what the client's `sync` raises."""
        self._on.call(self._it.sync())

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def close(self) -> None:
        """Follows no more: what was read stays, streams of changes end. Can be repeated."""
        self._on.call(self._it.aclose())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Transaction(Mirror[AsyncTransaction]):
    """`with client.transaction() as t: t.create(...); t.set(...)`. The end of the block sends it, once.

    `results` then has one entry for each operation. A block that raises sends nothing. Raises MultiError.
    """

    @property
    def ops(self) -> list[Op]:
        """What has been gathered."""
        return self._it.ops

    @property
    def results(self) -> list[OpResult] | None:
        """One for each operation, once the block has ended."""
        return self._it.results

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
    ) -> None:
        """Its result is a Node."""
        self._it.create(path, data, mode=mode, ttl=ttl, acl=acl)

    def set(self, path: str, data: bytes, *, version: int = ANY) -> None:
        """Its result is a Stat."""
        self._it.set(path, data, version=version)

    def delete(self, path: str, *, version: int = ANY) -> None:
        """Its result is None."""
        self._it.delete(path, version=version)

    def check(self, path: str, *, version: int = ANY) -> None:
        """Nothing happens unless the znode is there and has this version."""
        self._it.check(path, version=version)

    def add(self, op: Op) -> None:
        """An operation made elsewhere, as the guard of a lock."""
        self._it.add(op)

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class SessionView(Mirror[AsyncSessionView]):
    """What the client knows of its session."""

    @property
    def id(self) -> int:
        """As the server knows it; 0 before the first connection."""
        return self._it.id

    @property
    def timeout(self) -> float:
        """Seconds, as negotiated; before that, as asked for."""
        return self._it.timeout

    @property
    def state(self) -> State:
        """Now; `Client.states` tells the changes."""
        return self._it.state

    @property
    def server(self) -> str:
        """ "host:port" of the current or last server, or empty."""
        return self._it.server

    @property
    def read_only(self) -> bool:
        """The server has no quorum and takes no writes."""
        return self._it.read_only

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock in seconds, this server cannot have given it up; 0 if nobody knows."""
        return self._it.deadline

    @property
    def vouched_until(self) -> float:
        """Until then, on the loop's clock in seconds, the leader cannot have expired it; 0 if nobody knows.

        The server we talk to may have lost its leader. Writes, syncs and new connections move it on, and it moves
        on by itself while `vouch` is asked for.
        """
        return self._on.do(lambda: self._it.vouched_until)

    @property
    def last_zxid(self) -> int:
        """The newest transaction that the client has heard of."""
        return self._it.last_zxid

    @property
    def token(self) -> SessionToken:
        """What `resume=` of another client takes, once this one is gone without closing."""
        return self._on.do(lambda: self._it.token)


class QuotaView(Mirror[AsyncQuotaView]):
    """`zk.quota`: in a view with a chroot, the paths are those of the view."""

    def get(self, path: str) -> Quota | None:
        """The limits of a subtree; None if it has no quota of its own."""
        return self._on.call(self._it.get(path))

    def set(self, path: str, *, count: int | None = None, bytes: int | None = None, hard: bool = False) -> Quota:
        """Sets one limit or both, soft or hard ones; the others stay. The limits that are valid now.

        Raises NoNode, ValueError for a `count` below 1 or `bytes` below 0, BadArguments where a subtree above or
        below has a quota: they do not nest.
        """
        return self._on.call(self._it.set(path, count=count, bytes=bytes, hard=hard))

    def unset(self, path: str, *, count: bool = False, bytes: bool = False, hard: bool = False) -> Quota:
        """Lifts one limit or both, soft or hard ones. The limits that are left. Raises NoNode if there is no quota."""
        return self._on.call(self._it.unset(path, count=count, bytes=bytes, hard=hard))

    def remove(self, path: str) -> bool:
        """Lifts all limits of a subtree; whether there were any."""
        return self._on.call(self._it.remove(path))

    def usage(self, path: str) -> Usage:
        """What a subtree with a quota has now. Raises NoNode if it has none."""
        return self._on.call(self._it.usage(path))

    def list(self) -> list[Quota]:
        """All of them, sorted by path; in a view with a chroot, those below it."""
        return self._on.call(self._it.list())


class TypedClient(Mirror[AsyncTypedClient[T]]):
    """A view whose data are values: `people = zk.typed(json_codec()); people.put("/p", {"name": "Ada"})`.

    Each verb is the client's of that name, and raises what that raises. Reading raises DecodeError, with path and
    version, where the data is something else; what the codec raises on writing is raised before anything is sent.
    """

    def get(self, path: str) -> TypedNode[T]:
        """A znode. Raises NoNode, NoAuth, DecodeError."""
        return self._on.call(self._it.get(path))

    def set(self, path: str, value: T, *, version: int = ANY) -> Stat:
        """Sets the value. Raises NoNode, BadVersion, NoAuth."""
        return self._on.call(self._it.set(path, value, version=version))

    def put(self, path: str, value: T, *, parents: bool = True) -> Stat:
        """Sets the value of a znode, and makes it if it is not there."""
        return self._on.call(self._it.put(path, value, parents=parents))

    def create(
        self,
        path: str,
        value: T,
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
        parents: bool = False,
    ) -> TypedNode[T]:
        """Makes a znode. The node has the real path: a sequential one has ten digits more."""
        return self._on.call(self._it.create(path, value, mode=mode, ttl=ttl, acl=acl, parents=parents))

    def ensure(self, path: str, value: T, *, acl: ACLs | None = None) -> bool:
        """Makes a persistent znode, and its parents, unless it is there; whether it was made."""
        return self._on.call(self._it.ensure(path, value, acl=acl))

    def update(self, path: str, fn: Callable[[T], T]) -> TypedNode[T]:
        """Replaces the value by `fn` of it, again if somebody else was faster. Raises NoNode, NoAuth, DecodeError."""
        return asking(self._on, fn, lambda asked: self._it.update(path, asked))

    def values(self, path: str) -> Stream[TypedNode[T] | None]:
        """As the client's: the value now, then every newer one, None while there is none.

        What does not decode raises DecodeError; asked again, the stream goes on with what comes after it.
        """
        return Stream(self._it.values(path), self._on)

"""Client: the verbs of BaseClient and the recipes on it; what `coati.Client` is.

It stands here because recipes know the client and the client must not know recipes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

from coati.client.client import BaseClient
from coati.recipes.barrier import Barrier, DoubleBarrier
from coati.recipes.counter import Counter, CounterLayout, IdSequence
from coati.recipes.election import Election, ElectionLayout
from coati.recipes.group import Group, GroupLayout
from coati.recipes.held import OnLoss
from coati.recipes.keeper import EphemeralKeeper, TtlKeeper
from coati.recipes.lease import Lease
from coati.recipes.line import Layout
from coati.recipes.lock import ExclusiveLock, Lock
from coati.recipes.marks import mark
from coati.recipes.multilock import MultiLock
from coati.recipes.once import LeaderScheduler, Once
from coati.recipes.partition import SETTLE_S, Partition, Share, every_nth
from coati.recipes.queue import Queue
from coati.recipes.queuelayout import QueueLayout
from coati.recipes.registry import Registry, RegistryLayout
from coati.recipes.rwlock import RWLock
from coati.recipes.semaphore import Semaphore
from coati.recipes.value import BytesCodec, Value, ValueCodec

T = TypeVar("T")


class Client(BaseClient):
    """A ZooKeeper session with recipes: `async with coati.Client("h1,h2/app") as zk:`. See BaseClient."""

    # --- who leads, who is there ------------------------------------------------------------------

    def election(
        self, path: str, *, id: bytes, layout: ElectionLayout = "native", on_loss: OnLoss = "cancel"
    ) -> Election:
        """An office that one of all who stand for it holds: `async with` it, `.terms()`, `.observe()`."""
        return Election(self, path, id=id, layout=layout, on_loss=on_loss)

    def group(self, path: str, *, layout: GroupLayout = "native") -> Group:
        """Who is there: `async with group.join(data):`, `.members()`."""
        return Group(self, path, layout=layout)

    def ephemeral(self, path: str, data: bytes = b"") -> EphemeralKeeper:
        """An ephemeral znode that is kept across sessions while the block lasts."""
        return EphemeralKeeper(self, path, data)

    def ttl_node(self, path: str, data: bytes = b"", *, ttl: float) -> TtlKeeper:
        """A znode with a TTL in seconds, touched in time while the block lasts."""
        return TtlKeeper(self, path, data, ttl=ttl)

    def registry(self, path: str, *, layout: RegistryLayout = "curator") -> Registry:
        """Services and who offers them: `.register(instance)`, `.provider(service)`."""
        return Registry(self, path, layout=layout)

    # --- waiting for each other -------------------------------------------------------------------

    def barrier(self, path: str) -> Barrier:
        """Holds everybody back who waits, while it is up."""
        return Barrier(self, path)

    def double_barrier(self, path: str, n: int, *, id: bytes = b"") -> DoubleBarrier:
        """Lets members in when `n` are there, and out together."""
        return DoubleBarrier(self, path, n, id=id)

    # --- numbers and values -----------------------------------------------------------------------

    @overload
    def counter(
        self, path: str, *, layout: CounterLayout = "native", default: int = 0, lock_path: str | None = None
    ) -> Counter[int]: ...

    @overload
    def counter(
        self, path: str, *, layout: CounterLayout = "native", default: float, lock_path: str | None = None
    ) -> Counter[float]: ...

    def counter(
        self, path: str, *, layout: CounterLayout = "native", default: float = 0, lock_path: str | None = None
    ) -> Counter[int] | Counter[float]:
        """A number that many add to; a float if `default` is one. With `lock_path` the unlucky take turns there."""
        if isinstance(default, int):
            return Counter(self, path, default=default, layout=layout, lock_path=lock_path)
        return Counter(self, path, default=default, layout=layout, lock_path=lock_path)

    @overload
    def value(self, path: str) -> Value[bytes]: ...

    @overload
    def value(self, path: str, codec: ValueCodec[T]) -> Value[T]: ...

    def value(self, path: str, codec: ValueCodec[T] | None = None) -> Value[T] | Value[bytes]:
        """A value that is changed by comparing, and watched; bytes without a codec."""
        return Value(self, path, BytesCodec()) if codec is None else Value(self, path, codec)

    def sequence(self, path: str, *, cache: int = 1) -> IdSequence:
        """Numbers that nobody gets twice, `cache` of them at a time."""
        return IdSequence(self, path, cache=cache)

    # --- work -------------------------------------------------------------------------------------

    def queue(
        self,
        path: str,
        *,
        layout: QueueLayout = "native",
        lock_path: str | None = None,
        on_loss: OnLoss = "cancel",
    ) -> Queue:
        """Items that wait for consumers: `.put(data)`, `.take()`."""
        return Queue(self, path, layout=layout, lock_path=lock_path, on_loss=on_loss)

    def lease(self, path: str, duration: float, *, id: str | None = None, count: int | None = None) -> Lease:
        """A right for so many seconds, without waiting. Without an `id` only this object can renew it."""
        return Lease(self, path, duration, id=id or mark(self), count=count)

    def partition(
        self, path: str, items: Iterable[str], *, id: str, settle: float = SETTLE_S, share: Share = every_nth
    ) -> Partition:
        """Items shared out among members: `.assignments()`."""
        return Partition(self, path, items, id=id, settle=settle, share=share)

    def once(self, path: str) -> Once:
        """Jobs by key, each run by one member and at most once."""
        return Once(self, path)

    def leader_scheduler(self, path: str, *, id: bytes) -> LeaderScheduler:
        """Jobs at regular times, run by whoever leads."""
        return LeaderScheduler(self, path, id=id)

    # --- locks ------------------------------------------------------------------------------------

    def lock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> Lock:
        """A fair lock: `async with zk.lock("/locks/job", timeout=5) as held:`. See Lock."""
        return Lock(self, path, id=id, timeout=timeout, on_loss=on_loss, layout=layout, reentrant=reentrant)

    def exclusive_lock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        reentrant: bool = False,
    ) -> ExclusiveLock:
        """A lock that is one znode, `path` itself: whoever creates it first. Not fair; see ExclusiveLock."""
        return ExclusiveLock(self, path, id=id, timeout=timeout, on_loss=on_loss, reentrant=reentrant)

    def rwlock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> RWLock:
        """Readers together, writers alone: `async with zk.rwlock("/conf").read():`. See RWLock."""
        return RWLock(self, path, id=id, timeout=timeout, on_loss=on_loss, layout=layout, reentrant=reentrant)

    def semaphore(
        self,
        path: str,
        permits: int,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
    ) -> Semaphore:
        """At most so many holders: `async with zk.semaphore("/pool", 3) as held:`. See Semaphore."""
        return Semaphore(self, path, permits, id=id, timeout=timeout, on_loss=on_loss, layout=layout)

    def semaphore_mutex(
        self, path: str, *, id: bytes = b"", timeout: float | None = None, on_loss: OnLoss = "cancel"
    ) -> Semaphore:
        """A lock in the layout of Curator's InterProcessSemaphoreMutex: a semaphore with one permit."""
        return Semaphore(self, path, 1, id=id, timeout=timeout, on_loss=on_loss)

    def multilock(
        self,
        paths: Sequence[str],
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> MultiLock:
        """All of these locks or none: `async with zk.multilock(["/a", "/b"]) as held:`. See MultiLock."""
        return MultiLock(self, paths, id=id, timeout=timeout, on_loss=on_loss, layout=layout, reentrant=reentrant)

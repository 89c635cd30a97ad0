"""Client: the verbs of BaseClient and the recipes on it; what `coati.Client` is.

It stands here because recipes know the client and the client must not know recipes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, overload

from coati.client.client import BaseClient
from coati.recipes.barrier import Barrier, DoubleBarrier
from coati.recipes.counter import Counter, CounterLayout, IdSequence
from coati.recipes.election import Election, ElectionLayout
from coati.recipes.group import Group, GroupLayout
from coati.recipes.held import OnLoss
from coati.recipes.keeper import EphemeralKeeper, TtlKeeper
from coati.recipes.lease import Lease
from coati.recipes.marks import mark
from coati.recipes.once import LeaderScheduler, Once
from coati.recipes.partition import SETTLE_S, Partition, Share, every_nth
from coati.recipes.queue import Queue
from coati.recipes.queuelayout import QueueLayout
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

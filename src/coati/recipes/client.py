"""Client: the verbs of BaseClient and the recipes on it; what `coati.Client` is.

It stands here because recipes know the client and the client must not know recipes.
"""

from __future__ import annotations

from collections.abc import Sequence

from coati.client.client import BaseClient
from coati.recipes.held import OnLoss
from coati.recipes.line import Layout
from coati.recipes.lock import ExclusiveLock, Lock
from coati.recipes.multilock import MultiLock
from coati.recipes.rwlock import RWLock
from coati.recipes.semaphore import Semaphore


class Client(BaseClient):
    """A ZooKeeper session with recipes: `async with coati.Client("h1,h2/app") as zk:`. See BaseClient."""

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

"""Lock and ExclusiveLock: one holder at a time, in the order of asking, or whoever is quickest.

Sources: ZooKeeper's recipes; Curator's InterProcessMutex; kazoo's Lock.
"""

from __future__ import annotations

from coati.client.client import BaseClient
from coati.recipes.claim import Claim
from coati.recipes.held import Held, OnLoss
from coati.recipes.line import LOCK, Contender, Layout, Line

_MARKS = {"native": "-lock-", "curator": "-lock-", "kazoo": "__lock__"}


class Lock(Claim[Held]):
    """Fair: who asks first gets it first, and each waiter watches only the one before it. See Claim."""

    def __init__(
        self,
        client: BaseClient,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> None:
        super().__init__(client, timeout=timeout, on_loss=on_loss, reentrant=reentrant)
        self.path = path
        self._id = id
        self._mark = _MARKS[layout]
        self._line = Line(client, path, LOCK[layout])

    async def holders(self) -> list[Contender]:
        """Who holds it, then who waits, in order."""
        return await self._line.contenders()

    async def _win(self, deadline: float | None, *, waits: bool) -> Held | None:
        node = await self._line.win(self._mark, self._id, deadline, waits=waits)
        return None if node is None else Held(self._client, node)

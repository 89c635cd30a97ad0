"""MultiLock: several locks at once, all or none.

They are taken in the order of their paths, whoever asks, so that no two can wait for each other.
Source: Curator's InterProcessMultiLock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from coati.client.client import BaseClient
from coati.client.ops import Check, Delete
from coati.client.types import Node
from coati.errors import LockLost, ZKError
from coati.recipes.claim import Claim
from coati.recipes.held import Held, OnLoss, Release
from coati.recipes.line import LOCK, Layout, Line

_MARKS: Final[dict[Layout, str]] = {"native": "-lock-", "curator": "-lock-", "kazoo": "__lock__"}


class MultiHeld:
    """Several locks held: `parts` in the order of their paths. It is lost as soon as one of them is."""

    def __init__(self, parts: Sequence[Held]) -> None:
        self.parts = tuple(parts)
        self._on_lost: Callable[[], None] | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of each part; see Held."""
        return tuple(part.token for part in self.parts)

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, all are certainly ours."""
        return min(part.deadline for part in self.parts)

    @property
    def is_held(self) -> bool:
        """All are certainly ours now."""
        return all(part.is_held for part in self.parts)

    @property
    def is_lost(self) -> bool:
        """One went before they were given back."""
        return any(part.is_lost for part in self.parts)

    def check(self) -> None:
        """Raises LockLost unless all are certainly ours."""
        for part in self.parts:
            part.check()

    def guards(self) -> list[Check]:
        """For `multi`: the server refuses the transaction if one of them is not held any more."""
        return [part.guard() for part in self.parts]

    async def lost(self) -> str:
        """Returns, with the reason, when one is lost."""
        waits = [asyncio.ensure_future(part.lost()) for part in self.parts]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(wait.result() for wait in waits if wait in done)
        finally:
            for wait in waits:
                wait.cancel()

    # --- for the block ----------------------------------------------------------------------------

    def loss(self) -> LockLost:
        """The error of the part that is lost."""
        return next((part for part in self.parts if part.is_lost), self.parts[0]).loss()

    def begin(self, on_lost: Callable[[], None]) -> None:
        """Watches over all of them; raises LockLost if one is gone already."""
        self._on_lost = on_lost
        for part in self.parts:
            part.begin(self._lose)

    async def look(self) -> None:
        """Watches over their znodes."""
        await asyncio.gather(*(part.look() for part in self.parts))

    def let_go(self, *, deleting: bool = False) -> None:
        """Watches no more."""
        self._on_lost = None
        for part in self.parts:
            part.let_go(deleting=deleting)

    def _lose(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()


class MultiLock(Claim[MultiHeld]):
    """`async with zk.multilock(["/a", "/b"]) as held:`. Options are those of Lock; a path named twice counts once."""

    def __init__(
        self,
        client: BaseClient,
        paths: Sequence[str],
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> None:
        if not paths:
            raise ValueError("a multilock needs at least one path")
        super().__init__(client, timeout=timeout, on_loss=on_loss, reentrant=reentrant)
        self.paths = tuple(sorted(dict.fromkeys(paths)))
        self._id = id
        self._mark = _MARKS[layout]
        self._lines = [Line(client, path, LOCK[layout]) for path in self.paths]

    async def _win(self, deadline: float | None, *, waits: bool) -> MultiHeld | None:
        while True:
            nodes = await self._win_all(deadline, waits=waits)
            if nodes is None:
                return None
            if all(node.stat.ephemeral_owner == self._client.session.id for node in nodes):
                return MultiHeld([Held(self._client, node) for node in nodes])
            # The session was renewed while a later one was waited for, and the first are gone.
            await self._give_up(nodes)

    async def _win_all(self, deadline: float | None, *, waits: bool) -> list[Node] | None:
        nodes: list[Node] = []
        is_won = False
        try:
            for line in self._lines:
                node = await line.win(self._mark, self._id, deadline, waits=waits)
                if node is None:
                    await self._give_up(nodes)
                    return None
                nodes.append(node)
            is_won = True
        except TimeoutError:
            await self._give_up(nodes)
            raise
        finally:
            if not is_won:
                for node in nodes:
                    Release(self._client).soon(node.path)
        return nodes

    async def _give_up(self, nodes: list[Node]) -> None:
        while nodes:
            await Release(self._client).delete(nodes[-1].path)
            del nodes[-1]

    async def _free(self, held: MultiHeld) -> None:
        try:
            await self._client.multi([Delete(part.path) for part in held.parts])
        except ZKError:
            # One is gone, or nobody has answered.
            for part in held.parts:
                await Release(self._client).delete(part.path)

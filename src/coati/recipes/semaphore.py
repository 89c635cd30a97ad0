"""Semaphore: at most so many holders at a time, in the order of asking.

A lock is the door: who holds it may wait for a free place, so that a place that becomes free wakes one waiter.
Sources: Curator's InterProcessSemaphoreV2 (`locks`, `leases`) and InterProcessSemaphoreMutex, the same with one permit;
kazoo's Semaphore.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from coati.client.client import BaseClient
from coati.client.ops import Check, Create, MultiError
from coati.client.types import Mode, Node, join_path
from coati.errors import ConnectionLoss, NoNode
from coati.recipes.claim import Claim
from coati.recipes.held import Held, OnLoss, Release
from coati.recipes.line import GRACE_S, LOCK, Contender, Layout, Line, Names, Place, too_late
from coati.recipes.marks import Bell

_LEASE: Final = "-lease-"
_LEASES: Final = Names("_c_", True, {_LEASE: ()}, Mode.CONTAINER)


class Semaphore(Claim[Held]):
    """`async with zk.semaphore("/pool", 3) as held:`. A task may hold several places.

    All must name the same number of permits; the kazoo layout notes it on the server and raises ValueError if another
    was there. `try_` gives up also while somebody else is at the door.
    """

    _is_many: ClassVar[bool] = True

    def __init__(
        self,
        client: BaseClient,
        path: str,
        permits: int,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
    ) -> None:
        if permits < 1:
            raise ValueError("a semaphore has at least one permit")
        super().__init__(client, timeout=timeout, on_loss=on_loss, reentrant=False)
        self.path = path
        self.permits = permits
        self._id = id
        self._patient = client.with_options(timeout=None)
        self._is_kazoo = layout == "kazoo"
        door = f"{path}-__lock__" if self._is_kazoo else join_path(path, "locks")
        self._door = Line(client, door, LOCK[layout])
        self._door_mark = "__lock__" if self._is_kazoo else "-lock-"
        self._leases = Line(client, path if self._is_kazoo else join_path(path, "leases"), _LEASES)

    async def holders(self) -> list[Contender]:
        """Who holds a place, the oldest first; the last one may still be waiting for a place to become free."""
        if not self._is_kazoo:
            return await self._leases.contenders()
        try:
            names = await self._client.children(self.path)
        except NoNode:
            return []
        found = await asyncio.gather(*(self._contender(name) for name in names))
        return sorted((one for one in found if one is not None), key=_token)

    async def _contender(self, name: str) -> Contender | None:
        try:
            node = await self._client.get(join_path(self.path, name))
        except NoNode:
            return None
        stat = node.stat
        return Contender(node.data, node.path, stat.czxid, stat.ephemeral_owner, stat.created, "", self._client)

    # --- winning ----------------------------------------------------------------------------------

    async def _win(self, deadline: float | None, *, waits: bool) -> Held | None:
        if self._is_kazoo:
            await self._agree()
        while True:
            door = await self._door.win(self._door_mark, self._id, deadline, waits=waits)
            if door is None:
                return None
            try:
                async with asyncio.timeout_at(deadline):
                    node = await (self._take_name(door, waits) if self._is_kazoo else self._take_place(waits))
            except _DoorIsGone:
                Release(self._client).soon(door.path)
                continue
            except TimeoutError as error:
                # First the lease, whose delete waits for its turn to be sent.
                await asyncio.sleep(0)
                await Release(self._client.with_options(timeout=GRACE_S)).delete(door.path)
                raise too_late(self._client, self.path) from error
            except BaseException:
                Release(self._client).soon(door.path)
                raise
            Release(self._client).soon(door.path)
            if node is None:
                return None
            if node.stat.ephemeral_owner == self._client.session.id:
                return Held(self._client, node)
            # The session was renewed meanwhile: all over again.

    async def _free(self, held: Held) -> None:
        await Release(self._client).delete(held.path)

    # --- Curator's --------------------------------------------------------------------------------

    async def _take_place(self, waits: bool) -> Node | None:
        """A znode among the leases, once there are not too many of them."""
        place = self._leases.place(_LEASE)
        try:
            while not await self._is_in(place, waits):
                if not waits and place.is_open:
                    await self._leases.leave(place)
                    return None
        except BaseException:
            self._leases.leave_soon(place)
            raise
        return place.node

    async def _is_in(self, place: Place, waits: bool) -> bool:
        names = await self._leases.enter(place, self._id)
        node = place.node
        assert node is not None
        while node.stat.ephemeral_owner == self._client.session.id:
            if names is not None and node.name in names and len(names) <= self.permits:
                return True
            if names is not None and not waits:
                return False
            with Bell(self._client) as bell:
                names = await self._patient.children(self._leases.path, watch=bell.rope())
                if node.name not in names:
                    break
                if len(names) > self.permits and waits:
                    await bell.wait()
                    names = None
        place.is_open = False
        return False

    # --- kazoo's ----------------------------------------------------------------------------------

    async def _agree(self) -> None:
        """Raises ValueError if others reckon with another number of permits."""
        noted = str(self.permits).encode()
        if await self._client.ensure(self.path, noted):
            return
        data = (await self._client.get(self.path)).data
        if data.isdigit() and int(data) != self.permits:
            raise ValueError(f"{self.path} has {int(data)} permits, not {self.permits}")

    async def _take_name(self, door: Node, waits: bool) -> Node | None:
        """A znode with a name of its own, created when there is room."""
        path = join_path(self.path, self._client.unique())
        is_open = False
        try:
            while True:
                with Bell(self._client) as bell:
                    names = await self._patient.children(self.path, watch=bell.rope())
                    if len(names) < self.permits:
                        is_open = True
                        return await self._create_behind(door, path)
                    if not waits:
                        return None
                    await bell.wait()
        except BaseException:
            if is_open:
                Release(self._client).soon(path)
            raise

    async def _create_behind(self, door: Node, path: str) -> Node:
        """Creates the znode if the door is ours still: in the next session another may stand in it by now."""
        ops = (Check(door.path), Create(path, self._id, Mode.EPHEMERAL))
        while door.stat.ephemeral_owner == self._client.session.id:
            try:
                made = (await self._patient.multi(ops))[1]
                if isinstance(made, Node) and not made.stat.czxid:
                    # Java before 3.9 has no Stat in the answer to a multi.
                    made = await self._patient.get(path)
            except (MultiError, NoNode, ConnectionLoss):
                # The door has gone, or the name is there, because an answer was lost.
                try:
                    made = await self._patient.get(path)
                except NoNode:
                    if await self._patient.exists(door.path) is None:
                        break
                    continue
            if isinstance(made, Node) and made.stat.ephemeral_owner == self._client.session.id:
                return made
        raise _DoorIsGone


class _DoorIsGone(Exception):
    """Who stood at the door does so no more."""


def _token(contender: Contender) -> int:
    return contender.token

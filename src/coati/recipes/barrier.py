"""Barriers: one that holds everybody back while it is there, and one that lets so many in and out together.

The layouts are kazoo's and Curator's (Barrier, DoubleBarrier, DistributedBarrier, DistributedDoubleBarrier), which are
the same: a znode that stands in the way; ephemerals below a znode, and `ready` beside them once all are in.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from coati.client.client import BaseClient
from coati.client.types import EventType, Mode, Node, join_path
from coati.errors import NoNode
from coati.recipes.held import Release
from coati.recipes.marks import Bell, children_of, mark, patient

_READY: Final = "ready"


class Barrier:
    """Who waits, waits until nobody has put it up."""

    def __init__(self, client: BaseClient, path: str) -> None:
        self.path = path
        self._client = client

    async def create(self) -> bool:
        """Puts it up; whether it was down."""
        return await self._client.ensure(self.path)

    async def remove(self) -> bool:
        """Takes it down; whether it was up."""
        try:
            await self._client.delete(self.path)
        except NoNode:
            return False
        return True

    async def wait(self, timeout: float | None = None) -> None:
        """Until it is down; raises TimeoutError after so many seconds."""
        client = patient(self._client)
        async with asyncio.timeout(timeout):
            with Bell(client) as bell:
                while await client.exists(self.path, watch=bell.rope()) is not None:
                    await bell.wait()
                    bell.reset()


class DoubleBarrier:
    """`async with` waits at its beginning until `n` members are in, at its end until all of them are out.

    A member whose session is over while it waits to go in is counted anew; later it counts as gone.
    """

    def __init__(self, client: BaseClient, path: str, n: int, *, id: bytes = b"") -> None:
        if n < 1:
            raise ValueError("a barrier needs at least one member")
        self.path = path
        self.n = n
        self._client = client
        self._id = id
        self._place: Node | None = None

    async def enter(self, timeout: float | None = None) -> None:
        """Until `n` are in; raises TimeoutError after so many seconds, and is out again then."""
        if self._place is not None:
            raise RuntimeError("already in")
        async with asyncio.timeout(timeout):
            while self._place is None:
                self._place = await self._try_to_enter(patient(self._client))

    async def _try_to_enter(self, client: BaseClient) -> Node | None:
        path = join_path(self.path, mark(client))
        try:
            place = await client.create(path, self._id, mode=Mode.EPHEMERAL, parents=True)
            if await self._are_all_in(client, place):
                return place
        except BaseException:
            Release(client).soon(path)
            raise
        await Release(client).delete(path)
        return None

    async def _are_all_in(self, client: BaseClient, place: Node) -> bool:
        """True once they are; False if our own znode is gone."""
        ready = join_path(self.path, _READY)
        with Bell(client) as bell:
            while True:
                bell.reset()
                sight = bell.rope()
                made = await client.exists(ready, watch=sight)
                # One that is older than our znode was made without us: of a round before, which is still on its way out
                # or has died there.
                if made is not None and made.czxid > place.stat.czxid:
                    return True
                names = await children_of(client, self.path, bell=bell)
                if place.name not in names or place.stat.ephemeral_owner != client.session.id:
                    return False
                members = [name for name in names if name != _READY]
                if made is not None:
                    # One of us takes it away once nobody of that round is left.
                    if members[0] == place.name and await self._is_left_over(client, members, made.czxid):
                        await client.delete(ready, missing_ok=True)
                        continue
                elif len(members) >= self.n:
                    await client.ensure(ready)
                    return True
                await bell.wait()
                # kazoo's first leaver takes `ready` away at once: that it came is what counts.
                if sight.event is not None and sight.event.type is EventType.CREATED:
                    return True

    async def _is_left_over(self, client: BaseClient, members: list[str], ready: int) -> bool:
        stats = [await client.exists(join_path(self.path, name)) for name in members]
        return all(stat is None or stat.czxid > ready for stat in stats)

    async def leave(self, timeout: float | None = None) -> None:
        """Until all are out; raises TimeoutError after so many seconds, and is out then."""
        place, self._place = self._place, None
        if place is None:
            raise RuntimeError("not in")
        client = patient(self._client)
        try:
            async with asyncio.timeout(timeout):
                await self._are_all_out(client, place)
        finally:
            await Release(client).delete(place.path)

    async def _are_all_out(self, client: BaseClient, place: Node) -> None:
        # Whoever comes later is of the next round: before we are out, none of that can get in.
        round: set[str] | None = None
        is_out = False
        with Bell(client) as bell:
            while True:
                bell.reset()
                members = [name for name in await children_of(client, self.path) if name != _READY]
                round = set(members) if round is None else round
                left = [name for name in members if name in round]
                others = [name for name in left if name != place.name]
                if not others:
                    if not is_out or not members:
                        # The last one takes `ready` away: nobody needs it any more to see that all were in.
                        await client.delete(join_path(self.path, _READY), missing_ok=True)
                    return
                lowest, highest = left[0], left[-1]
                if place.name != lowest and not is_out:
                    await client.delete(place.path, missing_ok=True)
                    is_out = True
                ahead = highest if place.name == lowest else lowest
                if await client.exists(join_path(self.path, ahead), watch=bell.rope()) is not None:
                    await bell.wait()

    async def __aenter__(self) -> Self:
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

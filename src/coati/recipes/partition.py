"""Partition: shares items out among members, so that no item ever has two owners (kazoo's SetPartitioner, its layout).

Knows who is there (`party/`, a ShallowParty) and who owns what (`locks/<item>`, kazoo's locks). An item changes hands
only through its lock, which its old owner lets go of when it comes for its next share: that is the barrier.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from coati.client.client import BaseClient
from coati.client.types import Node, join_path
from coati.errors import LockLost, NoNode
from coati.recipes.group import Group, Membership
from coati.recipes.held import Body, Held
from coati.recipes.line import LOCK, Line
from coati.recipes.marks import patient

Share = Callable[[str, Sequence[str], Sequence[str]], Sequence[str]]
"""Of a member's id, all members' ids and all items: the items of that member. All members must use the same one."""

# How long the members must be the same before items change hands.
SETTLE_S: Final = 1.0
JOINING_S: Final = 0.05


def every_nth(member: str, members: Sequence[str], items: Sequence[str]) -> Sequence[str]:
    """kazoo's way: both sorted, and each member takes every n-th item."""
    workers = sorted(members)
    return sorted(items)[workers.index(member) :: len(workers)]


class Assignment:
    """A member's items until the members change: iterate it, and `async with` it.

    The block is cancelled, without an error, when the items have to be given up. Without the block, ask `is_over` or
    await `ended()`. They are given up when the next assignment is asked for.
    """

    def __init__(self, items: Sequence[str]) -> None:
        self.items = tuple(items)
        self._over = asyncio.Event()
        self._why = ""
        self._held: Held | None = None
        self._body = Body("cancel")
        self._is_inside = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def is_over(self) -> bool:
        """The items have to be given up, or are lost."""
        return self._over.is_set()

    async def ended(self) -> str:
        """Returns, with the reason, when the items have to be given up."""
        await self._over.wait()
        return self._why

    def end(self, why: str) -> None:
        """For the partition: from now on they have to be given up."""
        if not self._over.is_set():
            self._why = why
            self._over.set()
            if self._is_inside:
                self._body.on_lost()

    def hold(self, held: Held) -> None:
        """For the partition: what stands for the membership."""
        self._held = held

    async def __aenter__(self) -> Self:
        self._body.enter()
        self._is_inside = True
        if self.is_over:
            self._body.on_lost()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._is_inside = False
        assert self._held is not None
        try:
            self._body.leave(self._held, kind, error)
        except LockLost:
            return True
        return False


class Partition:
    """`async for mine in partition.assignments(): async with mine: ...`.

    `settle`: seconds that the members must be the same before items change hands. `share` decides who gets what.
    """

    def __init__(
        self,
        client: BaseClient,
        path: str,
        items: Iterable[str],
        *,
        id: str,
        settle: float = SETTLE_S,
        share: Share = every_nth,
    ) -> None:
        self.path = path
        self.items = sorted(set(items))
        self.id = id
        if any("/" in item or not item for item in self.items):
            raise ValueError("an item is the name of a znode: not empty, and without a slash")
        self._client = client
        self._settle = settle
        self._share = share
        self._group = Group(client, join_path(path, "party"), layout="kazoo-shallow")
        self._places: dict[str, tuple[Line, Node]] = {}
        self._members: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self._current: Assignment | None = None

    async def assignments(self) -> AsyncGenerator[Assignment, None]:
        """Our share, and again whenever the members change or the session is lost. Asking for the next one gives the
        last one up. The end of the iteration leaves the group and frees all items."""
        membership = self._group.join(name=self.id)
        async with membership:
            watching = asyncio.ensure_future(self._watch())
            watching.add_done_callback(lambda _: self._end("the client is closed"))
            try:
                while True:
                    mine = await self._next(membership, watching)
                    try:
                        yield mine
                    finally:
                        self._current = None
                        mine.end("it was given up")
            finally:
                watching.cancel()
                await self._free(())

    async def _watch(self) -> None:
        async for members in self._group.members():
            # A uuid without dashes goes before the id.
            names = tuple(sorted(name.partition("-")[2] for name in members))
            if names != self._members:
                self._members = names
                self._changed.set()
                self._end("the members have changed")

    def _end(self, why: str) -> None:
        if self._current is not None:
            self._current.end(why)

    async def _next(self, membership: Membership, watching: asyncio.Future[None]) -> Assignment:
        while True:
            if watching.done():
                # Raises what ended it; without, the client is closed.
                watching.result()
                raise LockLost("the client is closed")
            if not await self._is_settled():
                continue
            if not membership.is_there or self.id not in self._members:
                # Our own znode is on its way, and whoever makes it does not tell.
                await asyncio.sleep(JOINING_S)
                continue
            mine = self._share(self.id, self._members, self.items)
            await self._free(mine)
            if not await self._acquire(mine):
                continue
            assignment = Assignment(mine)
            if await self._is_safe(assignment, membership):
                return assignment

    async def _is_settled(self) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(self._settle):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    async def _acquire(self, items: Sequence[str]) -> bool:
        """Whether all of them are ours; False as soon as the members change, since others wait for us then."""
        for item in items:
            if item in self._places:
                continue
            winning = asyncio.ensure_future(self._win(item))
            changing = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait((winning, changing), return_when=asyncio.FIRST_COMPLETED)
                if not winning.done():
                    return False
                winning.result()
            finally:
                changing.cancel()
                if not winning.done():
                    winning.cancel()
                    await asyncio.wait((winning,))
            if self._changed.is_set():
                return False
        return True

    async def _win(self, item: str) -> None:
        line = Line(self._client, join_path(join_path(self.path, "locks"), item), LOCK["kazoo"])
        self._places[item] = line, await line.stand("__lock__", self.id.encode())

    async def _is_safe(self, assignment: Assignment, membership: Membership) -> bool:
        """Watches over the session that owns the locks; False if some are gone with another one."""
        client = patient(self._client)
        session_id = client.session.id
        node: Node | None = None
        with suppress(NoNode):
            node = await client.get(membership.path)
        owners = [place.stat.ephemeral_owner for _, place in self._places.values()]
        if node is None or any(owner != session_id for owner in (*owners, node.stat.ephemeral_owner)):
            await self._free(())
            return False
        held = Held(client, node)
        try:
            await held.keep(lambda: self._lose(assignment))
        except LockLost:
            await self._free(())
            return False
        assignment.hold(held)
        self._current = assignment
        if self._changed.is_set() or client.session.id != session_id:
            assignment.end("the members have changed")
        return True

    def _lose(self, assignment: Assignment) -> None:
        assignment.end("the session may be over")

    async def _free(self, but: Sequence[str]) -> None:
        freed = [self._places.pop(item) for item in list(self._places) if item not in but]
        await asyncio.gather(*(line.release.delete(place.path) for line, place in freed))

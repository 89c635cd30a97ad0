"""Cluster: who is there, and who of them is the master, from one list of ephemeral sequential znodes.

    cluster = Cluster(zk, "/workers", me=b"10.0.0.7:9000")
    async with cluster.join(as_master=coordinate) as me:
        async for view in cluster.views():
            print(view.master, view.members, me.is_master)

Every member makes a znode; the list of them is the membership, and whoever made the first that is still there is the
master. Session loss: a member whose session may have expired is no master any more, `as_master` is cancelled before
another member can begin, and in the next session it joins again, at the end of the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from coati.client.client import BaseClient
from coati.recipes.election import Election, Term

AsMaster = Callable[[Term], Awaitable[None]]
"""What the master does: given its term, whose `guard()` keeps a former master's writes out."""


class View(NamedTuple):
    """The members by what they say of themselves, the eldest first, who is the master; None if nobody is there."""

    members: tuple[bytes, ...]

    @property
    def master(self) -> bytes | None:
        """The first of them."""
        return self.members[0] if self.members else None


class Member:
    """Ourselves, as one of the cluster."""

    def __init__(self, me: bytes) -> None:
        self.me = me
        self.term: Term | None = None

    @property
    def is_master(self) -> bool:
        """Certainly, now."""
        return self.term is not None and self.term.is_held


class Cluster:
    """Those who have joined under `path`; `me` is what the others are told of us."""

    def __init__(self, client: BaseClient, path: str, *, me: bytes = b"") -> None:
        self.path = path
        self.me = me
        self._client = client
        self._election = Election(client, path, id=me)

    async def view(self) -> View:
        """Who is there now."""
        return View(tuple(candidate.id for candidate in await self._election.contenders()))

    async def views(self) -> AsyncGenerator[View, None]:
        """Who is there now, then each time that this changes."""
        told: View | None = None
        async with self._client.members(self.path) as changes:
            async for _ in changes:
                view = await self.view()
                if view != told:
                    told = view
                    yield view

    @asynccontextmanager
    async def join(self, as_master: AsMaster | None = None) -> AsyncGenerator[Member, None]:
        """A member while the block lasts. `as_master` runs whenever it is our turn; the term ends when it returns.

        An exception of `as_master` ends the membership, and is raised where the block ends.
        """
        member = Member(self.me)
        task = asyncio.ensure_future(self._serve(member, as_master))
        try:
            yield member
            if task.done():
                # It has only ended by itself if it has failed.
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _serve(self, member: Member, as_master: AsMaster | None) -> None:
        async for term in self._election.terms():
            async with term:
                member.term = term
                try:
                    if as_master is None:
                        await term.lost()
                    else:
                        await as_master(term)
                finally:
                    member.term = None

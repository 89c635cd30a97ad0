"""Election: of all who stand for an office one holds it, the one that has stood longest.

Layouts: `native`; `kazoo` (its Election, that is its Lock); `curator` (LeaderLatch); `curator-selector`
(LeaderSelector, that is InterProcessMutex). Members of one layout elect one leader, whatever they are written in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Literal, NamedTuple

from coati.client.client import BaseClient
from coati.client.types import Node, join_path
from coati.errors import LeadershipLost, NoNode
from coati.recipes.held import OnLoss
from coati.recipes.marks import Bell, Row, children_of, curator_mark, in_order, mark, patient
from coati.recipes.tenure import Tenure

ElectionLayout = Literal["native", "kazoo", "curator", "curator-selector"]


# What goes before the marker, and the marker.
_LAYOUTS: Final[dict[ElectionLayout, tuple[Callable[[BaseClient], str], str]]] = {
    "native": (mark, "-term-"),
    "kazoo": (mark, "__lock__"),
    "curator": (curator_mark, "latch-"),
    "curator-selector": (curator_mark, "lock-"),
}


class Candidate(NamedTuple):
    """Who stands for an office: its `id`, its znode, and the czxid of that; smaller ones have stood longer."""

    id: bytes
    path: str
    token: int


class Term(Tenure):
    """An office that is ours: see Held. `async with term` cancels the body when it is lost, and ends the term."""

    def __init__(self, client: BaseClient, place: Node, line: Row, *, on_loss: OnLoss, goes_on: bool) -> None:
        super().__init__(client, place, error=LeadershipLost, on_loss=on_loss, goes_on=goes_on)
        self._place = place
        self._line = line

    async def settle(self, *, is_done: bool) -> None:
        """Makes room for the next one."""
        await self._line.leave(self._place)


class Election:
    """Stands for an office: `async with` it, or `terms()`; `observe()` and `contenders()` only look.

    One object stands once at a time.
    """

    def __init__(
        self, client: BaseClient, path: str, *, id: bytes, layout: ElectionLayout = "native", on_loss: OnLoss = "cancel"
    ) -> None:
        head, marker = _LAYOUTS[layout]
        self.path = path
        self.id = id
        self._client = client
        self._on_loss: OnLoss = on_loss
        self._line = Row(client, path, marker=marker, head=head)
        self._term: Term | None = None

    async def __aenter__(self) -> Term:
        """Waits for the office. A session that is lost meanwhile costs the place, not the wait."""
        if self._term is not None:
            raise RuntimeError("this election already has a term; one object stands once at a time")
        term = self._term = await self._elected(goes_on=False)
        return await term.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        term, self._term = self._term, None
        assert term is not None
        await term.__aexit__(kind, error, trace)

    async def terms(self) -> AsyncIterator[Term]:
        """Each time that the office is ours: `async for term in election.terms(): async with term: ...`.

        The end of the block, or the loss of the office, which ends the block without an error, leads to the next run.
        """
        while True:
            term = await self._elected(goes_on=True)
            try:
                yield term
            finally:
                await term.end()

    async def _elected(self, *, goes_on: bool) -> Term:
        while True:
            place = await self._line.enter(self.id)
            try:
                if await self._line.reach_front(place):
                    term = Term(patient(self._client), place, self._line, on_loss=self._on_loss, goes_on=goes_on)
                    if await term.is_kept():
                        return term
            except BaseException:
                self._line.leave_soon(place)
                raise
            await self._line.leave(place)

    async def contenders(self) -> list[Candidate]:
        """Who stands, the leader first."""
        found = await asyncio.gather(*(self._candidate(name) for name in await self._names()))
        return [candidate for candidate in found if candidate is not None]

    async def leader(self) -> bytes | None:
        """The id of the leader; None if the office is vacant."""
        for name in await self._names():
            candidate = await self._candidate(name)
            if candidate is not None:
                return candidate.id
        return None

    async def observe(self) -> AsyncIterator[bytes | None]:
        """The leader's id, or None while the office is vacant: now, and after each change. Misses short terms."""
        told: tuple[str, bytes] | None = None
        is_first = True
        with Bell(self._client) as bell:
            while True:
                bell.reset()
                seen = await self._look(bell)
                if seen != told or is_first:
                    is_first = False
                    told = seen
                    yield seen[1] if seen is not None else None
                await bell.wait()

    async def _look(self, bell: Bell) -> tuple[str, bytes] | None:
        client = patient(self._client)
        while True:
            names = await self._line.names()
            if not names:
                # Only a vacant office makes all observers watch who comes.
                names = in_order(await children_of(client, self.path, bell=bell), self._line.marker)
                if not names:
                    return None
            path = join_path(self.path, names[0])
            try:
                return path, (await client.get(path, watch=bell.rope())).data
            except NoNode:
                continue

    async def _names(self) -> list[str]:
        return in_order(await children_of(self._client, self.path), self._line.marker)

    async def _candidate(self, name: str) -> Candidate | None:
        try:
            node = await self._client.get(join_path(self.path, name))
        except NoNode:
            return None
        return Candidate(node.data, node.path, node.stat.czxid)

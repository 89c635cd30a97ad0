"""Election: of all who stand for an office one holds it, the one that has stood longest.

Layouts: `native`; `kazoo` (its Election, that is its Lock); `curator` (LeaderLatch); `curator-selector`
(LeaderSelector, that is InterProcessMutex). Members of one layout elect one leader, whatever they are written in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Literal, NamedTuple

from coati.client.client import BaseClient
from coati.client.types import Mode, Node, join_path
from coati.errors import LeadershipLost, NoNode
from coati.recipes.held import OnLoss, Release
from coati.recipes.line import LOCK, Line, Names
from coati.recipes.marks import Bell, patient
from coati.recipes.tenure import Tenure

ElectionLayout = Literal["native", "kazoo", "curator", "curator-selector"]


# How candidates are named, and by which mark they are known.
_LAYOUTS: Final[dict[ElectionLayout, tuple[Names, str]]] = {
    "native": (Names("", False, {"-term-": ("-term-",)}, Mode.PERSISTENT), "-term-"),
    "kazoo": (LOCK["kazoo"], "__lock__"),
    "curator": (Names("_c_", True, {"-latch-": ("-latch-",)}, Mode.CONTAINER), "-latch-"),
    "curator-selector": (LOCK["curator"], "-lock-"),
}


class Candidate(NamedTuple):
    """Who stands for an office: its `id`, its znode, and the czxid of that; smaller ones have stood longer."""

    id: bytes
    path: str
    token: int


class Term(Tenure):
    """An office that is ours: see Held. `async with term` cancels the body when it is lost, and ends the term."""

    def __init__(self, client: BaseClient, place: Node, *, on_loss: OnLoss, goes_on: bool) -> None:
        super().__init__(patient(client), place, error=LeadershipLost, on_loss=on_loss, goes_on=goes_on)
        self._release = Release(client)

    async def settle(self, *, is_done: bool) -> None:
        """Makes room for the next one."""
        await self._release.delete(self.path)


class Election:
    """Stands for an office: `async with` it, or `terms()`; `observe()` and `contenders()` only look.

    One object stands once at a time.
    """

    def __init__(
        self, client: BaseClient, path: str, *, id: bytes, layout: ElectionLayout = "native", on_loss: OnLoss = "cancel"
    ) -> None:
        names, self._mark = _LAYOUTS[layout]
        self.path = path
        self.id = id
        self._client = client
        self._on_loss: OnLoss = on_loss
        self._line = Line(client, path, names, is_wary=True)
        self._seen = Line(patient(client), path, names)
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
            place = await self._line.stand(self._mark, self.id)
            term = Term(self._client, place, on_loss=self._on_loss, goes_on=goes_on)
            try:
                if await term.is_kept():
                    return term
            except BaseException:
                self._line.release.soon(place.path)
                raise
            await self._line.release.delete(place.path)

    async def contenders(self) -> list[Candidate]:
        """Who stands, the leader first."""
        return [Candidate(one.id, one.path, one.token) for one in await self._line.contenders()]

    async def leader(self) -> bytes | None:
        """The id of the leader; None if the office is vacant."""
        for number in await self._line.places():
            candidate = await self._line.contender(number)
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
            places = await self._seen.places()
            if not places:
                # Only a vacant office makes all observers watch who comes.
                places = await self._seen.places(bell=bell)
                if not places:
                    return None
            path = join_path(self.path, places[0].name)
            try:
                return path, (await client.get(path, watch=bell.rope())).data
            except NoNode:
                continue

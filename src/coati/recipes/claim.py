"""Claim: what every lock, semaphore and side of a read/write lock has in common for its user.

Knows `async with`, `acquire` and `release`, `try_`, re-entrance, and that a body ends when what it relies on is lost.
Must not know how a thing is won: that is `_win`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextvars import ContextVar
from types import TracebackType
from typing import ClassVar, Final, Generic, TypeVar

from coati.client.client import BaseClient
from coati.recipes.held import Body, Holding, OnLoss, ask_leader

H = TypeVar("H", bound=Holding)

HOLDER: Final[ContextVar[object]] = ContextVar("coati_holder")
"""Who holds a claim, where it is not the task: a facade may have a task for each call."""


class _Hold(Generic[H]):
    """One winning: how often its task is inside, and the outermost block if there is one."""

    __slots__ = ("body", "depth", "held")

    def __init__(self, held: H, body: Body | None) -> None:
        self.held = held
        self.body = body
        self.depth = 1


class Claim(ABC, Generic[H]):
    """Something to hold: `async with claim as held:`. The object may be used again, and by several tasks.

    Leaving the block gives it back without waiting for the server's answer: the client sees to it, whatever happens to
    the connection, and what it asks for next comes after it. `release` waits.

    `timeout` in seconds bounds the wait: LockTimeout; None waits as long as it takes, over connections and sessions.
    `on_loss`: "cancel" cancels the block when the thing is lost and raises LockLost, "flag" leaves it to
    `held.check()`. `reentrant`: a task that holds it gets it again at once; otherwise that is a RuntimeError.
    """

    # A task may hold it more than once, each time as another winner.
    _is_many: ClassVar[bool] = False

    def __init__(self, client: BaseClient, *, timeout: float | None, on_loss: OnLoss, reentrant: bool) -> None:
        self._client = client
        self._timeout = timeout
        self._on_loss: OnLoss = on_loss
        self._reentrant = reentrant
        self._holds: dict[object, list[_Hold[H]]] = {}

    # --- for whoever wants it ---------------------------------------------------------------------

    async def acquire(self) -> H:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        held = await self.enter(waits=True, has_block=False)
        assert held is not None
        return held

    async def try_acquire(self) -> H | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return await self.enter(waits=False, has_block=False)

    async def release(self, held: H | None = None) -> None:
        """Gives back what this task acquired last, or, from any task, what is named. Raises RuntimeError if nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        hold = self._find(held)
        hold.depth -= 1
        if hold.depth == 0:
            self._forget(hold)
            hold.held.let_go(deleting=True)
            await self._give_back(hold.held)

    def try_(self) -> Attempt[H]:
        """`async with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return Attempt(self)

    async def __aenter__(self) -> H:
        held = await self.enter(waits=True, has_block=True)
        assert held is not None
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hold = self._find(None)
        hold.depth -= 1
        if hold.depth:
            return
        self._forget(hold)
        hold.held.let_go(deleting=True)
        try:
            if hold.body is not None:
                hold.body.leave(hold.held, kind, error)
        finally:
            await self._give_back_soon(hold.held)

    # --- the recipe's -----------------------------------------------------------------------------

    @abstractmethod
    async def _win(self, deadline: float | None, *, waits: bool) -> H | None:
        """Waits until it is ours; None if it is not free and `waits` is False. Raises LockTimeout.

        Cancelled or too late, it leaves nothing behind.
        """

    @abstractmethod
    async def _free(self, held: H) -> None:
        """It is not needed any more. The first request is sent at once; nobody cancels it but the end of the client."""

    # --- all of them ------------------------------------------------------------------------------

    async def enter(self, *, waits: bool, has_block: bool) -> H | None:
        """For blocks and attempts: see `acquire` and `try_acquire`. `has_block`: the current task is inside one."""
        holder = _holder()
        holds = self._holds.get(holder)
        if holds and not self._is_many:
            if not self._reentrant:
                raise RuntimeError("this task holds it already, and would wait for itself: see `reentrant`")
            holds[-1].held.check()
            holds[-1].depth += 1
            return holds[-1].held
        loop = asyncio.get_running_loop()
        held = await self._win(None if self._timeout is None else loop.time() + self._timeout, waits=waits)
        if held is None:
            return None
        body = Body(self._on_loss) if has_block else None
        if body is not None:
            body.enter()
        try:
            # Whatever happens meanwhile, `begin` finds out: it goes by the session and by the time.
            await ask_leader(self._client)
            held.begin(_nobody if body is None else body.on_lost)
        except BaseException:
            held.let_go(deleting=True)
            self._client.spawn(self._free(held))
            raise
        self._client.spawn(held.look())
        self._holds.setdefault(holder, []).append(_Hold(held, body))
        return held

    def _find(self, held: H | None) -> _Hold[H]:
        holder = _holder()
        for owner, holds in self._holds.items():
            for hold in reversed(holds):
                if hold.held is held or (held is None and owner is holder):
                    return hold
        raise RuntimeError("it is not held" if held is not None else "this task does not hold it")

    def _forget(self, hold: _Hold[H]) -> None:
        for task, holds in self._holds.items():
            if hold in holds:
                holds.remove(hold)
                if not holds:
                    del self._holds[task]
                return

    async def _give_back(self, held: H) -> None:
        if held.is_lost:
            # No server answers, or there is nothing left: whoever has lost it should hear so at once.
            await self._give_back_soon(held)
        elif not self._client.is_closed:
            # Once begun, it is carried to its end, whoever is cancelled.
            await asyncio.shield(self._client.spawn(self._free(held)))

    async def _give_back_soon(self, held: H) -> None:
        """Returns when the request is on its way: what this client asks for afterwards is answered after it."""
        if self._client.is_closed:
            return
        self._client.spawn(self._free(held))
        await asyncio.sleep(0)


class Attempt(Generic[H]):
    """One `async with claim.try_() as held:`."""

    def __init__(self, claim: Claim[H]) -> None:
        self._claim = claim
        self._has_entered = False

    async def __aenter__(self) -> H | None:
        held = await self._claim.enter(waits=False, has_block=True)
        self._has_entered = held is not None
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_entered:
            await self._claim.__aexit__(kind, error, trace)


def _holder() -> object:
    return HOLDER.get(None) or asyncio.current_task()


def _nobody() -> None:
    """Without a block, nobody is cancelled."""

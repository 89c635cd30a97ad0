"""Tenure: something held that is watched from the moment it is won, and that a block may be entered for later.

An iteration gives it to its caller, who enters the block: between the two it can be lost already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from coati.client.client import BaseClient
from coati.client.types import Node
from coati.errors import LockLost
from coati.recipes.held import Body, Held, OnLoss


class Tenure(Held, ABC):
    """See Held. `goes_on`: its loss ends the block without an error, because its caller comes round again."""

    def __init__(
        self, client: BaseClient, node: Node, *, error: type[LockLost] = LockLost, on_loss: OnLoss, goes_on: bool
    ) -> None:
        super().__init__(client, node, error=error)
        self.owner = node.stat.ephemeral_owner
        self._body = Body(on_loss)
        self._goes_on = goes_on
        self._is_inside = False
        self._was_lost = False
        self._has_ended = False

    @abstractmethod
    async def settle(self, *, is_done: bool) -> None:
        """What follows, once: `is_done` if its block has come to its end without an error."""

    async def is_kept(self) -> bool:
        """Watches over it from now on; False if it is gone already."""
        try:
            await self.keep(self._note)
            # A new session may have come before `keep` began to listen: then the znode is the old one's.
            if self.owner == self._client.session.id:
                return True
        except LockLost:
            pass
        except BaseException:
            self.let_go()
            raise
        self.let_go()
        return False

    def _note(self) -> None:
        self._was_lost = True
        if self._is_inside:
            self._body.on_lost()

    async def end(self, *, is_done: bool = False) -> None:
        """Gives it up; once is enough."""
        self.let_go()
        if self._has_ended:
            return
        self._has_ended = True
        if self._was_lost and not is_done and not self._client.is_closed:
            # No server answers, or there is nothing left: whoever has lost it should hear so at once.
            self._client.spawn(self.settle(is_done=False))
        else:
            await self.settle(is_done=is_done)

    async def __aenter__(self) -> Self:
        if self._has_ended:
            raise RuntimeError("this is over; a block is entered once")
        self._body.enter()
        self._is_inside = True
        if self._was_lost:
            # Lost between the victory and the block: its first await ends it.
            self._body.on_lost()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._is_inside = False
        self.let_go()
        is_done = False
        try:
            self._body.leave(self, kind, error)
            is_done = kind is None
        except LockLost:
            if not self._goes_on:
                raise
            return True
        finally:
            await self.end(is_done=is_done)
        return self._goes_on and self._was_lost and isinstance(error, LockLost)

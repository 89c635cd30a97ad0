"""Held: something that is ours for now (a lock, an office, a permit), and how its loss reaches whoever relies on it.

Knows until when the session is certainly alive, and whether the znode that stands for it is there. Must not know how it
is won. A wake-up is no permission: what is held is lost before the server can give it to anybody else, provided clocks
run at about the same rate and the loop is not blocked; the safety that does not depend on either is `guard()`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal, Protocol

from coati.client.client import BaseClient
from coati.client.ops import Check
from coati.client.types import EventType, Node, join_path
from coati.client.watching import Trigger
from coati.errors import (
    ConnectionLoss,
    LockLost,
    NoNode,
    NotReadOnly,
    OperationTimeout,
    SessionMoved,
    Throttled,
    ZKError,
)

OnLoss = Literal["cancel", "flag"]
"""What happens to the body when the thing is lost: it is cancelled, or it has to ask `held.check()` itself."""

# How long before the last safe instant a held thing is given up, as a share of the session timeout: the body has that
# long to come to its end.
MARGIN: Final = 0.1

# Written to a holder's znode it asks for the lock back (Curator's LockInternals.REVOKE_MESSAGE).
REVOKE: Final = b"__REVOKE__"


class Holding(Protocol):
    """What a block needs of what it holds."""

    @property
    def is_lost(self) -> bool: ...

    def check(self) -> None: ...

    def loss(self) -> LockLost: ...

    def begin(self, on_lost: Callable[[], None]) -> None: ...

    async def look(self) -> None: ...

    def let_go(self, *, deleting: bool = False) -> None: ...


class Held:
    """What is held. `path` is the znode that stands for it, `token` its czxid: later holders have larger ones.

    `owner` is the id of the session that it ends with.
    """

    def __init__(self, client: BaseClient, node: Node, *, error: type[LockLost] = LockLost) -> None:
        self.path = node.path
        self.token = node.stat.czxid
        self._client = client
        self._error = error
        self.owner = node.stat.ephemeral_owner
        self._why: str | None = None
        self._is_over = False
        self._lost: asyncio.Future[str] | None = None
        self._revoked: asyncio.Future[None] | None = None
        self._is_revoked = False
        self._timer: asyncio.TimerHandle | None = None
        self._stop_listening: Callable[[], None] | None = None
        self._stop_vouching: Callable[[], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self.own = Own(self)

    # --- for whoever holds it ---------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, it is certainly ours; later as the server goes on answering. 0 once lost."""
        session = self._client.session
        if self._why is not None or self._is_over:
            return 0.0
        return max(session.vouched_until - session.timeout * MARGIN, 0.0)

    @property
    def is_held(self) -> bool:
        """It is certainly ours now."""
        return asyncio.get_running_loop().time() < self.deadline

    @property
    def is_lost(self) -> bool:
        """It went before it was given back."""
        return self._why is not None

    def check(self) -> None:
        """Raises LockLost (LeadershipLost of an office) unless it is certainly ours."""
        if not self.is_held:
            raise self.loss()

    def guard(self) -> Check:
        """For `multi`: the server itself refuses the transaction, with NoNode, if this is not held any more."""
        return Check(self.path)

    async def lost(self) -> str:
        """Returns, with the reason, when it is lost. Released in good order, it never is."""
        if self._why is not None:
            return self._why
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._lost)

    async def revoked(self) -> None:
        """Returns when somebody asks for it back (`Contender.revoke`, Curator's Revoker): then it is up to you."""
        if self._is_revoked:
            return
        if self._revoked is None:
            self._revoked = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._revoked)

    # --- for recipes ------------------------------------------------------------------------------

    def loss(self) -> LockLost:
        """The error that says why it is lost."""
        otherwise = "it was given back" if self._is_over else "the session may have expired"
        error = self._error(self._why or otherwise)
        error.path = self.path
        error.session_id = self._client.session.id
        return error

    def begin(self, on_lost: Callable[[], None]) -> None:
        """From now on watches over the time and the session; raises LockLost if they are over already."""
        if self.owner not in (0, self._client.session.id):
            self._why = "the session is over"
            raise self.loss()
        self._stop_listening = self._client.session.on_end(lambda reason: self.lose(f"the session is over: {reason}"))
        self._stop_vouching = self._client.session.vouch()
        self._look_at_the_time()
        if self._why is not None:
            raise self.loss()
        self._on_lost = on_lost

    async def look(self) -> None:
        """Watches over the znode too, from when the server has answered."""
        own = self.own
        if self._is_over:
            return
        try:
            # `get` leaves no watch behind if the znode is not there.
            node = await self._client.get(self.path, watch=own)
        except NoNode:
            own.on_gone()
        except ZKError:
            # The end of the session, or of the time, is noticed without it.
            return
        else:
            if node.data == REVOKE:
                self._is_revoked = True
                if self._revoked is not None and not self._revoked.done():
                    self._revoked.set_result(None)

    async def keep(self, on_lost: Callable[[], None]) -> None:
        """`begin` and `look`; raises LockLost if it is gone already."""
        await ask_leader(self._client)
        self.begin(_nobody)
        await self.look()
        if self._why is not None:
            raise self.loss()
        self._on_lost = on_lost

    def let_go(self, *, deleting: bool = False) -> None:
        """Watches no more: it is released, or lost. `deleting`: the watch on the znode ends by itself."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        if self._stop_vouching is not None:
            self._stop_vouching()
            self._stop_vouching = None
        if not deleting:
            self.own.close()
        self._on_lost = None

    def lose(self, why: str) -> None:
        """It is not certainly ours any more."""
        if self._why is not None or self._is_over:
            return
        self._why = why
        on_lost = self._on_lost
        self.let_go()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(why)
        if on_lost is not None:
            on_lost()

    def watch_again(self) -> None:
        """The watch on the znode was spent on a change of its data."""
        self._client.spawn(self.look())

    def _look_at_the_time(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self.deadline:
            self.lose("no server has answered for so long that the session may have expired")
        else:
            self._timer = loop.call_at(self.deadline, self._look_at_the_time)


async def ask_leader(client: BaseClient) -> None:
    """Before what was won is relied on: who has waited has only read since, and the leader had no part in that."""
    session = client.session
    if session.vouched_until - asyncio.get_running_loop().time() < session.timeout / 2:
        # What goes wrong is found out by whoever looks at the time next.
        with suppress(ZKError):
            await client.with_options(timeout=session.timeout).sync("/")


def _nobody() -> None:
    """Is told of a loss before anybody relies on the thing."""


class Own(Trigger):
    """Watches the znode itself."""

    __slots__ = ("_held",)

    def __init__(self, held: Held) -> None:
        super().__init__()
        self._held = held

    def on_gone(self) -> None:
        """The znode is not there; if another one has taken its place, that is nobody's loss."""
        if self._held.own is self:
            self._held.lose("its znode is gone")

    def on_event(self, type: EventType, path: bytes, zxid: int) -> None:
        super().on_event(type, path, zxid)
        if type is not EventType.CHANGED:
            self.on_gone()
        elif self._held.is_held:
            # Its data has changed; the watch was spent on that.
            self._held.watch_again()


class Body:
    """Cancels the task inside the block when what is held is lost, as asyncio.timeout does, and says so by LockLost."""

    def __init__(self, on_loss: OnLoss) -> None:
        self._on_loss = on_loss
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._has_cancelled = False

    def enter(self) -> None:
        """The current task is inside from now on."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_cancelled = False

    def on_lost(self) -> None:
        """Lost."""
        if self._on_loss == "flag":
            return
        if self._task is not None and self._task is asyncio.current_task():
            # Its own doing, such as closing the client: it is cancelled at the next await, if it is still inside.
            asyncio.get_running_loop().call_soon(self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._has_cancelled = True
            self._task.cancel()

    def leave(self, held: Holding, kind: type[BaseException] | None, error: BaseException | None) -> None:
        """The block is left; raises LockLost if that is why."""
        task, self._task = self._task, None
        if not self._has_cancelled:
            return
        assert task is not None
        # Others may have cancelled the task too: that is theirs, and goes on.
        if task.uncancel() <= self._cancelling and (kind is None or kind is asyncio.CancelledError):
            raise held.loss() from error


class Release:
    """Deletes a znode that is not wanted any more, for as long as it takes: at once, or else behind the caller's back.

    While the session lives an ephemeral stays, so nobody may give up before the server has said that it is gone.
    """

    def __init__(self, client: BaseClient) -> None:
        self._client = client

    async def delete(self, path: str) -> None:
        """Returns when it is gone, or when the client has taken over to try again."""
        session_id = self._client.session.id
        try:
            await self._client.delete(path, missing_ok=True)
        except asyncio.CancelledError:
            self._spawn(self._until_gone(path, session_id))
            raise
        except ZKError as error:
            if _may_pass(error):
                self._spawn(self._until_gone(path, session_id))

    def soon(self, path: str) -> None:
        """Without waiting, for a caller that is being cancelled."""
        self._spawn(self._until_gone(path, self._client.session.id))

    def soon_found(self, parent: str, prefix: str) -> None:
        """Without waiting, a child whose name begins so: a create of it was sent, and its fate is unknown."""
        self._spawn(self._until_not_found(parent, prefix, self._client.session.id))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        if self._client.is_closed:
            # The session is over, and its ephemerals with it.
            work.close()
        else:
            self._client.spawn(work)

    async def _until_gone(self, path: str, session_id: int) -> None:
        patient = self._client.with_options(timeout=None)
        while self._client.session.id == session_id and not self._client.is_closed:
            try:
                await patient.delete(path, missing_ok=True)
            except ZKError as error:
                if not _may_pass(error):
                    return
                await asyncio.sleep(self._client.session.timeout * MARGIN)
            else:
                return

    async def _until_not_found(self, parent: str, prefix: str, session_id: int) -> None:
        try:
            names = await find_own(self._client.with_options(timeout=None), parent, prefix)
        except ZKError:
            # Only the end of the session is left to wait for.
            return
        for name in names:
            await self._until_gone(join_path(parent, name), session_id)


def _may_pass(error: ZKError) -> bool:
    """Whether the same request may do better later."""
    return isinstance(error, ConnectionLoss | OperationTimeout | NotReadOnly | Throttled | SessionMoved)


async def find_own(client: BaseClient, parent: str, prefix: str) -> list[str]:
    """The children whose names begin so, once every create that was sent for one has come to something.

    A create on a connection that was lost is executed before the `sync` of the next one, or refused (SESSION_MOVED).
    There may be several: what a session made that is over stays until the servers have noticed that it is.
    """
    try:
        await client.sync(parent)
        names = await client.children(parent)
    except NoNode:
        return []
    return [name for name in names if name.startswith(prefix)]


class Block(ABC):
    """`async with` around something held: `win` and `release` are the recipe's, the rest is the same for all."""

    def __init__(self, client: BaseClient, on_loss: OnLoss) -> None:
        self._client = client
        self._body = Body(on_loss)
        self._held: Held | None = None

    @abstractmethod
    async def win(self) -> Held:
        """Waits until it is ours."""

    async def release(self, held: Held) -> None:
        """It is not needed any more."""
        await Release(self._client).delete(held.path)

    async def __aenter__(self) -> Held:
        held = await self.win()
        self._body.enter()
        try:
            await held.keep(self._body.on_lost)
        except BaseException:
            held.let_go()
            Release(self._client).soon(held.path)
            raise
        self._held = held
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        assert held is not None
        held.let_go(deleting=True)
        try:
            self._body.leave(held, kind, error)
        finally:
            if held.is_lost and not self._client.is_closed:
                # No server answers, or there is nothing left: whoever has lost it should hear so at once.
                self._client.spawn(self.release(held))
            else:
                await self.release(held)

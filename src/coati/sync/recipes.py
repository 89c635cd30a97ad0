"""The recipes of coati.sync.Client: locks, offices, groups, queues and the like.

Written by tools/gen_sync.py: do not edit.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from coati.client.ops import Check
from coati.recipes.balance import Strategy
from coati.recipes.barrier import Barrier as AsyncBarrier
from coati.recipes.barrier import DoubleBarrier as AsyncDoubleBarrier
from coati.recipes.claim import Attempt as AsyncAttempt
from coati.recipes.claim import Claim as AsyncClaim
from coati.recipes.counter import Counter as AsyncCounter
from coati.recipes.counter import IdSequence as AsyncIdSequence
from coati.recipes.counter import Number
from coati.recipes.election import Candidate
from coati.recipes.election import Election as AsyncElection
from coati.recipes.election import Term as AsyncTerm
from coati.recipes.group import Group as AsyncGroup
from coati.recipes.group import Membership as AsyncMembership
from coati.recipes.held import Held as AsyncHeld
from coati.recipes.instances import Instance
from coati.recipes.keeper import EphemeralKeeper as AsyncEphemeralKeeper
from coati.recipes.keeper import TtlKeeper as AsyncTtlKeeper
from coati.recipes.lease import Holder
from coati.recipes.lease import Lease as AsyncLease
from coati.recipes.line import Contender as AsyncContender
from coati.recipes.lock import ExclusiveLock as AsyncExclusiveLock
from coati.recipes.lock import Lock as AsyncLock
from coati.recipes.multilock import MultiHeld as AsyncMultiHeld
from coati.recipes.multilock import MultiLock as AsyncMultiLock
from coati.recipes.once import KeyState
from coati.recipes.once import LeaderScheduler as AsyncLeaderScheduler
from coati.recipes.once import Once as AsyncOnce
from coati.recipes.partition import Assignment as AsyncAssignment
from coati.recipes.partition import Partition as AsyncPartition
from coati.recipes.queue import Item as AsyncItem
from coati.recipes.queue import Queue as AsyncQueue
from coati.recipes.queuelayout import PRIORITY
from coati.recipes.registry import Provider as AsyncProvider
from coati.recipes.registry import Registration as AsyncRegistration
from coati.recipes.registry import Registry as AsyncRegistry
from coati.recipes.rwlock import RWLock as AsyncRWLock
from coati.recipes.rwlock import UpgradableHeld as AsyncUpgradableHeld
from coati.recipes.rwlock import WriteHeld as AsyncWriteHeld
from coati.recipes.semaphore import Semaphore as AsyncSemaphore
from coati.recipes.value import Value as AsyncValue
from coati.recipes.value import Versioned
from coati.sync.bridge import (
    Block,
    Mirror,
    Serving,
    Steps,
    T,
    Taking,
    Winning,
    asking,
    happened,
    if_any,
    mapped,
    on_the_loop,
    within,
)
from coati.sync.views import TreeCache


class Contender(Mirror[AsyncContender]):
    """One who holds or waits. `token` is its znode's czxid, `session` its session's id, `mark` what it came for."""

    @property
    def id(self) -> bytes:
        return self._it.id

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def token(self) -> int:
        return self._it.token

    @property
    def session(self) -> int:
        return self._it.session

    @property
    def created(self) -> datetime.datetime:
        return self._it.created

    @property
    def mark(self) -> str:
        return self._it.mark

    def revoke(self) -> bool:
        """Asks for it back, as Curator's Revoker does; False if it is gone already. See `Held.revoked`."""
        return self._on.call(self._it.revoke())


class Held(Mirror[AsyncHeld]):
    """What is held. `path` is the znode that stands for it, `token` its czxid: later holders have larger ones.

    `owner` is the id of the session that it ends with.
    """

    @property
    def path(self) -> str:
        """The znode that stands for it."""
        return self._it.path

    @property
    def token(self) -> int:
        """Its czxid: later holders have larger ones."""
        return self._it.token

    @property
    def owner(self) -> int:
        """The id of the session that it ends with."""
        return self._it.owner

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, it is certainly ours; later as the server goes on answering. 0 once lost."""
        return self._on.do(lambda: self._it.deadline)

    @property
    def is_held(self) -> bool:
        """It is certainly ours now."""
        return self._on.do(lambda: self._it.is_held)

    @property
    def is_lost(self) -> bool:
        """It went before it was given back."""
        return self._it.is_lost

    def check(self) -> None:
        """Raises LockLost (LeadershipLost of an office) unless it is certainly ours."""
        self._on.do(lambda: self._it.check())

    def guard(self) -> Check:
        """For `multi`: the server itself refuses the transaction, with NoNode, if this is not held any more."""
        return self._it.guard()

    def lost(self, timeout: float | None = None) -> str | None:
        """Returns, with the reason, when it is lost. Released in good order, it never is.

        None after so many seconds.
        """
        return self._on.call(within(self._it.lost(), timeout))

    def revoked(self, timeout: float | None = None) -> bool:
        """Returns when somebody asks for it back (`Contender.revoke`, Curator's Revoker): then it is up to you.

        True; False after so many seconds without.
        """
        return self._on.call(happened(self._it.revoked(), timeout))


class MultiHeld(Mirror[AsyncMultiHeld]):
    """Several locks held: `parts` in the order of their paths. It is lost as soon as one of them is."""

    @property
    def parts(self) -> tuple[Held, ...]:
        """One for each lock, in the order of the paths."""
        return tuple(Held(one, self._on) for one in self._it.parts)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of each part; see Held."""
        return self._it.tokens

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, all are certainly ours."""
        return self._on.do(lambda: self._it.deadline)

    @property
    def is_held(self) -> bool:
        """All are certainly ours now."""
        return self._on.do(lambda: self._it.is_held)

    @property
    def is_lost(self) -> bool:
        """One went before they were given back."""
        return self._it.is_lost

    def check(self) -> None:
        """Raises LockLost unless all are certainly ours."""
        self._on.do(lambda: self._it.check())

    def guards(self) -> list[Check]:
        """For `multi`: the server refuses the transaction if one of them is not held any more."""
        return self._it.guards()

    def lost(self, timeout: float | None = None) -> str | None:
        """Returns, with the reason, when one is lost.

        None after so many seconds.
        """
        return self._on.call(within(self._it.lost(), timeout))


class WriteHeld(Mirror[AsyncWriteHeld]):
    """A writer's hold. After `downgrade` it is a reader's, with another `path` and `token`."""

    @property
    def path(self) -> str:
        """The znode that stands for it."""
        return self._it.path

    @property
    def token(self) -> int:
        """Its czxid: later holders have larger ones."""
        return self._it.token

    @property
    def owner(self) -> int:
        """The id of the session that it ends with."""
        return self._it.owner

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, it is certainly ours; later as the server goes on answering. 0 once lost."""
        return self._on.do(lambda: self._it.deadline)

    @property
    def is_held(self) -> bool:
        """It is certainly ours now."""
        return self._on.do(lambda: self._it.is_held)

    @property
    def is_lost(self) -> bool:
        """It went before it was given back."""
        return self._it.is_lost

    def check(self) -> None:
        """Raises LockLost (LeadershipLost of an office) unless it is certainly ours."""
        self._on.do(lambda: self._it.check())

    def guard(self) -> Check:
        """For `multi`: the server itself refuses the transaction, with NoNode, if this is not held any more."""
        return self._it.guard()

    def lost(self, timeout: float | None = None) -> str | None:
        """Returns, with the reason, when it is lost. Released in good order, it never is.

        None after so many seconds.
        """
        return self._on.call(within(self._it.lost(), timeout))

    def revoked(self, timeout: float | None = None) -> bool:
        """Returns when somebody asks for it back (`Contender.revoke`, Curator's Revoker): then it is up to you.

        True; False after so many seconds without.
        """
        return self._on.call(happened(self._it.revoked(), timeout))

    def downgrade(self) -> None:
        """Goes on as a reader, in the same place of the line: readers behind it come in, no writer can pass.

        It stays exclusive if the numbers of the line have come to their end, since then there is no such place.
        Raises LockLost if it is not held any more.
        """
        self._on.call(self._it.downgrade())


class UpgradableHeld(Mirror[AsyncUpgradableHeld]):
    """Reads beside the readers that came before it; `upgrade` makes it the only one, `downgrade` a mere reader."""

    @property
    def path(self) -> str:
        """The znode that stands for it."""
        return self._it.path

    @property
    def token(self) -> int:
        """Its czxid: later holders have larger ones."""
        return self._it.token

    @property
    def owner(self) -> int:
        """The id of the session that it ends with."""
        return self._it.owner

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, it is certainly ours; later as the server goes on answering. 0 once lost."""
        return self._on.do(lambda: self._it.deadline)

    @property
    def is_held(self) -> bool:
        """It is certainly ours now."""
        return self._on.do(lambda: self._it.is_held)

    @property
    def is_lost(self) -> bool:
        """It went before it was given back."""
        return self._it.is_lost

    def check(self) -> None:
        """Raises LockLost (LeadershipLost of an office) unless it is certainly ours."""
        self._on.do(lambda: self._it.check())

    def guard(self) -> Check:
        """For `multi`: the server itself refuses the transaction, with NoNode, if this is not held any more."""
        return self._it.guard()

    def lost(self, timeout: float | None = None) -> str | None:
        """Returns, with the reason, when it is lost. Released in good order, it never is.

        None after so many seconds.
        """
        return self._on.call(within(self._it.lost(), timeout))

    def revoked(self, timeout: float | None = None) -> bool:
        """Returns when somebody asks for it back (`Contender.revoke`, Curator's Revoker): then it is up to you.

        True; False after so many seconds without.
        """
        return self._on.call(happened(self._it.revoked(), timeout))

    def downgrade(self) -> None:
        """Goes on as a reader, in the same place of the line: readers behind it come in, no writer can pass.

        It stays exclusive if the numbers of the line have come to their end, since then there is no such place.
        Raises LockLost if it is not held any more.
        """
        self._on.call(self._it.downgrade())

    def upgrade(self, *, timeout: float | None = None) -> None:
        """Waits for the readers that came before. Raises LockTimeout after so many seconds: then it still reads.

        Raises LockLost if it is not held any more, RuntimeError after `downgrade`.
        """
        self._on.call(self._it.upgrade(timeout=timeout))


class Attempt(Winning[AsyncAttempt[AsyncHeld]]):
    """One `with claim.try_() as held:`."""

    def __enter__(self) -> Held | None:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: None if got is None else Held(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class MultiAttempt(Winning[AsyncAttempt[AsyncMultiHeld]]):
    """One `with claim.try_() as held:`."""

    def __enter__(self) -> MultiHeld | None:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: None if got is None else MultiHeld(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class WriteAttempt(Winning[AsyncAttempt[AsyncWriteHeld]]):
    """One `with claim.try_() as held:`."""

    def __enter__(self) -> WriteHeld | None:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: None if got is None else WriteHeld(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class UpgradableAttempt(Winning[AsyncAttempt[AsyncUpgradableHeld]]):
    """One `with claim.try_() as held:`."""

    def __enter__(self) -> UpgradableHeld | None:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: None if got is None else UpgradableHeld(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class Claim(Winning[AsyncClaim[AsyncHeld]]):
    """Something to hold: `with claim as held:`. The object may be used again, and by several threads.

    `timeout` in seconds bounds the wait: LockTimeout; None waits as long as it takes, over connections and sessions.
    Nothing ends a block that has lost what it relies on: `held.check()` raises LockLost, `held.guard()` makes the
    server refuse what comes too late, and `on_loss` is called, with the LockLost, on a thread of its own while the
    block goes on. `reentrant`: a thread that holds it gets it again at once; otherwise that is a RuntimeError.
    """

    def acquire(self) -> Held:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(self._it.acquire(), lambda got: Held(got, self._on), lambda got: self._it.release(got))

    def try_acquire(self) -> Held | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(), lambda got: None if got is None else Held(got, self._on), if_any(self._it.release)
        )

    def release(self, held: Held | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> Attempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return Attempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> Held:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: Held(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class WriteClaim(Winning[AsyncClaim[AsyncWriteHeld]]):
    """Something to hold: `with claim as held:`. The object may be used again, and by several threads.

    `timeout` in seconds bounds the wait: LockTimeout; None waits as long as it takes, over connections and sessions.
    Nothing ends a block that has lost what it relies on: `held.check()` raises LockLost, `held.guard()` makes the
    server refuse what comes too late, and `on_loss` is called, with the LockLost, on a thread of its own while the
    block goes on. `reentrant`: a thread that holds it gets it again at once; otherwise that is a RuntimeError.
    """

    def acquire(self) -> WriteHeld:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(
            self._it.acquire(), lambda got: WriteHeld(got, self._on), lambda got: self._it.release(got)
        )

    def try_acquire(self) -> WriteHeld | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(),
            lambda got: None if got is None else WriteHeld(got, self._on),
            if_any(self._it.release),
        )

    def release(self, held: WriteHeld | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> WriteAttempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return WriteAttempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> WriteHeld:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: WriteHeld(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class UpgradableClaim(Winning[AsyncClaim[AsyncUpgradableHeld]]):
    """Something to hold: `with claim as held:`. The object may be used again, and by several threads.

    `timeout` in seconds bounds the wait: LockTimeout; None waits as long as it takes, over connections and sessions.
    Nothing ends a block that has lost what it relies on: `held.check()` raises LockLost, `held.guard()` makes the
    server refuse what comes too late, and `on_loss` is called, with the LockLost, on a thread of its own while the
    block goes on. `reentrant`: a thread that holds it gets it again at once; otherwise that is a RuntimeError.
    """

    def acquire(self) -> UpgradableHeld:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(
            self._it.acquire(), lambda got: UpgradableHeld(got, self._on), lambda got: self._it.release(got)
        )

    def try_acquire(self) -> UpgradableHeld | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(),
            lambda got: None if got is None else UpgradableHeld(got, self._on),
            if_any(self._it.release),
        )

    def release(self, held: UpgradableHeld | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> UpgradableAttempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return UpgradableAttempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> UpgradableHeld:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: UpgradableHeld(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class Lock(Winning[AsyncLock]):
    """Fair: who asks first gets it first, and each waiter watches only the one before it. See Claim."""

    @property
    def path(self) -> str:
        return self._it.path

    def acquire(self) -> Held:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(self._it.acquire(), lambda got: Held(got, self._on), lambda got: self._it.release(got))

    def try_acquire(self) -> Held | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(), lambda got: None if got is None else Held(got, self._on), if_any(self._it.release)
        )

    def release(self, held: Held | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> Attempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return Attempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> Held:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: Held(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()

    def holders(self) -> list[Contender]:
        """Who holds it, then who waits, in order."""
        return [Contender(one, self._on) for one in self._on.call(self._it.holders())]


class ExclusiveLock(Winning[AsyncExclusiveLock]):
    """One znode of a fixed name, `path` itself: whoever creates it holds it, and its end starts a new race.

    Not fair, and each release wakes everybody who waits: for a few contenders, or where the name must be known.
    """

    @property
    def path(self) -> str:
        return self._it.path

    def acquire(self) -> Held:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(self._it.acquire(), lambda got: Held(got, self._on), lambda got: self._it.release(got))

    def try_acquire(self) -> Held | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(), lambda got: None if got is None else Held(got, self._on), if_any(self._it.release)
        )

    def release(self, held: Held | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> Attempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return Attempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> Held:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: Held(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()

    def holder(self) -> Contender | None:
        """Who holds it. Those who wait are not known."""
        return None if (got := self._on.call(self._it.holder())) is None else Contender(got, self._on)


class Semaphore(Winning[AsyncSemaphore]):
    """`with zk.semaphore("/pool", 3) as held:`. A thread may hold several places.

    All must name the same number of permits; the kazoo layout notes it on the server and raises ValueError if
    another was there. `try_` gives up also while somebody else is at the door.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def permits(self) -> int:
        return self._it.permits

    def acquire(self) -> Held:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(self._it.acquire(), lambda got: Held(got, self._on), lambda got: self._it.release(got))

    def try_acquire(self) -> Held | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(), lambda got: None if got is None else Held(got, self._on), if_any(self._it.release)
        )

    def release(self, held: Held | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> Attempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return Attempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> Held:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: Held(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()

    def holders(self) -> list[Contender]:
        """Who holds a place, the oldest first; the last one may still be waiting for a place to become free."""
        return [Contender(one, self._on) for one in self._on.call(self._it.holders())]


class MultiLock(Winning[AsyncMultiLock]):
    """`with zk.multilock(["/a", "/b"]) as held:`. Options are those of Lock; a path named twice counts once."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the locks, sorted."""
        return self._it.paths

    def acquire(self) -> MultiHeld:
        """Waits until it is held; `release` gives it back. No block is there to cancel: ask `held.check()`."""
        return self._on.enter(
            self._it.acquire(), lambda got: MultiHeld(got, self._on), lambda got: self._it.release(got)
        )

    def try_acquire(self) -> MultiHeld | None:
        """As `acquire` if nobody else has it now; otherwise None."""
        return self._on.enter(
            self._it.try_acquire(),
            lambda got: None if got is None else MultiHeld(got, self._on),
            if_any(self._it.release),
        )

    def release(self, held: MultiHeld | None = None) -> None:
        """Gives back what this thread acquired last, or, from any thread, what is named. Raises RuntimeError if
        nothing.

        Of what is lost already, nothing is left to give back: that is no error.
        """
        self._on.call(self._it.release(None if held is None else Mirror.original(held)))

    def try_(self) -> MultiAttempt:
        """`with claim.try_() as held:` gets it only if it is free; otherwise `held` is None."""
        return MultiAttempt(self._on.do(lambda: self._it.try_()), self._on, self._on_loss)

    def __enter__(self) -> MultiHeld:
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: MultiHeld(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class RWLock(Winning[AsyncRWLock]):
    """`with lock.read():`, `with lock.write() as held:`. Options are those of Lock."""

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def id(self) -> bytes:
        return self._it.id

    def read(self) -> Claim:
        """A reader's side: waits for the writers before it."""
        return Claim(self._it.read(), self._on, self._on_loss)

    def write(self) -> WriteClaim:
        """A writer's side: waits for all before it."""
        return WriteClaim(self._it.write(), self._on, self._on_loss)

    def upgradable(self) -> UpgradableClaim:
        """A reader that may become a writer: waits for the writers before it, and those behind it wait."""
        return UpgradableClaim(self._it.upgradable(), self._on, self._on_loss)

    def holders(self) -> list[Contender]:
        """Who holds it and who waits, in order; `mark` tells readers and writers apart."""
        return [Contender(one, self._on) for one in self._on.call(self._it.holders())]


class Term(Winning[AsyncTerm]):
    """An office that is ours: see Held. `with term` cancels the body when it is lost, and ends the term."""

    @property
    def path(self) -> str:
        """The znode that stands for it."""
        return self._it.path

    @property
    def token(self) -> int:
        """Its czxid: later holders have larger ones."""
        return self._it.token

    @property
    def owner(self) -> int:
        """The id of the session that it ends with."""
        return self._it.owner

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, it is certainly ours; later as the server goes on answering. 0 once lost."""
        return self._on.do(lambda: self._it.deadline)

    @property
    def is_held(self) -> bool:
        """It is certainly ours now."""
        return self._on.do(lambda: self._it.is_held)

    @property
    def is_lost(self) -> bool:
        """It went before it was given back."""
        return self._it.is_lost

    def check(self) -> None:
        """Raises LockLost (LeadershipLost of an office) unless it is certainly ours."""
        self._on.do(lambda: self._it.check())

    def guard(self) -> Check:
        """For `multi`: the server itself refuses the transaction, with NoNode, if this is not held any more."""
        return self._it.guard()

    def lost(self, timeout: float | None = None) -> str | None:
        """Returns, with the reason, when it is lost. Released in good order, it never is.

        None after so many seconds.
        """
        return self._on.call(within(self._it.lost(), timeout))

    def revoked(self, timeout: float | None = None) -> bool:
        """Returns when somebody asks for it back (`Contender.revoke`, Curator's Revoker): then it is up to you.

        True; False after so many seconds without.
        """
        return self._on.call(happened(self._it.revoked(), timeout))

    def end(self, *, is_done: bool = False) -> None:
        """Gives it up; once is enough."""
        self._on.call(self._it.end(is_done=is_done))

    def __enter__(self) -> Self:
        return self._on.enter(
            self._it.__aenter__(), lambda _: self._entered(self._it), lambda _: self._it.__aexit__(None, None, None)
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()


class Election(Winning[AsyncElection]):
    """Stands for an office: `with` it, or `terms()`; `observe()` and `contenders()` only look.

    One object stands once at a time.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def id(self) -> bytes:
        return self._it.id

    def __enter__(self) -> Term:
        """Waits for the office. A session that is lost meanwhile costs the place, not the wait."""
        return self._on.enter(
            self._it.__aenter__(),
            lambda got: Term(self._watch_over(got), self._on),
            lambda _: self._it.__aexit__(None, None, None),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._on.leave(self._it.__aexit__(kind, error, trace))
        finally:
            self._let_go()

    def terms(self) -> Steps[Term]:
        """Each time that the office is ours: `for term in election.terms(): with term: ...`.

        The end of the block, or the loss of the office, which ends the block without an error, leads to the next
        run.
        """
        return Steps(mapped(self._it.terms(), lambda one: Term(one, self._on, self._on_loss)), self._on)

    def contenders(self) -> list[Candidate]:
        """Who stands, the leader first."""
        return self._on.call(self._it.contenders())

    def leader(self) -> bytes | None:
        """The id of the leader; None if the office is vacant."""
        return self._on.call(self._it.leader())

    def observe(self) -> Steps[bytes | None]:
        """The leader's id, or None while the office is vacant: now, and after each change. Misses short terms."""
        return Steps(self._it.observe(), self._on)


class EphemeralKeeper(Mirror[AsyncEphemeralKeeper]):
    """An ephemeral znode that is made again whenever it goes, as long as the block lasts.

    Entering waits until it is there; if another session has the name, until that one is over. `lost` tells, as an
    iterator of reasons, when it had to be made again: in between it was not there.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def data(self) -> bytes:
        return self._it.data

    @property
    def is_there(self) -> bool:
        """As far as the client knows."""
        return self._it.is_there

    def set(self, data: bytes) -> None:
        """Changes the data, also of the znodes to come. Raises NoAuth; a znode that is gone comes with the new data."""
        self._on.call(self._it.set(data))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))

    @property
    def lost(self) -> Steps[str]:
        """Tells, each time, why the znode had to be made again; asked for anew, from then on."""
        return Steps(aiter(self._it.lost), self._on)


class TtlKeeper(Mirror[AsyncTtlKeeper]):
    """A znode with a TTL that is touched in time as long as the block lasts; after it, the TTL runs out by itself.

    Needs a server with extended types, which coati has. `set` changes the data.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def data(self) -> bytes:
        return self._it.data

    @property
    def ttl(self) -> float:
        return self._it.ttl

    def set(self, data: bytes) -> None:
        """Changes the data, which also begins a new TTL."""
        self._on.call(self._it.set(data))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Membership(Mirror[AsyncMembership]):
    """Being a member: `name`, `path`, `set()`, and `lost` for the times that it had to be renewed."""

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def data(self) -> bytes:
        return self._it.data

    @property
    def name(self) -> str:
        return self._it.name

    @property
    def is_there(self) -> bool:
        """As far as the client knows."""
        return self._it.is_there

    def set(self, data: bytes) -> None:
        """Changes the data, also of the znodes to come. Raises NoAuth; a znode that is gone comes with the new data."""
        self._on.call(self._it.set(data))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))

    @property
    def lost(self) -> Steps[str]:
        """Tells, each time, why the znode had to be made again; asked for anew, from then on."""
        return Steps(aiter(self._it.lost), self._on)


class Group(Mirror[AsyncGroup]):
    """`with group.join(b"host:port"):` makes a member; `members()` tells who is there."""

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def me(self) -> str | None:
        """The name of the member that this object has joined as last; None if it has not."""
        return self._it.me

    def join(self, data: bytes = b"", name: str | None = None) -> Membership:
        """For `with`: a member while the block lasts. A name that another session has is waited for.

        A ShallowParty's identifier is `name`; a Party's is `data`.
        """
        return Membership(self._it.join(data, name), self._on)

    def current(self) -> dict[str, bytes]:
        """Each member's name and data, now."""
        return self._on.call(self._it.current())

    def members(self) -> Steps[dict[str, bytes]]:
        """Each member's name and data: now, and after each change. Needs a server of 3.6 or newer.

        A reader that is slow gets the newest state, not each one in between.
        """
        return Steps(self._it.members(), self._on)


class Registry(Mirror[AsyncRegistry]):
    """`with registry.register(instance):` offers it; `registry.provider(service)` finds it."""

    @property
    def path(self) -> str:
        return self._it.path

    def directory(self, service: str) -> str:
        """Where the instances of a service are. Raises ValueError for a name that cannot be one of a znode."""
        return self._it.directory(service)

    def register(self, instance: Instance) -> Registration:
        """Offers the instance while the block lasts; one that is not DYNAMIC stays there."""
        return Registration(self._it.register(instance), self._on)

    def consume(self, service: str, url: str) -> Block[None]:
        """Says, while the block lasts, that `url` uses the service. Raises ValueError in Curator's layout."""
        return Block(self._it.consume(service, url), self._on)

    def consumers(self, service: str) -> list[str]:
        """The URLs of those who use it, sorted."""
        return self._on.call(self._it.consumers(service))

    def services(self) -> list[str]:
        """The names of all services, sorted; also of those that nobody offers now."""
        return self._on.call(self._it.services())

    def instances(self, service: str) -> list[Instance]:
        """Who offers it now, in the order of their names. What cannot be read is left out, and logged."""
        return self._on.call(self._it.instances(service))

    def follow(self, service: str) -> Steps[list[Instance]]:
        """Who offers it now, then each time that this changes."""
        return Steps(self._it.follow(service), self._on)

    def provider(
        self, service: str, strategy: Strategy[Instance] | None = None, *, tolerates: int = 2, rests: float = 30.0
    ) -> Provider:
        """Chooses among those who offer it; see Provider. In turn, if no strategy is given."""
        return Provider(self._it.provider(service, strategy, tolerates=tolerates, rests=rests), self._on)

    def of_cache(self, service: str, cache: TreeCache) -> list[Instance]:
        """The instances in a cache of their directory, the enabled ones."""
        return self._on.do(lambda: self._it.of_cache(service, Mirror.original(cache)))


class Registration(Mirror[AsyncRegistration]):
    """One instance on offer. `with`; `update` changes what it says of itself."""

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def instance(self) -> Instance:
        return self._it.instance

    def update(self, instance: Instance) -> None:
        """Replaces it by one of the same name. Raises ValueError for another name, or another kind."""
        self._on.call(self._it.update(instance))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Provider(Mirror[AsyncProvider]):
    """`with registry.provider("billing") as provider:`, then for each request `with provider.use() as instance`.

    An instance whose uses have raised more than `tolerates` times within `rests` seconds is left out for that
    long (Curator's DownInstancePolicy); if that leaves nobody, nobody is left out. What is not known any more is
    forgotten.
    """

    @property
    def service(self) -> str:
        return self._it.service

    def load(self, instance: Instance) -> int:
        """How many uses of it are under way here: what LeastLoaded asks."""
        return self._on.do(lambda: self._it.load(instance))

    def least_loaded(self) -> Self:
        """From now on the instance with the fewest uses under way is chosen."""
        return self._view(self._on.do(lambda: self._it.least_loaded()))

    @property
    def instances(self) -> list[Instance]:
        """All that are known and enabled, those that rest included."""
        return self._on.do(lambda: self._it.instances)

    def pick(self, key: str | None = None) -> Instance:
        """One of them; `key` is what the request is about, for strategies that care. Raises NoInstance."""
        return self._on.do(lambda: self._it.pick(key))

    def use(self, key: str | None = None) -> Block[Instance]:
        """Picks one and counts its use while the block lasts; an Exception in the block counts as its fault."""
        return Block(on_the_loop(self._it.use(key)), self._on)

    def note_fault(self, instance: Instance) -> None:
        """It has not done what it should."""
        self._on.do(lambda: self._it.note_fault(instance))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Barrier(Mirror[AsyncBarrier]):
    """Who waits, waits until nobody has put it up."""

    @property
    def path(self) -> str:
        return self._it.path

    def create(self) -> bool:
        """Puts it up; whether it was down."""
        return self._on.call(self._it.create())

    def remove(self) -> bool:
        """Takes it down; whether it was up."""
        return self._on.call(self._it.remove())

    def wait(self, timeout: float | None = None) -> None:
        """Until it is down; raises TimeoutError after so many seconds."""
        self._on.call(self._it.wait(timeout))


class DoubleBarrier(Mirror[AsyncDoubleBarrier]):
    """`with` waits at its beginning until `n` members are in, at its end until all of them are out.

    A member whose session is over while it waits to go in is counted anew; later it counts as gone.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def n(self) -> int:
        return self._it.n

    def enter(self, timeout: float | None = None) -> None:
        """Until `n` are in; raises TimeoutError after so many seconds, and is out again then."""
        self._on.call(self._it.enter(timeout))

    def leave(self, timeout: float | None = None) -> None:
        """Until all are out; raises TimeoutError after so many seconds, and is out then."""
        self._on.call(self._it.leave(timeout))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Counter(Mirror[AsyncCounter[Number]]):
    """A number in a znode, which is made when it is first written. `default` is what it is before, and its type.

    A write that loses the race is tried again, after a random pause that grows. One whose answer was lost is
    raised as ConnectionLoss with `maybe_applied` unless it can be told that it was not done. With `lock_path`,
    whoever has lost `promote_after` races stands in a line there, that of Curator's PromotedToLock, so that the
    unlucky take turns.
    """

    @property
    def path(self) -> str:
        return self._it.path

    def get(self) -> Number:
        """Its value, as the server that was asked knows it."""
        return self._on.call(self._it.get())

    def add(self, n: Number) -> Number:
        """Adds `n`, which may be negative; the sum. Raises OverflowError if it does not fit the layout."""
        return self._on.call(self._it.add(n))

    def set(self, value: Number) -> None:
        """Whatever it was."""
        self._on.call(self._it.set(value))

    def compare_and_set(self, expected: Number, value: Number) -> bool:
        """Sets it if it is what was expected; whether it was."""
        return self._on.call(self._it.compare_and_set(expected, value))

    def update(self, fn: Callable[[Number], Number]) -> Number:
        """Replaces it by `fn` of it, and again if somebody else was faster; what it is then."""
        return asking(self._on, fn, lambda asked: self._it.update(asked))

    def values(self) -> Steps[Number]:
        """Its value now, and after each change; a slow reader gets the newest."""
        return Steps(self._it.values(), self._on)


class IdSequence(Mirror[AsyncIdSequence]):
    """Numbers that nobody else gets, each larger than those of earlier requests: `ids.next()`.

    A request takes `cache` numbers at a time, of which those not used are never given. The znode holds how many,
    and whoever made it decides that for all. Deleting it begins from 1 again. Nobody waits for anybody: each
    request is one write without a condition, and a lost answer leaves a gap.
    """

    @property
    def path(self) -> str:
        return self._it.path

    def next(self) -> int:
        """One more."""
        return self._on.call(self._it.next())


class Value(Mirror[AsyncValue[T]]):
    """A value in a znode; None where the znode is not there."""

    @property
    def path(self) -> str:
        return self._it.path

    def get(self) -> T | None:
        """Its value, as the server that was asked knows it."""
        return self._on.call(self._it.get())

    def read(self) -> Versioned[T] | None:
        """The same with what `swap` compares."""
        return self._on.call(self._it.read())

    def set(self, value: T) -> None:
        """Whatever it was."""
        self._on.call(self._it.set(value))

    def swap(self, seen: Versioned[T] | None, value: T) -> bool:
        """Sets it unless it has changed since `seen` was read, None standing for no znode; whether it was set.

        Raises ConnectionLoss with `maybe_applied` where nobody can tell whether it was done.
        """
        return self._on.call(self._it.swap(seen, value))

    def update(self, fn: Callable[[T | None], T]) -> T:
        """Replaces it by `fn` of it, and again if somebody else was faster; what it is then."""
        return asking(self._on, fn, lambda asked: self._it.update(asked))

    def values(self) -> Steps[T | None]:
        """Its value now, and after each write; a slow reader gets the newest."""
        return Steps(self._it.values(), self._on)


class Item(Mirror[AsyncItem]):
    """One item. `with item` deletes it at the end of the block, or gives it back if the block raises.

    `data`; `parts` are all that one entry of Curator's brings along; `attempts` is how often it was taken, this
    time included; 0 in queues that do not hold.
    """

    @property
    def parts(self) -> list[bytes]:
        return self._it.parts

    @property
    def name(self) -> str:
        return self._it.name

    @property
    def attempts(self) -> int:
        return self._it.attempts

    @property
    def data(self) -> bytes:
        """The first part; an entry without parts is empty."""
        return self._it.data

    @property
    def is_held(self) -> bool:
        """Nobody else can have it now."""
        return self._on.do(lambda: self._it.is_held)

    def check(self) -> None:
        """Raises LockLost unless nobody else can have it now."""
        self._on.do(lambda: self._it.check())

    def guard(self) -> Check:
        """For `multi`: refused with NoNode if the item is not held any more. Raises ValueError where nothing holds."""
        return self._it.guard()

    def end(self, *, is_done: bool) -> None:
        """Without a block: deletes it, or gives it back. Raises LockLost if it was done too late."""
        self._on.call(self._it.end(is_done=is_done))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Queue(Taking[AsyncQueue]):
    """`put` on one side; `for item in q.take(): with item: ...` on the other.

    `lock_path` is that of a Curator queue. `clock` is the wall clock, in seconds since 1970, that delays are
    measured by: producers and consumers should agree on the time.
    """

    @property
    def path(self) -> str:
        return self._it.path

    def put(self, data: bytes, *, priority: int = PRIORITY, delay: float | None = None, id: str | None = None) -> str:
        """Adds an item; its name. Smaller priorities, of 0 to 999, go first; nobody gets it before `delay` seconds.

        Cancelled, it leaves nothing. Raises ConnectionLoss with `maybe_applied` if the answer is lost and the
        item is not there: it was not added, or somebody was quick. An `id` is for Curator's id queue: `remove`
        takes it.
        """
        return self._on.call(self._it.put(data, priority=priority, delay=delay, id=id))

    def remove(self, id: str) -> int:
        """Takes the items with this id out of a Curator id queue, unless somebody works on them; how many they were."""
        return self._on.call(self._it.remove(id))

    def size(self) -> int:
        """How many items there are, those that are held included."""
        return self._on.call(self._it.size())

    def take(self, timeout: float | None = None) -> Steps[Item]:
        """One item after the other; ends when none has come for so many seconds.

        An item that the caller has not entered by the next turn is given back.
        """
        return Steps(mapped(self._it.take(timeout), lambda one: Item(one, self._on)), self._on)

    def get(self, timeout: float | None = None) -> Item:
        """One item, for `with`; raises TimeoutError if none has come within so many seconds."""
        return self._on.enter(
            self._it.get(timeout), lambda got: Item(got, self._on), lambda got: got.end(is_done=False)
        )


class Lease(Mirror[AsyncLease]):
    """`if lease.obtain():` it is ours for `duration` seconds; again, with the same `id`, it is ours for longer.

    With `count`, so many holders may have one at a time (MultiNonBlockingLease). `clock` is the wall clock, in
    seconds since 1970.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def duration(self) -> float:
        return self._it.duration

    @property
    def id(self) -> str:
        return self._it.id

    def obtain(self) -> bool:
        """Takes it, or renews it; whether it is ours now. Waits only for those who are asking at this moment."""
        return self._on.call(self._it.obtain())

    def release(self) -> bool:
        """Gives it up before its time; whether it was ours."""
        return self._on.call(self._it.release())

    def holders(self) -> list[Holder]:
        """Who has it now."""
        return self._on.call(self._it.holders())


class Assignment(Mirror[AsyncAssignment]):
    """A member's items until the members change: iterate it, and `with` it.

    The block is cancelled, without an error, when the items have to be given up. Without the block, ask `is_over`
    or `ended()`. They are given up when the next assignment is asked for.
    """

    @property
    def items(self) -> tuple[str, ...]:
        """What is this member's."""
        return self._it.items

    def __iter__(self) -> Iterator[str]:
        return iter(self._it)

    def __len__(self) -> int:
        return len(self._it)

    @property
    def is_over(self) -> bool:
        """The items have to be given up, or are lost."""
        return self._it.is_over

    def ended(self, timeout: float | None = None) -> str | None:
        """Returns, with the reason, when the items have to be given up.

        None after so many seconds.
        """
        return self._on.call(within(self._it.ended(), timeout))

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._on.leave(self._it.__aexit__(kind, error, trace))


class Partition(Mirror[AsyncPartition]):
    """`for mine in partition.assignments(): with mine: ...`.

    `settle`: seconds that the members must be the same before items change hands. `share` decides who gets what.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def id(self) -> str:
        return self._it.id

    @property
    def items(self) -> list[str]:
        """All that is shared out, sorted."""
        return self._it.items

    def assignments(self) -> Steps[Assignment]:
        """Our share, and again whenever the members change or the session is lost. Asking for the next one gives the
        last one up. The end of the iteration leaves the group and frees all items.
        """
        return Steps(mapped(self._it.assignments(), lambda one: Assignment(one, self._on)), self._on)


class Once(Serving[AsyncOnce]):
    """`once.run("2026-11-21", job)`: the first one to come runs it; nobody runs that key again."""

    @property
    def path(self) -> str:
        return self._it.path

    def state(self, key: str) -> KeyState:
        """Now."""
        return self._on.call(self._it.state(key))

    def wait(self, key: str, timeout: float | None = None) -> KeyState:
        """Until it is done or has failed; raises TimeoutError after so many seconds."""
        return self._on.call(self._it.wait(key, timeout))

    def forget(self, key: str) -> None:
        """The key is free again."""
        self._on.call(self._it.forget(key))

    def run(self, key: str, job: Callable[[], None]) -> bool:
        """Runs the job, here, if the key is free; whether it did. If the job raises, the key has failed."""
        return self._serve(self._it.run(key, lambda: self._called(job)))


class LeaderScheduler(Serving[AsyncLeaderScheduler]):
    """Jobs at regular times, each time run by whoever leads, one after the other, and at most once.

    `scheduler.every(60, "tidy", tidy)`, then `scheduler.run()` on each member. Times are counted from 1970 by the
    wall clock, so members agree on them; those that passed while nobody led are not made up for. What a job
    raises ends `run`, except the loss of the office.
    """

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def election(self) -> Election:
        """Who leads: see `observe`."""
        return Election(self._it.election, self._on)

    def every(self, interval: float, name: str, job: Callable[[Term], None]) -> None:
        """A job for every so many seconds. It is given the term, whose `guard()` belongs into its writes."""
        self._it.every(interval, name, lambda term: self._called(lambda: job(Term(term, self._on))))

    def run(self) -> None:
        """Stands for the office and runs the jobs, here, whenever it has it; until interrupted."""
        self._serve(self._it.run())

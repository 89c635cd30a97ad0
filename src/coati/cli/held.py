"""Running a command while something is held: lock, elect, sem.

Knows the child's times, signals and exit code; must not know how a thing is won, which is the recipes', nor how the
child is ended in time when this process cannot, which is the guardian's. The times, for a session of T seconds: the
recipe knows `vouched_until`, before which no server can end the session. The child is dead KILL_SHARE of T before
that, and is told `--grace` seconds earlier still; as the recipe asks the leader every sixth of T, there is more than
half of T left whenever all is well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast, get_args

from coati.cli.exits import CHECK_FAILED, CONFLICT, LOST, SIGNAL, USAGE, CommandError
from coati.cli.guardian import UNHEARD
from coati.cli.online import OnlineCall, OnlineCommand
from coati.recipes.claim import Claim
from coati.recipes.client import Client
from coati.recipes.election import ElectionLayout
from coati.recipes.held import Held
from coati.recipes.line import Layout

GUARDIAN: Final = Path(__file__).with_name("guardian.py")
# Shares of the session timeout.
KILL_SHARE: Final = 0.05
GRACE_SHARE: Final = 0.15
GRACE_AT_MOST: Final = 0.4
LOOK_SHARE: Final = 0.03
DEFAULT_SESSION_S: Final = 10.0
DEFAULT_GRACE_S: Final = 5.0


class Signals:
    """What others send to this process: before there is a child it ends the wait, then it is the child's."""

    def __init__(self) -> None:
        self.got: int | None = None
        self.pass_on: Callable[[int], None] | None = None
        self._task: asyncio.Task[object] | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While the block lasts."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        before = {number: signal.getsignal(number) for number in UNHEARD}
        # What is ignored (nohup, a background job of a script) stays so.
        heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        try:
            for number in heard:
                loop.add_signal_handler(number, self._on_signal, number)
        except (RuntimeError, ValueError):
            # Not the main thread: somebody else hears them.
            heard = []
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    def _on_signal(self, number: int) -> None:
        if self.pass_on is not None:
            self.pass_on(number)
        elif self.got is None and self._task is not None:
            self.got = number
            self._task.cancel()


class Times:
    """When a child has to end, on the loop's clock, which is CLOCK_MONOTONIC: never, if nothing was promised."""

    grace_s = DEFAULT_GRACE_S
    look_s = DEFAULT_GRACE_S

    def ends(self) -> tuple[float, float]:
        """When it gets SIGTERM, and when SIGKILL; later as the server answers."""
        return math.inf, math.inf


class SessionTimes(Times):
    """A child that must not outlive a session."""

    def __init__(self, zk: Client, grace_s: float | None) -> None:
        self._session = zk.session
        timeout_s = zk.session.timeout
        self.grace_s = GRACE_SHARE * timeout_s if grace_s is None else grace_s
        if not 0 <= self.grace_s <= GRACE_AT_MOST * timeout_s:
            raise CommandError(
                f"--grace is {GRACE_AT_MOST * timeout_s:g} s at most in a session of {timeout_s:g} s: see --session",
                USAGE,
            )
        self.look_s = LOOK_SHARE * timeout_s

    def ends(self) -> tuple[float, float]:
        kill_at = self._session.vouched_until - KILL_SHARE * self._session.timeout
        return kill_at - self.grace_s, kill_at


class Child:
    """A command that runs under a guardian: while `held` is ours, or, without it, until its task is cancelled.

    `stdin` is ours if nothing else is given.
    """

    def __init__(self, held: Held | None, times: Times, stdin: BinaryIO | None = None) -> None:
        self._held = held
        self._times = times
        self._stdin = stdin
        self._pid = 0
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, command: Sequence[str], environ: Mapping[str, str], signals: Signals) -> int:
        """Its exit code. Raises CommandError (LOST) if it was ended because what it relied on was lost."""
        ours, theirs = socket.socketpair()
        words = [f"{value!r}" for value in (*self._times.ends(), self._times.grace_s)]
        with theirs:
            guardian = subprocess.Popen(  # noqa: ASYNC220  # a fork, done in a moment
                [sys.executable, "-I", "-S", str(GUARDIAN), str(theirs.fileno()), *words, *command],
                env=dict(environ), pass_fds=(theirs.fileno(),), process_group=0, stdin=self._stdin,
            )  # fmt: skip
        reader, self._writer = await asyncio.open_connection(sock=ours)
        signals.pass_on = lambda number: self._say(f"S {number:d}")
        listening = asyncio.create_task(self._listen(reader))
        lost = asyncio.create_task(_never() if self._held is None else self._held.lost())
        try:
            await self._watch(listening, lost)
            if not listening.done() or (ended := listening.result()) is None:
                # The guardian is dead or stopped: the child is still its child, or nobody's.
                self._kill()
                guardian.kill()
                ended = (SIGNAL + signal.SIGKILL, lost.done())
        finally:
            signals.pass_on = None
            listening.cancel()
            lost.cancel()
            # The guardian ends the child if that still runs, and then itself.
            self._writer.close()
            await asyncio.shield(asyncio.to_thread(guardian.wait))
        code, was_told_to_end = ended
        if was_told_to_end:
            why = self._held.loss() if self._held and self._held.is_lost else "no server has answered for too long"
            raise CommandError(f"what the command relied on was lost, so it was ended: {why}", LOST)
        return code

    async def _watch(self, listening: asyncio.Task[tuple[int, bool] | None], lost: asyncio.Task[str]) -> None:
        """Until the child has ended, or had to long ago."""
        kill_at = self._times.ends()[1]
        while not listening.done() and not lost.done():
            self._say("D {!r} {!r}".format(*self._times.ends()))
            kill_at = self._times.ends()[1]
            await asyncio.wait((listening, lost), timeout=self._times.look_s, return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            self._say("L")
            left_s = min(kill_at - asyncio.get_running_loop().time(), self._times.grace_s)
            await asyncio.wait((listening,), timeout=max(left_s, 0.0) + self._times.look_s)

    async def _listen(self, reader: asyncio.StreamReader) -> tuple[int, bool] | None:
        """The exit code and whether the guardian was told to end it; None if nobody knows."""
        while line := await reader.readline():
            what, *values = line.split()
            if what == b"P":
                self._pid = int(values[0])
            elif what == b"E":
                return int(values[0]), values[1] == b"1"
        return None

    def _kill(self) -> None:
        # It may have been the guardian's parent that ended both; a group that is gone is no loss.
        with contextlib.suppress(OSError):
            if self._pid:
                os.killpg(self._pid, signal.SIGKILL)

    def _say(self, line: str) -> None:
        assert self._writer is not None
        self._writer.write(f"{line}\n".encode())


async def _never() -> str:
    """What cannot be lost."""
    return str(await asyncio.get_running_loop().create_future())


async def run_holding(call: OnlineCall, claim: AbstractAsyncContextManager[Held], zk: Client, signals: Signals) -> int:
    """Waits for it, and runs the command of the call meanwhile; its exit code."""
    options = call.options
    async with claim as held:
        times = SessionTimes(zk, options.grace)
        fence = {options.fence_env: str(held.token), "ZK_LOCK_PATH": call.path(options.path), "ZK_LOCK_NODE": held.path}
        call.out.flush()
        return await Child(held, times).run(options.child, {**call.environ, **fence}, signals)


@asynccontextmanager
async def within(claim: AbstractAsyncContextManager[Held], wait_s: float | None, what: str) -> AsyncIterator[Held]:
    """The claim, if it is won in so many seconds. Raises CommandError (CHECK_FAILED)."""
    async with contextlib.AsyncExitStack() as stack:
        held: Held | None = None
        # Not to wait at all is a question of its own: no time would be enough for the answer.
        asked = claim.try_() if isinstance(claim, Claim) and wait_s == 0 else claim
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s or None):
                held = await stack.enter_async_context(asked)
        if held is None:
            raise CommandError(f"{what} was not free within {wait_s:g} s", CHECK_FAILED)
        yield held


async def hearing(work: Callable[[Signals], Coroutine[object, object, int | None]]) -> int | None:
    """The exit code of `work`, which is cancelled by a signal while it does not pass those on."""
    signals = Signals()
    try:
        with signals.heard():
            return await work(signals)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if signals.got is None or task is None:
            raise
        task.uncancel()
        return SIGNAL + signals.got


async def _held(call: OnlineCall, claim_of: Callable[[Client], AbstractAsyncContextManager[Held]]) -> int | None:
    options = call.options
    if not options.child:
        raise CommandError("say after -- what is to run meanwhile", USAGE)

    async def work(signals: Signals) -> int:
        async with call.connect(session_timeout=options.session, on_expired="renew") as zk:
            claim = within(claim_of(zk), options.wait, call.path(options.path))
            return await run_holding(call, claim, zk, signals)

    return await hearing(work)


# --- commands -------------------------------------------------------------------------------------


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")
    parser.set_defaults(child=[])
    parser.add_argument("--wait", type=seconds, metavar="S", help="give up after so many seconds, with exit code 9")
    parser.add_argument("--fence-env", default="ZK_FENCE", metavar="NAME", help="variable of the fencing token")
    parser.add_argument("--grace", type=seconds, metavar="S", help="between SIGTERM and SIGKILL when it is lost")
    parser.add_argument(
        "--session", type=seconds, default=DEFAULT_SESSION_S, metavar="S", help="session timeout, %(default)g seconds"
    )


def seconds(text: str) -> float:
    """A number of seconds of a flag."""
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(text)
    return value


def _lock_flags(parser: argparse.ArgumentParser) -> None:
    _flags(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--shared", action="store_true", help="read side of a read/write lock: beside other readers")
    kind.add_argument("--exclusive", action="store_true", help="its write side: alone, after the readers before it")
    parser.add_argument("--id", default="", metavar="TEXT", help="what others see of who holds it")
    parser.add_argument("--layout", choices=get_args(Layout), default="native", help="whose locks take part")


async def _lock(call: OnlineCall) -> int | None:
    options = call.options

    def claim(zk: Client) -> Claim[Held]:
        path, id = call.path(options.path), os.fsencode(options.id)
        if options.shared:
            return zk.rwlock(path, id=id, on_loss="flag", layout=options.layout).read()
        if options.exclusive:
            writing = zk.rwlock(path, id=id, on_loss="flag", layout=options.layout).write()
            return cast("Claim[Held]", writing)
        return zk.lock(path, id=id, on_loss="flag", layout=options.layout)

    return await _held(call, claim)


def _elect_flags(parser: argparse.ArgumentParser) -> None:
    _flags(parser)
    parser.add_argument("--id", required=True, metavar="TEXT", help="what others see of who leads")
    parser.add_argument(
        "--layout", choices=get_args(ElectionLayout), default="native", help="whose elections take part"
    )


async def _elect(call: OnlineCall) -> int | None:
    options = call.options
    if options.wait == 0:
        raise CommandError("nobody is elected at once: --wait is more than 0", USAGE)
    return await _held(
        call,
        lambda zk: zk.election(
            call.path(options.path), id=os.fsencode(options.id), layout=options.layout, on_loss="flag"
        ),
    )


def _sem_flags(parser: argparse.ArgumentParser) -> None:
    _flags(parser)
    parser.add_argument("-n", "--permits", type=int, required=True, metavar="K", help="so many at a time")
    parser.add_argument("--id", default="", metavar="TEXT", help="what others see of who holds a place")
    parser.add_argument("--layout", choices=get_args(Layout), default="native", help="whose semaphores take part")


async def _sem(call: OnlineCall) -> int | None:
    options = call.options
    if options.permits < 1:
        raise CommandError("a semaphore has one place at least", USAGE)
    try:
        return await _held(
            call,
            lambda zk: zk.semaphore(
                call.path(options.path), options.permits,
                id=os.fsencode(options.id), layout=options.layout, on_loss="flag",
            ),
        )  # fmt: skip
    except ValueError as error:
        # Others reckon with another number of places (kazoo's layout).
        raise CommandError(str(error), CONFLICT) from None


LOCK: Final = OnlineCommand(
    "lock", _lock_flags, _lock,
    "  coati lock /locks/backup -- pg_dump -f /backups/app.sql app\n"
    "  coati lock /locks/cron/report --wait 0 -- ./report      # or exit code 9 if another machine does it\n"
    "  coati lock --shared /locks/conf -- cat app.conf",
)  # fmt: skip
ELECT: Final = OnlineCommand("elect", _elect_flags, _elect, "  coati elect /leader --id $(hostname) -- ./scheduler")
SEM: Final = OnlineCommand("sem", _sem_flags, _sem, "  coati sem /pools/gpu -n 3 --wait 60 -- ./train")

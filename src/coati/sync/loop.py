"""The loop thread: one event loop in the background, shared by all blocking clients of this process.

Knows how a call gets to the loop and its answer back; must not know what is called. Started when it is first needed.
A child process has none of it: what belongs to the parent's loop is refused there, and a new client starts a loop of
its own. At the end of the process the clients that are still open are closed, for at most `EXIT_S` seconds.

The way there is a deque, and one byte down a pipe if the loop may be asleep; the way back is a lock that the caller
waits for. `asyncio.run_coroutine_threadsafe`, with two futures, a condition variable and a socket pair, costs twice as
much.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Final, Generic, Protocol, TypeVar, cast

from coati.errors import ClientClosed, ForkedClient, ZKError

# As in the server: where uvloop is installed, a call takes three quarters of the time.
_new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with suppress(ImportError):
    import uvloop

    _new_loop = uvloop.new_event_loop

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

Undo = Callable[[T], Coroutine[object, object, object]]
"""Takes a result back."""

EXIT_S: Final = 2.0
# A signal that comes just before the thread begins to wait for a lock is not noticed before the wait has ended
# (CPython's acquire_timed releases the interpreter first): so no wait is longer.
NOTICE_S: Final = 1.0
WAKE_BYTES: Final = 512


class Job(Generic[T]):
    """A coroutine on its way through the loop. Over, it has an `error` or a `result`.

    `lock` is held until then; one caller at a time may wait for it.
    """

    __slots__ = ("_coroutine", "_task", "context", "error", "has_begun", "is_over", "lock", "loop", "result")

    result: T

    def __init__(
        self,
        loop: LoopThread,
        coroutine: Coroutine[object, object, T],
        lock: threading.Lock,
        context: Context | None = None,
    ) -> None:
        self.loop = loop
        self.lock = lock
        self.has_begun = False
        self.is_over = False
        self.error: BaseException | None = None
        self._coroutine = coroutine
        self.context = context
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the loop; again, nothing."""
        if self.has_begun:
            return
        self.has_begun = True
        self._task = self.loop.loop.create_task(self._run(), context=self.context)

    async def _run(self) -> None:
        try:
            self.result = await self._coroutine
        except BaseException as error:
            # Whatever it is, it is the caller's, who waits for it; the loop goes on.
            self._fail(error)
        finally:
            # Here, not when the task is over: that would be another turn of the loop.
            self._end()

    def _fail(self, error: BaseException) -> None:
        # Nobody but the caller, or the end of the loop, cancels it; in a thread there is no CancelledError.
        self.error = ClientClosed("the call was cancelled") if isinstance(error, asyncio.CancelledError) else error

    def _end(self) -> None:
        self.is_over = True
        self.lock.release()

    def cancel(self) -> None:
        """On the loop."""
        task = self._task
        if not self.has_begun:
            self._discard()
        elif task is not None:
            # A turn later, as a task that has not begun would be cancelled without a word to `_run`.
            self.loop.loop.call_soon(task.cancel)

    def _discard(self) -> None:
        # Whoever was interrupted may have been so before it could be handed over.
        self.has_begun = True
        self._coroutine.close()
        self._fail(asyncio.CancelledError())
        self._end()

    def outcome(self) -> T:
        """What came of it."""
        error = self.error
        if error is not None:
            try:
                raise error
            finally:
                # The traceback holds this frame: no cycle is left behind.
                del error
                self.error = None
        return self.result


class LightJob(Job[T]):
    """A Job without a task: its first step is made at once, each other one when the future it waits for is done.

    For coroutines that do not ask for their task, as asyncio.timeout does.
    """

    __slots__ = ("_is_cancelled", "_waits_for")

    def start(self) -> None:
        """On the loop; again, nothing."""
        if self.has_begun:
            return
        self.has_begun = True
        self._waits_for: asyncio.Future[object] | None = None
        self._is_cancelled = False
        self._step(None)

    def _step(self, done: asyncio.Future[object] | None) -> None:
        coroutine = self._coroutine
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                yielded = coroutine.throw(asyncio.CancelledError())
            else:
                yielded = coroutine.send(None)
        except StopIteration as stop:
            self.result = stop.value
        except BaseException as error:
            # As in `_run`.
            self._fail(error)
        else:
            if yielded is None:
                # It only gives way to others.
                self._waits_for = None
                self.loop.loop.call_soon(self._step, None)
            else:
                # Nothing else comes up to a task.
                self._waits_for = cast("asyncio.Future[object]", yielded)
                self._waits_for.add_done_callback(self._step)
            return
        self._end()

    def cancel(self) -> None:
        """On the loop."""
        if not self.has_begun:
            self._discard()
        elif self._waits_for is None or not self._waits_for.cancel():
            self._is_cancelled = True


class Closable(Protocol):
    """What must be closed before the loop ends."""

    async def aclose(self) -> None:
        """Closes it, on the loop."""


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self.ident = 0
        # Why nothing can be called any more.
        self.refusal: Callable[[], ZKError] | None = None
        # What is to be done before the process ends.
        self.open: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._inbox: deque[Callable[[], None]] = deque()
        # Locks that are held and that nobody waits for: what callers wait for, and leave for the next.
        self._locks: deque[threading.Lock] = deque()
        self._kept: dict[asyncio.Task[object], None] = {}
        self._is_awake = False
        self._is_over = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self.loop.add_reader(self._reader, self._drain)
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="coati.sync", daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        self.ident = threading.get_ident()
        started.set()
        while not self._is_over:
            # Who raises these in a callback means the main thread: the job has them already.
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        self.loop.remove_reader(self._reader)
        self.loop.close()
        os.close(self._reader)
        os.close(self._writer)

    def _drain(self) -> None:
        os.read(self._reader, WAKE_BYTES)
        # Before looking: what comes after the last look wakes the loop again.
        self._is_awake = False
        inbox = self._inbox
        try:
            while inbox:
                inbox.popleft()()
        finally:
            if inbox:
                os.write(self._writer, b"\0")

    # --- doors ------------------------------------------------------------------------------------

    def post(self, work: Callable[[], None]) -> None:
        """Has it called on the loop. Raises ForkedClient, ClientClosed. Takes no lock, so also for `__del__`."""
        if self.refusal is not None:
            raise self.refusal()
        self._inbox.append(work)
        if not self._is_awake:
            self._is_awake = True
            os.write(self._writer, b"\0")

    def job(self, coroutine: Coroutine[object, object, T], context: Context | None = None) -> Job[T]:
        """To be started in that context, by posting its `start`. Raises what `post` does, and RuntimeError on the
        loop's own thread.
        """
        self._refuse(coroutine)
        return Job(self, coroutine, self._lock(), context)

    def call(self, coroutine: Coroutine[object, object, T], context: Context | None = None) -> T:
        """Waits for it, and cancels it if something like KeyboardInterrupt comes first; raises what `job` does."""
        if self.refusal is not None or threading.get_ident() == self.ident:
            self._refuse(coroutine)
        return self._wait(Job(self, coroutine, self._lock(), context))

    def enter(
        self,
        coroutine: Coroutine[object, object, T],
        wrap: Callable[[T], R],
        undo: Undo[T],
        context: Context | None = None,
    ) -> R:
        """As `call`, for what has to be taken back unless the caller gets it, wrapped."""
        if self.refusal is not None or threading.get_ident() == self.ident:
            self._refuse(coroutine)
        job = Job(self, coroutine, self._lock(), context)
        try:
            self.post(job.start)
            while not job.is_over:
                job.lock.acquire(True, NOTICE_S)
            if job.error is None:
                # Nothing can come in between from here to the caller's block.
                return wrap(job.result)
        except BaseException:
            self.withdraw(job)
            if job.error is None:
                self.leave(undo(job.result), context)
            raise
        job.outcome()
        raise AssertionError("it has an error")

    def leave(self, coroutine: Coroutine[object, object, T], context: Context | None = None) -> T:
        """As `call`, for what ends something: an interrupt waits until it is over, only a second one cancels it."""
        if self.refusal is not None or threading.get_ident() == self.ident:
            self._refuse(coroutine)
        job = Job(self, coroutine, self._lock(), context)
        try:
            self.post(job.start)
            while not job.is_over:
                job.lock.acquire(True, NOTICE_S)
        except BaseException:
            self._finish(job)
            raise
        return job.outcome()

    def _finish(self, job: Job[T]) -> None:
        try:
            self.post(job.start)
            os.write(self._writer, b"\0")
            while not job.is_over:
                job.lock.acquire(True, NOTICE_S)
        except BaseException:
            self.withdraw(job)
            raise

    def ask(self, coroutine: Coroutine[object, object, T]) -> T:
        """As `call`, for what can be a LightJob."""
        if self.refusal is not None or threading.get_ident() == self.ident:
            self._refuse(coroutine)
        return self._wait(LightJob(self, coroutine, self._lock()))

    def _lock(self) -> threading.Lock:
        try:
            return self._locks.pop()
        except IndexError:
            lock = threading.Lock()
            lock.acquire()
            return lock

    def _wait(self, job: Job[T]) -> T:
        lock = job.lock
        try:
            self.post(job.start)
            while not lock.acquire(True, NOTICE_S):
                pass
        except BaseException:
            self.withdraw(job)
            raise
        self._locks.append(lock)
        return job.outcome()

    def withdraw(self, job: Job[T]) -> None:
        """Cancels it and waits until it is over."""
        self.post(job.cancel)
        # Whoever was interrupted may have been so between the mark and the byte.
        os.write(self._writer, b"\0")
        # Or after it had got the lock.
        while not job.is_over:
            job.lock.acquire(True, NOTICE_S)

    def _refuse(self, coroutine: Coroutine[object, object, object]) -> None:
        if self.refusal is not None:
            coroutine.close()
            raise self.refusal()
        if threading.get_ident() == self.ident:
            coroutine.close()
            raise RuntimeError("a blocking call on the thread of the loop would wait for itself for ever")

    def do(self, function: Callable[[], T]) -> T:
        """The function's result, computed on the loop."""
        return self.ask(_awaited(function))

    def keep(self, coroutine: Coroutine[object, object, object]) -> asyncio.Task[object]:
        """On the loop: a task that nobody waits for."""
        task = self.loop.create_task(coroutine)
        self._kept[task] = None
        task.add_done_callback(self._forget)
        return task

    def keep_until_done(self, coroutine: Coroutine[object, object, object]) -> None:
        """On the loop: has it run, whoever forgets it."""
        self.keep(coroutine)

    def _forget(self, task: asyncio.Task[object]) -> None:
        del self._kept[task]
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task in the background failed", exc_info=task.exception())

    # --- ends -------------------------------------------------------------------------------------

    def on_exit(self) -> None:
        """The process ends: so do the sessions that are still open, and then the loop."""
        try:
            with suppress(ZKError, TimeoutError):
                self.call(self._close_all())
        finally:
            self.refusal = _after_exit
            self._is_over = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(EXIT_S)

    async def _close_all(self) -> None:
        try:
            async with asyncio.timeout(EXIT_S):
                await asyncio.gather(*(one.aclose() for one in list(self.open)), return_exceptions=True)
        finally:
            # Calls of daemon threads.
            others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=lambda task: task.get_name())
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=EXIT_S)


async def _awaited(function: Callable[[], T]) -> T:
    return function()


def _after_exit() -> ZKError:
    return ClientClosed("the process is about to end")


def _in_child() -> ZKError:
    error = ForkedClient("this client belongs to the parent process")
    error.hint = "open a client of its own after the fork, or start workers by spawn"
    return error


class _Process:
    """The loop of this process."""

    def __init__(self) -> None:
        self.current: LoopThread | None = None
        self.lock = threading.Lock()
        # Loops of parents: never touched again, and never collected, which would touch them.
        self.foreign: list[LoopThread] = []

    def after_fork(self) -> None:
        """In the child, where only the thread that forked goes on."""
        self.lock = threading.Lock()
        if self.current is not None:
            self.current.refusal = _in_child
            self.foreign.append(self.current)
            self.current = None

    def at_exit(self) -> None:
        """Before the interpreter ends."""
        loop, self.current = self.current, None
        if loop is not None:
            loop.on_exit()


_process: Final = _Process()
os.register_at_fork(after_in_child=_process.after_fork)
atexit.register(_process.at_exit)


def running() -> LoopThread:
    """The loop of this process; it is started if need be."""
    loop = _process.current
    if loop is None:
        with _process.lock:
            loop = _process.current
            if loop is None:
                loop = _process.current = LoopThread()
    return loop

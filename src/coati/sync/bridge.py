"""What the generated classes stand on: a Bridge to the loop thread, Mirror, iterators that can be polled, loss of what
is held.

Knows nothing of verbs. Each object of the async client has one owner, the loop; its mirror only sends calls there.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Generic, Self, TypeVar

from coati.client.client import BaseClient
from coati.client.types import USE_SESSION, Timeout
from coati.errors import ClientClosed, LockLost
from coati.recipes.held import Held
from coati.sync.loop import Job, LoopThread, running

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")
C = TypeVar("C", bound=BaseClient)
H = TypeVar("H", bound=Held)

OnLoss = Callable[[LockLost], None]
"""Is called once, on a helper thread, when what was held is lost, with the reason. It may use the client."""


class Bridge:
    """The way of one client, its views and all that they return to the loop thread."""

    def __init__(self, client: BaseClient | None = None) -> None:
        self._client = client
        # A client belongs to the process that starts it; what stands alone to the one that makes it.
        self._loop = running() if client is None else None

    @property
    def loop(self) -> LoopThread:
        """Raises ClientClosed before `start`."""
        if self._loop is None:
            error = ClientClosed("the client was not started")
            error.hint = "use `with client:` or `client.start()`"
            raise error
        return self._loop

    def start(self) -> None:
        """The client is about to start."""
        self._loop = running()
        if self._client is not None:
            self._loop.open.add(self._client)

    def end(self) -> None:
        """It is closed."""
        if self._loop is not None and self._client is not None:
            self._loop.open.discard(self._client)

    def call(
        self,
        coroutine: Coroutine[object, object, T],
        undo: Callable[[], Coroutine[object, object, object]] | None = None,
    ) -> T:
        """See LoopThread.call."""
        loop = self._loop
        if loop is None:
            coroutine.close()
            loop = self.loop
        return loop.call(coroutine, undo)

    def ask(self, coroutine: Coroutine[object, object, T]) -> T:
        """See LoopThread.ask."""
        loop = self._loop
        if loop is None:
            coroutine.close()
            loop = self.loop
        return loop.ask(coroutine)

    def do(self, function: Callable[[], T]) -> T:
        """What the function returns when the loop calls it."""
        return self.loop.do(function)

    def background(self, coroutine: Coroutine[object, object, object]) -> Callable[[], None]:
        """Has it run; returns what stops it."""
        loop = self.loop
        task = loop.do(lambda: loop.keep(coroutine))
        return lambda: loop.post(lambda: _cancel(task))

    @property
    def is_ours_to_close(self) -> bool:
        """There may be something to close; what a parent process has started is not ours to end."""
        return self._loop is not None and self._loop.refusal is None

    def __del__(self) -> None:
        loop, client = self._loop, self._client
        if loop is None or client is None or loop.refusal is not None or client not in loop.open:
            return
        # Before the warning, which may be turned into an error.
        loop.post(lambda: loop.keep_until_done(client.aclose()))
        warnings.warn(f"unclosed {client!r}", ResourceWarning, source=client, stacklevel=1)


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


class Mirror(Generic[A]):
    """Stands for an object of the async client, which is used on the loop only."""

    def __init__(self, it: A, on: Bridge) -> None:
        self._it = it
        self._on = on

    def __repr__(self) -> str:
        return repr(self._it).replace("<", "<sync ", 1)


def original(mirror: Mirror[A]) -> A:
    """What it stands for."""
    return mirror._it


class Opened(Mirror[C]):
    """A client's life: `with` opens it, and what belongs to it ends with the block."""

    def start(self, *, timeout: Timeout = USE_SESSION) -> Self:
        """Connects. Raises OperationTimeout if no server takes the session in time, AuthFailed, SessionExpired."""
        self._on.start()
        try:
            self._on.call(self._it.start(timeout=timeout), self._it.aclose)
        except BaseException:
            self._on.end()
            raise
        return self

    def _view(self, it: C) -> Self:
        view = copy.copy(self)
        view._it = it
        return view

    def close(self) -> None:
        """Ends the session: its ephemerals go, watches end, waiting calls fail with ClientClosed. Can be repeated."""
        if self._on.is_ours_to_close:
            self._on.call(self._it.aclose())
            self._on.end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Polled(ABC, Generic[T]):
    """What an async iterator yields, for one thread or several: `for`, `next`, and `poll` with a timeout.

    Interrupted, or out of time, nothing is lost: the next one to ask gets what came meanwhile.
    """

    def __init__(self, on: Bridge) -> None:
        self._steps_on = on
        self._turn = threading.Lock()
        self._job: Job[T] | None = None

    @abstractmethod
    async def _advance(self) -> T:
        """On the loop: the next one, or StopAsyncIteration."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._take(-1)

    def poll(self, timeout: float = 0.0) -> T:
        """The next one, if it comes within so many seconds; raises TimeoutError, or StopIteration at the end."""
        return self._take(max(timeout, 0.0))

    def _take(self, timeout: float) -> T:
        if not self._turn.acquire(timeout=timeout):
            raise TimeoutError("another thread waits for the next one")
        try:
            job = self._job
            if job is None:
                job = self._job = self._steps_on.loop.start(self._advance())
            # Whoever was interrupted may have been so with the lock already in hand.
            while not job.is_over:
                if not job.lock.acquire(timeout=timeout):
                    self._wait_a_turn(job)
            self._job = None
            try:
                return job.outcome()
            except StopAsyncIteration:
                raise StopIteration from None
        finally:
            self._turn.release()

    def _wait_a_turn(self, job: Job[T]) -> None:
        # What is there already comes in the first step of the job's task: that is made before this one's.
        self._steps_on.call(_nothing())
        if not job.is_over:
            raise TimeoutError("nothing came in time")

    def _withdraw(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.loop.withdraw(job)


async def _nothing() -> None:
    return None


class Steps(Polled[T]):
    """Iterates over what a method of the async client returned; `close`, or the end of its block, ends it early."""

    def __init__(self, it: AsyncIterator[T], on: Bridge) -> None:
        super().__init__(on)
        self._it = it

    async def _advance(self) -> T:
        return await anext(self._it)

    def close(self) -> None:
        """Ends it. Can be repeated."""
        self._withdraw()
        if isinstance(self._it, AsyncGenerator):
            self._steps_on.call(self._it.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def mapped(it: AsyncIterator[A], wrap: Callable[[A], T]) -> AsyncGenerator[T, None]:
    """Each of them, wrapped."""
    async for one in it:
        yield wrap(one)


class PolledMirror(Mirror[A], Polled[T], Generic[A, T]):
    """Stands for an async iterator with a life of its own."""

    def __init__(self, it: A, on: Bridge) -> None:
        Mirror.__init__(self, it, on)
        Polled.__init__(self, on)


class _Asked(Exception):
    """The function's value is needed to go on."""


def asking(
    on: Bridge, function: Callable[[A], T], call: Callable[[Callable[[A], T]], Coroutine[object, object, R]]
) -> R:
    """A call that needs a function of the caller's, which is called here: it may wait, and the loop must not.

    The coroutine breaks off where it needs a value it does not have, and begins again when it has it.
    """
    questions: list[A] = []
    answers: list[T] = []

    def asked(question: A) -> T:
        if questions and questions[-1] == question and answers:
            return answers[-1]
        questions.append(question)
        raise _Asked

    while True:
        try:
            return on.call(call(asked))
        except _Asked:
            answers[:] = [function(questions[-1])]


# --- what is held ---------------------------------------------------------------------------------


class Holding(Mirror[H]):
    """What is held: `check`, `is_held` and `lost` tell whether it still is. Nothing interrupts the block."""

    def lost(self, timeout: float | None = None) -> str | None:
        """Waits until it is lost and returns the reason; None if it is still held after so many seconds."""
        return self._on.call(_within(self._it.lost(), timeout))


class Winning(Mirror[A]):
    """A block around something held. A thread cannot be cancelled: `on_loss` is told instead, on a helper thread."""

    def __init__(self, it: A, on: Bridge, on_loss: OnLoss | None = None) -> None:
        super().__init__(it, on)
        self._on_loss = on_loss
        self._stop: Callable[[], None] | None = None

    def _watch_over(self, held: H) -> H:
        if self._on_loss is not None:
            self._stop = self._on.background(_tell(held, self._on_loss))
        return held

    def _let_go(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()


async def _within(coroutine: Coroutine[object, object, T], timeout: float | None) -> T | None:
    try:
        async with asyncio.timeout(timeout):
            return await coroutine
    except TimeoutError:
        return None


async def _tell(held: Held, on_loss: OnLoss) -> None:
    await held.lost()
    # Not on the loop: what the callback does may wait for the loop.
    threading.Thread(target=on_loss, args=(held.loss(),), name="coati.on_loss", daemon=True).start()

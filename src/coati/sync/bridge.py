"""What the generated classes stand on: a Bridge to the loop thread, Mirror, iterators that can be polled, loss of what
is held.

Knows nothing of verbs. Each object of the async client has one owner, the loop; its mirror only sends calls there.
"""

from __future__ import annotations

import asyncio
import copy
import queue
import threading
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from contextvars import Context, copy_context
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

from coati.client.client import BaseClient
from coati.client.types import USE_SESSION, Timeout
from coati.errors import ClientClosed, LockLost
from coati.recipes.claim import HOLDER
from coati.sync.loop import NOTICE_S, Job, LoopThread, Undo, running

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")
C = TypeVar("C", bound=BaseClient)

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

    def call(self, coroutine: Coroutine[object, object, T]) -> T:
        """See LoopThread.call; and `enter` and `leave`."""
        return self._loop_for(coroutine).call(coroutine, _as_thread())

    def enter(self, coroutine: Coroutine[object, object, T], wrap: Callable[[T], R], undo: Undo[T]) -> R:
        """See LoopThread.enter."""
        return self._loop_for(coroutine).enter(coroutine, wrap, undo, _as_thread())

    def leave(self, coroutine: Coroutine[object, object, T]) -> T:
        """See LoopThread.leave."""
        return self._loop_for(coroutine).leave(coroutine, _as_thread())

    def ask(self, coroutine: Coroutine[object, object, T]) -> T:
        """See LoopThread.ask."""
        return self._loop_for(coroutine).ask(coroutine)

    def _loop_for(self, coroutine: Coroutine[object, object, object]) -> LoopThread:
        if self._loop is None:
            coroutine.close()
        return self._loop or self.loop

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


def _as_thread() -> Context:
    # Each call is a task of its own: what was acquired by one belongs to the thread, and is released by another.
    context = copy_context()
    context.run(HOLDER.set, threading.current_thread())
    return context


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


class Mirror(Generic[A]):
    """Stands for an object of the async client, which is used on the loop only."""

    def __init__(self, it: A, on: Bridge) -> None:
        self._it = it
        self._on = on

    def __repr__(self) -> str:
        return repr(self._it).replace("<", "<sync ", 1)

    @staticmethod
    def original(mirror: Mirror[T]) -> T:
        """What it stands for."""
        return mirror._it

    def _view(self, it: A) -> Self:
        view = copy.copy(self)
        view._it = it
        return view


class Taking(Mirror[A]):
    """Gives away what is then its caller's."""


class Opened(Mirror[C]):
    """A client's life: `with` opens it, and what belongs to it ends with the block."""

    def start(self, *, timeout: Timeout = USE_SESSION) -> Self:
        """Connects. Raises OperationTimeout if no server takes the session in time, AuthFailed, SessionExpired."""
        self._on.start()
        try:
            return self._on.enter(self._it.start(timeout=timeout), lambda _: self, lambda it: it.aclose())
        except BaseException:
            self._on.end()
            raise

    def close(self) -> None:
        """Ends the session: its ephemerals go, watches end, waiting calls fail with ClientClosed. Can be repeated."""
        if self._on.is_ours_to_close:
            self._on.leave(self._it.aclose())
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
        self._prepare(on)

    def _prepare(self, on: Bridge) -> None:
        self._steps_on = on
        # One after the other, whoever asks.
        self._order = asyncio.Lock()
        # Those that nobody waits for any more: the next one to ask does.
        self._left: deque[Job[T]] = deque()

    @abstractmethod
    async def _advance(self) -> T:
        """On the loop: the next one, or StopAsyncIteration."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._take(-1)

    def poll(self, timeout: float | None = None) -> T:
        """The next one; raises TimeoutError after so many seconds (0 takes what is there), StopIteration at the end."""
        return self._take(-1 if timeout is None else max(timeout, 0.0))

    async def _next(self) -> T:
        async with self._order:
            return await self._advance()

    def _take(self, timeout: float) -> T:
        loop = self._steps_on.loop
        try:
            job = self._left.popleft()
        except IndexError:
            job = loop.job(self._next())
        try:
            if not job.has_begun:
                loop.post(job.start)
            while not job.is_over:
                if not job.lock.acquire(timeout=timeout):
                    self._wait_a_turn(job)
            if job.error is None:
                return job.result
        except BaseException:
            self._left.appendleft(job)
            raise
        try:
            return job.outcome()
        except StopAsyncIteration:
            raise StopIteration from None

    def _wait_a_turn(self, job: Job[T]) -> None:
        # What is there already comes in the first step of the job's task: that is made before this one's.
        self._steps_on.call(_nothing())
        if not job.is_over:
            raise TimeoutError("nothing came in time")

    def _withdraw(self) -> None:
        while self._left:
            job = self._left.popleft()
            job.loop.withdraw(job)

    def __del__(self) -> None:
        for job in self._left:
            if job.loop.refusal is None:
                job.loop.post(job.cancel)


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
        self._steps_on.call(_end(self._it))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class Endable(Protocol):
    """An async generator, to be ended before its end."""

    async def aclose(self) -> None: ...


async def _end(it: AsyncIterator[object]) -> None:
    if isinstance(it, Endable):
        await it.aclose()


async def mapped(it: AsyncIterator[A], wrap: Callable[[A], T]) -> AsyncGenerator[T, None]:
    """Each of them, wrapped."""
    try:
        async for one in it:
            yield wrap(one)
    finally:
        await _end(it)


class PolledMirror(Mirror[A], Polled[T], Generic[A, T]):
    """Stands for an async iterator with a life of its own."""

    def __init__(self, it: A, on: Bridge) -> None:
        super().__init__(it, on)
        self._prepare(on)


class Block(Generic[T]):
    """`with` around what is `async with` there."""

    def __init__(self, it: AbstractAsyncContextManager[T, bool | None], on: Bridge) -> None:
        self._it = it
        self._on = on

    def __enter__(self) -> T:
        return self._on.enter(self._it.__aenter__(), lambda got: got, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._on.leave(self._it.__aexit__(kind, error, trace))


@asynccontextmanager
async def on_the_loop(block: AbstractContextManager[T, bool | None]) -> AsyncGenerator[T, None]:
    """Enters and leaves a plain block there."""
    with block as got:
        yield got


@asynccontextmanager
async def showing(
    block: AbstractAsyncContextManager[A, bool | None], wrap: Callable[[A], T]
) -> AsyncGenerator[T, None]:
    """The same block, and what it gives wrapped."""
    async with block as got:
        yield wrap(got)


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


class Serving(Mirror[A]):
    """Runs functions of the caller's for a coroutine that awaits them, on the thread that waits for the coroutine."""

    def __init__(self, it: A, on: Bridge) -> None:
        super().__init__(it, on)
        self._work: queue.SimpleQueue[Callable[[], None] | None] | None = None

    def _serve(self, coroutine: Coroutine[object, object, T]) -> T:
        """The coroutine's result; what it has called by `_called` until then is run here."""
        if self._work is not None:
            coroutine.close()
            raise RuntimeError("this runs already")
        work = self._work = queue.SimpleQueue()

        async def served() -> T:
            try:
                return await coroutine
            finally:
                work.put(None)

        try:
            job = self._on.loop.job(served(), _as_thread())
        except BaseException:
            coroutine.close()
            self._work = None
            raise
        try:
            job.loop.post(job.start)
            while (one := work.get()) is not None:
                one()
            while not job.is_over:
                job.lock.acquire(True, NOTICE_S)
        except BaseException:
            job.loop.withdraw(job)
            raise
        finally:
            self._work = None
        return job.outcome()

    async def _called(self, function: Callable[[], T]) -> T:
        """On the loop: what the function returned, or raised, where `_serve` waits."""
        loop, work = self._on.loop, self._work
        assert work is not None
        answer: asyncio.Future[T] = loop.loop.create_future()

        def run() -> None:
            try:
                result = function()
            except Exception as error:
                failure = error
                loop.post(lambda: None if answer.done() else answer.set_exception(failure))
            else:
                loop.post(lambda: None if answer.done() else answer.set_result(result))

        work.put(run)
        return await answer


# --- what is held ---------------------------------------------------------------------------------


class Losable(Protocol):
    """Something of the async client that can be lost."""

    async def lost(self) -> str: ...

    def loss(self) -> LockLost: ...


H = TypeVar("H", bound=Losable)


class Winning(Mirror[A]):
    """Something held, or what leads to it. A block in a thread cannot be cancelled: `on_loss` is called instead."""

    def __init__(self, it: A, on: Bridge, on_loss: OnLoss | None = None) -> None:
        super().__init__(it, on)
        self._on_loss = on_loss
        # By thread, since one object may have a block in each.
        self._stops: dict[int, list[Callable[[], None]]] = {}

    def _watch_over(self, held: H) -> H:
        if self._on_loss is not None:
            stop = self._on.background(_tell(held, self._on_loss))
            self._stops.setdefault(threading.get_ident(), []).append(stop)
        return held

    def _entered(self, held: Losable) -> Self:
        self._watch_over(held)
        return self

    def _let_go(self) -> None:
        stops = self._stops.get(threading.get_ident())
        if stops:
            stops.pop()()
            if not stops:
                del self._stops[threading.get_ident()]


def if_any(undo: Undo[T]) -> Undo[T | None]:
    """Takes back what there is, if there is something."""

    async def undone(got: T | None) -> None:
        if got is not None:
            await undo(got)

    return undone


async def within(coroutine: Coroutine[object, object, T], timeout: float | None) -> T | None:
    """Its result; None after so many seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await coroutine
    except TimeoutError:
        return None


async def happened(coroutine: Coroutine[object, object, None], timeout: float | None) -> bool:
    """Whether it came to its end within so many seconds."""
    try:
        async with asyncio.timeout(timeout):
            await coroutine
    except TimeoutError:
        return False
    return True


async def _tell(held: Losable, on_loss: OnLoss) -> None:
    await held.lost()
    # Not on the loop: what the callback does may wait for the loop.
    threading.Thread(target=on_loss, args=(held.loss(),), name="coati.on_loss", daemon=True).start()

"""The loop thread: hand-over, interrupts, errors, ends."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar, copy_context
from itertools import count, takewhile

import pytest

from coati import ClientClosed
from coati.sync import loop as module
from coati.sync.loop import Job, LoopThread, running
from tests.sync.kit import interrupted_when, until


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopThread]:
    if request.param == "asyncio":
        monkeypatch.setattr(module, "_new_loop", asyncio.new_event_loop)
    made = LoopThread()
    yield made
    made.on_exit()


class Turn:
    """Awaited, it lets the others have theirs, and waits for nothing."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def value() -> int:
    return 7


async def slow() -> int:
    for _ in range(3):
        await Turn()
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(0.001, later.set_result, None)
    await later
    return 8


async def fail() -> int:
    raise KeyError("x")


async def leave() -> int:
    raise SystemExit(3)


@pytest.mark.parametrize("way", ["call", "ask"])
def test_a_coroutines_result_and_error_come_back(loop: LoopThread, way: str) -> None:
    call: Callable[[Coroutine[object, object, int]], int] = loop.call if way == "call" else loop.ask
    assert call(value()) == 7
    assert call(slow()) == 8
    with pytest.raises(KeyError):
        call(fail())
    with pytest.raises(SystemExit):
        call(leave())
    # And the loop goes on.
    assert call(value()) == 7
    assert loop.do(threading.get_ident) == loop.ident


def test_a_callback_that_wants_to_leave_the_process_does_not_stop_the_loop(loop: LoopThread) -> None:
    def stop() -> None:
        raise SystemExit

    loop.post(stop)
    assert loop.call(value()) == 7


@pytest.mark.parametrize("way", ["call", "ask"])
def test_calls_of_many_threads_at_once(loop: LoopThread, way: str) -> None:
    call: Callable[[Coroutine[object, object, int]], int] = loop.call if way == "call" else loop.ask
    got: list[list[int]] = [[] for _ in range(8)]

    async def echo(number: int) -> int:
        await Turn()
        return number

    def work(mine: list[int], base: int) -> None:
        for number in range(base, base + 200):
            mine.append(call(echo(number)))

    threads = [threading.Thread(target=work, args=(mine, 1000 * at)) for at, mine in enumerate(got)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [list(range(1000 * at, 1000 * at + 200)) for at in range(8)]


class Waits:
    """A coroutine that is entered, waits for ever, and says whether it was cancelled."""

    def __init__(self) -> None:
        self.is_inside = False
        self.was_cancelled = False
        self.interrupted_once = False

    async def forever(self) -> int:
        self.is_inside = True
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return 0

    async def stubborn(self) -> int:
        self.is_inside = True
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.was_cancelled = True
        return 5

    async def busy(self) -> int:
        """Never waits for anything."""
        self.is_inside = True
        try:
            for _ in count():
                await Turn()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return 0


@pytest.mark.parametrize("way", ["call", "ask"])
@pytest.mark.parametrize("what", ["forever", "busy"])
def test_an_interrupt_cancels_the_call(loop: LoopThread, way: str, what: str) -> None:
    waits = Waits()
    call: Callable[[Coroutine[object, object, int]], int] = loop.call if way == "call" else loop.ask
    with interrupted_when(lambda: waits.is_inside), pytest.raises(KeyboardInterrupt):
        call(waits.forever() if what == "forever" else waits.busy())
    assert waits.was_cancelled
    assert call(value()) == 7


def test_what_an_interrupt_came_too_late_for_is_undone(loop: LoopThread) -> None:
    waits = Waits()
    undone: list[int] = []

    variable: ContextVar[int] = ContextVar("variable")
    context = copy_context()
    context.run(variable.set, 3)

    async def undo(result: int) -> None:
        undone.append(result)
        undone.append(variable.get())

    with interrupted_when(lambda: waits.is_inside), pytest.raises(KeyboardInterrupt):
        loop.call(waits.stubborn(), undo, context)
    assert undone == [5, 3]
    other = Waits()
    with interrupted_when(lambda: other.is_inside), pytest.raises(KeyboardInterrupt):
        loop.call(other.forever(), undo)
    assert undone == [5, 3]


def test_a_signal_handler_may_call_while_a_call_waits(loop: LoopThread) -> None:
    waits = Waits()
    inner: list[int] = []

    async def finish() -> int:
        waits.is_inside = True
        for _ in takewhile(lambda _: not inner, count()):
            await Turn()
        return 1

    def handler(signum: int, frame: object) -> None:
        inner.append(loop.call(value()))

    old = signal.signal(signal.SIGINT, handler)
    try:
        with interrupted_when(lambda: waits.is_inside):
            assert loop.call(finish()) == 1
    finally:
        signal.signal(signal.SIGINT, old)
    assert inner == [7]


def test_a_job_that_has_not_begun_is_cancelled(loop: LoopThread) -> None:
    begun = loop.call(_start_and_cancel(loop))
    until(lambda: begun.is_over)
    with pytest.raises(ClientClosed):
        begun.outcome()


async def _start_and_cancel(loop: LoopThread) -> Job[int]:
    lock = threading.Lock()
    lock.acquire()
    job = Job(loop, Waits().forever(), lock)
    job.cancel()
    job.start()
    job.cancel()
    return job


def test_a_blocking_call_on_the_loops_own_thread_is_refused(loop: LoopThread) -> None:
    def call() -> int:
        return loop.call(value())

    def ask() -> int:
        return loop.ask(value())

    def start() -> Job[int]:
        return loop.start(value())

    for refused in (call, ask, start):
        with pytest.raises(RuntimeError, match="wait for itself"):
            loop.do(refused)


def test_after_the_end_calls_are_refused() -> None:
    loop = LoopThread()
    loop.on_exit()
    for call in (loop.call, loop.ask, loop.start):
        with pytest.raises(ClientClosed, match="about to end"):
            call(value())
    with pytest.raises(ClientClosed):
        loop.post(lambda: None)


def test_a_task_that_fails_in_the_background_is_logged(loop: LoopThread, caplog: pytest.LogCaptureFixture) -> None:
    loop.do(lambda: loop.keep_until_done(fail()))
    loop.do(lambda: loop.keep_until_done(slow()))
    until(lambda: bool(caplog.records))
    assert "in the background" in caplog.text


def test_there_is_one_loop_for_the_process() -> None:
    found: list[LoopThread] = []
    threads = [threading.Thread(target=lambda: found.append(running())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [running()] * 4
    assert sum(thread.name == "coati.sync" for thread in threading.enumerate()) >= 1

"""The loop on virtual time, by itself: hours are over at once, numbers make the order, and nothing real is reached."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Coroutine, Iterator

import pytest

from coati.testing.clock import BOOT_MS, SimClock
from coati.testing.loop import COLLECT_TURNS, SPIN_TURNS, Deadlock, SimLoop, pass_time


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop(SimClock())
    yield loop
    for task in loop.all_tasks():
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_hours_are_over_at_once(loop: SimLoop) -> None:
    began = time.perf_counter()
    loop.run_until_complete(pass_time(100 * 3600))
    assert time.perf_counter() - began < 5
    assert loop.clock.now_ms == BOOT_MS + 100 * 3_600_000
    assert loop.time() == loop.clock.now_ms / 1000


def test_time_passes_on_virtual_loops_only() -> None:
    with pytest.raises(AssertionError, match="real time"):
        asyncio.run(pass_time(1))


@pytest.mark.parametrize("seconds", [0.001, 0.0011, 0.1, 0.3, 1 / 3, 2.7, 86_400.7])
def test_a_sleep_takes_its_time_rounded_up_to_a_millisecond(loop: SimLoop, seconds: float) -> None:
    loop.run_until_complete(pass_time(seconds))
    assert seconds * 1000 - 0.01 <= loop.clock.now_ms - BOOT_MS < seconds * 1000 + 1


def test_timers_and_events_of_the_clock_share_one_time(loop: SimLoop) -> None:
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        begin_ms = loop.clock.now_ms
        for after_ms in (5, 15, 25):
            loop.clock.call_at(begin_ms + after_ms, lambda: seen.append(("clock", loop.clock.now_ms - begin_ms)))
        for _ in range(3):
            await pass_time(0.01)
            seen.append(("loop", loop.clock.now_ms - begin_ms))

    loop.run_until_complete(main())
    assert seen == [("clock", 5), ("loop", 10), ("clock", 15), ("loop", 20), ("clock", 25), ("loop", 30)]


def test_an_event_of_the_clock_wakes_who_waits_without_a_timer(loop: SimLoop) -> None:
    async def main() -> int:
        waiter: asyncio.Future[int] = loop.create_future()
        loop.clock.call_at(loop.clock.now_ms + 7, lambda: waiter.set_result(loop.clock.now_ms - BOOT_MS))
        return await waiter

    assert loop.run_until_complete(main()) == 7


def test_who_polls_without_a_timer_sees_time_pass(loop: SimLoop) -> None:
    async def main() -> None:
        done: list[int] = []
        loop.clock.call_at(loop.clock.now_ms + 20, lambda: done.append(1))
        while not done:  # noqa: ASYNC110  # that is the point
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert loop.clock.now_ms == BOOT_MS + 20


def test_a_timeout_ends_what_never_comes(loop: SimLoop) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(main())
    assert loop.clock.now_ms == BOOT_MS + 30_000


def test_a_deadlock_shows_the_stacks(loop: SimLoop) -> None:
    async def waits_for_godot() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match=r"nothing is scheduled(.|\n)*waits_for_godot"):
        loop.run_until_complete(waits_for_godot())


def test_nobody_is_waited_for_who_does_not_come(loop: SimLoop) -> None:
    def tick() -> None:
        loop.clock.call_at(loop.clock.now_ms + 100, tick)

    tick()
    with pytest.raises(Deadlock, match="nothing has happened for 300 virtual seconds"):
        loop.run_until_complete(asyncio.Event().wait())


def test_a_run_has_an_end(loop: SimLoop) -> None:
    loop.set_limit(10)

    async def turns() -> None:
        for _ in range(100):
            await pass_time(1)

    with pytest.raises(Deadlock, match="not over after 10 virtual seconds"):
        loop.run_until_complete(turns())


def _cancelled_in(ballast: int) -> list[int]:
    """In which order a TaskGroup cancels its children, with so many other objects around."""
    loop = SimLoop(SimClock())
    order: list[int] = []
    kept: list[object] = []

    async def child(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append(number)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                kept.extend(bytearray(number * 7 % 50) for _ in range(ballast))
                group.create_task(child(number))
            await pass_time(1)
            raise ValueError

    with pytest.raises(ExceptionGroup):
        loop.run_until_complete(main())
    loop.close()
    return order


def test_a_task_group_cancels_in_an_order_that_no_address_decides() -> None:
    orders = [_cancelled_in(ballast) for ballast in (0, 3, 50)]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(30))


def test_tasks_and_futures_hash_by_number(loop: SimLoop) -> None:
    async def main() -> tuple[int, int, int]:
        first: asyncio.Future[None] = loop.create_future()
        task = asyncio.create_task(asyncio.sleep(0))
        second: asyncio.Future[None] = loop.create_future()
        done, _ = await asyncio.wait({task})
        assert done == {task}
        return hash(first), hash(task), hash(second)

    assert loop.run_until_complete(main()) == (2, 3, 4)


def test_tasks_are_named_by_number_unless_they_have_a_name(loop: SimLoop) -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(asyncio.sleep(0), name="mine")]
        await asyncio.gather(*tasks)
        return [task.get_name() for task in tasks]

    assert loop.run_until_complete(main()) == ["Task-2", "mine"]


async def _thread() -> None:
    await asyncio.to_thread(int)


async def _process() -> None:
    await asyncio.create_subprocess_exec("true")


async def _shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _server() -> None:
    await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)


async def _tls() -> None:
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, "m1", 2181, ssl=True)


async def _dial() -> None:
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, "m1", 2181)


async def _real_socket() -> None:
    await asyncio.get_running_loop().create_connection(asyncio.Protocol)


async def _name() -> None:
    await asyncio.get_running_loop().getaddrinfo("m1", 2181)


async def _signal() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, int)


async def _eager() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    coro = asyncio.sleep(0)
    try:
        await loop.create_task(coro, eager_start=True)
    finally:
        coro.close()


@pytest.mark.parametrize(
    "door", [_thread, _process, _shell, _server, _tls, _dial, _real_socket, _name, _signal, _eager]
)
def test_what_would_leave_the_simulation_is_refused(
    loop: SimLoop, door: Callable[[], Coroutine[object, object, None]]
) -> None:
    with pytest.raises(NotImplementedError, match="there is none in a simulation"):
        loop.run_until_complete(door())


# What else a loop of asyncio has, and how many arguments it wants.
REFUSED = {
    "run_in_executor": 2,
    "set_default_executor": 1,
    "set_task_factory": 1,
    "add_signal_handler": 2,
    "remove_signal_handler": 1,
    "subprocess_shell": 2,
    "subprocess_exec": 2,
    "add_reader": 2,
    "remove_reader": 1,
    "add_writer": 2,
    "remove_writer": 1,
    "create_server": 1,
    "create_unix_connection": 1,
    "create_unix_server": 1,
    "create_datagram_endpoint": 1,
    "connect_accepted_socket": 2,
    "connect_read_pipe": 2,
    "connect_write_pipe": 2,
    "start_tls": 3,
    "sendfile": 2,
    "getnameinfo": 1,
    "sock_recv": 2,
    "sock_recv_into": 2,
    "sock_recvfrom": 2,
    "sock_recvfrom_into": 2,
    "sock_sendto": 3,
    "sock_sendall": 2,
    "sock_sendfile": 2,
    "sock_connect": 2,
    "sock_accept": 1,
}
# What works as in any loop.
WORKS = frozenset(
    (
        *("call_at", "call_exception_handler", "call_later", "call_soon", "call_soon_threadsafe", "close"),
        *("create_connection", "create_future", "create_task", "default_exception_handler", "get_debug"),
        *("get_exception_handler", "get_task_factory", "getaddrinfo", "is_closed", "is_running", "run_forever"),
        *("run_until_complete", "set_debug", "set_exception_handler", "shutdown_asyncgens"),
        *("shutdown_default_executor", "stop", "time"),
    )
)


@pytest.mark.parametrize(("name", "count"), REFUSED.items())
def test_no_door_to_the_world_is_open(loop: SimLoop, name: str, count: int) -> None:
    with pytest.raises(NotImplementedError, match="there is none in a simulation"):
        getattr(loop, name)(*[None] * count)


def test_every_door_of_a_loop_is_known() -> None:
    names = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")}
    assert names == WORKS | REFUSED.keys()


def test_calls_of_another_thread_are_refused(loop: SimLoop) -> None:
    loop.call_soon_threadsafe(int)
    loop._thread += 1
    with pytest.raises(NotImplementedError, match="another thread"):
        loop.call_soon_threadsafe(int)


def test_timers_are_forgotten_when_they_are_over(loop: SimLoop) -> None:
    async def main() -> int:
        kept = loop.call_later(5000, int)
        for _ in range(1000):
            async with asyncio.timeout(100):
                await pass_time(0.001)
        assert loop.live_timers() == [kept]
        kept.cancel()
        assert not loop.live_timers()
        return len(loop._timers)

    assert loop.run_until_complete(main()) < 300


def _died_ms(ballast: int) -> int:
    """When a cycle that nobody needs is finalized, with so many other objects made meanwhile."""
    loop = SimLoop(SimClock())
    died: list[int] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            died.append(loop.clock.now_ms)

    async def main() -> None:
        Cycle()
        kept: list[list[list[int]]] = []
        for _ in range(COLLECT_TURNS + 1):
            kept.append([[] for _ in range(ballast)])
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    (when_ms,) = died
    return when_ms


def test_garbage_is_collected_after_so_many_turns_and_not_before() -> None:
    """Its finalizers are part of the run, and Python would run them when enough has been allocated."""
    gc.disable()
    gc.freeze()
    try:
        lives = [_died_ms(ballast) - BOOT_MS for ballast in (0, 5)]
    finally:
        gc.unfreeze()
        gc.enable()
    assert lives == [COLLECT_TURNS // SPIN_TURNS - 1] * 2

"""What tests of recipes need: clients on a real server, conditions with a deadline, and a cancel at every await."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

import coati
from tests.interop.peers import Server

T = TypeVar("T")
DEADLINE_S = 60.0
_numbers = itertools.count(1)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it on a new loop, with a deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(bounded())


def fresh_path() -> str:
    """A path that no other test uses; it is not created."""
    return f"/recipes{next(_numbers)}"


@asynccontextmanager
async def clients(server: Server, count: int, **options: Any) -> AsyncIterator[list[coati.Client]]:
    """So many sessions of their own."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(coati.Client(server.address, **{"session_timeout": 20.0, **options}))
            for _ in range(count)
        ]


async def forever() -> None:
    """Until it is cancelled."""
    await asyncio.get_running_loop().create_future()


async def until(holds: Callable[[], Awaitable[object]], what: str) -> None:
    """Asks again and again, each time with a trip to the server or a turn of the loop."""
    try:
        async with asyncio.timeout(DEADLINE_S / 2):
            while not await holds():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


async def names(zk: coati.Client, path: str) -> list[str]:
    """The children, none if it is not there."""
    try:
        return await zk.children(path)
    except coati.NoNode:
        return []


async def until_queued(zk: coati.Client, path: str, count: int) -> None:
    """So many contenders stand there."""

    async def is_so() -> bool:
        return len(await names(zk, path)) == count

    await until(is_so, f"{count} contenders in {path}")


async def expire(zk: coati.Client, server: Server) -> None:
    """Another client takes the session over and closes it: the server ends it."""
    token = zk.session.token
    thief = coati.Client(server.address, resume=token, on_expired="raise")
    await thief.start()
    await thief.aclose()


async def expire_surely(zk: coati.Client, server: Server) -> None:
    """As `expire`, and again if its own client has taken the session back in between, as on a busy machine."""
    ended: list[str] = []
    zk.session.on_end(ended.append)
    while not ended:
        with suppress(coati.ZKError):
            await expire(zk, server)
        with suppress(coati.ZKError):
            await zk.exists("/")


class CancelAt(Awaitable[T]):
    """Awaits `work` in a task, which is cancelled when it waits for the `at`th time; `was_reached` says if it did.

    `late`: the cancel comes when what was waited for has happened already, and the task is about to go on.
    """

    def __init__(self, work: Coroutine[Any, Any, T], at: int, *, late: bool) -> None:
        self._work = work
        self._at = at
        self._late = late
        self.was_reached = False

    def __await__(self) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        waits = 0
        error: BaseException | None = None
        while True:
            try:
                future = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what the coroutine returned
            waits += 1
            if waits == self._at:
                self.was_reached = True
                if self._late and future is not None:
                    # Ahead of the task's own callback.
                    future.add_done_callback(lambda _: task.cancel())
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            try:
                error = None
                yield future
            except BaseException as thrown:
                error = thrown

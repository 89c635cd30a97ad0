"""An ensemble on a loop of its own in a thread of its own, so that tests on any loop, or on none, can use and break it.

Knows how a call gets to that loop and its outcome back. Each verb begins at once and returns a `Done`: a coroutine
awaits it, anybody else asks for its `result`.
Invariant: nothing of the ensemble is touched on another thread but through `Background`.
"""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from hashlib import sha1
from random import Random
from typing import Final, Generic, TypeVar

from coati.client.client import BaseClient
from coati.client.types import Digest
from coati.testing.ensemble import BackendName, Ensemble, HasSession, Member, Token
from coati.testing.handles import Done, Shape, emptied
from coati.testing.memory import MemoryBackend

T = TypeVar("T")

# Far beyond what any verb takes; a loop that is stuck fails a test instead of hanging it.
RESULT_S: Final = 120.0
SUPER: Final = ("super", "coati-tests")
SUPER_KEY: Final = "DigestAuthenticationProvider.superDigest"


class ThreadDone(Generic[T]):
    """A Done of the ensemble's own loop, for any other thread."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[object, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout: float | None = RESULT_S) -> T:
        """Waits for it, blocking, so many seconds. Raises what the verb raises, and TimeoutError."""
        return self._future.result(timeout)


class Background:
    """A loop in a daemon thread, which begins with the first call."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[object, object, T]) -> ThreadDone[T]:
        """Runs a coroutine there."""
        if self._loop is None:
            self._start()
        assert self._loop is not None, "it has been started"
        return ThreadDone(asyncio.run_coroutine_threadsafe(work, self._loop))

    def ask(self, question: Callable[[], T]) -> T:
        """What a function returns there."""

        async def answer() -> T:
            return question()

        return self.run(answer()).result()

    def _start(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="coati-ensembles", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends loop and thread; what still runs there is cancelled."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(RESULT_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class BackgroundEnsemble:
    """coati.testing.handles.AnyEnsemble of an Ensemble in the background."""

    def __init__(self, background: Background, ensemble: Ensemble) -> None:
        self._background = background
        self._ensemble = ensemble
        self._keeper: BaseClient | None = None

    def __repr__(self) -> str:
        return repr(self._ensemble)

    # What there is.

    @property
    def hosts(self) -> str:
        """Where clients connect."""
        return self._ensemble.hosts

    def hosts_of(self, sid: int) -> str:
        """Where clients connect to reach one member."""
        return self._ensemble.hosts_of(sid)

    @property
    def seed(self) -> int:
        return self._ensemble.seed

    @property
    def sids(self) -> list[int]:
        """The members' numbers."""
        return self._ensemble.sids

    @property
    def leader(self) -> int:
        """Who leads now. Raises EnsembleError while nobody does."""
        return self._background.ask(lambda: self._ensemble.leader)

    @property
    def followers(self) -> list[int]:
        """Voters that serve and do not lead."""
        return self._background.ask(lambda: self._ensemble.followers)

    @property
    def members(self) -> dict[int, Member]:
        """All of them as they are now."""
        return self._background.ask(lambda: self._ensemble.members)

    def role(self, sid: int) -> str:
        """As in `Member`."""
        return self._background.ask(lambda: self._ensemble.role(sid))

    def dump(self) -> str:
        """State, tree and log, for the report of a failure."""
        return self._background.ask(self._ensemble.dump)

    @property
    def is_whole(self) -> bool:
        """Whether no fault is left that `repair` would undo."""
        return self._background.ask(lambda: self._ensemble.is_whole)

    # Verbs.

    def kill(self, sid: int) -> Done[int]:
        return self._inflict(sid, self._ensemble.kill)

    def stop(self, sid: int) -> Done[int]:
        return self._inflict(sid, self._ensemble.stop)

    def start(self, sid: int) -> Done[None]:
        return self._background.run(self._ensemble.start(sid))

    def restart(self, sid: int) -> Done[int]:
        return self._inflict(sid, self._ensemble.restart)

    def pause(self, sid: int) -> Done[int]:
        return self._inflict(sid, self._ensemble.pause)

    def resume(self, sid: int) -> Done[None]:
        return self._background.run(self._ensemble.resume(sid))

    def partition(self, *groups: Iterable[int]) -> Done[None]:
        return self._background.run(self._ensemble.partition(*groups))

    def isolate(self, sid: int) -> Done[None]:
        return self._background.run(self._ensemble.isolate(sid))

    def cut(self, sender: int, receiver: int) -> Done[None]:
        return self._background.run(self._ensemble.cut(sender, receiver))

    def heal(self) -> Done[None]:
        return self._background.run(self._ensemble.heal())

    def expire(self, who: HasSession | Token | tuple[int, bytes]) -> Done[bool]:
        return self._background.run(self._ensemble.expire(who))

    def drop_connections(self, sid: int | None = None) -> Done[int]:
        return self._background.run(self._ensemble.drop_connections(sid))

    def repair(self) -> Done[None]:
        return self._background.run(self._ensemble.repair())

    def settled(self) -> Done[None]:
        return self._background.run(self._ensemble.settled())

    def wait_leader(self, *, but: int | None = None) -> Done[int]:
        return self._background.run(self._ensemble.wait_leader(but=but))

    def _inflict(self, sid: int, verb: Callable[[int], Coroutine[object, object, None]]) -> Done[int]:
        async def inflict() -> int:
            await verb(sid)
            return sid

        return self._background.run(inflict())

    # For the fixtures.

    def open(self) -> None:
        """Starts it."""
        self._background.run(self._ensemble.__aenter__()).result()

    def close(self) -> None:
        self._background.run(self._close()).result()

    async def _close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()
        await self._ensemble.__aexit__(None, None, None)

    def make_root(self, path: str) -> Done[None]:
        """A znode for one test."""
        return self._background.run(self._make_root(path))

    async def _make_root(self, path: str) -> None:
        await (await self._keeping()).ensure(path)

    def empty_root(self, path: str) -> Done[list[str]]:
        """Deletes it with all below; what a test should not have left behind, in words."""
        return self._background.run(self._empty_root(path))

    async def _empty_root(self, path: str) -> list[str]:
        return await emptied(await self._keeping(), path)

    def entropy(self) -> Random | None:
        """A client here has its own."""
        return None

    def watched_below(self, path: str) -> list[str]:
        """Paths there that a session still watches; nothing where a backend cannot tell."""
        return self._background.ask(lambda: self._watched_below(path.encode()))

    def _watched_below(self, path: bytes) -> list[str]:
        backend = self._ensemble.backend
        if not isinstance(backend, MemoryBackend):
            return []
        return [f"{watched} of session {owner:#x}" for watched, owner in backend.watches_below(path)]

    async def _keeping(self) -> BaseClient:
        """A client that makes and removes the tests' znodes, whatever their ACLs, and stays from test to test."""
        if self._keeper is not None and self._keeper.is_closed:
            self._keeper = None
        if self._keeper is None:
            # Java's super user, whom the servers of these fixtures have; elsewhere it is anybody.
            self._keeper = await BaseClient(self.hosts, auth=[Digest(*SUPER)], name="keeper").start()
        return self._keeper


class Stage:
    """All ensembles of one run of pytest, by shape: each is started when it is first asked for."""

    def __init__(self, backend: BackendName, *, hosts: str | None, seed: int | None, classpath: str | None) -> None:
        self.backend = backend
        self.seed = Random().getrandbits(32) if seed is None else seed
        self._hosts = hosts
        self._classpath = classpath
        self._background = Background()
        self._ensembles: dict[Shape, BackgroundEnsemble] = {}
        self._roots = 0
        # So that runs which share an ensemble do not meet.
        self._prefix = f"/test-{Random().getrandbits(48):012x}"

    def ensemble(self, shape: Shape) -> BackgroundEnsemble:
        """Raises EnsembleError."""
        if self._hosts is not None:
            # It is what it is.
            shape = Shape()
        found = self._ensembles.get(shape)
        if found is None:
            found = BackgroundEnsemble(self._background, self._make(shape))
            found.open()
            self._ensembles[shape] = found
        return found

    def _make(self, shape: Shape) -> Ensemble:
        if self._hosts is not None:
            return Ensemble(backend="external", hosts=self._hosts, seed=self.seed)
        user, password = SUPER
        digest = b64encode(sha1(f"{user}:{password}".encode()).digest()).decode()
        return Ensemble(
            shape.members,
            shape.observers,
            backend=self.backend,
            config={SUPER_KEY: f"{user}:{digest}", **dict(shape.config)},
            seed=self.seed,
            classpath=self._classpath,
        )

    def new_root(self) -> str:
        """The path of a znode that no other test has."""
        self._roots += 1
        return f"{self._prefix}-{self._roots}"

    def close(self) -> None:
        """Ends all of them."""
        for ensemble in self._ensembles.values():
            ensemble.close()
        self._ensembles.clear()
        self._background.close()

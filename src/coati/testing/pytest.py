"""What the pytest plugin does: ensembles by the marks of tests, clients with a root of their own, reports of failures.

The hooks and fixtures that pytest sees are in `coati_pytest`, which loads this when a test needs it. Knows pytest, and
which plugin runs an async test; must not know servers.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final, Protocol, TypeVar

import pytest

from coati.client.types import Auth, Digest
from coati.errors import ConfigError
from coati.recipes.client import Client
from coati.sync.client import Client as SyncClient
from coati.testing.background import BackgroundEnsemble, Stage
from coati.testing.ensemble import BACKENDS, BackendName, EnsembleError
from coati.testing.handles import AnyEnsemble, Bed, Faults, Shape
from coati.testing.simulated import SimEnsemble, SimTime, cluster_config
from coati.testing.world import SimWorld, opened

# What a mark means that gives no more than the scheme.
ANY_USER: Final = ("user", "password")
SIM: Final = "sim"
SIM_ROOT: Final = "/test"
SEED_BITS: Final = 32
# Fixtures of anyio and marks of others that say who runs an async test.
_MARKS: Final = ("asyncio", "trio", "curio")

T = TypeVar("T")
AuthOption = str | tuple[str, str] | Auth | None


class Runs(Protocol):
    """The loop of one test: an asyncio.Runner, or that of a world."""

    def run(self, coro: Coroutine[object, object, T], /) -> T: ...


RUNNER: Final = pytest.StashKey[Runs]()


class SimRunner:
    """Runs of a world."""

    def __init__(self, world: SimWorld) -> None:
        self._loop = world.loop

    def run(self, coro: Coroutine[object, object, T], /) -> T:
        return self._loop.run_until_complete(coro)


class Staging:
    """Of one run of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        """Raises UsageError for options that contradict each other."""
        hosts: str | None = config.getoption("--zk-hosts")
        backend: str = config.getoption("--zk-backend") or ("memory" if hosts is None else "external")
        if (backend == "external") != (hosts is not None):
            raise pytest.UsageError("--zk-hosts is for --zk-backend=external, and only there")
        self._is_simulated = backend == SIM
        self._stage = Stage(
            _real(backend),
            hosts=hosts,
            seed=config.getoption("--zk-seed"),
            classpath=config.getoption("--zk-classpath"),
        )

    def close(self) -> None:
        """Ends all ensembles."""
        self._stage.close()

    # Ensembles.

    def read_mark(self, mark: pytest.Mark) -> Mapping[str, object]:
        """What a mark says of the ensemble. A wrong one fails its test."""
        known = ("members", "observers", "config", "auth")
        unknown = [name for name in mark.kwargs if name not in known]
        if mark.args or unknown:
            what = unknown[0] if unknown else repr(mark.args[0])
            pytest.fail(f"pytest.mark.zk has {', '.join(known)}, and not {what}", pytrace=False)
        return dict(mark.kwargs)

    @contextmanager
    def ensemble_for(self, request: pytest.FixtureRequest, *, members: int) -> Iterator[AnyEnsemble]:
        """The one that a fixture is to be."""
        options: Mapping[str, object] = getattr(request, "param", {})
        config = options.get("config") or {}
        if not isinstance(config, Mapping):
            pytest.fail("pytest.mark.zk: config is a dict of keys of zoo.cfg", pytrace=False)
        shape = Shape.of(members, 0, config)
        if members > 1:
            shape = Shape.of(_number(options, "members", members), _number(options, "observers", 0), config)
        if not self._is_simulated:
            try:
                ensemble = self._stage.ensemble(shape)
            except (ConfigError, EnsembleError, ValueError) as error:
                pytest.fail(f"no ensemble: {error}", pytrace=False)
            # It stays for other tests.
            yield ensemble
            return
        if all(name in request.fixturenames for name in ("zk_ensemble", "zk_server")):
            pytest.fail("--zk-backend=sim: a test has one world, so zk_ensemble or zk_server", pytrace=False)
        try:
            cluster = cluster_config(shape)
        except ValueError as error:
            pytest.fail(f"no ensemble: {error}", pytrace=False)
        seed = self.dice_for(request.node).getrandbits(SEED_BITS)
        with opened(seed, config=cluster) as world:
            yield SimEnsemble(world)

    def dice_for(self, item: pytest.Item) -> Random:
        """Of the test's own, so that it rolls the same whichever tests ran before."""
        return Random(f"{self._stage.seed} {item.nodeid}")

    def faults_for(self, request: pytest.FixtureRequest, ensemble: AnyEnsemble) -> Faults:
        """With dice of the test's own."""
        return Faults(ensemble, self.dice_for(request.node))

    def repair(self, ensemble: AnyEnsemble) -> None:
        """After a test's faults."""
        if not ensemble.is_whole:
            ensemble.repair().result()

    def clock_for(self, request: pytest.FixtureRequest) -> SimTime:
        """Of the test's world."""
        if not self._is_simulated:
            pytest.skip("zk_clock needs --zk-backend=sim: the time of real servers cannot be moved")
        return SimTime(_world(request))

    def lease(self, request: pytest.FixtureRequest, ensemble: Bed) -> Lease:
        """A client for one test."""
        mark = request.node.get_closest_marker("zk")
        auth = _auth(mark.kwargs.get("auth")) if mark is not None else []
        # In a world that is one test's own every root is new; and names are part of the run.
        root = SIM_ROOT if self._is_simulated else self._stage.new_root()
        return Lease(ensemble, root, auth)

    @contextmanager
    def blocking_client_for(self, request: pytest.FixtureRequest, ensemble: Bed) -> Iterator[SyncClient]:
        """The fixture `zk_sync`."""
        if self._is_simulated:
            pytest.fail("--zk-backend=sim has no zk_sync: a thread runs when it likes", pytrace=False)
        lease = self.lease(request, ensemble)
        yield lease.open_blocking()
        lease.close_blocking()

    def explain(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Adds to the report of a failed test what its ensembles were doing."""
        funcargs: Mapping[str, object] = getattr(item, "funcargs", {})
        for name in ("zk_ensemble", "zk_server"):
            ensemble = funcargs.get(name)
            if isinstance(ensemble, BackgroundEnsemble | SimEnsemble):
                try:
                    text = ensemble.dump()
                except Exception as error:
                    text = f"no dump: {error!r}"
                report.sections.append((f"{name} (--zk-seed={self._stage.seed})", text))

    # Async tests.

    def manager_of(self, item: pytest.Item) -> str:
        """Who runs an async test: `asyncio` (pytest-asyncio), `anyio`, or `own`."""
        manager = _manager(item)
        if manager != "own" and self._is_simulated:
            pytest.fail(f"--zk-backend=sim runs async tests on a loop of its own, and not on that of {manager}")
        return manager

    @contextmanager
    def runner_for(self, request: pytest.FixtureRequest) -> Iterator[Runs]:
        """The loop of one test. What still runs on it when the test is over, and its fixtures, fails the test."""
        item = request.node
        if self._is_simulated:
            item.stash[RUNNER] = runs = SimRunner(_world(request))
            # What is left running there is the world's complaint.
            yield runs
            return
        with asyncio.Runner() as runner:
            item.stash[RUNNER] = runner
            yield runner
            left = runner.run(_tasks_left())
        if left:
            pytest.fail("left running by the test:\n" + "\n".join(left), pytrace=False)

    def run_test(self, item: pytest.Function) -> None:
        """Runs an async test on its own loop."""
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        item.stash[RUNNER].run(item.obj(**arguments))

    @contextmanager
    def made_blocking(self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> Iterator[None]:
        """For this time the async fixture is one that pytest can set up, on the test's loop."""
        func = fixturedef.func
        runner: Runs = request.getfixturevalue("_zk_runner")
        bound = func
        if request.instance is not None and inspect.ismethod(func):
            # It is bound to the instance of the collection, and each test has one of its own.
            bound = func.__func__.__get__(request.instance)
        made = _blocking_generator(bound, runner) if inspect.isasyncgenfunction(func) else _blocking(bound, runner)
        fixturedef.func = made  # type: ignore[misc]  # anyio's plugin does so too; there is no other door
        try:
            yield
        finally:
            fixturedef.func = func  # type: ignore[misc]  # as above


class _Fixture(Protocol):
    """The function of a fixture, whatever it takes."""

    def __call__(self, **arguments: object) -> object: ...


def _blocking(func: _Fixture, runner: Runs) -> _Fixture:
    def fixture(**arguments: object) -> object:
        made = func(**arguments)
        assert isinstance(made, Coroutine), "it is a coroutine function"
        return runner.run(made)

    return fixture


def _blocking_generator(func: _Fixture, runner: Runs) -> _Fixture:
    def fixture(**arguments: object) -> Iterator[object]:
        steps = func(**arguments)
        assert isinstance(steps, AsyncGenerator), "it is an asynchronous generator function"
        yield runner.run(_next(steps))
        try:
            runner.run(_next(steps))
        except StopAsyncIteration:
            return
        raise ValueError("an async fixture yields once")

    return fixture


async def _next(steps: AsyncGenerator[object, None]) -> object:
    return await anext(steps)


async def _tasks_left() -> list[str]:
    return [
        f"  {task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks() if task is not asyncio.current_task()
    ]


class Lease:
    """A client of one test, in a root that is made for it and emptied behind it."""

    def __init__(self, ensemble: Bed, root: str, auth: Sequence[Auth]) -> None:
        self._ensemble = ensemble
        self._root = root
        self._auth = auth
        self._client: Client | None = None
        self._blocking: SyncClient | None = None

    @property
    def _hosts(self) -> str:
        return f"{self._ensemble.hosts}{self._root}"

    async def open(self) -> Client:
        """The client, connected."""
        await self._ensemble.make_root(self._root)
        entropy = self._ensemble.entropy()
        client = self._client = Client(self._hosts, auth=self._auth, name="zk", entropy=entropy)
        return await client.start()

    async def close(self) -> None:
        """Closes it, empties its root, and fails the test if anything of it is still open."""
        if self._client is not None:
            await self._client.aclose()
        if not self._ensemble.is_whole:
            await self._ensemble.repair()
        watched = self._ensemble.watched_below(self._root)
        _judge(watched, await self._ensemble.empty_root(self._root))

    def open_blocking(self) -> SyncClient:
        """A client for threads, connected."""
        self._ensemble.make_root(self._root).result()
        client = self._blocking = SyncClient(self._hosts, auth=self._auth, name="zk_sync")
        return client.start()

    def close_blocking(self) -> None:
        """As `close`."""
        if self._blocking is not None:
            self._blocking.close()
        if not self._ensemble.is_whole:
            self._ensemble.repair().result()
        watched = self._ensemble.watched_below(self._root)
        _judge(watched, self._ensemble.empty_root(self._root).result())


def _judge(watched: Sequence[str], found: Sequence[str]) -> None:
    """Fails a test that has left something open."""
    left = [*(f"  watch on {path}" for path in watched), *(f"  {what}" for what in found)]
    if left:
        pytest.fail("left open by the test:\n" + "\n".join(left), pytrace=False)


def _manager(item: pytest.Item) -> str:
    if "anyio_backend" in getattr(item, "fixturenames", ()):
        return "anyio"
    if any(kind.__name__ == "PytestAsyncioFunction" for kind in type(item).__mro__):
        return "asyncio"
    if any(item.get_closest_marker(name) for name in _MARKS):
        return "asyncio"
    return "own"


def _world(request: pytest.FixtureRequest) -> SimWorld:
    name = "zk_server" if "zk_server" in request.fixturenames else "zk_ensemble"
    ensemble = request.getfixturevalue(name)
    assert isinstance(ensemble, SimEnsemble), "the backend is sim"
    return ensemble.world


def _real(backend: str) -> BackendName:
    """What the ensembles of other tests than simulated ones run on."""
    for name in BACKENDS:
        if name == backend:
            return name
    return "memory"


def _number(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    if not isinstance(value, int):
        pytest.fail(f"pytest.mark.zk: {name} is a number", pytrace=False)
    return value


def _auth(option: AuthOption) -> list[Auth]:
    if option is None:
        return []
    if isinstance(option, Auth):
        return [option]
    if option == "digest":
        return [Digest(*ANY_USER)]
    if isinstance(option, tuple) and len(option) == 2:
        return [Digest(*option)]
    pytest.fail("pytest.mark.zk: auth is 'digest', (user, password) or an Auth", pytrace=False)

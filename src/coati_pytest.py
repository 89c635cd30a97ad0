"""The pytest plugin: options, the mark `zk`, and fixtures for tests against a real ensemble.

It stands beside the package and imports nothing of it, since every run of pytest loads it, also those that have nothing
to do with coati. What it does is in `coati.testing.pytest`, which is loaded with the first test that needs it.
PYTEST_DONT_REWRITE: there are no assertions to explain here.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal

import pytest

if TYPE_CHECKING:
    from coati import Client
    from coati.sync import Client as SyncClient
    from coati.testing.handles import AnyEnsemble, Bed, Faults
    from coati.testing.pytest import Runs, Staging
    from coati.testing.simulated import SimTime

BACKENDS: Final = ("memory", "process", "java", "external", "sim")
# Fixtures of one ensemble each, which a mark may shape.
ENSEMBLES: Final = ("zk_ensemble", "zk_server")
FIXTURES: Final = frozenset((*ENSEMBLES, "zk", "zk_sync", "zk_faults", "zk_clock"))
# What pytest-asyncio is called, as it was installed or by `-p`.
PYTEST_ASYNCIO: Final = ("asyncio", "pytest_asyncio.plugin")
MARK: Final = (
    "zk(members=3, observers=0, config={}, auth=None): what the test's ensemble is; equal ones are shared. `config`: "
    "keys of zoo.cfg. `auth`: who the client is, (user, password) or 'digest' for any"
)


_STAGING: Final = pytest.StashKey["Staging"]()


def _staging(config: pytest.Config) -> Staging:
    """What does the work, made when it is first needed."""
    staging = config.stash.get(_STAGING, None)
    if staging is None:
        from coati.testing.pytest import Staging

        staging = config.stash[_STAGING] = Staging(config)
    return staging


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--zk-...`."""
    group = parser.getgroup("zk", "ensembles of ZooKeeper servers (coati)")
    group.addoption(
        "--zk-backend", choices=BACKENDS, default=None, help="where the servers of tests run; default: memory"
    )
    group.addoption("--zk-hosts", metavar="HOST:PORT,...", default=None, help="use this ensemble (backend external)")
    group.addoption("--zk-seed", metavar="N", type=int, default=None, help="of the dice of tests; default: by chance")
    group.addoption(
        "--zk-classpath",
        metavar="DIR",
        default=None,
        help="ZooKeeper's jars for the backend java: COATI_JAVA_CLASSPATH",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)
    for name in PYTEST_ASYNCIO:
        plugin = config.pluginmanager.getplugin(name)
        if plugin is not None and hasattr(plugin, "fixture"):
            # It runs async fixtures that were made by its own decorator, and no others.
            more = ModuleType("coati_pytest_asyncio")
            more.__dict__["_zk_asyncio"] = plugin.fixture(_leased_on_asyncio)
            config.pluginmanager.register(more, "coati_pytest_asyncio")
            break


def pytest_unconfigure(config: pytest.Config) -> None:
    staging = config.stash.get(_STAGING, None)
    if staging is not None:
        staging.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("zk")
    if mark is None:
        return
    for name in ENSEMBLES:
        if name in metafunc.fixturenames:
            ids = [getattr(pytest, "HIDDEN_PARAM", "zk")]
            metafunc.parametrize(
                name, [_staging(metafunc.config).read_mark(mark)], indirect=True, scope="session", ids=ids
            )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function) and _is_run_here(item) and "_zk_runner" not in item.fixturenames:
        item.fixturenames.append("_zk_runner")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Runs an async test with fixtures of ours, unless another plugin does."""
    if not _is_run_here(pyfuncitem):
        return None
    _staging(pyfuncitem.config).run_test(pyfuncitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Runs an async fixture of such a test."""
    func = fixturedef.func
    is_async = inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func)
    if not is_async or fixturedef.scope != "function" or not _is_ours(request.node):
        return (yield)
    if _staging(request.config).manager_of(request.node) != "own":
        return (yield)
    with _staging(request.config).made_blocking(fixturedef, request):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails says what its ensemble was doing."""
    report = yield
    if report.failed and report.when != "teardown" and _is_ours(item):
        _staging(item.config).explain(item, report)
    return report


def _is_ours(item: object) -> bool:
    return isinstance(item, pytest.Function) and not FIXTURES.isdisjoint(item.fixturenames)


def _is_run_here(item: pytest.Function) -> bool:
    """Whether it is an async test that nobody else runs."""
    is_async = inspect.iscoroutinefunction(item.obj) and _is_ours(item)
    return is_async and _staging(item.config).manager_of(item) == "own"


# Fixtures.


def _scope(fixture_name: str, config: pytest.Config) -> Literal["function", "session"]:
    """A simulated world is one test's own."""
    return "function" if config.getoption("--zk-backend") == "sim" else "session"


@pytest.fixture(scope=_scope)
def zk_ensemble(request: pytest.FixtureRequest) -> Iterator[AnyEnsemble]:
    """The ensemble of this test, three members unless its mark says otherwise."""
    with _staging(request.config).ensemble_for(request, members=3) as ensemble:
        yield ensemble


@pytest.fixture(scope=_scope)
def zk_server(request: pytest.FixtureRequest) -> Iterator[AnyEnsemble]:
    """A standalone server: an ensemble with one member, 1."""
    with _staging(request.config).ensemble_for(request, members=1) as ensemble:
        yield ensemble


@pytest.fixture
def zk_faults(request: pytest.FixtureRequest, zk_ensemble: Bed) -> Iterator[Faults]:
    """What can go wrong with the ensemble, a line each; repaired when the test is over."""
    yield _staging(request.config).faults_for(request, zk_ensemble)
    _staging(request.config).repair(zk_ensemble)


@pytest.fixture
def zk(request: pytest.FixtureRequest, zk_ensemble: Bed) -> Client:
    """An async client whose root is this test's own, emptied behind it; what is left open fails the test."""
    client: Client = request.getfixturevalue(f"_zk_{_staging(request.config).manager_of(request.node)}")
    return client


@pytest.fixture
def zk_sync(request: pytest.FixtureRequest, zk_ensemble: Bed) -> Iterator[SyncClient]:
    """As `zk`, for threads: `coati.sync.Client`."""
    with _staging(request.config).blocking_client_for(request, zk_ensemble) as client:
        yield client


@pytest.fixture
def zk_clock(request: pytest.FixtureRequest) -> SimTime:
    """Virtual time, which passes when a test says so; a test that needs it is skipped without --zk-backend=sim."""
    return _staging(request.config).clock_for(request)


@pytest.fixture
def _zk_runner(request: pytest.FixtureRequest) -> Iterator[Runs]:
    with _staging(request.config).runner_for(request) as runner:
        yield runner


@pytest.fixture
def _zk_own(request: pytest.FixtureRequest, zk_ensemble: Bed, _zk_runner: Runs) -> Iterator[Client]:
    lease = _staging(request.config).lease(request, zk_ensemble)
    yield _zk_runner.run(lease.open())
    _zk_runner.run(lease.close())


@pytest.fixture
async def _zk_anyio(request: pytest.FixtureRequest, zk_ensemble: Bed, anyio_backend: object) -> AsyncIterator[Client]:
    lease = _staging(request.config).lease(request, zk_ensemble)
    yield await lease.open()
    await lease.close()


async def _leased_on_asyncio(request: pytest.FixtureRequest, zk_ensemble: Bed) -> AsyncIterator[Client]:
    lease = _staging(request.config).lease(request, zk_ensemble)
    yield await lease.open()
    await lease.close()

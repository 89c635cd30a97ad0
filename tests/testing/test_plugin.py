"""The pytest plugin, by runs of pytest in this process: what tests get, and what they are told when they fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

# Loaded now: pytester forgets what a run has imported, and a second copy of a module is another module.
import coati.testing.pytest
import coati_pytest

assert coati.testing.pytest is not None


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have no plugin but ours, and load no others each time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """A run of these tests."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(text)
    return pytester.runpytest_inprocess("-p", "coati_pytest", "-p", "no:cacheprovider", *options)


def test_an_async_test_has_a_client_in_a_root_of_its_own(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.parametrize("time", [1, 2])
        async def test_create(zk, time):
            assert await zk.children("/") == []
            await zk.create("/a/b", b"x", parents=True)
            assert (await zk.get("/a/b")).data == b"x"

        async def test_three_members_serve(zk, zk_ensemble):
            roles = sorted(member.role for member in zk_ensemble.members.values())
            assert roles == ["follower", "follower", "leader"]

        class TestInAClass:
            async def test_create(self, zk):
                await zk.create("/a")
        """,
    )
    result.assert_outcomes(passed=4)


def test_async_fixtures_run_on_the_test_s_loop(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import asyncio
        import pytest

        @pytest.fixture
        async def app(zk):
            await zk.create("/app", b"1")
            yield asyncio.get_running_loop()
            await zk.delete("/app")

        @pytest.fixture
        async def data(zk, app):
            return (await zk.get("/app")).data

        async def test_app(zk, app, data):
            assert data == b"1"
            assert app is asyncio.get_running_loop()

        class TestInAClass:
            @pytest.fixture
            async def own(self, zk):
                self.here = 1
                await zk.create("/own")

            async def test_own(self, zk, own):
                assert self.here == 1
                assert await zk.exists("/own")
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_mark_shapes_the_ensemble_and_equal_ones_are_shared(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        seen = {}

        @pytest.mark.zk(members=1)
        async def test_one(zk, zk_ensemble):
            seen["one"] = zk_ensemble.hosts
            assert zk_ensemble.role(1) == "standalone"

        @pytest.mark.zk(members=1, observers=1, config={"tickTime": 300})
        async def test_two(zk, zk_ensemble):
            assert sorted(zk_ensemble.members) == [1, 2]
            assert zk_ensemble.role(2) == "observer"
            assert zk.session.timeout >= 0.6

        @pytest.mark.zk(members=1)
        async def test_shared(zk, zk_ensemble):
            assert seen["one"] == zk_ensemble.hosts

        @pytest.mark.zk(auth=("me", "secret"))
        async def test_auth(zk):
            assert "digest" in [info.scheme for info in await zk.whoami()]
            await zk.create("/locked", acl=__import__("coati").CREATOR)
        """,
    )
    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ("tls=True", "members, observers, config, auth, and not tls"),
        ("3", "not 3"),
        ("members='many'", "members is a number"),
        ("config=1", "config is a dict"),
        ("auth=1", "auth is"),
        ("members=0", "one member"),
        ("config={'tickTime': 'soon'}", "tickTime"),
    ],
)
def test_a_wrong_mark_is_named(pytester: pytest.Pytester, mark: str, complaint: str) -> None:
    result = run(
        pytester,
        f"""
        import pytest

        @pytest.mark.zk({mark})
        async def test_wrong(zk):
            pass
        """,
    )
    assert result.ret != 0
    assert complaint in result.stdout.str()


def test_a_server_alone(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import coati

        async def test_server(zk_server):
            async with coati.Client(zk_server.hosts) as zk:
                await zk.create("/a")
            await zk_server.restart(1)
            assert zk_server.role(1) == "standalone"

        def test_from_no_loop(zk_server):
            zk_server.restart(1).result()
            assert zk_server.role(1) == "standalone"
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_client_for_threads(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import coati

        def test_create(zk_sync):
            assert zk_sync.children("/") == []
            zk_sync.create("/a", b"x")
            assert zk_sync.get("/a").data == b"x"

        def test_expire(zk_sync, zk_faults):
            zk_sync.create("/mine", mode=coati.Mode.EPHEMERAL)
            assert zk_faults.expire(zk_sync).result()

        async def test_both(zk, zk_sync):
            await zk.create("/a")
            assert zk_sync.children("/") == []
        """,
    )
    result.assert_outcomes(passed=3)


def test_faults_are_a_line_each_and_are_repaired(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import asyncio
        import contextlib
        import pytest
        import coati

        BRISK = pytest.mark.zk(config={"tickTime": "50", "syncLimit": "3"})
        rolled = []

        @BRISK
        async def test_kill(zk_faults, zk):
            await zk.create("/a")
            old = await zk_faults.kill()
            await zk_faults.wait_leader(but=old)
            assert await zk.exists("/a")

        @BRISK
        async def test_whole_again(zk, zk_ensemble):
            assert zk_ensemble.is_whole
            assert zk_ensemble.leader in (1, 2, 3)

        @BRISK
        async def test_partition(zk, zk_faults):
            old = zk_faults.leader
            await zk_faults.partition()
            await zk_faults.wait_leader(but=old)
            await zk.create("/b")
            await zk_faults.heal()

        @BRISK
        async def test_pause_and_drop(zk, zk_faults):
            assert await zk_faults.drop_connections() >= 1
            assert await zk.exists("/") is not None
            old = await zk_faults.pause()
            await zk_faults.wait_leader(but=old)

        @BRISK
        async def test_expire(zk, zk_faults):
            before = zk.session.id
            await zk.create("/mine", mode=coati.Mode.EPHEMERAL)
            assert await zk_faults.expire(zk)
            async with asyncio.timeout(20):
                while zk.session.id == before:
                    with contextlib.suppress(coati.ZKError):
                        await zk.exists("/")
            assert await zk.exists("/mine") is None

        @BRISK
        def test_from_no_loop(zk_faults):
            old = zk_faults.kill().result()
            zk_faults.start(old).result()
        """,
    )
    result.assert_outcomes(passed=6)


def test_dice_depend_on_the_test_and_the_seed_alone(pytester: pytest.Pytester) -> None:
    text = """
        async def test_first(zk_faults):
            print("rolled", zk_faults.dice.random())

        async def test_second(zk_faults):
            print("rolled", zk_faults.dice.random())
        """

    def rolls(*options: str) -> list[str]:
        lines = run(pytester, text, "-s", "-q", *options).stdout.lines
        return [line.partition("rolled ")[2] for line in lines if "rolled" in line]

    first = rolls("--zk-seed=7")
    assert len(first) == 2
    assert rolls("--zk-seed=7", "-k", "second") == first[1:]
    assert rolls("--zk-seed=8") != first


def test_a_failure_says_what_the_ensemble_did_and_its_seed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def test_fails(zk):
            await zk.create("/evidence", b"123")
            assert False
        """,
        "--zk-seed=42",
    )
    result.assert_outcomes(failed=1)
    said = result.stdout.str()
    assert "zk_ensemble (--zk-seed=42)" in said
    assert "/evidence bytes=3 version=0" in said
    assert "serving state=LEADING" in said


SESSION = "left.append(Probe(address))"
EPHEMERAL = "left[0].call(1, CreateRequest(root + b'/mine', b'', OPEN, 1).write)"
WATCH = "left[0].call(4, GetDataRequest(root, True).write)"
TASK = "asyncio.create_task(asyncio.sleep(1000))"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (f"{SESSION}; {EPHEMERAL}", "ephemeral /test-*/mine of session 0x*"),
        (f"{SESSION}; {WATCH}", "watch on /test-* of session 0x*"),
        (TASK, "left running by the test:"),
    ],
)
def test_what_a_test_leaves_behind_is_an_error(pytester: pytest.Pytester, body: str, complaint: str) -> None:
    result = run(
        pytester,
        f"""
import asyncio
from coati.testing.probe import Probe
from coati.wire.records import ACL, CreateRequest, GetDataRequest, Id

OPEN = [ACL(31, Id("world", "anyone"))]
left = []

async def test_leaks(zk, zk_ensemble):
    root = zk._chroot.encode()
    host, _, port = zk_ensemble.hosts_of(1).rpartition(":")
    address = host, int(port)
    {body}

async def test_after(zk):
    assert await zk.children("/") == []
    for probe in left:
        probe.hang_up()
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([f"*{complaint}*"])


def test_an_ensemble_of_others(pytester: pytest.Pytester) -> None:
    stage = coati.testing.background.Stage("memory", hosts=None, seed=1, classpath=None)
    try:
        hosts = stage.ensemble(coati.testing.handles.Shape(1)).hosts
        text = """
            async def test_external(zk, zk_ensemble):
                await zk.create("/a")

            async def test_refused(zk_faults):
                await zk_faults.kill(1)
            """
        result = run(pytester, text, f"--zk-hosts={hosts}")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*FaultRefused: the backend external leaves its servers alone*"])
    finally:
        stage.close()


def test_workers_have_ensembles_of_their_own(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.parametrize("number", range(12))
        async def test_alone(zk, zk_ensemble, number):
            await zk.create("/a")
            roots = await zk.chroot_free().children("/")
            assert [name for name in roots if name.startswith("test")] == [zk._chroot[1:]]
        """,
        "-p",
        "xdist.plugin",
        "-n",
        "3",
    )
    result.assert_outcomes(passed=12)


def test_tests_of_other_plugins_stay_theirs(pytester: pytest.Pytester) -> None:
    for name in ("pytest_asyncio", "anyio"):
        pytest.importorskip(name, reason=f"{name} is not installed: it is in the extra `suites`")
    result = run(
        pytester,
        """
        import asyncio
        import pytest
        import pytest_asyncio

        @pytest_asyncio.fixture
        async def app(zk):
            await zk.create("/app")
            return asyncio.get_running_loop()

        @pytest.mark.asyncio
        async def test_asyncio(zk, app):
            assert asyncio.get_running_loop() is app
            assert await zk.children("/") == ["app"]

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def any_app(zk, anyio_backend):
            await zk.create("/app")
            yield asyncio.get_running_loop()

        @pytest.mark.anyio
        async def test_anyio(any_app, zk):
            assert asyncio.get_running_loop() is any_app
            assert await zk.children("/") == ["app"]

        async def test_own(zk):
            assert await zk.children("/") == []
        """,
        *("-p", "pytest_asyncio.plugin", "-p", "anyio.pytest_plugin"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
    )
    result.assert_outcomes(passed=3)


def test_options_that_contradict_each_other(pytester: pytest.Pytester) -> None:
    result = run(pytester, "async def test_x(zk): pass", "--zk-backend=external")
    assert "--zk-hosts is for --zk-backend=external" in result.stderr.str()


def test_tests_of_others_are_left_alone(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.fixture
        async def value():
            return 1

        async def test_nobody_runs_it():
            pass

        def test_sync():
            pass
        """,
    )
    result.assert_outcomes(passed=1, failed=1)


def test_the_plugin_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    (pytester.path / "test_nothing.py").write_text(
        "import sys\n\ndef test_nothing():\n"
        "    assert [name for name in sys.modules if name.partition('.')[0] == 'coati'] == []\n"
    )
    source = Path(coati_pytest.__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "coati_pytest", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command, cwd=pytester.path, env={"PYTHONPATH": str(source)}, capture_output=True, text=True, check=False
    )
    assert "1 passed" in done.stdout, done.stdout


def test_a_simulated_ensemble_has_time_of_its_own(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import asyncio
        import contextlib
        import pytest
        import coati

        @pytest.fixture
        async def app(zk):
            await zk.create("/app")
            yield asyncio.get_running_loop()
            await zk.delete("/app")

        async def test_client(zk, app, zk_clock):
            assert app is asyncio.get_running_loop()
            assert await zk.children("/") == ["app"]
            before = zk_clock.now
            await zk_clock.advance(100)
            assert zk_clock.now == before + 100
            assert await zk.exists("/app")

        async def test_no_ensemble_fixture(zk_ensemble):
            async with coati.Client(zk_ensemble.hosts) as client:
                await client.create("/a")

        async def test_faults(zk, zk_faults):
            await zk.create("/a")
            old = await zk_faults.kill()
            await zk_faults.wait_leader(but=old)
            assert await zk.exists("/a")
            await zk_faults.start(old)
            old = zk_faults.leader
            await zk_faults.partition()
            await zk_faults.wait_leader(but=old)
            await zk_faults.heal()
            old = await zk_faults.restart()
            old = await zk_faults.pause()
            await zk_faults.wait_leader(but=old)
            await zk_faults.resume(old)
            assert await zk.exists("/a")  # it is connected again
            assert await zk_faults.drop_connections() >= 1
            assert await zk.exists("/a")

        async def test_expire(zk, zk_faults):
            before = zk.session.id
            await zk.create("/mine", mode=coati.Mode.EPHEMERAL)
            assert await zk_faults.expire(zk)
            async with asyncio.timeout(60):
                while zk.session.id == before:
                    with contextlib.suppress(coati.ZKError):
                        await zk.exists("/")
            assert await zk.exists("/mine") is None

        def test_from_no_loop(zk_faults):
            old = zk_faults.kill().result()
            assert zk_faults.wait_leader(but=old).result() != old

        @pytest.mark.zk(members=5, observers=1, config={"tickTime": 100})
        async def test_shape(zk, zk_ensemble):
            roles = sorted(member.role for member in zk_ensemble.members.values())
            assert roles == ["follower"] * 4 + ["leader", "observer"]

        async def test_server(zk_server):
            assert zk_server.leader == 1
        """,
        "--zk-backend=sim",
    )
    result.assert_outcomes(passed=7)


def test_equal_seeds_are_equal_simulated_runs(pytester: pytest.Pytester) -> None:
    text = """
        async def test_first(zk, zk_faults, zk_ensemble):
            await zk.create("/a")
            await zk_faults.kill()
            await zk.exists("/a")
            print("hash", zk_ensemble.world.trace_hash())
        """

    def trace(seed: int) -> list[str]:
        lines = run(pytester, text, "-s", "-q", "--zk-backend=sim", f"--zk-seed={seed}").stdout.lines
        return [line for line in lines if "hash" in line]

    first = trace(7)
    assert len(first) == 1
    assert trace(7) == first
    assert trace(8) != first


def test_what_a_simulated_test_leaves_behind_is_an_error(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import asyncio

        left = []

        async def test_leaks(zk):
            left.append(asyncio.create_task(asyncio.sleep(1000)))

        async def test_fails(zk):
            assert await zk.create("/evidence") is None
        """,
        "--zk-backend=sim",
        "--zk-seed=3",
    )
    result.assert_outcomes(passed=1, errors=1, failed=1)
    said = result.stdout.str()
    assert "Leak: not done: task" in said
    assert "zk_ensemble (--zk-seed=3)" in said
    assert "/test/evidence bytes=0" in said


ON_ANYIO = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_x(zk, anyio_backend):
    pass
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("async def test_x(zk, zk_server): pass", "a test has one world"),
        (
            "import pytest\n@pytest.mark.zk(config={'dataDir': '/x'})\nasync def test_x(zk): pass",
            "the backend sim has no key dataDir",
        ),
        ("def test_x(zk_sync): pass", "a thread runs when it likes"),
        (ON_ANYIO, "on a loop of its own, and not on that of anyio"),
    ],
)
def test_what_a_simulation_does_not_have_is_named(pytester: pytest.Pytester, text: str, complaint: str) -> None:
    result = run(pytester, text, "--zk-backend=sim")
    assert result.ret != 0
    assert complaint in result.stdout.str()


def blocks(document: str) -> list[str]:
    """The Python in a document."""
    text = (Path(__file__).parents[2] / document).read_text()
    return [part.partition("```")[0] for part in text.split("```python\n")[1:]]


@pytest.mark.parametrize("backend", ["memory", "sim"])
def test_what_the_documents_show_works(pytester: pytest.Pytester, backend: str) -> None:
    shown = [block for name in ("README.md", "docs/testing.md") for block in blocks(name) if "def test_" in block]
    assert len(shown) == 5
    if backend == "sim":
        # It has threads in it.
        shown = [block for block in shown if "zk_sync" not in block]
    for number, block in enumerate(shown):
        (pytester.path / f"test_shown{number}.py").write_text(block)
    result = run(pytester, "", f"--zk-backend={backend}")
    result.assert_outcomes(passed=7 if backend == "memory" else 6)


def test_what_the_documents_show_without_pytest_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.cfg").write_text("dataDir=other\nclientPortAddress=127.0.0.1\nclientPort=0\n")
    ensemble, server = (block for block in blocks("docs/testing.md") if "async with" in block)
    for block, main in ((ensemble, "main"), (server.replace("client_port=2181", "client_port=0"), "serve")):
        names: dict[str, Callable[[], Coroutine[object, object, None]]] = {}
        exec(block, names)
        asyncio.run(names[main]())


def test_virtual_time_is_for_simulations(pytester: pytest.Pytester) -> None:
    run(pytester, "def test_x(zk_clock): pass").assert_outcomes(skipped=1)

"""Our recipes and Curator's on the same paths: java/CuratorPeer.java does by commands what the tests ask of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import coati
from tests.interop import peers
from tests.interop.javaclient import JVM, QUIET
from tests.interop.peers import Server
from tools.javapeer import classpath, java_command, why_missing

SOURCE = Path(__file__).parent / "java" / "CuratorPeer.java"
VERSION = "3.9.3"  # its jars come with Curator 5.7.1
DEADLINE_S = 60.0


class Curator:
    """The program, asked a line at a time."""

    def __init__(self, process: subprocess.Popen[str], root: str) -> None:
        self._process = process
        self._root = root

    def ask(self, verb: str, path: str, *words: object) -> str:
        """The answer; paths are below the test's root."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = [f"{self._root}{word}" if str(word).startswith("/") else str(word) for word in words]
        self._process.stdin.write(" ".join((verb, self._root + path, *told)) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    async def later(self, verb: str, path: str, *words: object) -> str:
        """The same in a thread."""
        return await asyncio.to_thread(self.ask, verb, path, *words)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory with the compiled program."""
    reason = why_missing(VERSION)
    javac = shutil.which("javac")
    if reason is None and javac is None:
        reason = "no javac on PATH"
    if reason is None and not any("curator-recipes" in jar for jar in classpath(VERSION)):
        reason = "no Curator jars beside those of ZooKeeper 3.9.3"
    if reason is not None or javac is None:
        peers.missing(str(reason))
        raise AssertionError
    target = tmp_path_factory.mktemp("curatorpeer")
    jars = os.pathsep.join(classpath(VERSION))
    done = subprocess.run(
        [javac, "-nowarn", "-proc:none", "-cp", jars, "-d", str(target), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(target)


@pytest.fixture(scope="module")
def process(classes: str, server: Server) -> Iterator[subprocess.Popen[str]]:
    """One program for all tests of a server."""
    jars = os.pathsep.join([classes, *classpath(VERSION)])
    started = subprocess.Popen(
        [java_command(), *JVM, *QUIET, "-cp", jars, "CuratorPeer", server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    yield started
    started.kill()
    started.communicate()


Test = Callable[[Callable[[coati.Client, Curator], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def both(process: subprocess.Popen[str], server: Server, root: str) -> Test:
    """Runs a test with a client of ours and Curator in the same subtree."""

    def run(test: Callable[[coati.Client, Curator], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(DEADLINE_S), coati.Client(server.address + root, session_timeout=20.0) as zk:
                await test(zk, Curator(process, root))

        asyncio.run(main())

    return run


def test_shared_counts_are_the_same(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        assert curator.ask("shared-set", "/shared", 41) == "done"
        assert await zk.counter("/shared", layout="curator-int").add(1) == 42
        assert curator.ask("shared-get", "/shared") == "42"

    both(test)


def test_atomic_longs_add_up(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        assert curator.ask("atomic-add", "/atomic", 2**40) == str(2**40)
        assert await zk.counter("/atomic", layout="curator").add(-1) == 2**40 - 1

        async def theirs() -> None:
            for _ in range(10):
                assert await curator.later("atomic-add", "/atomic", 1) != "failed"

        async def ours() -> None:
            for _ in range(10):
                await zk.counter("/atomic", layout="curator").add(1)

        await asyncio.gather(theirs(), ours())
        assert await zk.counter("/atomic", layout="curator").get() == 2**40 + 19

    both(test)


def test_latches_give_one_leader_of_both(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        async with zk.election("/latch", id=b"ours", layout="curator") as term:
            assert curator.ask("latch-start", "/latch", "theirs") == "started"
            observed = zk.election("/latch", id=b"", layout="curator").observe()
            assert await anext(observed) == b"ours"
            assert curator.ask("latch-leads", "/latch") == "false"
            assert curator.ask("latch-leader", "/latch") == "ours"
            term.check()
        assert await curator.later("latch-await", "/latch") == "true"
        while (leader := await anext(observed)) != b"theirs":
            assert leader is None
        waiting = asyncio.ensure_future(zk.election("/latch", id=b"ours", layout="curator").terms().__anext__())
        await zk.exists("/")
        assert not waiting.done()
        assert curator.ask("latch-close", "/latch") == "closed"
        await (await waiting).end()

    both(test)


def test_group_members_see_each_other(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        members = zk.group("/group", layout="curator").members()
        await anext(members)
        assert curator.ask("member-start", "/group", "theirs", "data") == "started"
        while (seen := await anext(members)) != {"theirs": b"data"}:
            assert seen == {}
        async with zk.group("/group", layout="curator").join(b"x", "ours"):
            async with asyncio.timeout(DEADLINE_S / 2):
                while (told := await curator.later("member-list", "/group")) != "ours theirs":
                    assert told == "theirs"
        assert curator.ask("member-close", "/group") == "closed"
        while await anext(members):
            pass

    both(test)


def test_double_barriers_count_members_of_both(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        ours = zk.double_barrier("/double", 2)
        for _ in range(2):
            entered, _ = await asyncio.gather(curator.later("barrier-enter", "/double", 2), ours.enter(timeout=20.0))
            assert entered == "true"
            left, _ = await asyncio.gather(curator.later("barrier-leave", "/double"), ours.leave(timeout=20.0))
            assert left == "true"
            assert await zk.children("/double") == []

    both(test)


def test_simple_queues_pass_items_both_ways(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        ours = zk.queue("/simple", layout="curator-simple")
        assert curator.ask("simple-offer", "/simple", "a") == "true"
        await ours.put(b"b")
        async with await ours.get() as item:
            assert item.data == b"a"
        assert await curator.later("simple-take", "/simple") == "b"

    both(test)


def test_queues_with_a_lock_path_pass_items_both_ways(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        ours = zk.queue("/queue", layout="curator", lock_path="/locks")
        assert curator.ask("queue-put", "/queue", "plain", "a", 0) == "put"
        async with await ours.get() as item:
            assert item.data == b"a"
            await ours.put(b"b")
            await ours.put(b"c")
            # What we hold is not theirs.
            assert await curator.later("queue-take", "/queue", "/locks", 2) == "b c"
        assert await ours.size() == 0

    both(test)


def test_priorities_and_delays_are_read_alike(both: Test) -> None:
    async def test(zk: coati.Client, curator: Curator) -> None:
        assert curator.ask("queue-put", "/priority", "priority", "low", 200) == "put"
        ours = zk.queue("/priority", layout="curator-priority", lock_path="/locks")
        await ours.put(b"high", priority=5)
        got = []
        async for item in ours.take(timeout=0.0):
            async with item:
                got.append(item.data)
        assert got == [b"high", b"low"]
        named = zk.queue("/id", layout="curator-id")
        assert curator.ask("queue-put", "/id", "id", "one", 1) == "put"
        assert curator.ask("queue-put", "/id", "id", "two", 2) == "put"
        await named.put(b"three", id="an/id3")
        assert await named.remove("an/id1") == 1
        assert await named.remove("an/id3") == 1
        async with await named.get() as item:
            assert item.data == b"two"
        late = zk.queue("/delay", layout="curator-delay")
        assert curator.ask("queue-put", "/delay", "delay", "later", 2**42) == "put"
        assert curator.ask("queue-put", "/delay", "delay", "now", 1) == "put"
        async with await late.get() as item:
            assert item.data == b"now"
        with pytest.raises(TimeoutError):
            await late.get(timeout=0.0)

    both(test)

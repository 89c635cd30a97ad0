"""What stands behind the ensembles of tests: Java's command line, strangers' questions, simulated verbs, handles."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from coati.errors import NodeExists, ProtocolError
from coati.testing import children, probe
from coati.testing.backends import DEFAULTS
from coati.testing.background import Background, Stage
from coati.testing.ensemble import EnsembleError
from coati.testing.handles import Done, Shape
from coati.testing.simulated import SimEnsemble, cluster_config
from coati.testing.world import opened
from coati.wire.records import ACL, CreateRequest, Id

T = TypeVar("T")


# Java's servers.


@pytest.fixture
def java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a java that runs nothing."""
    launcher = tmp_path / "bin" / "java"
    launcher.parent.mkdir()
    launcher.write_text("")
    launcher.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.delenv(children.CLASSPATH_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jars(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name in ("zookeeper-3.9.3.jar", "netty.jar"):
        (directory / name).write_text("")
    return directory


@pytest.mark.parametrize("told", ["option", "environment", "directory here", "class path"])
def test_java_is_started_with_the_jars_that_were_told(
    java_home: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    option = None
    if told == "directory here":
        where = jars(java_home / children.CLASSPATH_DEFAULT)
    else:
        where = jars(java_home / "jars")
    if told == "option":
        option = str(where)
    elif told == "environment":
        monkeypatch.setenv(children.CLASSPATH_VARIABLE, str(where))
    elif told == "class path":
        option = f"{where}/netty.jar:{where}/zookeeper-3.9.3.jar"
    backend = children.java_backend(1, 0, {}, option)
    try:
        command = backend.command(Path("zoo.cfg"))
        assert command[0] == str(java_home / "bin" / "java")
        assert command[command.index("-cp") + 1] == f"{where}/netty.jar:{where}/zookeeper-3.9.3.jar"
        assert command[-2:] == [children.MAIN_CLASS, "zoo.cfg"]
    finally:
        asyncio.run(backend.close())


def test_a_machine_without_java_or_its_jars_says_so(java_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnsembleError, match="COATI_JAVA_CLASSPATH"):
        children.java_backend(1, 0, {})
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(java_home / "nothing"))
    with pytest.raises(EnsembleError, match="a java on PATH or JAVA_HOME"):
        children.java_backend(1, 0, {})


@pytest.mark.parametrize("hosts", ["nowhere", "host:port", ":2181", ""])
def test_an_ensemble_of_others_has_addresses(hosts: str) -> None:
    with pytest.raises(ValueError, match="not host:port"):
        children.ExternalBackend(hosts)


def test_the_chroot_of_an_ensemble_of_others_is_no_address() -> None:
    plans = children.ExternalBackend("a:1, [::1]:2/app").plans
    assert [(plan.host, plan.port) for plan in plans.values()] == [("a", 1), ("::1", 2)]


# Strangers' questions.


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A server that has one connection, and does this with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as conn:
                answer(conn)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()
        thread.join()


def hello(conn: socket.socket) -> None:
    conn.recv(1000)
    body = struct.pack(">iiqi16s?", 0, 10_000, 7, 16, bytes(16), False)
    conn.sendall(struct.pack(">i", len(body)) + body)


def replies(xid: int, err: int) -> Callable[[socket.socket], None]:
    def answer(conn: socket.socket) -> None:
        hello(conn)
        conn.recv(1000)
        conn.sendall(struct.pack(">iiqi", 16, xid, 5, err))

    return answer


def ask(address: tuple[str, int]) -> None:
    asked = probe.Probe(address)
    try:
        asked.call(1, CreateRequest(b"/a", b"", [ACL(31, Id("world", "anyone"))], 0).write)
    finally:
        asked.hang_up()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda conn: None, probe.ProbeFailed),
        (hello, probe.ProbeFailed),
        (replies(9, 0), ProtocolError),
        (replies(1, -110), NodeExists),
    ],
)
def test_an_odd_answer_is_an_error(answer: Callable[[socket.socket], None], error: type[Exception]) -> None:
    with listening(answer) as address, pytest.raises(error):
        ask(address)


def test_nobody_has_no_mode() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert probe.mode(nobody.getsockname()) is None
        with pytest.raises(probe.ProbeFailed):
            probe.Probe(nobody.getsockname())
    with listening(
        lambda conn: conn.sendall(b"This ZooKeeper instance is not currently serving requests\n")
    ) as address:
        assert probe.mode(address) is None


# Simulated verbs.


def test_simulated_members_have_all_roles_and_verbs() -> None:
    with opened(7, config=cluster_config(Shape.of(3, 1, {"tickTime": "100"}))) as world:
        e = SimEnsemble(world)
        assert e.role(4) == "observer"
        old = e.leader
        first, second = e.followers
        e.pause(old).result()
        assert e.role(old) == "paused"
        new = e.wait_leader(but=old).result()
        e.resume(old).result()
        e.settled().result()
        assert e.leader == new
        whole = [e.is_whole]
        e.cut(first, second).result()
        whole.append(e.is_whole)
        e.heal().result()
        assert [*whole, e.is_whole] == [True, False, True]
        e.partition({1}, {2, 3, 4}).result()
        assert "partition: [1] | [2, 3, 4]" in e.dump()
        with pytest.raises(ValueError, match="nobody in common"):
            e.partition({1}, {1})
        e.repair().result()
        assert e.stop(1).result() == 1
        assert e.role(1) == "stopped"
        e.start(1).result()
        assert e.expire((12345, b"")).result() is False
        for sid in e.sids:
            e.kill(sid).result()
        with pytest.raises(EnsembleError, match="nobody leads"):
            _ = e.leader
        with pytest.raises(EnsembleError, match="virtual seconds: a leader"):
            e.wait_leader().result()


# Handles.


def test_a_handle_has_what_the_ensemble_has() -> None:
    stage = Stage("memory", hosts=None, seed=5, classpath=None)
    try:
        e = stage.ensemble(Shape.of(3, 0, {}))
        assert (e.seed, e.sids, "seed=5" in repr(e)) == (5, [1, 2, 3], True)
        one, other = e.followers
        done: list[Done[object]] = [e.stop(one), e.cut(e.leader, other), e.heal()]
        for verb in done:
            verb.result()
        assert not e.is_whole
        e.start(one).result()
        e.pause(one).result()
        e.resume(one).result()
        e.settled().result()
        assert e.is_whole
    finally:
        stage.close()


def test_a_background_that_ends_cancels_what_runs_there() -> None:
    background = Background()
    waits = background.run(asyncio.Event().wait())
    background.ask(lambda: None)
    background.close()
    background.close()
    with pytest.raises(CancelledError):
        waits.result()


def test_the_keys_for_tests_are_as_the_documents_say() -> None:
    assert (DEFAULTS["tickTime"], DEFAULTS["forceSync"]) == ("200", "no")

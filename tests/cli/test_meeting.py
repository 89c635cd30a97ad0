"""members, counter, barrier."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from coati.cli import exits
from coati.cli.output import Output
from coati.sync import Client as SyncClient
from tests.cli import kit
from tests.cli.beside import beside
from tests.cli.test_held import DEADLINE_S, running, sh
from tests.interop.peers import eventually


def test_who_is_there(cli: kit.Cli, hosts: str) -> None:
    assert (cli("members", "/g").code, cli("members", "/g").out) == (exits.DONE, b"")
    with SyncClient(hosts) as zk, zk.group("/g").join(b"h2:80", "two"), zk.group("/g").join(b"h1:80", "one"):
        assert cli("members", "/g").out == b"one\th1:80\ntwo\th2:80\n"
        assert cli("-o", "table", "members", "/g").out == b"NAME  DATA\none   h1:80\ntwo   h2:80\n"
        assert json.loads(cli("-o", "json", "members", "/g").out)[1] == {"name": "two", "data": "h2:80"}


def test_a_member_is_there_until_it_is_interrupted(cli: kit.Cli, hosts: str) -> None:
    with SyncClient(hosts) as zk:

        def interrupt() -> None:
            eventually(lambda: zk.group("/g").current() == {"me": b"h:1"}, "it has joined")
            os.kill(os.getpid(), signal.SIGINT)

        with beside(interrupt):
            assert cli("members", "/g", "--join", "me", "--data", "h:1").code == exits.DONE
        assert cli("members", "/g").out == b""


def test_a_member_is_there_while_its_command_runs(cli: kit.Cli, tmp_path: Path) -> None:
    done = cli("members", "/g", "--join", "me", *sh(f"echo $ZK_MEMBER > {tmp_path}/seen; exit 4"))
    assert (done.code, done.err) == (4, "coati members: /g/me is there\n")
    assert (tmp_path / "seen").read_text() == "/g/me\n"
    assert cli("members", "/g").out == b""


def test_who_comes_and_goes(cli: kit.Cli, hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str, str]] = []
    heard = threading.Condition()

    def stream(out: Output, record: dict[str, bytes], line: str | None = None) -> None:
        with heard:
            told.append((str(record["event"]), str(record["name"]), record["data"].decode()))
            heard.notify_all()

    def wait_for(event: str) -> None:
        with heard:
            assert heard.wait_for(lambda: told and told[-1][0] == event, DEADLINE_S)

    def come_and_go() -> None:
        with SyncClient(hosts) as zk:
            with zk.group("/g").join(b"1", "a") as membership:
                wait_for("joined")
                membership.set(b"2")
                wait_for("changed")
            wait_for("left")
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Output, "stream", stream)
    with beside(come_and_go):
        assert cli("members", "/g", "--follow").code == exits.INTERRUPTED
    assert told == [("joined", "a", "1"), ("changed", "a", "2"), ("left", "a", "2")]


def test_a_counter(cli: kit.Cli, hosts: str) -> None:
    steps: tuple[tuple[list[str], int], ...] = (
        ([], 0),
        (["+3"], 3),
        (["-5"], -2),
        (["=40"], 40),
        (["=-1"], -1),
        ([], -1),
    )
    for words, value in steps:
        done = cli("counter", "/c", *words)
        assert (done.code, done.text, done.err) == (exits.DONE, f"{value}\n", "")
    assert json.loads(cli("-o", "json", "counter", "/c", "+1").out) == {"path": "/c", "value": 0}
    with SyncClient(hosts) as zk:
        assert zk.get("/c").data == b"0"
        zk.set("/c", b"many")
    done = cli("counter", "/c", "+1")
    assert done.code == exits.CONFLICT
    assert "/c is no counter" in done.err


def test_a_counter_of_curator_s_has_its_limits(cli: kit.Cli, hosts: str) -> None:
    assert cli("counter", "/c", "=2147483647", "--layout", "curator-int").code == exits.DONE
    assert cli("counter", "/c", "+1", "--layout", "curator-int").code == exits.CONFLICT
    with SyncClient(hosts) as zk:
        assert zk.get("/c").data == b"\x7f\xff\xff\xff"


def test_a_barrier_holds_back_until_it_is_open(cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    assert cli("barrier", "close", "/b").err == ""
    assert cli("barrier", "close", "/b").err == "coati barrier: it was closed already\n"
    done = cli("barrier", "wait", "/b", "--wait", "0.05")
    assert (done.code, done.err) == (exits.CHECK_FAILED, "coati barrier: not within 0.05 s\n")
    os.mkfifo(tmp_path / "go")
    with running(hosts, "barrier", "wait", "/b", *sh(f"echo in > {tmp_path}/go; exit 5")) as process:
        assert cli("barrier", "open", "/b").err == ""
        assert (tmp_path / "go").read_text() == "in\n"
        assert process.wait(DEADLINE_S) == 5
    assert cli("barrier", "open", "/b").err == "coati barrier: it was open already\n"
    assert cli("barrier", "wait", "/b").code == exits.DONE


def test_so_many_meet(cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    assert cli("barrier", "wait", "/b", "--count", "2", "--wait", "0.05").code == exits.CHECK_FAILED
    seen = tmp_path / "seen"
    with running(hosts, "barrier", "wait", "/b", "--count", "2", *sh(f"echo in > {seen}")) as process:
        with SyncClient(hosts) as zk:
            eventually(lambda: zk.exists("/b") and len(zk.children("/b")) == 1, "one waits")
        assert not seen.exists()
        assert cli("barrier", "wait", "/b", "--count", "2").code == exits.DONE
        assert process.wait(DEADLINE_S) == exits.DONE
    assert seen.read_text() == "in\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["members", "/g", "--", "true"],
        ["counter", "/c", "3"],
        ["counter", "/c", "+-3"],
        ["barrier", "open", "/b", "--count", "3"],
        ["barrier", "close", "/b", "--", "true"],
        ["barrier", "wait", "/b", "--count", "0"],
    ],
)
def test_flags_that_make_no_sense(wrong: list[str], cli: kit.Cli) -> None:
    assert cli(*wrong).code == exits.USAGE


@pytest.mark.parametrize("command", ["queue", "members", "counter", "barrier"])
def test_help_has_examples(command: str) -> None:
    assert f"  coati {command} " in kit.run(command, "--help").text

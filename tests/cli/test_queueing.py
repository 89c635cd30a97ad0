"""queue: items in and out, and back if their work fails."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from coati.cli import exits
from coati.sync import Client as SyncClient
from tests.cli import kit
from tests.cli.test_held import DEADLINE_S, running, sh
from tests.interop.peers import eventually


def test_items_come_out_as_they_went_in(cli: kit.Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0from a file\n")
    put = cli("queue", "put", "/q", "one", "-", f"@{tmp_path}/file", stdin=b"two\n")
    assert (put.code, put.err) == (exits.DONE, "")
    assert cli("queue", "ls", "/q").lines == put.lines
    assert len(put.lines) == 3
    for data in (b"one", b"two\n", b"\0from a file\n"):
        done = cli("queue", "take", "/q", "--wait", "9")
        assert (done.code, done.out, done.err) == (exits.DONE, data, "")
    assert cli("queue", "ls", "/q").out == b""
    done = cli("queue", "take", "/q", "--wait", "0")
    assert (done.code, done.out, done.err) == (exits.CHECK_FAILED, b"", "coati queue: no item within 0 s\n")


def test_small_priorities_go_first_and_delays_last(cli: kit.Cli) -> None:
    assert cli("queue", "put", "/q", "--lines", stdin=b"a\nb\n").code == exits.DONE
    assert cli("queue", "put", "/q", "c", "--priority", "7").code == exits.DONE
    assert cli("queue", "put", "/q", "d", "--delay", "3600").code == exits.DONE
    done = cli("-o", "jsonl", "queue", "take", "/q", "-n", "0", "--wait", "0")
    assert done.code == exits.CHECK_FAILED
    assert [(line["data"], line["attempts"]) for line in map(json.loads, done.lines)] == [("c", 1), ("a", 1), ("b", 1)]
    assert cli("queue", "take", "/q", "-n", "2", "--wait", "0").out == b""


def test_many_items_are_a_line_each(cli: kit.Cli) -> None:
    cli("queue", "put", "/q", "a", "b")
    assert cli("queue", "take", "/q", "-n", "2").out == b"a\nb\n"


def test_one_item_in_every_form(cli: kit.Cli) -> None:
    for form in ("json", "yaml", "table"):
        name = cli("queue", "put", "/q", "data").text.strip()
        done = cli("-o", form, "queue", "take", "/q")
        told = {"name": name, "attempts": 1, "data": "data"}
        if form == "json":
            assert json.loads(done.out) == told
        elif form == "yaml":
            assert done.text == f'name: "{name}"\nattempts: 1\ndata: "data"\n'
        else:
            assert done.out == b"data"


def test_a_command_s_success_is_what_deletes_an_item(cli: kit.Cli, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    cli("queue", "put", "/q", "work")
    done = cli("queue", "take", "/q", *sh(f'cat > {seen}; echo " $ZK_ATTEMPTS" >> {seen}; exit 3'))
    assert done.code == 3
    assert "goes back: the command ended with 3" in done.err
    assert seen.read_text() == "work 1\n"
    long = cli("-o", "json", "queue", "ls", "-l", "/q")
    (row,) = json.loads(long.out)
    assert (row["taken"], row["bytes"], row["attempts"], row["priority"]) == (False, 4, 1, 100)
    done = cli("queue", "take", "/q", *sh(f"echo $ZK_ATTEMPTS $ZK_ITEM > {seen}"))
    assert (done.code, done.err) == (exits.DONE, "")
    assert seen.read_text() == f"2 {row['name']}\n"
    assert cli("queue", "ls", "/q").out == b""


def test_an_item_is_taken_while_its_command_runs(cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    cli("queue", "put", "/q", "work")
    with running(hosts, "queue", "take", "/q", *sh(f"read x < {tmp_path}/go")) as process:
        eventually(lambda: "\tyes\t" in cli("queue", "ls", "-l", "/q").text, "it is taken")
        assert cli("queue", "take", "/q", "--wait", "0").code == exits.CHECK_FAILED
        (tmp_path / "go").write_text("x\n")
        assert process.wait(DEADLINE_S) == exits.DONE
    assert cli("queue", "ls", "/q").out == b""


def test_an_item_that_is_lost_ends_the_command(cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    cli("queue", "put", "/q", "work")
    script = f"trap 'exit 0' TERM; echo > {tmp_path}/seen; while :; do sleep 0.02; done"
    with running(hosts, "queue", "take", "/q", *sh(script)) as process, SyncClient(hosts) as zk:
        eventually((tmp_path / "seen").exists, "the command runs")
        zk.delete(f"/q/taken/{zk.children('/q/taken')[0]}")
        assert process.wait(DEADLINE_S) == exits.LOST
    # It waits for somebody else.
    assert len(cli("queue", "ls", "/q").lines) == 1


def test_a_signal_ends_the_wait_for_an_item(hosts: str) -> None:
    with running(hosts, "queue", "take", "/q") as process, SyncClient(hosts) as zk:
        eventually(lambda: zk.exists("/q/entries"), "it waits")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == exits.INTERRUPTED


def test_queues_of_others(cli: kit.Cli, hosts: str) -> None:
    with SyncClient(hosts) as zk:
        zk.queue("/k", layout="kazoo").put(b"kazoo's")
        assert cli("queue", "take", "/k", "--layout", "kazoo", "--", "false").code == 1
        assert cli("queue", "take", "/k", "--layout", "kazoo").out == b"kazoo's"
        assert cli("queue", "put", "/c", "ours", "--layout", "curator-id", "--id", "x").code == exits.DONE
        long = cli("-o", "json", "queue", "ls", "-l", "/c", "--layout", "curator-id")
        assert "|x|" in json.loads(long.out)[0]["name"]
        assert cli("queue", "take", "/c", "--layout", "curator-id", "--lock-path", "/cl").out == b"ours"


@pytest.mark.parametrize(
    "wrong",
    [
        ["queue", "take", "/q", "data"],
        ["queue", "put", "/q", "x", "--layout", "curator-id"],
        ["queue", "put", "/q", "x", "--priority", "1000"],
        ["queue", "give", "/q"],
    ],
)
def test_flags_that_make_no_sense(wrong: list[str], cli: kit.Cli) -> None:
    assert cli(*wrong).code == exits.USAGE

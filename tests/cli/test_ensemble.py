"""ensemble: up, looked at, broken, mended, down; and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coati.cli import exits
from coati.cli.ensemble import ask
from coati.cli.exits import CommandError
from coati.cli.supervisor import started_at
from coati.sync import Client as SyncClient
from tests.cli import kit
from tests.cli.beside import beside
from tests.interop.peers import eventually

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No ensemble of whoever runs the tests; those of the test go with it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    yield tmp_path / "run" / "coati"
    for line in kit.run("-o", "jsonl", "ensemble", "ls").lines:
        kit.run("ensemble", "down", "--name", json.loads(line)["name"])


def test_an_ensemble_is_broken_and_mended(homes: Path) -> None:
    """In the foreground of this process, told from a thread beside it."""
    pids: list[int] = []

    def tell(*words: str) -> dict[int, dict[str, object]]:
        return {server["id"]: server for server in ask((homes / "local").resolve(), words[0], list(words[1:]))}

    def role(sid: int, *words: str) -> object:
        return tell(*(words or ("status",)))[sid]["role"]

    def scene() -> None:
        eventually((homes / "local" / "control").exists, "it starts", DEADLINE_S)
        eventually(lambda: "leader" in [role(sid) for sid in (1, 2, 3)], "it serves", DEADLINE_S)
        leader = next(sid for sid in (1, 2, 3) if role(sid) == "leader")
        others = [sid for sid in (1, 2, 3) if sid != leader]
        for sid in others:
            eventually(lambda: role(sid) == "follower", "it follows", DEADLINE_S)  # noqa: B023  # called at once
        hosts = ",".join(str(server["hosts"]) for server in tell("status").values())
        with SyncClient(hosts) as zk:
            zk.create("/kept", b"here")
        reach = tell("partition", str(leader))
        assert [reach[sid]["reaches"] for sid in (leader, *others)] == [[], [others[1]], [others[0]]]
        # Both sides are told by their roles: one server alone serves nobody.
        eventually(lambda: "leader" in [role(sid) for sid in others], "the others elect one", DEADLINE_S)
        eventually(lambda: role(leader) == "looking", "the old leader finds out", DEADLINE_S)
        tell("heal")
        eventually(lambda: role(leader) == "follower", "it follows", DEADLINE_S)
        assert role(leader, "pause", str(leader)) == "paused"
        assert role(leader, "resume", str(leader)) == "follower"
        assert role(1, "kill", "1", "2") == "stopped"
        for wrong in (("kill", "1"), ("start", "3"), ("kill", "9"), ("partition", "1", "1")):
            with pytest.raises(CommandError):
                tell(*wrong)
        assert role(2, "start", "1", "2") in ("leader", "follower")
        with SyncClient(hosts) as zk:
            assert zk.get("/kept").data == b"here"
        pids.extend(int(str(server["pid"])) for server in tell("status").values())
        tell("pause", "1")
        tell("down")

    with beside(scene):
        done = kit.run("ensemble", "up", "--set", "tickTime=200")
    assert (done.code, len(done.text.split(","))) == (exits.DONE, 3)
    assert done.err == "coati ensemble: Ctrl-C stops it, and its data goes\n"
    assert len(pids) == 3
    assert [pid for pid in pids if started_at(pid)] == []
    assert list(homes.iterdir()) == []


def test_an_ensemble_in_the_background(homes: Path) -> None:
    done = kit.run("ensemble", "up", "--servers", "1", "--observers", "1", "--background")
    assert (done.code, done.err) == (exits.DONE, "")
    hosts = done.text.strip()
    first, second = hosts.split(",")
    home = (homes / "local").resolve()
    assert kit.run("ensemble", "ls").text == f"local\t{hosts}\t2\t{home}\n"
    rows = json.loads(kit.run("-o", "json", "ensemble", "status").out)
    assert [(row["id"], row["hosts"], row["role"]) for row in rows] == [(1, first, "leader"), (2, second, "observer")]
    assert kit.run("ensemble", "down").code == exits.DONE
    assert not home.exists()
    assert [row["pid"] for row in rows if started_at(row["pid"])] == []
    assert kit.run("ensemble", "ls").out == b""


def test_data_is_kept_in_a_directory_of_one_s_own(tmp_path: Path, homes: Path) -> None:
    """In the foreground of this process, and ended from another thread by SIGINT, as a person would."""
    home = tmp_path / "home"
    codes: list[int] = []
    seen: list[str] = []

    def use() -> None:
        eventually(lambda: "observer" in kit_process("ensemble", "status", "--name", "one"), "it serves", DEADLINE_S)
        row = json.loads(kit_process("-o", "jsonl", "ensemble", "ls"))
        seen.append(f"{row['name']} {row['serving']} {row['directory']}")
        with SyncClient(row["hosts"]) as zk:
            seen.append(str(zk.ensure("/kept")))
        os.kill(os.getpid(), signal.SIGINT)

    for is_new in (True, False):
        with beside(use):
            done = kit.run(
                "ensemble", "up", "--name", "one", "--servers", "1", "--observers", "1", "--dir", str(home),
                "--set", "tickTime=200",
            )  # fmt: skip
        codes.append(done.code)
        assert seen[-2:] == [f"one 2 {home}", str(is_new)]
        assert len(done.text.split(",")) == 2
        assert "tickTime=200" in (home / "zoo1.cfg").read_text()
    assert codes == [exits.DONE, exits.DONE]
    assert list(homes.iterdir()) == []


def kit_process(*argv: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "coati", *argv], capture_output=True, text=True, check=False, timeout=DEADLINE_S
    ).stdout


def test_what_a_killed_supervisor_leaves_is_taken_down(homes: Path) -> None:
    assert kit.run("ensemble", "up", "--servers", "1", "--background").code == exits.DONE
    home = (homes / "local").resolve()
    state = json.loads((home / "ensemble.json").read_text())
    supervisor, member = (process["pid"] for process in state["processes"])
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: started_at(supervisor) is None, "it is gone")
    assert "\t0\t" in kit.run("ensemble", "ls").text
    assert started_at(member) is not None
    # A process of the same number that began at another time is somebody else.
    state["processes"].append({"pid": os.getpid(), "started": "1"})
    (home / "ensemble.json").write_text(json.dumps(state))
    done = kit.run("ensemble", "down")
    assert done.code == exits.DONE
    assert "what is left of it is killed" in done.err
    eventually(lambda: started_at(member) is None, "the server is gone")
    assert not home.exists()


def test_what_cannot_be(homes: Path, tmp_path: Path) -> None:
    assert kit.run("ensemble", "up", "--servers", "1", "--background").code == exits.DONE
    for words, code in (
        (["up"], exits.CONFLICT),
        (["kill", "7"], exits.CONFLICT),
        (["kill"], exits.USAGE),
        (["heal", "1"], exits.USAGE),
        (["partition", "1", "1"], exits.CONFLICT),
        (["up", "--name", "two", "--servers", "0"], exits.USAGE),
        (["up", "--name", "../two"], exits.USAGE),
        (["status", "--name", "two"], exits.MISSING),
    ):
        assert kit.run("ensemble", *words).code == code, words
    port = json.loads(kit.run("-o", "jsonl", "ensemble", "status").out)["hosts"].rpartition(":")[2]
    done = kit.run("ensemble", "up", "--name", "two", "--servers", "1", "--background", "--port", port)
    assert done.code == exits.CONFLICT
    assert f"port {port} is not free" in done.err
    done = kit.run("ensemble", "up", "--name", "two", "--servers", "1", "--background", "--set", "tickTime=never")
    assert done.code == exits.CONFLICT
    assert "server 1 has ended" in done.err


def test_help_has_examples() -> None:
    assert "  coati ensemble up " in kit.run("ensemble", "--help").text

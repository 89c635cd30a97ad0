"""ensemble: up, looked at, broken, mended, down; and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coati.cli import exits
from coati.cli.supervisor import started_at
from coati.sync import Client as SyncClient
from tests.cli import kit
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


def status(*words: str) -> dict[int, dict[str, object]]:
    done = kit.run("-o", "json", "ensemble", *(words or ("status",)))
    assert (done.code, done.err) == (exits.DONE, "")
    return {server["id"]: server for server in json.loads(done.out)}


def roles(*words: str) -> dict[int, object]:
    return {sid: server["role"] for sid, server in status(*words).items()}


def test_an_ensemble_is_broken_and_mended(homes: Path) -> None:
    done = kit.run("ensemble", "up", "--background")
    assert (done.code, done.err) == (exits.DONE, "")
    hosts = done.text.strip()
    assert sorted(map(str, roles().values())) == ["follower", "follower", "leader"]
    with SyncClient(hosts) as zk:
        zk.create("/kept", b"here")
    leader = next(sid for sid, role in roles().items() if role == "leader")
    others = [sid for sid in (1, 2, 3) if sid != leader]
    # Both halves of a partition are told by their members' roles: one server alone serves nobody.
    reach = status("partition", str(leader))
    assert [reach[sid]["reaches"] for sid in (leader, *others)] == [[], [others[1]], [others[0]]]
    eventually(lambda: "leader" in [roles()[sid] for sid in others], "the others elect one", DEADLINE_S)
    eventually(lambda: roles()[leader] == "looking", "the old leader finds out", DEADLINE_S)
    status("heal")
    eventually(lambda: roles()[leader] == "follower", "it follows", DEADLINE_S)
    assert roles("pause", str(leader))[leader] == "paused"
    assert roles("resume", str(leader))[leader] == "follower"
    assert roles("kill", "1", "2")[1] == "stopped"
    assert kit.run("ensemble", "kill", "1").code == exits.CONFLICT
    assert roles("start", "1", "2")[2] in ("leader", "follower")
    assert kit.run("ensemble", "start", "1").code == exits.CONFLICT
    with SyncClient(hosts) as zk:
        assert zk.get("/kept").data == b"here"
    home = (homes / "local").resolve()
    pids = [server["pid"] for server in status().values()]
    assert kit.run("ensemble", "down").code == exits.DONE
    assert not home.exists()
    assert [pid for pid in pids if started_at(int(str(pid)))] == []
    assert kit.run("ensemble", "status").code == exits.MISSING


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
        user = threading.Thread(target=use)
        user.start()
        done = kit.run(
            "ensemble", "up", "--name", "one", "--servers", "1", "--observers", "1", "--dir", str(home),
            "--set", "tickTime=200",
        )  # fmt: skip
        user.join()
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

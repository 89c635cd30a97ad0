"""What the storage commands write, in each form, on files of a few known bytes; and beside a server that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coati.cli import exits
from coati.wire import codes
from coati.wire.records import ACL, CreateTxn, Id, SetDataTxn
from coati.wire.txns import TxnHeader, encode_txn
from tests.cli import kit
from tests.interop import peers, raw
from tests.interop.peers import Server
from tests.storage.kit import ROOT, Row, log_bytes, snapshot_bytes

OPEN = [ACL(31, Id("world", "anyone"))]
NOW = 1_700_000_000_000
SESSION = 0x100002E4A0D0001
OWNED: Row = (b"/a\x1b", b"\xff", -1, 3, 4, NOW, NOW + 5, 1, 0, 0, SESSION, 3)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot of two znodes, one with a name that would switch a terminal, and a log of two txns."""
    (tmp_path / "snapshot.4").write_bytes(snapshot_bytes([ROOT, OWNED]))
    payloads = [
        encode_txn(TxnHeader(SESSION, 7, 1, NOW, codes.OP_CREATE), CreateTxn(b"/b", b"x\ty", OPEN, True, 1), None),
        encode_txn(TxnHeader(SESSION, 8, 2, NOW + 1, codes.OP_SET_DATA), SetDataTxn(b"/b", b"\xff", 1), None),
    ]
    (tmp_path / "log.1").write_bytes(log_bytes(payloads))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_snap_ls(directory: Path) -> None:
    size = (directory / "snapshot.4").stat().st_size
    assert kit.run("snap", "ls", ".").text == f"snapshot.4\t0x4\t{size}\t2\t0\t\t\tyes\n"
    table = kit.run("snap", "ls", "snapshot.4", is_terminal=True).lines
    assert table[0].split() == ["FILE", "ZXID", "BYTES", "ZNODES", "SESSIONS", "DIGEST", "FUZZY_TO", "VALID"]
    assert table[1].split() == ["snapshot.4", "0x4", str(size), "2", "0", "yes"]
    expected = {
        "file": "snapshot.4", "zxid": "0x4", "bytes": size, "znodes": 2, "sessions": 0, "digest": None,
        "fuzzy_to": None, "valid": True,
    }  # fmt: skip
    assert json.loads(kit.run("-o", "json", "snap", "ls", ".").out) == [expected]
    yaml = kit.run("-o", "yaml", "snap", "ls", ".").lines
    assert yaml[:2] == ['- file: "snapshot.4"', '  zxid: "0x4"']


def test_snap_dump(directory: Path) -> None:
    times = "2023-11-14T22:13:20.000Z\t2023-11-14T22:13:20.005Z"
    row = f"ephemeral\t0x100002e4a0d0001\t1\t1\t0\t0\t0x3\t0x4\t0x3\t{times}\tworld:anyone:cdrwa"
    assert kit.run("snap", "dump", "snapshot.4", "/a\x1b").text == f"/a\x1b\t{row}\n"
    shown = kit.run("snap", "dump", "snapshot.4", "--data", is_terminal=True)
    assert "\x1b" not in shown.text
    assert shown.lines[2].split()[0] == "/a\\x1b"
    found = json.loads(kit.run("snap", "dump", "snapshot.4", "--data", "-o", "jsonl").lines[1])
    assert (found["path"], found["data_base64"], found["owner"]) == ("/a\x1b", "/w==", "0x100002e4a0d0001")


def test_snap_top_diff_and_verify(directory: Path) -> None:
    (directory / "snapshot.0").write_bytes(snapshot_bytes([ROOT]))
    assert kit.run("snap", "top", "snapshot.4", "-n", "1").text == "/a\x1b\t1\n"
    assert kit.run("-o", "json", "snap", "top", "snapshot.4", "--by", "children", "-n", "1").text == (
        '[\n{"path": "/", "children": 1}\n]\n'
    )
    done = kit.run("snap", "diff", "snapshot.0", "snapshot.4")
    assert (done.code, done.text) == (exits.CHECK_FAILED, "created\t/a\x1b\t\t1\t\t1\t0x4\n")
    assert kit.run("snap", "verify", ".").text == "./snapshot.0\tyes\t1\t\t\n./snapshot.4\tyes\t2\t\t\n"
    (directory / "snapshot.4").write_bytes(snapshot_bytes([ROOT, OWNED])[:-1])
    end = (directory / "snapshot.4").stat().st_size - 12
    done = kit.run("-o", "json", "snap", "verify", "snapshot.4")
    assert json.loads(done.out)[0]["reason"] == "the checksum is wrong"
    assert json.loads(done.out)[0]["offset"] == end
    assert done.err == f"coati snap: snapshot.4 at byte {end}: the checksum is wrong\n"


def test_log_ls_and_verify(directory: Path) -> None:
    size = (directory / "log.1").stat().st_size
    times = "2023-11-14T22:13:20.000Z\t2023-11-14T22:13:20.001Z"
    assert kit.run("log", "ls", ".").text == f"log.1\t0x1\t0x2\t2\t{size}\t{size}\t{times}\t\n"
    (directory / "log.3").write_bytes(log_bytes([]))
    assert kit.run("log", "ls", "log.3").text == "log.3\t\t\t0\t16\t16\t\t\t\n"
    assert kit.run("log", "verify", ".").text == "./log.1\tok\t2\t0x1\t0x2\t\t\n./log.3\tok\t\t\t\t\t\n"
    found = json.loads(kit.run("-o", "json", "log", "verify", ".").out)
    assert found[0] == {
        "file": "./log.1", "state": "ok", "txns": 2, "first": "0x1", "last": "0x2", "offset": None, "reason": None
    }  # fmt: skip


def test_log_dump_and_history(directory: Path) -> None:
    session = "0x100002e4a0d0001"
    created = f"0x1\t2023-11-14T22:13:20.000Z\t{session}\t7\t\tcreate\t/b\t0\t3\tephemeral"
    changed = f"0x2\t2023-11-14T22:13:20.001Z\t{session}\t8\t\tsetData\t/b\t1\t1\t"
    for command in (("log", "dump", "log.1"), ("log", "history", "/b", ".")):
        assert kit.run(*command).text == f"{created}\n{changed}\n"
        assert kit.run(*command, "--data").out == f"{created}\tx\\ty\n{changed}\t\\xff\n".encode()
        assert kit.run(*command, "-o", "table").lines[0].split()[:4] == ["ZXID", "TIME", "SESSION", "CXID"]
    found = json.loads(kit.run("-o", "json", "log", "history", "/b", ".", "--data").out)
    assert found[1] == {
        "zxid": "0x2", "time": "2023-11-14T22:13:20.001Z", "session": session, "cxid": 8, "part": None,
        "type": "setData", "path": "/b", "version": 1, "size": 1, "detail": None, "data_base64": "/w==",
    }  # fmt: skip


def test_log_replay_forms(directory: Path) -> None:
    where = ("log", "replay", ".", "--until", "2")
    assert kit.run(*where, "ls").text == "b\nzookeeper\n"
    assert kit.run(*where, "get", "/b").out == b"\xff"
    assert json.loads(kit.run("-o", "json", *where, "get", "/b").out) == {"path": "/b", "data_base64": "/w=="}
    assert kit.run(*where, "du", "/zookeeper", "-o", "json").text.splitlines()[1] == (
        '{"bytes": 17, "znodes": 1, "path": "/zookeeper/config"},'
    )
    summary = kit.run(*where, is_terminal=True).lines
    assert summary[0].split() == ["zxid", "0x2"]
    assert summary[3].split() == ["znodes", "5"]
    assert kit.run("-o", "yaml", *where, "stat", "/b").lines[0] == 'path: "/b"'


# Beside a server


def test_what_a_running_server_has_done_is_found_and_brought_back(server: Server, hosts: str) -> None:
    """Its log is open and padded, or written to at this moment; nothing of it is disturbed."""
    path = "/" + hosts.partition("/")[2] + "/conf"
    where = str(server.data_dir)
    with peers.session(server) as control:
        assert control.call(raw.CREATE, raw.create(path, b"one"))[0] == 0
        assert control.call(raw.SET_DATA, raw.set_data(path, b"two"))[0] == 0
        assert control.call(raw.DELETE, raw.path_version(path))[0] == 0
        control.close()
    found = [json.loads(line) for line in kit.run("-o", "jsonl", "log", "history", path, where, "--data").lines]
    assert [(row["type"], row["version"], row.get("data")) for row in found] == [
        ("create", 0, "one"), ("setData", 1, "two"), ("delete", None, None)
    ]  # fmt: skip
    done = kit.run("log", "replay", where, "--until", found[0]["zxid"], "get", path)
    assert (done.code, done.out) == (exits.DONE, b"one")
    done = kit.run("undelete", path, "--at", found[1]["zxid"], "--data-dir", where, "-s", server.address, "--yes")
    assert (done.code, done.text) == (exits.DONE, f"create {path} two\n")
    assert kit.run("-s", server.address, "get", path).out == b"two"
    assert kit.run("log", "verify", where).code == exits.DONE
    assert kit.run("snap", "verify", where).code == exits.DONE
    newest = max((server.data_dir / "version-2").glob("log.*"), key=lambda one: int(one.name[4:], 16))
    done = kit.run("log", "repair", str(newest), "--yes")
    assert (done.code, done.out) == (exits.DONE, b"")

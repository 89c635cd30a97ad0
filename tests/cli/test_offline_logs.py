"""`coati log` and `coati purge` on what Java wrote, on damaged copies, and on what is no log at all."""

from __future__ import annotations

import fcntl
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from coati.cli import exits
from coati.storage import format
from coati.wire import codes
from coati.wire.records import ACL, CreateTxn, Id, MultiTxn, SetDataTxn, Txn
from coati.wire.txns import AnyTxn, CloseSessionTxn, DeleteTxn, ErrorTxn, TxnHeader, encode_record, encode_txn
from tests.cli import kit
from tests.storage.kit import GOLDEN_NAMES, entry, golden, log_bytes, log_of

OPEN = [ACL(31, Id("world", "anyone"))]
LAST_ZXID = 0x204
SESSION = 0x1000020FEE00000


@pytest.fixture(params=range(len(GOLDEN_NAMES)), ids=GOLDEN_NAMES)
def java(request: pytest.FixtureRequest) -> Path:
    found: Path = golden()[request.param]
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Somebody's data directory, for changing it."""
    shutil.copytree(golden()[0], tmp_path / "data")
    return tmp_path / "data"


def rows(done: kit.Done) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.lines]


def logs_of(directory: Path) -> list[Path]:
    return sorted((directory / "version-2").glob("log.*"), key=lambda path: int(path.name[4:], 16))


def txn(zxid: int, op: int, record: AnyTxn, *, session: int = SESSION) -> bytes:
    return encode_txn(TxnHeader(session, zxid, zxid, 1_700_000_000_000 + zxid, op), record, 1)


# What is sound


def test_java_s_logs_are_listed_and_sound(java: Path) -> None:
    done = kit.run("-o", "jsonl", "log", "ls", str(java))
    assert (done.code, done.err) == (exits.DONE, "")
    found = rows(done)
    assert [row["file"] for row in found] == [path.name for path in logs_of(java)]
    assert sum(int(str(row["txns"])) for row in found) == LAST_ZXID
    assert found[-1]["last"] == hex(LAST_ZXID)
    assert {row["end"] for row in found} == {""}
    done = kit.run("log", "verify", str(java))
    assert (done.code, done.err) == (exits.DONE, "")
    assert {line.split("\t")[1] for line in done.lines} == {"ok"}


def test_a_dump_has_each_txn_and_what_is_asked_for(java: Path) -> None:
    every = rows(kit.run("-o", "jsonl", "log", "dump", str(java), "--data"))
    zxids = [int(str(row["zxid"]), 16) for row in every]
    assert list(dict.fromkeys(zxids)) == list(range(1, LAST_ZXID + 1))
    part = rows(kit.run("-o", "jsonl", "log", "dump", str(java), "--data", "--from", "0x90", "--to", "0x1e6"))
    assert part == [row for row in every if 0x90 <= int(str(row["zxid"]), 16) <= 0x1E6]
    session = str(every[5]["session"])
    part = rows(kit.run("-o", "jsonl", "log", "dump", str(java), "--data", "--session", session))
    assert part == [row for row in every if row["session"] == session]
    part = rows(kit.run("-o", "jsonl", "log", "dump", str(java), "--data", "--path", "/deep/l0/l1"))
    assert part == [row for row in every if (str(row["path"]) + "/").startswith("/deep/l0/l1/")]
    one = rows(kit.run("-o", "jsonl", "log", "dump", str(logs_of(java)[0]), "--data"))
    assert one == every[: len(one)]


def test_the_history_of_a_znode_ends_with_what_java_shows(java: Path) -> None:
    expected = json.loads((java / "expected.json").read_text())["tree"]
    seen = 0
    for path in sorted(expected)[::23]:
        if path.startswith("/zookeeper") or path == "/":
            continue
        done = kit.run("-o", "jsonl", "log", "history", path, str(java), "--data")
        last = [row for row in rows(done) if row["type"] != "setACL"][-1]
        stat = expected[path]["stat"]
        assert int(str(last["zxid"]), 16) == stat["mzxid"]
        assert (last["version"], last["size"] or 0) == (stat["version"], stat["dataLength"])
        seen += 1
    assert seen > 5
    # Java logs the parts of a multi that it refused.
    refused = rows(kit.run("-o", "jsonl", "log", "dump", str(java), "--path", "/never"))
    assert {row["detail"] for row in refused} == {"refused with its multi"}
    assert "/never" not in expected
    done = kit.run("log", "history", "/never", str(java))
    assert (done.code, done.out) == (exits.DONE, b"")
    assert "no txn" in done.err


def test_multis_sessions_and_errors_are_taken_apart(tmp_path: Path) -> None:
    parts = [
        Txn(codes.OP_CREATE, encode_record(CreateTxn(b"/a", b"1", OPEN, False, 1))),
        Txn(codes.OP_SET_DATA, encode_record(SetDataTxn(b"/b", b"22", 4))),
    ]
    refused = [Txn(codes.OP_ERROR, encode_record(ErrorTxn(0))), Txn(codes.OP_ERROR, encode_record(ErrorTxn(-101)))]
    payloads = [
        txn(1, codes.OP_CREATE, CreateTxn(b"/b", None, OPEN, True, 1)),
        txn(2, codes.OP_MULTI, MultiTxn(parts)),
        txn(3, codes.OP_MULTI, MultiTxn(refused)),
        txn(4, codes.OP_ERROR, ErrorTxn(-110)),
        txn(5, codes.OP_DELETE, DeleteTxn(b"/a")),
        txn(6, codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/b"])),
    ]
    (tmp_path / "log.1").write_bytes(log_bytes(payloads))
    found = rows(kit.run("-o", "jsonl", "log", "dump", str(tmp_path), "--data"))
    assert [(row["zxid"], row["part"], row["type"], row["path"], row["detail"]) for row in found] == [
        ("0x1", None, "create", "/b", "ephemeral"),
        ("0x2", "1/2", "create", "/a", None),
        ("0x2", "2/2", "setData", "/b", None),
        ("0x3", "1/2", "error", None, "refused with its multi"),
        ("0x3", "2/2", "error", None, "NoNode (-101)"),
        ("0x4", None, "error", None, "NodeExists (-110)"),
        ("0x5", None, "delete", "/a", None),
        ("0x6", "1/2", "closeSession", None, None),
        ("0x6", "2/2", "delete", "/b", "its session was closed"),
    ]
    assert (found[2]["data"], found[2]["size"], found[2]["version"]) == ("22", 2, 4)
    found = rows(kit.run("-o", "jsonl", "log", "history", "/b", str(tmp_path)))
    assert [(row["zxid"], row["type"]) for row in found] == [("0x1", "create"), ("0x2", "setData"), ("0x6", "delete")]


def test_an_ephemeral_of_before_3_6_ends_with_its_session(tmp_path: Path) -> None:
    """A closeSession had no list of paths then."""
    old = txn(1, codes.OP_CREATE, CreateTxn(b"/e", b"", OPEN, True, 1))
    header = TxnHeader(SESSION, 2, 2, 1_700_000_000_000, codes.OP_CLOSE_SESSION)
    closed = encode_txn(header, CloseSessionTxn([]), None)[:32]
    stranger = txn(3, codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/x"]), session=7)
    (tmp_path / "log.1").write_bytes(log_bytes([old, closed, stranger]))
    found = rows(kit.run("-o", "jsonl", "log", "history", "/e", str(tmp_path)))
    assert [(row["zxid"], row["type"], row["detail"]) for row in found] == [
        ("0x1", "create", "ephemeral"),
        ("0x2", "delete", "its session was closed"),
    ]


# What is not


def test_a_tail_cut_at_each_byte_is_torn_and_no_damage(tmp_path: Path) -> None:
    whole = log_of(range(1, 4))
    first = log_of(range(1, 3))
    target = tmp_path / "log.1"
    for size in range(len(first), len(whole)):
        for padding in (0, 100):
            target.write_bytes(whole[:size] + bytes(padding))
            done = kit.run("-o", "jsonl", "log", "verify", str(tmp_path))
            assert done.code == exits.DONE
            state = rows(done)[0]
            torn = size > len(first) and any(whole[len(first) : size])
            assert (state["state"], state["txns"]) == ("torn" if torn else "ok", 2)
            if torn:
                assert state["offset"] == len(first)
                assert rows(kit.run("-o", "jsonl", "log", "ls", str(tmp_path)))[0]["end"] == "torn"
    target.write_bytes(whole[:9])
    assert kit.run("log", "verify", str(tmp_path)).lines[0].split("\t")[1] == "torn"
    (tmp_path / "log.2").write_bytes(log_of([2]))
    done = kit.run("log", "verify", str(tmp_path))
    assert (done.code, "no header" in done.err) == (exits.CHECK_FAILED, True)


def test_each_flipped_bit_before_the_tail_is_found_with_its_place(tmp_path: Path) -> None:
    whole = log_of(range(1, 6))
    second = len(log_of([1]))
    end = len(log_of([1, 2]))
    target = tmp_path / "log.1"
    for at in [*range(8), *range(second, end)]:
        target.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        offset = 0 if at < 4 else 4 if at < 8 else second
        for command in (("verify",), ("ls",), ("dump",), ("history", "/n1")):
            done = kit.run("log", *command, str(tmp_path))
            assert done.code == exits.CHECK_FAILED
            assert f"{target} at byte {offset}: " in done.err, (at, command)
            assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("files", "state", "tells"),
    [
        ({"log.1": [1, 2, 4]}, "gap", "missing between 0x2 and 0x4"),
        ({"log.1": [1, 2], "log.4": [4]}, "gap", "missing between 0x2 and 0x4"),
        ({"log.1": [1, 2, 3], "log.3": [3, 4]}, "order", "0x3 comes after 0x3"),
        ({"log.1": [1, 3, 2]}, "order", "0x2 comes after 0x3"),
        ({"log.1": [2, 3]}, "order", "its first zxid is 0x2"),
        ({"log.7": [7, 8]}, "gap", "between snapshot.0 and 0x7"),
    ],
)
def test_the_order_of_zxids(files: dict[str, list[int]], state: str, tells: str, tmp_path: Path) -> None:
    for name, zxids in files.items():
        (tmp_path / name).write_bytes(log_of(zxids))
    shutil.copy(golden()[0] / "version-2" / "snapshot.0", tmp_path)
    done = kit.run("-o", "jsonl", "log", "verify", str(tmp_path))
    assert done.code == exits.CHECK_FAILED
    assert state in [row["state"] for row in rows(done)]
    assert tells in done.err


def test_a_gap_that_a_leader_s_snapshot_fills_is_none(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(log_of([1, 2]))
    (tmp_path / "log.100000006").write_bytes(log_of([0x100000006]))
    (tmp_path / "snapshot.100000005").write_bytes(b"only its name counts here")
    done = kit.run("log", "verify", str(tmp_path), "-o", "table")
    assert done.code == exits.DONE
    assert "there is snapshot.100000005 alone" in done.text


def test_an_entry_that_is_no_txn(tmp_path: Path) -> None:
    """Its checksum is right, so only who reads it knows."""
    broken = txn(2, codes.OP_SET_DATA, SetDataTxn(b"/b", b"22", 4))[:40]
    data = log_bytes([txn(1, codes.OP_DELETE, DeleteTxn(b"/a")), broken])
    (tmp_path / "log.1").write_bytes(data)
    offset = len(data) - len(entry(broken))
    for command in ("verify", "dump"):
        done = kit.run("log", command, str(tmp_path))
        assert done.code == exits.CHECK_FAILED
        assert f"{tmp_path}/log.1 at byte {offset}: " in done.err
        assert "this is no txn" in done.err


@pytest.mark.parametrize("command", ["ls", "dump", "verify"])
def test_what_is_no_log(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty" / "version-2").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "file").write_bytes(b"hello, world, this is no log")
    for where, tells in (
        ("empty", "there is no log in it"),
        ("other", "no data directory"),
        ("nowhere", "No such file"),
        ("file", "Not a directory" if command == "verify" else "at byte 0: the magic number 0x68656c6c"),
    ):
        done = kit.run("log", command, str(tmp_path / where))
        assert (done.code, tells in done.err) == (exits.CHECK_FAILED, True), done.err
        assert "Traceback" not in done.err


def test_numbers_that_are_none(java: Path) -> None:
    for flags in (("--from", "x"), ("--to", "0x" + "f" * 16), ("--session", "me")):
        assert kit.run("log", "dump", str(java), *flags).code == exits.USAGE
    assert kit.run("log", "replay", str(java), "--until", "yesterday").code == exits.USAGE
    assert kit.run("log", "nonsense").code == exits.USAGE


# Repairing


def damaged(directory: Path) -> tuple[Path, bytes, int]:
    """Flips a bit of an entry in the middle of a log; its path, content and the entry's place."""
    path = logs_of(directory)[-1]
    data = path.read_bytes()
    entries: list[tuple[int, bytes]] = []
    format.decode_entries(data, format.HEADER_BYTES, entries)
    offset = format.HEADER_BYTES + sum(len(payload) + format.ENTRY_FRAME_BYTES for _, payload in entries[:5])
    content = data[: offset + 20] + bytes([data[offset + 20] ^ 1]) + data[offset + 21 :]
    path.write_bytes(content)
    return path, content, offset


def test_a_repair_shows_what_is_lost_and_asks(copy: Path) -> None:
    path, content, offset = damaged(copy)
    count = len(rows(kit.run("-o", "jsonl", "log", "ls", str(path))))
    assert count == 1
    done = kit.run("log", "repair", str(path))
    assert done.code == exits.REFUSED
    assert f"cut off: all from byte {offset} on" in done.err
    first = int(path.name[4:], 16)
    behind = LAST_ZXID - first - 5
    assert f"lost: at least {behind} txns that are sound ({first + 6:#x} to {LAST_ZXID:#x})" in done.err
    assert path.read_bytes() == content
    done = kit.run("log", "repair", str(path), stdin=b"n\n", is_asked=True)
    assert (done.code, path.read_bytes()) == (exits.REFUSED, content)


def test_a_repaired_log_is_sound_and_a_copy_of_the_old_one_is_kept(copy: Path) -> None:
    path, content, offset = damaged(copy)
    done = kit.run("-o", "json", "log", "repair", str(path), "--yes")
    assert (done.code, done.err) == (exits.DONE, "")
    told = json.loads(done.out)
    kept = path.parent / f"damaged.{path.name}"
    assert told == {"file": str(path), "txns": 5, "bytes": offset, "copy": str(kept)}
    assert kept.read_bytes() == content
    assert path.read_bytes() == content[:offset]
    assert kit.run("log", "verify", str(copy)).code == exits.DONE
    again = kit.run("log", "repair", str(path), "--yes")
    assert (again.code, again.out) == (exits.DONE, b"")
    assert "needs none" in again.err
    path.write_bytes(content)
    assert kit.run("log", "repair", str(path), "--yes").code == exits.DONE
    assert (path.parent / f"damaged.{path.name}.1").exists()


def test_a_wrong_length_hides_nothing_from_the_preview(tmp_path: Path) -> None:
    whole = log_of(range(1, 40), 8192)
    second = len(log_of([1]))
    data = whole[: second + 8] + struct.pack(">i", 5000) + whole[second + 12 :]
    (tmp_path / "log.1").write_bytes(data)
    (tmp_path / "log.28").write_bytes(log_of([40]))
    done = kit.run("log", "repair", str(tmp_path / "log.1"))
    assert "lost: at least 37 txns that are sound (0x3 to 0x27)" in done.err
    assert f"not used any more, as txns before it are missing: {tmp_path}/log.28" in done.err
    (tmp_path / "log.1").write_bytes(whole[:second] + b"\xff" * 50)
    assert "nothing sound was found" in kit.run("log", "repair", str(tmp_path / "log.1")).err


def test_no_repair_without_a_header_or_beside_a_server(copy: Path) -> None:
    path, content, _ = damaged(copy)
    with (path.parent / "coati.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = kit.run("log", "repair", str(path), "--yes")
    assert (done.code, "is locked: a server uses the directory" in done.err) == (exits.CHECK_FAILED, True)
    assert path.read_bytes() == content
    path.write_bytes(b"XXXX" + content[4:])
    done = kit.run("log", "repair", str(path), "--yes")
    assert (done.code, "No entry can be kept" in done.err) == (exits.CHECK_FAILED, True)


def test_no_repair_while_any_process_has_the_log_open(copy: Path) -> None:
    """A Java server has no lock, but it has its log open."""
    path, content, _ = damaged(copy)
    code = "import sys; file = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        done = kit.run("log", "repair", str(path), "--yes")
        server.communicate()
    assert done.code == exits.CHECK_FAILED
    assert f"is in use by process {server.pid}" in done.err
    assert path.read_bytes() == content


# Purging


def test_a_purge_keeps_three_snapshots_and_their_logs(copy: Path) -> None:
    names = sorted((path.name for path in (copy / "version-2").glob("snapshot.*")), key=lambda one: int(one[9:], 16))
    logs = [path.name for path in logs_of(copy)]
    oldest = int(names[-3][9:], 16)
    below = [name for name in logs if int(name[4:], 16) <= oldest]
    doomed = [*names[:-3], *below[:-1]]
    before = sorted(path.name for path in (copy / "version-2").iterdir())
    done = kit.run("purge", str(copy), "--dry-run")
    assert done.code == exits.DONE
    assert [line.split("\t")[0].rpartition("/")[2] for line in done.lines] == doomed
    assert kit.run("purge", str(copy)).code == exits.REFUSED
    assert sorted(path.name for path in (copy / "version-2").iterdir()) == before
    assert kit.run("purge", str(copy), "--yes").code == exits.DONE
    assert sorted(path.name for path in (copy / "version-2").iterdir()) == sorted(set(before) - set(doomed))
    assert kit.run("log", "verify", str(copy)).code == exits.DONE
    done = kit.run("purge", str(copy), "--yes")
    assert (done.code, done.out) == (exits.DONE, b"")
    assert "nothing to remove" in done.err


def test_logs_in_a_directory_of_their_own(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "logs" / "version-2").mkdir(parents=True)
    for path in logs_of(copy):
        path.rename(tmp_path / "logs" / "version-2" / path.name)
    where = (str(copy), "--log-dir", str(tmp_path / "logs"))
    assert kit.run("log", "verify", *where).code == exits.DONE
    assert kit.run("log", "replay", *where, "--until", hex(LAST_ZXID), "get", "/plain").code == exits.DONE
    shown = kit.run("undelete", "/plain", "--at", "0x20", "--data-dir", *where)
    assert (shown.code, shown.text) == (exits.DONE, "create /plain hello\n")
    doomed = [line.split("\t")[0] for line in kit.run("purge", *where, "--yes").lines]
    assert any(str(tmp_path / "logs") in path for path in doomed)
    assert not any(Path(path).exists() for path in doomed)
    assert kit.run("log", "verify", *where).code == exits.DONE
    # The logs alone: a server would refuse them, and there may be snapshots elsewhere.
    assert kit.run("log", "verify", str(tmp_path / "logs")).lines[-1].split("\t")[1] == "note"


def test_a_purge_does_not_count_damaged_snapshots(copy: Path) -> None:
    names = sorted((copy / "version-2").glob("snapshot.*"), key=lambda one: int(one.name[9:], 16))
    for path in names[-2:]:
        path.write_bytes(path.read_bytes()[:-1])
    done = kit.run("purge", str(copy), "--dry-run")
    assert [line.split("\t")[0] for line in done.lines if "snapshot." in line] == [str(path) for path in names[:-5]]
    assert kit.run("purge", str(copy), "--keep", "2").code == exits.USAGE
    assert "valid snapshots" in kit.run("purge", str(copy), "--keep", "9", "--yes").err
    (copy / "version-2" / "coati.install").write_text("snapshot.1\n")
    done = kit.run("purge", str(copy), "--yes")
    assert (done.code, "is being installed" in done.err) == (exits.CHECK_FAILED, True)

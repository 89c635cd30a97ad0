"""`coati log replay` against what Java showed of the same files, and `coati undelete` on live servers."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path

import pytest

from coati.cli import exits
from coati.wire import codes
from coati.wire.records import ACL, CreateContainerTxn, CreateTTLTxn, CreateTxn, Id
from coati.wire.txns import AnyTxn, TxnHeader, encode_txn
from tests.cli import kit
from tests.interop.peers import Server
from tests.storage.kit import GOLDEN_NAMES, golden, log_bytes

LAST = "0x204"
# Every server has its own data in it, so it is no part of what is expected.
CONFIG = "/zookeeper/config"


@pytest.fixture(params=range(len(GOLDEN_NAMES)), ids=GOLDEN_NAMES)
def java(request: pytest.FixtureRequest) -> Path:
    found: Path = golden()[request.param]
    return found


def expected_of(java: Path) -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = json.loads((java / "expected.json").read_text())["tree"]
    return tree


def replay(java: Path, *command: str, until: str = LAST, form: str = "raw") -> kit.Done:
    done = kit.run("-o", form, "log", "replay", str(java), "--until", until, *command)
    assert (done.code, done.err) == (exits.DONE, "")
    return done


def test_the_whole_tree_is_what_java_shows(java: Path) -> None:
    expected = expected_of(java)
    lines = [json.loads(line) for line in replay(java, "export", "/").lines]
    assert lines[0] == {"coati_export": 1, "path": "/", "zxid": 0x204}
    assert lines[-1] == {"coati_export_end": 1, "znodes": len(lines) - 2}
    found = {line["path"]: line for line in lines[1:-1]}
    assert sorted(found) == sorted([*expected, CONFIG])
    for path, znode in expected.items():
        line = found[path]
        data = base64.b64decode(line["data_base64"]) if "data_base64" in line else line["data"].encode()
        stat = znode["stat"]
        assert isinstance(stat, dict)
        assert data == base64.b64decode(str(znode["data"]))
        assert [line["version"], line["ctime"], line["mtime"]] == [stat["version"], stat["ctime"], stat["mtime"]]
        assert (line["mode"] == "ephemeral") == (stat["ephemeralOwner"] != 0)
        entries = znode["acl"]
        assert isinstance(entries, list)
        assert [one.rpartition(":")[0] for one in line["acl"]] == [f"{scheme}:{id}" for _, scheme, id in entries]
    assert found["/ttl"]["ttl"] == 3600
    assert found["/container"]["mode"] == "container"


def test_the_stat_is_what_java_shows(java: Path) -> None:
    names = {
        "version": "version", "cversion": "cversion", "aversion": "aversion", "data_length": "dataLength",
        "num_children": "numChildren",
    }  # fmt: skip
    for path, znode in list(expected_of(java).items())[::40]:
        stat = znode["stat"]
        assert isinstance(stat, dict)
        found = json.loads(replay(java, "stat", path, form="json").out)
        assert {name: found[name] for name in names} == {name: stat[theirs] for name, theirs in names.items()}
        zxids = {name: int(found[name], 16) for name in ("czxid", "mzxid", "pzxid")}
        assert zxids == {name: stat[name] for name in ("czxid", "mzxid", "pzxid")}
        assert int(found["ephemeral_owner"], 16) == stat["ephemeralOwner"]


def test_names_and_data(java: Path) -> None:
    expected = expected_of(java)
    top = sorted(path[1:].encode() for path in expected if path.count("/") == 1 and path != "/")
    assert replay(java, "ls").out.splitlines() == top
    assert sorted(replay(java, "--", "ls", "-R", "/").out.splitlines()) == sorted(
        path.encode() for path in [*expected, CONFIG]
    )
    assert replay(java, "get", "/binary").out == base64.b64decode(str(expected["/binary"]["data"]))
    assert json.loads(replay(java, "get", "/plain", form="json").out)["path"] == "/plain"
    long = replay(java, "ls", "-l", "/zookeeper", form="table").lines
    assert long[0].split() == ["NAME", "VERSION", "CHILDREN", "BYTES", "OWNER", "MODIFIED"]
    assert [line.split()[0] for line in long[1:]] == ["config", "quota"]
    ephemeral = next(path for path, znode in expected.items() if znode["stat"]["ephemeralOwner"])  # type: ignore[index]  # a dict, as above
    line = next(line for line in replay(java, "ls", "-lR").lines if line.startswith(f"{ephemeral}\t"))
    assert line.split("\t")[4].startswith("0x")


def test_drawings_sizes_and_searches(java: Path) -> None:
    assert replay(java, "tree", "/zookeeper").lines == ["/zookeeper", "├── config", "└── quota"]
    assert replay(java, "tree", "/", "-L", "1").lines[-1] == "└── zookeeper"
    assert "│   └── l1" not in replay(java, "tree", "/deep", "-L", "2").lines
    assert json.loads(replay(java, "tree", "/zookeeper", form="jsonl").lines[1]) == {"path": "/zookeeper/config"}
    expected = expected_of(java)
    assert replay(java, "find", "l1?").lines == sorted(path for path in expected if path.rpartition("/")[2] in L1)
    assert replay(java, "find", "/deep", "l0/l[!2-9]").lines == ["/deep/l0/l1"]
    assert replay(java, "find", "[qz]*").lines[-3:] == ["/quota", "/zookeeper", "/zookeeper/quota"]
    assert replay(java, "find", "/*/config").lines == ["/zookeeper/config"]
    sizes = [line.split("\t") for line in replay(java, "du", "/").lines]
    assert sizes[-1][1:] == [str(len(expected) + 1), "/"]
    deep = [path for path in expected if path == "/deep" or path.startswith("/deep/")]
    assert [str(sum(map(len, deep))), str(len(deep)), "/deep"] in sizes
    assert [int(line[0]) for line in sizes[:-1]] == sorted((int(line[0]) for line in sizes[:-1]), reverse=True)


L1 = [f"l1{digit}" for digit in "0123456789"]


def test_the_summary_and_a_time(java: Path) -> None:
    found = json.loads(replay(java, form="json").out)
    expected = json.loads((java / "expected.json").read_text())
    assert found["znodes"] == len(expected["tree"]) + 1
    assert found["sessions"] == len(expected["sessions"])
    assert found["zxid"] == LAST
    at = found["time"]
    assert json.loads(replay(java, until=at, form="json").out)["zxid"] == LAST
    early = (
        json.loads(replay(java, until="2026-11-21T02:07:27.700+00:00", form="json").out) if "gz" in java.name else {}
    )
    assert early.get("zxid", "0x9") != LAST


def test_what_is_not_there(java: Path) -> None:
    where = ("log", "replay", str(java), "--until", LAST)
    for command in ("get", "stat", "tree", "du", "export"):
        done = kit.run(*where, command, "/no/where")
        assert (done.code, done.out) == (exits.MISSING, b"")
        assert "NoNode" in done.err
    done = kit.run("log", "replay", str(java), "--until", "0x999")
    assert (done.code, f"the last one before it is {LAST}" in done.err) == (exits.CHECK_FAILED, True)
    for help_of in (("log",), ("log", "replay"), ("log", "replay", str(java), "--until", "1", "ls")):
        assert "usage: coati log" in kit.run(*help_of, "--help").text


def test_a_skipped_snapshot_is_told(tmp_path: Path) -> None:
    source = golden()[0] / "version-2"
    for name in ("snapshot.0", "log.1"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "snapshot.4").write_bytes(b"ZKSN")
    done = kit.run("log", "replay", str(tmp_path), "--until", "0x20", "get", "/plain")
    assert (done.code, done.out) == (exits.DONE, b"hello")
    assert f"skipped: {tmp_path}/snapshot.4 at byte 4: the file ends" in done.err
    done = kit.run("undelete", "/plain", "--at", "0x20", "--data-dir", str(tmp_path))
    assert (done.code, done.out) == (exits.DONE, b"create /plain hello\n")
    assert "skipped: " in done.err
    assert kit.run("-q", "log", "replay", str(tmp_path), "--until", "0x20", "get", "/plain").err == ""


# Undeleting


def create(zxid: int, op: int, record: AnyTxn) -> bytes:
    return encode_txn(TxnHeader(7, zxid, zxid, 1_700_000_000_000 + zxid, op), record, None)


@pytest.fixture
def lost(tmp_path: Path, hosts: str) -> tuple[Path, str]:
    """Logs of a subtree that was deleted since, and its path, whose parent the server has."""
    root = "/" + hosts.partition("/")[2] + "/lost"
    name = root.encode()
    open_acl, mine = (
        [ACL(31, Id("world", "anyone"))],
        [ACL(31, Id("digest", "me:016djjlksVQS5RgX3M7biBGyYwY=")), ACL(1, Id("world", "anyone"))],
    )
    payloads = [
        create(1, codes.OP_CREATE, CreateTxn(name.rpartition(b"/")[0], b"", open_acl, False, 1)),
        create(2, codes.OP_CREATE, CreateTxn(name, b"it's here", open_acl, False, 1)),
        create(3, codes.OP_CREATE, CreateTxn(name + b"/bytes", b"\x00\xff", mine, False, 1)),
        create(4, codes.OP_CREATE, CreateTxn(name + b"/gone", b"", open_acl, True, 2)),
        create(5, codes.OP_CREATE_CONTAINER, CreateContainerTxn(name + b"/box", b"@file", open_acl, 3)),
        create(6, codes.OP_CREATE_TTL, CreateTTLTxn(name + b"/short", b"-", open_acl, 4, 90_000)),
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.1").write_bytes(log_bytes(payloads))
    return tmp_path / "data", root


def test_an_undelete_is_shown_and_nothing_is_asked_of_a_server(lost: tuple[Path, str]) -> None:
    where, root = lost
    arguments = ("-s", "127.0.0.1:1", "undelete", "--data-dir", str(where))
    done = kit.run(*arguments, root, "--at", "6", "-r")
    assert done.code == exits.DONE
    assert [shlex.split(line) for line in done.lines] == [
        ["create", root, "it's here"],
        ["create", "-c", "--b64", f"{root}/box", base64.b64encode(b"@file").decode()],
        [
            "create",
            "--acl",
            "digest:me:016djjlksVQS5RgX3M7biBGyYwY=:cdrwa,world:anyone:r",
            "--b64",
            f"{root}/bytes",
            "AP8=",
        ],
        ["create", "--ttl", "90", "--b64", f"{root}/short", "LQ=="],
    ]
    assert f"left out, as it was ephemeral: {root}/gone" in done.err
    assert "nothing was done" in done.err
    assert kit.run(*arguments, root, "--at", "6").lines == done.lines[:1]
    assert json.loads(kit.run("-o", "json", *arguments, root, "--at", "6").out)[0]["data"] == "it's here"


def test_an_undelete_brings_all_of_it_back(lost: tuple[Path, str], server: Server) -> None:
    where, root = lost
    arguments = ("-s", f"{server.address}/ignored", "undelete", "--data-dir", str(where))
    done = kit.run(*arguments, f"{root}/bytes", "--at", "6", "--yes")
    assert (done.code, "bring back its parent first" in done.err) == (exits.MISSING, True)
    # A server without extended types knows no TTLs: up to the container.
    done = kit.run(*arguments, root, "--at", "5", "-r", "--yes")
    assert done.code == exits.DONE, done.err
    assert "3 znodes are back" in done.err
    assert kit.run("-s", server.address, "get", f"{root}/bytes").out == b"\x00\xff"
    assert kit.run("-s", server.address, "get", root).out == b"it's here"
    done = kit.run(*arguments, root, "--at", "5", "--yes")
    assert (done.code, f"{root}: NodeExists" in done.err) == (exits.CONFLICT, True)


def test_what_is_shown_of_an_undelete_is_a_transaction(lost: tuple[Path, str], server: Server) -> None:
    """To be read, changed perhaps, and given to `coati txn`."""
    where, root = lost
    shown = kit.run("undelete", root, "--at", "5", "-r", "--data-dir", str(where))
    assert kit.run("-s", server.address, "txn", "-", stdin=shown.out).code == exits.DONE
    assert kit.run("-s", server.address, "get", f"{root}/bytes").out == b"\x00\xff"
    assert kit.run("-s", server.address, "get", f"{root}/box").out == b"@file"


def test_what_cannot_be_undeleted(lost: tuple[Path, str]) -> None:
    where, root = lost
    for path, at, code, tells in (
        (f"{root}/gone", "6", exits.REFUSED, "was ephemeral"),
        (root, "1", exits.MISSING, "it was not there at zxid 0x1"),
        ("/", "1", exits.USAGE, "the root is always there"),
        (root, "7", exits.CHECK_FAILED, "no txn has the zxid 0x7"),
    ):
        done = kit.run("undelete", path, "--at", at, "--data-dir", str(where), "--yes")
        assert (done.code, done.out, tells in done.err) == (code, b"", True), done.err


def test_an_undelete_larger_than_a_request_is_refused(tmp_path: Path) -> None:
    acl = [ACL(31, Id("x509", "CN=me,OU=us"))]
    payloads = [create(1, codes.OP_CREATE, CreateTxn(b"/big", b"x", acl, False, 1))]
    payloads += [
        create(zxid, codes.OP_CREATE, CreateTxn(b"/big/%d" % zxid, bytes(600_000), acl, False, 1)) for zxid in (2, 3)
    ]
    (tmp_path / "log.1").write_bytes(log_bytes(payloads))
    done = kit.run("undelete", "/big", "-r", "--at", "3", "--data-dir", str(tmp_path), "--yes")
    assert done.code == exits.REFUSED
    assert "coati import" in done.err
    # An ACL that would be taken apart in the wrong places is not written on a line.
    done = kit.run("undelete", "/big", "--at", "3", "--data-dir", str(tmp_path))
    assert done.lines[0].startswith("# the ACL of the next line")
    assert done.lines[1] == "create /big x"

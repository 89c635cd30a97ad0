"""find, grep and du: what they show is what was written, on either server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

import coati
from coati.cli import exits
from coati.sync import Client
from tests.cli import kit
from tests.cli.witness import iso

SECRET = coati.Digest("someone", "else")


@pytest.fixture
def zk(hosts: str) -> Iterator[Client]:
    with Client(hosts) as client:
        yield client


@pytest.fixture
def tree(zk: Client) -> Client:
    """/conf/a.json, /conf/b.txt, /conf/deep/c.json, /big, /here."""
    zk.create("/conf/a.json", b'{"db": "one"}\n{"DB": 2}', parents=True)
    zk.create("/conf/b.txt", b"nothing\tto see")
    zk.create("/conf/deep/c.json", b"\xffdb\x00", parents=True)
    zk.create("/big", b"x" * 5000)
    zk.create("/here", mode=coati.Mode.EPHEMERAL)
    return zk


ALL = ["/", "/big", "/conf", "/conf/a.json", "/conf/b.txt", "/conf/deep", "/conf/deep/c.json", "/here"]


@pytest.mark.parametrize(
    ("argv", "paths"),
    [
        ([], ALL),
        (["/"], ALL),
        (["/conf/deep"], ALL[5:7]),
        (["*.json"], [ALL[3], ALL[6]]),
        (["big"], ["/big"]),
        (["/conf", "[ab].*"], ALL[3:5]),
        (["/conf/*.json"], [ALL[3], ALL[6]]),
        (["/co*/deep"], ["/conf/deep"]),
        (["/conf", "deep/*"], ["/conf/deep/c.json"]),
        (["--regex", r"/[a-z]\.[jt]"], [ALL[3], ALL[4], ALL[6]]),
        (["/conf/deep", "--regex", r"json$"], ["/conf/deep/c.json"]),
        (["--bigger", "4k"], ["/big"]),
        (["--bigger", "1m"], []),
        (["--children", "3"], ["/", "/conf"]),
        (["--ephemeral"], ["/here"]),
        (["/conf", "--older", "1h"], []),
        (["/conf/deep", "--newer", "1h"], ALL[5:7]),
        (["/conf/deep", "--older", "0.001ms", "c*"], ["/conf/deep/c.json"]),
    ],
)
@pytest.mark.usefixtures("tree")
def test_find(cli: kit.Cli, argv: list[str], paths: list[str]) -> None:
    done = cli("find", *argv)
    assert (done.code, done.lines, done.err) == (exits.DONE, paths, "")


def test_find_by_session(cli: kit.Cli, tree: Client) -> None:
    assert cli("find", "--owner", hex(tree.session.id)).lines == ["/here"]
    assert cli("find", "--owner", f"0x{tree.session.id + 1:x}").lines == []
    assert cli("find", "--owner", "0xffffffffffffffff").lines == []


def test_find_in_columns(cli: kit.Cli, tree: Client) -> None:
    stat = tree.get("/here").stat
    owner = hex(tree.session.id)
    modified = iso(stat.mtime)
    assert cli("find", "here", "-l").out.decode() == f"/here\t0\t0\t0\t{modified}\t{owner}\n"
    row = {"path": "/here", "bytes": 0, "children": 0, "version": 0, "modified": modified, "owner": owner}
    assert json.loads(cli("-o", "json", "find", "-l", "here").out) == [row]
    assert json.loads(cli("-o", "json", "find", "here").out) == [{"path": "/here"}]
    assert cli("-o", "table", "find", "here").lines == ["PATH", "/here"]


@pytest.mark.parametrize(
    "argv",
    [["a", "b", "c"], ["a", "b", "--regex", "c"], ["--regex", "("], ["--older", "soon"], ["--bigger", "5x"],
     ["--owner", "me"]],
)  # fmt: skip
def test_find_asked_wrongly(argv: list[str]) -> None:
    done = kit.run("find", *argv)
    assert (done.code, done.out) == (exits.USAGE, b"")


@pytest.mark.parametrize("command", [["find"], ["grep", "x"], ["du"]])
def test_nothing_there(cli: kit.Cli, command: list[str]) -> None:
    done = cli(*command, "/nowhere")
    assert (done.code, done.out) == (exits.MISSING, b"")
    assert "/nowhere" in done.err


def test_what_may_not_be_read_is_left_out_and_told(cli: kit.Cli, zk: Client) -> None:
    for name in "abcdefg":
        zk.create(f"/{name}/below", b"x", parents=True)
        if name != "d":
            zk.set_acl(f"/{name}", coati.acl(f"digest:{coati.digest_id('someone', 'else')}:cdrwa"))
    for command, out in (
        (["find"], ["/", "/d", "/d/below"]),
        (["grep", "x"], ["/d/below\t1\tx"]),
        (["du"], ["1\t2\t/d", "1\t3\t/"]),
    ):
        done = cli(*command)
        assert (done.code, done.lines) == (exits.NOT_AUTHORISED, out)
        assert "not allowed to read /a, /b, /c, /e, /f and 1 more" in done.err
    done = cli("find", "/a")
    assert (done.code, done.out) == (exits.NOT_AUTHORISED, b"")
    zk.authenticate(SECRET)
    for name in "abcefg":
        zk.set_acl(f"/{name}", coati.OPEN)


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["db"], ['/conf/a.json\t1\t{"db": "one"}', "/conf/deep/c.json\t1\t(binary data)"]),
        (["-i", "^.{2}db"], ['/conf/a.json\t1\t{"db": "one"}', '/conf/a.json\t2\t{"DB": 2}']),
        (["-l", "-i", "db|see"], ["/conf/a.json", "/conf/b.txt", "/conf/deep/c.json"]),
        (["-c", "-i", "db", "/conf"], ["/conf/a.json\t2", "/conf/deep/c.json\t1"]),
        (["to see"], ["/conf/b.txt\t1\tnothing\\tto see"]),
    ],
)
@pytest.mark.usefixtures("tree")
def test_grep(cli: kit.Cli, argv: list[str], lines: list[str]) -> None:
    done = cli("grep", *argv)
    assert (done.code, done.lines) == (exits.DONE, lines)


@pytest.mark.usefixtures("tree")
def test_grep_in_columns_and_in_vain(cli: kit.Cli) -> None:
    assert json.loads(cli("-o", "json", "grep", "to see").out) == [
        {"path": "/conf/b.txt", "line": 1, "text": "nothing\tto see"}
    ]
    done = cli("grep", "no such words")
    assert (done.code, done.out) == (exits.CHECK_FAILED, b"")
    assert "nothing found" in done.err
    assert cli("grep", "[").code == exits.USAGE


@pytest.mark.usefixtures("tree")
def test_du(cli: kit.Cli) -> None:
    conf = 13 + 1 + 9 + 14 + 4
    rows = ["5000\t1\t/big", f"{conf}\t5\t/conf", "0\t1\t/here", f"{5000 + conf}\t8\t/"]
    assert cli("du").lines == rows
    assert cli("du", "-d", "0").lines == rows[-1:]
    assert cli("du", "/conf", "-d", "2").lines == [
        "23\t1\t/conf/a.json", "14\t1\t/conf/b.txt", "4\t1\t/conf/deep/c.json", "4\t2\t/conf/deep", "41\t5\t/conf"
    ]  # fmt: skip
    assert cli("du", "--top", "2").lines == [rows[3], rows[0]]
    assert cli("du", "--top", "9", "-d", "1").lines == [rows[3], *rows[:3]]
    assert cli("du", "--top", "0").lines == []
    assert json.loads(cli("-o", "json", "du", "/big").out) == [{"bytes": 5000, "znodes": 1, "path": "/big"}]
    assert cli("-o", "table", "du", "/big").lines == ["BYTES  ZNODES  PATH", "5000   1       /big"]


def test_help_shows_examples() -> None:
    for command in ("find", "grep", "du"):
        done = kit.run(command, "--help")
        assert done.code == exits.DONE
        assert re.search(rf"examples:\n  coati {command} ", done.text)

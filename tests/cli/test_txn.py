"""Transactions in lines of text, on both servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coati.cli import exits
from tests.cli import kit
from tests.cli.witness import Witness


def test_txn_does_all(cli: kit.Cli, witness: Witness, tmp_path: Path) -> None:
    witness.make("/a", "/b", "/c", "/d")
    (tmp_path / "data").write_bytes(b"\xff\n")
    lines = [
        "# comments and empty lines count for nothing", "", "check /a --version 0", "check /b",
        'set /a "two words" --version 0', f"set /b @{tmp_path}/data", "delete /c", "rm --version 0 /d",
        "create /e '# no comment'", "create -s --acl world:anyone:r /f", "create -c /g", "create --ttl 9 /h",
        "create /i -- -x",
    ]  # fmt: skip
    done = cli("txn", "-", stdin="\r\n".join(lines).encode())
    assert (done.code, done.err) == (0, "")
    assert done.lines == [
        "check\t/a\t", "check\t/b\t", "set\t/a\t1", "set\t/b\t1", "delete\t/c\t", "delete\t/d\t",
        "create\t/e\t0", "create\t/f0000000005\t0", "create\t/g\t0", "create\t/h\t0", "create\t/i\t0",
    ]  # fmt: skip
    assert witness.children("/") == ["a", "b", "e", "f0000000005", "g", "h", "i"]
    assert [witness.data(path) for path in ("/a", "/b", "/e", "/i")] == [
        b"two words",
        b"\xff\n",
        b"# no comment",
        b"-x",
    ]
    assert witness.acl("/f0000000005") == [(1, "world", "anyone")]
    assert len({witness.stat(path).mzxid for path in ("/a", "/b", "/e", "/f0000000005")}) == 1


def test_txn_takes_any_data_in_base64(cli: kit.Cli, witness: Witness) -> None:
    done = cli("txn", "-", stdin=b"create --b64 /a AP8=\ncreate /b\nset /b --b64 QGZpbGU=\n")
    assert done.code == exits.DONE, done.err
    assert (witness.data("/a"), witness.data("/b")) == (b"\0\xff", b"@file")


def test_txn_of_a_file_in_json(cli: kit.Cli, witness: Witness, tmp_path: Path) -> None:
    (tmp_path / "a.txn").write_text("create /a x\nset /a y\n")
    done = cli("-o", "json", "txn", f"{tmp_path}/a.txn")
    assert json.loads(done.out) == [
        {"op": "create", "path": "/a", "version": 0},
        {"op": "set", "path": "/a", "version": 1},
    ]
    assert witness.data("/a") == b"y"
    assert cli("txn", f"{tmp_path}/none").code == exits.USAGE


@pytest.mark.parametrize(
    ("line", "code", "tells"),
    [
        ("check /a --version 7", exits.CONFLICT, "line 3: check /a --version 7: BadVersion (-103); nothing was done"),
        ("check /nowhere", exits.MISSING, "line 3: check /nowhere: NoNode (-101)"),
        ("create /a", exits.CONFLICT, "NodeExists"),
        ("rm /a", exits.CONFLICT, "NotEmpty"),
    ],
)
def test_txn_does_nothing_where_one_is_refused(
    line: str, code: int, tells: str, cli: kit.Cli, witness: Witness
) -> None:
    witness.make("/a", "/a/b")
    done = cli("txn", "-", stdin=f"set /a x\n\n{line}\ncreate /c\n".encode())
    assert (done.code, done.out) == (code, b"")
    assert tells in done.err
    assert (witness.data("/a"), witness.children("/")) == (b"", ["a"])


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        (b"", "no operation"),
        (b"# nothing\n", "no operation"),
        (b"set /a \xff", "not UTF-8"),
        (b"check /a\nfetch /a", "line 2: there is no operation 'fetch'; there are check, create, set, delete, rm"),
        (b"set /a", "line 1: set: the following arguments are required: DATA"),
        (b"set /a 'x", "line 1: No closing quotation"),
        (b"set /a -", "no stdin here"),
        (b"set /a --b64 'not base64'", "line 1: "),
        (b"set /a @/nowhere/x", "cannot be read"),
        (b"set /a x --version soon", "invalid int value"),
        (b"create --acl bob /a", "has the form scheme:id:perms"),
        (b"create --ttl 1e12 /a", "at most"),
        (b"create -e -c /a", "not both"),
        (b"create -p /a", "unrecognized arguments: -p"),
    ],
)
def test_txn_that_cannot_be_read_is_not_sent(text: bytes, tells: str) -> None:
    done = kit.run("-s", "127.0.0.1:1", "--timeout", "0.2", "txn", "-", stdin=text)
    assert (done.code, done.out) == (exits.USAGE, b"")
    assert tells in done.err


def test_txn_with_an_ephemeral_keeps_it(hosts: str, witness: Witness) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "coati", "-s", hosts, "txn", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"create /a\ncreate -e /e\n")
        process.stdin.close()
        assert process.stdout.readline() == b"create\t/a\t0\n"
        assert process.stdout.readline() == b"create\t/e\t0\n"
        assert witness.stat("/e").ephemeral_owner != 0
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == exits.SIGNAL + signal.SIGTERM
    assert witness.children("/") == ["a"]


def test_help_shows_the_grammar() -> None:
    assert "create [-e] [-s] [-c] [--ttl S] [--acl ACL] [--b64] PATH [DATA]" in kit.run("txn", "--help").text

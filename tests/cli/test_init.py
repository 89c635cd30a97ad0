"""init: what it makes is what servers of both kinds begin with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coati.cli import exits
from tests.cli import kit
from tests.interop import peers


@pytest.mark.parametrize("kind", ["coati", pytest.param("3.9.3", marks=pytest.mark.interop)])
def test_a_server_that_must_not_make_its_database_begins_with_it(kind: str, tmp_path: Path) -> None:
    done = kit.run("-o", "json", "init", str(tmp_path / "data"), "--id", "7", "--log-dir", str(tmp_path / "logs"))
    assert json.loads(done.out) == {"dir": str(tmp_path / "data"), "id": 7}
    assert (tmp_path / "data" / "myid").read_text() == "7\n"
    assert (tmp_path / "logs" / "version-2").is_dir()
    cfg = {"dataLogDir": str(tmp_path / "logs")}
    props = {**peers.QUICK_PROPS, "zookeeper.db.autocreate": "false"}
    with peers.running(kind, tmp_path / "data", props=props, cfg=cfg) as server:
        assert server.is_running
    done = kit.run("init", str(tmp_path / "data"), "--id", "7")
    assert (done.code, "holds the data of a server" in done.err) == (exits.CONFLICT, True)


def test_what_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("3\n")
    (tmp_path / "file").write_text("")
    for words, code, tells in (
        ((str(tmp_path), "--id", "4"), exits.CONFLICT, "says '3' already"),
        ((str(tmp_path), "--id", "256"), exits.USAGE, "from 0 to 255"),
        ((str(tmp_path / "file"), "--id", "1"), exits.USAGE, "cannot be written"),
    ):
        done = kit.run("init", *words)
        assert (done.code, done.out, tells in done.err) == (code, b"", True), done.err
    assert kit.run("init", str(tmp_path), "--id", "3").code == exits.DONE

"""Data directories that Java wrote and that ended by SIGKILL are opened and show exactly what Java would show.

The directories are in tests/golden, or where COATI_GOLDEN says; `expected.json` in each says
what a server that opens it must show.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.interop import peers, picture, raw
from tests.interop.peers import Server
from tools.javapeer import four_letter

HERE = Path(__file__).parent
PLACES = (os.environ.get("COATI_GOLDEN"), HERE.parent / "golden")
NAMES = ("java-3.8.0-none", "java-3.9.3-none", "java-3.9.3-gz")
STAT_FIELDS = {
    "czxid": "czxid", "mzxid": "mzxid", "ctime": "ctime", "mtime": "mtime", "version": "version",
    "cversion": "cversion",
    "aversion": "aversion", "ephemeralOwner": "ephemeral_owner", "dataLength": "data_length",
    "numChildren": "num_children",
    "pzxid": "pzxid",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """A server on a copy of a golden directory, and what it has to show."""

    server: Server
    zxid: int
    sessions: dict[int, int]
    tree: dict[str, picture.Shown]


def golden(name: str) -> Path:
    for place in PLACES:
        if place and (Path(place) / name).is_dir():
            return Path(place) / name
    peers.missing(f"no golden directory {name}: set COATI_GOLDEN")
    raise AssertionError


def expected_tree(document: dict[str, dict[str, Any]]) -> dict[str, picture.Shown]:
    tree = {}
    for path, node in document.items():
        stat = raw.Stat(**{STAT_FIELDS[name]: value for name, value in node["stat"].items()})
        data = None if node["null"] else base64.b64decode(node["data"])
        tree[path] = picture.Shown(data, stat, tuple((perms, scheme, who) for perms, scheme, who in node["acl"]))
    return tree


@pytest.fixture(scope="module", params=NAMES)
def source(request: pytest.FixtureRequest) -> Path:
    return golden(request.param)


@pytest.fixture(scope="module", params=["coati", "3.9.3"], ids=["coati", "java"])
def opened(source: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    data_dir = tmp_path_factory.mktemp("golden")
    shutil.copytree(source / "version-2", data_dir / "version-2")
    for path in (data_dir / "version-2").iterdir():
        path.chmod(0o644)
    document = json.loads((source / "expected.json").read_text())
    cfg = {"maxSessionTimeout": "60000"}
    with peers.running(request.param, data_dir, props=peers.LOCKSTEP_PROPS, cfg=cfg) as server:
        sessions = {int(key, 16): timeout for key, timeout in document["sessions"].items()}
        zxid = int(document["zxid"], 16)
        # Before any client comes: a session is a transaction too.
        assert f"Zxid: {zxid:#x}\n" in four_letter(server.host, server.port, "srvr")
        yield Opened(server, zxid, sessions, expected_tree(document["tree"]))


def test_every_znode_is_as_java_left_it(opened: Opened) -> None:
    with peers.superuser(opened.server) as session:
        shown = picture.take(session)
        session.close()
    assert "/zookeeper/config" in shown
    del shown["/zookeeper/config"]  # made anew at every start
    assert sorted(shown) == sorted(opened.tree)
    different = {path: (shown[path], want) for path, want in opened.tree.items() if shown[path] != want}
    assert different == {}


def test_digest_of_the_tree_agrees(opened: Opened) -> None:
    assert peers.monitor(opened.server)["digest_mismatches_count"] == "0"


def test_sessions_are_resumed_with_their_ephemerals(opened: Opened) -> None:
    for session_id, timeout_ms in opened.sessions.items():
        mine = sorted(path for path, node in opened.tree.items() if node.stat.ephemeral_owner == session_id)
        with raw.Session(
            opened.server.host,
            opened.server.port,
            timeout_ms,
            session_id=session_id,
            password=picture.password(session_id),
            last_zxid=opened.zxid,
        ) as session:
            assert (session.session_id, session.timeout_ms) == (session_id, timeout_ms)
            assert session.call(raw.GET_EPHEMERALS, raw.ustring("")) == (0, mine)


def test_writing_goes_on_where_java_stopped(opened: Opened) -> None:
    with peers.superuser(opened.server) as session:
        queue = opened.tree["/queue"]
        error, made = session.call(raw.CREATE, raw.create("/queue/item-", b"", raw.OPEN, 2))
        assert (error, made) == (0, f"/queue/item-{(queue.stat.cversion + queue.stat.num_children) // 2:010d}")
        assert session.call(raw.DELETE, raw.path_version(str(made))) == (0, None)
        assert session.last_zxid > opened.zxid
        session.close()


def test_closing_a_resumed_session_removes_its_ephemerals(opened: Opened) -> None:
    # Last: it changes what the other tests look at.
    session_id = max(opened.sessions)
    mine = [path for path, node in opened.tree.items() if node.stat.ephemeral_owner == session_id]
    assert mine
    with raw.Session(
        opened.server.host, opened.server.port, session_id=session_id, password=picture.password(session_id)
    ) as session:
        session.close()
    with peers.superuser(opened.server) as control:
        for path in mine:
            assert control.call(raw.EXISTS, raw.path_watch(path))[0] == -101
        control.close()

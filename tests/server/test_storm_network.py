"""The networks of `tools/storm_cluster.py`: what a shape cuts, and that a cut is one, in one direction."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from tests.interop import raw
from tests.interop.peers import require
from tools import namespaces
from tools.cluster_history import SESSION_MOVED, ClusterHistory
from tools.ensemble import Ensemble
from tools.namespaces import Namespaces, host
from tools.storm_cluster import ClusterStorm, cut
from tools.storm_history import Logged
from tools.tree_model import Write

SIDS = (1, 2, 3, 4, 5)
PORT = 7000
SESSION = 0x1234
FIRST = (1 << 32) + 1
DEADLINE_S = 20.0


@pytest.fixture
def network() -> Iterator[Namespaces]:
    require(namespaces.why_missing(), namespaces.why_refused)
    with Namespaces() as made:
        yield made


def heard(ways: list[tuple[int, int]]) -> dict[int, list[int]]:
    """Whom each still hears."""
    return {sid: [other for other in SIDS if other != sid and (other, sid) not in ways] for sid in SIDS}


@pytest.mark.parametrize("seed", range(20))
def test_each_shape_cuts_what_its_name_says(seed: int) -> None:
    dice = Random(seed)
    assert sorted(map(len, heard(cut("halves", SIDS, dice)).values())) == [1, 1, 2, 2, 2]
    assert sorted(map(len, heard(cut("bridge", SIDS, dice)).values())) == [2, 2, 2, 2, 4]
    assert sorted(map(len, heard(cut("ring", SIDS, dice)).values())) == [2, 2, 2, 2, 2]
    one_way = cut("one-way", SIDS, dice)
    assert sorted(map(len, heard(one_way).values())) == [2, 2, 2, 4, 4]
    assert not [(a, b) for a, b in one_way if (b, a) in one_way]
    for shape in ("halves", "bridge", "ring"):
        ways = cut(shape, SIDS, dice)
        assert sorted(ways) == sorted((b, a) for a, b in ways)
        assert set(ways) < set(permutations(SIDS, 2))


def test_a_cut_loses_frames_in_one_direction_until_it_is_healed(network: Namespaces) -> None:
    ends = {}
    for sid in (1, 2):
        network.add(sid)
        with network.inside(sid):
            ends[sid] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ends[sid].bind((host(sid), PORT))
        ends[sid].settimeout(DEADLINE_S)
    network.block((1, 2))
    ends[1].sendto(b"lost", (host(2), PORT))
    ends[2].sendto(b"heard", (host(1), PORT))
    assert ends[1].recv(100) == b"heard"
    network.heal()
    ends[1].sendto(b"first", (host(2), PORT))
    assert ends[2].recv(100) == b"first"
    for end in ends.values():
        end.close()


def test_clients_reach_all_servers_whatever_is_cut_and_the_machine_has_none_of_it() -> None:
    before = socket.if_nameindex()
    require(namespaces.why_missing(), namespaces.why_refused)
    with Namespaces() as network:
        servers = []
        for sid in (1, 2):
            network.add(sid)
            with network.inside(sid):
                servers.append(socket.create_server((host(sid), PORT)))
        network.block((1, 2), (2, 1))
        for server in servers:
            with server, socket.create_connection(server.getsockname(), DEADLINE_S) as client:
                assert client.getpeername() == server.getsockname()
    assert socket.if_nameindex() == before


def refuse(kind: int) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_kernel_that_refuses_namespaces_fails_no_required_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COATI_REQUIRE_INTEROP", "1")
    monkeypatch.setattr(namespaces, "unshare", refuse)
    with pytest.raises(pytest.skip.Exception, match="Operation not permitted"):
        require(None, namespaces.why_refused)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="not installed"):
        require(namespaces.why_missing(), namespaces.why_refused)


class Scripted(ClusterHistory):
    """The judge, with a log of the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.opening = 1
        self.opened(SESSION)
        self.log = [Logged(SESSION, 0, FIRST, 0, raw.CREATE_SESSION, 30_000, "", 0)]
        for xid in range(1, 4):
            self.sent(SESSION, xid, Write("create", b"/%d" % xid))

    def add(self, xid: int, err: int = 0) -> None:
        """The next txn."""
        op = raw.ERROR if err else raw.CREATE2
        self.log.append(Logged(SESSION, xid, self.log[-1].zxid + 1, 0, op, err, "", 0))

    def logged(self, directory: Path) -> Iterator[Logged]:
        return iter(self.log)

    def judge(self) -> list[str]:
        """What it finds."""
        self.consume(Path(), is_over=False)
        return self.faults


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_the_judge_knows_that_late_requests_of_a_moved_session_are_refused(order: tuple[int, ...]) -> None:
    history = Scripted()
    history.moved(SESSION)
    history.sent(SESSION, 4, Write("create", b"/4"))
    for number, xid in enumerate(order):
        if number == 1:
            history.add(4)
        history.add(xid, SESSION_MOVED)
    assert history.judge() == []
    assert [path for path in history.tree.nodes if path[1:].isdigit()] == [b"/4"]


def test_the_judge_finds_refusals_of_sessions_that_have_not_moved() -> None:
    history = Scripted()
    history.add(1, SESSION_MOVED)
    assert "it has not" in history.judge()[0]


def test_the_judge_finds_refusals_of_what_nobody_sent_or_that_were_there_before() -> None:
    for xids in ((2, 2), (7,)):
        history = Scripted()
        history.sent(SESSION, 8, Write("create", b"/8"))
        history.moved(SESSION)
        for xid in xids:
            history.add(xid, SESSION_MOVED)
        assert "nobody sent" in history.judge()[0]


def test_the_judge_finds_late_requests_that_are_executed() -> None:
    history = Scripted()
    history.moved(SESSION)
    history.add(3)
    history.add(2)
    assert "nobody sent 2" in history.judge()[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_when_frames_are(tmp_path: Path, network: Namespaces) -> None:
    with Ensemble(tmp_path, voters=5, wires=network) as ensemble:
        storm = ClusterStorm(329, tmp_path, ensemble, network)
        storm.begin()
        for fault in ("bridge", "mute leader", "ring"):
            storm.round(fault)
        storm.finish()
        assert storm.counts["acknowledged"] > 100

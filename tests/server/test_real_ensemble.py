"""Ensembles of real `coati serve` processes: killed, frozen, stopped and started under load.

A small dose of `tools/storm_cluster.py`, and what supervisors and operators see of one server.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from coati.server.exitcodes import FINISHED, QUORUM_PORT_BIND_ERROR
from tests.interop import raw
from tests.interop.peers import HOST, eventually, require, session
from tools import hardware, strace
from tools.ensemble import CFG, Ensemble, Member, Wires
from tools.hardware import SmallDisks
from tools.storm_cluster import DISK_MB, FILLING, SLOWING, ClusterStorm
from tools.storm_process import PREALLOC_KB

SYNC_LIMIT_S = int(CFG["syncLimit"]) * int(CFG["tickTime"]) / 1000
# Beyond what the protocol takes, for a machine with other work.
SLACK_S = 5.0
# Far more than the kernel keeps between two servers, and more txns than a leader remembers.
LARGE_BYTES = 60_000
LARGE_ZNODES = 550

pytestmark = pytest.mark.slow


@pytest.fixture
def ensemble(tmp_path: Path) -> Iterator[Ensemble]:
    with Ensemble(tmp_path) as made:
        yield made


def member(ensemble: Ensemble, sid: int) -> Member:
    found = ensemble.members[sid]
    assert isinstance(found, Member)
    return found


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_when_servers_are_killed(tmp_path: Path) -> None:
    with Ensemble(tmp_path, voters=5) as ensemble:
        storm = ClusterStorm(1, tmp_path, ensemble)
        storm.begin()
        for fault in ("kill leader", "kill all", "kill two", "kill all", "kill all", "kill two"):
            storm.round(fault)
        storm.finish()
        assert storm.counts["kills"] == 20
        assert storm.counts["acknowledged"] > 100
        assert storm.counts["reads"] > 20
        assert storm.counts["trees compared"] == 5
        assert storm.counts["epochs"] >= 2


def test_nothing_acknowledged_is_lost_when_the_network_parts(tmp_path: Path) -> None:
    with Wires() as wires, Ensemble(tmp_path, wires=wires) as ensemble:
        storm = ClusterStorm(2, tmp_path, ensemble, wires)
        storm.begin()
        for fault in ("part leader",):
            storm.round(fault)
        storm.finish()
        assert storm.counts["acknowledged"] > 100


def test_wires_leave_no_connection_open() -> None:
    """What nobody has read yet must not keep one open behind a loop that has ended: later it is somebody's failure."""
    with socket.create_server((HOST, 0)) as server:
        with Wires() as wires:
            near = socket.create_connection((HOST, wires.lay(1, 2, server.getsockname()[1])))
            far, _ = server.accept()
            far.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    far.send(bytes(1 << 20))
                    select.select((), (far,), (), 0.2)
        with near, far, contextlib.suppress(ConnectionResetError):
            near.settimeout(SLACK_S)
            while near.recv(1 << 20):
                pass


def test_nothing_acknowledged_is_lost_when_a_disk_is_full(tmp_path: Path) -> None:
    reason = hardware.why_no_small_disks()
    if reason is not None:
        pytest.skip(reason)
    with SmallDisks(DISK_MB) as disks:
        for sid in (1, 2, 3):
            disks.add(tmp_path / str(sid))
        with Ensemble(tmp_path, props={"zookeeper.preAllocSize": PREALLOC_KB}) as ensemble:
            storm = ClusterStorm(8, tmp_path, ensemble)
            storm.begin()
            for fault in FILLING:
                storm.round(fault)
            storm.finish()
            assert storm.counts["ended by a full disk"] >= 2


def test_a_slow_disk_holds_up_its_own_server_and_no_election_is_held(tmp_path: Path) -> None:
    require(strace.why_missing(), strace.why_not_attached)
    with Ensemble(tmp_path) as ensemble:
        storm = ClusterStorm(135, tmp_path, ensemble)
        storm.begin()
        for fault in SLOWING:
            storm.round(fault)
        storm.finish()
        assert storm.counts["slow syncs"] > 2


def test_no_session_and_no_leader_minds_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    with Ensemble(tmp_path, with_clocks=True) as ensemble:
        storm = ClusterStorm(9, tmp_path, ensemble)
        storm.begin()
        for fault in ("jump leader", "jump all"):
            storm.round(fault)
        storm.finish()
        assert storm.counts["txns at odd times"] > 20


def test_a_rolling_restart_expires_no_session_and_observers_serve(tmp_path: Path) -> None:
    with Ensemble(tmp_path, observers=1) as ensemble:
        assert ensemble.mode(4) == "observer"
        watched = session(ensemble.members[4])
        assert watched.call(raw.CREATE, raw.create("/mine", b"x", flags=1))[0] == 0
        watched.wire.close()
        exits = []
        for sid in ensemble.members:
            ensemble.members[sid].stop()
            exits.append(member(ensemble, sid).exit_code)
            ensemble.launch(sid)
            ensemble.wait_all()
        assert exits == [FINISHED] * 4
        with raw.Session(HOST, ensemble.ports[1][0], session_id=watched.session_id, password=watched.password) as back:
            assert back.call(raw.SYNC, raw.ustring("/"))[0] == 0
            assert back.call(raw.EXISTS, raw.path_watch("/mine"))[0] == 0


def test_a_frozen_leader_is_replaced_and_acknowledges_nothing_when_it_thaws(ensemble: Ensemble) -> None:
    leader, others = ensemble.leader, ensemble.followers
    old = session(ensemble.members[leader])
    assert old.call(raw.CREATE, raw.create("/before"))[0] == 0
    os.kill(member(ensemble, leader).pid, signal.SIGSTOP)
    try:
        started = monotonic()
        # These wait in the sockets of the frozen one.
        sent = [old.send(raw.CREATE, raw.create(f"/late{number}")) for number in range(20)]
        new = ensemble.wait(lambda: next((sid for sid in others if ensemble.mode(sid) == "leader"), None), "a leader")
        took = monotonic() - started
        with session(ensemble.members[new]) as writer:
            assert writer.call(raw.CREATE, raw.create("/after"))[0] == 0
    finally:
        os.kill(member(ensemble, leader).pid, signal.SIGCONT)
    assert took < SYNC_LIMIT_S + 0.5 + SLACK_S
    replies: list[raw.Reply] = []
    with contextlib.suppress(raw.Closed):
        for _ in sent:
            replies.append(old.reply())
    assert [reply for reply in replies if reply.err == 0] == []
    old.wire.close()
    ensemble.wait_all()
    assert ensemble.mode(leader) == "follower"
    shown = []
    for sid in ensemble.members:
        with session(ensemble.members[sid]) as reader:
            assert reader.call(raw.SYNC, raw.ustring("/"))[0] == 0
            shown.append(reader.call(raw.GET_CHILDREN, raw.path_watch("/"))[1])
    assert shown == [["after", "before", "zookeeper"]] * 3


def test_sigterm_ends_followers_and_leaders_quickly(ensemble: Ensemble) -> None:
    for sid in (ensemble.followers[0], ensemble.leader):
        with session(ensemble.members[sid]):
            started = monotonic()
            ensemble.members[sid].stop()
            assert member(ensemble, sid).exit_code == FINISHED
            # Far less than a session or a tick would take; none of it is spent on waiting for others.
            assert monotonic() - started < SLACK_S
        lines = member(ensemble, sid).log().splitlines()
        assert "stopped" in lines[-1]
        assert not [line for line in lines if "Traceback" in line or "level=error" in line]
        ensemble.launch(sid)
        ensemble.wait_all()


def test_a_learner_that_stops_in_its_snapshot_holds_up_nobody(tmp_path: Path) -> None:
    """ZOOKEEPER-783, 2141, 2201: the leader sends it from memory, as far as it is taken, and goes on."""
    props = {"zookeeper.commitLogCount": "400", "zookeeper.snapshotSizeFactor": "-1"}
    with Ensemble(tmp_path, cfg={"initLimit": "200"}, props=props) as ensemble:
        leader, (late, other) = ensemble.leader, ensemble.followers
        away = member(ensemble, late)
        away.kill9()
        with session(ensemble.members[leader]) as writer:
            for number in range(LARGE_ZNODES):
                assert writer.call(raw.CREATE, raw.create(f"/large{number}", bytes(LARGE_BYTES)))[0] == 0
            ensemble.launch(late)
            aside = Path(away.data_dir) / "version-2"
            eventually(lambda: list(aside.glob("snapshot.*.tmp")), "the snapshot comes", 30.0)
            os.kill(away.pid, signal.SIGSTOP)
            try:
                assert list(aside.glob("snapshot.*.tmp")), "it is there already: more bytes are needed"
                slowest_s = 0.0
                with session(ensemble.members[other]) as reader:
                    for number in range(50):
                        began = monotonic()
                        assert writer.call(raw.CREATE, raw.create(f"/meanwhile{number}"))[0] == 0
                        assert reader.call(raw.SYNC, raw.ustring("/"))[0] == 0
                        assert reader.call(raw.EXISTS, raw.path_watch(f"/meanwhile{number}"))[0] == 0
                        slowest_s = max(slowest_s, monotonic() - began)
                assert ensemble.mode(leader) == "leader"
                assert list(aside.glob("snapshot.*.tmp"))
            finally:
                os.kill(away.pid, signal.SIGCONT)
            assert slowest_s < SLACK_S
            ensemble.wait_all()
        assert "snapshot of the leader installed" in away.log()
        with session(ensemble.members[late]) as reader:
            assert reader.call(raw.SYNC, raw.ustring("/"))[0] == 0
            assert reader.call(raw.EXISTS, raw.path_watch("/meanwhile49"))[0] == 0


def test_a_server_that_stays_down_is_told_of_once(tmp_path: Path) -> None:
    ensemble = Ensemble(tmp_path, voters=2)
    one = member(ensemble, 1)
    try:
        ensemble.launch(1)
        # A socket that is bound and does not listen counts nothing, one that listens would be a server: the time of
        # some redials, 0, 0.2, 0.6 and 1.4 s, is all there is to wait for.
        eventually(lambda: "cannot reach" in one.log(), "the first attempt", 30.0)
        ends = monotonic() + 1.6
        eventually(lambda: monotonic() > ends, "some more attempts")
        assert one.log().count("cannot reach election port sid=2") == 1
    finally:
        ensemble.close()


def test_a_taken_port_between_servers_ends_the_server_with_14(tmp_path: Path) -> None:
    ensemble = Ensemble(tmp_path, props={"zookeeper.electionPortBindRetry": "1"})
    port = ensemble.ports[1][2]
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        try:
            ensemble.launch(1)
            one = member(ensemble, 1)
            eventually(lambda: not one.is_running, "it ends", 30.0)
            assert one.exit_code == QUORUM_PORT_BIND_ERROR
            said = one.log().splitlines()[-1]
            assert f"a port between the servers cannot be taken, exiting: cannot listen on {HOST}:{port}" in said
        finally:
            ensemble.close()

"""The hub: whole servers on a simulated network and simulated disks, at the moments when their parts might disagree."""

from __future__ import annotations

import errno
import logging
from random import Random

import pytest

from coati.core.export import Export
from coati.core.tree import TreeConfig
from coati.errors import StorageCorrupt, StorageFailed
from coati.server.config import ServerConfig
from coati.server.fourletter import NAMES, answer
from coati.server.hub import MAX_REFUSALS, REFUSAL_QUIET_MS
from coati.server.recovery import load
from coati.server.view import LiveView
from coati.storage.store import Store, StoreConfig
from coati.testing.cluster import SimCluster, SimMember
from coati.testing.server import DATA_DIR, SimClient, SimLink, data_of
from coati.wire import codes
from coati.wire.quorum import (
    FOLLOWERINFO,
    INFORM,
    INFORMANDACTIVATE,
    LOOKING,
    PROPOSAL,
    SNAP,
    Packet,
    encode_learner_info,
)
from coati.wire.records import CreateTxn, TxnHeader
from coati.wire.txns import MultiTxn, Txn, encode_txn
from coati.zab.leader import Leader
from coati.zab.learner import CHOOSING, INSTALLING, TRUNCATING, Learner
from coati.zab.outbox import RemoteRequest
from tests.server.clusterkit import (
    alone,
    answered,
    behind,
    converge,
    cut_links,
    fill,
    isolate,
    joined,
    leader_of,
    learner_in,
    learner_link,
    replica_of,
    start,
    takes_snapshot,
)

TICK_MS = 200
FILES = f"{DATA_DIR}/version-2"


class Noted:
    """coati.server.recovery.Collector, and what it was told."""

    def __init__(self, member: SimMember) -> None:
        self.said: list[str] = []
        member.hub._collector = self

    def rest(self) -> None:
        self.said.append("rest")

    def go_on(self) -> None:
        self.said.append("go on")

    def settle(self) -> None:
        self.said.append("settle")


# The usual way.


def test_what_is_written_on_one_server_is_read_on_all() -> None:
    cluster = start(observers=1)
    leader = leader_of(cluster)
    assert leader.hub.mode() == "leader"
    assert sorted(m.hub.mode() for m in cluster.members.values()) == ["follower", "follower", "leader", "observer"]
    for number, member in enumerate(cluster.members.values()):
        fill(cluster, joined(cluster, member), 3, start=number * 10)
    converge(cluster)
    for member in cluster.members.values():
        client = joined(cluster, member)
        xid = client.get(b"/n2")
        cluster.run_until(answered(client))
        assert data_of(client.reply(xid)) == bytes(10)


def test_a_session_moves_with_its_client() -> None:
    """The new server asks the leader whether it lives; its owner is that server from then on."""
    cluster = start()
    one, other = cluster.followers()
    client = joined(cluster, one)
    one.kill()
    moved = SimClient(SimLink(other, ("127.0.0.1", 40001)))
    moved.resume_from(client)
    cluster.run_until(lambda: moved.connected is not None)
    assert moved.session_id == client.session_id
    one.start()
    converge(cluster)


def test_a_sync_on_a_follower_sees_what_was_written_on_the_leader() -> None:
    cluster = start()
    writer = joined(cluster, leader_of(cluster))
    reader = joined(cluster, cluster.followers()[0])
    fill(cluster, writer, 5)
    reader.send(codes.OP_SYNC, b"\x00\x00\x00\x01/")
    xid = reader.get(b"/n4")
    cluster.run_until(lambda: len(reader.replies) == 2)
    assert reader.reply(xid).err == 0


# SNAP


@pytest.mark.usefixtures("no_diffs")
@pytest.mark.parametrize("disk_ms", [(1, 1), (30, 30)])
def test_a_snapshot_comes_in_pieces_and_the_disk_sets_the_pace(disk_ms: tuple[int, int]) -> None:
    cluster, away = behind(disk_ms=disk_ms)
    cluster.net.split_share = 0.5
    cluster.run_until(learner_in(away, INSTALLING))
    converge(cluster)
    assert b"/n299" in away.tree.nodes


@pytest.mark.usefixtures("no_diffs")
def test_a_link_that_is_lost_under_a_snapshot_costs_nothing_but_time() -> None:
    cluster, away = behind(disk_ms=(5, 5))
    collector = Noted(away)
    cluster.net.delay_ms = (5, 5)
    cluster.net.split_share = 0.9
    cluster.run_until(lambda: takes_snapshot(away), step_ms=1)
    cluster.run(6)
    before = away.tree
    cut_links(cluster, away)
    cluster.run_until(lambda: away.hub._receiver is None, step_ms=1)
    assert away.tree is before
    assert collector.said == ["rest", "go on"]
    converge(cluster)
    # A million new znodes are not looked at while they come, nor afterwards.
    assert collector.said == ["rest", "go on", "rest", "settle"]


@pytest.mark.usefixtures("no_diffs")
def test_a_snapshot_that_is_all_but_installed_outlives_its_link() -> None:
    """The next role begins behind it. It used to begin at once, and met another history than it had voted for."""
    cluster, away = behind(disk_ms=(300, 300))
    cluster.run_until(lambda: away.hub.peer._holds > 0 and learner_in(away, INSTALLING)(), step_ms=1)
    cut_links(cluster, away)
    cluster.run_until(lambda: away.state == LOOKING, step_ms=1)
    assert away.hub.peer._holds > 0
    converge(cluster)


@pytest.mark.usefixtures("no_diffs")
def test_a_leader_that_sends_no_snapshot_is_left() -> None:
    cluster, away = behind(disk_ms=(5, 5))
    cluster.run_until(lambda: takes_snapshot(away), step_ms=1)
    away.hub.on_raw(learner_link(away), b"\xff" * 5000)
    cluster.run_until(lambda: away.hub.peer.role is None, step_ms=1)
    assert "snapshot" in away.hub.peer.over_reason
    converge(cluster)


@pytest.mark.usefixtures("no_diffs")
def test_a_disk_that_fails_under_a_snapshot_ends_the_server() -> None:
    cluster, away = behind(disk_ms=(5, 5))
    away.disk.fail("write", 3, errno.ENOSPC, where="snapshot")
    cluster.run_until(lambda: not away.is_up)
    assert isinstance(away.fatal[0], StorageFailed)


def test_bytes_that_nobody_asked_for_close_the_link() -> None:
    cluster = start()
    follower = cluster.followers()[0]
    term = follower.hub.peer.term
    link = learner_link(follower)
    follower.hub.on_raw(link, b"what is this")
    cluster.run(1)
    assert link not in follower._ports._ends
    cluster.run_until(lambda: follower.hub.peer.term > term)
    converge(cluster)


def test_a_snapshot_in_the_middle_of_everything_ends_the_role() -> None:
    cluster = start()
    follower = cluster.followers()[0]
    follower.hub.on_packets(learner_link(follower), [Packet(SNAP, 5)])
    cluster.run_until(lambda: follower.hub.peer.role is None, step_ms=1)
    assert follower.hub._receiver is None
    converge(cluster)


# Proposals


@pytest.mark.parametrize("what", ["another zxid", "nothing", "too little", "unknown", "cut", "a part"])
def test_a_proposal_with_another_txn_in_it_ends_the_role_at_once(what: str) -> None:
    """It used to wait for the next alarm, half a syncLimit off, as a follower of nobody."""
    cluster = start()
    follower = cluster.followers()[0]
    role = follower.hub.peer.role
    assert role is not None
    zxid = role.proposed_zxid + 1
    header = TxnHeader(1, 1, zxid + 1, 1000, codes.OP_CREATE)
    own = TxnHeader(1, 1, zxid, 1000, codes.OP_MULTI)
    data = {
        "another zxid": encode_txn(header, CreateTxn(b"/x", b"", [], False, -1), None),
        "too little": b"x" * 8,
        "unknown": encode_txn(TxnHeader(1, 1, zxid, 1000, 77), CreateTxn(b"/x", b"", [], False, -1), None),
        "cut": encode_txn(TxnHeader(1, 1, zxid, 1000, codes.OP_CREATE), CreateTxn(b"/x", b"", [], False, -1), None)[
            :-6
        ],
        "a part": encode_txn(own, MultiTxn([Txn(codes.OP_CREATE, b"")]), None),
    }
    follower.hub.on_packets(learner_link(follower), [Packet(PROPOSAL, zxid, data.get(what))])
    cluster.run(5)
    assert follower.hub.peer.term == 3 or follower.state == LOOKING
    assert "another txn" in follower.hub.peer.over_reason
    converge(cluster)


@pytest.mark.parametrize("kind", [INFORM, INFORMANDACTIVATE])
@pytest.mark.parametrize("data", [None, b"x" * 3, bytes(8), bytes(40), b"\xff" * 60])
def test_an_observer_leaves_a_leader_that_informs_of_what_is_no_txn(kind: int, data: bytes | None) -> None:
    """With INFORMANDACTIVATE it ended: what it was to append was none."""
    cluster = start(observers=1)
    observer = cluster.members[4]
    role = observer.hub.peer.role
    assert role is not None
    observer.hub.on_packets(learner_link(observer), [Packet(kind, role.proposed_zxid + 1, data)])
    cluster.run(5)
    assert observer.hub.peer.role is not role
    converge(cluster)


@pytest.mark.parametrize("is_serving", [True, False])
def test_what_was_committed_and_cannot_be_applied_ends_the_server(is_serving: bool) -> None:
    """Z10: to leave it out would be another tree than all the others have."""
    cluster = start()
    follower = cluster.followers()[0]
    if not is_serving:
        isolate(cluster, follower)
        cut_links(cluster, follower)
        cluster.run_until(lambda: follower.state == LOOKING)
    follower.hub.outbox.deliveries.append((follower.tree.last_zxid + 1, b"no txn"))
    follower.driver.post_turn()
    cluster.run(1)
    assert isinstance(follower.fatal[0], StorageCorrupt)


def test_the_request_of_a_learner_is_lost_with_the_role() -> None:
    """Nobody serves here any more; its own client loses its connection as well."""
    cluster = start()
    leader = leader_of(cluster)
    link = next(iter(leader._ports._ends))
    isolate(cluster, leader)
    cluster.run_until(lambda: leader.state == LOOKING)
    outbox = leader.hub.outbox
    outbox.requests.append(RemoteRequest(link, 1, 1, codes.OP_CREATE, b"", []))
    outbox.touched.append((link, [(1, 1000)]))
    outbox.revalidations.append((link, 1, 1000))
    outbox.synced.append("token")
    leader.driver.post_turn()
    cluster.run(1)
    assert (outbox.requests, outbox.touched, outbox.revalidations, outbox.synced) == ([], [], [], [])
    assert leader.hub.peer.logged_zxid == leader.tree.last_zxid
    converge(cluster)


def test_the_request_of_a_link_that_is_gone_is_not_answered() -> None:
    cluster = start()
    leader = leader_of(cluster)
    outbox, zxid = leader.hub.outbox, leader.tree.last_zxid
    outbox.requests.append(RemoteRequest(999, 1, 1, codes.OP_CREATE, b"", []))
    outbox.revalidations.append((999, 1, 1000))
    leader.driver.post_turn()
    cluster.run(5)
    assert leader.tree.last_zxid == zxid
    converge(cluster)


# TRUNC


def test_what_nobody_else_has_is_cut_off() -> None:
    cluster = start()
    old = alone(cluster)
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes
    assert b"/n2" in old.tree.nodes
    # On the disk it is gone as well (ZOOKEEPER-3701, 5094).
    old.kill()
    old.start()
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes


def test_a_tree_that_has_it_is_read_anew() -> None:
    cluster = start()
    old = alone(cluster)
    old.kill()
    old.start()
    collector = Noted(old)
    assert b"/lost0" in old.tree.nodes
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes
    assert collector.said == ["rest", "settle"]


def left_with_one_snapshot(old: SimMember) -> None:
    """Its process has ended. Java writes one at a start, with all that is logged, and its purge removes the others."""
    store = Store(old.disk, StoreConfig(DATA_DIR))
    loaded = load(store, TreeConfig(), is_alone=False)
    export = Export(loaded.tree, loaded.timeouts)
    slices = iter(lambda: export.next_slice(1000), b"")
    store.write_snapshot(export.zxid, export.sessions, export.acls, slices, export.digest)
    store.close()
    old.disk.kill()
    old.disk.remove(f"{FILES}/snapshot.0")


def test_a_cut_below_every_snapshot_is_asked_of_a_leader_who_needs_this_server() -> None:
    """It follows him again at once, without an election: he has no quorum without it (simulator, seed 201150)."""
    cluster = start()
    old = alone(cluster)
    ahead = leader_of(cluster)
    for member in cluster.members.values():
        if member is not ahead:
            member.kill()
    left_with_one_snapshot(old)
    epoch = ahead.store.current_epoch
    cluster.run_until(lambda: ahead.state == LOOKING)
    cluster.net.heal_all()
    old.start()
    followed: dict[int, int] = {}

    def all_serve() -> bool:
        role = old.hub.peer.role
        if isinstance(role, Learner):
            followed[old.hub.peer.term] = role.leader_sid
        return cluster.all_serve()

    cluster.run_until(all_serve, step_ms=1)
    assert list(followed.values()) == [ahead.sid] * 2
    assert ahead.store.current_epoch == epoch + 1
    assert b"/lost0" not in old.tree.nodes
    assert b"/n2" in old.tree.nodes


def test_a_cut_below_every_snapshot_becomes_a_snapshot_of_the_leader(caplog: pytest.LogCaptureFixture) -> None:
    """ZOOKEEPER-2832, 4837: a snapshot has the txn that is to go. It used to be an internal error, for ever."""
    caplog.set_level(logging.INFO, "coati.server.hub")
    cluster = start()
    old = alone(cluster)
    old.kill()
    left_with_one_snapshot(old)
    old.start()
    assert b"/lost0" in old.tree.nodes
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes
    assert caplog.text.count("snapshot of the leader installed") == 1
    assert "another one is asked for" in caplog.text
    old.kill()
    old.start()
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes


def test_the_cut_waits_for_the_disk_and_ends_with_its_role(caplog: pytest.LogCaptureFixture) -> None:
    """It used to be made whenever the disk was idle, below whatever role came then."""
    caplog.set_level(logging.INFO, "coati.server.hub")
    cluster = start()
    old = alone(cluster)
    store = old.store
    cluster.net.heal_all()
    # A disk that hangs: it syncs for a second and a half when the TRUNC comes.
    cluster.run_until(learner_in(old, CHOOSING), step_ms=1)
    cluster.config.disk_ms = (1500, 1500)
    store.sync(lambda error: None)
    cluster.run_until(learner_in(old, TRUNCATING), step_ms=1)
    cluster.config.disk_ms = (1, 1)
    assert old.hub._truncate_to >= 0
    cut_links(cluster, old)
    cluster.run_until(lambda: old.state == LOOKING, step_ms=1)
    assert (old.hub._truncate_to, old.hub.outbox.truncate_to) == (-1, -1)
    assert not [record for record in caplog.records if "log cut" in record.getMessage()]
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes


def test_the_cut_comes_as_soon_as_a_purge_leaves_the_disk() -> None:
    """And not with whatever has the server look again."""
    cluster = start()
    old = alone(cluster)
    cluster.net.heal_all()
    cluster.run_until(learner_in(old, CHOOSING), step_ms=1)
    cluster.config.disk_ms = (37, 37)
    purged: list[list[str]] = []
    old.store.purge(lambda names, error: purged.append(names))
    cluster.run_until(learner_in(old, TRUNCATING), step_ms=1)
    assert not purged
    cluster.run_until(lambda: old.store.is_idle, step_ms=1)
    cluster.run(1)
    assert purged
    assert not learner_in(old, TRUNCATING)()
    converge(cluster)


def test_a_snapshot_under_way_is_given_up_for_the_cut() -> None:
    cluster = start(disk_ms=(5, 5))
    old = alone(cluster)
    replica = old.driver.replica
    assert replica is None
    cluster.net.heal_all()
    cluster.run_until(lambda: old.hub.peer.role is not None, step_ms=1)
    writer = old.store.begin_snapshot(old.tree.last_zxid, {}, {})
    old.driver._writer = writer
    converge(cluster)
    assert old.driver._writer is not writer
    assert b"/lost0" not in old.tree.nodes


def test_a_disk_that_cannot_be_cut_ends_the_server() -> None:
    """ZOOKEEPER-3701: going on with a log that was not cut splits the brain."""
    cluster = start()
    old = alone(cluster)
    old.disk.fail("truncate", 1, errno.EIO, where="log.")
    cluster.net.heal_all()
    cluster.run_until(lambda: not old.is_up)
    assert isinstance(old.fatal[0], StorageFailed)


# Epochs


@pytest.mark.parametrize("when", ["now", "later"])
def test_a_disk_that_takes_no_epoch_ends_the_server(when: str) -> None:
    cluster = SimCluster(dice=Random(1)).start()
    member = cluster.members[3]
    if when == "now":
        member.store.failed = StorageFailed("it has failed already")
    else:
        member.disk.fail("write", 1, errno.EIO, where="acceptedEpoch")
    cluster.run_until(lambda: not member.is_up)
    assert isinstance(member.fatal[0], StorageFailed)


# Clients while nobody serves.


def test_a_client_that_comes_too_early_is_served_later() -> None:
    cluster = SimCluster(dice=Random(1)).start()
    link = SimLink(cluster.members[1], ("127.0.0.1", 40000))
    client = SimClient(link)
    gone = SimLink(cluster.members[1], ("127.0.0.1", 40002))
    assert cluster.members[1].hub.mode() == "leaderelection"
    gone.close()
    cluster.run_until(cluster.all_serve)
    client.open_session()
    cluster.run_until(lambda: client.session_id != 0)


def test_a_client_that_wants_something_too_early_loses_its_connection() -> None:
    """NIOServerCnxn: "ZooKeeperServer not running"."""
    cluster = SimCluster(dice=Random(1)).start()
    client = cluster.members[1].client()
    cluster.run(1)
    assert not client.is_open


def test_the_clients_of_a_server_that_loses_its_role_are_cut_off() -> None:
    cluster = start()
    leader = leader_of(cluster)
    client = joined(cluster, leader)
    isolate(cluster, leader)
    cluster.run_until(lambda: not client.is_open)
    assert leader.driver.replica is None
    converge(cluster)


# Links that come too late.


def test_a_link_that_an_ended_role_dialled_does_not_stand() -> None:
    """It used to be taken for the link that the next role waited for."""
    cluster = start()
    follower = cluster.followers()[0]
    cluster.net.delay_ms = (400, 400)
    cut_links(cluster, follower)
    cluster.run_until(lambda: bool(follower._ports._dialling), step_ms=1)
    (number,) = follower._ports._dialling
    role = follower.hub.peer.role
    assert isinstance(role, Learner)
    follower.hub.refuse_leader("it is for the test")
    cluster.run(5)
    assert number not in follower._ports._dialling
    cluster.net.delay_ms = (1, 1)
    converge(cluster)
    assert number not in follower._ports._ends


def test_every_four_letter_word_has_an_answer_while_nobody_serves() -> None:
    """Monitors ask just then. Most are told so; those about the process itself are answered."""
    cluster = SimCluster(dice=Random(1)).start()
    member = cluster.members[1]
    view = LiveView(ServerConfig(), member.driver, member.disk, cluster.clock)
    view.is_running = True
    answers = {word: b"".join(answer(word, frozenset(NAMES.values()), view)) for word in NAMES}
    refused = {word for word, text in answers.items() if b"not currently serving" in text}
    assert {b"stat", b"srvr", b"mntr", b"cons", b"dump", b"wchs"} <= refused
    assert answers[b"ruok"] == b"imok"
    assert answers[b"envi"].startswith(b"Environment:")


# What is said of learners.


def refusals(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.levelno == level]
    return [message for message in said if message.startswith("learner refused")]


def knock(cluster: SimCluster, sid: int, config_version: int = 0) -> None:
    """Somebody comes to the leader's quorum port, and says who it is."""
    hub = leader_of(cluster).hub
    hub.on_link(900, "192.0.2.1:4711")
    hub.on_packets(900, [Packet(FOLLOWERINFO, 0, encode_learner_info(sid, config_version))])
    cluster.run(2)


def test_a_refused_learner_is_said_once_with_its_address_and_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    """An operator would else look for the reason on the other server, which only finds its link closed."""
    caplog.set_level(logging.DEBUG, "coati.server.hub")
    cluster = start()
    sid = leader_of(cluster).sid
    for _ in range(3):
        knock(cluster, sid)
    text = f"learner refused link=900 sid=-1 peer=192.0.2.1:4711 reason=a learner with the sid of its leader, {sid}"
    assert refusals(caplog, logging.WARNING) == [text]
    assert refusals(caplog, logging.DEBUG) == [text] * 2
    # Another reason is news, and the same one is again after a while.
    knock(cluster, 9, 5 << 32)
    assert refusals(caplog, logging.WARNING)[1:] == [
        "learner refused link=900 sid=-1 peer=192.0.2.1:4711 reason=server 9 has a later configuration, 0x500000000"
    ]
    cluster.run(REFUSAL_QUIET_MS)
    knock(cluster, sid)
    knock(cluster, sid)
    assert refusals(caplog, logging.WARNING)[2:] == [text]
    assert len(refusals(caplog, logging.DEBUG)) == 3


def test_a_follower_that_is_let_go_is_named(caplog: pytest.LogCaptureFixture) -> None:
    cluster = start()
    leader, follower = leader_of(cluster), cluster.followers()[0]
    role = leader.hub.peer.role
    assert isinstance(role, Leader)
    learner = role.attendance.of_sid(follower.sid)
    assert learner is not None
    leader.hub.on_packets(learner.link, [Packet(PROPOSAL, 5)])
    cluster.run(2)
    (said,) = refusals(caplog, logging.WARNING)
    assert f"sid={follower.sid} peer=- reason=PROPOSAL from server {follower.sid}" in said
    converge(cluster)


def test_strangers_do_not_fill_the_memory_with_what_was_said_of_them(caplog: pytest.LogCaptureFixture) -> None:
    cluster = start()
    for epoch in range(2, 2 * MAX_REFUSALS):
        knock(cluster, 9, epoch << 32)
    assert len(refusals(caplog, logging.WARNING)) == 2 * MAX_REFUSALS - 2
    assert len(leader_of(cluster).hub._refusals._said) == MAX_REFUSALS


def test_nobody_is_told_that_a_session_is_over_before_it_is() -> None:
    """S1: the closeSession of a session that expires may be lost with its leader, and then the session goes on."""
    cluster = SimCluster().start()
    cluster.run_until(cluster.all_serve)
    leader, follower = cluster.leader(), cluster.followers()[0]
    assert leader is not None
    client = follower.client()
    cluster.run(200)
    for other in cluster.followers():
        cluster.net.cut(other.sid, leader.sid)
    replica_of(leader).close_session(client.session_id)
    leader.driver.post_turn()
    cluster.run(20)
    early = SimClient(SimLink(leader, ("127.0.0.1", 40001)))
    early.resume_from(client)
    cluster.run(20)
    assert early.connected is None
    cluster.net.heal_all()
    cluster.run(200)
    late = SimClient(SimLink(leader, ("127.0.0.1", 40002)))
    late.resume_from(client)
    cluster.run(200)
    for back in (early, late):
        assert back.connected is not None
        assert back.connected.session_id == 0

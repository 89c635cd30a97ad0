"""Bugs that ZooKeeper had, or has, in sessions, elections and what surrounds them: each staged with whole servers.

The rows are those of docs/regressions.md; what one part alone can show has its tests in the rooms. Some tests are of
promises in docs/ensemble.md.
"""

from __future__ import annotations

import errno
from itertools import permutations
from random import Random

import pytest

from coati.core.tree import CONFIG
from coati.errors import NODE_EXISTS, OK, StorageFailed
from coati.testing import cluster as cluster_module
from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.server import DATA_DIR, SimClient, SimLink, data_of
from coati.wire import codes
from coati.wire.jute import Writer as JuteWriter
from coati.wire.quorum import FOLLOWING, LEADING, LOOKING, Notification
from coati.wire.records import SetWatches
from coati.zab.learner import INSTALLING
from coati.zab.quorum import View
from tests.server.clusterkit import behind, converge, fill, joined, leader_of, learner_in, replica_of, start
from tests.server.regressionkit import Writer, all_have, answer, restarted

EPHEMERAL = 1
SESSION_MS = 4000
DIRECTORY = f"{DATA_DIR}/version-2"


# Sessions, ephemerals, watches (3.3, and row 22).


def test_a_server_without_a_quorum_writes_nothing_and_ends_no_session() -> None:
    """Row 22, ZOOKEEPER-3526: a server that waited for a quorum wrote the end of a session into its log by itself."""
    cluster = start()
    member = cluster.followers()[0]
    client = joined(cluster, member)
    client.create(b"/mine", flags=EPHEMERAL)
    cluster.run(100)
    others = [other for other in cluster.members.values() if other is not member]
    for other in others:
        other.kill()
    cluster.run(3 * client.timeout_ms)
    assert member.state == LOOKING
    zxid, written = member.tree.last_zxid, member.store.last_zxid
    assert zxid == written
    cluster.run(client.timeout_ms)
    assert (member.tree.last_zxid, member.store.last_zxid) == (zxid, written)
    for other in others:
        other.start()
    cluster.run_until(cluster.all_serve)
    back = SimClient(SimLink(member, ("127.0.0.1", 40001)))
    back.resume_from(client)
    cluster.run_until(lambda: back.connected is not None)
    assert back.session_id == client.session_id
    assert answer(cluster, back, back.exists(b"/mine")).err == 0
    all_have(cluster, [b"/mine"])


@pytest.mark.parametrize("after_ms", range(8))
def test_no_ephemeral_is_left_without_its_owner(after_ms: int) -> None:
    """Row 42, ZOOKEEPER-1208, 1496, 1367: creates behind the end of their session, on its way to and at the leader."""
    cluster = start(seed=after_ms, disk_ms=(1, 3))
    cluster.net.delay_ms = (1, 3)
    clients = [joined(cluster, member) for member in cluster.members.values() for _ in range(2)]
    for index, client in enumerate(clients):
        client.create(b"/e%d" % index, flags=EPHEMERAL)
        if index % 2:
            client.close_session()
        for number in range(5):
            client.create(b"/e%d-%d" % (index, number), flags=EPHEMERAL)
    leader = leader_of(cluster)
    for client in clients[::2]:
        replica_of(leader).close_session(client.session_id)
    leader.driver.post_turn()
    cluster.run(after_ms)
    for member in cluster.members.values():
        member.crash("random")
    for member in cluster.members.values():
        member.start()
    converge(cluster)
    for member in cluster.members.values():
        assert member.tree.ephemerals.keys() <= member.hub.timeouts_now().keys()
    cluster.run(3 * clients[0].timeout_ms)
    converge(cluster)
    for member in cluster.members.values():
        assert not member.tree.ephemerals
        assert not member.hub.timeouts_now()


def test_many_sessions_that_end_at_once_take_no_other_along() -> None:
    """Row 45, ZOOKEEPER-1049, 1669: on a follower, whose leader hears of the living by its PINGs."""
    cluster = start()
    follower = cluster.followers()[0]
    clients = [follower.client(timeout_ms=SESSION_MS) for _ in range(200)]
    cluster.run_until(lambda: all(client.session_id for client in clients))
    for index, client in enumerate(clients):
        client.create(b"/e%d" % index, flags=EPHEMERAL)
    cluster.run(100)
    dying, living = clients[::2], clients[1::2]
    for client in dying:
        client.link.drop()
    for _ in range(3 * SESSION_MS // 1000):
        for client in living:
            client.ping()
        cluster.run(1000)
    owners = {client.session_id for client in living}
    for member in cluster.members.values():
        assert member.tree.ephemerals.keys() == member.hub.timeouts_now().keys() == owners
    assert all(client.is_open for client in living)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["as it was", "started anew"])
def test_what_a_client_missed_is_told_by_the_server_it_moves_to(is_restarted: bool) -> None:
    """Row 48, E4, ZOOKEEPER-1412, 3145: by mzxid and pzxid as that server has them, also from its log."""
    cluster = start()
    one, other = cluster.followers()
    client, writer = joined(cluster, one), joined(cluster, leader_of(cluster))
    for path in (b"/data", b"/gone", b"/parent", b"/quiet"):
        writer.create(path)
    cluster.run(100)
    client.get(b"/data", watch=True)
    client.get(b"/gone", watch=True)
    client.exists(b"/new", watch=True)
    client.children(b"/parent", watch=True)
    client.get(b"/quiet", watch=True)
    cluster.run(50)
    assert not client.events
    client.link.drop()
    writer.set_data(b"/data", b"x")
    writer.delete(b"/gone")
    writer.create(b"/new")
    writer.create(b"/parent/child")
    writer.delete(b"/parent/child")
    cluster.run(100)
    if is_restarted:
        restarted(cluster, other)
    back = SimClient(SimLink(other, ("127.0.0.1", 40001)))
    back.resume_from(client)
    cluster.run_until(lambda: back.connected is not None)
    w = JuteWriter()
    SetWatches(client.last_zxid, [b"/data", b"/gone", b"/quiet"], [b"/new"], [b"/parent"]).write(w)
    back.send(codes.OP_SET_WATCHES, w.getvalue(), xid=codes.XID_SET_WATCHES)
    cluster.run(50)
    assert sorted((event.path, event.type) for event in back.events) == [
        (b"/data", codes.EVENT_DATA_CHANGED),
        (b"/gone", codes.EVENT_DELETED),
        (b"/new", codes.EVENT_CREATED),
        (b"/parent", codes.EVENT_CHILDREN_CHANGED),
    ]
    writer.set_data(b"/quiet", b"x")
    cluster.run(100)
    assert [event.path for event in back.events[4:]] == [b"/quiet"]


@pytest.mark.parametrize("sid", [1, 3, 4], ids=["follower", "leader", "observer"])
def test_a_client_alone_is_answered_each_time_and_in_order(sid: int) -> None:
    """Row 50, ZOOKEEPER-1863, 4537: nobody else's request was there to wake the last commit up."""
    cluster = start(observers=1, disk_ms=(1, 20))
    cluster.net.delay_ms = (1, 20)
    client = joined(cluster, cluster.members[sid])
    for number in range(60):
        assert answer(cluster, client, client.create(b"/n%d" % number)).err == 0
        xid = client.get(b"/n%d" % number)
        assert answer(cluster, client, xid).err == 0
    assert [reply.xid for reply in client.replies] == list(range(1, 121))
    zxids = [reply.zxid for reply in client.replies]
    assert zxids == sorted(zxids)


def test_an_hour_without_a_client_changes_nothing() -> None:
    """Row 54b, ZOOKEEPER-4933: after a long pause everybody was turned away."""
    cluster = start(tick_ms=2000, observers=1)
    terms = [member.hub.peer.term for member in cluster.members.values()]
    for _ in range(60):
        cluster.run(60_000)
    assert [member.hub.peer.term for member in cluster.members.values()] == terms
    for index, member in enumerate(cluster.members.values()):
        client = joined(cluster, member)
        assert answer(cluster, client, client.create(b"/n%d" % index)).err == 0
    converge(cluster)


def test_of_creates_on_all_servers_one_wins_and_its_end_is_told() -> None:
    """The exclusive lock of the textbooks: -110 for those who lose, and an event for them when the holder is gone."""
    cluster = start(observers=1)
    clients = [joined(cluster, member) for member in cluster.members.values()]
    xids = [client.create(b"/lock", flags=EPHEMERAL) for client in clients]
    errors = [answer(cluster, client, xid).err for client, xid in zip(clients, xids, strict=True)]
    assert sorted(errors) == [NODE_EXISTS] * 3 + [OK]
    holder = clients.pop(errors.index(OK))
    for client in clients:
        assert answer(cluster, client, client.exists(b"/lock", watch=True)).err == OK
    holder.link.drop()
    cluster.run(holder.timeout_ms // 2)
    assert not any(client.events for client in clients)
    for _ in range(holder.timeout_ms // 1000):
        for client in clients:
            client.ping()
        cluster.run(1000)
    events = [[(event.type, event.path, event.zxid) for event in client.events] for client in clients]
    assert events == [events[0]] * 3
    assert events[0][0][:2] == (codes.EVENT_DELETED, b"/lock")


# Elections, networking, shutdown (3.4).


def test_others_that_come_and_go_leave_the_leader_alone() -> None:
    """While a majority is left. A server that was never there, and has the largest id, comes as well."""
    cluster = SimCluster(ClusterConfig(5, observers=1), dice=Random(1))
    for sid in (1, 2, 3, 4, 6):
        cluster.members[sid].start()
    cluster.run_until(cluster.all_serve)
    leader = leader_of(cluster)
    epoch, term = leader.store.current_epoch, leader.hub.peer.term
    writer = Writer(cluster, leader)
    cluster.members[5].start()
    for sid in (1, 6, 5, 2):
        writer.write_for(120, 4)
        cluster.members[sid].kill()
        writer.write_for(120, 4)
        cluster.members[sid].start()
    cluster.run(100)
    all_have(cluster, writer.acked)
    assert (leader_of(cluster), leader.store.current_epoch, leader.hub.peer.term) == (leader, epoch, term)
    assert writer.client.is_open
    assert len(writer.acked) == len(writer.sent)


def test_an_observer_that_hangs_slows_no_write() -> None:
    """It is told, and nobody waits for it."""
    cluster = start(observers=1)
    leader = leader_of(cluster)
    cluster.net.cut(leader.sid, 4)
    writer = Writer(cluster, leader)
    for _ in range(50):
        xid = writer.client.create(b"/n%d" % len(writer.client.replies))
        began_ms = cluster.clock.now_ms
        assert answer(cluster, writer.client, xid).err == OK
        assert cluster.clock.now_ms - began_ms < 10
    all_have(cluster, [b"/n0", b"/n49"])


def test_a_vote_speaks_of_what_was_loaded() -> None:
    """Row 38, ZOOKEEPER-596, 882: a torn tail was counted, and the server was elected for what it did not have."""
    cluster = start()
    fill(cluster, joined(cluster, leader_of(cluster)), 10)
    cluster.run(100)
    torn = leader_of(cluster)
    zxid = torn.tree.last_zxid
    torn.kill()
    logs = {name: torn.disk.get(f"{DIRECTORY}/{name}") for name in torn.disk.list(DIRECTORY) if "log." in name}
    ((log, data),) = [(name, data) for name, data in logs.items() if b"/n9" in data]
    # The last byte that is none of the padding is the end mark of the last txn.
    torn.disk.put(f"{DIRECTORY}/{log}", data.rstrip(b"\0")[:-1])
    torn.start()
    assert torn.tree.last_zxid == torn.hub.peer.election.vote.zxid == zxid - 1
    all_have(cluster, [b"/n9"])


def test_a_fourth_server_comes_by_a_rolling_restart() -> None:
    """Row 67, ZOOKEEPER-2819, 3829, 3830: without reconfiguration the list in its own file is what a server goes by."""
    cluster = SimCluster(ClusterConfig(4), dice=Random(1))
    larger = cluster.view
    cluster.view = View.build([larger.servers[sid] for sid in (1, 2, 3)], {}, {})
    for sid in (1, 2, 3):
        cluster.members[sid].start()
    cluster.run_until(cluster.all_serve)
    writer = joined(cluster, leader_of(cluster))
    fill(cluster, writer, 5)
    cluster.view = larger
    cluster.members[4].start()
    cluster.run(1000)
    for sid in (1, 2, 3):
        cluster.members[sid].stop()
        cluster.members[sid].start()
        cluster.run_until(lambda: all(cluster.members[other].is_serving for other in (1, 2, 3)))
    all_have(cluster, [b"/n%d" % number for number in range(5)])
    for member in cluster.members.values():
        client = joined(cluster, member)
        assert data_of(answer(cluster, client, client.get(CONFIG))) == larger.to_text()


def winners(cluster: SimCluster) -> list[SimMember]:
    return [member for member in cluster.members.values() if member.is_up and member.state == LEADING]


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_winner_dies_at_once_and_another_one_leads(seed: int) -> None:
    """Row 55, ZOOKEEPER-569, 822, 1514: with votes that are lost, and a leader that dies in the last moment."""
    cluster = SimCluster(ClusterConfig(5), dice=Random(seed))
    cluster.net.delay_ms = (1, 20)
    cluster.net.vote_loss = 0.3
    cluster.start()
    for _ in range(2):
        cluster.run_until(lambda: bool(winners(cluster)), step_ms=1)
        winner = winners(cluster)[0]
        winner.kill()
        took_ms = cluster.run_until(lambda: cluster.leader() is not None and cluster.all_serve())
        # An initLimit is 2 s: nobody waits that long for who is dead.
        assert took_ms < 5000, f"seed {seed}"
        winner.start()
        cluster.run_until(cluster.all_serve)
        leader_of(cluster).kill()
        for member in cluster.members.values():
            if not member.is_up:
                member.start()
    converge(cluster)


def test_servers_are_restarted_one_by_one_in_every_order() -> None:
    """Row 56, ZOOKEEPER-1732, 1805, 1817, 1818: who came back could not join those who had elected without it."""
    cluster = start()
    client = joined(cluster, leader_of(cluster))
    fill(cluster, client, 3)
    for order in permutations(cluster.members):
        for sid in order:
            cluster.members[sid].stop()
            cluster.run(300)
            cluster.members[sid].start()
            assert cluster.run_until(cluster.all_serve) < 2000, f"{sid} of {order}"
    all_have(cluster, [b"/n0", b"/n1", b"/n2"])
    back = SimClient(SimLink(cluster.members[1], ("127.0.0.1", 40001)))
    back.resume_from(client)
    cluster.run_until(lambda: back.connected is not None)
    assert back.session_id == client.session_id


def test_a_server_stuck_in_a_snapshot_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 61, ZOOKEEPER-2201, 3574: it reads nothing any more, and its leader goes on as if it were not there."""
    monkeypatch.setattr(cluster_module, "DIFF_LIMIT_BYTES", -1)
    cluster, away = behind()
    leader = leader_of(cluster)
    cluster.run_until(learner_in(away, INSTALLING), step_ms=1)
    cluster.net.cut(leader.sid, away.sid)
    writer = Writer(cluster, leader)
    for _ in range(50):
        writer.write()
        assert cluster.run_until(lambda: len(writer.acked) == len(writer.sent), step_ms=1) < 20
    assert leader_of(cluster) is leader
    all_have(cluster, writer.acked)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_leader_whose_disk_fails_is_replaced(kind: str) -> None:
    """Row 62, ZOOKEEPER-2247, 1109: it went on to ping its followers and wrote nothing: no service, no new leader."""
    cluster = start()
    leader = leader_of(cluster)
    writer = Writer(cluster, cluster.followers()[0])
    writer.write_for(20)
    leader.disk.fail(kind, 2, errno.EIO, where="log.")
    writer.write_for(20)
    assert not leader.is_up
    assert isinstance(leader.fatal[0], StorageFailed)
    assert cluster.run_until(lambda: cluster.leader() is not None) < 2000
    fill(cluster, joined(cluster, leader_of(cluster)), 3)
    leader.fatal.clear()
    leader.start()
    all_have(cluster, [*writer.acked, b"/n0", b"/n1", b"/n2"])


def test_no_tree_is_loaded_again_for_a_new_leader() -> None:
    """Row 64, ZOOKEEPER-1642, 2678: with much data that took longer than an initLimit, again and again."""
    cluster = start(observers=1)
    fill(cluster, joined(cluster, leader_of(cluster)), 50)
    leader_of(cluster).kill()
    trees = {member.sid: member.tree for member in cluster.members.values() if member.is_up}
    cluster.run_until(cluster.all_serve)
    fill(cluster, joined(cluster, leader_of(cluster)), 3, start=100)
    for sid, tree in trees.items():
        assert cluster.members[sid].tree is tree


def test_groups_and_weights_decide_who_is_a_quorum() -> None:
    """Three groups of three, of which the last server of each weighs nothing and is never elected."""
    cluster = SimCluster(ClusterConfig(9), dice=Random(1))
    groups = {1: [1, 2, 3], 2: [4, 5, 6], 3: [7, 8, 9]}
    cluster.view = View.build(cluster.view.servers.values(), groups, dict.fromkeys((3, 6, 9), 0))
    cluster.start()
    cluster.run_until(cluster.all_serve)
    assert leader_of(cluster).sid == 8
    # A whole group is gone, and those without weight, which nobody needs.
    for sid in (7, 8, 9, 3, 6):
        cluster.members[sid].kill()
    cluster.run_until(cluster.all_serve)
    assert leader_of(cluster).sid == 5
    fill(cluster, joined(cluster, leader_of(cluster)), 3)
    # Half of the weight of a group is not enough, though five of nine are up.
    cluster.members[4].kill()
    for sid in (3, 6):
        cluster.members[sid].start()
    cluster.run(5000)
    assert cluster.leader() is None
    for sid in (4, 7, 8, 9):
        cluster.members[sid].start()
    all_have(cluster, [b"/n0", b"/n1", b"/n2"])


# A stranger's configuration (row 39 of the bad inputs).


def test_nobody_takes_over_a_configuration_that_comes_with_a_vote() -> None:
    """Java does while it looks, if the version is later: whoever reaches the port may replace the ensemble."""
    cluster = SimCluster(ClusterConfig(3, observers=1), dice=Random(1)).start()
    own = cluster.view.to_text()
    text = b"server.9=192.0.2.1:2888:3888:participant\nversion=7fffffffffffffff"
    top = 2**63 - 1
    for state in (LOOKING, FOLLOWING, LEADING):
        for member in cluster.members.values():
            for sender in (1, 2, 3, 4, 9):
                member.hub.on_vote(sender, Notification(state, 9, top, 1, top, text))
                member.hub.on_vote(sender, Notification(state, 1, 0, 1, 0, text))
    cluster.run_until(cluster.all_serve)
    assert cluster.view.to_text() == own
    for member in cluster.members.values():
        assert member.hub.peer.config.view is cluster.view
        client = joined(cluster, member)
        assert data_of(answer(cluster, client, client.get(CONFIG))) == own

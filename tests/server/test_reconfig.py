"""Ensembles whose members change while they run: whole servers on a simulated network and simulated disks.

What is expected is what Java does, and the invariants Z12 (a quorum of the list in force, of both while it changes) and
"never two quorums".
"""

from __future__ import annotations

from random import Random

import pytest

from coati import errors
from coati.core.tree import CONFIG, pristine, show_config
from coati.server.reconfig import view_in
from coati.testing.reconfig import DynamicCluster, DynamicMember
from coati.testing.server import SimClient
from coati.wire import codes
from coati.wire.quorum import FOLLOWING, LOOKING, OBSERVING, PROPOSAL, Notification, Packet
from coati.wire.txns import SetDataTxn, TxnHeader, encode_txn
from coati.zab.dynamic import DynamicLeader
from coati.zab.learner import Learner
from coati.zab.quorum import View
from tests.server.clusterkit import joined
from tests.server.reconfigkit import agree, body, change, leader_of, line, member, send, settle, start


def test_the_first_list_gets_the_zxid_of_newleader() -> None:
    """ZOOKEEPER-1783: as Java shows it, 100000000."""
    cluster = start()
    cluster.run_until(lambda: agree(cluster, 0x100000000))


@pytest.mark.parametrize("at_leader", [True, False])
def test_an_observer_joins_and_leaves(at_leader: bool) -> None:
    cluster = start()
    at = leader_of(cluster) if at_leader else member(cluster, 1)
    view = change(cluster, at, body(joining=line(4, is_observer=True)))
    assert view.observers() == [4]
    late = cluster.add(4, is_observer=True)
    late.start()
    cluster.run_until(lambda: agree(cluster, view.version))
    assert late.state == OBSERVING
    view = change(cluster, at, body(leaving="4"))
    assert view.observers() == []
    # It goes on without a vote, until somebody stops it.
    assert late.state == FOLLOWING
    settle(cluster)


def test_a_voter_joins_and_counts_and_leaves() -> None:
    cluster = start()
    for sid in (4, 5):
        cluster.add(sid).start()
    cluster.run_until(cluster.all_serve)
    assert member(cluster, 4).peer.view.voters() == [1, 2, 3]
    at = leader_of(cluster)
    change(cluster, at, body(joining=f"{line(4)},{line(5)}"))
    # Two of five are no quorum, whoever they are.
    followers = [found for found in cluster.followers() if found.is_up]
    for found in followers[:2]:
        found.kill()
    client = joined(cluster, leader_of(cluster))
    client.create(b"/three-of-five")
    cluster.run_until(lambda: any(reply.err == 0 for reply in client.replies))
    followers[2].kill()
    cluster.run_until(lambda: cluster.leader() is None)
    for found in followers[:3]:
        found.start()
    cluster.run_until(cluster.all_serve)
    view = change(cluster, leader_of(cluster), body(leaving="4,5"))
    assert view.voters() == [1, 2, 3]
    settle(cluster)


@pytest.mark.parametrize("at_leader", [True, False])
def test_a_leader_that_is_removed_hands_over(at_leader: bool) -> None:
    """To who has the most, and that without an election; it follows then, and its client has its answer."""
    cluster = start()
    old = leader_of(cluster)
    epoch = old.store.current_epoch
    at = old if at_leader else cluster.followers()[0]
    assert isinstance(at, DynamicMember)
    view = change(cluster, at, body(leaving=str(old.sid)))
    new = leader_of(cluster)
    assert new is not old
    assert view.voters() == sorted({1, 2, 3} - {old.sid})
    assert old.state == FOLLOWING
    assert new.store.current_epoch == epoch + 1
    settle(cluster)


def test_a_voter_becomes_an_observer_and_a_voter_again() -> None:
    cluster = start(voters=4)
    follower = cluster.followers()[0]
    view = change(cluster, leader_of(cluster), body(joining=line(follower.sid, is_observer=True)))
    assert view.observers() == [follower.sid]
    assert follower.state == OBSERVING
    change(cluster, leader_of(cluster), body(joining=line(follower.sid)))
    assert follower.state == FOLLOWING
    settle(cluster)


def test_all_members_given_with_groups() -> None:
    """The whole list; whoever leads and is not in it hands over. Then there is no incremental change."""
    cluster = start()
    members = ",".join([line(1), line(2), line(3), "group.1=1:2:3"])
    view = change(cluster, member(cluster, 1), body(members=members))
    assert view.groups == {1: [1, 2, 3]}
    answer = send(cluster, member(cluster, 1), body(joining=line(4, is_observer=True)))
    cluster.run_until(lambda: answer() is not None)
    assert answer() == (errors.BAD_ARGUMENTS, b"")
    settle(cluster)


def test_members_go_on_from_what_they_kept() -> None:
    cluster = start()
    view = change(cluster, leader_of(cluster), body(joining=line(4, is_observer=True)))
    for found in cluster.members.values():
        found.kill()
    for found in cluster.members.values():
        found.start()
    cluster.run_until(lambda: agree(cluster, view.version))
    settle(cluster)


def test_a_list_in_the_log_alone_is_completed() -> None:
    """All crash behind the commit, and no file was written: the log has it, and it is not forgotten."""
    cluster = start()
    before = member(cluster, 1).keeper.view
    view = change(cluster, leader_of(cluster), body(joining=line(4, is_observer=True)))
    for sid in (1, 2, 3):
        found = member(cluster, sid)
        found.kill()
        found.keeper.view, found.keeper.seen = before, None
        found.start()
    cluster.run_until(lambda: agree(cluster, view.version))
    settle(cluster)


def staged(cluster: DynamicCluster) -> DynamicMember:
    """Servers 4 and 5 follow and are stopped, and the leader is asked for 4 and 5 beside itself."""
    for sid in (4, 5):
        cluster.add(sid).start()
    cluster.run_until(cluster.all_serve)
    leader = leader_of(cluster)
    for sid in (4, 5):
        cluster.members[sid].pause()
    return leader


def outcome_of_old_quorum_only(cluster: DynamicCluster) -> bool:
    """Whether a reconfig is committed that only a quorum of the old list has."""
    leader = staged(cluster)
    members = ",".join([line(leader.sid), line(4), line(5)])
    answer = send(cluster, leader, body(members=members))
    cluster.run(300)
    return answer() is not None or leader.peer.view.voters() != [1, 2, 3]


def test_a_quorum_of_the_old_list_is_not_enough() -> None:
    """Z12. The leader dies between proposal and commit, and the next one completes it."""
    cluster = start()
    leader = leader_of(cluster)
    assert not outcome_of_old_quorum_only(cluster)
    leader.kill()
    for sid in (4, 5):
        cluster.members[sid].go_on()
    # Of the new list two of three are up, of the old one, too.
    cluster.run_until(lambda: agree_on(cluster, [leader.sid, 4, 5]), 120_000)
    new = leader_of(cluster)
    assert new.sid in (4, 5)
    leader.start()
    settle(cluster)


def agree_on(cluster: DynamicCluster, voters: list[int]) -> bool:
    found = cluster.leader()
    return isinstance(found, DynamicMember) and found.peer.view.voters() == sorted(voters) and cluster.all_serve()


def test_nothing_is_committed_without_the_new_list() -> None:
    """What is proposed behind a reconfig waits as well; without the new quorum the leader gives up in the end."""
    cluster = start()
    leader = leader_of(cluster)
    assert not outcome_of_old_quorum_only(cluster)
    for sid in (4, 5):
        cluster.members[sid].kill()
    cluster.run_until(lambda: cluster.leader() is None)
    # Old list and new one: neither alone is a quorum any more.
    cluster.run(30_000)
    assert cluster.leader() is None
    for sid in (4, 5):
        cluster.members[sid].start()
    cluster.run_until(lambda: agree_on(cluster, [leader.sid, 4, 5]), 120_000)
    settle(cluster)


def test_a_proposal_that_only_its_leader_has_is_forgotten() -> None:
    cluster = start()
    leader = leader_of(cluster)
    others = [found for found in cluster.members.values() if found is not leader]
    before = leader.peer.view.version
    answer = send(cluster, leader, body(joining=line(9, is_observer=True)))
    assert answer() is None
    for found in others:
        found.pause()
    cluster.run(100)
    leader.kill()
    for found in others:
        found.go_on()
    cluster.run_until(cluster.all_serve)
    client = joined(cluster, leader_of(cluster))
    client.create(b"/x")
    leader.start()
    settle(cluster)
    assert agree(cluster, member(cluster, 1).peer.view.version)
    assert leader.peer.view.version >= before


def test_one_at_a_time() -> None:
    cluster = start()
    client = joined(cluster, leader_of(cluster))
    leader = staged(cluster)
    first = send(cluster, leader, body(members=",".join([line(leader.sid), line(4), line(5)])))
    cluster.run(50)
    xid = client.send(codes.OP_RECONFIG, body(joining=line(6, is_observer=True)))
    cluster.run(50)
    # Behind the first, as all of one leader's writes are answered in order.
    for sid in (4, 5):
        cluster.members[sid].go_on()
    cluster.run_until(lambda: first() is not None and any(reply.xid == xid for reply in client.replies))
    assert client.reply(xid).err == errors.RECONFIG_IN_PROGRESS
    settle(cluster)


@pytest.mark.parametrize("delay_ms", range(0, 12, 3))
def test_writes_behind_a_reconfig_are_committed_behind_it(delay_ms: int) -> None:
    cluster = start(disk_ms=(1, 9))
    for sid in (4, 5):
        cluster.add(sid).start()
    cluster.run_until(cluster.all_serve)
    leader = leader_of(cluster)
    clients = [joined(cluster, leader) for _ in range(5)]
    answer = send(cluster, leader, body(joining=f"{line(4)},{line(5)}", leaving="1"))
    for number, client in enumerate(clients):
        client.create(b"/behind%d" % number)
        cluster.run(delay_ms)
    cluster.run_until(lambda: all(client.replies and client.replies[-1].xid > 0 for client in clients))
    told = answer()
    assert told is not None
    assert told[0] == 0
    settle(cluster)
    view = view_in(leader.tree)
    assert view is not None
    node = leader.tree.nodes[b"/behind4"]
    assert int.from_bytes(node.stat()[:8], "big") > view.version


def test_a_leader_that_sends_what_is_no_list_is_left() -> None:
    """Before it is logged; and it is told by NEWLEADER, too."""
    cluster = start()
    follower = cluster.followers()[0]
    assert isinstance(follower, DynamicMember)
    zxid = follower.peer.logged_zxid + 1 if follower.peer.logged_zxid else 0x100000001
    header = TxnHeader(1, 1, zxid, 1, codes.OP_RECONFIG)
    payload = encode_txn(header, SetDataTxn(CONFIG, b"server.1=nonsense", -1), None)
    term = follower.peer.term
    follower.hub.on_packets(follower.hub._dialled, [Packet(PROPOSAL, zxid, payload)])
    assert follower.peer.term > term
    assert follower.peer.logged_zxid == 0
    cluster.run_until(lambda: follower.peer.is_serving)
    cluster.run(1000)
    role = follower.peer.role
    assert isinstance(role, Learner)
    role.config = b"server.1=nonsense"
    term = follower.peer.term
    cluster.run_until(lambda: follower.peer.term > term)
    settle(cluster)


def test_what_is_no_list_in_the_tree_is_none() -> None:
    """Of a snapshot that somebody else wrote."""
    tree = pristine()
    assert view_in(tree) is None
    show_config(tree, b"server.1=nonsense", 5)
    assert view_in(tree) is None
    del tree.nodes[CONFIG]
    assert view_in(tree) is None


def test_a_new_list_without_a_quorum_that_follows_is_refused() -> None:
    """-13; -14 while another one is under way; -103, -8: as Java answers."""
    cluster = start()
    leader = leader_of(cluster)
    for request, error in (
        (body(joining=",".join(line(sid) for sid in (7, 8, 9))), errors.NEW_CONFIG_NO_QUORUM),
        (body(joining=line(7), version=5), errors.BAD_VERSION),
        (body(leaving="1,2,3"), errors.BAD_ARGUMENTS),
        (body(leaving="x"), errors.MARSHALLING_ERROR),
    ):
        answer = send(cluster, leader, request)
        cluster.run_until(lambda answer=answer: answer() is not None)  # type: ignore[misc]  # bound at once
        assert answer() == (error, b"")
    settle(cluster)


def test_a_server_that_looks_takes_a_later_list_over() -> None:
    """It was down while two of its peers were replaced; those left of its list tell it."""
    cluster = start()
    late = member(cluster, 1)
    late.kill()
    for sid in (4, 5):
        cluster.add(sid).start()
    cluster.run_until(cluster.all_serve)
    view = change(cluster, leader_of(cluster), body(joining=f"{line(4)},{line(5)}"))
    late.start()
    cluster.run_until(lambda: agree(cluster, view.version))
    # From a stranger nothing is taken, nor what is no list.
    late.kill()
    late.start()
    assert late.state == LOOKING
    bad = View.build(view.servers.values(), {}, {}, view.version + 100)
    for sender, config in ((77, bad.to_text()), (2, b"server.1=nonsense"), (2, b"")):
        late.hub.on_vote(sender, Notification(LOOKING, 2, 0, 1, 0, config))
        assert late.peer.view.version == view.version
    settle(cluster)


class Chaos:
    """Members come, go, change their roles, and crash, while a client writes."""

    def __init__(self, seed: int, cluster_type: type[DynamicCluster] = DynamicCluster) -> None:
        self.dice = Random(seed)
        self.cluster = start(seed, cluster_type=cluster_type)
        for sid in (4, 5, 6):
            self.cluster.add(sid).start()
        self.leaders: dict[int, int] = {}
        self.written: list[bytes] = []
        self.done = 0

    def run(self, steps: int = 16) -> None:
        cluster = self.cluster
        for step in range(steps):
            self.write(step)
            self.act()
            for _ in range(self.dice.randint(1, 60)):
                cluster.run(10)
                self.look()
        for found in cluster.members.values():
            if found.is_up and found.is_paused:
                found.go_on()
            if not found.is_up:
                found.start()
        settle(cluster)
        self.look()
        for path in self.written:
            for found in cluster.members.values():
                assert path in found.tree.nodes, (path, found.sid)

    def look(self) -> None:
        """Of each epoch there is one leader, that a quorum made one."""
        for found in self.cluster.members.values():
            role = found.hub.peer.role if found.is_up else None
            if isinstance(role, DynamicLeader) and role.is_established:
                assert self.leaders.setdefault(role.epoch, found.sid) == found.sid

    def up(self) -> list[DynamicMember]:
        found = [member(self.cluster, sid) for sid in self.cluster.members]
        return [one for one in found if one.is_serving and not one.is_paused]

    def write(self, step: int) -> None:
        for at in self.up()[:1]:
            path = b"/w%d" % step
            client = SimClientOf(self, at, path)
            client.go()

    def act(self) -> None:
        dice, up = self.dice, self.up()
        what = dice.randrange(8)
        if what == 0 and up:
            dice.choice(up).kill()
        elif what == 6 and up:
            dice.choice(up).crash()
        elif what == 7:
            one, other = dice.sample(range(1, 7), 2)
            self.cluster.net.cut(one, other)
            self.cluster.net.cut(other, one)
        elif what == 1:
            for found in self.cluster.members.values():
                if not found.is_up:
                    found.start()
        elif what == 2 and up:
            dice.choice(up).pause()
        elif what == 3:
            for found in self.cluster.members.values():
                if found.is_up and found.is_paused:
                    found.go_on()
            self.cluster.net.heal_all()
        elif up:
            sids = dice.sample(range(1, 7), dice.randint(1, 3))
            half = dice.randint(0, len(sids))
            joining = ",".join(line(sid, is_observer=dice.random() < 0.3) for sid in sids[:half])
            leaving = ",".join(str(sid) for sid in sids[half:])
            SimClientOf(self, dice.choice(up), b"").reconfig(body(joining=joining, leaving=leaving))


class SimClientOf:
    """One write of one session; it counts if it was acknowledged in time."""

    def __init__(self, chaos: Chaos, at: DynamicMember, path: bytes) -> None:
        self.chaos, self.path = chaos, path
        self.client: SimClient = at.client()
        chaos.cluster.run(150)

    def go(self) -> None:
        if self.client.session_id:
            self.client.create(self.path)
            self.chaos.cluster.run(150)
            if any(reply.err == 0 for reply in self.client.replies if reply.xid > 0):
                self.chaos.written.append(self.path)

    def reconfig(self, request: bytes) -> None:
        if self.client.session_id:
            xid = self.client.send(codes.OP_RECONFIG, request)
            self.chaos.cluster.run(self.chaos.dice.choice((5, 20, 200)))
            self.chaos.done += any(reply.xid == xid and not reply.err for reply in self.client.replies)


def test_members_come_and_go_and_crash() -> None:
    done = written = 0
    for seed in range(6):
        chaos = Chaos(seed)
        chaos.run()
        done += chaos.done
        written += len(chaos.written)
    assert done > 3
    assert written > 20

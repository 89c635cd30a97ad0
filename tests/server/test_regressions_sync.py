"""Bugs that ZooKeeper had, or has, where servers are brought up to date: each staged with whole servers.

The rows are those of docs/regressions.md; the same bugs have tests and planted mistakes in tests/zab. Where the moment
matters, every moment is tried.
"""

from __future__ import annotations

import errno
from random import Random

import pytest

from coati.core.export import Export
from coati.errors import StorageFailed
from coati.testing import cluster as cluster_module
from coati.testing import history
from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.disk import SimDisk
from coati.testing.sim_member import TracedCluster
from coati.wire.quorum import LOOKING, PROPOSAL, Packet
from coati.zab.learner import CHOOSING, INSTALLING
from tests.server.clusterkit import (
    alone,
    behind,
    converge,
    cut_links,
    fill,
    isolate,
    joined,
    leader_of,
    learner_in,
    learner_link,
    start,
)
from tests.server.regressionkit import Writer, all_have, has_all, restarted

EPHEMERAL = 1


@pytest.mark.parametrize("seed", range(4))
def test_no_epoch_has_two_leaders(seed: int) -> None:
    """Row 1, ZOOKEEPER-335, 1081, 1282, 1291: power is lost between the choice of an epoch and its being durable.

    Then the same server leads with another one at its side, which has never heard of that epoch.
    """
    for at_ms in range(5, 45):
        config = ClusterConfig(disk_ms=(1, 15))
        cluster = TracedCluster(config, dice=Random(100 * seed + at_ms), on_snapshot=lambda sid, leader: None)
        for sid in (2, 3):
            cluster.members[sid].start()
        cluster.run(at_ms)
        for sid in (2, 3):
            cluster.members[sid].crash("lose")
        for sid in (1, 3):
            cluster.members[sid].start()
        cluster.run_until(cluster.all_serve)
        cluster.members[2].start()
        converge(cluster)
        leaders: dict[int, list[int]] = {}
        for trace in cluster.traces:
            if trace.kind == history.LEADING:
                leaders.setdefault(trace.epoch, []).append(trace.sid)
        assert all(len(sids) == 1 for sids in leaders.values()), f"at {at_ms} ms: {leaders}"


@pytest.mark.usefixtures("no_diffs")
@pytest.mark.parametrize("sid", [1, 4], ids=["follower", "observer"])
def test_what_is_written_while_a_server_takes_a_snapshot_is_there_once(sid: int) -> None:
    """Rows 5 and 11, ZOOKEEPER-1551, 1552, 962, 3104: lost or applied twice between snapshot and UPTODATE."""
    cluster = start(observers=1, commit_log_count=2)
    late = cluster.members[sid]
    late.kill()
    fill(cluster, joined(cluster, leader_of(cluster)), 200, size=5000)
    writer = Writer(cluster, leader_of(cluster))
    cluster.net.delay_ms = (1, 4)
    cluster.net.split_share = 0.3
    late.start()
    was_sent = False
    while not late.is_serving:
        writer.write_for(2)
        was_sent = was_sent or learner_in(late, INSTALLING)()
    assert was_sent
    writer.write_for(20)
    cluster.run(100)
    assert len(writer.acked) == len(writer.sent)
    all_have(cluster, writer.acked)
    restarted(cluster, late)
    all_have(cluster, writer.acked)


def test_a_hole_that_a_snapshot_left_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 8, ZOOKEEPER-2846: who joined by a snapshot has a hole in its log, leads later, and sends from that log."""
    monkeypatch.setattr(cluster_module, "DIFF_LIMIT_BYTES", -1)
    cluster = start(voters=5, commit_log_count=2)
    stale, joiner = cluster.members[1], cluster.members[5]
    fill(cluster, joined(cluster, leader_of(cluster)), 5)
    cluster.run(200)
    stale.kill()
    joiner.kill()
    cluster.run_until(cluster.all_serve)
    fill(cluster, joined(cluster, leader_of(cluster)), 300, start=100, size=1000)
    joiner.start()
    cluster.run_until(learner_in(joiner, INSTALLING), step_ms=1)
    cluster.run_until(cluster.all_serve)
    fill(cluster, joined(cluster, leader_of(cluster)), 5, start=900)
    cluster.run(200)
    former = leader_of(cluster)
    former.kill()
    cluster.run_until(cluster.all_serve)
    assert leader_of(cluster) is joiner
    # It may send as much of its log as it likes.
    monkeypatch.setattr(cluster_module, "DIFF_LIMIT_BYTES", 0)
    stale.start()
    former.start()
    all_have(cluster, [b"/n%d" % number for first in (0, 900) for number in range(first, first + 5)])
    has_all(stale, [b"/n%d" % number for number in range(100, 400)])


@pytest.mark.parametrize("commit_log_count", [2, 500])
def test_who_has_nothing_gets_everything(commit_log_count: int) -> None:
    """Row 9, ZOOKEEPER-4352: a new leader that remembers nothing sent a part of its history as if it were all."""
    cluster = SimCluster(ClusterConfig(commit_log_count=commit_log_count), dice=Random(1))
    old, joiner, new = (cluster.members[sid] for sid in (1, 2, 3))
    old.start()
    joiner.start()
    cluster.run_until(cluster.all_serve)
    fill(cluster, joined(cluster, leader_of(cluster)), 20)
    new.start()
    cluster.run_until(cluster.all_serve)
    joiner.kill()
    cluster.run_until(cluster.all_serve)
    assert leader_of(cluster) is new
    joiner.disk = SimDisk(joiner._schedule_job)
    joiner.start()
    all_have(cluster, [b"/n%d" % number for number in range(20)])


@pytest.mark.usefixtures("no_diffs")
@pytest.mark.parametrize("after_ms", range(0, 36, 4))
def test_a_leader_that_dies_behind_its_snapshot_leaves_no_hole(after_ms: int) -> None:
    """Row 12, ZOOKEEPER-3642: memory was the snapshot, the disk was not, and the next leader's DIFF went on top."""
    cluster, away = behind(disk_ms=(3, 3))
    cluster.run_until(learner_in(away, INSTALLING), step_ms=1)
    cluster.run(after_ms)
    old = leader_of(cluster)
    old.kill()
    cluster.run_until(cluster.all_serve)
    assert leader_of(cluster) is not old
    fill(cluster, joined(cluster, leader_of(cluster)), 3, start=1000)
    restarted(cluster, away)
    old.start()
    all_have(cluster, [b"/n%d" % number for number in (*range(300), 1000, 1001, 1002)])


@pytest.mark.parametrize("after_ms", range(12))
def test_a_link_that_is_lost_behind_the_cut_leaves_no_hole(after_ms: int) -> None:
    """Row 13, ZOOKEEPER-5094: txns behind a TRUNC were in memory only, and the next DIFF began behind them."""
    cluster = start(disk_ms=(2, 2))
    old = alone(cluster)
    cluster.net.heal_all()
    cluster.run_until(learner_in(old, CHOOSING), step_ms=1)
    cluster.run(after_ms)
    cut_links(cluster, old)
    fill(cluster, joined(cluster, leader_of(cluster)), 3, start=100)
    converge(cluster)
    # A hole in the log would end its start.
    restarted(cluster, old)
    all_have(cluster, [b"/n0", b"/n1", b"/n2", b"/n100", b"/n101", b"/n102"])
    assert b"/lost0" not in old.tree.nodes


@pytest.mark.parametrize("first_ms", [0, 1])
def test_what_was_acknowledged_survives_the_power_of_those_who_joined(first_ms: int) -> None:
    """Rows 14, 15 and 18, ZOOKEEPER-3023, 3911, 4643, 4646, 4785: a server joins, and counts for what is committed.

    Then the others die, and it loses its power: what it had promised is all that is left of some writes.
    """
    counted = 0
    for after_ms in range(first_ms, 60, 2):
        cluster = start(seed=after_ms, disk_ms=(1, 5))
        leader = leader_of(cluster)
        late, other = cluster.followers()
        late.kill()
        writer = Writer(cluster, leader)
        writer.write_for(20)
        late.start()
        writer.write_for(after_ms)
        other.kill()
        before = len(writer.acked)
        writer.write_for(40)
        counted += len(writer.acked) - before
        late.crash("lose")
        leader.kill()
        acked = writer.acked
        late.start()
        other.start()
        cluster.run_until(cluster.all_serve)
        for member in (late, other):
            has_all(member, acked)
    assert counted, "the late one was never needed"


@pytest.mark.parametrize("after_ms", [0, 30, 100, 190, 260])
def test_what_an_old_role_had_for_the_disk_does_not_come_behind_the_next(after_ms: int) -> None:
    """Row 20, ZOOKEEPER-4712, 4541, 4502: the link breaks while much waits for the disk, and is back at once."""
    cluster = start()
    follower = cluster.followers()[0]
    writer = Writer(cluster, leader_of(cluster))
    cluster.config.disk_ms = (200, 200)
    writer.write(100)
    cluster.run(after_ms)
    cut_links(cluster, follower)
    writer.write(20)
    cluster.run(50)
    cluster.config.disk_ms = (1, 1)
    all_have(cluster, writer.acked)
    restarted(cluster, follower)
    all_have(cluster, writer.acked)


def test_a_txn_cut_off_stays_away_whatever_was_written_meanwhile() -> None:
    """Row 21, ZOOKEEPER-2832, 4837, 5010: what nobody else had is cut from the log and came back with a snapshot.

    The server is restarted while it has it, and puts snapshots of that on the disk, as Java does at a start.
    """
    cluster = start()
    old = alone(cluster)
    restart_with_snapshot(old)
    assert b"/lost0" in old.tree.nodes
    converge(cluster)
    assert b"/lost0" not in old.tree.nodes
    for _ in range(2):
        restarted(cluster, old)
        converge(cluster)
        assert b"/lost0" not in old.tree.nodes


def restart_with_snapshot(member: SimMember) -> None:
    """A start that ends in a snapshot of all that is in the log, committed or not."""
    member.kill()
    member.start()
    tree = member.tree
    export = Export(tree, member.hub.timeouts)
    slices = iter(lambda: export.next_slice(1000), b"")
    member.store.write_snapshot(export.zxid, export.sessions, export.acls, slices, export.digest)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_follower_whose_disk_fails_is_out_and_comes_back_whole(kind: str) -> None:
    """Row 23, ZOOKEEPER-4882: it went on in memory without what it could not write, and lost it with its restart."""
    cluster = start()
    follower = cluster.followers()[0]
    writer = Writer(cluster, leader_of(cluster))
    writer.write_for(20)
    follower.disk.fail(kind, 2, errno.EIO, where="log.")
    writer.write_for(40)
    assert not follower.is_up
    assert isinstance(follower.fatal[0], StorageFailed)
    follower.fatal.clear()
    follower.start()
    writer.write_for(40)
    cluster.run(100)
    assert len(writer.acked) == len(writer.sent)
    all_have(cluster, writer.acked)
    restarted(cluster, follower)
    all_have(cluster, writer.acked)


@pytest.mark.parametrize("way", ["DIFF", "SNAP"])
@pytest.mark.parametrize("fault", ["cut off", "broken"])
def test_a_session_whose_end_a_follower_missed_is_over_there_too(
    way: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 25, ZOOKEEPER-2355: the closeSession could not be read, and was taken for done when it came again."""
    if way == "SNAP":
        monkeypatch.setattr(cluster_module, "DIFF_LIMIT_BYTES", -1)
    cluster = start(commit_log_count=2)
    follower = cluster.followers()[0]
    client = joined(cluster, leader_of(cluster))
    client.create(b"/mine", flags=EPHEMERAL)
    cluster.run(100)
    assert follower.tree.ephemerals == {client.session_id: {b"/mine": None}}
    if fault == "broken":
        role = follower.hub.peer.role
        assert role is not None
        garbage = Packet(PROPOSAL, role.proposed_zxid + 1, b"\xff" * 60)
        follower.hub.on_packets(learner_link(follower), [garbage])
    isolate(cluster, follower)
    client.close_session()
    cluster.run(50)
    fill(cluster, joined(cluster, leader_of(cluster)), 5)
    cluster.run_until(lambda: follower.state == LOOKING)
    assert b"/mine" in follower.tree.nodes
    cluster.net.heal_all()
    all_have(cluster, [b"/n4"])
    for _ in range(2):
        for member in cluster.members.values():
            assert not member.tree.ephemerals
            assert client.session_id not in member.hub.timeouts_now()
        restarted(cluster, follower)


def test_the_counter_runs_over_under_load() -> None:
    """Row 26, ZOOKEEPER-1277: with the numbers of an epoch used up a new one begins, and nothing is lost between."""
    cluster = start(last_counter=63)
    first = leader_of(cluster).store.current_epoch
    acked: list[bytes] = []
    for turn in range(3):
        writer = Writer(cluster, cluster.followers()[0], b"/t%d-" % turn)
        epoch = leader_of(cluster).store.current_epoch
        while writer.client.is_open:
            writer.write_for(4)
        acked += writer.acked
        assert cluster.run_until(lambda: cluster.leader() is not None and cluster.all_serve()) < 2000
        assert leader_of(cluster).store.current_epoch == epoch + 1
    all_have(cluster, acked)
    assert leader_of(cluster).store.current_epoch == first + 3
    assert len(acked) > 100

"""What a leader tells of itself, and what it can be told to do otherwise."""

from __future__ import annotations

from coati.wire.quorum import PING
from tests.zab.leaderkit import Bench, established


def test_every_learner_may_be_made_to_take_a_snapshot() -> None:
    """forceSnapshotSync, of LearnerHandler: even one that lacks nothing."""
    bench = Bench(forces_snapshot=True)
    two = bench.introduce(2)
    bench.disk()
    bench.promise(two)
    assert bench.outbox.snapshots == [two]


def test_sizes_of_proposals_are_kept_for_statistics() -> None:
    bench, _, _ = established()
    leader, sizes = bench.leader, bench.leader.sizes
    assert (sizes.last, sizes.smallest, sizes.largest) == (-1, -1, -1)
    for size in (50, 20, 70, 60):
        leader.propose(leader.next_zxid(), b"x" * size)
    assert (sizes.last, sizes.smallest, sizes.largest) == (60, 20, 70)


def test_syncs_that_wait_are_counted() -> None:
    bench, two, _ = established()
    assert bench.leader.rounds.pending_count() == 0
    bench.leader.sync("token")
    bench.leader.sync("other")
    assert bench.leader.rounds.pending_count() == 2
    bench.turn()
    bench.say(two, PING)
    assert (bench.leader.rounds.pending_count(), bench.outbox.synced) == (1, ["token"])

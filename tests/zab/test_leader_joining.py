"""The leader: how learners, played by hand as in test_leader.py, are brought to where they can follow."""

from __future__ import annotations

from coati.zab import attendance
from coati.zab.history import History
from coati.zab.leader import Leader
from tests.zab.leaderkit import INIT_MS, TICK_MS, Bench, established, refused, view_of, wait
from tests.zab.learnerkit import payload, z

JOINED = ["LEADERINFO 2:0", "DIFF 1:3", "NEWLEADER 2:0"]


# Synchronisation.


def test_what_is_committed_is_sent_as_proposal_and_commit() -> None:
    bench = Bench()
    two = bench.join(2, last=z("1:1"))
    diff = ["DIFF 1:3", "PROPOSAL 1:2", "COMMIT 1:2", "PROPOSAL 1:3", "COMMIT 1:3", "NEWLEADER 2:0", "UPTODATE -1"]
    assert bench.said(two) == ["LEADERINFO 2:0", *diff]
    assert bench.peers[two].got == [(zxid, payload(zxid)) for zxid in (z("1:2"), z("1:3"))]


def test_what_was_never_committed_is_cut_off() -> None:
    """ZOOKEEPER-1154: 7:4 was logged by server 2 alone; it comes back when epoch 8 has a txn."""
    bench = Bench((z("7:1"), z("7:2"), z("7:3")), accepted=7, current=7)
    three = bench.join(3)
    bench.commit(three)
    two = bench.join(2, last=z("7:4"))
    cut = ["TRUNC 7:3", "PROPOSAL 8:1", "COMMIT 8:1", "NEWLEADER 8:0", "UPTODATE -1"]
    assert bench.said(two) == ["LEADERINFO 8:0", *cut]


def test_the_log_on_disk_is_used_where_memory_ends() -> None:
    """ZOOKEEPER-2418: and where both do not meet there is a snapshot."""
    bench = Bench(in_memory=1)
    two = bench.join(2, last=z("1:1"))
    assert bench.disk_reads == 1
    assert "PROPOSAL 1:2" in bench.said(two)
    del bench.log[1]
    three = bench.introduce(3, last=z("1:1"))
    bench.promise(three)
    assert bench.outbox.snapshots == [three]
    assert bench.said(three) == ["LEADERINFO 2:0"]


def test_a_history_that_is_behind_the_log_is_forgotten() -> None:
    """ZOOKEEPER-4352, 4925: what it lacks would be missing in every DIFF, and nobody would notice."""
    bench = Bench()
    history = History(500, 0)
    for zxid in (z("1:1"), z("1:2")):
        history.add(zxid, payload(zxid))
    Leader(
        sid=1, view=bench.view, history=history, last_zxid=z("1:3"), synced_zxid=z("1:3"), accepted_epoch=1,
        current_epoch=1, limits=bench.leader._limits, outbox=bench.outbox, now_ms=0, read_log=bench.read_log,
        diff_limit_bytes=lambda: -1,
    )  # fmt: skip
    assert history.after(z("1:2")) is None
    assert history.after(z("1:3")) == []


def test_what_is_outstanding_comes_before_newleader() -> None:
    """Leader.startForwarding. An observer hears of it when it is committed."""
    bench, two, _ = established(Bench(view=view_of(3, observers=1)))
    bench.lose(two)
    first = bench.propose()
    two = bench.introduce(2)
    bench.promise(two)
    four = bench.introduce(4, is_observer=True)
    bench.promise(four)
    assert bench.said(two) == ["LEADERINFO 2:0", "DIFF 1:3", "PROPOSAL 2:1", "NEWLEADER 2:0"]
    assert bench.said(four) == JOINED
    bench.propose()
    bench.sync()
    bench.ack(two, z("2:0"))
    # The ack of NEWLEADER is none of the proposals before it: they need not be durable there.
    assert bench.leader.delivered_zxid == z("1:3")
    bench.ack(two, first)
    assert bench.said(two) == ["PROPOSAL 2:2", "UPTODATE -1", "COMMIT 2:1"]
    assert bench.said(four) == ["INFORM 2:1"]
    assert bench.peers[four].got == [(first, payload(first))]


def test_an_ack_does_not_outlive_its_link() -> None:
    """A follower that comes back is cut to what is committed: what it had acknowledged is not on its disk any more."""
    bench, two, three = established()
    bench.commit(three)
    zxid = bench.propose()
    bench.ack(two, zxid)
    bench.lose(two)
    two = bench.introduce(2, last=zxid)
    bench.promise(two)
    assert bench.said(two) == ["LEADERINFO 2:0", "TRUNC 2:1", "PROPOSAL 2:2", "NEWLEADER 2:0"]
    bench.sync()
    assert bench.leader.delivered_zxid == z("2:1")
    bench.ack(two, z("2:0"))
    assert bench.leader.delivered_zxid == z("2:1")
    bench.ack(two, zxid)
    assert bench.leader.delivered_zxid == zxid


# Snapshots.


def snapshotting(bench: Bench, *, is_observer: bool = False) -> int:
    """A link that waits for a snapshot."""
    link = bench.introduce(4 if is_observer else 2, last=z("1:1"), is_observer=is_observer)
    bench.promise(link)
    assert bench.outbox.snapshots == [link]
    return link


def busy() -> tuple[Bench, int]:
    """A leader with one follower and a server 2 that is far behind."""
    bench, two, three = established(Bench(view=view_of(3, observers=1), in_memory=1, disk_limit=-1))
    bench.lose(two)
    return bench, three


def test_what_is_written_during_a_snapshot_comes_behind_it() -> None:
    """ZOOKEEPER-3104: NEWLEADER came before what was committed meanwhile; its ack promised what was not there."""
    bench, three = busy()
    two = snapshotting(bench)
    bench.commit(three)
    outstanding = bench.propose()
    bench.leader.on_snapshot_begun(two, z("2:1"))
    bench.sync()
    bench.ack(three, outstanding)
    bench.commit(three)
    bench.propose()
    assert bench.turn().said(two) == ["LEADERINFO 2:0", "SNAP 2:1"]
    bench.leader.on_snapshot_sent(two)
    behind = ["PROPOSAL 2:2", "COMMIT 2:2", "PROPOSAL 2:3", "COMMIT 2:3", "PROPOSAL 2:4", "NEWLEADER 2:0"]
    assert bench.turn().said(two) == behind
    bench.propose()
    bench.ack(two, z("2:0"))
    assert bench.said(two) == ["PROPOSAL 2:5", "UPTODATE -1"]


def test_a_tree_that_is_a_moment_behind_is_good_enough() -> None:
    bench, three = busy()
    two = snapshotting(bench)
    bench.commit(three)
    bench.leader.on_snapshot_begun(two, z("1:3"))
    bench.leader.on_snapshot_sent(two)
    assert bench.turn().said(two)[1:] == ["SNAP 1:3", "PROPOSAL 2:1", "COMMIT 2:1", "NEWLEADER 2:0"]


def test_a_tree_that_is_older_than_memory_is_not() -> None:
    bench, three = busy()
    two = snapshotting(bench)
    bench.commit(three)
    bench.commit(three)
    bench.leader.on_snapshot_begun(two, z("1:3"))
    refused(bench.turn(), two, "older than what is in memory")
    bench.leader.on_snapshot_sent(two)
    assert bench.turn().said(two) == []


def test_an_observer_gets_a_snapshot_as_well() -> None:
    """ZOOKEEPER-1551, 1552: what is committed between its snapshot and UPTODATE, once."""
    bench, three = busy()
    four = snapshotting(bench, is_observer=True)
    outstanding = bench.propose()
    bench.leader.on_snapshot_begun(four, z("1:3"))
    bench.sync()
    bench.ack(three, outstanding)
    bench.leader.on_snapshot_sent(four)
    assert bench.turn().said(four) == ["LEADERINFO 2:0", "SNAP 1:3", "INFORM 2:1", "NEWLEADER 2:0"]
    bench.ack(four, z("2:0"))
    bench.commit(three)
    assert bench.said(four) == ["UPTODATE -1", "INFORM 2:2"]


def test_a_stuck_reader_of_a_snapshot_stops_nobody() -> None:
    """ZOOKEEPER-2201, 3574: what waits for it has an end."""
    bench, three = busy()
    two = snapshotting(bench)
    bench.leader.on_snapshot_begun(two, z("1:3"))
    while not bench.is_closed(two):
        bench.commit(three, size=attendance.HELD_LIMIT_BYTES // 6)
    refused(bench, two, "too much was written")
    assert bench.leader.delivered_zxid < z("2:9")
    bench.commit(three)


def test_a_snapshot_may_take_long_but_not_stand_still() -> None:
    bench, three = busy()
    two = snapshotting(bench)
    bench.leader.on_snapshot_progress(two)
    bench.leader.on_snapshot_begun(two, z("1:3"))
    for _ in range(3):
        wait(bench, INIT_MS - TICK_MS, three)
        bench.leader.on_snapshot_progress(two)
    assert not bench.is_closed(two)
    wait(bench, INIT_MS + TICK_MS, three)
    refused(bench, two, "initLimit")
    bench.leader.on_snapshot_progress(two)


def test_a_learner_that_is_lost_needs_no_snapshot() -> None:
    bench, three = busy()
    two = snapshotting(bench)
    bench.lose(two)
    bench.leader.on_snapshot_begun(two, z("1:3"))
    bench.leader.on_snapshot_sent(two)
    assert bench.outbox.sends == []
    bench.outbox.snapshots.clear()
    two = snapshotting(bench)
    bench.leader.on_snapshot_begun(two, z("1:3"))
    bench.lose(two)
    bench.commit(three)
    # Nobody is told twice that it may begin.
    bench.leader.on_snapshot_begun(three, z("1:3"))
    assert bench.turn().said(three)[-1] == "COMMIT 2:1"

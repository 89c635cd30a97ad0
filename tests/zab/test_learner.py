"""The learner: discovery, synchronisation and broadcast against a leader that is played by hand.

The bench checks the promises at every step (see learnerkit); the tests say what must come out, and in which order. Most
take the class to test, so that test_learner_mutants can plant mistakes.
"""

from __future__ import annotations

from typing import Any

import pytest

from coati.wire import quorum
from coati.wire.quorum import (
    COMMIT,
    COMMITANDACTIVATE,
    DIFF,
    INFORM,
    INFORMANDACTIVATE,
    LEADERINFO,
    NEWLEADER,
    PING,
    PROPOSAL,
    REVALIDATE,
    SNAP,
    SYNC,
    TRUNC,
    UPTODATE,
    Packet,
    encode_int,
)
from coati.wire.records import Id
from coati.zab.broadcast import Limits
from coati.zab.learner import Learner
from coati.zab.outbox import NOTHING
from tests.zab.learnerkit import LIMITS, LINK, TICK_MS, Bench, payload, z

VERSION = encode_int(0x10000)
HISTORY = (z("1:1"), z("1:2"), z("1:3"))
INIT_MS = TICK_MS * LIMITS.init_ticks
SYNC_MS = TICK_MS * LIMITS.sync_ticks


@pytest.fixture
def make() -> type[Learner]:
    """The real one."""
    return Learner


def follower(make: type[Learner] = Learner, **options: Any) -> Bench:
    """One that has 1:1 to 1:3, all delivered, from epoch 1."""
    return Bench(HISTORY, learner=make, accepted=1, current=1, **options)


def serving(make: type[Learner] = Learner, *, is_observer: bool = False) -> Bench:
    """One that serves in epoch 2."""
    bench = Bench(HISTORY, learner=make, accepted=1, current=1, is_observer=is_observer)
    bench.synchronise(2).said()
    assert bench.learner.is_serving
    return bench


def over(bench: Bench, reason: str) -> None:
    """The role has ended for this reason: the link is closed, and nothing that comes later does anything."""
    assert bench.learner.is_over
    assert not bench.learner.is_serving
    assert reason in bench.learner.reason
    assert bench.outbox.closes == [LINK]
    assert bench.learner.next_deadline_ms() is None
    bench.said()
    bench.leader(PROPOSAL, bench.learner.proposed_zxid + 1, b"x").leader(PING, 5).sync().write_epochs()
    bench.learner.on_tick(1 << 40)
    bench.learner.on_lost(LINK)
    bench.learner.refuse("again")
    assert reason in bench.learner.reason
    assert bench.turn().said() == []
    assert bench.outbox.closes == [LINK]


# The order of things.


def test_a_follower_joins_in_javas_order(make: type[Learner]) -> None:
    bench = follower(make)
    assert bench.outbox.dials == [1]
    bench.learner.on_connected(LINK, bench.now_ms)
    kind, data = bench.outbox.sends[0][1][:4], bench.outbox.sends[0][1]
    assert kind == b"\0\0\0\x0b"
    assert quorum.decode_learner_info(data[16:36]) == (3, 0x10000, 0)
    bench.leader(LEADERINFO, z("2:0"), VERSION)
    assert bench.said() == ["FOLLOWERINFO 1:0"]
    bench.disk()
    assert bench.said() == ["accepted 2", "ACKEPOCH 1:3"]
    bench.leader(DIFF, z("1:4"))
    bench.commit(bench.propose(z("1:4")))
    bench.leader(NEWLEADER, z("2:0"), b"version=7")
    assert bench.said() == ["log 1:4"]
    bench.disk()
    assert bench.said() == ["current 2", "ACK 2:0"]
    assert bench.learner.config == b"version=7"
    bench.leader(UPTODATE, -1)
    assert bench.said() == ["ACK 2:0", "deliver 1:4"]
    assert bench.learner.is_serving
    bench.propose(z("2:1"))
    assert bench.said() == ["log 2:1"]
    bench.sync()
    assert bench.said() == ["ACK 2:1"]
    bench.commit(z("2:1"))
    assert bench.said() == ["deliver 2:1"]


def test_the_epoch_that_was_acknowledged_is_the_old_one() -> None:
    bench = follower()
    bench.learner.on_connected(LINK, 0)
    bench.leader(LEADERINFO, z("2:0"), VERSION)
    bench.accepted = 2
    bench.learner.on_epochs(2, 1)
    assert bench.outbox.sends[-1] == (LINK, quorum.encode_packet(quorum.ACKEPOCH, z("1:3"), encode_int(1)))


def test_an_epoch_that_was_accepted_before_is_not_acknowledged_twice() -> None:
    bench = Bench(HISTORY, accepted=2, current=1)
    bench.learner.on_connected(LINK, 0)
    bench.turn().said()
    packet = Packet(LEADERINFO, z("2:0"), VERSION)
    bench.learner.on_packets(LINK, [packet], 0)
    assert bench.outbox.accepted_epoch == NOTHING
    assert bench.outbox.sends == [(LINK, quorum.encode_packet(quorum.ACKEPOCH, z("1:3"), encode_int(-1)))]
    bench.turn().leader(DIFF, z("1:3")).leader(NEWLEADER, z("2:0")).disk()
    assert bench.said()[-2:] == ["current 2", "ACK 2:0"]
    # And a server that comes back in the epoch it is in writes none.
    bench = Bench(HISTORY, accepted=2, current=2).join(2)
    bench.leader(DIFF, z("1:3")).leader(NEWLEADER, z("2:0"))
    assert bench.said() == ["FOLLOWERINFO 2:0", "ACKEPOCH 1:3", "ACK 2:0"]


def test_the_accepted_epoch_is_durable_before_it_is_acknowledged() -> None:
    """ZOOKEEPER-335. What the leader sends too early waits."""
    bench = follower()
    bench.learner.on_connected(LINK, 0)
    bench.leader(LEADERINFO, z("2:0"), VERSION)
    bench.learner.on_epochs(1, 1)
    bench.leader(DIFF, z("1:3"))
    assert bench.turn().said() == ["FOLLOWERINFO 1:0"]
    bench.write_epochs()
    assert bench.said() == ["accepted 2", "ACKEPOCH 1:3"]
    bench.leader(NEWLEADER, z("2:0")).disk()
    assert bench.said() == ["current 2", "ACK 2:0"]


def test_uptodate_comes_before_deliveries_even_if_all_is_committed_and_durable() -> None:
    """Before it nobody knows that a quorum has this history: the next leader may cut it."""
    bench = follower().join(2).leader(DIFF, z("1:4"))
    bench.commit(bench.propose(z("1:4"))).disk().leader(NEWLEADER, z("2:0")).disk()
    bench.commit(bench.propose(z("2:1"))).disk()
    assert bench.learner.delivered_zxid == z("1:3")
    bench.learner.on_lost(LINK)
    over(bench, "lost")
    assert bench.delivered == []
    assert [zxid for zxid, _ in bench.learner.take_tail()] == [z("1:4"), z("2:1")]
    assert bench.learner.committed_zxid == 0


# Bugs of Java that a learner could repeat: section 3 of the reliability notes, by ticket.


def test_a_cut_log_goes_on_at_the_cut(make: type[Learner]) -> None:
    """ZOOKEEPER-1489: after TRUNC the old position was used, and the log had a hole."""
    bench = follower(make).join(2).leader(TRUNC, z("1:1"))
    bench.propose(z("1:2"))
    assert bench.said()[-1] == "ACKEPOCH 1:3"
    bench.truncate()
    bench.commit(z("1:2")).leader(NEWLEADER, z("2:0")).disk().leader(UPTODATE, -1)
    assert bench.said() == ["truncate 1:1", "log 1:2", "current 2", "ACK 2:0", "ACK 2:0", "deliver 1:2"]
    bench.propose(z("2:1"))
    bench.sync()
    assert [zxid for zxid, _ in bench.log] == [z("1:1"), z("1:2"), z("2:1")]


def test_only_what_is_committed_is_delivered(make: type[Learner]) -> None:
    """ZOOKEEPER-1549: a snapshot must not hold what a leader may still take back, so the tree must not."""
    bench = follower(make).join(2).leader(DIFF, z("1:4"))
    bench.propose(z("1:4"))
    bench.leader(NEWLEADER, z("2:0")).disk().leader(UPTODATE, -1)
    bench.propose(z("2:1"))
    bench.disk()
    assert bench.delivered == []
    bench.commit(z("1:4"))
    assert bench.learner.delivered_zxid == z("1:4")


@pytest.mark.parametrize("is_observer", [False, True])
def test_txns_between_snapshot_and_uptodate_are_delivered_once(is_observer: bool, make: type[Learner]) -> None:
    """ZOOKEEPER-1551, 1552, 962. Java forwards from before the snapshot: what it has comes again, and is skipped."""
    bench = Bench(learner=make, is_observer=is_observer).join(2).leader(SNAP, z("2:5"))
    for zxid in (z("2:3"), z("2:4")):
        bench.commit(bench.propose(zxid))
    bench.install()
    if is_observer:
        for zxid in (z("2:5"), z("2:6"), z("2:7")):
            bench.leader(INFORM, zxid, payload(zxid))
    else:
        for zxid in (z("2:5"), z("2:6"), z("2:7")):
            bench.propose(zxid)
        bench.commit(z("2:5")).commit(z("2:6"))
    bench.leader(NEWLEADER, z("2:0"))
    if not is_observer:
        bench.commit(z("2:7"))
    bench.disk().leader(UPTODATE, -1)
    assert [zxid for zxid, _ in bench.log] == [z("2:6"), z("2:7")]
    assert [zxid for zxid, _ in bench.delivered] == [z("2:6"), z("2:7")]
    assert bench.learner.snapshot_zxid == z("2:5")


def test_what_is_logged_and_not_delivered_survives_the_role(make: type[Learner]) -> None:
    """ZOOKEEPER-2845: memory stayed behind the log, so that DIFF skipped what only the next restart replayed."""
    bench = serving(make)
    bench.propose(z("2:1"))
    bench.propose(z("2:2"))
    bench.disk().commit(z("2:1"))
    bench.learner.on_lost(LINK)
    tail = bench.learner.take_tail()
    assert tail == [(z("2:2"), payload(z("2:2")))]
    again = Bench([zxid for zxid, _ in bench.log], learner=make, accepted=2, current=2, delivered=z("2:1"))
    again.join(3).leader(DIFF, z("2:2")).leader(NEWLEADER, z("3:0")).disk()
    assert again.said()[:3] == ["FOLLOWERINFO 2:0", "accepted 3", "ACKEPOCH 2:2"]
    again.leader(UPTODATE, -1)
    assert again.delivered == tail


def test_a_cut_within_the_tail_leaves_the_tree_alone(make: type[Learner]) -> None:
    """ZOOKEEPER-2845, when the leader does not have what was logged alone."""
    log = (*HISTORY, z("2:1"), z("2:2"))
    bench = Bench(log, learner=make, accepted=2, current=2, delivered=z("1:3")).join(3).leader(TRUNC, z("2:1"))
    bench.disk().leader(NEWLEADER, z("3:0")).disk().leader(UPTODATE, -1)
    assert [zxid for zxid, _ in bench.delivered] == [z("2:1")]
    bench.propose(z("3:1"))
    bench.disk().commit(z("3:1"))
    assert [zxid for zxid, _ in bench.delivered] == [z("2:1"), z("3:1")]


def test_a_snapshot_is_installed_before_anything_is_promised(make: type[Learner]) -> None:
    """ZOOKEEPER-2872: NEWLEADER was acknowledged before the snapshot was on the disk."""
    bench = follower(make).join(3).leader(SNAP, z("2:9")).leader(NEWLEADER, z("3:0")).leader(UPTODATE, -1)
    assert bench.disk().said()[-1] == "ACKEPOCH 1:3"
    bench.install().disk()
    assert bench.said() == ["install 2:9", "current 3", "ACK 3:0", "ACK 3:0"]
    bench.propose(z("3:1"))
    bench.disk().commit(z("3:1"))
    assert [zxid for zxid, _ in bench.delivered] == [z("3:1")]


def test_an_interrupted_snapshot_changes_nothing(make: type[Learner]) -> None:
    """ZOOKEEPER-3642: the tree was new, the disk old, and the next DIFF went on top of it."""
    bench = follower(make).join(3).leader(SNAP, z("2:9"))
    bench.learner.on_lost(LINK)
    over(bench, "lost")
    learner = bench.learner
    assert (learner.proposed_zxid, learner.delivered_zxid, learner.synced_zxid) == (z("1:3"),) * 3
    # If the disk was at it already, what is said next is what is there.
    bench = follower(make).join(3).leader(SNAP, z("2:9"))
    bench.learner.on_lost(LINK)
    bench.install()
    learner = bench.learner
    assert (learner.proposed_zxid, learner.delivered_zxid, learner.take_tail()) == (z("2:9"), z("2:9"), [])
    over(bench, "lost")


def test_what_a_cut_synchronisation_brought_is_in_the_log(make: type[Learner]) -> None:
    """ZOOKEEPER-5094: TRUNC and txns in memory only, the link lost before NEWLEADER, the next DIFF behind a hole."""
    bench = follower(make).join(2).leader(TRUNC, z("1:1")).disk()
    bench.commit(bench.propose(z("1:2")))
    bench.learner.on_lost(LINK)
    bench.sync()
    assert bench.learner.proposed_zxid == bench.end() == z("1:2")
    again = bench.again().join(3)
    assert again.said() == ["FOLLOWERINFO 2:0", "accepted 3", "ACKEPOCH 1:2"]
    # The same when it is lost while the log is cut.
    bench = follower(make).join(2).leader(TRUNC, z("1:1"))
    bench.learner.on_lost(LINK)
    bench.truncate()
    assert bench.learner.proposed_zxid == bench.learner.delivered_zxid == bench.end() == z("1:1")
    over(bench, "lost")


def test_the_history_is_durable_before_newleader_is_acknowledged(make: type[Learner]) -> None:
    """ZOOKEEPER-3023, 3911, 4646: it was acknowledged while the synchronised txns were on their way to the disk."""
    bench = follower(make).join(2).leader(DIFF, z("1:5"))
    bench.commit(bench.propose(z("1:4")))
    bench.propose(z("1:5"))
    bench.leader(NEWLEADER, z("2:0")).write_epochs()
    assert bench.said()[-1] == "log 1:5"
    bench.learner.on_synced(z("1:4"))
    assert bench.turn().outbox.current_epoch == NOTHING
    bench.sync().write_epochs()
    assert bench.said() == ["current 2", "ACK 2:0", "ACK 1:5"]


def test_the_epoch_is_written_behind_the_history(make: type[Learner]) -> None:
    """ZOOKEEPER-4643: with the epoch and without the txns, a server won elections with an older log."""
    bench = follower(make).join(2).leader(DIFF, z("1:4"))
    bench.commit(bench.propose(z("1:4")))
    bench.leader(NEWLEADER, z("2:0"))
    assert bench.outbox.current_epoch == NOTHING
    bench.write_epochs()
    assert (bench.current, bench.waiting) == (1, [(z("1:4"), payload(z("1:4")))])
    bench.sync()
    assert bench.outbox.current_epoch == 2


def test_no_proposal_is_acknowledged_before_newleader(make: type[Learner]) -> None:
    """ZOOKEEPER-4685: the leader took the first ACK for that of NEWLEADER."""
    bench = follower(make).join(2).leader(DIFF, z("1:3"))
    bench.propose(z("2:1"))
    bench.sync()
    assert bench.said()[-1] == "log 2:1"
    bench.leader(NEWLEADER, z("2:0"))
    bench.propose(z("2:2"))
    bench.disk()
    assert bench.said() == ["current 2", "log 2:2", "ACK 2:0", "ACK 2:1", "ACK 2:2"]
    bench.leader(UPTODATE, -1)
    assert bench.said() == ["ACK 2:0"]


def test_a_commit_during_synchronisation_finds_its_proposal(make: type[Learner]) -> None:
    """ZOOKEEPER-4394: PROPOSAL before NEWLEADER, COMMIT behind it, and the follower crashed again and again."""
    bench = follower(make).join(2).leader(DIFF, z("1:3"))
    bench.propose(z("2:1"))
    bench.leader(NEWLEADER, z("2:0")).commit(z("2:1"))
    bench.disk()
    assert bench.said()[-4:] == ["log 2:1", "current 2", "ACK 2:0", "ACK 2:1"]
    bench.leader(UPTODATE, -1)
    assert [zxid for zxid, _ in bench.delivered] == [z("2:1")]


def test_nothing_is_served_that_a_crash_could_lose(make: type[Learner]) -> None:
    """ZOOKEEPER-4785: killed right behind UPTODATE, the server lost what it had acknowledged and shown."""
    bench = follower(make).join(2).leader(DIFF, z("1:3")).leader(NEWLEADER, z("2:0")).disk()
    bench.propose(z("2:1"))
    bench.commit(z("2:1")).leader(UPTODATE, -1)
    assert (bench.delivered, bench.said()[-2:]) == ([], ["log 2:1", "ACK 2:0"])
    bench.sync()
    assert bench.said() == ["ACK 2:1", "deliver 2:1"]


def test_a_diff_with_a_hole_is_refused(make: type[Learner]) -> None:
    """ZOOKEEPER-4925: a leader whose committed log had a hole handed it on."""
    bench = follower(make).join(2).leader(DIFF, z("1:6"))
    bench.propose(z("1:5"))
    assert "log 1:5" not in bench.said()
    over(bench, "after")


def test_a_role_that_is_over_writes_nothing(make: type[Learner]) -> None:
    """ZOOKEEPER-4712, 4541, 4502: the old role's log thread wrote on behind the next one's history."""
    bench = follower(make).join(2).leader(DIFF, z("1:3")).leader(NEWLEADER, z("2:0"))
    bench.propose(z("2:1"))
    bench.propose(z("2:2"))
    bench.learner.on_lost(LINK)
    bench.write_epochs().disk()
    assert bench.learner.proposed_zxid == z("1:3") == bench.end()
    over(bench, "lost")


def test_a_log_that_was_not_cut_as_asked_is_not_gone_on_with(make: type[Learner]) -> None:
    """ZOOKEEPER-3701: truncate failed, and synchronisation went on into a split brain."""
    bench = Bench((z("1:1"), z("1:4")), learner=make, base=z("1:0"), accepted=1, current=1)
    bench.join(2).leader(TRUNC, z("1:2")).truncate()
    assert (bench.learner.proposed_zxid, bench.learner.delivered_zxid) == (z("1:1"), z("1:1"))
    over(bench, "the log ends at 0x100000001")


def test_the_beginning_of_an_epoch_may_be_cut_to() -> None:
    """Java names the zxid of its epoch, which no txn has, when it has committed nothing in it yet."""
    bench = Bench((*HISTORY, z("2:1")), accepted=2, current=2).join(2).leader(TRUNC, z("2:0")).disk()
    bench.propose(z("2:1"))
    assert bench.said()[-2:] == ["truncate 2:0", "log 2:1"]
    # Of an epoch that this server was not in, it says nothing about what comes before.
    bench = Bench((*HISTORY, z("3:1")), accepted=3, current=3).join(4).leader(TRUNC, z("2:0")).disk()
    over(bench, "the log ends at 0x100000003")


def test_the_epoch_is_the_highest_of_all_that_is_here() -> None:
    """ZOOKEEPER-582, 1387: the epoch was that of the log while the snapshot had a higher one."""
    with pytest.raises(AssertionError, match="accepted"):
        Bench(base=z("4:7"), accepted=3, current=3)
    bench = Bench(base=z("4:7"), accepted=4, current=4).join(4)
    assert bench.said() == ["FOLLOWERINFO 4:0", "ACKEPOCH 4:7"]
    bench = Bench(base=z("4:7"), accepted=4, current=4).join(3)
    over(bench, "below the accepted one")


# A hostile leader: row 46 of the bad inputs.

JOINING = [
    ("lower", LEADERINFO, z("1:0"), VERSION, "below the accepted"),
    ("negative", LEADERINFO, -1, VERSION, "below the accepted"),
    ("absurd", LEADERINFO, z("1000003:0"), VERSION, "far above"),
    ("version", LEADERINFO, z("4:0"), b"abc", "no number"),
    ("null", LEADERINFO, z("4:0"), None, "no number"),
    ("first", NEWLEADER, z("4:0"), None, "out of order"),
    ("kind", quorum.ACK, z("4:0"), None, "does not send"),
]
CHOOSING = [
    ("again", LEADERINFO, z("4:0"), VERSION, "out of order"),
    ("committed", TRUNC, z("3:1"), None, "is committed"),
    ("negative cut", TRUNC, -1, None, "is committed"),
    ("not a cut", TRUNC, z("3:3"), None, "TRUNC"),
    ("old snapshot", SNAP, z("3:1"), None, "is committed"),
    ("snapshot of the future", SNAP, z("5:0"), None, "SNAP"),
    ("proposal", PROPOSAL, z("3:4"), b"x", "out of order"),
    ("commit", COMMIT, z("3:3"), None, "not the next"),
    ("newleader", NEWLEADER, z("4:0"), None, "out of order"),
    ("uptodate", UPTODATE, -1, None, "out of order"),
    ("sync", SYNC, 0, None, "nobody"),
    ("revalidate", REVALIDATE, 0, quorum.encode_revalidated(1, True), "out of order"),
]
SYNCHRONISING = [
    ("trunc", TRUNC, z("3:2"), None, "out of order"),
    ("snap", SNAP, z("4:0"), None, "out of order"),
    ("diff", DIFF, z("4:0"), None, "out of order"),
    ("gap", PROPOSAL, z("4:3"), b"x", "after"),
    ("same", PROPOSAL, z("4:1"), b"x", "after"),
    ("back", PROPOSAL, z("3:2"), b"x", "after"),
    ("future", PROPOSAL, z("5:1"), b"x", "after"),
    ("beginning", PROPOSAL, z("4:0"), b"x", "after"),
    ("no txn", PROPOSAL, z("4:2"), None, "without a txn"),
    ("unproposed", COMMIT, z("4:2"), None, "not the next"),
    ("inform", INFORM, z("4:2"), b"x", "out of order"),
    ("epoch", NEWLEADER, z("5:0"), None, "by a leader of epoch 4"),
    ("counter", NEWLEADER, z("4:1"), None, "by a leader of epoch 4"),
    ("early", UPTODATE, -1, None, "out of order"),
]


@pytest.mark.parametrize(("kind", "zxid", "data", "reason"), [c[1:] for c in JOINING], ids=[c[0] for c in JOINING])
def test_a_hostile_leader_is_left_while_joining(kind: int, zxid: int, data: bytes | None, reason: str) -> None:
    bench = Bench((z("3:1"),), base=z("3:0"), accepted=3, current=3)
    bench.learner.on_connected(LINK, 0)
    bench.leader(kind, zxid, data).disk()
    over(bench, reason)
    assert (bench.accepted, bench.current) == (3, 3)


@pytest.mark.parametrize(("kind", "zxid", "data", "reason"), [c[1:] for c in CHOOSING], ids=[c[0] for c in CHOOSING])
def test_a_hostile_leader_is_left_while_he_chooses(kind: int, zxid: int, data: bytes | None, reason: str) -> None:
    bench = Bench((z("3:1"), z("3:2"), z("3:3")), base=z("3:0"), accepted=3, current=3, committed=z("3:2"))
    bench.join(4).leader(kind, zxid, data)
    assert bench.learner.committed_zxid == z("3:2")
    assert bench.outbox.truncate_to == NOTHING
    over(bench, reason)
    assert bench.learner.proposed_zxid == z("3:3")


@pytest.mark.parametrize(
    ("kind", "zxid", "data", "reason"), [c[1:] for c in SYNCHRONISING], ids=[c[0] for c in SYNCHRONISING]
)
def test_a_hostile_leader_is_left_while_synchronising(kind: int, zxid: int, data: bytes | None, reason: str) -> None:
    bench = follower().join(4).leader(DIFF, z("4:1"))
    bench.commit(bench.propose(z("4:1")))
    bench.leader(kind, zxid, data)
    over(bench, reason)
    assert bench.end() == bench.learner.proposed_zxid == z("4:1")


def test_a_leader_is_left_who_is_out_of_order_when_this_server_serves() -> None:
    for kind, zxid in ((UPTODATE, -1), (NEWLEADER, z("2:0")), (LEADERINFO, z("2:0")), (COMMIT, z("1:3")), (SYNC, 0)):
        bench = serving().leader(kind, zxid, VERSION)
        over(bench, "")
    # The leader's counter has an end, and behind it is another epoch, which he has no right to.
    bench = Bench(base=z("2:4294967295"), accepted=2, current=2).synchronise(2)
    bench.propose(z("3:0"))
    over(bench, "after")
    bench = Bench(base=z("2:4294967295"), accepted=2, current=2).synchronise(4)
    bench.propose(z("3:0"))
    over(bench, "after")


def test_an_empty_server_takes_any_epoch() -> None:
    bench = Bench().synchronise(5_000_000, z("4999999:1"))
    assert bench.learner.is_serving
    assert bench.learner.epoch == 5_000_000
    assert bench.learner.committed_zxid == z("4999999:1")


def test_what_is_held_is_bounded() -> None:
    """A leader who goes on and on while this server's disk is at work."""
    bench = follower(max_held_bytes=1000).join(2).leader(TRUNC, z("1:1"))
    bench.leader(PROPOSAL, z("1:2"), bytes(900))
    assert not bench.learner.is_over
    bench.leader(PROPOSAL, z("1:3"), bytes(900))
    over(bench, "bytes while this server is not ready")
    # What was let go is not counted for ever.
    bench = follower(max_held_bytes=1000).join(2).leader(TRUNC, z("1:1"))
    bench.leader(PROPOSAL, z("1:2"), bytes(900)).truncate().leader(NEWLEADER, z("2:0"))
    bench.leader(PROPOSAL, z("2:1"), bytes(900)).disk()
    assert not bench.learner.is_over


def test_what_was_held_is_judged_when_its_turn_comes() -> None:
    bench = follower().join(2).leader(TRUNC, z("1:1")).leader(DIFF, z("1:1")).leader(PROPOSAL, z("1:2"), b"x")
    assert not bench.learner.is_over
    bench.truncate()
    assert bench.learner.proposed_zxid == z("1:1")
    over(bench, "DIFF out of order")


def test_another_link_is_not_listened_to() -> None:
    bench = serving()
    bench.learner.on_packets(LINK + 1, [Packet(PROPOSAL, z("9:1"), b"x")], 0)
    bench.learner.on_lost(LINK + 1)
    bench.learner.on_heard(LINK + 1, 0)
    assert bench.turn().said() == []
    assert bench.learner.is_serving


# Broadcast.


def test_acks_are_one_by_one_and_as_far_as_the_disk_is() -> None:
    """Java counts each, and ends the link when the one it waits for does not come (LearnerHandler.SyncLimitCheck)."""
    bench = serving()
    for zxid in (z("2:1"), z("2:2"), z("2:3")):
        bench.propose(zxid)
    bench.said()
    bench.log += bench.waiting[:2]
    del bench.waiting[:2]
    bench.learner.on_synced(z("2:2"))
    assert bench.turn().said() == ["ACK 2:1", "ACK 2:2"]
    bench.learner.on_synced(z("2:2"))
    assert bench.turn().said() == []
    bench.commit(z("2:1")).commit(z("2:2")).commit(z("2:3"))
    assert bench.said() == ["deliver 2:1", "deliver 2:2"]
    bench.sync()
    assert bench.said() == ["ACK 2:3", "deliver 2:3"]
    with pytest.raises(AssertionError):
        bench.learner.on_synced(z("2:4"))


def test_a_commit_waits_for_those_before_it_and_for_the_disk() -> None:
    bench = serving()
    bench.propose(z("2:1"))
    bench.commit(z("2:1"))
    bench.propose(z("2:2"))
    bench.commit(z("2:2"))
    assert bench.said() == ["log 2:1", "log 2:2"]
    bench.sync()
    assert bench.said() == ["ACK 2:1", "ACK 2:2", "deliver 2:1", "deliver 2:2"]
    bench.propose(z("2:3"))
    bench.propose(z("2:4"))
    bench.sync().said()
    bench.commit(z("2:4"))
    over(bench, "not the next")


def test_an_observer_acknowledges_the_leader_and_nothing_else(make: type[Learner]) -> None:
    bench = Bench(HISTORY, learner=make, accepted=1, current=1, is_observer=True).join(2).leader(DIFF, z("1:4"))
    bench.commit(bench.propose(z("1:4")))
    bench.leader(NEWLEADER, z("2:0")).disk()
    bench.leader(INFORM, z("2:1"), b"a").leader(UPTODATE, -1)
    trace = bench.disk().said()
    assert trace[0] == "OBSERVERINFO 1:0"
    assert trace[-6:] == ["current 2", "ACK 2:0", "log 2:1", "ACK 2:0", "deliver 1:4", "deliver 2:1"]
    bench.leader(INFORM, z("2:2"), b"b").sync()
    bench.leader(INFORMANDACTIVATE, z("2:3"), b"12345678c").sync()
    assert bench.said() == ["log 2:2", "deliver 2:2", "log 2:3", "deliver 2:3"]
    assert bench.delivered[-1] == (z("2:3"), b"c")
    bench.leader(INFORMANDACTIVATE, z("2:4"))
    over(bench, "without a txn")


def test_an_inform_among_proposals_is_refused() -> None:
    bench = serving(is_observer=True)
    bench.propose(z("2:1"))
    bench.leader(INFORM, z("2:2"), b"x")
    over(bench, "INFORM")


def test_a_commit_may_activate_a_configuration() -> None:
    bench = serving()
    bench.propose(z("2:1"))
    bench.sync().leader(COMMITANDACTIVATE, z("2:1"), bytes(8))
    assert bench.said()[-1] == "deliver 2:1"


def test_pings_are_answered_with_the_sessions_from_uptodate_on() -> None:
    """As in Java: until the ACK of NEWLEADER the leader takes no other packet."""
    bench = follower().join(2).leader(DIFF, z("1:3")).leader(PING, z("2:1")).leader(NEWLEADER, z("2:0")).disk()
    bench.leader(PING, z("2:1"))
    assert bench.said()[-1] == "ACK 2:0"
    bench.leader(UPTODATE, -1).said()
    bench.sessions = [(5, 4000), (6, 8000)]
    bench.learner.on_packets(LINK, [Packet(PING, z("2:1"))], 0)
    assert bench.outbox.sends == [
        (LINK, quorum.encode_packet(PING, z("2:1"), quorum.encode_touched([(5, 4000), (6, 8000)])))
    ]


# For the clients.


def test_requests_and_revalidations_go_to_the_leader() -> None:
    early, late = follower(), serving()
    late.learner.on_lost(LINK)
    for bench in (early, late):
        bench.learner.request(1, 2, 3, b"", [])
        bench.learner.revalidate(1, 2)
        bench.learner.sync("lost")
        assert bench.turn().said() == []
    bench = serving()
    for cxid in (5, 6):
        bench.learner.request(77, cxid, 1, b"body", [Id("ip", "::1")])
    bench.learner.revalidate(77, 4000)
    assert bench.outbox.sends == [
        (LINK, quorum.encode_packet(1, -1, quorum.encode_request(77, 5, 1, b"body"), [Id("ip", "::1")])),
        (LINK, quorum.encode_packet(1, -1, quorum.encode_request(77, 6, 1, b"body"), [Id("ip", "::1")])),
        (LINK, quorum.encode_packet(6, -1, quorum.encode_revalidate(77, 4000))),
    ]
    bench.outbox.sends = []
    bench.leader(REVALIDATE, 0, quorum.encode_revalidated(77, False))
    assert bench.outbox.revalidated == [(77, False)]
    bench.leader(REVALIDATE, 0, b"short")
    over(bench, "REVALIDATE")


def test_a_sync_is_done_behind_what_was_committed_before_its_answer() -> None:
    bench = serving()
    bench.learner.sync("first", 77, 5, b"/path")
    data = quorum.encode_request(77, 5, 9, b"/path")
    assert bench.outbox.sends == [(LINK, quorum.encode_packet(quorum.REQUEST, -1, data))]
    bench.turn().leader(SYNC)
    assert bench.outbox.synced == ["first"]
    for token in ("second", "third", "fourth"):
        bench.learner.sync(token)
    bench.propose(z("2:1"))
    bench.commit(z("2:1")).leader(SYNC)
    bench.propose(z("2:2"))
    bench.commit(z("2:2")).leader(SYNC)
    assert bench.outbox.synced == ["first"]
    bench.log.append(bench.waiting.pop(0))
    bench.learner.on_synced(z("2:1"))
    assert bench.outbox.synced == ["first", "second"]
    bench.sync().leader(SYNC)
    assert bench.outbox.synced == ["first", "second", "third", "fourth"]


# Time and the link.


def test_the_leader_is_dialled_a_few_times() -> None:
    bench = follower()
    learner = bench.learner
    assert learner.next_deadline_ms() == bench.now_ms + INIT_MS
    for round_, gap_ms in enumerate((12, 25, 50, 100, 100, 100, 100), start=1):
        now_ms = bench.now_ms + round_ * 20
        learner.on_connect_failed(now_ms)
        assert learner.next_deadline_ms() == now_ms + gap_ms
        learner.on_tick(now_ms + gap_ms - 1)
        assert len(bench.outbox.dials) == round_
        learner.on_tick(now_ms + gap_ms)
        assert bench.outbox.dials == [1] * (round_ + 1)
        learner.on_tick(now_ms + gap_ms + 1)
        assert learner.next_deadline_ms() == bench.now_ms + INIT_MS
    learner.on_connect_failed(bench.now_ms + 100)
    assert learner.is_over
    assert bench.outbox.closes == []
    learner.on_connect_failed(bench.now_ms + 100)
    assert len(bench.outbox.dials) == 8
    learner = follower().learner
    learner.refuse("another reason")
    learner.on_connect_failed(0)
    assert learner.next_deadline_ms() is None


def test_connecting_has_times_of_its_own() -> None:
    """connectToLearnerMasterLimit and leaderConnectDelayDuringRetryMs."""
    limits = Limits(TICK_MS, 10, 5, connect_ticks=2, redial_ms=30)
    bench = Bench(limits=limits)
    learner = bench.learner
    assert learner.next_deadline_ms() == bench.now_ms + 2 * TICK_MS
    learner.on_connect_failed(bench.now_ms)
    # An eighth of the delay at first.
    assert learner.next_deadline_ms() == bench.now_ms + 3
    learner.on_connected(LINK, bench.now_ms + 40)
    assert learner.next_deadline_ms() == bench.now_ms + 40 + 10 * TICK_MS
    assert (Limits(TICK_MS, 10, 5).connect_ticks, Limits().redial_ms) == (10, 100)
    bench = Bench(limits=limits)
    bench.learner.on_tick(bench.now_ms + 2 * TICK_MS)
    assert bench.learner.is_over
    assert bench.learner.reason == f"the leader was silent for {2 * TICK_MS} ms"


def test_a_leader_may_be_silent_for_init_limit_and_later_for_sync_limit() -> None:
    bench = follower()
    bench.learner.on_connected(LINK, 2000)
    bench.turn()
    bench.learner.on_tick(2000 + INIT_MS - 1)
    assert bench.learner.next_deadline_ms() == 2000 + INIT_MS
    bench.learner.on_tick(2000 + INIT_MS)
    over(bench, f"silent for {INIT_MS} ms")
    bench = serving()
    bench.now_ms = 5000
    bench.leader(PING, 0).said()
    # The clock starts again behind what this server's own disk was waited for.
    bench.learner.on_tick(5001)
    assert bench.learner.next_deadline_ms() == 5001 + SYNC_MS
    bench.learner.on_tick(5000 + SYNC_MS)
    assert bench.learner.is_serving
    bench.learner.on_tick(5001 + SYNC_MS)
    over(bench, "silent")


def test_the_own_disk_is_not_the_leaders_silence() -> None:
    bench = follower().join(2).leader(TRUNC, z("1:1"))
    late_ms = bench.now_ms + 10 * INIT_MS
    bench.learner.on_tick(late_ms)
    bench.truncate()
    bench.learner.on_tick(late_ms + INIT_MS)
    assert bench.learner.next_deadline_ms() == late_ms + 2 * INIT_MS
    bench.learner.on_tick(late_ms + 2 * INIT_MS)
    over(bench, "silent")


def test_a_leader_that_stops_right_behind_the_join_is_not_waited_for_twice() -> None:
    """The patience that the own disk's work gives back began where the old one would have ended: two syncLimits."""
    bench = serving()
    asked_ms = bench.learner.next_deadline_ms()
    assert asked_ms is not None
    assert asked_ms <= bench.now_ms
    bench.learner.on_tick(bench.now_ms + 1)
    assert bench.learner.next_deadline_ms() == bench.now_ms + 1 + SYNC_MS
    bench.learner.on_tick(bench.now_ms + 1 + SYNC_MS)
    over(bench, "silent")


def test_a_snapshot_must_go_on_coming() -> None:
    bench = follower().join(2).leader(SNAP, z("2:9"))
    bench.learner.on_tick(1001)
    bench.learner.on_heard(LINK, 1500)
    bench.learner.on_tick(1500 + INIT_MS - 1)
    assert not bench.learner.is_over
    # What comes behind it says that it is whole: from now on it is the own disk that is waited for.
    bench.now_ms = 1600
    bench.leader(NEWLEADER, z("2:0"))
    bench.learner.on_tick(1600 + 9 * INIT_MS)
    bench.install().disk()
    assert bench.said()[-1] == "ACK 2:0"
    bench = follower().join(2).leader(SNAP, z("2:9"))
    bench.learner.on_tick(1001)
    bench.learner.on_tick(1001 + INIT_MS)
    over(bench, "silent")


def test_what_the_driver_must_not_do() -> None:
    with pytest.raises(AssertionError, match="tail"):
        Bench(HISTORY, accepted=1, delivered=0).learner.__class__(
            sid=1, is_observer=False, leader_sid=2, last_zxid=5, accepted_epoch=1, current_epoch=1, config_version=0,
            limits=LIMITS, outbox=Bench().outbox, now_ms=0, touched=list, tail=[(4, b"")],
        )  # fmt: skip
    bench = follower().join(2).leader(TRUNC, z("1:1"))
    with pytest.raises(AssertionError, match="cut"):
        bench.learner.on_truncated(z("1:2"))
    bench = follower().join(2).leader(SNAP, z("2:1"))
    with pytest.raises(AssertionError, match="asked"):
        bench.learner.on_snapshot_installed(z("2:2"))
    with pytest.raises(AssertionError, match="one link"):
        bench.learner.on_connected(9, 0)

"""The leader: discovery and broadcast against learners that are played by hand; test_leader_joining.py has what
is between the two.

The bench checks the promises at every step (see leaderkit); the tests say what must come out, and in which order.
"""

from __future__ import annotations

import pytest

from coati.wire.codes import OP_CREATE, OP_SYNC
from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    DIFF,
    NEWLEADER,
    PING,
    PROPOSAL,
    REQUEST,
    REVALIDATE,
    Packet,
    encode_int,
    encode_packet,
    encode_request,
    encode_revalidate,
    encode_revalidated,
    encode_touched,
)
from coati.wire.records import Id
from coati.zab.learner import MAX_EPOCH_STEP
from coati.zab.outbox import NOTHING
from coati.zab.quorum import View
from tests.now import now
from tests.zab.leaderkit import (
    INIT_MS,
    SYNC_MS,
    TICK_MS,
    Bench,
    established,
    over,
    pong,
    refused,
    view_of,
    wait,
)
from tests.zab.learnerkit import payload, z

# The order of things.


def test_a_follower_is_led_in_javas_order() -> None:
    bench = Bench()
    two = bench.introduce(2)
    assert bench.said(two) == []
    assert bench.outbox.accepted_epoch == 2
    bench.write_epochs()
    assert bench.said(two) == ["LEADERINFO 2:0"]
    bench.promise(two)
    assert bench.said(two) == ["DIFF 1:3", "NEWLEADER 2:0"]
    bench.ack(two, z("2:0"))
    assert not now(bench.leader.is_established)
    assert bench.said(two) == []
    bench.write_epochs()
    assert bench.leader.is_established
    assert bench.said(two) == ["UPTODATE -1"]
    assert bench.leader.proposed_zxid == z("2:0")
    # Java's ACK of UPTODATE.
    bench.ack(two, z("2:0"))
    assert bench.propose() == z("2:1")
    assert bench.said(two) == ["PROPOSAL 2:1"]
    bench.sync()
    assert bench.leader.delivered_zxid == z("1:3")
    bench.ack(two, z("2:1"))
    assert bench.said(two) == ["COMMIT 2:1"]
    assert bench.delivered == [(z("2:1"), payload(z("2:1")))]
    assert bench.history.max_zxid == z("2:1")


def test_the_view_travels_with_newleader() -> None:
    """ZOOKEEPER-1783: a first configuration takes the zxid of NEWLEADER as its version; a later one keeps its own."""
    for version, expected in ((0, z("2:0")), (0x100000007, 0x100000007)):
        bench = Bench(view=view_of(version=version))
        two = bench.introduce(2)
        bench.disk()
        bench.promise(bench.introduce(3, config=version))
        bench.leader.on_packets(two, [Packet(ACKEPOCH, z("1:3"), encode_int(1))], bench.now_ms)
        sent = bench.outbox.sends
        view = bench.view
        text = View(view.servers, view.groups, view.weights, expected).to_text()
        assert sent == [
            (two, encode_packet(DIFF, z("1:3"))),
            (two, encode_packet(NEWLEADER, z("2:0"), text)),
        ]
        assert bench.leader.config_version == expected


def test_a_leader_alone_in_its_view_needs_nobody() -> None:
    bench = Bench(view=view_of(1)).disk()
    assert bench.leader.is_established
    assert bench.commit() == z("2:1")
    bench.leader.sync("a")
    assert bench.outbox.synced == ["a"]


def test_a_new_ensemble_begins_with_epoch_one() -> None:
    bench = Bench((), accepted=0, current=0)
    two = bench.introduce(2, accepted=0)
    bench.disk()
    bench.promise(two, 0)
    bench.disk()
    assert bench.said(two) == ["LEADERINFO 1:0", "DIFF 0:0", "NEWLEADER 1:0"]
    bench.ack(two, z("1:0"))
    assert bench.commit(two) == z("1:1")


# Epochs.


def test_the_new_epoch_is_above_all_that_were_accepted() -> None:
    bench = Bench(view=view_of(5, observers=1))
    bench.introduce(6, accepted=11, is_observer=True)
    bench.introduce(2, accepted=7)
    # No voter and not in the view: it joins, but nobody knows it.
    bench.introduce(9, accepted=99)
    assert bench.outbox.accepted_epoch == NOTHING
    three = bench.introduce(3, accepted=4)
    assert bench.outbox.accepted_epoch == 12
    # Too late to matter; it will refuse the epoch itself.
    bench.introduce(4, accepted=40)
    bench.disk()
    assert bench.said(three) == ["LEADERINFO 12:0"]


def test_a_server_that_has_accepted_a_later_epoch_is_not_left_outside() -> None:
    """It must not follow this leader, and would come again and again until there is another."""
    bench, two, three = established(Bench(view=view_of(5)))
    bench.introduce(9, accepted=40)
    bench.introduce(4, accepted=MAX_EPOCH_STEP + 2)
    assert not now(bench.leader.is_over), "no member, and no epoch that anybody would follow"
    five = bench.introduce(5, accepted=2)
    assert bench.said(five) == ["LEADERINFO 2:0"]
    bench.leader.on_lost(five, bench.now_ms)
    bench.introduce(5, accepted=3)
    assert bench.leader.is_over
    assert "epoch 3" in bench.leader.reason
    assert {two, three} <= set(bench.outbox.closes)


def test_the_epoch_is_durable_before_anybody_hears_of_it() -> None:
    """ZOOKEEPER-335, 1081, 1282: two leaders with one epoch."""
    bench = Bench()
    two, three = bench.introduce(2), bench.introduce(3)
    silent = bench.connect(4)
    bench.leader.on_epochs(1, 1)
    assert bench.said(two) + bench.said(three) == []
    bench.write_epochs()
    assert bench.said(silent) == []
    assert bench.said(two) == bench.said(three) == ["LEADERINFO 2:0"]


def test_its_own_vote_needs_its_epoch_on_disk() -> None:
    """ZOOKEEPER-1291: NEWLEADER is acknowledged by those who have the epoch on disk, the leader too."""
    bench = Bench()
    two = bench.introduce(2)
    bench.disk()
    bench.promise(two)
    assert bench.outbox.current_epoch == 2
    bench.ack(two, z("2:0"))
    bench.leader.on_epochs(2, 1)
    assert not now(bench.leader.is_established)
    bench.write_epochs()
    assert bench.leader.is_established


def test_its_history_is_durable_before_its_epoch() -> None:
    """ZOOKEEPER-4643, 3911: with the new epoch and without the txns it would win elections without them."""
    bench = Bench(synced=z("1:1"))
    two = bench.introduce(2)
    bench.disk()
    bench.promise(two)
    assert bench.outbox.current_epoch == NOTHING
    bench.leader.on_synced(z("1:2"))
    assert bench.outbox.current_epoch == NOTHING
    bench.sync()
    assert bench.outbox.current_epoch == 2
    # Asked for once.
    bench.outbox.current_epoch = NOTHING
    bench.sync()
    assert bench.outbox.current_epoch == NOTHING


def test_observers_and_strangers_are_no_quorum() -> None:
    """ZOOKEEPER-2959, 764."""
    bench = Bench(view=view_of(3, observers=2))
    for sid in (4, 5):
        bench.introduce(sid, is_observer=True)
    # A voter that says it observes, an observer that says it follows, and one that nobody knows.
    bench.introduce(2, is_observer=True)
    bench.introduce(8)
    assert bench.outbox.accepted_epoch == NOTHING
    bench.introduce(3)
    assert bench.outbox.accepted_epoch == 2


@pytest.mark.parametrize(("epoch", "last"), [(2, "1:1"), (1, "1:4"), (2, "2:1")])
def test_who_is_ahead_is_not_led(epoch: int, last: str) -> None:
    """It has what this leader lacks. With the others there may be a quorum all the same, as in Java."""
    bench = Bench(accepted=3)
    two, three = bench.introduce(2, last=z(last)), bench.introduce(3)
    bench.disk()
    bench.promise(two, epoch)
    refused(bench, two, "is ahead")
    assert bench.said(three) == ["LEADERINFO 4:0"]
    bench.promise(three)
    assert bench.said(three) == ["DIFF 1:3", "NEWLEADER 4:0"]
    # Later it must not be: what it has more is not committed.
    two = bench.introduce(2, last=z("1:4"))
    bench.promise(two)
    assert bench.said(two) == ["LEADERINFO 4:0", "TRUNC 1:3", "NEWLEADER 4:0"]


def test_a_promise_given_before_is_none() -> None:
    """Learner: -1 says that the epoch had been accepted. Its history counts all the same, once NEWLEADER is there."""
    bench = Bench(view=view_of(3))
    two = bench.introduce(2)
    bench.disk()
    bench.promise(two, -1)
    assert bench.said(two) == ["LEADERINFO 2:0"]
    empty = bench.introduce(3, last=-1)
    bench.promise(empty)
    assert bench.said(empty) == ["LEADERINFO 2:0"]
    bench.lose(empty)
    three = bench.introduce(3)
    bench.promise(three)
    bench.disk()
    assert bench.said(two) == ["DIFF 1:3", "NEWLEADER 2:0"]
    bench.ack(two, z("2:0"))
    assert bench.leader.is_established


# Broadcast.


def test_a_proposal_needs_a_quorum_and_its_own_disk() -> None:
    bench, two, three = established(Bench(view=view_of(5)))
    four = bench.join(4)
    zxid = bench.propose()
    for link in (two, three):
        bench.ack(link, zxid)
    # ZOOKEEPER-4882: a txn that is applied here and not durable here is a hole in the log after the next crash.
    assert bench.delivered == []
    bench.ack(four, zxid)
    assert bench.delivered == []
    bench.sync()
    assert [entry[0] for entry in bench.delivered] == [zxid]
    zxid = bench.propose()
    bench.sync()
    bench.ack(two, zxid)
    assert bench.leader.delivered_zxid == z("2:1")
    bench.ack(three, zxid)
    assert bench.leader.delivered_zxid == zxid


def test_one_ack_commits_all_before_it() -> None:
    bench, two, three = established()
    zxids = [bench.propose() for _ in range(3)]
    bench.sync()
    bench.ack(two, zxids[1])
    assert [zxid for zxid, _ in bench.delivered] == zxids[:2]
    assert bench.said(three) == ["PROPOSAL 2:1", "PROPOSAL 2:2", "PROPOSAL 2:3", "COMMIT 2:1", "COMMIT 2:2"]
    bench.ack(three, zxids[2])
    # And what comes behind a commit is not counted again.
    bench.ack(two, zxids[2])
    assert [zxid for zxid, _ in bench.delivered] == zxids
    assert bench.said(two)[-1] == "COMMIT 2:3"


def test_a_witness_hears_whose_acks_were_counted() -> None:
    bench, two, _ = established()
    heard: list[tuple[list[tuple[int, bytes]], dict[int, int]]] = []
    bench.outbox.witness = lambda entries, acked: heard.append((entries, dict(acked)))
    zxids = [bench.propose() for _ in range(2)]
    bench.sync()
    assert heard == []
    bench.ack(two, zxids[1])
    assert heard == [([(zxid, payload(zxid)) for zxid in zxids], {1: zxids[1], 2: zxids[1], 3: z("2:0")})]


def test_one_packet_is_shared_by_all() -> None:
    bench, _, _ = established()
    bench.leader.propose(z("2:1"), b"x")
    (_, first), (_, second) = bench.outbox.sends
    assert first is second
    assert first == encode_packet(PROPOSAL, z("2:1"), b"x")
    assert bench.outbox.log == [(z("2:1"), b"x")]


def test_the_counter_never_runs_into_the_epoch() -> None:
    """ZOOKEEPER-1277: with the counter used up there has to be a new epoch."""
    bench, two, three = established()
    bench.leader.proposed_zxid = 0x2FFFFFFFD
    bench.waiting = [(0x2FFFFFFFD, b"")]
    bench.leader.propose(bench.leader.next_zxid(), b"last")
    bench.waiting = []
    assert bench.outbox.log == [(0x2FFFFFFFE, b"last")]
    bench.outbox.log.clear()
    assert not now(bench.leader.is_over)
    bench.leader.propose(bench.leader.next_zxid(), b"one too many")
    assert bench.outbox.log == []
    assert bench.leader.proposed_zxid == 0x2FFFFFFFE
    assert bench.leader.is_over
    assert "counter" in bench.leader.reason
    assert bench.outbox.closes == [two, three]


@pytest.mark.parametrize("zxid", ["2:0", "2:2", "3:1"])
def test_a_gap_in_the_numbers_is_refused(zxid: str) -> None:
    bench, _, _ = established()
    with pytest.raises(AssertionError):
        bench.leader.propose(z(zxid), b"")
    with pytest.raises(AssertionError):
        bench.leader.on_synced(z(zxid) + 1)


def test_nobody_writes_before_it_is_established() -> None:
    bench = Bench()
    with pytest.raises(AssertionError):
        bench.leader.propose(z("2:1"), b"")
    with pytest.raises(AssertionError):
        bench.leader.sync("a")
    with pytest.raises(AssertionError):
        Bench(view=view_of(1, observers=1), sid=2)


# What learners ask.


def test_requests_of_learners_come_out_as_they_are() -> None:
    bench, two, _ = established()
    who = [Id("super", "root")]
    data = encode_request(0x77, 5, OP_CREATE, b"body")
    # Identities are the learner's word: only its link says whether it may be believed.
    bench.leader.on_packets(two, [Packet(REQUEST, -1, data, who)], bench.now_ms)
    (request,) = bench.outbox.requests
    assert (request.link, request.session_id, request.cxid, request.op, request.body) == (two, 0x77, 5, 1, b"body")
    assert request.auth == who


def test_a_revalidation_is_answered_with_the_learners_packet() -> None:
    bench, two, three = established()
    bench.say(two, REVALIDATE, -1, encode_revalidate(0x77, 4000))
    assert bench.outbox.revalidations == [(two, 0x77, 4000)]
    bench.leader.revalidated(two, 0x77, True)
    assert bench.outbox.sends == [(two, encode_packet(REVALIDATE, -1, encode_revalidated(0x77, True)))]
    bench.turn().lose(three)
    bench.leader.revalidated(three, 0x77, False)
    assert bench.outbox.sends == []


def test_sessions_that_were_touched_come_with_pings() -> None:
    bench, two, three = established()
    bench.tick()
    assert bench.said(two) == bench.said(three) == ["PING 2:0"]
    bench.say(two, PING, z("2:0"), encode_touched([(1, 10), (2, 20)]))
    bench.say(three, PING, z("2:0"), b"")
    assert bench.outbox.touched == [(two, [(1, 10), (2, 20)])]


# Sync.


def ask(bench: Bench, link: int) -> None:
    bench.say(link, REQUEST, -1, encode_request(7, 1, OP_SYNC, b""))


def test_a_sync_is_answered_once_a_quorum_still_follows() -> None:
    """ZOOKEEPER-1675: a leader that was deposed and does not know it answers from an old tree."""
    bench, two, three = established()
    ask(bench, two)
    assert bench.said(two) == bench.said(three) == ["PING 2:0"]
    # Those who come meanwhile share the next round.
    bench.leader.sync("a")
    ask(bench, three)
    assert bench.said(two) == bench.said(three) == []
    pong(bench, three)
    assert bench.said(two) == ["PING 2:0", "SYNC 0:0"]
    assert bench.said(three) == ["PING 2:0"]
    assert bench.outbox.synced == []
    # Of the first round: it proves nothing for those who came behind it.
    pong(bench, two)
    assert bench.outbox.synced == []
    pong(bench, two)
    assert bench.outbox.synced == ["a"]
    assert bench.said(three) == ["SYNC 0:0"]
    assert bench.said(two) == []


def test_a_ping_of_the_tick_is_a_round_too() -> None:
    bench, two, three = established()
    bench.tick()
    ask(bench, two)
    assert bench.said(two) == ["PING 2:0"]
    bench.tick()
    pong(bench, two)
    assert bench.said(two) == ["PING 2:0"]
    pong(bench, two)
    assert bench.said(two) == ["SYNC 0:0"]
    assert bench.said(three) == ["PING 2:0", "PING 2:0"]


def test_an_answer_does_not_outlive_its_link() -> None:
    """Nor does a new follower answer a round that began before it came."""
    bench, two, three = established(Bench(view=view_of(5)))
    ask(bench, two)
    pong(bench, three)
    bench.lose(three)
    assert bench.join(3) != three
    pong(bench, two)
    assert "SYNC 0:0" not in bench.said(two)


def test_a_sync_waits_for_the_writes_before_it() -> None:
    """Leader.processSync. The reader's own writes may be among them."""
    for linearizable in (True, False):
        bench, two, three = established(Bench(linearizable=linearizable))
        zxid = bench.propose()
        ask(bench, two)
        if linearizable:
            pong(bench, two, three)
        bench.sync()
        assert "SYNC 0:0" not in bench.said(two)
        bench.ack(three, zxid)
        assert bench.said(two) == ["COMMIT 2:1", "SYNC 0:0"]
        ask(bench, two)
        assert bench.said(two) == (["PING 2:1"] if linearizable else ["SYNC 0:0"])


def test_a_sync_of_one_who_left_is_forgotten() -> None:
    bench, two, three = established(Bench(view=view_of(5)))
    four = bench.join(4)
    ask(bench, two)
    bench.leader.sync("a")
    bench.lose(two)
    pong(bench, three, four)
    pong(bench, three, four)
    assert bench.outbox.synced == ["a"]


def test_syncs_end_with_the_leader() -> None:
    bench, two, three = established()
    ask(bench, two)
    bench.leader.sync("a")
    bench.lose(two)
    bench.lose(three)
    bench.tick()
    over(bench, "does not follow")


# Time.


def test_it_ticks_twice_a_tick() -> None:
    bench, two, _ = established()
    assert bench.leader.next_deadline_ms() == bench.now_ms + TICK_MS // 2
    bench.tick(TICK_MS // 2 - 1)
    assert bench.said(two) == []
    bench.tick(1)
    assert bench.said(two) == ["PING 2:0"]
    assert bench.leader.next_deadline_ms() == bench.now_ms + TICK_MS // 2


def test_who_is_silent_for_a_synclimit_is_dropped() -> None:
    bench, two, three = established()
    wait(bench, SYNC_MS - TICK_MS // 2, two)
    assert not bench.is_closed(three)
    wait(bench, TICK_MS // 2, two)
    refused(bench, three, "silent")
    assert not now(bench.leader.is_over)
    wait(bench, SYNC_MS, two)
    assert not now(bench.leader.is_over)


def test_without_a_quorum_it_is_over() -> None:
    bench, two, three = established()
    bench.lose(two)
    bench.tick()
    assert not now(bench.leader.is_over)
    wait(bench, SYNC_MS)
    over(bench, "does not follow")
    assert three in bench.outbox.closes


def test_who_answers_but_never_acknowledges_is_dropped() -> None:
    """LearnerHandler.SyncLimitCheck: its disk may be dead."""
    bench, two, three = established()
    # Acknowledged late, and again.
    for _ in range(2):
        zxid = bench.propose()
        wait(bench, SYNC_MS - TICK_MS, two, three)
        for link in (two, three):
            bench.ack(link, zxid)
        wait(bench, SYNC_MS, two, three)
    bench.ack(two, bench.propose())
    wait(bench, SYNC_MS, two, three)
    assert not bench.is_closed(three)
    bench.tick()
    refused(bench, three, "acknowledged nothing")
    assert not bench.is_closed(two)


def test_what_java_never_acknowledges_is_not_waited_for() -> None:
    """ZOOKEEPER-4646: what is committed before NEWLEADER is made durable before its ack, and has none of its own."""
    bench, two, three = established()
    bench.lose(two)
    zxid = bench.propose()
    two = bench.introduce(2)
    bench.promise(two)
    bench.sync()
    bench.ack(three, zxid)
    bench.say(two, ACK, z("2:0"))
    bench.ack(two, z("2:0"))
    wait(bench, 2 * SYNC_MS, two, three)
    assert not bench.is_closed(two)


@pytest.mark.parametrize("step", ["nobody", "introduced", "promised"])
def test_every_phase_has_an_end(step: str) -> None:
    bench = Bench()
    most_ms = INIT_MS - TICK_MS // 2
    if step != "nobody":
        wait(bench, most_ms)
        two = bench.introduce(2)
        bench.disk()
        if step == "promised":
            wait(bench, most_ms)
            bench.promise(two)
    wait(bench, most_ms)
    assert not now(bench.leader.is_over)
    # Who has to say something has the same time for it.
    bench.peers = {link: peer for link, peer in bench.peers.items() if link in bench.leader.attendance.by_link}
    wait(bench, INIT_MS - most_ms)
    over(bench, "no quorum for an initLimit")


def test_who_takes_longer_than_an_initlimit_is_dropped() -> None:
    bench, two, three = established()
    bench.lose(two)
    silent = bench.connect(2)
    asked = bench.introduce(8)
    joining = bench.promise(bench.introduce(9))
    wait(bench, INIT_MS, three)
    assert sorted(bench.outbox.closes) == sorted([silent, asked, joining])
    assert not now(bench.leader.is_over)


def test_a_leader_gives_up_when_a_quorum_has_changed_its_mind() -> None:
    """ZOOKEEPER-3109, 3537: an initLimit is a long time to wait for those who look for somebody else."""
    bench = Bench()
    # Said before the election was over, perhaps.
    for sid in (2, 3):
        bench.leader.on_looking(sid, bench.now_ms)
    bench.tick(TICK_MS)
    assert not now(bench.leader.is_over)
    bench.leader.on_looking(9, bench.now_ms)
    bench.leader.on_looking(2, bench.now_ms)
    bench.tick()
    assert not now(bench.leader.is_over)
    # It has come after all, and what it said earlier arrives late.
    bench.introduce(2)
    bench.leader.on_looking(2, bench.now_ms)
    bench.leader.on_looking(3, bench.now_ms)
    bench.tick()
    assert not now(bench.leader.is_over)
    bench.lose(min(bench.peers))
    bench.leader.on_looking(2, bench.now_ms)
    bench.tick()
    over(bench, "looks for another leader")


def test_an_established_leader_does_not_care_who_looks() -> None:
    bench, two, three = established()
    bench.tick(TICK_MS)
    bench.lose(two)
    bench.leader.on_looking(2, bench.now_ms)
    bench.leader.on_looking(3, bench.now_ms)
    pong(bench, three)
    bench.tick()
    assert not now(bench.leader.is_over)

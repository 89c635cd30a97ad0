"""Election: the rules of fast leader election, one server at a time, and the examples of textbooks."""

from __future__ import annotations

import random

import pytest

from coati.wire.quorum import FOLLOWING, LEADING, LOOKING, OBSERVING, Notification
from coati.zab.election import NO_DATA, NOBODY, Election, Vote
from coati.zab.outbox import Outbox
from coati.zab.quorum import View
from tests.now import now
from tests.zab.electionkit import Desk, Ensemble, Kind, said, view_of

LAST = 2**63 - 1


@pytest.fixture
def kind() -> Kind:
    return Election


# The textbook


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_start_of_three_servers(epoch: int, kind: Kind) -> None:
    """Votes (1,0) (2,0) (3,0): the first two elect 2 between them, and 3 finds a leader when it comes."""
    net = Ensemble(view_of(3), [Vote(sid, 0, epoch) for sid in (1, 2, 3)], kind=kind)
    net.start(1)
    net.run(5000)
    assert net.agreed() is None
    net.start(2)
    assert net.settle() == 2
    net.start(3)
    assert net.settle() == 2


def test_all_who_start_together_elect_the_largest_sid(kind: Kind) -> None:
    net = Ensemble(view_of(3), [Vote(sid, 0, 1) for sid in (1, 2, 3)], kind=kind)
    net.start()
    assert net.settle() == 3


def test_the_larger_zxid_wins_when_the_leader_is_lost(kind: Kind) -> None:
    """Votes (1,123) and (3,122); server 2, which led, is down. Nobody waits for it (ZOOKEEPER-2164, 3756)."""
    net = Ensemble(view_of(3), [Vote(1, 123, 0), Vote(2, 123, 0), Vote(3, 122, 0)], kind=kind)
    net.start()
    assert net.settle() == 2
    net.crash(2)
    lost_ms = net.now_ms
    net.run(1)
    assert net.settle() == 1
    # What it takes to notice, and a few messages.
    assert net.now_ms - lost_ms < net.PATIENCE_MS + 100


def test_two_dead_servers_of_five_delay_nothing(kind: Kind) -> None:
    net = Ensemble(view_of(5), [Vote(sid, 7, 1) for sid in range(1, 6)], kind=kind)
    net.start(1, 2, 3)
    assert net.settle() == 3
    assert net.now_ms <= 200 + 3 * 20


def test_both_orders_of_the_textbooks_are_one(kind: Kind) -> None:
    """By (epoch, zxid, sid), or by (zxid, sid): the upper half of the zxid is the epoch."""
    dice = random.Random(5)
    for _ in range(200):
        mine, theirs = (dice.randint(1, 2) << 32 | dice.randint(0, 1) for _ in range(2))
        sid = dice.randint(1, 5)
        desk = Desk(3, view_of(5), zxid=mine, epoch=mine >> 32, kind=kind)
        desk.hear(4, LOOKING, sid, theirs, epoch=theirs >> 32)
        assert desk.election.vote.leader == (sid if (theirs, sid) > (mine, 3) else 3)


# A round


def test_a_server_begins_with_itself_and_tells_all_voters(kind: Kind) -> None:
    desk = Desk(1, view_of(3, observers=1), zxid=5, epoch=2, kind=kind)
    configs = [n.config for _, n in desk.outbox.votes]
    assert desk.told() == {2: (LOOKING, 1, 5, 1, 2), 3: (LOOKING, 1, 5, 1, 2)}
    assert configs == [view_of(3, observers=1).to_text()] * 2


def test_a_vote_carries_the_newest_version_of_the_view(kind: Kind) -> None:
    """The first leader gives the view its version; who asks later is told."""
    view = view_of(2)
    desk = Desk(1, view, kind=kind)
    desk.told()
    view.version = 0x100000000
    desk.hear(2, LOOKING, 2)
    assert [n.config for _, n in desk.outbox.votes] == [view.to_text()]
    assert view.to_text().endswith(b"version=100000000")


def test_a_server_alone_decides_at_once(kind: Kind) -> None:
    desk = Desk(1, view_of(1), kind=kind)
    assert (desk.leader, desk.election.state, desk.told()) == (1, LEADING, {})
    assert desk.election.next_deadline_ms() is None


@pytest.mark.parametrize(("leader", "zxid", "epoch"), [(1, 1, 3), (1, 6, 2), (3, 5, 2)], ids=["epoch", "zxid", "sid"])
def test_a_better_vote_is_taken_and_told(leader: int, zxid: int, epoch: int, kind: Kind) -> None:
    desk = Desk(2, view_of(3), zxid=5, epoch=2, kind=kind)
    desk.told()
    desk.hear(3, LOOKING, leader, zxid, epoch=epoch)
    vote = (LOOKING, leader, zxid, 1, epoch)
    assert desk.told() == {1: vote, 3: vote}


def test_who_votes_for_less_is_told_better(kind: Kind) -> None:
    """ZOOKEEPER-498, 512: a vote that was lost with its link does not wait for the next resend."""
    desk = Desk(2, view_of(3), zxid=5, kind=kind)
    desk.told()
    desk.hear(1, LOOKING, 1, 4)
    assert desk.told() == {1: (LOOKING, 2, 5, 1, 0)}
    desk.hear(1, LOOKING, 2, 5)
    assert desk.told() == {}


def test_a_later_round_is_entered_with_the_better_vote(kind: Kind) -> None:
    desk = Desk(2, view_of(5), zxid=5, kind=kind)
    desk.hear(3, LOOKING, 3, 9, round=1)
    # What was the best in an earlier round says nothing about this one: 3 may have died.
    desk.hear(1, LOOKING, 1, 4, round=4)
    assert desk.told()[3] == (LOOKING, 2, 5, 4, 0)
    desk.hear(4, LOOKING, 4, 6, round=5)
    assert desk.told()[3] == (LOOKING, 4, 6, 5, 0)
    assert desk.election.round == 5


def test_votes_of_an_earlier_round_are_answered_and_not_counted(kind: Kind) -> None:
    desk = Desk(3, view_of(3), kind=kind)
    desk.election.begin(desk.now_ms, desk.own)
    desk.told()
    desk.hear(1, LOOKING, 3, round=1)
    assert desk.told() == {1: (LOOKING, 3, 0, 2, 0)}
    desk.wait(500)
    assert now(desk.leader) is None


def test_votes_do_not_count_in_the_next_round(kind: Kind) -> None:
    desk = Desk(5, view_of(5), kind=kind)
    desk.hear(1, LOOKING, 5)
    desk.hear(2, LOOKING, 1, round=2)
    desk.hear(2, LOOKING, 5, round=2)
    desk.wait(1000)
    assert now(desk.leader) is None
    desk.hear(3, LOOKING, 5, round=2)
    desk.wait(200)
    assert desk.leader == 5


def test_a_server_that_came_back_is_not_counted_for_what_it_said_before(kind: Kind) -> None:
    desk = Desk(2, view_of(3), kind=kind)
    desk.election.begin(desk.now_ms, desk.own)
    desk.hear(1, LOOKING, 2, round=2)
    desk.hear(1, LOOKING, 1, round=1)
    desk.wait(1000)
    assert now(desk.leader) is None


# The end of a round


def test_a_round_ends_when_nobody_better_comes_for_a_while(kind: Kind) -> None:
    desk = Desk(2, view_of(3), zxid=5, kind=kind)
    desk.hear(1, LOOKING, 2, 5)
    desk.wait(199)
    assert now(desk.leader) is None
    desk.wait(1)
    assert (desk.leader, desk.election.state) == (2, LEADING)
    assert desk.election.next_deadline_ms() is None
    desk.election.on_tick(desk.now_ms)
    assert desk.election.next_deadline_ms() is None


def failed_over(sid: int, view: View, zxid: int, kind: Kind) -> Desk:
    """A server in round 2, after its leader was lost."""
    desk = Desk(sid, view, zxid=zxid, kind=kind)
    desk.election.settled(FOLLOWING, Vote(sid % 3 + 1, zxid, 0))
    desk.election.begin(desk.now_ms, desk.own)
    return desk


def test_a_crashed_leader_is_not_waited_for(kind: Kind) -> None:
    """finalizeWait is for votes that may still come. Most elections begin with a crash, whose vote does not."""
    desk = failed_over(2, view_of(3), 5, kind)
    desk.hear(1, LOOKING, 2, 5, round=2)
    assert now(desk.leader) is None
    desk.election.on_refused(desk.now_ms, 3)
    assert (desk.leader, desk.election.state) == (2, LEADING)
    # The other order: the quorum comes last.
    desk = failed_over(2, view_of(3), 5, kind)
    desk.election.on_refused(desk.now_ms, 3)
    assert now(desk.leader) is None
    desk.hear(1, LOOKING, 2, 5, round=2)
    assert desk.leader == 2


def test_who_is_starting_waits_for_others_that_may_be_too(kind: Kind) -> None:
    """All were started together, and one port is not open yet."""
    desk = Desk(2, view_of(3), zxid=5, kind=kind)
    desk.election.on_refused(desk.now_ms, 3)
    desk.hear(1, LOOKING, 2, 5)
    assert now(desk.leader) is None
    desk.wait(199)
    assert now(desk.leader) is None
    desk.hear(3, LOOKING, 3, 6)
    assert desk.election.vote.leader == 3


def test_who_was_refused_and_speaks_is_waited_for_again(kind: Kind) -> None:
    """It has come back, and votes in an old round so far."""
    desk = failed_over(2, view_of(5), 5, kind)
    for sid in (4, 5):
        desk.election.on_refused(desk.now_ms, sid)
    desk.hear(4, LOOKING, 4, 5)
    desk.hear(1, LOOKING, 2, 5, round=2)
    desk.hear(3, LOOKING, 2, 5, round=2)
    assert now(desk.leader) is None
    desk.election.on_refused(desk.now_ms, 4)
    assert desk.leader == 2


def test_a_crash_of_the_one_elected_decides_nothing(kind: Kind) -> None:
    """A quorum votes for 3, which has voted in the round and crashed: to decide for it at once would gain nothing."""
    desk = failed_over(2, view_of(4), 5, kind)
    desk.hear(1, LOOKING, 3, 6, round=2)
    desk.hear(4, LOOKING, 3, 6, round=2)
    desk.election.on_refused(desk.now_ms, 3)
    assert now(desk.leader) is None


def test_a_refusal_while_there_is_a_leader_means_nothing(kind: Kind) -> None:
    desk = failed_over(2, view_of(3), 5, kind)
    desk.hear(1, LOOKING, 2, 5, round=2)
    desk.hear(3, LOOKING, 2, 5, round=2)
    assert desk.leader == 2
    desk.election.settled(LEADING, Vote(2, 5, 0))
    desk.told()
    desk.election.on_refused(desk.now_ms, 1)
    desk.election.begin(desk.now_ms, desk.own)
    desk.hear(3, LOOKING, 2, 5, round=3)
    assert now(desk.leader) is None


def test_a_better_vote_in_the_last_moment_is_waited_for(kind: Kind) -> None:
    """What 3 has and the others have not was perhaps acknowledged: it need not be thrown away."""
    desk = Desk(2, view_of(5), zxid=5, kind=kind)
    desk.hear(1, LOOKING, 2, 5)
    desk.hear(4, LOOKING, 2, 5)
    desk.wait(199)
    desk.hear(3, LOOKING, 3, 6)
    desk.wait(1000)
    assert now(desk.leader) is None
    desk.hear(1, LOOKING, 3, 6)
    desk.wait(200)
    assert (desk.leader, desk.election.state) == (3, FOLLOWING)


def test_a_better_vote_with_its_quorum_has_its_own_wait(kind: Kind) -> None:
    desk = Desk(2, view_of(4), kind=kind)
    desk.hear(1, LOOKING, 2)
    desk.hear(3, LOOKING, 2)
    desk.wait(100)
    desk.hear(1, LOOKING, 4)
    desk.hear(3, LOOKING, 4)
    desk.wait(199)
    assert now(desk.leader) is None
    desk.wait(1)
    assert desk.leader == 4


def test_talk_does_not_put_the_end_off(kind: Kind) -> None:
    """In Java each message begins the wait anew, so one server that talks all the time stalls the election."""
    desk = Desk(2, view_of(3), zxid=5, kind=kind)
    for _ in range(5):
        desk.hear(1, LOOKING, 2, 5)
        desk.hear(3, LOOKING, 3, 9, round=0)
        desk.wait(40)
    assert desk.leader == 2


def test_a_quorum_that_falls_apart_decides_nothing(kind: Kind) -> None:
    """ZOOKEEPER-3109: who was counted begins anew within the wait; to lead without it would take an initLimit."""
    desk = Desk(2, view_of(3), zxid=5, kind=kind)
    desk.hear(1, LOOKING, 2, 5)
    desk.wait(100)
    desk.hear(1, LOOKING, 1, 4, round=0)
    desk.wait(300)
    assert now(desk.leader) is None


def test_nothing_is_waited_for_when_all_were_heard(kind: Kind) -> None:
    desk = Desk(2, view_of(4), zxid=5, kind=kind)
    desk.hear(1, LOOKING, 2, 5)
    desk.hear(4, LOOKING, 4, 3)
    assert now(desk.leader) is None
    # 4 has not heard of 2 yet; it had its say all the same.
    desk.hear(3, LOOKING, 2, 5)
    assert desk.leader == 2


def test_who_cannot_lead_need_not_be_heard(kind: Kind) -> None:
    groups = {1: [1, 2], 2: [3]}
    desk = Desk(1, view_of(3, groups=groups, weights={3: 0}), kind=kind)
    desk.hear(2, LOOKING, 2)
    assert desk.leader == 2


def test_who_has_decided_was_not_heard_in_this_round(kind: Kind) -> None:
    desk = Desk(2, view_of(4), kind=kind)
    desk.hear(1, FOLLOWING, 1, 9, epoch=9)
    desk.hear(4, LOOKING, 2)
    desk.hear(3, LOOKING, 2)
    assert now(desk.leader) is None
    desk.wait(200)
    assert desk.leader == 2


def test_who_has_voted_and_decided_since_was_heard(kind: Kind) -> None:
    """The last of all to decide need not wait either: the others answer it already as followers."""
    desk = Desk(1, view_of(3), kind=kind)
    desk.hear(3, LOOKING, 2, 5)
    desk.hear(3, FOLLOWING, 2, 5)
    desk.hear(2, LOOKING, 2, 5)
    assert desk.leader == 2


# A later round while this one ends


def test_a_later_round_waits_for_the_end_of_this_one_and_is_answered(kind: Kind) -> None:
    """To follow it would desert those who have ended this round; not to answer, leave it alone until it asks again."""
    desk = Desk(3, view_of(5), kind=kind)
    desk.hear(1, LOOKING, 3)
    desk.hear(2, LOOKING, 3)
    desk.hear(4, LOOKING, 1, round=2)
    desk.told()
    desk.wait(199)
    assert (desk.election.round, desk.told()) == (1, {})
    desk.wait(1)
    assert desk.leader == 3
    assert desk.told() == {4: (LEADING, 3, 0, 1, 0)}


@pytest.mark.parametrize(("sender", "leader"), [(4, 4), (2, 1)], ids=["better", "needed"])
def test_a_later_round_is_entered_if_this_one_cannot_end_well(sender: int, leader: int, kind: Kind) -> None:
    desk = Desk(3, view_of(5), kind=kind)
    desk.hear(1, LOOKING, 3)
    desk.hear(2, LOOKING, 3)
    desk.hear(sender, LOOKING, leader, round=2)
    desk.wait(1000)
    assert (desk.election.round, desk.leader) == (2, None)
    assert desk.told()[5] == (LOOKING, max(leader, 3), 0, 2, 0)


# Joining those who have decided


def test_a_late_joiner_compares_only_leader_and_epoch(kind: Kind) -> None:
    """ZOOKEEPER-1732, 1805: zxid and round of those who have decided differ without meaning."""
    desk = Desk(1, view_of(5), zxid=99, epoch=5, kind=kind)
    desk.hear(2, FOLLOWING, 4, 7, round=3, epoch=6)
    desk.hear(3, FOLLOWING, 4, 8, round=9, epoch=6)
    assert now(desk.leader) is None
    desk.hear(4, LEADING, 4, 9, round=10, epoch=6)
    assert (desk.leader, desk.election.state, desk.election.round) == (4, FOLLOWING, 10)


@pytest.mark.parametrize(
    "other",
    [(3, FOLLOWING, 4, 8, 3, 5), (3, FOLLOWING, 5, 8, 3, 6), (3, OBSERVING, 4, 8, 3, 6), (3, FOLLOWING, 99, 8, 3, 6),
     (99, FOLLOWING, 4, 8, 3, 6)],
    ids=["epoch", "leader", "observing", "unknown", "stranger"],
)  # fmt: skip
def test_a_late_joiner_needs_a_quorum(other: tuple[int, int, int, int, int, int], kind: Kind) -> None:
    desk = Desk(1, view_of(5), kind=kind)
    desk.hear(2, FOLLOWING, 4, 7, round=3, epoch=6)
    desk.hear(4, LEADING, 4, 9, round=3, epoch=6)
    desk.hear(*other)
    assert now(desk.leader) is None
    desk.hear(5, FOLLOWING, 4, 7, round=3, epoch=6)
    assert desk.leader == 4


@pytest.mark.parametrize("round_", [1, 3], ids=["this round", "another"])
def test_nobody_follows_a_leader_that_does_not_say_so(round_: int, kind: Kind) -> None:
    """checkLeader: it may be dead while its followers still wait for it, and would be elected for ever."""
    desk = Desk(1, view_of(5), kind=kind)
    for sid in (2, 3, 5):
        desk.hear(sid, FOLLOWING, 4, 7, round=round_, epoch=6)
    desk.hear(4, FOLLOWING, 4, 7, round=round_, epoch=6)
    assert now(desk.leader) is None
    desk.hear(4, LEADING, 4, 7, round=round_, epoch=6)
    assert (desk.leader, desk.election.round) == (4, round_)


def test_a_follower_that_looks_again_does_not_count(kind: Kind) -> None:
    desk = Desk(1, view_of(5), kind=kind)
    for sid in (2, 3):
        desk.hear(sid, FOLLOWING, 4, 7, round=3, epoch=6)
    desk.hear(2, LOOKING, 2, 7, round=0, epoch=6)
    desk.hear(4, LEADING, 4, 7, round=3, epoch=6)
    assert now(desk.leader) is None


def test_a_leader_is_told_by_its_followers_if_it_is_of_their_round(kind: Kind) -> None:
    """A vote for it was lost, and who sent it has decided already (FLELostMessageTest)."""
    desk = Desk(3, view_of(3), kind=kind)
    desk.hear(2, FOLLOWING, 3, 0, round=1)
    assert (desk.leader, desk.election.state) == (3, LEADING)


def test_a_leader_is_not_made_by_followers_of_its_former_life(kind: Kind) -> None:
    desk = Desk(3, view_of(3), kind=kind)
    for sid in (1, 2):
        desk.hear(sid, FOLLOWING, 3, 0, round=7)
    assert now(desk.leader) is None


def test_epochs_do_not_matter_within_a_round(kind: Kind) -> None:
    """The leader and one follower have the new epoch already, another one has not."""
    desk = Desk(1, view_of(5), kind=kind)
    desk.hear(2, FOLLOWING, 4, 7, epoch=5)
    desk.hear(3, FOLLOWING, 4, 7, epoch=6)
    assert now(desk.leader) is None
    desk.hear(4, LEADING, 4, 7, epoch=6)
    assert desk.leader == 4


def test_of_servers_too_old_for_a_version_only_the_leader_is_compared(kind: Kind) -> None:
    """ZOOKEEPER-1732: they give the epoch in which the leader was elected, the others that in which it leads."""
    desk = Desk(1, view_of(5), kind=kind)
    for sid, epoch in ((2, 5), (3, 4)):
        old = Notification(FOLLOWING, 4, 7, 9, epoch)
        old.version = 0
        desk.election.on_vote(desk.now_ms, sid, old)
    assert now(desk.leader) is None
    desk.hear(4, LEADING, 4, 7, round=9, epoch=6)
    assert desk.leader == 4


def test_who_joins_asks_again_soon_while_the_others_come_to_agree(kind: Kind) -> None:
    """ZOOKEEPER-1817: one has the new epoch and the other not yet, in the moment of the question."""
    desk = Desk(1, view_of(3), kind=kind)
    desk.wait(100_000)
    desk.told()
    desk.hear(3, LEADING, 3, 5, round=4, epoch=2)
    desk.hear(2, FOLLOWING, 3, 5, round=4, epoch=1)
    desk.wait(200)
    assert sorted(desk.told()) == [2, 3]
    # The same again is no news.
    desk.hear(2, FOLLOWING, 3, 5, round=4, epoch=1)
    desk.wait(399)
    assert desk.told() == {}


# Who has no vote


def test_an_observer_votes_for_nobody_and_follows_the_quorum(kind: Kind) -> None:
    """ZOOKEEPER-764, 2959: it is never elected, whatever it has, nor is its epoch seen."""
    desk = Desk(4, view_of(3, observers=1), zxid=99, epoch=99, kind=kind)
    assert desk.told()[1] == (LOOKING, NOBODY, NOBODY, 1, NOBODY)
    desk.hear(1, LOOKING, 2)
    desk.wait(1000)
    assert now(desk.leader) is None
    desk.hear(2, LOOKING, 2)
    desk.wait(200)
    assert (desk.leader, desk.election.state) == (2, OBSERVING)


def test_an_observer_joins_an_ensemble_that_runs(kind: Kind) -> None:
    desk = Desk(4, view_of(3, observers=1), kind=kind)
    desk.hear(1, FOLLOWING, 2, 7, round=5, epoch=3)
    desk.hear(2, LEADING, 2, 7, round=5, epoch=3)
    assert (desk.leader, desk.election.state) == (2, OBSERVING)


@pytest.mark.parametrize("sender", [4, 99, NOBODY])
def test_who_has_no_vote_is_answered_and_not_counted(sender: int, kind: Kind) -> None:
    desk = Desk(3, view_of(3, observers=1), kind=kind)
    desk.told()
    desk.hear(sender, LOOKING, 3, 0)
    assert desk.told() == {sender: (LOOKING, 3, 0, 1, 0)}
    desk.hear(sender, LOOKING, 1, LAST, LAST, LAST)
    desk.hear(sender, FOLLOWING, 1, LAST, LAST, LAST)
    desk.told()
    desk.wait(100)
    desk.hear(sender, LOOKING, 1, LAST, LAST, LAST)
    assert desk.told() == {sender: (LOOKING, 3, 0, 1, 0)}
    desk.wait(99)
    assert (desk.leader, desk.election.round) == (None, 1)
    desk.election.settled(FOLLOWING, Vote(2, 0, 0))
    desk.hear(sender, LOOKING, NOBODY, NOBODY, epoch=NOBODY)
    assert desk.told() == {sender: (FOLLOWING, 2, 0, 1, 0)}


@pytest.mark.parametrize("leader", [4, 99, NOBODY])
def test_votes_for_who_cannot_lead_are_ignored(leader: int, kind: Kind) -> None:
    desk = Desk(3, view_of(3, observers=1), kind=kind)
    desk.told()
    desk.hear(1, LOOKING, leader, 99, round=1, epoch=99)
    desk.hear(2, LOOKING, leader, 99, round=7, epoch=99)
    desk.hear(2, FOLLOWING, leader, 99, round=1, epoch=99)
    assert (desk.told(), desk.election.round, desk.election.vote.leader) == ({}, 1, 3)


def test_a_server_without_weight_never_leads(kind: Kind) -> None:
    view = view_of(3, groups={1: [1, 2], 2: [3]}, weights={3: 0})
    desk = Desk(1, view, kind=kind)
    desk.hear(3, LOOKING, 3, 99, epoch=9)
    assert desk.election.vote.leader == 1
    # Nor does it hold on to itself, which in Java it does until the others have decided.
    desk = Desk(3, view, zxid=99, epoch=9, kind=kind)
    desk.hear(1, LOOKING, 1, 5)
    assert desk.election.vote.leader == 1


def test_who_lost_its_data_only_follows(kind: Kind) -> None:
    """A server that came up without the data it should have votes with -1: it must not outvote, nor be counted."""
    desk = Desk(3, view_of(3), zxid=NO_DATA, kind=kind)
    assert desk.told()[1] == (LOOKING, 3, NO_DATA, 1, 0)
    desk.hear(1, LOOKING, 3, NO_DATA)
    desk.hear(2, LOOKING, 2, 5)
    desk.hear(1, LOOKING, 2, 5)
    desk.wait(1000)
    assert now(desk.leader) is None
    desk.hear(1, FOLLOWING, 2, 5)
    desk.hear(2, LEADING, 2, 5)
    assert desk.leader == 2
    desk = Desk(2, view_of(3), kind=kind)
    desk.hear(3, LOOKING, 3, NO_DATA, epoch=9)
    assert desk.election.vote.leader == 2


# Two that do not count each other


def argue(one: Desk, other: Desk, ms: int) -> int:
    """How many votes go to and fro between the two, each delivered in 1 ms."""
    count = 0
    for _ in range(ms):
        for speaker, listener in ((one, other), (other, one)):
            speaker.wait(1)
            votes = [n for to, n in speaker.outbox.votes if to == listener.own.leader]
            speaker.outbox.votes.clear()
            for n in votes:
                count += 1
                listener.election.on_vote(listener.now_ms, speaker.own.leader, n)
    return count


@pytest.mark.parametrize("rounds", [1, 2])
def test_an_observer_and_a_voter_do_not_talk_without_end(rounds: int, kind: Kind) -> None:
    """Both look, the observer in a later round, or for better: each tells the other as fast as the link can (Java)."""
    view = view_of(3, observers=1)
    voter, observer = Desk(1, view, kind=kind), Desk(4, view, kind=kind)
    for _ in range(rounds - 1):
        observer.election.begin(observer.now_ms, observer.own)
    observer.hear(2, LOOKING, 2, round=rounds)
    assert argue(voter, observer, 10_000) < 40


def test_servers_with_different_views_do_not_talk_without_end(kind: Kind) -> None:
    newcomer, old = Desk(4, view_of(4), kind=kind), Desk(1, view_of(3), kind=kind)
    newcomer.election.begin(newcomer.now_ms, newcomer.own)
    assert argue(newcomer, old, 1000) < 30


def test_an_observer_asks_often_while_others_look(kind: Kind) -> None:
    desk = Desk(4, view_of(3, observers=1), kind=kind)
    desk.wait(100_000)
    desk.hear(1, LOOKING, 1)
    desk.told()
    desk.hear(1, LOOKING, 1)
    desk.wait(1600)
    assert sorted(desk.told()) == [1, 2, 3]


# Resends


def test_the_vote_is_sent_again_with_longer_and_longer_breaks(kind: Kind) -> None:
    desk = Desk(1, view_of(5), kind=kind)
    desk.told()
    for interval_ms in (200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000):
        desk.wait(interval_ms - 1)
        desk.election.on_tick(desk.now_ms)
        assert desk.told() == {}
        desk.wait(1)
        assert sorted(desk.told()) == [2, 3, 4, 5]
    # News begin the breaks anew.
    desk.hear(2, LOOKING, 2)
    desk.told()
    desk.wait(200)
    assert sorted(desk.told()) == [2, 3, 4, 5]


def test_links_are_made_anew_when_no_vote_could_leave(kind: Kind) -> None:
    desk = Desk(1, view_of(3), kind=kind)
    desk.election.on_delivered()
    desk.wait(200)
    assert not now(desk.outbox.reconnect)
    desk.wait(400)
    assert desk.outbox.reconnect
    # They are sent all the same, to be there when a link is.
    assert sorted(desk.told()) == [2, 3]


# After the decision


def test_who_looks_is_told_the_outcome(kind: Kind) -> None:
    desk = Desk(2, view_of(3), kind=kind)
    desk.hear(1, LOOKING, 2)
    desk.wait(200)
    desk.told()
    desk.hear(3, LOOKING, 3)
    assert desk.told() == {3: (LEADING, 2, 0, 1, 0)}
    desk.election.set_vote_epoch(7)
    desk.hear(3, LOOKING, 3, round=9)
    assert desk.told() == {3: (LEADING, 2, 0, 1, 7)}
    desk.hear(3, FOLLOWING, 2)
    assert desk.told() == {}
    desk.election.settled(FOLLOWING, Vote(1, 4, 8))
    desk.hear(3, LOOKING, 3)
    assert desk.told() == {3: (FOLLOWING, 1, 4, 1, 8)}


def test_a_new_election_forgets_the_last_one(kind: Kind) -> None:
    desk = Desk(2, view_of(3), kind=kind)
    desk.hear(1, FOLLOWING, 3, 9, round=4, epoch=2)
    desk.hear(1, LOOKING, 3)
    desk.hear(3, LOOKING, 3)
    assert now(desk.leader) == 3
    desk.told()
    desk.election.begin(desk.now_ms, Vote(2, 5, 1))
    assert (desk.leader, desk.election.state) == (None, LOOKING)
    assert desk.told() == {1: (LOOKING, 2, 5, 2, 1), 3: (LOOKING, 2, 5, 2, 1)}
    desk.hear(3, LEADING, 3, 9, round=4, epoch=2)
    desk.wait(1000)
    assert now(desk.leader) is None


def leading() -> Desk:
    desk = Desk(3, view_of(5))
    desk.hear(1, LOOKING, 3)
    desk.hear(2, LOOKING, 3)
    desk.wait(200)
    assert (desk.election.state, desk.election.is_deserted([])) == (LEADING, False)
    return desk


def test_a_leader_learns_that_its_voters_look_again() -> None:
    """ZOOKEEPER-3109: a voter changes its mind; Java's leader waits out its initLimit for it."""
    desk = leading()
    desk.hear(1, LOOKING, 4, 9)
    desk.hear(2, LOOKING, 2, round=2)
    desk.hear(4, LOOKING, 3)
    assert not desk.election.is_deserted([])
    desk.hear(5, LOOKING, 4, 9)
    assert desk.election.is_deserted([])
    # Who follows in the meantime is there, whatever it said.
    assert not desk.election.is_deserted([1])
    # Who comes to the same vote later is no deserter.
    desk.hear(5, LOOKING, 3)
    assert not desk.election.is_deserted([])
    desk.hear(5, LOOKING, 4, 9)
    desk.election.settled(FOLLOWING, Vote(4, 9, 0))
    assert not desk.election.is_deserted([])


# What nobody should say


def test_a_server_is_not_told_its_own_vote(kind: Kind) -> None:
    """Somebody says it is this server."""
    desk = Desk(3, view_of(3), kind=kind)
    desk.told()
    desk.hear(3, LOOKING, 1, LAST, LAST, LAST)
    assert (desk.told(), desk.election.vote.leader, desk.election.round) == ({}, 3, 1)


def test_nothing_is_said_before_the_first_election() -> None:
    election = Election(1, view_of(3), outbox := Outbox())
    election.on_vote(0, 2, Desk(2, view_of(3)).outbox.votes[0][1])
    election.on_tick(99_999)
    assert (outbox.votes, election.next_deadline_ms()) == ([], None)


def test_the_last_round_is_a_round_like_any_other(kind: Kind) -> None:
    """Row 40 of the bad inputs: round 2^63-1. There is no later one; all stay in it and still elect."""
    net = Ensemble(view_of(3), [Vote(sid, 5, 1) for sid in (1, 2, 3)], kind=kind)
    net.start(1)
    first = net.hosts[1].election
    assert first is not None
    first.round = LAST
    first.begin(0, Vote(1, 5, 1))
    assert first.round == LAST
    net.start(2)
    assert net.settle() == 2
    net.crash(2)
    net.start(3)
    net.run(3000)
    assert net.settle() == 3


def test_an_absurd_vote_ends_with_its_round(kind: Kind) -> None:
    """Row 40: (zxid, epoch) 2^63-1 for a dead server, from one that has a vote. A round is lost, the next is well."""
    net = Ensemble(view_of(3), [Vote(sid, 5, 1) for sid in (1, 2, 3)], kind=kind)
    net.start(1, 2)
    liar = Desk(3, view_of(3), zxid=LAST, epoch=LAST)
    for sid in (1, 2):
        host = net.hosts[sid].election
        assert host is not None
        host.on_vote(0, 3, liar.outbox.votes[0][1])
    net.run(500)
    assert [e.vote.leader for sid in (1, 2) if (e := net.hosts[sid].election) is not None] == [3, 3]
    net.run(1000)
    assert net.settle() == 2


def test_a_flood_is_answered_once_a_turn(kind: Kind) -> None:
    """Row 40: thousands of notifications of one server, of old rounds and of later and later ones."""
    desk = Desk(3, view_of(3), kind=kind)
    desk.told()
    for _ in range(5_000):
        desk.hear(1, LOOKING, 1, round=0)
    assert desk.told() == {1: (LOOKING, 3, 0, 1, 0)}
    for round_ in range(2, 500):
        desk.hear(1, LOOKING, 1, round=round_)
    vote = (LOOKING, 3, 0, 499, 0)
    assert desk.told() == {1: vote, 2: vote}
    desk.hear(2, LOOKING, 3, round=499)
    assert desk.leader == 3


def test_a_vote_shows_what_it_is_for() -> None:
    assert repr(Vote(3, 0x100000002, 1)) == "Vote(leader=3, zxid=0x100000002, epoch=1)"
    assert said(Desk(1, view_of(2)).outbox.votes[0][1])[0] == LOOKING

"""Elections in the lab: who wins and why, by the machine of the server and by polling."""

from __future__ import annotations

import random

import pytest

from coati.errors import ConfigError
from coati.lab.ballots import Ballot, read_ballots, zxid_text
from coati.lab.election import compare, elections
from coati.lab.fast import FastContest, compared, reason
from coati.lab.polling import ANSWER_MS, Poll, PollingContest
from coati.lab.story import FAULT, HEAR, LOST, NOTE, SEND, STATE, Story, text_of
from coati.zab.election import FINALIZE_MS, Vote
from tests.zab.electionkit import Desk, view_of

BOTH = [FastContest, PollingContest]


def states(story: Story) -> dict[str, str]:
    """The last state of each server."""
    return {step.lane: step.label for step in story.steps if step.kind == STATE}


# What the books say (rows 59, 79 and 82 of section 10 of the specification).


@pytest.mark.parametrize("kind", BOTH)
def test_row_59_three_servers_start_and_the_largest_myid_wins(kind: type[FastContest]) -> None:
    story = kind(read_ballots("1,0,1 2,0,1 3,0,1")).run()
    assert story.facts["leader"] == 3
    assert states(story) == {"1": "FOLLOWING 3", "2": "FOLLOWING 3", "3": "LEADING"}
    counted = {step.lane for step in story.steps if step.kind == NOTE and "more than half" in step.text}
    assert counted == {"1", "2", "3"}, "every server finds the majority by itself"


@pytest.mark.parametrize("kind", BOTH)
def test_row_79_the_first_alone_cannot_elect_and_with_the_second_that_one_wins(kind: type[FastContest]) -> None:
    story = kind(read_ballots("1,0 2,0", down="3", start="1 2")).run()
    assert story.facts["leader"] == 2
    assert states(story) == {"1": "FOLLOWING 2", "2": "LEADING"}
    decided = [step for step in story.steps if step.kind == STATE and step.label != "LOOKING"]
    assert all(step.at_ms >= 1000 for step in decided), "not before the second has started"


def test_row_79_says_that_the_first_changes_its_vote_and_the_second_does_not() -> None:
    story = FastContest(read_ballots("1,0 2,0")).run()
    changed = [step.lane for step in story.steps if step.kind == HEAR and "better, votes for 2 now" in step.text]
    assert changed == ["1"]
    (kept,) = [step.text for step in story.steps if "not better, keeps its vote" in step.text]
    assert (
        kept == "(1, 0, 0) against its own (2, 0, 0): epoch 0 = 0, zxid 0 = 0, myid 1 < 2: not better, keeps its vote"
    )


@pytest.mark.parametrize("kind", BOTH)
def test_row_82_the_leader_is_lost_and_the_larger_zxid_wins(kind: type[FastContest]) -> None:
    story = kind(read_ballots("1,123 3,122", down="2"), led_by=2).run()
    assert story.facts["leader"] == 1
    assert states(story) == {"1": "LEADING", "3": "FOLLOWING 1"}


def test_row_82_goes_from_following_to_looking() -> None:
    story = FastContest(read_ballots("1,123 3,122", down="2"), led_by=2).run()
    of_3 = [step.label for step in story.steps if step.kind == STATE and step.lane == "3"]
    assert of_3 == ["FOLLOWING 2", "LOOKING", "FOLLOWING 1"]
    (fault,) = [step for step in story.steps if step.kind == FAULT]
    assert (fault.lane, fault.label) == ("2", "down")


@pytest.mark.parametrize("kind", BOTH)
def test_of_five_that_start_one_after_the_other_the_third_leads_and_the_later_follow(kind: type[FastContest]) -> None:
    story = kind(read_ballots("1,0 2,0 3,0 4,0 5,0", start="1 2 3 4 5")).run()
    assert states(story) == {str(sid): "LEADING" if sid == 3 else "FOLLOWING 3" for sid in range(1, 6)}
    elected_ms = story.facts["elected_ms"]
    assert isinstance(elected_ms, int)
    assert 2000 < elected_ms < 3000, "when the third is there, and before the fourth"


# The machine.


def test_the_wait_for_who_may_be_better_is_the_machines() -> None:
    alone = FastContest(read_ballots("1,0 2,0", down="3")).run()
    elected_ms = alone.facts["elected_ms"]
    assert isinstance(elected_ms, int)
    assert elected_ms >= FINALIZE_MS
    assert FastContest(read_ballots("1,0 2,0", down="3"), led_by=3).run().facts["elected_ms"] == 20, "it is known gone"


def test_an_epoch_is_worth_more_than_a_zxid() -> None:
    story = FastContest(read_ballots("1,9,2 2,10,1 3,10,1")).run()
    assert story.facts["leader"] == 1
    assert any("epoch 2 > 1: better" in step.text for step in story.steps)


def test_the_field_that_is_told_is_the_one_that_the_machine_goes_by() -> None:
    dice = random.Random(7)
    machine = Desk(1, view_of(3)).election
    for _ in range(500):
        one, other = (Vote(dice.randint(1, 3), dice.randint(0, 2), dice.randint(0, 2)) for _ in range(2))
        name, new, old = compared(one, other)[-1]
        assert machine.is_better(one, other) == (new > old), f"{one} {other}"
        assert reason(one, other).split(", ")[-1].startswith(name)


def test_what_is_told_of_a_comparison_is_what_became_of_the_vote() -> None:
    for seed in range(40):
        dice = random.Random(seed)
        ballots = [Ballot(sid, dice.randint(0, 3), dice.randint(0, 2), dice.choice((0, 7, 300))) for sid in range(1, 6)]
        story = FastContest(ballots).run()
        own: dict[str, object] = {}
        for step in story.steps:
            if step.kind == HEAR and "is_better" in step.facts and "against" in step.text:
                changed = own[step.lane] != step.facts["vote"]
                assert changed == step.facts["is_better"] == ("better, votes for" in step.text), f"seed {seed}: {step}"
            if "vote" in step.facts:
                own[step.lane] = step.facts["vote"]
        running = [(one.epoch, one.zxid, one.sid) for one in ballots if one.start_ms < 300]
        if len(running) == 5:
            assert story.facts["leader"] == max(running)[2], f"seed {seed}"
        assert story.facts["leader"], f"seed {seed}"


def test_all_that_arrives_was_sent() -> None:
    story = FastContest(read_ballots("1,0 2,0 3,0", start="1 2 3", gap_ms=100)).run()
    sent = sum(len(step.peers) for step in story.steps if step.kind == SEND)
    refused = sum(len(step.peers) for step in story.steps if step.kind == LOST)
    heard = [step for step in story.steps if step.kind == HEAR]
    assert all(step.at_ms - step.sent_ms == 10 for step in heard)
    assert story.facts["messages"] == len(heard)
    assert len(heard) + refused <= sent


def begun(contest: FastContest, *sids: int) -> list[str]:
    """They look, and what is heard within 40 ms is given."""
    for sid in sids:
        contest.running[sid] = None
        contest.begin(sid)
    before = len(contest.story.steps)
    contest.clock.advance(40)
    return [f"{step.lane} {step.text}" for step in contest.story.steps[before:] if step.kind == HEAR]


def test_a_round_that_is_over_is_not_counted_and_a_later_one_is_entered() -> None:
    heard = begun(FastContest(read_ballots("1,0 2,0 3,0 4,0", down="4")), 1, 2, 3, 3)
    assert "3 (1, 0, 0) is of round 1, which is over: not counted, 1 is told of round 2" in heard
    assert "1 (3, 0, 0) is of round 2: enters it, and votes for (3, 0, 0)" in heard


def test_a_later_round_is_put_off_while_this_one_ends() -> None:
    contest = FastContest(read_ballots("1,0 2,0 3,0 4,0 5,0", down="5"))
    begun(contest, 1, 2, 3, 4)
    heard = begun(contest, 1)
    assert "4 (1, 0, 0) is of round 2: put off, as this round is about to end without it" in heard


def test_a_leader_that_does_not_say_so_itself_is_not_joined() -> None:
    contest = FastContest(read_ballots("1,0 2,0 3,0 4,0 5,0"))
    begun(contest, 1, 2, 3, 4, 5)
    del contest.running[5]
    heard = begun(contest, 1)
    assert heard.count("1 FOLLOWING, leader 5: not enough yet to join") == 3
    assert any("but 5 itself has not said that it leads" in step.text for step in contest.story.steps)
    assert states(contest.story)["1"] == "LOOKING"


# Without an end.


@pytest.mark.parametrize("kind", BOTH)
def test_without_a_quorum_nobody_leads(kind: type[FastContest]) -> None:
    story = kind(read_ballots("1,0 2,0", down="3 4")).run()
    assert story.failure == "no leader: 2 of 4 servers run, and more than half is 3"
    assert states(story) == {"1": "LOOKING", "2": "LOOKING"}


def test_a_limit_may_be_too_short() -> None:
    assert FastContest(read_ballots("1,0 2,0 3,0"), limit_ms=15).run().failure == "no leader within 15 ms"


def test_one_server_leads_itself() -> None:
    for kind in BOTH:
        assert kind(read_ballots("4,7")).run().facts["leader"] == 4


# Polling.


def test_a_poll_counts_when_all_have_answered() -> None:
    poll = Poll(1, 5, [2, 3])
    poll.begin(100)
    assert (poll.asked, poll.next_deadline_ms()) == ([2, 3], 100 + ANSWER_MS)
    poll.on_answer(110, 2, 1, (7, 2))
    assert poll.leader == 0
    poll.on_answer(120, 3, 1, (6, 3))
    assert (poll.vote, poll.round, poll.leader) == ((7, 2), 2, 0)
    poll.on_answer(125, 3, 1, (9, 3))
    assert poll.heard == {1: (7, 2)}, "an answer to the first round is too late"
    poll.on_answer(130, 2, 2, (7, 2))
    poll.on_tick(120 + ANSWER_MS - 1)
    assert poll.leader == 0, "the third may still answer"
    poll.on_answer(321, 3, 2, (7, 2))
    assert poll.leader == 2


def test_a_poll_does_not_wait_for_ever() -> None:
    poll = Poll(1, 5, [2, 3])
    poll.begin(0)
    poll.on_answer(10, 2, 1, (5, 1))
    poll.on_tick(ANSWER_MS - 1)
    assert poll.leader == 0
    poll.on_tick(ANSWER_MS)
    assert poll.leader == 1


def test_polling_takes_more_messages_and_more_time() -> None:
    stories = elections(read_ballots("1,0 2,0 3,0"), "both")
    fast, slow = (story.facts for story in stories)
    assert fast["leader"] == slow["leader"] == 3
    for what in ("messages", "rounds", "elected_ms"):
        one, other = fast[what], slow[what]
        assert isinstance(one, int)
        assert isinstance(other, int)
        assert one < other, what
    assert compare(stories)[0].split() == ["algorithm", "leader", "elected", "at", "rounds", "messages", "refused"]
    assert compare(stories[:1]) == []


def test_who_follows_somebody_that_does_not_lead_looks_again() -> None:
    class Quiet(PollingContest):
        def begin(self, sid: int) -> None:
            self.running[sid] = None

    contest = Quiet(read_ballots("1,0 2,0 3,0 4,0 5,0"))
    contest.settle(1, 2, "by a mistake")
    contest.settle(3, 3, "with a quorum")
    contest.settle(2, 2, "without one")
    contest.settle(4, 3, "with a quorum")
    contest.settle(5, 3, "with a quorum")
    contest.clock.advance(1000)
    looked = [(step.lane, step.text) for step in contest.story.steps if step.label == "LOOKING"]
    assert looked == [("1", "server 2 does not lead: looks again"), ("2", "no quorum follows it: looks again")]
    assert contest.leader() == 3


# What is given.


@pytest.mark.parametrize(
    ("votes", "more", "complaint"),
    [
        ("x", {}, "a vote is myid,zxid or myid,zxid,epoch, not 'x'"),
        ("", {}, "there is no vote"),
        ("1,0 1,5", {}, "server 1 has two votes"),
        ("1,0,0,0", {}, "a vote is myid,zxid"),
        ("0,0", {}, "the number of a server is 1 to 255, not 0"),
        ("1,-1", {}, "a zxid is 0 to"),
        ("1,nine", {}, "a zxid is a number, not 'nine'"),
        ("1,0x300000001,2", {}, "server 1 has logged 0x300000001, so its epoch is 3 at least"),
        ("1,0 3,0", {"down": "7"}, "server 7 is down and has no vote, and nothing is said of server 2"),
        ("1,0 2,0", {"down": "1 2"}, "none of the servers runs"),
        ("1,0 2,0", {"start": "1 3"}, "server 3 is to start"),
        ("1,0 2,0", {"start": "1 1"}, "server 1 is to start twice"),
        ("1,0 2,0", {"start": "1"}, "it is not said when server 2 starts"),
        ("1,0 2,0", {"start": "1 2@soon"}, "a time in ms is a number, not 'soon'"),
        (" ".join(f"{sid},0" for sid in range(1, 17)), {}, "the lab has room for 15"),
    ],
)
def test_votes_that_are_none(votes: str, more: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_ballots(votes, down=more.get("down", ""), start=more.get("start", ""))
    assert complaint in str(error.value)


def test_votes_are_read() -> None:
    assert read_ballots("3,0x200000007 1,5,1", down="2", start="3@40 1", gap_ms=10) == [
        Ballot(1, 5, 1, 50), Ballot(2, is_down=True), Ballot(3, 0x200000007, 2, 40),
    ]  # fmt: skip
    assert (zxid_text(123), zxid_text(0x200000007)) == ("123", "0x200000007")


def test_who_has_led_until_now_is_down() -> None:
    with pytest.raises(ConfigError):
        FastContest(read_ballots("1,0 2,0 3,0"), led_by=2)
    with pytest.raises(ConfigError):
        FastContest(read_ballots("1,0 2,0 3,0"), led_by=9)


def test_the_same_election_has_the_same_text() -> None:
    texts = [text_of(FastContest(read_ballots("1,0 2,0 3,0", start="2 1 3", gap_ms=7)).run()) for _ in range(2)]
    assert texts[0] == texts[1]
    assert "\x1b" not in texts[0], "readable without colour"
    assert max(map(len, texts[0].splitlines())) <= 118

"""Elections with one planted mistake each, and the test that must notice; and one that waits as Java does.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import random

import pytest

from coati.zab import election as election_module

if not (election_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

from collections.abc import Callable

from coati.wire.quorum import LEADING, Notification
from coati.zab.election import Election, Vote
from tests.zab import test_election as rules
from tests.zab import test_election_storm as storms
from tests.zab.electionkit import Ensemble, Kind, view_of
from tests.zab.javaelection import JavaElection


class IgnoresZxids(Election):
    def is_better(self, new: Vote, old: Vote) -> bool:
        return super().is_better(Vote(new.leader, 0, new.epoch), Vote(old.leader, 0, old.epoch))


class IgnoresEpochs(Election):
    def is_better(self, new: Vote, old: Vote) -> bool:
        return super().is_better(Vote(new.leader, new.zxid, 0), Vote(old.leader, old.zxid, 0))


class IgnoresWeights(Election):
    def is_better(self, new: Vote, old: Vote) -> bool:
        return (new.epoch, new.zxid, new.leader) > (old.epoch, old.zxid, old.leader)


class FollowsTheDead(Election):
    """Without checkLeader."""

    def _is_led(self, said: dict[int, Notification], n: Notification) -> bool:
        return True


class BelievesItsFormerLife(Election):
    """checkLeader without the round."""

    def _is_led(self, said: dict[int, Notification], n: Notification) -> bool:
        return n.leader == self._sid or said.get(n.leader, n).state == LEADING


class ComparesZxidsOutside(Election):
    """ZOOKEEPER-1732."""

    def _may_join(self, said: dict[int, Notification], n: Notification) -> bool:
        return super()._may_join({sid: other for sid, other in said.items() if other.zxid == n.zxid}, n)


class KeepsVotes(Election):
    """Those of one round count in the next."""

    def _enter(self, now_ms: int, round_: int, vote: Vote) -> None:
        votes = self._votes
        super()._enter(now_ms, round_, vote)
        self._votes = votes | self._votes


class NeverWaits(Election):
    """A quorum is enough."""

    def _is_final(self) -> bool:
        return True


class TakesAnyWordForAVote(Election):
    """Who follows elsewhere is counted among those that were heard."""

    def _is_final(self) -> bool:
        return all(sid in self._votes for sid in self._view.voters())


class RemembersTheRestarted(Election):
    """Who begins anew is still counted for what it said before."""

    def _forget(self, sender: int) -> None:
        return


class StaysSilent(Election):
    """Nobody is told anything but what all are told."""

    def _on_looking(self, now_ms: int, sender: int, n: Notification) -> None:
        super()._on_looking(now_ms, sender, n)
        if len(self._outbox.votes) == 1:
            self._outbox.votes.clear()


class Argues(Election):
    """Everything is answered, as often as it is said."""

    def _answer(self, now_ms: int, sender: int) -> None:
        self._send(sender)


class LeavesAtOnce(Election):
    """A later round is entered though this one is about to end."""

    def _is_put_off(self, sender: int, n: Notification) -> bool:
        return False


class WaitsForTheDead(Election):
    """Whose port is closed is waited for all the same."""

    def on_refused(self, now_ms: int, sid: int) -> None:
        return


class ElectsTheDead(Election):
    """Nobody who does not run is waited for, also not the one elected."""

    def _is_final(self) -> bool:
        return all(sid in self._heard or sid in self._gone for sid in self._view.voters())


class HurriesAtTheStart(Election):
    """The first election of a process goes by closed ports as any other."""

    def begin(self, now_ms: int, vote: Vote) -> None:
        super().begin(now_ms, vote)
        self._is_first = False


class BelievesInDeath(Election):
    """Who was not there once is gone, whatever it says later."""

    def on_vote(self, now_ms: int, sender: int, n: Notification) -> None:
        gone = dict(self._gone)
        super().on_vote(now_ms, sender, n)
        self._gone = gone
        self._count(now_ms)


MISTAKES: list[tuple[Kind, Callable[..., None], tuple[object, ...]]] = [
    (IgnoresZxids, rules.test_the_larger_zxid_wins_when_the_leader_is_lost, ()),
    (IgnoresEpochs, rules.test_a_better_vote_is_taken_and_told, (1, 1, 3)),
    (IgnoresWeights, rules.test_a_server_without_weight_never_leads, ()),
    (FollowsTheDead, rules.test_nobody_follows_a_leader_that_does_not_say_so, (3,)),
    (BelievesItsFormerLife, rules.test_a_leader_is_not_made_by_followers_of_its_former_life, ()),
    (ComparesZxidsOutside, rules.test_a_late_joiner_compares_only_leader_and_epoch, ()),
    (KeepsVotes, rules.test_votes_do_not_count_in_the_next_round, ()),
    (NeverWaits, rules.test_a_better_vote_in_the_last_moment_is_waited_for, ()),
    (TakesAnyWordForAVote, rules.test_who_has_decided_was_not_heard_in_this_round, ()),
    (RemembersTheRestarted, rules.test_a_server_that_came_back_is_not_counted_for_what_it_said_before, ()),
    (StaysSilent, rules.test_who_votes_for_less_is_told_better, ()),
    (Argues, rules.test_an_observer_and_a_voter_do_not_talk_without_end, (2,)),
    (Argues, rules.test_servers_with_different_views_do_not_talk_without_end, ()),
    (WaitsForTheDead, rules.test_a_crashed_leader_is_not_waited_for, ()),
    (WaitsForTheDead, rules.test_the_larger_zxid_wins_when_the_leader_is_lost, ()),
    (ElectsTheDead, rules.test_a_crash_of_the_one_elected_decides_nothing, ()),
    (HurriesAtTheStart, rules.test_who_is_starting_waits_for_others_that_may_be_too, ()),
    (BelievesInDeath, rules.test_who_was_refused_and_speaks_is_waited_for_again, ()),
    (LeavesAtOnce, rules.test_a_later_round_waits_for_the_end_of_this_one_and_is_answered, ()),
]


@pytest.mark.parametrize(("kind", "test", "args"), MISTAKES, ids=[kind.__name__ for kind, _, _ in MISTAKES])
def test_a_planted_mistake_is_noticed(kind: Kind, test: Callable[..., None], args: tuple[object, ...]) -> None:
    with pytest.raises(AssertionError):
        test(*args, kind=kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [IgnoresZxids, IgnoresEpochs, IgnoresWeights])
def test_the_storm_notices_too(kind: Kind) -> None:
    with pytest.raises(AssertionError, match="seed"):
        storms.test_any_storm_is_followed_by_one_leader(7, kind)


def duel(seed: int, kind: Kind) -> tuple[int, int]:
    """All of an ensemble start within 100 ms and reach each other within 20: who leads, and when that is agreed."""
    dice = random.Random(seed)
    view = view_of(dice.choice([3, 5]))
    votes = [Vote(sid, dice.randint(0, 3), 0) for sid in view.voters()]
    net = Ensemble(view, votes, seed=seed, kind=kind)
    for sid in dice.sample(view.voters(), len(votes)):
        net.start(sid)
        net.run(dice.randint(0, 25))
    leader = net.settle()
    return leader, net.now_ms


def test_who_was_heard_is_not_waited_for_and_the_outcome_is_that_of_java() -> None:
    """finalizeWait: the same leader as with the whole wait, and 200 ms sooner."""
    for seed in range(40):
        leader, soon_ms = duel(seed, Election)
        as_java, late_ms = duel(seed, JavaElection)
        assert leader == as_java, f"seed {seed}"
        assert soon_ms + 150 <= late_ms, f"seed {seed}: {soon_ms} and {late_ms} ms"


@pytest.mark.slow
@pytest.mark.parametrize("voters", [3, 5, 7])
def test_servers_of_both_kinds_come_to_one_leader(voters: int) -> None:
    """Java's may be a minute late: they hear nothing between their resends."""
    for seed in storms.SEEDS:
        net = storms.storm(seed, voters, other=JavaElection)
        leader = net.settle(70_000)
        net.run(10_000)
        assert net.agreed() == leader, f"seed {seed}: {net}"

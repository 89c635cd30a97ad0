"""Leaders with one planted mistake each, Java's own where it made it, and the test that must notice.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import pytest

from coati.zab import leader as leader_module

if not (leader_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

from collections import deque
from collections.abc import Callable

from coati.wire.quorum import Packet
from coati.zab.attendance import INTRODUCED, SYNCED, LearnerLink
from coati.zab.leader import ASKING, PROPOSING, Leader
from tests.zab import leaderkit, test_leader, test_leader_bad_input, test_leader_joining


class TellsItsEpochAtOnce(Leader):
    def _advance(self) -> None:
        super()._advance()
        if self._phase == PROPOSING:
            self._phase = ASKING
            for learner in self._learners.values():
                if learner.state == INTRODUCED:
                    self._ask(learner)


class WritesItsEpochFirst(Leader):
    def _advance(self) -> None:
        self._synced_zxid = self._last_zxid
        super()._advance()


class NeedsNoEpochOfItsOwn(Leader):
    def _advance(self) -> None:
        self._has_current_epoch = True
        super()._advance()


class CountsObservers(Leader):
    def _on_introduced(self, learner: LearnerLink, packet: Packet) -> None:
        super()._on_introduced(learner, packet)
        learner.is_voter = True
        self._advance()


class CountsWhoIsGone(Leader):
    def _discount(self, sid: int) -> None:
        pass


class CommitsBeforeItIsDurable(Leader):
    def _commit(self) -> None:
        self._synced_zxid = self.proposed_zxid
        super()._commit()


class ForgetsWhatIsOutstanding(Leader):
    def _begin_sync(self, learner: LearnerLink) -> None:
        outstanding, self._outstanding = self._outstanding, deque()
        super()._begin_sync(learner)
        self._outstanding = outstanding


class SendsNewleaderBeforeWhatWasHeld(Leader):
    def on_snapshot_sent(self, link: int) -> None:
        learner = self._learners[link]
        self._finish_sync(learner)
        self.attendance.end_holding(learner)


class TakesAnyAckForNewleader(Leader):
    def _on_new_leader_acked(self, learner: LearnerLink, zxid: int) -> None:
        super()._on_new_leader_acked(learner, self._new_leader_zxid)


class BelievesEveryAck(Leader):
    def _on_ack(self, learner: LearnerLink, zxid: int) -> None:
        if learner.state < SYNCED:
            super()._on_ack(learner, zxid)
        else:
            self._acked[learner.sid] = zxid
            self._commit()


class LeadsWhoIsAhead(Leader):
    def _on_promised(self, learner: LearnerLink, last_zxid: int, epoch: int) -> None:
        super()._on_promised(learner, min(last_zxid, self._last_zxid), min(epoch, self._current_epoch))


class AnswersSyncsAtOnce(Leader):
    def _wait_for_sync(self, link: int, token: object) -> None:
        self.rounds._is_linearizable = False
        super()._wait_for_sync(link, token)


MUTANTS: list[tuple[type[Leader], Callable[[], None]]] = [
    (TellsItsEpochAtOnce, test_leader.test_the_epoch_is_durable_before_anybody_hears_of_it),
    (WritesItsEpochFirst, test_leader.test_its_history_is_durable_before_its_epoch),
    (NeedsNoEpochOfItsOwn, test_leader.test_its_own_vote_needs_its_epoch_on_disk),
    (CountsObservers, test_leader.test_observers_and_strangers_are_no_quorum),
    (CountsObservers, test_leader_bad_input.test_who_has_no_vote_acknowledges_nothing),
    (CountsWhoIsGone, test_leader_joining.test_an_ack_does_not_outlive_its_link),
    (CountsWhoIsGone, test_leader.test_an_answer_does_not_outlive_its_link),
    (CommitsBeforeItIsDurable, test_leader.test_a_proposal_needs_a_quorum_and_its_own_disk),
    (ForgetsWhatIsOutstanding, test_leader_joining.test_what_is_outstanding_comes_before_newleader),
    (
        SendsNewleaderBeforeWhatWasHeld,
        test_leader_joining.test_what_is_written_during_a_snapshot_comes_behind_it,
    ),
    (TakesAnyAckForNewleader, test_leader_bad_input.test_an_ack_of_newleader_counts_once_the_leader_has_it_too),
    (BelievesEveryAck, test_leader_bad_input.test_who_has_no_vote_acknowledges_nothing),
    (LeadsWhoIsAhead, lambda: test_leader.test_who_is_ahead_is_not_led(1, "1:4")),
    (AnswersSyncsAtOnce, test_leader.test_a_sync_is_answered_once_a_quorum_still_follows),
]


@pytest.mark.parametrize(("mutant", "test"), MUTANTS)
def test_a_planted_mistake_is_found(
    mutant: type[Leader], test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    test()
    monkeypatch.setattr(leaderkit, "Leader", mutant)
    with pytest.raises(AssertionError):
        test()

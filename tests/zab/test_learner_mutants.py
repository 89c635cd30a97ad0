"""Learners with one planted mistake each, Java's own where it made it, and the test that must notice.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import pytest

from coati.zab import learner as learner_module

if not (learner_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

from collections.abc import Callable

from coati.wire.quorum import ACK, Packet
from coati.zab.learner import PROMISING, SYNCING, Learner
from tests.zab import test_learner, test_ring


class WritesTheEpochFirst(Learner):
    def _flush(self) -> None:
        self._enter(PROMISING)
        self.outbox.current_epoch = self.epoch


class AcknowledgesTheLeaderAtOnce(Learner):
    def _flush(self) -> None:
        self._acknowledge_leader()


class AcknowledgesWhatItReceives(Learner):
    def _on_proposal(self, zxid: int, payload: bytes | None) -> None:
        super()._on_proposal(zxid, payload)
        if self._acks:
            self._send(ACK, zxid)


class AcknowledgesBeforeNewleader(Learner):
    def on_connected(self, link: int, now_ms: int) -> None:
        super().on_connected(link, now_ms)
        self._acks = True

    def on_synced(self, zxid: int) -> None:
        super().on_synced(zxid)
        self._acknowledge()


class LosesCommitsOfTheSynchronisation(Learner):
    def _commit(self, entry: tuple[int, bytes]) -> None:
        if self.is_serving:
            super()._commit(entry)


class DeliversWhatIsProposed(Learner):
    def _on_proposal(self, zxid: int, payload: bytes | None) -> None:
        super()._on_proposal(zxid, payload)
        self._committed.append((zxid, payload or b""))


class DeliversBeforeItIsDurable(Learner):
    def _deliver(self) -> None:
        self._synced_zxid = self.proposed_zxid
        super()._deliver()


class TakesHoles(Learner):
    def _log(self, zxid: int, payload: bytes | None) -> tuple[int, bytes] | None:
        self.proposed_zxid = zxid - 1
        return super()._log(zxid, payload)


class TakesWhatTheSnapshotHas(Learner):
    def _log(self, zxid: int, payload: bytes | None) -> tuple[int, bytes] | None:
        if zxid <= self._snapshot_zxid:
            self.proposed_zxid = zxid - 1
        return super()._log(zxid, payload)


class ForgetsTheTail(Learner):
    def take_tail(self) -> list[tuple[int, bytes]]:
        return []


class KeepsTheTailThatWasCut(Learner):
    def on_truncated(self, last_zxid: int) -> None:
        committed = list(self._committed)
        super().on_truncated(last_zxid)
        self._committed.clear()
        self._committed.extend(committed)


class GoesOnWithAnotherCut(Learner):
    def on_truncated(self, last_zxid: int) -> None:
        self._truncate_to = last_zxid
        super().on_truncated(last_zxid)


class GoesOnAtTheOldEnd(Learner):
    def on_truncated(self, last_zxid: int) -> None:
        old_zxid = self.proposed_zxid
        super().on_truncated(last_zxid)
        self.proposed_zxid = old_zxid


class DoesNotWaitForTheSnapshot(Learner):
    def _on_snap(self, zxid: int) -> None:
        super()._on_snap(zxid)
        self._enter(SYNCING)


class TakesTheSnapshotForItsHistoryTooEarly(Learner):
    def _on_snap(self, zxid: int) -> None:
        super()._on_snap(zxid)
        self.delivered_zxid = zxid


class KeepsTheCutTxnsInMemory(Learner):
    """Between TRUNC and NEWLEADER nothing is logged, as in Java."""

    def _on_proposal(self, zxid: int, payload: bytes | None) -> None:
        super()._on_proposal(zxid, payload)
        if self.state == SYNCING:
            self.outbox.log.pop()


class GoesOnWhenItIsOver(Learner):
    def on_lost(self, link: int) -> None:
        held = list(self._held)
        super().on_lost(link)
        self._held.extend(held)

    def on_epochs(self, accepted: int, current: int) -> None:
        super().on_epochs(accepted, current)
        if self.is_over:
            self.state = SYNCING
            self._resume()

    def _hold(self, packet: Packet) -> None:
        self._held.append(packet)


Test = Callable[..., None]
CASES: list[tuple[str, type[Learner], Test]] = [
    ("4643", WritesTheEpochFirst, test_learner.test_the_epoch_is_written_behind_the_history),
    ("3911", AcknowledgesTheLeaderAtOnce, test_learner.test_the_history_is_durable_before_newleader_is_acknowledged),
    ("sync", AcknowledgesWhatItReceives, test_learner.test_a_follower_joins_in_javas_order),
    ("4785 ack", AcknowledgesWhatItReceives, test_learner.test_nothing_is_served_that_a_crash_could_lose),
    ("4785", DeliversBeforeItIsDurable, test_learner.test_nothing_is_served_that_a_crash_could_lose),
    ("4685", AcknowledgesBeforeNewleader, test_learner.test_no_proposal_is_acknowledged_before_newleader),
    ("4394", LosesCommitsOfTheSynchronisation, test_learner.test_a_commit_during_synchronisation_finds_its_proposal),
    ("1549", DeliversWhatIsProposed, test_learner.test_only_what_is_committed_is_delivered),
    ("4925", TakesHoles, test_learner.test_a_diff_with_a_hole_is_refused),
    ("2845", ForgetsTheTail, test_learner.test_what_is_logged_and_not_delivered_survives_the_role),
    ("2845 cut", KeepsTheTailThatWasCut, test_learner.test_a_cut_within_the_tail_leaves_the_tree_alone),
    ("3701", GoesOnWithAnotherCut, test_learner.test_a_log_that_was_not_cut_as_asked_is_not_gone_on_with),
    ("1489", GoesOnAtTheOldEnd, test_learner.test_a_cut_log_goes_on_at_the_cut),
    ("2872", DoesNotWaitForTheSnapshot, test_learner.test_a_snapshot_is_installed_before_anything_is_promised),
    ("3642", TakesTheSnapshotForItsHistoryTooEarly, test_learner.test_an_interrupted_snapshot_changes_nothing),
    ("5094", KeepsTheCutTxnsInMemory, test_learner.test_what_a_cut_synchronisation_brought_is_in_the_log),
    ("4712", GoesOnWhenItIsOver, test_learner.test_a_role_that_is_over_writes_nothing),
]


@pytest.mark.parametrize(("make", "test"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_planted_mistake_is_noticed(make: type[Learner], test: Test) -> None:
    with pytest.raises((AssertionError, IndexError)):
        test(make=make)


@pytest.mark.parametrize("is_observer", [False, True])
@pytest.mark.parametrize("make", [TakesWhatTheSnapshotHas, LosesCommitsOfTheSynchronisation])
def test_a_mistake_behind_the_snapshot_is_noticed(make: type[Learner], is_observer: bool) -> None:
    with pytest.raises(AssertionError):
        test_learner.test_txns_between_snapshot_and_uptodate_are_delivered_once(is_observer, make)


@pytest.mark.parametrize(
    "make",
    [
        LosesCommitsOfTheSynchronisation,
        DeliversBeforeItIsDurable,
        DeliversWhatIsProposed,
        ForgetsTheTail,
        KeepsTheCutTxnsInMemory,
    ],
)
def test_the_ring_notices_too(make: type[Learner]) -> None:
    """Within a few seeds, whatever it is."""
    with pytest.raises(AssertionError):
        sail(make)


def sail(make: type[Learner]) -> None:
    for first in range(0, 8, 4):
        test_ring.test_no_server_has_another_history(first, make)

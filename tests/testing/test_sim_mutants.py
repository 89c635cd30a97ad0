"""Whole simulated ensembles with one planted mistake each: the checkers tell it by its id within a few seeds.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import pytest

from coati.zab import learner as learner_module

if not (learner_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

import logging
from collections.abc import Callable, Iterator

from coati.server.replica import Replica
from coati.storage.txnlog import Segment
from coati.testing import cluster, sim_member
from coati.testing.sim import Sim, Stuck
from coati.testing.sim_member import TracedStore
from coati.wire.quorum import DIFF, TRUNC
from coati.zab import leader as leader_module
from coati.zab import peer as peer_module
from coati.zab.attendance import FOLLOWING
from coati.zab.history import Entry, History, Plan, plan
from coati.zab.leader import Leader
from tests.testing.kit import ids_of
from tests.zab import test_leader_mutants as leaders
from tests.zab import test_learner_mutants as learners

STEPS = 40
SEEDS = range(1, 61)


class WritesEpochsFirst(TracedStore):
    """And the log behind them (ZOOKEEPER-4643)."""

    def _start(self) -> None:
        has_epochs = bool(self._epoch_writes)
        super()._start()
        if has_epochs:
            self._covered = (self.synced_zxid, self._covered[1])

    def _take_segments(self) -> list[Segment]:
        return [] if self._epoch_writes else super()._take_segments()


class CommitsAlone(Leader):
    """Whatever others have."""

    def _commit(self) -> None:
        acked = self._acked
        self._acked = dict.fromkeys(self._view.voters(), self._synced_zxid)
        super()._commit()
        self._acked = acked


class CountsObserversAcks(Leader):
    """An observer has what it is told, so why should it not count?"""

    def _commit(self) -> None:
        acked = self._acked
        count = sum(one.is_observer and one.state == FOLLOWING for one in self._learners.values())
        others = [sid for sid in self._view.voters() if sid != self.sid]
        self._acked = {**acked, **dict.fromkeys(others[:count], self.proposed_zxid)}
        super()._commit()
        self._acked = acked


class IsDeaf(Replica):
    """To what followers tell of sessions."""

    def touch(self, session_id: int, timeout_ms: int) -> None:
        pass


Log = Callable[[int], Iterator[Entry]]


def plan_without_truncation(history: History, read_log: Log, peer_zxid: int, limit_bytes: int) -> Plan:
    """What the learner has too much is left there."""
    way = plan(history, read_log, peer_zxid, limit_bytes)
    return Plan(DIFF, history.max_zxid, way.entries) if way.kind == TRUNC else way


def plan_with_a_hole(history: History, read_log: Log, peer_zxid: int, limit_bytes: int) -> Plan:
    """ZOOKEEPER-4925, and who gets it does not look."""
    way = plan(history, read_log, peer_zxid, limit_bytes)
    return Plan(way.kind, way.zxid, way.entries[1:])


Parts = list[tuple[object, str, object]]
# What must be found, or what a server says that ends.
CASES: list[tuple[str, str, Parts]] = [
    ("acks what it receives", "Z7", [(peer_module, "Learner", learners.AcknowledgesWhatItReceives)]),
    ("acks NEWLEADER at once", "Z7", [(peer_module, "Learner", learners.AcknowledgesTheLeaderAtOnce)]),
    (
        "epoch before history",
        "Z7",
        [(peer_module, "Learner", learners.WritesTheEpochFirst), (sim_member, "TracedStore", WritesEpochsFirst)],
    ),
    ("delivers proposals", "Z5", [(peer_module, "Learner", learners.DeliversWhatIsProposed)]),
    ("loses commits", "Z11", [(peer_module, "Learner", learners.LosesCommitsOfTheSynchronisation)]),
    ("logs nothing while it syncs", "Z10", [(peer_module, "Learner", learners.KeepsTheCutTxnsInMemory)]),
    ("forgets its tail", "Z11", [(peer_module, "Learner", learners.ForgetsTheTail)]),
    ("commits alone", "Z12", [(peer_module, "Leader", CommitsAlone)]),
    ("counts observers", "Z12", [(peer_module, "Leader", CountsObserversAcks)]),
    ("leads who is ahead", "Z11", [(peer_module, "Leader", leaders.LeadsWhoIsAhead)]),
    ("ignores touched sessions", "S2", [(cluster, "Replica", IsDeaf)]),
    ("no TRUNC", "Z11", [(leader_module, "plan", plan_without_truncation)]),
    (
        "DIFF with a hole",
        " after 0x",
        [(leader_module, "plan", plan_with_a_hole), (peer_module, "Learner", learners.TakesHoles)],
    ),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Each recovery warns of what a crash has torn."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(seed: int) -> tuple[list[str], str]:
    """What the checkers find, and what kept the ensemble from its end."""
    sim = Sim(seed, steps=STEPS)
    why = ""
    try:
        sim.go()
    except Stuck as error:
        why = str(error)
    return ids_of(sim.check()), why


@pytest.mark.parametrize(("id_", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_planted_mistake_is_told_by_its_id(id_: str, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, planted in parts:
        monkeypatch.setattr(module, name, planted)
    for seed in SEEDS:
        found, why = run(seed)
        if id_ in found or (len(id_) > 3 and id_ in why):
            print(f"seed {seed}: {found} {why}")
            return
    pytest.fail(f"no {id_} in {SEEDS}")

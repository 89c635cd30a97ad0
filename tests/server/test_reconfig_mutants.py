"""Peers and leaders with one planted mistake each in changing their members, and the test that must notice.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import pytest

from coati.zab import dynamic as dynamic_module

if not (dynamic_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

from collections.abc import Callable

from coati.server import hub as hub_module
from coati.zab.dynamic import DynamicLeader, DynamicPeer
from coati.zab.quorum import View
from tests.server import test_reconfig


class GoesByTheOldList(DynamicLeader):
    """A reconfig, and what is behind it, is committed by a quorum of the old list."""

    def _commit(self) -> None:
        if self._joint is not None:
            self._joint.new = self._joint.old
        super()._commit()


class ForgetsItsProposal(DynamicPeer):
    """Who has proposed a list does not count with it when it looks again."""

    def _settle_leader(self, role: DynamicLeader) -> None:
        role.proposed = None
        super()._settle_leader(role)


class BeginsWithTheCommittedList(DynamicLeader):
    """What it has seen is not completed."""

    def begin(self, current: View, seen: View, *, is_standalone_enabled: bool) -> None:
        super().begin(current, current, is_standalone_enabled=is_standalone_enabled)


class NeverHandsOver(DynamicLeader):
    """A leader that was removed goes on."""

    def _commit_config(self, joint: object) -> None:
        super()._commit_config(joint)  # type: ignore[arg-type]  # as it came
        self.hands_over = False


LEADERS: list[tuple[type[DynamicLeader], Callable[[], None]]] = [
    (GoesByTheOldList, test_reconfig.test_a_quorum_of_the_old_list_is_not_enough),
    (BeginsWithTheCommittedList, test_reconfig.test_a_quorum_of_the_old_list_is_not_enough),
    (NeverHandsOver, lambda: test_reconfig.test_a_leader_that_is_removed_hands_over(True)),
]
PEERS: list[tuple[type[DynamicPeer], Callable[[], None]]] = [
    (ForgetsItsProposal, test_reconfig.test_nothing_is_committed_without_the_new_list),
]


@pytest.mark.parametrize(("mutant", "check"), LEADERS)
def test_a_leader_s_mistake_is_found(
    mutant: type[DynamicLeader], check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    monkeypatch.setattr(dynamic_module, "DynamicLeader", mutant)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(("mutant", "check"), PEERS)
def test_a_peer_s_mistake_is_found(
    mutant: type[DynamicPeer], check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "DynamicPeer", mutant)
    with pytest.raises(AssertionError):
        check()

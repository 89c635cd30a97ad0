"""Contenders of ours beside those of kazoo and of Curator, while holders are killed and paused: in short.

The long form is `python -m tools.storm_locks`.
"""

from __future__ import annotations

import pytest

from tools.storm_locks import KAZOO, WITH_CURATOR, Game, judge_moments, storm

FAULTS = ("kill holder", "pause holder long", "stop server", "kill waiter", "pause holder")


@pytest.mark.parametrize(
    ("game", "faults"),
    [
        pytest.param(KAZOO, FAULTS, id="kazoo"),
        pytest.param(WITH_CURATOR, ("kill holder", "pause holder long", "stop server"), id="Curator"),
    ],
)
def test_nobody_overlaps_and_all_go_on(game: Game, faults: tuple[str, ...]) -> None:
    outcome = storm(3, [game], faults=faults)
    assert sum(outcome.faults.values()) == len(faults)
    assert all(outcome.holds[name] >= 2 for name in game.names)
    assert outcome.writes
    assert outcome.beliefs


def test_the_judge_sees_an_overlap() -> None:
    # Token 1 until 2.0, token 2 from 2.5 on, in the order in which processes happened to write.
    judge_moments([(2, 2.5), (1, 1.0)], [(1, 1.5), (2, 2.6), (1, 2.0)])
    with pytest.raises(AssertionError, match="token 0x1 was held"):
        judge_moments([(1, 1.0), (2, 2.5)], [(1, 2.7)])
    # Also over one that was there between them.
    with pytest.raises(AssertionError, match="token 0x1 was held"):
        judge_moments([(1, 1.0), (2, 3.0), (3, 2.5)], [(1, 2.7)])

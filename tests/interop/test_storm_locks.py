"""Three contenders of ours and three of kazoo's on one lock, while holders are killed and paused: in short.

The long form is `python -m tools.storm_locks`.
"""

from __future__ import annotations

import pytest

from tools.storm_locks import OURS, THEIRS, judge_moments, storm


def test_nobody_overlaps_and_all_go_on() -> None:
    outcome = storm(3, faults=("kill holder", "pause holder long", "stop server", "kill waiter", "pause holder"))
    assert sum(outcome.faults.values()) == 5
    assert all(outcome.holds[name] >= 2 for name in (*OURS, *THEIRS))
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

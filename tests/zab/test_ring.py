"""Leaders and learners together, with crashes, lost links and slow disks: nothing that was committed is lost."""

from __future__ import annotations

import pytest

from coati.zab.learner import Learner
from tests.zab.ring import Ring

STEPS = 6000
SETTLES_STEPS = 20_000


@pytest.fixture
def make() -> type[Learner]:
    """The real one."""
    return Learner


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_no_server_has_another_history(first: int, make: type[Learner]) -> None:
    for seed in range(first, first + 4):
        ring = Ring(seed, make)
        try:
            for _ in range(STEPS):
                ring.step(trouble=True)
            assert ring.settles(SETTLES_STEPS), "the ring does not settle"
        except Exception:
            print(f"seed {seed}")
            raise
        assert len(ring.chosen) > 20, f"seed {seed} did nothing"

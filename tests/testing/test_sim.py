"""Simulated ensembles: many seeds break nothing, each sync path is among them, and a seed is one execution."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from coati.testing.sim import Sim

# Fewer steps than the long run takes, so that there are many seeds.
STEPS = 20
SEEDS = 200
BATCH = 25
# The first ones go through the same lines; measuring all of them takes longer than all they do.
BATCHES = [1, *(pytest.param(first, marks=pytest.mark.no_cover) for first in range(1 + BATCH, SEEDS + 1, BATCH))]
_HASHES = """
import logging, sys
from coati.testing.sim import Sim
logging.disable(logging.CRITICAL)
for seed in map(int, sys.argv[1:]):
    print(Sim(seed, steps=20).go().trace_hash())
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Each recovery warns of what a crash has torn."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", BATCHES)
def test_an_ensemble_that_is_right_is_found_right(first: int) -> None:
    reach: Counter[str] = Counter()
    for seed in range(first, first + BATCH):
        sim = Sim(seed, steps=STEPS).go()
        assert not sim.cluster.clock.look_ms, "time passes by events only"
        found = sim.check()
        assert not found, f"seed {seed}: {found[0]}"
        reach += sim.reach
    for what in ("leader", "DIFF memory", "DIFF disk", "session move", "observer join", "log roll", "leader paused"):
        assert reach[what], f"seeds {first} to {first + BATCH - 1} have no {what}"


def test_one_seed_is_one_execution_whatever_the_hashes_are() -> None:
    seeds = [str(seed) for seed in range(1, 11)]
    outputs = []
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", _HASHES, *seeds], env=env, capture_output=True, text=True, check=True, timeout=100
        )
        outputs.append(done.stdout.split())
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0])) == len(seeds)


def test_a_clog_that_ends_late_leaves_the_core_by_itself() -> None:
    """Simulator, seed 101183: whom the core heard and who did not hear it was elected again and again."""
    alone = 0
    for seed in range(1, 9):
        sim = Sim(seed)
        sim.cluster.start()
        for _ in range(10):
            sim._break_net("clog")
        sim._heal_core()
        sids = sorted(sim.cluster.members)
        cuts = [(one, other) for one in sids for other in sids if sim.net.is_cut(one, other)]
        alone += len(cuts)
        sim.clock.advance(5000)
        assert all(sim.net.is_cut(one, other) for one, other in cuts)
    assert alone, "somebody was cut off"

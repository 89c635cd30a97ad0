"""Real runs: a simulated server with crashes, restarts and walking clients breaks nothing, and a seed is one run."""

from __future__ import annotations

from random import Random

import pytest

from coati.testing.history import Call, Event, Return, State, Story
from coati.testing.linear import check_registers
from tests.testing.kit import Run


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_server_that_is_right_is_found_right(seed: int) -> None:
    run = Run(seed).go(1000)
    assert run.check() == [], f"seed {seed}"
    assert check_registers(Story(run.history.lines), Random(seed)) == [], f"seed {seed}"


@pytest.mark.parametrize("seed", range(1, 4))
def test_registers_are_linear_without_any_zxid(seed: int) -> None:
    mix: dict[str, float] = {"create": 2, "set": 2, "cas": 3, "delete": 1, "sync": 4}
    run = Run(seed, mix=mix).go(600)
    assert check_registers(Story(run.history.lines), Random(seed)) == [], f"seed {seed}"
    # A read that shows what was before is noticed.
    reads = [line for line in run.history.lines if isinstance(line, Return) and len(line.body) > 68 and not line.err]
    firsts: dict[bytes, Return] = {}
    for line in reads:
        first = firsts.setdefault(line.body[-68:-60], line)
        if line.zxid > first.zxid + 20 and first.body != line.body:
            line.body = first.body
    assert check_registers(Story(run.history.lines), Random(seed)) != [], f"seed {seed}"


def test_runs_have_something_of_everything() -> None:
    lines = [line for seed in range(1, 9) for line in Run(seed).go(500).history.lines]
    ops = {line.op for line in lines if isinstance(line, Call)}
    assert {-11, 2, 3, 4, 5, 8, 9, 11, 12, 14, 15, 105, 106} <= ops
    assert {1, 2, 3, 4} <= {line.type for line in lines if isinstance(line, Event)}
    assert {0, -101, -103, -110, -111} <= {line.err for line in lines if isinstance(line, Return)}
    assert {"connecting", "connected", "disconnected", "expired"} <= {
        line.state for line in lines if isinstance(line, State)
    }
    assert any(isinstance(line, State) and line.last_zxid for line in lines)


def test_one_seed_is_one_run() -> None:
    first, second = (Run(5).go(300) for _ in range(2))
    assert first.history.lines == second.history.lines
    assert first.log == second.log

"""Runs of a seed in the lab: told as they were, the same each time, and judged by what the checkers know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coati.errors import ConfigError
from coati.lab import runs
from coati.lab.runs import INVARIANTS, ToldSim, life
from coati.lab.story import FAULT, text_of
from coati.testing import sim
from coati.testing.history import Violation


def test_a_run_is_told_and_checked() -> None:
    story = life(7, steps=20)
    assert story.failure == ""
    assert story.outcome[-1] == "All of it holds."
    assert story.lanes == ["all", "1", "2", "3"]
    labels = {step.label for step in story.steps}
    assert {"starts", "LOOKING", "LEADING", "JOINING"} <= labels
    assert [step.at_ms for step in story.steps] == sorted(step.at_ms for step in story.steps)
    told = [step.label for step in story.steps if step.kind == FAULT and step.lane == "all"]
    assert told, "this seed has faults"


def test_one_seed_has_one_text_and_another_has_another() -> None:
    assert text_of(life(3, steps=10)) == text_of(life(3, steps=10))
    assert life(3, steps=10).facts["mark"] != life(4, steps=10).facts["mark"]


def test_as_many_servers_as_are_wanted() -> None:
    assert life(3, servers=5, steps=5).lanes[:6] == ["all", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("servers", "steps"), [(0, 10), (10, 10), (3, 0), (3, 401)])
def test_room_for_so_much(servers: int, steps: int) -> None:
    with pytest.raises(ConfigError):
        life(1, servers=servers, steps=steps)


def test_a_violation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToldSim, "check", lambda self: [Violation("Z1", "two of them")])
    story = life(3, steps=3)
    assert story.failure.startswith("1 invariant(s) broken, the first one: ")
    assert story.outcome[-1] == "1 violation(s)."
    assert "Z1" in story.outcome[-2]


def test_a_run_that_is_stuck_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(self: ToldSim) -> None:
        raise sim.Stuck("seed 3: nobody leads")

    monkeypatch.setattr(ToldSim, "go", stuck)
    story = life(3, steps=3)
    assert story.failure == "seed 3: nobody leads"
    assert story.outcome[-1] == "It came to no good end: seed 3: nobody leads"


def test_snapshots_and_cuts_are_told() -> None:
    labels: set[str] = set()
    for seed in range(1, 12):
        labels |= {step.label for step in life(seed, steps=30).steps}
    assert {"TRUNC", "SNAP", "dies"} <= labels


def test_every_invariant_of_the_checkers_has_a_name() -> None:
    home = Path(sim.__file__).parent
    known = {id_ for file in home.glob("*.py") for id_ in re.findall(r'"([ZWRSE][0-9]+)"', file.read_text())}
    named = [id_ for rules in INVARIANTS.values() for id_ in rules]
    assert sorted(named) == sorted(known)
    assert runs.MAX_SERVERS >= 5

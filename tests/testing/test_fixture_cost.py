"""The fixtures' figures: the tool says them, and they are far from what a user would notice."""

from __future__ import annotations

import pytest

from tools import fixture_cost


def test_the_first_use_and_the_next_test_are_quick(capsys: pytest.CaptureFixture[str]) -> None:
    # The goals hold with room to spare on a quiet machine; this one may be busy with other tests.
    figures = fixture_cost.measure("memory", 3)
    for name, goal_ms in fixture_cost.GOALS_MS.items():
        assert min(figures[name]) < 3 * goal_ms, f"{name}: {figures[name]}"


def test_the_tool_prints_a_line_for_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    fixture_cost.main(["--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" median")[0].strip() for line in lines] == list(fixture_cost.GOALS_MS)

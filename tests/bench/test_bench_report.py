"""What stands in bench/RESULTS.md: verdicts, the table, the plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.bench_plots import render_failover, render_observers
from tools.bench_report import render_markdown, render_plot, result_of, verdict
from tools.bench_rows import ROWS, Bench, Measured, Row, rounded


def nothing(bench: Bench) -> Measured:
    raise AssertionError("not to be measured here")


MORE = Row("more", "more is better", "ops/s", ">=", {"pure": 3, "compiled": 4.5}, nothing)
LESS = Row("less", "less is better", "us", "<=", {"pure": 0.6, "compiled": 0.6}, nothing)
LIMIT = Row("limit", "has a limit", "MB", "max", {"pure": 60, "compiled": 60}, nothing)


@pytest.mark.parametrize(
    ("row", "java", "value", "held", "met"),
    [
        (MORE, 100, 300, 3.0, True),
        (MORE, 100, 299, 2.99, False),
        (LESS, 100, 60, 0.6, True),
        (LESS, 100, 61, 0.61, False),
        (LIMIT, 1000, 60, 60, True),
        (LIMIT, 1000, 60.5, 60.5, False),
        (LIMIT, None, 60, 60, True),
        (MORE, None, 300, None, False),
        (LESS, 0, 1, None, False),
    ],
)
def test_verdicts(row: Row, java: float | None, value: float, held: float | None, met: bool) -> None:
    medians = {"pure": value} if java is None else {"pure": value, "java": java}
    found = verdict(row, medians, "pure")
    assert found is not None
    assert (found.held, found.met) == (held, met)


def test_what_was_not_measured_has_no_verdict() -> None:
    assert verdict(MORE, {"java": 1.0}, "compiled") is None


def measured(**values: list[float]) -> Measured:
    return Measured(dict(values), ["a note"])


def results() -> dict[str, Any]:
    rows = {
        "more": result_of(MORE, measured(java=[90, 100, 5000], pure=[301, 299, 310], compiled=[400, 440, 449])),
        "limit": result_of(LIMIT, measured(java=[131.4], pure=[59.1])),
    }
    settings = {
        "rounds": 3, "seconds": 5.0, "java_warmup_s": 12.0, "warmup_s": 2.0, "starts": 5, "znodes": 1_000_000,
        "quick": False,
    }  # fmt: skip
    return {
        "date": "2001-02-03",
        "command": "python tools/bench.py",
        "machine": {"processor": "abacus"},
        "settings": settings,
        "rows": rows,
    }


def test_result_holds_rounds_medians_and_verdicts() -> None:
    entry = results()["rows"]["more"]
    assert entry["values"]["java"] == [90, 100, 5000]
    assert entry["medians"] == {"java": 100, "pure": 301, "compiled": 440}
    assert entry["verdicts"] == {
        "pure": {"held": 3.01, "bar": 3, "met": True},
        "compiled": {"held": 4.4, "bar": 4.5, "met": False},
    }


def test_table() -> None:
    text = render_markdown([MORE, LESS, LIMIT], results())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[2] == "| more is better | 100 ops/s | 301 ops/s | 3.01x, ≥ 3x | yes | 440 ops/s | 4.40x, ≥ 4.5x | no |"
    assert table[3] == "| less is better | not measured | | | | | | |"
    assert table[4] == "| has a limit | 131 MB | 59.1 MB | ≤ 60 MB | yes | - | ≤ 60 MB | - |"
    assert {line.count("|") for line in table} == {9}


def test_page_says_when_where_and_how() -> None:
    text = render_markdown([MORE], results())
    assert "2001-02-03 with `python tools/bench.py`" in text
    assert "- processor: abacus" in text
    assert "-Xmx2g (4g for 1,000,000 znodes)" in text
    assert "- more is better: a note." in text
    assert "quick" not in text


def test_a_quick_run_is_marked() -> None:
    quick = results()
    quick["settings"]["quick"] = True
    assert "too short to be quoted" in render_markdown([MORE], quick)


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.8, "1,234,568"), (100, "100"), (99.94, "99.9"), (9.987, "9.99"), (0.0401, "0.04")]
)
def test_figures_have_about_three_digits(value: float, text: str) -> None:
    assert rounded(value) == text


def stage(observers: int, reads_per_s: float, observer_us: float | None) -> dict[str, float | None]:
    return {
        "observers": observers, "reads_per_s": reads_per_s, "reads_per_core_s": 1000, "read_us": 1000,
        "writes_per_s": 50_000, "leader_us": 9.87, "follower_us": 6.5, "observer_us": observer_us, "lone_set_us": 321,
        "lone_set_p99_us": 654,
    }  # fmt: skip


STAGES = {"java": [stage(0, 900, None)], "pure": [stage(0, 1000, None), stage(1, 980, 3.21)]}


def test_three_servers_and_observers_have_their_own_parts_of_the_page() -> None:
    page = results()
    assert "## Three servers" not in render_markdown([MORE], page, [LESS])
    assert "## Observers" not in render_markdown([MORE], page, [LIMIT])
    page["rows"]["trio-failover"] = page["rows"]["limit"]
    page["rows"]["observers"] = {"title": "observers", "stages": STAGES}
    text = render_markdown([MORE], page, [LIMIT])
    first, _, rest = text.partition("## Three servers")
    trio, _, observers = rest.partition("## Observers")
    assert "- more is better: a note." in first
    assert "- has a limit: a note." not in first
    assert "- has a limit: a note." in trio
    assert "![failovers](failover.svg)" in trio
    assert "![observers](observers.svg)" in observers
    table = [line for line in observers.splitlines() if line.startswith("|")]
    assert table[2] == "| Java 3.9.3 | 0 | 900 | 1,000 | 3,000 | 50,000 | 9.87 | 6.50 | - | 321 us | 654 us |"
    assert table[4] == "| coati pure | 1 | 980 | 1,000 | 4,000 | 50,000 | 9.87 | 6.50 | 3.21 | 321 us | 654 us |"
    assert {line.count("|") for line in table} == {12}


def test_plots_of_failovers_and_observers_are_the_same_each_time(tmp_path: Path) -> None:
    for place in ("one", "two"):
        render_failover({"java": [345, 360, 340], "pure": [218, 216, 1200]}, 1000, tmp_path / f"{place}-failover.svg")
        render_observers(STAGES, tmp_path / f"{place}-observers.svg")
    for name in ("failover", "observers"):
        one = (tmp_path / f"one-{name}.svg").read_bytes()
        assert one == (tmp_path / f"two-{name}.svg").read_bytes()
        assert one.startswith(b"<?xml")


def test_failovers_without_java_have_a_plot_too(tmp_path: Path) -> None:
    render_failover({"pure": [218]}, 1000, tmp_path / "failover.svg")
    assert (tmp_path / "failover.svg").stat().st_size


def test_plot_is_written_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        render_plot([MORE, LESS, LIMIT], results(), tmp_path / name)
    one = (tmp_path / "one.svg").read_bytes()
    assert one == (tmp_path / "two.svg").read_bytes()
    assert one.startswith(b"<?xml")


def test_the_bars_are_those_promised() -> None:
    assert [(row.key, row.compare, row.bars["pure"], row.bars["compiled"]) for row in ROWS] == [
        ("get-8x32", ">=", 4, 6),
        ("get-64x16", ">=", 3, 4.5),
        ("set-64x16", ">=", 1.5, 2),
        ("create-8x32", ">=", 1.5, 2),
        ("mix10-64x16", ">=", 2, 3),
        ("lone-get", "<=", 0.6, 0.6),
        ("lone-set", "<=", 0.9, 0.9),
        ("start", "max", 0.4, 0.4),
        ("memory-empty", "max", 60, 60),
        ("memory-1m", "max", 1000, 1000),
        ("cold-start", "max", 8, 4),
        ("snapshot", "max", 25, 25),
    ]

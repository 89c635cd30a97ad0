"""The gates take the right rooms, count branches, and are exact at 100%."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import coverage_gate


def report(**files: tuple[int, int, int, int]) -> dict[str, object]:
    """A report of coverage.py: per file statements, covered statements, branches, covered branches."""
    entries = {}
    for name, (statements, lines, branches, taken) in files.items():
        summary = {
            "num_statements": statements,
            "covered_lines": lines,
            "num_branches": branches,
            "covered_branches": taken,
        }
        missing = {"missing_lines": [7] * (statements - lines), "missing_branches": [[3, -1]] * (branches - taken)}
        entries[f"src/coati/{name.replace('__', '/')}.py"] = {"summary": summary, **missing}
    return {"files": entries}


@pytest.mark.parametrize(
    ("module", "gate"),
    [
        ("wire/jute.py", "wire/"),
        ("core/tree.py", "core/"),
        ("zab/solo.py", "zab/"),
        ("storage/format.py", "storage/format.py"),
        ("storage/store.py", "storage/"),
        ("server/replica.py", "server/"),
        ("newroom/main.py", "newroom/"),
        ("errors.py", ""),
    ],
)
def test_a_module_is_measured_by_its_room(module: str, gate: str) -> None:
    assert coverage_gate.gate_of(module) == gate


def test_the_agreed_rooms_must_be_whole() -> None:
    for gate in ("wire/", "core/", "zab/", "storage/format.py"):
        assert coverage_gate.GATES[gate] == 100.0


@pytest.mark.parametrize(
    ("name", "counts", "passes"),
    [
        ("wire__jute", (100, 100, 50, 50), True),
        ("wire__jute", (100, 100, 50, 49), False),
        ("wire__jute", (1_000_000, 999_999, 0, 0), False),
        ("server__main", (80, 79, 20, 19), True),
        ("server__main", (80, 78, 20, 19), False),
        ("newroom__main", (80, 76, 20, 19), True),
        ("newroom__main", (80, 75, 20, 19), False),
        ("storage__format", (10, 9, 0, 0), False),
        ("storage__store", (100, 99, 0, 0), True),
    ],
)
def test_a_gate_opens_only_for_enough(name: str, counts: tuple[int, int, int, int], passes: bool) -> None:
    lines = list(coverage_gate.verdicts(report(**{name: counts})))
    assert all(ok for ok, _ in lines) is passes


def test_a_closed_gate_says_where_to_look() -> None:
    lines = [text for _, text in coverage_gate.verdicts(report(wire__jute=(9, 8, 2, 1)))]
    assert lines[0].endswith("FAILED")
    assert lines[1:] == [
        "    not covered: src/coati/wire/jute.py:7",
        "    not covered: src/coati/wire/jute.py:3 -> exit",
    ]


def test_a_long_list_of_places_is_cut() -> None:
    lines = [text for _, text in coverage_gate.verdicts(report(core__tree=(50, 10, 0, 0)))]
    assert lines[-1] == "    and 30 more"


def test_the_command_fails_with_its_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps(report(zab__solo=(4, 4, 2, 2))))
    assert coverage_gate.main([str(path)]) == 0
    path.write_text(json.dumps(report(zab__solo=(4, 3, 2, 2))))
    assert coverage_gate.main([str(path)]) == 1
    assert "src/coati/zab/" in capsys.readouterr().out

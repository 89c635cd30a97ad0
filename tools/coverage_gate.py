"""Coverage gates: what each room must reach, and what falls short in a report of coverage.py.

Statements and branches count together, as in coverage.py's own percentage. The rooms whose faults corrupt data or break
agreement must be covered whole; elsewhere a floor holds what was reached, and is only ever raised.
Run as `python tools/coverage_gate.py build/coverage.json`, or by the test suite with `--coverage-gate`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "src/coati/"
# A room, or one module of a room, and the percentage it must reach. The longest matching name decides; a room without
# a line here is measured by itself against the floor of "".
GATES: Final[dict[str, float]] = {
    "": 95.0,
    "admin/": 95.0,
    "bench/": 95.0,
    "cli/": 95.0,
    "client/": 95.0,
    "client/hosts.py": 100.0,
    "client/ops.py": 100.0,
    "client/session.py": 100.0,
    "client/watchtable.py": 100.0,
    "core/": 100.0,
    "offline/": 95.0,
    "lab/": 95.0,
    "recipes/": 95.0,
    "server/": 98.0,
    "storage/": 99.0,
    "storage/format.py": 100.0,
    "sync/": 95.0,
    "testing/": 95.0,
    "wire/": 100.0,
    "zab/": 100.0,
}
MAX_NAMED: Final = 10


@dataclass(slots=True)
class Tally:
    """What one gate saw: how much is there, how much ran, and what did not."""

    required: float
    total: int = 0
    covered: int = 0
    missing: list[str] | None = None

    def percent(self) -> float:
        return 100.0 * self.covered / self.total if self.total else 100.0

    def passes(self) -> bool:
        # Exact at 100: no rounding turns 99.99 into a pass.
        return self.covered == self.total if self.required == 100.0 else self.percent() >= self.required


def gate_of(module: str) -> str:
    """The name of the gate for a module given below src/coati: the longest that fits; without one, its own room."""
    fitting = [name for name in GATES if module.startswith(name)]
    best = max(fitting, key=len)
    if best:
        return best
    room, slash, _ = module.partition("/")
    return room + slash if slash else ""


def tally(report: dict[str, object]) -> dict[str, Tally]:
    """The tallies of a report (as `coverage json` writes it), by gate, in order of name."""
    tallies: dict[str, Tally] = {}
    files = report["files"]
    assert isinstance(files, dict)
    for path, data in sorted(files.items()):
        posix = path.replace("\\", "/")
        module = posix[posix.rindex("coati/") + len("coati/") :]
        name = gate_of(module)
        entry = tallies.setdefault(name, Tally(GATES.get(name, GATES[""]), missing=[]))
        summary = data["summary"]
        entry.total += summary["num_statements"] + summary.get("num_branches", 0)
        entry.covered += summary["covered_lines"] + summary.get("covered_branches", 0)
        assert entry.missing is not None
        entry.missing += [f"{PREFIX}{module}:{line}" for line in data["missing_lines"]]
        entry.missing += [
            f"{PREFIX}{module}:{a} -> {b if b > 0 else 'exit'}" for a, b in data.get("missing_branches", [])
        ]
    return dict(sorted(tallies.items()))


def verdicts(report: dict[str, object]) -> Iterator[tuple[bool, str]]:
    """A line for each gate, with whether it passes; below a failed one, where to look."""
    for name, entry in tally(report).items():
        passes = entry.passes()
        sign = "" if passes else "   FAILED"
        yield passes, f"{PREFIX + name:<36} {entry.percent():6.2f} of {entry.required:g}{sign}"
        if not passes and entry.missing:
            for place in entry.missing[:MAX_NAMED]:
                yield True, f"    not covered: {place}"
            if len(entry.missing) > MAX_NAMED:
                yield True, f"    and {len(entry.missing) - MAX_NAMED} more"


def load(path: Path) -> dict[str, object]:
    """The report in a file."""
    report = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(report, dict)
    return report


def main(arguments: list[str]) -> int:
    """Prints all gates; 1 if one of them fails."""
    lines = list(verdicts(load(Path(arguments[0]))))
    print("\n".join(text for _, text in lines))
    return 0 if all(passes for passes, _ in lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The long differential run: coati and Java 3.9.3 play random sequences in lockstep; prints coverage and differences.

Knows only how to start the pair, count and report; sequences, judge and the table of intended differences are the
interop tests' own (tests/interop/sequences.py, lockstep.py), so a seed printed here replays there and the other way
round.

    python tools/diff_long.py --sequences 10000 --seed 1
    python tools/diff_long.py --left 3.9.3 --right 3.9.3      # the judge against itself: must find nothing

Exit status 1 when something differs. Appends one row to docs/ledger.md unless --no-ledger.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

# As a script it finds what is beside it only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.interop import peers
from tests.interop.lockstep import Lockstep, hunt

LEDGER = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
SERVERS = ("coati", "3.9.3", "3.8.0")
PROGRESS_S = 10.0
MAX_KINDS = 20


def seeds(first: int, count: int) -> Iterator[int]:
    """The seeds in order, telling now and then how far the run is."""
    told = time.monotonic()
    for done in range(count):
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            print(f"{done} of {count} sequences", file=sys.stderr, flush=True)
        yield first + done


def coverage_table(coverage: Counter[tuple[str, int]]) -> str:
    """One line an operation: its error codes and how often each was answered."""
    kinds = sorted({kind for kind, _ in coverage})
    rows = []
    for kind in kinds:
        counts = {code: count for (name, code), count in coverage.items() if name == kind}
        cells = "  ".join(f"{code}: {counts[code]}" for code in sorted(counts, reverse=True))
        rows.append(f"{kind:<22} {cells}")
    return "\n".join(rows)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="long differential run of two servers")
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow it")
    parser.add_argument("--left", choices=SERVERS, default="3.9.3")
    parser.add_argument("--right", choices=SERVERS, default="coati")
    parser.add_argument("--no-ledger", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    with (
        peers.running(options.left, props=peers.LOCKSTEP_PROPS) as left,
        peers.running(options.right, props=peers.LOCKSTEP_PROPS) as right,
    ):
        pair = Lockstep(left, right, "long")
        found = hunt(pair, seeds(options.seed, options.sequences), MAX_KINDS)
    took = time.monotonic() - began
    print(coverage_table(pair.coverage))
    print("\n\n".join(map(str, found)))
    differing = sum(finding.count for finding in found)
    answers = pair.coverage.total()
    command = f"python tools/diff_long.py --sequences {options.sequences} --seed {options.seed}"
    amount = (
        f"{answers} answers and events of {options.left} and {options.right}, {len(pair.coverage)} operation-code pairs"
    )
    verdict = f"{differing} sequences differ in {len(found)} ways" if found else "nothing"
    line = f"| {datetime.now(UTC):%Y-%m-%d} | differential | `{command}` | {took:.0f} s: {amount} | {verdict} |"
    print(line)
    if not options.no_ledger:
        LEDGER.parent.mkdir(exist_ok=True)
        with LEDGER.open("a") as ledger:
            ledger.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

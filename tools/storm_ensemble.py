"""The long run of simulated ensembles: one seed after the other, judged, with what they have come across.

    python -m tools.storm_ensemble --seeds 1000 --start 1 --jobs 2

Prints each finding with its seed, and appends a line to docs/ledger.md. A finding is repeated by its seed alone.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from coati.testing.sim import REACH, Sim, Stuck

LEDGER: Final = Path(__file__).parent.parent / "docs" / "ledger.md"
STEPS: Final = 60
CHUNK: Final = 20


class Tally:
    """What some seeds have come across, how often, and, `seen`, in how many of them."""

    def __init__(self) -> None:
        self.seeds = 0
        self.lines = 0
        self.sim_ms = 0
        self.faults = 0
        self.reach: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.findings: list[str] = []

    def add(self, other: Tally) -> None:
        """The others' too."""
        self.seeds += other.seeds
        self.lines += other.lines
        self.sim_ms += other.sim_ms
        self.faults += other.faults
        self.reach += other.reach
        self.seen += other.seen
        self.findings += other.findings

    def __str__(self) -> str:
        shares = [(what, 100 * self.seen[what] / max(self.seeds, 1)) for what in REACH]
        reach = ", ".join(f"{what} {self.reach[what]} in {share:.3g} %" for what, share in shares)
        hours = self.sim_ms / 3_600_000
        return f"{self.seeds} seeds, {self.faults} faults, {hours:.1f} simulated hours, {self.lines} lines; {reach}"

    def rare(self) -> list[str]:
        """What fewer runs have come across than one in a hundred."""
        return [what for what in REACH if 100 * self.seen[what] < self.seeds]


def run_seeds(first: int, count: int, steps: int) -> Tally:
    """Some seeds, one after the other."""
    logging.disable(logging.WARNING)
    tally = Tally()
    for seed in range(first, first + count):
        sim = Sim(seed, steps=steps)
        began_ms = sim.clock.now_ms
        try:
            found = sim.go().check()
        except Stuck as error:
            tally.findings.append(str(error))
        else:
            tally.findings += [f"seed {seed}: {violation.id}: {violation.text}" for violation in found[:1]]
        tally.seeds += 1
        tally.lines += len(sim.history.lines)
        tally.sim_ms += sim.clock.now_ms - began_ms
        tally.faults += sum(sim.faults.values())
        tally.reach += sim.reach
        tally.seen.update(dict.fromkeys(sim.reach, 1))
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the seeds and notes them down; 1 if something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=1, help="the first seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="of one seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--date", default=None, help="of the line in the ledger; today's if it is not given")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    started = time.monotonic()
    total = Tally()
    firsts = range(options.start, options.start + options.seeds, CHUNK)
    counts = [min(CHUNK, options.start + options.seeds - first) for first in firsts]
    with ProcessPoolExecutor(options.jobs) as pool:
        for tally in pool.map(run_seeds, firsts, counts, [options.steps] * len(counts)):
            for finding in tally.findings:
                print(finding, flush=True)
            total.add(tally)
            print(f"{time.monotonic() - started:6.0f} s  {total}", flush=True)
    if total.rare():
        print(f"in less than 1 %: {', '.join(total.rare())}", flush=True)
    date = options.date or datetime.datetime.now(datetime.UTC).date().isoformat()
    minutes = (time.monotonic() - started) / 60
    command = (
        f"`python -m tools.storm_ensemble --start {options.start} --seeds {options.seeds} --steps {options.steps}`"
    )
    found = f"{len(total.findings)}: {'; '.join(total.findings[:3])}" if total.findings else "nothing"
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | ensemble storm | {command} | {minutes:.0f} min: {total} | {found} |\n")
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether a seed is one execution: random seeds, each run in two processes whose hashes of strings differ.

    python -m tools.replay_ensemble --seeds 100

Prints each seed whose two traces differ, and appends a line to docs/ledger.md. `--hash-of SEED...` is what the two
processes are started with: it prints the trace's hash of each seed.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from coati.testing.sim import Sim

LEDGER: Final = Path(__file__).parent.parent / "docs" / "ledger.md"
STEPS: Final = 60
# Past the seeds that other runs count up to, and of one length.
SEED_RANGE: Final = range(1_000_000, 10_000_000)


def print_hashes(seeds: Sequence[int], steps: int) -> None:
    """A line for each seed: the hash of all that happened."""
    logging.disable(logging.CRITICAL)
    for seed in seeds:
        print(seed, Sim(seed, steps=steps).go().trace_hash(), flush=True)


def start(seeds: Sequence[int], *, steps: int, hash_seed: str) -> subprocess.Popen[str]:
    """A process that runs the seeds under these hashes of strings."""
    command = [sys.executable, "-m", "tools.replay_ensemble", "--steps", str(steps), "--hash-of", *map(str, seeds)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the seeds twice, side by side, and notes it down; 1 if a trace differs or a run ends badly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--draw", type=int, default=None, help="draws the seeds again that this number drew")
    parser.add_argument("--steps", type=int, default=STEPS, help="of one seed")
    parser.add_argument("--hash-of", type=int, nargs="+", default=(), metavar="SEED")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    if options.hash_of:
        print_hashes(options.hash_of, options.steps)
        return 0
    began = time.monotonic()
    draw = random.SystemRandom().randrange(1 << 32) if options.draw is None else options.draw
    seeds = random.Random(draw).sample(SEED_RANGE, options.seeds)
    hash_seeds = [str(1 + draw % 1000), str(2001 + draw % 1000)]
    runs = [start(seeds, steps=options.steps, hash_seed=one) for one in hash_seeds]
    traces = [run.communicate()[0].splitlines() for run in runs]
    ended = all(run.returncode == 0 for run in runs) and all(len(lines) == len(seeds) for lines in traces)
    differ = [one.split()[0] for one, other in zip(*traces, strict=False) if one != other]
    distinct = len({line.split()[1] for line in traces[0]})
    text = f"{len(seeds)} seeds drawn by {draw}, PYTHONHASHSEED {' and '.join(hash_seeds)}: {distinct} different traces"
    found = f"differ: {', '.join(differ)}" if differ else "nothing" if ended else "a run ended early"
    print(f"{text}; {found}")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = f"`python -m tools.replay_ensemble --seeds {len(seeds)} --draw {draw} --steps {options.steps}`"
    with options.ledger.open("a") as ledger:
        minutes = (time.monotonic() - began) / 60
        ledger.write(f"| {date} | replay of ensembles | {command} | {minutes:.0f} min: {text} | {found} |\n")
    return 0 if ended and not differ else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the fixtures of `coati_pytest` cost in a warm process: the first use of an ensemble, and each further test.

    python tools/fixture_cost.py [--rounds N] [--backend memory|process|java]

Knows what the fixtures do and does the same without pytest: starting an ensemble until all its members serve, then a
client in a root of its own, one create, and the way back. Prints the median and the worst of so many rounds, in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from statistics import median
from time import perf_counter

from coati.testing.background import Stage
from coati.testing.ensemble import BACKENDS, BackendName
from coati.testing.handles import Shape
from coati.testing.pytest import Lease

ROUNDS = 20
# What the tests of users may be slowed by, in ms: the table of goals.
GOALS_MS = {
    "1 member serves": 50.0,
    "3 members serve": 500.0,
    "next test, 1 member": 10.0,
    "next test, 3 members": 10.0,
}


def first_use_ms(backend: BackendName, members: int) -> float:
    """From nothing to all members serving."""
    stage = Stage(backend, hosts=None, seed=1, classpath=None)
    began = perf_counter()
    stage.ensemble(Shape(members))
    took = perf_counter() - began
    stage.close()
    return took * 1000


def next_tests_ms(backend: BackendName, members: int, rounds: int) -> list[float]:
    """The fixture `zk` and a create, again and again on one ensemble."""
    stage = Stage(backend, hosts=None, seed=1, classpath=None)
    ensemble = stage.ensemble(Shape(members))

    async def test() -> None:
        lease = Lease(ensemble, stage.new_root(), [])
        zk = await lease.open()
        await zk.create("/a")
        await lease.close()

    took = []
    for _ in range(rounds + 1):
        began = perf_counter()
        asyncio.run(test())
        took.append((perf_counter() - began) * 1000)
    stage.close()
    # The first makes the keeper's session.
    return took[1:]


def measure(backend: BackendName, rounds: int) -> dict[str, list[float]]:
    """All figures, by name."""
    first_use_ms(backend, 1)
    return {
        "1 member serves": [first_use_ms(backend, 1) for _ in range(rounds)],
        "3 members serve": [first_use_ms(backend, 3) for _ in range(rounds)],
        "next test, 1 member": next_tests_ms(backend, 1, rounds),
        "next test, 3 members": next_tests_ms(backend, 3, rounds),
    }


def lines(figures: dict[str, list[float]]) -> list[str]:
    """A line each, with the goal."""
    return [
        f"{name:<22} median {median(found):7.1f} ms  worst {max(found):7.1f} ms  goal {GOALS_MS[name]:g} ms"
        for name, found in figures.items()
    ]


def main(argv: list[str]) -> int:
    """The command line; 1 if a median misses its goal in memory."""
    parser = argparse.ArgumentParser(description="what the fixtures of coati_pytest cost")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--backend", choices=[name for name in BACKENDS if name != "external"], default="memory")
    options = parser.parse_args(argv)
    figures = measure(options.backend, options.rounds)
    print("\n".join(lines(figures)))
    misses = [name for name, found in figures.items() if median(found) > GOALS_MS[name]]
    return 1 if misses and options.backend == "memory" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

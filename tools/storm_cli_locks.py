"""The storm of `coati lock`: contenders for one lock, while holders and waiters are killed, stopped and cut off.

Each contender is `coati lock /contest -- CHILD`; the child hears no SIGTERM and notes its fence and the time of
CLOCK_MONOTONIC a hundred times a second. In the end no two fences may have been there at a time. One half of the
contenders is behind a proxy that swallows what is said for a while. Whoever has ended is started again.

    python -m tools.storm_cli_locks --minutes 3        # and a line in docs/ledger.md
    python -m tools.storm_cli_locks --minutes 1 --seed 7 --no-ledger

Stops at the first finding, by AssertionError.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.cli import contest
from tests.interop import peers
from tests.interop.peers import CoatiServer
from tests.recipes.lossy import Wire, wire

LEDGER: Final = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
SESSION_S: Final = 1.0
STAYS_S: Final = 0.5
CONTENDERS: Final = 4
FAULTS: Final = ("kill", "stop", "stop long", "cut", "stop server", "end")


@dataclass(slots=True)
class Outcome:
    """What a storm was like."""

    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    stays: int = 0

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        codes = ", ".join(f"{code} {count}" for code, count in sorted(self.codes.items()))
        faults = f"{sum(self.faults.values())} faults ({faults})"
        return f"{faults}; {self.stays} children, no two at a time; exit codes {codes}"


class Storm:
    """Contenders on one server, and what is done to them."""

    def __init__(self, server: CoatiServer, between: Wire, folder: Path, seed: int) -> None:
        self._server = server
        self._between = between
        self._notes = folder / "notes"
        self._dice = random.Random(seed)
        self._running: list[subprocess.Popen[str]] = []
        self.outcome = Outcome()

    def fill(self) -> None:
        """Starts as many as are missing, behind the proxy or not."""
        for process in [process for process in self._running if process.poll() is not None]:
            self.outcome.codes[process.returncode] += 1
            if process.stderr is not None:
                process.stderr.close()
            self._running.remove(process)
        while len(self._running) < CONTENDERS:
            hosts = self._dice.choice((self._server.address, f"127.0.0.1:{self._between.port}"))
            stays_s = self._dice.uniform(0.1, 2 * STAYS_S)
            self._running.append(
                contest.contend(hosts, "/contest", self._notes, session_s=SESSION_S, stays_s=stays_s, flags=("-q",))
            )

    async def fault(self, kind: str) -> None:
        """One thing goes wrong, and is put right again."""
        self.outcome.faults[kind] += 1
        victim = self._dice.choice(self._running)
        if kind == "kill":
            victim.kill()
        elif kind == "end":
            victim.terminate()
        elif kind == "cut":
            self._between.mute()
            self._between.deafen()
            await asyncio.sleep(self._dice.uniform(0.2, 2.0) * SESSION_S)
            self._between.cut()
        else:
            pid = self._server.pid if kind == "stop server" else victim.pid
            with suppress(ProcessLookupError), _stopped(pid):
                longest = 2.5 if kind == "stop long" else 0.8
                await asyncio.sleep(self._dice.uniform(0.2, longest) * SESSION_S)

    def judge(self) -> None:
        self.outcome.stays = len(contest.judge(self._notes))

    async def wait_for(self, more: int) -> None:
        """Undisturbed, the lock goes on from one to the next."""
        wanted = len(contest.stays(self._notes)) + more
        async with asyncio.timeout(60):
            while len(contest.stays(self._notes)) < wanted:
                self.fill()
                await asyncio.sleep(0.05)

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


@contextmanager
def _stopped(process: int) -> Iterator[None]:
    """By a descriptor of its, since a contender may end meanwhile."""
    end = os.pidfd_open(process)
    try:
        signal.pidfd_send_signal(end, signal.SIGSTOP)
        yield
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(end, signal.SIGCONT)
    finally:
        os.close(end)


async def storm(seed: int, seconds: float) -> Outcome:
    """Faults for so many seconds."""
    dice = random.Random(seed)
    with (
        tempfile.TemporaryDirectory(prefix="stormlocks-") as folder,
        CoatiServer(props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server,
    ):
        async with wire(server) as between:
            running = Storm(server, between, Path(folder), seed)
            try:
                await running.wait_for(2)
                ends = time.monotonic() + seconds
                while time.monotonic() < ends:
                    running.fill()
                    await running.fault(dice.choice(FAULTS))
                    await asyncio.sleep(dice.uniform(0.05, 0.8))
                    running.judge()
                await running.wait_for(CONTENDERS)
                running.judge()
            except AssertionError:
                print(f"seed {seed}", file=sys.stderr)
                raise
            finally:
                running.close()
            return running.outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-ledger", action="store_true")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    outcome = asyncio.run(storm(options.seed, options.minutes * 60))
    print(outcome)
    if not options.no_ledger:
        command = f"python -m tools.storm_cli_locks --minutes {options.minutes:g} --seed {options.seed}"
        took = f"{(time.monotonic() - began) / 60:.0f} min"
        with LEDGER.open("a") as ledger:
            today = f"{datetime.now(UTC):%Y-%m-%d}"
            ledger.write(f"| {today} | storm of coati lock | `{command}` | {took}: {outcome} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

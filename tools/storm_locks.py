"""The storm of locks: contenders of coati's client beside those of kazoo on one lock, and beside those of Curator on
another, while holders are killed and paused and the server stops.

Each holder notes what it does under the lock. On the server, in one znode that is only written together with a check
of the holder's own lock znode: the note names the holder's token, its znode's czxid, and tokens may only grow; a
holder that finds a larger token there and passes its check has an overlap in its hands. And in a file, on the clock
CLOCK_MONOTONIC: when a lock was got, and until when coati's client still said that it was held; nobody may have got it
before that with a larger token. In the end, undisturbed, each contender must get it again.

    python -m tools.storm_locks --minutes 10        # and a line in docs/ledger.md
    python -m tools.storm_locks --minutes 1 --seed 7 --games kazoo --no-ledger

Stops at the first finding, by AssertionError.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

import coati
from coati.recipes.line import Layout
from tests.interop import lockpeer, peers
from tests.interop.peers import CoatiServer

ROOT: Final = Path(__file__).resolve().parent.parent
LEDGER: Final = ROOT / "docs" / "ledger.md"
CURATOR: Final = ROOT / "tests" / "interop" / "java" / "StormLock.java"
SESSION_S: Final = 1.0
STEPS: Final = 4
STEP_S: Final = 0.004
DEADLINE_S: Final = 60.0
FAULTS: Final = ("kill holder", "pause holder", "kill waiter", "pause waiter", "pause holder long", "stop server")


@dataclass(frozen=True, slots=True)
class Game:
    """One lock, and who wants it: `each` of ours, in the layout of the others, and `each` of the others."""

    layout: Layout
    each: int

    @property
    def lock(self) -> str:
        return f"/{self.layout}-lock"

    @property
    def note(self) -> str:
        return f"/{self.layout}-note"

    @property
    def ours(self) -> tuple[str, ...]:
        return tuple(f"{self.layout}-ours-{number}" for number in range(self.each))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.ours, *(f"{self.layout}-theirs-{number}" for number in range(self.each)))


KAZOO: Final = Game("kazoo", 3)
# A Java machine for each takes its share of the processors.
WITH_CURATOR: Final = Game("curator", 2)
GAMES: Final[dict[str, Game]] = {game.layout: game for game in (KAZOO, WITH_CURATOR)}


def game_of(name: str) -> Game:
    """Of a contender."""
    return GAMES[name.partition("-")[0]]


# --- a contender: a process of its own ------------------------------------------------------------


class Notes:
    """Lines of the file that all contenders share: what, who, token, seconds."""

    def __init__(self, path: str, name: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._name = name

    def write(self, what: str, token: int, seconds: float) -> None:
        os.write(self._file, f"{what} {self._name} {token} {seconds:.6f}\n".encode())


async def contend(address: str, name: str, notes: Notes) -> None:
    """Takes the lock with coati's client, again and again."""
    game = game_of(name)
    zk = coati.Client(address, session_timeout=SESSION_S)
    # The server may stand still just now.
    await zk.start(timeout=DEADLINE_S)
    while True:
        with contextlib.suppress(coati.ZKError):
            async with zk.lock(game.lock, id=name.encode(), layout=game.layout, timeout=DEADLINE_S) as held:
                notes.write("got", held.token, time.monotonic())
                for _ in range(STEPS):
                    now = time.monotonic()
                    held.check()
                    notes.write("held", held.token, now)
                    node = await zk.get(game.note)
                    is_older = int(node.data) > held.token
                    await zk.multi([held.guard(), coati.Set(game.note, b"%d" % held.token, node.version)])
                    notes.write("overlap" if is_older else "wrote", held.token, now)
                    await asyncio.sleep(STEP_S)


def contend_with_kazoo(address: str, name: str, notes: Notes) -> None:
    """The same with kazoo's."""
    zk = KazooClient(address, timeout=SESSION_S)
    zk.start(timeout=DEADLINE_S)
    while True:
        lock = zk.Lock(KAZOO.lock, name)
        try:
            if lock.acquire(timeout=DEADLINE_S):
                _hold(zk, f"{KAZOO.lock}/{lock.node}", notes)
        except (KazooException, KazooTimeoutError, _Gone):
            # A new lock object: the old one does not know that it has lost its znode.
            pass
        with contextlib.suppress(KazooException, KazooTimeoutError):
            lock.release()


class _Gone(Exception):
    """The guard was refused."""


def _hold(zk: KazooClient, own: str, notes: Notes) -> None:
    waits = threading.Event()
    stat = zk.exists(own)
    if stat is None:
        raise _Gone
    notes.write("got", stat.czxid, time.monotonic())
    for _ in range(STEPS):
        data, noted = zk.get(KAZOO.note)
        writes = zk.transaction()
        writes.check(own, 0)
        writes.set_data(KAZOO.note, b"%d" % stat.czxid, noted.version)
        if writes.commit()[0] is not True:
            raise _Gone
        notes.write("overlap" if int(data) > stat.czxid else "wrote", stat.czxid, time.monotonic())
        waits.wait(STEP_S)


# --- the storm ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What a storm was like."""

    faults: Counter[str] = field(default_factory=Counter)
    holds: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    beliefs: int = 0

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        held: Counter[str] = Counter()
        for name, count in self.holds.items():
            game = game_of(name)
            held[f"coati's beside {game.layout}'s" if name in game.ours else f"{game.layout}'s"] += count
        by = ", ".join(f"{who} {count}" for who, count in sorted(held.items()))
        return (
            f"{sum(self.faults.values())} faults ({faults}); held {sum(self.holds.values())} times ({by}); "
            f"{self.writes} guarded writes and {self.beliefs} moments of being held judged"
        )


class Storm:
    """Contenders on one server, and what is done to them."""

    def __init__(self, server: CoatiServer, folder: Path, games: Sequence[Game], seed: int) -> None:
        self._server = server
        self._games = games
        # Compiled before the clock runs.
        self._classes = lockpeer.compiled(folder, CURATOR) if WITH_CURATOR in games else ""
        self._began = time.monotonic()
        self._notes = folder / "notes"
        self._notes.touch()
        self._log = (folder / "contenders.log").open("ab")
        self._dice = random.Random(seed)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._never = threading.Event()
        self.outcome = Outcome()

    def start(self, names: Sequence[str]) -> None:
        for name in names:
            self._processes[name] = subprocess.Popen(
                self._command(name), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
            )

    def _command(self, name: str) -> list[str]:
        game = game_of(name)
        address, notes = self._server.address, str(self._notes)
        if game == WITH_CURATOR and name not in game.ours:
            told = (address, game.lock, game.note, notes, name, f"{SESSION_S * 1000:.0f}", f"{STEPS}")
            return lockpeer.command(self._classes, CURATOR.stem, *told, f"{STEP_S * 1000:.0f}")
        words = [sys.executable, "-m", "tools.storm_locks", "--contend", name]
        return [*words, "--server", address, "--notes", notes]

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._log.close()

    def fault(self, kind: str) -> None:
        """One thing goes wrong, and is put right again."""
        self.outcome.faults[kind] += 1
        if kind == "stop server":
            with _stopped(self._server.pid):
                self._never.wait(self._dice.uniform(0.2, 1.6) * SESSION_S)
            return
        name = self._holder() if "holder" in kind else self._dice.choice(sorted(self._processes))
        process = self._processes[name]
        if kind.startswith("kill"):
            process.kill()
            process.wait()
            self.start([name])
            return
        with _stopped(process.pid):
            self._never.wait(self._dice.uniform(1.3, 2.0) * SESSION_S if "long" in kind else 0.3 * SESSION_S)

    def wait_for_all(self) -> None:
        """Undisturbed, each of them gets the lock."""
        before = Counter(line.split()[1] for line in self._lines() if line.startswith("got "))
        peers.eventually(lambda: self._have_got(before), "each contender gets the lock again", DEADLINE_S)

    def judge(self) -> None:
        """Raises AssertionError where two held it at a time."""
        self.outcome.holds.clear()
        self.outcome.writes = self.outcome.beliefs = 0
        for game in self._games:
            self._judge(game)

    def _judge(self, game: Game) -> None:
        got: list[tuple[int, float]] = []
        held: list[tuple[int, float]] = []
        lines = self._lines()
        now = time.monotonic()
        for line in lines:
            what, name, token, seconds = line.split()
            if name not in game.names:
                continue
            assert self._began <= float(seconds) <= now, f"{name} has another clock: {line}"
            assert what != "overlap", f"the server let an older holder write: {line}"
            if what == "got":
                got.append((int(token), float(seconds)))
                self.outcome.holds[name] += 1
            elif what == "held":
                held.append((int(token), float(seconds)))
            else:
                self.outcome.writes += 1
        self.outcome.beliefs += len(held)
        judge_moments(got, held)

    def _lines(self) -> list[str]:
        # The last line may be half written.
        return self._notes.read_text().splitlines(keepends=True)[:-1]

    def _holder(self) -> str:
        """Who got one of the locks last, as far as is known."""
        names = self._dice.choice(self._games).names
        for line in reversed(self._lines()):
            if line.startswith("got ") and line.split()[1] in names:
                return line.split()[1]
        return names[0]

    def _have_got(self, before: Mapping[str, int]) -> bool:
        now = Counter(line.split()[1] for line in self._lines() if line.startswith("got "))
        return all(now[name] > before.get(name, 0) for game in self._games for name in game.names)


def judge_moments(got: Sequence[tuple[int, float]], held: Sequence[tuple[int, float]]) -> None:
    """Tokens and seconds: nobody may have got it with a larger token while it was held with a smaller one."""
    first = float("inf")
    # For each token, when the first one with a larger token had it at the latest.
    later: list[tuple[int, float]] = []
    for token, seconds in sorted(got, reverse=True):
        later.append((token, first))
        first = min(first, seconds)
    ends = dict(later)
    for token, seconds in held:
        assert seconds <= ends.get(token, float("inf")), f"token {token:#x} was held {seconds} and somebody else had it"


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def storm(seed: int, games: Sequence[Game], *, seconds: float = 0.0, faults: Sequence[str] = ()) -> Outcome:
    """Faults for so many seconds, or exactly these."""
    dice = random.Random(seed)
    with (
        tempfile.TemporaryDirectory(prefix="stormlocks-") as folder,
        CoatiServer(props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server,
    ):
        zk = KazooClient(server.address)
        zk.start()
        for game in games:
            zk.create(game.note, b"0")
        zk.stop()
        zk.close()
        running = Storm(server, Path(folder), games, seed)
        try:
            running.start([name for game in games for name in game.names])
            running.wait_for_all()
            ends = time.monotonic() + seconds
            waiting = list(faults)
            while waiting or time.monotonic() < ends:
                running.fault(waiting.pop(0) if waiting else dice.choice(FAULTS))
                threading.Event().wait(dice.uniform(0.05, 0.5))
            running.wait_for_all()
            running.judge()
        except AssertionError:
            print(f"seed {seed}", (Path(folder) / "contenders.log").read_text()[-4000:], sep="\n", file=sys.stderr)
            raise
        finally:
            running.close()
        return running.outcome


def note(options: argparse.Namespace, took_s: float, outcome: Outcome) -> None:
    """A line of the ledger."""
    command = f"python -m tools.storm_locks --minutes {options.minutes:g} --seed {options.seed} --games {options.games}"
    line = f"| {datetime.now(UTC):%Y-%m-%d} | lock storm | `{command}` | {took_s / 60:.0f} min: {outcome} | nothing |\n"
    with LEDGER.open("a") as ledger:
        ledger.write(line)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--games", default=",".join(GAMES), help="the layouts, with a comma between")
    parser.add_argument("--no-ledger", action="store_true")
    for hidden in ("--contend", "--server", "--notes"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.contend:
        notes = Notes(options.notes, options.contend)
        if options.contend in game_of(options.contend).ours:
            asyncio.run(contend(options.server, options.contend, notes))
        else:
            contend_with_kazoo(options.server, options.contend, notes)
        return 0
    began = time.monotonic()
    games = [GAMES[layout] for layout in options.games.split(",")]
    outcome = storm(options.seed, games, seconds=options.minutes * 60)
    print(outcome)
    if not options.no_ledger:
        note(options, time.monotonic() - began, outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())

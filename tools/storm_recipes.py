"""The long run of recipes: clients play games on a simulated ensemble that is disturbed, one seed after the other.

    python -m tools.storm_recipes --seeds 1000 --start 1 --jobs 2

Prints each finding with its seed, and appends a line to docs/ledger.md. A finding is repeated by its seed alone.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import coati
from coati.testing.cluster import ClusterConfig
from coati.testing.world import SimWorld, run
from tools.recipe_games import GAMES, Game

LEDGER: Final = Path(__file__).parent.parent / "docs" / "ledger.md"
SECONDS: Final = 40.0
CHUNK: Final = 10
# Virtual seconds that players may need to come to an end once all is healed.
REST_S: Final = 120.0


WEATHERS: Final = ("storm", "breeze", "breeze", "apart")
# What a calm run has: the ensemble serves nearly all the time, and clients lose what they hold.
MILD: Final = ("cut client", "cut client one way", "heal", "reset", "reset", "lose connection", "expire")


async def weather(world: SimWorld, seconds: float, kind: str) -> None:
    """`storm`: everything at once. `breeze`: one server at a time is away, and not for long. `apart`: one server at a
    time hears no other, and its clients notice nothing."""
    if kind == "storm":
        await world.storm(seconds)
        return
    ends_at = world.loop.time() + seconds
    while world.loop.time() < ends_at:
        await asyncio.sleep(4 * world.dice.random())
        if kind == "apart":
            await _part(world)
        elif world.dice.random() < 0.3:
            await _kill(world)
        elif world.cluster.leader() is not None:
            world.inflict(world.dice.choice(MILD))
    world.heal_all()
    await world.serving()
    world.check_servers()


async def _part(world: SimWorld) -> None:
    sids = list(world.cluster.members)
    alone = world.dice.choice(sids)
    for sid in sids:
        if sid != alone:
            world.cut(sid, alone)
    world.faults["apart"] += 1
    await asyncio.sleep(8 * world.dice.random())
    world.heal()


async def _kill(world: SimWorld) -> None:
    sid = world.dice.choice(list(world.cluster.members))
    world.kill(sid)
    world.faults["kill"] += 1
    await asyncio.sleep(2 * world.dice.random())
    world.restart(sid)


def shape(seed: int) -> ClusterConfig:
    """Quick servers, or ones that take longer to notice the loss of their leader than a session lives."""
    quick = seed % 3
    return ClusterConfig(3) if quick else ClusterConfig(3, tick_ms=1000, init_ticks=12, sync_ticks=12)


async def play(world: SimWorld, *, seconds: float = SECONDS, names: Sequence[str] = (), kind: str = "") -> Counter[str]:
    """One run: some games at once, a storm, the verdicts. How many moves each game has seen."""
    games: list[Game] = [make(world) for make in GAMES]
    if names:
        games = [game for game in games if game.name in names]
    else:
        games = world.dice.sample(games, min(3, len(games)))
    async with coati.Client(world.hosts, entropy=world.random()) as zk:
        for game in games:
            await game.setup(zk)
    ends_at = world.loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        for game in games:
            game.ends_at = ends_at
            for number, player in enumerate(game.players()):
                with world.on_host(f"{game.name}-{number}"):
                    group.create_task(player, name=f"{game.name}-{number}")
        group.create_task(weather(world, seconds, kind or world.dice.choice(WEATHERS)), name="weather")
    async with coati.Client(world.hosts, entropy=world.random()) as zk:
        await zk.sync()
        for game in games:
            await game.verdict(zk)
    return Counter({game.name: game.moves for game in games}) + Counter(
        {f"fault: {fault}": count for fault, count in world.faults.items()}
    )


def run_seeds(first: int, count: int, seconds: float, names: Sequence[str]) -> tuple[Counter[str], list[str]]:
    """Some seeds, one after the other: what happened, and what was found."""
    logging.disable(logging.CRITICAL)
    total: Counter[str] = Counter()
    findings = []
    for seed in range(first, first + count):
        try:
            total += run(
                lambda world: play(world, seconds=seconds, names=names),
                seed,
                config=shape(seed),
                limit_s=seconds + REST_S,
            )
        except Exception as error:
            findings.append(f"seed {seed}: {_text(error)}")
    return total, findings


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_text, error.exceptions))
    return f"{type(error).__name__}: {error}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the seeds and notes them down; 1 if something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of virtual time that faults go on in one seed")
    parser.add_argument("--games", nargs="*", default=(), help=f"of {', '.join(make.__name__ for make in GAMES)}")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    began = time.monotonic()
    total: Counter[str] = Counter()
    findings: list[str] = []
    firsts = range(options.start, options.start + options.seeds, CHUNK)
    counts = [min(CHUNK, options.start + options.seeds - first) for first in firsts]
    names = [name.lower() for name in options.games]
    with ProcessPoolExecutor(options.jobs) as pool:
        each = [options.seconds] * len(counts), [names] * len(counts)
        for done, (seen, found) in enumerate(pool.map(run_seeds, firsts, counts, *each), 1):
            total += seen
            findings += found
            for finding in found:
                print(finding, flush=True)
            print(
                f"{time.monotonic() - began:6.0f} s  {sum(counts[:done])} seeds, {len(findings)} findings", flush=True
            )
    what = ", ".join(f"{name} {count}" for name, count in sorted(total.items()) if not name.startswith("fault"))
    faults = sum(count for name, count in total.items() if name.startswith("fault"))
    hours = options.seeds * options.seconds / 3600
    text = f"{options.seeds} seeds, {faults} faults, {hours:.1f} simulated hours; moves: {what}"
    found_text = f"{len(findings)}: {'; '.join(findings[:3])}" if findings else "nothing"
    print(text)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = f"`python -m tools.storm_recipes --start {options.start} --seeds {options.seeds}`"
    minutes = (time.monotonic() - began) / 60
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | recipe storm | {command} | {minutes:.0f} min: {text} | {found_text} |\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

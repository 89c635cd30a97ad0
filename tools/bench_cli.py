"""The bulk commands on a large tree: `python -m tools.bench_cli --znodes 1000000 --shapes tree wide deep`.

Fills a coati server with each shape in turn and runs export, find, du and import as processes of their own. Shows
znodes a second by the clock, what the command took of a processor, and the most memory it had. The processor's time is
hardly touched by what else the machine does.

Shapes: `tree` has a thousand children below each parent, `wide` has one parent, `deep` is a binary tree.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from coati import Client, Create
from tools.bench_servers import PURE, Contender

HEAP: Final = "2g"
FAN_OUT: Final = 1000
OPS: Final = 500
IN_FLIGHT: Final = 4
DATA: Final = b"x" * 100
ROOT: Final = "/filled"
MB: Final = 1 << 20
BAR: Final = 20_000
COMMANDS: Final[dict[str, list[str]]] = {
    "export": ["export", ROOT],
    "export --no-acl": ["export", ROOT, "--no-acl"],
    "find": ["find", ROOT, "*7"],
    "du": ["du", ROOT],
    "import": ["import", "{file}", "/copy", "--no-acl"],
}


class Row(NamedTuple):
    """One command on one shape."""

    shape: str
    command: str
    wall_s: float
    cpu_s: float
    rss_bytes: int
    code: int


def paths(shape: str, count: int) -> Iterator[str]:
    """So many, parents first."""
    if shape == "tree":
        for number in range(count):
            parent, child = divmod(number, FAN_OUT)
            if child == 0:
                yield f"{ROOT}/p{parent:06}"
            else:
                yield f"{ROOT}/p{parent:06}/n{child:06}"
    elif shape == "wide":
        for number in range(count):
            yield f"{ROOT}/n{number:07}"
    else:
        for number in range(2, count + 2):
            # The binary digits behind the first are the way.
            yield ROOT + "".join(f"/{digit}" for digit in f"{number:b}"[1:])


async def fill(address: str, shape: str, count: int) -> None:
    """Makes them, several transactions at a time."""
    async with Client(address, timeout=120.0, session_timeout=40.0) as zk:
        await zk.create(ROOT)
        left = paths(shape, count)
        sent: list[asyncio.Task[object]] = []
        while some := list(islice(left, OPS)):
            sent.append(asyncio.ensure_future(zk.multi(Create(path, DATA) for path in some)))
            if len(sent) == IN_FLIGHT:
                await sent.pop(0)
        await asyncio.gather(*sent)


def measured(address: str, shape: str, command: str, file: Path) -> Row:
    """Runs it to its end; exports go to `file`."""
    words = [word.replace("{file}", str(file)) for word in COMMANDS[command]]
    with (file if command.startswith("export") else Path(os.devnull)).open("wb") as out:
        begin_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "coati", "--server", address, "--timeout", "120", *words], stdout=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin_s
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    return Row(shape, command, wall_s, cpu_s, usage.ru_maxrss * 1024, process.returncode)


def main() -> int:
    """Shows a table; 1 if a command failed or was slower than the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--shapes", nargs="+", choices=("tree", "wide", "deep"), default=["tree", "wide", "deep"])
    parser.add_argument("--commands", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS))
    options = parser.parse_args()
    failed = False
    print(f"{'shape':<6} {'command':<16} {'znodes/s':>9} {'processor':>10} {'most memory':>12}")
    for shape in options.shapes:
        with (
            tempfile.TemporaryDirectory() as directory,
            Contender(PURE, Path(sys.executable), None).running(
                Path(directory, "server"), heap=HEAP, props={"zookeeper.forceSync": "no"}
            ) as server,
        ):
            address = "{}:{}".format(*server.address)
            asyncio.run(fill(address, shape, options.znodes))
            for command in options.commands:
                row = measured(address, shape, command, Path(directory, "dump.jsonl"))
                rate = options.znodes / row.wall_s
                failed = failed or row.code != 0 or rate < BAR
                print(
                    f"{row.shape:<6} {row.command:<16} {rate:>9,.0f} {row.cpu_s:>8.1f} s {row.rss_bytes / MB:>9.0f} MB"
                    + (f"  exit {row.code}" if row.code else ""),
                    flush=True,
                )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

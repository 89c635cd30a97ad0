"""A coati server whose time of day is wrong, by what a file says at the moment: for storms over real processes.

The clock enters by the constructor, where a simulated one does. FILE has the milliseconds to add, as eight bytes,
the highest first; whoever writes them makes the clock jump (`hardware.WallClock`).

    python -P tools/shifted_clock.py FILE [--log-level LEVEL] [-Dname=value ...] zoo.cfg
"""

from __future__ import annotations

import argparse
import mmap
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from coati.server.clock import SystemClock
from coati.server.config import Entry, load_config
from coati.server.main import run

_SHIFT: Final = struct.Struct(">q")


class ShiftedClock(SystemClock):
    """Whose wall clock jumps; the other one cannot."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._shift = mmap.mmap(file.fileno(), _SHIFT.size, access=mmap.ACCESS_READ)

    def wall_ms(self) -> int:
        shift: int = _SHIFT.unpack_from(self._shift)[0]
        return super().wall_ms() + shift


def main(argv: Sequence[str] | None = None) -> int:
    """The server's exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shift", type=Path)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("-D", dest="properties", action="append", default=[])
    parser.add_argument("config")
    options = parser.parse_args(argv)
    pairs = [text.partition("=") for text in options.properties]
    properties = {name: Entry(value, f"-D{name}") for name, _, value in pairs}
    config = load_config(options.config, overrides={}, properties=properties)
    return run(config, sys.stderr, log_level=options.log_level, clock=ShiftedClock(options.shift))


if __name__ == "__main__":
    sys.exit(main())

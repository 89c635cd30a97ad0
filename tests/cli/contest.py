"""Contenders for one lock: processes of `coati lock`, whose children note when they are there.

Each child writes its fence and the time of CLOCK_MONOTONIC into a file, a hundred times a second, and hears no SIGTERM:
only what kills it ends it. So the file tells, whatever happened to `coati`, whether two were ever there at a time.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEATS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
notes = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
ends = time.monotonic() + float(sys.argv[2])
while time.monotonic() < ends:
    os.write(notes, b"%d %.6f\\n" % (int(os.environ["ZK_FENCE"]), time.monotonic()))
    time.sleep(0.01)
"""


@dataclass(frozen=True)
class Stay:
    """What the child of one fence has noted: when it was there first and last."""

    fence: int
    first: float
    last: float


def contend(
    hosts: str, path: str, notes: Path, *, session_s: float, stays_s: float = 3600.0, flags: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """A process that waits for the lock, and then runs such a child for so long."""
    command = ["lock", path, "--session", str(session_s), *flags, "--"]
    child = [sys.executable, "-I", "-S", "-c", BEATS, str(notes), str(stays_s)]
    return subprocess.Popen(
        [sys.executable, "-m", "coati", "-s", hosts, *command, *child],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def stays(notes: Path) -> list[Stay]:
    """By fence."""
    times: dict[int, list[float]] = {}
    # The last line may be half written.
    for line in (notes.read_text() if notes.exists() else "").splitlines(keepends=True)[:-1]:
        fence, seconds = line.split()
        times.setdefault(int(fence), []).append(float(seconds))
    return [Stay(fence, min(seen), max(seen)) for fence, seen in sorted(times.items())]


def judge(notes: Path) -> list[Stay]:
    """Raises AssertionError where one was there before the one with the smaller fence had gone."""
    found = stays(notes)
    for before, after in itertools.pairwise(found):
        assert before.last < after.first, f"{after} came {before.last - after.first:.3f} s before the end of {before}"
    return found

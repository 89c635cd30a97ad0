"""Processes beside an attack: a well-behaved client that measures how it is served, and one that only connects.

Knows the client protocol by tests/interop/raw.py. Each is a process of its own, so that what it measures is the
server's time and not that of the attacker's interpreter.

    python -m tools.onlooker watch HOST PORT      until its input ends; then "count p50_us p99_us worst_us"
    python -m tools.onlooker flood HOST PORT N    N connections from one address as fast as it can; then "count ms"
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.interop import raw

ROOT: Final = Path(__file__).resolve().parents[1]
PAUSE_S: Final = 0.001
DEADLINE_S: Final = 60.0
# How many connections the flood holds before it lets the oldest go, which is more than one address may have.
HELD: Final = 500
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Served:
    """How long pings took."""

    count: int
    p50_ms: float
    p99_ms: float
    worst_ms: float

    def __str__(self) -> str:
        return f"{self.count} pings, p50 {self.p50_ms:.1f}, p99 {self.p99_ms:.1f}, worst {self.worst_ms:.0f} ms"


class Onlooker:
    """The client that watches, from the outside. A context manager; `served` is there behind the block."""

    served: Served

    def __init__(self, host: str, port: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tools.onlooker", "watch", host, str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def __enter__(self) -> Onlooker:
        assert self._child.stdout is not None, "it was opened with a pipe"
        assert self._child.stdout.readline() == "ready\n", "the onlooker could not connect"
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        said, _nothing = self._child.communicate()
        if kind is None:
            assert self._child.returncode == 0, "the onlooker was not served"
            count, p50, p99, worst = map(int, said.split())
            self.served = Served(count, p50 / 1000, p99 / 1000, worst / 1000)


def flood(host: str, port: int, count: int) -> tuple[int, int]:
    """A flood by another process: how many connections in how many ms."""
    command = [sys.executable, "-m", "tools.onlooker", "flood", host, str(port), str(count)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    made, took_ms = map(int, said.split())
    return made, took_ms


def _watch(host: str, port: int) -> None:
    """Pings until the input ends."""
    times: list[int] = []
    with raw.Session(host, port, 60_000, deadline_s=DEADLINE_S) as session:
        print("ready", flush=True)
        while not times or not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            began = time.perf_counter_ns()
            session.ping()
            times.append((time.perf_counter_ns() - began) // 1000)
        session.close()
    times.sort()
    print(len(times), times[len(times) // 2], times[int(len(times) * 0.99)], times[-1])


def _flood(host: str, port: int, count: int) -> None:
    """Connects and says nothing. The kernel is not waited for: what it cannot take is an attempt all the same."""
    held: deque[socket.socket] = deque()
    began = time.monotonic()
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            one.bind(("127.0.0.9", 0))
            one.connect_ex((host, port))
        held.append(one)
        if len(held) > HELD:
            held.popleft().close()
    took_ms = int((time.monotonic() - began) * 1000)
    for one in held:
        one.close()
    print(count, took_ms)


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        _watch(sys.argv[2], int(sys.argv[3]))
    else:
        _flood(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

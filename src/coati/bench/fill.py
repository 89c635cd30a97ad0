"""Filling a server with many znodes, and removing what a run made.

Must not know what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coati.bench.load import Lane, Load
from coati.bench.ring import LAP_MARK, Ring, create_ring
from coati.bench.session import BenchFailed, Host, Session

FAN_OUT: Final = 1000
CONNECTIONS: Final = 8
IN_FLIGHT: Final = 64


def fill(hosts: Sequence[Host], root: bytes, count: int, data: bytes) -> None:
    """Create `root`, below it parents, and `count` znodes of `data` below those, FAN_OUT in each.

    Raises BenchFailed when one cannot be created, ProtocolError.
    """
    parents = -(-count // FAN_OUT)
    with Session(hosts[0]) as session:
        session.create(root)
        if parents == 0:
            return
        ring = create_ring(root + b"/p", b"", window=IN_FLIGHT, size=max(parents, IN_FLIGHT))
        _run_out([Lane(session.sock, ring, budget=parents)])
    children = create_ring(root + b"/p" + LAP_MARK + b"/n", data, window=IN_FLIGHT, size=FAN_OUT)
    sessions: list[Session] = []
    try:
        for i in range(min(CONNECTIONS, parents)):
            sessions.append(Session(hosts[i % len(hosts)]))
        _run_out(_filling_lanes(sessions, children, parents, count))
        for session in sessions:
            session.close()
    finally:
        for session in sessions:
            session.abort()


def filled_path(root: bytes, number: int) -> bytes:
    """The `number`th of the znodes that `fill` made."""
    return b"%s/p%06d/n%06d" % (root, number // FAN_OUT, number % FAN_OUT)


def remove_tree(session: Session, path: bytes) -> None:
    """Delete `path` and all below it, children first. Raises KeeperError when somebody else is at work there."""
    levels = [[path]]
    while below := session.children(*levels[-1]):
        levels.append(below)
    for level in reversed(levels):
        session.delete(*level)


def _filling_lanes(sessions: list[Session], ring: Ring, parents: int, count: int) -> list[Lane]:
    """Lane i fills the parents i, i + lanes, i + 2 * lanes ...; the last parent may stay partly empty."""
    lanes: list[Lane] = []
    for i, session in enumerate(sessions):
        own = range(i, parents, len(sessions))
        budget = sum(min(FAN_OUT, count - parent * FAN_OUT) for parent in own)
        lanes.append(Lane(session.sock, ring, first_lap=i, lap_step=len(sessions), budget=budget))
    return lanes


def _run_out(lanes: list[Lane]) -> None:
    load = Load(lanes)
    load.start(IN_FLIGHT)
    load.run_out()
    load.stop()
    for lane in lanes:
        if lane.errors:
            raise BenchFailed(f"filling met errors, by code: {dict(lane.errors)}")

"""The gate of a simulated process: while the process is stopped (SIGSTOP) all that would run in it waits here.

Knows callables, and where they come from. Its clock goes on, its connections stay open, its sockets take what fits;
when it goes on (SIGCONT) it meets what waited as an event loop does: first what it had put off itself, then what its
sockets hold, one after the other and each in its order, then the timers that are late, then the ends of connections.
Source: uv_run, and asyncio's _run_once, which read once from each socket before they look at the timers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

Call: TypeAlias = Callable[[], None]

# What a callable is, in the order in which an event loop comes to it.
SOON: Final = 0
HEARD: Final = 1
DUE: Final = 2
ENDED: Final = 3


class Gate:
    """Of one process. `is_shut`: it is stopped."""

    __slots__ = ("_held", "is_shut")

    def __init__(self) -> None:
        self.is_shut = False
        self._held: list[tuple[int, object, Call]] = []

    def enter(self, kind: int, source: object, call: Call) -> None:
        """Runs it, or keeps it. What is HEARD of one source keeps its order."""
        if self.is_shut:
            self._held.append((kind, source, call))
        else:
            call()

    def shut(self) -> None:
        """The process is stopped."""
        self.is_shut = True

    def abandon(self) -> None:
        """The process is gone, and what waited with it."""
        self.is_shut = False
        self._held = []

    def open(self, dice: Random) -> tuple[list[Call], list[Call]]:
        """It goes on: what it does at once, in order, and what it sees the next time that it looks at its sockets."""
        self.is_shut = False
        held, self._held = self._held, []
        sources: dict[object, list[Call]] = {}
        for kind, source, call in held:
            if kind == HEARD:
                sources.setdefault(source, []).append(call)
        heard = list(sources.values())
        dice.shuffle(heard)
        calls = [call for kind, _, call in held if kind == SOON]
        calls += [call for stream in heard for call in stream]
        calls += [call for kind, _, call in held if kind == DUE]
        return calls, [call for kind, _, call in held if kind == ENDED]

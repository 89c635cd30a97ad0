"""Registers under a storm: znodes that all clients write and read behind a sync, judged without believing any zxid.

Keeps what was asked and told of each, in the order of one clock, and asks `coati.testing.linear` whether any order of
the operations explains it. Each register gets so many operations as the search can take, then there is a new one.
Must not know servers, logs or zxids.
Invariant: a call is known before its first byte leaves, a return when it has come.
"""

from __future__ import annotations

from random import Random
from typing import Final

from coati.testing.linear import MAX_OPERATIONS, TOLD, Step, check_register
from tools.storm_history import MAX_FAULTS
from tools.tree_model import NO_NODE, OK, Stat, Write

# Far fewer than the search takes: what is in flight together makes it long.
OPERATIONS: Final = MAX_OPERATIONS // 2
KINDS: Final = {"create": 2, "set": 4, "cas": 4, "delete": 1, "look": 6}
_NEVER: Final = 1 << 62
# Of raw.Stat.
_VERSION: Final = 4


class Registers:
    """All of one run."""

    def __init__(self) -> None:
        self.steps: dict[bytes, list[Step]] = {}
        self._now = 0
        self._number = 0
        self._pending: dict[tuple[int, int], Step] = {}

    def draw(self, dice: Random, data: bytes) -> Write:
        """The next operation: a write, or a "look"."""
        path = b"/s/r%d" % self._number
        if len(self.steps.get(path, ())) >= OPERATIONS:
            self._number += 1
            path = b"/s/r%d" % self._number
        (kind,) = dice.choices(*zip(*KINDS.items(), strict=True))
        if kind == "cas":
            return Write("set", path, data, dice.randrange(8))
        return Write(kind, path, data if kind in ("create", "set") else b"")

    def called(self, session_id: int, xid: int, write: Write) -> None:
        """A write of a register, or the sync before a look at it, is about to be sent; its reply has this xid."""
        self._now += 1
        step = Step("read" if write.kind == "look" else write.kind, self._now, _NEVER, None)
        step.data, step.version, step.source = write.data, write.version, (hex(session_id), xid, write)
        self._pending[session_id, xid] = step
        self.steps.setdefault(write.path, []).append(step)

    def returned(self, session_id: int, xid: int, err: int, shown: tuple[bytes, Stat] | None = None) -> None:
        """A reply has come."""
        self._now += 1
        step = self._pending.pop((session_id, xid), None)
        if step is not None:
            step.end, step.err = self._now, err
            if shown is not None:
                step.shown = (shown[0], shown[1][_VERSION])

    def faults(self) -> list[str]:
        """What no order explains."""
        found = []
        for path, steps in self.steps.items():
            violation = check_register(path, [step for step in steps if _counts(step)])
            if violation is not None:
                found.append(str(violation))
        return found[:MAX_FAULTS]


def _counts(step: Step) -> bool:
    """Whether it may have changed something, or has told something."""
    if step.kind == "read":
        return step.err in (OK, NO_NODE)
    return step.err is None or step.err in TOLD

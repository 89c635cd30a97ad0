"""The cycle collector, kept away from the tree.

A million znodes are a million objects for it to look at, half a second each time, and nothing of ours makes cycles in
steady state. So it is off while a tree is made, the tree is frozen out of its sight, and the rest looked at rarely.
For a process with one server in it.
"""

from __future__ import annotations

import gc
from typing import Final

GC_THRESHOLDS: Final = (100_000, 50, 1000)


class CycleCollector:
    """coati.server.recovery.Collector."""

    def __init__(self) -> None:
        self._has_tree = False

    def rest(self) -> None:
        if self._has_tree:
            # What is garbage now and frozen later is never freed: a server that served has left cycles. It is quick,
            # as the tree is out of sight.
            gc.collect()
        gc.disable()

    def go_on(self) -> None:
        gc.enable()

    def settle(self) -> None:
        self._has_tree = True
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()

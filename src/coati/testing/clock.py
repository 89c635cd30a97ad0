"""A simulated clock: time moves only from one event to the next.

Knows a heap of callables ordered by (time, serial), so that what is due at once runs in the order it was asked for.
Must not know what the callables do. Wall time is simulated time moved by `skew_ms`, which a run may change as it likes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

# Some time after boot, and some time after 1970: zero would hide mistakes.
BOOT_MS: Final = 86_400_000
EPOCH_MS: Final = 1_700_000_000_000
MAX_EVENTS: Final = 1_000_000


class SimClock:
    """coati.seams.Clock, and the loop that all parts of a simulation share."""

    def __init__(self, now_ms: int = BOOT_MS, wall_ms: int = EPOCH_MS) -> None:
        self.now_ms = now_ms
        self.skew_ms = wall_ms - now_ms
        # How much time passes whenever somebody looks at the clock: a machine on which work takes its time.
        self.look_ms = 0
        self._serial = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    # coati.seams.Clock

    def monotonic_ms(self) -> int:
        self.now_ms += self.look_ms
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms + self.skew_ms

    # What the simulation does

    def post(self, call: Callable[[], None]) -> None:
        """Runs it at the present time, behind what is due already."""
        self.call_at(self.now_ms, call)

    def call_at(self, when_ms: int, call: Callable[[], None]) -> None:
        """Runs it at that time, or now if that is over."""
        self._serial += 1
        heapq.heappush(self._heap, (max(when_ms, self.now_ms), self._serial, call))

    def next_ms(self) -> int | None:
        """When the next event is due; None: there is none."""
        return self._heap[0][0] if self._heap else None

    def step(self, until_ms: int) -> bool:
        """Runs the next event that is due by then; False when there is none, and then it is `until_ms`."""
        if not self._heap or self._heap[0][0] > until_ms:
            self.now_ms = max(self.now_ms, until_ms)
            return False
        when_ms, _, call = heapq.heappop(self._heap)
        self.now_ms = max(self.now_ms, when_ms)
        call()
        return True

    def advance(self, duration_ms: int) -> None:
        """Runs all that is due within the time, which is then over."""
        until_ms = self.now_ms + duration_ms
        for _ in range(MAX_EVENTS):
            if not self.step(until_ms):
                return
        raise AssertionError(f"more than {MAX_EVENTS} events in {duration_ms} ms: something never comes to rest")

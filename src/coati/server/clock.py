"""The real Clock: the operating system's."""

from __future__ import annotations

import time


class SystemClock:
    """coati.seams.Clock."""

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def monotonic_us(self) -> int:
        """The same clock in microseconds, for the shells alone."""
        return time.monotonic_ns() // 1000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

"""The time of day, for the recipes that members agree on by it: leases, delays, schedules. All take another clock."""

from __future__ import annotations

import time


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()

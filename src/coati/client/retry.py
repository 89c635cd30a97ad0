"""Retry: how often, how long apart, and never more than the load can bear.

Pure: the dice come from the caller. Jitter is full (a random share of the delay), so that clients that failed together
do not come back together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

_UNLIMITED: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Retry:
    """At most `attempts` tries of one call within its timeout; pauses grow from `base` seconds, doubling, to `cap`.

    Repeated are reads and writes that do the same twice (versioned `set` and `delete`, `ensure`), and what the server
    threw away unexecuted. Anything else raises at once and says whether it may have been applied.
    """

    attempts: int = _UNLIMITED
    base: float = 0.05
    cap: float = 2.0

    DEFAULT: ClassVar[Retry]
    NONE: ClassVar[Retry]

    def pause_s(self, failures: int, chance: Callable[[], float]) -> float:
        """Before the next try after so many failures; `chance` gives numbers from 0 to 1."""
        return chance() * min(self.cap, self.base * 2.0 ** min(failures - 1, 30))


Retry.DEFAULT = Retry()
Retry.NONE = Retry(attempts=1)

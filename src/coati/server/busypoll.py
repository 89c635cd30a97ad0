"""Busy polling: the loop stays awake for the short time that a quick disk takes to sync.

A processor that has nothing to do is halted, and in a virtual machine it takes the host tens of microseconds to run it
again when the disk is ready: a good part of what a lone write takes. So the loop turns instead, and gives way to every
thread and process that wants the processor. How long is bounded, and it is not tried behind a disk that is slower.
In an ensemble a write waits for the disks of others besides, so there the loop stays awake a while longer.

Knows callables only; must not know what is synced. Invariant: it is posted at most once at a time.
"""

from __future__ import annotations

from collections.abc import Callable


class BusyPoll:
    """`post` runs a callable soon on the loop's thread; `now_us` is monotonic, `give_way` is os.sched_yield.

    It turns until the sync ends, no longer than `limit_us`, and not at all behind a sync that took longer. If it
    `outlasts` the sync it turns for all of that time.
    """

    __slots__ = (
        "_deadline_us",
        "_give_way",
        "_is_due",
        "_is_posted",
        "_is_worth_it",
        "_limit_us",
        "_now_us",
        "_outlasts",
        "_post",
    )

    def __init__(
        self,
        post: Callable[[Callable[[], None]], object],
        now_us: Callable[[], int],
        give_way: Callable[[], None],
        limit_us: int,
        *,
        outlasts: bool = False,
    ) -> None:
        self._post = post
        self._now_us = now_us
        self._give_way = give_way
        self._limit_us = limit_us
        self._outlasts = outlasts
        self._deadline_us = 0
        self._is_due = False
        self._is_posted = False
        self._is_worth_it = True

    def begin(self) -> None:
        """A sync has begun."""
        if self._is_worth_it:
            self._is_due = True
            self._deadline_us = self._now_us() + self._limit_us
            if not self._is_posted:
                self._is_posted = True
                self._post(self._turn)

    def end(self, took_ms: float) -> None:
        """The sync has ended. One that took too long says what to expect of the next."""
        self._is_worth_it = took_ms * 1000 < self._limit_us
        self._is_due = self._outlasts and self._is_worth_it

    def _turn(self) -> None:
        if self._is_due and self._now_us() < self._deadline_us:
            self._give_way()
            self._post(self._turn)
        else:
            self._is_posted = False

"""The guard: what may be an attack is limited, and said in the log once.

Knows addresses, times and counts. Must not know connections, requests or passwords: it is told what happened.
Invariants: memory is bounded, however many addresses try; who is barred learns nothing, a right password neither.
"""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("coati.server.guard")

# How many wrong passwords of the super user one address may try in a window of so long. Java has no limit, so a good
# line tries a hundred thousand in that time.
MAX_WRONG: Final = 100
WINDOW_MS: Final = 10_000
# Addresses remembered; the one that began first is forgotten.
MAX_ADDRESSES: Final = 1000


class Guard:
    """Counts by address."""

    __slots__ = ("_wrong",)

    def __init__(self) -> None:
        # When the window of an address began, and how many wrong passwords came from it since.
        self._wrong: dict[str, tuple[int, int]] = {}

    def refuses_super(self, host: str, is_right: bool, now_ms: int) -> bool:
        """Somebody names the super user; whether not even to look at the password."""
        began_ms, count = self._wrong.get(host, (now_ms, 0))
        if now_ms - began_ms >= WINDOW_MS:
            del self._wrong[host]
            began_ms, count = now_ms, 0
        if count >= MAX_WRONG:
            return True
        if is_right:
            return False
        if count == 0:
            logger.warning("wrong password of the super user peer=%s", host)
            if len(self._wrong) >= MAX_ADDRESSES:
                del self._wrong[next(iter(self._wrong))]
        count += 1
        self._wrong[host] = (began_ms, count)
        if count == MAX_WRONG:
            logger.warning("too many wrong passwords of the super user peer=%s barred_ms=%d", host, WINDOW_MS)
        return False

    def on_moved(self, session_id: int, old_host: str, new_host: str) -> None:
        """A session has left its connection for another one, by its password (S4)."""
        logger.info("session moved session=%#x from=%s to=%s", session_id, old_host, new_host)

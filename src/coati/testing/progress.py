"""How far each server's tree was, and when, from the traces.

That txns are applied in their order and without holes is judged elsewhere (Z4, Z5), so one zxid says it all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from coati.testing import history
from coati.testing.history import Trace

_MOVES = (history.RECOVERED, history.INSTALLED, history.APPLIED)


class Progress:
    """Of one run."""

    def __init__(self, traces: Iterable[Trace]) -> None:
        self._times: dict[int, list[int]] = {}
        self._zxids: dict[int, list[int]] = {}
        for trace in traces:
            if trace.kind in _MOVES:
                self._note(trace, trace.zxid)
            elif trace.kind == history.TRUNCATED:
                self._note(trace, min(trace.zxid, *self._zxids.get(trace.sid, [0])[-1:]))

    def _note(self, trace: Trace, zxid: int) -> None:
        self._times.setdefault(trace.sid, []).append(trace.at_ms)
        self._zxids.setdefault(trace.sid, []).append(zxid)

    def has(self, sid: int, zxid: int, by_ms: int) -> bool:
        """Whether that server had it at the end of `by_ms`: applied, or in what it began with."""
        index = bisect_right(self._times.get(sid, []), by_ms)
        return index > 0 and self._zxids[sid][index - 1] >= zxid

"""What a server counts: packets, latencies, and everything else that `mntr` shows, by Java's names.

Knows numbers only; must not know connections, the tree or time. Cheap by batches: whoever answers many requests in
one turn reports them with one call. Sources: ServerStats, AvgMinMaxCounter, AvgMinMaxPercentileCounter, BufferStats.
Invariant: memory is bounded, whatever is counted for however long.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Final

# Latencies are whole milliseconds; above this they are kept in steps of it, which bounds the histogram's size.
EXACT_UP_TO: Final = 1000
LENGTH_BYTES: Final = 4


class Summary:
    """Average, minimum, maximum, count and sum; and percentiles from an exact histogram.

    Java samples 4096 values of all for its percentiles (ResettableUniformReservoir); the histogram has them all.
    """

    __slots__ = ("count", "highest", "histogram", "lowest", "total")

    def __init__(self) -> None:
        self.histogram: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.lowest = 0
        self.highest = 0

    def add(self, value: int, times: int = 1) -> None:
        """Counts `value`, a number not below zero, `times` over."""
        if self.count == 0 or value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value
        self.count += times
        self.total += value * times
        if value > EXACT_UP_TO:
            value = _coarse(value)
        self.histogram[value] = self.histogram.get(value, 0) + times

    def reset(self) -> None:
        self.histogram.clear()
        self.count = 0
        self.total = 0
        self.lowest = 0
        self.highest = 0

    def average(self) -> float:
        """Rounded half up to four places, as BigDecimal does from the exact value of the double."""
        if not self.count:
            return 0.0
        over, under = (self.total / self.count).as_integer_ratio()
        return (over * 20_000 + under) // (under * 2) / 10_000

    def percentile(self, quantile: float) -> int:
        """Interpolated and rounded like com.codahale.metrics.UniformSnapshot.getValue."""
        if not self.count:
            return 0
        position = quantile * (self.count + 1)
        index = int(position)
        values = sorted(self.histogram)
        # With the quantiles in use, of 0.5 and more, the position is never before the first value.
        if index >= self.count:
            return values[-1]
        # How many values there are up to each one: the list that the histogram stands for, without writing it out.
        ends = list(accumulate(self.histogram[value] for value in values))
        lower, upper = values[bisect_right(ends, index - 1)], values[bisect_right(ends, index)]
        return int(lower + (position - index) * (upper - lower) + 0.5)


def _coarse(value: int) -> int:
    """Three digits are enough of a long time: 12,345 becomes 12,300."""
    step: int = 10 ** (len(str(value)) - 3)
    return value // step * step


class ServerStats:
    """The counters of one server since its start, or since the four-letter word `srst`.

    `counters` and `summaries` go by the names of Java's ServerMetrics; what is not there is shown as zero.
    """

    __slots__ = (
        "_instant_reads",
        "_last_sent",
        "_latency",
        "_read_latency",
        "_summaries",
        "auth_failed",
        "counters",
        "fsync_slow",
        "packets_received",
        "packets_sent",
        "received_bytes",
        "response_max_bytes",
        "response_min_bytes",
        "sent_bytes",
        "update_latency",
        "watch_bytes",
    )

    def __init__(self) -> None:
        self.packets_received = 0
        self.packets_sent = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.watch_bytes = 0
        # Reads that were answered in the turn they came in, which are most, until somebody looks at the summaries.
        self._instant_reads = 0
        self._latency = Summary()
        self._read_latency = Summary()
        self.update_latency = Summary()
        self.counters: dict[str, int] = {}
        self._summaries: dict[str, Summary] = {
            "readlatency": self._read_latency,
            "updatelatency": self.update_latency,
        }
        # The length field that was sent last.
        self._last_sent = b""
        self.response_min_bytes = -1
        self.response_max_bytes = -1
        # Not set back by `srst`, in Java neither.
        self.auth_failed = 0
        self.fsync_slow = 0

    def on_reads(self, replies: int, latency_ms: int = 0) -> None:
        """`replies` requests that change nothing have been answered, each `latency_ms` after it came."""
        self.packets_received += replies
        self.packets_sent += replies
        if latency_ms:
            self._latency.add(latency_ms, replies)
            self._read_latency.add(latency_ms, replies)
        else:
            self._instant_reads += replies

    def on_updates(self, replies: int, latency_ms: int) -> None:
        """`replies` writes have been answered, each `latency_ms` after it came."""
        self.packets_received += replies
        self.packets_sent += replies
        self._latency.add(latency_ms, replies)
        self.update_latency.add(latency_ms, replies)

    def on_auth(self, *, is_ok: bool) -> None:
        """An auth packet has been answered, or a client that should have sent one been refused."""
        self.packets_received += 1
        self.packets_sent += 1
        if not is_ok:
            self.auth_failed += 1

    def on_event(self, frame_bytes: int) -> None:
        """An event is on its way to one watcher."""
        self.packets_sent += 1
        self.watch_bytes += frame_bytes - LENGTH_BYTES

    def on_sent(self, data: bytes) -> None:
        """Whole frames leave together; the first tells a size, since looking at each would cost every reply."""
        size = len(data)
        self.sent_bytes += size
        self._last_sent = data[:LENGTH_BYTES]
        size -= LENGTH_BYTES
        # One frame alone, which is all of the data, is rarely the largest or the smallest so far.
        if size > self.response_max_bytes or size < self.response_min_bytes:
            first = self.response_last_bytes
            self.response_max_bytes = max(first, self.response_max_bytes)
            if first < self.response_min_bytes or self.response_min_bytes < 0:
                self.response_min_bytes = first

    @property
    def response_last_bytes(self) -> int:
        """The size of the reply that began what was sent last, without its length field; -1: none was."""
        return int.from_bytes(self._last_sent, "big") if self._last_sent else -1

    @property
    def latency(self) -> Summary:
        """Of all requests."""
        self._settle()
        return self._latency

    @property
    def summaries(self) -> dict[str, Summary]:
        """All of them by name, but for `latency`, which has none in Java."""
        self._settle()
        return self._summaries

    def _settle(self) -> None:
        if self._instant_reads:
            self._latency.add(0, self._instant_reads)
            self._read_latency.add(0, self._instant_reads)
            self._instant_reads = 0

    def count(self, name: str, times: int = 1) -> None:
        """Adds to the counter `name`."""
        self.counters[name] = self.counters.get(name, 0) + times

    def observe(self, name: str, value: int, times: int = 1) -> None:
        """Adds `value` to the summary `name`."""
        summary = self._summaries.get(name)
        if summary is None:
            summary = self._summaries[name] = Summary()
        summary.add(value, times)

    def reset(self) -> None:
        """The four-letter word `srst`."""
        self.packets_received = 0
        self.packets_sent = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.watch_bytes = 0
        self._instant_reads = 0
        self._latency.reset()
        self.counters.clear()
        for summary in self._summaries.values():
            summary.reset()
        self._last_sent = b""
        self.response_min_bytes = -1
        self.response_max_bytes = -1

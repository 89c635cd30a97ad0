"""The counters: AvgMinMaxCounter, AvgMinMaxPercentileCounter and BufferStats of Java."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coati.server.stats import ServerStats, Summary
from tests.server.kit import frame


def summary(*values: int) -> Summary:
    made = Summary()
    for value in values:
        made.add(value)
    return made


def test_summary_without_values_is_zero() -> None:
    nothing = Summary()
    assert (nothing.lowest, nothing.average(), nothing.highest, nothing.count, nothing.total) == (0, 0.0, 0, 0, 0)
    assert nothing.percentile(0.99) == 0


def test_summary_counts() -> None:
    made = summary(5, 1, 1, 7)
    assert (made.lowest, made.average(), made.highest, made.count, made.total) == (1, 3.5, 7, 4, 14)


def test_summary_counts_a_batch_as_its_parts() -> None:
    batch = Summary()
    batch.add(3, 4)
    parts = summary(3, 3, 3, 3)
    assert (batch.count, batch.total, batch.histogram) == (parts.count, parts.total, parts.histogram)


@pytest.mark.parametrize(
    ("total", "count", "average"),
    [
        (14, 13, 1.0769),
        (1, 32, 0.0313),
        (3, 32, 0.0938),
        (2, 3, 0.6667),
        (1, 3, 0.3333),
        (1, 100_000, 0.0),
        (7, 1, 7.0),
    ],
)
def test_average_is_rounded_half_up_to_four_places(total: int, count: int, average: float) -> None:
    """BigDecimal.setScale(4, HALF_UP); Python's own rounding would make 1/32 0.0312."""
    made = Summary()
    made.count, made.total = count, total
    assert made.average() == average


# Values and percentiles printed by com.codahale.metrics.UniformSnapshot of metrics-core 4.2.30, after Math.round.
CODAHALE = [
    ((5,), (5, 5, 5, 5)),
    ((0, 1), (1, 1, 1, 1)),
    ((0, 0, 0, 1, 1, 1, 1, 5), (1, 5, 5, 5)),
    (tuple(range(100)), (50, 95, 99, 99)),
    (tuple(range(0, 1000, 10)), (495, 949, 990, 990)),
]


@pytest.mark.parametrize(("values", "percentiles"), CODAHALE)
def test_percentiles_are_those_of_codahale(values: tuple[int, ...], percentiles: tuple[int, ...]) -> None:
    made = summary(*reversed(values))
    assert tuple(made.percentile(quantile) for quantile in (0.5, 0.95, 0.99, 0.999)) == percentiles


def test_histogram_is_bounded() -> None:
    made = Summary()
    for value in range(0, 10_000_000, 97):
        made.add(value)
    assert len(made.histogram) < 6000
    assert made.percentile(0.5) == pytest.approx(5_000_000, rel=0.01)


def test_summary_resets() -> None:
    made = summary(1, 2, 3)
    made.reset()
    assert (made.lowest, made.average(), made.highest, made.count, made.total) == (0, 0.0, 0, 0, 0)
    assert made.percentile(0.5) == 0


def test_reads_and_updates_are_told_apart() -> None:
    stats = ServerStats()
    stats.on_reads(10, 2)
    stats.on_updates(1, 5)
    assert (stats.latency.count, stats.latency.total, stats.latency.highest) == (11, 25, 5)
    assert (stats.summaries["readlatency"].count, stats.update_latency.count) == (10, 1)
    assert (stats.packets_received, stats.packets_sent) == (11, 11)
    assert stats.summaries["updatelatency"] is stats.update_latency


def test_response_sizes() -> None:
    stats = ServerStats()
    assert (stats.response_last_bytes, stats.response_min_bytes, stats.response_max_bytes) == (-1, -1, -1)
    for size in (40, 16, 80, 20):
        stats.on_sent(frame(size))
    assert (stats.response_last_bytes, stats.response_min_bytes, stats.response_max_bytes) == (20, 16, 80)


def test_reset_leaves_what_java_leaves() -> None:
    """ServerStats.reset does not touch the failed authentications and the slow fsyncs."""
    stats = ServerStats()
    stats.on_reads(1, 2)
    stats.on_sent(frame(40))
    stats.count("commit_count", 3)
    stats.observe("fsynctime", 7)
    stats.packets_received = stats.packets_sent = stats.auth_failed = stats.fsync_slow = 9
    stats.reset()
    assert (stats.packets_received, stats.packets_sent, stats.latency.count) == (0, 0, 0)
    assert stats.summaries["readlatency"].count == 0
    assert stats.counters == {}
    assert stats.summaries["fsynctime"].count == 0
    assert (stats.response_last_bytes, stats.response_min_bytes, stats.response_max_bytes) == (-1, -1, -1)
    assert (stats.auth_failed, stats.fsync_slow) == (9, 9)


def test_bytes_and_packets_of_each_kind() -> None:
    """WATCH_BYTES has no length fields; a refused auth packet is a packet like any other."""
    stats = ServerStats()
    stats.on_event(36)
    stats.on_event(33)
    stats.on_auth(is_ok=True)
    stats.on_auth(is_ok=False)
    assert (stats.packets_received, stats.packets_sent, stats.watch_bytes, stats.auth_failed) == (2, 4, 61, 1)
    stats.on_sent(frame(16))
    stats.on_sent(frame(32) + frame(64))
    assert stats.sent_bytes == 20 + 36 + 68
    assert (stats.response_min_bytes, stats.response_max_bytes, stats.response_last_bytes) == (16, 32, 32)
    stats.received_bytes = 5
    stats.reset()
    assert (stats.received_bytes, stats.sent_bytes, stats.watch_bytes, stats.auth_failed) == (0, 0, 0, 1)


def test_instant_reads_are_in_every_summary_that_is_looked_at() -> None:
    looks: list[Callable[[ServerStats], object]] = [lambda stats: stats.latency, lambda stats: stats.summaries]
    for look in looks:
        stats = ServerStats()
        stats.on_reads(3, 4)
        stats.on_reads(5)
        stats.on_reads(2, 0)
        look(stats)
        look(stats)
        for summary in (stats.latency, stats.summaries["readlatency"]):
            assert (summary.count, summary.total, summary.lowest, summary.highest) == (10, 12, 0, 4)
        stats.on_reads(1)
        stats.reset()
        assert stats.latency.count == stats.summaries["readlatency"].count == 0

"""Percentiles and reports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coati.bench import Report, percentile


def report(**fields: Any) -> Report:
    base: dict[str, Any] = {
        "mix": "get", "connections": 8, "in_flight": 32, "data_bytes": 100, "seconds": 2.0, "ops": 1000,
    }  # fmt: skip
    return Report(**(base | fields))


# Nearest rank, after the worked example of https://en.wikipedia.org/wiki/Percentile
@pytest.mark.parametrize(("percent", "value"), [(5, 15), (30, 20), (40, 20), (50, 35), (100, 50)])
def test_percentile_is_the_nearest_rank(percent: float, value: int) -> None:
    assert percentile([15, 20, 35, 40, 50], percent) == value


def test_percentile_of_many() -> None:
    ordered = list(range(1, 1001))
    assert [percentile(ordered, p) for p in (0, 50, 99, 99.9, 100)] == [1, 500, 990, 999, 1000]
    assert percentile([7], 99.9) == 7


def test_report_gives_throughput_and_latency() -> None:
    found = report(latencies_ns=[1000, 2000, 3000, 4000])
    assert found.ops_per_s == 500
    assert found.latency_us(50) == 2.0
    assert found.ok
    assert "500 ops/s, p50 2 us" in str(found)


def test_report_without_samples_has_zero_latency() -> None:
    assert report().latency_us(99) == 0


def test_a_report_with_errors_is_not_ok_and_names_them() -> None:
    found = report(errors={-101: 3, -110: 1})
    assert not found.ok
    assert str(found).endswith("ERRORS -110: 1, -101: 3")
    assert json.loads(found.as_json())["errors"] == {"-110": 1, "-101": 3}


def test_a_report_without_answers_is_not_ok() -> None:
    assert not report(ops=0).ok


def test_report_as_json() -> None:
    fields = json.loads(report(latencies_ns=[1500], ops_by_connection=[400, 600]).as_json())
    assert fields["latency_us"] == {"p50": 1.5, "p90": 1.5, "p99": 1.5, "p99.9": 1.5, "max": 1.5}
    assert (fields["slowest_connection_ops"], fields["fastest_connection_ops"]) == (400, 600)
    assert (fields["ops_per_s"], fields["ok"]) == (500.0, True)

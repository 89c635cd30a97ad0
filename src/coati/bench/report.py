"""What a run measured, as numbers, as JSON and as a line for people.

Must not know how it was measured. Invariant: a report with errors is not `ok`, whatever its throughput.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile of values in ascending order: the least that `percent` of them do not exceed."""
    assert ordered, "no samples"
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


@dataclass(kw_only=True)
class Report:
    """What one run measured.

    `ops` were answered without error in `seconds`; `errors` counts error replies by code over the whole run, warm-up
    included. `generator_cpu` is how much of a processor the load itself took: near 1, it was the limit. Latencies are
    in nanoseconds, ascending: of every request for lone runs, else a sample, the last request of a batch from its send
    to its reply.
    """

    mix: str
    connections: int
    in_flight: int
    data_bytes: int
    seconds: float
    ops: int
    errors: dict[int, int] = field(default_factory=dict)
    latencies_ns: list[int] = field(default_factory=list)
    ops_by_connection: list[int] = field(default_factory=list)
    generator_cpu: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the figures may be used."""
        return not self.errors and self.ops > 0

    @property
    def ops_per_s(self) -> float:
        """Throughput."""
        return self.ops / self.seconds

    def latency_us(self, percent: float) -> float:
        """A percentile in microseconds; 0 when nothing was sampled."""
        return percentile(self.latencies_ns, percent) / 1000 if self.latencies_ns else 0.0

    def as_json(self) -> str:
        """One JSON object."""
        latency: dict[str, float] = {f"p{percent:g}": round(self.latency_us(percent), 1) for percent in PERCENTILES}
        latency["max"] = round(self.latency_us(100.0), 1)
        fields: dict[str, object] = {
            "mix": self.mix,
            "connections": self.connections,
            "in_flight": self.in_flight,
            "data_bytes": self.data_bytes,
            "seconds": round(self.seconds, 3),
            "ops": self.ops,
            "ops_per_s": round(self.ops_per_s, 1),
            "latency_us": latency,
            "latency_samples": len(self.latencies_ns),
            "slowest_connection_ops": min(self.ops_by_connection, default=self.ops),
            "fastest_connection_ops": max(self.ops_by_connection, default=self.ops),
            "generator_cpu": round(self.generator_cpu, 3),
            "errors": {str(code): count for code, count in sorted(self.errors.items())},
            "ok": self.ok,
        }
        return json.dumps(fields)

    def __str__(self) -> str:
        line = (
            f"{self.mix} {self.connections} x {self.in_flight}, {self.data_bytes} bytes: {self.ops_per_s:,.0f} ops/s, "
            f"p50 {self.latency_us(50):,.0f} us, p99 {self.latency_us(99):,.0f} us, "
            f"max {self.latency_us(100):,.0f} us ({len(self.latencies_ns):,} samples in {self.seconds:.1f} s, "
            f"generator {self.generator_cpu:.0%} busy)"
        )
        if self.errors:
            line += "; ERRORS " + ", ".join(f"{code}: {count}" for code, count in sorted(self.errors.items()))
        return line

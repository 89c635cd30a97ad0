"""What to measure: a Plan, and the two small languages of the command line it is written in (hosts and mixes).

Must not know sockets. Invariant: a Plan that exists is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Final

from coati.bench.session import Host

MIXES: Final = ("get", "set", "create", "mix:PERCENT")
DEFAULT_PORT: Final = 2181
MAX_IN_FLIGHT: Final = 10_000
# jute.maxbuffer bounds request and reply; the rest of the frame needs some of it.
MAX_DATA_BYTES: Final = 1_000_000


def parse_hosts(text: str) -> list[Host]:
    """`host:port,host` -> addresses; IPv6 in brackets. Raises ValueError."""
    hosts: list[Host] = []
    for item in text.split(","):
        name, colon, port = item.strip().rpartition(":")
        if not colon or item.strip().endswith("]"):
            name, port = item.strip(), str(DEFAULT_PORT)
        name = name.removeprefix("[").removesuffix("]")
        if not name or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"not a host:port: {item!r}")
        hosts.append((name, int(port)))
    return hosts


def parse_mix(text: str) -> tuple[str, int]:
    """`get`, `set`, `create` or `mix:10` -> kind and percentage of writes. Raises ValueError."""
    if text in ("get", "set", "create"):
        return text, 0 if text == "get" else 100
    kind, _, percent = text.partition(":")
    if kind != "mix" or not percent.isdigit() or not 0 <= int(percent) <= 100:
        raise ValueError(f"unknown mix {text!r}: one of {', '.join(MIXES)}")
    return kind, int(percent)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. `mix` as for parse_mix; every connection keeps exactly `in_flight` requests in flight.

    `spin`: a lone client asks its socket over and over instead of sleeping until a reply comes, so that the time the
    kernel needs to wake the client is not taken for the server's. It needs a core of its own.
    """

    hosts: tuple[Host, ...]
    mix: str = "get"
    connections: int = 8
    in_flight: int = 32
    seconds: float = 5.0
    warmup_seconds: float = 1.0
    data_bytes: int = 100
    keys: int = 1000
    root: bytes = b"/coati-bench"
    keep: bool = False
    spin: bool = False

    def __post_init__(self) -> None:
        parse_mix(self.mix)
        _check("hosts", len(self.hosts), 1, 1000)
        _check("connections", self.connections, 1, 10_000)
        _check("in_flight", self.in_flight, 1, MAX_IN_FLIGHT)
        _check("data_bytes", self.data_bytes, 0, MAX_DATA_BYTES)
        _check("keys", self.keys, 1, 10_000)
        if self.seconds <= 0 or self.warmup_seconds < 0:
            raise ValueError("seconds must be above 0, warmup_seconds not below")
        if not self.root.startswith(b"/") or self.root.endswith(b"/"):
            raise ValueError("root must be an absolute path without a slash at its end")

    @property
    def is_lone(self) -> bool:
        """One request at a time: latency is the question, not throughput."""
        return self.connections == 1 and self.in_flight == 1


def write_pattern(percent: int) -> list[bool]:
    """The shortest run of requests with `percent` writes, spread evenly: True is a write."""
    step = gcd(percent, 100)
    writes, period = percent // step, 100 // step
    return [(position * writes) % period < writes for position in range(period)]


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low} to {high}, not {value}")

"""Plans and the command line's two little languages."""

from __future__ import annotations

from typing import Any

import pytest

from coati.bench import Plan, parse_hosts, parse_mix
from coati.bench.plan import write_pattern

HOSTS = (("127.0.0.1", 2181),)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("zk1:2182", [("zk1", 2182)]),
        ("zk1:2182, zk2", [("zk1", 2182), ("zk2", 2181)]),
        ("[::1]:2183,[fe80::1]", [("::1", 2183), ("fe80::1", 2181)]),
    ],
)
def test_hosts_are_read(text: str, hosts: list[tuple[str, int]]) -> None:
    assert parse_hosts(text) == hosts


@pytest.mark.parametrize("text", ["", "zk:", "zk:0", "zk:65536", "zk:x", "zk:1,,"])
def test_wrong_hosts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_hosts(text)


@pytest.mark.parametrize(
    ("text", "mix"),
    [("get", ("get", 0)), ("set", ("set", 100)), ("create", ("create", 100)), ("mix:10", ("mix", 10))],
)
def test_mixes_are_read(text: str, mix: tuple[str, int]) -> None:
    assert parse_mix(text) == mix


@pytest.mark.parametrize("text", ["", "mix", "mix:", "mix:101", "mix:-1", "delete", "get:10"])
def test_wrong_mixes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown mix"):
        parse_mix(text)


@pytest.mark.parametrize("percent", range(101))
def test_write_pattern_has_its_share_of_writes_and_closes_in_a_hundred(percent: int) -> None:
    pattern = write_pattern(percent)
    assert 100 % len(pattern) == 0
    assert sum(pattern) * 100 == percent * len(pattern)


def test_write_pattern_spreads_writes_evenly() -> None:
    assert write_pattern(10) == [True] + [False] * 9
    assert write_pattern(50) == [True, False]
    assert write_pattern(0) == [False]
    # 30 of 100: gaps of three and four, never two writes in a row.
    gaps = [i for i, is_write in enumerate(write_pattern(30)) if is_write]
    assert gaps == [0, 4, 7]


@pytest.mark.parametrize(
    "change",
    [
        {"hosts": ()},
        {"mix": "mix:200"},
        {"connections": 0},
        {"in_flight": 0},
        {"in_flight": 10_001},
        {"data_bytes": -1},
        {"data_bytes": 1_000_001},
        {"keys": 0},
        {"seconds": 0},
        {"warmup_seconds": -1},
        {"root": b"relative"},
        {"root": b"/"},
    ],
)
def test_plan_refuses_what_cannot_be_run(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Plan(**({"hosts": HOSTS} | change))


def test_plan_is_lone_with_one_request_on_one_connection() -> None:
    assert Plan(hosts=HOSTS, connections=1, in_flight=1).is_lone
    assert not Plan(hosts=HOSTS, connections=2, in_flight=1).is_lone
    assert not Plan(hosts=HOSTS, connections=1, in_flight=2).is_lone

"""Which server next, and who moves when the list changes. Claims: ConnectStringParser, StaticHostProvider."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from coati.client.hosts import Host, HostList, parse_connect_string, parse_host
from tests.client.kit import Dice

ALL = [Host(f"h{number}", 2181) for number in range(10)]


@pytest.mark.parametrize(
    ("text", "hosts", "chroot"),
    [
        ("h1", [("h1", 2181)], ""),
        ("h1:1,h2:2", [("h1", 1), ("h2", 2)], ""),
        (" h1 , h2:2 ", [("h1", 2181), ("h2", 2)], ""),
        ("h1,,h2", [("h1", 2181), ("h2", 2181)], ""),
        ("h1,h2:2182/app/x", [("h1", 2181), ("h2", 2182)], "/app/x"),
        ("h1/", [("h1", 2181)], ""),
        ("[::1]:2182,[fe80::1%eth0]", [("::1", 2182), ("fe80::1%eth0", 2181)], ""),
        ("::1,10.0.0.1:3", [("::1", 2181), ("10.0.0.1", 3)], ""),
    ],
)
def test_connect_strings(text: str, hosts: list[tuple[str, int]], chroot: str) -> None:
    assert parse_connect_string(text) == (hosts, chroot)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "/app",
        "h:0",
        "h:65536",
        "h:x",
        "h:-1",
        "h:²",
        ":2181",
        "[::1",
        "[::1]x",
        "[]:2181",
        "[::1]:",
        "h:1:2:x]",
    ],
)
def test_connect_strings_that_are_none(text: str) -> None:
    if text in ("[::1]:", "h:1:2:x]"):
        # No port is the usual one; and what has several colons may be an address.
        assert parse_connect_string(text)
        return
    with pytest.raises(ValueError):
        parse_connect_string(text)


def test_hosts_are_shown_as_they_are_written() -> None:
    for text in ("h:1", "[::1]:2"):
        assert str(parse_host(text)) == text


def test_every_server_comes_once_a_round_in_an_order_of_the_clients_own() -> None:
    orders: Counter[tuple[Host, ...]] = Counter()
    for seed in range(60):
        hosts = HostList([*ALL[:3], ALL[0]], Random(seed))
        assert len(hosts) == 3
        first = tuple(hosts.next() for _ in range(3))
        assert sorted(first) == ALL[:3]
        assert tuple(hosts.next() for _ in range(3)) == first
        orders[first] += 1
    assert len(orders) == 6


def test_a_preferred_server_comes_next_and_once() -> None:
    hosts = HostList(ALL[:3], Random(1))
    first = hosts.next()
    hosts.prefer(first)
    assert hosts.next() == first
    assert sorted([first, hosts.next(), hosts.next()]) == ALL[:3]


def test_the_others_come_in_their_order() -> None:
    hosts = HostList(ALL[:4], Random(1))
    here = hosts.next()
    others = hosts.after(here)
    assert [hosts.next() for _ in range(3)] == others


def moved(old: list[Host], new: list[Host], current: Host, seed: int) -> Host:
    """Where a client of `current` is afterwards."""
    hosts = HostList(old, Random(seed))
    return hosts.next() if hosts.update(new, current) else current


@pytest.mark.parametrize("seed", range(20))
def test_the_same_servers_move_nobody(seed: int) -> None:
    assert moved(ALL[:3], ALL[2::-1], ALL[1], seed) == ALL[1]


@pytest.mark.parametrize("seed", range(20))
def test_fewer_servers_move_only_whose_server_has_gone(seed: int) -> None:
    assert moved(ALL[:5], ALL[:3], ALL[1], seed) == ALL[1]
    assert moved(ALL[:5], ALL[:3], ALL[4], seed) in ALL[:3]


@pytest.mark.parametrize("seed", range(20))
def test_a_server_in_the_place_of_another_takes_its_clients(seed: int) -> None:
    # 3 of 4 stay: pOld = 3 * (4 - 4) / (4 * 1) = 0.
    assert moved(ALL[:4], [*ALL[:3], ALL[9]], ALL[3], seed) == ALL[9]
    assert moved(ALL[:4], [*ALL[:3], ALL[9]], ALL[0], seed) == ALL[0]


@pytest.mark.parametrize("seed", range(20))
def test_more_servers_take_the_clients_of_one_that_has_gone(seed: int) -> None:
    assert moved(ALL[:3], ALL[1:6], ALL[0], seed) in ALL[3:6]


def test_the_load_stays_even() -> None:
    """Clients spread evenly over `old` are spread evenly over `new` after it; the dice decide how evenly."""
    count = 6000
    for old, new in (
        (ALL[:3], ALL[:5]),
        (ALL[:2], ALL[:9]),
        (ALL[:5], ALL[:3]),
        (ALL[:6], [*ALL[3:6], ALL[9]]),
        (ALL[:4], ALL[4:7]),
        (ALL[:3], ALL[2:7]),
    ):
        ends = Counter(moved(old, new, old[seed % len(old)], seed) for seed in range(count))
        assert sorted(ends) == sorted(new)
        fair = count / len(new)
        assert all(abs(number - fair) < 0.12 * fair for number in ends.values()), (old, new, ends)


def test_who_stays_with_more_servers_is_decided_by_the_dice() -> None:
    # Java moves a client whose server stays with probability 1 - 3/5.
    for value, stays in ((0.39, False), (0.41, True)):
        hosts = HostList(ALL[:3], Dice(value))
        assert hosts.update(ALL[:5], ALL[0]) is not stays


def test_where_a_client_goes_with_fewer_servers_is_decided_by_the_dice() -> None:
    # 3 of 6 stay and one is new: pOld = 3 * (6 - 4) / (4 * (6 - 3)) = 1/2.
    for value, goes_to in ((0.49, ALL[3:6]), (0.51, [ALL[9]])):
        hosts = HostList(ALL[:6], Dice(value))
        assert hosts.update([*ALL[3:6], ALL[9]], ALL[0])
        assert hosts.next() in goes_to
        # If that one refuses, all others are tried before any is tried again.
        rest = [hosts.next() for _ in range(3)]
        assert len({*rest}) == 3


def test_a_client_without_a_server_only_learns_the_list() -> None:
    hosts = HostList(ALL[:3], Random(1))
    assert not hosts.update(ALL[5:8], None)
    assert sorted(hosts.next() for _ in range(3)) == ALL[5:8]


def test_a_preferred_server_that_has_left_the_list_is_not_tried() -> None:
    hosts = HostList(ALL[:3], Random(1))
    hosts.prefer(ALL[0])
    hosts.update(ALL[1:3], None)
    assert hosts.next() != ALL[0]

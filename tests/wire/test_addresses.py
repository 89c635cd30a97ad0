"""Addresses as texts. What Java makes of them is in test_quorum.py and in tests/zab/test_quorum.py."""

from __future__ import annotations

import pytest

from coati.wire.addresses import (
    canonical_host,
    format_address,
    is_wildcard,
    java_long,
    java_split,
    java_strip,
    parse_address,
    parse_addresses,
)


def test_no_name_is_ever_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a look-up")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert parse_addresses("localhost:1|zoo.invalid:2|10.0.0.1:3") == [
        ("localhost", 1),
        ("zoo.invalid", 2),
        ("10.0.0.1", 3),
    ]
    assert not is_wildcard("localhost")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("fe80::1%1", "fe80:0:0:0:0:0:0:1%1"),
        ("fe80::1%lo", "fe80:0:0:0:0:0:0:1%lo"),
        ("FF02::00AB", "ff02:0:0:0:0:0:0:ab"),
        ("::ffff:255.1.2.3", "255.1.2.3"),
        ("::12345", "::12345"),
        ("1.2.3.\u0664", "1.2.3.\u0664"),
        ("Zoo-1.Example", "Zoo-1.Example"),
        ("16777217", "1.0.0.1"),
        ("1.65535", "1.0.255.255"),
        ("1.256.1", "1.256.1"),
        ("1.16777216", "1.16777216"),
    ],
)
def test_literals_are_written_in_full(text: str, host: str) -> None:
    assert canonical_host(text) == host


@pytest.mark.parametrize("text", ["\x01\x001", " zoo", "zoo\u00a0", "[a", "a]", "zoo\x7f", "a\nb", "\u2028"])
def test_what_is_no_host_is_refused(text: str) -> None:
    """Written into the text of a view it would be read as another host, or end the line."""
    with pytest.raises(ValueError, match="no host"):
        canonical_host(text)


def test_address_is_written_so_that_it_is_read_again() -> None:
    for host in ("10.0.0.1", "zoo", "0:0:0:0:0:0:0:1"):
        assert parse_address(format_address(host, 3888)) == (host, 3888)
    assert [format_address("::1", 1), format_address("zoo", 1)] == ["[::1]:1", "zoo:1"]


@pytest.mark.parametrize(
    "text", ["", "-", "+", "1_0", " 1", "0x1", "\u0661", "1" * 41, str(1 << 63), str(-(1 << 63) - 1)]
)
def test_what_is_no_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        java_long(text)


def test_longs() -> None:
    assert [java_long("+7"), java_long("-0"), java_long("9223372036854775807")] == [7, 0, (1 << 63) - 1]
    assert [java_long("fF", 16), java_long("-8000000000000000", 16)] == [255, -(1 << 63)]


def test_texts_are_split_and_stripped_as_in_java() -> None:
    assert [java_split(text, ":") for text in ("", ":", "a", "a::", ":a")] == [[""], [], ["a"], ["a"], ["", "a"]]
    assert java_strip("\t a\u00a0\x00\r\n") == "a\u00a0"

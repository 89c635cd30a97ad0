"""java.util.Properties. Every expectation was printed by `Properties.load` and `String.trim` of JDK 17."""

from __future__ import annotations

import pytest

from coati.errors import ConfigError
from coati.server.properties import parse_properties

JAVA: dict[bytes, dict[str, str]] = {
    b"a=1": {"a": "1"},
    b"a = 1 \t": {"a": "1"},
    b"a:1\nb 2\nc\t:\t3\nd  =  4": {"a": "1", "b": "2", "c": "3", "d": "4"},
    b"a==1\nb=:1\nc: =1": {"a": "=1", "b": ":1", "c": "=1"},
    b"# no\n! neither\n  # nor this\na=1 # but this": {"a": "1 # but this"},
    b"a=1\r\nb=2\rc=3\n\n\r\n": {"a": "1", "b": "2", "c": "3"},
    b"a=one,\\\n   two,\\\r\n\tthree": {"a": "one,two,three"},
    b"a=1\\\n# not a comment": {"a": "1# not a comment"},
    b"a=1\\\n\nb=2": {"a": "1", "b": "2"},
    b"a=1\\\\\nb=2": {"a": "1\\", "b": "2"},
    b"a=1\\": {"a": "1"},
    b"\\\n# a comment after all\nb=1": {"b": "1"},
    b"a\\=b=c\n\\:d=e\nf\\ g=h": {"a=b": "c", ":d": "e", "f g": "h"},
    b"a=\\t1\\n2\\r3\\f4\\q": {"a": "1\n2\r3\x0c4q"},
    b"a=\\u0041\\u00e9": {"a": "Aé"},
    b"a=1\na=2\nb=3\na=4": {"a": "4", "b": "3"},
    b"a": {"a": ""},
    b"=1": {"": "1"},
    b"a=\xe9": {"a": "é"},
    "a=é".encode(): {"a": "Ã©"},
    b"a=c:\\\\data\\new": {"a": "c:\\data\new"},
    b"": {},
}


@pytest.mark.parametrize("data", JAVA, ids=repr)
def test_properties_read_as_java(data: bytes) -> None:
    assert {key: found.value for key, found in parse_properties(data).items()} == JAVA[data]


@pytest.mark.parametrize("data", [b"a=\\u12", b"a=\\u12g4", b"\\u=1", b"a=\\u-123", b"a=\\u+041"])
def test_properties_refuse_malformed_escapes_as_java(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^line 3: malformed \\uxxxx encoding$"):
        parse_properties(b"\n\n" + data)


def test_byte_order_mark_does_not_hide_the_first_key() -> None:
    """Java's key would be the mark and `tickTime`; nobody means that."""
    assert parse_properties("\ufefftickTime=5".encode())["tickTime"].value == "5"


def test_properties_know_their_lines() -> None:
    found = parse_properties(b"# one\na=1\nb=2,\\\n  3\n\nc=4\na=5")
    assert {key: item.line for key, item in found.items()} == {"a": 7, "b": 3, "c": 6}

"""The lines `server.N`, as QuorumPeer.QuorumServer reads them."""

from __future__ import annotations

import pytest

from coati.errors import ConfigError
from coati.server.members import Member, parse_member


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("h:2888:3888", Member(1, False, "", -1)),
        ("h:2888:3888:participant", Member(1, False, "", -1)),
        ("h:2888:3888: Observer ", Member(1, True, "", -1)),
        ("h:2888:3888;2181", Member(1, False, "", 2181)),
        ("h:2888:3888;10.0.0.1:2181", Member(1, False, "10.0.0.1", 2181)),
        ("[::1]:2888:3888;[::2]:2181", Member(1, False, "::2", 2181)),
        ("h:2888:3888;", Member(1, False, "", -1)),
        ("h:0:65535", Member(1, False, "", -1)),
    ],
)
def test_member_line(text: str, member: Member) -> None:
    assert parse_member("server.1", text) == member


@pytest.mark.parametrize("name", ["server.0", "server.255", "server.256", "server.-5"])
def test_member_id_is_a_long(name: str) -> None:
    """QuorumMaj reads it with Long.parseLong and asks no more."""
    assert parse_member(name, "h:1:2").sid == int(name.removeprefix("server."))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("server.abc", "h:1:2", "the server id is not a whole number"),
        ("server.", "h:1:2", "the server id is not a whole number"),
        ("server.99999999999999999999", "h:1:2", "the server id is not between"),
        ("server.1", "h", "does not have the form"),
        ("server.1", "h:2888", "does not have the form"),
        ("server.1", "", "does not have the form"),
        ("server.1", ";2181", "does not have the form"),
        ("server.1", "h:1:2:observer:x", "does not have the form"),
        ("server.1", "h:1:2;h:1:2", "does not have the form"),
        ("server.1", "h:1:2;2181;2281", "does not have the form"),
        ("server.1", "h:1:2;:", "does not have the form"),
        ("server.1", "::1:2888:3888", "does not have the form"),
        ("server.1", "h:2888:2888", "client and election port must be different"),
        ("server.1", "h:2888:x", "a port is not a whole number"),
        ("server.1", "h:2888:70000", "a port is not between 0 and 65535"),
        ("server.1", "h:1:2:obsever", "unrecognised peertype"),
        ("server.1", "[::1:2888:3888", "no matching"),
        ("server.1", "[::1]:", "no port after the colon"),
        ("server.1", "a:1:2|b:1:2", "multiple address feature is disabled"),
    ],
)
def test_member_line_is_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_member(name, text)

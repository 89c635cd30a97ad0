"""The lines `server.N`, as QuorumPeer.QuorumServer reads them, and the version of a dynamic file."""

from __future__ import annotations

import pytest

from coati.errors import ConfigError
from coati.server.members import client_address, file_version, parse_server


@pytest.mark.parametrize(
    ("text", "is_observer", "client"),
    [
        ("h:2888:3888", False, ("", -1)),
        ("h:2888:3888:participant", False, ("", -1)),
        ("h:2888:3888: Observer ", True, ("", -1)),
        ("h:2888:3888;2181", False, ("", 2181)),
        ("h:2888:3888;10.0.0.1:2181", False, ("10.0.0.1", 2181)),
        ("[::1]:2888:3888;[::2]:2181", False, ("0:0:0:0:0:0:0:2", 2181)),
        ("h:2888:3888;", False, ("", -1)),
        ("h:0:65535", False, ("", -1)),
    ],
)
def test_member_line(text: str, is_observer: bool, client: tuple[str, int]) -> None:
    server = parse_server("server.1", text)
    assert (server.sid, server.is_observer, client_address(server)) == (1, is_observer, client)


@pytest.mark.parametrize("name", ["server.0", "server.255", "server.256", "server.-5"])
def test_member_id_is_a_long(name: str) -> None:
    """QuorumMaj reads it with Long.parseLong and asks no more."""
    assert parse_server(name, "h:1:2").sid == int(name.removeprefix("server."))


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
        ("server.1", "h:2888:x", "no number"),
        ("server.1", "h:2888:70000", "a port is not between 0 and 65535"),
        ("server.1", "h:1:2:obsever", "unrecognised peertype"),
        ("server.1", "[::1:2888:3888", "no matching"),
        ("server.1", "[::1]:", "no port after the colon"),
        ("server.1", "a:1:2|b:1:2", "multiple address feature is disabled"),
    ],
)
def test_member_line_is_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_server(name, text)


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("zoo.cfg.dynamic", 0),
        ("zoo.cfg.dynamic.0", 0),
        ("zoo.cfg.dynamic.1001", 0x1001),
        ("zoo.cfg.dynamic.100000000", 1 << 32),
        ("/etc.d/zoo.cfg.dynamic.-1", -1),
        ("zoo", 0),
        ("abc", 0),
        ("zoo.cfg.", 0),
        ("zoo.cfg.7fffffffffffffff", 2**63 - 1),
        ("zoo.cfg.8000000000000000", 0),
        ("zoo.cfg." + "f" * 41, 0),
        ("zoo.cfg.1_0", 0),
    ],
)
def test_version_of_a_dynamic_file_is_in_its_name(path: str, version: int) -> None:
    """QuorumPeerConfig.getVersionFromFilename."""
    assert file_version(path) == version

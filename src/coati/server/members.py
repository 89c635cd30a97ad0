"""The `server.N` lines of zoo.cfg: who is in the ensemble.

Knows the syntax of QuorumPeer.QuorumServer and when Java runs standalone in spite of them. Must not know sockets: no
name is resolved here. Sources: QuorumServer.initializeWithAddressString, ConfigUtils.getHostAndPort,
QuorumPeerConfig.parseDynamicConfig.
"""

from __future__ import annotations

from typing import NamedTuple

from coati.errors import ConfigError
from coati.server.configkeys import strict_int, strict_long

_FORM = (
    "does not have the form server_config or server_config;client_config where server_config is host:port:port or "
    "host:port:port:type and client_config is port or host:port"
)


class Member(NamedTuple):
    """One server of the list. `client_port` is -1 when the line names none; then the static key decides."""

    sid: int
    is_observer: bool
    client_address: str
    client_port: int


def parse_member(name: str, text: str) -> Member:
    """A line `server.N=text`. Raises ConfigError with Java's reason."""
    try:
        sid = strict_long(name.removeprefix("server."))
    except ValueError as error:
        raise ConfigError(f"the server id is {error}") from None
    parts = _java_split(text, ";")
    client_address, client_port = "", -1
    if len(parts) == 2:
        client_address, client_port = _parse_client(parts[1])
    addresses = _java_split(parts[0], "|") if parts else []
    if len(parts) > 2 or not addresses:
        raise ConfigError(_FORM)
    if len(addresses) > 1:
        raise ConfigError("several addresses were given, but the multiple address feature is disabled")
    return Member(sid, _parse_server(addresses[0]), client_address, client_port)


def _parse_client(text: str) -> tuple[str, int]:
    parts = _host_and_ports(text)
    if len(parts) > 2:
        raise ConfigError(_FORM)
    return (parts[0] if len(parts) == 2 else ""), _port(parts[-1])


def _parse_server(text: str) -> bool:
    """Checks host:port:port[:type]; True for an observer."""
    parts = _host_and_ports(text)
    if not 3 <= len(parts) <= 4:
        raise ConfigError(_FORM)
    if _port(parts[1]) == _port(parts[2]):
        raise ConfigError("client and election port must be different")
    kind = parts[3].strip().lower() if len(parts) == 4 else "participant"
    if kind not in ("participant", "observer"):
        raise ConfigError("unrecognised peertype, neither participant nor observer")
    return kind == "observer"


def _port(text: str) -> int:
    try:
        port = strict_int(text)
    except ValueError as error:
        raise ConfigError(f"a port is {error}") from None
    if not 0 <= port <= 65535:
        raise ConfigError("a port is not between 0 and 65535")
    return port


def _host_and_ports(text: str) -> list[str]:
    if not text.startswith("["):
        parts = _java_split(text, ":")
        if not parts:
            raise ConfigError(_FORM)
        return parts
    end = text.find("]")
    if end < 0:
        raise ConfigError("it starts with '[' but has no matching ']'")
    if end + 2 == len(text):
        raise ConfigError("it has no port after the colon")
    return [text[1:end], *_java_split(text[end + 2 :], ":")]


def _java_split(text: str, separator: str) -> list[str]:
    """String.split: empty strings at the end are dropped."""
    parts = text.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts

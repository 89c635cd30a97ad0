"""The lines `server.N`, `group.G`, `weight.N`: who is in the ensemble, and when Java runs alone in spite of them.

Knows the rules of QuorumPeerConfig.parseDynamicConfig and whose fault a line is. Must not know sockets, nor how a line
is read: that is zab/quorum.py. Sources: QuorumPeerConfig (parseDynamicConfig, setupQuorumPeerConfig, checkValidity),
QuorumMaj, QuorumHierarchical.
"""

from __future__ import annotations

import re
from typing import Final

from coati.errors import ConfigError
from coati.server.configkeys import strict_long
from coati.wire.addresses import java_long, java_split, split_host
from coati.zab.quorum import Server, View

MEMBER_KEYS: Final = ("server.", "group", "weight")
_ANY_HOST: Final = "0.0.0.0"
_VERSION: Final = re.compile(r"\.([+-]?[0-9A-Fa-f]{1,40})\Z")


def is_member_key(name: str) -> bool:
    """Whether a key speaks of the ensemble, as Java looks at its beginning."""
    return name.startswith(MEMBER_KEYS)


class Members:
    """What the lines say, one by one; `view` puts it together."""

    def __init__(self, version: int = 0) -> None:
        self.servers: list[Server] = []
        self._groups: dict[int, list[int]] = {}
        self._weights: dict[int, int] = {}
        self._version = version

    def read(self, name: str, text: str) -> None:
        """One line, `name` being an `is_member_key` or `version`. Raises ConfigError with Java's reason."""
        if name == "version":
            # The static file may have one, in hexadecimal; a dynamic file has it in its name.
            try:
                self._version = java_long(text, 16)
            except ValueError:
                raise ConfigError("it is no hexadecimal number") from None
        elif name.startswith("server."):
            self.servers.append(parse_server(name, text))
        elif name.startswith("group"):
            group = _number(name, "the group id")
            if group in self._groups:
                # Java counts it as two, and no quorum is ever found.
                raise ConfigError("the group is there twice")
            self._groups[group] = [_long(sid, "a server id") for sid in java_split(text, ":")]
        else:
            self._weights[_number(name, "the server id")] = _long(text, "the weight")

    @property
    def participants(self) -> int:
        return sum(not server.is_observer for server in self.servers)

    def view(self) -> View:
        """Raises ConfigError, when the groups do not fit the servers."""
        return View.build(self.servers, self._groups, self._weights, self._version)

    def is_distributed(self, *, standalone_enabled: bool) -> bool:
        """Whether the lines make an ensemble; without, the server runs alone. Raises ConfigError."""
        observers = len(self.servers) - self.participants
        if self.participants == 0:
            if not standalone_enabled:
                raise ConfigError("standaloneEnabled=false needs at least one participant in the server list")
            if observers:
                raise ConfigError("server.N: observers without participants are an invalid configuration")
            return False
        if self.participants == 1 and standalone_enabled:
            if observers:
                raise ConfigError("server.N: observers without a quorum are an invalid configuration")
            return False
        return True

    def warning(self) -> str:
        """What an operator should know of the number of voters in an ensemble, or nothing."""
        if self.participants <= 2:
            return "server.N: no server failure will be tolerated; at least 3 participants are needed for that"
        if self.participants % 2 == 0:
            return f"server.N: {self.participants} participants tolerate no more failures than one less"
        return ""


def parse_server(name: str, text: str) -> Server:
    """A line `server.N=text`. Raises ConfigError with Java's reason."""
    sid = _number(name, "the server id")
    try:
        return Server.from_text(sid, text)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix(f"server.{sid}: ")) from None


def client_address(server: Server) -> tuple[str, int]:
    """Where its clients connect, and -1 when its line does not say; the host is empty for all addresses."""
    if not server.client:
        return "", -1
    host, port = split_host(server.client)
    return ("" if host == _ANY_HOST else host), int(port)


def is_literal(host: str) -> bool:
    """Whether a host is an address and no name."""
    return ":" in host or host.replace(".", "").isdigit()


def file_version(path: str) -> int:
    """The version of a dynamic file: the hexadecimal end of its name, or 0 (getVersionFromFilename)."""
    end = _VERSION.search(path)
    version = 0 if end is None else int(end.group(1), 16)
    return version if -(2**63) <= version < 2**63 else 0


def _number(name: str, what: str) -> int:
    """The number behind the first dot; without one Java takes the whole name, which is none."""
    return _long(name[name.find(".") + 1 :], what)


def _long(text: str, what: str) -> int:
    try:
        return strict_long(text)
    except ValueError as error:
        raise ConfigError(f"{what} is {error}") from None

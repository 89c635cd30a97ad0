"""A view: who is in the ensemble, and which of them together are a quorum.

Knows sids, addresses as texts, groups and weights; nothing is resolved here. Must not know who is up.
Invariants: a view has a voter; two quorums of a view share a voter, which is why a weight is never negative; only
voters count, whatever else is among the sids (ZOOKEEPER-764, 2959).
Text: `server.N=...` a server, then `group.G=...` and `weight.N=...` where there are groups, last `version=` in hex, in
the order of Java's HashMap: the znode /zookeeper/config holds it, and servers compare digests of their trees.
Sources: QuorumMaj, QuorumHierarchical, QuorumPeer.QuorumServer, QuorumPeerConfig.parseDynamicConfig.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from coati.errors import ConfigError, ProtocolError
from coati.wire.addresses import (
    canonical_host,
    format_address,
    java_long,
    java_split,
    java_strip,
    parse_port,
    split_host,
)

_FORM: Final = (
    "does not have the form server_config or server_config;client_config where server_config is host:port:port or "
    "host:port:port:type and client_config is port or host:port"
)
_ANY_HOST: Final = "0.0.0.0"
_WORD_MASK: Final = 0xFFFFFFFF
_LONG_MASK: Final = 0xFFFFFFFFFFFFFFFF


class Server:
    """One server of the ensemble. `client` is where clients connect, as host:port, or empty: its line does not say."""

    __slots__ = ("client", "election_port", "host", "is_observer", "quorum_port", "sid")

    def __init__(
        self,
        sid: int,
        host: str,
        quorum_port: int,
        election_port: int,
        *,
        is_observer: bool = False,
        client: str = "",
    ) -> None:
        self.sid = sid
        self.host = host
        self.quorum_port = quorum_port
        self.election_port = election_port
        self.is_observer = is_observer
        self.client = client

    @staticmethod
    def from_text(sid: int, text: str) -> Server:
        """The right side of a line `server.N=`. Raises ConfigError."""
        try:
            return _read_server(sid, text)
        except ValueError as error:
            raise ConfigError(f"server.{sid}: {error}") from None

    def to_text(self) -> str:
        """The right side of its line, as QuorumServer.toString writes it."""
        kind = "observer" if self.is_observer else "participant"
        client = f";{self.client}" if self.client else ""
        return f"{format_address(self.host, self.quorum_port)}:{self.election_port}:{kind}{client}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Server) and self.sid == other.sid and self.to_text() == other.to_text()

    def __hash__(self) -> int:
        return hash(self.sid)

    def __repr__(self) -> str:
        return f"Server({self.sid}, {self.to_text()!r})"


def _read_server(sid: int, text: str) -> Server:
    parts = java_split(text, ";")
    if not 0 < len(parts) <= 2:
        raise ValueError(_FORM)
    addresses = java_split(parts[0], "|")
    if not addresses:
        raise ValueError(_FORM)
    if len(addresses) > 1:
        raise ValueError("several addresses were given, but the multiple address feature is disabled")
    fields = split_host(addresses[0])
    if not 3 <= len(fields) <= 4:
        raise ValueError(_FORM)
    quorum_port, election_port = parse_port(fields[1]), parse_port(fields[2])
    if quorum_port == election_port:
        raise ValueError("client and election port must be different")
    kind = java_strip(fields[3]).lower() if len(fields) == 4 else "participant"
    if kind not in ("participant", "observer"):
        raise ValueError("unrecognised peertype, neither participant nor observer")
    client = _read_client(parts[1]) if len(parts) == 2 else ""
    host = canonical_host(fields[0])
    return Server(sid, host, quorum_port, election_port, is_observer=kind == "observer", client=client)


def _read_client(text: str) -> str:
    fields = split_host(text)
    if not 0 < len(fields) <= 2:
        raise ValueError(_FORM)
    host = canonical_host(fields[0]) if len(fields) == 2 else _ANY_HOST
    return format_address(host, parse_port(fields[-1]))


class View:
    """One configuration. `servers` by sid, ascending; `groups` (sids by group) and `weights` are empty for majorities.

    Made by `build`, `from_lines` or `from_text`; never changed afterwards but for its version.
    """

    __slots__ = ("_group_of", "_half", "_halves", "_observers", "_voters", "groups", "servers", "version", "weights")

    def __init__(
        self, servers: dict[int, Server], groups: dict[int, list[int]], weights: dict[int, int], version: int
    ) -> None:
        self.servers = servers
        self.groups = groups
        self.weights = weights
        self.version = version
        self._voters = [sid for sid, server in servers.items() if not server.is_observer]
        self._observers = [sid for sid, server in servers.items() if server.is_observer]
        self._group_of = {sid: group for group, sids in groups.items() for sid in sids}
        # Half of the weight of each group that has one; and half of the groups, or of the voters where there are none.
        totals = {group: sum([weights[sid] for sid in sids]) for group, sids in groups.items()}
        self._halves = {group: total // 2 for group, total in totals.items() if total}
        self._half = len(self._halves if groups else self._voters) // 2

    @staticmethod
    def build(
        servers: Iterable[Server], groups: dict[int, list[int]], weights: dict[int, int], version: int = 0
    ) -> View:
        """A view by Java's rules, majorities where neither groups nor weights are given. Raises ConfigError."""
        by_sid: dict[int, Server] = {}
        for server in sorted(servers, key=_sid_of):
            if server.sid in by_sid:
                raise ConfigError(f"server.{server.sid} is there twice")
            if server.sid < 0:
                # On the election port a number below zero is a version.
                raise ConfigError(f"server.{server.sid} has an id below zero")
            by_sid[server.sid] = server
        voters = [sid for sid, server in by_sid.items() if not server.is_observer]
        if not voters:
            raise ConfigError("no server of the list is a participant")
        if groups or weights:
            weights = _checked_weights(voters, groups, weights)
        return View(by_sid, groups, weights, version)

    @staticmethod
    def from_lines(lines: Iterable[tuple[str, str]]) -> View:
        """The view that keys and their values describe: server.N, group.G, weight.N, version. Raises ConfigError."""
        servers, groups, weights, version = read_lines(lines)
        return View.build(servers, groups, weights, version)

    @staticmethod
    def from_text(text: bytes) -> View:
        """The view of another server, or of a file that a server wrote. Raises ProtocolError."""
        try:
            return View.from_lines(_lines_of(text.decode("utf-8")))
        except (ConfigError, ValueError) as error:
            raise ProtocolError(f"a configuration that cannot be used: {error}") from None

    def to_text(self) -> bytes:
        """What Java's toString gives for it."""
        lines = [f"server.{sid}={self.servers[sid].to_text()}" for sid in hash_order(self.servers)]
        if self.groups:
            sids: dict[int, list[str]] = {}
            for sid in hash_order(self._group_of):
                sids.setdefault(self._group_of[sid], []).append(str(sid))
            lines += [f"group.{group}={':'.join(sids[group])}" for group in hash_order(sids)]
            lines += [f"weight.{sid}={self.weights[sid]}" for sid in hash_order(self.weights)]
        lines.append(f"version={self.version & _LONG_MASK:x}")
        return "\n".join(lines).encode()

    def voters(self) -> list[int]:
        """The sids of those who vote, ascending."""
        return self._voters

    def observers(self) -> list[int]:
        """The sids of those who do not, ascending."""
        return self._observers

    def is_voter(self, sid: int) -> bool:
        """Whether it is in the view and votes."""
        server = self.servers.get(sid)
        return server is not None and not server.is_observer

    def weight(self, sid: int) -> int:
        """What its vote weighs: nothing if it has none. Without weight it can never lead."""
        if not self.is_voter(sid):
            return 0
        return self.weights[sid] if self.groups else 1

    def contains_quorum(self, sids: Collection[int]) -> bool:
        """Whether the voters among `sids` are a quorum."""
        present = [sid for sid in self._voters if sid in sids]
        if not self.groups:
            return len(present) > self._half
        return self._quorum_at(present) > 0

    def quorum_zxid(self, acked: dict[int, int]) -> int:
        """The largest zxid that a quorum has acknowledged, each all up to `acked[sid]`; 0 if there is none."""
        if self.groups:
            present = sorted([(-acked[sid], sid) for sid in self._voters if sid in acked])
            count = self._quorum_at([sid for _, sid in present])
            return -present[count - 1][0] if count else 0
        zxids = [acked[sid] for sid in self._voters if sid in acked]
        if len(zxids) <= self._half:
            return 0
        zxids.sort()
        return zxids[-self._half - 1]

    def _quorum_at(self, voters: list[int]) -> int:
        """How many of the first voters make a quorum of groups; 0: not even all."""
        sums: dict[int, int] = {}
        won = 0
        for count, sid in enumerate(voters, 1):
            group = self._group_of[sid]
            half = self._halves.get(group, -1)
            before = sums.get(group, 0)
            after = before + self.weights[sid]
            sums[group] = after
            # A group without weight is none: half is -1, and nothing is at most that.
            if before <= half < after:
                won += 1
                if won > self._half:
                    return count
        return 0


def read_lines(
    lines: Iterable[tuple[str, str]],
) -> tuple[list[Server], dict[int, list[int]], dict[int, int], int]:
    """What `View.build` makes a view of, which it may refuse. Raises ConfigError for a line that cannot be read."""
    servers: list[Server] = []
    groups: dict[int, list[int]] = {}
    weights: dict[int, int] = {}
    version = 0
    for key, value in lines:
        try:
            if key.startswith("server."):
                servers.append(Server.from_text(java_long(key[7:]), value))
            elif key.startswith("group"):
                groups[_new_number(key, groups)] = [java_long(sid) for sid in java_split(value, ":")]
            elif key.startswith("weight"):
                weights[_new_number(key, weights)] = java_long(value)
            elif key == "version":
                version = java_long(value, 16)
            else:
                raise ValueError("no key of a list of servers")
        except ValueError as error:
            # A stranger's key goes into a log.
            raise ConfigError(f"{ascii(key[:40])[1:-1]}: {error}") from None
    return servers, groups, weights, version


def hash_order(keys: Iterable[int]) -> list[int]:
    """Longs in the order in which Java's HashMap gives them; ascending where they share a bucket."""
    found = sorted(keys)
    size = 16
    while len(found) > size * 3 // 4:
        size *= 2
    buckets = [(_spread(key) & size - 1, key) for key in found]
    buckets.sort()
    return [key for _, key in buckets]


def _spread(key: int) -> int:
    """Long.hashCode, then HashMap.hash."""
    code = (key ^ ((key & _LONG_MASK) >> 32)) & _WORD_MASK
    return code ^ code >> 16


def _sid_of(server: Server) -> int:
    return server.sid


def _new_number(key: str, known: Collection[int]) -> int:
    number = java_long(key[key.find(".") + 1 :])
    if number in known:
        raise ValueError("is there twice")
    return number


def _checked_weights(voters: list[int], groups: dict[int, list[int]], weights: dict[int, int]) -> dict[int, int]:
    """The weights of all, 1 where none is given. Raises ConfigError as QuorumHierarchical.parse does."""
    weights = dict(weights)
    grouped: dict[int, int] = {}
    for group, sids in groups.items():
        for sid in sids:
            if sid in grouped:
                raise ConfigError(f"server {sid} is in multiple groups")
            grouped[sid] = group
    for sid in voters:
        if sid not in grouped:
            raise ConfigError(f"server {sid} is not in a group")
        weights.setdefault(sid, 1)
    for sid in grouped:
        # Java ends here in a NullPointerException.
        if sid not in weights:
            raise ConfigError(f"server {sid} is in a group, but it is no participant and has no weight")
    for sid, weight in weights.items():
        # Java takes it, and then two quorums need not meet.
        if weight < 0:
            raise ConfigError(f"server {sid} has the weight {weight}, below zero")
    return weights


def _lines_of(text: str) -> list[tuple[str, str]]:
    """`key=value` lines as Java writes them: of Properties only comments, blanks and CRLF. Raises ValueError."""
    found: list[tuple[str, str]] = []
    for raw in text.split("\n"):
        line = java_strip(raw)
        if not line or line[0] in "#!":
            continue
        key, _, value = line.partition("=")
        if "\\" in line:
            raise ValueError("a line with a backslash")
        found.append((java_strip(key), java_strip(value)))
    return found

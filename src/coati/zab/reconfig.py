"""Reconfig: which view a request asks for, and what a quorum is while two views are in force.

Knows views and the one txn whose meaning the rooms of zab know: a reconfig, whose data is the text of a view, with the
txn's own zxid for a version. Must not know who may ask for it.
Invariant: a quorum of a `Joint` is one of each of its two views, so it meets every quorum of both (Z12).
Sources: PrepRequestProcessor.pRequest2Txn (case reconfig), SyncedLearnerTracker, QuorumPeer.
"""

from __future__ import annotations

from collections.abc import Collection
from struct import Struct
from typing import Final

from coati import errors
from coati.errors import BadArguments, BadVersion, ConfigError, ProtocolError, keeper_error
from coati.wire.addresses import is_wildcard, java_long, java_strip
from coati.wire.codes import OP_RECONFIG
from coati.wire.txns import SetDataTxn, decode_txn
from coati.zab.quorum import Server, View, read_lines

# Where a txn's header has its type.
_TYPE_AT: Final = 28
_RECONFIG: Final = OP_RECONFIG.to_bytes(4, "big")
_pack_long: Final = Struct(">q").pack
_unpack_long: Final = Struct(">q").unpack_from


class Joint(View):
    """Two views at once, the committed one and the one that is to follow it. Votes speak of the committed one."""

    __slots__ = ("new", "old")

    def __init__(self, old: View, new: View) -> None:
        servers = {**new.servers, **old.servers}
        for sid, server in new.servers.items():
            if not server.is_observer and servers[sid].is_observer:
                # It may vote from now on, and is where it has been so far.
                at = servers[sid]
                servers[sid] = Server(sid, at.host, at.quorum_port, at.election_port, client=at.client)
        View.__init__(self, {sid: servers[sid] for sid in sorted(servers)}, {}, {}, old.version)
        self.old = old
        self.new = new

    def to_text(self) -> bytes:
        """Of the committed one."""
        return self.old.to_text()

    def weight(self, sid: int) -> int:
        """Enough to lead if it has any in one of them."""
        return max(self.old.weight(sid), self.new.weight(sid))

    def contains_quorum(self, sids: Collection[int]) -> bool:
        """Of both."""
        return self.old.contains_quorum(sids) and self.new.contains_quorum(sids)

    def quorum_zxid(self, acked: dict[int, int]) -> int:
        """What quorums of both have acknowledged."""
        return min(self.old.quorum_zxid(acked), self.new.quorum_zxid(acked))


def config_of(payload: bytes) -> bytes | None:
    """The text of a view, if the txn is a reconfig. Raises MarshallingError for one that cannot be read."""
    if payload[_TYPE_AT : _TYPE_AT + 4] != _RECONFIG:
        return None
    txn = decode_txn(payload).txn
    assert isinstance(txn, SetDataTxn), "that is what a reconfig is"
    return txn.data or b""


def encode_designated(sid: int) -> bytes:
    """What COMMITANDACTIVATE carries, and INFORMANDACTIVATE in front of the txn: who is to lead."""
    return _pack_long(sid)


def read_designated(data: bytes | None) -> int:
    """The same, read; -1 where nobody is named."""
    return _unpack_long(data, 0)[0] if data is not None and len(data) >= 8 else -1


def designate(sid: int, new: View, address: tuple[str, int], acked: dict[int, int], zxid: int) -> int:
    """Who leads from here: the leader `sid` itself if it votes at the same address, else who has the most.

    As Leader.getDesignatedLeader, which goes by the acks of one proposal after the other. -1: nobody has all of it.
    """
    own = new.servers.get(sid)
    if own is not None and not own.is_observer and (own.host, own.quorum_port) == address:
        return sid
    best, best_zxid = -1, zxid - 1
    for other in new.voters():
        if other != sid and acked.get(other, 0) > best_zxid and new.weight(other) > 0:
            best, best_zxid = other, acked[other]
    return best


# What a client may ask for.


class Wish:
    """A ReconfigRequest: servers to join or leave, separated by commas, or else all members; None where not given."""

    __slots__ = ("joining", "leaving", "members", "version")

    def __init__(self, joining: str | None, leaving: str | None, members: str | None, version: int) -> None:
        self.joining = joining
        self.leaving = leaving
        self.members = members
        self.version = version


def next_view(before: View, wish: Wish, zxid: int, *, is_standalone_enabled: bool) -> View:
    """The view that a client wishes for, with the version `zxid`. Raises KeeperError, in the order of Java's checks."""
    if wish.version != -1 and wish.version != before.version:
        raise BadVersion
    try:
        if wish.members is not None:
            members = _all_members(wish.members, is_standalone_enabled=is_standalone_enabled)
        else:
            members = _changed_members(before, wish)
        voters = len(members.voters())
    except ConfigError:
        raise BadArguments from None
    if is_standalone_enabled and voters < 2:
        raise BadArguments
    view = View(members.servers, members.groups, members.weights, zxid)
    try:
        # As all servers will read it.
        return View.from_text(view.to_text())
    except ProtocolError:
        raise BadArguments from None


def _all_members(text: str, *, is_standalone_enabled: bool) -> View:
    lines: dict[str, str] = {}
    for raw in text.replace(",", "\n").split("\n"):
        line = java_strip(raw)
        if not line or line[0] in "#!":
            continue
        key, _, value = line.partition("=")
        lines[java_strip(key)] = java_strip(value)
    servers, groups, weights, version = read_lines(lines.items())
    voters = sum([not server.is_observer for server in servers])
    has_observers = len(servers) > voters
    # QuorumPeerConfig.parseDynamicConfig: an IllegalArgumentException, which is nobody's there.
    if voters == 0 and (has_observers or not is_standalone_enabled):
        raise keeper_error(errors.MARSHALLING_ERROR)
    view = View.build(servers, groups, weights, version)
    if voters == 1 and has_observers and is_standalone_enabled:
        raise keeper_error(errors.MARSHALLING_ERROR)
    return view


def _changed_members(view: View, wish: Wish) -> View:
    if view.groups:
        # Where would a new server belong?
        raise BadArguments
    servers = dict(view.servers)
    for leaving in _split(wish.leaving, ","):
        servers.pop(_sid(leaving), None)
    for joining in _split(wish.joining, ","):
        parts = _split(joining, "=")
        if len(parts) != 2:
            raise BadArguments
        sid = _sid(parts[0][parts[0].rfind(".") + 1 :])
        server = Server.from_text(sid, parts[1])
        if not server.client:
            raise BadArguments
        taken = [address for other in servers.values() if other.sid != sid for address in _addresses(other)]
        if any(address in taken for address in _addresses(server)):
            raise BadArguments
        servers[sid] = server
    return View.build(servers.values(), {}, {})


def _addresses(server: Server) -> list[str]:
    """Where it listens, without what is an address of its own machine only (excludedSpecialAddresses)."""
    client_host, _, client_port = server.client.rpartition(":")
    listed = (
        (server.host, str(server.quorum_port)),
        (server.host, str(server.election_port)),
        (client_host.strip("[]"), client_port),
    )
    return [f"{host} {port}" for host, port in listed if not _is_local(host)]


def _is_local(host: str) -> bool:
    return not host or host == "localhost" or host.startswith("127.") or is_wildcard(host) or host == "0:0:0:0:0:0:0:1"


def _split(text: str | None, separator: str) -> list[str]:
    """StringUtils.split: trimmed, and nothing empty."""
    parts = [java_strip(part) for part in (text or "").split(separator)]
    return [part for part in parts if part]


def _sid(text: str) -> int:
    try:
        return java_long(text)
    except ValueError:
        # Java's NumberFormatException is nobody's there, and ends as an error of marshalling.
        raise keeper_error(errors.MARSHALLING_ERROR) from None

"""What servers say to each other: packets of the quorum port, notifications of the election port, as bytes.

    packet        type int, zxid long, data buffer, authinfo vector of Id; no length in front
    notification  length int, then state int, leader long, zxid long, round long, peer epoch long, version int,
                  length of the configuration int, its text; the oldest end before the peer epoch (28 bytes)
    hello         version long, own sid long, length int, own election addresses; then frames of a length and a
                  notification. The oldest hello is the sid alone

Knows layouts and their limits, not what they are for. Whoever sends what is not allowed gets ProtocolError.
Sources: QuorumPacket in zookeeper.jute, Leader, LearnerHandler, Learner, FastLeaderElection.buildMsg, QuorumCnxManager.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from coati.errors import MarshallingError, ProtocolError
from coati.wire.addresses import parse_addresses
from coati.wire.jute import NULL_LENGTH, FrameBuffer, Reader, Writer, frame
from coati.wire.records import Id

REQUEST: Final = 1
PROPOSAL: Final = 2
ACK: Final = 3
COMMIT: Final = 4
PING: Final = 5
REVALIDATE: Final = 6
SYNC: Final = 7
INFORM: Final = 8
COMMITANDACTIVATE: Final = 9
NEWLEADER: Final = 10
FOLLOWERINFO: Final = 11
UPTODATE: Final = 12
DIFF: Final = 13
TRUNC: Final = 14
SNAP: Final = 15
OBSERVERINFO: Final = 16
LEADERINFO: Final = 17
ACKEPOCH: Final = 18
INFORMANDACTIVATE: Final = 19

NAMES: Final[dict[int, str]] = {
    REQUEST: "REQUEST",
    PROPOSAL: "PROPOSAL",
    ACK: "ACK",
    COMMIT: "COMMIT",
    PING: "PING",
    REVALIDATE: "REVALIDATE",
    SYNC: "SYNC",
    INFORM: "INFORM",
    COMMITANDACTIVATE: "COMMITANDACTIVATE",
    NEWLEADER: "NEWLEADER",
    FOLLOWERINFO: "FOLLOWERINFO",
    UPTODATE: "UPTODATE",
    DIFF: "DIFF",
    TRUNC: "TRUNC",
    SNAP: "SNAP",
    OBSERVERINFO: "OBSERVERINFO",
    LEADERINFO: "LEADERINFO",
    ACKEPOCH: "ACKEPOCH",
    INFORMANDACTIVATE: "INFORMANDACTIVATE",
}

# Server states as notifications carry them (QuorumPeer.ServerState, by ordinal).
LOOKING: Final = 0
FOLLOWING: Final = 1
LEADING: Final = 2
OBSERVING: Final = 3

PROTOCOL_VERSION: Final = 0x10000
_NOTIFICATION_VERSION: Final = 2
_OLDEST_NOTIFICATION_BYTES: Final = 28
# Nobody reads the version in it, which is the last of these bytes (FastLeaderElection, backCompatibility40).
_OLD_NOTIFICATION_BYTES: Final = 40
MAX_NOTIFICATION_BYTES: Final = 512 * 1024

# QuorumCnxManager: one address, or all of them; and maxBuffer.
_HELLO_ONE_ADDRESS: Final = -65536
_HELLO_ADDRESSES: Final = -65535
MAX_ADDRESS_BYTES: Final = 2048

# With the number of identities, which is all of a packet without data.
_unpack_bare: Final = Struct(">iqii").unpack_from
_BARE_BYTES: Final = 20
# Identities this short are remembered: many packets in a row are of the same clients.
_REMEMBERED_BYTES: Final = 256
_NOBODY: Final[list[Id]] = []

_HEAD: Final = Struct(">iqi")
_pack_head: Final = _HEAD.pack
_unpack_head: Final = _HEAD.unpack_from
_HEAD_BYTES: Final = 16
_unpack_int: Final = Struct(">i").unpack_from
_pack_int: Final = Struct(">i").pack
_pack_request: Final = Struct(">qii").pack
_unpack_request: Final = Struct(">qii").unpack_from
_REQUEST_BYTES: Final = 16
_TOUCHED: Final = Struct(">qi")
_pack_revalidated: Final = Struct(">q?").pack
_LEARNER_INFO: Final = Struct(">qiq")
_OLD_LEARNER_INFO: Final = Struct(">qi")
_pack_notification: Final = Struct(">iqqqqii").pack
_unpack_oldest: Final = Struct(">iqqq").unpack_from
_unpack_long: Final = Struct(">q").unpack_from
_HELLO: Final = Struct(">qqi")


class Packet:
    """One packet of the quorum port. Packets may share `auth`: it is not to be changed."""

    __slots__ = ("auth", "data", "type", "zxid")

    def __init__(self, type: int, zxid: int, data: bytes | None = None, auth: list[Id] | None = None) -> None:
        self.type = type
        self.zxid = zxid
        self.data = data
        self.auth = auth or _NOBODY

    def __repr__(self) -> str:
        size = -1 if self.data is None else len(self.data)
        return f"Packet({NAMES.get(self.type, self.type)}, {self.zxid:#x}, {size} bytes)"


def encode_packet(type: int, zxid: int, data: bytes | None = None, auth: list[Id] | None = None) -> bytes:
    """A packet's bytes. No identities are a null vector, as Java writes it."""
    if auth is None:
        if data is None:
            return _pack_head(type, zxid, -1) + NULL_LENGTH
        return _pack_head(type, zxid, len(data)) + data + NULL_LENGTH
    return encode_packet_of(type, zxid, data, encode_auth(auth))


def encode_auth(auth: list[Id]) -> bytes:
    """The identities of a packet, as they stand at its end."""
    w = Writer()
    w.int32(len(auth))
    for who in auth:
        who.write(w)
    return w.getvalue()


def encode_packet_of(type: int, zxid: int, data: bytes | None, auth: bytes) -> bytes:
    """A packet's bytes, with its identities as `encode_auth` gives them."""
    if data is None:
        return _pack_head(type, zxid, -1) + auth
    return _pack_head(type, zxid, len(data)) + data + auth


class PacketReader:
    """Cuts the stream of a link into packets. Data and identities above `max_data_bytes` are refused.

    After a SNAP the stream is no packets for a while: `is_raw` until `end_raw` is told what stood behind the snapshot.
    """

    __slots__ = ("_auth", "_auth_wire", "_need_bytes", "_pieces", "_size", "is_raw", "max_data_bytes")

    def __init__(self, max_data_bytes: int) -> None:
        self.max_data_bytes = max_data_bytes
        self.is_raw = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._need_bytes = 0
        # The last identities that came, and their bytes.
        self._auth = _NOBODY
        self._auth_wire = NULL_LENGTH

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole now. Raises ProtocolError."""
        assert not self.is_raw, "the bytes of a snapshot are no packets"
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._need_bytes:
            return []
        if len(self._pieces) > 1:
            data = b"".join(self._pieces)
        packets: list[Packet] = []
        append = packets.append
        max_data_bytes = self.max_data_bytes
        last = len(data) - _BARE_BYTES
        pos = 0
        is_raw = False
        while not is_raw:
            if pos <= last:
                # Nearly all are whole, and without identities or with those of the packet before.
                kind, zxid, length, count = _unpack_bare(data, pos)
                if length == -1 and count == -1 and kind in NAMES:
                    append(Packet(kind, zxid))
                    pos += _BARE_BYTES
                    is_raw = kind == SNAP
                    continue
                if 0 <= length <= max_data_bytes and kind in NAMES:
                    end = pos + _HEAD_BYTES + length
                    if data.startswith(NULL_LENGTH, end):
                        append(Packet(kind, zxid, data[pos + _HEAD_BYTES : end]))
                        pos = end + 4
                        is_raw = kind == SNAP
                        continue
                    if data.startswith(self._auth_wire, end):
                        append(Packet(kind, zxid, data[pos + _HEAD_BYTES : end], self._auth))
                        pos = end + len(self._auth_wire)
                        is_raw = kind == SNAP
                        continue
            end = self._end_of(data, pos)
            if end < 0:
                break
            packet = _read_packet(data, pos, end)
            if packet.auth:
                self._remember(packet, data[pos:end])
            append(packet)
            pos = end
            is_raw = packet.type == SNAP
        self.is_raw = is_raw
        self._keep(data[pos:])
        return packets

    def take_rest(self) -> bytes:
        """What came behind the SNAP."""
        assert self.is_raw, "packets are read by feed"
        rest = b"".join(self._pieces)
        self._keep(b"")
        return rest

    def end_raw(self, rest: bytes) -> list[Packet]:
        """The snapshot is over, `rest` came behind it. Raises ProtocolError."""
        self.is_raw = False
        return self.feed(rest)

    def _remember(self, packet: Packet, whole: bytes) -> None:
        wire = whole[_HEAD_BYTES + len(packet.data or b"") :]
        if len(wire) <= _REMEMBERED_BYTES:
            self._auth = packet.auth
            self._auth_wire = wire

    def _keep(self, data: bytes) -> None:
        self._pieces = [data] if data else []
        self._size = len(data)
        if not data or self.is_raw:
            self._need_bytes = 0

    def _end_of(self, data: bytes, pos: int) -> int:
        """Where the packet at `pos` ends; -1 if it is not whole, and then `_need_bytes` of the rest are needed."""
        size = len(data)
        end = pos + _HEAD_BYTES
        if end > size:
            self._need_bytes = _HEAD_BYTES
            return -1
        kind, _, length = _unpack_head(data, pos)
        if kind not in NAMES:
            raise ProtocolError(f"a packet of type {kind}")
        end += self._checked(length) + 4
        if end > size:
            self._need_bytes = end - pos
            return -1
        count: int = _unpack_int(data, end - 4)[0]
        fields = 2 * max(count, 0)
        if 4 * fields > self.max_data_bytes:
            raise ProtocolError(f"a packet with {count} identities")
        first = end
        # Each field has its length at least: what cannot be whole yet is not looked at byte by byte.
        end += 4 * fields
        for left in range(fields, 0, -1):
            if end > size:
                break
            at = end - 4 * left
            end += self._checked(_unpack_int(data, at)[0])
            if end - first > self.max_data_bytes:
                raise ProtocolError("a packet with too long identities")
        if end > size:
            self._need_bytes = end - pos
            return -1
        return end

    def _checked(self, length: int) -> int:
        if length < -1 or length > self.max_data_bytes:
            raise ProtocolError(f"a packet with a field of {length} bytes")
        return max(length, 0)


def _read_packet(data: bytes, pos: int, end: int) -> Packet:
    kind, zxid, length = _unpack_head(data, pos)
    pos += _HEAD_BYTES
    body: bytes | None = None
    if length >= 0:
        body = data[pos : pos + length]
        pos += length
    if end - pos <= 4:
        return Packet(kind, zxid, body)
    r = Reader(data, pos + 4, end, max_field=end - pos)
    count: int = _unpack_int(data, pos)[0]
    return Packet(kind, zxid, body, [Id.read(r) for _ in range(count)])


# What packets carry in their data.


def encode_request(session_id: int, cxid: int, op: int, body: bytes) -> bytes:
    """REQUEST: a client's request as its learner sends it on."""
    return _pack_request(session_id, cxid, op) + body


class RequestEncoder:
    """REQUESTs as whole packets. The identities are encoded anew only when they are others than those before:

    most clients of a server come from the same host.
    """

    __slots__ = ("_auth", "_auth_wire")

    def __init__(self) -> None:
        self._auth: list[Id] = []
        self._auth_wire = encode_auth([])

    def encode(self, session_id: int, cxid: int, op: int, body: bytes, auth: list[Id]) -> bytes:
        """A client's request, on behalf of who it is."""
        if auth != self._auth:
            self._auth = auth.copy()
            self._auth_wire = encode_auth(auth)
        return encode_packet_of(REQUEST, -1, encode_request(session_id, cxid, op, body), self._auth_wire)


def decode_request(data: bytes | None) -> tuple[int, int, int, bytes]:
    """(session, cxid, opcode, record) of a REQUEST. Raises ProtocolError."""
    if data is None or len(data) < _REQUEST_BYTES:
        raise ProtocolError("a REQUEST without a header")
    session_id, cxid, op = _unpack_request(data, 0)
    return session_id, cxid, op, data[_REQUEST_BYTES:]


def encode_touched(sessions: list[tuple[int, int]]) -> bytes:
    """The answer to a PING: (session, timeout in ms) of all that were heard of."""
    return b"".join([_TOUCHED.pack(session_id, timeout_ms) for session_id, timeout_ms in sessions])


def decode_touched(data: bytes | None) -> list[tuple[int, int]]:
    """The sessions in the answer to a PING. Raises ProtocolError."""
    if not data:
        return []
    if len(data) % _TOUCHED.size:
        raise ProtocolError(f"{len(data)} bytes of touched sessions")
    return list(_TOUCHED.iter_unpack(data))


def encode_revalidate(session_id: int, timeout_ms: int) -> bytes:
    """REVALIDATE from a learner: a client came back with this session."""
    return _TOUCHED.pack(session_id, timeout_ms)


def decode_revalidate(data: bytes | None) -> tuple[int, int]:
    """(session, timeout in ms). Raises ProtocolError."""
    if data is None or len(data) != _TOUCHED.size:
        raise ProtocolError("a REVALIDATE that names no session")
    session_id, timeout_ms = _TOUCHED.unpack(data)
    return session_id, timeout_ms


def encode_revalidated(session_id: int, is_alive: bool) -> bytes:
    """The leader's answer to REVALIDATE."""
    return _pack_revalidated(session_id, is_alive)


def decode_revalidated(data: bytes | None) -> tuple[int, bool]:
    """(session, whether it lives). Raises ProtocolError."""
    if data is None or len(data) != 9:
        raise ProtocolError("an answer to REVALIDATE that names no session")
    return _unpack_long(data, 0)[0], data[8] != 0


def encode_learner_info(sid: int, config_version: int) -> bytes:
    """FOLLOWERINFO and OBSERVERINFO: who asks to join."""
    return _LEARNER_INFO.pack(sid, PROTOCOL_VERSION, config_version)


def decode_learner_info(data: bytes | None) -> tuple[int, int, int]:
    """(sid, protocol version, version of the configuration); the oldest name no version. Raises ProtocolError."""
    size = -1 if data is None else len(data)
    if data is not None and size == _LEARNER_INFO.size:
        sid, version, config_version = _LEARNER_INFO.unpack(data)
    elif data is not None and size == _OLD_LEARNER_INFO.size:
        sid, version = _OLD_LEARNER_INFO.unpack(data)
        config_version = 0
    else:
        raise ProtocolError(f"a learner introduced itself with {size} bytes")
    if sid < 0:
        raise ProtocolError(f"a learner with the sid {sid}")
    return sid, version, config_version


def encode_int(value: int) -> bytes:
    """LEADERINFO: the protocol version. ACKEPOCH: the current epoch, or -1."""
    return _pack_int(value)


def decode_int(data: bytes | None) -> int:
    """The number in a LEADERINFO or ACKEPOCH. Raises ProtocolError."""
    if data is None or len(data) != 4:
        raise ProtocolError("a packet whose data is no number")
    value: int = _unpack_int(data, 0)[0]
    return value


# The election port.


class Notification:
    """A vote as it travels: the sender's `state`, whom it votes for, its `round`; `config` is the text of its view.

    `version` is 0 where the sender is too old to say; all of today are 2.
    """

    __slots__ = ("config", "leader", "peer_epoch", "round", "state", "version", "zxid")

    def __init__(
        self, state: int, leader: int, zxid: int, round: int, peer_epoch: int, config: bytes | None = None
    ) -> None:
        self.state = state
        self.leader = leader
        self.zxid = zxid
        self.round = round
        self.peer_epoch = peer_epoch
        self.config = config
        self.version = _NOTIFICATION_VERSION

    def __repr__(self) -> str:
        return (
            f"Notification(state={self.state}, leader={self.leader}, zxid={self.zxid:#x}, round={self.round}, "
            f"peer_epoch={self.peer_epoch:#x}, version={self.version})"
        )


def encode_notification(n: Notification) -> bytes:
    """Its bytes without the length in front, in today's version whatever the one it came in."""
    config = n.config or b""
    head = _pack_notification(n.state, n.leader, n.zxid, n.round, n.peer_epoch, _NOTIFICATION_VERSION, len(config))
    return head + config


def decode_notification(data: bytes) -> Notification:
    """A notification of any version; what stands behind its configuration is left alone. Raises ProtocolError."""
    size = len(data)
    if size < _OLD_NOTIFICATION_BYTES and size != _OLDEST_NOTIFICATION_BYTES:
        raise ProtocolError(f"a notification of {size} bytes")
    state, leader, zxid, round_ = _unpack_oldest(data, 0)
    if not LOOKING <= state <= OBSERVING:
        raise ProtocolError(f"a notification with the state {state}")
    # Before 3.4: the epoch is that of the zxid.
    peer_epoch: int = zxid >> 32
    if size != _OLDEST_NOTIFICATION_BYTES:
        peer_epoch = _unpack_long(data, _OLDEST_NOTIFICATION_BYTES)[0]
    n = Notification(state, leader, zxid, round_, peer_epoch)
    n.version = 0
    if size > _OLD_NOTIFICATION_BYTES:
        n.version = _unpack_int(data, _OLD_NOTIFICATION_BYTES - 4)[0]
        if n.version >= _NOTIFICATION_VERSION:
            n.config = _read_config(data)
    return n


def _read_config(data: bytes) -> bytes:
    r = Reader(data, _OLD_NOTIFICATION_BYTES, len(data), max_field=len(data))
    try:
        config = r.buffer()
        if config is None:
            raise ProtocolError("a notification with a configuration of -1 bytes")
        config.decode("utf-8")
    except (MarshallingError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a notification with a configuration that cannot be read: {error}") from None
    return config


class Hello:
    """Who dialled: its `sid`, and where it says its election port is (never trusted, never dialled on its word)."""

    __slots__ = ("addresses", "sid")

    def __init__(self, sid: int, addresses: list[tuple[str, int]]) -> None:
        self.sid = sid
        self.addresses = addresses

    def __repr__(self) -> str:
        return f"Hello({self.sid}, {self.addresses})"


def encode_hello(sid: int, address_text: str) -> bytes:
    """The first bytes of who dials an election port. Several addresses are joined by `|`."""
    text = address_text.encode()
    assert 0 < len(text) <= MAX_ADDRESS_BYTES, "an address text that nobody would read"
    version = _HELLO_ADDRESSES if "|" in address_text else _HELLO_ONE_ADDRESS
    return _HELLO.pack(version, sid, len(text)) + text


class HelloReader:
    """Reads the hello of an accepted connection; the frames behind it are for a VoteReader."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        # No more than what one read brings and a hello holds: nothing is fed behind a whole hello.
        self._data = b""

    def feed(self, data: bytes) -> Hello | None:
        """The hello once it is whole. Raises ProtocolError."""
        self._data += data
        data = self._data
        if len(data) < 8:
            return None
        version: int = _unpack_long(data, 0)[0]
        if version >= 0:
            # Before 3.5.
            self._data = data[8:]
            return Hello(version, [])
        if version not in (_HELLO_ONE_ADDRESS, _HELLO_ADDRESSES):
            raise ProtocolError(f"a hello of version {version}")
        if len(data) < _HELLO.size:
            return None
        _, sid, length = _HELLO.unpack_from(data, 0)
        if sid < 0:
            raise ProtocolError(f"a hello of the sid {sid}")
        if not 0 < length <= MAX_ADDRESS_BYTES:
            raise ProtocolError(f"a hello with an address of {length} bytes")
        end = _HELLO.size + length
        if len(data) < end:
            return None
        self._data = data[end:]
        return Hello(sid, _read_addresses(data[_HELLO.size : end]))

    def take_rest(self) -> bytes:
        """What came behind the hello."""
        rest = self._data
        self._data = b""
        return rest


def _read_addresses(text: bytes) -> list[tuple[str, int]]:
    try:
        return parse_addresses(text.decode("utf-8"))
    except ValueError as error:
        raise ProtocolError(f"a hello whose address cannot be read: {error}") from None


def frame_vote(n: Notification) -> bytes:
    """The notification as it goes out: with its length in front."""
    return frame(encode_notification(n))


class VoteReader:
    """Cuts the stream behind the hello into notifications, still as bytes."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames = FrameBuffer(MAX_NOTIFICATION_BYTES)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises ProtocolError."""
        try:
            messages = self._frames.feed(data)
        except MarshallingError as error:
            raise ProtocolError(f"a notification of too many bytes: {error}") from None
        for message in messages:
            if not message:
                raise ProtocolError("a notification of no bytes")
        return messages

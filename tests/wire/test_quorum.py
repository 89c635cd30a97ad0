"""Bytes between servers: against what Java sent and reads, cut anywhere, and against what nobody should send."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coati.errors import ProtocolError
from coati.wire import quorum
from coati.wire.quorum import (
    Hello,
    HelloReader,
    Notification,
    Packet,
    PacketReader,
    VoteReader,
    decode_notification,
    encode_hello,
    encode_notification,
    encode_packet,
    frame_vote,
)
from coati.wire.records import Id
from tests.wire import schema, wirepeer

LIMIT = 1 << 20
SIGNATURE = b"\x00\x00\x00\x0aBenWasHere"
HELLOS: list[list[str]] = json.loads((wirepeer.FIXTURES / "java_hellos.json").read_text())
SAMPLES: list[Any] = schema.java_samples()["QuorumPacket"]["samples"]
VERSIONS = ("3.8.0", "3.9.3")
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
INTS = st.integers(-(1 << 31), (1 << 31) - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
PACKETS = st.builds(
    Packet,
    st.sampled_from(sorted(set(quorum.NAMES) - {quorum.SNAP})),
    LONGS,
    st.none() | st.binary(max_size=200),
    st.lists(st.builds(Id, TEXTS, TEXTS), max_size=3),
)
NOTIFICATIONS = st.builds(
    Notification, st.integers(0, 3), LONGS, LONGS, LONGS, LONGS, TEXTS.map(lambda text: text.encode())
)
GOOD_HEAD = struct.pack(">iqqqqi", 0, 1, 2, 3, 4, 2)


def golden(version: str) -> dict[str, bytes]:
    path = wirepeer.GOLDEN / "quorum" / f"java-{version}.json"
    return {name: bytes.fromhex(text) for name, text in json.loads(path.read_text()).items()}


def fields(packet: Packet) -> tuple[Any, ...]:
    return packet.type, packet.zxid, packet.data, packet.auth


def encoded(packet: Packet) -> bytes:
    return encode_packet(packet.type, packet.zxid, packet.data, packet.auth or None)


def read(stream: bytes, step: int) -> tuple[list[Packet], bytes]:
    """The packets of a stream that comes `step` bytes at a time, and the snapshot in it."""
    reader = PacketReader(LIMIT)
    packets: list[Packet] = []
    raw, in_raw = b"", False
    for at in range(0, len(stream), step):
        piece = stream[at : at + step]
        if not in_raw:
            packets += reader.feed(piece)
            piece = reader.take_rest() if reader.is_raw else b""
            in_raw = reader.is_raw
        raw += piece
        if in_raw and SIGNATURE in raw:
            raw, _, rest = raw.partition(SIGNATURE)
            raw += SIGNATURE
            packets += reader.end_raw(rest)
            in_raw = reader.is_raw
    return packets, raw


# What Java sent.

NEWCOMER = ["LEADERINFO", "DIFF", "NEWLEADER", "UPTODATE"]
STREAMS = {
    "quorum: leader to follower": [*NEWCOMER, *["PROPOSAL", "COMMIT"] * 4, "SYNC"],
    "quorum: leader to observer": ["LEADERINFO", "SNAP", "NEWLEADER", "UPTODATE", *["INFORM"] * 4],
    "quorum: leader to a follower with too much": ["LEADERINFO", "TRUNC", "NEWLEADER", "UPTODATE"],
    "quorum: leader to a follower without data": ["LEADERINFO", "SNAP", "NEWLEADER", "UPTODATE"],
    "quorum: follower to leader": ["FOLLOWERINFO", "ACKEPOCH", "ACK", "ACK", "REQUEST", "ACK", "REQUEST"],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", STREAMS)
def test_packets_of_java_are_read_and_written_again(version: str, name: str) -> None:
    stream = golden(version)[name]
    packets, raw = read(stream, len(stream))
    kinds = [quorum.NAMES[packet.type] for packet in packets]
    # Those two come when they like.
    assert [kind for kind in kinds if kind not in ("PING", "REVALIDATE")] == STREAMS[name]
    again = b"".join(encoded(packet) + raw * (packet.type == quorum.SNAP) for packet in packets)
    assert again == stream
    for step in (1, 7):
        assert [fields(packet) for packet in read(stream, step)[0]] == [fields(packet) for packet in packets]


@pytest.mark.parametrize("version", VERSIONS)
def test_data_of_java_packets(version: str) -> None:
    streams = golden(version)
    found: dict[int, list[Packet]] = {}
    for name in ("quorum: leader to follower", "quorum: follower to leader"):
        for packet in read(streams[name], LIMIT)[0]:
            found.setdefault(packet.type, []).append(packet)
    assert quorum.decode_int(found[quorum.LEADERINFO][0].data) == quorum.PROTOCOL_VERSION
    assert quorum.decode_learner_info(found[quorum.FOLLOWERINFO][0].data) == (1, quorum.PROTOCOL_VERSION, 0)
    # A server that never had an epoch.
    assert quorum.decode_int(found[quorum.ACKEPOCH][0].data) == 0
    assert [packet.zxid for packet in found[quorum.ACK]] == [1 << 32, 1 << 32, (1 << 32) + 1]
    first, second = found[quorum.REQUEST]
    session_id, cxid, op, body = quorum.decode_request(first.data)
    assert (cxid, op, body, first.auth) == (0, -10, (30000).to_bytes(4, "big"), [])
    assert quorum.decode_request(second.data)[:3] == (session_id, 1, 1)
    assert second.auth == [Id("ip", "127.0.0.1")]
    answer, question = found[quorum.REVALIDATE]
    assert quorum.decode_revalidate(question.data) == (session_id, 30000)
    assert quorum.decode_revalidated(answer.data) == (0x1234, False)
    pings = [quorum.decode_touched(packet.data) for packet in found[quorum.PING]]
    assert [] in pings
    assert [(session_id, 30000)] in pings
    # Java's leader ends a link on a PING without data, so empty is not null.
    assert quorum.encode_touched([]) == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_hellos_and_votes_of_java(version: str) -> None:
    streams = golden(version)
    stream = streams["election: leader to follower"]
    reader = HelloReader()
    hello = reader.feed(stream)
    assert hello is not None
    assert (hello.sid, len(hello.addresses)) == (3, 1)
    (message,) = VoteReader().feed(reader.take_rest())
    vote = decode_notification(message)
    assert (vote.state, vote.leader, vote.zxid, vote.round, vote.peer_epoch, vote.version) == (0, 3, 0, 1, 0, 2)
    (host, port), config = hello.addresses[0], vote.config or b""
    assert f"server.3={host}:".encode() in config
    assert f":{port}:participant\nversion=0".encode() in config
    assert encode_hello(3, f"{host}:{port}") + frame_vote(vote) == stream
    # The smaller sid says hello and leaves; who is dialled says none.
    given_up = HelloReader()
    hello = given_up.feed(streams["election: follower gives way"])
    assert hello is not None
    assert (hello.sid, given_up.take_rest()) == (1, b"")
    messages = VoteReader().feed(streams["election: follower to leader"])
    assert [decode_notification(message).leader for message in messages][:1] == [1]


@pytest.mark.parametrize(("sample", "text"), SAMPLES)
def test_packet_is_written_and_read_as_in_java(sample: list[Any], text: str) -> None:
    kind, zxid, data, auth = sample
    data = None if data is None else bytes.fromhex(data["hex"])
    auth = None if auth is None else [Id(scheme or "", who or "") for scheme, who in auth]
    if not any(None in pair for pair in sample[3] or []):
        assert encode_packet(kind, zxid, data, auth).hex() == text
    stream = struct.pack(">i", quorum.PROPOSAL) + bytes.fromhex(text)[4:]
    (packet,), _ = read(stream, len(stream))
    assert fields(packet) == (quorum.PROPOSAL, zxid, data, auth or [])


def test_samples_of_java_have_null_data_and_null_identities() -> None:
    assert any(sample[2] is None and sample[3] is None for sample, _ in SAMPLES)


@pytest.mark.parametrize(("text", "answer"), HELLOS)
def test_hello_is_read_as_in_java(text: str, answer: str) -> None:
    """Whatever Java refuses is refused, or never whole."""
    data = bytes.fromhex(text)
    reader = HelloReader()
    try:
        hello = reader.feed(data)
    except ProtocolError:
        hello = None
    if answer.endswith("Exception"):
        assert hello is None
    else:
        assert hello is not None
        assert answer == f"{hello.sid} " + "|".join(f"{host}:{port}" for host, port in hello.addresses)


# Round trips and cuts.


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(PACKETS, max_size=5), st.integers(1, 60))
def test_packet_round_trip(packets: list[Packet], step: int) -> None:
    stream = b"".join(encoded(packet) for packet in packets)
    assert [fields(packet) for packet in read(stream, step)[0]] == [fields(packet) for packet in packets]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(NOTIFICATIONS)
def test_notification_round_trip(n: Notification) -> None:
    again = decode_notification(encode_notification(n))
    assert (again.state, again.leader, again.zxid, again.round) == (n.state, n.leader, n.zxid, n.round)
    assert (again.peer_epoch, again.config, again.version) == (n.peer_epoch, n.config, 2)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(LONGS, INTS, INTS, st.binary(max_size=50), st.lists(st.tuples(LONGS, INTS), max_size=5), st.booleans())
def test_data_round_trips(
    long: int, small: int, op: int, body: bytes, touched: list[tuple[int, int]], is_alive: bool
) -> None:
    request = quorum.encode_request(long, small, op, body)
    assert quorum.decode_request(request) == (long, small, op, body)
    assert quorum.decode_touched(quorum.encode_touched(touched)) == touched
    assert quorum.decode_revalidate(quorum.encode_revalidate(long, small)) == (long, small)
    assert quorum.decode_revalidated(quorum.encode_revalidated(long, is_alive)) == (long, is_alive)
    assert quorum.decode_int(quorum.encode_int(small)) == small
    sid = abs(long) >> 1
    assert quorum.decode_learner_info(quorum.encode_learner_info(sid, long)) == (sid, 0x10000, long)


def test_hello_and_votes_come_byte_by_byte() -> None:
    votes = [Notification(quorum.LOOKING, 3, 4, 5, 6, b"version=0"), Notification(quorum.LEADING, 1, 2, 3, 4)]
    stream = encode_hello(9, "[::1]:3888|zoo:1") + b"".join(frame_vote(vote) for vote in votes)
    reader, frames = HelloReader(), VoteReader()
    hello: Hello | None = None
    messages: list[bytes] = []
    for at in range(len(stream)):
        piece = stream[at : at + 1]
        if hello is None:
            hello = reader.feed(piece)
            piece = reader.take_rest() if hello is not None else b""
        if hello is not None:
            messages += frames.feed(piece)
    assert repr(hello) == "Hello(9, [('0:0:0:0:0:0:0:1', 3888), ('zoo', 1)])"
    assert messages == [encode_notification(vote) for vote in votes]
    assert repr(decode_notification(messages[1])) == repr(votes[1])
    assert repr(votes[1]) == ("Notification(state=2, leader=1, zxid=0x2, round=3, peer_epoch=0x4, version=2)")


def test_versions_of_a_hello() -> None:
    assert encode_hello(1, "a:1")[:8] == struct.pack(">q", -65536)
    assert encode_hello(1, "a:1|b:2")[:8] == struct.pack(">q", -65535)
    # Before 3.5 it is the sid alone.
    reader = HelloReader()
    hello = reader.feed(struct.pack(">q", 5) + b"\x00\x00")
    assert hello is not None
    assert (hello.sid, hello.addresses, reader.take_rest()) == (5, [], b"\x00\x00")
    for text in ("", "x" * 2049):
        with pytest.raises(AssertionError):
            encode_hello(1, text)


def test_snapshot_is_handed_over_untouched() -> None:
    reader = PacketReader(LIMIT)
    snap, ping = encode_packet(quorum.SNAP, 7), encode_packet(quorum.PING, 8)
    assert [packet.type for packet in reader.feed(ping + snap + b"any bytes" + ping)] == [quorum.PING, quorum.SNAP]
    assert reader.is_raw
    with pytest.raises(AssertionError):
        reader.feed(b"")
    assert reader.take_rest() == b"any bytes" + ping
    # A packet cut in two behind the snapshot.
    assert reader.end_raw(ping + ping[:5]) != []
    assert [repr(packet) for packet in reader.feed(ping[5:])] == ["Packet(PING, 0x8, -1 bytes)"]
    with pytest.raises(AssertionError):
        reader.take_rest()
    assert repr(Packet(99, -1, b"ab")) == "Packet(99, -0x1, 2 bytes)"


# What nobody should send.


def head(kind: int, length: int) -> bytes:
    return struct.pack(">iqi", kind, 0, length)


def feed_all(reader: PacketReader, stream: bytes, step: int) -> None:
    for at in range(0, len(stream), step):
        reader.feed(stream[at : at + step])


NO_DATA = head(quorum.PING, -1)


@pytest.mark.parametrize(
    "stream",
    [
        head(0, -1),
        head(20, -1),
        head(-1, -1),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(10),
        bytes(64),
        head(quorum.PING, -2),
        head(quorum.PING, 101),
        head(quorum.PING, (1 << 31) - 1),
        # A vector that cannot be in so few bytes, fields of it, and too much of it in all.
        NO_DATA + struct.pack(">i", (1 << 31) - 1),
        NO_DATA + struct.pack(">i", 13),
        NO_DATA + struct.pack(">iii", 1, -2, 0),
        NO_DATA + struct.pack(">iii", 1, 101, 0),
        NO_DATA + struct.pack(">ii50xi", 1, 50, 43),
    ],
)
def test_packet_that_nobody_sends_is_refused_before_it_is_whole(stream: bytes) -> None:
    for step in (1, len(stream)):
        reader = PacketReader(100)
        with pytest.raises(ProtocolError):
            feed_all(reader, stream, step)


def test_packet_at_its_limits_is_read() -> None:
    reader = PacketReader(100)
    (packet,) = reader.feed(encode_packet(quorum.PROPOSAL, 1, bytes(100), [Id("a" * 50, "b" * 42)]))
    assert packet.auth == [Id("a" * 50, "b" * 42)]
    (packet,) = reader.feed(encode_packet(quorum.PROPOSAL, 1, bytes(100), [Id("", "")] * 12))
    assert len(packet.auth) == 12
    # Fewer than no identities are none (BinaryIndex.done).
    (packet,) = reader.feed(NO_DATA + struct.pack(">i", -5))
    assert packet.auth == []


def test_identities_without_end_are_not_read_again_and_again() -> None:
    """A packet of many empty identities in small pieces is looked at once, not once a piece."""
    stream = encode_packet(quorum.REQUEST, -1, None, [Id("", "")] * 10_000)
    began = time.process_time()
    assert [len(packet.auth) for packet in read(stream, 16)[0]] == [10_000]
    # It is 20 ms; scanned at each piece, it would be 8 s.
    assert time.process_time() - began < 2


@pytest.mark.parametrize("data", [None, b"", bytes(15)])
def test_request_without_a_header_is_refused(data: bytes | None) -> None:
    with pytest.raises(ProtocolError):
        quorum.decode_request(data)


@pytest.mark.parametrize("data", [None, b"", bytes(8), bytes(19), bytes(21), b"\xff" * 20])
def test_learner_that_does_not_introduce_itself_is_refused(data: bytes | None) -> None:
    with pytest.raises(ProtocolError):
        quorum.decode_learner_info(data)


def test_learner_of_3_4_introduces_itself_without_a_configuration() -> None:
    assert quorum.decode_learner_info(struct.pack(">qi", 5, 0x10000)) == (5, 0x10000, 0)


@pytest.mark.parametrize("data", [None, b"", bytes(3), bytes(5), bytes(8), bytes(11), bytes(13)])
def test_data_of_a_wrong_length_is_refused(data: bytes | None) -> None:
    for decode in (quorum.decode_int, quorum.decode_revalidate, quorum.decode_revalidated):
        with pytest.raises(ProtocolError):
            decode(data)
    if data:
        with pytest.raises(ProtocolError):
            quorum.decode_touched(data)
    else:
        assert quorum.decode_touched(data) == []


@pytest.mark.parametrize(
    "data",
    [
        *(bytes(size) for size in range(40) if size != 28),
        struct.pack(">i36x", 4),
        struct.pack(">i24x", -1),
        # Shorter than its configuration, which is shorter than nothing, absurd, or no text.
        *(GOOD_HEAD + bytes(size) for size in (1, 2, 3)),
        GOOD_HEAD + struct.pack(">i", 1),
        GOOD_HEAD + struct.pack(">i", -1),
        GOOD_HEAD + struct.pack(">i", -2),
        GOOD_HEAD + struct.pack(">i", (1 << 31) - 1),
        GOOD_HEAD + struct.pack(">i", 2) + b"\xc3\x28",
        GOOD_HEAD[:-4] + struct.pack(">ii", 99, -1),
    ],
)
def test_malformed_notification_is_refused(data: bytes) -> None:
    """ZOOKEEPER-3769, ZOOKEEPER-4787: no other exception, which would end whoever receives votes."""
    with pytest.raises(ProtocolError):
        decode_notification(data)


def test_notifications_of_old_servers() -> None:
    oldest = decode_notification(struct.pack(">iqqq", 1, 2, (7 << 32) + 5, 4))
    assert (oldest.state, oldest.leader, oldest.zxid, oldest.round) == (1, 2, (7 << 32) + 5, 4)
    assert (oldest.peer_epoch, oldest.config, oldest.version) == (7, None, 0)
    # In 40 bytes Java does not look at the version.
    old = decode_notification(GOOD_HEAD)
    assert (old.peer_epoch, old.config, old.version) == (4, None, 0)
    # Version 1 has no configuration, whatever follows; what follows one is for a later version.
    old = decode_notification(GOOD_HEAD[:-4] + struct.pack(">i", 1) + b"\xff" * 9)
    assert (old.config, old.version) == (None, 1)
    new = decode_notification(GOOD_HEAD[:-4] + struct.pack(">ii", 99, 1) + b"xyz")
    assert (new.config, new.version) == (b"x", 99)


@pytest.mark.parametrize("length", [-1, 0, (512 << 10) + 1, (1 << 31) - 1])
def test_frame_of_a_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        VoteReader().feed(struct.pack(">i", length))


def test_longest_frame_is_read() -> None:
    message = bytes(512 << 10)
    assert VoteReader().feed(struct.pack(">i", len(message)) + message) == [message]


@pytest.mark.parametrize("sid", [-1, -(1 << 63)])
def test_hello_of_a_negative_sid_is_refused(sid: int) -> None:
    """Java takes it; no server of a view has one."""
    with pytest.raises(ProtocolError):
        HelloReader().feed(struct.pack(">qqi", -65536, sid, 3) + b"a:1")


def test_hello_that_is_no_text_is_refused() -> None:
    """Java reads it with replacement characters, for an address that this server never dials."""
    with pytest.raises(ProtocolError):
        HelloReader().feed(struct.pack(">qqi", -65536, 1, 4) + b"\xff\xfe:1")


def test_identities_of_many_packets_are_each_packets_own() -> None:
    """The reader remembers the last ones: neither the next packet's nor a longer list's may be taken for them."""
    lists = [[Id("ip", "1")], [Id("ip", "1")], [Id("ip", "12")], [Id("ip", "1"), Id("x", "")], [], [Id("ip", "1")]]
    stream = b"".join([encode_packet(quorum.REQUEST, -1, b"data", auth or None) for auth in lists])
    for size in (1, 7, 40, len(stream)):
        assert [packet.auth for packet in read(stream, size)[0]] == lists

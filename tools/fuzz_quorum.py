"""Fuzz targets of the election and quorum ports: packets, notifications, the hello, the text of a view.

Knows the doors of coati.wire.quorum and coati.zab.quorum; the seeds are what Java servers sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from coati.errors import ProtocolError
from coati.wire import quorum
from coati.wire.quorum import Hello, HelloReader, Notification, Packet, PacketReader, VoteReader
from coati.zab.quorum import View

T = TypeVar("T")
ROOT: Final = Path(__file__).resolve().parent.parent
GOLDEN: Final = ROOT / "tests" / "golden" / "quorum" / "java-3.9.3.json"
VIEWS: Final = ROOT / "tests" / "wire" / "fixtures" / "java_views.json"
HELLOS: Final = ROOT / "tests" / "wire" / "fixtures" / "java_hellos.json"
SEED_BYTES: Final = 3000
DATA_LIMIT: Final = 1 << 20
SIGNATURE: Final = b"BenWasHere"


def golden() -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in json.loads(GOLDEN.read_text()).items()}


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes behind the first, which says how many come at a time."""
    step = 1 + data[0] % 64
    for at in range(1, len(data), step):
        yield data[at : at + step]


# packets: a stream in which every snapshot is empty; the first byte is the size of its pieces.


def packet_seeds() -> Iterator[bytes]:
    for name, stream in golden().items():
        if name.startswith("quorum"):
            before, signature, behind = stream.partition(SIGNATURE)
            yield b"\x07" + before[:40] * bool(signature) + (behind or before)[:SEED_BYTES]


def read_packets(reader: PacketReader, data: bytes, found: list[Packet]) -> None:
    found += reader.feed(data)
    while reader.is_raw:
        found += reader.end_raw(reader.take_rest())


def read_pieces(reader: PacketReader, data: bytes, found: list[Packet]) -> None:
    for piece in pieces(data):
        read_packets(reader, piece, found)


def run_packets(data: bytes) -> None:
    if not data:
        return
    whole: list[Packet] = []
    found: list[Packet] = []
    is_refused = not taken(lambda: read_packets(PacketReader(DATA_LIMIT), data[1:], whole))
    reader = PacketReader(DATA_LIMIT)
    was_refused = not taken(lambda: read_pieces(reader, data, found))
    assert is_refused == was_refused, "refused or not, as it is cut"
    if not is_refused:
        assert fields(whole) == fields(found), "other packets, as it is cut"
    stream = b"".join(quorum.encode_packet(p.type, p.zxid, p.data, p.auth or None) for p in found)
    again: list[Packet] = []
    read_packets(PacketReader(2 * DATA_LIMIT), stream, again)
    assert fields(again) == fields(found), "other packets after writing and reading"
    for packet in found:
        run_data(packet.data)


def fields(packets: list[Packet]) -> list[object]:
    return [(packet.type, packet.zxid, packet.data, packet.auth) for packet in packets]


def taken(act: Callable[[], object]) -> bool:
    try:
        act()
    except ProtocolError:
        return False
    return True


def run_data(data: bytes | None) -> None:
    """Whatever the packet: each reader of data takes it and can write it again, or refuses it."""
    round_trip(data, quorum.decode_request, lambda value: quorum.encode_request(*value))
    round_trip(data, quorum.decode_touched, quorum.encode_touched)
    round_trip(data, quorum.decode_revalidate, lambda value: quorum.encode_revalidate(*value))
    round_trip(data, quorum.decode_int, quorum.encode_int)
    round_trip(data, quorum.decode_revalidated, lambda value: quorum.encode_revalidated(*value), loose=True)
    round_trip(
        data, quorum.decode_learner_info, lambda value: quorum.encode_learner_info(value[0], value[2]), loose=True
    )


def round_trip(
    data: bytes | None, decode: Callable[[bytes | None], T], encode: Callable[[T], bytes], *, loose: bool = False
) -> None:
    """`loose`: several bytes mean the same, or some are not kept."""
    try:
        value = decode(data)
    except ProtocolError:
        return
    once = encode(value)
    assert loose or once == (data or b""), "other data after reading and writing"
    decode(once)


# votes: one notification.


def vote_seeds() -> Iterator[bytes]:
    message = quorum.encode_notification(Notification(quorum.LEADING, 3, 1 << 32, 2, 1, b"server.1=a:1:2\nversion=0"))
    yield from (message, message[:28], message[:40], message[:44])
    yield from VoteReader().feed(golden()["election: follower to leader"])


def run_vote(data: bytes) -> None:
    try:
        vote = quorum.decode_notification(data)
    except ProtocolError:
        return
    once = quorum.decode_notification(quorum.encode_notification(vote))
    for name in ("state", "leader", "zxid", "round", "peer_epoch"):
        assert getattr(once, name) == getattr(vote, name), f"another {name} after writing and reading"
    assert (once.config or b"") == (vote.config or b""), "another configuration after writing and reading"
    assert len(vote.config or b"") <= len(data), "a configuration out of nothing"
    if vote.config is not None:
        run_view(vote.config)


# hello: what comes in on an election port; the first byte is the size of its pieces.


def hello_seeds() -> Iterator[bytes]:
    yield b"\x05" + golden()["election: leader to follower"]
    for text, _ in json.loads(HELLOS.read_text())[::5]:
        yield b"\x07" + bytes.fromhex(text)[:SEED_BYTES]


def read_hello(chunks: Iterator[bytes]) -> tuple[Hello | None, list[bytes], bool]:
    """The hello, the messages behind it, and whether what follows is refused."""
    reader, votes = HelloReader(), VoteReader()
    hello: Hello | None = None
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            if hello is None:
                hello = reader.feed(chunk)
                if hello is not None:
                    messages += votes.feed(reader.take_rest())
            else:
                messages += votes.feed(chunk)
    except ProtocolError:
        return hello, messages, True
    return hello, messages, False


def run_hello(data: bytes) -> None:
    if not data:
        return
    hello, messages, is_refused = read_hello(iter((data[1:],)))
    cut_hello, cut_messages, was_refused = read_hello(pieces(data))
    assert (repr(hello), is_refused) == (repr(cut_hello), was_refused), "another hello, as it is cut"
    assert is_refused or messages == cut_messages, "other messages, as it is cut"
    if hello is not None:
        assert hello.sid >= 0, "a negative sid"
        for host, port in hello.addresses:
            assert 0 <= port <= 0xFFFF, "a port that is none"
            assert len(host) <= quorum.MAX_ADDRESS_BYTES, "a host out of nothing"


# view: the text of a configuration.


def view_seeds() -> Iterator[bytes]:
    for text, _, _ in json.loads(VIEWS.read_text())[::12]:
        yield text.encode()


def run_view(data: bytes) -> None:
    view: View | None = None
    complaint = ""
    try:
        view = View.from_text(data)
    except ProtocolError as error:
        complaint = str(error)
    if view is None:
        assert complaint.isprintable(), "a refusal is one line for a terminal"
        assert len(complaint) < 1000, "a refusal longer than a screen"
        return
    voters = view.voters()
    assert voters == sorted(voters), "voters in no order"
    assert not view.contains_quorum([]), "nobody is a quorum"
    acked = dict.fromkeys(voters, 7)
    assert view.contains_quorum(acked) == (view.quorum_zxid(acked) == 7), "two opinions about a quorum"
    half = voters[: len(voters) // 2]
    other = voters[len(voters) // 2 :]
    assert not (view.contains_quorum(half) and view.contains_quorum(other)), "two quorums without a common voter"
    if view.version >= 0:
        text = view.to_text()
        assert View.from_text(text).to_text() == text, "another view after writing and reading"

"""What tools/fuzz.py feeds: each parser of bytes from outside, with what must hold whatever they are.

A target's `run` swallows the errors that the parser documents and nothing else; beyond that it asserts what a parser
owes: the same result however the bytes are cut, the same bytes when what was read is written, the same verdict as a
plain model. Knows the parsers' doors; must not know how the search works.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from coati.core.replay import stage_payload
from coati.core.tree import pristine
from coati.errors import BadArguments, ConfigError, MarshallingError, StorageCorrupt
from coati.seams import Disk
from coati.server.config import Entry, build_config
from coati.server.properties import parse_properties
from coati.storage import format
from coati.storage.format import ZnodeTuple
from coati.storage.snapshot import READ_BYTES, SnapshotReader
from coati.storage.stream import SIGNATURE, StreamReader
from coati.storage.txnlog import LogReader
from coati.wire import records
from coati.wire.codes import MAX_BUFFER_BYTES
from coati.wire.jute import FrameBuffer, Reader, Writer, decode_text, frame
from coati.wire.paths import parent_of, validate_path
from coati.wire.records import ACL, Id
from coati.wire.txns import decode_txn, encode_txn, is_readable
from tools import fuzz_quorum, fuzz_server, fuzz_words, gen_records
from tools.storm_storage import encode_znodes

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "wire" / "fixtures"
RECORDS = [name for name, _ in gen_records.parse(gen_records.TABLE)]
FIELD_LIMIT = 2 * MAX_BUFFER_BYTES


@dataclass(frozen=True)
class Parser:
    """A target: its name, inputs to start from, and one run."""

    name: str
    seeds: Callable[[], Iterable[bytes]]
    run: Callable[[bytes], None]
    # Four times the longest frame, though no input here is longer than a small part of one.
    max_allocated_bytes: int = 4 * MAX_BUFFER_BYTES


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


# records: the first byte chooses the record.


def record_seeds() -> Iterator[bytes]:
    samples: dict[str, Any] = json.loads((FIXTURES / "java_records.json").read_text())
    for index, name in enumerate(RECORDS):
        for _, text in samples[name]["samples"][:3]:
            yield bytes((index,)) + bytes.fromhex(text)


def run_record(data: bytes) -> None:
    if not data:
        return
    cls = getattr(records, RECORDS[data[0] % len(RECORDS)])
    r = Reader(data, 1)
    try:
        record = cls.read(r)
    except MarshallingError:
        assert r.pos <= len(data), "read beyond the end"
        return
    once = encoded(record)
    assert cls.read(Reader(once)) == record, "another record after writing and reading"
    assert encoded(cls.read(Reader(data[: r.pos], 1))) == once, "bytes behind a record matter"
    assert len(repr(record)) < 200 + 12 * len(data), "an endless repr"


def encoded(record: Any) -> bytes:
    w = Writer()
    record.write(w)
    return w.getvalue()


# txns: a payload of the log, or what a leader proposes.


def txn_payloads() -> list[bytes]:
    return [bytes.fromhex(line) for line in (FIXTURES / "java_txns.txt").read_text().split()]


def run_txn(data: bytes) -> None:
    can_be_replayed = is_readable(data)
    try:
        record = decode_txn(data)
    except MarshallingError:
        assert not can_be_replayed, "a log with it would be refused"
        return
    if can_be_replayed:
        # As a follower does what its leader says.
        tree = pristine()
        tree.commit(stage_payload(tree, record.header.zxid, data)[0])
    once = encode_txn(record.header, record.txn, record.digest)
    again = decode_txn(once)
    assert (again.header, again.txn, again.digest) == (record.header, record.txn, record.digest), "a txn of its own"
    assert encode_txn(again.header, again.txn, again.digest) == once, "another payload after reading and writing"


# frames: the first byte is the size of the pieces in which the stream comes.


def frame_seeds() -> Iterator[bytes]:
    yield b"\x01" + frame(b"") + frame(b"abc") + frame(bytes(20))
    yield b"\x07" + frame(b"x" * 100) + b"\x00\x10\x00\x00"
    yield b"\x03" + frame(b"x") + b"\xff\xff\xff\xff"


def run_frames(data: bytes) -> None:
    if not data:
        return
    expected, is_bad = cut_frames(data[1:])
    frames = FrameBuffer()
    found: list[bytes] = []
    try:
        for piece in pieces(data[1:], 1 + data[0] % 64):
            found += frames.feed(piece)
    except MarshallingError:
        assert is_bad, "a good length is refused"
        assert expected[: len(found)] == found, "wrong frames before a bad length"
        return
    assert found == expected, "wrong frames"
    assert not is_bad, "a bad length is taken"


def cut_frames(stream: bytes) -> tuple[list[bytes], bool]:
    """The whole frames of a stream, and whether a bad length comes behind them."""
    found: list[bytes] = []
    while len(stream) >= 4:
        length = int.from_bytes(stream[:4], "big", signed=True)
        if not 0 <= length <= MAX_BUFFER_BYTES:
            return found, True
        if len(stream) < 4 + length:
            break
        found.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return found, False


# paths: the first byte says whether the znode is sequential.


def path_seeds() -> Iterator[bytes]:
    lines = (FIXTURES / "java_paths.txt").read_text().splitlines()
    for line in lines[::40]:
        yield b"\x00" + bytes.fromhex(line.partition(" ")[2])


def run_path(data: bytes) -> None:
    is_sequential, path = bool(data) and data[0] & 1 == 1, data[1:]
    try:
        validate_path(path, is_sequential)
    except BadArguments:
        assert not is_path(path + b"1" if is_sequential else path), "a path that Java takes"
        return
    assert is_path(path + b"1" if is_sequential else path), "a path that Java refuses"
    if not is_sequential and path != b"/":
        assert parent_of(path) == (path.rpartition(b"/")[0] or b"/"), "another parent"


def is_path(path: bytes) -> bool:
    """PathUtils.validatePath once more, as a loop over the UTF-16 units that Java sees."""
    units = decode_text(path).encode("utf-16-be")
    chars = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    if not chars or chars[0] != 0x2F:
        return False
    if len(chars) == 1:
        return True
    for char in chars:
        if char < 0x20 or 0x7F <= char <= 0x9F or 0xD800 <= char <= 0xF8FF or char >= 0xFFF0:
            return False
    elements = decode_text(path).split("/")[1:]
    return not any(element in ("", ".", "..") for element in elements)


# config: zoo.cfg.


def config_seeds() -> Iterator[bytes]:
    yield b"tickTime=2000\ndataDir=/x\nclientPort=2181\n"
    yield b"# c\r\n! c\rinitLimit : 10\nsyncLimit 5\n\\\nautopurge.snapRetainCount=\\\n   3\n"
    yield b"server.1=a:2888:3888;2181\nserver.2=[::1]:2888:3888:observer\ngroup.1=1:2\nweight.1=1\ndataDir=/x\n"
    yield b"minSessionTimeout=-1\nmaxSessionTimeout=99999999999\n4lw.commands.whitelist=*, ruok\nclientPort=0x10\n"
    yield "dataDir=/\u00e9\\u00e9\\\\\\t\nclientPortAddress=::1%lo\nsecureClientPort=+7\npeerType=Observer\n".encode(
        "latin-1"
    )
    yield b"snapCount=1\npreAllocSize=-1\njute.maxbuffer=1\nDigestAuthenticationProvider.superDigest=s:x\n"
    yield b"snapshot.compression.method=gz\nsnapshot.trust.empty=TRUE\nssl.keyStore.password=x\n"


def run_config(data: bytes) -> None:
    try:
        found = parse_properties(data)
        config = build_config({key: Entry(item.value, f"line {item.line}") for key, item in found.items()}, {})
    except ConfigError as error:
        complaint = str(error)
        assert complaint, "a refusal without a word"
        assert complaint.isprintable(), "a refusal is one line for a terminal"
        assert len(complaint) < 2000, "a refusal longer than a screen"
        return
    for warning in config.warnings:
        assert warning.isprintable(), "a warning is one line for a terminal"


# log: a file, or (mode 1) entries whose checksums and zxids are put right, so that what is behind them is reached.


class OneFile:
    """A disk with one file, which gives at most so many bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = data
        self._step = step
        self._pos = 0

    def size(self, _: str) -> int:
        return len(self._data)

    def open_read(self, _: str) -> OneFile:
        self._pos = 0
        return self

    def read(self, max_bytes: int) -> bytes:
        chunk = self._data[self._pos : self._pos + min(max_bytes, self._step)]
        self._pos += len(chunk)
        return chunk

    def close(self) -> None:
        pass


def log_file(payloads: Iterable[bytes]) -> bytes:
    entries = [format.encode_entry_head(payload) + payload + format.END_OF_ENTRY for payload in payloads]
    return format.encode_log_header() + b"".join(entries)


def log_seeds() -> Iterator[bytes]:
    payloads = txn_payloads()[:6]
    whole = log_file(payloads)
    yield b"\x00" + whole
    yield b"\x00" + whole + bytes(30)
    yield b"\x00" + whole[:-20]
    yield b"\x00" + format.encode_log_header()
    yield b"\x01" + b"".join(len(payload).to_bytes(2, "big") + payload for payload in payloads)


def mended_payloads(data: bytes) -> list[bytes]:
    """Payloads from `length, bytes` each, with the zxids 1, 2, 3 ... in their headers."""
    payloads: list[bytes] = []
    while len(data) > 2 and len(payloads) < 50:
        size = int.from_bytes(data[:2], "big") % 600
        payload = data[2 : 2 + size]
        if len(payload) >= format.TXN_HEADER_BYTES:
            payloads.append(payload[:12] + (len(payloads) + 1).to_bytes(8, "big") + payload[20:])
        data = data[2 + size :]
    return payloads


def read_log(data: bytes, step: int) -> list[tuple[int, bytes]] | None:
    """All entries, or None where the file is refused."""
    reader = LogReader(cast(Disk, OneFile(data, step)), "logs", [1], 0, FIELD_LIMIT)
    found: list[tuple[int, bytes]] = []
    try:
        for batch in reader.batches():
            found += batch
    except StorageCorrupt as corrupt:
        if 0 <= corrupt.offset <= len(data):
            return None
        raise AssertionError("damage outside of the file") from corrupt
    return found


def run_log(data: bytes) -> None:
    if not data:
        return
    payloads: list[bytes] = []
    log = data[1:]
    if data[0] & 1:
        payloads = mended_payloads(log)
        log = log_file(payloads)
    found = read_log(log, 1 << 20)
    assert found == read_log(log, 5), "short reads change what is read"
    if payloads:
        assert found is not None, "a sound log is refused"
        assert [payload for _, payload in found] == payloads, "entries are lost"
    for _, payload in found or ():
        run_txn(payload)


# snapshot: a plain file, one with the seals put right, a gzip or a snappy one.


def snapshot_body() -> bytes:
    acls = {1: [ACL(31, Id("world", "anyone")), ACL(1, Id("ip", "127.0.0.1"))], 7: [ACL(1, Id("digest", "a:b"))]}
    stat = (1, 2, 3, 4, 5, 6, 7, 0, 9)
    znodes = [(b"/", b"", -1, *stat), (b"/zookeeper", None, 1, *stat), (b"/zookeeper/quota", b"xyz", 7, *stat)]
    return format.encode_snapshot_head({0x100: 4000, 0x200: 40000}, acls) + encode_znodes(znodes)


def sealed(body: bytes, *, digest: bool, last_zxid: bool) -> bytes:
    """The body with its end mark, its seal and the trailers."""
    parts = [body, format.END_OF_ZNODES]
    add_seal(parts)
    if digest:
        parts.append(format.encode_digest(format.ZxidDigest(5, 2, 99)))
        add_seal(parts)
    if last_zxid:
        parts.append(format.encode_last_zxid(5))
        add_seal(parts)
    return b"".join(parts)


def add_seal(parts: list[bytes]) -> None:
    parts.append(format.encode_seal(zlib.adler32(b"".join(parts))))


def snapshot_seeds() -> Iterator[bytes]:
    body = snapshot_body()
    for trailers in (0, 1, 3):
        yield b"\x00" + sealed(body, digest=trailers > 0, last_zxid=trailers > 1)
        yield bytes((1 + 4 * trailers,)) + body
    whole = sealed(body, digest=True, last_zxid=True)
    yield b"\x02" + gzip.compress(whole, mtime=0)
    yield b"\x02" + gzip.compress(bytes(30 << 20), mtime=0)[:4000]
    yield b"\x03" + format.SNAPPY_HEADER + b"\x00\x00\x00\x03\x01\x00a"


def read_snapshot(data: bytes, compression: str, step: int) -> list[Any] | None:
    """Everything in it, or None where it is refused."""
    try:
        reader = SnapshotReader(cast(Disk, OneFile(data, step)), "snapshot.1", 1, compression, FIELD_LIMIT)
        found = [znode for batch in reader.batches() for znode in batch]
    except StorageCorrupt:
        return None
    return [found, reader.sessions, reader.acls, reader.last_zxid, reader.digest and reader.digest.digest]


def run_snapshot(data: bytes) -> None:
    if not data:
        return
    mode, content = data[0] & 3, data[1:]
    if mode == 1:
        content = sealed(content, digest=data[0] & 4 > 0, last_zxid=data[0] & 8 > 0)
    compression = ("", "", "gz", "snappy")[mode]
    found = read_snapshot(content, compression, 1 << 20)
    assert found == read_snapshot(content, compression, 5), "short reads change what is read"
    if found is not None:
        assert read_snapshot(content[:-1], compression, 1 << 20) is None, "a snapshot without its last byte is taken"


# stream: a snapshot on its way from a leader.


def stream_seeds() -> Iterator[bytes]:
    body = snapshot_body()[format.HEADER_BYTES :]
    yield body + format.END_OF_ZNODES + SIGNATURE
    yield body + format.END_OF_ZNODES + SIGNATURE + b"what follows"
    yield bytes(8) + encode_znodes([(b"/", b"", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0)]) + format.END_OF_ZNODES + SIGNATURE[:-1]


def read_stream(data: bytes, step: int) -> list[Any] | None:
    """Everything in it, or None where it is refused."""
    reader = StreamReader(max_field_bytes=FIELD_LIMIT, limit_bytes=1 << 20)
    znodes: list[ZnodeTuple] = []
    bodies: list[bytes] = []
    pos = 0
    try:
        while pos < len(data) and not reader.is_done:
            znodes += reader.feed(data[pos : pos + step])
            bodies.append(reader.body)
            pos += step
    except format.Damage:
        return None
    return [znodes, reader.sessions, reader.acls, reader.is_done, b"".join(bodies), reader.rest + data[pos:]]


def run_stream(data: bytes) -> None:
    found = read_stream(data, max(len(data), 1))
    assert found == read_stream(data, 7), "other pieces change what is read"
    if found is not None and found[3]:
        file = sealed(format.encode_snapshot_header() + found[4], digest=False, last_zxid=False)
        again = read_snapshot(file, "", 1 << 20)
        assert again is None or again[:3] == found[:3], "its file holds something else"


TARGETS = (
    Parser("server", fuzz_server.seeds, fuzz_server.play),
    Parser("words", fuzz_words.seeds, fuzz_words.run),
    Parser("records", record_seeds, run_record),
    Parser("txns", txn_payloads, run_txn),
    Parser("frames", frame_seeds, run_frames),
    Parser("paths", path_seeds, run_path),
    Parser("packets", fuzz_quorum.packet_seeds, fuzz_quorum.run_packets),
    Parser("votes", fuzz_quorum.vote_seeds, fuzz_quorum.run_vote),
    Parser("hello", fuzz_quorum.hello_seeds, fuzz_quorum.run_hello),
    Parser("view", fuzz_quorum.view_seeds, fuzz_quorum.run_view),
    Parser("config", config_seeds, run_config),
    Parser("log", log_seeds, run_log),
    # What a compressed file expands to is looked at in pieces, two of which are there at a time.
    Parser("snapshot", snapshot_seeds, run_snapshot, 3 * READ_BYTES),
    Parser("stream", stream_seeds, run_stream),
)

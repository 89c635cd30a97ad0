"""Fields of jute: limits before allocation, nulls, and text as Java's decoder reads it."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from coati.errors import MarshallingError
from coati.wire.codes import MAX_BUFFER_BYTES
from coati.wire.jute import Reader, Writer, decode_text, frame
from tests.wire import wirepeer

HUGE = ((1 << 31) - 1).to_bytes(4, "big")
NULL = b"\xff\xff\xff\xff"
# A field that must not be allocated must not cost more than this: an exception and its message.
SMALL_BYTES = 8192
# BinaryInputArchive: maxBuffer + extraMaxBuffer, which is maxBuffer again unless configured.
FIELD_LIMIT = 2 * 0xFFFFF


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [0, 1, -1, (1 << 31) - 1, -(1 << 31)])
def test_int32(value: int) -> None:
    w = Writer()
    w.int32(value)
    assert w.getvalue() == value.to_bytes(4, "big", signed=True)
    assert Reader(w.getvalue()).int32() == value


@pytest.mark.parametrize("value", [0, 1, -1, (1 << 63) - 1, -(1 << 63)])
def test_int64(value: int) -> None:
    w = Writer()
    w.int64(value)
    assert w.getvalue() == value.to_bytes(8, "big", signed=True)
    assert Reader(w.getvalue()).int64() == value


def test_boolean() -> None:
    w = Writer()
    w.boolean(True)
    w.boolean(False)
    assert w.getvalue() == b"\x01\x00"
    r = Reader(b"\x00\x01\x02\xff")
    assert [r.boolean() for _ in range(4)] == [False, True, True, True]


@pytest.mark.parametrize("data", [None, b"", b"\x00", b"\xff" * 5])
def test_buffer(data: bytes | None) -> None:
    w = Writer()
    w.buffer(data)
    assert w.getvalue() == (NULL if data is None else len(data).to_bytes(4, "big") + data)
    assert Reader(w.getvalue()).buffer() == data


@pytest.mark.parametrize("text", [None, "", "/a", "é日本", "\U0001f600", "\x00"])
def test_string(text: str | None) -> None:
    w = Writer()
    w.string(text)
    assert Reader(w.getvalue()).string() == text
    assert Reader(w.getvalue()).text() == (text or "")


def test_lone_surrogate_is_written_as_java_writes_it() -> None:
    w = Writer()
    w.string("\ud800")
    assert w.getvalue() == b"\x00\x00\x00\x03\xed\xa0\x80"


def test_path_is_bytes_and_never_null() -> None:
    w = Writer()
    w.path(b"/\xff")
    assert w.getvalue() == b"\x00\x00\x00\x02/\xff"
    assert Reader(w.getvalue()).path() == b"/\xff"
    with pytest.raises(MarshallingError, match="a path is null"):
        Reader(NULL).path()


def test_raw_bytes_and_frame() -> None:
    w = Writer()
    w.raw(b"abc")
    assert w.getvalue() == b"abc"
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert frame(b"") == bytes(4)


def test_reader_stays_within_its_end() -> None:
    r = Reader(b"\x00\x00\x00\x01\x00\x00\x00\x02", 0, 4)
    assert (r.int32(), r.left()) == (1, 0)
    for read in (r.int32, r.int64, r.boolean, r.buffer, r.string, r.path, r.count):
        with pytest.raises(MarshallingError, match="cut short"):
            read()
    assert r.pos == 4


@pytest.mark.parametrize("have", range(8))
def test_integers_cut_short(have: int) -> None:
    with pytest.raises(MarshallingError, match="a long is cut short"):
        Reader(bytes(have)).int64()
    if have < 4:
        with pytest.raises(MarshallingError, match="an int is cut short"):
            Reader(bytes(have)).int32()


@pytest.mark.parametrize("length", [-2, -5, -(1 << 31), FIELD_LIMIT + 1, (1 << 31) - 1])
def test_unreasonable_length(length: int) -> None:
    data = length.to_bytes(4, "big", signed=True) + bytes(16)
    for read in (Reader(data).buffer, Reader(data).string, Reader(data).path):
        with pytest.raises(MarshallingError, match=f"Unreasonable length = {length}"):
            read()


def test_longest_field_is_maxbuffer_and_its_slack() -> None:
    assert FIELD_LIMIT == 2 * MAX_BUFFER_BYTES
    data = FIELD_LIMIT.to_bytes(4, "big") + bytes(FIELD_LIMIT)
    assert Reader(data).buffer() == bytes(FIELD_LIMIT)
    with pytest.raises(MarshallingError, match="cut short"):
        Reader(data[:-1]).buffer()
    with pytest.raises(MarshallingError, match="Unreasonable length = 11"):
        Reader(b"\x00\x00\x00\x0b" + bytes(11), max_field=10).buffer()
    assert Reader(b"\x00\x00\x00\x0a" + bytes(10), max_field=10).buffer() == bytes(10)


@pytest.mark.parametrize("limit", [2 * MAX_BUFFER_BYTES, (1 << 31) - 1])
@pytest.mark.parametrize("length", [HUGE, b"\x00\x1f\xff\xfe", NULL[:3] + b"\xfb", b"\x80\x00\x00\x00"])
def test_lengths_that_lie_allocate_nothing(length: bytes, limit: int) -> None:
    def read_all() -> None:
        for name in ("buffer", "string", "path"):
            with pytest.raises(MarshallingError):
                getattr(Reader(length, max_field=limit), name)()

    assert peak_bytes(read_all) < SMALL_BYTES


def test_count_of_a_vector() -> None:
    assert Reader(NULL).count() == -1
    assert Reader(bytes(4)).count() == 0
    assert Reader(b"\x00\x00\x00\x02ab").count() == 2
    with pytest.raises(MarshallingError, match="3 elements cannot be in 2 bytes"):
        Reader(b"\x00\x00\x00\x03ab").count()
    with pytest.raises(MarshallingError, match="a vector is null"):
        Reader(NULL).length()
    assert Reader(b"\x00\x00\x00\x02ab").length() == 2


@pytest.mark.parametrize("count", [-2, -5, -(1 << 31)])
def test_negative_count_is_none_at_all(count: int) -> None:
    r = Reader(count.to_bytes(4, "big", signed=True))
    assert r.length() == 0


# What java.lang.String makes of them (JDK 17), asked for below.
TEXTS = [
    (b"/\xff", "/\ufffd"),
    (b"\xed\xa0\x80", "\ufffd"),
    (b"\xed\xa0\xbd\xed\xb8\x80", "\ufffd\ufffd"),
    (b"\xed\xa0", "\ufffd"),
    (b"\xc0\xaf", "\ufffd\ufffd"),
    (b"\xe0\x80\xaf", "\ufffd\ufffd\ufffd"),
    (b"\xe2\x82", "\ufffd"),
    (b"\xe2\x82a", "\ufffda"),
    (b"\xf0\x9f\x98", "\ufffd"),
    (b"\xf0\x9f\x98\x80", "\U0001f600"),
    (b"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),
]


@pytest.mark.parametrize(("data", "text"), TEXTS)
def test_bytes_that_are_not_utf8_become_replacement_characters(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@pytest.fixture(scope="module")
def java() -> Iterator[wirepeer.WirePeer]:
    yield from wirepeer.needed_peer()


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.no_cover
def test_java_decodes_damaged_text_the_same_way(java: wirepeer.WirePeer) -> None:
    dice = random.Random(3)
    lead = (0x41, 0x80, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF)
    rest = (0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xED)
    texts = [bytes((dice.choice(lead), *dice.choices(rest, k=dice.randrange(7)))) for _ in range(5000)]
    texts += [data for data, _ in TEXTS]
    answers = java.echo([("SyncRequest", frame(text)) for text in texts])
    for data, answer in zip(texts, answers, strict=True):
        units = decode_text(data).encode("utf-16-be")
        pairs = (chr(int.from_bytes(units[i : i + 2], "big")) for i in range(0, len(units), 2))
        assert answer == frame("".join(pairs).encode("utf-8", "surrogatepass")), data.hex()

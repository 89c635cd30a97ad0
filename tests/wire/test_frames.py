"""FrameBuffer: a stream cut anywhere yields the same frames, and no length can make it keep more than a frame."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from coati.errors import MarshallingError
from coati.wire.codes import MAX_BUFFER_BYTES
from coati.wire.jute import FrameBuffer, frame

PAYLOADS = [b"", b"a", b"\x00" * 4, b"\xff" * 9, b"x" * 300, b""]
STREAM = b"".join(frame(payload) for payload in PAYLOADS)


def test_frames_whole() -> None:
    frames = FrameBuffer()
    assert frames.feed(STREAM) == PAYLOADS
    assert frames.feed(b"") == []
    assert frames.feed(STREAM) == PAYLOADS


def test_frames_byte_by_byte() -> None:
    frames = FrameBuffer()
    found = [(at, payload) for at in range(len(STREAM)) for payload in frames.feed(STREAM[at : at + 1])]
    assert [payload for _, payload in found] == PAYLOADS
    # Each arrives with its last byte, not later.
    ends = [sum(4 + len(payload) for payload in PAYLOADS[: n + 1]) - 1 for n in range(len(PAYLOADS))]
    assert [at for at, _ in found] == ends


@pytest.mark.parametrize("cut", range(1, len(STREAM), 7))
def test_frames_cut_in_two(cut: int) -> None:
    frames = FrameBuffer()
    assert frames.feed(STREAM[:cut]) + frames.feed(STREAM[cut:]) == PAYLOADS


def test_frames_cut_at_random() -> None:
    dice = random.Random(4)
    for _ in range(50):
        payloads = [dice.randbytes(dice.choice((0, 1, 3, 4, 5, 40))) for _ in range(20)]
        stream = b"".join(map(frame, payloads))
        cuts = sorted(dice.choices(range(len(stream) + 1), k=30))
        frames = FrameBuffer()
        found: list[bytes] = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            found += frames.feed(stream[start:end])
        assert found == payloads


@pytest.mark.parametrize("length", [-1, -5, -(1 << 31), MAX_BUFFER_BYTES + 1, (1 << 31) - 1])
def test_length_that_cannot_be_is_refused_at_once(length: int) -> None:
    # NIOServerCnxn.readLength: "Len error".
    with pytest.raises(MarshallingError, match=f"Len error {length}"):
        FrameBuffer().feed(length.to_bytes(4, "big", signed=True))
    frames = FrameBuffer()
    data = STREAM + length.to_bytes(4, "big", signed=True)
    assert [frames.feed(data[i : i + 1]) for i in range(len(data) - 1)][-1] == []
    with pytest.raises(MarshallingError):
        frames.feed(data[-1:])


def test_longest_frame() -> None:
    frames = FrameBuffer()
    assert frames.feed(frame(bytes(MAX_BUFFER_BYTES))) == [bytes(MAX_BUFFER_BYTES)]
    small = FrameBuffer(max_frame=3)
    assert small.feed(frame(b"abc")) == [b"abc"]
    with pytest.raises(MarshallingError, match="Len error 4"):
        small.feed(frame(b"abcd"))


def test_promised_bytes_are_not_allocated() -> None:
    tracemalloc.start()
    try:
        frames = FrameBuffer()
        assert frames.feed(MAX_BUFFER_BYTES.to_bytes(4, "big") + b"x") == []
        assert tracemalloc.get_traced_memory()[1] < 8192
    finally:
        tracemalloc.stop()


def test_slow_sender_costs_one_copy() -> None:
    # A frame of the longest size in pieces of 64 bytes: copied once a piece, it would move 8 GB.
    payload = bytes(MAX_BUFFER_BYTES)
    data = frame(payload)
    frames = FrameBuffer()
    found = [got for at in range(0, len(data), 64) for got in frames.feed(data[at : at + 64])]
    assert found == [payload]

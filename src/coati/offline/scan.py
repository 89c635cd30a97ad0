"""One log file, read as far as it is sound; and what stands behind the place where it is not.

A server refuses a damaged log; here it is read up to the damage, and what the damage hides is looked for. The bytes
are `storage.format`'s. Must not know what a txn does. Nothing is written, memory stays at a few MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from coati.errors import StorageCorrupt
from coati.offline.places import reading
from coati.seams import Disk, ReadFile
from coati.storage import format
from coati.storage.txnlog import MIN_READ_LIMIT_BYTES, READ_BYTES, Entry, read_tail, read_up_to

# An entry that says it is longer is not believed.
LIMIT_BYTES: Final = MIN_READ_LIMIT_BYTES
_ZXID_AT: Final = format.ENTRY_HEAD_BYTES + 12
_NOT_ZERO: Final = re.compile(rb"[^\x00]")


class LogScan:
    """One log: take `batches()`, after that the rest is known.

    `position` is behind the last sound entry. `is_torn`: an unfinished entry stands there, as a crash leaves one (a
    file without a whole header is torn at 0). `damage` is what else is wrong there. Only the header, lengths, marks and
    checksums are looked at here, not the zxids.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = path
        self.size = 0
        self.position = 0
        self.count = 0
        self.first_zxid = -1
        self.last_zxid = -1
        self.first_ms = 0
        self.last_ms = 0
        self.is_torn = False
        self.damage: StorageCorrupt | None = None
        self._disk = disk

    def batches(self) -> Iterator[tuple[int, list[Entry]]]:
        """The offset of the first, and (zxid, payload) of some sound entries, in the order of the file.

        Raises StorageFailed when the file cannot be read.
        """
        with reading(self.path):
            self.size = self._disk.size(self.path)
            file = self._disk.open_read(self.path)
            try:
                yield from self._read(file)
            finally:
                file.close()

    def run(self) -> LogScan:
        """Reads it for what is known afterwards alone."""
        for _ in self.batches():
            pass
        return self

    def _read(self, file: ReadFile) -> Iterator[tuple[int, list[Entry]]]:
        data = read_up_to(file, format.HEADER_BYTES)
        try:
            format.check_log_header(data)
        except format.Damage as damage:
            rest, has_more = read_tail(file, data, format.HEADER_BYTES)
            self.is_torn = not has_more and format.is_unwritten_header(rest)
            if not self.is_torn:
                self._damaged(damage.offset, damage.reason)
            return
        self.position = format.HEADER_BYTES
        data = b""
        while chunk := file.read(READ_BYTES):
            data = data + chunk if data else chunk
            batch: list[Entry] = []
            stop = format.decode_entries(data, 0, batch)
            if batch:
                if not self.count:
                    self.first_zxid = batch[0][0]
                    self.first_ms = time_of(batch[0][1])
                self.count += len(batch)
                self.last_zxid = batch[-1][0]
                self.last_ms = time_of(batch[-1][1])
                yield self.position, batch
            self.position += stop
            data = data[stop:]
            expected = format.entry_bytes(data, 0)
            if expected <= len(data) or expected > LIMIT_BYTES:
                break
        self._judge(file, data)

    def _judge(self, file: ReadFile, data: bytes) -> None:
        rest, has_more = read_tail(file, data, LIMIT_BYTES + format.ENTRY_FRAME_BYTES)
        reason = format.judge_tail(rest, LIMIT_BYTES)
        if not reason and has_more:
            reason = "an unfinished entry has data behind it"
        if reason:
            self._damaged(self.position, reason)
        self.is_torn = bool(rest) and not reason

    def _damaged(self, offset: int, reason: str) -> None:
        after = f"; the last sound txn before it is {self.last_zxid:#x}" if self.count else ""
        advice = f"See what can be kept with: coati log repair {self.path}"
        self.damage = StorageCorrupt(self.path, offset, reason + after, advice)


def time_of(payload: bytes) -> int:
    """When its leader made the txn, in ms."""
    return int.from_bytes(payload[20:28], "big", signed=True)


def offsets_of(offset: int, batch: list[Entry]) -> Iterator[int]:
    """Where each entry of a batch starts."""
    for _, payload in batch:
        yield offset
        offset += len(payload) + format.ENTRY_FRAME_BYTES


class Behind:
    """The sound entries behind a place of damage: what is lost when the log is cut there."""

    def __init__(self) -> None:
        self.count = 0
        self.first_zxid = -1
        self.last_zxid = -1

    def add(self, entries: list[Entry]) -> None:
        """More of them."""
        if not entries:
            return
        if not self.count:
            self.first_zxid = entries[0][0]
        self.count += len(entries)
        self.last_zxid = entries[-1][0]


def look_behind(disk: Disk, path: str, offset: int, last_zxid: int) -> Behind:
    """Searches a file for sound entries from an offset on. They are of the epoch of `last_zxid` or of the next one,
    which is how they are found quickly. Raises StorageFailed."""
    epoch = max(last_zxid, 0) >> 32
    pattern = _entry_pattern(epoch)
    found = Behind()
    with reading(path):
        file = disk.open_read(path)
        try:
            _skip(file, offset)
            data = b""
            while chunk := file.read(READ_BYTES):
                data += chunk
                data = data[_search(data, pattern, found, is_end=False) :]
            _search(data, pattern, found, is_end=True)
        finally:
            file.close()
    return found


def _entry_pattern(epoch: int) -> re.Pattern[bytes]:
    """Where an entry may start: Adler32 as a long, a length below 2**24 + 2**24, a zxid of one of two epochs."""
    epochs = b"|".join(re.escape(one.to_bytes(4, "big")) for one in (epoch, epoch + 1))
    return re.compile(rb"(?s)(?=\x00{4}.{4}[\x00\x01].{15}(?:" + epochs + rb"))")


def _skip(file: ReadFile, count: int) -> None:
    while count:
        piece = file.read(min(count, READ_BYTES))
        if not piece:
            return
        count -= len(piece)


def _search(data: bytes, pattern: re.Pattern[bytes], found: Behind, *, is_end: bool) -> int:
    """Adds what is sound in `data`; where to go on when more is there."""
    pos = 0
    while match := pattern.search(data, pos):
        start = match.start()
        entries: list[Entry] = []
        stop = format.decode_entries(data, start, entries)
        found.add(entries)
        if stop > start:
            pos = stop
            continue
        size = format.entry_bytes(data, start)
        if not is_end and size <= LIMIT_BYTES and start + size > len(data):
            return start
        pos = start + 1
        if size == format.ENTRY_FRAME_BYTES:
            # Padding, mostly: at most seven zeros stand before the first byte of an entry that is none.
            rest = _NOT_ZERO.search(data, start)
            pos = len(data) if rest is None else max(pos, rest.start() - 7)
    return max(pos, len(data) - _ZXID_AT - 4)

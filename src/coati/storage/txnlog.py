"""Transaction logs as files: reading them in order, and appending to the newest.

Knows files, their order and the zxids in them; the bytes are format.py's. Must not know what a txn does.
Invariants: what is read has no gap above `after_zxid` (the next zxid is the last one + 1, or the first of a later
epoch), else StorageCorrupt; what is appended goes to one file at a time, and a file is synced before the next begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from coati.errors import StorageCorrupt
from coati.seams import Disk, File, ReadFile
from coati.storage import format
from coati.wire.zxid import follows

Entry: TypeAlias = tuple[int, bytes]

READ_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(READ_BYTES)
# So much of the log is written before its pages in memory are given back: only a start reads it again.
FORGET_BYTES: Final = 1 << 20
# A shorter limit than this is not believed when a length is judged: it may have been higher when the log was written.
MIN_READ_LIMIT_BYTES: Final = 16 << 20


class Hole(StorageCorrupt):
    """Txns are missing between two that are there: the logs are no history across that."""


class LogEnd:
    """Where reading one file ended: the position behind its last sound entry, and whether a torn one stands there."""

    __slots__ = ("is_torn", "is_unwritten", "last_zxid", "path", "position", "size")

    def __init__(self, path: str) -> None:
        self.path = path
        self.position = format.HEADER_BYTES
        self.size = 0
        self.last_zxid = -1  # of its last entry; -1 without one
        self.is_torn = False
        self.is_unwritten = False  # a crash came before the header was whole

    @property
    def is_empty(self) -> bool:
        """No entry is in it."""
        return self.last_zxid < 0


class LogReader:
    """Reads the entries above `after_zxid` from the logs of a directory, oldest first.

    `zxids` are those of the names, ascending. `snapshots` are zxids of snapshots above `after_zxid`: one that is
    newer than an entry and older than the next came from a leader, and what it stands for is in no log, which the
    zxids do not show when another epoch begins behind it (ZOOKEEPER-2846); Java goes on in the same file. After
    `batches()` is exhausted, `ends` holds how each file that was needed ended.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        zxids: Sequence[int],
        after_zxid: int,
        max_payload_bytes: int,
        snapshots: Sequence[int] = (),
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._zxids = needed_logs(zxids, after_zxid)
        self._after_zxid = after_zxid
        self._max_payload_bytes = max(max_payload_bytes, MIN_READ_LIMIT_BYTES)
        self._snapshots = snapshots
        self._previous = -1
        self.ends: list[LogEnd] = []

    def batches(self) -> Iterator[list[Entry]]:
        """(zxid, payload) of each entry, some at a time. Raises StorageCorrupt (a Hole if entries are missing), and
        OSError of the disk."""
        for index, zxid in enumerate(self._zxids):
            end = LogEnd(f"{self._directory}/{format.log_name(zxid)}")
            self.ends.append(end)
            for batch in self._entries(end, is_last=index == len(self._zxids) - 1):
                self._check_zxids(end, batch, zxid)
                end.last_zxid = batch[-1][0]
                if batch[0][0] > self._after_zxid:
                    yield batch
                elif batch[-1][0] > self._after_zxid:
                    yield [entry for entry in batch if entry[0] > self._after_zxid]

    def batches_until(self, until: int) -> Iterator[list[Entry]]:
        """The same up to the entry `until`, which is durable: a Hole if it is not there. Nobody looks behind it, where
        another one may be half written at this moment. A file that is purged meanwhile makes a hole, too."""
        last = self._after_zxid
        try:
            for batch in self.batches():
                last = batch[-1][0]
                yield batch if last <= until else [entry for entry in batch if entry[0] <= until]
                if last >= until:
                    return
        except FileNotFoundError as error:
            raise Hole(str(error.filename), 0, "the log was purged while it was read") from error
        raise Hole(self._directory, 0, f"the logs end at {last:#x}, and {until:#x} is durable: a gap")

    def has_hole(self) -> bool:
        """Whether entries are missing between those that are there. What is damaged is not judged here."""
        try:
            for _ in self.batches():
                pass
        except Hole:
            return True
        except StorageCorrupt:
            return False
        return False

    def find_cut(self, zxid: int) -> tuple[int, int] | None:
        """Where the first entry above `zxid` starts: the zxid of its file's name, and the position; None without one.

        Entries behind that are not looked at. Raises as `batches`.
        """
        for index, name_zxid in enumerate(self._zxids):
            if name_zxid > zxid:
                return name_zxid, format.HEADER_BYTES
            end = LogEnd(f"{self._directory}/{format.log_name(name_zxid)}")
            for batch in self._entries(end, is_last=index == len(self._zxids) - 1):
                self._check_zxids(end, batch, name_zxid)
                end.last_zxid = batch[-1][0]
                if end.last_zxid > zxid:
                    kept = [payload for entry_zxid, payload in batch if entry_zxid <= zxid]
                    return name_zxid, end.position + sum(map(len, kept)) + format.ENTRY_FRAME_BYTES * len(kept)
        return None

    def _entries(self, end: LogEnd, *, is_last: bool) -> Iterator[list[Entry]]:
        """The sound entries of one file; at its end the rest of the file is judged."""
        end.size = self._disk.size(end.path)
        file = self._disk.open_read(end.path)
        try:
            data = read_up_to(file, format.HEADER_BYTES)
            if not self._is_header(end, data, file, is_last=is_last):
                return
            data = b""
            while chunk := file.read(READ_BYTES):
                data += chunk
                batch: list[Entry] = []
                stop = format.decode_entries(data, 0, batch)
                if batch:
                    yield batch
                end.position += stop
                data = data[stop:]
                expected = format.entry_bytes(data, 0)
                if expected <= len(data) or expected > self._max_payload_bytes:
                    break
            self._judge(end, data, file)
        finally:
            file.close()

    def _is_header(self, end: LogEnd, data: bytes, file: ReadFile, *, is_last: bool) -> bool:
        """Whether entries may follow; False for the last file if a crash came before its header was whole."""
        try:
            format.check_log_header(data)
        except format.Damage as damage:
            # ZOOKEEPER-2332 repaired this for files of 0 bytes only; the file may have its full size, too.
            rest, has_more = read_tail(file, data, format.HEADER_BYTES)
            if is_last and not has_more and format.is_unwritten_header(rest):
                end.is_unwritten = True
                return False
            raise StorageCorrupt(end.path, damage.offset, damage.reason, self._advice(end)) from None
        return True

    def _judge(self, end: LogEnd, data: bytes, file: ReadFile) -> None:
        limit = self._max_payload_bytes
        rest, has_more = read_tail(file, data, limit + format.ENTRY_FRAME_BYTES)
        reason = format.judge_tail(rest, limit)
        if not reason and has_more:
            reason = "an unfinished entry has data behind it"
        if reason:
            raise StorageCorrupt(end.path, end.position, self._with_zxids(reason), self._advice(end))
        end.is_torn = bool(rest)

    def _with_zxids(self, reason: str) -> str:
        return f"{reason}; the txns after zxid {max(self._previous, self._after_zxid, 0):#x} cannot be read"

    def _advice(self, end: LogEnd) -> str:
        return (
            f"A server of an ensemble can copy its state from the leader: move {self._directory} and the snapshots "
            f"away and start it again. Otherwise restore {end.path} from a backup"
        )

    def _check_zxids(self, end: LogEnd, batch: list[Entry], name_zxid: int) -> None:
        if end.is_empty and batch[0][0] != name_zxid:
            reason = f"its first zxid is {batch[0][0]:#x}, unlike its name"
            raise StorageCorrupt(end.path, end.position, reason, self._advice(end))
        previous = self._previous
        after = self._after_zxid
        for index, (zxid, _) in enumerate(batch):
            if zxid != previous + 1 or previous < after:
                if previous >= zxid:
                    raise self._refusal(StorageCorrupt, end, batch, index, f"after {previous:#x}")
                if zxid > after:
                    self._check_gap(end, batch, index, max(previous, after))
            previous = zxid
        self._previous = previous

    def _check_gap(self, end: LogEnd, batch: list[Entry], index: int, previous: int) -> None:
        zxid = batch[index][0]
        if not follows(previous, zxid):
            raise self._refusal(Hole, end, batch, index, f"after {previous:#x}: a gap")
        for snapshot in self._snapshots:
            if previous < snapshot < zxid:
                reason = f"after {previous:#x}, but there is a snapshot at {snapshot:#x}: a gap"
                raise self._refusal(Hole, end, batch, index, reason)

    def _refusal(
        self, error: type[StorageCorrupt], end: LogEnd, batch: list[Entry], index: int, where: str
    ) -> StorageCorrupt:
        offset = end.position + sum(len(payload) + format.ENTRY_FRAME_BYTES for _, payload in batch[:index])
        return error(end.path, offset, f"zxid {batch[index][0]:#x} comes {where}", self._advice(end))


def needed_logs(zxids: Sequence[int], after_zxid: int) -> list[int]:
    """The logs that may hold entries above `after_zxid`: the last one that starts at or below it, and all above."""
    below = [zxid for zxid in zxids if zxid <= after_zxid]
    return below[-1:] + [zxid for zxid in zxids if zxid > after_zxid]


def read_up_to(file: ReadFile, count: int) -> bytes:
    """The next `count` bytes, or all that are left."""
    data = b""
    while len(data) < count:
        chunk = file.read(count - len(data))
        if not chunk:
            break
        data += chunk
    return data


def read_tail(file: ReadFile, data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    """`data` and the rest of the file without the zeros at its end; and whether more than the limit is there.

    Padding is read but not kept.
    """
    zeros = 0
    while chunk := file.read(READ_BYTES):
        size = len(chunk)
        if (chunk == _ZEROS) if size == READ_BYTES else not chunk.strip(b"\x00"):
            zeros += size
        elif len(data) + zeros > limit_bytes:
            return data, True
        else:
            data += bytes(zeros) + chunk
            zeros = 0
    return data.rstrip(b"\x00"), False


class Segment:
    """Entries for one file, encoded. `first_zxid` names the new file which they begin; 0: they go on in the old one."""

    __slots__ = ("first_zxid", "parts")

    def __init__(self, first_zxid: int) -> None:
        self.first_zxid = first_zxid
        self.parts: list[bytes] = []


class LogAppender:
    """Writes segments to the newest log. Runs on the disk's worker; only `resume` and `close` are called elsewhere,
    when no job is under way. After an error it must not be used any more.
    """

    def __init__(self, disk: Disk, directory: str, *, prealloc_bytes: int, force_sync: bool) -> None:
        self._disk = disk
        self._directory = directory
        self._prealloc_bytes = prealloc_bytes
        self._force_sync = force_sync
        self._file: File | None = None
        self._position = 0
        self._size = 0  # as padded; a large batch may have gone beyond it
        self._forgotten = 0  # up to here the pages may go
        self._is_new = False  # the directory entry is not durable yet
        self.sync_ms = 0.0  # of the last sync
        self.written_bytes = 0

    def resume(self, end: LogEnd) -> None:
        """Appends to a log that was read: cuts off what is torn, and makes the rest durable before anything follows.

        What was read may come from the kernel's memory alone: written by a process that was killed before its sync, or
        whose sync failed. After a failed one those pages count as clean, and no sync writes them any more; so all of it
        is written again (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
        """
        file = self._disk.open_append(end.path)
        if end.is_torn:
            file.truncate(end.position)
        self._write_again(file, end)
        file.sync()
        self._file = file
        self._position = end.position
        self._size = file.size()

    def _write_again(self, file: File, end: LogEnd) -> None:
        source = self._disk.open_read(end.path)
        try:
            position = 0
            while position < end.position:
                data = source.read(min(READ_BYTES, end.position - position))
                if not data:
                    raise OSError(f"{end.path} became shorter while it was read")
                file.write_at(position, data)
                position += len(data)
        finally:
            source.close()

    def commit(self, segments: list[Segment]) -> None:
        """Writes all segments and makes them durable. Raises OSError."""
        if not segments:
            return
        for segment in segments:
            data = b"".join(segment.parts)
            if segment.first_zxid:
                self._roll(segment.first_zxid)
                data = format.encode_log_header() + data
            self._write(data)
        self._sync()

    def _roll(self, zxid: int) -> None:
        if self._file is not None:
            # Otherwise a crash could keep the new file and lose the end of this one: a gap.
            self._sync()
            self._file.close()
        self._file = None
        self._file = self._disk.create(f"{self._directory}/{format.log_name(zxid)}")
        self._is_new = True
        # Killed in between, it leaves a file that is empty or has its header: Java does not start on zeros. The first
        # entries bring the header once more, since power loss may keep the one write and not the other.
        self._file.write_at(0, format.encode_log_header())
        self._position = 0
        self._forgotten = 0
        # FileTxnLog pads after the header is written, so the first size is 16 + preAllocSize.
        self._size = format.padded_size(format.HEADER_BYTES, format.HEADER_BYTES, self._prealloc_bytes)
        self._file.allocate(self._size)

    def _write(self, data: bytes) -> None:
        file = self._file
        assert file is not None
        if self._position:
            size = format.padded_size(self._position, self._size, self._prealloc_bytes)
            if size != self._size:
                file.allocate(size)
                self._size = size
        file.write_at(self._position, data)
        self._position += len(data)
        self.written_bytes += len(data)

    def _sync(self) -> None:
        assert self._file is not None
        if not self._force_sync:
            return
        self.sync_ms = self._file.sync()
        if self._position - self._forgotten >= FORGET_BYTES:
            self._forgotten = self._position
            self._file.forget(self._position)
        if self._is_new:
            self._disk.sync_dir(self._directory)
            self._is_new = False

    def close(self) -> None:
        """Closes the file; what was committed is durable already."""
        if self._file is not None:
            self._file.close()
            self._file = None

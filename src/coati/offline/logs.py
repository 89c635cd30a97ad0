"""Transaction logs as people look at them: their txns, the history of one znode, whether they are sound.

Files are read one after the other, in bounded memory. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from coati.errors import MarshallingError, StorageCorrupt
from coati.offline.places import Directory, real_disk, real_file
from coati.offline.scan import LogScan, offsets_of
from coati.offline.txns import CLOSED, EPHEMERAL, Step, steps_of
from coati.storage import format
from coati.storage.txnlog import Entry
from coati.wire import codes
from coati.wire.txns import decode_txn, is_readable
from coati.wire.zxid import follows

MAX_ZXID: Final = (1 << 63) - 1
_TYPE_AT: Final = slice(28, 32)
_CLOSE: Final = codes.OP_CLOSE_SESSION.to_bytes(4, "big", signed=True)


class Logged(NamedTuple):
    """One operation of a txn. `part`: which of how many, where it is one of several."""

    zxid: int
    time_ms: int
    session_id: int
    cxid: int
    part: str
    step: Step


class Wanted(NamedTuple):
    """Which txns: all conditions hold. `path` stands for itself and all below it."""

    from_zxid: int = 0
    to_zxid: int = MAX_ZXID
    session_id: int | None = None
    path: bytes | None = None

    def entries(self, batch: list[Entry]) -> list[bool]:
        """Whether each may be wanted; the path is only looked for among the bytes."""
        owner = None if self.session_id is None else self.session_id.to_bytes(8, "big", signed=True)
        path = self.path
        return [
            self.from_zxid <= zxid <= self.to_zxid
            and (owner is None or payload.startswith(owner))
            and (path is None or path in payload)
            for zxid, payload in batch
        ]

    def has(self, step: Step) -> bool:
        """Whether the operation is on the path."""
        if self.path is None:
            return True
        return (
            step.path == self.path or (self.path == b"/" and bool(step.path)) or step.path.startswith(self.path + b"/")
        )


def dump(paths: Sequence[str], wanted: Wanted) -> Iterator[Logged]:
    """The operations in these files, which are in order. Raises StorageCorrupt where one is damaged, StorageFailed."""
    for path in _within(paths, wanted):
        scan = LogScan(real_disk(), path)
        for offset, batch in scan.batches():
            chosen = wanted.entries(batch)
            if not any(chosen):
                continue
            for at, (_, payload), is_chosen in zip(offsets_of(offset, batch), batch, chosen, strict=True):
                if is_chosen:
                    yield from (line for line in lines_of(path, at, payload) if wanted.has(line.step))
        if scan.damage is not None:
            raise scan.damage


def _within(paths: Sequence[str], wanted: Wanted) -> list[str]:
    """Without the files whose names say that they have nothing of it. Other names are read."""
    zxids = [format.parse_log_name(path.rpartition("/")[2]) for path in paths]
    after = [*zxids[1:], -1]
    return [
        path
        for path, first, following in zip(paths, zxids, after, strict=True)
        if first <= wanted.to_zxid and (following < 0 or following > wanted.from_zxid)
    ]


def lines_of(path: str, offset: int, payload: bytes) -> list[Logged]:
    """The operations of an entry that stands in the file at `offset`. Raises StorageCorrupt."""
    try:
        record = decode_txn(payload)
        steps = steps_of(record)
    except MarshallingError as error:
        raise _unreadable(path, offset, error) from error
    header = record.header
    count = len(steps)
    return [
        Logged(
            header.zxid, header.time, header.client_id, header.cxid, f"{number}/{count}" if count > 1 else "", step
        )
        for number, step in enumerate(steps, 1)
    ]  # fmt: skip


def _unreadable(path: str, offset: int, error: object) -> StorageCorrupt:
    return StorageCorrupt(path, offset, f"the checksum is right, and yet this is no txn: {error}")


def history(paths: Sequence[str], znode: bytes) -> Iterator[Logged]:
    """What was done to one znode. Records that do not have its path among their bytes are not decoded.

    The end of an ephemeral whose server did not list it with its session's end (before 3.6) is found, too, when its
    creation is in these files. Raises as `dump`.
    """
    needle = len(znode).to_bytes(4, "big") + znode
    owner = b""
    for path in paths:
        scan = LogScan(real_disk(), path)
        for offset, batch in scan.batches():
            found = [index for index, (_, payload) in enumerate(batch) if needle in payload]
            if not found and not owner:
                continue
            if owner or _makes_ephemeral(batch, found):
                # From here on the ends of a session matter as well: one by one.
                found = list(range(len(batch)))
            offsets = list(offsets_of(offset, batch))
            for index in found:
                payload = batch[index][1]
                is_end = payload.startswith(owner) and payload[_TYPE_AT] == _CLOSE if owner else False
                if not is_end and needle not in payload:
                    continue
                lines = [line for line in lines_of(path, offsets[index], payload) if _touches(line.step, znode)]
                if is_end and not lines:
                    lines = [_closed(line, znode) for line in lines_of(path, offsets[index], payload)]
                for line in lines:
                    owner = _owner_after(line, payload)
                    yield line
        if scan.damage is not None:
            raise scan.damage


def _makes_ephemeral(batch: list[Entry], found: list[int]) -> bool:
    """Whether one of them may create an ephemeral: any create may, a set or a delete does not."""
    return any(
        int.from_bytes(batch[index][1][_TYPE_AT], "big", signed=True)
        in (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_MULTI)
        for index in found
    )


def _touches(step: Step, znode: bytes) -> bool:
    return step.path == znode and not step.err and step.type != codes.OP_NAMES[codes.OP_CHECK]


def _closed(line: Logged, znode: bytes) -> Logged:
    return line._replace(part="", step=Step("delete", znode, detail=CLOSED))


def _owner_after(line: Logged, payload: bytes) -> bytes:
    """The session, as bytes, whose end is that of the znode."""
    step = line.step
    return payload[:8] if step.has_data and step.detail.startswith(EPHEMERAL) else b""


# Verifying


class Finding(NamedTuple):
    """What `verify` has to say of one place. `is_wrong`: a server does not start with it, or history is lost."""

    path: str
    state: str
    offset: int | None
    reason: str
    is_wrong: bool
    txns: int = 0
    first_zxid: int = -1
    last_zxid: int = -1


def verify(directory: Directory) -> Iterator[Finding]:
    """Checks each log, their order, and that they lead on from a snapshot. Raises StorageFailed."""
    snapshots = [zxid for zxid, _ in directory.snapshots()]
    logs = directory.logs()
    previous = -1
    for number, (zxid, path) in enumerate(logs):
        scan = LogScan(directory.disk, path)
        order = _Order(path, zxid, previous, snapshots)
        for offset, batch in scan.batches():
            order.check(offset, batch)
        previous = max(previous, scan.last_zxid)
        yield from order.findings
        yield _state(scan, is_last=number == len(logs) - 1)
    if logs and not snapshots:
        reason = "no snapshot is beside the logs: a server refuses them alone"
        yield Finding(directory.places.snapshots, "note", None, reason, is_wrong=False)


def _state(scan: LogScan, *, is_last: bool) -> Finding:
    more = (scan.count, scan.first_zxid, scan.last_zxid)
    if scan.damage is not None:
        return Finding(scan.path, "damaged", scan.damage.offset, scan.damage.reason, True, *more)
    if scan.is_torn:
        is_wrong = not is_last and scan.position < format.HEADER_BYTES
        reason = "an unfinished entry, as a crash leaves it: a server cuts it off"
        if is_wrong:
            reason = "no header, and other logs follow"
        return Finding(scan.path, "torn", scan.position, reason, is_wrong, *more)
    return Finding(scan.path, "ok", None, "", False, *more)


class _Order:
    """The zxids of one log: first that of its name, then each the next one, behind what was before."""

    def __init__(self, path: str, name_zxid: int, previous: int, snapshots: Sequence[int]) -> None:
        self.findings: list[Finding] = []
        self._path = path
        self._name_zxid = name_zxid
        self._previous = previous
        self._snapshots = snapshots
        self._is_first = True

    def check(self, offset: int, batch: list[Entry]) -> None:
        """More entries of it."""
        if self._is_first:
            self._is_first = False
            self._check_first(offset, batch[0][0])
        elif not follows(self._previous, batch[0][0]):
            self._add("order", offset, f"zxid {batch[0][0]:#x} comes after {self._previous:#x}")
        zxids = [zxid for zxid, _ in batch]
        if zxids != list(range(zxids[0], zxids[0] + len(zxids))):
            self._check_each(offset, batch)
        if not all(is_readable(payload) for _, payload in batch):
            at = next(at for at, (_, one) in zip(offsets_of(offset, batch), batch, strict=True) if not is_readable(one))
            self._add("unreadable", at, "the checksum is right, and yet this is no txn")
        self._previous = zxids[-1]

    def _check_first(self, offset: int, zxid: int) -> None:
        if zxid != self._name_zxid:
            self._add("order", offset, f"its first zxid is {zxid:#x}, unlike its name")
        previous = self._previous
        if previous < 0:
            if (
                zxid > 1
                and self._snapshots
                and not any(one + 1 >= zxid or follows(one, zxid) for one in self._snapshots)
            ):
                self._add("gap", offset, f"txns are missing between snapshot.{self._snapshots[0]:x} and {zxid:#x}")
        elif zxid <= previous:
            self._add("order", offset, f"zxid {zxid:#x} comes after {previous:#x}")
        elif not follows(previous, zxid):
            bridge = [one for one in self._snapshots if previous < one < zxid and follows(one, zxid)]
            if bridge:
                reason = f"from {previous:#x} to {zxid:#x} there is snapshot.{bridge[0]:x} alone, of a leader"
                self.findings.append(Finding(self._path, "note", offset, reason, is_wrong=False))
            else:
                self._add("gap", offset, f"txns are missing between {previous:#x} and {zxid:#x}")

    def _check_each(self, offset: int, batch: list[Entry]) -> None:
        previous = batch[0][0] - 1
        for at, (zxid, _) in zip(offsets_of(offset, batch), batch, strict=True):
            if zxid <= previous:
                self._add("order", at, f"zxid {zxid:#x} comes after {previous:#x}")
            elif zxid != previous + 1 and not follows(previous, zxid):
                self._add("gap", at, f"txns are missing between {previous:#x} and {zxid:#x}")
            previous = zxid

    def _add(self, state: str, offset: int, reason: str) -> None:
        self.findings.append(Finding(self._path, state, offset, reason, is_wrong=True))


def log_paths(where: Directory | str) -> list[str]:
    """The logs of a directory, oldest first, or the file of that name. Raises StorageFailed."""
    if isinstance(where, str):
        return [real_file(where)]
    return [path for _, path in where.logs()]

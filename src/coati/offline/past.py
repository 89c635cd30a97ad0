"""The tree as it was: the newest snapshot that holds nothing later, and the logs from there on.

Introduces storage, which knows files, to core, which knows trees, as a server's recovery does; but nothing is written,
and the history may end anywhere. Must not know how a tree is shown.
"""

from __future__ import annotations

from coati.core.load import Loader
from coati.core.replay import compare_digest, stage_payload
from coati.core.tree import Tree, TreeConfig, pristine
from coati.errors import MarshallingError, StorageCorrupt, StorageFailed
from coati.offline.moments import Moment, time_text
from coati.offline.places import Directory, reading
from coati.offline.scan import LIMIT_BYTES, LogScan, time_of
from coati.offline.snapshots import batches_of, opened
from coati.storage.prune import content_zxid
from coati.storage.txnlog import Entry, LogReader
from coati.wire.codes import OP_CLOSE_SESSION, OP_CREATE_SESSION

# A server that gives out such owners has TTLs switched on.
_CONFIG = TreeConfig(extended_types=True)


class Past:
    """The tree right after the txn `zxid`, and the sessions that were open then. `notes`: what the user should know."""

    def __init__(self, tree: Tree, sessions: dict[int, int], zxid: int) -> None:
        self.tree = tree
        self.sessions = sessions
        self.zxid = zxid
        self.time_ms: int | None = None
        self.base = ""
        self.notes: list[str] = []

    def apply(self, batch: list[Entry], end: tuple[str, int]) -> None:
        """Replays some txns, which stand in the file before `end`. Raises StorageCorrupt."""
        tree = self.tree
        for zxid, payload in batch:
            try:
                change, session_id, _, op, digest = stage_payload(tree, zxid, payload)
            except MarshallingError as error:
                raise StorageCorrupt(end[0], end[1], f"the txn {zxid:#x} at or after here: {error}") from error
            tree.commit(change)
            compare_digest(tree, zxid, digest)
            if op == OP_CREATE_SESSION:
                self.sessions[session_id] = change.timeout_ms
            elif op == OP_CLOSE_SESSION:
                self.sessions.pop(session_id, None)
        if batch:
            self.zxid = batch[-1][0]
            self.time_ms = time_of(batch[-1][1])


def past_at(directory: Directory, moment: Moment) -> Past:
    """The tree at a zxid, or as the last txn that is not later than a time left it.

    Raises StorageFailed for what the files do not reach, StorageCorrupt for damage or missing txns on the way.
    """
    until = moment.zxid if moment.zxid is not None else _zxid_at(directory, moment.time_ms or 0)
    past = _start(directory, until)
    base = past.zxid
    logs = directory.logs()
    marks = [zxid for zxid, _ in directory.snapshots() if base < zxid <= until]
    zxids = [zxid for zxid, _ in logs]
    reader = LogReader(directory.disk, directory.places.logs, zxids, base, LIMIT_BYTES, marks)
    if base < until:
        with reading(directory.places.logs):
            for batch in reader.batches():
                end = reader.ends[-1]
                if batch[-1][0] >= until:
                    past.apply([entry for entry in batch if entry[0] <= until], (end.path, end.position))
                    break
                past.apply(batch, (end.path, end.position))
    _check_end(past, until, directory)
    return past


def _check_end(past: Past, until: int, directory: Directory) -> None:
    if past.zxid != until:
        failed = StorageFailed(f"{directory.places.logs}: no txn has the zxid {until:#x}")
        failed.hint = f"the last one before it is {past.zxid:#x}"
        raise failed
    mismatches = past.tree.digest_mismatches
    if mismatches:
        begin = past.base or "the first txn"
        past.notes.append(f"this is not what the server had: from {begin} on the digests of {mismatches} txns differ")


def _start(directory: Directory, until: int) -> Past:
    """The newest snapshot in which nothing is later than `until`; or the empty tree, if the logs begin with the first
    txn of all."""
    notes: list[str] = []
    snapshots = directory.snapshots()
    for zxid, path in snapshots:
        if zxid > until:
            continue
        try:
            past = _load(path, until)
        except StorageCorrupt as error:
            notes.append(f"skipped: {error}")
            continue
        if past is not None:
            past.notes = notes
            return past
    first = next((zxid for zxid, _ in directory.logs()), -1)
    if first == 1 and until >= 1:
        past = Past(pristine(_CONFIG), {}, 0)
        past.notes = notes
        return past
    failed = StorageFailed(f"{directory.places.snapshots}: no snapshot is sound, and from {until:#x} or before")
    oldest = f"the oldest snapshot is of {snapshots[-1][0]:#x}" if snapshots else "there is no snapshot"
    failed.hint = "; ".join([oldest, *notes])
    raise failed


def _load(path: str, until: int) -> Past | None:
    """None if there may be txns after `until` in it, as in one that Java wrote while it went on."""
    with opened(path) as reader:
        loader = Loader(_CONFIG, reader.acls)
        try:
            for batch in batches_of(reader):
                loader.add(batch)
            tree = loader.finish(reader.zxid)
        except MarshallingError as error:
            raise StorageCorrupt(path, 0, str(error)) from error
        content = content_zxid(reader)
        if content is not None and content > until:
            return None
        digest = reader.digest
        if digest is not None and digest.zxid > 0 and digest.zxid >= reader.zxid:
            tree.digest_target = (digest.zxid, digest.digest)
        past = Past(tree, dict(reader.sessions), reader.zxid)
    past.base = path
    return past


def _zxid_at(directory: Directory, time_ms: int) -> int:
    """The last txn before the first one that is later than `time_ms`.

    Leaders' clocks may differ, so times may go back where the leader changes; the files are looked at in their order.
    """
    chosen: LogScan | None = None
    oldest: int | None = None
    for _, path in directory.logs():
        scan = LogScan(directory.disk, path)
        first = next(scan.batches(), None)
        if first is None:
            continue
        oldest = scan.first_ms if oldest is None else oldest
        if scan.first_ms > time_ms:
            break
        chosen = LogScan(directory.disk, path)
    if chosen is None:
        failed = StorageFailed(f"{directory.places.logs}: no txn is as old as {time_text(time_ms)}")
        failed.hint = "there is none at all" if oldest is None else f"the first one is of {time_text(oldest)}"
        raise failed
    last = -1
    for _, batch in chosen.batches():
        for zxid, payload in batch:
            if time_of(payload) > time_ms and last >= 0:
                return last
            last = zxid
    if chosen.damage is not None:
        raise chosen.damage
    return last

"""A leader's snapshot in place of the whole history: what Zab's SNAP leaves on the disk.

Knows the order in which the old history gives way, so that after a crash anywhere either it or a prefix of it is there,
or the snapshot. Must not know a tree or packets.
Invariants: nothing of the old history is touched before the new one is whole and durable beside it; no txn of the old
one is ever replayed on top of the new one; who is told that it is done finds it after any crash (ZOOKEEPER-2872), and
nothing else that could be loaded, should it be damaged later: neither here, nor by Java, which replays what it finds.
Sources: Learner.syncWithLeader; ZOOKEEPER-2832, 2846 and 3642.
"""

from __future__ import annotations

from typing import Final

from coati.seams import Disk
from coati.storage import format
from coati.storage.prune import cut_logs, remove_snapshots
from coati.storage.recovery import Places, list_logs, list_snapshots
from coati.storage.snapshot import SnapshotFile
from coati.storage.txnlog import LogReader, read_up_to

# A note of the install that is under way, beside the snapshots: the name of the new one, and a line end. Not for Java.
NOTE: Final = "coati.install"
_MAX_NOTE_BYTES: Final = 256


class InstallFile(SnapshotFile):
    """The file of a snapshot that takes the place of everything. Raises OSError, and StorageCorrupt when publishing."""

    def __init__(self, disk: Disk, places: Places, zxid: int, compression: str, max_payload_bytes: int) -> None:
        super().__init__(disk, places.snapshots, zxid, compression)
        self._disk = disk
        self._places = places
        self._zxid = zxid
        self._max_payload_bytes = max_payload_bytes

    def publish(self, aside: str, path: str) -> None:
        """Cuts the logs above its zxid, gives it its name, and removes all that was there before.

        The logs above go first, or they would be replayed on top of it. All others go last, since the old history
        stands on them until then; a note of what is under way makes the next start finish that. Snapshots go before
        logs: logs alone are refused, here and by Java.
        """
        disk, places, zxid = self._disk, self._places, self._zxid
        logs = LogReader(disk, places.logs, list_logs(disk, places.logs), zxid, self._max_payload_bytes)
        cut = logs.find_cut(zxid)
        _write_note(disk, places, self.name)
        cut_logs(disk, places, cut)
        super().publish(aside, path)
        remove_replaced(disk, places, self.name, list_logs(disk, places.logs))
        _remove_note(disk, places)


def finish_install(disk: Disk, places: Places, name: str, zxids: list[int]) -> bool:
    """At a start that has loaded the snapshot `name`: whether it had not yet taken the place of everything.

    If so that is done now; `zxids` are the logs in which nothing is newer. Raises OSError.
    """
    if not disk.exists(_note(places)):
        return False
    # Cut short it has no end, or it could be the name of another snapshot.
    is_under_way = _read_note(disk, places) == f"{name}\n".encode()
    if is_under_way:
        remove_replaced(disk, places, name, zxids)
    _remove_note(disk, places)
    return is_under_way


def remove_replaced(disk: Disk, places: Places, name: str, zxids: list[int]) -> None:
    """Removes all snapshots but one, and these logs, the newest first and each for good before the next."""
    remove_snapshots(disk, places, [other for other in list_snapshots(disk, places.snapshots) if other.name != name])
    for zxid in reversed(zxids):
        disk.remove(f"{places.logs}/{format.log_name(zxid)}")
        disk.sync_dir(places.logs)


def _note(places: Places) -> str:
    return f"{places.snapshots}/{NOTE}"


def _write_note(disk: Disk, places: Places, name: str) -> None:
    # None is there: a start removes it, and a server that could not has ended.
    file = disk.create(_note(places))
    try:
        file.append(f"{name}\n".encode())
        file.sync()
    finally:
        file.close()
    disk.sync_dir(places.snapshots)


def _read_note(disk: Disk, places: Places) -> bytes:
    file = disk.open_read(_note(places))
    try:
        return read_up_to(file, _MAX_NOTE_BYTES)
    finally:
        file.close()


def _remove_note(disk: Disk, places: Places) -> None:
    disk.remove(_note(places))
    disk.sync_dir(places.snapshots)

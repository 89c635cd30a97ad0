"""A leader's snapshot in place of the whole history: what Zab's SNAP leaves on the disk.

Knows the order in which the old history gives way, so that after a crash anywhere either it or a prefix of it is there,
or the snapshot. Must not know a tree or packets.
Invariants: nothing of the old history is touched before the new one is whole and durable beside it; no txn of the old
one is ever replayed on top of the new one; who is told that it is done finds it after any crash (ZOOKEEPER-2872).
Sources: Learner.syncWithLeader; ZOOKEEPER-2832 and 3642.
"""

from __future__ import annotations

from coati.seams import Disk
from coati.storage.prune import cut_logs, remove_snapshots
from coati.storage.recovery import Places, list_logs, list_snapshots
from coati.storage.snapshot import SnapshotFile
from coati.storage.txnlog import LogReader


class InstallFile(SnapshotFile):
    """The file of a snapshot that takes the place of everything. Raises OSError, and StorageCorrupt when publishing."""

    def __init__(self, disk: Disk, places: Places, zxid: int, compression: str, max_payload_bytes: int) -> None:
        super().__init__(disk, places.snapshots, zxid, compression)
        self._disk = disk
        self._places = places
        self._zxid = zxid
        self._max_payload_bytes = max_payload_bytes

    def publish(self, aside: str, path: str) -> None:
        """Cuts the logs above its zxid, gives it its name, and removes the snapshots that would be preferred to it.

        Logs go first, or they would be replayed on top of it. Newer snapshots go last: one of them may be all that the
        old history has to stand on. Logs below it stay, and may end before it: `LogReader` sees the hole.
        """
        disk, places, zxid = self._disk, self._places, self._zxid
        logs = LogReader(disk, places.logs, list_logs(disk, places.logs), zxid, self._max_payload_bytes)
        cut_logs(disk, places, logs.find_cut(zxid))
        super().publish(aside, path)
        others = [name for name in list_snapshots(disk, places.snapshots) if name.name != self.name]
        remove_snapshots(disk, places, [name for name in others if name.zxid >= zxid])

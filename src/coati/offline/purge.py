"""Removing old snapshots and logs, as PurgeTxnLog does: worked out first, then done.

`storage.prune` has the rules; here it runs twice, the first time on a disk that removes nothing.
"""

from __future__ import annotations

import os
from typing import Final

from coati.errors import StorageFailed
from coati.offline.places import Directory, reading, unheard
from coati.offline.snapshots import MAX_FIELD_BYTES
from coati.storage.disk import RealDisk
from coati.storage.install import NOTE
from coati.storage.prune import Purge

# PurgeTxnLog.COUNT_ERR_MSG: fewer are not allowed.
MIN_KEEP: Final = 3


class _Unharmed(RealDisk):
    """Nothing is removed."""

    def remove(self, path: str) -> None:
        pass

    def sync_dir(self, path: str) -> None:
        pass


class PurgePlan:
    """What may go. `doomed` are name and size of each file, snapshots first; empty when too few are valid."""

    def __init__(self, directory: Directory, keep: int) -> None:
        """Reads the snapshots that are to be kept, to their end. Raises StorageFailed."""
        self._directory = directory
        self._keep = keep
        self._valid: dict[str, None] = {}
        note = f"{directory.places.snapshots}/{NOTE}"
        # Refuses what is no plain file.
        directory.logs()
        directory.snapshots()
        with reading(directory.places.snapshots):
            if directory.disk.exists(note):
                raise StorageFailed(f"{note}: a leader's snapshot is being installed; start the server once")
            removed = self._run(_Unharmed(unheard))
            self.doomed = [(path, os.path.getsize(path)) for path in map(self._path, removed)]

    @property
    def valid_count(self) -> int:
        """The snapshots that were found to be whole, at most as many as are kept."""
        return len(self._valid)

    def carry_out(self) -> list[str]:
        """Removes them; the names. Raises StorageFailed."""
        with reading(self._directory.places.snapshots):
            return self._run(self._directory.disk)

    def _run(self, disk: RealDisk) -> list[str]:
        purge = Purge(disk, self._directory.places, self._keep, self._valid, MAX_FIELD_BYTES)
        while not purge.is_over:
            purge.step()
        return purge.removed

    def _path(self, name: str) -> str:
        places = self._directory.places
        return f"{places.logs if name.startswith('log.') else places.snapshots}/{name}"

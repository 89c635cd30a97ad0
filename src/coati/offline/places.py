"""Finding data directories and files, and saying in plain words why one cannot be read.

Knows names and errors of the system; must not know what stands in the files. Nothing is written here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from coati.errors import StorageCorrupt, StorageFailed
from coati.storage import format
from coati.storage.disk import RealDisk
from coati.storage.recovery import Places, list_logs, list_snapshots

VERSION_DIR: Final = "version-2"
_HINTS: Final = {
    errno.EACCES: "run this as the user whose server it is",
    errno.EPERM: "run this as the user whose server it is",
    errno.ENOENT: "look at dataDir and dataLogDir in the server's zoo.cfg",
    errno.EIO: "the disk fails: copy what can be read to another one first",
}


def real_disk() -> RealDisk:
    """The files of this machine. Nothing is handed to its worker, so nobody has to hear of its end."""
    return RealDisk(unheard)


def unheard(callback: Callable[[], None]) -> None:
    """No job is submitted, so none ends."""


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What the system refuses inside becomes StorageFailed, with the path and what to do."""
    try:
        yield
    except OSError as error:
        raise refused(error, path) from error


def refused(error: OSError, path: str) -> StorageFailed:
    """What the user reads when the system says no."""
    failed = StorageFailed(f"{error.filename or path}: {error.strerror or error}")
    failed.hint = _HINTS.get(error.errno or 0, "")
    return failed


class Directory:
    """The directory of one server's data, `places` being where its snapshots and logs are (often one directory).

    Listing raises StorageFailed, and StorageCorrupt for a name of theirs that is no plain file.
    """

    def __init__(self, disk: RealDisk, places: Places) -> None:
        self.disk = disk
        self.places = places

    def logs(self) -> list[tuple[int, str]]:
        """Zxid of the name and path of each log, oldest first."""
        with reading(self.places.logs):
            zxids = list_logs(self.disk, self.places.logs)
        return self._plain([(zxid, f"{self.places.logs}/{format.log_name(zxid)}") for zxid in zxids])

    def snapshots(self) -> list[tuple[int, str]]:
        """The same of the snapshots, newest first."""
        with reading(self.places.snapshots):
            names = list_snapshots(self.disk, self.places.snapshots)
        return self._plain([(name.zxid, f"{self.places.snapshots}/{name.name}") for name in names])

    def _plain(self, found: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Refuses what a server refuses: a directory, a link, or a pipe, which nobody would write to."""
        for _, path in found:
            with reading(path):
                if not self.disk.is_file(path):
                    raise StorageCorrupt(path, 0, "this is no plain file", "Move it away")
        return found


def find(given: str, log_dir: str | None = None) -> Directory:
    """The data directory named by `given`: a dataDir, its version-2, or a copy of what is in that.

    `log_dir`: the dataLogDir, where that is another one. Raises StorageFailed.
    """
    disk = real_disk()
    places = Places(given, log_dir)
    places.snapshots = _find_one(disk, given)
    places.logs = places.snapshots if log_dir is None else _find_one(disk, log_dir)
    return Directory(disk, places)


def _find_one(disk: RealDisk, given: str) -> str:
    with reading(given):
        names = disk.list(given)
    inner = f"{given.rstrip('/')}/{VERSION_DIR}"
    if VERSION_DIR in names and os.path.isdir(inner):
        with reading(inner):
            disk.list(inner)
        return inner
    is_inner = os.path.basename(os.path.realpath(given)) == VERSION_DIR
    if is_inner or any(format.parse_log_name(name) >= 0 or format.parse_snapshot_name(name)[0] >= 0 for name in names):
        return given.rstrip("/") or "/"
    failed = StorageFailed(f"{given}: no data directory: neither {VERSION_DIR} nor a log or snapshot is in it")
    failed.hint = _HINTS[errno.ENOENT]
    raise failed


def is_directory(path: str) -> bool:
    """Whether a name stands for a directory, be it by a link."""
    return os.path.isdir(path)


def real_file(path: str) -> str:
    """The path of a file that the user named, a link followed. Raises StorageFailed unless it is a plain file."""
    found = os.path.realpath(path) if os.path.islink(path) else path
    with reading(path):
        if real_disk().is_file(found):
            return found
    raise StorageFailed(f"{path}: this is no plain file")

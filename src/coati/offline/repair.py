"""Cutting a damaged log back to what is sound, with a copy of the whole beside it.

The only code here that changes a file, with `purge`. Order: the copy is durable before the cut.
"""

from __future__ import annotations

import os
from typing import Final

from coati.errors import StorageFailed
from coati.offline.places import reading, real_disk, real_file
from coati.offline.scan import Behind, LogScan, look_behind
from coati.seams import Disk, Lock
from coati.storage import format
from coati.storage.recovery import list_logs
from coati.storage.store import LOCK_NAME
from coati.storage.txnlog import READ_BYTES

# Java purges what begins with "log.", so the copy has another beginning.
BACKUP_PREFIX: Final = "damaged."
_PROC: Final = "/proc"


class Repair:
    """What can be done about a log, and what that costs."""

    def __init__(self, scan: LogScan, behind: Behind, later: list[str]) -> None:
        self.scan = scan
        self.behind = behind
        self.later = later

    def preview(self) -> list[str]:
        """What would happen, in lines."""
        scan, behind = self.scan, self.behind
        lines = [
            f"{scan.path}: {scan.damage.reason if scan.damage else ''}",
            f"kept: {scan.count} txns, up to {scan.last_zxid:#x}" if scan.count else "kept: nothing but the header",
            f"cut off: all from byte {scan.position} on, of {scan.size}",
        ]
        if behind.count:
            lines.append(
                f"lost: at least {behind.count} txns that are sound ({behind.first_zxid:#x} to {behind.last_zxid:#x}), "
                "and those that are not"
            )
        else:
            lines.append("lost: the damaged txn; behind it nothing sound was found")
        lines += [f"not used any more, as txns before it are missing: {path}" for path in self.later]
        lines.append("A server of an ensemble had better copy its state from the leader: move its version-2 away.")
        return lines


def plan(path: str) -> Repair | None:
    """What there is to cut off; None for a log that a server takes as it is. Raises StorageFailed, StorageCorrupt when
    not even the header is sound."""
    disk = real_disk()
    scan = LogScan(disk, os.path.abspath(real_file(path))).run()
    if scan.damage is None:
        return None
    if scan.position < format.HEADER_BYTES:
        scan.damage.advice = "No entry can be kept: move the file away"
        raise type(scan.damage)(scan.path, scan.damage.offset, scan.damage.reason, scan.damage.advice)
    behind = look_behind(disk, scan.path, scan.position + 1, scan.last_zxid)
    directory, _, name = scan.path.rpartition("/")
    own = format.parse_log_name(name)
    with reading(directory):
        later = [zxid for zxid in list_logs(disk, directory) if 0 <= own < zxid]
    return Repair(scan, behind, [f"{directory}/{format.log_name(zxid)}" for zxid in later])


def carry_out(repair: Repair) -> str:
    """Copies the log aside and cuts it; the copy's path. Raises StorageFailed, also when a server runs on it."""
    disk = real_disk()
    scan = repair.scan
    directory, _, name = scan.path.rpartition("/")
    with reading(scan.path):
        lock = _lock(disk, directory)
        try:
            if disk.size(scan.path) != scan.size:
                raise StorageFailed(f"{scan.path} has changed since it was read: does a server run on it?")
            backup = _free_name(disk, f"{directory}/{BACKUP_PREFIX}{name}")
            _copy(disk, scan.path, backup)
            disk.sync_dir(directory)
            file = disk.open_append(scan.path)
            try:
                file.truncate(scan.position)
                file.sync()
            finally:
                file.close()
        finally:
            if lock is not None:
                lock.release()
    return backup


def _lock(disk: Disk, directory: str) -> Lock | None:
    """Keeps servers out: ours by their lock, any by the files it has open."""
    pids = users_of(directory)
    if pids:
        raise StorageFailed(f"{directory} is in use by process {', '.join(map(str, pids))}: stop the server first")
    path = f"{directory}/{LOCK_NAME}"
    if not disk.exists(path):
        return None
    try:
        return disk.lock(path)
    except BlockingIOError:
        raise StorageFailed(f"{path} is locked: a server uses the directory; stop it first") from None


def users_of(directory: str) -> list[int]:
    """The processes that have a file of the directory open, as far as the system tells us."""
    prefix = os.path.realpath(directory) + "/"
    found = []
    pids = [int(name) for name in os.listdir(_PROC) if name.isdigit()] if os.path.isdir(_PROC) else []
    for pid in pids:
        if pid != os.getpid() and any(target.startswith(prefix) for target in _open_files(pid)):
            found.append(pid)
    return found


def _open_files(pid: int) -> list[str]:
    directory = f"{_PROC}/{pid}/fd"
    try:
        return [os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)]
    except OSError:
        # Another user's, or gone meanwhile.
        return []


def _free_name(disk: Disk, path: str) -> str:
    number = 0
    candidate = path
    while disk.exists(candidate):
        number += 1
        candidate = f"{path}.{number}"
    return candidate


def _copy(disk: Disk, source: str, target: str) -> None:
    """All of it, durable; or nothing, when the disk is full."""
    reader = disk.open_read(source)
    writer = disk.create(target)
    try:
        while data := reader.read(READ_BYTES):
            writer.append(data)
        writer.sync()
    except OSError as error:
        disk.remove(target)
        raise OSError(error.errno, error.strerror, target) from error
    finally:
        writer.close()
        reader.close()

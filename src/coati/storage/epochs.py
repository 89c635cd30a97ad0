"""The epoch files: `currentEpoch` and `acceptedEpoch`, in the directory of the snapshots.

Knows how they are replaced and which values fit together (QuorumPeer.loadDataBase). Must not know who chose them.
Invariant (Z8): acceptedEpoch >= currentEpoch >= epoch of the last zxid; memory follows the files, never the reverse.
"""

from __future__ import annotations

from typing import Final

from coati.errors import StorageCorrupt
from coati.seams import Disk
from coati.storage import format
from coati.storage.txnlog import read_up_to
from coati.wire.zxid import epoch_of

CURRENT: Final = "currentEpoch"
ACCEPTED: Final = "acceptedEpoch"
TMP_SUFFIX: Final = ".tmp"  # AtomicFileOutputStream.TMP_EXTENSION
_MAX_FILE_BYTES: Final = 64


class Epochs:
    """What the files say, or stand for when they are missing. `must_write_current`: the file is behind the value."""

    __slots__ = ("accepted", "current", "must_write_current")

    def __init__(self, accepted: int, current: int, *, must_write_current: bool) -> None:
        self.accepted = accepted
        self.current = current
        self.must_write_current = must_write_current


def load_epochs(disk: Disk, directory: str, last_zxid: int, *, is_empty: bool = False) -> Epochs:
    """Reads both and checks them against the last zxid. Changes nothing.

    A missing file stands for the epoch of the last zxid, as in Java, whose standalone server writes none. Raises
    StorageCorrupt on a file that is no epoch, and when the two do not fit together, or with a database that `is_empty`.
    """
    epoch = epoch_of(max(last_zxid, 0))
    current_file = _read(disk, directory, CURRENT)
    accepted_file = _read(disk, directory, ACCEPTED)
    if is_empty and current_file:
        # The epoch is compared before the zxid, so it would win elections over who has the data (ZOOKEEPER-4643).
        raise StorageCorrupt(
            f"{directory}/{CURRENT}",
            0,
            f"it is {current_file}, but there is neither a snapshot nor a log: the data is lost",
            f"To start with nothing and copy the state of an ensemble from its leader, move {directory} away. "
            "Otherwise restore a backup",
        )
    current = epoch if current_file is None else current_file
    accepted = epoch if accepted_file is None else accepted_file
    is_behind = epoch > current
    if is_behind:
        # A crash between the history of a new epoch and currentEpoch, which comes last (ZOOKEEPER-1653, 2354). The
        # history is that of a leader that was accepted, at this epoch or, if this server missed it, at a later one,
        # and reaches into this epoch: so it has all that the epoch began with, as a follower of it would, and may vote
        # like one. Java adopts it only from the file aside.
        if (accepted_file is None or accepted_file < epoch) and _read_aside(disk, directory) != epoch:
            raise StorageCorrupt(
                f"{directory}/{CURRENT}",
                0,
                f"the epoch {current} is older than that of the last zxid, {last_zxid:#x}",
                f"If the data is what this server should have, write {epoch} into the file",
            )
        current = epoch
    if accepted < current:
        raise StorageCorrupt(
            f"{directory}/{ACCEPTED}",
            0,
            f"the accepted epoch {accepted} is less than the current epoch {current}",
            f"If the data is what this server should have, write {current} into the file",
        )
    return Epochs(accepted, current, must_write_current=is_behind)


def write_epoch(disk: Disk, directory: str, name: str, epoch: int) -> None:
    """Replaces one file; durable when it returns. Raises OSError; then the old value or the new one is there."""
    path = f"{directory}/{name}"
    tmp = path + TMP_SUFFIX
    if disk.exists(tmp):
        disk.remove(tmp)
    file = disk.create(tmp)
    try:
        file.append(format.encode_epoch(epoch))
        file.sync()
    finally:
        file.close()
    disk.rename(tmp, path)
    disk.sync_dir(directory)


def _read(disk: Disk, directory: str, name: str) -> int | None:
    path = f"{directory}/{name}"
    if not disk.exists(path):
        return None
    file = disk.open_read(path)
    try:
        data = read_up_to(file, _MAX_FILE_BYTES)
    finally:
        file.close()
    try:
        return format.decode_epoch(data)
    except format.Damage as damage:
        raise StorageCorrupt(path, damage.offset, damage.reason) from None


def _read_aside(disk: Disk, directory: str) -> int | None:
    """The value of a currentEpoch that was written aside and not renamed; None without one, or if half written."""
    try:
        return _read(disk, directory, CURRENT + TMP_SUFFIX)
    except StorageCorrupt:
        return None

"""Recovery: which snapshot and which logs, the epoch files, and what may lie in the directories (rows 58, 67 to 70)."""

from __future__ import annotations

import errno
import struct

import pytest

from coati.errors import StorageCorrupt, StorageFailed
from coati.seams import ReadFile
from coati.storage.recovery import newest_snapshot_bytes, unusable
from coati.storage.snapshot import SnapshotReader
from coati.storage.store import Store, ZxidDigest
from coati.testing.disk import SimDisk
from tests.storage.kit import (
    DIRECTORY,
    ROOT,
    Row,
    build,
    config,
    fill,
    load,
    log_of,
    open_store,
    payload_of,
    refusal,
    snapshot_bytes,
    write,
    write_first_snapshot,
)

EPOCH = 1 << 32


def disk_with(**files: bytes) -> SimDisk:
    """`snapshot_0=b"..."` is the file snapshot.0."""
    disk = SimDisk()
    for name, content in files.items():
        disk.put(f"{DIRECTORY}/{name.replace('_', '.')}", content)
    return disk


def marked(zxid: int) -> bytes:
    """A snapshot that shows which one it is."""
    return snapshot_bytes([(b"/", b"from %x" % zxid, -1, *range(9))])


# Which snapshot


def test_the_newest_snapshot_is_loaded() -> None:
    disk = disk_with(snapshot_0=marked(0), snapshot_a=marked(10), snapshot_9=marked(9), log_1=log_of(range(1, 13)))
    recovered, records = load(Store(disk, config()))
    assert recovered.tree is not None
    assert recovered.tree[0][1] == b"from a"
    assert [record.header.zxid for record in records] == [11, 12]
    assert (recovered.snapshot_zxid, recovered.snapshot_name) == (10, "snapshot.a")


@pytest.mark.parametrize("damaged", [b"", b"ZKSN", marked(10)[:-1], marked(10)[:-30] + b"?" + marked(10)[-29:]])
def test_a_damaged_snapshot_is_skipped_if_the_logs_reach_beyond_it(damaged: bytes) -> None:
    disk = disk_with(snapshot_0=marked(0), snapshot_5=marked(5), snapshot_a=damaged, log_1=log_of(range(1, 13)))
    recovered, records = load(Store(disk, config()))
    assert recovered.snapshot_zxid == 5
    assert [record.header.zxid for record in records] == list(range(6, 13))
    assert "snapshot.a" in recovered.warnings[0]


@pytest.mark.parametrize("last", [5, 9])
def test_a_damaged_snapshot_is_not_skipped_if_the_logs_end_before_it(last: int) -> None:
    disk = disk_with(snapshot_5=marked(5), snapshot_a=b"ZKSN", log_1=log_of(range(1, last + 1)))
    error = refusal(disk)
    assert f"snapshot.a cannot be loaded, and the logs end before it, at zxid {last:#x}" in error.reason


def test_a_damaged_snapshot_is_not_skipped_over_a_gap() -> None:
    disk = disk_with(snapshot_5=marked(5), snapshot_a=b"ZKSN", log_1=log_of(range(1, 6)), log_8=log_of(range(8, 13)))
    assert "zxid 0x8 comes after 0x5: a gap" in refusal(disk).reason


def test_without_a_valid_snapshot_the_store_is_not_empty() -> None:
    """Java takes a data directory whose snapshots are all cut short for an empty one."""
    error = refusal(disk_with(snapshot_5=b"", snapshot_a=b"ZKSN"))
    assert error.path.endswith("snapshot.a")
    assert "no snapshot can be loaded and there are no logs" in error.reason


def test_a_first_start_that_was_cut_short_is_begun_again() -> None:
    disk = disk_with(snapshot_0=b"ZKSN")
    store = Store(disk, config())
    recovered, _ = load(store)
    assert recovered.fresh
    write_first_snapshot(store)
    write(store, disk, [1])
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == 1


def test_the_builder_may_reject_a_snapshot() -> None:
    disk = disk_with(snapshot_5=marked(5), snapshot_a=marked(10), log_1=log_of(range(1, 13)))

    def choosy(reader: SnapshotReader) -> list[Row]:
        if reader.zxid == 10:
            raise StorageCorrupt(reader.path, 0, "an orphan")
        return build(reader)

    recovered = Store(disk, config()).recover(choosy)
    assert recovered.snapshot_zxid == 5
    assert sum(map(len, recovered.batches())) == 7


def test_the_limit_of_a_diff_comes_from_the_newest_snapshot() -> None:
    """ZKDatabase.calculateTxnLogSizeLimit: the oldest one, often nearly empty, made a leader send snapshots instead."""
    disk = disk_with(snapshot_5=b"12345", snapshot_a=b"1234567890", log_1=log_of(range(1, 13)))
    assert newest_snapshot_bytes(disk, DIRECTORY) == 10
    assert newest_snapshot_bytes(disk_with(log_1=log_of(range(1, 13))), DIRECTORY) == 0


def test_a_builder_that_does_not_read_to_the_end_has_no_tree() -> None:
    disk = disk_with(snapshot_5=marked(5), log_1=log_of(range(1, 13)))
    with pytest.raises(StorageCorrupt, match="no snapshot that can be loaded"):
        Store(disk, config()).recover(lambda reader: next(reader.batches()))


def test_only_the_newest_hundred_snapshots_are_tried() -> None:
    disk = disk_with(snapshot_0=marked(0))
    for zxid in range(1, 101):
        disk.put(f"{DIRECTORY}/snapshot.{zxid:x}", b"")
    assert "no snapshot can be loaded" in refusal(disk).reason


@pytest.mark.parametrize(
    ("digest", "last", "expected"),
    [
        (struct.pack(">qiq", 6, 2, -1), 7, ZxidDigest(6, 2, (1 << 64) - 1)),
        (struct.pack(">qiq", 0, 2, 0), 7, None),
        (struct.pack(">qiq", 4, 2, 5), 7, None),
    ],
)
def test_the_digest_is_compared_only_where_java_would(digest: bytes, last: int, expected: ZxidDigest | None) -> None:
    disk = disk_with(snapshot_5=snapshot_bytes([ROOT], digest=digest), log_1=log_of(range(1, last + 1)))
    assert load(Store(disk, config()))[0].digest == expected


def test_a_fuzzy_snapshot_needs_the_txns_it_may_hold() -> None:
    """Java warns ("is not covering the snapshot digest zxid") and gives their zxids to other txns."""
    digest = struct.pack(">qiq", 8, 2, 5)
    error = refusal(disk_with(snapshot_5=snapshot_bytes([ROOT], digest=digest), log_1=log_of(range(1, 8))))
    assert "the snapshot holds txns up to 0x8, and the logs end before that, at zxid 0x7" in error.reason


# No snapshot, nothing at all


def test_logs_without_a_snapshot_are_refused_unless_the_operator_trusts_them() -> None:
    disk = disk_with(log_1=log_of(range(1, 6)))
    assert "no snapshot that can be loaded" in refusal(disk).reason
    recovered, records = load(Store(disk, config(trust_empty_snapshot=True)))
    assert recovered.tree is None
    assert not recovered.fresh
    assert len(records) == 5
    assert recovered.last_zxid == 5


def test_trusted_logs_have_to_begin_at_the_beginning() -> None:
    assert "a gap" in refusal(disk_with(log_3=log_of(range(3, 6))), trust_empty_snapshot=True).reason


def test_an_empty_directory_becomes_a_database() -> None:
    disk = SimDisk()
    store = Store(disk, config())
    recovered, records = load(store)
    assert recovered.fresh
    assert (recovered.tree, records, recovered.last_zxid, recovered.snapshot_zxid) == (None, [], 0, -1)
    write_first_snapshot(store)
    store.close()
    recovered, _ = load(Store(disk, config()))
    assert not recovered.fresh
    assert (recovered.last_zxid, recovered.snapshot_name) == (0, "snapshot.0")


def test_a_database_that_must_not_come_into_being_has_no_zxid() -> None:
    disk = SimDisk()
    recovered, _ = load(Store(disk, config(autocreate_db=False)))
    assert recovered.fresh
    assert recovered.last_zxid == -1


def test_the_marker_permits_it_and_goes_when_the_snapshot_is_there() -> None:
    disk = SimDisk()
    disk.put("/data/initialize", b"")
    store = Store(disk, config(autocreate_db=False))
    assert load(store)[0].last_zxid == 0
    assert disk.exists("/data/initialize")
    write_first_snapshot(store)
    assert not disk.exists("/data/initialize")


def test_the_marker_beside_data_is_removed() -> None:
    disk = disk_with(snapshot_0=marked(0))
    disk.put("/logs/initialize", b"")
    load(Store(disk, config(log_dir="/logs")))
    assert not disk.exists("/logs/initialize")


def test_a_directory_may_be_missing_unless_that_is_forbidden() -> None:
    with pytest.raises(StorageFailed, match=r"/data/version-2 is missing and datadir.autocreate is false"):
        load(Store(SimDisk(), config(autocreate_dirs=False)))
    disk = SimDisk()
    load(Store(disk, config(log_dir="/logs/here")))
    assert disk.exists("/logs/here/version-2")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/version-2"), "/data/version-2: Permission denied"),
        (FileExistsError(errno.EEXIST, "File exists", "/data"), "/data: not a directory"),
        (OSError(errno.EIO, "Input/output error"), "[Errno 5] Input/output error"),
    ],
)
def test_what_cannot_be_used_is_named_first(error: OSError, message: str) -> None:
    assert str(unusable(error)) == message


# What lies about


def test_two_servers_cannot_share_a_directory() -> None:
    disk = fill()
    first = open_store(disk)
    with pytest.raises(StorageFailed, match="is locked: another server uses the directory"):
        load(Store(disk, config()))
    first.close()
    second = open_store(disk)
    with pytest.raises(StorageFailed, match="is locked"):
        load(Store(disk, config(log_dir="/other")))
    second.close()
    load(Store(disk, config()))


def test_the_lock_of_one_directory_is_given_back_when_the_other_is_taken() -> None:
    disk = SimDisk()
    disk.make_dirs("/logs/version-2")
    held = disk.lock("/logs/version-2/coati.lock")
    store = Store(disk, config(log_dir="/logs"))
    with pytest.raises(StorageFailed, match="locked"):
        load(store)
    held.release()
    load(store)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/logs/version-2/snapshot.5", "a snapshot in the directory of the logs"),
        ("/data/version-2/log.5", "a log in the directory of the snapshots"),
    ],
)
def test_mixed_up_directories_are_refused(path: str, reason: str) -> None:
    disk = disk_with(snapshot_0=marked(0))
    disk.put(path, b"")
    store = Store(disk, config(log_dir="/logs"))
    with pytest.raises(StorageCorrupt, match=reason) as caught:
        load(store)
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["log.5", "snapshot.9", "snapshot.9.gz", "currentEpoch", "acceptedEpoch.tmp"])
@pytest.mark.parametrize("kind", ["dir", "link"])
def test_directories_and_links_with_our_names_are_refused(name: str, kind: str) -> None:
    disk = fill()
    disk.put(f"{DIRECTORY}/{name}", b"", kind=kind)
    error = refusal(disk)
    assert (error.path, error.reason) == (f"{DIRECTORY}/{name}", "this is no plain file")


@pytest.mark.parametrize("name", ["log.0A", "log.B", "log.00b"])
def test_a_log_with_a_name_that_only_java_reads_is_refused(name: str) -> None:
    disk = fill()
    disk.put(f"{DIRECTORY}/{name}", log_of(range(11, 13)))
    assert refusal(disk).path == f"{DIRECTORY}/{name}"


@pytest.mark.parametrize(
    "name", ["log", "log.", "log.xyz", "log.b.bak", "logs", "myid", "zookeeper_server.pid", "snapshot.x"]
)
def test_other_files_are_left_alone(name: str) -> None:
    disk = fill()
    disk.put(f"{DIRECTORY}/{name}", b"whatever")
    assert load(Store(disk, config()))[0].last_zxid == 10
    assert disk.get(f"{DIRECTORY}/{name}") == b"whatever"


def test_what_was_not_finished_is_removed() -> None:
    disk = fill()
    names = ["snapshot.5.tmp", "snapshot.5.gz.tmp", "currentEpoch.tmp", "acceptedEpoch.tmp"]
    for name in names:
        disk.put(f"{DIRECTORY}/{name}", b"half")
    recovered, _ = load(Store(disk, config()))
    assert disk.list(DIRECTORY) == ["coati.lock", "log.1", "snapshot.0"]
    assert len(recovered.warnings) == len(names)


def test_logs_and_snapshots_in_two_directories() -> None:
    disk = SimDisk()
    store = open_store(disk, log_dir="/logs")
    write(store, disk, range(1, 6))
    store.write_epochs(accepted=0, current=0, done=lambda error: None)
    disk.run()
    store.close()
    assert disk.list("/logs/version-2") == ["coati.lock", "log.1"]
    assert disk.list(DIRECTORY) == ["acceptedEpoch", "coati.lock", "currentEpoch", "snapshot.0"]
    assert load(Store(disk, config(log_dir="/logs")))[0].last_zxid == 5


class ShrinkingFile:
    """Its first piece can be read; then somebody cuts the file there."""

    def __init__(self, disk: SimDisk, path: str, file: ReadFile) -> None:
        self._disk = disk
        self._path = path
        self._file = file
        self._is_cut = False

    def read(self, max_bytes: int) -> bytes:
        if self._is_cut:
            return b""
        self._is_cut = True
        piece = self._file.read(min(max_bytes, 150))
        self._disk.put(self._path, piece)
        return piece

    def close(self) -> None:
        self._file.close()


class ShrinkingDisk(SimDisk):
    victim = ""

    def open_read(self, path: str) -> ReadFile:
        file = super().open_read(path)
        return ShrinkingFile(self, path, file) if path.endswith(self.victim) else file


@pytest.mark.parametrize("victim", ["snapshot.6", "log.1", "log.7"])
def test_a_file_that_shrinks_while_it_is_read_is_a_refusal_or_a_torn_tail(victim: str) -> None:
    disk = ShrinkingDisk()
    disk.put(f"{DIRECTORY}/snapshot.0", snapshot_bytes([ROOT]))
    disk.put(f"{DIRECTORY}/log.1", log_of(range(1, 7)))
    disk.put(f"{DIRECTORY}/log.7", log_of(range(7, 20)))
    if victim == "snapshot.6":
        disk.put(
            f"{DIRECTORY}/snapshot.6", snapshot_bytes([ROOT, *((b"/n%d" % n, b"", -1, *range(9)) for n in range(20))])
        )
    disk.victim = victim
    store = Store(disk, config())
    if victim == "log.1":
        with pytest.raises(StorageCorrupt):
            load(store)
        return
    recovered, records = load(store)
    zxids = [record.header.zxid for record in records]
    assert zxids == list(range(1, recovered.last_zxid + 1))
    assert recovered.last_zxid == 19 if victim == "snapshot.6" else 6 <= recovered.last_zxid < 19
    assert bool(recovered.warnings) == (victim == "snapshot.6")


@pytest.mark.slow
def test_very_many_files() -> None:
    disk = fill()
    for number in range(100_000):
        disk.put(f"{DIRECTORY}/other.{number}", b"")
    assert load(Store(disk, config()))[0].last_zxid == 10


# Epoch files


def with_epochs(disk: SimDisk, *, current: bytes | None = None, accepted: bytes | None = None) -> SimDisk:
    for name, content in (("currentEpoch", current), ("acceptedEpoch", accepted)):
        if content is not None:
            disk.put(f"{DIRECTORY}/{name}", content)
    return disk


def data_of_epoch(epoch: int) -> SimDisk:
    return disk_with(snapshot_0=marked(0), **{f"log_{epoch * EPOCH + 1:x}": log_of([epoch * EPOCH + 1])})


@pytest.mark.parametrize(
    ("epoch", "current", "accepted", "expected"),
    [
        pytest.param(0, None, None, (0, 0), id="standalone Java writes none"),
        pytest.param(3, None, None, (3, 3), id="none, but the data is of epoch 3"),
        pytest.param(3, b"3", b"3", (3, 3), id="the rule"),
        pytest.param(3, b"4", b"7", (4, 7), id="nothing logged in the epoch yet"),
        pytest.param(3, None, b"7", (3, 7), id="no current one"),
        pytest.param(3, b"3", None, (3, 3), id="no accepted one"),
        pytest.param(3, b"2", b"3", (3, 3), id="crash before currentEpoch (ZOOKEEPER-1653)"),
        pytest.param(3, b"1", b"5", (3, 5), id="the same of a server that missed the epoch (ZOOKEEPER-1653)"),
        pytest.param(3, b"3\n", b"5\r\n", (3, 5), id="edited by hand"),
    ],
)
def test_epochs_that_fit(epoch: int, current: bytes | None, accepted: bytes | None, expected: tuple[int, int]) -> None:
    disk = with_epochs(data_of_epoch(epoch), current=current, accepted=accepted)
    store = Store(disk, config())
    recovered, _ = load(store)
    assert (recovered.current_epoch, recovered.accepted_epoch) == expected
    assert (store.current_epoch, store.accepted_epoch) == expected
    if current is None:
        assert "currentEpoch" not in disk.list(DIRECTORY)
    elif epoch > int(current):
        assert disk.get(f"{DIRECTORY}/currentEpoch") == b"%d" % epoch


@pytest.mark.parametrize(
    ("current", "accepted", "file_name", "reason"),
    [
        pytest.param(
            b"2", b"2", "currentEpoch", "the epoch 2 is older than that of the last zxid, 0x300000001", id="old"
        ),
        pytest.param(b"2", None, "currentEpoch", "the epoch 2 is older", id="nothing accepted"),
        pytest.param(
            b"5", b"4", "acceptedEpoch", "accepted epoch 4 is less than the current epoch 5", id="accepted old"
        ),
        pytest.param(
            b"5", None, "acceptedEpoch", "accepted epoch 3 is less than the current epoch 5", id="accepted gone"
        ),
        pytest.param(b"", b"3", "currentEpoch", "is no epoch", id="empty"),
        pytest.param(b"abc", b"3", "currentEpoch", "is no epoch", id="letters"),
        pytest.param(b"3", b"-1", "acceptedEpoch", "is no epoch", id="negative"),
        pytest.param(b"3", b"%d" % (1 << 63), "acceptedEpoch", "is no epoch", id="too large"),
    ],
)
def test_epochs_that_do_not_fit(current: bytes, accepted: bytes | None, file_name: str, reason: str) -> None:
    error = refusal(with_epochs(data_of_epoch(3), current=current, accepted=accepted))
    assert error.path == f"{DIRECTORY}/{file_name}"
    assert reason in error.reason


@pytest.mark.parametrize(("aside", "is_adopted"), [(b"3", True), (b"2", False), (b"4", False), (b"x", False)])
def test_a_current_epoch_left_aside_counts_if_it_is_right(aside: bytes, is_adopted: bool) -> None:
    disk = with_epochs(data_of_epoch(3), current=b"2", accepted=None)
    disk.put(f"{DIRECTORY}/currentEpoch.tmp", aside)
    if not is_adopted:
        refusal(disk)
        return
    recovered, _ = load(Store(disk, config()))
    assert recovered.current_epoch == 3
    assert disk.get(f"{DIRECTORY}/currentEpoch") == b"3"
    assert "currentEpoch.tmp" not in disk.list(DIRECTORY)


@pytest.mark.parametrize("name", ["currentEpoch", "acceptedEpoch"])
def test_flipped_bits_in_an_epoch_file_never_break_the_rule(name: str) -> None:
    disk = with_epochs(data_of_epoch(3), current=b"3", accepted=b"3")
    for bit in range(8):
        state = disk.clone()
        state.put(f"{DIRECTORY}/{name}", bytes([ord("3") ^ 1 << bit]))
        try:
            recovered, records = load(Store(state, config()))
        except StorageCorrupt:
            continue
        assert recovered.accepted_epoch >= recovered.current_epoch >= 3
        assert len(records) == 1


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
def test_an_epoch_that_cannot_be_adopted_stops_the_start(kind: str) -> None:
    disk = with_epochs(data_of_epoch(3), current=b"2", accepted=b"3")
    disk.fail(kind, 1, errno.ENOSPC)
    with pytest.raises(StorageFailed, match="No space left"):
        load(Store(disk, config()))
    disk.kill()
    assert load(Store(disk, config()))[0].current_epoch == 3


def test_recovery_that_was_not_taken_to_its_end_opens_nothing() -> None:
    disk = fill()
    store = Store(disk, config())
    store.recover(build)
    with pytest.raises(AssertionError):
        store.append(11, payload_of(11, b""))
    with pytest.raises(AssertionError):
        store.sync(lambda error: None)
    with pytest.raises(AssertionError):
        store.begin_snapshot(0, {}, {})
    purged: list[tuple[list[str], BaseException | None]] = []
    store.purge(lambda names, error: purged.append((names, error)))
    disk.run()
    assert purged == [([], None)]
    store.close()

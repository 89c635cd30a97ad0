"""The store while it runs: group commit, rolling, failures, epochs, purging, history, TRUNC and its end."""

from __future__ import annotations

import asyncio
import errno
import itertools
from pathlib import Path
from random import Random

import pytest

from coati.errors import StorageCorrupt, StorageFailed
from coati.storage.disk import RealDisk
from coati.storage.store import Store, StoreConfig
from coati.testing.disk import SimDisk
from tests.storage.kit import (
    DIRECTORY,
    ROOT,
    config,
    encode_znodes,
    fill,
    load,
    log_bytes,
    log_of,
    open_store,
    payload_of,
    snapshot_bytes,
    write,
    write_first_snapshot,
    znode_of,
)

EPOCH = 1 << 32


def append(store: Store, *zxids: int) -> None:
    for zxid in zxids:
        store.append(zxid, payload_of(zxid, b"data"))


def snapshot(store: Store, disk: SimDisk, zxid: int) -> None:
    writer = store.begin_snapshot(zxid, {}, {1: []})
    writer.add(encode_znodes([ROOT, *(znode_of((n, b"")) for n in range(1, zxid + 1))]))
    errors: list[BaseException | None] = []
    writer.finish(0, errors.append)
    disk.run()
    assert errors == [None]


def names(disk: SimDisk, prefix: str) -> list[str]:
    return [name for name in disk.list(DIRECTORY) if name.startswith(prefix)]


# Group commit


def test_a_sync_covers_all_that_was_appended_before_it_starts() -> None:
    disk = SimDisk()
    store = open_store(disk)
    calls: list[str] = []
    disk.on_call = lambda kind, path: calls.append(kind)
    done: list[tuple[str, int]] = []
    append(store, 1, 2)
    store.sync(lambda error: done.append(("first", store.synced_zxid)))
    assert store.syncing
    append(store, 3)
    store.sync(lambda error: done.append(("second", store.synced_zxid)))
    append(store, 4)
    store.sync(lambda error: done.append(("third", store.synced_zxid)))
    assert done == []
    disk.run_job()
    assert done == [("first", 2)]
    assert calls == ["create", "write", "allocate", "write", "sync", "sync_dir"]
    disk.run_job()
    assert done == [("first", 2), ("second", 4), ("third", 4)]
    assert calls[6:] == ["write", "sync"]
    assert not store.syncing


def test_a_log_never_begins_with_zeros() -> None:
    """A kill while a log begins once left zeros: Java starts on an empty one (FileTxnLog.goToNextLog), not on those."""
    disk = SimDisk()
    store = open_store(disk)
    seen: list[bytes] = []

    def look(kind: str, path: str) -> None:
        if path.endswith("log.1") and kind != "create":
            seen.append(disk.get(path))

    disk.on_call = look
    write(store, disk, [1])
    assert [state[:16] for state in seen] == [b"", *[b"ZKLG\0\0\0\2" + bytes(8)] * 3]


def test_the_directory_is_synced_before_the_first_entry_of_a_file_is_acknowledged() -> None:
    disk = SimDisk()
    store = open_store(disk)
    append(store, 1)
    store.sync(lambda error: None)
    order: list[str] = []
    disk.on_call = lambda kind, path: order.append(kind)
    disk.run()
    assert order.index("sync_dir") == len(order) - 1


def test_a_sync_may_be_asked_for_from_within_done() -> None:
    disk = SimDisk()
    store = open_store(disk)
    order: list[int] = []

    def again(error: BaseException | None) -> None:
        order.append(1)
        append(store, 2)
        store.sync(lambda error: order.append(2))

    append(store, 1)
    store.sync(again)
    disk.run()
    assert order == [1, 2]
    assert store.synced_zxid == 2


def test_a_sync_with_nothing_to_write_touches_nothing() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1])
    calls = disk.calls
    write(store, disk, [])
    assert disk.calls == calls


def test_entries_are_on_the_disk_as_java_writes_them() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1])
    write(store, disk, [2, 3])
    assert disk.get(f"{DIRECTORY}/log.1") == log_bytes(
        [payload_of(zxid, b"data") for zxid in (1, 2, 3)], size=16 + 8192
    )


def test_without_force_sync_nothing_is_synced() -> None:
    disk = SimDisk()
    store = open_store(disk, force_sync=False)
    calls: list[str] = []
    disk.on_call = lambda kind, path: calls.append(kind)
    write(store, disk, [1])
    write(store, disk, [2])
    assert calls == ["create", "write", "allocate", "write", "write"]
    disk.on_call = None
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == 2


def test_how_long_syncs_take_is_known() -> None:
    disk = SimDisk()
    store = open_store(disk)
    for zxid, ms in ((1, 5.0), (2, 1200.0), (3, 7.0)):
        disk.sync_ms = ms
        write(store, disk, [zxid])
    assert store.sync_ms == 7.0


@pytest.mark.parametrize("zxid", [0, 4, 6, EPOCH, EPOCH + 2])
def test_a_zxid_that_does_not_follow_is_a_mistake(zxid: int) -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1, 2, 3, 4])
    with pytest.raises(AssertionError):
        append(store, zxid)


def test_what_could_not_be_read_back_is_not_written() -> None:
    """ZOOKEEPER-3496: the limit for reading must not be lower than the one for writing."""
    disk = SimDisk()
    store = open_store(disk, max_payload_bytes=1000)
    body = len(payload_of(1, b""))
    store.append(1, payload_of(1, b"x" * (1000 - body)))
    with pytest.raises(AssertionError):
        store.append(2, payload_of(2, b"x" * (1001 - body)))
    with pytest.raises(AssertionError):
        store.append(2, b"x" * 31)
    write(store, disk, [])
    disk.kill()
    assert load(Store(disk, config(max_payload_bytes=1000)))[0].last_zxid == 1


@pytest.mark.parametrize("limit", [-1, 1000])
def test_many_txns_appended_at_once_are_the_same(limit: int) -> None:
    one_by_one, at_once = SimDisk(), SimDisk()
    first, second = open_store(one_by_one, log_size_limit_bytes=limit), open_store(at_once, log_size_limit_bytes=limit)
    for start, stop in ((1, 2), (2, 12), (12, 13), (13, 30)):
        write(first, one_by_one, range(start, stop))
        second.append_all(start, [payload_of(zxid, b"data") for zxid in range(start, stop)])
        write(second, at_once, [])
    assert names(at_once, "log.") == names(one_by_one, "log.")
    for name in names(at_once, "log."):
        assert at_once.get(f"{DIRECTORY}/{name}") == one_by_one.get(f"{DIRECTORY}/{name}")
    assert (second.last_zxid, second.synced_zxid) == (29, 29)
    assert second.log_bytes_since_snapshot == first.log_bytes_since_snapshot


def test_many_txns_at_once_have_the_same_limits() -> None:
    disk = SimDisk()
    store = open_store(disk, max_payload_bytes=1000)
    write(store, disk, [1])
    for zxid, sizes in ((3, [0]), (1, [0]), (2, [0, 2000])):
        with pytest.raises(AssertionError):
            store.append_all(zxid, [payload_of(zxid + n, b"x" * size) for n, size in enumerate(sizes)])
    with pytest.raises(AssertionError):
        store.append_all(2, [b"x" * 31])
    disk.fail("write", 1, errno.EIO)
    append(store, 2)
    store.sync(lambda error: None)
    disk.run()
    with pytest.raises(StorageFailed):
        store.append_all(3, [payload_of(3, b"")])
    assert store.failed is not None


# Rolling


def test_the_log_rolls_at_its_size_limit() -> None:
    disk = SimDisk()
    store = open_store(disk, log_size_limit_bytes=3000)
    for zxid in range(1, 31):
        write(store, disk, [zxid], b"x" * 450)
    logs = names(disk, "log.")
    assert len(logs) == 5
    for name in logs[:-1]:
        assert 3000 < len(disk.get(f"{DIRECTORY}/{name}").rstrip(b"\x00")) < 3700
    disk.kill()
    _, records = load(Store(disk, config()))
    assert [record.header.zxid for record in records] == list(range(1, 31))


def test_a_batch_may_go_over_several_files() -> None:
    disk = SimDisk()
    store = open_store(disk, log_size_limit_bytes=1000)
    calls: list[tuple[str, str]] = []
    disk.on_call = lambda kind, path: calls.append((kind, path.rpartition("/")[2]))
    write(store, disk, range(1, 8), b"x" * 450)
    disk.on_call = None
    assert names(disk, "log.") == ["log.1", "log.3", "log.5", "log.7"]
    # The old file is durable before the new one exists, or a crash could leave a gap.
    for name in ("log.3", "log.5", "log.7"):
        assert calls[calls.index(("create", name)) - 2 :][:2] == [
            ("sync", f"log.{int(name[-1]) - 2}"),
            ("sync_dir", "version-2"),
        ]
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == 7


def test_after_a_start_the_newest_log_goes_on() -> None:
    disk = fill(range(1, 4))
    store = open_store(disk)
    write(store, disk, [4])
    assert names(disk, "log.") == ["log.1"]
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == 4


def test_the_size_limit_counts_what_was_there_before() -> None:
    disk = SimDisk()
    write(open_store(disk), disk, range(1, 4), b"x" * 450)
    disk.kill()
    store = open_store(disk, log_size_limit_bytes=1500)
    write(store, disk, [4, 5])
    assert names(disk, "log.") == ["log.1", "log.5"]


def test_a_snapshot_newer_than_the_log_begins_a_new_one() -> None:
    disk = fill(range(1, 4))
    disk.put(f"{DIRECTORY}/snapshot.100000000", snapshot_bytes([ROOT]))
    content = disk.get(f"{DIRECTORY}/log.1").rstrip(b"\x00")
    disk.put(f"{DIRECTORY}/log.1", content + b"\x00\x00\x00\x00torn")
    store = open_store(disk)
    assert disk.get(f"{DIRECTORY}/log.1") == content
    write(store, disk, [EPOCH + 1])
    assert names(disk, "log.") == ["log.1", "log.100000001"]
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == EPOCH + 1


# Failures


@pytest.mark.parametrize(("kind", "at"), [("write", 1), ("sync", 1), ("allocate", 1), ("create", 1), ("sync_dir", 1)])
def test_a_failure_is_for_good(kind: str, at: int) -> None:
    disk = SimDisk()
    store = open_store(disk)
    fault = disk.fail(kind, at, errno.EIO)
    errors: list[BaseException | None] = []
    append(store, 1)
    store.sync(errors.append)
    append(store, 2)
    store.sync(errors.append)
    disk.run()
    assert fault.seen == 1, "never tried again"
    assert len(errors) == 2
    assert all(isinstance(error, StorageFailed) for error in errors)
    failed = store.failed
    assert failed is not None
    assert failed is errors[0]
    assert isinstance(failed.__cause__, OSError)
    assert store.synced_zxid == 0
    with pytest.raises(StorageFailed):
        append(store, 3)
    with pytest.raises(StorageFailed):
        store.sync(errors.append)
    store.close()
    assert len(errors) == 2
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid in (0, 1)


def test_what_was_acknowledged_before_a_failure_stays() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1, 2, 3])
    disk.fail("write", 1, errno.ENOSPC, written_bytes=20)
    errors: list[BaseException | None] = []
    append(store, 4)
    store.sync(errors.append)
    disk.run()
    assert isinstance(errors[0], StorageFailed)
    disk.crash(Random(1), "keep")
    recovered, _ = load(Store(disk, config()))
    assert recovered.last_zxid == 3
    assert "unfinished entry" in recovered.warnings[0]


def test_a_failure_that_is_not_of_the_disk_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    store = open_store(disk)

    def broken(data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(store._log, "_write", broken)
    append(store, 1)
    store.sync(lambda error: None)
    disk.run()
    assert store.failed is not None
    assert isinstance(store.failed.__cause__, MemoryError)


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
def test_a_start_that_cannot_write_its_first_snapshot_fails(kind: str) -> None:
    disk = SimDisk()
    store = Store(disk, config())
    load(store)
    disk.fail(kind, 1, errno.ENOSPC)
    with pytest.raises(StorageFailed, match="No space left"):
        write_first_snapshot(store)
    store.close()
    assert load(Store(disk, config()))[0].last_zxid == 0


# Epochs


def write_epochs(store: Store, disk: SimDisk, **values: int) -> BaseException | None:
    errors: list[BaseException | None] = []
    store.write_epochs(done=errors.append, **values)
    disk.run()
    assert len(errors) == 1
    return errors[0]


def test_epochs_are_written_behind_the_txns_and_the_accepted_one_first() -> None:
    """ZOOKEEPER-4643: currentEpoch before the synced txns lets an old log win an election."""
    disk = SimDisk()
    store = open_store(disk)
    append(store, 1)
    calls: list[tuple[str, str]] = []
    disk.on_call = lambda kind, path: calls.append((kind, path.rpartition("/")[2]))
    assert write_epochs(store, disk, accepted=3, current=2) is None
    assert (store.accepted_epoch, store.current_epoch, store.synced_zxid) == (3, 2, 1)
    order = [
        calls.index(call)
        for call in (("sync", "log.1"), ("sync", "acceptedEpoch.tmp"), ("rename", "acceptedEpoch.tmp"))
    ]
    order += [calls.index(call) for call in (("create", "currentEpoch.tmp"), ("sync", "currentEpoch.tmp"))]
    assert order == sorted(order)
    assert calls[-2:] == [("rename", "currentEpoch.tmp"), ("sync_dir", "version-2")]
    assert disk.get(f"{DIRECTORY}/acceptedEpoch") == b"3"
    assert disk.get(f"{DIRECTORY}/currentEpoch") == b"2"


def test_one_epoch_may_be_written_alone() -> None:
    disk = SimDisk()
    store = open_store(disk)
    assert write_epochs(store, disk, accepted=1) is None
    assert write_epochs(store, disk, current=1) is None
    assert write_epochs(store, disk, accepted=5) is None
    disk.kill()
    store = open_store(disk)
    assert (store.accepted_epoch, store.current_epoch) == (5, 1)


@pytest.mark.parametrize("values", [{"accepted": 2}, {"current": 1}, {"current": 4}, {"accepted": 5, "current": 6}])
def test_epochs_never_go_back_nor_ahead_of_the_accepted_one(values: dict[str, int]) -> None:
    disk = SimDisk()
    store = open_store(disk)
    write_epochs(store, disk, accepted=3, current=2)
    with pytest.raises(AssertionError):
        write_epochs(store, disk, **values)


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_epoch_that_cannot_be_written_is_not_in_memory_either(kind: str, at: int) -> None:
    """ZOOKEEPER-2307, 4269."""
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1])
    write_epochs(store, disk, accepted=1, current=1)
    disk.fail(kind, at, errno.ENOSPC)
    error = write_epochs(store, disk, accepted=2, current=2)
    assert isinstance(error, StorageFailed)
    assert (store.accepted_epoch, store.current_epoch) == (1, 1)
    waiting: list[BaseException | None] = []
    with pytest.raises(StorageFailed):
        store.sync(waiting.append)
    for mode in ("keep", "lose"):
        state = disk.clone()
        state.crash(Random(1), mode)
        recovered, _ = load(Store(state, config()))
        assert 1 <= recovered.current_epoch <= recovered.accepted_epoch <= 2


# Purging


def purge(store: Store, disk: SimDisk) -> tuple[list[str], BaseException | None]:
    done: list[tuple[list[str], BaseException | None]] = []
    store.purge(lambda removed, error: done.append((removed, error)))
    disk.run()
    assert len(done) == 1
    return done[0]


def with_snapshots(disk: SimDisk, *zxids: int) -> Store:
    store = open_store(disk)
    for zxid in zxids:
        write(store, disk, range(store.last_zxid + 1, zxid + 1))
        snapshot(store, disk, zxid)
    write(store, disk, range(store.last_zxid + 1, store.last_zxid + 4))
    return store


def test_the_newest_snapshots_and_their_logs_are_kept() -> None:
    disk = SimDisk()
    store = with_snapshots(disk, 10, 20, 30, 40)
    removed, error = purge(store, disk)
    assert error is None
    assert removed == ["snapshot.0", "snapshot.a", "log.1"]
    assert names(disk, "snapshot") == ["snapshot.14", "snapshot.1e", "snapshot.28"]
    # log.b reaches to 0x14 and is kept, as PurgeTxnLog keeps the one that starts at or before the oldest snapshot.
    assert names(disk, "log.") == ["log.15", "log.1f", "log.29", "log.b"]
    assert purge(store, disk) == ([], None)
    for name in ("snapshot.28", "snapshot.1e"):
        disk.put(f"{DIRECTORY}/{name}", b"damaged")
        disk.kill()
        assert load(Store(disk, config()))[0].last_zxid == 43


def test_more_can_be_kept_but_never_fewer_than_three() -> None:
    for count, kept in ((5, 5), (4, 4), (3, 3), (1, 3), (0, 3), (-5, 3)):
        disk = SimDisk()
        with_snapshots(disk, 10, 20, 30, 40, 50).close()
        store = open_store(disk, retain_count=count)
        purge(store, disk)
        assert len(names(disk, "snapshot")) == kept


def test_damaged_snapshots_do_not_count() -> None:
    """ZOOKEEPER-3231: keeping three that are all damaged loses everything."""
    disk = SimDisk()
    with_snapshots(disk, 10, 20, 30, 40, 50, 60).close()
    for name in ("snapshot.3c", "snapshot.32", "snapshot.28"):
        content = disk.get(f"{DIRECTORY}/{name}")
        disk.put(f"{DIRECTORY}/{name}", content[:40] + b"?" + content[41:])
    store = open_store(disk)
    removed, error = purge(store, disk)
    assert error is None
    assert removed == ["snapshot.0"]
    assert len(names(disk, "snapshot")) == 6
    disk.kill()
    recovered, _ = load(Store(disk, config()))
    assert (recovered.snapshot_zxid, recovered.last_zxid) == (30, 63)


def test_nothing_is_removed_unless_enough_are_valid() -> None:
    disk = SimDisk()
    store = with_snapshots(disk, 10)
    before = disk.list(DIRECTORY)
    disk.put(f"{DIRECTORY}/snapshot.5", b"damaged")
    disk.put(f"{DIRECTORY}/snapshot.6", b"damaged")
    assert purge(store, disk) == ([], None)
    assert disk.list(DIRECTORY) == sorted([*before, "snapshot.5", "snapshot.6"])


def test_one_purge_at_a_time_and_none_after_the_end() -> None:
    disk = SimDisk()
    store = with_snapshots(disk, 10, 20, 30, 40)
    done: list[tuple[list[str], BaseException | None]] = []
    store.purge(lambda removed, error: done.append((removed, error)))
    store.purge(lambda removed, error: done.append((removed, error)))
    assert done == [([], None)]
    disk.run_job()
    store.close()
    disk.run()
    assert len(done) == 2
    assert len(done[1][0]) < 3


def test_a_purge_goes_in_steps_between_syncs() -> None:
    disk = SimDisk()
    with_snapshots(disk, 10, 20, 30, 40).close()
    store = open_store(disk)
    store.purge(lambda removed, error: None)
    jobs = 0
    while names(disk, "log.")[0] == "log.1":
        disk.run_job()
        jobs += 1
        assert jobs < 50
    assert jobs >= 5


def test_a_purge_that_fails_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    disk = SimDisk()
    store = with_snapshots(disk, 10, 20, 30, 40)
    disk.fail("remove", 2, errno.EIO)
    removed, error = purge(store, disk)
    assert removed == ["snapshot.0"]
    assert isinstance(error, OSError)
    assert "purging stopped" in caplog.text
    assert store.failed is None
    write(store, disk, [44])
    removed, error = purge(store, disk)
    assert (removed, error) == (["snapshot.a", "log.1"], None)


# History


def test_the_history_is_read_over_files() -> None:
    disk = SimDisk()
    store = with_snapshots(disk, 10, 20)
    expected = [(zxid, payload_of(zxid, b"data")) for zxid in range(1, 24)]
    for after in (0, 1, 9, 10, 11, 19, 20, 22):
        assert list(store.read_log(after)) == expected[after:]
    for after in (23, 24, 1000):
        assert list(store.read_log(after)) == []


def test_only_what_is_durable_is_history() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1, 2])
    append(store, 3)
    assert [zxid for zxid, _ in store.read_log(0)] == [1, 2]
    # Half of it is written at this moment.
    content = disk.get(f"{DIRECTORY}/log.1").rstrip(b"\x00")
    disk.put(f"{DIRECTORY}/log.1", content + log_of([3])[16:40] + b"\x00\x01")
    assert [zxid for zxid, _ in store.read_log(0)] == [1, 2]
    assert list(store.read_log(2)) == []
    # All of it is written, but not synced.
    disk.put(f"{DIRECTORY}/log.1", content + log_of([3])[16:])
    assert [zxid for zxid, _ in store.read_log(0)] == [1, 2]


def test_history_that_was_purged_is_not_made_up() -> None:
    """ZOOKEEPER-2418, 2846: a DIFF must not be made from a range that is not whole."""
    disk = SimDisk()
    store = with_snapshots(disk, 10, 20, 30, 40)
    purge(store, disk)
    with pytest.raises(StorageCorrupt, match="a gap"):
        list(store.read_log(5))
    assert [zxid for zxid, _ in store.read_log(10)] == list(range(11, 44))


# TRUNC


def test_txns_above_the_point_are_gone_for_good() -> None:
    for point in range(20, 44):
        disk = SimDisk()
        store = with_snapshots(disk, 10, 20, 30, 40)
        assert store.truncate(point)
        recovered, _ = load(store)
        assert recovered.last_zxid == store.last_zxid == point
        # A snapshot at the point itself holds nothing above it.
        assert recovered.snapshot_zxid == point // 10 * 10
        write(store, disk, [EPOCH + 1, EPOCH + 2])
        disk.crash(Random(point), "lose")
        recovered, records = load(Store(disk, config()))
        assert recovered.last_zxid == EPOCH + 2
        zxids = [record.header.zxid for record in records]
        assert zxids == [*range(recovered.snapshot_zxid + 1, point + 1), EPOCH + 1, EPOCH + 2]


def test_a_snapshot_that_may_hold_more_than_its_name_says_goes_too() -> None:
    """ZOOKEEPER-2832, 4837: what TRUNC cut off is back after the next start."""
    digest = b"\x00" * 7 + b"\x07" + b"\x00\x00\x00\x02" + bytes(8)
    disk = fill(range(1, 9))
    disk.put(f"{DIRECTORY}/snapshot.5", snapshot_bytes([ROOT], digest=digest))
    store = open_store(disk)
    assert store.truncate(6)
    assert names(disk, "snapshot") == ["snapshot.0"]
    assert load(store)[0].last_zxid == 6


@pytest.mark.parametrize("content", [snapshot_bytes([ROOT]), b"damaged"])
def test_without_a_snapshot_below_the_point_nothing_is_changed(content: bytes) -> None:
    """One that does not say how far its content goes does not count: 3.5 and older."""
    disk = fill(range(1, 9))
    disk.put(f"{DIRECTORY}/snapshot.5", snapshot_bytes([ROOT], digest=bytes(11) + b"\x02" + bytes(8)))
    disk.put(f"{DIRECTORY}/snapshot.0", content)
    before = disk.list(DIRECTORY)
    store = open_store(disk)
    assert not store.truncate(4)
    assert disk.list(DIRECTORY) == sorted([*before, *["coati.lock"][: "coati.lock" not in before]])
    assert load(store)[0].last_zxid == 8


def test_truncating_to_what_is_there_changes_nothing() -> None:
    disk = fill(range(1, 9))
    store = open_store(disk)
    before = disk.get(f"{DIRECTORY}/log.1")
    assert store.truncate(8)
    assert disk.get(f"{DIRECTORY}/log.1") == before


@pytest.mark.parametrize("kind", ["remove", "sync_dir", "truncate", "sync"])
def test_a_truncation_that_fails_is_fatal(kind: str) -> None:
    """ZOOKEEPER-3701."""
    disk = SimDisk()
    store = with_snapshots(disk, 10, 20, 30, 40)
    disk.fail(kind, 1, errno.EIO)
    with pytest.raises(StorageFailed, match="truncate"):
        store.truncate(25)
    assert store.failed is not None
    with pytest.raises(StorageFailed):
        append(store, 44)
    store.close()
    recovered, _ = load(Store(disk, config()))
    assert 25 <= recovered.last_zxid <= 43


# The end


def test_closing_writes_what_was_appended() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1])
    done: list[BaseException | None] = []
    append(store, 2)
    store.sync(done.append)
    append(store, 3)
    store.sync(done.append)
    append(store, 4)
    store.close()
    assert done == [None], "the waiting one is told at once"
    disk.run()
    assert done == [None, None], "and the one under way as usual"
    disk.crash(Random(1), "lose")
    assert load(Store(disk, config()))[0].last_zxid == 4


def test_closing_after_a_failure_writes_nothing_more() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1])
    disk.fail("sync", 1, errno.EIO)
    done: list[BaseException | None] = []
    append(store, 2)
    store.sync(done.append)
    append(store, 3)
    store.sync(done.append)
    calls: list[str] = []
    disk.on_call = lambda kind, path: calls.append(kind)
    store.close()
    # The worker has failed, but the loop has not heard of it yet.
    assert calls == ["write", "sync"]
    disk.run()
    assert len(done) == 2
    assert all(isinstance(error, StorageFailed) for error in done)


def test_closing_that_fails_says_so() -> None:
    disk = SimDisk()
    store = open_store(disk)
    append(store, 1)
    disk.fail("sync", 1, errno.EIO)
    with pytest.raises(StorageFailed):
        store.close()
    recovered, _ = load(Store(disk, config()))
    assert recovered.last_zxid in (0, 1)


def test_a_closed_store_is_not_used() -> None:
    disk = SimDisk()
    store = open_store(disk)
    store.close()
    with pytest.raises(AssertionError):
        append(store, 1)


# The real disk


def test_a_store_on_the_real_disk_with_a_real_loop(tmp_path: Path) -> None:
    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        disk = RealDisk(loop.call_soon_threadsafe)
        store = Store(disk, StoreConfig(str(tmp_path), prealloc_bytes=1 << 16, compression="gz"))
        recovered = store.recover(lambda reader: sum(len(batch) for batch in reader.batches()))
        list(recovered.batches())
        if recovered.fresh:
            write_first_snapshot(store)
        synced: list[int] = []
        zxids = itertools.count(store.last_zxid + 1)
        for _ in range(20):
            append(store, *itertools.islice(zxids, 5))
            future = loop.create_future()
            store.sync(future.set_result)
            assert await future is None
            synced.append(store.synced_zxid)
        writer = store.begin_snapshot(store.synced_zxid, {}, {1: []})
        writer.add(encode_znodes([ROOT, *(znode_of((n, b"")) for n in range(1, 101))]))
        future = loop.create_future()
        writer.finish(5, future.set_result)
        assert await future is None
        future = loop.create_future()
        store.purge(lambda removed, error: future.set_result(removed))
        assert await future == []
        store.close()
        disk.close()
        return synced

    assert asyncio.run(run()) == list(range(5, 101, 5))
    assert asyncio.run(run()) == list(range(105, 201, 5))
    logs = sorted(path.name for path in (tmp_path / "version-2").iterdir())
    assert logs == ["coati.lock", "log.1", "log.65", "snapshot.0.gz", "snapshot.64.gz", "snapshot.c8.gz"]
    assert (tmp_path / "version-2" / "log.1").stat().st_size == 16 + (1 << 16)


def test_a_torn_tail_on_the_real_disk(tmp_path: Path) -> None:
    disk = RealDisk(lambda callback: callback())
    (tmp_path / "version-2").mkdir()
    (tmp_path / "version-2" / "snapshot.0").write_bytes(snapshot_bytes([ROOT]))
    torn = log_of(range(1, 4))[:-5]
    (tmp_path / "version-2" / "log.1").write_bytes(torn + bytes(5000))
    store = Store(disk, StoreConfig(str(tmp_path), prealloc_bytes=1 << 16))
    assert load(store)[0].last_zxid == 2
    append(store, 3)
    store.close()
    store = Store(disk, StoreConfig(str(tmp_path)))
    assert load(store)[0].last_zxid == 3
    store.close()
    disk.close()

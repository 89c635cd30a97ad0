"""SNAP on the disk: the history of a server gives way to a leader's snapshot, at once or not at all."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from random import Random

import pytest

from coati.errors import StorageCorrupt, StorageFailed
from coati.storage import epochs, format, install, prune
from coati.storage import store as store_module
from coati.storage.install import NOTE, InstallFile
from coati.storage.recovery import Places, list_logs, list_snapshots
from coati.storage.snapshot import SnapshotFile, SnapshotReader
from coati.storage.store import Store
from coati.storage.txnlog import Hole
from coati.testing.disk import PowerCut, SimDisk
from coati.wire.zxid import make_zxid
from tests.storage.kit import ACLS, DIRECTORY, ROOT, config, encode_znodes, load, payload_of, rows_of, znode_of
from tests.storage.test_crash import LazyDirectories, LazySnapshots
from tools.storm_storage import SESSIONS, Entry, Loaded, write_first_snapshot

SNAP_DATA = b"from the leader"
# In which the leader leads.
EPOCH = 2
# In how many of the states after a crash the snapshot is damaged as well.
DAMAGED_MODES = 3


def entries_of(zxids: Sequence[int]) -> list[Entry]:
    return [(zxid, b"data %x" % zxid) for zxid in zxids]


class Server:
    """A store whose txns and snapshots the test writes one by one."""

    def __init__(self, disk: SimDisk | None = None, **settings: object) -> None:
        self.disk = disk or SimDisk()
        self.settings = settings
        self.store = Store(self.disk, config(**settings))
        self.entries = Loaded(self.store).entries
        if not self.disk.exists(f"{DIRECTORY}/snapshot.0") and not self.entries:
            write_first_snapshot(self.store)

    def write(self, *zxids: int) -> None:
        for entry in entries_of(zxids):
            self.store.append(entry[0], payload_of(*entry))
            self.entries.append(entry)
        errors: list[BaseException | None] = []
        self.store.sync(errors.append)
        self.disk.run()
        assert errors == [None]

    def snapshot(self) -> None:
        self.store.write_snapshot(
            self.store.last_zxid, SESSIONS, ACLS, [encode_znodes([ROOT, *map(znode_of, self.entries)])], None
        )

    def begin(self, zxid: int, entries: list[Entry]) -> list[BaseException | None]:
        """SNAP at this zxid; gives the list that the end will be told to."""
        errors: list[BaseException | None] = []
        writer = self.store.begin_install(zxid)
        writer.add(format.encode_tables(SESSIONS, ACLS))
        for znode in [ROOT, *map(znode_of, entries)]:
            writer.add(encode_znodes([znode]))
        writer.finish(None, errors.append)
        return errors

    def install(self, zxid: int, entries: list[Entry]) -> None:
        errors = self.begin(zxid, entries)
        self.disk.run()
        assert errors == [None]
        self.entries = list(entries)

    def install_as_java(self, zxid: int, entries: list[Entry]) -> None:
        """The same, and all that was there before still is, as Java leaves it."""
        old = {name: self.disk.get(f"{DIRECTORY}/{name}") for name in self.files()}
        self.install(zxid, entries)
        for name, content in old.items():
            self.disk.put(f"{DIRECTORY}/{name}", content)

    def files(self) -> list[str]:
        """The names of its logs and snapshots."""
        return [name for name in self.disk.list(DIRECTORY) if name.startswith(("log.", "snapshot."))]

    def restart(self) -> Server:
        self.disk.kill()
        return Server(self.disk, **self.settings)

    def read(self, after_zxid: int) -> list[int]:
        return [zxid for zxid, _ in self.store.read_log(after_zxid)]


def fresh() -> Server:
    return Server()


def behind() -> Server:
    """The leader is far ahead: logs end at 10, the snapshot is at 0x50 of the next epoch."""
    server = Server()
    server.write(*range(1, 7))
    server.snapshot()
    server.write(*range(7, 11))
    return server


def ahead() -> Server:
    """Txns that no leader knows, above the snapshot: in this log, in a later one, and in newer snapshots."""
    server = behind()
    server.write(*range(11, 31))
    server.snapshot()
    server.write(*range(31, 41))
    server.snapshot()
    server.write(*range(41, 45))
    return server


def only_newer() -> Server:
    """All that the old history stands on is newer than what the leader sends."""
    server = ahead()
    server.disk.remove(f"{DIRECTORY}/snapshot.0")
    server.disk.remove(f"{DIRECTORY}/snapshot.6")
    server.disk.sync_dir(DIRECTORY)
    return server


def same() -> Server:
    """A snapshot at the same zxid, under a name that would be preferred."""
    server = Server(compression="gz")
    server.write(*range(1, 16))
    server.snapshot()
    server.write(*range(16, 20))
    server.disk.kill()
    return Server(server.disk)


CASES: list[tuple[Callable[[], Server], int]] = [
    (fresh, make_zxid(1, 0x50)),
    (behind, make_zxid(1, 0x50)),
    (behind, 8),
    (behind, 10),
    (ahead, 15),
    (ahead, 6),
    (ahead, 30),
    (ahead, 35),
    (only_newer, 15),
    (same, 15),
]


def as_java_loads(disk: SimDisk) -> list[Entry] | None:
    """What Java would serve of these files; None if it refuses to start.

    The newest snapshot that is whole, and all txns of the logs above it, whatever is missing between them
    (FileSnap.deserialize, FileTxnSnapLog.restore, FileTxnLog.FileTxnIterator).
    """
    names = list_snapshots(disk, DIRECTORY)
    end = b"\x00\x00\x00\x01/"
    whole = [name for name in names if name.compression or disk.get(f"{DIRECTORY}/{name.name}").endswith(end)]
    logs = list_logs(disk, DIRECTORY)
    if not whole:
        # "No snapshot found, but there are log entries. Something is broken!"
        return None if logs else []
    for name in whole:
        try:
            reader = SnapshotReader(disk, f"{DIRECTORY}/{name.name}", name.zxid, name.compression, 1 << 20)
            rows = [row for batch in reader.batches() for row in rows_of(batch)]
        except StorageCorrupt:
            continue
        entries = [(row[3], row[1] or b"") for row in rows if row[0] != b"/"]
        for log in logs:
            data = disk.get(f"{DIRECTORY}/{format.log_name(log)}")
            entries += [entry for entry in java_entries(data) if entry[0] > name.zxid]
        return entries
    return None


def java_entries(data: bytes) -> list[Entry]:
    """The txns of a log up to what looks like its end."""
    found: list[Entry] = []
    pos = 16
    while pos + 12 <= len(data):
        (size,) = struct.unpack_from(">i", data, pos + 8)
        payload = data[pos + 12 : pos + 12 + size]
        if size <= 0 or data[pos + 12 + size : pos + 13 + size] != b"\x42":
            break
        (zxid,) = struct.unpack_from(">q", payload, 12)
        # The path behind the header of 32 bytes, then the data.
        at = 36 + struct.unpack_from(">i", payload, 32)[0]
        (length,) = struct.unpack_from(">i", payload, at)
        found.append((zxid, payload[at + 4 : at + 4 + length]))
        pos += size + 13
    return found


class Storm:
    """One SNAP, with power lost before every call of it, in several ways; and what is there afterwards.

    Also when the snapshot is damaged later, or removed by somebody: nothing that was replaced is ever loaded again
    once it was told that it is.
    """

    def __init__(self, make: Callable[[], Server], zxid: int) -> None:
        self.server = make()
        self.zxid = zxid
        self.new = [*entries_of(range(1, 4)), (zxid, SNAP_DATA)]
        self.old = list(self.server.entries)
        self.is_done = False
        self.points = 0
        self.seen: dict[str, int] = {}
        self.advices: list[str] = []

    def run(self) -> None:
        disk = self.server.disk
        disk.on_call = self._on_call
        errors = self.server.begin(self.zxid, self.new)
        disk.run()
        assert errors == [None]
        self.is_done = True
        self.server.entries = list(self.new)
        # Once more after it was told, and while the server goes on.
        self.check()
        self.server.store.write_epochs(accepted=EPOCH, current=EPOCH, done=errors.append)
        disk.run()
        self.check()
        self.server.write(self.zxid + 1)
        self.check()
        disk.on_call = None
        assert self.server.restart().entries == self.new + entries_of([self.zxid + 1])

    def _on_call(self, kind: str, path: str) -> None:
        self.points += 1
        try:
            self.check()
        except (AssertionError, StorageCorrupt, StorageFailed) as error:
            raise PowerCut(f"before {kind} {path}: {error!r}") from error

    def check(self) -> None:
        for number, mode in enumerate(["lose", "keep", *["random"] * 6]):
            state = self.server.disk.clone()
            state.crash(Random(f"{self.zxid}/{state.calls}/{self.points}/{number}"), mode)
            if number < DAMAGED_MODES:
                self.check_damaged(state, is_told=self.is_done)
            java = as_java_loads(state)
            again = Server(state, **self.server.settings)
            assert again.entries == java, "Java finds something else"
            if self.is_done or again.entries == self.new:
                assert again.entries in self.good(), "it was told that the snapshot is durable"
                outcome = "new"
                again = again.restart()
                assert again.files() in self.alone(), "something of what was replaced is left"
                if number < DAMAGED_MODES:
                    self.check_damaged(again.disk, is_told=True)
            else:
                assert again.entries == self.old[: len(again.entries)], "neither the old history nor the new one"
                assert len(again.entries) >= len([zxid for zxid, _ in self.old if zxid <= self.zxid])
                outcome = "old" if again.entries == self.old else "cut"
            assert not state.exists(f"{DIRECTORY}/{NOTE}")
            self.seen[outcome] = self.seen.get(outcome, 0) + 1
            self.check_goes_on(again)

    def good(self) -> list[list[Entry]]:
        """What the leader's snapshot stands for, and what may have been written behind it."""
        return [self.new, self.new + entries_of([self.zxid + 1])]

    def alone(self) -> list[list[str]]:
        """The files that may be there after a start."""
        name = format.snapshot_name(self.zxid, "")
        return [[name], [format.log_name(self.zxid + 1), name]]

    def check_damaged(self, disk: SimDisk, *, is_told: bool) -> None:
        """What is loaded when the snapshot was cut short, has a wrong byte or is gone. The disk stays as it is."""
        path = f"{DIRECTORY}/{format.snapshot_name(self.zxid, '')}"
        if not disk.exists(path):
            return
        content = disk.get(path)
        for damaged in (content[: len(content) // 2], bytes([content[0] ^ 1]) + content[1:], None):
            state = disk.clone()
            if damaged is None:
                state.remove(path)
                state.sync_dir(DIRECTORY)
            else:
                state.put(path, damaged)
            # An empty directory is no worse than a new disk. Java takes half a snapshot for none.
            right: list[list[tuple[int, bytes]]] = [[]] if damaged is None or not list_logs(state, DIRECTORY) else []
            if not is_told:
                right += [self.old[:count] for count in range(len(self.old) + 1)]
            java = as_java_loads(state)
            assert java is None or java in right, f"Java serves {java}"
            try:
                loaded = Loaded(Store(state, config(**self.server.settings)))
            except StorageCorrupt as error:
                self.advices.append(error.advice)
                continue
            assert loaded.entries in right, f"served: {loaded.entries}"
            assert loaded.fresh or not is_told
            assert not (loaded.fresh and state.exists(f"{DIRECTORY}/{epochs.CURRENT}")), "it votes for what it lost"

    def check_goes_on(self, again: Server) -> None:
        """Whatever is there can be appended to, and another SNAP comes over it."""
        next_zxid = make_zxid(2, 1)
        if again.store.last_zxid < next_zxid:
            entries = list(again.entries)
            again.write(next_zxid)
            assert again.restart().entries == entries + entries_of([next_zxid])


@pytest.mark.parametrize(("make", "zxid"), CASES)
def test_power_lost_at_any_call_leaves_the_old_history_or_the_new_one(make: Callable[[], Server], zxid: int) -> None:
    """ZOOKEEPER-2872: who was told finds it after any crash; 2832: nothing old is replayed on top of it."""
    storm = Storm(make, zxid)
    storm.run()
    assert storm.points > 6
    assert storm.seen["old"] > 0
    assert storm.seen["new"] > 0
    assert len(storm.advices) > 20
    assert all(advice.startswith(("A server of an ensemble", "To start with nothing")) for advice in storm.advices)
    assert storm.server.files() == [format.log_name(zxid + 1), format.snapshot_name(zxid, "")]


def found(make: Callable[[], Server], zxid: int) -> bool:
    """Whether the storm finds something wrong."""
    try:
        Storm(make, zxid).run()
    except (AssertionError, StorageCorrupt, StorageFailed, PowerCut):
        return True
    return False


def named_first(self: InstallFile, aside: str, path: str) -> None:
    SnapshotFile.publish(self, aside, path)
    publish(self, path, path)


def not_cut(self: InstallFile, aside: str, path: str) -> None:
    SnapshotFile.publish(self, aside, path)


def newer_first(self: InstallFile, aside: str, path: str) -> None:
    names = list_snapshots(self._disk, DIRECTORY)
    prune.remove_snapshots(self._disk, self._places, [name for name in names if name.zxid > self._zxid])
    publish(self, aside, path)


def replaced_first(self: InstallFile, aside: str, path: str) -> None:
    install.remove_replaced(self._disk, self._places, self.name, list_logs(self._disk, DIRECTORY))
    publish(self, aside, path)


def only_newer_go(disk: SimDisk, places: Places, name: str, zxids: list[int]) -> None:
    zxid, _ = format.parse_snapshot_name(name)
    others = [other for other in list_snapshots(disk, DIRECTORY) if other.name != name]
    prune.remove_snapshots(disk, places, [other for other in others if other.zxid >= zxid])


publish = InstallFile.publish


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        pytest.param(InstallFile, "publish", named_first, id="old txns above it are cut too late"),
        pytest.param(InstallFile, "publish", not_cut, id="old txns above it are not cut"),
        pytest.param(InstallFile, "publish", newer_first, id="what the old history stands on goes first"),
        pytest.param(InstallFile, "publish", replaced_first, id="the old history goes before the new one has its name"),
        pytest.param(install, "remove_snapshots", lambda *args: None, id="other snapshots stay"),
        pytest.param(install, "remove_replaced", only_newer_go, id="older snapshots and logs stay"),
        pytest.param(install, "_write_note", lambda *args: None, id="what was cut short is not finished: no note"),
        pytest.param(store_module, "finish_install", lambda *args: False, id="the same: the note is not read"),
        pytest.param(install, "cut_logs", lambda *args: None, id="the logs are not cut"),
    ],
)
def test_mistakes_are_found(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, mutant: Callable[..., object]
) -> None:
    monkeypatch.setattr(owner, name, mutant)
    try:
        assert any(found(make, zxid) for make, zxid in CASES)
    finally:
        monkeypatch.undo()


@pytest.mark.no_cover
@pytest.mark.parametrize("disk", [LazySnapshots, LazyDirectories])
def test_a_missing_sync_is_found(disk: type[SimDisk]) -> None:
    """ZOOKEEPER-2872: the leader would be told of a snapshot that power loss takes away."""

    def server() -> Server:
        made = Server(disk())
        made.write(1, 2)
        # What was there before is not the point.
        SimDisk.sync_dir(made.disk, DIRECTORY)
        return made

    assert found(server, make_zxid(1, 5))


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir", "truncate", "remove"])
def test_a_call_that_fails_ends_the_server_and_loses_neither(kind: str) -> None:
    """As any failed disk: nobody is told that it is done, and a restart finds the old history or the new one."""
    at = 1
    while True:
        server = ahead()
        old = list(server.entries)
        new = [*entries_of([1, 2, 3]), (15, SNAP_DATA)]
        fault = server.disk.fail(kind, at, errno.EIO)
        errors = server.begin(15, new)
        server.disk.run()
        if fault.seen < at:
            assert errors == [None]
            break
        # Without room for the aside-file nothing has happened yet; the server ends all the same.
        assert isinstance(server.store.failed, StorageFailed)
        assert len(errors) == 1
        assert isinstance(errors[0], OSError)
        with pytest.raises(StorageFailed):
            server.store.sync(errors.append)
        again = server.restart()
        assert again.entries in (new, old[: len(again.entries)])
        at += 1
    assert at > 1


def test_a_server_that_ends_meanwhile_keeps_its_history() -> None:
    server = ahead()
    old = list(server.entries)
    server.begin(15, [])
    server.store.close()
    server.disk.run()
    again = server.restart()
    assert again.entries in (old, [])
    assert not [name for name in server.disk.list(DIRECTORY) if name.endswith(".tmp")]


def test_nothing_else_is_under_way() -> None:
    """What runs beside it could take away what it stands on."""
    server = ahead()
    writer = server.store.begin_install(15)
    assert not server.store.is_idle
    with pytest.raises(AssertionError):
        server.store.begin_install(15)
    with pytest.raises(AssertionError):
        server.store.truncate(15)
    purged: list[list[str]] = []
    server.store.purge(lambda names, error: purged.append(names))
    assert purged == [[]]
    writer.abort()
    server.disk.run()
    assert server.store.is_idle


def test_who_waits_for_the_store_is_told_when_nothing_is_under_way() -> None:
    server = ahead()
    store = server.store
    told: list[str] = []
    store.when_idle(lambda: told.append("at once"))
    assert told == ["at once"]

    def wait(what: str) -> None:
        store.when_idle(lambda: told.append(what))
        assert told[-1] != what
        server.disk.run()
        assert told[-1] == what

    store.append(45, payload_of(45, b"x"))
    store.sync(lambda error: None)
    wait("a sync")
    store.purge(lambda names, error: None)
    wait("a purge")
    snapshot = store.begin_snapshot(45, SESSIONS, ACLS)
    snapshot.abort()
    wait("a snapshot")
    store.begin_install(50).abort()
    wait("an install")
    store.append(46, payload_of(46, b"x"))
    server.disk.fail("sync", 1, errno.EIO)
    store.sync(lambda error: None)
    store.when_idle(lambda: told.append("never"))
    server.disk.run()
    assert told[-1] == "an install"


def test_a_database_that_must_not_come_into_being_comes_from_a_leader() -> None:
    """db.autocreate=false: this is how such a server gets its data."""
    disk = SimDisk()
    store = Store(disk, config(autocreate_db=False))
    recovered, _ = load(store)
    assert (recovered.last_zxid, store.is_idle) == (-1, True)
    writer = store.begin_install(7)
    writer.add(format.encode_tables({}, {}) + encode_znodes([ROOT]))
    writer.finish(None, lambda error: None)
    disk.run()
    assert store.last_zxid == 7
    disk.kill()
    assert load(Store(disk, config(autocreate_db=False)))[0].last_zxid == 7


# ZOOKEEPER-2846: the hole that SNAP leaves in the logs.


def joined_by_snap(end: int = 10, at: int = make_zxid(1, 9), then: int = make_zxid(2, 1)) -> Server:
    """Txns 1 .. `end`, then a leader's snapshot, then txns of another epoch; all of it is still there."""
    server = Server()
    server.write(*range(1, end + 1))
    server.install_as_java(at, entries_of([1, 2, 3]))
    server.write(then, then + 1, then + 2)
    return server


@pytest.mark.parametrize("at", [15, make_zxid(1, 9), make_zxid(2, 0)])
def test_logs_are_not_served_across_the_hole_of_a_snapshot(at: int) -> None:
    """ZOOKEEPER-2846: though the zxids behind it look as if a new epoch had just begun, also after a restart."""
    then = make_zxid(2, 1)
    server = joined_by_snap(at=at)
    for running in (server, server.restart()):
        for after in (0, 5, 9, 10, 12, at - 1):
            with pytest.raises(Hole):
                running.read(after)
        assert running.read(at) == [then, then + 1, then + 2]
        assert running.read(then) == [then + 1, then + 2]


def test_logs_that_end_before_the_snapshot_are_not_all() -> None:
    """ZOOKEEPER-2846: the snapshot is the newest there is, so nothing in the logs says that they are behind."""
    server = Server()
    server.write(*range(1, 11))
    server.install_as_java(20, entries_of([1, 2, 3]))
    for running in (server, server.restart()):
        for after in (0, 9, 10, 15):
            with pytest.raises(Hole):
                running.read(after)
        assert running.read(20) == []


def test_logs_without_a_hole_are_served_from_below_the_snapshot() -> None:
    """The check costs a DIFF nothing but a look: the log behind a snapshot of our own, a restart and an epoch."""
    server = Server()
    server.write(*range(1, 11))
    server.snapshot()
    server.write(11, 12)
    server.snapshot()
    server.write(make_zxid(1, 1), make_zxid(1, 2))
    server.snapshot()
    everything = [zxid for zxid, _ in server.entries]
    for running in (server, server.restart()):
        for after in (0, 4, 10, 12):
            assert running.read(after) == [zxid for zxid in everything if zxid > after]
        assert running.read(0) == everything


def test_logs_older_than_every_snapshot_prove_nothing() -> None:
    """The snapshot in the hole may have been purged: the logs are removed after it."""
    server = joined_by_snap()
    server.snapshot()
    server.disk.remove(f"{DIRECTORY}/snapshot.0")
    server.disk.remove(f"{DIRECTORY}/snapshot.100000009")
    again = server.restart()
    with pytest.raises(StorageCorrupt, match="no snapshot is as old as 0x5"):
        again.read(5)


def test_a_log_that_is_purged_while_it_is_read_is_a_hole() -> None:
    server = ahead()
    entries = server.store.read_log(0)
    assert next(entries)[0] == 1
    server.disk.remove(f"{DIRECTORY}/log.1f")
    with pytest.raises(Hole):
        list(entries)


def test_a_damaged_snapshot_of_a_leader_is_not_skipped() -> None:
    """With an older snapshot and all the logs it would look whole; what it stood for would be lost without a word."""
    server = joined_by_snap()
    path = f"{DIRECTORY}/snapshot.100000009"
    server.disk.put(path, server.disk.get(path)[:-1])
    server.disk.kill()
    with pytest.raises(StorageCorrupt, match="there is a snapshot at 0x100000009: a gap"):
        load(Store(server.disk, config()))


def test_a_damaged_snapshot_is_not_skipped_within_a_log_either() -> None:
    """Java follows from leader to leader without a restart, and goes on in the log that it has open."""
    then = make_zxid(2, 1)
    server = joined_by_snap(then=then)
    old, new = (server.disk.get(f"{DIRECTORY}/{format.log_name(zxid)}") for zxid in (1, then))
    joined = old.rstrip(b"\x00") + new.rstrip(b"\x00")[format.HEADER_BYTES :]
    server.disk.remove(f"{DIRECTORY}/{format.log_name(then)}")
    server.disk.sync_dir(DIRECTORY)
    server.disk.put(f"{DIRECTORY}/log.1", joined)
    assert server.restart().entries == server.entries
    path = f"{DIRECTORY}/snapshot.100000009"
    server.disk.put(path, server.disk.get(path)[:-1])
    server.disk.kill()
    with pytest.raises(StorageCorrupt, match="there is a snapshot at 0x100000009: a gap"):
        load(Store(server.disk, config()))


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(b"snapshot.6", id="a snapshot at 0x60 was to be installed, and its name was cut short"),
        pytest.param(b"", id="empty"),
        pytest.param(b"snapshot.60\n", id="the snapshot never got its name"),
    ],
)
def test_a_note_of_an_install_that_did_not_come_to_its_end_takes_nothing_away(note: bytes) -> None:
    server = behind()
    files = server.files()
    server.disk.put(f"{DIRECTORY}/{NOTE}", note)
    again = server.restart()
    assert again.entries == server.entries
    assert again.files() == files
    assert not again.disk.exists(f"{DIRECTORY}/{NOTE}")


def test_what_java_wrote_behind_an_unfinished_install_stays() -> None:
    """It had the directory in between: the old history goes now, its own txns do not."""
    server = Server()
    server.write(*range(1, 11))
    server.install_as_java(20, entries_of([1, 2, 3]))
    server.write(21, 22)
    server.disk.put(f"{DIRECTORY}/{NOTE}", b"snapshot.14\n")
    again = server.restart()
    assert again.entries == server.entries
    assert again.files() == ["log.15", "snapshot.14"]


def test_logs_and_snapshots_in_two_directories_give_way_as_well() -> None:
    disk = SimDisk()
    server = Server(disk, log_dir="/logs")
    server.write(*range(1, 11))
    server.install(20, entries_of([1, 2, 3]))
    assert [name for name in disk.list("/logs/version-2") if name.startswith("log.")] == []
    server.write(21)
    assert server.restart().entries == server.entries
    assert [name for name in disk.list("/logs/version-2") if name.startswith("log.")] == ["log.15"]


def test_an_epoch_without_any_data_is_refused() -> None:
    """A server that lost its data would win elections by its epoch, and the others would lose theirs, too."""
    server = Server()
    server.write(1)
    server.install(make_zxid(1, 5), entries_of([1]))
    server.store.write_epochs(accepted=EPOCH, current=EPOCH, done=lambda error: None)
    server.disk.run()
    for name in server.files():
        server.disk.remove(f"{DIRECTORY}/{name}")
    server.disk.kill()
    with pytest.raises(StorageCorrupt, match="it is 2, but there is neither a snapshot nor a log") as caught:
        load(Store(server.disk, config()))
    assert f"move {DIRECTORY} away" in caught.value.advice


@pytest.mark.parametrize("zxid", [0, 4, 10, make_zxid(1, 8)])
def test_trunc_does_not_go_back_across_a_snapshot_of_a_leader(zxid: int) -> None:
    """It would need a snapshot from the leader; nothing is changed."""
    server = joined_by_snap()
    before = {name: server.disk.get(f"{DIRECTORY}/{name}") for name in server.disk.list(DIRECTORY)}
    assert not server.store.truncate(zxid)
    assert {name: server.disk.get(f"{DIRECTORY}/{name}") for name in server.disk.list(DIRECTORY)} == before
    assert Loaded(server.store).entries == server.entries


def test_trunc_over_damage_behind_the_cut_is_as_before() -> None:
    """What is removed need not be readable."""
    server = ahead()
    log = server.disk.get(f"{DIRECTORY}/log.29")
    server.disk.put(f"{DIRECTORY}/log.29", log[:40] + b"\xff" + log[41:])
    assert server.store.truncate(12)
    assert Loaded(server.store).entries == server.entries[:12]


def test_a_learner_goes_on_from_snap_to_snap() -> None:
    """Installed over installed, with and without txns in between; purging leaves what loads."""
    server = open_and_install(Server())
    server.store.purge(lambda names, error: None)
    server.disk.run()
    again = server.restart()
    assert again.entries == server.entries
    assert again.read(again.entries[-1][0]) == []


def open_and_install(server: Server) -> Server:
    dice = Random(5)
    for epoch in range(1, 9):
        at = make_zxid(epoch, dice.randrange(1, 9))
        server.install(at, [*entries_of([1, 2]), (at, SNAP_DATA)])
        if dice.random() < 0.7:
            server.write(at + 1, at + 2)
        if dice.random() < 0.4:
            server.snapshot()
        server = server.restart()
    return server


def test_a_store_that_is_not_open_installs_nothing() -> None:
    store = Store(SimDisk(), config())
    assert not store.is_idle
    with pytest.raises(AssertionError):
        store.begin_install(1)

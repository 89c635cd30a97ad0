"""Storms over the storage: power lost at every call, calls that fail, bits flipped; all of them, for hours if asked.

The tests run samples of the same functions. A scripted run (create the database, txns in batches, rolls, snapshots,
purges, epoch changes, TRUNC) goes over the simulated disk; before every single call of it the disk is copied, the copy
loses power in several ways, and what a new store recovers from the copy is compared with what was appended and what was
acknowledged. Nothing acknowledged may be missing, nothing may be there that was not appended, in no other order.

Command line: `python tools/storm_storage.py --seeds 20` prints what it covered and adds a line to docs/ledger.md.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from coati.errors import StorageCorrupt, StorageFailed
from coati.storage import format
from coati.storage.store import SnapshotReader, Store, StoreConfig, ZnodeTuple
from coati.testing.disk import PowerCut, SimDisk
from coati.wire.codes import OP_CREATE
from coati.wire.jute import Writer
from coati.wire.records import ACL, CreateTxn, Id, StatPersisted, TxnHeader
from coati.wire.txns import decode_txn, encode_txn
from coati.wire.zxid import make_zxid

Entry: TypeAlias = tuple[int, bytes]
# A znode of a snapshot, field by field: path, data, id of the ACL, then those of StatPersisted.
Row: TypeAlias = tuple[bytes, bytes | None, int, int, int, int, int, int, int, int, int, int]
Check: TypeAlias = Callable[[SimDisk, "History", Random, str], str]

DATA_DIR: Final = "/data"
LEDGER: Final = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
ROOT: Final[Row] = (b"/", b"", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
SESSIONS: Final = {0x1000020FEE00000: 40000}
ACLS: Final = {1: [ACL(31, Id("digest", "a:b"))]}


def config(**changes: object) -> StoreConfig:
    """Small files: two paddings and a few rolls fit into a short run."""
    result = StoreConfig(DATA_DIR, prealloc_bytes=8192)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def payload_of(zxid: int, data: bytes) -> bytes:
    """A create, with a digest as a server of today writes it."""
    header = TxnHeader(0x1000020FEE00000, zxid & 0xFFFF, zxid, 1795226845525, OP_CREATE)
    return encode_txn(header, CreateTxn(b"/n%x" % zxid, data, [], False, 1), zxid * 7919)


def znode_of(entry: Entry) -> Row:
    """What a snapshot holds of the txn."""
    zxid, data = entry
    return (b"/n%x" % zxid, data, 1, zxid, zxid, 0, 0, 0, 0, 0, 0, zxid)


def encode_znodes(znodes: Sequence[Row]) -> bytes:
    """Znodes as a tree serialises itself; a root, b"/", becomes "" (DataTree.serializeNode, DataNode.serialize)."""
    w = Writer()
    for path, data, acl, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid in znodes:
        w.path(b"" if path == b"/" else path)
        w.buffer(data)
        w.int64(acl)
        StatPersisted(czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid).write(w)
    return w.getvalue()


def rows_of(znodes: Iterable[ZnodeTuple]) -> list[Row]:
    """What was read of a snapshot, field by field."""
    return [
        (path, data, acl, *struct.unpack(">qqqqiiiqq", zxids + middle + pzxid))
        for path, data, acl, zxids, middle, pzxid in znodes
    ]


class History:
    """What was appended, in order, and how many of the first of it must be there after any crash.

    `current` and `accepted`: the epochs somebody was told are durable, and those that may be.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.floor = 0
        self.epochs = [(0, 0)]  # (accepted, current) as they were asked for; from `epoch_floor` on one must hold
        self.epoch_floor = 0

    def next_zxid(self, epoch: int) -> int:
        last = self.entries[-1][0] if self.entries else 0
        return last + 1 if last >> 32 == epoch else make_zxid(epoch, 1)


class Loaded:
    """What a store recovered: the txns, those in the snapshot and those replayed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.entries: list[Entry] = []
        recovered = store.recover(self._build)
        self.snapshot_zxid = recovered.snapshot_zxid
        if recovered.tree is not None:
            self.entries = recovered.tree
        for batch in recovered.batches():
            for zxid, payload in batch:
                txn = decode_txn(payload).txn
                assert isinstance(txn, CreateTxn)
                self.entries.append((zxid, txn.data or b""))
        self.fresh = recovered.fresh
        self.last_zxid = recovered.last_zxid
        self.accepted = recovered.accepted_epoch
        self.current = recovered.current_epoch

    def _build(self, reader: SnapshotReader) -> list[Entry]:
        entries: list[Entry] = []
        for batch in reader.batches():
            entries += [(znode[3], znode[1] or b"") for znode in rows_of(batch) if znode[0] != b"/"]
        return entries


def write_first_snapshot(store: Store) -> None:
    """What a server does with an empty directory."""
    store.write_snapshot(0, {}, ACLS, [encode_znodes([ROOT])], 0)


class Run:
    """One scripted run. `step` does the next thing; what is acknowledged goes into the history at once."""

    def __init__(self, disk: SimDisk, dice: Random, settings: StoreConfig, store_class: type[Store] = Store) -> None:
        self.disk = disk
        self.dice = dice
        self.history = History()
        self.store = store_class(disk, settings)
        self.epoch = 0
        self.is_starting = True

    def go(self, txns: int) -> None:
        """Everything, with a snapshot about every 40 txns, and two epoch changes and truncations."""
        loaded = Loaded(self.store)
        if loaded.fresh:
            write_first_snapshot(self.store)
        self.is_starting = False
        for part in range(5):
            self.write(txns // 10)
            self.snapshot()
            self.write(txns // 10)
            self.purge()
            if part in (1, 3):
                self.change_epoch()
            if part in (2, 3):
                self.truncate()
        self.store.close()

    def write(self, count: int) -> None:
        """Appends txns and syncs now and then; sometimes a sync waits behind another."""
        while count > 0:
            some = min(count, self.dice.randrange(1, 7))
            self.append(some)
            count -= some
            self.sync()
            if self.dice.random() < 0.3:
                self.append()
                count -= 1
                self.sync()
            self.disk.run()

    def append(self, count: int = 1) -> None:
        """One txn, or some at once; in an epoch that has begun already, as that is how they are numbered."""
        history = self.history
        added: list[Entry] = []
        for _ in range(count):
            size = self.dice.choice((0, 1, 30, 100, 450, 600, 3000))
            added.append((history.next_zxid(self.epoch), self.dice.randbytes(size)))
            history.entries.append(added[-1])
        if count == 1:
            self.store.append(added[0][0], payload_of(*added[0]))
        else:
            self.store.append_all(added[0][0], [payload_of(*entry) for entry in added])

    def sync(self) -> None:
        history = self.history
        count = len(history.entries)

        def done(error: BaseException | None) -> None:
            if error is None:
                history.floor = max(history.floor, count)

        self.store.sync(done)

    def snapshot(self) -> None:
        """A snapshot of what is acknowledged, while more is written."""
        entries = self.history.entries[: self.history.floor]
        zxid = entries[-1][0] if entries else 0
        for _ in range(self.dice.randrange(3)):
            # Not durable yet, and before the roll: the old log goes beyond the snapshot.
            self.append()
        writer = self.store.begin_snapshot(zxid, SESSIONS, ACLS)
        znodes = [ROOT, *map(znode_of, entries)]
        for start in range(0, len(znodes), 50):
            writer.add(encode_znodes(znodes[start : start + 50]))
            if self.dice.random() < 0.5:
                self.write(2)
        errors: list[BaseException | None] = []
        writer.finish(zxid, errors.append)
        self.disk.run()
        assert len(errors) == 1

    def purge(self) -> None:
        self.store.purge(lambda names, error: None)
        self.disk.run()

    def change_epoch(self) -> None:
        history = self.history
        accepted, current = history.epochs[-1]
        history.epochs += [(accepted + 1, current), (accepted + 1, accepted + 1)]
        index = len(history.epochs) - 1

        def done(error: BaseException | None) -> None:
            if error is None:
                history.epoch_floor = index
                self.epoch = accepted + 1

        self.store.write_epochs(accepted=accepted + 1, current=accepted + 1, done=done)
        self.disk.run()

    def truncate(self) -> None:
        """Back to what a snapshot holds, or a little above it."""
        history = self.history
        keep = len(history.entries) - self.dice.randrange(1, 15)
        before = history.floor
        history.floor = min(before, keep)
        if self.store.truncate(history.entries[keep - 1][0]):
            history.entries = history.entries[:keep]
        else:
            history.floor = before
        self.is_starting = True
        loaded = Loaded(self.store)
        self.is_starting = False
        assert loaded.entries == history.entries


def damage_snapshots(disk: SimDisk, dice: Random) -> None:
    """Up to two of the newest: of the three that are kept each must load, with the logs that are kept."""
    directory = f"{DATA_DIR}/version-2"
    if not disk.exists(directory):
        return
    names = [name for name in disk.list(directory) if format.parse_snapshot_name(name)[0] >= 0]
    names.sort(key=format.parse_snapshot_name, reverse=True)
    for name in names[: min(dice.randrange(1, 3), len(names) - 1)]:
        content = disk.get(f"{directory}/{name}")
        disk.put(f"{directory}/{name}", content[: dice.randrange(len(content))])


def check_recovery(disk: SimDisk, history: History, dice: Random, mode: str) -> str:
    """Recovers from a disk after a crash, goes on a little, and recovers again. Raises AssertionError.

    Returns "refused" if whole sectors of an un-synced batch were lost in the middle: that cannot be told from damage.
    """
    store = Store(disk, config())
    try:
        loaded = Loaded(store)
    except StorageCorrupt:
        if mode != "sectors":
            raise
        return "refused"
    count = len(loaded.entries)
    assert loaded.entries == history.entries[:count], "what was recovered is not what was appended"
    assert count >= history.floor, f"{history.floor} txns were acknowledged, {count} are there"
    assert (loaded.accepted, loaded.current) in _epochs(history, loaded.last_zxid), "the epochs were never written"
    if loaded.fresh:
        write_first_snapshot(store)
    entries = loaded.entries
    for _ in range(3):
        zxid = (entries[-1][0] if entries else 0) + 1
        entries.append((zxid, dice.randbytes(200)))
        store.append(*entries[-1][:1], payload_of(*entries[-1]))
    store.sync(_must_succeed)
    disk.run()
    disk.kill()
    again = Loaded(Store(disk, config()))
    assert again.entries == entries, "what was appended after the crash is not there"
    return "recovered"


def _epochs(history: History, last_zxid: int) -> list[tuple[int, int]]:
    """The pairs that may be on the disk; without files, the epoch of the last zxid stands for them."""
    epoch = max(last_zxid, 0) >> 32
    return [(max(accepted, epoch), max(current, epoch)) for accepted, current in history.epochs[history.epoch_floor :]]


def _must_succeed(error: BaseException | None) -> None:
    assert error is None


class _Finding(BaseException):
    """Something is wrong. No handler between the check and the storm may take it for a failed job."""


class Tally:
    """What a storm covered."""

    def __init__(self) -> None:
        self.points = 0
        self.states = 0
        self.refused = 0

    def __str__(self) -> str:
        return f"{self.points} points, {self.states} states, {self.refused} refused"


def crash_everywhere(
    seed: int,
    *,
    txns: int = 200,
    variants: int = 10,
    every: int = 1,
    settings: StoreConfig | None = None,
    make_disk: Callable[[], SimDisk] = SimDisk,
    store_class: type[Store] = Store,
    check: Check = check_recovery,
) -> Tally:
    """One scripted run, crashed before each `every`-th call. Raises AssertionError naming the point."""
    dice = Random(seed)
    disk = make_disk()
    run = Run(disk, dice, settings or config(), store_class)
    tally = Tally()

    def on_call(kind: str, path: str) -> None:
        if disk.calls % every:
            return
        tally.points += 1
        count = variants if kind in ("sync", "sync_dir") else max(1, variants // 3)
        modes = ["lose", "keep", "damaged", *["random"] * count, *["sectors"] * (count // 3)]
        for number, mode in enumerate(modes):
            state_seed = f"{seed}/{disk.calls}/{number}"
            state_dice = Random(state_seed)
            state = disk.clone()
            try:
                state.crash(state_dice, "keep" if mode == "damaged" else mode)
                if mode == "damaged":
                    damage_snapshots(state, state_dice)
                tally.refused += check(state, run.history, state_dice, mode) == "refused"
            except (AssertionError, StorageCorrupt, StorageFailed) as error:
                raise _Finding(f"seed {state_seed}, {mode}, before {kind} {path}: {error!r}") from error
            tally.states += 1

    disk.on_call = on_call
    try:
        run.go(txns)
    except _Finding as finding:
        raise AssertionError(str(finding)) from finding
    return tally


def cut_everywhere(seed: int, *, txns: int = 200, every: int = 1) -> Tally:
    """The same by really stopping the run at each call, as kill -9 does: the code under test sees it happen."""
    whole = SimDisk()
    Run(whole, Random(seed), config()).go(txns)
    tally = Tally()
    for at in range(1, whole.calls + 1, every):
        disk = SimDisk()
        disk.crash_at = at
        run = Run(disk, Random(seed), config())
        try:
            run.go(txns)
        except PowerCut:
            tally.points += 1
        for mode in ("keep", "random"):
            state = disk.clone()
            state.crash(Random(f"{seed}/{at}"), mode)
            check_recovery(state, run.history, Random(at), mode)
            tally.states += 1
    return tally


FAULTS: Final = (
    ("write", errno.EIO),
    ("write", errno.ENOSPC),
    ("sync", errno.EIO),
    ("allocate", errno.ENOSPC),
    ("create", errno.ENOSPC),
    ("sync_dir", errno.EIO),
    ("rename", errno.EIO),
)


def fail_everywhere(seed: int, *, txns: int = 200, every: int = 1, where: str = "") -> Tally:
    """One call of each kind fails; then power is lost. What was acknowledged is there, and nothing was after it."""
    tally = Tally()
    for kind, error in FAULTS:
        at = 1
        while fail_once(seed, kind, at, error, txns=txns, where=where):
            tally.points += 1
            tally.states += 2
            at += every
    return tally


def fail_once(seed: int, kind: str, at: int, error: int, *, txns: int = 200, where: str = "") -> bool:
    """One run with one failing call; False if the run has fewer such calls."""
    disk = SimDisk()
    fault = disk.fail(kind, at, error, where=where, written_bytes=Random(at).randrange(400))
    run = Run(disk, Random(seed), config())
    try:
        run.go(txns)
    except (StorageFailed, AssertionError):
        # A failed store refuses every further call; a snapshot that cannot be written only warns.
        if run.store.failed is None and not run.is_starting:
            raise
    if fault.seen < at:
        return False
    if run.store.failed is not None:
        check_is_dead(run, disk)
    for mode in ("keep", "random"):
        state = disk.clone()
        state.crash(Random(f"{seed}/{at}"), mode)
        try:
            check_recovery(state, run.history, Random(at), mode)
        except (AssertionError, StorageCorrupt, StorageFailed) as trouble:
            raise AssertionError(f"seed {seed}, {kind} {at} fails, {mode}: {trouble!r}") from trouble
    return True


def check_is_dead(run: Run, disk: SimDisk) -> None:
    """After a failure nothing more is appended or acknowledged, and nothing is written to the logs."""
    floor = run.history.floor
    files = {name: disk.get(f"{DATA_DIR}/version-2/{name}") for name in disk.list(f"{DATA_DIR}/version-2")}
    calls: list[Callable[[], None]] = [
        lambda: run.store.append(1 << 60, b""),
        lambda: run.store.sync(_must_not_succeed),
    ]
    for call in calls:
        try:
            call()
        except StorageFailed:
            continue
        raise AssertionError("a failed store goes on")
    disk.run()
    assert run.history.floor == floor
    for name, content in files.items():
        if name.startswith("log."):
            assert disk.get(f"{DATA_DIR}/version-2/{name}") == content


def _must_not_succeed(error: BaseException | None) -> None:
    assert error is not None


# Damage


def small_store(dice: Random, *, txns: int, snapshot_after: int, sizes: Sequence[int]) -> tuple[SimDisk, History]:
    """A directory with one older snapshot, one log and a newer snapshot in between, closed in order."""
    disk = SimDisk()
    run = Run(disk, dice, config())
    Loaded(run.store)
    write_first_snapshot(run.store)
    for index in range(txns):
        zxid = run.history.next_zxid(0)
        run.history.entries.append((zxid, dice.randbytes(sizes[index % len(sizes)])))
        run.store.append(zxid, payload_of(*run.history.entries[-1]))
        run.sync()
        disk.run()
        if index + 1 == snapshot_after:
            run.snapshot()
    run.store.close()
    disk.kill()
    return disk, run.history


def flip_bits(disk: SimDisk, history: History, path: str, bits: Iterator[int]) -> Tally:
    """Each bit by itself: what is loaded then is right, or it is refused. Never a txn less without a word."""
    tally = Tally()
    content = disk.get(path)
    for bit in bits:
        state = disk.clone()
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        state.put(path, bytes(damaged))
        tally.points += 1
        tally.states += 1
        try:
            loaded = Loaded(Store(state, config()))
        except StorageCorrupt as error:
            tally.refused += 1
            if not error.path.startswith(DATA_DIR) or state.get(path) != bytes(damaged):
                raise AssertionError(f"bit {bit} of {path}: a refusal names the file and changes nothing") from error
            continue
        assert loaded.entries == history.entries, f"bit {bit} of {path}: a wrong tree, or txns lost without a word"
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storms and notes them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="scripted runs to crash everywhere")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--variants", type=int, default=10, help="states for each fsync; a third for other calls")
    parser.add_argument("--date", default=None, help="of the line in the ledger; today's if it is not given")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    started = time.monotonic()
    lines = list(storm(options.first_seed, options.seeds, options.variants))
    date = options.date or datetime.datetime.now(datetime.UTC).date().isoformat()
    minutes = (time.monotonic() - started) / 60
    command = f"`python tools/storm_storage.py --first-seed {options.first_seed} --seeds {options.seeds}`"
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | storage storm | {command} | {minutes:.0f} min: {'; '.join(lines)} | nothing |\n")
    return 0


def storm(first_seed: int, seeds: int, variants: int) -> Iterator[str]:
    """Every enumeration over the seeds; a line for each kind. Stops at the first finding, by AssertionError."""
    everything: dict[str, Tally] = {}
    for seed in range(first_seed, first_seed + seeds):
        settings = config(log_size_limit_bytes=20_000) if seed % 2 else config()
        found = {
            "power lost": crash_everywhere(seed, variants=variants, settings=settings),
            "stopped": cut_everywhere(seed),
            "calls failing": fail_everywhere(seed),
            "bits flipped": flip_everything(seed),
        }
        for name, tally in found.items():
            total = everything.setdefault(name, Tally())
            total.points += tally.points
            total.states += tally.states
            total.refused += tally.refused
            print(f"seed {seed}: {name}: {tally}", flush=True)
    for name, total in everything.items():
        print(f"all: {name}: {total}")
        yield f"{name}: {total}"


def flip_everything(seed: int, *, every: int = 1) -> Tally:
    """Every bit of every file of a small directory but the padding; or each `every`-th."""
    disk, history = small_store(Random(seed), txns=12, snapshot_after=6, sizes=(0, 5, 40))
    tally = Tally()
    directory = f"{DATA_DIR}/version-2"
    for name in disk.list(directory):
        size = len(disk.get(f"{directory}/{name}").rstrip(b"\x00"))
        if format.parse_log_name(name) >= 0 or format.parse_snapshot_name(name)[0] >= 0:
            part = flip_bits(disk, history, f"{directory}/{name}", iter(range(0, 8 * size, every)))
            tally.points += part.points
            tally.states += part.states
            tally.refused += part.refused
    return tally


if __name__ == "__main__":
    sys.exit(main())

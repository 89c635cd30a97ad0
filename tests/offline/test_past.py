"""The tree as it was: at each zxid what a model had; and clear words where the files do not reach."""

from __future__ import annotations

import random
from pathlib import Path
from struct import pack
from typing import Final

import pytest

from coati.core.export import Export
from coati.core.tree import Tree
from coati.errors import StorageCorrupt, StorageFailed
from coati.offline.moments import Moment
from coati.offline.past import past_at
from coati.offline.places import find
from coati.storage import format
from coati.storage.format import ZxidDigest
from coati.storage.snapshot import SnapshotFile
from coati.testing.disk import SimDisk
from coati.wire.txns import decode_txn
from tests.core.kit import Core, image
from tests.core.workload import Workload
from tests.storage.kit import ROOT, golden, log_bytes, snapshot_bytes

COUNT: Final = 120


def snapshot_of(tree: Tree, sessions: dict[int, int], compression: str) -> tuple[str, bytes]:
    """Name and bytes of a snapshot, written as a server does."""
    export = Export(tree, sessions)
    disk = SimDisk()
    disk.make_dirs("/d")
    file = SnapshotFile(disk, "/d", export.zxid, compression)
    file.write([format.encode_snapshot_head(export.sessions, export.acls)])
    while data := export.next_slice(7):
        file.write([data])
    file.finish(ZxidDigest(export.zxid, 2, export.digest), export.zxid)
    return file.name, disk.get(f"/d/{file.name}")


class History:
    """A random history as files, and what the tree was after each txn of it."""

    def __init__(self, directory: Path, seed: int) -> None:
        dice = random.Random(seed)
        self.core = Core(extended_types=True)
        self.images: dict[int, tuple[object, int]] = {0: self._image()}
        self.times: list[tuple[int, int]] = []
        self.directory = directory
        sessions: dict[int, int] = {}
        directory.mkdir()
        starts = [1]
        done = 0
        self._snapshot(sessions, "")
        for client, op, body in Workload(self.core, seed).requests(COUNT):
            self.core.write(client, op, body)
            # The three sessions that open before the first request are txns of their own.
            for payload in self.core.log[done:]:
                header = decode_txn(payload).header
                self.times.append((header.time, header.zxid))
            done = len(self.core.log)
            self.images[self.core.tree.last_zxid] = self._image()
            if dice.random() < 0.05:
                self._snapshot(sessions, dice.choice(("", "gz", "snappy")))
                starts.append(self.core.tree.last_zxid + 1)
        for start, stop in zip(starts, [*starts[1:], self.core.tree.last_zxid + 1], strict=True):
            if start < stop:
                name = directory / format.log_name(start)
                name.write_bytes(log_bytes(self.core.log[start - 1 : stop - 1], 4096))

    def _image(self) -> tuple[object, int]:
        return image(self.core.tree), self.core.tree.digest

    def _snapshot(self, sessions: dict[int, int], compression: str) -> None:
        name, data = snapshot_of(self.core.tree, sessions, compression)
        (self.directory / name).write_bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_at_each_zxid_it_is_what_the_model_had(seed: int, tmp_path: Path) -> None:
    history = History(tmp_path / "version-2", seed)
    directory = find(str(tmp_path))
    for zxid, expected in history.images.items():
        past = past_at(directory, Moment(zxid, None))
        assert (image(past.tree), past.tree.digest) == expected, f"seed {seed}, zxid {zxid}"
        assert (past.zxid, past.notes) == (zxid, [])


@pytest.mark.parametrize("seed", range(2))
def test_a_time_is_the_last_txn_that_is_not_later(seed: int, tmp_path: Path) -> None:
    history = History(tmp_path / "version-2", seed)
    directory = find(str(tmp_path))
    times = history.times
    for time_ms in range(times[0][0], times[-1][0] + 20, 7):
        expected = max(zxid for at, zxid in times if at <= time_ms)
        assert past_at(directory, Moment(None, time_ms)).zxid == expected
    with pytest.raises(StorageFailed, match="no txn is as old as 2023"):
        past_at(directory, Moment(None, times[0][0] - 1))


def test_without_a_snapshot_the_first_txn_of_all_will_do(tmp_path: Path) -> None:
    history = History(tmp_path / "version-2", 5)
    for path in (tmp_path / "version-2").glob("snapshot.*"):
        path.unlink()
    zxid = max(history.images)
    assert image(past_at(find(str(tmp_path)), Moment(zxid, None)).tree) == history.images[zxid][0]
    (tmp_path / "version-2" / "log.1").unlink()
    with pytest.raises(StorageFailed, match="there is no snapshot"):
        past_at(find(str(tmp_path)), Moment(zxid, None))


def test_a_missing_log_a_zxid_beyond_and_one_too_old(tmp_path: Path) -> None:
    directory = tmp_path / "version-2"
    history = History(directory, 1)
    logs = sorted(directory.glob("log.*"), key=lambda path: int(path.name[4:], 16))
    last = max(history.images)
    with pytest.raises(StorageFailed, match=f"no txn has the zxid {last + 1:#x}"):
        past_at(find(str(tmp_path)), Moment(last + 1, None))
    logs[1].unlink()
    inside = int(logs[1].name[4:], 16)
    # Behind the next snapshot all is well again.
    assert past_at(find(str(tmp_path)), Moment(last, None)).zxid == last
    with pytest.raises(StorageCorrupt, match="a gap"):
        past_at(find(str(tmp_path)), Moment(inside, None))
    for path in directory.glob("snapshot.0*"):
        path.unlink()
    logs[0].unlink()
    with pytest.raises(StorageFailed, match="the oldest snapshot is of"):
        past_at(find(str(tmp_path)), Moment(2, None))


def test_a_damaged_snapshot_gives_way_to_an_older_one(tmp_path: Path) -> None:
    directory = tmp_path / "version-2"
    history = History(directory, 2)
    newest = max(directory.glob("snapshot.*"), key=lambda path: int(path.name.split(".")[1], 16))
    newest.write_bytes(newest.read_bytes()[:-1])
    last = max(history.images)
    past = past_at(find(str(tmp_path)), Moment(last, None))
    assert image(past.tree) == history.images[last][0]
    assert len(past.notes) == 1
    assert newest.name in past.notes[0]


def test_another_txn_in_the_log_is_noticed_by_its_digest(tmp_path: Path) -> None:
    directory = tmp_path / "version-2"
    history = History(directory, 3)
    for path in directory.glob("snapshot.*"):
        path.unlink()
    payloads = list(history.core.log)
    at = next(index for index, one in enumerate(payloads) if decode_txn(one).digest is not None and index > 20)
    payloads[at] = payloads[at][:-8] + pack(">q", 1)
    for path in directory.glob("log.*"):
        path.unlink()
    (directory / "log.1").write_bytes(log_bytes(payloads))
    past = past_at(find(str(tmp_path)), Moment(max(history.images), None))
    assert past.notes == ["this is not what the server had: from the first txn on the digests of 1 txns differ"]


def test_every_zxid_of_what_java_wrote_has_the_digest_that_java_wrote() -> None:
    """The logs of Java carry the digest of its tree after each txn."""
    for path in golden():
        directory = find(str(path))
        for zxid in range(1, 0x205, 37):
            past = past_at(directory, Moment(zxid, None))
            assert (past.zxid, past.notes) == (zxid, []), f"{path} {zxid:#x}"
            assert past.tree.digest_mismatches == 0


def test_a_snapshot_that_java_wrote_while_it_went_on_is_none_of_its_own_zxid() -> None:
    """snapshot.4f of 3.8.0 has the txn 0x50 in it: the tree at 0x4f is made from an older one."""
    fuzzy = 0
    for path in golden():
        directory = find(str(path))
        for zxid, name in directory.snapshots():
            past = past_at(directory, Moment(zxid, None))
            assert (past.zxid, past.notes) == (zxid, [])
            fuzzy += past.base != name
            first = [node.mzxid() for node in past.tree.nodes.values()]
            assert max(first) <= zxid
    assert fuzzy > 3


def test_damage_behind_the_place_is_none_of_its_business(tmp_path: Path) -> None:
    directory = tmp_path / "version-2"
    history = History(directory, 4)
    for path in directory.glob("log.*"):
        path.unlink()
    for path in directory.glob("snapshot.*"):
        if path.name != "snapshot.0":
            path.unlink()
    whole = log_bytes(history.core.log)
    sound = len(log_bytes(history.core.log[:50]))
    (directory / "log.1").write_bytes(whole[:sound] + b"\xff" + whole[sound + 1 :])
    assert image(past_at(find(str(tmp_path)), Moment(50, None)).tree) == history.images[50][0]
    with pytest.raises(StorageCorrupt, match=f"log.1 at byte {sound}: "):
        past_at(find(str(tmp_path)), Moment(51, None))
    with pytest.raises(StorageCorrupt, match=f"log.1 at byte {sound}: "):
        past_at(find(str(tmp_path)), Moment(None, history.times[60][0]))


def test_a_txn_that_is_none_and_a_snapshot_that_is_no_tree(tmp_path: Path) -> None:
    history = History(tmp_path / "version-2", 0)
    for path in (tmp_path / "version-2").iterdir():
        path.unlink()
    (tmp_path / "version-2" / "log.1").write_bytes(log_bytes([*history.core.log[:9], history.core.log[9][:33]]))
    with pytest.raises(StorageCorrupt, match="the txn 0xa at or after here"):
        past_at(find(str(tmp_path)), Moment(10, None))
    orphan = (b"/a/b", b"", -1, 1, 1, 0, 0, 0, 0, 0, 0, 1)
    (tmp_path / "version-2" / "snapshot.5").write_bytes(snapshot_bytes([ROOT, orphan]))
    past = past_at(find(str(tmp_path)), Moment(9, None))
    assert "comes before its parent" in past.notes[0]
    (tmp_path / "version-2" / "log.1").write_bytes(log_bytes([]))
    with pytest.raises(StorageFailed, match="there is none at all"):
        past_at(find(str(tmp_path)), Moment(None, 1))

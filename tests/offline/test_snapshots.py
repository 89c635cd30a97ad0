"""Whether znodes are a tree, by snapshots put together without storage.format; and comparing them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from coati.errors import ConfigError, StorageFailed
from coati.offline import snapshots
from coati.offline.moments import parse_moment, parse_session, parse_zxid, time_text
from coati.offline.places import find, real_file
from coati.offline.txns import owner_text
from coati.storage.disk import RealDisk
from tests.storage.kit import ROOT, Row, log_of, snapshot_bytes

HEAD = 16 + 8
FRAME = 4 + 4 + 8 + 60


def znode(path: bytes, data: bytes = b"", czxid: int = 1) -> Row:
    return (path, data, -1, czxid, czxid, 0, 0, 0, 0, 0, 0, czxid)


@pytest.mark.parametrize(
    ("znodes", "reason"),
    [
        ([znode(b"/a"), znode(b"/a/b"), znode(b"/b/c")], "comes before its parent"),
        ([znode(b"/a"), znode(b"/a/b"), znode(b"/a")], "comes twice"),
        ([znode(b"/a"), znode(b"/a/b"), znode(b"/a/..")], "has no name"),
        ([znode(b"/a"), znode(b"/a/b"), znode(b"//c")], "comes before its parent"),
    ],
)
def test_what_is_no_tree_is_found_at_its_place(znodes: list[Row], reason: str, tmp_path: Path) -> None:
    target = tmp_path / "snapshot.5"
    target.write_bytes(snapshot_bytes([ROOT, *znodes]))
    problem = snapshots.verify(str(target)).problem
    assert problem is not None
    assert reason in problem.reason
    assert problem.offset == HEAD + 3 * FRAME + len(b"/a" + b"/a/b")
    # Each checksum is right.
    assert snapshots.facts_of(str(target)).problem is None


def test_another_digest_than_that_of_the_znodes(tmp_path: Path) -> None:
    target = tmp_path / "snapshot.5"
    for zxid, is_wrong in ((5, True), (6, False), (4, False)):
        digest = struct.pack(">qiq", zxid, 2, 12345)
        target.write_bytes(snapshot_bytes([ROOT, znode(b"/a")], digest=digest))
        facts = snapshots.verify(str(target))
        assert (facts.problem is not None) == is_wrong
        assert facts.digest == 12345


def test_what_changed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    again = (b"/same", b"x", -1, 1, 9, 0, 0, 1, 0, 0, 0, 9)
    acl = (b"/acl", b"", -1, 1, 1, 0, 0, 0, 0, 1, 0, 1)
    old.write_bytes(snapshot_bytes([ROOT, znode(b"/gone"), znode(b"/same", b"x"), znode(b"/acl"), znode(b"/re")]))
    new.write_bytes(snapshot_bytes([ROOT, again, acl, znode(b"/re", b"y", 7), znode(b"/new")]))
    found = {one.path: one.change for one in snapshots.differences(str(old), str(new))}
    assert found == {
        b"/gone": "deleted", b"/same": "written again", b"/acl": "acl", b"/re": "recreated", b"/new": "created"
    }  # fmt: skip


def test_what_the_system_refuses_is_told_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "snapshot.5").write_bytes(snapshot_bytes([ROOT]))
    (tmp_path / "log.1").write_bytes(log_of([1]))

    def refuse(disk: RealDisk, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(RealDisk, "open_read", refuse)
    with pytest.raises(StorageFailed, match=r"snapshot\.5: Permission denied \(run this as the user"):
        snapshots.facts_of(str(tmp_path / "snapshot.5"))
    monkeypatch.setattr(RealDisk, "list", refuse)
    with pytest.raises(StorageFailed, match="Permission denied"):
        find(str(tmp_path))


def test_a_directory_or_a_pipe_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "version-2" / "snapshot.5").mkdir(parents=True)
    with pytest.raises(Exception, match="no plain file"):
        find(str(tmp_path)).snapshots()
    with pytest.raises(StorageFailed, match="no plain file"):
        real_file(str(tmp_path))
    assert find(str(tmp_path / "version-2")).places.snapshots == str(tmp_path / "version-2")


def test_moments_as_people_write_them() -> None:
    assert parse_moment("0x1200000005").zxid == 0x1200000005
    assert str(parse_moment("0x1200000005")) == "zxid 0x1200000005"
    assert parse_moment("5").zxid == 5
    assert parse_moment("1700000000123").time_ms == 1_700_000_000_123
    assert parse_moment("2023-11-14T22:13:20.123Z").time_ms == 1_700_000_000_123
    assert parse_moment("2023-11-14T23:13:20.123+01:00").time_ms == 1_700_000_000_123
    assert parse_moment("2023-11-14T22:13:20.123").time_ms == 1_700_000_000_123
    assert str(parse_moment("1700000000123")) == time_text(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert time_text(1 << 62) == str(1 << 62)
    assert parse_session("0xff00000000000001") == -0xFFFFFFFFFFFFFF
    for wrong in ("", "yesterday", "0x", "-5", "9" * 30):
        with pytest.raises(ConfigError):
            parse_moment(wrong)
    for wrong in ("x", "0x" + "f" * 16):
        with pytest.raises(ConfigError):
            parse_zxid(wrong)


def test_owners() -> None:
    assert owner_text(0) == ("persistent", "")
    assert owner_text(0x100002E4A0D0001) == ("ephemeral", "0x100002e4a0d0001")
    assert owner_text(-(1 << 63)) == ("container", "")
    assert owner_text(-(1 << 56) | 5000) == ("ttl", "5000ms")
    # A server with the id 255 gives such sessions.
    assert owner_text(-(1 << 56) | 1 << 40) == ("ephemeral", "0xff00010000000000")

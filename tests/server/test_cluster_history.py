"""The judge of an ensemble's logs: what of them is history, also when snapshots have taken the place of some."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from tests.interop import raw
from tools.cluster_history import ClusterHistory, last_zxid

SESSION = 0x1234
TIME_MS = 1_700_000_000_000


def zxid(text: str) -> int:
    """`2:5` is the fifth txn of epoch 2."""
    epoch, _, counter = text.partition(":")
    return (int(epoch) << 32) + int(counter)


def to(text: str, first: int = 1) -> list[str]:
    """`1:3` stands for 1:1, 1:2 and 1:3."""
    epoch, _, last = text.partition(":")
    return [f"{epoch}:{counter}" for counter in range(first, int(last) + 1)]


class Cluster:
    """Servers' directories, written as the test says."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.history = ClusterHistory()

    def server(self, *logs: list[str], snapshots: tuple[str, ...] = (), owner: int = SESSION) -> Path:
        """One more, with these logs, of consecutive files, and snapshots."""
        directory = self.scratch / str(len(self.history.directories))
        directory.mkdir()
        for log in logs:
            data = struct.pack(">4siq", b"ZKLG", 2, 0)
            for name in log:
                txn = struct.pack(">qiqqii", owner, 0, zxid(name), TIME_MS, raw.CREATE_SESSION, 30_000)
                data += struct.pack(">qi", zlib.adler32(txn), len(txn)) + txn + b"B"
            (directory / f"log.{zxid(log[0]):x}").write_bytes(data + bytes(100))
        for name in snapshots:
            (directory / f"snapshot.{zxid(name):x}").touch()
        self.history.directories.append(directory)
        return directory

    def found(self, *, floor: str = "0:0", limit: str = "9:9") -> list[str]:
        """The history above `floor`."""
        self.history.tree.zxid = zxid(floor)
        self.history.limit = zxid(limit)
        return [f"{one.zxid >> 32}:{one.zxid & 0xFFFFFFFF}" for one in self.history.logged(Path())]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_the_longest_of_equal_logs_is_history(cluster: Cluster) -> None:
    cluster.server(to("1:3"))
    cluster.server(to("1:2"), ["1:3", "2:1", "2:2"])
    assert cluster.found() == [*to("1:3"), "2:1", "2:2"]
    assert cluster.found(floor="1:3", limit="2:1") == ["2:1"]
    assert cluster.history.faults == []


def test_the_tail_of_a_deposed_leader_below_a_snapshot_is_no_history(cluster: Cluster) -> None:
    cluster.server(to("1:9"), ["2:3", "2:4"], snapshots=("2:2",))
    cluster.server([*to("1:4"), *to("2:4")], snapshots=("1:2",))
    assert cluster.found() == [*to("1:4"), *to("2:4")]
    assert cluster.history.faults == []


def test_history_is_known_when_each_server_got_a_snapshot_in_one_round(cluster: Cluster) -> None:
    """It was not: what came before the snapshot of each was in no log that counted, and was said to be lost."""
    # The first led, and lost its tail; the second got the first's snapshot and led then; the third had both.
    cluster.server(to("1:9"), ["2:4", "3:1"], snapshots=("2:3",))
    cluster.server(to("1:2"), [*to("2:4"), "3:1"], snapshots=("1:6",))
    cluster.server(to("1:1"), ["2:2", "2:3", "2:4", "3:1"], snapshots=("1:3", "2:1"))
    assert cluster.found() == [*to("1:6"), *to("2:4"), "3:1"]
    assert cluster.history.faults == []


def test_history_ends_with_a_snapshot_behind_which_nothing_came(cluster: Cluster) -> None:
    cluster.server(to("1:4"))
    cluster.server(to("1:1"), snapshots=("1:3",))
    assert cluster.found(limit="1:3") == to("1:3")
    assert cluster.history.faults == []


def test_a_txn_that_only_one_server_kept_is_seen(cluster: Cluster) -> None:
    cluster.server(to("1:5"))
    cluster.server([*to("1:4"), "2:1"])
    assert cluster.found() == [*to("1:4"), "2:1"]
    assert "which is no history" in cluster.history.faults[0]


def test_servers_that_disagree_on_what_came_before_are_seen(cluster: Cluster) -> None:
    cluster.server([*to("1:5"), "2:1"])
    cluster.server([*to("1:4"), "2:1"])
    cluster.found()
    assert "before 0x200000001 comes 0x100000004" in cluster.history.faults[0]


def test_servers_that_disagree_on_a_txn_are_seen(cluster: Cluster) -> None:
    cluster.server(to("1:5"))
    cluster.server(to("1:5"), owner=SESSION + 1)
    cluster.found()
    assert "two servers disagree: Logged(" in cluster.history.faults[0]


def test_a_hole_in_all_logs_is_seen(cluster: Cluster) -> None:
    cluster.server(to("1:1"), to("1:5", 4), snapshots=("1:3",))
    cluster.server(to("1:2"), to("1:5", 4), snapshots=("1:3",))
    assert cluster.found() == ["1:4", "1:5"]
    assert cluster.history.faults == ["0x100000003 is history, and in no log"]


def test_a_disk_has_what_its_log_or_its_snapshot_has(cluster: Cluster) -> None:
    directory = cluster.server(to("1:5"), snapshots=("1:7",))
    assert last_zxid(directory, 0) == zxid("1:7")
    assert last_zxid(directory, zxid("1:9")) == zxid("1:9")
    directory = cluster.server(to("1:5"), snapshots=("1:2",))
    assert last_zxid(directory, 0) == zxid("1:5")

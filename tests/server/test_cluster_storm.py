"""What `tools/storm_cluster.py` draws, and what it finds without a whole ensemble to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools import hardware, strace
from tools.ensemble import Ensemble
from tools.storm_cluster import CUTTING, FAULTS, FILLING, SLOWING, ClusterStorm, possible

ZXID = (1 << 32) + 5


class Drawn(ClusterStorm):
    """Draws its rounds and does nothing; `eagerness` is how much its clients write."""

    def __init__(self, seed: int, scratch: Path, eagerness: int) -> None:
        still: Any = SimpleNamespace(members=dict.fromkeys((1, 2, 3)), voters=[1, 2, 3], leader=2)
        super().__init__(seed, scratch, still, faults=FAULTS)
        self.eagerness = eagerness
        self.drawn: list[object] = []

    def load_for(self, seconds: float) -> None:
        self.drawn.append(seconds)
        self.dice.randbytes(self.eagerness)

    def settle(self) -> None:
        """There is nothing to wait for."""

    def _inflict(self, fault: str, leader: int, others: Sequence[int]) -> None:
        self.drawn += [fault, others, self._length_s()]


def test_faults_do_not_depend_on_what_clients_write(tmp_path: Path) -> None:
    lazy, eager = Drawn(7, tmp_path, 1), Drawn(7, tmp_path, 1000)
    for number in range(20):
        lazy.round()
        # Also one that is told what to do goes on as the other.
        eager.round("roll" if number == 3 else None)
    eager.drawn[3 * 4 + 1] = lazy.drawn[3 * 4 + 1]
    assert lazy.drawn == eager.drawn
    assert len(set(lazy.drawn[1::4])) > 5


def test_faults_that_cannot_be_here_are_not_drawn_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "why_no_small_disks", lambda: "no mounts")
    monkeypatch.setattr(strace, "why_not_attached", lambda: "no strace")
    faults, missing = possible(None)
    assert faults == tuple(fault for fault in FAULTS if fault not in CUTTING + FILLING + SLOWING)
    assert [reason.partition(": ")[2] for reason in missing] == ["no network that can be cut", "no mounts", "no strace"]


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[ClusterStorm]:
    ensemble = Ensemble(tmp_path)
    yield ClusterStorm(1, tmp_path, ensemble)
    ensemble.close()


def test_a_server_that_told_more_than_its_disk_has_is_found(storm: ClusterStorm) -> None:
    storm._told[2] = ZXID
    storm.history.tree.zxid = ZXID
    storm._judge_told(2)
    assert storm.history.faults == []
    storm.history.tree.zxid = ZXID - 1
    storm._judge_told(2)
    assert storm.history.faults == ["server 2 has told of zxid 0x100000005, and does not have it"]


def test_an_election_is_found(storm: ClusterStorm, monkeypatch: pytest.MonkeyPatch) -> None:
    reigns = iter([(2, 1), (2, 1), (2, 2), (3, 2)])
    monkeypatch.setattr(storm, "_reign", lambda: next(reigns))
    before = storm._reign()
    for _ in range(3):
        storm._judge_reign(before, "the test says so")
    assert storm.history.faults == [
        "server and epoch that lead were (2, 1), and are (2, 2), since the test says so",
        "server and epoch that lead were (2, 1), and are (3, 2), since the test says so",
    ]


def test_a_full_disk_must_be_said_in_the_end(storm: ClusterStorm) -> None:
    for code, line in ((10, "the transaction log cannot be written, exiting"), (10, "another word"), (0, "stopped")):
        ended: Any = SimpleNamespace(exit_code=code, log=partial(str, f"...\n{line}\n"), kill9=print)
        storm.ensemble.members[1] = ended
        storm._judge_full(1, {10: "the transaction log cannot be written, exiting"})
    assert len(storm.history.faults) == 2
    assert "exit code 0" in storm.history.faults[1]
    del storm.ensemble.members[1]

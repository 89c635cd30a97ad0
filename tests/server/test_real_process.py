"""A small dose of the storm over the real process; `tools/storm_process.py` runs many.

The last tests plant a mistake in the server, and the storm must find it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.interop import peers
from tests.interop.peers import CoatiServer
from tools import storm_process, strace
from tools.storm_process import Failed, Storm, Traced
from tools.strace import Injection

FAULTY = Path(__file__).with_name("faulty.py")
BALLAST = 200


@pytest.fixture
def storm(tmp_path: Path) -> Storm:
    return Storm(1, tmp_path, ballast=BALLAST)


@pytest.fixture
def traceable() -> None:
    peers.require(strace.why_missing(), strace.why_refused)


def faulty(mistake: str, command: list[str]) -> list[str]:
    return [sys.executable, str(FAULTY), mistake, *command[command.index("serve") :]]


class AnswersFirst(CoatiServer):
    """Says that a write is durable when it is handed to the disk."""

    def command(self) -> list[str]:
        return faulty("answers-first", super().command())


class ForgetsTheLast(CoatiServer):
    """Recovers all but the newest txn."""

    def command(self) -> list[str]:
        return faulty("forgets-the-last", super().command())


class NeverSyncs(Traced):
    """Leaves all to the kernel."""

    def command(self) -> list[str]:
        assert self.injection is not None
        return [*self.injection.command(self.record), *faulty("never-syncs", CoatiServer.command(self))]


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kills(storm: Storm) -> None:
    for number, mode in enumerate(("time", "tmp", storm_process.STOP, "log")):
        storm.kill_round(number, mode=mode)
    storm.finish()
    assert storm.counts["kills"] == 3
    assert storm.counts["trees compared"] >= 5
    assert storm.counts["resumed"] >= 4
    assert storm.counts["acknowledged"] > 10


@pytest.mark.slow
@pytest.mark.usefixtures("traceable")
def test_nothing_is_acknowledged_after_a_failed_sync(storm: Storm) -> None:
    storm.error_round(Injection("fdatasync", "EIO", 5, is_lasting=True))
    assert storm.counts["ended by the log"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("traceable")
def test_nothing_is_acknowledged_after_a_failed_write(storm: Storm) -> None:
    storm.error_round(Injection("pwrite64", "EIO", 20, is_lasting=True))
    assert storm.counts["ended by the log"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("traceable")
def test_a_disk_that_fails_at_the_start_is_said(storm: Storm) -> None:
    storm.error_round(Injection("pwrite64", "ENOSPC", 1, is_lasting=False))
    assert storm.counts["ended at start"] == 1


@pytest.fixture
def mounts() -> list[str]:
    prefix = storm_process.mount_prefix()
    if prefix is None:
        pytest.skip("nothing may be mounted here, neither by this user nor in a user namespace")
    return prefix


@pytest.mark.slow
@pytest.mark.parametrize("mode", storm_process.FULL_MODES[:2])
def test_a_full_disk_loses_nothing(mode: str, mounts: list[str]) -> None:
    counts = storm_process.full(storm_process.FULL_MODES.index(mode), 1, mounts)
    assert counts[f"full: {mode}"] == 1


@pytest.mark.slow
def test_the_storm_finds_a_server_that_answers_before_it_writes(storm: Storm) -> None:
    storm.make = AnswersFirst
    with pytest.raises(Failed, match=r"(?s)seed 1, round .*acknowledged at zxid .*, and lost"):
        kill_on(storm)


@pytest.mark.slow
def test_the_storm_finds_a_server_that_forgets_its_last_txn(storm: Storm) -> None:
    storm.make = ForgetsTheLast
    with pytest.raises(Failed, match=r"seed 1, round \d"):
        kill_on(storm)


@pytest.mark.slow
@pytest.mark.usefixtures("traceable")
def test_the_storm_finds_a_server_that_never_syncs(storm: Storm) -> None:
    storm.traced = NeverSyncs
    with pytest.raises(Failed, match="was acknowledged, synced was the log up to 0x0"):
        storm.error_round(Injection("fsync", "EIO", strace.NEVER, is_lasting=False))


def kill_on(storm: Storm) -> None:
    for number in range(10):
        storm.kill_round(number, mode="time")

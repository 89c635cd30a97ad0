"""Storms over the real server process: SIGKILL under load, system calls that fail, disks that are full.

A `coati serve` on real files takes pipelined writes of several sessions and dies: killed at a drawn moment (any, in
the middle of a snapshot, of a new log, of a purge, of a start), by a call that strace lets fail, or on a full tmpfs.
Then its log is read, the server starts again on the same directory, and what a client reads there is compared with the
history of all that was sent and answered (`storm_history.py`); now and then a Java server reads a copy as well. Power
loss is not this storm's but `storm_server.py`'s: a process that is killed leaves its writes with the kernel. What a
lost sync would lose is seen all the same, in strace's record of the syncs, and some of it is torn off the log. The
tests run samples of the same functions.

Command line: `python -m tools.storm_process --kills 50 --errors 48 --full 6` prints what it covered and adds a line to
docs/ledger.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.interop import peers, raw
from tests.interop.peers import CoatiFailed, CoatiServer
from tools import javapeer, strace
from tools.storm_history import History, log_files, read_log
from tools.storm_load import SHORT_TIMEOUT_MS, Client, foundations, observe
from tools.strace import Injection
from tools.tree_model import Write

LEDGER: Final = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
ROOT: Final = Path(__file__).resolve().parent.parent
CLIENTS: Final = 4
BALLAST: Final = 1500
JAVA: Final = "3.9.3"
JAVA_EVERY: Final = 10
# A directory serves so many failing calls; then a new one, so that first starts fail too.
ERRORS_A_DIRECTORY: Final = 6
# At a start purging removes what the snapshots of the last round made superfluous.
CFG: Final = {
    "tickTime": "200",
    "minSessionTimeout": "400",
    "maxSessionTimeout": "60000",
    "autopurge.purgeInterval": "1",
}
PREALLOC_KB: Final = "64"
# Roughly: how long a start takes, a snapshot, and the load before a kill.
LONGEST_START_S: Final = 0.6
LONGEST_SNAPSHOT_S: Final = 0.03
LONGEST_LOAD_S: Final = 1.2
LONGEST_TRACED_LOAD_S: Final = 2.5
END_TIMEOUT_S: Final = 30.0
# server/exitcodes.py: what the promise is, in numbers that supervisors see.
STOPPED, UNABLE_TO_ACCESS_DATADIR, SEVERE_LOG_ERROR = 0, 3, 10
LOG_IS_BROKEN: Final = "the transaction log cannot be written, exiting"
DIRECTORY_IS_BROKEN: Final = "the data directory cannot be used"
SNAPSHOT_FAILED: Final = "snapshot failed"
# What a server says when a call has failed while it served.
TOLD: Final = (LOG_IS_BROKEN, SNAPSHOT_FAILED, "purge failed")
TMPFS_MB: Final = 32
# What of it a server gets until space is freed. No remount: in a user namespace it may not be allowed.
ROOM_BYTES: Final = 8 << 20
STOP: Final = "stop"
KILL_MODES: Final = ("time", "time", "tmp", "tmp", "log", "snapshot", STOP)

Make = Callable[..., CoatiServer]


class Failed(AssertionError):
    """What the storm found, with the seed."""


class Killer(threading.Thread):
    """Kills the process after a time, or earlier: `late_s` after its directory changed in the way it waits for.

    Mode STOP asks it to end instead.
    """

    def __init__(self, server: CoatiServer, directory: Path, mode: str, *, delay_s: float, late_s: float = 0.0) -> None:
        super().__init__(name="killer", daemon=True)
        self._server = server
        self._directory = directory
        self._mode = mode
        self._delay_s = delay_s
        self._late_s = late_s

    def run(self) -> None:
        """Until the process is dead."""
        ends = time.monotonic() + self._delay_s
        before = self._names()
        never = threading.Event()
        while self._server.is_running and time.monotonic() < ends:
            never.wait(0.001)
            if self._is_moment(before):
                never.wait(self._late_s)
                break
        if self._mode == STOP:
            self._server.stop()
        else:
            self._server.kill9()

    def _names(self) -> dict[str, None]:
        return dict.fromkeys(os.listdir(self._directory))

    def _is_moment(self, before: dict[str, None]) -> bool:
        if self._mode in ("time", STOP):
            return False
        names = self._names()
        if self._mode == "gone":
            return any(name not in names for name in before if not name.endswith(".tmp"))
        if self._mode == "tmp":
            return any(name.endswith(".tmp") for name in names)
        new = [name for name in names if name not in before and not name.endswith(".tmp")]
        return any(name.startswith(f"{self._mode}.") for name in new)


class Traced(CoatiServer):
    """A server under strace; its process id is its own all the same."""

    injection: Injection | None = None

    @property
    def record(self) -> Path:
        """What strace writes."""
        return self.scratch / "strace.txt"

    def command(self) -> list[str]:
        """As of the server, with strace before it."""
        assert self.injection is not None
        return [*self.injection.command(self.record), *super().command()]


class Storm:
    """One directory, the clients that write to it, and its history over all starts of the server."""

    def __init__(
        self, seed: int, scratch: Path, *, ballast: int = BALLAST, cfg: Mapping[str, str] | None = None
    ) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.history = History()
        self.scratch = scratch
        self.data_dir = scratch / "data"
        self.cfg = {**CFG, **(cfg or {})}
        self.log_dir = Path(self.cfg.get("dataLogDir", self.data_dir)) / "version-2"
        self.clients = [Client(self.history, f"c{number}", self.dice) for number in range(CLIENTS)]
        self.make: Make = CoatiServer
        self.traced: Callable[..., Traced] = Traced
        self._ballast = ballast
        self._visitors = 0
        self._files: dict[str, None] = {}
        self._has_foundations = False

    @property
    def counts(self) -> Counter[str]:
        """What was covered."""
        return self.history.counts

    def server(self, make: Make | None = None) -> CoatiServer:
        """The server of the next round, not started."""
        props = {
            "zookeeper.snapCount": str(self.dice.choice((500, 1000, 2000))),
            "zookeeper.preAllocSize": PREALLOC_KB,
        }
        return (make or self.make)(self.data_dir, props=props, cfg=self.cfg)

    def check(self, what: str) -> None:
        """Raises Failed if anything was not right."""
        if self.history.faults:
            raise Failed(f"seed {self.seed}, {what}:\n" + "\n".join(self.history.faults))

    # What clients do.

    def begin(self, server: CoatiServer) -> None:
        """Compares what is there, then brings the clients back. Raises raw.Closed if the server ends meanwhile."""
        observe(self.history, server.host, server.port, self.log_dir)
        for client in self.clients:
            if not client.connect(server.host, server.port):
                raise raw.Closed("while the clients came")
        if not self._has_foundations:
            self._has_foundations = True
            for write in foundations([client.name for client in self.clients], self._ballast, self.dice):
                self.clients[0].send(write)
            self.clients[0].read()

    def load(self, server: CoatiServer, until: Callable[[], bool]) -> bool:
        """Writes until `until` says so; False if the server hung up before."""
        try:
            while not until():
                for client in self.clients:
                    if not client.is_connected and not client.connect(server.host, server.port):
                        return False
                    client.burst(self.dice.randint(1, 20))
                for client in self.clients:
                    client.read(self.dice.choice((0, 5, 20)))
                if self.dice.random() < 0.03:
                    self._move(server)
        except raw.Closed:
            return False
        return True

    def _move(self, server: CoatiServer) -> None:
        """A session ends, changes its connection, or comes, writes and is left alone."""
        client = self.dice.choice(self.clients)
        way = self.dice.randrange(3)
        if way == 0:
            client.read()
            client.close()
        elif way == 1:
            client.read()
            client.drop()
        else:
            self._visitors += 1
            visitor = Client(self.history, f"v{self._visitors}", self.dice, SHORT_TIMEOUT_MS)
            if visitor.connect(server.host, server.port):
                # From now on: on a slow machine it may expire before it has an answer.
                self.history.abandoned(visitor.session_id)
                for name in (b"x", b"y"):
                    path = b"/w/%s-%s" % (visitor.name.encode(), name)
                    visitor.send(Write("create", path, visitor.name.encode(), owner="ephemeral"))
                visitor.drain(left=self.dice.choice((0, 2)))

    def end(self) -> None:
        """After the server's death: the last replies, and what its log holds."""
        for client in self.clients:
            client.drain()
        self.history.consume(self.log_dir, is_over=True)
        for client in self.clients:
            client.settle()
        self._count_files()

    def _count_files(self) -> None:
        directories = (self.log_dir, self.data_dir / "version-2")
        names = dict.fromkeys(path.name for directory in directories for path in directory.glob("*.*"))
        names.pop("coati.lock", None)
        for name in names:
            if name not in self._files:
                self.counts["half" if name.endswith(".tmp") else name.partition(".")[0]] += 1
        self.counts["purged"] += sum(name not in names and not name.endswith(".tmp") for name in self._files)
        self._files = names

    def check_log(self, server: CoatiServer) -> None:
        """A start says nothing of errors."""
        bad = [line for line in server.log().splitlines() if _level(line) in ("error", "fatal") or "Traceback" in line]
        if bad:
            self.history.fault(f"the server's log says: {bad[0]}")

    def _check_digests(self, server: CoatiServer) -> None:
        mismatches = peers.monitor(server)["digest_mismatches_count"]
        if mismatches != "0":
            self.history.fault(f"{mismatches} digests of its log did not fit")

    # Killed.

    def kill_round(self, number: int, *, mode: str | None = None) -> None:
        """Starts the server, compares, writes and kills or stops it. Raises Failed."""
        mode = mode or self.dice.choice(KILL_MODES)
        if self.log_dir.exists() and self.dice.random() < 0.2:
            self._kill_at_start()
        server = self.server()
        try:
            server.start()
            self.begin(server)
            self._check_digests(server)
            delay_s = self.dice.uniform(0, LONGEST_LOAD_S)
            late_s = self.dice.choice((0.0, self.dice.uniform(0, LONGEST_SNAPSHOT_S)))
            killer = Killer(server, self.log_dir, mode, delay_s=delay_s, late_s=late_s)
            killer.start()
            self.load(server, lambda: not server.is_running)
            killer.join()
            self._expect(server, STOPPED if mode == STOP else -signal.SIGKILL)
            self.check_log(server)
        except (raw.Silent, raw.Closed, CoatiFailed) as error:
            self.history.fault(f"{type(error).__name__}: {error} {server.log()[-2000:]}")
        finally:
            server.close()
        self.end()
        self.counts["kills"] += mode != STOP
        self.counts[f"at {mode}"] += 1
        self.check(f"round {number}, killed at {mode}")

    def _kill_at_start(self) -> None:
        server = self.server()
        try:
            server.launch()
            # What a purge removes goes first thing.
            mode = self.dice.choice(("time", "gone"))
            Killer(server, self.log_dir, mode, delay_s=self.dice.uniform(0, LONGEST_START_S)).run()
            self._expect(server, -signal.SIGKILL)
            self.check_log(server)
        finally:
            server.close()
        self.end()
        self.counts["kills at start"] += 1

    def _expect(self, server: CoatiServer, code: int, reason: str = "") -> None:
        if server.exit_code != code:
            self.history.fault(f"the server ended with {server.exit_code} instead of {code}: {server.log()[-2000:]}")
        if reason and reason not in last_of(server.log()):
            self.history.fault(f"its log does not end with {reason!r}: {server.log()[-2000:]}")

    def compare_with_java(self, version: str = JAVA) -> None:
        """A Java server opens a copy of what the killed one left, and shows the same tree."""
        copy = self.scratch / "java"
        shutil.copytree(self.data_dir, copy)
        fork = self.history.fork()
        try:
            with javapeer.JavaServer(version, copy, cfg=CFG) as java:
                observe(fork, java.host, java.port, copy / "version-2")
                mismatches = peers.monitor(java).get("digest_mismatches_count", "0")
            if mismatches != "0":
                fork.fault(f"{mismatches} digest mismatches")
        finally:
            shutil.rmtree(copy)
        self.history.faults += [f"Java {version}: {fault}" for fault in fork.faults]
        self.counts["Java compared"] += 1
        self.check(f"Java {version}")

    def finish(self) -> None:
        """One more start: what was left alone expires, what is there is compared, and a stop ends with 0."""
        server = self.server()
        try:
            server.start()
            self.begin(server)
            self._check_digests(server)
            if not wait_until(self._has_expired_all):
                self.history.fault(f"sessions that do not expire: {self.history.waiting_to_expire(SHORT_TIMEOUT_MS)}")
            observe(self.history, server.host, server.port, self.log_dir)
            for client in self.clients:
                client.close()
            observe(self.history, server.host, server.port, self.log_dir)
            owned = [path for path, node in self.history.tree.nodes.items() if node.owner]
            if owned:
                self.history.fault(f"ephemerals of nobody: {owned}")
            server.stop()
            self._expect(server, STOPPED)
        except (raw.Silent, raw.Closed, CoatiFailed) as error:
            self.history.fault(f"{type(error).__name__}: {error}")
        finally:
            server.close()
        self.end()
        self.check("the end")

    def _has_expired_all(self) -> bool:
        # Not those of which nobody was told because the server died: they have nothing, and 30 s.
        self.history.consume(self.log_dir, is_over=False)
        return not self.history.waiting_to_expire(SHORT_TIMEOUT_MS)

    # Calls that fail.

    def error_round(self, injection: Injection) -> None:
        """A server whose calls fail at some time: what it says must be true, and it must end as it should."""
        floor = self.history.tree.zxid
        server = self.server(CoatiServer if injection.is_attached else self.traced)
        record = server.scratch / "strace.txt"
        if isinstance(server, Traced):
            server.injection = injection
        attached: strace.Attached | None = None
        try:
            process = server.launch()
            is_serving = wait_ready(server, process)
            if is_serving and injection.is_attached:
                attached = strace.Attached(injection, record, server.pid)
            if is_serving:
                self._load_traced(server, process, record)
            self._judge_errors(server, record, injection, is_serving=is_serving, floor=floor)
        except raw.Silent as error:
            self.history.fault(f"Silent: {error}")
        finally:
            server.close()
            if attached is not None:
                attached.close()
        self.check(str(injection))
        self.restart()
        self.check(f"after {injection}")

    def _load_traced(self, server: CoatiServer, process: subprocess.Popen[bytes], record: Path) -> None:
        is_there = False
        with contextlib.suppress(raw.Closed):
            self.begin(server)
            ends = time.monotonic() + self.dice.uniform(LONGEST_TRACED_LOAD_S / 2, LONGEST_TRACED_LOAD_S)
            is_there = self.load(server, lambda: time.monotonic() > ends)
        if strace.read_record(record, server.pid).failed:
            # What failed may not have come to its end yet.
            wait_until(lambda: not server.is_running or any(word in server.log() for word in TOLD))
        if not is_there or LOG_IS_BROKEN in server.log() or strace.read_record(record, server.pid).has_failed_log:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_TIMEOUT_S)

    def _judge_errors(
        self, server: CoatiServer, record: Path, injection: Injection, *, is_serving: bool, floor: int
    ) -> None:
        ended_itself = not server.is_running
        server.kill9()
        if not wait_until(lambda: strace.read_record(record, server.pid).is_over):
            raise OSError(f"strace does not end: {server.log()[-500:]}")
        seen = strace.read_record(record, server.pid)
        for client in self.clients:
            client.drain()
        durable = durable_zxid(self.log_dir, floor, seen.durable)
        if is_serving and not injection.is_attached and self.history.tree.zxid <= durable:
            self.counts["tails torn"] += tear(self.log_dir, seen.durable, self.dice)
        self.end()
        if self.history.highest_acked > durable:
            acked = self.history.highest_acked
            self.history.fault(f"zxid {acked:#x} was acknowledged, synced was the log up to {durable:#x}")
        self.counts["errors"] += bool(seen.failed)
        self.counts["errors not reached"] += not seen.failed
        if not is_serving:
            self.counts["ended at start"] += 1
            self._expect(server, UNABLE_TO_ACCESS_DATADIR, DIRECTORY_IS_BROKEN)
        elif ended_itself:
            self.counts["ended by the log"] += 1
            self._expect(server, SEVERE_LOG_ERROR, LOG_IS_BROKEN)
        elif seen.has_failed_log:
            self.history.fault(f"it goes on after {seen.failed[0]}")
        elif seen.failed:
            self.counts["went on with a warning"] += 1
            if not any(word in server.log() for word in TOLD):
                self.history.fault(f"it says nothing of {seen.failed[0]}")
        if (ended_itself or not is_serving) and not seen.failed:
            self.history.fault(f"it ended with {server.exit_code} for no reason: {server.log()[-2000:]}")

    def restart(self) -> None:
        """Without faults: everything is there, it serves, and a stop ends with 0."""
        server = self.server()
        try:
            server.start()
            self.begin(server)
            self._check_digests(server)
            for client in self.clients:
                client.burst(10)
                client.read()
            self.check_log(server)
            server.stop()
            self._expect(server, STOPPED)
        except (raw.Silent, raw.Closed, CoatiFailed) as error:
            self.history.fault(f"{type(error).__name__}: {error} {server.log()[-2000:]}")
        finally:
            server.close()
        self.end()

    # Full disks.

    def full_round(self, mode: str) -> None:
        """On a small disk: filled up (`log`), filled up but the logs elsewhere (`snapshots`), filled by the `load`."""
        reserve = self.scratch / "reserve"
        fill(reserve, left_bytes=ROOM_BYTES)
        self.restart()
        ballast = self.scratch / "ballast"
        if mode != "load":
            fill(ballast, left_bytes=self.dice.randrange(400_000))
        server = self.server()
        try:
            process = server.launch()
            if not wait_ready(server, process):
                self._expect(server, UNABLE_TO_ACCESS_DATADIR, DIRECTORY_IS_BROKEN)
            elif mode == "snapshots":
                self._go_on_without_snapshots(server, ballast)
            else:
                self._run_full(server, process)
        except (raw.Silent, raw.Closed, CoatiFailed) as error:
            self.history.fault(f"{type(error).__name__}: {error} {server.log()[-2000:]}")
        finally:
            server.close()
        self.end()
        self.check(f"full disk, {mode}")
        self._start_full()
        ballast.unlink(missing_ok=True)
        reserve.unlink()
        self.restart()
        self.counts["full disks"] += 1
        self.counts[f"full: {mode}"] += 1
        self.check(f"after a full disk, {mode}")

    def _run_full(self, server: CoatiServer, process: subprocess.Popen[bytes]) -> None:
        ends = time.monotonic() + END_TIMEOUT_S
        with contextlib.suppress(raw.Closed):
            self.begin(server)
            self.load(server, lambda: time.monotonic() > ends)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_TIMEOUT_S)
        self._expect(server, SEVERE_LOG_ERROR, LOG_IS_BROKEN)

    def _go_on_without_snapshots(self, server: CoatiServer, ballast: Path) -> None:
        directory = self.data_dir / "version-2"
        self.begin(server)
        ends = time.monotonic() + END_TIMEOUT_S
        self.load(server, lambda: SNAPSHOT_FAILED in server.log() or time.monotonic() > ends)
        if SNAPSHOT_FAILED not in server.log():
            self.history.fault(f"no snapshot failed on a full disk: {server.log()[-2000:]}")
        self._read_all()
        if not wait_until(lambda: not list(directory.glob("*.tmp"))):
            self.history.fault("a snapshot that failed is left half written")
        before = newest_snapshot(directory)
        ballast.unlink()
        self.load(server, lambda: newest_snapshot(directory) > before or time.monotonic() > ends)
        if newest_snapshot(directory) == before:
            self.history.fault("no snapshot was made when there was room again")
        self._read_all()
        self.check_log(server)
        server.stop()
        self._expect(server, STOPPED)

    def _read_all(self) -> None:
        for client in self.clients:
            if client.is_connected:
                client.read()

    def _start_full(self) -> None:
        """While the disk is full a server either starts or says why not; it harms nothing."""
        server = self.server()
        try:
            if wait_ready(server, server.launch()):
                self.counts["started on a full disk"] += 1
            else:
                self._expect(server, UNABLE_TO_ACCESS_DATADIR, DIRECTORY_IS_BROKEN)
            server.kill9()
        finally:
            server.close()
        self.end()


def _level(line: str) -> str:
    return line.partition(" ")[2].partition(" ")[0]


def last_of(log: str) -> str:
    """The last line."""
    return (log.splitlines() or [""])[-1]


def wait_until(holds: Callable[[], bool]) -> bool:
    """Asks again and again; False if it is not so in time."""
    never = threading.Event()
    ends = time.monotonic() + END_TIMEOUT_S
    while not holds():
        if time.monotonic() > ends:
            return False
        never.wait(0.02)
    return True


def wait_ready(server: CoatiServer, process: subprocess.Popen[bytes]) -> bool:
    """Until it serves; False if it ends instead."""
    ends = time.monotonic() + END_TIMEOUT_S
    while not peers.serves(server.host, server.port):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            return False
        if time.monotonic() > ends:
            raise raw.Silent(f"not ready in {END_TIMEOUT_S:g} s: {server.log()[-2000:]}")
    return True


def durable_zxid(directory: Path, floor: int, durable: Mapping[str, int]) -> int:
    """The last zxid which was synced, if each file kept only so many bytes of what came after `floor`."""
    zxid = floor
    for entry in read_log(directory, floor):
        if entry.end > durable.get(entry.file, 0):
            break
        zxid = entry.zxid
    return zxid


def tear(directory: Path, durable: Mapping[str, int], dice: Random) -> bool:
    """Takes some of what was not synced away from the newest log, as a loss of power may; False if there is nothing."""
    path = log_files(directory)[-1][1]
    data = path.read_bytes()
    end = len(data.rstrip(b"\x00"))
    kept = durable.get(path.name, 0)
    if kept >= end:
        return False
    cut = dice.randint(kept, end)
    path.write_bytes(data[:cut] + bytes(len(data) - cut))
    return True


def newest_snapshot(directory: Path) -> int:
    """Its zxid."""
    names = [path.name for path in directory.glob("snapshot.*") if not path.name.endswith(".tmp")]
    return max((int(name.split(".")[1], 16) for name in names), default=-1)


def fill(path: Path, *, left_bytes: int) -> None:
    """Takes what the disk has, but for so much."""
    space = os.statvfs(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, max(space.f_bavail * space.f_frsize - left_bytes, 1))


# The command line.


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """For one storm."""
    with tempfile.TemporaryDirectory(prefix="coatistorm-") as name:
        yield Path(name)


def progress(what: str, storm: Storm) -> None:
    """One line, to those who wait."""
    print(f"{what}: zxid {storm.history.tree.zxid:#x}", file=sys.stderr, flush=True)


def kills(seed: int, count: int, *, java: bool) -> Counter[str]:
    """So many kills of the server of one directory. Raises Failed."""
    with scratch_directory() as scratch:
        storm = Storm(seed, scratch)
        number = 0
        while storm.counts["kills"] < count:
            number += 1
            storm.kill_round(number)
            if java and number % JAVA_EVERY == 0:
                storm.compare_with_java()
            progress(f"round {number}", storm)
        storm.finish()
        return storm.counts


def errors(seed: int, count: int) -> Counter[str]:
    """So many servers with failing calls. Raises Failed."""
    total: Counter[str] = Counter()
    dice = Random(seed)
    for first in range(0, count, ERRORS_A_DIRECTORY):
        with scratch_directory() as scratch:
            storm = Storm(seed + first, scratch)
            for _ in range(first, min(count, first + ERRORS_A_DIRECTORY)):
                injection = strace.draw(dice, with_attached=strace.may_attach())
                storm.error_round(injection)
                progress(str(injection), storm)
            storm.finish()
            total += storm.counts
    return total


FULL_MODES: Final = ("log", "snapshots", "load")


def full_here(seed: int, count: int) -> Counter[str]:
    """So many full disks; needs the right to mount. Raises Failed."""
    total: Counter[str] = Counter()
    for number in range(count):
        mode = FULL_MODES[(seed + number) % len(FULL_MODES)]
        with scratch_directory() as scratch:
            disk = scratch / "disk"
            disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "none", str(disk)], check=True)
            try:
                cfg = {"dataLogDir": str(scratch / "logs")} if mode == "snapshots" else {}
                storm = Storm(seed + number, disk, ballast=1000, cfg=cfg)
                storm.full_round(mode)
                storm.finish()
            finally:
                subprocess.run(["umount", str(disk)], check=True)
            total += storm.counts
    return total


def mount_prefix() -> list[str] | None:
    """What to put before a command so that it may mount, on mounts of its own; None if nothing helps."""
    for prefix in (["unshare", "-m"], ["unshare", "-rm"]):
        with scratch_directory() as scratch:
            command = [*prefix, "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(scratch)]
            with contextlib.suppress(OSError):
                if subprocess.run(command, capture_output=True).returncode == 0:
                    return prefix
    return None


def full(seed: int, count: int, prefix: list[str]) -> Counter[str]:
    """The same in a process of its own that may mount. Raises Failed."""
    command = [*prefix, sys.executable, "-m", "tools.storm_process", "--full-here", str(count), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}`:\n{done.stdout}")
    return Counter(json.loads(done.stdout.splitlines()[-1]))


def summary(counts: Counter[str]) -> str:
    """All of them in words."""
    c = counts
    modes = ", ".join(f"{mode} {c[f'at {mode}']}" for mode in dict.fromkeys(KILL_MODES) if mode != STOP)
    errors_ended = f"{c['ended at start']} at the start, {c['ended by the log']} by the log"
    disks = ", ".join(f"{mode} {c[f'full: {mode}']}" for mode in FULL_MODES)
    return (
        f"{c['kills']} kills under load (at {modes}) and {c['kills at start']} while starting, "
        f"{c[f'at {STOP}']} stops; {c['errors']} servers with failing calls, {errors_ended}, "
        f"{c['went on with a warning']} went on, "
        f"{c['errors not reached']} killed before, {c['tails torn']} tails torn; "
        f"{c['full disks']} full disks ({disks}); "
        f"{c['writes']} writes, {c['acknowledged']} acknowledged, {c['txns']} txns, "
        f"{c['reads']} reads, {c['events']} events, {c['resumed']} sessions resumed, "
        f"{c['expired']} expired; {c['log']} logs, {c['snapshot']} snapshots, {c['half']} half ones, "
        f"{c['purged']} files purged; {c['trees compared']} trees compared, {c['Java compared']} more as Java has them"
    )


def run(options: argparse.Namespace) -> tuple[Counter[str], list[str]]:
    """The counts, and what could not be covered."""
    total: Counter[str] = Counter()
    missing: list[str] = []
    if options.kills:
        no_java = javapeer.why_missing(JAVA)
        if no_java is not None:
            missing.append(f"Java: {no_java}")
        total += kills(options.seed, options.kills, java=no_java is None)
    if options.errors:
        no_strace = strace.why_not()
        if no_strace is not None:
            missing.append(f"failing calls: {no_strace}")
        else:
            total += errors(options.seed, options.errors)
            if not strace.may_attach():
                missing.append("failing openat: this user may not attach strace")
    if options.full:
        prefix = mount_prefix()
        if prefix is None:
            missing.append("full disks: nothing may be mounted here")
        else:
            total += full(options.seed, options.full, prefix)
    return total, missing


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storms and notes them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--errors", type=int, default=48, help="servers with calls that fail")
    parser.add_argument("--full", type=int, default=6, help="full disks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--date", default=None, help="of the line in the ledger; today's if it is not given")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--full-here", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.full_here:
        print(json.dumps(full_here(options.seed, options.full_here)))
        return 0
    started = time.monotonic()
    total, missing = run(options)
    date = options.date or datetime.datetime.now(datetime.UTC).date().isoformat()
    amount = f"{(time.monotonic() - started) / 60:.0f} min: {summary(total)}"
    for reason in missing:
        amount += f"; not covered: {reason}"
    print(amount)
    command = f"python -m tools.storm_process --seed {options.seed} --kills {options.kills}"
    command = f"`{command} --errors {options.errors} --full {options.full}`"
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | process storm | {command} | {amount} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A simulated Disk: inodes, un-synced writes and directory entries, so that power can be lost at any call.

What a sync has not covered may survive a crash or not, in any combination: writes are kept, lost or torn, each by
itself, and so are the creations, renames and removals of a directory that was not synced. Deterministic: the dice come
from the caller. Errors are injected at the k-th call of a kind. Jobs run when the simulation says so.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from coati.seams import ReadFile

SECTOR_BYTES: Final = 512

_Done: TypeAlias = Callable[[BaseException | None], None]


class PowerCut(BaseException):
    """The machine is off. No handler of the code under test may stop it; the disk is dead until `crash`."""


class _Inode:
    """A file: what programs see, what is on the platter, and the changes on the way from one to the other."""

    __slots__ = ("durable", "kind", "live", "pending", "stranded")

    def __init__(self, kind: str = "file") -> None:
        self.kind = kind
        self.live = bytearray()
        self.durable = bytearray()
        self.pending: list[_Change] = []
        # After a failed sync the kernel takes the pages for clean: no later sync writes them.
        self.stranded: list[_Change] = []


class _Change:
    """One un-synced change of a file: data at an offset, or (data None) the new size."""

    __slots__ = ("data", "offset")

    def __init__(self, offset: int, data: bytes | None) -> None:
        self.offset = offset
        self.data = data

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            _resize(content, self.offset)
        else:
            _write(content, self.offset, self.data)


class _Move:
    """One un-synced change of a directory: `gone` disappears (or is empty), `name` appears as `inode`."""

    __slots__ = ("gone", "inode", "name")

    def __init__(self, gone: str, name: str, inode: _Inode | None) -> None:
        self.gone = gone
        self.name = name
        self.inode = inode

    def apply(self, entries: dict[str, _Inode]) -> None:
        if self.gone:
            entries.pop(self.gone, None)
        if self.inode is not None:
            entries[self.name] = self.inode


class _Directory:
    __slots__ = ("durable", "live", "pending")

    def __init__(self) -> None:
        self.live: dict[str, _Inode] = {}
        self.durable: dict[str, _Inode] = {}
        self.pending: list[_Move] = []

    def change(self, move: _Move) -> None:
        move.apply(self.live)
        self.pending.append(move)


class Fault:
    """An error of the `at`-th call of one `kind` (1 is the first) on paths that contain `where`.

    A write does as much as `written_bytes` before it fails.
    """

    __slots__ = ("at", "errno", "kind", "seen", "where", "written_bytes")

    def __init__(self, kind: str, at: int, error: int, *, where: str = "", written_bytes: int = 0) -> None:
        self.kind = kind
        self.at = at
        self.errno = error
        self.where = where
        self.written_bytes = written_bytes
        self.seen = 0


class SimFile:
    """coati.seams.File."""

    def __init__(self, disk: SimDisk, path: str, inode: _Inode) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._life = disk.lives
        self._is_closed = False

    def append(self, data: bytes) -> None:
        self.write_at(len(self._inode.live), data)

    def write_at(self, offset: int, data: bytes) -> None:
        fault = self._enter("write")
        if fault is not None:
            data, error = data[: fault.written_bytes], OSError(fault.errno, os.strerror(fault.errno), self._path)
            self._change(_Change(offset, data))
            raise error
        self._change(_Change(offset, data))

    def allocate(self, size: int) -> None:
        self._enter_or_fail("allocate")
        if size > len(self._inode.live):
            self._change(_Change(size, None))

    def truncate(self, size: int) -> None:
        self._enter_or_fail("truncate")
        self._change(_Change(size, None))

    def size(self) -> int:
        return len(self._inode.live)

    def sync(self) -> float:
        fault = self._enter("sync")
        inode = self._inode
        if fault is not None:
            inode.stranded += inode.pending
            inode.pending = []
            raise OSError(fault.errno, os.strerror(fault.errno), self._path)
        for change in inode.pending:
            change.apply(inode.durable)
        inode.pending = []
        return self._disk.sync_ms

    def forget(self, end: int) -> None:
        """Memory is not simulated."""

    def close(self) -> None:
        self._is_closed = True

    def _change(self, change: _Change) -> None:
        change.apply(self._inode.live)
        self._inode.pending.append(change)

    def _enter(self, kind: str) -> Fault | None:
        if self._is_closed or self._life != self._disk.lives:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._path)
        return self._disk.enter(kind, self._path)

    def _enter_or_fail(self, kind: str) -> None:
        fault = self._enter(kind)
        if fault is not None:
            raise OSError(fault.errno, os.strerror(fault.errno), self._path)


class SimReadFile:
    """coati.seams.ReadFile."""

    def __init__(self, disk: SimDisk, path: str, inode: _Inode) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._pos = 0

    def read(self, max_bytes: int) -> bytes:
        self._disk.enter_or_fail("read", self._path)
        data = bytes(memoryview(self._inode.live)[self._pos : self._pos + max_bytes])
        self._pos += len(data)
        return data

    def close(self) -> None:
        return


class SimLock:
    """coati.seams.Lock."""

    def __init__(self, disk: SimDisk, path: str) -> None:
        self._disk = disk
        self._path = path

    def release(self) -> None:
        self._disk.locked.pop(self._path, None)


class SimDisk:
    """coati.seams.Disk in memory.

    `calls` counts what changes or syncs; `crash_at` cuts the power before the call of that number. `on_call` is told of
    each such call before it is done: (kind, path). `schedule`, if given, is handed `run_job` once for every job, so
    that a simulation runs it at its own time; without one, `run` does all that waits.
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], None] | None = None) -> None:
        self.calls = 0
        self.crash_at = -1
        self.on_call: Callable[[str, str], None] | None = None
        self.faults: list[Fault] = []
        self.sync_ms = 0.0
        self.lives = 0
        self.locked: dict[str, int] = {}
        self._is_off = False
        self._directories: dict[str, _Directory] = {"/": _Directory()}
        self._schedule = schedule
        self._jobs: deque[tuple[Callable[[], None], _Done]] = deque()
        self._finished: deque[tuple[_Done, BaseException | None]] = deque()

    # coati.seams.Disk

    def create(self, path: str) -> SimFile:
        self.enter_or_fail("create", path)
        directory, name = self._locate(path)
        if name in directory.live:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        inode = _Inode()
        directory.change(_Move("", name, inode))
        return SimFile(self, path, inode)

    def open_append(self, path: str) -> SimFile:
        return SimFile(self, path, self._inode(path))

    def open_read(self, path: str) -> ReadFile:
        self.enter_or_fail("open", path)
        return SimReadFile(self, path, self._inode(path))

    def list(self, directory: str) -> list[str]:
        return sorted(self._directory(directory).live)

    def exists(self, path: str) -> bool:
        if path in self._directories:
            return True
        parent, _, name = path.rpartition("/")
        return parent in self._directories and name in self._directories[parent].live

    def is_file(self, path: str) -> bool:
        return self._inode(path).kind == "file"

    def size(self, path: str) -> int:
        return len(self._inode(path).live)

    def rename(self, source: str, target: str) -> None:
        self.enter_or_fail("rename", source)
        directory, old = self._locate(source)
        other, new = self._locate(target)
        assert other is directory
        directory.change(_Move(old, new, self._inode(source)))

    def remove(self, path: str) -> None:
        self.enter_or_fail("remove", path)
        self._inode(path)
        directory, name = self._locate(path)
        directory.change(_Move(name, "", None))

    def make_dirs(self, path: str) -> None:
        self.enter_or_fail("make_dirs", path)
        while path and path not in self._directories:
            self._directories[path] = _Directory()
            path = path.rpartition("/")[0]

    def sync_dir(self, path: str) -> None:
        self.enter_or_fail("sync_dir", path)
        directory = self._directory(path)
        for move in directory.pending:
            move.apply(directory.durable)
        directory.pending = []

    def lock(self, path: str) -> SimLock:
        if path in self.locked:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), path)
        directory, name = self._locate(path)
        if name not in directory.live:
            directory.change(_Move("", name, _Inode()))
        self.locked[path] = self.lives
        return SimLock(self, path)

    def submit(self, work: Callable[[], None], done: _Done) -> None:
        self._jobs.append((work, done))
        if self._schedule is not None:
            self._schedule(self.run_job)

    def drain(self) -> None:
        while self._jobs:
            self._work()

    # What the simulation does

    def run_job(self) -> None:
        """Runs one job and tells its end; one that `drain` has run is only told."""
        if not self._finished:
            self._work()
        if self._finished:
            done, error = self._finished.popleft()
            done(error)

    def run(self) -> None:
        """Runs jobs until none waits, those too that come meanwhile."""
        while self._jobs or self._finished:
            self.run_job()

    def _work(self) -> None:
        if not self._jobs:
            return
        work, done = self._jobs.popleft()
        error: BaseException | None = None
        try:
            work()
        except Exception as caught:
            error = caught
        self._finished.append((done, error))

    def kill(self) -> None:
        """The process dies, the machine goes on: nothing is lost that was written, jobs and locks are gone."""
        self.lives += 1
        self._jobs.clear()
        self._finished.clear()
        self.locked.clear()
        self.faults = []
        self.crash_at = -1
        self.on_call = None
        self._is_off = False

    def crash(self, dice: Random, mode: str = "random") -> None:
        """Power is lost and comes back. What was not synced is lost ("lose"), kept ("keep"), or, each change by
        itself, kept, lost or cut short ("random"), or kept by sectors of 512 bytes ("sectors").
        """
        self.kill()
        inodes: dict[int, _Inode] = {}
        for path in sorted(self._directories):
            directory = self._directories[path]
            for inode in [*directory.durable.values(), *(move.inode for move in directory.pending)]:
                if inode is not None:
                    inodes[id(inode)] = inode
            for move in directory.pending:
                if mode == "keep" or (mode != "lose" and dice.random() < 0.5):
                    move.apply(directory.durable)
            directory.pending = []
            directory.live = dict(directory.durable)
        for inode in inodes.values():
            for change in inode.stranded + inode.pending:
                _survive(change, inode.durable, dice, mode)
            inode.stranded = []
            inode.pending = []
            inode.live = bytearray(inode.durable)

    def clone(self, schedule: Callable[[Callable[[], None]], None] | None = None) -> SimDisk:
        """The same disk again, without jobs, locks and faults: to crash it in more than one way."""
        other = SimDisk(schedule)
        copies: dict[int, _Inode] = {}

        def copy(inode: _Inode) -> _Inode:
            if id(inode) not in copies:
                twin = _Inode(inode.kind)
                twin.live = bytearray(inode.live)
                twin.durable = bytearray(inode.durable)
                twin.pending = list(inode.pending)
                twin.stranded = list(inode.stranded)
                copies[id(inode)] = twin
            return copies[id(inode)]

        for path, directory in self._directories.items():
            twin = _Directory()
            twin.live = {name: copy(inode) for name, inode in directory.live.items()}
            twin.durable = {name: copy(inode) for name, inode in directory.durable.items()}
            twin.pending = [
                _Move(move.gone, move.name, None if move.inode is None else copy(move.inode))
                for move in directory.pending
            ]
            other._directories[path] = twin
        return other

    def put(self, path: str, data: bytes, *, kind: str = "file") -> None:
        """Puts a file there, durable, as something else than the code under test did; `kind` may be "dir" or "link"."""
        self._make_parent(path)
        inode = _Inode(kind)
        inode.live = bytearray(data)
        inode.durable = bytearray(data)
        directory, name = self._locate(path)
        directory.live[name] = inode
        directory.durable[name] = inode

    def get(self, path: str) -> bytes:
        """What a program reads from a file now."""
        return bytes(self._inode(path).live)

    def fail(self, kind: str, at: int, error: int, *, where: str = "", written_bytes: int = 0) -> Fault:
        """Lets the `at`-th call of a kind from now on fail; see Fault."""
        fault = Fault(kind, at, error, where=where, written_bytes=written_bytes)
        self.faults.append(fault)
        return fault

    # What the files call

    def enter(self, kind: str, path: str) -> Fault | None:
        """Counts a call and returns the fault it has to suffer, if any. Raises PowerCut."""
        if self._is_off:
            raise PowerCut
        if kind not in ("read", "open"):
            self.calls += 1
            if self.on_call is not None:
                self.on_call(kind, path)
            if self.calls == self.crash_at:
                self._is_off = True
                raise PowerCut
        hit: Fault | None = None
        for fault in self.faults:
            if fault.kind == kind and fault.where in path:
                fault.seen += 1
                if fault.seen == fault.at:
                    hit = fault
        return hit

    def enter_or_fail(self, kind: str, path: str) -> None:
        fault = self.enter(kind, path)
        if fault is not None:
            raise OSError(fault.errno, os.strerror(fault.errno), path)

    def _directory(self, path: str) -> _Directory:
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._directories[path]

    def _locate(self, path: str) -> tuple[_Directory, str]:
        parent, _, name = path.rpartition("/")
        return self._directory(parent), name

    def _inode(self, path: str) -> _Inode:
        directory, name = self._locate(path)
        if name not in directory.live:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return directory.live[name]

    def _make_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent and parent not in self._directories:
            self._directories[parent] = _Directory()
            parent = parent.rpartition("/")[0]


def _survive(change: _Change, content: bytearray, dice: Random, mode: str) -> None:
    if mode == "keep":
        change.apply(content)
    elif mode == "random":
        fate = dice.random()
        if fate < 0.4:
            change.apply(content)
        elif fate < 0.7 and change.data:
            _write(content, change.offset, change.data[: dice.randrange(len(change.data))])
    elif mode == "sectors":
        if change.data is None:
            if dice.random() < 0.5:
                change.apply(content)
            return
        start = 0
        while start < len(change.data):
            stop = min(len(change.data), start + SECTOR_BYTES - (change.offset + start) % SECTOR_BYTES)
            if dice.random() < 0.5:
                _write(content, change.offset + start, change.data[start:stop])
            start = stop


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if not data:
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data

"""The real Disk: files by `os`, and one worker thread for all that blocks.

The only file of ours that touches `os` for storage, and the only one with a thread. Must not know formats. A write is
whole or raises; nothing is retried, above all no failed fsync (its pages may be marked clean though they are not on the
disk). Jobs run in the order of `submit`; their `done`s are posted to the loop's thread in that order.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Event, Thread
from time import monotonic
from typing import Final, TypeAlias

_Job: TypeAlias = tuple[Callable[[], None], Callable[[BaseException | None], None]]
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o666  # and the umask, as Java's FileOutputStream
# macOS has neither; its fsync is what there is.
_fdatasync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)
_MAX_WAKES: Final = 4096
_HAS_FALLOCATE: Final = hasattr(os, "posix_fallocate")
_HAS_FADVISE: Final = hasattr(os, "posix_fadvise")
# The largest page of a common processor.
_PAGE_BYTES: Final = 65536


class RealFile:
    """coati.seams.File."""

    __slots__ = ("_end", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size

    def append(self, data: bytes) -> None:
        self.write_at(self._end, data)

    def write_at(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._fd, data, offset)
        if written < len(data):
            self._write_rest(offset, data, written)
        self._end = max(self._end, offset + len(data))

    def _write_rest(self, offset: int, data: bytes, written: int) -> None:
        """After a short write (a full disk, a signal): the next one either goes on or says why not."""
        rest = memoryview(data)
        while written < len(data):
            count = os.pwrite(self._fd, rest[written:], offset + written)
            if count == 0:
                raise OSError(f"wrote 0 of {len(data) - written} bytes")
            written += count

    def allocate(self, size: int) -> None:
        if size <= self._end:
            return
        if not self._reserve(size):
            os.pwrite(self._fd, b"\x00", size - 1)  # all that FilePadding does
        self._end = size

    def _reserve(self, size: int) -> bool:
        """Takes the space now, so that a full disk shows here and not in the middle of an entry."""
        if not _HAS_FALLOCATE:
            return False
        try:
            os.posix_fallocate(self._fd, self._end, size - self._end)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            return False
        return True

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._end = size

    def size(self) -> int:
        return self._end

    def sync(self) -> float:
        started = monotonic()
        _fdatasync(self._fd)
        return (monotonic() - started) * 1000.0

    def forget(self, end: int) -> None:
        # Whole pages only: the rest of the last one is about to be written, and would have to be read again.
        if _HAS_FADVISE:
            os.posix_fadvise(self._fd, 0, end - end % _PAGE_BYTES, os.POSIX_FADV_DONTNEED)

    @property
    def is_closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealReadFile:
    """coati.seams.ReadFile."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, max_bytes: int) -> bytes:
        return os.read(self._fd, max_bytes)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealLock:
    """coati.seams.Lock: flock, which ends with the process. The file stays, as removing it would be a race."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealDisk:
    """coati.seams.Disk on `os` and one worker thread, which starts with the first job.

    `post(callback)` runs a callable soon on the loop's thread: `loop.call_soon_threadsafe`.
    The worker sleeps on a pipe, a byte a job. Waking it by a lock or a queue takes longer, since it then runs into
    the interpreter's lock while the waker still has it; a lone write waits for all of that.
    """

    def __init__(self, post: Callable[[Callable[[], None]], object]) -> None:
        self._post = post
        self._jobs: deque[_Job | None] = deque()
        self._worker: Thread | None = None
        self._wake_fd = -1

    def create(self, path: str) -> RealFile:
        return RealFile(os.open(path, _CREATE, _MODE))

    def open_append(self, path: str) -> RealFile:
        return RealFile(os.open(path, _APPEND))

    def open_read(self, path: str) -> RealReadFile:
        return RealReadFile(os.open(path, _READ))

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_file(self, path: str) -> bool:
        return stat.S_ISREG(os.lstat(path).st_mode)

    def size(self, path: str) -> int:
        return os.lstat(path).st_size

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        os.remove(path)

    def make_dirs(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.make_dirs(parent)
        os.mkdir(path)
        self.sync_dir(parent)

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str) -> RealLock:
        fd = os.open(path, _LOCK, _MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return RealLock(fd)

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        if self._worker is None:
            # Not waited for at the end of the process: what it has not synced was not acknowledged.
            read_fd, self._wake_fd = os.pipe()
            self._worker = Thread(target=self._run, args=(read_fd,), name="coati-disk", daemon=True)
            self._worker.start()
        self._put((work, done))

    def _put(self, job: _Job | None) -> None:
        self._jobs.append(job)
        os.write(self._wake_fd, b"x")

    def drain(self) -> None:
        if self._worker is None:
            return
        reached = Event()
        self._put((reached.set, _ignore))
        reached.wait()

    def close(self) -> None:
        """Ends the worker after the jobs it has."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self._put(None)
            worker.join()
            os.close(self._wake_fd)

    def _run(self, read_fd: int) -> None:
        try:
            while True:
                for _ in range(len(os.read(read_fd, _MAX_WAKES))):
                    job = self._jobs.popleft()
                    if job is None:
                        return
                    self._do(*job)
        finally:
            os.close(read_fd)

    def _do(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:
            # Whatever it is: the job was not done, and the loop's thread has to know.
            error = caught
        self._answer(partial(done, error))

    def _answer(self, callback: Callable[[], None]) -> None:
        try:
            self._post(callback)
        except RuntimeError:
            # The loop is closed, so nobody waits any more; jobs that are left still have to be done.
            return


def _ignore(error: BaseException | None) -> None:
    """The `done` of a job whose end is noticed otherwise."""

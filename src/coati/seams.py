"""The only doors to the world: Clock, Disk and Entropy as Protocols, no code.

The real ones live in `server/` and `storage/disk.py`, the simulated ones in `testing/`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Time in milliseconds. `monotonic_ms` never jumps; `wall_ms` is Unix time, read only when a leader prepares."""

    def monotonic_ms(self) -> int: ...

    def wall_ms(self) -> int: ...


class Entropy(Protocol):
    """The part of `random.Random` in use: jitter of the snapshot interval."""

    def randrange(self, stop: int, /) -> int: ...


class File(Protocol):
    """A file open for writing. All methods block; they run on the disk's worker or at start-up.

    Raises OSError when the disk does. A write is whole or raises; after that the file's end is unknown.
    """

    def append(self, data: bytes) -> None: ...

    def write_at(self, offset: int, data: bytes) -> None: ...

    def allocate(self, size: int) -> None:
        """Grows the file to `size` bytes, the new part reading as zeros; never shrinks it."""

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def sync(self) -> float:
        """fdatasync: when it returns, what was written survives power loss. Returns the time it took in ms."""

    def forget(self, end: int) -> None:
        """Nobody reads the first `end` bytes soon: those that are durable need not stay in memory. A hint, no more."""

    def close(self) -> None: ...


class ReadFile(Protocol):
    """A file open for reading."""

    def read(self, max_bytes: int) -> bytes:
        """At most `max_bytes` from the current position; empty at the end."""

    def close(self) -> None: ...


class Lock(Protocol):
    """A file locked against other processes."""

    def release(self) -> None: ...


class Disk(Protocol):
    """Files and directories by path, and one worker that runs blocking jobs in order.

    All raise OSError when the disk does. Creating, renaming and removing survive power loss only after `sync_dir`.
    """

    def create(self, path: str) -> File:
        """A new, empty file; FileExistsError if the name is taken."""

    def open_append(self, path: str) -> File: ...

    def open_read(self, path: str) -> ReadFile: ...

    def list(self, directory: str) -> list[str]:
        """The names in a directory, sorted."""

    def exists(self, path: str) -> bool: ...

    def is_file(self, path: str) -> bool:
        """Whether it is a plain file: no directory, no symbolic link."""

    def size(self, path: str) -> int: ...

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def make_dirs(self, path: str) -> None:
        """Makes a directory and its missing parents; durable when it returns."""

    def sync_dir(self, path: str) -> None: ...

    def lock(self, path: str) -> Lock:
        """Locks a file, made if missing, against other processes; BlockingIOError if another one holds it."""

    def submit(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """Runs `work` on the disk's worker, then `done` with its error (or None) on the caller's own thread."""

    def drain(self) -> None:
        """Blocks until the worker has no job left. Their `done`s come as usual, some of them later."""

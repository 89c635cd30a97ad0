"""The machine of one server, where it is worse than those of the others: a small disk, a clock that is wrong.

Knows mounts, and the file that `shifted_clock.py` reads. A slow disk is `strace.Delay`. Must not import coati, nor know
what servers do with their machines.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tools.namespaces import enter, unshare

CLONE_NEWNS: Final = 0x20000
OWN_MOUNTS: Final = "/proc/thread-self/ns/mnt"
LEAVE_S: Final = 10.0
_SHIFT: Final = struct.Struct(">q")


class SmallDisks:
    """File systems of some megabytes in memory, which only this thread and its children see. Linux and root.

    The thread that enters has mounts of its own until the end, and must not have started others that go on then: it
    goes back to the mounts it had. What was mounted goes with the last process that sees it.
    """

    def __init__(self, megabytes: int) -> None:
        self.megabytes = megabytes
        self._before = -1
        self._directory = ""

    def __enter__(self) -> Self:
        self._directory = os.getcwd()
        self._before = os.open(OWN_MOUNTS, os.O_RDONLY)
        try:
            unshare(CLONE_NEWNS)
            # Or they would be seen outside as well.
            _mount("--make-rprivate", "/")
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        before, self._before = self._before, -1
        never = threading.Event()
        ends = time.monotonic() + LEAVE_S
        try:
            # A thread that was joined may still be there for a moment, and until then the kernel lets nobody go.
            while True:
                try:
                    enter(before, CLONE_NEWNS)
                    break
                except OSError:
                    if time.monotonic() > ends:
                        raise
                    never.wait(0.01)
            os.chdir(self._directory)
        finally:
            os.close(before)

    def add(self, path: Path) -> None:
        """One at `path`."""
        path.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={self.megabytes}m", "none", str(path))


def why_no_small_disks() -> str | None:
    """Why nothing can be mounted here; None if it can."""
    try:
        with tempfile.TemporaryDirectory() as name, SmallDisks(1) as disks:
            disks.add(Path(name))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"nothing may be mounted here: {error}"
    return None


class WallClock:
    """The time of day of one server: so much before or behind the machine's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_SHIFT.pack(0))

    def shift(self, ms: int) -> None:
        """It jumps there."""
        # Into the same file, which the server has mapped.
        with self.path.open("r+b", buffering=0) as file:
            file.write(_SHIFT.pack(ms))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)

"""strace around a server: system calls that fail on demand, and from its record what the disk was told to keep.

Knows the calls that `storage/disk.py` makes (pwrite, fdatasync, fsync of directories, fallocate, rename, open) and the
lines that strace 6 prints. Must not know protocol or log format.
Counts are strace's: each thread has its own, so that a small one also meets the start, which the main thread does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

TRACED: Final = "pwrite64,fdatasync,fsync,fallocate,?rename,?renameat,?renameat2"
# What each may fail with, and how many of them come in a round, roughly.
CALLS: Final = {
    "fdatasync": (("EIO",), 120),
    "pwrite64": (("EIO", "ENOSPC"), 120),
    "fsync": (("EIO",), 12),
    "fallocate": (("ENOSPC", "EIO"), 12),
    "?rename,?renameat,?renameat2": (("EIO", "ENOSPC"), 5),
    # Counted from the moment when it is attached: before, it is Python that opens files.
    "openat": (("EIO", "ENOSPC", "EMFILE"), 8),
}  # fmt: skip
# More than a storm waits for, less than strace takes: only the record counts.
NEVER: Final = 60_000
_PWRITE: Final = re.compile(r"pwrite64\(\d+<([^>]*)>, .*, \d+, (\d+)\) += (\d+)")
_SYNCED: Final = re.compile(r"fdatasync\(\d+<([^>]*)>\) += 0")
_PATHS: Final = re.compile(r'<(/[^>]*)>|"(/[^"]*)"')
_UNFINISHED: Final = " <unfinished ...>"
_RESUMED: Final = re.compile(r"<\.\.\. \w+ resumed>")


@dataclass(frozen=True, slots=True)
class Injection:
    """Which calls fail, with what, from the first one on or only that."""

    calls: str
    error: str
    first: int
    is_lasting: bool

    @property
    def is_attached(self) -> bool:
        """Only once the server serves."""
        return self.calls == "openat"

    def options(self, record: Path) -> list[str]:
        """The command line of strace, without the program."""
        when = f"{self.first}{'+' if self.is_lasting else ''}"
        traced = f"{TRACED},openat" if self.is_attached else TRACED
        inject = f"inject={self.calls}:error={self.error}:when={when}"
        return ["-f", "-y", "-s", "0", "-o", str(record), "-e", f"trace={traced}", "-e", inject]

    def command(self, record: Path) -> list[str]:
        """What to put before the server's command; the process stays the server's own."""
        return ["strace", "-D", "--seccomp-bpf", *self.options(record)]

    def __str__(self) -> str:
        return f"{self.calls} {self.error} at {self.first}{'+' if self.is_lasting else ''}"


@dataclass(frozen=True, slots=True)
class Delay:
    """Calls that take longer, by so much each."""

    calls: str
    delay_ms: int

    def options(self, record: Path) -> list[str]:
        """The command line of strace, without the program."""
        inject = f"inject={self.calls}:delay_enter={self.delay_ms * 1000}"
        return ["-f", "-o", str(record), "-e", f"trace={self.calls}", "-e", inject]


def delayed(record: Path) -> int:
    """How many calls were made to take longer."""
    return record.read_text(errors="replace").count("(DELAYED)") if record.exists() else 0


def draw(dice: Random, *, with_attached: bool = True) -> Injection:
    """Any of them; or of those only that need not be attached."""
    calls = dice.choice(sorted(CALLS if with_attached else CALLS.keys() - {"openat"}))
    errors, most = CALLS[calls]
    first = dice.choice((1, 1, 2, 2, 3, dice.randint(1, most), dice.randint(1, most), NEVER))
    return Injection(calls, dice.choice(errors), first, dice.random() < 0.5)


@dataclass(slots=True)
class Record:
    """What strace saw: paths on which a call was made to fail, and how far each file was synced."""

    failed: list[tuple[str, str]] = field(default_factory=list)
    durable: dict[str, int] = field(default_factory=dict)
    is_over: bool = False

    @property
    def has_failed_log(self) -> bool:
        """A call for a transaction log failed."""
        return any(Path(path).name.startswith("log.") for _, path in self.failed)


def read_record(path: Path, pid: int) -> Record:
    """What is there by now; `is_over` once the process `pid` has ended."""
    record = Record()
    written: dict[str, int] = {}
    unfinished: dict[str, str] = {}
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith(_UNFINISHED):
            unfinished[thread] = call.removesuffix(_UNFINISHED)
            continue
        if _RESUMED.match(call):
            call = unfinished.pop(thread, "") + _RESUMED.sub("", call)
        if thread == str(pid) and call.startswith("+++"):
            record.is_over = True
        _note(record, written, call)
    return record


def _note(record: Record, written: dict[str, int], call: str) -> None:
    if call.endswith("(INJECTED)"):
        # The last path: of an open the file itself, not the directory it is relative to; of a rename the target.
        found = [first or second for first, second in _PATHS.findall(call)]
        record.failed.append((call.partition("(")[0], found[-1] if found else ""))
    elif match := _PWRITE.search(call):
        name = Path(match[1]).name
        written[name] = max(written.get(name, 0), int(match[2]) + int(match[3]))
    elif match := _SYNCED.search(call):
        name = Path(match[1]).name
        record.durable[name] = written.get(name, 0)


class Attached:
    """strace on a server that runs already; ends with it."""

    def __init__(self, injection: Injection | Delay, record: Path, pid: int) -> None:
        """Returns when the calls are watched. Raises OSError if they may not be."""
        command = ["strace", *injection.options(record), "-p", str(pid)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        first = self._process.stderr.readline()
        if "attached" not in first:
            self.close()
            raise OSError(f"strace: {first.strip()}")

    def close(self) -> None:
        """The server is dead or goes on without."""
        self._process.terminate()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


def may_attach() -> bool:
    """Whether this user may trace a process that runs already."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return os.geteuid() == 0 or not scope.exists() or scope.read_text().strip() == "0"


def why_missing() -> str | None:
    """What has to be installed to make calls fail; None if all is there."""
    return "strace is not installed" if shutil.which("strace") is None else None


def why_refused() -> str | None:
    """Why this kernel lets nobody trace, as in many containers; None if it does."""
    done = subprocess.run(["strace", "-D", "--seccomp-bpf", "-f", "-o", os.devnull, "true"], capture_output=True)
    return None if done.returncode == 0 else f"strace cannot trace: {done.stderr.decode(errors='replace').strip()}"


def why_not() -> str | None:
    """Either of them."""
    return why_missing() or why_refused()


def why_not_attached() -> str | None:
    """Why no process that runs already can be traced; None if it can."""
    return why_not() or (None if may_attach() else "this user may not attach strace")

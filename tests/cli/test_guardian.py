"""The guardian alone: the times, the signals, the end of who started it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from coati.cli import guardian
from coati.cli.guardian import UNHEARD
from tests.interop.peers import eventually

FAR_S: Final = 1000.0
# Says that it is there, and hears no SIGTERM.
# Until then a shell has set its trap, on a busy machine too.
HEARS_S: Final = 1.5
DEAF: Final = "trap '' TERM; echo in > /dev/fd/$READY; while :; do sleep 0.02; done"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of the tests' process, which plays the guardian."""
    before = {number: signal.getsignal(number) for number in (*UNHEARD, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where a child says that it is there."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    monkeypatch.setenv("READY", str(write))
    yield read
    os.close(read)
    os.close(write)


class Coati:
    """The other end of the socket, in a thread. `says` is sent when `first` was heard; b"" hangs up."""

    def __init__(self, *says: bytes, first: bytes = b"P ", ready: int | None = None) -> None:
        self.ours, self.theirs = socket.socketpair()
        self._ready = ready
        self.heard = b""
        self._says = says
        self._first = first
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        is_told = False
        while not self.heard.endswith(b"\n") or b"E " not in self.heard:
            self.heard += self.ours.recv(4096)
            if not is_told and self._first in self.heard:
                is_told = True
                if self._ready is not None:
                    os.read(self._ready, 3)
                for line in self._says:
                    if not line:
                        self.ours.close()
                        return
                    self.ours.sendall(line + b"\n")
        self.ours.close()

    def guard(self, *command: str, term_s: float = FAR_S, kill_s: float = FAR_S, grace_s: float = 5.0) -> int:
        """Plays the guardian until its end; the child's exit code."""
        self._thread.start()
        try:
            return self.play(*command, term_s=term_s, kill_s=kill_s, grace_s=grace_s)
        finally:
            self.theirs.close()
            self._thread.join(10)

    def play(self, *command: str, term_s: float = FAR_S, kill_s: float = FAR_S, grace_s: float = 5.0) -> int:
        """The same with nobody at the other end."""
        now = time.monotonic()
        words = ["", str(self.theirs.fileno()), repr(now + term_s), repr(now + kill_s), repr(grace_s)]
        return guardian.main([*words, *command])


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["coati-no-such-command"], guardian.NOT_FOUND),
        (["/"], guardian.NOT_EXECUTABLE),
    ],
)
def test_a_child_s_end_is_told(command: list[str], code: int) -> None:
    coati = Coati()
    assert coati.guard(*command) == code
    assert coati.heard.split()[2:] == [b"E", b"%d" % code, b"0"]


def test_a_child_is_told_first_and_killed_when_its_time_is_up() -> None:
    coati = Coati()
    began = time.monotonic()
    assert coati.guard("sh", "-c", DEAF, term_s=HEARS_S, kill_s=HEARS_S + 0.2) == 128 + signal.SIGKILL
    assert time.monotonic() - began >= HEARS_S + 0.2
    assert coati.heard.split()[2:] == [b"T", b"E", b"137", b"1"]


def test_a_child_that_hears_may_clean_up() -> None:
    coati = Coati()
    assert coati.guard("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.02; done", term_s=HEARS_S) == 5
    assert coati.heard.endswith(b"T\nE 5 1\n")


def test_times_move_on_while_coati_hears_the_server() -> None:
    later = time.monotonic() + FAR_S
    coati = Coati(b"D %f %f" % (later, later))
    assert coati.guard("sh", "-c", "sleep 0.5; exit 3", term_s=0.4, kill_s=0.45) == 3


def test_what_was_told_to_end_gets_no_more_time() -> None:
    later = time.monotonic() + FAR_S
    coati = Coati(b"D %f %f" % (later, later), first=b"T\n")
    assert coati.guard("sh", "-c", DEAF, term_s=HEARS_S, kill_s=HEARS_S + 0.2) == 128 + signal.SIGKILL


def test_signals_are_passed_on() -> None:
    coati = Coati(b"S %d" % signal.SIGINT)
    # Whether it comes before or behind exec, it ends this child.
    assert coati.guard("sleep", "60") == 128 + signal.SIGINT
    assert coati.heard.endswith(b"E 130 0\n")


@pytest.mark.parametrize("end", [b"L", b""])
def test_a_loss_or_the_end_of_coati_ends_the_child_after_the_grace(end: bytes, ready: int) -> None:
    assert Coati(end, ready=ready).guard("sh", "-c", DEAF, grace_s=0.1) == 128 + signal.SIGKILL


def test_a_child_that_is_stopped_is_killed_all_the_same() -> None:
    assert Coati(b"S %d" % signal.SIGSTOP).guard("sleep", "60", term_s=0.2, kill_s=0.4) == 128 + signal.SIGTERM


def test_what_a_child_leaves_behind_ends_with_it() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        assert Coati().guard("sh", "-c", f"sleep 60 >/dev/fd/{write} & exit 0") == 0
        os.close(write)
        # Ends when nobody can write any more.
        assert os.read(read, 1) == b""
    finally:
        os.close(read)


def test_signals_that_are_ignored_stay_ignored_for_the_child() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert Coati().guard("sh", "-c", "kill -HUP $$; exit 4") == 4


@pytest.mark.parametrize(
    ("error", "code"), [(FileNotFoundError(), guardian.NOT_FOUND), (PermissionError(), guardian.NOT_EXECUTABLE)]
)
def test_what_the_child_does_before_the_command(error: OSError, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which plays the child, as far as the command that cannot be run."""

    def cannot_run(name: str, command: list[str]) -> None:
        assert (name, command) == ("coati-no-such-command", ["coati-no-such-command", "x"])
        # What the interpreter does with signals is not the command's.
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        raise error

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "setpgid", lambda pid, group: None)
    monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgid(os.getppid()))
    monkeypatch.setattr(os, "execvp", cannot_run)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(guardian, "_end_with_parent", lambda parent: None)
    coati = Coati()
    with coati.ours, coati.theirs, pytest.raises(SystemExit) as ended:
        coati.play("coati-no-such-command", "x")
    assert ended.value.code == code


def test_the_child_ends_with_the_guardian() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        far = repr(time.monotonic() + FAR_S)
        arguments = [guardian.__file__, str(theirs.fileno()), far, far, "5", "sleep", "60"]
        pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", *arguments], dict(os.environ))
        try:
            line = ours.makefile("rb").readline()
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert line.startswith(b"P ")
    eventually(lambda: _has_ended(int(line.split()[1])), "the child ends")


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Nobody may have reaped it yet.
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"


def test_a_person_types_to_the_child() -> None:
    """On a terminal, as a shell would start coati: the child is the one in the foreground, and Ctrl-Z ends nothing."""
    pid, terminal = os.forkpty()
    if pid == 0:
        # The leader of the session plays coati.
        try:
            ours, theirs = socket.socketpair()
            os.set_inheritable(theirs.fileno(), True)
            far = repr(time.monotonic() + FAR_S)
            words = [sys.executable, "-I", "-S", guardian.__file__, str(theirs.fileno()), far, far, "5"]
            child = os.posix_spawn(sys.executable, [*words, "sh", "-c", "echo in; read x; echo got $x"], os.environ)
            said = ours.makefile("rb")
            lines = [said.readline(), said.readline()]
            ours.shutdown(socket.SHUT_RDWR)
            os.waitpid(child, 0)
            os._exit(0 if lines[1] == b"E 0 0\n" and os.tcgetpgrp(0) == os.getpgrp() else 1)
        finally:
            os._exit(2)
    shown = b""
    while b"in" not in shown:
        shown += os.read(terminal, 100)
    os.write(terminal, b"\x1a")
    os.write(terminal, b"word\n")
    while b"got word" not in shown:
        shown += os.read(terminal, 100)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)

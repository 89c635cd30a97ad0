"""The guardian: runs a child for as long as something is held (a lock, an office, a permit), and not a moment longer.

It is a process of its own, started by `cli.held` as a file, since what has to be survived is the loss of `coati`
itself. Who holds a lock may be killed or stopped like anybody else: a client that is stopped hears neither the server
nor its own timers, its session ends, the next one gets the lock, and the child would go on beside it. So the child
belongs to somebody who needs no event loop and no server, only a clock:

- `coati` tells, over one socket, until when the session certainly lives; each answer of the server moves that on.
- SIGTERM goes to the child's process group at `term_at`, SIGKILL at `kill_at`, both on CLOCK_MONOTONIC, which all
  processes share. `kill_at` is before the server can end the session. If `coati` is stopped, these times stand still
  and pass by.
- If the socket ends, `coati` is dead: SIGTERM at once, SIGKILL after the grace, at `kill_at` at the latest.
- If the guardian dies, the child gets SIGKILL from the kernel (PR_SET_PDEATHSIG), and `coati` kills its group.
- What the child leaves behind in its group is killed when it ends: the lock goes then.
- The child is reaped only after `coati` has hung up, so its number cannot be somebody else's while either may signal.

What is left: processes that leave the group (setsid), and a machine that stops as a whole while its clock does too.
Against these only the server can help: the fencing token.

Only the standard library, and little of it, as somebody waits for the child to start. Lines on the socket:
in `D <term_at> <kill_at>` (later times), `S <signal>` (pass it on), `L` (lost: end it now); out `P <pid>`,
`T` (SIGTERM was sent because the time was up), `E <exit code> <1 if it was told to end>`; the code is 128 and the
signal if one ended it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
NOT_FOUND = 127
NOT_EXECUTABLE = 126
# Signals that others may send to everybody: whether the child ends is the child's affair, and coati's.
UNHEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FOREVER_S = 3600.0


class Guardian:
    """One child. `channel` is the socket to coati; `grace_s` the time between SIGTERM and SIGKILL."""

    def __init__(self, channel: int, times: tuple[float, float], grace_s: float, command: list[str]) -> None:
        self._channel = channel
        self._term_at, self._kill_at = times
        self._grace_s = grace_s
        self._command = command
        self._pid = 0
        self._is_told_to_end = False
        self._is_killed = False
        self._is_alone = False
        self._rest = b""
        self._has_terminal = False
        self._wakes, self._wake = os.pipe()

    def run(self) -> int:
        """From the start of the child to its end; its exit code."""
        for end in (self._channel, self._wakes, self._wake):
            os.set_inheritable(end, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _hears)
        for number in UNHEARD:
            # Handlers end with exec; what is ignored (nohup) stays so for the child.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _hears)
        self._has_terminal = _owns_terminal()
        self._start()
        self._say(b"P %d" % self._pid)
        while (code := self._look()) is None:
            self._wait()
        if self._has_terminal:
            _give_terminal(os.getpgid(os.getppid()))
        self._say(b"E %d %d" % (code, self._is_told_to_end))
        while not self._is_alone:
            self._hear()
        os.waitpid(self._pid, 0)
        return code

    def _start(self) -> None:
        parent = os.getpid()
        # What comes before exec must not end in our handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)
        self._pid = os.fork()
        if self._pid:
            # Both do it, so that the group is there for both.
            _make_group(self._pid)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return
        # As the child.
        name = self._command[0]
        code = NOT_EXECUTABLE
        try:
            os.setpgid(0, 0)
            if self._has_terminal:
                _give_terminal(os.getpid())
            _end_with_parent(parent)
            # The interpreter ignores the first two.
            for number in (signal.SIGPIPE, signal.SIGXFSZ, *UNHEARD):
                if number not in UNHEARD or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvp(name, self._command)
        except FileNotFoundError:
            code = NOT_FOUND
            os.write(2, f"coati: {name}: not found\n".encode())
        except OSError as error:
            os.write(2, f"coati: {name}: {error.strerror}\n".encode())
        finally:
            os._exit(code)

    def _look(self) -> int | None:
        """The child's exit code, once it has ended; then nothing of its group is left."""
        kinds = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        seen = os.waitid(os.P_PID, self._pid, kinds)
        if seen is None:
            return None
        if seen.si_code == os.CLD_STOPPED:
            os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WNOHANG)
            if seen.si_status == signal.SIGTSTP and self._has_terminal:
                # Nobody could type `fg`: the shell waits for coati, and the lock for nobody.
                self._send(signal.SIGCONT)
            return None
        self._send(signal.SIGKILL)
        return seen.si_status if seen.si_code == os.CLD_EXITED else 128 + seen.si_status

    def _wait(self) -> None:
        """Until something happens or the next time has come, and does what it asks for."""
        due = self._kill_at if self._is_told_to_end else self._term_at
        left_s = FOREVER_S if self._is_killed else min(max(due - time.monotonic(), 0.0), FOREVER_S)
        ends = [self._wakes] if self._is_alone else [self._wakes, self._channel]
        ready = select.select(ends, (), (), left_s)[0]
        if self._wakes in ready:
            os.read(self._wakes, 512)
        # What coati has said goes before the clock: the times may have moved on while nobody looked.
        if self._channel in ready:
            self._hear()
        now = time.monotonic()
        if now >= self._term_at and not self._is_told_to_end:
            self._say(b"T")
            self._end(now)
        if now >= self._kill_at and not self._is_killed:
            self._is_killed = True
            self._send(signal.SIGKILL)

    def _hear(self) -> None:
        try:
            data = os.read(self._channel, 4096)
        except OSError:
            data = b""
        if not data:
            self._is_alone = True
            self._end(time.monotonic())
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            what, *values = line.split()
            if what == b"D":
                if not self._is_told_to_end:
                    self._term_at, self._kill_at = map(float, values)
            elif what == b"S":
                self._send(int(values[0]))
            else:
                self._end(time.monotonic())

    def _end(self, now: float) -> None:
        """SIGTERM now, SIGKILL after the grace."""
        if not self._is_told_to_end:
            self._is_told_to_end = True
            self._kill_at = min(self._kill_at, now + self._grace_s)
            self._send(signal.SIGTERM)
            # Who is stopped would not hear it.
            self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        """To the whole group, which is there for as long as the child is not reaped."""
        # Some systems refuse it where only the dead child is left.
        try:
            os.killpg(self._pid, number)
        except OSError:
            return

    def _say(self, line: bytes) -> None:
        # That nobody listens is heard too.
        try:
            os.write(self._channel, line + b"\n")
        except OSError:
            return


def _hears(number: int, frame: object) -> None:
    """The wake-up pipe says it."""


def _owns_terminal() -> bool:
    """Whether a person types into our standard input, and coati is in the foreground."""
    try:
        return os.tcgetpgrp(0) == os.getpgid(os.getppid())
    except OSError:
        return False


def _give_terminal(group: int) -> None:
    """Makes a group the one that is typed to, as shells do."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        os.tcsetpgrp(0, group)
    except OSError:
        # The terminal has gone, or the group.
        pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _make_group(pid: int) -> None:
    try:
        os.setpgid(pid, pid)
    except OSError:
        # The child was quicker.
        return


def _end_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent ends; where there is no such thing, it does not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def main(argv: Sequence[str]) -> int:
    """`guardian.py CHANNEL TERM_AT KILL_AT GRACE COMMAND...`."""
    channel, term_at, kill_at, grace, *command = argv[1:]
    return Guardian(int(channel), (float(term_at), float(kill_at)), float(grace), command).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv))

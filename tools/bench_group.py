"""Ensembles of one contender for the benchmark: three voters, and observers that may join them one after the other.

Knows how servers that belong together are started, who of them leads, and when they have answered. Must not know what
is measured. Invariant: leaving `group` ends all of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tools.bench_rows import Bench
from tools.bench_servers import JAVA_VERSION, CoatiServer, Contender, Process, Server, ServerFailed, first_answer
from tools.javapeer import HOST, JavaServer, four_letter, free_port

VOTERS: Final = 3
HEAP: Final = "700m"
LEADER_LIMIT_S: Final = 60.0
# What servers come with when nobody says otherwise.
TICK_MS: Final = 2000
INIT_LIMIT: Final = 10
SYNC_LIMIT: Final = 5


class Group:
    """An ensemble. `servers` are the voters, then the observers that were added, and `first_answer_s` is the time from
    the start of the first voter until each has opened a session. Of it, `group` is the maker."""

    def __init__(self, bench: Bench, contender: Contender, observers: int, props: Mapping[str, str]) -> None:
        self.servers: list[Server] = []
        self.first_answer_s = 0.0
        self._contender = contender
        self._props = props
        self._started: list[Server] = []
        self._directories = [bench.fresh_dir(contender) for _ in range(VOTERS + observers)]
        self._ports = [(free_port(), free_port(), free_port()) for _ in self._directories]

    @property
    def voters(self) -> list[Server]:
        """Those who vote."""
        return self.servers[:VOTERS]

    @property
    def observers(self) -> list[Server]:
        """Those who have joined without a vote."""
        return self.servers[VOTERS:]

    def start_voters(self) -> None:
        """All of them, and waits for each. Raises ServerFailed."""
        start_s = time.perf_counter()
        for number in range(VOTERS):
            self.servers.append(self._start(number))
        self.first_answer_s = max([first_answer(server) for server in self.servers]) - start_s

    def add_observer(self) -> Server:
        """The next one, once it answers. Raises ServerFailed."""
        server = self._start(len(self.servers))
        self.servers.append(server)
        first_answer(server)
        return server

    def restart(self, old: Server) -> Server:
        """Starts a dead server again, on its directory and its ports; does not wait."""
        number = self.servers.index(old)
        self.servers[number] = self._start(number)
        return self.servers[number]

    def close(self) -> None:
        """Kills all, and removes what they wrote."""
        for server in self._started:
            server.process.close()
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)

    def leader(self) -> Server:
        """Who leads. Raises ServerFailed."""
        deadline_s = time.perf_counter() + LEADER_LIMIT_S
        while time.perf_counter() < deadline_s:
            for server in self.voters:
                # One that begins does not listen yet.
                with contextlib.suppress(OSError):
                    if "Mode: leader" in four_letter(HOST, server.port, "srvr"):
                        return server
        raise ServerFailed("nobody leads")

    def followers(self) -> list[Server]:
        """The other voters. Raises ServerFailed."""
        leader = self.leader()
        return [server for server in self.voters if server is not leader]

    def rss_bytes(self) -> int:
        """Resident memory of all."""
        return sum(server.rss_bytes() for server in self.servers)

    def run_on(self, cpus: Iterable[int]) -> None:
        """Puts all threads of all servers on these processors."""
        chosen = list(cpus)
        for server in self.servers:
            for task in Path(f"/proc/{server.process.pid}/task").iterdir():
                # A thread may end while it is looked at.
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task.name), chosen)

    def _start(self, number: int) -> Server:
        """Server `number`, counted from 0, and not waited for."""
        directory, (port, _, _) = self._directories[number], self._ports[number]
        directory.mkdir(parents=True, exist_ok=True)
        sid = number + 1
        (directory / "myid").write_text(f"{sid}\n")
        lines = self._view()
        if number >= VOTERS:
            lines["peerType"] = "observer"
        contender = self._contender
        process: Process
        if contender.python is None:
            process = java = JavaServer(
                JAVA_VERSION, directory, port, self._props, lines, jvm_args=[f"-Xmx{HEAP}"], sid=sid,
                cpu=contender.cpu, log_level="ERROR",
            )  # fmt: skip
            java.start(wait=False)
        else:
            keys = {"tickTime": TICK_MS, "initLimit": INIT_LIMIT, "syncLimit": SYNC_LIMIT, "dataDir": directory,
                    "clientPort": port, "clientPortAddress": HOST, "maxClientCnxns": 0, **lines}  # fmt: skip
            config = directory.parent / f"{directory.name}.cfg"
            config.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
            process = CoatiServer(
                contender.python, directory, port, cpu=contender.cpu, props=self._props, config=config
            )
        server = Server(process, port, directory)
        self._started.append(server)
        return server

    def _view(self) -> dict[str, str]:
        """The lines that name all members, the same for each."""
        lines: dict[str, str] = {}
        for number, (_, quorum, election) in enumerate(self._ports):
            role = "" if number < VOTERS else ":observer"
            lines[f"server.{number + 1}"] = f"{HOST}:{quorum}:{election}{role}"
        return lines


@contextmanager
def group(
    bench: Bench, contender: Contender, *, observers: int = 0, props: Mapping[str, str] | None = None
) -> Iterator[Group]:
    """Three voters on empty directories that answer, all on the contender's processor; so many observers may join."""
    made = Group(bench, contender, observers, props or {})
    with ExitStack() as stack:
        stack.callback(made.close)
        made.start_voters()
        yield made


@contextmanager
def whole_machine(bench: Bench) -> Iterator[Bench]:
    """The same contenders on all processors, and their load too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        contenders = [replace(contender, cpu=None) for contender in bench.contenders]
        yield Bench(contenders, bench.settings, bench.data_root / "whole", bench.say)
    finally:
        os.sched_setaffinity(0, before)


def kill(server: Server) -> None:
    """SIGKILL, and does not wait: what a client sees does not depend on how long the kernel cleans up."""
    os.kill(server.process.pid, signal.SIGKILL)

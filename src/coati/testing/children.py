"""The members of an ensemble as processes: `coati serve` or Apache ZooKeeper; and an ensemble that others run.

Knows command lines, signals and files. A process is asked by four-letter words who it is.
Invariant: a process that was started is dead when its backend is closed, or the interpreter ends.
"""

from __future__ import annotations

import asyncio
import atexit
import glob
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from coati.testing.backends import LOOKING, STOPPED, EnsembleError, FaultRefused, Ground, Plan
from coati.testing.probe import Seen, mode, read_tree

CLASSPATH_VARIABLE: Final = "COATI_JAVA_CLASSPATH"
CLASSPATH_DEFAULT: Final = ".interop/java-3.9.3"
MAIN_CLASS: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
STOP_S: Final = 20.0
ROLE_S: Final = 1.0
LOG_BYTES: Final = 16_384
LOG4J2: Final = """status = error
appenders = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p [%t] %c{1} - %m%n
rootLogger.level = info
rootLogger.appenderRefs = console
rootLogger.appenderRef.console.ref = console
"""
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _kill_leftovers() -> None:
    for process in list(_children.values()):
        process.kill()
        process.wait()


class ProcessBackend:
    """coati.testing.backends.Backend: each member a `coati serve`."""

    name = "process"
    look_s: Final = 0.01

    def __init__(self, members: int, observers: int, config: Mapping[str, object]) -> None:
        self._ground = Ground(members, observers, config)
        self.plans: dict[int, Plan] = self._ground.plans
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def command(self, zoo_cfg: Path) -> list[str]:
        """What starts one."""
        return [sys.executable, "-m", "coati", "serve", str(zoo_cfg)]

    async def launch(self, sid: int) -> None:
        directory = self._ground.directory
        zoo_cfg = directory / f"zoo{sid}.cfg"
        zoo_cfg.write_text("".join(f"{key}={value}\n" for key, value in self._ground.keys(sid).items()))
        if len(self.plans) > 1:
            (self._ground.data_dir(sid) / "myid").write_text(f"{sid}\n")
        with self._log_path(sid).open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220  # a fork, done in a moment
                self.command(zoo_cfg), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=directory
            )
        self._processes[sid] = process
        _children[process.pid] = process

    async def end(self, sid: int, *, is_clean: bool) -> None:
        process = self._processes[sid]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM if is_clean else signal.SIGKILL)
        await asyncio.to_thread(_wait, process)

    def pause(self, sid: int) -> None:
        self._processes[sid].send_signal(signal.SIGSTOP)

    def resume(self, sid: int) -> None:
        self._processes[sid].send_signal(signal.SIGCONT)

    def set_cuts(self, ways: Sequence[tuple[int, int]]) -> None:
        if ways:
            raise FaultRefused(f"the backend {self.name} has no partitions: the backend memory has")

    def drop_clients(self, sid: int) -> int:
        raise FaultRefused(f"the backend {self.name} cannot drop connections: the backend memory can")

    def role(self, sid: int) -> str:
        process, plan = self._processes.get(sid), self.plans[sid]
        if process is None or process.poll() is not None:
            return STOPPED
        return mode((plan.host, plan.port), ROLE_S) or LOOKING

    def tree(self, sid: int, limit: int) -> list[Seen]:
        plan = self.plans[sid]
        return read_tree((plan.host, plan.port), limit)

    def log(self, sid: int) -> list[str]:
        path = self._log_path(sid)
        return path.read_bytes()[-LOG_BYTES:].decode(errors="replace").splitlines() if path.exists() else []

    async def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                # It ends a process that is stopped as well.
                process.kill()
        for process in self._processes.values():
            await asyncio.to_thread(_wait, process)
        self._ground.close()

    def _log_path(self, sid: int) -> Path:
        return self._ground.directory / f"server{sid}.log"


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _children.pop(process.pid, None)


class JavaBackend(ProcessBackend):
    """coati.testing.backends.Backend: each member Apache's own."""

    name = "java"

    def __init__(
        self, members: int, observers: int, config: Mapping[str, object], *, java: str, jars: list[str]
    ) -> None:
        super().__init__(members, observers, config)
        self._java = java
        self._jars = jars

    def command(self, zoo_cfg: Path) -> list[str]:
        log4j2 = self._ground.directory / "log4j2.properties"
        log4j2.write_text(LOG4J2)
        options = [
            f"-Dlog4j2.configurationFile={log4j2}",
            "-Dzookeeper.jmx.log4j.disable=true",
            # Without Jetty's jars asking for it would only cost a class loading error.
            "-Dzookeeper.admin.enableServer=false",
            # A JVM that lives for a test is over before its second compiler pays.
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
        ]
        return [self._java, *options, "-cp", os.pathsep.join(self._jars), MAIN_CLASS, str(zoo_cfg)]


def java_backend(
    members: int, observers: int, config: Mapping[str, object], classpath: str | None = None
) -> JavaBackend:
    """Servers of the jars in `classpath`, a directory or a class path; None: where the environment says.

    Raises EnsembleError where Java or its ZooKeeper is missing.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise EnsembleError("the backend java needs a java on PATH or JAVA_HOME")
    where = classpath or os.environ.get(CLASSPATH_VARIABLE) or CLASSPATH_DEFAULT
    jars = sorted(glob.glob(os.path.join(where, "*.jar"))) if os.path.isdir(where) else where.split(os.pathsep)
    if not any("zookeeper" in os.path.basename(jar) and os.path.exists(jar) for jar in jars):
        raise EnsembleError(
            f"the backend java needs ZooKeeper's jars, and {where} has none: set {CLASSPATH_VARIABLE} to a directory "
            "with the jars of ZooKeeper 3.9, or to a class path"
        )
    # The servers have a working directory of their own.
    return JavaBackend(members, observers, config, java=java, jars=[os.path.abspath(jar) for jar in jars])


class ExternalBackend:
    """coati.testing.backends.Backend of an ensemble that runs already: it can be used and looked at, not broken."""

    name: Final = "external"
    look_s: Final = 0.01

    def __init__(self, hosts: str) -> None:
        """`hosts`: `host:port,host:port`."""
        self.plans: dict[int, Plan] = {}
        for sid, text in enumerate(hosts.partition("/")[0].split(","), 1):
            host, _, port = text.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"not host:port: {text!r}")
            self.plans[sid] = Plan(sid, host.strip("[]"), int(port))

    async def launch(self, sid: int) -> None:
        """It runs."""

    async def end(self, sid: int, *, is_clean: bool) -> None:
        raise self._refusal()

    def pause(self, sid: int) -> None:
        raise self._refusal()

    def resume(self, sid: int) -> None:
        raise self._refusal()

    def set_cuts(self, ways: Sequence[tuple[int, int]]) -> None:
        if ways:
            raise self._refusal()

    def drop_clients(self, sid: int) -> int:
        raise self._refusal()

    def role(self, sid: int) -> str:
        plan = self.plans[sid]
        return mode((plan.host, plan.port), ROLE_S) or LOOKING

    def tree(self, sid: int, limit: int) -> list[Seen]:
        plan = self.plans[sid]
        return read_tree((plan.host, plan.port), limit)

    def log(self, sid: int) -> list[str]:
        return []

    async def close(self) -> None:
        """It goes on."""

    def _refusal(self) -> FaultRefused:
        return FaultRefused(
            "the backend external leaves its servers alone: memory, process and java have servers of their own"
        )

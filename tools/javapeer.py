"""Starts and stops Java ZooKeeper servers: the peer of the interop tests and the yardstick of the benchmark.

Knows where the jars of 3.8.0 (Debian's libzookeeper-java) and 3.9.3 (fetched by `fetch_39`) live, which of them a
server needs, how to keep its logging quiet, and when it is ready: it answers `srvr`. Must not know coati.
Invariants: a server that was started is stopped by leaving its `with` block, at the latest when the interpreter exits;
nothing here waits a fixed time: every pause ends at once when the process dies.

    with JavaServer("3.9.3", cfg={"tickTime": "500"}, props={"zookeeper.snapCount": "100"}) as java:
        connect(java.host, java.port); java.kill9(); java.start()

Command line: `python tools/javapeer.py fetch [DIR]` gets the 3.9.3 jars, `... run VERSION PORT DIR` runs one server
until interrupted.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import glob
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
DEBIAN_JARS = Path("/usr/share/java")
JARS_39 = ROOT / ".interop" / "java-3.9.3"
VERSIONS = ("3.8.0", "3.9.3")
MAIN_CLASS = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
# The manifest of Debian's zookeeper.jar names its dependencies by absolute path, but no slf4j backend and no codecs.
JARS_380 = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-codec", "netty-resolver")
# PySpark ships a whole Hadoop stack; a ZooKeeper server and a Curator client need the jars whose names begin so.
FETCHED = (
    "zookeeper", "netty-", "slf4j-api", "log4j-", "snappy-java", "metrics-core", "commons-", "curator-", "jackson-",
    "guava", "failureaccess",
)  # fmt: skip
PYSPARK = "pyspark==4.0.1"
POLL_S = 0.02
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PORT_ATTEMPTS = 3
# Below those that Linux takes for the clients' ends (ip_local_port_range).
SERVER_PORTS = range(12_000, 21_000)
LOG_TAIL_BYTES = 4000

LOG4J2 = """status = error
appenders = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{{ISO8601}} %p [%t] %c{{1}} - %m%n
rootLogger.level = {level}
rootLogger.appenderRefs = console
rootLogger.appenderRef.console.ref = console
"""


class JavaUnavailable(RuntimeError):
    """This machine lacks Java or the jars of the wanted version; the message says which and how to get them."""


class JavaFailed(RuntimeError):
    """A Java server died or never became ready; the message ends with the tail of its log."""


def java_command() -> str:
    """The java launcher: $JAVA_HOME/bin/java, else the one on PATH. Raises JavaUnavailable."""
    home = os.environ.get("JAVA_HOME")
    if home and os.access(os.path.join(home, "bin", "java"), os.X_OK):
        return os.path.join(home, "bin", "java")
    found = shutil.which("java")
    if found is None:
        raise JavaUnavailable("no java on PATH and JAVA_HOME is not set")
    return found


def classpath(version: str, *, debian: Path = DEBIAN_JARS, jars_39: Path = JARS_39) -> list[str]:
    """The jars a server of `version` needs, in class path order. Raises JavaUnavailable when one is missing."""
    if version == "3.8.0":
        jar = debian / "zookeeper-3.8.0.jar"
        if not jar.exists():
            raise JavaUnavailable(f"{jar} is missing: install Debian's libzookeeper-java")
        found = [debian / f"{name}.jar" for name in JARS_380]
        absent = [str(path) for path in found if not path.exists()]
        if absent:
            raise JavaUnavailable(f"missing next to {jar}: {', '.join(absent)}")
        return [str(path) for path in found]
    if version == "3.9.3":
        if not (jars_39 / "zookeeper-3.9.3.jar").exists():
            raise JavaUnavailable(f"no zookeeper-3.9.3.jar in {jars_39}: run `python tools/javapeer.py fetch`")
        return sorted(glob.glob(str(jars_39 / "*.jar")))
    raise JavaUnavailable(f"unknown version {version}: one of {', '.join(VERSIONS)}")


def why_missing(version: str) -> str | None:
    """The reason `version` cannot run here, or None: made for `pytest.mark.skipif`."""
    try:
        java_command()
        classpath(version)
    except JavaUnavailable as missing:
        return str(missing)
    return None


def fetch_39(dest: Path = JARS_39) -> list[Path]:
    """Get the 3.9.3 jars out of PySpark's source package (Maven Central is not needed) into `dest`."""
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="javapeer-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", scratch, PYSPARK], check=True)
        (package,) = Path(scratch).glob("pyspark-*.tar.gz")
        return extract_jars(package, dest)


def extract_jars(package: Path, dest: Path) -> list[Path]:
    """Unpack the wanted `deps/jars/*.jar` of the tar file `package` into `dest`; each lands whole or not at all."""
    jars: list[Path] = []
    with tarfile.open(package) as tar:
        for member in tar:
            name = os.path.basename(member.name)
            if "/jars/" not in member.name or not name.endswith(".jar") or not name.startswith(FETCHED):
                continue
            source = tar.extractfile(member)
            if source is None:
                continue
            target = dest / name
            part = dest / (name + ".part")
            with source, part.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            part.rename(target)
            jars.append(target)
    return jars


def free_ports(count: int, host: str = HOST) -> list[int]:
    """So many TCP ports that were free a moment ago, no two the same, and none that the kernel gives to who connects.

    Else a client that asks again and again whether a server is there takes its port sooner or later: the kernel chooses
    that very one for the client's end, which is then connected to itself.
    """
    dice = random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = dice.choice(SERVER_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            if port not in found:
                found.append(port)
    return found


def free_port(host: str = HOST) -> int:
    """One of them."""
    (port,) = free_ports(1, host)
    return port


def four_letter(host: str, port: int, word: str, timeout_s: float = 2.0) -> str:
    """Send a four-letter word and read the answer to the end. Raises OSError when nobody listens."""
    with socket.create_connection((host, port), timeout=timeout_s) as sock:
        sock.sendall(word.encode())
        chunks: list[bytes] = []
        while chunk := sock.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")


_running: dict[int, JavaServer] = {}


@atexit.register
def _kill_leftovers() -> None:
    for server in list(_running.values()):
        server.kill9()


class JavaServer:
    """One Java ZooKeeper process, standalone or, with `sid` and `server.N` keys in `cfg`, a member of an ensemble.

    `props` become -D system properties, `cfg` lines of zoo.cfg (they override the defaults below). A data directory
    that was not given is temporary and goes with the `with` block; so does the scratch directory of zoo.cfg and log.
    """

    def __init__(
        self,
        version: str = "3.9.3",
        data_dir: str | os.PathLike[str] | None = None,
        port: int | None = None,
        props: Mapping[str, str] | None = None,
        cfg: Mapping[str, str] | None = None,
        *,
        jvm_args: Sequence[str] = (),
        sid: int | None = None,
        cpu: int | None = None,
        log_level: str = "WARN",
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self.version = version
        self.host = HOST
        self.port = port if port is not None else free_port()
        self.scratch = Path(tempfile.mkdtemp(prefix="javapeer-"))
        self.data_dir = Path(data_dir) if data_dir is not None else self.scratch / "data"
        self.log_path = self.scratch / "server.log"
        self._given_port = port is not None
        self._props = dict(props or {})
        self._cfg = dict(cfg or {})
        self._jvm_args = list(jvm_args)
        self._sid = sid
        self._cpu = cpu
        self._log_level = log_level
        self._ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id; stays the last one after a stop."""
        assert self._process is not None, "never started"
        return self._process.pid

    @property
    def address(self) -> str:
        """host:port, as a client's connect string."""
        return f"{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether the process lives (it may not serve yet)."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start (again, on the same directory and port) and wait until it serves.

        `wait=False` returns at once: members of an ensemble only serve after enough of them were started; call
        `wait_ready` then. A port that was chosen here and lost to somebody else is replaced.
        Raises JavaFailed, JavaUnavailable.
        """
        assert not self.is_running, "already running"
        for attempt in range(PORT_ATTEMPTS):
            self._launch()
            if not wait:
                return
            try:
                self.wait_ready()
                return
            except JavaFailed:
                lost_port = "BindException" in self.log() and not self._given_port
                self.kill9()
                if not lost_port or attempt == PORT_ATTEMPTS - 1:
                    raise
                self.port = free_port()

    def wait_ready(self) -> None:
        """Return when the server answers `srvr` as one that serves. Raises JavaFailed when it dies or is too slow."""
        assert self._process is not None, "never started"
        deadline = time.monotonic() + self._ready_timeout_s
        while time.monotonic() < deadline:
            if self.mode() is not None:
                return
            try:
                self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise JavaFailed(
                f"Java {self.version} exited with {self._process.returncode}:\n{self.log()[-LOG_TAIL_BYTES:]}"
            )
        raise JavaFailed(
            f"Java {self.version} not ready in {self._ready_timeout_s:g} s:\n{self.log()[-LOG_TAIL_BYTES:]}"
        )

    def mode(self) -> str | None:
        """`standalone`, `leader`, `follower` ... or None while it does not serve."""
        try:
            answer = four_letter(self.host, self.port, "srvr")
        except OSError:
            return None
        for line in answer.splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return None

    def stop(self) -> None:
        """SIGTERM and wait; SIGKILL when that takes too long. A stopped server can be started again."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """SIGKILL and wait: a crash."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop for good and remove what was temporary."""
        self.kill9()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def log(self) -> str:
        """What the server printed so far."""
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def command(self) -> list[str]:
        """The command line `start` runs."""
        pinned = [] if self._cpu is None else ["taskset", "-c", str(self._cpu)]
        logging = {
            "log4j2.configurationFile": str(self.scratch / "log4j2.properties"),
            "org.slf4j.simpleLogger.defaultLogLevel": self._log_level.lower(),
            "zookeeper.jmx.log4j.disable": "true",
        }
        # The 3.9.3 jars come without Jetty; asking for the admin server would only cost a class loading error.
        props = {**logging, "zookeeper.admin.enableServer": "false", **self._props}
        options = [f"-D{name}={value}" for name, value in props.items()]
        jars = os.pathsep.join(classpath(self.version))
        config = str(self.scratch / "zoo.cfg")
        return [*pinned, java_command(), *self._jvm_args, *options, "-cp", jars, MAIN_CLASS, config]

    def _launch(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._sid is not None:
            (self.data_dir / "myid").write_text(f"{self._sid}\n")
        (self.scratch / "log4j2.properties").write_text(LOG4J2.format(level=self._log_level.lower()))
        (self.scratch / "zoo.cfg").write_text(self._zoo_cfg())
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.scratch
            )
        _running[id(self)] = self

    def _zoo_cfg(self) -> str:
        cfg = {
            "tickTime": "2000",
            "dataDir": str(self.data_dir),
            "clientPort": str(self.port),
            "clientPortAddress": self.host,
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "*",
        }
        if self._sid is not None:
            cfg |= {"initLimit": "10", "syncLimit": "5"}
        cfg |= self._cfg
        return "".join(f"{key}={value}\n" for key, value in cfg.items())

    def _end(self, with_signal: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(with_signal)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _running.pop(id(self), None)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Java ZooKeeper servers for tests and benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", help="get the 3.9.3 jars")
    fetch.add_argument("dir", nargs="?", type=Path, default=JARS_39)
    run = verbs.add_parser("run", help="run one server until interrupted")
    run.add_argument("version", choices=VERSIONS)
    run.add_argument("port", type=int)
    run.add_argument("dir", type=Path)
    options = parser.parse_args()
    if options.verb == "fetch":
        print(f"{len(fetch_39(options.dir))} jars in {options.dir}")
        return 0
    with JavaServer(options.version, options.dir, options.port, log_level="INFO") as server:
        print(f"Java {server.version} serves on {server.address}, log {server.log_path}")
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

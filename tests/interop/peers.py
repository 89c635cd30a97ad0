"""The servers that the interop tests run against: coati as a real process, and Java through tools/javapeer.py.

Knows how each is started, when it serves, how it is killed, and what to do when the peer is missing: skip with the
reason, or fail when COATI_REQUIRE_INTEROP=1. Must not import coati: the tests see it only through its sockets and
files.
Invariant: a server that was started is dead when its `with` block or the interpreter ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Protocol

import pytest

from tests.interop import raw
from tools.javapeer import JavaServer, four_letter, free_port, why_missing

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02
LOG_TAIL_CHARS = 4000
SUPER_PASSWORD = "super:secret"
SUPER_DIGEST = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="
# Short enough that expiry can be waited for, with a wide band of timeouts so that a busy machine expires nobody by
# accident.
QUICK_CFG: Mapping[str, str] = {"tickTime": "200", "minSessionTimeout": "400", "maxSessionTimeout": "60000"}
QUICK_PROPS: Mapping[str, str] = {
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
    "zookeeper.forceSync": "no",
    "zookeeper.preAllocSize": "1024",
    "znode.container.checkIntervalMs": "500",
}
# For the lockstep: nothing may happen by itself, since that would consume zxids at moments of its own.
LOCKSTEP_PROPS: Mapping[str, str] = {
    **QUICK_PROPS,
    "znode.container.checkIntervalMs": "1000000000",
    "zookeeper.enforceQuota": "true",
}

# A server alone, one in an ensemble that has to ask its leader, and the judge: what `running` takes.
KINDS = [
    pytest.param("coati", id="coati"),
    pytest.param("follower", id="follower"),
    pytest.param("3.9.3", id="java"),
]


class CoatiFailed(RuntimeError):
    """A coati server died or never became ready; the message ends with the tail of its log."""


class Server(Protocol):
    """What the tests need of either server."""

    host: str
    port: int
    data_dir: Path

    @property
    def pid(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill9(self) -> None: ...
    def close(self) -> None: ...
    def log(self) -> str: ...


class CoatiServer:
    """One standalone coati process. Same shape as JavaServer: `props` become -D properties, `cfg` lines of zoo.cfg."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        port: int | None = None,
        props: Mapping[str, str] | None = None,
        cfg: Mapping[str, str] | None = None,
        *,
        log_level: str = "warning",
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self.version = "coati"
        self.host = HOST
        self.port = port if port is not None else free_port()
        self.scratch = Path(tempfile.mkdtemp(prefix="coatipeer-"))
        self.data_dir = Path(data_dir) if data_dir is not None else self.scratch / "data"
        self.log_path = self.scratch / "server.log"
        self._props = dict(props or {})
        self._cfg = dict(cfg or {})
        self._log_level = log_level
        self._ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CoatiServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
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
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """The command line `start` runs."""
        options = [f"-D{name}={value}" for name, value in self._props.items()]
        return [
            sys.executable,
            "-m",
            "coati",
            "serve",
            "--log-level",
            self._log_level,
            *options,
            str(self.scratch / "zoo.cfg"),
        ]

    @property
    def exit_code(self) -> int | None:
        """How the last process ended, a signal as its negative number; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start (again, on the same directory and port) and wait until it serves. Raises CoatiFailed."""
        self.wait_ready(self.launch())

    def launch(self) -> subprocess.Popen[bytes]:
        """Start, and do not wait."""
        assert not self.is_running, "already running"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        cfg = {
            "tickTime": "2000",
            "dataDir": str(self.data_dir),
            "clientPort": str(self.port),
            "clientPortAddress": self.host,
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
        } | self._cfg
        (self.scratch / "zoo.cfg").write_text("".join(f"{key}={value}\n" for key, value in cfg.items()))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.scratch
            )
        _running[id(self)] = self
        return self._process

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
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return when a launched server serves. Raises CoatiFailed."""
        deadline = monotonic() + self._ready_timeout_s
        while monotonic() < deadline:
            if serves(self.host, self.port):
                return
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise CoatiFailed(f"coati exited with {process.returncode}:\n{self.log()[-LOG_TAIL_CHARS:]}")
        raise CoatiFailed(f"coati not ready in {self._ready_timeout_s:g} s:\n{self.log()[-LOG_TAIL_CHARS:]}")

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


_running: dict[int, CoatiServer] = {}


@atexit.register
def _kill_leftovers() -> None:
    for server in list(_running.values()):
        server.kill9()


def serves(host: str, port: int) -> bool:
    """Whether a client would be served now: `srvr` answers with a mode."""
    try:
        return "Mode: " in four_letter(host, port, "srvr")
    except OSError:
        return False


def monitor(server: Server) -> dict[str, str]:
    """The `mntr` table without the zk_ prefix."""
    lines = four_letter(server.host, server.port, "mntr", timeout_s=10.0).splitlines()
    return {key.removeprefix("zk_"): value for key, _, value in (line.partition("\t") for line in lines)}


def missing(reason: str) -> None:
    """Skip the test for want of a peer, or fail it where the peers are obligatory."""
    if os.environ.get("COATI_REQUIRE_INTEROP") == "1":
        pytest.fail(f"required by COATI_REQUIRE_INTEROP=1: {reason}", pytrace=False)
    pytest.skip(reason)


def require(missing_here: str | None, why_refused: Callable[[], str | None]) -> None:
    """As `missing` if something is not installed; skip if it is, and this kernel refuses it, as in many containers."""
    if missing_here is not None:
        missing(missing_here)
    refused = why_refused()
    if refused is not None:
        pytest.skip(refused)


@contextmanager
def running(
    kind: str,
    data_dir: Path | None = None,
    props: Mapping[str, str] | None = None,
    cfg: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server of `kind` (`coati`, `3.8.0`, `3.9.3`) while the block runs; without Java the test skips or fails.

    A `follower` is that of an ensemble of three coati servers.
    """
    server: CoatiServer | JavaServer
    if kind == "follower":
        with _following(props, cfg) as follower:
            yield follower
        return
    if kind == "coati":
        server = CoatiServer(data_dir, props=props, cfg=cfg)
    else:
        reason = why_missing(kind)
        if reason is not None:
            missing(reason)
        server = JavaServer(kind, data_dir, props=props, cfg=cfg)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def _following(props: Mapping[str, str] | None, cfg: Mapping[str, str] | None) -> Iterator[Server]:
    """A follower of a new ensemble of coati servers, once all of them serve."""
    sids = (1, 2, 3)
    lines = {f"server.{sid}": f"{HOST}:{free_port()}:{free_port()}" for sid in sids}
    # So many ticks that a busy machine loses nobody, however short they are.
    cfg = {"initLimit": "100", "syncLimit": "50", **(cfg or {}), **lines}
    with ExitStack() as ending:
        servers = []
        for sid in sids:
            server = CoatiServer(props=props, cfg=cfg)
            ending.callback(server.close)
            server.data_dir.mkdir(parents=True)
            (server.data_dir / "myid").write_text(f"{sid}\n")
            servers.append(server)
        for server, process in [(server, server.launch()) for server in servers]:
            server.wait_ready(process)
        yield next(server for server in servers if monitor(server)["server_state"] == "follower")


def session(server: Server, timeout_ms: int = 30_000) -> raw.Session:
    """A new raw session on `server`."""
    return raw.Session(server.host, server.port, timeout_ms)


def superuser(server: Server) -> raw.Session:
    """A raw session that may do everything."""
    made = session(server)
    error, _ = made.call(raw.AUTH, raw.auth("digest", SUPER_PASSWORD.encode()), xid=raw.XID_AUTH)
    assert error == 0, "superuser refused"
    return made


def port_is_silent(host: str, port: int) -> bool:
    """Whether nobody listens."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) != 0


def eventually(holds: Callable[[], object], what: str, deadline_s: float = 10.0) -> None:
    """Wait until `holds()`, which no event announces, by asking again and again; fails after the deadline."""
    never = threading.Event()
    ends = monotonic() + deadline_s
    while not holds():
        assert monotonic() < ends, f"not within {deadline_s:g} s: {what}"
        never.wait(POLL_S)

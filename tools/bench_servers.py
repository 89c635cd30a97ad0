"""The servers that are compared: coati, pure and compiled, and Java ZooKeeper 3.9.3.

Knows how each is started on a processor of its own, when it gives its first answer, and what memory it holds. Must not
know what is measured. Invariant: leaving `running` ends the server.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from coati.bench.session import connect_request
from tools.javapeer import HOST, JavaServer, free_port

JAVA: Final = "java"
PURE: Final = "pure"
COMPILED: Final = "compiled"
JAVA_VERSION: Final = "3.9.3"
READY_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 60.0
ASK_AGAIN_S: Final = 0.01
MAX_ASKING: Final = 64
SESSION_TIMEOUT_MS: Final = 10_000
# In a ConnectResponse with its length: after length, protocol version and timeout.
SESSION_ID_AT: Final = slice(12, 20)
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
LOG_TAIL_BYTES: Final = 4000


def busy_s(cpu: int) -> float:
    """Time that a processor has been busy, with whatever: user, nice, system, irq, softirq, steal."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{cpu} "):
            user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
    raise ValueError(f"no processor {cpu}")


class ServerFailed(RuntimeError):
    """A server died or did not answer; the message ends with the tail of its log."""


class Process(Protocol):
    """What a running server of either kind can do."""

    @property
    def pid(self) -> int: ...

    @property
    def is_running(self) -> bool: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def log(self) -> str: ...


class CoatiServer:
    """`python -m coati serve` on one processor; `config` says all of a member of an ensemble."""

    def __init__(
        self,
        python: Path,
        data_dir: Path,
        port: int,
        *,
        cpu: int | None,
        props: Mapping[str, str],
        config: Path | None = None,
    ) -> None:
        self._command = [] if cpu is None else ["taskset", "-c", str(cpu)]
        self._command += [str(python), "-m", "coati", "serve", "--log-level", "warning"]
        if config is None:
            # One address holds all connections here; Java is given the same setting.
            self._command += ["--host", HOST, "--client-port", str(port), "--data-dir", str(data_dir)]
            self._command += ["--set", "maxClientCnxns=0"]
        else:
            self._command.append(str(config))
        for name, value in props.items():
            self._command += ["-D", f"{name}={value}"]
        self._log = data_dir.parent / f"{data_dir.name}.log"
        # An installed Python keeps its bytecode, whatever the shell of this run says.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # Outside the checkout: `-m` puts the current directory first on the path.
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=data_dir.parent, env=env
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM, as an operator would, so that it ends in order."""
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.close()

    def close(self) -> None:
        if self.is_running:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@dataclass
class Server:
    """A started server and how long it took from the start of the process to the first answer."""

    process: Process
    port: int
    data_dir: Path
    first_answer_s: float = field(default=0.0)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return (HOST, self.port)

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def cpu_s(self) -> float:
        """Processor time that the process used so far."""
        # The clock of clock_getcpuclockid(3), which Python has no name for; /proc counts in hundredths of a second.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def pause(self) -> None:
        """Take it off its processor while another one is measured."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.process.is_running:
            os.kill(self.process.pid, signal.SIGCONT)


@dataclass(frozen=True)
class Contender:
    """One column of the table. `python` is None for Java."""

    name: str
    python: Path | None
    cpu: int | None

    def start(self, data_dir: Path, *, heap: str, props: Mapping[str, str] | None = None) -> Server:
        """Start on `data_dir` and wait for the first answer: an open session. Raises ServerFailed."""
        data_dir.mkdir(parents=True, exist_ok=True)
        port = free_port()
        start_s = time.perf_counter()
        process: Process
        if self.python is None:
            process = java = JavaServer(
                JAVA_VERSION, data_dir, port, props, jvm_args=[f"-Xmx{heap}"], cpu=self.cpu, log_level="ERROR"
            )
            start_s = time.perf_counter()
            java.start(wait=False)
        else:
            process = CoatiServer(self.python, data_dir, port, cpu=self.cpu, props=props or {})
        server = Server(process, port, data_dir)
        try:
            server.first_answer_s = first_answer(server) - start_s
        except BaseException:
            process.close()
            raise
        return server

    @contextmanager
    def running(self, data_dir: Path, *, heap: str, props: Mapping[str, str] | None = None) -> Iterator[Server]:
        """Start, and stop in order at the end."""
        server = self.start(data_dir, heap=heap, props=props)
        try:
            yield server
        finally:
            server.resume()
            server.process.stop()
            server.process.close()


def first_answer(server: Server) -> float:
    """The time when a session could be opened. Raises ServerFailed."""
    return first_reply([server], connect_request(SESSION_TIMEOUT_MS), has_session, READY_TIMEOUT_S)


def first_reply(
    servers: Sequence[Server],
    data: bytes,
    is_hoped: Callable[[bytes], bool],
    limit_s: float,
    *,
    every_s: float = ASK_AGAIN_S,
) -> float:
    """The time when one of the servers has answered `data` as hoped. Raises ServerFailed.

    A fresh connection to each asks every `every_s` and the ones before keep listening: Java accepts connections before
    it serves, and leaves some of those without any answer (NullPointerException below ServerCnxn.cleanupWriterSocket).
    """
    deadline_s = time.perf_counter() + limit_s
    asking: dict[socket.socket, bytes] = {}
    try:
        while time.perf_counter() < deadline_s and all(server.process.is_running for server in servers):
            for server in servers:
                _ask(server, data, asking)
            ask_again_s = time.perf_counter() + every_s
            while (left_s := ask_again_s - time.perf_counter()) > 0:
                for sock in select.select(list(asking), [], [], left_s)[0]:
                    if _listen(sock, asking) and is_hoped(asking[sock]):
                        return time.perf_counter()
    finally:
        for sock in asking:
            sock.close()
    logs = "\n".join(server.process.log()[-LOG_TAIL_BYTES:] for server in servers)
    raise ServerFailed(f"no answer:\n{logs}")


def has_session(answer: bytes) -> bool:
    """Whether a connection was answered with a session."""
    return any(answer[SESSION_ID_AT])


def _ask(server: Server, data: bytes, asking: dict[socket.socket, bytes]) -> None:
    """One more connection that asks, if anybody listens; the oldest gives way."""
    if len(asking) == MAX_ASKING:
        oldest = next(iter(asking))
        del asking[oldest]
        oldest.close()
    try:
        sock = socket.create_connection(server.address, timeout=1)
        asking[sock] = b""
        sock.sendall(data)
    except OSError:
        pass


def _listen(sock: socket.socket, asking: dict[socket.socket, bytes]) -> bool:
    """Adds what has come to what came before; False when the connection is over."""
    try:
        data = sock.recv(4096)
    except OSError:
        data = b""
    if not data:
        del asking[sock]
        sock.close()
        return False
    asking[sock] += data
    return True

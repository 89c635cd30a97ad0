"""Ensembles of real server processes, coati's or Java's, and the wires between them, which can be cut.

Each server finds the others behind TCP proxies of its own, if `Wires` are given: then what one says to another can be
held back in one direction or both, without any rights of root. With `Namespaces` each has a network card of its own
instead, and frames are lost. Must not import coati, nor judge what servers do.
Invariant: who was started is dead when the `with` block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from tests.interop.peers import HOST, CoatiServer
from tools.hardware import WallClock
from tools.javapeer import JavaServer, four_letter, free_ports
from tools.namespaces import Namespaces

T = TypeVar("T")

READY_S: Final = 60.0
POLL_S: Final = 0.005
# A tick short enough for tests, and limits wide enough for a machine with other work.
CFG: Final[Mapping[str, str]] = {
    "tickTime": "200",
    "initLimit": "25",
    "syncLimit": "10",
    "minSessionTimeout": "400",
    "maxSessionTimeout": "60000",
}
SERVING: Final = ("leader", "follower", "observer")
SHIFTED: Final = Path(__file__).with_name("shifted_clock.py")


class EnsembleFailed(RuntimeError):
    """Servers that did not come to serve; the message has their logs' ends."""


class Member(CoatiServer):
    """One coati of an ensemble."""

    def __init__(
        self, sid: int, data_dir: Path, port: int, *, props: Mapping[str, str], cfg: Mapping[str, str], log_level: str
    ) -> None:
        super().__init__(data_dir, port, props, cfg)
        self.sid = sid
        self.clock: WallClock | None = None
        self._log_level = log_level

    def command(self) -> list[str]:
        """As of a lone server, with another log level, and with a clock that can be wrong if it has one."""
        command = super().command()
        command[command.index("--log-level") + 1] = self._log_level
        if self.clock is not None:
            command[1:4] = ["-P", str(SHIFTED), str(self.clock.path)]
        return command

    def launch(self) -> subprocess.Popen[bytes]:
        """Start, and do not wait."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "myid").write_text(f"{self.sid}\n")
        return super().launch()


class Ensemble:
    """So many voters, numbered from 1, and observers behind them. `kind` is coati or a version of Java's.

    `with_clocks`: the wall clock of each coati can be made wrong.
    """

    def __init__(
        self,
        scratch: Path,
        kind: str = "coati",
        *,
        voters: int = 3,
        observers: int = 0,
        cfg: Mapping[str, str] | None = None,
        props: Mapping[str, str] | None = None,
        wires: Network | None = None,
        log_level: str = "info",
        with_clocks: bool = False,
    ) -> None:
        sids = range(1, voters + observers + 1)
        self.voters = list(sids[:voters])
        free = iter(free_ports(3 * len(sids)))
        # Of each: for clients, quorum, election.
        self.ports: dict[int, tuple[int, int, int]] = {sid: (next(free), next(free), next(free)) for sid in sids}
        self.members: dict[int, Member | JavaServer] = {}
        self.log_level = log_level
        # Of each, to make it wrong.
        self.clocks = {sid: WallClock(scratch / f"clock{sid}") for sid in sids} if with_clocks else {}
        self._namespaces = wires if isinstance(wires, Namespaces) else None
        # Where each serves.
        self.hosts = {sid: HOST if self._namespaces is None else self._namespaces.add(sid) for sid in sids}
        for sid in sids:
            lines = {**CFG, **(cfg or {})}
            if sid not in self.voters:
                lines["peerType"] = "observer"
            for other in sids:
                _, quorum, election = self.ports[other]
                if isinstance(wires, Wires) and other != sid:
                    quorum, election = wires.lay(sid, other, quorum), wires.lay(sid, other, election)
                role = "" if other in self.voters else ":observer"
                lines[f"server.{other}"] = f"{self.hosts[other]}:{quorum}:{election}{role}"
            self.members[sid] = self._member(kind, scratch / str(sid), sid, lines, props or {})

    def _member(
        self, kind: str, data_dir: Path, sid: int, cfg: Mapping[str, str], props: Mapping[str, str]
    ) -> Member | JavaServer:
        port = self.ports[sid][0]
        if kind == "coati":
            member = Member(sid, data_dir, port, props=props, cfg=cfg, log_level=self.log_level)
            member.host = self.hosts[sid]
            member.clock = self.clocks.get(sid)
            return member
        assert self._namespaces is None, "Java's are started on the loopback only"
        return JavaServer(kind, data_dir, port, props, cfg, sid=sid, jvm_args=("-Xmx256m",))

    def __enter__(self) -> Self:
        try:
            for sid in self.members:
                self.launch(sid)
            self.wait_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def launch(self, sid: int) -> None:
        """Starts one, and does not wait."""
        member = self.members[sid]
        with contextlib.nullcontext() if self._namespaces is None else self._namespaces.inside(sid):
            if isinstance(member, JavaServer):
                member.start(wait=False)
            else:
                member.launch()

    def close(self) -> None:
        """Kills all."""
        for member in self.members.values():
            if member.is_running:
                # One that is frozen has to wake up to die on some kernels.
                os.kill(member.pid, signal.SIGCONT)
            member.close()

    def mode(self, sid: int) -> str | None:
        """What it says it is; None while it does not serve."""
        mode = said(self.hosts[sid], self.ports[sid][0]).get("Mode")
        return mode if mode in SERVING else None

    def zxid(self, sid: int) -> int | None:
        """Up to where it has delivered; None while it does not serve."""
        zxid = said(self.hosts[sid], self.ports[sid][0]).get("Zxid")
        return None if zxid is None else int(zxid, 16)

    @property
    def leader(self) -> int:
        """Who leads. Raises EnsembleFailed."""
        return self.wait(lambda: next((sid for sid in self.voters if self.mode(sid) == "leader"), None), "a leader")

    @property
    def followers(self) -> list[int]:
        """The other voters."""
        leader = self.leader
        return [sid for sid in self.voters if sid != leader]

    def wait_all(self) -> None:
        """Until all serve. Raises EnsembleFailed, at once when one has died."""
        self.wait(self.do_all_serve, "all to serve")

    def do_all_serve(self) -> bool | None:
        """Or None. Raises EnsembleFailed if one has ended."""
        for sid, member in self.members.items():
            if not member.is_running:
                raise EnsembleFailed(f"server {sid} has ended:\n{member.log()[-3000:]}")
        return all(self.mode(sid) in SERVING for sid in self.members) or None

    def wait(self, ask: Callable[[], T | None], what: str, deadline_s: float = READY_S) -> T:
        """The first answer that is not None. Raises EnsembleFailed."""
        never = threading.Event()
        ends = time.monotonic() + deadline_s
        while True:
            answer = ask()
            if answer is not None:
                return answer
            if time.monotonic() > ends:
                logs = "\n".join(f"--- {sid}\n{member.log()[-3000:]}" for sid, member in self.members.items())
                raise EnsembleFailed(f"not within {deadline_s:g} s: {what}\n{logs}")
            never.wait(POLL_S)


def said(host: str, port: int) -> dict[str, str]:
    """What `srvr` answers, by the name of the line; nothing if there is no answer."""
    try:
        answer = four_letter(host, port, "srvr")
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition(": ") for line in answer.splitlines())}


class Wires:
    """Proxies between servers, in a thread of their own. What is held back is not lost, unless `heal` cuts it off."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._blocked: dict[tuple[int, int], None] = {}
        self._healed = asyncio.Event()
        self._writers: dict[asyncio.StreamWriter, tuple[int, int]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        # What they have not sent yet would keep connections open after their tasks.
        writers = dict(self._writers)
        # Accepting is a task too, and begins another one.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writers.update(self._writers)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def lay(self, source: int, target: int, port: int) -> int:
        """The port by which `source` reaches `port` of `target`."""
        return asyncio.run_coroutine_threadsafe(self._lay(source, target, port), self._loop).result()

    def block(self, *ways: tuple[int, int]) -> None:
        """From now on nothing gets from the first of each pair to the second."""
        self._run(lambda: self._blocked.update(dict.fromkeys(ways)))

    def heal(self, *, cuts: bool = False) -> None:
        """All gets through again; `cuts`: but not on connections of which something was held back."""
        self._run(lambda: self._heal(cuts=cuts))

    def _run(self, act: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            act()
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result()

    def _heal(self, *, cuts: bool) -> None:
        for writer, (source, target) in list(self._writers.items()):
            if cuts and ((source, target) in self._blocked or (target, source) in self._blocked):
                writer.transport.abort()
        self._blocked = {}
        healed, self._healed = self._healed, asyncio.Event()
        healed.set()

    async def _lay(self, source: int, target: int, port: int) -> int:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers[writer] = target, source
            task = self._loop.create_task(self._join(source, target, port, reader, writer))
            self._tasks[task] = None
            task.add_done_callback(lambda task: self._tasks.pop(task))

        server = await asyncio.start_server(accept, HOST, 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _join(
        self, source: int, target: int, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection: a TCP handshake needs both ways, so until then it leads nowhere."""
        there, back = (source, target), (target, source)
        try:
            await self._passable(there)
            await self._passable(back)
            far_reader, far_writer = await asyncio.open_connection(HOST, port)
            self._writers[far_writer] = there
            try:
                pumps = (self._pump(reader, far_writer, there), self._pump(far_reader, writer, back))
                tasks = [self._loop.create_task(pump) for pump in pumps]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                del self._writers[far_writer]
                far_writer.close()
        except OSError:
            # Nobody listens there, which the caller sees by the end of its stream.
            return
        finally:
            del self._writers[writer]
            writer.close()

    async def _passable(self, way: tuple[int, int]) -> None:
        while way in self._blocked:
            await self._healed.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[int, int]) -> None:
        """Until the end of the stream, which is held back as everything else is."""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._passable(way)
                writer.write(data)
                await writer.drain()
        await self._passable(way)


Network = Wires | Namespaces

"""The supervisor of a local ensemble: starts `coati serve` for each member, carries what they say to each other, and
does as it is told over a socket in the ensemble's directory.

Knows processes, ports, relays and signals. Must not know commands: `cli.ensemble` asks for `up`, and sends the rest.
Each member has a zoo.cfg of its own, in which the others' addresses are those of relays here, one for each pair and
port: so a partition needs no privileges. A relay that is cut keeps what it was given and hands it on when it is healed,
as a network does; nobody is told. Clients reach every member directly.
Only this process signals the members, which are its children, so that no number of a process is ever used twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from coati.testing.probe import mode

HOST: Final = "127.0.0.1"
STATE: Final = "ensemble.json"
SOCKET: Final = "control"
SERVING: Final = ("standalone", "leader", "follower", "observer")
# For people who try things: quick to notice a failure, slow enough for a busy machine.
KEYS: Final[Mapping[str, str]] = {
    "tickTime": "500",
    "initLimit": "20",
    "syncLimit": "4",
    "minSessionTimeout": "1000",
    "maxSessionTimeout": "60000",
    "maxClientCnxns": "0",
    "4lw.commands.whitelist": "*",
    "admin.enableServer": "false",
}
LOOK_S: Final = 0.02
ROLE_S: Final = 1.0
STOP_S: Final = 10.0
CHUNK: Final = 1 << 16


class EnsembleFailed(Exception):
    """What was asked for cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is wanted. `port` is the first client port, 0 for any; `is_kept`: the directory is the user's."""

    name: str
    directory: Path
    is_kept: bool
    servers: int
    observers: int
    port: int
    keys: Mapping[str, str]


@dataclass(slots=True)
class Member:
    """One server, and its process when it runs."""

    sid: int
    is_observer: bool
    client: socket.socket
    quorum: socket.socket
    election: socket.socket
    process: subprocess.Popen[bytes] | None = None
    is_paused: bool = False

    @property
    def hosts(self) -> str:
        return f"{HOST}:{port_of(self.client)}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


def port_of(sock: socket.socket) -> int:
    """Where it is bound."""
    port: int = sock.getsockname()[1]
    return port


def reserved(port: int = 0) -> socket.socket:
    """A port that is kept for a server, which binds it too. Raises OSError."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
    except OSError:
        sock.close()
        raise
    return sock


def started_at(pid: int) -> str | None:
    """When a process began, in a form that no other process of its number has; None if it is gone or nobody knows."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


@contextmanager
def control_path(home: Path) -> Iterator[str]:
    """The socket of a directory: a path of one may be a hundred characters long, that of a directory any."""
    if sys.platform != "linux":
        yield str(home / SOCKET)
        return
    here = os.open(home, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{here}/{SOCKET}"
    finally:
        os.close(here)


@dataclass(slots=True)
class Relay:
    """From one member to a port of another one. While it is cut nothing passes, and nobody hears why.

    `is_patient`: the other one is being started, and who was refused would try again only after a pause.
    """

    target: int
    is_patient: bool = True
    port: int = 0
    opens: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    server: asyncio.Server | None = None

    async def start(self) -> None:
        self.opens.set()
        self.server = await asyncio.start_server(self._carry_both, HOST, 0)
        self.port = port_of(self.server.sockets[0])

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        for task in self.tasks:
            task.cancel()

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        ends = [writer]
        try:
            await self.opens.wait()
            there, back = await self._dial()
            ends.append(back)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back))
                group.create_task(self._carry(there, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            for end in ends:
                end.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection(HOST, self.target)
            except ConnectionRefusedError:
                if not self.is_patient:
                    raise
            await asyncio.sleep(LOOK_S)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self.opens.wait()
            writer.write(data)
            await writer.drain()
        # The end of a connection is news too.
        await self.opens.wait()
        raise ConnectionResetError


class Supervisor:
    """One ensemble, from its start to its end: `async with`, then `until_asked`."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._members: dict[int, Member] = {}
        # Of (from, to): the way to its quorum port and that to its election port.
        self._relays: dict[tuple[int, int], tuple[Relay, Relay]] = {}
        self._groups: list[list[int]] = []
        self._ends = asyncio.Event()
        self._control: asyncio.Server | None = None

    @property
    def hosts(self) -> str:
        return ",".join(member.hosts for member in self._members.values())

    async def __aenter__(self) -> Supervisor:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            self.shape.directory.mkdir(parents=True, exist_ok=True)
            self._reserve()
            await self._connect()
            for sid in self._members:
                self._launch(sid)
            (self.shape.directory / SOCKET).unlink(missing_ok=True)
            with control_path(self.shape.directory) as path:
                self._control = await asyncio.start_unix_server(self._on_control, path)
            await self._until_serving(list(self._members))
            for pair in self._relays.values():
                for relay in pair:
                    relay.is_patient = False
            stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def until_asked(self) -> None:
        """Until it is told to end."""
        await self._ends.wait()

    def end(self) -> None:
        """Now."""
        self._ends.set()

    # --- start and end ----------------------------------------------------------------------------

    def _reserve(self) -> None:
        count = self.shape.servers + self.shape.observers
        for sid in range(1, count + 1):
            try:
                client = reserved(self.shape.port + sid - 1 if self.shape.port else 0)
            except OSError as error:
                raise EnsembleFailed(f"port {self.shape.port + sid - 1} is not free: {error.strerror}") from None
            self._members[sid] = Member(sid, sid > self.shape.servers, client, reserved(), reserved())

    async def _connect(self) -> None:
        for one in self._members.values():
            for other in self._members.values():
                if one is not other:
                    pair = Relay(port_of(other.quorum)), Relay(port_of(other.election))
                    self._relays[one.sid, other.sid] = pair
                    for relay in pair:
                        await relay.start()

    async def _close(self) -> None:
        if self._control is not None:
            self._control.close()
        running = [member for member in self._members.values() if member.is_running]
        for member in running:
            self._signal(member, signal.SIGCONT)
            self._signal(member, signal.SIGTERM)
        for member in running:
            await asyncio.to_thread(_wait, member)
        for pair in self._relays.values():
            for relay in pair:
                relay.close()
        for member in self._members.values():
            for sock in (member.client, member.quorum, member.election):
                sock.close()
        for name in (STATE, SOCKET):
            (self.shape.directory / name).unlink(missing_ok=True)
        if not self.shape.is_kept:
            shutil.rmtree(self.shape.directory, ignore_errors=True)

    def _launch(self, sid: int) -> None:
        member = self._members[sid]
        home = self.shape.directory / str(sid)
        home.mkdir(exist_ok=True)
        zoo_cfg = self.shape.directory / f"zoo{sid}.cfg"
        zoo_cfg.write_text("".join(f"{key}={value}\n" for key, value in self._keys(member, home).items()))
        if len(self._members) > 1:
            (home / "myid").write_text(f"{sid}\n")
        with (self.shape.directory / f"server{sid}.log").open("ab") as log:
            member.process = subprocess.Popen(
                [sys.executable, "-m", "coati", "serve", str(zoo_cfg)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip
        member.is_paused = False
        self._note()

    def _keys(self, member: Member, home: Path) -> dict[str, str]:
        keys = {**KEYS, "dataDir": str(home), "clientPort": str(port_of(member.client)), "clientPortAddress": HOST}
        if not self.shape.is_kept:
            # What is thrown away need not survive a loss of power.
            keys["forceSync"] = "no"
        if len(self._members) > 1:
            for other in self._members.values():
                ports = (port_of(other.quorum), port_of(other.election))
                if other is not member:
                    quorum, election = self._relays[member.sid, other.sid]
                    ports = (quorum.port, election.port)
                tail = ":observer" if other.is_observer else ""
                keys[f"server.{other.sid}"] = f"{HOST}:{ports[0]}:{ports[1]}{tail}"
            if self.shape.servers == 1:
                # Else the one voter would be a server alone, which has no observers.
                keys["standaloneEnabled"] = "false"
        if member.is_observer:
            keys["peerType"] = "observer"
        return keys | dict(self.shape.keys)

    def _note(self) -> None:
        """Writes down who runs, for whoever finds the ensemble without its supervisor."""
        processes = [{"pid": os.getpid(), "started": started_at(os.getpid())}]
        for member in self._members.values():
            if member.process is not None:
                processes.append({"pid": member.process.pid, "started": started_at(member.process.pid)})
        state = {"name": self.shape.name, "hosts": self.hosts, "is_kept": self.shape.is_kept, "processes": processes}
        path = self.shape.directory / STATE
        path.with_suffix(".new").write_text(json.dumps(state, indent=1) + "\n")
        path.with_suffix(".new").replace(path)

    async def _until_serving(self, sids: Sequence[int]) -> None:
        while not all([await self._role(self._members[sid]) in SERVING for sid in sids]):
            if self._ends.is_set():
                raise EnsembleFailed("it was told to end before all of it served")
            for sid in sids:
                if not self._members[sid].is_running:
                    log = (self.shape.directory / f"server{sid}.log").read_text(errors="replace").splitlines()
                    raise EnsembleFailed(f"server {sid} has ended: {log[-1] if log else 'it said nothing'}")
            await asyncio.sleep(LOOK_S)

    async def _role(self, member: Member) -> str:
        if not member.is_running:
            return "stopped"
        if member.is_paused:
            return "paused"
        return await asyncio.to_thread(mode, (HOST, port_of(member.client)), ROLE_S) or "looking"

    # --- what it is told --------------------------------------------------------------------------

    async def _on_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            asked = json.loads(await reader.readline())
            answer: dict[str, Any]
            try:
                answer = {"done": await self._obey(asked["verb"], asked["words"])}
            except EnsembleFailed as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()
            if asked["verb"] == "down":
                self.end()

    async def _obey(self, verb: str, words: Sequence[str]) -> list[dict[str, Any]]:
        if verb == "partition":
            self._part([[self._named(word).sid for word in group.split(",")] for group in words])
        elif verb == "heal":
            self._part([])
        for member in [self._named(word) for word in words] if verb in ("kill", "pause", "resume", "start") else []:
            await self._do(verb, member)
        if verb == "start":
            await self._until_serving([self._named(word).sid for word in words])
        return await self._look()

    def _named(self, word: str) -> Member:
        member = self._members.get(int(word) if word.isdecimal() else 0)
        if member is None:
            raise EnsembleFailed(f"there is no server {word}: there are {', '.join(map(str, self._members))}")
        return member

    async def _do(self, verb: str, member: Member) -> None:
        if verb == "start":
            if member.is_running:
                raise EnsembleFailed(f"server {member.sid} runs already")
            self._launch(member.sid)
            return
        if not member.is_running:
            raise EnsembleFailed(f"server {member.sid} does not run")
        if verb == "kill":
            self._signal(member, signal.SIGKILL)
            await asyncio.to_thread(_wait, member)
        else:
            member.is_paused = verb == "pause"
            self._signal(member, signal.SIGSTOP if member.is_paused else signal.SIGCONT)

    def _part(self, groups: list[list[int]]) -> None:
        named = [sid for group in groups for sid in group]
        if len(set(named)) < len(named):
            raise EnsembleFailed("a server is on one side only")
        rest = [sid for sid in self._members if sid not in named]
        self._groups = [*groups, rest] if groups and rest else groups
        for (one, other), pair in self._relays.items():
            is_open = not self._groups or any(one in group and other in group for group in self._groups)
            for relay in pair:
                (relay.opens.set if is_open else relay.opens.clear)()

    async def _look(self) -> list[dict[str, Any]]:
        roles = await asyncio.gather(*(self._role(member) for member in self._members.values()))
        return [
            {
                "id": member.sid,
                "hosts": member.hosts,
                "role": role,
                "pid": member.process.pid if member.process is not None and member.is_running else None,
                "reaches": [
                    sid
                    for sid in self._members
                    if sid != member.sid and self._relays[member.sid, sid][0].opens.is_set()
                ],
            }
            for member, role in zip(self._members.values(), roles, strict=True)
        ]

    def _signal(self, member: Member, number: signal.Signals) -> None:
        assert member.process is not None
        member.process.send_signal(number)


def _wait(member: Member) -> None:
    assert member.process is not None
    try:
        member.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        member.process.kill()
        member.process.wait()

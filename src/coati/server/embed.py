"""A server inside somebody else's event loop: `async with Server(Config(...)) as s`.

Knows what `coati serve` takes the whole process for, and does without it: no signals, no limits, no logging set up, the
cycle collector and the loop's exception handler stay the caller's. Any number fit into one loop.
Invariants: a callback of the server that fails ends that server and nothing else; of a killed server nothing runs any
more, and its files are closed as they are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from pathlib import Path
from socket import SocketKind, socket
from types import TracebackType
from typing import Final, Self, TypeVar, TypeVarTuple, Unpack, cast

from coati.core.tree import Tree
from coati.errors import ConfigError
from coati.server.clock import SystemClock
from coati.server.config import Entry, ServerConfig, load_config
from coati.server.listeners import java_address
from coati.server.main import Server as MainServer
from coati.server.view import LiveView
from coati.storage.disk import RealDisk, RealFile, RealLock

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
P = TypeVar("P", bound=asyncio.BaseProtocol)

MYID: Final = "myid"
# How often somebody who waits for a quorum looks whether it is there.
LOOK_S: Final = 0.002
_LOOKING: Final = "looking"
_ROLES: Final = {"leaderelection": _LOOKING}


class Config:
    """What a server is to be, in the words of zoo.cfg; it is read when the server starts."""

    def __init__(
        self,
        keys: Mapping[str, object] | None = None,
        *,
        properties: Mapping[str, object] | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        client_port: int | None = None,
        my_id: int | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        """`keys` are those of zoo.cfg, `properties` Java's system properties; both go over the file `path`.

        Without a file the server listens on 127.0.0.1; without a port on any free one. `data_dir` None, and none in
        file or keys: a temporary directory, which goes with the server. `my_id` is written into its `myid`.
        """
        self.keys = {name: str(value) for name, value in (keys or {}).items()}
        self.properties = {name: str(value) for name, value in (properties or {}).items()}
        self.path = None if path is None else os.fspath(path)
        self.my_id = my_id
        if data_dir is not None:
            self.keys["dataDir"] = os.fspath(data_dir)
        if client_port is not None:
            self.keys["clientPort"] = str(client_port)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], keys: Mapping[str, object] | None = None) -> Self:
        """That of a zoo.cfg; `keys` go over it."""
        return cls(keys, path=path)

    @property
    def needs_directory(self) -> bool:
        """Whether nobody has said where the data is."""
        return self.path is None and "dataDir" not in self.keys

    def load(self, data_dir: str | None) -> ServerConfig:
        """All that it means, with `data_dir` where it needs one. Raises ConfigError."""
        keys = dict(self.keys)
        if data_dir is not None:
            keys["dataDir"] = data_dir
        if self.path is None:
            keys.setdefault("clientPort", "0")
        if self.my_id is not None:
            self._write_id(keys.get("dataDir", ""))
        overrides = {name: Entry(value, "the keys given") for name, value in keys.items()}
        properties = {name: Entry(value, "the properties given") for name, value in self.properties.items()}
        return load_config(self.path, overrides=overrides, properties=properties)

    def _write_id(self, data_dir: str) -> None:
        if not data_dir:
            raise ConfigError("my_id needs a data directory among the keys")
        file = Path(data_dir, MYID)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{self.my_id}\n")


class GuardedLoop:
    """The part of an event loop that a server uses, on the loop of somebody else.

    `on_broken` hears what a callback raised. After `die` no callback runs any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_dead = False
        self.on_broken: Callable[[BaseException, str], None] = lambda error, what: None

    def die(self) -> None:
        self._is_dead = True

    def _run(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        if self._is_dead:
            return
        try:
            callback(*args)
        except Exception as error:
            self.on_broken(error, repr(callback))

    # As asyncio.AbstractEventLoop.

    def time(self) -> float:
        return self._loop.time()

    def create_future(self) -> asyncio.Future[T]:
        return self._loop.create_future()

    def create_task(self, coro: asyncio._CoroutineLike[T]) -> asyncio.Task[T]:
        return self._loop.create_task(coro)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self._loop.call_soon(self._run, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self._loop.call_soon_threadsafe(self._run, callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, self._run, callback, *args, context=context)

    def add_reader(self, fd: socket, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        self._loop.add_reader(fd, self._run, callback, *args)

    def remove_reader(self, fd: socket) -> bool:
        return self._loop.remove_reader(fd)

    async def create_connection(self, make: Callable[[], P], host: str, port: int) -> tuple[asyncio.Transport, P]:
        return await self._loop.create_connection(make, host, port)

    async def connect_accepted_socket(self, make: Callable[[], P], sock: socket) -> tuple[asyncio.Transport, P]:
        # Whoever is cancelled closes the socket, and so does uvloop: by then the number may be somebody else's file.
        taken = socket(fileno=sock.detach())
        return await self._finish(self._loop.connect_accepted_socket(make, taken))

    async def _finish(
        self, work: Coroutine[object, object, tuple[asyncio.Transport, P]]
    ) -> tuple[asyncio.Transport, P]:
        """Makes a transport of a socket that stands, in any case; who has been cancelled does not want it."""
        task = self._loop.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_drop)
            raise

    async def getaddrinfo(self, host: str, port: int | None, *, type: SocketKind) -> Sequence[object]:
        return await self._loop.getaddrinfo(host, port, type=type)


class _OwnDisk(RealDisk):
    """A disk whose files can all be let go of, as the kernel does for a process that is killed."""

    def __init__(self, post: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(post)
        self._files: list[RealFile] = []
        self._locks: list[RealLock] = []

    def create(self, path: str) -> RealFile:
        return self._keep(super().create(path))

    def open_append(self, path: str) -> RealFile:
        return self._keep(super().open_append(path))

    def _keep(self, file: RealFile) -> RealFile:
        self._files = [kept for kept in self._files if not kept.is_closed]
        self._files.append(file)
        return file

    def lock(self, path: str) -> RealLock:
        lock = super().lock(path)
        self._locks.append(lock)
        return lock

    def abandon(self) -> None:
        """The worker ends after what it has been given, which nobody hears of; then every file is closed as it is."""
        self.close()
        for file in self._files:
            file.close()
        for lock in self._locks:
            lock.release()


class _NoCollector:
    """coati.server.recovery.Collector of a process that has more to do than to be a server."""

    def rest(self) -> None:
        pass

    def go_on(self) -> None:
        pass

    def settle(self) -> None:
        pass


class Server:
    """One server on the running loop. Enter it once; it may be stopped or killed before it is left.

        async with Server(Config({"tickTime": 500}, data_dir="data")) as s:
            print(s.hosts)

    Entering recovers the data, which blocks the loop for as long as that takes, and returns once clients may connect.
    A member of an ensemble looks for a leader then: see `wait_serving`. Raises ConfigError, StorageCorrupt,
    StorageFailed, and OSError when the port is taken.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        guard: Callable[[asyncio.AbstractEventLoop], GuardedLoop] = GuardedLoop,
    ) -> None:
        """`guard` stands between the server and the loop."""
        self._given = config or Config()
        self._make_guard = guard
        self._guard: GuardedLoop | None = None
        self._main: MainServer | None = None
        self._disk: _OwnDisk | None = None
        self._temporary: str | None = None
        self._address = ("", 0)
        self._is_closed = False
        self.config: ServerConfig | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """What entering does."""
        assert self._main is None, "a server is started once"
        if self._given.needs_directory:
            self._temporary = tempfile.mkdtemp(prefix="coati-")
        try:
            self._open(asyncio.get_running_loop())
        except BaseException:
            self._release()
            raise

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self._given.load(self._temporary)
        guard = self._guard = self._make_guard(loop)
        # By its type asyncio's loop has forty methods that must all be there; a server uses those of the guard.
        guarded = cast(asyncio.AbstractEventLoop, guard)
        disk = self._disk = _OwnDisk(guard.call_soon_threadsafe)
        main = MainServer(config, guarded, SystemClock(), disk=disk, collector=_NoCollector())
        guard.on_broken = main.on_broken
        self.config, self._main = config, main
        self._address = main.open()

    # What it is.

    @property
    def hosts(self) -> str:
        """Where clients connect: `127.0.0.1:2181`."""
        host, port = self._address
        # All addresses of this machine are no address to connect to.
        return java_address("127.0.0.1" if host in ("0.0.0.0", "0:0:0:0:0:0:0:0") else host, port)

    @property
    def client_port(self) -> int:
        return self._address[1]

    @property
    def role(self) -> str:
        """`standalone`, `leader`, `follower`, `observer`, `read-only`, `looking` for a leader, or `stopped`."""
        if self._main is None or self._is_closed or self._main.has_ended:
            return "stopped"
        mode = self._main.driver.mode()
        return _ROLES.get(mode, mode)

    @property
    def is_serving(self) -> bool:
        """Whether clients are served, with writes."""
        return self.role not in ("stopped", _LOOKING, "read-only") and self.server.driver.replica is not None

    @property
    def server(self) -> MainServer:
        """What it is made of, for those who look inside."""
        assert self._main is not None, "the server is not started"
        return self._main

    @property
    def view(self) -> LiveView:
        """What four-letter words are answered from."""
        return self.server.view

    @property
    def tree(self) -> Tree | None:
        """The znodes, to be read and never changed; None while nobody is served."""
        replica = None if self._is_closed else self.server.driver.replica
        return None if replica is None else replica.tree

    async def wait_serving(self, timeout: float | None = 30.0) -> None:
        """Returns once clients are served. Raises TimeoutError after so many seconds, and when the server has ended."""
        async with asyncio.timeout(timeout):
            while not self.is_serving:
                if self.role == "stopped":
                    raise TimeoutError("the server has ended")
                await _pause(LOOK_S)

    # Its end.

    async def stop(self) -> None:
        """Ends in order, as SIGTERM ends a process: what is under way is answered. Again it does nothing."""
        if self._is_closed or self._main is None:
            return
        main = self._main
        main.stop("stop")
        try:
            await main.wait()
        finally:
            self._is_closed = True
            try:
                main.close()
            finally:
                self._release()

    async def kill(self) -> None:
        """Ends at once, as SIGKILL ends a process: nobody is told, and what was not written is lost."""
        if self._is_closed or self._main is None:
            return
        self._is_closed = True
        self._main.abandon()
        self._release()
        # One turn of the loop: its connections are closed when this returns.
        await _pause(0)

    def _release(self) -> None:
        if self._guard is not None:
            self._guard.die()
        if self._disk is not None:
            self._disk.abandon()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _drop(task: asyncio.Task[tuple[asyncio.Transport, P]]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result()[0].abort()


async def _pause(delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    timer = loop.call_later(delay_s, turn.set_result, None)
    try:
        await turn
    finally:
        timer.cancel()

"""What the client's tests need of the world: a coati server as a process, and a relay in front of it that can be cut.

A `Relay` lives on the test's loop. `cut` drops the connections and refuses new ones until `heal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import coati

HOST = "127.0.0.1"
DEADLINE_S = 20.0


class Relay:
    """Carries bytes between clients and a server."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.accepted = 0
        self._server_port = port
        self._is_cut = False
        self._cuts = 0
        self._writers: dict[asyncio.StreamWriter, None] = {}

    def cut(self) -> None:
        """From now on nobody gets through."""
        self._is_cut = True
        self._cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        """Those who dial from now on get through."""
        self._is_cut = False

    def _has_been_cut(self, at: int) -> bool:
        return self._cuts > at

    async def on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        at = self._cuts
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            down, up = await asyncio.open_connection(HOST, self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer: None, up: None}
        if self._has_been_cut(at):
            up.transport.abort()
            writer.transport.abort()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, up))
                both.create_task(_carry(down, writer))
        finally:
            for one in (writer, up):
                del self._writers[one]
                one.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.transport.abort()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """In front of the server on `port`."""
    made = Relay(port)
    server = await asyncio.start_server(made.on_client, HOST, 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """On a loop of its own, within a time."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene()

    asyncio.run(bounded())


def client(at: int | Relay, *, session_timeout: float = 10.0) -> coati.Client:
    """Of the server on a port, or behind a relay."""
    return coati.Client(f"{HOST}:{at if isinstance(at, int) else at.port}", session_timeout=session_timeout)


async def expire(zk: coati.Client, gate: Relay, port: int) -> None:
    """Ends the session of a client behind the relay, and waits for its next one."""
    before = zk.session.id
    gate.cut()
    async with coati.Client(f"{HOST}:{port}", resume=zk.session.token):
        pass
    gate.heal()
    await until(lambda: zk.session.id not in (0, before) and zk.session.state is coati.State.CONNECTED)


async def until(holds: Callable[[], object]) -> None:
    """Asks again and again, for what no event announces."""
    never = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.wait([never], timeout=0.002)

"""A wire between client and server that can lose answers: requests go through, what comes back is thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.interop.peers import Server


class Wire:
    """`mute()`, do something, `cut()`: whoever waits gets ConnectionLoss although the server has done it.

    With `deafen()` the server has not.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_mute = False
        self._is_deaf = False
        self._open: dict[asyncio.StreamWriter, None] = {}
        self.passed = 0
        self.port = 0
        self.tasks: list[asyncio.Task[None]] = []

    def mute(self) -> None:
        """From now on no answer comes through."""
        self._is_mute = True

    def deafen(self) -> None:
        """From now on no request comes through."""
        self._is_deaf = True

    def cut(self) -> None:
        """Ends all connections; later ones work again."""
        self._is_mute = self._is_deaf = False
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def swallowed(self) -> None:
        """Until something has been thrown away."""
        before = self.passed
        while self.passed == before:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)

    async def on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        there, back = await asyncio.open_connection(self._server.host, self._server.port)
        self._open[writer] = None
        self._open[back] = None
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        await asyncio.gather(self._forward(reader, back, is_answer=False), self._forward(there, writer, is_answer=True))
        writer.close()
        back.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                if self._is_mute if is_answer else self._is_deaf:
                    self.passed += 1
                else:
                    writer.write(data)
        except OSError:
            pass
        writer.close()


@asynccontextmanager
async def wire(server: Server) -> AsyncIterator[Wire]:
    """A wire to the server; connect to 127.0.0.1 and its `port`."""
    made = Wire(server)
    listening = await asyncio.start_server(made.on_client, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.cut()
        listening.close()
        await asyncio.gather(*made.tasks)

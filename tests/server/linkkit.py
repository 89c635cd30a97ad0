"""For tests of the ports between servers: doors that take notes, and strangers on plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from coati.server.links import LinkLimits, Links
from coati.server.ports import Acceptor, Lookup
from coati.wire.quorum import LOOKING, Notification, Packet
from coati.zab.quorum import Server, View
from tools.javapeer import free_ports

Run = Callable[[Awaitable[None]], None]

HOST: Final = "127.0.0.1"
WAIT_S: Final = 20
POLL_S: Final = 0.004


def make_view(*sids: int, hosts: Sequence[str] = (), observers: Sequence[int] = ()) -> View:
    ports = free_ports(2 * len(sids))
    names = list(hosts) or [HOST] * len(sids)
    return View.build(
        [
            Server(sid, name, ports.pop(), ports.pop(), is_observer=sid in observers)
            for sid, name in zip(sids, names, strict=True)
        ],
        {},
        {},
    )


def vote(leader: int, round_: int = 1, config: bytes | None = None) -> Notification:
    return Notification(LOOKING, leader, 0x100, round_, 1, config)


class Doors:
    """Keeps what it is told; `reply` may answer a packet, `on_bytes` raw bytes."""

    def __init__(self) -> None:
        self.votes: list[tuple[int, Notification]] = []
        self.standing: list[int] = []
        self.lost: list[int] = []
        self.packets: list[tuple[int, Packet]] = []
        self.raw: dict[int, bytes] = {}
        self.drained: list[int] = []
        self.undialled: list[int] = []
        self.refused: list[int] = []
        self.failures: list[str] = []
        self.reply: Callable[[int, Packet], None] = lambda link, packet: None
        self.on_bytes: Callable[[int], None] = lambda link: None

    def on_vote(self, sender: int, n: Notification) -> None:
        self.votes.append((sender, n))

    def on_refused(self, sid: int) -> None:
        self.refused.append(sid)

    def on_bind_failed(self, reason: str) -> None:
        self.failures.append(reason)

    def on_link(self, link: int, peer: str) -> None:
        self.standing.append(link)

    def on_packets(self, link: int, packets: list[Packet]) -> None:
        for packet in packets:
            self.packets.append((link, packet))
            self.reply(link, packet)

    def on_raw(self, link: int, data: bytes) -> None:
        self.raw[link] = self.raw.get(link, b"") + data
        self.on_bytes(link)

    def on_drained(self, link: int) -> None:
        self.drained.append(link)

    def on_link_lost(self, link: int) -> None:
        self.lost.append(link)

    def on_dial_failed(self, sid: int) -> None:
        self.undialled.append(sid)

    @property
    def leaders(self) -> list[tuple[int, int]]:
        """(sender, leader) of each vote."""
        return [(sender, n.leader) for sender, n in self.votes]


class Node:
    """One server's ports."""

    def __init__(
        self,
        sid: int,
        view: View,
        limits: LinkLimits | None = None,
        lookup: Lookup | None = None,
        doors: Doors | None = None,
    ) -> None:
        self.sid = sid
        self.view = view
        self.doors = doors or Doors()
        self.links = Links(sid, view, self.doors, asyncio.get_running_loop(), limits, lookup)
        self.links.start()


@contextlib.asynccontextmanager
async def nodes(
    view: View, *sids: int, limits: LinkLimits | None = None, lookup: Lookup | None = None
) -> AsyncIterator[list[Node]]:
    """Servers that listen; whatever a test leaves open ends with them."""
    started = [Node(sid, view, limits or quick(), lookup) for sid in sids]
    try:
        await until(lambda: all(is_listening(node.links.election.acceptor) for node in started))
        yield started
    finally:
        for node in started:
            node.links.stop()
        me = asyncio.current_task()
        await until(lambda: not [task for task in asyncio.all_tasks() if task is not me])


def is_listening(acceptor: Acceptor) -> bool:
    """Whether the kernel lets in who comes."""
    bound = acceptor._socket
    return bound is not None and bool(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def quick(**given: int) -> LinkLimits:
    limits = LinkLimits(bind_pause_ms=20)
    for name, value in given.items():
        setattr(limits, name, value)
    return limits


async def until(holds: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    """Waits for something to become true. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + wait_s
    while not holds():
        if loop.time() > deadline_s:
            raise TimeoutError
        turn = loop.create_future()
        loop.call_later(POLL_S, turn.set_result, None)
        await turn


class Stranger:
    """Somebody on a plain connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @staticmethod
    async def at(port: int) -> Stranger:
        return Stranger(*await asyncio.open_connection(HOST, port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        parts = []
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                while part := await self.reader.read(1 << 16):
                    parts.append(part)
        self.writer.close()
        return b"".join(parts)

    def reset(self) -> None:
        self.writer.transport.abort()

    def stop_reading(self) -> None:
        """What comes stays in the socket."""
        transport: Any = self.writer.transport
        transport.pause_reading()

    def go_on_reading(self) -> None:
        transport: Any = self.writer.transport
        transport.resume_reading()


def hello(sid: int, text: bytes = b"127.0.0.1:1", version: int = -65536, length: int | None = None) -> bytes:
    return struct.pack(">qqi", version, sid, len(text) if length is None else length) + text

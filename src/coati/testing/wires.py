"""Servers of one process, on real sockets, that can be stopped as by SIGSTOP and cut off from each other.

Knows event loops and sockets, and whose the ports are. Must not know what is said on a connection.
A server has a `MemberLoop` for its loop. While it is frozen its callbacks wait, and what is sent to it stays in the
kernel's buffers. While the way from one to another is cut, what is written there waits, the end of the connection too,
and goes on when the cut is mended, as TCP sends anew what was lost. Who connects across a cut waits as well.
Invariant: of a server that is dead or frozen no callback runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import TypeAlias, TypeVar, TypeVarTuple, Unpack, cast

from coati.server.embed import GuardedLoop

Ts = TypeVarTuple("Ts")
P = TypeVar("P", bound=asyncio.BaseProtocol)
_Call: TypeAlias = Callable[[], object]


class Network:
    """What lies between the servers of one ensemble."""

    def __init__(self) -> None:
        # Ways that are cut, from and to; who owns a port; and whose connection has an end at this address.
        self._cuts: set[tuple[int, int]] = set()
        self._owners: dict[int, int] = {}
        self._dialled: dict[tuple[str, int], int] = {}
        self._wires: dict[Wire, None] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def give_port(self, port: int, sid: int) -> None:
        """Who connects to this port connects to that server."""
        self._owners[port] = sid

    def owner(self, port: int) -> int | None:
        return self._owners.get(port)

    def set_cuts(self, ways: Iterable[tuple[int, int]]) -> None:
        """From now on nothing gets from the first of each pair to the second, and all gets through elsewhere.

        First of all what has waited there.
        """
        self._cuts = set(ways)
        for wire in list(self._wires):
            wire.on_changed()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def is_cut(self, sender: int, receiver: int | None) -> bool:
        return (sender, receiver) in self._cuts

    async def until_open(self, one: int, other: int) -> None:
        """Until both hear each other."""
        while self.is_cut(one, other) or self.is_cut(other, one):
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    # The ends of connections.

    def on_dialling(self, address: tuple[str, int], sid: int) -> None:
        self._dialled[address] = sid

    def dialler(self, address: tuple[str, int]) -> int | None:
        """Whose connection it is that comes from there; None for a client's."""
        return self._dialled.get(address)

    def on_gone(self, address: tuple[str, int]) -> None:
        self._dialled.pop(address, None)

    def add(self, wire: Wire) -> None:
        self._wires[wire] = None

    def remove(self, wire: Wire) -> None:
        self._wires.pop(wire, None)


class MemberLoop(GuardedLoop):
    """The loop of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sid: int, network: Network) -> None:
        super().__init__(loop)
        self.sid = sid
        self.network = network
        self.is_frozen = False
        self._held: list[tuple[asyncio.Handle | None, _Call]] = []
        self._readers: dict[socket.socket, _Call] = {}
        self._wires: dict[Wire, None] = {}
        self._thawed = asyncio.Event()
        self._thawed.set()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.is_frozen:
            return
        self.is_frozen = True
        self._thawed.clear()
        for sock in self._readers:
            self._loop.remove_reader(sock)
        for wire in self._wires:
            wire.steer()

    def thaw(self) -> None:
        """SIGCONT: first what is due, then what its sockets hold."""
        if not self.is_frozen:
            return
        self.is_frozen = False
        held, self._held = self._held, []
        for handle, call in held:
            self._loop.call_soon(self._run_held, handle, call)
        self._loop.call_soon(self._hear_again)
        self._thawed.set()

    def _run_held(self, handle: asyncio.Handle | None, call: _Call) -> None:
        # One that ran before may have cancelled it.
        if handle is None or not handle.cancelled():
            self._run(call)

    def _hear_again(self) -> None:
        if self.is_frozen:
            return
        for sock, call in self._readers.items():
            self._loop.add_reader(sock, self._run, call)
        for wire in self._wires:
            wire.steer()

    def die(self) -> None:
        super().die()
        self._held = []
        self._readers = {}
        self._thawed.set()

    def deliver(self, call: _Call) -> None:
        """Something has come for a protocol of this server."""
        if self.is_frozen and not self._is_dead:
            self._held.append((None, call))
        elif not self._is_dead:
            call()

    def add_wire(self, wire: Wire) -> None:
        self._wires[wire] = None
        self.network.add(wire)

    def remove_wire(self, wire: Wire) -> None:
        self._wires.pop(wire, None)
        self.network.remove(wire)

    @property
    def has_wires(self) -> bool:
        """Whether connections are left that the kernel has not closed."""
        return bool(self._wires)

    def drop_clients(self) -> int:
        """Ends the connections of its clients without a word; how many there were."""
        clients = [wire for wire in self._wires if wire.peer is None]
        for wire in clients:
            wire.abort()
        return len(clients)

    # As a GuardedLoop.

    def _run(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        if self.is_frozen and not self._is_dead:
            self._held.append((None, partial(callback, *args)))
        else:
            super()._run(callback, *args)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        # What it stands for is known only when it is made.
        of_timer: list[asyncio.Handle] = []
        handle = self._loop.call_later(delay, self._fire, of_timer, partial(callback, *args), context=context)
        of_timer.append(handle)
        return handle

    def _fire(self, of_timer: list[asyncio.Handle], call: _Call) -> None:
        if self.is_frozen and not self._is_dead:
            self._held.append((of_timer[0], call))
        else:
            super()._run(call)

    def add_reader(self, fd: socket.socket, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        call = self._readers[fd] = partial(callback, *args)
        if not self.is_frozen:
            self._loop.add_reader(fd, self._run, call)

    def remove_reader(self, fd: socket.socket) -> bool:
        self._readers.pop(fd, None)
        return self._loop.remove_reader(fd)

    async def create_connection(self, make: Callable[[], P], host: str, port: int) -> tuple[asyncio.Transport, P]:
        peer = self.network.owner(port)
        if peer is None:
            return await super().create_connection(make, host, port)
        await self.network.until_open(self.sid, peer)
        inner = make()
        await self._loop.create_connection(lambda: _Ear(self, peer, inner), host, port)
        # A process that is stopped does not learn either that it is connected.
        await self._thawed.wait()
        return _no_transport(), inner

    async def connect_accepted_socket(self, make: Callable[[], P], sock: socket.socket) -> tuple[asyncio.Transport, P]:
        inner = make()
        await super().connect_accepted_socket(lambda: _Ear(self, None, inner), sock)
        return _no_transport(), inner


def _no_transport() -> asyncio.Transport:
    """A server has its transport from `connection_made`, and none of it looks at what the loop returns."""
    return asyncio.Transport()


class _Ear(asyncio.Protocol):
    """What the kernel's end of a connection reports, on its way to the server's protocol."""

    def __init__(self, loop: MemberLoop, dialled: int | None, inner: asyncio.BaseProtocol) -> None:
        """`dialled`: the server it was made to, None if it was accepted."""
        # What a server connects are stream protocols, all of them.
        self._inner = cast(asyncio.Protocol, inner)
        self._loop = loop
        self._dialled = dialled
        self._address = ("", 0)
        self._wire: Wire | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has all the methods of asyncio's and is none by type.
        wire = self._wire = Wire(self._loop, self._dialled, cast(asyncio.Transport, transport), self._inner)
        if self._dialled is not None:
            self._address = transport.get_extra_info("sockname")
            self._loop.network.on_dialling(self._address, self._loop.sid)
        self._loop.add_wire(wire)
        self._loop.deliver(partial(self._inner.connection_made, wire))
        wire.steer()

    def data_received(self, data: bytes) -> None:
        if self._wire is not None and not self._wire.is_given_up:
            self._loop.deliver(partial(self._inner.data_received, data))

    def eof_received(self) -> bool | None:
        if self._wire is not None and not self._wire.is_given_up:
            self._loop.deliver(self._inner.eof_received)
        return None

    def pause_writing(self) -> None:
        self._loop.deliver(self._inner.pause_writing)

    def resume_writing(self) -> None:
        self._loop.deliver(self._inner.resume_writing)

    def connection_lost(self, exc: Exception | None) -> None:
        self._loop.network.on_gone(self._address)
        if self._wire is not None:
            self._loop.remove_wire(self._wire)
            self._wire.on_lost(exc)


class Wire(asyncio.Transport):
    """The transport that a server's protocol has.

    `is_given_up`: closed from here across a cut, so the other end does not know.
    """

    def __init__(
        self, loop: MemberLoop, peer: int | None, transport: asyncio.Transport, inner: asyncio.Protocol
    ) -> None:
        super().__init__()
        self.is_given_up = False
        self._peer = peer
        self._remote: tuple[str, int] = transport.get_extra_info("peername") or ("", 0)
        self._loop = loop
        self._transport = transport
        self._inner = inner
        self._is_aborted = False
        self._is_told = False
        self._wants_to_read = True
        # Written across a cut.
        self._held = bytearray()

    @property
    def peer(self) -> int | None:
        """The server at the other end, None for a client."""
        if self._peer is None:
            # It may be accepted before its other end knows that it stands.
            self._peer = self._loop.network.dialler(self._remote)
        return self._peer

    @property
    def _is_cut(self) -> bool:
        return self._loop.network.is_cut(self._loop.sid, self.peer)

    def steer(self) -> None:
        """Reads if the server wants to and is not frozen."""
        if self._transport.is_closing():
            return
        if self._wants_to_read and not self._loop.is_frozen:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def on_changed(self) -> None:
        """Other ways are cut than before, perhaps not this one any more."""
        if self._is_cut:
            return
        if self._held and not self._is_aborted:
            self._transport.write(bytes(self._held))
        self._held.clear()
        if self._is_aborted:
            self._transport.abort()
        elif self.is_given_up:
            self._transport.close()

    def on_lost(self, exc: Exception | None) -> None:
        """The kernel's connection is gone."""
        if not self._is_told:
            self._is_told = True
            self._loop.deliver(partial(self._inner.connection_lost, exc))

    def _give_up(self) -> None:
        """The server is told that it is closed, as it would be; the other end is not."""
        if not self.is_given_up:
            self.is_given_up = True
            self._loop.call_soon(self.on_lost, None)

    # As asyncio.Transport.

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        if self._held or self._is_cut:
            self._held += data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._is_cut:
            self._give_up()
        else:
            self._transport.close()

    def abort(self) -> None:
        if self._is_cut:
            self._is_aborted = True
            self._give_up()
        else:
            self._transport.abort()

    def is_closing(self) -> bool:
        return self.is_given_up or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._wants_to_read = False
        self.steer()

    def resume_reading(self) -> None:
        self._wants_to_read = True
        self.steer()

    def is_reading(self) -> bool:
        return self._wants_to_read

    def get_write_buffer_size(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high=high, low=low)

    def get_extra_info(self, name: str, default: object = None) -> object:
        found: object = self._transport.get_extra_info(name, default)
        return found


def free_sockets(count: int, host: str = "127.0.0.1") -> list[socket.socket]:
    """So many ports of the kernel's choice, each kept by a socket that is bound and never listens.

    Servers bind the same ports, as all of them set SO_REUSEADDR; but the kernel gives them to nobody else, neither to
    who wants any port nor to who connects, until the socket here is closed.
    """
    with contextlib.ExitStack() as stack:
        kept = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, 0))
            kept.append(sock)
        stack.pop_all()
    return kept

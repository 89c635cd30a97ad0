"""The sockets between servers, before anything is said on them: listening with patience, looking names up, dialling.

Knows asyncio and sockets. Must not know what is said. No call here waits for another server: lookups and connects are
tasks, each with its time, and at most one lookup of a name runs at once, however often it is asked for.
Invariant: after `close` nothing is reported, and a socket that was accepted has a protocol or is closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, cast

from coati.server.listeners import bind

logger = logging.getLogger("coati.server.ports")

Lookup = Callable[[str], Awaitable[list[str]]]
P = TypeVar("P", bound=asyncio.BaseProtocol)

ACCEPT_BATCH: Final = 16
ACCEPT_PAUSE_S: Final = 0.1
BACKLOG: Final = 128
# Addresses of one name that are tried; each gets its part of the time.
MAX_ADDRESSES: Final = 4
_GONE_BY_NOW: Final = (BlockingIOError, InterruptedError, ConnectionAbortedError)


class Resolver:
    """Names to addresses, anew each time: a server that moved is found again (ZOOKEEPER-2982, 1506)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lookup: Lookup | None = None) -> None:
        self._loop = loop
        self._lookup: Lookup = lookup or self._ask_system
        self._running: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str, timeout_s: float) -> list[str]:
        """Its addresses, some. Raises OSError, when the name is unknown or nobody says so in time."""
        if is_numeric(host):
            return [host]
        task = self._running.get(host)
        if task is None:
            task = self._loop.create_task(self._look_up(host))
            self._running[host] = task
        # A slow lookup goes on for whoever asks next: its thread could not be stopped anyway.
        await asyncio.wait((task,), timeout=timeout_s)
        if not task.done():
            raise TimeoutError(errno.ETIMEDOUT, f"the name {host} is still being looked up")
        addresses = task.result()
        if not addresses:
            raise OSError(errno.EHOSTUNREACH, f"the name {host} is unknown")
        return addresses[:MAX_ADDRESSES]

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _look_up(self, host: str) -> list[str]:
        try:
            return await self._lookup(host)
        except (OSError, UnicodeError):
            # UnicodeError: a label of more than 63 letters.
            return []
        finally:
            del self._running[host]

    async def _ask_system(self, host: str) -> list[str]:
        found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_numeric(host: str) -> bool:
    """Whether it is an address already, so that nobody has to be asked."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


async def dial(
    loop: asyncio.AbstractEventLoop,
    resolver: Resolver,
    address: tuple[str, int],
    make: Callable[[], P],
    timeout_s: float,
) -> P:
    """The protocol of a connection to host and port. Raises OSError, after `timeout_s` at the latest for each half."""
    host, port = address
    addresses = await resolver.resolve(host, timeout_s)
    refusal: OSError | None = None
    for numeric in addresses:
        try:
            async with asyncio.timeout(timeout_s / len(addresses)):
                _, protocol = await loop.create_connection(make, numeric, port)
            return protocol
        except OSError as error:
            refusal = error
    assert refusal is not None, "a name has an address, or it is refused"
    raise refusal


class Acceptor:
    """A port that is bound at once, and listens when it is told to: until then the kernel refuses who comes.

    While the port is busy it tries again: `retries` times (0: for ever), then `on_failed`. A host name that cannot be
    resolved is no reason to give up (ZOOKEEPER-3320 and its kin).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        address: tuple[str, int],
        *,
        make: Callable[[str], asyncio.Protocol],
        on_failed: Callable[[str], None],
        retries: int,
        pause_s: float,
    ) -> None:
        self.host, self.port = address
        self._loop = loop
        self._resolver = resolver
        self._make = make
        self._on_failed = on_failed
        self._retries = retries
        self._pause_s = pause_s
        self.failures = 0
        self._listens = False
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._adopting: dict[asyncio.Task[None], socket.socket] = {}

    def start(self, *, listens: bool) -> None:
        self._listens = listens
        self._bind_soon()

    def set_listening(self, listens: bool) -> None:
        """A port that stops listening is bound again at once, so that nobody else takes it."""
        if listens == self._listens:
            return
        self._listens = listens
        bound = self._socket
        if bound is None:
            return
        if listens:
            self._open(bound)
        else:
            self._drop_socket()
            self._bind_soon()

    def close(self) -> None:
        self._drop_socket()
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task, accepted in self._adopting.items():
            task.cancel()
            accepted.close()
        self._adopting.clear()

    # Binding.

    def _bind_soon(self) -> None:
        assert self._task is None, "an attempt ends before the next one is thought of"
        self._timer = None
        self._task = self._loop.create_task(self._bind())

    async def _bind(self) -> None:
        try:
            host = ""
            if self.host:
                try:
                    host = (await self._resolver.resolve(self.host, self._pause_s * 10))[0]
                except OSError as error:
                    logger.warning("own name not resolved, trying again host=%s reason=%s", self.host, error)
                    self._retry()
                    return
            try:
                bound = bind(host, self.port)
            except OSError as error:
                self._on_busy(error)
                return
            self.port = bound.getsockname()[1]
            self._open(bound)
        finally:
            self._task = None

    def _open(self, bound: socket.socket) -> None:
        self._socket = bound
        if not self._listens:
            return
        try:
            # Two sockets may be bound to one port as long as nobody listens: the second finds out here.
            bound.listen(BACKLOG)
        except OSError as error:
            self._socket = None
            bound.close()
            self._on_busy(error)
            return
        self.failures = 0
        logger.info("listening host=%s port=%d", self.host or "*", self.port)
        self._loop.add_reader(bound, self._accept)

    def _on_busy(self, error: OSError) -> None:
        self.failures += 1
        reason = error.strerror or str(error)
        logger.warning("cannot listen host=%s port=%d reason=%s", self.host or "*", self.port, reason)
        if 0 < self._retries <= self.failures:
            self._on_failed(f"cannot listen on {self.host or '*'}:{self.port}: {reason}")
        else:
            self._retry()

    def _retry(self) -> None:
        self._timer = self._loop.call_later(self._pause_s, self._bind_soon)

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    # Accepting.

    def _accept(self) -> None:
        listening = self._socket
        assert listening is not None, "the loop is told when the socket goes"
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, address = listening.accept()
            except _GONE_BY_NOW:
                return
            except OSError as error:
                # Out of descriptors or memory: who waits stays in the kernel's queue for a while.
                logger.warning("accepting paused port=%d reason=%s", self.port, error.strerror or error)
                self._loop.remove_reader(listening)
                self._loop.call_later(ACCEPT_PAUSE_S, self._go_on_accepting, listening)
                return
            task = self._loop.create_task(self._adopt(accepted, f"{address[0]}:{address[1]}"))
            self._adopting[task] = accepted
            task.add_done_callback(self._forget_task)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._adopting.pop(task, None)

    async def _adopt(self, accepted: socket.socket, name: str) -> None:
        try:
            accepted.setblocking(False)
            await self._loop.connect_accepted_socket(lambda: self._make(name), accepted)
        except OSError as error:
            logger.debug("connection lost at once peer=%s reason=%s", name, error)
            accepted.close()

    def _go_on_accepting(self, listening: socket.socket) -> None:
        if self._socket is listening:
            self._loop.add_reader(listening, self._accept)


def socket_of(transport: asyncio.Transport) -> socket.socket:
    """The socket of a TCP transport, to set options on."""
    return cast(socket.socket, transport.get_extra_info("socket"))

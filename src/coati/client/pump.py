"""Pump: the asyncio shell of a Session. It carries bytes, keeps the timer, resolves futures, and decides nothing.

Knows the running loop: its time, its connections, its tasks. Everything it starts ends with it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final

from coati.client.hosts import Host, HostProvider, parse_host
from coati.client.session import FOREVER_MS, Call, Outbox, Session
from coati.client.types import State, StateChange
from coati.client.watching import Watch
from coati.errors import ClientClosed, ForkedClient

PROBE_TIMEOUT_S: Final = 3.0
FINAL: Final = (State.CLOSED, State.AUTH_FAILED)
ENDED: Final = (State.EXPIRED, *FINAL)


class _Forks:
    """Counts how often this process has come out of a fork since the module was loaded."""

    count = 0

    @classmethod
    def add(cls) -> None:
        cls.count += 1


os.register_at_fork(after_in_child=_Forks.add)


class Connection(asyncio.Protocol):
    """One connection of the session; silent once it is not the current one."""

    __slots__ = ("_pump", "transport")

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        pump = self._pump
        if pump.connection is self:
            pump.machine.on_data(data, pump.now_ms())
            pump.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        pump = self._pump
        if pump.connection is self:
            pump.connection = None
            pump.machine.on_closed(f"the connection was lost: {exc or 'closed by the server'}", pump.now_ms())
            pump.flush()


class Pump:
    """Runs a machine on the running loop from `start` to `close`."""

    def __init__(self, machine: Session, *, tls: ssl.SSLContext | None, provider: HostProvider | None) -> None:
        self.machine = machine
        self.connection: Connection | None = None
        self._tls = tls
        self._provider = provider
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forks = _Forks.count
        self._timer: asyncio.TimerHandle | None = None
        self._wake_ms = FOREVER_MS
        self._flush_is_due = False
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._dialing: asyncio.Task[None] | None = None
        self._listeners: list[deque[StateChange]] = []
        self._changed: asyncio.Future[None] | None = None
        # Those to tell that no event will come any more.
        self.open_watches: dict[Watch, None] = {}
        # Those to tell that the session is over, whether another one follows or not.
        self.mourners: dict[Callable[[str], None], None] = {}

    # --- doors ------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The loop's time."""
        assert self._loop is not None
        return int(self._loop.time() * 1000)

    @property
    def is_over(self) -> bool:
        """The machine has come to its end."""
        state = self.machine.state
        return state in FINAL or (state is State.EXPIRED and not self.machine.config.renews)

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop the client lives on. Raises ClientClosed before `start`, ForkedClient in a child process."""
        if self._forks != _Forks.count:
            error = ForkedClient("this client belongs to the parent process")
            error.hint = "open a client of its own after the fork, or start workers by spawn"
            raise error
        if self._loop is None:
            error_ = ClientClosed("the client was not started")
            error_.hint = "use `async with client:` or `await client.start()`"
            raise error_
        return self._loop

    def start(self) -> None:
        """On the running loop."""
        self._forks = _Forks.count
        self._loop = asyncio.get_running_loop()
        self.machine.start(self.now_ms())
        self.flush()

    async def ask(self, call: Call, *, joins: bool = False) -> None:
        """Until the call is over: then it has a `payload` or a `failure`. Cancelled, it is withdrawn.

        `joins`: it is sent together with what else this turn of the loop asks for.
        """
        loop = self.loop()
        future: asyncio.Future[None] = loop.create_future()
        call.waiter = future
        machine = self.machine
        machine.submit(call, int(loop.time() * 1000))
        if machine.inflight == 1 and not joins:
            # Alone: there is nothing to join it with.
            self.flush()
        else:
            self.flush_soon()
        if call.deadline_ms < self._wake_ms:
            self._wake_at(call.deadline_ms)
        try:
            await future
        except asyncio.CancelledError:
            machine.cancel(call)
            raise

    async def close(self) -> None:
        """Ends the session on the server, waits for it at most a session timeout, and leaves no task behind."""
        if self._loop is None or self._forks != _Forks.count:
            return
        self.machine.close(self.now_ms())
        self.flush()
        try:
            await self.reach(*ENDED)
        finally:
            self._drop()
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reach(self, *states: State) -> State:
        """Until the session is in one of these states."""
        while self.machine.state not in states:
            if self._changed is None or self._changed.done():
                self._changed = self.loop().create_future()
            await asyncio.shield(self._changed)
        return self.machine.state

    async def changes(self) -> AsyncIterator[StateChange]:
        """The state now, then every change; ends with the client."""
        state = self.machine.state
        seen = deque([StateChange(state, state, str(self.machine.host or ""), "now")])
        self._listeners.append(seen)
        try:
            while True:
                while seen:
                    yield seen.popleft()
                if self.is_over:
                    return
                if self._changed is None or self._changed.done():
                    self._changed = self.loop().create_future()
                await asyncio.shield(self._changed)
        finally:
            self._listeners.remove(seen)

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task that ends with the client at the latest."""
        task = self.loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]

    def flush_soon(self) -> None:
        """Once all that is ready to run has run: then many requests share a write."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop().call_soon(self._flush_due)

    def _flush_due(self) -> None:
        self._flush_is_due = False
        self.flush()

    def flush(self) -> None:
        """Does what the machine has decided."""
        out = self.machine.take_outbox()
        if out.sends and self.connection is not None:
            transport = self.connection.transport
            assert transport is not None
            transport.write(out.sends[0] if len(out.sends) == 1 else b"".join(out.sends))
        for told in out.told:
            if not isinstance(told, Call):
                told.watcher.on_event(told.type, told.path, told.zxid)
            elif isinstance(told.waiter, asyncio.Future) and not told.waiter.done():
                told.waiter.set_result(None)
        if out.changes or out.hang_up or out.dial is not None or out.probe is not None:
            self._act(out)

    # --- connections ------------------------------------------------------------------------------

    def _act(self, out: Outbox) -> None:
        if out.hang_up:
            self._drop()
        if out.dial is not None:
            self._dialing = self.spawn(self._dial(out.dial))
        if out.probe is not None:
            self.spawn(self._probe(out.probe))
        self._tell(out.changes)
        self._wake_at(self.machine.next_deadline_ms())

    def _tell(self, changes: list[StateChange]) -> None:
        if not changes:
            return
        for seen in self._listeners:
            seen.extend(changes)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        for change in changes:
            if change.state in ENDED:
                for mourner in list(self.mourners):
                    mourner(change.reason)
        if self.is_over:
            for watch in list(self.open_watches):
                watch.on_end()
            self.open_watches.clear()

    def _drop(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        connection, self.connection = self.connection, None
        if connection is not None and connection.transport is not None:
            # What was written still goes out; a peer that does not read must not hold the socket open.
            connection.transport.close()
            if self.machine.state is not State.CLOSED:
                connection.transport.abort()

    async def _dial(self, host: Host) -> None:
        connection = Connection(self)
        try:
            name = host.name if self._tls else None
            await self.loop().create_connection(
                lambda: connection, host.name, host.port, ssl=self._tls, server_hostname=name
            )
        except OSError as error:
            self._dialing = None
            self._update_hosts()
            self.machine.on_dial_failed(f"{host} cannot be reached: {error}", self.now_ms())
        else:
            self._dialing = None
            self.connection = connection
            self.machine.on_connected(self.now_ms())
        self.flush()

    def _update_hosts(self) -> None:
        if self._provider is not None:
            hosts = [parse_host(text) for text in self._provider.hosts()]
            if hosts:
                self.machine.hosts.update(hosts, None)

    async def _probe(self, host: Host) -> None:
        writer: asyncio.StreamWriter | None = None
        answer = b""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(
                    host.name, host.port, ssl=self._tls, server_hostname=host.name if self._tls else None
                )
                writer.write(b"isro")
                answer = await reader.read(16)
        except (OSError, TimeoutError):
            return
        finally:
            if writer is not None:
                writer.close()
        self.machine.on_probed(host, answer.strip() == b"rw", self.now_ms())
        self.flush()

    # --- time -------------------------------------------------------------------------------------

    def _wake_at(self, due_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_ms = due_ms
        if due_ms < FOREVER_MS:
            # Times are cut to whole milliseconds: a millisecond later it is certainly due.
            self._timer = self.loop().call_at((due_ms + 1) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.machine.on_tick(self.now_ms())
        self.flush()
        self._wake_at(self.machine.next_deadline_ms())

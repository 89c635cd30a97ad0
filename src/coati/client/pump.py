"""Pump: the asyncio shell of a Session. It carries bytes, keeps the timer, resolves futures, and decides nothing.

Knows the running loop: its time, its connections, its tasks. Everything it starts ends with it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import copy_context
from typing import Final, cast

from coati.client.hosts import Host, HostLookup, HostProvider, parse_host
from coati.client.session import FOREVER_MS, OVER, Call, Outbox, Session
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

    __slots__ = ("_pump", "ended", "transport")

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self.transport: asyncio.Transport | None = None
        # Why there is no connection any more.
        self.ended: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses.
        self.transport = cast(asyncio.Transport, transport)

    def abandon(self) -> None:
        """Nobody wants it."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        pump = self._pump
        if pump.connection is self:
            pump.machine.on_data(data, pump.now_ms())
            pump.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        pump = self._pump
        self.ended = f"the connection was lost: {exc or 'closed by the server'}"
        if pump.connection is self:
            pump.connection = None
            pump.machine.on_closed(self.ended, pump.now_ms())
            pump.flush()


class Pump:
    """Runs a machine on the running loop from `start` to `close`."""

    def __init__(self, machine: Session, *, tls: ssl.SSLContext | None, provider: HostProvider | None) -> None:
        self.machine = machine
        self.connection: Connection | None = None
        self._tls = tls
        self._provider = provider
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of whoever started the client: what it does by itself is nobody else's, whichever call has set a timer.
        self._context = copy_context()
        self._forks = _Forks.count
        self._timer: asyncio.TimerHandle | None = None
        self._wake_ms = FOREVER_MS
        self._flush_is_due = False
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._dialing: asyncio.Task[None] | None = None
        # By identity: two that have seen the same are equal.
        self._listeners: dict[int, deque[StateChange]] = {}
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
        """On the running loop; once."""
        if self._loop is not None:
            return
        self._forks = _Forks.count
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
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
        if call.deadline_ms < self._wake_ms and call.status != OVER:
            self._wake_at(call.deadline_ms)
        try:
            await future
        except asyncio.CancelledError:
            machine.cancel(call, self.now_ms())
            self.flush_soon()
            raise

    async def close(self) -> None:
        """Ends the session on the server, waits for it at most a session timeout, and leaves no task behind."""
        if self._loop is None or self._forks != _Forks.count:
            return
        self.machine.close(self.now_ms())
        self.flush()
        try:
            while not self.is_over:
                await self._change()
        finally:
            if not self.is_over:
                # Nobody waits for the answer any more.
                self.machine.on_closed("closed by the caller", self.now_ms())
                self.flush()
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reach(self, *states: State) -> State:
        """Until the session is, or has been for a moment, in one of these. Raises what ended it if it never can be."""
        seen = self._listen()
        try:
            while True:
                while seen:
                    state = seen.popleft().state
                    if state in states:
                        return state
                if self.is_over:
                    raise self.machine.ending()
                await self._change()
        finally:
            self._unlisten(seen)

    async def changes(self) -> AsyncIterator[StateChange]:
        """The state now, then every change; ends with the client."""
        seen = self._listen()
        try:
            while True:
                while seen:
                    yield seen.popleft()
                if self.is_over:
                    return
                await self._change()
        finally:
            self._unlisten(seen)

    def _listen(self) -> deque[StateChange]:
        state = self.machine.state
        seen = deque([StateChange(state, state, str(self.machine.host or ""), "now")])
        self._listeners[id(seen)] = seen
        return seen

    def _unlisten(self, seen: deque[StateChange]) -> None:
        del self._listeners[id(seen)]

    async def _change(self) -> None:
        if self._changed is None or self._changed.done():
            self._changed = self.loop().create_future()
        await asyncio.shield(self._changed)

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task that ends with the client at the latest."""
        return self._keep(self.loop().create_task(work))

    def _spawn_own(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        return self._keep(self.loop().create_task(work, context=self._context))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]

    def vouch(self, count: int) -> None:
        """So many more rely on what the leader says."""
        self.machine.vouch.holders += count
        if count > 0 and not self.is_over:
            self._wake_at(min(self._wake_ms, self.machine.vouch.due_ms(self.machine.timeout_ms)))

    def flush_soon(self) -> None:
        """Once all that is ready to run has run: then many requests share a write."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop().call_soon(self._flush_due, context=self._context)

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
            elif told.waiter is not None and not told.waiter.done():
                told.waiter.set_result(None)
        if out.changes or out.hang_up or out.dial is not None or out.probe is not None:
            self._act(out)

    # --- connections ------------------------------------------------------------------------------

    def _act(self, out: Outbox) -> None:
        if out.hang_up:
            self._drop()
        if out.dial is not None:
            self._dialing = self._spawn_own(self._dial(out.dial))
        if out.probe is not None:
            self._spawn_own(self._probe(out.probe))
        self._tell(out.changes)
        self._wake_at(self.machine.next_deadline_ms())

    def _tell(self, changes: list[StateChange]) -> None:
        if not changes:
            return
        for seen in self._listeners.values():
            seen.extend(changes)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        for change in changes:
            if change.state in ENDED:
                for mourner in list(self.mourners):
                    mourner(change.reason)
        if self.is_over:
            for watch in list(self.open_watches):
                watch.end()
            self.open_watches.clear()

    def _drop(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        connection, self.connection = self.connection, None
        if connection is not None and connection.transport is not None:
            transport = connection.transport
            if self.machine.state is State.CLOSED and not transport.get_write_buffer_size():
                transport.close()
            else:
                # A peer that does not read must not hold the socket open.
                transport.abort()

    async def _dial(self, host: Host) -> None:
        connection = Connection(self)
        try:
            if isinstance(self._provider, HostLookup):
                before = list(self._provider.hosts())
                await self._provider.refresh()
                if list(self._provider.hosts()) != before:
                    self._update_hosts()
                    host = self.machine.pick_again()
            name = host.name if self._tls else None
            await self.loop().create_connection(
                lambda: connection, host.name, host.port, ssl=self._tls, server_hostname=name
            )
        except (OSError, ValueError) as error:
            # A ValueError stands for a name that no resolver takes.
            failed: str | None = f"{host} cannot be reached: {error}"
        else:
            failed = connection.ended
        finally:
            if self._dialing is not asyncio.current_task():
                # Given up, and it may have come through all the same: a second connection would speak for the session.
                connection.abandon()
        if self._dialing is not asyncio.current_task():
            return
        self._dialing = None
        if failed is None:
            self.connection = connection
            self.machine.on_connected(self.now_ms())
        else:
            self.machine.on_dial_failed(failed, self.now_ms())
        self.flush()
        if failed is not None:
            self._update_hosts()

    def _update_hosts(self) -> None:
        if self._provider is not None:
            # The next server is chosen later. A provider that raises is reported as any failed task, and costs no more.
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
                answer = await reader.read()
        except (OSError, ValueError):
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
            self._timer = self.loop().call_at((due_ms + 1) / 1000, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        self.machine.on_tick(self.now_ms())
        self.flush()
        self._wake_at(self.machine.next_deadline_ms())

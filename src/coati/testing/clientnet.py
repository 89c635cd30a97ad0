"""The network between clients and servers: connections of a SimLoop to the members of a SimCluster.

Hosts have names: `m1` to `mN` are the members (10.0.0.1 to 10.0.0.N, client port 2181), `zk` stands for all of them,
any other name that dials is a client's host. A connection is two ways, each of which delivers in order, cut anywhere,
after delays. What TCP and the kernel would do is done here. Where a way is cut bytes wait, and the end of a connection
with them. A host without power answers nothing, and resets what it does not know when it is back; a dead process is a
reset or an end; a stopped one is connected to all the same. A dial that nobody answers is tried for two minutes.
At the other end stands the member's own door, `SimLink`, and the client port's four-letter words.
Deterministic: the dice come from the caller. `digest` covers all that passes a door, and when.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from random import Random
from typing import Final, TypeVar

from coati.server.config import ServerConfig
from coati.server.fourletter import NAMES, answer
from coati.server.view import LiveView
from coati.testing.cluster import SimCluster, SimMember
from coati.testing.gate import DUE
from coati.testing.loop import SimLoop
from coati.testing.server import SimLink
from coati.testing.transport import SimTransport

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

CLIENT_PORT: Final = 2181
# The name of all members together.
ALL: Final = "zk"
# Between two tries of a dial that is not answered, the first one; each next one is twice as long (tcp_syn_retries).
SYN_MS: Final = 1000
SYN_TRIES: Final = 7
# What the server's socket takes of what a client does not read, and what coati's client port lets wait behind it.
CHOKED_BYTES: Final = 128 << 10
UNREAD_BYTES: Final = 32 << 20
# When a connection without a session is closed.
SESSIONLESS_MS: Final = 10_000
# How often a process that dies resets its connections, rather than ends them: it has left something unread.
RESET_SHARE: Final = 0.5
WORDS: Final = frozenset(("isro", "ruok"))
_OPEN, _ENDS, _RESETS = 0, 1, 2

# Which host the running code is on.
HOST: Final[ContextVar[str]] = ContextVar("host", default="client")


class Way:
    """One direction of a connection. `on_data`, `on_end` (whether it is a reset) and `on_left` hear of it."""

    __slots__ = (
        "_due_ms",
        "_end",
        "_net",
        "_waiting",
        "is_lost",
        "is_shut",
        "on_data",
        "on_end",
        "on_left",
        "source",
        "target",
    )

    def __init__(self, net: ClientNet, source: str, target: str) -> None:
        self._net = net
        self._due_ms = 0
        self._end = _OPEN
        self._waiting: deque[bytes] = deque()
        # Nothing comes through any more, and nobody is told: what a firewall does that has forgotten the connection.
        self.is_lost = False
        # The receiver does not read.
        self.is_shut = False
        self.source = source
        self.target = target
        self.on_data: Callable[[bytes], None]
        self.on_end: Callable[[bool], None]
        self.on_left: Callable[[], None] | None = None

    @property
    def waiting_bytes(self) -> int:
        """What was sent and has not arrived."""
        return sum(map(len, self._waiting))

    def send(self, data: bytes) -> None:
        """Behind all that was sent before; nothing goes behind the end."""
        if self._end == _OPEN:
            self._waiting.append(data)
            self._hurry()

    def end(self, *, is_reset: bool = False) -> None:
        """The last thing; a reset overtakes what waits."""
        if is_reset and self._end != _RESETS:
            self._waiting.clear()
            self._end = _RESETS
            self._hurry()
        elif self._end == _OPEN:
            self._end = _ENDS
            self._hurry()

    def forget(self) -> None:
        """What waits is lost with its sender's memory."""
        self._waiting.clear()
        self._end = _OPEN

    def go_on(self) -> None:
        """The way is free again: what waits is sent once more."""
        for _ in range(len(self._waiting) + (self._end != _OPEN)):
            self._hurry()

    def _hurry(self) -> None:
        net = self._net
        self._due_ms = max(self._due_ms, net.clock.now_ms + net.delay())
        net.clock.call_at(self._due_ms, self._arrive)

    def _arrive(self) -> None:
        net, waiting = self._net, self._waiting
        if self.is_lost or self.is_shut or net.is_cut(self.source, self.target):
            return
        if not waiting:
            if self._end != _OPEN:
                self.on_end(self._end == _RESETS)
            return
        data = waiting.popleft()
        if waiting and net.dice.random() < net.split_share:
            # A stream has no borders: more has come meanwhile,
            data += waiting.popleft()
        if len(data) > 1 and net.dice.random() < net.split_share:
            # or the rest comes later.
            at = net.dice.randrange(1, len(data))
            waiting.appendleft(data[at:])
            data = data[:at]
            self._hurry()
        self.on_data(data)
        if self.on_left is not None:
            self.on_left()


class Door(SimLink):
    """The server's end of a connection, as its client port has it."""

    def __init__(self, member: SimMember, call: Call, address: tuple[str, int]) -> None:
        self._call = call
        self._member = member
        self._head = b""
        self._is_client = False
        super().__init__(member, address)
        call.back.on_left = self._on_left
        due_ms = member.clock.now_ms + SESSIONLESS_MS
        member.clock.call_at(due_ms, lambda: member.gate.enter(DUE, None, self._sweep))

    def send(self, data: bytes) -> None:
        """On its way to the client; who does not read it for long is cut off."""
        if not self.is_open:
            return
        self.sends += 1
        self._call.say_back(data)
        waiting_bytes = self._call.back.waiting_bytes
        self.is_choked = waiting_bytes > CHOKED_BYTES
        if waiting_bytes > CHOKED_BYTES + UNREAD_BYTES:
            self.reset()

    def close(self) -> None:
        """Behind what was sent."""
        if self.is_open:
            self._call.back.end()
        super().close()

    def abandon(self) -> None:
        """The kernel says so for the process, if it has power."""
        if self.is_open:
            self._call.on_process_gone()
        super().abandon()

    def reset(self) -> None:
        """Closed at once."""
        self._call.back.end(is_reset=True)
        self.drop()

    def feed(self, data: bytes) -> None:
        """Bytes of the client; the first ones may be a word."""
        if self._is_client:
            super().feed(data)
        elif self.is_open:
            self._member.hear(self, lambda: self._read_head(data))

    def _read_head(self, data: bytes) -> None:
        """As coati.server.listeners.ClientProtocol does."""
        if self._is_client:
            self._member.driver.received(self.conn, data)
            return
        self._head += data
        word = self._head[:4]
        if len(word) < 4 or not self.is_open:
            return
        head, self._head = self._head, b""
        if word not in NAMES:
            self._is_client = True
            self._member.driver.received(self.conn, head)
            return
        member = self._member
        view = LiveView(ServerConfig(), member.driver, member.disk, member.clock)
        view.is_running = True
        for chunk in answer(word, WORDS, view):
            self.send(chunk)
        self.close()

    def _sweep(self) -> None:
        if self.conn.session_id == 0 and self.is_open:
            self.reset()

    def _on_left(self) -> None:
        if self.is_choked and self._call.back.waiting_bytes <= CHOKED_BYTES // 4:
            self.is_choked = False
            if self.conn.is_full and self.is_open:
                self._member.hear(self, lambda: self._member.driver.received(self.conn, b""))


class Call:
    """One connection, with all that is between its ends. `name`: as traces and complaints show it."""

    def __init__(self, net: ClientNet, number: int, host: str, sid: int) -> None:
        self.net = net
        self.host = host
        self.sid = sid
        self.port = 40_000 + number % 20_000
        self.name = f"{host}:{self.port}->m{sid}"
        self.forward = Way(net, host, f"m{sid}")
        self.back = Way(net, f"m{sid}", host)
        self.door: Door | None = None
        self.transport: SimTransport | None = None
        self.is_hung_up = False
        # It ended before the client's end was made; whether by a reset.
        self._early_end: bool | None = None
        self.forward.on_data = self._on_forward
        self.forward.on_end = self._on_forward_end
        self.back.on_data = self._on_back
        self.back.on_end = self._on_back_end

    @property
    def address(self) -> tuple[str, int]:
        """The client's."""
        return self.net.address_of(self.host), self.port

    def accept(self, member: SimMember) -> None:
        """The member's kernel has connected it, whether its process runs or not."""
        self.net.note(self.name, "open")
        self.door = Door(member, self, self.address)

    def attach(self, transport: SimTransport) -> None:
        """The client's end is made."""
        self.transport = transport
        if self._early_end is not None:
            transport.on_end(self._early_end)

    # What the ends do.

    def say(self, data: bytes) -> None:
        """The client sends."""
        self.forward.send(data)

    def say_back(self, data: bytes) -> None:
        """The server sends."""
        self.net.note(self.name, "<", data)
        self.back.send(data)

    def read(self, is_reading: bool) -> None:
        """Whether the client reads; what it does not read waits outside."""
        self.back.is_shut = not is_reading
        if is_reading:
            self.back.go_on()

    def hang_up(self, *, is_reset: bool = False) -> None:
        """The client's end is closed."""
        self.is_hung_up = True
        self.forward.end(is_reset=is_reset)
        self._forget_if_over()

    def on_process_gone(self) -> None:
        """The server's process has ended without closing it."""
        net = self.net
        net.note(self.name, "gone")
        if f"m{self.sid}" not in net.dark:
            self.back.end(is_reset=net.dice.random() < RESET_SHARE)

    def break_off(self) -> None:
        """Reset by something between them: both ends hear of it."""
        self.back.end(is_reset=True)
        self.forward.end(is_reset=True)

    # What comes out at the ends.

    def _on_forward(self, data: bytes) -> None:
        if self.door is not None and self.door.is_open:
            self.net.note(self.name, ">", data)
            self.door.feed(data)
        else:
            # The host knows nothing of such a connection.
            self.back.end(is_reset=True)

    def _on_forward_end(self, is_reset: bool) -> None:
        if self.door is not None and self.door.is_open:
            self.net.note(self.name, "end")
            self.door.drop()
        if not is_reset:
            self.back.end()
        self._forget_if_over()

    def _on_back(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.on_data(data)

    def _on_back_end(self, is_reset: bool) -> None:
        if self.transport is not None:
            self.transport.on_end(is_reset)
        else:
            self._early_end = is_reset
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        if self.is_hung_up and (self.door is None or not self.door.is_open):
            self.net.calls.pop(self, None)


class ClientNet:
    """coati.testing.loop.Dialler for a cluster.

    `delay_ms`: the shortest and the longest time of a way. `split_share`: how many of the pieces arrive in two, or two
    in one. `dial_loss`: how many first tries of a dial get lost. `names`: what a name stands for, as members' sids.
    `dark`: hosts without power. `calls`: all connections, oldest first. `witness` hears of all that passes a door: the
    connection's name, "<" (the server sends), ">" (it hears) or another word, and the bytes.
    """

    def __init__(self, cluster: SimCluster, dice: Random) -> None:
        self.cluster = cluster
        self.clock = cluster.clock
        self.dice = dice
        self.delay_ms = (1, 1)
        self.split_share = 0.0
        self.dial_loss = 0.0
        self.names = {f"m{sid}": [sid] for sid in cluster.members}
        self.names[ALL] = list(cluster.members)
        self.dark: dict[str, None] = {}
        self.calls: dict[Call, None] = {}
        self.hosts: list[str] = []
        self.witness: Callable[[str, str, bytes], None] | None = None
        self._cuts: dict[tuple[str, str], None] = {}
        self._dialled = 0
        self._digest = hashlib.sha256()

    # The trace.

    def note(self, name: str, what: str, data: bytes = b"") -> None:
        """Something passes a door."""
        self._digest.update(f"{self.clock.now_ms} {name} {what} {len(data)} ".encode())
        self._digest.update(data)
        if self.witness is not None:
            self.witness(name, what, data)

    def digest(self) -> str:
        """Of everything that has passed a door until now, in hexadecimal."""
        return self._digest.hexdigest()

    # Cutting.

    def delay(self) -> int:
        """The time of one way."""
        return self.dice.randint(*self.delay_ms)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets from the one to the other."""
        return (source, target) in self._cuts or source in self.dark or target in self.dark

    def cut(self, source: str, target: str) -> None:
        """One way, by names of hosts; the other is another cut."""
        self._cuts[source, target] = None

    def heal(self, source: str, target: str) -> None:
        """What waited goes on."""
        if self._cuts.pop((source, target), 0) is None:
            self.go_on()

    def heal_all(self) -> None:
        """No cut is left. Dark hosts stay dark, and what was forgotten between them stays so."""
        self._cuts.clear()
        self.go_on()

    def darken(self, host: str) -> None:
        """Its power fails: it answers nothing, and forgets what it had still to send."""
        self.dark[host] = None
        for call in self.calls:
            if call.back.source == host:
                call.back.forget()

    def light(self, host: str) -> None:
        """Its power is back."""
        if self.dark.pop(host, 0) is None:
            self.go_on()

    def go_on(self) -> None:
        """Everything that waits is tried again."""
        for call in self.calls:
            call.forward.go_on()
            call.back.go_on()

    # coati.testing.loop.Dialler

    async def resolve(self, host: str) -> list[str]:
        """By the name, after a while, or an address for itself."""
        if host.startswith("10.0.0."):
            return [host]
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clock.call_at(self.clock.now_ms + self.delay(), lambda: _settle(answered))
        await answered
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")
        return [f"10.0.0.{sid}" for sid in self.names[host]]

    async def dial(
        self, loop: SimLoop, factory: Callable[[], _ProtocolT], host: str, port: int
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """A connection from the host that the caller is on. Raises OSError as connect does."""
        self._dialled += 1
        source, sid = HOST.get(), int(host.rpartition(".")[2])
        self.address_of(source)
        call = Call(self, self._dialled, source, sid)
        stands: asyncio.Future[None] = loop.create_future()
        self.clock.call_at(self.clock.now_ms + self.delay(), lambda: self._try(call, port, stands, 0))
        try:
            await stands
            protocol = factory()
            transport = SimTransport(loop, call, protocol, peer=(host, port), own=call.address)
            made: asyncio.Future[None] = loop.create_future()
            loop.call_soon(protocol.connection_made, transport)
            call.attach(transport)
            loop.call_soon(_settle, made)
            await made
        except BaseException:
            # Not wanted any more, or there is none.
            if call.transport is not None:
                call.transport.abort()
            else:
                call.hang_up()
            raise
        return transport, protocol

    def address_of(self, host: str) -> str:
        """Of a client's host."""
        if host not in self.hosts:
            self.hosts.append(host)
        return f"10.0.1.{self.hosts.index(host) + 1}"

    def _try(self, call: Call, port: int, stands: asyncio.Future[None], tries: int) -> None:
        if stands.done():
            return
        member = self.cluster.members.get(call.sid)
        host, target = call.host, f"m{call.sid}"
        is_lost = tries == 0 and bool(self.dial_loss) and self.dice.random() < self.dial_loss
        if member is None or is_lost or self.is_cut(host, target) or self.is_cut(target, host):
            if tries < SYN_TRIES:
                due_ms = self.clock.now_ms + (SYN_MS << tries)
                self.clock.call_at(due_ms, lambda: self._try(call, port, stands, tries + 1))
            else:
                stands.set_exception(TimeoutError(errno.ETIMEDOUT, f"Connect call failed {target}:{port}"))
        elif not member.is_up or port != CLIENT_PORT:
            stands.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {target}:{port}"))
        else:
            self.calls[call] = None
            call.accept(member)
            self.clock.call_at(self.clock.now_ms + self.delay(), lambda: _settle(stands))


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

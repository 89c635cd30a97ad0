"""The two ports between servers: dumb pipes in front of a `PeerDoors`.

Knows asyncio, sockets, and where a packet ends. Must not know what packets and votes mean, nor who should lead: it is
told whom to dial and when to accept. The election port is votes.py; here is the quorum port, whose connections are
links: numbers that are never given twice.
Limits: links that have not said a word, their time, the size of a packet, bytes that a peer does not take.
Invariants: of a link that stands (`on_link`) exactly one end is told, `on_link_lost`, or none if it was closed from
here; while a reader is raw its bytes come as they are, up to `end_raw`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, cast

from coati.errors import ProtocolError
from coati.server.config import ServerConfig
from coati.server.ports import Acceptor, Lookup, Resolver, dial, socket_of
from coati.server.votes import ElectionPort, VoteDoors
from coati.wire.addresses import format_address
from coati.wire.quorum import FOLLOWERINFO, OBSERVERINFO, Notification, Packet, PacketReader
from coati.zab.quorum import View

logger = logging.getLogger("coati.server.links")

# What a learner may leave untaken before its link is cut (ZOOKEEPER-3774): the others have waited long enough for it.
MAX_UNSENT_BYTES: Final = 64 << 20
# A stream of a snapshot pauses above the first, and `on_drained` says when it is down to the second.
HIGH_WATER_BYTES: Final = 1 << 20
LOW_WATER_BYTES: Final = 256 << 10
# The first packet of a learner is 20 bytes long.
FIRST_PACKET_BYTES: Final = 1024
REBIND_PAUSE_S: Final = 0.2


class PeerDoors(VoteDoors, Protocol):
    """What the ports tell. None is called from inside a verb but `end_raw`."""

    def on_link(self, link: int, peer: str) -> None: ...

    def on_packets(self, link: int, packets: list[Packet]) -> None: ...

    def on_raw(self, link: int, data: bytes) -> None: ...

    def on_drained(self, link: int) -> None: ...

    def on_link_lost(self, link: int) -> None: ...

    def on_dial_failed(self, sid: int) -> None: ...


@dataclass(slots=True)
class LinkLimits:
    """Times and sizes; the defaults are Java's where it has any."""

    max_data_bytes: int = 0xFFFFF
    connect_ms: int = 5000
    hello_ms: int = 5000
    first_packet_ms: int = 20_000
    unsent_bytes: int = MAX_UNSENT_BYTES
    strangers: int = 64
    bind_retries: int = 3
    bind_pause_ms: int = 1000
    listens_on_all: bool = False
    is_kept_alive: bool = False
    is_dynamic: bool = False


def link_limits(config: ServerConfig) -> LinkLimits:
    """What the configuration says of the ports between servers."""
    return LinkLimits(
        max_data_bytes=config.max_buffer_bytes + config.max_buffer_extra_bytes,
        connect_ms=config.cnx_timeout_ms,
        hello_ms=config.hello_timeout_ms,
        first_packet_ms=config.tick_time_ms * config.init_limit,
        bind_retries=config.election_bind_retries,
        listens_on_all=config.quorum_listen_on_all,
        is_kept_alive=config.quorum_tcp_keepalive,
        is_dynamic=config.reconfig_enabled,
    )


class Link(asyncio.Protocol):
    """One connection of the quorum port. `sid` is the leader that was dialled; -1 for a learner that came."""

    _transport: asyncio.Transport

    def __init__(self, port: Links, number: int, name: str, sid: int) -> None:
        self._port = port
        self.number = number
        self.name = name
        self.sid = sid
        self.is_open = False
        self.is_choked = False
        self.reader = PacketReader(FIRST_PACKET_BYTES if sid < 0 else port.limits.max_data_bytes)
        self.first_timer: asyncio.TimerHandle | None = None

    @property
    def is_accepted(self) -> bool:
        return self.sid < 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has all the methods of asyncio's and is none by type.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        self.is_open = True
        self._port.on_open(self, socket_of(self._transport))

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        if self.reader.is_raw:
            self._port.doors.on_raw(self.number, data)
            return
        try:
            packets = self.reader.feed(data)
        except ProtocolError as error:
            self.cut(str(error))
            return
        self.deliver(packets)

    def deliver(self, packets: list[Packet]) -> None:
        """Hands packets on, and what came behind a SNAP."""
        doors = self._port.doors
        if packets:
            if self.first_timer is not None and not self._port.is_introduction(self, packets[0]):
                return
            doors.on_packets(self.number, packets)
            if not self.is_open:
                return
        if self.reader.is_raw:
            if self.is_accepted:
                self.cut("a learner does not send snapshots")
                return
            rest = self.reader.take_rest()
            if rest:
                doors.on_raw(self.number, rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._port.on_lost(self, exc)

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False
        if self.is_open:
            self._port.doors.on_drained(self.number)

    # For the port.

    @property
    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        if not self.is_open:
            return
        self._transport.write(data)
        if self.is_choked and self.buffered_bytes > self._port.limits.unsent_bytes:
            self.cut("too many bytes unsent")

    def steer(self, *, reads: bool) -> None:
        """Reads on, or leaves to the peer's socket what the machines have no room for."""
        if self.is_open and not self._transport.is_closing():
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def cut(self, reason: str) -> None:
        """Ends the link for a fault of the peer; `on_link_lost` follows."""
        logger.warning("link cut link=%d peer=%s reason=%s", self.number, self.name, reason)
        self.abort()

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()

    def close(self) -> None:
        """Closes after what was sent has left, if the peer takes it in time."""
        self.is_open = False
        self._transport.close()


class Links:
    """Both ports of one server. The verbs return at once and call no door."""

    def __init__(
        self,
        sid: int,
        view: View,
        doors: PeerDoors,
        loop: asyncio.AbstractEventLoop,
        limits: LinkLimits | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        self.doors = doors
        self.limits = limits or LinkLimits()
        self._sid = sid
        self._view = view
        self._loop = loop
        self._resolver = Resolver(loop, lookup)
        self._next_link = 1
        self._links: dict[int, Link] = {}
        self._dialling: dict[int, asyncio.Task[None]] = {}
        # Accepted and silent so far, oldest first.
        self._strangers: dict[Link, None] = {}
        # Closed from here, with bytes left to send, and when that ends.
        self._closing: dict[Link, asyncio.TimerHandle] = {}
        self._leads = False
        own = view.servers[sid]
        host = "" if self.limits.listens_on_all else own.host
        self.election = ElectionPort(
            sid,
            view,
            doors,
            loop,
            self._resolver,
            host=host,
            connect_s=self.limits.connect_ms / 1000,
            hello_s=self.limits.hello_ms / 1000,
            max_strangers=self.limits.strangers,
            bind_retries=self.limits.bind_retries,
            bind_pause_s=self.limits.bind_pause_ms / 1000,
            is_kept_alive=self.limits.is_kept_alive,
            is_dynamic=self.limits.is_dynamic,
        )
        self._acceptor = Acceptor(
            loop,
            self._resolver,
            (host, own.quorum_port),
            make=self._accepted,
            on_failed=doors.on_bind_failed,
            # A leader that cannot listen finds no quorum and steps down; another attempt costs nothing.
            retries=0,
            pause_s=REBIND_PAUSE_S,
        )

    @property
    def election_port(self) -> int:
        """Where it listens, once it does."""
        return self.election.acceptor.port

    @property
    def quorum_port(self) -> int:
        return self._acceptor.port

    def start(self) -> None:
        """Takes both ports; the election port listens from now on."""
        self.election.start()
        self._acceptor.start(listens=False)

    def stop(self) -> None:
        """Ends everything at once, without a word to the doors."""
        self.election.close()
        self._acceptor.close()
        self._resolver.close()
        for task in self._dialling.values():
            task.cancel()
        self._dialling.clear()
        for link in [*self._links.values(), *self._closing]:
            self._forget(link)
            link.abort()

    def set_view(self, view: View) -> None:
        """Whom to connect to, from now on."""
        self._view = view
        self.election.set_view(view)

    # Votes.

    def send_vote(self, sid: int, n: Notification) -> None:
        """Sends a vote in place of one that has not left yet; connects when needed. Only to servers of the view."""
        self.election.send(sid, n)

    def reconnect(self) -> None:
        """No vote can be delivered: tries all servers anew."""
        self.election.reconnect()

    def has_delivered(self) -> bool:
        """Whether a vote for at least one server has left."""
        return self.election.has_delivered()

    # Links.

    def set_leading(self, leads: bool) -> None:
        """Whether learners are let in. Who is in when it ends is out, without a word to the doors."""
        self._leads = leads
        self._acceptor.set_listening(leads)
        if not leads:
            for link in [link for link in self._links.values() if link.is_accepted]:
                self.close(link.number)

    def dial(self, sid: int) -> int:
        """Connects to a server's quorum port: `on_link` or `on_dial_failed` follows, unless it is closed first."""
        number = self._next_link
        self._next_link += 1
        self._dialling[number] = self._loop.create_task(self._connect(number, sid))
        return number

    def send(self, link: int, data: bytes) -> None:
        """Sends on a link; nothing happens if it is lost already. Too much untaken costs the link."""
        found = self._links.get(link)
        if found is not None:
            found.send(data)

    def close(self, link: int) -> None:
        """Closes a link, or gives up dialling it; no door hears of it again."""
        task = self._dialling.pop(link, None)
        if task is not None:
            task.cancel()
        found = self._links.get(link)
        if found is not None:
            self._forget(found)
            found.close()
            self._closing[found] = self._loop.call_later(self.limits.connect_ms / 1000, found.abort)

    def end_raw(self, link: int, rest: bytes) -> None:
        """The snapshot is over and `rest` came behind it: packets from here on, which may come inside this call."""
        found = self._links.get(link)
        if found is None or not found.is_open:
            return
        try:
            packets = found.reader.end_raw(rest)
        except ProtocolError as error:
            found.cut(str(error))
            return
        found.deliver(packets)

    def buffered_bytes(self, link: int) -> int:
        """What the peer has not taken yet; 0 for a link that is lost."""
        found = self._links.get(link)
        return 0 if found is None else found.buffered_bytes

    def pause(self, link: int) -> None:
        """Reads no more from a link until `resume`."""
        found = self._links.get(link)
        if found is not None:
            found.steer(reads=False)

    def resume(self, link: int) -> None:
        found = self._links.get(link)
        if found is not None:
            found.steer(reads=True)

    # What links report.

    def on_open(self, link: Link, opened: socket.socket) -> None:
        if link.is_accepted:
            if not self._leads:
                link.abort()
                return
            self._make_room()
            self._strangers[link] = None
            link.first_timer = self._loop.call_later(self.limits.first_packet_ms / 1000, self._on_silent, link)
        elif self._dialling.pop(link.number, None) is None:
            link.abort()
            return
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.limits.is_kept_alive:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._links[link.number] = link
        logger.info("link stands link=%d peer=%s", link.number, link.name)
        self.doors.on_link(link.number, link.name)

    def is_introduction(self, link: Link, packet: Packet) -> bool:
        """Whether a learner's first packet is one that may be the first. If not, the link is cut."""
        if packet.type not in (FOLLOWERINFO, OBSERVERINFO):
            link.cut(f"{packet} comes first")
            return False
        assert link.first_timer is not None, "it is asked once"
        link.first_timer.cancel()
        link.first_timer = None
        del self._strangers[link]
        link.reader.max_data_bytes = self.limits.max_data_bytes
        return True

    def on_lost(self, link: Link, error: Exception | None) -> None:
        timer = self._closing.pop(link, None)
        if timer is not None:
            timer.cancel()
        if self._links.get(link.number) is link:
            self._forget(link)
            logger.info("link lost link=%d peer=%s reason=%s", link.number, link.name, error or "end of stream")
            self.doors.on_link_lost(link.number)

    # Helpers.

    def _accepted(self, name: str) -> Link:
        number = self._next_link
        self._next_link += 1
        return Link(self, number, name, -1)

    def _make_room(self) -> None:
        """Of those that have not said a word the oldest goes."""
        if len(self._strangers) >= self.limits.strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cut("too many links without a word")

    def _on_silent(self, link: Link) -> None:
        link.cut("no word in time")

    def _forget(self, link: Link) -> None:
        self._links.pop(link.number, None)
        self._strangers.pop(link, None)
        if link.first_timer is not None:
            link.first_timer.cancel()
            link.first_timer = None
        timer = self._closing.pop(link, None)
        if timer is not None:
            timer.cancel()

    async def _connect(self, number: int, sid: int) -> None:
        server = self._view.servers.get(sid)
        reason = "not in the view"
        if server is not None:
            name = format_address(server.host, server.quorum_port)
            address = server.host, server.quorum_port
            try:
                await dial(
                    self._loop,
                    self._resolver,
                    address,
                    partial(Link, self, number, name, sid),
                    self.limits.connect_ms / 1000,
                )
                return
            except OSError as error:
                reason = str(error)
        logger.info("cannot reach quorum port sid=%d reason=%s", sid, reason)
        if self._dialling.pop(number, None) is not None:
            self.doors.on_dial_failed(sid)

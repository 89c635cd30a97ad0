"""Session: one ZooKeeper session as a client lives it, over as many connections as it takes.

Knows xids, what is in flight, what waits, when to ping, when to give a server up and when the session is over. Must not
know sockets, loops or futures: bytes and `now_ms` come in, the outbox says what to send, dial, hang up and tell.
States: CONNECTING -> CONNECTED or READ_ONLY -> SUSPENDED -> (CONNECTED, READ_ONLY, EXPIRED); AUTH_FAILED and CLOSED are
final, EXPIRED too unless `renews`. Moved only in this file.
Invariants: a reply finds its call by its place and its xid, so a call that was given up cannot receive another's reply;
a server that has seen less than we have refuses us (lastZxidSeen), so the client never goes back in time.
Sources: ClientCnxn; zookeeper.md 1.5.
"""

from __future__ import annotations

from collections import deque
from random import Random
from struct import Struct
from typing import Final, Protocol

from coati.client.hosts import Host, HostList
from coati.client.retry import Retry
from coati.client.sasl import SCHEME as SASL
from coati.client.sasl import DigestMd5, SaslRefused
from coati.client.types import EventType, State, StateChange
from coati.client.watchtable import PERSISTENT, RECURSIVE, Fired, Watcher, WatchTable
from coati.errors import (
    NO_NODE,
    SESSION_EXPIRED,
    SESSION_MOVED,
    AuthFailed,
    ClientClosed,
    ConnectionLoss,
    MarshallingError,
    OperationTimeout,
    SessionExpired,
    ZKError,
)
from coati.wire import codes
from coati.wire.jute import FrameBuffer, FrameTooLong, Reader, Writer, frame
from coati.wire.records import (
    AuthPacket,
    ConnectRequest,
    GetSASLRequest,
    RemoveWatchesRequest,
    SetSASLResponse,
    WatcherEvent,
)

_HEADER: Final = Struct(">iii")
_pack_header: Final = _HEADER.pack
_REPLY: Final = Struct(">iqi")
_unpack_reply: Final = _REPLY.unpack_from
REPLY_HEADER_BYTES: Final = 16
_XID_MAX: Final = (1 << 31) - 1
_NO_PASSWORD: Final = bytes(16)
_LOST: Final = "the connection was lost before the answer came"
_ROOT: Final = b"\0\0\0\1/"
_PING: Final = frame(Struct(">ii").pack(codes.XID_PING, codes.OP_PING))

PING_AT_MOST_MS: Final = 10_000
PROBE_FIRST_MS: Final = 100
PROBE_LAST_MS: Final = 60_000
FOREVER_MS: Final = 1 << 60

# What a call is: waiting for a connection, sent, or of no further interest to the session.
QUEUED: Final = 0
SENT: Final = 1
OVER: Final = 2


class Waiter(Protocol):
    """What a shell gives along, to be told when the call is over: a future."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class Call:
    """One request and what came of it: `payload` from REPLY_HEADER_BYTES on is the body, or `failure` says why not.

    `deadline_ms` is when its caller stops waiting. `watcher` is registered as of `kind` if the server says yes.
    """

    __slots__ = (
        "body",
        "deadline_ms",
        "err",
        "failure",
        "is_untold",
        "is_write",
        "kind",
        "missing_kind",
        "op",
        "path",
        "payload",
        "sent_ms",
        "status",
        "waiter",
        "watcher",
        "xid",
        "zxid",
    )

    def __init__(self, op: int, body: bytes, *, is_write: bool, deadline_ms: int, waiter: Waiter | None) -> None:
        self.op = op
        self.body = body
        self.is_write = is_write
        self.deadline_ms = deadline_ms
        # The shell's: what it resolves when the call is over.
        self.waiter = waiter
        self.path = b""
        self.kind = 0
        # Of which kind the watch is if the znode is not there; -1: then there is none.
        self.missing_kind = -1
        self.watcher: Watcher | None = None
        # The server does not set this watch, or has taken it back with another one.
        self.is_untold = False
        self.status = QUEUED
        self.xid = 0
        self.sent_ms = 0
        self.err = 0
        self.zxid = 0
        self.payload = b""
        self.failure: ZKError | None = None

    def again(self) -> Call:
        """The same request, not sent yet."""
        call = Call(self.op, self.body, is_write=self.is_write, deadline_ms=self.deadline_ms, waiter=None)
        if self.watcher is not None:
            call.watch(self.path, self.watcher, kind=self.kind, missing_kind=self.missing_kind)
        return call

    def watch(self, path: bytes, watcher: Watcher, *, kind: int, missing_kind: int = -1) -> None:
        """With the answer, `watcher` waits for changes of `path`."""
        self.path = path
        self.watcher = watcher
        self.kind = kind
        self.missing_kind = missing_kind


class Outbox:
    """What the shell has to do, in this order."""

    __slots__ = ("changes", "dial", "hang_up", "probe", "sends", "told")

    def __init__(self) -> None:
        # The connection, or the dial under way, is of no use any more.
        self.hang_up = False
        self.changes: list[StateChange] = []
        # Calls that are over and watchers that fired, in the order of the stream.
        self.told: list[Call | Fired] = []
        self.sends: list[bytes] = []
        self.dial: Host | None = None
        # A server to ask by `isro`, on a connection of its own, whether it has a quorum.
        self.probe: Host | None = None


class SessionConfig:
    """Times in milliseconds. `renews`: an expired session is followed by a new one."""

    __slots__ = ("max_frame", "max_inflight", "read_only", "renews", "retry", "timeout_ms")

    def __init__(
        self,
        *,
        timeout_ms: int,
        renews: bool = True,
        read_only: bool = False,
        max_inflight: int = 1024,
        retry: Retry = Retry.DEFAULT,
        max_frame: int = codes.MAX_BUFFER_BYTES,
    ) -> None:
        self.timeout_ms = timeout_ms
        self.renews = renews
        self.read_only = read_only
        self.max_inflight = max_inflight
        self.retry = retry
        self.max_frame = max_frame


class _Probe:
    """When to ask another server whether it has a quorum: at growing intervals while this one has none."""

    __slots__ = ("at_ms", "pause_ms")

    def __init__(self) -> None:
        self.at_ms = FOREVER_MS
        self.pause_ms = PROBE_FIRST_MS

    def start(self, now_ms: int) -> None:
        self.pause_ms = PROBE_FIRST_MS
        self.at_ms = now_ms + PROBE_FIRST_MS

    def is_due(self, now_ms: int) -> bool:
        if now_ms < self.at_ms:
            return False
        self.pause_ms = min(self.pause_ms * 2, PROBE_LAST_MS)
        self.at_ms = now_ms + self.pause_ms
        return True


class Vouch:
    """Until when the leader cannot have expired the session, whatever the server we talk to believes.

    A follower that has lost its leader goes on answering reads and pings for as long as `syncLimit` ticks, while the
    leader does not hear of them and may expire the session. What the leader itself has had to do with is another thing:
    writes, syncs, and the acceptance of the session. A learner reports touches every half tick, and no session timeout
    is below two ticks: an answer proves that those a quarter of the timeout before it were reported.
    """

    __slots__ = ("_sent_ms", "holders", "until_ms")

    def __init__(self) -> None:
        self.until_ms = 0
        # How many rely on it: then it is kept up by a sync now and then.
        self.holders = 0
        self._sent_ms = 0

    def on_sent(self, now_ms: int) -> None:
        """A request for the leader."""
        self._sent_ms = now_ms

    def on_answered(self, sent_ms: int, timeout_ms: int) -> None:
        """And its answer."""
        self.until_ms = max(self.until_ms, sent_ms + timeout_ms * 3 // 4)

    def due_ms(self, timeout_ms: int) -> int:
        """When the leader is to be asked again."""
        return self._sent_ms + timeout_ms // 6 if self.holders else FOREVER_MS


class _Hello:
    """What a server has said to a ConnectRequest. Raises MarshallingError."""

    __slots__ = ("password", "reads_only", "session_id", "timeout_ms")

    def __init__(self, payload: bytes) -> None:
        r = Reader(payload)
        r.int32()
        self.timeout_ms = r.int32()
        self.session_id = r.int64()
        self.password = r.buffer() or _NO_PASSWORD
        self.reads_only = r.boolean() if r.left() else False

    def refusal(self, known_id: int) -> str:
        """Why it gives us no session to go on with, or nothing."""
        if self.timeout_ms <= 0 or self.session_id == 0:
            return "says so" if known_id else "gives no session"
        # Some servers put a new session in the place of one that they do not know (ClickHouse Keeper).
        return "knows only another session" if known_id not in (0, self.session_id) else ""


class _Login:
    """A SASL exchange at the beginning of a connection: nothing else is sent before its end (ZooKeeperSaslClient)."""

    __slots__ = ("_exchange", "hello")

    def __init__(self, credentials: bytes, dice: Random, hello: _Hello) -> None:
        self._exchange = DigestMd5(credentials, dice)
        self.hello = hello

    def answer(self, payload: bytes, xid: int) -> bytes | None:
        """What to say to a reply; None: it is over. Raises SaslRefused, MarshallingError."""
        if len(payload) < REPLY_HEADER_BYTES:
            raise MarshallingError(f"a reply of {len(payload)} bytes")
        replied, _, err = _unpack_reply(payload)
        if replied != xid:
            raise MarshallingError(f"a reply to xid {replied} while SASL goes on")
        if err:
            raise SaslRefused("the server refused the credentials")
        return self._exchange.respond(SetSASLResponse.read(Reader(payload, REPLY_HEADER_BYTES)).token)


class Session:
    """The machine: tell it by `on_...`, `submit`, `cancel`, `close`; then ask `take_outbox` and `next_deadline_ms`."""

    def __init__(self, config: SessionConfig, hosts: HostList, dice: Random) -> None:
        self.config = config
        self.hosts = hosts
        self.state = State.CONNECTING
        self.session_id = 0
        self.password = _NO_PASSWORD
        self.timeout_ms = config.timeout_ms
        self.last_zxid = 0
        self.host: Host | None = None
        self.watches = WatchTable()
        # When the last answered request was sent, plus the timeout; 0 before, and of servers without a quorum.
        self.alive_until_ms = 0
        self.vouch = Vouch()
        self.out = Outbox()
        self._dice = dice
        self._auths: list[tuple[str, bytes]] = []
        self._sasl = b""
        self._login: _Login | None = None
        self._queue: deque[Call] = deque()
        self._sent: deque[Call] = deque()
        self._frames = FrameBuffer(config.max_frame)
        self._xid = 0
        self._is_ready = False
        self._is_closing = False
        self._is_over = False
        # The session is one that a quorum knows: what a read-only server gives is worth nothing elsewhere.
        self._is_known = False
        self._why_not = ""
        self._hello_ms = 0
        self._heard_ms = 0
        self._wrote_ms = 0
        self._ping_ms = 0
        self._failures = 0
        self._dial_at_ms = FOREVER_MS
        self._give_up_at_ms = FOREVER_MS
        self._probe = _Probe()

    # --- doors ------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> None:
        """Looks for a server."""
        self._heard_ms = now_ms
        self._dial(now_ms)

    def resume(self, session_id: int, password: bytes, timeout_ms: int, last_zxid: int) -> None:
        """Before `start`: this session is to go on, which another process began."""
        self.session_id = session_id
        self.password = password
        self.timeout_ms = timeout_ms
        self.last_zxid = last_zxid
        self._is_known = True

    def take_outbox(self) -> Outbox:
        """What has gathered since the last time."""
        out = self.out
        self.out = Outbox()
        return out

    @property
    def inflight(self) -> int:
        """Calls that the server has not answered yet, and those that wait to be sent."""
        return len(self._sent) + len(self._queue)

    def ending(self) -> ZKError:
        """Why nothing can be asked any more: one for each call, since each call adds to it what it knows."""
        if self.state is State.AUTH_FAILED:
            return AuthFailed()
        return SessionExpired() if self.state is State.EXPIRED else ClientClosed("the client is closed")

    def submit(self, call: Call, now_ms: int) -> None:
        """Sends it now, or as soon as there is a connection and room."""
        if self._is_over or self._is_closing:
            self._fail(call, self.ending())
        elif self._is_ready and not self._queue and len(self._sent) < self.config.max_inflight:
            self._send(call, now_ms)
        else:
            self._queue.append(call)

    def cancel(self, call: Call, now_ms: int) -> None:
        """Nobody waits for it any more. If it was sent, its place is kept until the reply has gone by."""
        if call.status == OVER:
            # The answer was faster, and its caller has not seen it: the watch that came with it is nobody's.
            if call.watcher is not None:
                for kind in (call.kind, call.missing_kind):
                    if kind >= 0:
                        self.unwatch(kind, call.path, call.watcher, now_ms)
        else:
            self._withdraw(call)

    def _withdraw(self, call: Call) -> None:
        if call.status == QUEUED:
            self._queue.remove(call)
        call.status = OVER

    def authenticate(self, scheme: str, credentials: bytes, now_ms: int) -> None:
        """Also on every later connection. Raises ValueError for SASL on a connection that stands."""
        if scheme == SASL:
            if self._is_ready:
                raise ValueError("a connection begins with SASL: give it to the client's constructor")
            self._sasl = credentials
            return
        self._auths.append((scheme, credentials))
        if self._is_ready:
            self._send_special(codes.XID_AUTH, codes.OP_AUTH, _auth_body(scheme, credentials))
            self._wrote_ms = now_ms

    def unwatch(self, kind: int, path: bytes, watcher: Watcher, now_ms: int) -> None:
        """This watcher is gone; the server is told if it was the last one."""
        if self.watches.remove(kind, path, watcher):
            self._forget_watch(kind, path, now_ms)

    def close(self, now_ms: int) -> None:
        """Ends the session: what was sent before is answered before."""
        if self._is_closing or self._is_over:
            return
        self._is_closing = True
        self._fail_queued()
        if not self._is_ready:
            self._end(State.CLOSED, "closed by the caller")
            return
        self._give_up_at_ms = now_ms + self.timeout_ms
        self._send(Call(codes.OP_CLOSE_SESSION, b"", is_write=True, deadline_ms=FOREVER_MS, waiter=None), now_ms)

    def move(self, now_ms: int) -> None:
        """To another server: the list of hosts says so."""
        if self._is_ready and not self._is_closing:
            self._lose("the list of servers has changed", now_ms)

    def on_connected(self, now_ms: int) -> None:
        """The dial came through."""
        self._frames = FrameBuffer(self.config.max_frame)
        session_id, password = (self.session_id, self.password) if self._is_known else (0, _NO_PASSWORD)
        self.out.sends.append(_greeting(self.config, self.last_zxid, session_id, password))
        self._hello_ms = now_ms
        self._login = None

    def pick_again(self) -> Host:
        """The list of hosts has changed before the dial began: the one to dial instead."""
        self.host = self.hosts.next()
        return self.host

    def on_dial_failed(self, reason: str, now_ms: int) -> None:
        """There is no connection."""
        if not self._is_over:
            self._lose(reason, now_ms)

    def on_closed(self, reason: str, now_ms: int) -> None:
        """The connection is gone."""
        if not self._is_over:
            self._lose(reason, now_ms)

    def on_data(self, data: bytes, now_ms: int) -> None:
        """What the server sent."""
        if self._is_over:
            return
        frames, too_long = _split(self._frames, data)
        try:
            for payload in frames:
                if self._is_ready:
                    self._on_frame(payload, now_ms)
                elif not self.out.hang_up:
                    self._on_greeting(payload, now_ms)
        except MarshallingError as error:
            self._lose(f"the server sent what is no answer: {error}", now_ms)
        if too_long is not None and not self.out.hang_up:
            self._on_too_long(too_long, now_ms)
        if self._is_ready:
            self._heard_ms = now_ms
            if self._queue:
                self._send_queued(now_ms)

    def on_probed(self, host: Host, has_quorum: bool, now_ms: int) -> None:
        """What a server said to `isro`."""
        if self.state is State.READ_ONLY and has_quorum and not self._is_closing:
            self.hosts.prefer(host)
            self._lose("another server has a quorum", now_ms)

    def on_tick(self, now_ms: int) -> None:
        """Some deadline may have passed."""
        self._time_out(self._queue, now_ms)
        self._time_out(self._sent, now_ms)
        if self._is_over:
            return
        if self._is_ready:
            self._keep_alive(now_ms)
        elif now_ms >= self._dial_at_ms:
            self._dial(now_ms)
        if now_ms >= self._give_up_at_ms:
            self._lose(f"no answer from {self.host} in time", now_ms)
        self._expire_unreached(now_ms)

    def next_deadline_ms(self) -> int:
        """When to come back with `on_tick`, at the latest."""
        due = min(self._dial_at_ms, self._give_up_at_ms, self._probe.at_ms)
        due = _earliest(self._sent, _earliest(self._queue, due))
        if self._is_over:
            return due
        if self._is_ready:
            read_ms = self._heard_ms + self._read_timeout_ms()
            return min(due, self.vouch.due_ms(self.timeout_ms), self._ping_due_ms(), read_ms)
        if self._is_known:
            return min(due, self._heard_ms + self.timeout_ms * 4 // 3)
        return due

    # --- sending ----------------------------------------------------------------------------------

    def _send(self, call: Call, now_ms: int) -> None:
        self._xid = self._xid + 1 if self._xid < _XID_MAX else 1
        call.xid = self._xid
        call.status = SENT
        call.sent_ms = now_ms
        body = call.body
        if call.watcher is not None:
            if self.watches.covers(call.kind, call.path):
                call.is_untold = True
                # The watch flag is the last byte of all reads that set a one-shot one.
                body = body[:-1] + b"\0"
            self.watches.arm(call.kind, call.path)
        self._sent.append(call)
        if call.is_write or call.op == codes.OP_SYNC:
            self.vouch.on_sent(now_ms)
        self._wrote_ms = now_ms
        self.out.sends.append(_pack_header(len(body) + 8, call.xid, call.op) + body)

    def _send_queued(self, now_ms: int) -> None:
        while self._queue and len(self._sent) < self.config.max_inflight:
            self._send(self._queue.popleft(), now_ms)

    def _send_special(self, xid: int, op: int, body: bytes) -> None:
        self.out.sends.append(_pack_header(len(body) + 8, xid, op) + body)

    def _forget_watch(self, kind: int, path: bytes, now_ms: int) -> None:
        type = self.watches.removal(kind, path)
        if type == 0 or not self._is_ready or self._is_closing:
            return
        self._send(_removal(path, type), now_ms)
        if kind in (PERSISTENT, RECURSIVE):
            for call in self._sent:
                if call.watcher is not None and call.path == path and call.kind not in (PERSISTENT, RECURSIVE):
                    call.is_untold = True
            self._tell_one_shots(path)

    def _tell_one_shots(self, path: bytes) -> None:
        """The server may not know the one-shot watches of this path."""
        is_told = self._is_ready and not self._is_closing
        if is_told and (packet := self.watches.one_shots(path, self.last_zxid)) is not None:
            self._send_special(codes.XID_SET_WATCHES, *packet)

    # --- receiving --------------------------------------------------------------------------------

    def _on_too_long(self, error: FrameTooLong, now_ms: int) -> None:
        # An answer that we may not take: asking again would bring it again.
        if self._sent and error.length > 0 and self._sent[0].status == SENT:
            self._fail(self._sent[0], _too_long(self._sent[0], error.length, self._frames.max_frame))
        self._lose(f"the server sent what is no answer: {error}", now_ms)

    def _on_greeting(self, payload: bytes, now_ms: int) -> None:
        """Of a connection that is not ready for requests."""
        if self._login is not None:
            self._on_token(self._login, payload, now_ms)
            return
        hello = _Hello(payload)
        refusal = hello.refusal(self.session_id if self._is_known else 0)
        if refusal:
            (self._expire if self._is_known else self._lose)(f"{self.host} {refusal}", now_ms)
        elif self._sasl:
            self._login = _Login(self._sasl, self._dice, hello)
            self._send_token(b"")
        else:
            self._begin(hello, now_ms)

    def _send_token(self, token: bytes) -> None:
        self._xid = self._xid + 1 if self._xid < _XID_MAX else 1
        self._send_special(self._xid, codes.OP_SASL, _token_body(token))

    def _on_token(self, login: _Login, payload: bytes, now_ms: int) -> None:
        try:
            answer = login.answer(payload, self._xid)
        except SaslRefused as refusal:
            self._end(State.AUTH_FAILED, str(refusal))
            return
        if answer is None:
            self._begin(login.hello, now_ms)
        else:
            self._send_token(answer)

    def _begin(self, hello: _Hello, now_ms: int) -> None:
        self._is_ready = True
        self._failures = 0
        self._give_up_at_ms = FOREVER_MS
        self.session_id = hello.session_id
        self.password = hello.password
        self.timeout_ms = hello.timeout_ms
        if not hello.reads_only:
            self._is_known = True
            self.alive_until_ms = self.vouch.until_ms = self._hello_ms + hello.timeout_ms
        self._ping_ms = 0
        self._wrote_ms = now_ms
        for scheme, credentials in self._auths:
            self._send_special(codes.XID_AUTH, codes.OP_AUTH, _auth_body(scheme, credentials))
        for op, body in self.watches.replay(self.last_zxid):
            self._send_special(codes.XID_SET_WATCHES, op, body)
        self._change(State.READ_ONLY if hello.reads_only else State.CONNECTED, "a server has accepted the session")
        self.out.told += self.watches.resync()
        if hello.reads_only:
            self._probe.start(now_ms)

    def _on_frame(self, payload: bytes, now_ms: int) -> None:
        if len(payload) < REPLY_HEADER_BYTES:
            raise MarshallingError(f"a reply of {len(payload)} bytes")
        xid, zxid, err = _unpack_reply(payload)
        if zxid > self.last_zxid:
            self.last_zxid = zxid
        if xid > 0:
            self._on_reply(xid, zxid, err, payload)
        elif xid == codes.XID_NOTIFICATION:
            self._on_event(zxid, payload)
        elif xid == codes.XID_PING:
            if self._ping_ms:
                self._prolong(self._ping_ms)
            self._ping_ms = 0
        elif xid == codes.XID_SET_WATCHES:
            self.watches.on_told()
        elif xid == codes.XID_AUTH and err != 0:
            self._end(State.AUTH_FAILED, "the server refused the credentials")

    def _prolong(self, sent_ms: int, *, by_leader: bool = False) -> None:
        if by_leader:
            self.vouch.on_answered(sent_ms, self.timeout_ms)
        alive_until_ms = sent_ms + self.timeout_ms
        if alive_until_ms > self.alive_until_ms and self.state is not State.READ_ONLY:
            self.alive_until_ms = alive_until_ms

    def _on_reply(self, xid: int, zxid: int, err: int, payload: bytes) -> None:
        if not self._sent or self._sent[0].xid != xid:
            raise MarshallingError(f"a reply to xid {xid}, which is not the next one")
        call = self._sent.popleft()
        if err not in (SESSION_EXPIRED, SESSION_MOVED):
            self._prolong(call.sent_ms, by_leader=call.is_write or call.op == codes.OP_SYNC)
        if call.watcher is not None:
            self._settle_watch(call, err)
        if call.status == OVER:
            return
        call.status = OVER
        call.err = err
        call.zxid = zxid
        call.payload = payload
        if call.waiter is not None:
            self.out.told.append(call)
        elif call.op == codes.OP_CLOSE_SESSION:
            self._end(State.CLOSED, "closed by the caller")

    def _settle_watch(self, call: Call, err: int) -> None:
        watcher = call.watcher
        assert watcher is not None
        self.watches.settle(call.kind, call.path)
        kind = call.kind if err == 0 else call.missing_kind if err == NO_NODE else -1
        if kind < 0:
            if call.kind in (PERSISTENT, RECURSIVE):
                # One-shot ones may have relied on it.
                self._tell_one_shots(call.path)
            return
        if call.status == OVER:
            # Its caller has gone, and nobody would ever read this watch.
            self._forget_watch(kind, call.path, call.sent_ms)
            return
        self.watches.add(kind, call.path, watcher)
        if call.is_untold and not self.watches.covers(kind, call.path):
            self._tell_one_shots(call.path)

    def _on_event(self, zxid: int, payload: bytes) -> None:
        event = WatcherEvent.read(Reader(payload, REPLY_HEADER_BYTES))
        # Type -1 tells of the connection itself, which we know better; 5 to 7 answer our own removals.
        if codes.EVENT_CREATED <= event.type <= codes.EVENT_CHILDREN_CHANGED:
            self.out.told += self.watches.fire(EventType(event.type), event.path, zxid)

    # --- time -------------------------------------------------------------------------------------

    def _read_timeout_ms(self) -> int:
        return self.timeout_ms * 2 // 3

    def _ping_due_ms(self) -> int:
        if self._ping_ms:
            return FOREVER_MS
        return self._wrote_ms + min(self._read_timeout_ms() // 2, PING_AT_MOST_MS)

    def _keep_alive(self, now_ms: int) -> None:
        if now_ms >= self._heard_ms + self._read_timeout_ms():
            self._lose(f"no answer from {self.host} in {self._read_timeout_ms()} ms", now_ms)
            return
        if now_ms >= self._ping_due_ms():
            self._ping_ms = self._wrote_ms = now_ms
            self.out.sends.append(_PING)
        if now_ms >= self.vouch.due_ms(self.timeout_ms):
            self._send(Call(codes.OP_SYNC, _ROOT, is_write=False, deadline_ms=FOREVER_MS, waiter=None), now_ms)
        if self._probe.is_due(now_ms):
            others = self.hosts.after(self.host) if self.host is not None else []
            self.out.probe = others[self._dice.randrange(len(others))] if others else None

    def _expire_unreached(self, now_ms: int) -> None:
        if self._is_over or self._is_ready or not self._is_known:
            return
        if now_ms >= self._heard_ms + self.timeout_ms * 4 // 3:
            self._expire("nobody was reached for 4/3 of its timeout", now_ms)

    def _time_out(self, calls: deque[Call], now_ms: int) -> None:
        for call in list(calls):
            if call.status != OVER and now_ms >= call.deadline_ms:
                failure = OperationTimeout("no answer in time" if call.status == SENT else self._no_server())
                failure.maybe_applied = call.status == SENT and call.is_write
                self._withdraw(call)
                self._fail(call, failure)

    def _no_server(self) -> str:
        why = f": {self._why_not}" if self._why_not and not self._is_ready else ""
        return f"no server to ask in time, {self.state.value}{why}"

    # --- connections ------------------------------------------------------------------------------

    def _dial(self, now_ms: int) -> None:
        self._dial_at_ms = FOREVER_MS
        self.host = self.hosts.next()
        self.out.dial = self.host
        self._give_up_at_ms = now_ms + max(self.timeout_ms // len(self.hosts), 1)

    def _lose(self, reason: str, now_ms: int) -> None:
        """This connection, or the attempt to get one, has come to nothing: the next server, soon."""
        if self._is_closing:
            self._end(State.CLOSED, reason)
            return
        self._hang_up()
        self._fail_sent()
        self._why_not = reason
        self._failures += 1
        self._dial_at_ms = now_ms + _pause_ms(self.config.retry, self._failures, len(self.hosts), self._dice)
        if self.state in (State.CONNECTED, State.READ_ONLY):
            self._change(State.SUSPENDED, reason)

    def _hang_up(self) -> None:
        self.out.hang_up = True
        # Decided in the same step, and not wanted any more.
        self.out.dial = None
        self._is_ready = False
        self._give_up_at_ms = FOREVER_MS
        self._probe.at_ms = FOREVER_MS
        for call in self._sent:
            if call.watcher is not None:
                self.watches.settle(call.kind, call.path)

    def _expire(self, reason: str, now_ms: int) -> None:
        if not self.config.renews:
            self._end(State.EXPIRED, reason)
            return
        self._hang_up()
        self._fail_sent()
        self._is_known = False
        self.session_id = 0
        self.password = _NO_PASSWORD
        self.timeout_ms = self.config.timeout_ms
        self.alive_until_ms = self.vouch.until_ms = 0
        self._change(State.EXPIRED, reason)
        self._change(State.CONNECTING, "a new session")
        self._dial_at_ms = now_ms

    def _end(self, state: State, reason: str) -> None:
        """For good."""
        self._is_over = True
        self._dial_at_ms = FOREVER_MS
        self._hang_up()
        self.alive_until_ms = self.vouch.until_ms = 0
        self._change(state, reason)
        self._fail_sent()
        self._fail_queued()
        self.out.told += self.watches.drop_all(self.last_zxid)

    def _change(self, state: State, reason: str) -> None:
        was, self.state = self.state, state
        self.out.changes.append(StateChange(state, was, str(self.host or ""), reason))

    def _fail_sent(self) -> None:
        for call in self._sent:
            if call.status != OVER:
                loss = self.ending() if self.state is State.AUTH_FAILED else ConnectionLoss(_LOST)
                loss.maybe_applied = call.is_write
                self._fail(call, loss)
        self._sent.clear()

    def _fail_queued(self) -> None:
        for call in self._queue:
            self._fail(call, self.ending())
        self._queue.clear()

    def _fail(self, call: Call, failure: ZKError) -> None:
        call.status = OVER
        call.failure = failure
        if call.waiter is not None:
            self.out.told.append(call)


def _greeting(config: SessionConfig, last_zxid: int, session_id: int, password: bytes) -> bytes:
    w = Writer()
    ConnectRequest(0, last_zxid, config.timeout_ms, session_id, password, config.read_only).write(w)
    return frame(w.getvalue())


def _split(frames: FrameBuffer, data: bytes) -> tuple[list[bytes], FrameTooLong | None]:
    """The frames that are complete, and why there will be no more."""
    try:
        return frames.feed(data), None
    except FrameTooLong as refusal:
        return refusal.frames, refusal


def _pause_ms(retry: Retry, failures: int, hosts: int, dice: Random) -> int:
    """Those who have lost the same server come back at different times; then every other server without a pause, then
    again with pauses that grow from round to round.
    """
    rounds, first = divmod(failures - 1, hosts)
    return int(retry.pause_s(rounds + 1, dice.random) * 1000) if rounds or not first else 0


def _too_long(call: Call, length: int, max_frame: int) -> ZKError:
    failure = MarshallingError(f"the answer has {length} bytes, and {max_frame} may be")
    failure.maybe_applied = call.is_write
    failure.hint = "raise max_frame= of the client; servers have jute.maxbuffer"
    return failure


def _removal(path: bytes, type: int) -> Call:
    w = Writer()
    RemoveWatchesRequest(path, type).write(w)
    return Call(codes.OP_REMOVE_WATCHES, w.getvalue(), is_write=False, deadline_ms=FOREVER_MS, waiter=None)


def _token_body(token: bytes) -> bytes:
    w = Writer()
    GetSASLRequest(token).write(w)
    return w.getvalue()


def _auth_body(scheme: str, credentials: bytes) -> bytes:
    w = Writer()
    AuthPacket(0, scheme, credentials).write(w)
    return w.getvalue()


def _earliest(calls: deque[Call], due_ms: int) -> int:
    for call in calls:
        if call.status != OVER and call.deadline_ms < due_ms:
            due_ms = call.deadline_ms
    return due_ms

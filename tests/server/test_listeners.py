"""The client port, with real sockets on the loopback and a driver that only takes notes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import pytest
import uvloop

from coati.server import listeners
from coati.server.fourletter import parse_whitelist
from coati.server.listeners import ClientListener, ClientProtocol, Limits, bind, java_address, java_host
from coati.server.pipeline import Conn
from tests.server.views import PlainView

WAIT_S: Final = 20
ALL = parse_whitelist("*", is_read_only_enabled=False)
REFUSED = b"stat is not executed because it is not in the whitelist.\n"


class Notes:
    """A driver that keeps what it is told; `reply` may answer."""

    def __init__(self) -> None:
        self.conns: list[Conn] = []
        self.data: dict[Conn, bytes] = {}
        self.gone: list[Conn] = []
        self.reply: Callable[[Conn, bytes], None] = lambda conn, data: None
        self.changed = asyncio.Event()

    def connected(self, conn: Conn) -> None:
        self.conns.append(conn)
        self.changed.set()

    def received(self, conn: Conn, data: bytes) -> None:
        self.data[conn] = self.data.get(conn, b"") + data
        self.reply(conn, data)
        self.changed.set()

    def closed(self, conn: Conn) -> None:
        self.gone.append(conn)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


class Port:
    """A listener and what stands around it."""

    def __init__(self, limits: Limits, words: frozenset[str] = ALL) -> None:
        loop = asyncio.get_running_loop()
        self.notes = Notes()
        self.view = PlainView()
        self.listener = ClientListener(self.notes, self.view, words, limits, loop, lambda: int(loop.time() * 1000))
        bound = bind("127.0.0.1", 0)
        self.host, self.port = bound.getsockname()
        self.listener.start(bound)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    def connect_lazily(self, data: bytes) -> socket.socket:
        """A client that sends and never reads; the kernel takes next to nothing for it."""
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((self.host, self.port))
        lazy.sendall(data)
        return lazy

    async def ask(self, data: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(data)
        answer = await read_all(reader)
        writer.close()
        return answer


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes, politely or not."""
    parts: list[bytes] = []
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                parts.append(part)
    return b"".join(parts)


@contextlib.asynccontextmanager
async def open_port(limits: Limits | None = None, words: frozenset[str] = ALL) -> AsyncIterator[Port]:
    port = Port(limits or Limits(), words)
    try:
        yield port
    finally:
        port.listener.stop()
        port.listener.abort_connections()
        await port.notes.until(lambda: port.listener.connection_count == 0)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[None]], None]]:
    """Runs a coroutine on either loop; what the loop complains of is a failure."""
    loop: asyncio.AbstractEventLoop = request.param()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert complaints == []


Run = Callable[[Awaitable[None]], None]


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def test_bytes_go_to_the_driver_and_back(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            port.notes.reply = lambda conn, data: conn.link.send(data[::-1])
            reader, writer = await port.connect()
            writer.write(frame(b"hello"))
            assert await reader.readexactly(9) == frame(b"hello")[::-1]
            writer.write(b"more")
            assert await reader.readexactly(4) == b"erom"
            (conn,) = port.notes.conns
            assert port.notes.data[conn] == frame(b"hello") + b"more"
            assert conn.address[0] == "127.0.0.1"
            assert conn.address[1] == writer.get_extra_info("sockname")[1]
            assert port.listener.connection_count == 1
            writer.close()
            await port.notes.until(lambda: port.notes.gone == [conn])
            assert port.listener.connection_count == 0

    run(scene())


def test_first_length_may_come_in_pieces(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            _, writer = await port.connect()
            await port.notes.until(lambda: bool(port.notes.conns))
            whole = frame(b"abc")
            for at in range(len(whole)):
                writer.write(whole[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            await port.notes.until(lambda: list(port.notes.data.values()) == [whole])
            writer.close()

    run(scene())


def test_socket_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        for is_kept_alive in (False, True):
            async with open_port(Limits(is_kept_alive=is_kept_alive)) as port:
                _, writer = await port.connect()
                await port.notes.until(lambda: bool(port.notes.conns))
                transport = port.listener.protocols()[0]._transport
                accepted = transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
                assert (accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0) is is_kept_alive
                writer.close()

    run(scene())


# Four-letter words.


def test_word_is_answered_and_the_connection_closed(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            assert await port.ask(b"ruok") == b"imok"
            assert port.notes.data == {}
            assert (port.view.stats.packets_received, port.view.stats.packets_sent) == (1, 1)
            await port.notes.until(lambda: len(port.notes.gone) == 1)

    run(scene())


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"ruok\n", b"imok"),
        (b"ruok\r\n", b"imok"),
        (b"isro", b"rw"),
        (b"stmk" + struct.pack(">q", 258), b"258"),
        (b"stmk" + struct.pack(">q", -1) + b"trailer", b"-1"),
        (b"\xff\xf4\xff\xfd", b""),
    ],
)
def test_words_as_they_are_sent(run: Run, sent: bytes, answer: bytes) -> None:
    async def scene() -> None:
        async with open_port() as port:
            assert await port.ask(sent) == answer

    run(scene())


def test_word_in_pieces(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            for word in (b"ruok", b"stmk" + struct.pack(">q", 7)):
                reader, writer = await port.connect()
                for at in range(len(word)):
                    writer.write(word[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(0)
                assert await read_all(reader) == {b"ruok": b"imok"}.get(word, b"7")
                writer.close()

    run(scene())


def test_word_followed_by_a_megabyte(run: Run) -> None:
    """The answer is sent all the same; what follows is not kept."""

    async def scene() -> None:
        async with open_port() as port:
            assert await port.ask(b"ruok" + bytes(1 << 20)) in (b"imok", b"")
            assert port.notes.data == {}

    run(scene())


def test_word_that_is_not_enabled_is_refused(run: Run) -> None:
    async def scene() -> None:
        async with open_port(words=frozenset({"srvr"})) as port:
            assert await port.ask(b"stat") == REFUSED
            assert await port.ask(b"stmk") == REFUSED.replace(b"stat", b"stmk")
            assert (await port.ask(b"srvr")).startswith(b"Zookeeper version: 3.9.")

    run(scene())


@pytest.mark.parametrize("sent", [b"STAT", b"Stat", b"GET ", b"\x16\x03\x01\x02", b"SSH-"])
def test_anything_else_is_the_driver_s_business(run: Run, sent: bytes) -> None:
    """Words are lower case; TLS, HTTP and SSH are lengths too, and bad ones."""

    async def scene() -> None:
        async with open_port() as port:
            port.notes.reply = lambda conn, data: conn.link.close()
            assert await port.ask(sent) == b""
            assert list(port.notes.data.values()) == [sent]

    run(scene())


def test_word_is_no_word_later_on(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            _, writer = await port.connect()
            writer.write(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            writer.write(b"ruok")
            await port.notes.until(lambda: list(port.notes.data.values()) == [frame(b"x") + b"ruok"])
            writer.close()

    run(scene())


def test_large_answer_waits_for_its_reader(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred thousand watches; the answer is made as fast as it is read, and others are served meanwhile."""

    async def scene() -> None:
        async with open_port() as port:
            made = 0
            sessions = 3_000

            def watches() -> Iterator[tuple[int, list[bytes]]]:
                nonlocal made
                paths = [b"/some/path/that/is/watched/by/somebody/%d" % n for n in range(100)]
                for session in range(sessions):
                    made += 1
                    yield session, paths

            monkeypatch.setattr(port.view, "watches_by_session", watches)
            lazy = port.connect_lazily(b"wchc")
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            (protocol,) = port.listener.protocols()
            for _ in range(20_000):
                await asyncio.sleep(0)
                if protocol.is_choked:
                    break
            assert protocol.is_choked
            assert made < sessions
            assert await port.ask(b"ruok") == b"imok"
            before = made
            for _ in range(50):
                await asyncio.sleep(0)
            assert made == before
            reader, writer = await asyncio.open_connection(sock=lazy)
            assert (await read_all(reader)).endswith(b"/99\n\n")
            assert made == sessions
            writer.close()

    run(scene())


def test_word_that_fails_closes_its_connection_only(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with open_port() as port:

            def broken() -> dict[str, float]:
                raise RuntimeError("no gauges")

            monkeypatch.setattr(port.view, "gauges", broken)
            assert b"zk_uptime" not in await port.ask(b"mntr")
            assert await port.ask(b"ruok") == b"imok"

    run(scene())
    assert "no gauges" in caplog.text


def test_interest_is_shown_as_java_does(run: Run) -> None:
    """1 for a connection that is read from, 0 for the one that asks, 0 when reading has stopped."""

    async def scene() -> None:
        async with open_port() as port:
            _, writer = await port.connect()
            writer.write(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            (protocol,) = port.listener.protocols()
            assert protocol.interest == 1
            protocol.pause()
            assert protocol.interest == 0
            protocol.resume()
            assert protocol.interest == 1
            writer.close()

    run(scene())


# Limits.


def test_connections_per_address(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with open_port(Limits(per_address=2)) as port:
            first = await port.connect()
            second = await port.connect()
            await port.notes.until(lambda: len(port.notes.conns) == 2)
            assert await port.ask(b"ruok") == b""
            assert port.view.stats.counters["connection_rejected"] == 1
            assert port.listener.connection_count == 2
            first[1].close()
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            assert await port.ask(b"ruok") == b"imok"
            second[1].close()

    run(scene())
    assert "too many connections from this address, max is 2" in caplog.text


def test_connections_in_all(run: Run) -> None:
    async def scene() -> None:
        async with open_port(Limits(per_address=0, total=1)) as port:
            _, writer = await port.connect()
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            assert await port.ask(b"ruok") == b""
            writer.close()
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            assert await port.ask(b"ruok") == b"imok"

    run(scene())


def test_no_limit_when_zero(run: Run) -> None:
    async def scene() -> None:
        async with open_port(Limits(per_address=0, total=0)) as port:
            opened = [await port.connect() for _ in range(100)]
            await port.notes.until(lambda: len(port.notes.conns) == 100)
            for _, writer in opened:
                writer.close()

    run(scene())


def test_connection_without_a_session_is_closed_in_time(run: Run) -> None:
    """Nothing sent, half a length sent, half a frame sent: each has the same time. One with a session stays."""

    async def scene() -> None:
        async with open_port(Limits(sessionless_ms=150)) as port:
            port.notes.reply = lambda conn, data: setattr(conn, "session_id", 5 if b"session" in data else 0)
            silent = [await port.connect() for _ in range(3)]
            silent[1][1].write(b"\0\0")
            silent[2][1].write(b"\0\0\1\0half")
            _, staying = await port.connect()
            staying.write(frame(b"session"))
            for reader, writer in silent:
                assert await read_all(reader) == b""
                writer.close()
            assert port.view.stats.counters["sessionless_connections_expired"] == 3
            assert port.listener.connection_count == 1
            staying.close()

    run(scene())


def test_slow_reader_is_not_read_from_and_then_cut_off(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with open_port(Limits(unread_bytes=16 << 20)) as port:
            lazy = port.connect_lazily(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            (conn,) = port.notes.conns
            (protocol,) = port.listener.protocols()
            sent = 0
            while conn not in port.notes.gone:
                conn.link.send(bytes(1 << 20))
                sent += 1
                await asyncio.sleep(0)
                assert sent < 50
                if sent == 12:
                    assert protocol.interest == 4
            assert sent > 12
            conn.link.send(b"nobody hears this")
            lazy.close()

    run(scene())
    assert "slow reader cut off peer=127.0.0.1:" in caplog.text


def test_reading_resumes_when_the_slow_reader_has_caught_up(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            reader, writer = await port.connect()
            writer.write(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            (conn,) = port.notes.conns
            (protocol,) = port.listener.protocols()
            size = 16 << 20
            conn.link.send(bytes(size))
            for _ in range(10):
                await asyncio.sleep(0)
            assert protocol.interest == 4
            async with asyncio.timeout(WAIT_S):
                await reader.readexactly(size)
            writer.write(b"y")
            await port.notes.until(lambda: port.notes.data[conn] == frame(b"x") + b"y")
            assert protocol.interest == 1
            writer.close()

    run(scene())


def test_driver_stops_and_resumes_reading(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            _, writer = await port.connect()
            writer.write(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            (conn,) = port.notes.conns
            conn.link.pause()
            conn.link.pause()
            writer.write(b"y")
            await writer.drain()
            assert await port.ask(b"ruok") == b"imok"
            assert port.notes.data[conn] == frame(b"x")
            conn.link.resume()
            await port.notes.until(lambda: port.notes.data[conn] == frame(b"x") + b"y")
            conn.link.resume()
            writer.close()

    run(scene())


# Closing.


def test_close_sends_what_was_sent_before(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            size = 8 << 20

            def last_words(conn: Conn, data: bytes) -> None:
                conn.link.send(bytes(size))
                conn.link.close()
                conn.link.send(b"too late")
                conn.link.close()

            port.notes.reply = last_words
            assert await port.ask(frame(b"x")) == bytes(size)

    run(scene())


def fill(conn: Conn, protocol: ClientProtocol) -> None:
    """Sends until the kernel takes no more, but not so much that reading stops."""
    transport = protocol._transport
    while transport.get_write_buffer_size() == 0:
        conn.link.send(bytes(32 << 10))


@pytest.mark.parametrize("ends_by", ["close", "half-close"])
def test_closed_connection_does_not_linger_for_ever(run: Run, ends_by: str) -> None:
    """A peer that takes nothing has a while to do so, whoever closed."""

    async def scene() -> None:
        async with open_port(Limits(linger_ms=100)) as port:
            lazy = port.connect_lazily(frame(b"x"))
            await port.notes.until(lambda: len(port.notes.data) == 1)
            (conn,) = port.notes.conns
            (protocol,) = port.listener.protocols()
            fill(conn, protocol)
            if ends_by == "close":
                conn.link.close()
            else:
                lazy.shutdown(socket.SHUT_WR)
            await port.notes.until(lambda: port.notes.gone == [conn])
            lazy.close()

    run(scene())


def test_half_closed_connection_is_over(run: Run) -> None:
    """NIOServerCnxn: a read that ends is the end of the connection."""

    async def scene() -> None:
        async with open_port() as port:
            reader, writer = await port.connect()
            writer.write(frame(b"x"))
            writer.write_eof()
            assert await read_all(reader) == b""
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            writer.close()

    run(scene())


def test_stop_lets_nobody_in_and_close_ends_the_rest(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            reader, writer = await port.connect()
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            port.listener.stop()
            port.listener.stop()
            with pytest.raises(ConnectionRefusedError):
                await port.connect()
            port.listener.close_connections()
            assert await read_all(reader) == b""
            writer.close()

    run(scene())


def test_reset_by_the_client_is_an_end_like_any_other(run: Run) -> None:
    async def scene() -> None:
        async with open_port() as port:
            _, writer = await port.connect()
            writer.write(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            assert port.listener.connection_count == 0

    run(scene())


def test_end_of_the_client_after_ours_changes_nothing(run: Run) -> None:
    """Both may close at the same moment; and what a driver does with a connection that is gone is of no effect."""

    async def scene() -> None:
        async with open_port() as port:
            _, writer = await port.connect()
            writer.write(frame(b"x"))
            await port.notes.until(lambda: bool(port.notes.data))
            (protocol,) = port.listener.protocols()
            protocol.close()
            protocol.eof_received()
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            protocol.close()
            protocol.send(b"nobody hears this")
            protocol.pause()
            protocol.resume()
            writer.close()
            assert port.listener.connection_count == 0

    run(scene())


def test_client_that_leaves_in_the_middle_of_an_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with open_port() as port:
            made = 0

            def watches() -> Iterator[tuple[int, list[bytes]]]:
                nonlocal made
                for session in range(100_000):
                    made += 1
                    yield session, [b"/some/path/that/is/watched/by/somebody/%d" % n for n in range(100)]

            monkeypatch.setattr(port.view, "watches_by_session", watches)
            lazy = port.connect_lazily(b"wchc")
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            for _ in range(50):
                await asyncio.sleep(0)
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            lazy.close()
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            assert made < 100_000

    run(scene())


# Accepting.


class Stingy:
    """A listening socket that says now and then that there are no descriptors left."""

    def __init__(self, real: socket.socket, refusals: int, number: int) -> None:
        self._real = real
        self._refusals = refusals
        self._errno = number

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self._refusals:
            self._refusals -= 1
            raise OSError(self._errno, "as told")
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def close(self) -> None:
        self._real.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO])
def test_accepting_pauses_without_descriptors_and_goes_on(
    run: Run, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listeners, "ACCEPT_PAUSE_S", 0.01)

    async def scene() -> None:
        async with open_port() as port:
            real = port.listener._socket
            assert real is not None
            monkeypatch.setattr(port.listener, "_socket", Stingy(real, 3, number))
            assert await port.ask(b"ruok") == b"imok"

    run(scene())
    assert caplog.text.count("accepting paused reason=as told") == 3


def test_connections_leave_descriptors_for_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait are let in as soon as somebody leaves; nobody is refused."""
    monkeypatch.setattr(listeners, "ACCEPT_PAUSE_S", 0.01)

    async def scene() -> None:
        async with open_port(Limits(open_files=2)) as port:
            first = await port.connect()
            second = await port.connect()
            await port.notes.until(lambda: len(port.notes.conns) == 2)
            reader, writer = await port.connect()
            writer.write(b"ruok")
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(port.notes.conns) == 2
            first[1].close()
            assert await read_all(reader) == b"imok"
            writer.close()
            second[1].close()

    run(scene())


def test_client_that_is_gone_before_it_is_let_in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not been seen by anybody, and leaves nothing behind in the counts."""

    async def scene() -> None:
        async with open_port(Limits(per_address=1)) as port:
            real = socket.socket.setsockopt
            refused = 0

            def setsockopt(self: socket.socket, level: int, option: int, value: int) -> None:
                nonlocal refused
                if option == socket.TCP_NODELAY and refused == 0 and self.getsockname()[1] == port.port:
                    refused += 1
                    raise OSError(errno.EINVAL, "the peer has gone")
                real(self, level, option, value)

            with monkeypatch.context() as patch:
                patch.setattr(socket.socket, "setsockopt", setsockopt)
                with socket.create_connection((port.host, port.port)):
                    for _ in range(20):
                        await asyncio.sleep(0)
            assert refused == 1
            assert port.notes.conns == []
            assert port.listener.connection_count == 0
            assert await port.ask(b"ruok") == b"imok"

    run(scene())


def test_more_clients_than_one_turn_lets_in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "ACCEPT_BATCH", 3)

    async def scene() -> None:
        async with open_port() as port:
            waiting = [socket.create_connection((port.host, port.port), WAIT_S) for _ in range(10)]
            await port.notes.until(lambda: len(port.notes.conns) == 10)
            for one in waiting:
                one.close()

    run(scene())


def test_stop_while_accepting_is_paused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with open_port(Limits(open_files=1)) as port:
            _, writer = await port.connect()
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            _, second = await port.connect()
            for _ in range(20):
                await asyncio.sleep(0)
            port.listener.stop()
            writer.close()
            second.close()

    run(scene())


def test_flood_from_one_address_leaves_the_others_served(run: Run) -> None:
    async def scene() -> None:
        async with open_port(Limits(per_address=60)) as port:
            port.notes.reply = lambda conn, data: conn.link.send(b"pong")
            reader, writer = await port.connect()
            writer.write(frame(b"ping"))
            assert await reader.readexactly(4) == b"pong"
            flood = [socket.create_connection((port.host, port.port), WAIT_S) for _ in range(500)]
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"pong"
            await port.notes.until(lambda: len(port.notes.conns) == 60)
            for one in flood:
                one.close()
            writer.close()
            await port.notes.until(lambda: port.listener.connection_count == 0)

    run(scene())


def test_port_is_taken_before_anybody_is_let_in(run: Run) -> None:
    async def scene() -> None:
        bound = bind("localhost", 0)
        host, port = bound.getsockname()[:2]
        assert host in ("127.0.0.1", "::1")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        listening = bind(host, 0)
        listening.listen()
        with pytest.raises(OSError) as caught:
            bind(host, listening.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
        listening.close()
        bound.close()

    run(scene())


@pytest.mark.parametrize("backlog", [-1, 0, 5])
def test_empty_host_is_every_address(run: Run, backlog: int) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        listener = ClientListener(Notes(), PlainView(), ALL, Limits(backlog=backlog), loop, lambda: 0)
        bound = bind("", 0)
        port = bound.getsockname()[1]
        listener.start(bound)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"ruok")
        assert await read_all(reader) == b"imok"
        writer.close()
        listener.stop()
        listener.abort_connections()

    run(scene())


def test_empty_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = listeners._bind_to

    def bind_to(family: int, address: tuple[object, ...]) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6 here")
        return real(family, address)

    monkeypatch.setattr(listeners, "_bind_to", bind_to)
    bound = bind("", 0)
    assert bound.getsockname()[0] == "0.0.0.0"
    bound.close()


def test_other_trouble_with_the_port_is_not_about_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind_to(family: int, address: tuple[object, ...]) -> socket.socket:
        raise OSError(errno.EACCES, "not you")

    monkeypatch.setattr(listeners, "_bind_to", bind_to)
    with pytest.raises(OSError) as caught:
        bind("", 80)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8::a0", "2001:db8:0:0:0:0:0:a0"),
        ("fe80::1%eth0", "fe80:0:0:0:0:0:0:1"),
    ],
)
def test_addresses_look_as_in_java(host: str, shown: str) -> None:
    """InetAddress.getHostAddress, which also is the id of the scheme `ip`."""
    assert java_host(host) == shown
    assert java_address(shown, 5) == (f"[{shown}]:5" if ":" in shown else f"{shown}:5")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="coati")

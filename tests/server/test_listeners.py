"""The client port, with real sockets on the loopback and a driver that only takes notes."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from coati.server.listeners import ClientProtocol, Limits
from coati.server.pipeline import Conn
from tests.server.linkkit import Run
from tests.server.portkit import WAIT_S, ManyWatches, frame, open_port, read_all

pytestmark = pytest.mark.usefixtures("quiet")


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
            reader, writer = await port.heard()
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
            _, writer = await port.heard()
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
            _, writer = await port.heard()
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
            _, writer = await port.heard()
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
            watches = ManyWatches(100_000)
            monkeypatch.setattr(port.view, "watches_by_session", watches)
            lazy = port.connect_lazily(b"wchc")
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            for _ in range(50):
                await asyncio.sleep(0)
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            lazy.close()
            await port.notes.until(lambda: len(port.notes.gone) == 1)
            assert watches.made < watches.sessions

    run(scene())

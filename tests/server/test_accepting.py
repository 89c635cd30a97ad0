"""How the client port lets clients in, and where it listens."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from coati.server import listeners
from coati.server.listeners import ClientListener, Limits, bind, java_address, java_host
from tests.server.linkkit import Run
from tests.server.portkit import ALL, WAIT_S, Notes, frame, open_port, read_all
from tests.server.views import PlainView

pytestmark = pytest.mark.usefixtures("quiet")


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

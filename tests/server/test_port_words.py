"""Four-letter words on the client port, as they come from sockets."""

from __future__ import annotations

import asyncio
import struct

import pytest

from tests.server.linkkit import Run
from tests.server.portkit import ManyWatches, frame, open_port, read_all

REFUSED = b"stat is not executed because it is not in the whitelist.\n"

pytestmark = pytest.mark.usefixtures("quiet")


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
            _, writer = await port.heard()
            writer.write(b"ruok")
            await port.notes.until(lambda: list(port.notes.data.values()) == [frame(b"x") + b"ruok"])
            writer.close()

    run(scene())


def test_large_answer_waits_for_its_reader(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred thousand watches; the answer is made as fast as it is read, and others are served meanwhile."""

    async def scene() -> None:
        async with open_port() as port:
            watches = ManyWatches(3_000)
            monkeypatch.setattr(port.view, "watches_by_session", watches)
            lazy = port.connect_lazily(b"wchc")
            await port.notes.until(lambda: len(port.notes.conns) == 1)
            (protocol,) = port.listener.protocols()
            for _ in range(20_000):
                await asyncio.sleep(0)
                if protocol.is_choked:
                    break
            assert protocol.is_choked
            assert watches.made < watches.sessions
            assert await port.ask(b"ruok") == b"imok"
            before = watches.made
            for _ in range(50):
                await asyncio.sleep(0)
            assert watches.made == before
            reader, writer = await asyncio.open_connection(sock=lazy)
            assert (await read_all(reader)).endswith(b"/99\n\n")
            assert watches.made == watches.sessions
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
            _, writer = await port.heard()
            (protocol,) = port.listener.protocols()
            assert protocol.interest == 1
            protocol.pause()
            assert protocol.interest == 0
            protocol.resume()
            assert protocol.interest == 1
            writer.close()

    run(scene())

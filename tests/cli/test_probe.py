"""probe: yes or no as an exit code, quickly, and from servers that say little."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coati.admin.knock import shake_hands
from coati.cli import exits
from coati.cli.probe import address_of
from tests.cli import kit
from tests.interop import peers
from tests.interop.ensembles import COATI, Ensemble
from tests.interop.peers import Server

CERTS = Path(__file__).parents[1] / "client" / "certs"
LOOKING = b"This ZooKeeper instance is not currently serving requests\n"
REFUSED = b"%b is not executed because it is not in the whitelist.\n"


@contextmanager
def answering(say: Callable[[bytes], bytes | None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that says what it is told to; None resets the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                try:
                    sock = sock if tls is None else tls.wrap_socket(sock, server_side=True)
                except OSError:
                    # The client does not trust us.
                    continue
                with sock:
                    said = say(sock.recv(4096))
                    if said:
                        sock.sendall(said)
                    elif said is None:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def probe(address: str, *argv: str) -> kit.Done:
    return kit.run("-s", address, "probe", *argv, "--timeout", "5")


@pytest.mark.parametrize("kind", ["live", "ready", "startup"])
def test_a_server_that_serves(kind: str, server: Server) -> None:
    done = probe(server.address, kind, "--require-leader")
    assert (done.code, done.err, len(done.lines)) == (exits.DONE, "", 1)
    assert f"{server.address} is {'live' if kind == 'live' else 'ready'}: " in done.text
    assert json.loads(probe(server.address, kind, "-o", "json").out)["ok"] is True


@pytest.mark.parametrize("kind", ["live", "ready", "startup"])
def test_nobody_is_there(kind: str) -> None:
    done = probe("127.0.0.1:1", kind, "--for", "0.2")
    assert (done.code, len(done.lines)) == (exits.CHECK_FAILED, 1)
    assert done.text.endswith(": connection refused\n")


def test_a_handshake_is_enough(server: Server) -> None:
    """It opens and closes a session; what the server has of it afterwards is nothing."""
    before = int(peers.monitor(server)["global_sessions"])
    assert shake_hands((server.host, server.port), 5) == "rw"
    assert int(peers.monitor(server)["global_sessions"]) <= before


def reply(timeout_ms: int, session_id: int, *, read_only: bool | None) -> bytes:
    """A ConnectResponse."""
    body = struct.pack(">iiqi16s", 0, timeout_ms, session_id, 16, bytes(16))
    body += b"" if read_only is None else bytes([read_only])
    return struct.pack(">i", len(body)) + body


@pytest.mark.parametrize(
    ("answers", "argv", "code", "tells"),
    [
        ({b"srvr": LOOKING, b"ruok": b"imok"}, ["live"], 0, "it answers"),
        ({b"ruok": REFUSED % b"ruok"}, ["live"], 0, "it answers"),
        ({b"ruok": b"", b"srvr": LOOKING}, ["live"], 0, "it answers"),
        ({b"ruok": b"", b"srvr": b"", b"": reply(4000, 1, read_only=False)}, ["live"], 0, "it answers"),
        ({}, ["live"], 9, "it answers nothing"),
        ({b"srvr": LOOKING}, ["ready"], 9, "not currently serving"),
        ({b"srvr": b"Mode: leaderelection\n"}, ["ready"], 9, "it has no leader"),
        ({b"srvr": b"Mode: follower\n"}, ["ready"], 0, "follower"),
        ({b"srvr": b"Mode: follower\n"}, ["ready", "--require-leader"], 9, "it is follower"),
        ({b"srvr": b"Mode: leader\n"}, ["ready", "--require-leader"], 0, "leader"),
        ({b"srvr": b"READ-ONLY mode; x\nMode: read-only\n"}, ["ready"], 9, "reads only"),
        ({b"srvr": b"READ-ONLY mode; x\nMode: read-only\n"}, ["ready", "--read-only"], 0, "reads only"),
        ({b"srvr": REFUSED % b"srvr", b"isro": b"rw"}, ["ready"], 0, "it serves"),
        ({b"srvr": REFUSED % b"srvr", b"isro": b"rw"}, ["ready", "--require-leader"], 9, "does not say whether"),
        ({b"srvr": REFUSED % b"srvr", b"isro": b"null"}, ["ready"], 9, "it has no leader"),
        ({b"srvr": b"", b"": reply(4000, 1, read_only=False)}, ["ready"], 0, "it serves"),
        ({b"srvr": b"", b"": reply(4000, 1, read_only=None)}, ["ready"], 0, "it serves"),
        ({b"srvr": b"", b"": reply(4000, 1, read_only=True)}, ["ready"], 9, "reads only"),
        ({b"srvr": b"", b"": reply(0, 0, read_only=False)}, ["ready"], 9, "takes no session"),
        ({b"srvr": b"", b"": b"\0\0\0\x01x"}, ["ready"], 9, "takes no session"),
        ({b"srvr": b"", b"": b"\0\0"}, ["ready"], 9, "takes no session"),
        ({b"srvr": b"HTTP/1.1 400 Bad Request\r\n"}, ["ready"], 9, "HTTP/1.1 400"),
    ],
)  # fmt: skip
def test_what_servers_say(answers: dict[bytes, bytes], argv: list[str], code: int, tells: str) -> None:
    with answering(lambda asked: answers.get(asked, answers.get(b"", b""))) as address:
        done = probe(address, *argv)
    assert (done.code, len(done.lines)) == (code, 1)
    assert tells in done.text


def test_a_reset_is_no_life() -> None:
    with answering(lambda asked: None) as address:
        assert probe(address, "live").code == exits.CHECK_FAILED


def test_startup_waits() -> None:
    turns: list[bytes] = []

    def say(asked: bytes) -> bytes:
        turns.append(asked)
        return LOOKING if len(turns) < 3 else b"Mode: follower\n"

    with answering(say) as address:
        assert probe(address, "startup", "--for", "30").text.endswith("is ready: follower\n")
    assert len(turns) == 3


def test_a_server_without_a_quorum_lives_and_is_not_ready(tmp_path: Path) -> None:
    with Ensemble(tmp_path, [COATI] * 3) as ensemble:
        ensemble[1].launch()
        address = f"127.0.0.1:{ensemble[1].port}"
        peers.eventually(lambda: probe(address, "live").code == exits.DONE, "it answers", 30)
        assert probe(address, "ready").code == exits.CHECK_FAILED
        down = kit.run("-s", address, "--timeout", "1", "status")
        assert (down.code, down.lines) == (
            exits.CHECK_FAILED, [f"{address}\tdown" + "\t" * 10 + "not serving: no quorum, or starting"],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h", ("h", 2181)),
        ("h:1,i:2/x", ("h", 1)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 2181)),
        ("zk://h/", ("h", 2181)),
    ],
)
def test_whom_it_asks(text: str, found: tuple[str, int]) -> None:
    assert address_of(text) == found


@pytest.mark.parametrize("argv", [("-s", ":1"), ("-s", "h:x"), ("--timeout", "0"), ("--for", "-1")])
def test_wrong_usage(argv: tuple[str, str]) -> None:
    assert kit.run("probe", "ready", *argv).code == exits.USAGE


def test_words_over_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "cert.pem", CERTS / "key.pem")
    with answering(lambda asked: b"Mode: follower\n", context) as address:
        there = f"localhost:{address.rpartition(':')[2]}"
        ca = ("--tls-ca", str(CERTS / "cert.pem"))
        assert probe(there, "ready", *ca).text == f"{there} is ready: follower\n"
        own = ("--tls-cert", str(CERTS / "cert.pem"), "--tls-key", str(CERTS / "key.pem"))
        assert probe(there, "live", *ca, *own).code == exits.DONE
        assert kit.run("-s", there, *ca, "4lw", "srvr").out == b"Mode: follower\n"
        done = probe(there, "ready", "--tls-ca", "system")
        assert done.code == exits.CHECK_FAILED
        assert "certificate" in done.text


def test_files_of_tls_that_are_none(tmp_path: Path) -> None:
    done = kit.run("probe", "ready", "--tls-ca", str(tmp_path / "none.pem"))
    assert done.code == exits.NO_CONNECTION
    assert kit.run("probe", "ready", "--tls-cert", str(tmp_path / "none.pem")).code == exits.NO_CONNECTION


def test_it_loads_neither_a_loop_nor_the_client() -> None:
    """What it loads is what it costs: 60 ms is its time, of which a machine that is busy takes more."""
    code = (
        "import sys; from coati.cli.main import main; main(['probe', 'live', '-s', '127.0.0.1:1']); "
        "print(sorted(set(sys.modules) & {'asyncio', 'ssl', 'coati.client', 'shutil', 'random', 'logging'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr

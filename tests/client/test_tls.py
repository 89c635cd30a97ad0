"""TLS to a server that has the certificate in certs/: of localhost, self-signed, valid for a hundred years."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from coati import TLS, Client, OperationTimeout, Retry, State
from tests.client.kit import reply
from tests.client.livekit import run
from tests.client.scripted import STAT, Scripted

CERTS = Path(__file__).parent / "certs"
CERT = str(CERTS / "cert.pem")
LOCKED = str(CERTS / "locked.pem")
SOON = Retry(base=0.001, cap=0.01)


async def served(*, wants_client: bool = False, reads_only: bool = False) -> tuple[Scripted, asyncio.Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, CERTS / "key.pem")
    if wants_client:
        context.load_verify_locations(CERT)
        context.verify_mode = ssl.CERT_REQUIRED
    script = Scripted(lambda xid, op, body: reply(xid, body=STAT), reads_only=reads_only)
    server = await asyncio.start_server(script.on_client, "127.0.0.1", 0, ssl=context)
    script.port = server.sockets[0].getsockname()[1]
    return script, server


@pytest.mark.parametrize(
    "tls",
    [
        TLS(ca=CERT, cert=CERT, key=LOCKED, key_password="secret"),
        TLS(ca=CERT, cert=CERT, key=LOCKED, key_password="secret").context(),
        TLS(ca=CERT, cert=CERT, key=str(CERTS / "key.pem"), check_hostname=False),
    ],
    ids=["files", "context", "any name"],
)
def test_both_sides_prove_who_they_are(tls: TLS | ssl.SSLContext) -> None:
    async def scene() -> None:
        script, server = await served(wants_client=True)
        async with server, Client(f"localhost:{script.port}", tls=tls, retry=SOON) as zk:
            assert await zk.exists("/a") is not None

    run(scene)


@pytest.mark.parametrize("tls", [TLS(), TLS(ca=CERT)], ids=["a server nobody vouches for", "a client without a name"])
def test_who_proves_nothing_is_told_why(tls: TLS) -> None:
    async def scene() -> None:
        script, server = await served(wants_client=True)
        async with server:
            with pytest.raises(OperationTimeout) as caught:
                await Client(f"localhost:{script.port}", tls=tls, retry=SOON).start(timeout=0.3)
            assert "no server to ask in time" in str(caught.value)

    run(scene)


def test_another_server_is_asked_for_a_quorum_by_tls_too() -> None:
    async def scene() -> None:
        old, first = await served(reads_only=True)
        new, second = await served()
        async with first, second, Client(f"localhost:{old.port}", tls=TLS(ca=CERT), read_only=True, retry=SOON) as zk:
            zk.set_hosts([f"localhost:{old.port}", f"localhost:{new.port}"])
            await zk.wait_for(State.CONNECTED)
            assert zk.session.server == f"localhost:{new.port}"

    run(scene)

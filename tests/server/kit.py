"""For tests of a whole simulated server: serving it, joining it, and records that `SimClient` has no verb for."""

from __future__ import annotations

from coati.testing.server import Parts, SimClient, SimConfig, SimServer
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import ACL, AuthPacket, SetACLRequest

REAL = Parts()
TICK_MS = 2000
EPHEMERAL = codes.FLAG_EPHEMERAL


def serve(parts: Parts = REAL, config: SimConfig | None = None) -> SimServer:
    return SimServer(parts=parts, config=config).start()


def joined(server: SimServer, timeout_ms: int = 10_000) -> SimClient:
    """A client that has its session."""
    client = server.client(timeout_ms=timeout_ms)
    server.run()
    assert client.session_id != 0
    return client


def frame(size: int) -> bytes:
    """A frame of so many bytes behind its length."""
    return size.to_bytes(4, "big") + bytes(size)


def xids(client: SimClient) -> list[int]:
    return [reply.xid for reply in client.replies]


def auth_body(scheme: str, auth: bytes) -> bytes:
    w = Writer()
    AuthPacket(0, scheme, auth).write(w)
    return w.getvalue()


def acl_body(path: bytes, acl: list[ACL]) -> bytes:
    w = Writer()
    SetACLRequest(path, acl, -1).write(w)
    return w.getvalue()


def path_and_int(path: bytes, number: int) -> bytes:
    w = Writer()
    w.path(path)
    w.int32(number)
    return w.getvalue()

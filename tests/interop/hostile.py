"""What the tests of bad input share: the limits of the server under attack, error codes, and asking for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.interop import peers, raw
from tests.interop.raw import Session

SESSIONLESS_MS: Final = 1000
PER_ADDRESS: Final = 60
MAX_FRAME: Final = 0xFFFFF  # jute.maxbuffer's default, 1,048,575
PROPS: Mapping[str, str] = {**peers.QUICK_PROPS, "zookeeper.nio.sessionlessCnxnTimeout": str(SESSIONLESS_MS)}
CFG: Mapping[str, str] = {
    **peers.QUICK_CFG,
    "maxClientCnxns": str(PER_ADDRESS),
    "4lw.commands.whitelist": "ruok, srvr, isro, mntr, stmk, gtmk",
}
INT_MAX: Final = 2**31 - 1
OK, INCONSISTENT, MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS, NO_NODE, NO_AUTH = 0, -2, -5, -6, -8, -101, -102
BAD_VERSION, NODE_EXISTS, NOT_EMPTY, INVALID_ACL, AUTH_FAILED, MISSING_AUTH = -103, -110, -111, -114, -115, -124


def ask(session: Session, op: int, body: bytes = b"") -> int:
    """The error code of one request."""
    session.send(op, body)
    return session.reply().err


def errors(results: object) -> list[int]:
    """The error codes of the parts of a multi."""
    assert isinstance(results, list)
    return [part[2] if part[0] == raw.ERROR else OK for part in results[:-1]]

"""enforce.auth.enabled: who has not authenticated gets the same bytes from coati as from Java 3.9.3, and nothing else.

Both servers are asked the same in the same order, so that whole frames can be compared, zxids included: a request that
was executed in secret, on either side, would shift those of all that follow.
Row 28 of bad input: refused, the connection closed, nothing executed first (ZOOKEEPER-3905).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.interop import peers, raw
from tests.interop.hostile import AUTH_FAILED, MISSING_AUTH, OK
from tests.interop.peers import Server
from tools.javapeer import JavaFailed

ENFORCED: Final = {**peers.LOCKSTEP_PROPS, "zookeeper.enforce.auth.enabled": "true"}
DIGEST: Final = {**ENFORCED, "zookeeper.enforce.auth.schemes": "digest,"}
NOT_YET: Final = "zookeeper.authProvider.1"
SASL_CLASS: Final = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
LOGIN: Final = raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("digest", b"bob:pw"))
PING: Final = raw.request(raw.XID_PING, raw.PING)
CREATE: Final = raw.request(2, raw.CREATE, raw.create("/x"))
LIST: Final = raw.request(3, raw.GET_CHILDREN, raw.path_watch("/"))

# What is sent in one piece behind the handshake. All of these end with the connection closed.
REFUSED: Final = {
    "ping": PING,
    "read": LIST,
    "plain getData": raw.request(1, raw.GET_DATA, raw.path_watch("/")),
    "watch": raw.request(1, raw.EXISTS, raw.path_watch("/x", True)),
    "write": CREATE,
    "multi": raw.request(1, raw.MULTI, raw.multi([(raw.CREATE, raw.create("/m"))])),
    "multiRead": raw.request(1, raw.MULTI_READ, raw.multi([(raw.GET_DATA, raw.path_watch("/"))])),
    "sync": raw.request(1, raw.SYNC, raw.ustring("/")),
    "closeSession": raw.request(1, raw.CLOSE_SESSION),
    "setWatches": raw.request(raw.XID_SET_WATCHES, raw.SET_WATCHES, raw.set_watches(0, ["/x"], [], [])),
    "addWatch": raw.request(1, raw.ADD_WATCH, raw.path_version("/", 1)),
    "whoAmI": raw.request(1, raw.WHO_AM_I),
    "getEphemerals": raw.request(1, raw.GET_EPHEMERALS, raw.ustring("/")),
    "reconfig": raw.request(1, raw.RECONFIG, raw.reconfig(None, None, None, -1)),
    "deleteContainer": raw.request(1, raw.DELETE_CONTAINER, raw.ustring("/zookeeper")),
    "createSession": raw.request(1, raw.CREATE_SESSION, raw.i32(1000)),
    "unknown opcode": raw.request(1, 55),
    "unreadable write": raw.request(1, raw.CREATE, b"\xff"),
    "two requests": CREATE + LIST,
    "authenticates too late": CREATE + LOGIN + LIST,
    "ip is not enough": raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("ip", b"")) + LIST,
    "sasl token": raw.request(1, raw.SASL, raw.buffer(b"")) + LIST,
}
# Of these the answer to the attempt itself, if any, is the last.
FAILED: Final = {
    "unknown scheme": raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("nope", b"x")) + LIST,
    "no credentials": raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("digest", None)) + LIST,
    "scheme of no provider": raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("sasl", b"x")) + LIST,
    "null sasl token": raw.request(1, raw.SASL, raw.buffer(None)) + LIST,
    "broken auth packet": raw.request(raw.XID_AUTH, raw.AUTH, b"\0\0") + LIST,
    "frame of four bytes": raw.frame(raw.i32(1)) + LIST,
}
# These are served.
SERVED: Final = {
    "login and read": LOGIN + LIST + PING,
    "login twice": LOGIN + LOGIN + LIST + PING,
    "no colon": raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("digest", b"bob")) + LIST + PING,
    "sasl, then login": raw.request(1, raw.SASL, raw.buffer(b"")) + LOGIN + LIST + PING,
    "super": raw.request(raw.XID_AUTH, raw.AUTH, raw.auth("digest", peers.SUPER_PASSWORD.encode())) + LIST + PING,
    "create and delete": LOGIN + CREATE + raw.request(4, raw.DELETE, raw.path_version("/x")) + PING,
}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    with (
        peers.running("coati", props=DIGEST, cfg=peers.QUICK_CFG) as ours,
        peers.running("3.9.3", props=DIGEST, cfg=peers.QUICK_CFG) as java,
    ):
        yield ours, java


def transcript(session: raw.Session, sent: bytes) -> list[str]:
    """All frames up to the reply to a ping or the end of the connection; then goes away without a word."""
    frames: list[str] = []
    with session:
        session.wire.send(sent)
        try:
            while not frames or not frames[-1].startswith("ping"):
                payload = session.wire.read_frame()
                is_served = payload[:4] == raw.i32(raw.XID_PING) and payload[12:] == raw.i32(OK)
                frames.append(("ping " if is_served else "") + payload.hex())
        except raw.Closed as end:
            frames.append(str(end))
    return frames


def both(pair: tuple[Server, Server], sent: bytes) -> list[str]:
    """What both servers answer, which must be the same."""
    ours, java = (transcript(peers.session(server), sent) for server in pair)
    assert ours == java
    return java


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_is_done_for_who_has_not_authenticated(pair: tuple[Server, Server], what: str) -> None:
    frames = both(pair, REFUSED[what])
    assert frames[-1] == "with 0 bytes of a frame"
    assert raw.parse(bytes.fromhex(frames[-2])) == raw.Reply(_last_xid(frames), 0, MISSING_AUTH, b"")
    # Nothing was executed: the next session sees an empty tree, at the same zxid on both sides.
    served = both(pair, LOGIN + LIST + PING)
    listed = raw.parse(bytes.fromhex(served[1]))
    assert isinstance(listed, raw.Reply)
    assert raw.decode(raw.GET_CHILDREN, listed.body) == ["zookeeper"]


def _last_xid(frames: list[str]) -> int:
    return int.from_bytes(bytes.fromhex(frames[-2])[:4], "big", signed=True)


@pytest.mark.parametrize("what", FAILED)
def test_failed_authentication_ends_the_connection(pair: tuple[Server, Server], what: str) -> None:
    frames = both(pair, FAILED[what])
    assert frames[-1] == "with 0 bytes of a frame"
    replies = [raw.parse(bytes.fromhex(frame)) for frame in frames[:-1]]
    assert replies in ([], [raw.Reply(raw.XID_AUTH, 0, AUTH_FAILED, b"")])


@pytest.mark.parametrize("what", SERVED)
def test_authenticated_clients_are_served(pair: tuple[Server, Server], what: str) -> None:
    assert both(pair, SERVED[what])[-1].startswith("ping")


def test_request_in_pieces_is_judged_like_a_whole_one(pair: tuple[Server, Server]) -> None:
    def slowly(server: Server) -> list[str]:
        session = peers.session(server)
        for byte in LOGIN:
            session.wire.send(bytes([byte]))
        session.wire.send(LIST[:7])
        return transcript(session, LIST[7:] + PING)

    ours, java = (slowly(server) for server in pair)
    assert ours == java
    assert java[-1].startswith("ping")


def test_request_that_comes_with_the_handshake_is_judged_as_well(pair: tuple[Server, Server]) -> None:
    def at_once(server: Server) -> list[bytes]:
        with raw.Wire(server.host, server.port) as wire:
            wire.send(raw.frame(raw.connect_request(30_000)) + CREATE + LIST)
            wire.read_frame()
            frames = [wire.read_frame()]
            assert wire.read_to_end() == b""
            return frames

    ours, java = (at_once(server) for server in pair)
    assert ours == java
    assert raw.parse(java[0]) == raw.Reply(2, 0, MISSING_AUTH, b"")


def test_the_session_outlives_the_refusal_but_its_identities_do_not_outlive_the_connection(
    pair: tuple[Server, Server],
) -> None:
    def again(server: Server) -> list[list[str]]:
        first = peers.session(server)
        told = [transcript(first, sent) for sent in (CREATE,)]
        for sent in (LOGIN + LIST + PING, LIST):
            resumed = raw.Session(
                server.host, server.port, session_id=first.session_id, password=first.password, last_zxid=0
            )
            told.append(transcript(resumed, sent))
        return told

    ours, java = (again(server) for server in pair)
    assert ours == java
    refused, served, refused_again = java
    assert (len(refused), len(served), len(refused_again)) == (2, 3, 2)


def test_words_need_no_authentication(pair: tuple[Server, Server]) -> None:
    for server in pair:
        assert peers.monitor(server)["server_state"] == "standalone"


IMPOSSIBLE: Final[dict[str, Mapping[str, str]]] = {
    "no schemes": ENFORCED,
    "empty schemes": {**ENFORCED, "zookeeper.enforce.auth.schemes": ""},
    "unknown scheme": {**ENFORCED, "zookeeper.enforce.auth.schemes": "digest,world"},
    "no provider": {**ENFORCED, "zookeeper.enforce.auth.schemes": "digest,sasl"},
    "digest is off": {**DIGEST, "zookeeper.DigestAuthenticationProvider.enabled": "false"},
    "sasl required": {"zookeeper.sessionRequireClientSASLAuth": "true"},
}


@pytest.mark.parametrize("kind", ["coati", "3.9.3"], ids=["coati", "java"])
@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_nobody_can_satisfy_does_not_start(kind: str, what: str) -> None:
    with pytest.raises((peers.CoatiFailed, JavaFailed), match=r"exited with 2|code 2"):
        peers.running(kind, props=IMPOSSIBLE[what]).__enter__()


def test_scheme_that_comes_later_beside_one_that_is_there() -> None:
    """Java can load a provider for sasl; here its clients have digest left, and the operator is told so."""
    props = {**DIGEST, "zookeeper.enforce.auth.schemes": "sasl, digest", NOT_YET: SASL_CLASS}
    with peers.running("coati", props=props, cfg=peers.QUICK_CFG) as server:
        assert "enforce.auth.schemes: sasl comes later" in server.log()
        assert transcript(peers.session(server), LOGIN + LIST + PING)[-1].startswith("ping")
        assert len(transcript(peers.session(server), LIST)) == 2

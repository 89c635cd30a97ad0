"""The four-letter words after the same load on coati and on Java 3.9.3: the same lines and the same counts.

Figures of time, memory and Java's inner queues differ by nature; everything that counts requests, bytes, znodes,
sessions or watches must not. Lists that Java prints in the order of a hash table are compared as sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.interop import peers, raw
from tests.interop.peers import Server
from tools.javapeer import four_letter

LOGIN: Final = raw.auth("digest", b"bob:pw")
# Counted from `srst` on.
COUNTED: Final = (
    "packets_received", "packets_sent", "bytes_received_count", "watch_bytes", "connection_request_count",
    "znode_count", "ephemerals_count", "watch_count", "approximate_data_size", "global_sessions", "local_sessions",
    "num_alive_connections", "outstanding_requests", "last_client_response_size", "max_client_response_size",
    "min_client_response_size", "cnt_readlatency", "cnt_updatelatency", "connection_rejected", "server_state",
)  # fmt: skip
# What is one server's own, and what differs for want of a JVM.
_OWN: Final = re.compile(
    r"0x1[0-9a-f]{14}|(?<=:)\d{4,5}\b|(?<=est=)\d+|(?<=lresp=)\d+|(?<=lat=)\d+|\d\d:\d\d:\d\d|"
    r"(?<=Port=)\d+|/[a-z/]*peer-\w+/|(?<=version: ).*|(?<=avg/max: ).*|(?<=Size=)\d+|(?<=size: )\d+"
)


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[Server, Server]]:
    """Both servers, each with two connected clients and the same history."""
    with (
        peers.running("coati", props=peers.LOCKSTEP_PROPS, cfg=peers.QUICK_CFG) as ours,
        peers.running("3.9.3", props=peers.LOCKSTEP_PROPS, cfg=peers.QUICK_CFG) as java,
    ):
        clients = [client for server in (ours, java) for client in load(server)]
        yield ours, java
        for client in clients:
            client.close()


def load(server: Server) -> list[raw.Session]:
    assert four_letter(server.host, server.port, "srst") == "Server stats reset.\n"
    first, second = peers.session(server), peers.session(server)
    first.call(raw.CREATE, raw.create("/app", b"x" * 100))
    first.call(raw.CREATE, raw.create("/app/mine", b"", flags=1))
    first.call(raw.CREATE, raw.create("/no/parent"))
    for number in range(10):
        first.call(raw.SET_DATA, raw.set_data("/app", b"y" * number))
        first.call(raw.GET_DATA, raw.path_watch("/app"))
        second.call(raw.GET_DATA, raw.path_watch("/app", True))
        second.call(raw.EXISTS, raw.path_watch("/nope", True))
        second.call(raw.GET_CHILDREN2, raw.path_watch("/", True))
    second.call(raw.SYNC, raw.ustring("/"))
    second.call(raw.GET_DATA, raw.path_watch("/missing"))
    first.call(raw.MULTI, raw.multi([(raw.CREATE, raw.create("/m")), (raw.SET_DATA, raw.set_data("/app", b"q"))]))
    first.call(raw.AUTH, LOGIN, xid=raw.XID_AUTH)
    with peers.session(server) as refused:
        refused.call(raw.AUTH, raw.auth("nobody", b""), xid=raw.XID_AUTH)
        with pytest.raises(raw.Closed):
            refused.receive()
    third = peers.session(server)
    third.close()
    first.call(raw.GET_ACL, raw.ustring("/app"))
    first.call(raw.DELETE, raw.path_version("/m"))
    first.ping()
    second.ping()
    return [first, second]


def texts(pair: tuple[Server, Server], word: str) -> list[list[str]]:
    """The lines of both answers, without what is one server's own, sorted."""
    answers = [four_letter(server.host, server.port, word) for server in pair]
    return [sorted(_OWN.sub("*", answer).split("\n")) for answer in answers]


# First, since every word counts as well.
def test_mntr_counts_as_java_does(loaded: tuple[Server, Server]) -> None:
    def are_settled() -> bool:
        """No closed connection is counted any more; both are asked equally often, since words count, too."""
        return ["\nConnections: 3\n" in four_letter(server.host, server.port, "srvr") for server in loaded] == [
            True
        ] * 2

    peers.eventually(are_settled, "two clients and the one that asks")
    ours, java = (peers.monitor(server) for server in loaded)
    assert {name: ours[name] for name in COUNTED} == {name: java[name] for name in COUNTED}
    # Families that are named after znodes are not counted (docs/divergences.md).
    assert list(ours) == [name for name in java if not name.endswith("_per_namespace")]


def test_connections_show_the_same_requests(loaded: tuple[Server, Server]) -> None:
    ours, java = texts(loaded, "cons")
    assert ours == java
    shown = [line for line in java if "sid=" in line]
    assert any(",lop=PING,est=*,to=30000,lcxid=0x" in line for line in shown)


@pytest.mark.parametrize("word", ["stat", "srvr", "conf", "wchs", "wchc", "wchp", "ruok", "isro", "gtmk", "dirs"])
def test_words_have_the_same_lines(loaded: tuple[Server, Server], word: str) -> None:
    ours, java = ([line for line in text if not line.startswith(("Received", "Sent"))] for text in texts(loaded, word))
    assert ours == java


def test_hash_tells_the_same_history(loaded: tuple[Server, Server]) -> None:
    """Times are part of the digest, so only zxids and the number of lines agree."""
    ours, java = ([line.partition(":")[0] for line in text] for text in texts(loaded, "hash"))
    assert ours == java


def test_envi_has_java_s_keys_and_two_of_our_own(loaded: tuple[Server, Server]) -> None:
    ours, java = ({line.partition("=")[0] for line in text} for text in texts(loaded, "envi"))
    assert ours == java | {"coati_version", "python.version"}


def test_statistics_of_connections_are_reset(loaded: tuple[Server, Server]) -> None:
    for server in loaded:
        assert four_letter(server.host, server.port, "crst") == "Connection stats reset.\n"
    ours, java = texts(loaded, "cons")
    assert ours == java

"""The four-letter words of leader, follower and observer after the same load, of coati and of Java 3.9.3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.interop import peers, raw
from tests.interop.ensembles import COATI, Ensemble
from tools.javapeer import four_letter

JAVA: Final = "3.9.3"
# Server 2 leads, server 3 observes.
SIDS: Final = {"leader": 2, "follower": 1, "observer": 3}
WORDS: Final = ("srvr", "stat", "conf", "cons", "dump", "wchs", "wchc", "wchp", "isro", "ruok", "dirs")
# Counted alike by both, on every member; what nobody counts here is in docs/divergences.md.
SAME: Final = (
    "server_state", "peer_state", "quorum_size", "learners", "synced_followers", "synced_non_voting_followers",
    "synced_observers", "pending_syncs", "last_proposal_size", "min_proposal_size", "max_proposal_size", "znode_count",
    "ephemerals_count", "watch_count", "approximate_data_size", "global_sessions", "local_sessions",
    "outstanding_requests", "connection_request_count", "num_alive_connections", "observer_master_id",
    "cnt_readlatency", "cnt_updatelatency", "watch_bytes", "proposal_count", "commit_count",
    "learner_proposal_received_count", "learner_commit_received_count",
)  # fmt: skip
# What is one server's own: ids but for the member that gave them, ports, times, sizes, paths, and how deadlines fall.
_OWN: Final = re.compile(
    r"(?<=0x[123])[0-9a-f]{14}\b|(?<=:)\d{4,5}\b|(?<=Port=)\d+|(?<=est=)\d+|(?<=lresp=)\d+|(?<=lat=)\d+|"
    r"(?<=recved=)\d+|(?<=sent=)\d+|(?<=avg/max: ).*|(?<=Size=)\d+|(?<=version: ).*|(?<=Dir=).*|"
    r"(?<=Sets \()\d+(?=\))|\d+ expire at .*|(?<=size: )\d+|\d+(?=ms$)"
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ensemble, Ensemble]]:
    """Both ensembles, with the same history and the same clients."""
    with ExitStack() as stack:
        ensembles = []
        for kind in (COATI, JAVA):
            ensemble = stack.enter_context(Ensemble(tmp_path_factory.mktemp("words"), (kind,) * 3, observers=(3,)))
            ensemble.start_led_by(2)
            ensembles.append(ensemble)
            for client in load(ensemble):
                stack.callback(client.wire.close)
        yield ensembles[0], ensembles[1]


def load(ensemble: Ensemble) -> list[raw.Session]:
    """Three clients that stay, one on each member, and one that has left."""
    clients = []
    # Before the first write: later, one that is still on its way to a learner would count or not.
    for sid in (1, 2, 3):
        assert four_letter(peers.HOST, ensemble[sid].port, "srst") == "Server stats reset.\n"
    for sid in (1, 2, 3):
        client = ensemble.session(sid)
        clients.append(client)
        assert client.call(raw.CREATE, raw.create(f"/n{sid}", b"x" * 10 * sid))[0] == 0
        assert client.call(raw.CREATE, raw.create(f"/n{sid}/mine", b"", flags=1))[0] == 0
        assert client.call(raw.CREATE, raw.create("/no/parent"))[0] == -101
    for client in clients:
        assert client.call(raw.SYNC, raw.ustring("/"))[0] == 0
        for sid in (1, 2, 3):
            client.call(raw.GET_DATA, raw.path_watch(f"/n{sid}", True))
        client.call(raw.EXISTS, raw.path_watch("/nope", True))
        client.call(raw.GET_CHILDREN2, raw.path_watch("/", True))
    gone = ensemble.session(1)
    gone.close()
    port = ensemble[1].port
    peers.eventually(lambda: "\nConnections: 2\n" in four_letter(peers.HOST, port, "srvr"), "one client and who asks")
    for client in clients:
        assert client.call(raw.SYNC, raw.ustring("/"))[0] == 0
        client.ping()
    return clients


def texts(pair: tuple[Ensemble, Ensemble], role: str, word: str) -> list[list[str]]:
    """The lines of both answers, without what is one server's own, sorted: Java shows tables in the order of hashes.

    How many deadlines fall together is chance, so the lines that are nothing else count once.
    """
    answers = [four_letter(peers.HOST, ensemble[SIDS[role]].port, word) for ensemble in pair]
    shown = [_OWN.sub("*", answer).split("\n") for answer in answers]
    return [sorted([line for line in lines if line != "*"] + ["*"] * ("*" in lines)) for lines in shown]


def figures(ensemble: Ensemble, role: str) -> dict[str, str]:
    return peers.monitor(ensemble[SIDS[role]].server)


# First, since every word counts as well.
@pytest.mark.parametrize("role", SIDS)
def test_mntr_counts_as_java_does(loaded: tuple[Ensemble, Ensemble], role: str) -> None:
    ours, java = (figures(ensemble, role) for ensemble in loaded)
    assert {name: ours.get(name) for name in SAME} == {name: java.get(name) for name in SAME}
    left_out = ("_per_namespace", "learner_handler_qp")
    assert list(ours) == [name for name in java if not any(part in name for part in left_out)]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("role", SIDS)
def test_words_have_the_same_lines(loaded: tuple[Ensemble, Ensemble], role: str, word: str) -> None:
    both = texts(loaded, role, word)
    ours, java = ([line for line in text if not line.startswith(("Received", "Sent"))] for text in both)
    assert ours == java


@pytest.mark.parametrize("role", SIDS)
def test_hash_has_the_same_zxids(loaded: tuple[Ensemble, Ensemble], role: str) -> None:
    """Times are part of the digest."""
    ours, java = ([line.partition(":")[0] for line in text] for text in texts(loaded, role, "hash"))
    assert ours == java

"""Views: who votes, what is a quorum, and the text of it, as Java reads and writes them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import combinations

import pytest

from coati.errors import ConfigError, ProtocolError
from coati.zab.quorum import Server, View, hash_order
from tests.wire import wirepeer

VIEWS: list[list[str | None]] = json.loads((wirepeer.FIXTURES / "java_views.json").read_text())
THREE = [("server.1", "a:1:2"), ("server.2", "b:1:2"), ("server.3", "c:1:2")]
NINE = [(f"server.{sid}", f"h{sid}:1:2") for sid in range(1, 10)]
GROUPS = [("group.1", "1:2:3"), ("group.2", "4:5:6"), ("group.3", "7:8:9")]


@pytest.fixture(scope="module", name="java")
def java_peer() -> Iterator[wirepeer.WirePeer]:
    yield from wirepeer.needed_peer()


def verdicts(view: View) -> str:
    """For every set of the voters, is it a quorum; the lowest bit of the set's number is the lowest sid."""
    voters = view.voters()
    sets = [[sid for at, sid in enumerate(voters) if number >> at & 1] for number in range(1 << len(voters))]
    return "".join(str(int(view.contains_quorum(sids))) for sids in sets)


@pytest.mark.parametrize(("text", "answer", "quorums"), VIEWS)
def test_view_is_that_of_java(text: str, answer: str, quorums: str | None) -> None:
    """The same text and the same quorums, or both refuse it; a server without an address only we refuse."""
    if quorums is None or text == "server.1=|" or "server.-1=" in text:
        with pytest.raises(ProtocolError, match="a configuration that cannot be used"):
            View.from_text(text.encode())
        return
    view = View.from_text(text.encode())
    assert view.to_text().decode() == answer
    assert verdicts(view) == quorums
    if view.version >= 0:
        # Java cannot read the others again either.
        again = View.from_text(view.to_text())
        assert (again.to_text(), again.servers, again.version) == (view.to_text(), view.servers, view.version)


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.no_cover
def test_verdicts_are_those_of_java_today(java: wirepeer.WirePeer) -> None:
    """The fixtures are what Java says, not what we would like it to say."""
    assert wirepeer.views_text(java) == (wirepeer.FIXTURES / "java_views.json").read_text()
    assert wirepeer.hellos_text(java) == (wirepeer.FIXTURES / "java_hellos.json").read_text()


@pytest.mark.parametrize("version", ["3.8.0", "3.9.3"])
def test_view_of_a_running_java_server(version: str) -> None:
    """NEWLEADER carries it."""
    document = json.loads((wirepeer.GOLDEN / "quorum" / f"java-{version}.json").read_text())
    stream = bytes.fromhex(document["quorum: leader to follower"])
    text = stream[stream.index(b"server.1=") : stream.index(b"version=") + len(b"version=0")]
    view = View.from_text(text)
    assert view.to_text() == text
    assert (view.voters(), view.observers(), view.version) == ([1, 3], [2], 0)


def test_who_votes() -> None:
    view = View.from_lines([*THREE, ("server.4", "d:1:2:observer"), ("version", "a0")])
    assert (view.voters(), view.observers(), view.version) == ([1, 2, 3], [4], 0xA0)
    assert [view.is_voter(sid) for sid in (1, 4, 5)] == [True, False, False]
    assert [view.weight(sid) for sid in (1, 4, 5)] == [1, 0, 0]
    assert list(view.servers) == [1, 2, 3, 4]
    server = view.servers[4]
    assert (server.host, server.quorum_port, server.election_port, server.is_observer) == ("d", 1, 2, True)


def test_observers_and_strangers_are_in_no_quorum() -> None:
    """ZOOKEEPER-764, ZOOKEEPER-2959: their votes, epochs and acknowledgements count for nothing."""
    majority = View.from_lines([*THREE, *[(f"server.{sid}", "d:1:2:observer") for sid in (4, 5, 6)]])
    grouped = View.from_lines([*THREE, ("server.4", "d:1:2:observer"), ("group.1", "1:2:3"), ("weight.4", "100")])
    for view in (majority, grouped):
        assert not view.contains_quorum([1, 4, 5, 6, 7, 8, -1])
        assert not view.contains_quorum([1, 1, 1])
        assert view.contains_quorum({1: 0, 2: 0, 4: 0})
        assert view.quorum_zxid({1: 9, 4: 9, 5: 9, 99: 9}) == 0
        assert view.quorum_zxid({1: 9, 2: 3, 4: 9, 5: 9}) == 3


def test_groups_and_weights() -> None:
    view = View.from_lines([*NINE, *GROUPS, ("weight.7", "0"), ("weight.8", "0"), ("weight.9", "0")])
    # The third group weighs nothing, so both others are needed.
    assert view.contains_quorum([1, 2, 4, 5])
    assert not view.contains_quorum([1, 2, 7, 8, 9])
    assert [view.weight(sid) for sid in (1, 7)] == [1, 0]
    assert View.from_lines([*NINE, *GROUPS]).contains_quorum([1, 2, 7, 8])
    nothing = View.from_lines([*THREE, ("group.1", "1:2:3"), *[(f"weight.{sid}", "0") for sid in (1, 2, 3)]])
    assert not nothing.contains_quorum([1, 2, 3])
    assert nothing.quorum_zxid({1: 1, 2: 1, 3: 1}) == 0


def random_view(dice: random.Random) -> View:
    sids = dice.sample(range(1, 10), dice.randrange(1, 8))
    lines = [(f"server.{sid}", "h:1:2" + ":observer" * (sid != sids[0] and dice.random() < 0.2)) for sid in sids]
    if dice.random() < 0.7:
        count = dice.randrange(1, 4)
        groups: dict[int, list[str]] = {}
        for sid in sids:
            groups.setdefault(dice.randrange(count), []).append(str(sid))
            lines.append((f"weight.{sid}", str(dice.choice((0, 1, 1, 1, 2, 5)))))
        lines += [(f"group.{group}", ":".join(members)) for group, members in groups.items()]
    return View.from_lines(lines)


@pytest.mark.parametrize("seed", range(40))
def test_two_quorums_share_a_voter(seed: int) -> None:
    view = random_view(random.Random(seed))
    sets = [set(sids) for size in range(8) for sids in combinations(view.voters(), size)]
    quorums = [sids for sids in sets if view.contains_quorum(sids)]
    assert all(one & other for one, other in combinations(quorums, 2))
    # And more voters are no less a quorum.
    assert all(view.contains_quorum(sids | quorum) for quorum in quorums for sids in sets[:8])


@pytest.mark.parametrize("seed", range(40))
def test_quorum_zxid_is_the_largest_that_a_quorum_has(seed: int) -> None:
    dice = random.Random(seed)
    view = random_view(dice)
    for _ in range(20):
        acked = {sid: dice.randrange(1, 6) for sid in range(12) if dice.random() < 0.8}
        zxids = [z for z in range(1, 6) if view.contains_quorum([sid for sid, zxid in acked.items() if zxid >= z])]
        assert view.quorum_zxid(acked) == max(zxids, default=0)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([*THREE, ("server.01", "d:1:2")], "server.1 is there twice"),
        ([*THREE, ("group.1", "1:2:3"), ("group.01", "4")], "group.01: is there twice"),
        ([*THREE, ("group.1", "1:2:3"), ("weight.1", "2"), ("weights.1", "3")], "weights.1: is there twice"),
        ([*THREE, ("group.1", "1:2:3"), ("weight.1", "-1")], "server 1 has the weight -1, below zero"),
        ([*THREE, ("server.-1", "d:1:2")], "server.-1 has an id below zero"),
        ([], "no server of the list is a participant"),
    ],
)
def test_what_java_takes_and_should_not(lines: list[tuple[str, str]], complaint: str) -> None:
    """It lets one of two lines win by chance; with weights below zero two quorums need not meet."""
    with pytest.raises(ConfigError) as refused:
        View.from_lines(lines)
    assert str(refused.value) == complaint


@pytest.mark.parametrize("text", [b"\xff", b"server.1=a:1:2\\\n", b"server.1", b"=", b"x" * 3000])
def test_text_that_java_does_not_write_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        View.from_text(text)


def test_server_line_that_is_wrong_names_its_server() -> None:
    with pytest.raises(ConfigError, match=r"^server\.3: a port is not between 0 and 65535$"):
        Server.from_text(3, "a:1:65536")
    with pytest.raises(ConfigError, match=r"^server\.x: no number: 'x'$"):
        View.from_lines([("server.x", "a:1:2")])


def test_what_a_stranger_sends_is_quoted_in_one_short_line() -> None:
    for text in ("\x1b[2J\r" + "x" * 9000, "server." + "\u2028" * 9000 + "=a:1:2", "server.1=a:1:\x07" + "9" * 9000):
        with pytest.raises(ProtocolError) as refused:
            View.from_text(text.encode())
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 600


def test_servers_are_compared_by_all_they_say() -> None:
    server = Server.from_text(1, "a:1:2;3")
    assert server == Server(1, "a", 1, 2, client="0.0.0.0:3")
    assert hash(server) == hash(Server.from_text(1, "a:1:2;3"))
    others = [Server.from_text(2, "a:1:2;3"), Server.from_text(1, "a:1:2"), Server.from_text(1, "a:1:2:observer;3")]
    assert [server == other for other in [*others, "a:1:2"]] == [False] * 4
    assert repr(server) == "Server(1, 'a:1:2:participant;0.0.0.0:3')"


def test_keys_that_share_a_bucket_of_a_hash_map_ascend() -> None:
    """Java gives them in the order of the lines of a Properties, which is that of another hash map."""
    assert hash_order([33, 2, 17, 1]) == [1, 17, 33, 2]
    assert hash_order([]) == []

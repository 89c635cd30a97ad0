"""Which view a client may have: the answers are those of a Java 3.9.3 ensemble. And quorums of two views."""

from __future__ import annotations

import pytest

from coati import errors
from coati.errors import KeeperError
from coati.wire.codes import OP_RECONFIG, OP_SET_DATA
from coati.wire.txns import SetDataTxn, TxnHeader, encode_txn
from coati.zab.quorum import Server, View
from coati.zab.reconfig import Joint, Wish, config_of, designate, encode_designated, next_view, read_designated

ZXID = 0x100000010


def view_of(*sids: int, observers: tuple[int, ...] = (), host: str = "127.0.0.1") -> View:
    servers = [Server(sid, host, 10 * sid, 10 * sid + 1, is_observer=sid in observers) for sid in (*sids, *observers)]
    return View.build(servers, {}, {}, 7)


def asked(joining: str | None, leaving: str | None, members: str | None, version: int = -1) -> View:
    wish = Wish(joining, leaving, members, version)
    return next_view(view_of(1, 2, 3), wish, ZXID, is_standalone_enabled=True)


@pytest.mark.parametrize(
    ("joining", "leaving", "members", "version", "error"),
    [
        ("some thing", None, None, -1, errors.BAD_ARGUMENTS),
        ("server.x=127.0.0.1:10:11;12", None, None, -1, errors.MARSHALLING_ERROR),
        ("server.9=127.0.0.1:10;12", None, None, -1, errors.BAD_ARGUMENTS),
        ("server.9=127.0.0.1:10:11", None, None, -1, errors.BAD_ARGUMENTS),
        ("server.9=127.0.0.1:10:11;12", None, None, 8, errors.BAD_VERSION),
        (None, "x", None, -1, errors.MARSHALLING_ERROR),
        (None, "1,2,3", None, -1, errors.BAD_ARGUMENTS),
        (None, "1,3", None, -1, errors.BAD_ARGUMENTS),
        (None, None, "", -1, errors.BAD_ARGUMENTS),
        (None, None, "foo=1", -1, errors.BAD_ARGUMENTS),
        (None, None, "server.1=x", -1, errors.BAD_ARGUMENTS),
        ("server.9=127.0.0.1:10:11:foo;12", None, None, -1, errors.BAD_ARGUMENTS),
        # Java takes it, and then reads another host in its file.
        ("server.9=h\\x:10:11;12", None, None, -1, errors.BAD_ARGUMENTS),
        ("server.9=h\ny:10:11;12", None, None, -1, errors.BAD_ARGUMENTS),
        ("server.9=h#!=:10:11;12", None, None, -1, errors.BAD_ARGUMENTS),
    ],
)
def test_what_java_refuses(
    joining: str | None, leaving: str | None, members: str | None, version: int, error: int
) -> None:
    with pytest.raises(KeeperError) as refused:
        asked(joining, leaving, members, version)
    assert refused.value.code == error


@pytest.mark.parametrize(
    ("joining", "leaving", "members", "sids"),
    [
        (None, None, None, [1, 2, 3]),
        ("", "", None, [1, 2, 3]),
        # Of a loopback address Java does not mind that it is taken.
        ("server.9=127.0.0.1:10:11;12", None, None, [1, 2, 3, 9]),
        ("9=127.0.0.1:90:91:observer;12", None, None, [1, 2, 3, 9]),
        (None, " 3", None, [1, 2]),
        (None, "9", None, [1, 2, 3]),
        ("server.8=h:1:2:observer;3, server.9=h:4:5:observer;6", "1", None, [2, 3, 8, 9]),
        (None, None, "# all\nserver.4=h:1:2;3,server.5=i:1:2\nversion=99", [4, 5]),
    ],
)
def test_what_java_takes(joining: str | None, leaving: str | None, members: str | None, sids: list[int]) -> None:
    view = asked(joining, leaving, members, 7)
    assert list(view.servers) == sids
    assert view.version == ZXID


def test_the_address_of_another_server_is_refused() -> None:
    """checkAddressDuplicate: quorum, election and client address, of those that stay."""
    before = view_of(1, 2, host="10.0.0.1")
    for text, is_taken in (
        ("server.9=10.0.0.1:10:99;1", True),
        ("server.9=h:1:2;10.0.0.1:21", True),
        ("server.9=10.0.0.2:10:11;1", False),
        ("server.1=10.0.0.1:10:12;1", False),
    ):
        wish = Wish(text, None, None, -1)
        if is_taken:
            with pytest.raises(KeeperError) as refused:
                next_view(before, wish, ZXID, is_standalone_enabled=True)
            assert refused.value.code == errors.BAD_ARGUMENTS
        else:
            assert next_view(before, wish, ZXID, is_standalone_enabled=True).version == ZXID


def test_groups_change_as_a_whole_only() -> None:
    lines = [("server.1", "h:1:2;3"), ("server.2", "i:1:2;3"), ("group.1", "1:2")]
    before = View.from_lines(lines)
    with pytest.raises(KeeperError) as refused:
        next_view(before, Wish(None, "1", None, -1), ZXID, is_standalone_enabled=False)
    assert refused.value.code == errors.BAD_ARGUMENTS
    members = "\n".join(f"{key}={value}" for key, value in lines)
    assert next_view(before, Wish(None, None, members, -1), ZXID, is_standalone_enabled=False).groups == {1: [1, 2]}


def test_one_voter_is_enough_without_standalone() -> None:
    view = next_view(view_of(1, 2, 3), Wish(None, "1,2", None, -1), ZXID, is_standalone_enabled=False)
    assert view.voters() == [3]


@pytest.mark.parametrize(
    ("members", "is_standalone_enabled", "err"),
    [
        ("server.1=h:1:2;3,server.2=i:1:2:observer;3", True, errors.MARSHALLING_ERROR),
        ("server.1=h:1:2;3,server.2=i:1:2:observer;3", False, None),
        ("server.1=h:1:2;3", True, errors.BAD_ARGUMENTS),
        ("server.1=h:1:2;3", False, None),
        ("server.1=h:1:2:observer;3", True, errors.MARSHALLING_ERROR),
        ("server.1=h:1:2:observer;3", False, errors.MARSHALLING_ERROR),
        ("version=7", True, errors.BAD_ARGUMENTS),
        ("version=7", False, errors.MARSHALLING_ERROR),
        ("server.1=h:1:2:observer;3,server.2=x", True, errors.BAD_ARGUMENTS),
        ("server.1=h:1:2;3,server.2=i:1:2:observer;3,weight.1=1", True, errors.BAD_ARGUMENTS),
    ],
)
def test_too_few_participants_for_their_observers(members: str, is_standalone_enabled: bool, err: int | None) -> None:
    """Java stumbles over them (parseDynamicConfig); without observers it is the administrator who did."""
    wish = Wish(None, None, members, -1)
    if err is None:
        view = next_view(view_of(1, 2, 3), wish, ZXID, is_standalone_enabled=is_standalone_enabled)
        assert view.voters() == [1]
        return
    with pytest.raises(KeeperError) as refused:
        next_view(view_of(1, 2, 3), wish, ZXID, is_standalone_enabled=is_standalone_enabled)
    assert refused.value.code == err


def test_a_quorum_of_two_views_is_one_of_each() -> None:
    joint = Joint(view_of(1, 2, 3), view_of(3, 4, 5))
    assert joint.voters() == [1, 2, 3, 4, 5]
    for sids, has in (((1, 2), False), ((4, 5), False), ((1, 3), False), ((1, 3, 4), True), ((1, 2, 4, 5), True)):
        assert joint.contains_quorum(sids) is has
    assert joint.quorum_zxid({1: 9, 2: 9, 3: 9}) == 0
    assert joint.quorum_zxid({1: 9, 2: 9, 3: 9, 4: 5}) == 5
    assert joint.to_text() == view_of(1, 2, 3).to_text()
    assert joint.weight(5) == joint.weight(1) == 1


def test_an_observer_that_is_to_vote_counts_in_the_new_view() -> None:
    """It is where it was, whatever the new list says of its address."""
    new = View.build([*view_of(1, 2).servers.values(), Server(4, "new", 1, 2)], {}, {})
    joint = Joint(view_of(1, 2, 3, observers=(4,)), new)
    assert joint.is_voter(4)
    assert joint.servers[4].host == "127.0.0.1"
    # And one that is to observe goes on voting until then.
    assert Joint(view_of(1, 2), view_of(1, observers=(2,))).is_voter(2)


def test_who_is_to_lead() -> None:
    new = view_of(2, 3, 4)
    address = ("127.0.0.1", 20)
    assert designate(2, new, address, {}, ZXID) == 2
    # At another address, or without a vote, it is who has most of what was proposed, with all of the reconfig.
    acked = {2: ZXID, 3: ZXID, 4: ZXID + 3}
    assert designate(2, new, ("127.0.0.1", 99), acked, ZXID) == 4
    assert designate(1, new, address, {3: ZXID, 4: ZXID}, ZXID) == 3
    assert designate(1, new, address, {3: ZXID - 1}, ZXID) == -1
    assert designate(2, view_of(3, observers=(2,)), address, {3: ZXID}, ZXID) == 3


def test_what_a_commit_carries() -> None:
    assert read_designated(encode_designated(5)) == 5
    assert read_designated(None) == read_designated(b"1234") == -1
    header = TxnHeader(1, 2, ZXID, 3, OP_RECONFIG)
    assert config_of(encode_txn(header, SetDataTxn(b"/zookeeper/config", b"text", -1), None)) == b"text"
    assert config_of(encode_txn(header, SetDataTxn(b"/zookeeper/config", None, -1), 1)) == b""
    header = TxnHeader(1, 2, ZXID, 3, OP_SET_DATA)
    assert config_of(encode_txn(header, SetDataTxn(b"/zookeeper/config", b"text", -1), None)) is None

"""Bad input inside requests: what Java 3.9.3 answers is what coati answers, and both go on serving.

Paths, multi, modes, versions and ACLs; then what ends Java and must not end coati; then everything at every byte
against Java. Connections are in test_bad_input_client.py. After every test a well-behaved client is served (`target`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import peers, raw
from tests.interop.hostile import (
    BAD_ARGUMENTS,
    BAD_VERSION,
    INCONSISTENT,
    INT_MAX,
    INVALID_ACL,
    MARSHALLING,
    NO_AUTH,
    NO_NODE,
    NODE_EXISTS,
    OK,
    PROPS,
    UNIMPLEMENTED,
    ask,
    errors,
)
from tests.interop.lockstep import Lockstep
from tests.interop.peers import Server
from tests.interop.raw import Reply, i32
from tests.interop.sequences import BAD_ACLS, BAD_FLAGS, BAD_PATHS, OPCODES, XIDS, Step, encode

# --- paths ----------------------------------------------------------------------------------------

FORBIDDEN = (
    "", "a", "//", "//a", "/.", "/..", "/zookeeper/", "/zookeeper/.", "/zookeeper/..", "/\0", "/\x01", "/\x1f",
    "/\x7f", "/\x9f", "/\ud800", "/\ue000", "/\uf8ff",
    "/\ufff0", "/\uffff", "/\U0001f600", b"/\xff", b"/\xc0\xaf", b"/\xed\xa0\x80", b"/a\xe2\x82",
    b"/\xf8\x88\x80\x80\x80",
)  # fmt: skip


@pytest.mark.parametrize("path", FORBIDDEN, ids=ascii)
def test_forbidden_paths_are_bad_arguments(target: Server, path: str | bytes) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.create(path)) == BAD_ARGUMENTS
        assert ask(session, raw.CREATE2, raw.create(path, flags=1)) == BAD_ARGUMENTS
        error, results = session.call(raw.MULTI, raw.multi([(raw.CREATE, raw.create(path))]))
        assert (error, results) == (OK, [(raw.ERROR, BAD_ARGUMENTS, BAD_ARGUMENTS), ("end", -1, -1)])
        session.close()


@pytest.mark.parametrize("path", ["/a//b", "/./a", "/../a", "/\x01/a"], ids=ascii)
def test_the_parent_is_looked_for_before_the_path_is_judged(target: Server, path: str) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.create(path)) == NO_NODE
        session.close()


@pytest.mark.parametrize(
    "path", ["/ ", "/a b", "/...", "/\xa0", "/\ud7ff", "/\uf900", "/\uffef", "/'\"", "/%00", "/-"], ids=ascii
)
def test_odd_paths_are_fine(target: Server, path: str) -> None:
    with peers.session(target) as session:
        assert session.call(raw.CREATE, raw.create(path)) == (OK, path)
        assert session.call(raw.DELETE, raw.path_version(path)) == (OK, None)
        session.close()


def test_path_that_a_sequence_number_makes_valid(target: Server) -> None:
    with peers.session(target) as session:
        error, made = session.call(raw.CREATE, raw.create("/", flags=2))
        assert error == OK
        assert isinstance(made, str)
        assert made[1:].isdecimal()
        assert ask(session, raw.DELETE, raw.path_version(made)) == OK
        session.close()


def test_reserved_paths(target: Server) -> None:
    with peers.session(target) as session:
        for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
            assert ask(session, raw.DELETE, raw.path_version(path)) == BAD_ARGUMENTS, path
        for path in ("/", "/zookeeper", "/zookeeper/quota"):
            assert ask(session, raw.CREATE, raw.create(path)) == NODE_EXISTS
        assert ask(session, raw.SET_DATA, raw.set_data("/zookeeper/config", b"server.1=evil")) == NO_AUTH
        assert ask(session, raw.SET_ACL, raw.set_acl("/zookeeper/config", raw.OPEN)) == NO_AUTH
        assert ask(session, raw.CREATE, raw.create("/zookeeper/config/x")) == NO_AUTH
        session.close()


# --- multi ----------------------------------------------------------------------------------------


def test_multi_of_nothing_and_of_checks_only(target: Server) -> None:
    with peers.session(target) as session:
        assert session.call(raw.MULTI, raw.multi([])) == (OK, [("end", -1, -1)])
        error, results = session.call(raw.MULTI, raw.multi([(raw.CHECK, raw.path_version("/", -1))] * 3))
        assert (error, errors(results)) == (OK, [OK] * 3)
        error, results = session.call(raw.MULTI, raw.multi([(raw.CHECK, raw.path_version("/", 5))]))
        assert (error, errors(results)) == (OK, [BAD_VERSION])
        session.close()


def test_multi_of_very_many(target: Server) -> None:
    creates = [(raw.CREATE, raw.create("/many"))] + [
        (raw.CREATE, raw.create(f"/many/{number}")) for number in range(10_000)
    ]
    deletes = [(raw.DELETE, body) for body in [raw.path_version(f"/many/{number}") for number in range(10_000)]]
    with peers.session(target) as session:
        for operations in (creates, [*deletes, (raw.DELETE, raw.path_version("/many"))]):
            error, results = session.call(raw.MULTI, raw.multi(operations))
            assert (error, errors(results)) == (OK, [OK] * 10_001)
        session.close()


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_multi_failing_at_each_place(target: Server, failing: int) -> None:
    operations = [(raw.CREATE, raw.create(f"/m{number}")) for number in range(3)]
    operations[failing] = (raw.DELETE, raw.path_version("/nothing"))
    with peers.session(target) as session:
        error, results = session.call(raw.MULTI, raw.multi(operations))
        assert (error, errors(results)) == (
            OK,
            [0 if n < failing else NO_NODE if n == failing else INCONSISTENT for n in range(3)],
        )
        assert [ask(session, raw.EXISTS, raw.path_watch(f"/m{number}")) for number in range(3)] == [NO_NODE] * 3
        session.close()


def test_multi_may_undo_itself(target: Server) -> None:
    once = [(raw.CREATE, raw.create("/flip")), (raw.DELETE, raw.path_version("/flip", 0))]
    with peers.session(target) as session:
        error, results = session.call(raw.MULTI, raw.multi(once * 3))
        assert (error, errors(results)) == (OK, [OK] * 6)
        session.close()


@pytest.mark.parametrize(
    "operation",
    [
        (raw.MULTI, raw.multi([])),
        (99, b""),
        (raw.SYNC, raw.ustring("/")),
        (raw.DELETE_CONTAINER, raw.ustring("/")),
        (raw.SET_ACL, raw.set_acl("/", raw.OPEN)),
    ],
    ids=["multi", "99", "sync", "deleteContainer", "setACL"],
)
def test_multi_with_an_operation_that_does_not_belong(target: Server, operation: tuple[int, bytes]) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.MULTI, raw.multi([(raw.CREATE, raw.create("/n")), operation])) == MARSHALLING
        assert ask(session, raw.EXISTS, raw.path_watch("/n")) == NO_NODE
        session.close()


# --- modes, versions, ACLs ------------------------------------------------------------------------


def test_every_flag_of_create(target: Server) -> None:
    with peers.session(target) as session:
        for flags in (*range(256), -1, INT_MAX, -(2**31)):
            error, made = session.call(raw.CREATE, raw.create("/f", flags=flags))
            assert (error == OK) == (flags in (0, 1, 2, 3, 4)), flags
            if error == OK:
                assert ask(session, raw.DELETE, raw.path_version(str(made))) == OK
            else:
                assert error == BAD_ARGUMENTS, flags
        session.close()


@pytest.mark.parametrize("ttl", [0, -1, 2**40, 2**63 - 1, -(2**63)])
def test_ttl_out_of_range(target: Server, ttl: int) -> None:
    with peers.session(target) as session:
        for flags in (5, 6):
            assert ask(session, raw.CREATE_TTL, raw.create_ttl("/t", b"", raw.OPEN, flags, ttl)) == BAD_ARGUMENTS
        session.close()


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 4, 7, 255])
def test_ttl_with_a_mode_that_has_none(target: Server, flags: int) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE_TTL, raw.create_ttl("/t", b"", raw.OPEN, flags, 1000)) == BAD_ARGUMENTS
        session.close()


@pytest.mark.parametrize("version", [-2, 1, 7, INT_MAX, -(2**31)])
def test_versions_that_do_not_match(target: Server, version: int) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.create("/v")) == OK
        assert ask(session, raw.SET_DATA, raw.set_data("/v", b"", version)) == BAD_VERSION
        assert ask(session, raw.SET_ACL, raw.set_acl("/v", raw.OPEN, version)) == BAD_VERSION
        assert ask(session, raw.DELETE, raw.path_version("/v", version)) == BAD_VERSION
        assert ask(session, raw.DELETE, raw.path_version("/v", 0)) == OK
        session.close()


INVALID_ACLS = [
    [], None, [(31, "nope", "x")], [(31, "world", "x")], [(31, None, "x")], [(31, "auth", "")],
    [(31, "digest", "nocolon")], [(31, "digest", "a:b:c")],
    [(31, "digest", "")], [(31, "ip", "1.2.3.4/99")], [(31, "ip", "300.1.1.1")], [(31, "ip", "")],
    [(31, "ip", "1.2.3")], [(31, "ip", "1.2.3.4/x")],
    [(31, "", "")], [(31, "world", "anyone"), (31, "nope", "")],
]  # fmt: skip


@pytest.mark.parametrize("acl", INVALID_ACLS, ids=str)
def test_invalid_acls(target: Server, acl: list[raw.Acl] | None) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.create("/acl", b"", acl)) == INVALID_ACL
        assert ask(session, raw.CREATE, raw.create("/acl")) == OK
        assert ask(session, raw.SET_ACL, raw.set_acl("/acl", acl)) == INVALID_ACL
        assert ask(session, raw.DELETE, raw.path_version("/acl")) == OK
        session.close()


def test_acl_of_many_entries(target: Server) -> None:
    acl = [(1, "ip", f"10.{number >> 8}.{number & 255}.0/24") for number in range(10_000)] + [(31, "world", "anyone")]
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.create("/acl", b"", acl)) == OK
        error, got = session.call(raw.GET_ACL, raw.ustring("/acl"))
        assert error == OK
        assert isinstance(got, tuple)
        assert got[0] == acl
        assert ask(session, raw.DELETE, raw.path_version("/acl")) == OK
        session.close()


# --- what ends Java -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coati() -> Iterator[Server]:
    with peers.running("coati", props=PROPS, cfg=peers.QUICK_CFG) as running:
        yield running


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("ttl", [-1, -(2**63)])
def test_negative_ttl_with_another_mode_is_refused(coati: Server, flags: int, ttl: int) -> None:
    # Java logs it and then dies of it, at once and at every start (EphemeralType.validateTTL lets it pass).
    with peers.session(coati) as session:
        assert ask(session, raw.CREATE_TTL, raw.create_ttl("/t", b"", raw.OPEN, flags, ttl)) == BAD_ARGUMENTS
        assert ask(session, raw.EXISTS, raw.path_watch("/t")) == NO_NODE
        session.close()


@pytest.mark.parametrize("text", [b"", b"garbage", b"count=x,bytes=y", b"count=", b"=,=", b"\xff\xfe", b"count=1"])
@pytest.mark.parametrize("node", ["zookeeper_stats", "zookeeper_limits"])
def test_garbage_in_a_quota_does_no_harm(coati: Server, node: str, text: bytes) -> None:
    # Java throws in DataTree.updateQuotaStat while applying, which ends the server.
    with peers.session(coati) as session:
        session.call(raw.CREATE, raw.create("/q"))
        for path in ("/zookeeper/quota/q", "/zookeeper/quota/q/zookeeper_limits", "/zookeeper/quota/q/zookeeper_stats"):
            session.call(raw.CREATE, raw.create(path, b"count=5,bytes=5"))
        session.call(raw.SET_DATA, raw.set_data(f"/zookeeper/quota/q/{node}", text))
        assert ask(session, raw.CREATE, raw.create("/q/child", b"x")) == OK
        assert ask(session, raw.SET_DATA, raw.set_data("/q/child", b"xyz")) == OK
        assert ask(session, raw.DELETE, raw.path_version("/q/child")) == OK
        session.close()
    assert coati.is_running


@pytest.mark.parametrize("op", [raw.CREATE_SESSION, raw.DELETE_CONTAINER])
def test_operations_of_servers_are_refused_and_never_logged(coati: Server, op: int) -> None:
    # Java executes them, whoever sends them (docs/divergences.md).
    with peers.session(coati) as witness:
        assert ask(witness, raw.CREATE, raw.create("/kept")) == OK
        for body in (b"", raw.ustring("/kept"), i32(5000), raw.path_version("/kept", -1), bytes(100)):
            with peers.session(coati) as session:
                before = witness.ping()
                session.send(op, body)
                assert session.receive() == Reply(1, -1, UNIMPLEMENTED, b"")
                with pytest.raises(raw.Closed):
                    session.receive()
                assert witness.ping() == before, "it has been logged"
        assert ask(witness, raw.DELETE, raw.path_version("/kept")) == OK
        witness.close()


# --- exhaustively, against Java -------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[Lockstep]:
    with (
        peers.running("3.9.3", props=peers.LOCKSTEP_PROPS) as java,
        peers.running("coati", props=peers.LOCKSTEP_PROPS) as ours,
    ):
        yield Lockstep(java, ours, "bad")


BASE = [Step(0, "create", ("/a", b"x", raw.OPEN, 0)), Step(0, "create", ("/a/x", b"", raw.OPEN, 0))]
WHOLE = (
    Step(1, "create", ("/t", b"data", raw.OPEN, 0)),
    Step(1, "create2", ("/t", b"data", raw.OPEN, 1)),
    Step(1, "createContainer", ("/t", b"data", raw.OPEN, 4)),
    Step(1, "createTTL", ("/t", b"data", raw.OPEN, 5, 1000)),
    Step(1, "delete", ("/a/x", 7)),
    Step(1, "exists", ("/a", True)),
    Step(1, "getData", ("/a", True)),
    Step(1, "setData", ("/a", b"data", 7)),
    Step(1, "getACL", ("/a",)),
    Step(1, "setACL", ("/a", raw.OPEN, 7)),
    Step(1, "getChildren", ("/a", True)),
    Step(1, "getChildren2", ("/a", True)),
    Step(1, "sync", ("/a",)),
    Step(1, "multi", (("create", "/t", b"data", raw.OPEN, 0), ("check", "/a", 7), ("delete", "/a", 0))),
    Step(1, "multiRead", (("getData", "/a", True), ("getChildren", "/a", False))),
    Step(1, "checkWatches", ("/a", 3)),
    Step(1, "removeWatches", ("/a", 3)),
    Step(1, "addWatch", ("/a", 1)),
    Step(1, "setWatches", (0, ("/a",), ("/b",), ("/a",))),
    Step(1, "setWatches2", (0, ("/a",), ("/b",), ("/a",), ("/a",), ("/b",))),
    Step(1, "getEphemerals", ("/a",)),
    Step(1, "getAllChildrenNumber", ("/a",)),
    Step(1, "reconfig", ("server.2=h:1:2;3", None, None, -1)),
)  # fmt: skip


@pytest.mark.parametrize("whole", WHOLE, ids=lambda step: step.kind)
def test_request_cut_at_every_byte_is_answered_as_java_does(pair: Lockstep, whole: Step) -> None:
    op, body = encode(whole, "/{p}", 0)
    steps = list(BASE)
    for length in range(len(body)):
        if XIDS.get(whole.kind) is None or length % 4 == 0:
            steps.append(Step(1, "raw", (op, body[:length])))
    steps.append(Step(0, "getChildren2", ("", False)))
    difference = pair.run(steps)
    assert difference is None, str(difference)


@pytest.mark.parametrize("kind", ["create", "create2", "createContainer", "createTTL", "delete", "setData", "setACL"])
def test_write_without_a_path_cut_at_every_byte_is_answered_as_java_does(pair: Lockstep, kind: str) -> None:
    """It has a zxid, and an error of its own, only if all of it can be read."""
    (arguments,) = [step.args[1:] for step in WHOLE if step.kind == kind]
    op, body = encode(Step(1, kind, (None, *arguments)), "/{p}", 0)
    steps = [*BASE]
    for length in range(4, len(body) + 1):
        steps += [Step(1, "raw", (op, body[:length])), Step(0, "getChildren2", ("", False))]
    difference = pair.run(steps)
    assert difference is None, str(difference)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in OPCODES
        if kind
        not in (
            "auth",
            "sasl",
            "ping",
            "close",
            "whoAmI",
            "reconfig",
            "setWatches",
            "setWatches2",
            "multi",
            "multiRead",
            "deleteContainer",
        )
    ],
)
def test_every_bad_path_is_answered_as_java_does(pair: Lockstep, kind: str) -> None:
    (arguments,) = [step.args[1:] for step in WHOLE if step.kind == kind] or [(-1,)]
    steps = [*BASE, *(Step(1, kind, (path, *arguments)) for path in BAD_PATHS)]
    if kind not in ("check", "getEphemerals", "getAllChildrenNumber"):
        steps += [Step(1, kind, (path, *arguments)) for path in FORBIDDEN]
    difference = pair.run(steps)
    assert difference is None, str(difference)


def test_every_bad_acl_and_flag_is_answered_as_java_does(pair: Lockstep) -> None:
    steps = list(BASE)
    ipv6 = [acl for acl in BAD_ACLS if "'ip', ':" in repr(acl)]  # not known to 3.9.3, the Java at hand
    # docs/divergences.md
    null_ids = [acl for acl in BAD_ACLS if isinstance(acl, tuple) and any(None in entry for entry in acl)]
    for number, acl in enumerate(acl for acl in BAD_ACLS if acl not in ipv6 and acl not in null_ids):
        steps += [
            Step(1, "create", (f"/c{number}", b"", acl, 0)),
            Step(1, "setACL", ("/a", acl, -1)),
            Step(1, "getACL", ("/a",)),
        ]
        steps.append(Step(0, "auth", ("digest", b"super:secret")))
        steps.append(Step(0, "setACL", ("/a", raw.OPEN, -1)))
    for flags in (*range(12), *BAD_FLAGS):
        for kind in ("create", "create2"):
            steps.append(Step(1, kind, (f"/{kind}{flags}", b"", raw.OPEN, flags)))
    difference = pair.run(steps)
    assert difference is None, str(difference)

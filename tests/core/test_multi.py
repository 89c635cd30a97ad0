"""multi and multiRead: what may stand in them, all or nothing, and what the results look like."""

from __future__ import annotations

import pytest

from coati import errors
from coati.core.multi import are_reads, read_multi
from coati.errors import MarshallingError
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import MultiHeader
from coati.wire.txns import CreateContainerTxn, ErrorTxn, MultiTxn, encode_record, read_record
from tests.core.kit import (
    NOBODY,
    OPEN,
    Client,
    Core,
    create_body,
    image,
    jbuf,
    jint,
    jlong,
    multi_body,
    multi_results,
)

END = jint(-1) + b"\1" + jint(-1)


@pytest.fixture
def core() -> Core:
    return Core(extended_types=True)


@pytest.fixture
def client(core: Core) -> Client:
    return core.connect(7)


def create(path: bytes, flags: int = 0, op: int = codes.OP_CREATE) -> tuple[int, bytes]:
    return op, create_body(path, b"x", OPEN, flags)


def set_data(path: bytes, version: int = -1) -> tuple[int, bytes]:
    return codes.OP_SET_DATA, jbuf(path) + jbuf(b"new") + jint(version)


def delete(path: bytes, version: int = -1) -> tuple[int, bytes]:
    return codes.OP_DELETE, jbuf(path) + jint(version)


def check(path: bytes, version: int = -1) -> tuple[int, bytes]:
    return codes.OP_CHECK, jbuf(path) + jint(version)


def parts_of(core: Core) -> list[object]:
    txn = core.last_txn().txn
    assert isinstance(txn, MultiTxn)
    assert txn.txns is not None
    return [read_record(part.type, Reader(part.data or b"")) for part in txn.txns]


def test_all_of_it_under_one_zxid(core: Core, client: Client) -> None:
    reply = core.multi(client, create(b"/a"), create(b"/a/b"), set_data(b"/a"), check(b"/a", 1), delete(b"/a/b"))
    assert reply.err == errors.OK
    assert multi_results(reply) == [(1, 0), (1, 0), (5, 0), (13, 0), (2, 0)]
    assert set(core.tree.nodes) - {b"/a"} == {b"/", b"/zookeeper", b"/zookeeper/config", b"/zookeeper/quota"}
    stat = core.stat(b"/a")
    assert (stat.czxid, stat.mzxid, stat.pzxid, stat.cversion) == (2, 2, 2, 2)
    assert core.last_txn().digest == core.tree.digest


def test_results_in_full(core: Core, client: Client) -> None:
    """MultiResponse: containers and TTLs answer as create2."""
    reply = core.multi(
        client,
        create(b"/a"),
        create(b"/b", 0, codes.OP_CREATE2),
        create(b"/c", 4, codes.OP_CREATE_CONTAINER),
        (codes.OP_CREATE_TTL, create_body(b"/t", b"", OPEN, 5) + jlong(1000)),
        set_data(b"/a"),
        delete(b"/a"),
    )
    r = reply.r
    assert MultiHeader.read(r) == MultiHeader(1, False, 0)
    assert r.path() == b"/a"
    for path in (b"/b", b"/c", b"/t"):
        assert MultiHeader.read(r) == MultiHeader(15, False, 0)
        assert r.path() == path
        assert reply.stat() == core.stat(path)
    assert MultiHeader.read(r) == MultiHeader(5, False, 0)
    assert reply.stat().version == 1
    assert MultiHeader.read(r) == MultiHeader(2, False, 0)
    assert reply.r.data[r.pos :] == END


def test_empty_multi(core: Core, client: Client) -> None:
    """ZOOKEEPER-1269."""
    reply = core.multi(client)
    assert (reply.err, multi_results(reply)) == (errors.OK, [])
    assert core.last_txn().txn == MultiTxn([])
    assert core.last_txn().digest == core.tree.digest


@pytest.mark.parametrize("failing_at", [0, 1, 2])
def test_failed_multi_leaves_no_trace(core: Core, client: Client, failing_at: int) -> None:
    core.create(client, b"/p", b"x")
    before = image(core.tree)
    ops = [create(b"/p/a", 2), set_data(b"/p"), create(b"/p/b")]
    ops[failing_at] = delete(b"/p/none")
    reply = core.multi(client, *ops)
    expected = [errors.OK] * failing_at + [errors.NO_NODE] + [errors.RUNTIME_INCONSISTENCY] * (2 - failing_at)
    assert reply.err == errors.OK
    assert multi_results(reply) == [(-1, err) for err in expected]
    assert image(core.tree) == before
    assert core.tree.staged == {}
    assert core.tree.digest == core.tree.staged_digest == core.last_txn().digest


def test_operations_of_a_multi_see_each_other(core: Core, client: Client) -> None:
    core.create(client, b"/p")
    reply = core.multi(client, create(b"/p/a", 2), delete(b"/p"))
    assert multi_results(reply) == [(-1, errors.OK), (-1, errors.NOT_EMPTY)]


def test_txns_before_the_failure_stay_in_the_log(core: Core, client: Client) -> None:
    core.multi(client, create(b"/a"), check(b"/none"), create(b"/b"))
    parts = parts_of(core)
    assert [type(part) for part in parts][1:] == [ErrorTxn, ErrorTxn]
    assert parts[1:] == [ErrorTxn(errors.NO_NODE), ErrorTxn(errors.RUNTIME_INCONSISTENCY)]
    assert encode_record(parts[0])[4:6] == b"/a"  # type: ignore[arg-type]  # it is a CreateTxn


def test_rollback_keeps_what_was_staged_before(core: Core, client: Client) -> None:
    core.create(client, b"/p", b"x")
    staged = [
        core.prepare(client, *set_data(b"/p")),
        core.prepare(client, *create(b"/p/e", 1)),
        core.prepare(client, *delete(b"/p/e")),
        core.prepare(client, *create(b"/p/f", 1)),
    ]
    node, digest = core.tree.find(b"/p"), core.tree.staged_digest
    failed = core.prepare(
        client,
        codes.OP_MULTI,
        multi_body(
            create(b"/p/e", 1), set_data(b"/p/f"), delete(b"/p/f"), create(b"/p/f", 1), set_data(b"/p"), check(b"/none")
        ),
    )
    assert core.tree.find(b"/p") is node
    assert core.tree.find(b"/p/e") is None
    assert core.tree.staged_digest == digest
    for proposal in [*staged, failed]:
        core.deliver(proposal)
    assert core.tree.digest == digest
    assert core.tree.staged == {}
    assert core.tree.ephemerals == {7: {b"/p/f": None}}
    assert core.tree.session_paths(7) == [b"/p/f"]
    core.close(7)
    assert b"/p/f" not in core.tree.nodes


def test_create_and_delete_of_one_path(core: Core, client: Client) -> None:
    reply = core.multi(client, create(b"/a"), delete(b"/a"), create(b"/a", 1), delete(b"/a"), create(b"/a"))
    assert multi_results(reply) == [(1, 0), (2, 0), (1, 0), (2, 0), (1, 0)]
    assert core.stat(b"/a").ephemeral_owner == 0
    assert core.tree.ephemerals == {}


def test_acl_of_a_failed_multi_is_forgotten(core: Core, client: Client) -> None:
    core.multi(client, (1, create_body(b"/a", b"", NOBODY)), check(b"/none"))
    assert len(core.tree.acls) == 1, "only the config znode's is left"


def test_large_multi(core: Core, client: Client) -> None:
    ops = [create(b"/q", 2) for _ in range(1000)]
    assert multi_results(core.multi(client, *ops)) == [(1, 0)] * 1000
    assert b"/q0000000999" in core.tree.nodes


def test_flags_decide_the_type(core: Core, client: Client) -> None:
    """Op.create: a container's flags make a container of any create, a TTL without a TTL mode is a plain create."""
    core.multi(client, create(b"/c", 4), (codes.OP_CREATE_TTL, create_body(b"/t", b"", OPEN, 0) + jlong(9)))
    assert parts_of(core)[0] == CreateContainerTxn(b"/c", b"x", OPEN, 1)
    assert core.node(b"/t").owner == 0
    reply = core.multi(client, (codes.OP_CREATE_TTL, create_body(b"/u", b"", OPEN, 4) + jlong(9)))
    assert multi_results(reply) == [(15, 0)]
    assert core.node(b"/u").owner == codes.OWNER_CONTAINER


@pytest.mark.parametrize(
    "ops",
    [
        [(codes.OP_MULTI, END)],
        [(codes.OP_EXISTS, jbuf(b"/") + b"\0")],
        [(codes.OP_SET_ACL, jbuf(b"/") + jint(0) + jint(-1))],
        [(9999, b"")],
        [(codes.OP_GET_DATA, jbuf(b"/") + b"\0")],
        [create(b"/a"), (codes.OP_GET_DATA, jbuf(b"/") + b"\0")],
        [(codes.OP_GET_DATA, jbuf(b"/") + b"\0"), create(b"/a")],
        [create(b"/a", 7)],
        [create(b"/a", -1)],
        [create(b"/a", 5)],
        [create(b"/a", 6, codes.OP_CREATE_CONTAINER)],
        [(codes.OP_CREATE, create_body(b"/a", b"", None))],
    ],
)
def test_what_may_not_stand_in_a_multi(core: Core, client: Client, ops: list[tuple[int, bytes]]) -> None:
    before = image(core.tree)
    reply = core.multi(client, *ops)
    assert reply.err == errors.MARSHALLING_ERROR
    assert reply.at_end()
    assert core.last_txn().txn == ErrorTxn(errors.MARSHALLING_ERROR)
    assert image(core.tree) == before


def test_bad_flags_with_a_ttl_fail_alone(core: Core, client: Client) -> None:
    """Op.create takes them for a persistent znode's, and preparing finds out."""
    reply = core.multi(client, (codes.OP_CREATE_TTL, create_body(b"/t", b"", OPEN, 9) + jlong(9)))
    assert multi_results(reply) == [(-1, errors.BAD_ARGUMENTS)]


# multiRead


def get_data(path: bytes) -> tuple[int, bytes]:
    return codes.OP_GET_DATA, jbuf(path) + b"\1"


def get_children(path: bytes) -> tuple[int, bytes]:
    return codes.OP_GET_CHILDREN, jbuf(path) + b"\1"


def test_multi_read_answers_each_alone(core: Core, client: Client) -> None:
    core.create(client, b"/a", b"data")
    core.create(client, b"/a/b")
    core.create(client, b"/locked", acl=NOBODY)
    ops = (get_data(b"/a"), get_data(b"/none"), get_children(b"/a"), get_children(b"/locked"), get_children(b"/a/b"))
    reply = core.read(client, codes.OP_MULTI_READ, multi_body(*ops))
    r = reply.r
    assert MultiHeader.read(r) == MultiHeader(4, False, 0)
    assert (r.buffer(), reply.stat()) == (b"data", core.stat(b"/a"))
    assert MultiHeader.read(r) == MultiHeader(-1, False, errors.NO_NODE)
    assert r.int32() == errors.NO_NODE
    assert MultiHeader.read(r) == MultiHeader(8, False, 0)
    assert reply.paths() == [b"b"]
    assert MultiHeader.read(r) == MultiHeader(-1, False, errors.NO_AUTH)
    assert r.int32() == errors.NO_AUTH
    assert MultiHeader.read(r) == MultiHeader(8, False, 0)
    assert reply.paths() == []
    assert r.data[r.pos :] == END
    assert core.watches.is_empty(), "the watch flags in it are not heeded"


def test_empty_multi_read(core: Core, client: Client) -> None:
    reply = core.read(client, codes.OP_MULTI_READ, multi_body())
    assert (reply.err, reply.r.data[reply.r.pos :]) == (errors.OK, END)


def test_multi_read_by_the_root_s_other_name(core: Core, client: Client) -> None:
    reply = core.read(client, codes.OP_MULTI_READ, multi_body(get_children(b"")))
    assert MultiHeader.read(reply.r) == MultiHeader(8, False, 0)
    assert reply.paths() == [b"zookeeper"]


@pytest.mark.parametrize("op", [codes.OP_GET_DATA, codes.OP_GET_CHILDREN])
def test_null_path_in_a_multi_read_ends_it_where_it_stands(core: Core, client: Client, op: int) -> None:
    """Java 3.9.3 sends the results that it has by then, under an error in the header."""
    ops = (get_data(b"/none"), (op, jint(-1) + b"\1"), get_data(b"/"))
    reply = core.read(client, codes.OP_MULTI_READ, multi_body(*ops))
    assert reply.err == errors.MARSHALLING_ERROR
    assert MultiHeader.read(reply.r) == MultiHeader(-1, False, errors.NO_NODE)
    assert reply.r.int32() == errors.NO_NODE
    assert reply.r.data[reply.r.pos :] == END


def test_writes_in_a_multi_read(core: Core, client: Client) -> None:
    """Java has begun the response when it finds out: an error in the header, and an empty one behind it."""
    reply = core.read(client, codes.OP_MULTI_READ, multi_body(check(b"/")))
    assert (reply.err, reply.r.data[reply.r.pos :]) == (errors.MARSHALLING_ERROR, END)
    mixed = core.read(client, codes.OP_MULTI_READ, multi_body(get_data(b"/"), check(b"/")))
    assert (mixed.err, mixed.at_end()) == (errors.MARSHALLING_ERROR, True)


def test_kind_of_operations() -> None:
    assert not are_reads([])
    assert are_reads(read_multi(Reader(multi_body(get_data(b"/")))))
    assert not are_reads(read_multi(Reader(multi_body(check(b"/")))))
    with pytest.raises(MarshallingError):
        read_multi(Reader(multi_body(check(b"/"))[:-1]))

"""Preparing: which error comes first, what stands in the txn, what is staged.

The orders of checks are read off PrepRequestProcessor; a table row breaks several rules at once and names the one
that Java reports.
"""

from __future__ import annotations

import pytest

from coati import errors
from coati.core.acl import AccessConfig
from coati.core.prepare import Request, is_readable
from coati.core.replay import apply
from coati.core.tree import CONFIG, pristine
from coati.errors import BadArguments
from coati.wire import codes
from coati.wire.records import ACL, Id
from coati.wire.txns import (
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTTLTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    decode_txn,
    encode_record,
)
from tests.core.kit import (
    NOBODY,
    OPEN,
    READ_ONLY,
    T0,
    Client,
    Core,
    create_body,
    jacl,
    jbuf,
    jint,
    jlong,
    multi_body,
    multi_results,
)

INT_MAX = (1 << 31) - 1
INT_MIN = -(1 << 31)
BAD_PATHS = [b"", b"a", b"/a/", b"//", b"/a//b", b"/.", b"/a/..", b"/x\0", b"/\x1f", b"/\x7f", b"/\xc2\x80", b"/\xff"]


@pytest.fixture
def core() -> Core:
    return Core(extended_types=True)


@pytest.fixture
def client(core: Core) -> Client:
    return core.connect(7)


def set_parent_cversion(core: Core, path: bytes, cversion: int) -> None:
    core.node(path).cversion = cversion


# setData


def test_set_data_txn(core: Core, client: Client) -> None:
    core.create(client, b"/a", b"old")
    core.now_ms = T0 + 5
    reply = core.set(client, b"/a", b"new")
    record = core.last_txn()
    assert record.txn == SetDataTxn(b"/a", b"new", 1)
    head = record.header
    assert (head.client_id, head.cxid, head.zxid, head.time, head.type) == (7, core.xid, core.zxid, T0 + 5, 5)
    assert record.digest == core.tree.digest
    stat = reply.stat()
    assert stat == core.stat(b"/a")
    assert (stat.version, stat.mzxid, stat.mtime, stat.ctime, stat.data_length) == (1, core.zxid, T0 + 5, T0, 3)
    assert reply.at_end()


def test_set_data_of_null_is_kept_as_null(core: Core, client: Client) -> None:
    core.create(client, b"/a", b"old")
    core.set(client, b"/a", None)
    assert core.last_txn().txn == SetDataTxn(b"/a", None, 1)
    assert core.node(b"/a").data() is None
    assert core.stat(b"/a").data_length == 0


@pytest.mark.parametrize("path", BAD_PATHS)
def test_set_data_with_a_bad_path(core: Core, client: Client, path: bytes) -> None:
    assert core.set(client, path, b"").err == errors.BAD_ARGUMENTS


def test_set_data_errors_in_order(core: Core, client: Client) -> None:
    core.create(client, b"/locked", acl=NOBODY)
    assert core.set(client, b"/none", b"", 9).err == errors.NO_NODE
    assert core.set(client, b"/locked", b"", 9).err == errors.NO_AUTH
    core.create(client, b"/a")
    assert core.set(client, b"/a", b"", 9).err == errors.BAD_VERSION
    assert core.set(client, b"/a", b"", -2).err == errors.BAD_VERSION
    assert core.set(client, b"/a", b"", 0).err == errors.OK
    other = Client(8)
    assert core.set(other, b"", b"").err == errors.SESSION_EXPIRED


def test_data_version_wraps(core: Core, client: Client) -> None:
    """32-bit, from 2**31 - 1 to -2**31; a version of -1 then matches any."""
    core.create(client, b"/a")
    body = core.node(b"/a").body
    core.node(b"/a").body = body[:-36] + jint(INT_MAX) + body[-32:]
    assert core.set(client, b"/a", b"", INT_MAX).stat().version == INT_MIN
    assert core.last_txn().txn == SetDataTxn(b"/a", b"", INT_MIN)
    assert core.set(client, b"/a", b"", INT_MIN).stat().version == INT_MIN + 1


def test_set_data_on_the_root(core: Core, client: Client) -> None:
    assert core.set(client, b"/", b"hello").err == errors.OK
    assert core.node(b"/").data() == b"hello"
    assert core.tree.digest == core.tree.staged_digest == core.last_txn().digest


# create


def test_create_txn(core: Core, client: Client) -> None:
    reply = core.create(client, b"/a", b"data")
    assert reply.r.path() == b"/a"
    assert reply.at_end()
    assert core.last_txn().txn == CreateTxn(b"/a", b"data", OPEN, False, 1)
    assert core.last_txn().digest == core.tree.digest
    stat = core.stat(b"/a")
    assert (stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime) == (2, 2, 2, T0, T0)
    assert (stat.version, stat.cversion, stat.aversion, stat.ephemeral_owner) == (0, 0, 0, 0)
    assert (stat.data_length, stat.num_children) == (4, 0)


def test_create2_answers_with_the_stat(core: Core, client: Client) -> None:
    reply = core.write(client, codes.OP_CREATE2, create_body(b"/a", b"data", READ_ONLY))
    assert core.last_txn().txn == CreateTxn(b"/a", b"data", READ_ONLY, False, 1)
    assert core.last_txn().header.type == codes.OP_CREATE2
    assert reply.r.path() == b"/a"
    assert reply.stat() == core.stat(b"/a")
    assert reply.at_end()


def test_create_with_null_data(core: Core, client: Client) -> None:
    core.create(client, b"/a", None)
    assert core.last_txn().txn == CreateTxn(b"/a", None, OPEN, False, 1)
    assert core.node(b"/a").data() is None


def test_parent_counts_its_children(core: Core, client: Client) -> None:
    """W8: shown cversion is creates and deletes; pzxid is the last of either."""
    core.create(client, b"/p")
    for name in (b"/p/a", b"/p/b", b"/p/c", b"/p/d"):
        core.create(client, name)
    core.delete(client, b"/p/b")
    stat = core.stat(b"/p")
    assert (stat.cversion, stat.num_children, stat.pzxid, stat.version) == (5, 3, core.zxid, 0)
    assert core.node(b"/p").cversion == 4
    core.set(client, b"/p/a", b"x")
    assert core.stat(b"/p") == stat, "a child's data is no change of the parent"


@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize("flags", [0, 1])
def test_create_with_a_bad_path(core: Core, client: Client, path: bytes, flags: int) -> None:
    core.create(client, b"/a")
    expected = errors.NO_NODE if path == b"/a//b" else errors.BAD_ARGUMENTS
    assert core.create(client, path, flags=flags).err == expected, "the parent is looked for before the path is checked"


def test_create_sequential_makes_some_bad_paths_good(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    assert core.create(client, b"/a/", flags=2).r.path() == b"/a/0000000000"
    assert core.create(client, b"/", flags=2).r.path() == b"/0000000001"
    assert core.create(client, b"/a/..", flags=2).r.path() == b"/a/..0000000001"
    assert core.create(client, b"a", flags=2).err == errors.BAD_ARGUMENTS


def test_double_slash_at_the_front(core: Core, client: Client) -> None:
    """`//a` has the parent `/`, which is there; only then the path is found bad."""
    assert core.create(client, b"//a").err == errors.BAD_ARGUMENTS
    assert core.create(client, b"//a", flags=2).err == errors.BAD_ARGUMENTS


@pytest.mark.parametrize(
    ("path", "acl", "flags", "expected"),
    [
        (b"a", [], 9, errors.BAD_ARGUMENTS),
        (b"a", [], -1, errors.BAD_ARGUMENTS),
        (b"a", [], 5, errors.BAD_ARGUMENTS),  # a TTL mode, and no TTL in the request
        (b"/none/x", [], 0, errors.INVALID_ACL),
        (b"/none/x", None, 0, errors.INVALID_ACL),
        (b"/none/x", OPEN, 0, errors.NO_NODE),
        (b"/locked/", OPEN, 0, errors.NO_AUTH),
        (b"/locked/x", OPEN, 0, errors.NO_AUTH),
        (b"/e/", OPEN, 0, errors.BAD_ARGUMENTS),
        (b"/e/x", OPEN, 0, errors.NO_CHILDREN_FOR_EPHEMERALS),
        (b"/e/x", OPEN, 3, errors.NO_CHILDREN_FOR_EPHEMERALS),
        (b"/e", OPEN, 0, errors.NODE_EXISTS),
        (b"/", OPEN, 0, errors.NODE_EXISTS),
    ],
)
def test_create_errors_in_order(
    core: Core, client: Client, path: bytes, acl: list[ACL] | None, flags: int, expected: int
) -> None:
    core.create(client, b"/locked", acl=READ_ONLY)
    core.create(client, b"/e", flags=1)
    assert core.create(client, path, acl=acl, flags=flags).err == expected
    assert core.last_txn().txn == ErrorTxn(expected)
    assert core.last_txn().header.type == codes.OP_ERROR
    assert core.last_txn().digest is None, "error txns carry no digest"
    assert core.tree.staged == {}


def test_create_by_a_stranger_to_the_session(core: Core, client: Client) -> None:
    assert core.create(Client(99), b"bad", flags=9).err == errors.BAD_ARGUMENTS, "flags come before the session"
    assert core.create(Client(99), b"bad", acl=[]).err == errors.SESSION_EXPIRED


def test_ephemeral_belongs_to_its_session(core: Core, client: Client) -> None:
    core.create(client, b"/e", flags=1)
    assert core.last_txn().txn == CreateTxn(b"/e", b"", OPEN, True, 1)
    assert core.stat(b"/e").ephemeral_owner == 7
    assert core.tree.ephemerals == {7: {b"/e": None}}
    core.delete(client, b"/e")
    assert core.tree.ephemerals == {}


def test_auth_is_expanded_in_the_txn(core: Core, client: Client) -> None:
    bob = Id("digest", "bob:h")
    client.auth = [*client.auth, bob]
    core.create(client, b"/a", acl=[ACL(31, Id("auth", ""))])
    assert core.last_txn().txn == CreateTxn(b"/a", b"", [ACL(31, bob)], False, 1)
    assert core.node(b"/a").acl.entries == [ACL(31, bob)]


# Sequences


def test_sequence_counts_creates(core: Core, client: Client) -> None:
    core.create(client, b"/q")
    made = [core.create(client, b"/q/n-", flags=2).r.path() for _ in range(3)]
    assert made == [b"/q/n-0000000000", b"/q/n-0000000001", b"/q/n-0000000002"]
    assert core.last_txn().txn == CreateTxn(b"/q/n-0000000002", b"", OPEN, False, 3)


def test_sequence_is_never_reused_after_deletes(core: Core, client: Client) -> None:
    """W9."""
    core.create(client, b"/q")
    for _ in range(3):
        core.delete(client, core.create(client, b"/q/n", flags=2).r.path())
    assert core.create(client, b"/q/n", flags=3).r.path() == b"/q/n0000000003"


def test_sequence_sees_what_is_in_flight(core: Core, client: Client) -> None:
    core.create(client, b"/q")
    proposals = [core.prepare(client, codes.OP_CREATE, create_body(b"/q/n", flags=2)) for _ in range(3)]
    assert [core.deliver(p).r.path() for p in proposals] == [b"/q/n0000000000", b"/q/n0000000001", b"/q/n0000000002"]


def test_sequence_after_a_failed_multi_is_not_lost(core: Core, client: Client) -> None:
    """ZOOKEEPER-1624: the parent's record in flight came back wrong."""
    core.create(client, b"/q")
    core.prepare(client, codes.OP_CREATE, create_body(b"/q/n", flags=2))
    core.prepare(
        client,
        codes.OP_MULTI,
        multi_body((1, create_body(b"/q/n", flags=2)), (codes.OP_CHECK, jbuf(b"/none") + jint(-1))),
    )
    assert core.prepare(client, codes.OP_CREATE, create_body(b"/q/n", flags=2)).change.path == b"/q/n0000000001"


@pytest.mark.parametrize(
    ("cversion", "suffix"),
    [
        (9_999_999_999 % (1 << 31), b"1410065407"),
        (INT_MAX, b"2147483647"),
        (INT_MIN, b"-2147483648"),
        (-5, b"-000000005"),
    ],
)
def test_sequence_is_a_signed_int_of_ten_digits(core: Core, client: Client, cversion: int, suffix: bytes) -> None:
    core.create(client, b"/q")
    set_parent_cversion(core, b"/q", cversion)
    assert core.create(client, b"/q/n", flags=2).r.path() == b"/q/n" + suffix


def test_create_counter_stops_at_its_end(core: Core, client: Client) -> None:
    """DataTree.createNode only raises cversion, so the wrapped one in the txn leaves it where it is."""
    core.create(client, b"/q")
    set_parent_cversion(core, b"/q", INT_MAX)
    assert core.create(client, b"/q/a").err == errors.OK
    txn = core.last_txn().txn
    assert isinstance(txn, CreateTxn)
    assert txn.parent_cversion == INT_MIN
    assert core.node(b"/q").cversion == INT_MAX
    assert core.stat(b"/q").cversion == -3, "2 * (2**31 - 1) - 1 as an int"
    assert core.stat(b"/q").num_children == 1
    core.delete(client, b"/q/a")
    assert core.stat(b"/q").cversion == -2


# Containers and TTLs


def test_container(core: Core, client: Client) -> None:
    reply = core.write(client, codes.OP_CREATE_CONTAINER, create_body(b"/c", b"x", OPEN, 4))
    assert core.last_txn().txn == CreateContainerTxn(b"/c", b"x", OPEN, 1)
    assert reply.r.path() == b"/c"
    assert reply.stat().ephemeral_owner == 0
    assert core.node(b"/c").owner == INT_MIN << 32
    assert list(core.tree.containers) == [b"/c"]
    assert core.create(client, b"/c/x", flags=1).err == errors.OK
    core.delete(client, b"/c/x")
    core.delete(client, b"/c")
    assert core.tree.containers == {}


def test_container_with_another_acl(core: Core, client: Client) -> None:
    core.write(client, codes.OP_CREATE_CONTAINER, create_body(b"/c", b"x", READ_ONLY, 4))
    assert core.last_txn().txn == CreateContainerTxn(b"/c", b"x", READ_ONLY, 1)


def test_flags_of_a_container_make_none_in_a_plain_create(core: Core, client: Client) -> None:
    """The type of the txn decides, since that is all a follower gets to see."""
    core.create(client, b"/a", flags=4)
    assert core.last_txn().txn == CreateTxn(b"/a", b"", OPEN, False, 1)
    assert core.node(b"/a").owner == 0
    core.write(client, codes.OP_CREATE_CONTAINER, create_body(b"/b", flags=1))
    assert core.node(b"/b").owner == codes.OWNER_CONTAINER


def ttl_body(path: bytes, ttl: int, flags: int = 5) -> bytes:
    return create_body(path, b"x", OPEN, flags) + jlong(ttl)


def test_ttl(core: Core, client: Client) -> None:
    reply = core.write(client, codes.OP_CREATE_TTL, ttl_body(b"/t", 5000))
    assert core.last_txn().txn == CreateTTLTxn(b"/t", b"x", OPEN, 1, 5000)
    assert reply.r.path() == b"/t"
    assert reply.stat().ephemeral_owner == 0
    assert core.node(b"/t").owner == -0x0100000000000000 | 5000
    assert list(core.tree.ttls) == [b"/t"]
    assert core.write(client, codes.OP_CREATE_TTL, ttl_body(b"/t/s", 5, 6)).r.path() == b"/t/s0000000000"
    core.delete(client, b"/t/s0000000000")
    core.delete(client, b"/t")
    assert core.tree.ttls == {}


@pytest.mark.parametrize(
    ("ttl", "flags", "expected"),
    [
        (0, 5, errors.BAD_ARGUMENTS),
        (-1, 5, errors.BAD_ARGUMENTS),
        ((1 << 40) - 1, 5, errors.OK),
        (1 << 40, 6, errors.BAD_ARGUMENTS),
        (5, 0, errors.BAD_ARGUMENTS),
        (5, 7, errors.BAD_ARGUMENTS),
        # Java lets these pass and dies when it applies them (EphemeralType.TTL.toEphemeralOwner).
        (-1, 0, errors.BAD_ARGUMENTS),
        (-1, 1, errors.BAD_ARGUMENTS),
    ],
)
def test_ttl_must_fit_its_mode(core: Core, client: Client, ttl: int, flags: int, expected: int) -> None:
    assert core.write(client, codes.OP_CREATE_TTL, ttl_body(b"/t", ttl, flags)).err == expected


def test_ttl_must_be_switched_on() -> None:
    core = Core()
    client = core.connect(7)
    assert core.write(client, codes.OP_CREATE_TTL, ttl_body(b"/t", 5000)).err == errors.UNIMPLEMENTED
    assert core.create(client, b"/t", flags=6).err == errors.UNIMPLEMENTED
    assert core.write(client, codes.OP_CREATE_TTL, ttl_body(b"/t", 5000, 0)).err == errors.BAD_ARGUMENTS


# delete


def test_delete_txn(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    reply = core.delete(client, b"/a")
    assert reply.err == errors.OK
    assert reply.at_end()
    assert core.last_txn().txn == DeleteTxn(b"/a")
    assert core.last_txn().digest == core.tree.digest
    assert b"/a" not in core.tree.nodes


@pytest.mark.parametrize("path", [b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config", b"", b"a", b"/x\0"])
def test_some_paths_cannot_be_deleted(core: Core, client: Client, path: bytes) -> None:
    assert core.delete(client, path).err == errors.BAD_ARGUMENTS


def test_delete_errors_in_order(core: Core, client: Client) -> None:
    core.create(client, b"/locked", acl=NOBODY)
    core.create(client, b"/p")
    core.create(client, b"/p/c")
    assert core.delete(Client(8), b"").err == errors.SESSION_EXPIRED
    assert core.delete(client, b"/none/x", 9).err == errors.NO_NODE
    assert core.delete(client, b"/locked/x", 9).err == errors.NO_AUTH, "before it is known that nothing is there"
    assert core.delete(client, b"/x", 9).err == errors.NO_NODE
    assert core.delete(client, b"/p", 9).err == errors.BAD_VERSION
    assert core.delete(client, b"/p", 0).err == errors.NOT_EMPTY
    assert core.delete(client, b"/locked", 0).err == errors.OK, "what counts is the parent's ACL"


def test_delete_sees_what_is_in_flight(core: Core, client: Client) -> None:
    core.prepare(client, codes.OP_CREATE, create_body(b"/p"))
    core.prepare(client, codes.OP_CREATE, create_body(b"/p/c"))
    assert core.prepare(client, codes.OP_DELETE, jbuf(b"/p") + jint(-1)).change.err == errors.NOT_EMPTY
    assert core.prepare(client, codes.OP_DELETE, jbuf(b"/p/c") + jint(-1)).change.err == errors.OK
    assert core.prepare(client, codes.OP_DELETE, jbuf(b"/p/c") + jint(-1)).change.err == errors.NO_NODE
    assert core.prepare(client, codes.OP_DELETE, jbuf(b"/p") + jint(-1)).change.err == errors.OK
    assert core.prepare(client, codes.OP_CREATE, create_body(b"/p/c")).change.err == errors.NO_NODE
    assert core.prepare(client, codes.OP_CREATE, create_body(b"/p")).change.err == errors.OK
    assert core.tree.nodes.keys().isdisjoint({b"/p", b"/p/c"}), "nothing of it is committed"


# deleteContainer, the server's own


def reap(core: Core, path: bytes) -> int:
    return core.write(None, codes.OP_DELETE_CONTAINER, jbuf(path)).err


def test_delete_container(core: Core, client: Client) -> None:
    core.write(client, codes.OP_CREATE_CONTAINER, create_body(b"/c", flags=4))
    core.write(client, codes.OP_CREATE_TTL, ttl_body(b"/t", 5000))
    core.create(client, b"/c/x")
    assert reap(core, b"/c") == errors.NOT_EMPTY
    core.delete(client, b"/c/x")
    assert reap(core, b"/c") == errors.OK
    assert core.last_txn().txn == DeleteTxn(b"/c")
    assert core.last_txn().header.type == codes.OP_DELETE_CONTAINER
    assert reap(core, b"/t") == errors.OK
    assert reap(core, b"/t") == errors.NO_NODE
    assert reap(core, b"/zookeeper") == errors.BAD_ARGUMENTS


@pytest.mark.parametrize("flags", [0, 1])
def test_delete_container_spares_what_took_its_place(core: Core, client: Client, flags: int) -> None:
    core.create(client, b"/c", flags=flags)
    assert reap(core, b"/c") == errors.BAD_VERSION


# setACL and check


def test_set_acl_txn(core: Core, client: Client) -> None:
    core.create(client, b"/a", b"x")
    before = core.stat(b"/a")
    reply = core.set_acl(client, b"/a", READ_ONLY)
    assert core.last_txn().txn == SetACLTxn(b"/a", READ_ONLY, 1)
    assert core.last_txn().digest == core.tree.digest
    stat = reply.stat()
    before.aversion = 1
    assert stat == before, "neither mzxid nor version change"
    assert core.node(b"/a").acl.entries == READ_ONLY


def test_set_acl_errors_in_order(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    assert core.set_acl(Client(8), b"", []).err == errors.SESSION_EXPIRED
    assert core.set_acl(client, b"/none/", []).err == errors.BAD_ARGUMENTS
    assert core.set_acl(client, b"/none", []).err == errors.INVALID_ACL
    assert core.set_acl(client, b"/none", OPEN).err == errors.NO_NODE
    assert core.set_acl(client, b"/a", OPEN, 5).err == errors.BAD_VERSION
    assert core.set_acl(client, b"/a", READ_ONLY, 0).err == errors.OK
    assert core.set_acl(client, b"/a", OPEN, 5).err == errors.NO_AUTH


def test_acl_version_wraps(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    body = core.node(b"/a").body
    core.node(b"/a").body = body[:-28] + jint(INT_MAX) + body[-24:]
    assert core.set_acl(client, b"/a", OPEN).stat().aversion == INT_MIN


def test_acl_of_the_config_znode_starts_at_minus_one(core: Core, client: Client) -> None:
    core.preparer._access.config.skip_acl = True
    assert core.set_acl(client, b"/zookeeper/config", OPEN).stat().aversion == 0


def check_body(path: bytes, version: int) -> bytes:
    return jbuf(path) + jint(version)


def test_check_in_a_multi(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    core.create(client, b"/locked", acl=NOBODY)
    for path, version, expected in (
        (b"/a", 0, errors.OK),
        (b"/a", -1, errors.OK),
        (b"/a", 1, errors.BAD_VERSION),
        (b"/a/", 1, errors.BAD_ARGUMENTS),
        (b"/none", 1, errors.NO_NODE),
        (b"/locked", 1, errors.NO_AUTH),
    ):
        reply = core.multi(client, (codes.OP_CHECK, check_body(path, version)))
        assert reply.err == errors.OK
        assert multi_results(reply) == [(codes.OP_CHECK if expected == 0 else -1, expected)]
    assert core.multi(Client(9), (codes.OP_CHECK, check_body(b"/a", 0))).frame[-17:-13] == jint(errors.SESSION_EXPIRED)


def test_check_txn_says_what_the_version_would_be(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    core.set(client, b"/a", b"")
    core.multi(client, (codes.OP_CHECK, check_body(b"/a", 1)))
    txn = core.last_txn().txn
    assert isinstance(txn, MultiTxn)
    assert txn.txns is not None
    assert txn.txns[0].data == encode_record(CheckVersionTxn(b"/a", 2))


# Sessions


def test_create_session_txn(core: Core) -> None:
    core.connect(7, 12_345)
    assert core.last_txn().txn == CreateSessionTxn(12_345)
    assert core.last_txn().digest == core.tree.digest == 1371985504


def test_close_session_takes_the_ephemerals(core: Core, client: Client) -> None:
    core.create(client, b"/p")
    core.create(client, b"/p/e1", flags=1)
    core.create(client, b"/e2", flags=1)
    other = core.connect(8)
    core.create(other, b"/p/other", flags=1)
    reply = core.write(client, codes.OP_CLOSE_SESSION)
    assert reply.err == errors.OK
    assert reply.at_end()
    record = core.last_txn()
    assert record.txn == CloseSessionTxn([b"/p/e1", b"/e2"])
    assert record.digest == core.tree.digest
    assert set(core.tree.nodes) == {b"/", b"/p", b"/p/other", *SYSTEM}
    assert core.stat(b"/p").pzxid == core.zxid
    assert core.stat(b"/p").num_children == 1
    assert core.tree.ephemerals == {8: {b"/p/other": None}}


SYSTEM = {b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"}


def test_close_session_sees_what_is_in_flight(core: Core, client: Client) -> None:
    """S1: ephemerals proposed before the end go with it, ones deleted meanwhile do not go twice."""
    core.create(client, b"/gone", flags=1)
    core.create(client, b"/again", flags=1)
    core.create(client, b"/handed-over", flags=1)
    other = core.connect(8)
    staged = [
        core.prepare(client, codes.OP_CREATE, create_body(b"/new", flags=1)),
        core.prepare(client, codes.OP_DELETE, jbuf(b"/gone") + jint(-1)),
        core.prepare(client, codes.OP_DELETE, jbuf(b"/again") + jint(-1)),
        core.prepare(client, codes.OP_CREATE, create_body(b"/again", flags=1)),
        core.prepare(client, codes.OP_DELETE, jbuf(b"/handed-over") + jint(-1)),
        core.prepare(other, codes.OP_CREATE, create_body(b"/handed-over", flags=1)),
        core.prepare(client, codes.OP_CREATE, create_body(b"/brief", flags=1)),
        core.prepare(client, codes.OP_DELETE, jbuf(b"/brief") + jint(-1)),
        core.prepare(client, codes.OP_SET_DATA, jbuf(b"/new") + jbuf(b"x") + jint(-1)),
        core.prepare(client, codes.OP_CLOSE_SESSION),
    ]
    assert core.last_txn().txn == CloseSessionTxn([b"/again", b"/new"])
    for proposal in staged:
        core.deliver(proposal)
    assert set(core.tree.nodes) == {b"/", b"/handed-over", *SYSTEM}
    assert core.tree.ephemerals == {8: {b"/handed-over": None}}
    assert core.tree.digest == core.tree.staged_digest == core.last_txn().digest


def test_nothing_of_a_session_is_prepared_after_its_end(core: Core, client: Client) -> None:
    """W10, ZOOKEEPER-1208: a create queued behind the close left an ephemeral without owner."""
    core.prepare(client, codes.OP_CLOSE_SESSION)
    assert core.prepare(client, codes.OP_CREATE, create_body(b"/e", flags=1)).change.err == errors.SESSION_EXPIRED
    assert core.prepare(client, codes.OP_CLOSE_SESSION).change.err == errors.OK, "closing twice is harmless"


def test_request_of_a_former_owner(core: Core, client: Client) -> None:
    """ZOOKEEPER-710: its connection is closed, so the caller must know."""
    core.sessions.set_owner(7, Client(7))
    assert core.create(client, b"/a").err == errors.SESSION_MOVED
    assert core.multi(client, (1, create_body(b"/a"))).err == errors.OK
    proposal = core.prepare(client, codes.OP_MULTI, multi_body((1, create_body(b"/a"))))
    assert proposal.change.err == errors.SESSION_MOVED


# Unreadable and unknown


TRUNCATED = {
    codes.OP_CREATE: create_body(b"/a", b"data"),
    codes.OP_CREATE2: create_body(b"/a", b"data", READ_ONLY),
    codes.OP_CREATE_CONTAINER: create_body(b"/a", b"data", OPEN, 4),
    codes.OP_CREATE_TTL: create_body(b"/a", b"data", OPEN, 5) + jlong(1),
    codes.OP_DELETE: jbuf(b"/a") + jint(-1),
    codes.OP_SET_DATA: jbuf(b"/") + jbuf(b"data") + jint(-1),
    codes.OP_SET_ACL: jbuf(b"/") + jacl(OPEN) + jint(-1),
    codes.OP_MULTI: multi_body((1, create_body(b"/a")), (5, jbuf(b"/") + jbuf(b"x") + jint(-1))),
    codes.OP_RECONFIG: jbuf(None) * 3 + jlong(-1),
    codes.OP_CREATE_SESSION: jint(5000),
    codes.OP_DELETE_CONTAINER: jbuf(b"/a"),
}


@pytest.mark.parametrize("op", list(TRUNCATED))
def test_cut_request_is_refused_at_every_byte(core: Core, client: Client, op: int) -> None:
    whole = TRUNCATED[op]
    nodes, digest = dict(core.tree.nodes), core.tree.digest
    zxid, logged = core.zxid, len(core.log)
    for size in range(len(whole)):
        proposal = core.prepare(client, op, whole[:size])
        assert proposal.change.err == errors.MARSHALLING_ERROR
        if op == codes.OP_MULTI:
            assert core.last_txn().txn == ErrorTxn(errors.MARSHALLING_ERROR)
            core.deliver(proposal)
        else:
            assert (proposal.payload, core.zxid, len(core.log)) == (b"", zxid, logged)
    assert core.tree.nodes == nodes
    assert core.tree.staged == {}
    assert core.tree.digest == core.tree.staged_digest == digest


@pytest.mark.parametrize("op", list(TRUNCATED))
def test_null_path_is_refused(core: Core, client: Client, op: int) -> None:
    if op not in (codes.OP_MULTI, codes.OP_RECONFIG, codes.OP_CREATE_SESSION):
        body = jint(-1) + TRUNCATED[op][4 + TRUNCATED[op][3] :]
        looked_at = op in (codes.OP_SET_DATA, codes.OP_SET_ACL)
        err = errors.BAD_ARGUMENTS if looked_at else errors.MARSHALLING_ERROR
        assert core.prepare(client, op, body).change.err == err


WITH_A_PATH = [
    op
    for op in TRUNCATED
    if op not in (codes.OP_MULTI, codes.OP_RECONFIG, codes.OP_CREATE_SESSION, codes.OP_DELETE_CONTAINER)
]


@pytest.mark.parametrize("op", WITH_A_PATH)
def test_the_session_is_looked_at_before_a_null_path(core: Core, op: int) -> None:
    """Java 3.9.3: a client whose session is over, or has moved, is told of that."""
    body = jint(-1) + TRUNCATED[op][4 + TRUNCATED[op][3] :]
    assert core.write(Client(99), op, body).err == errors.SESSION_EXPIRED
    assert core.last_txn().txn == ErrorTxn(errors.SESSION_EXPIRED)


@pytest.mark.parametrize("op", WITH_A_PATH)
def test_null_path_in_front_of_what_cannot_be_read_is_no_txn(core: Core, client: Client, op: int) -> None:
    """It was one, and setData and setACL told the client of a bad argument. Java 3.9.3: -5, and no zxid."""
    body = jint(-1) + TRUNCATED[op][4 + TRUNCATED[op][3] :]
    zxid, logged = core.zxid, len(core.log)
    for size in range(4, len(body)):
        proposal = core.prepare(client, op, body[:size])
        assert proposal.change.err == errors.MARSHALLING_ERROR
        assert (proposal.payload, core.zxid, len(core.log)) == (b"", zxid, logged)
        assert not is_readable(op, body, 0, size)
    assert is_readable(op, body, 0, len(body))


@pytest.mark.parametrize(
    ("op", "flags", "ttl", "err"),
    [
        (codes.OP_CREATE, 0, None, errors.MARSHALLING_ERROR),
        (codes.OP_CREATE, 7, None, errors.BAD_ARGUMENTS),
        (codes.OP_CREATE2, -1, None, errors.BAD_ARGUMENTS),
        (codes.OP_CREATE2, 5, None, errors.BAD_ARGUMENTS),
        (codes.OP_CREATE_CONTAINER, 8, None, errors.BAD_ARGUMENTS),
        (codes.OP_CREATE_TTL, INT_MAX, 60000, errors.BAD_ARGUMENTS),
        (codes.OP_CREATE_TTL, 5, 60000, errors.MARSHALLING_ERROR),
        (codes.OP_CREATE_TTL, 0, 60000, errors.BAD_ARGUMENTS),
        (codes.OP_CREATE_TTL, 0, -1, errors.MARSHALLING_ERROR),
    ],
)
def test_flags_are_looked_at_before_a_null_path(
    core: Core, client: Client, op: int, flags: int, ttl: int | None, err: int
) -> None:
    """Java 3.9.3, pRequest2TxnCreate: the order of its checks, the path being the last."""
    body = jint(-1) + create_body(b"", flags=flags)[4:] + (b"" if ttl is None else jlong(ttl))
    assert core.prepare(client, op, body).change.err == err
    assert core.prepare(client, op, body[:-1]).change.err == errors.MARSHALLING_ERROR


@pytest.mark.parametrize("length", [-2, INT_MIN, INT_MAX, 1 << 24])
def test_absurd_lengths_are_refused(core: Core, client: Client, length: int) -> None:
    for op in (codes.OP_CREATE, codes.OP_SET_DATA, codes.OP_DELETE):
        assert core.prepare(client, op, jint(length) + b"/aaaaaaaaaaaaaaaaaaa").change.err == -5
    for op in (codes.OP_CREATE, codes.OP_SET_DATA):
        assert core.prepare(client, op, jbuf(b"/a") + jint(length) + b"a" * 40).change.err == -5


def test_trailing_bytes_are_ignored(core: Core, client: Client) -> None:
    assert core.write(client, codes.OP_CREATE, create_body(b"/a") + b"rest").err == errors.OK
    assert core.last_txn().txn == CreateTxn(b"/a", b"", OPEN, False, 1)
    assert core.write(client, codes.OP_SET_DATA, jbuf(b"/a") + jbuf(b"x") + jint(0) + b"rest").err == errors.OK
    assert core.last_txn().txn == SetDataTxn(b"/a", b"x", 1)


@pytest.mark.parametrize("op", [codes.OP_ERROR, codes.OP_CHECK, 0, 9999, codes.OP_GET_DATA])
def test_unknown_writes_are_refused(core: Core, client: Client, op: int) -> None:
    """Whoever lets them through to here; a bare check once was logged and could not be replayed (ZOOKEEPER-2623)."""
    proposal = core.prepare(client, op, jbuf(b"/") + jint(-1))
    assert proposal.change.err == errors.UNIMPLEMENTED
    assert core.last_txn().txn == ErrorTxn(errors.UNIMPLEMENTED)


def test_reconfig_is_switched_off(core: Core, client: Client) -> None:
    body = jbuf(None) * 3 + jlong(-1)
    assert core.write(client, codes.OP_RECONFIG, body).err == errors.RECONFIG_DISABLED
    assert core.write(Client(99), codes.OP_RECONFIG, body).err == errors.RECONFIG_DISABLED
    standalone = Core(reconfig_enabled=True)
    assert standalone.write(Client(99), codes.OP_RECONFIG, body).err == errors.SESSION_EXPIRED
    assert standalone.write(standalone.connect(7), codes.OP_RECONFIG, body).err == errors.UNIMPLEMENTED


class Planner:
    """Wants what it is told, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def next_config(
        self, joining: str | None, leaving: str | None, members: str | None, version: int, zxid: int
    ) -> bytes:
        self.asked.append((joining, leaving, members, version, zxid))
        if leaving == "x":
            raise BadArguments
        return b"server.1=h:1:2\nversion=%x" % zxid


def test_reconfig_is_data_of_the_config_znode() -> None:
    """As a Java log has it: a setData with the version -1, which is no part of the digest. Last comes the ACL."""
    planner = Planner()
    core = Core(reconfig_enabled=True, planner=planner)
    client = core.connect(7)
    refused = core.write(client, codes.OP_RECONFIG, jbuf(None) + jbuf(b"x") + jbuf(None) + jlong(-1))
    assert refused.err == errors.BAD_ARGUMENTS
    body = jbuf(b"server.1=h:1:2") + jbuf(None) + jbuf(b"") + jlong(5)
    assert core.write(client, codes.OP_RECONFIG, body).err == errors.NO_AUTH
    assert planner.asked[-1] == ("server.1=h:1:2", None, "", 5, core.zxid)
    client.auth = [Id("super", "")]
    digest = core.tree.digest
    reply = core.write(client, codes.OP_RECONFIG, body)
    text = b"server.1=h:1:2\nversion=%x" % core.zxid
    assert reply.err == 0
    assert core.last_txn().txn == SetDataTxn(CONFIG, text, -1)
    assert core.tree.digest == digest
    node = core.tree.nodes[CONFIG]
    assert node.data() == text
    # GetDataResponse: data and stat.
    assert reply.frame[20:] == node.body
    del core.tree.nodes[CONFIG]
    assert core.write(client, codes.OP_RECONFIG, body).err == errors.NO_NODE


def test_no_digest_where_it_is_switched_off() -> None:
    core = Core(digest_enabled=False)
    client = core.connect(7)
    core.create(client, b"/a")
    core.create(client, b"/s", flags=2)
    core.write(client, codes.OP_CREATE_CONTAINER, create_body(b"/c", flags=4))
    assert core.last_txn().digest is None
    core.set(client, b"/a", b"x")
    assert core.last_txn().digest is None
    core.set_acl(client, b"/a", READ_ONLY)
    core.delete(client, b"/a")
    core.write(client, codes.OP_CLOSE_SESSION)
    assert core.last_txn().digest is None
    assert core.tree.digest == core.tree.staged_digest == 0


def test_super_user_needs_no_permission() -> None:
    core = Core(access=AccessConfig(super_digest="super:D/InIHSb7yEEbrWz8b9l71RjZJU="))
    client = core.connect(7)
    core.create(client, b"/a", acl=NOBODY)
    assert core.set(client, b"/a", b"").err == errors.NO_AUTH
    client.auth = core.access.authenticate("digest", b"super:test", "").ids
    assert core.set(client, b"/a", b"").err == errors.OK


# What is logged must be readable again


def test_txn_longer_than_its_request_may_be_too_long() -> None:
    """ZOOKEEPER-3496: one `auth` in the ACL stands for all the ids a client has."""
    ids = [Id("digest", f"u{n}:" + "h" * 100) for n in range(50)]
    limited = Core(max_payload_bytes=4000)
    someone = limited.connect(8)
    someone.auth = ids
    digest = limited.tree.staged_digest
    assert limited.create(someone, b"/a", acl=[ACL(31, Id("auth", ""))]).err == errors.MARSHALLING_ERROR
    assert limited.last_txn().txn == ErrorTxn(errors.MARSHALLING_ERROR)
    assert limited.tree.staged == {}
    assert limited.tree.digest == limited.tree.staged_digest == digest
    assert limited.create(someone, b"/a", b"x" * 3000).err == errors.OK


def test_end_of_a_session_with_very_many_ephemerals_can_be_read_back() -> None:
    """ZOOKEEPER-4306: the txn names as many as fit, and all of them go."""
    core = Core(max_payload_bytes=1000)
    client = core.connect(7)
    for n in range(100):
        core.create(client, b"/ephemeral-%04d" % n, flags=1)
    core.write(client, codes.OP_CLOSE_SESSION)
    assert len(core.log[-1]) <= 1000
    txn = core.last_txn().txn
    assert isinstance(txn, CloseSessionTxn)
    assert 30 < len(txn.paths_to_delete) < 100
    assert core.tree.ephemerals == {}
    follower = pristine()
    for payload in core.log:
        record = decode_txn(payload)
        apply(follower, record.header, record.txn, record.digest)
    assert set(follower.nodes) == {b"/", *SYSTEM}
    assert follower.digest_mismatches == 0


@pytest.mark.parametrize("op", [codes.OP_CREATE, codes.OP_DELETE, codes.OP_SET_DATA, codes.OP_SET_ACL])
def test_a_record_too_short_for_its_path_is_readable_to_nobody(op: int) -> None:
    # What a server answers itself and what it sends on must be the same as what the leader can prepare.
    for body in [*map(bytes, range(8)), b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"]:
        core = Core()
        request = Request(None, 0, 1, op, body, 0, len(body), [])
        core.preparer.prepare(request, 1, 0)
        assert is_readable(op, body, 0, len(body)) == bool(request.payload), body

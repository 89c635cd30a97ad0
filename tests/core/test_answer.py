"""Answers: the bytes of replies and events, the watches reads leave, what setWatches catches up on."""

from __future__ import annotations

import pytest

from coati import errors
from coati.core.acl import encode_acl
from coati.core.answer import error_reply, event_frame, sasl_off_reply, unimplemented_reply
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import ACL, GetACLResponse, Id, Stat, WhoAmIResponse
from tests.core.kit import (
    NOBODY,
    OPEN,
    READ_ONLY,
    Client,
    Core,
    Reply,
    create_body,
    jbuf,
    jint,
    jlong,
    jvec,
    multi_body,
    read_event,
)

WATCH = b"\1"
NO_WATCH = b"\0"
READS = (codes.OP_GET_DATA, codes.OP_EXISTS, codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2)


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def client(core: Core) -> Client:
    return core.connect(7)


# The four usual reads


def test_get_data_to_the_byte(core: Core, client: Client) -> None:
    core.create(client, b"/a", b"data")
    frame = core.read_frames(client, codes.OP_GET_DATA, jbuf(b"/a") + NO_WATCH)
    stat = core.stat(b"/a")
    assert len(frame) == 4 + 16 + 8 + 68
    assert frame[:20] == jint(92) + jint(core.xid) + jlong(2) + jint(0)
    r = Reader(frame, 20)
    assert (r.buffer(), Stat.read(r)) == (b"data", stat)


def test_get_data_of_null_and_of_nothing(core: Core, client: Client) -> None:
    core.create(client, b"/null", None)
    core.create(client, b"/empty", b"")
    assert core.read(client, codes.OP_GET_DATA, jbuf(b"/null") + NO_WATCH).r.buffer() is None
    assert core.read(client, codes.OP_GET_DATA, jbuf(b"/empty") + NO_WATCH).r.buffer() == b""


def test_exists_is_the_stat(core: Core, client: Client) -> None:
    core.create(client, b"/a", b"data")
    reply = core.read(client, codes.OP_EXISTS, jbuf(b"/a") + NO_WATCH)
    assert (reply.err, reply.stat(), reply.at_end()) == (0, core.stat(b"/a"), True)


def test_get_children(core: Core, client: Client) -> None:
    core.create(client, b"/p")
    for name in (b"/p/b", b"/p/a", b"/p/c"):
        core.create(client, name)
    for op in (codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2):
        reply = core.read(client, op, jbuf(b"/p") + NO_WATCH)
        assert reply.paths() == [b"b", b"a", b"c"], "in order of creation"
        if op == codes.OP_GET_CHILDREN2:
            assert reply.stat() == core.stat(b"/p")
        assert reply.at_end()
    core.delete(client, b"/p/a")
    core.create(client, b"/p/a")
    assert core.read(client, codes.OP_GET_CHILDREN, jbuf(b"/p") + NO_WATCH).paths() == [b"b", b"c", b"a"]
    assert core.read(client, codes.OP_GET_CHILDREN, jbuf(b"/p/a") + NO_WATCH).paths() == []
    assert core.read(client, codes.OP_GET_CHILDREN, jbuf(b"/") + NO_WATCH).paths() == [b"zookeeper", b"p"]


def test_reads_show_what_is_committed_only(core: Core, client: Client) -> None:
    core.create(client, b"/p", b"old")
    staged = core.prepare(client, codes.OP_SET_DATA, jbuf(b"/p") + jbuf(b"new") + jint(-1))
    child = core.prepare(client, codes.OP_CREATE, create_body(b"/p/c"))
    assert core.read(client, codes.OP_GET_DATA, jbuf(b"/p") + NO_WATCH).r.buffer() == b"old"
    reply = core.read(client, codes.OP_GET_CHILDREN2, jbuf(b"/p") + NO_WATCH)
    assert (reply.paths(), reply.stat().num_children) == ([], 0)
    core.deliver(staged)
    reply = core.read(client, codes.OP_GET_CHILDREN2, jbuf(b"/p") + NO_WATCH)
    assert (reply.paths(), reply.stat().num_children) == ([], 0)
    core.deliver(child)
    reply = core.read(client, codes.OP_GET_CHILDREN2, jbuf(b"/p") + NO_WATCH)
    assert (reply.paths(), reply.stat().num_children) == ([b"c"], 1)


def test_empty_path_is_the_root(core: Core, client: Client) -> None:
    """DataTree keeps the root under both names."""
    for op in READS:
        empty, root = (core.read(client, op, jbuf(path) + NO_WATCH).frame[8:] for path in (b"", b"/"))
        assert empty == root


@pytest.mark.parametrize("op", READS)
def test_read_errors(core: Core, client: Client, op: int) -> None:
    core.create(client, b"/locked", acl=NOBODY)
    assert core.read(client, op, jbuf(b"/none") + NO_WATCH).err == errors.NO_NODE
    reply = core.read(client, op, jbuf(b"/locked") + WATCH)
    assert (reply.err, reply.at_end(), reply.zxid) == (errors.NO_AUTH, True, core.zxid)
    assert core.watches.is_empty(), "no watch without permission"
    client.auth = [*client.auth, Id("digest", "nobody:x")]
    assert core.read(client, op, jbuf(b"/locked") + NO_WATCH).err == errors.OK


@pytest.mark.parametrize("op", READS)
def test_reads_cut_at_every_byte(core: Core, client: Client, op: int) -> None:
    whole = jbuf(b"/zookeeper") + WATCH
    for size in range(len(whole)):
        assert core.read(client, op, whole[:size]).err == errors.MARSHALLING_ERROR
    assert core.read(client, op, jint(-1) + WATCH).err == errors.MARSHALLING_ERROR
    assert core.read(client, op, jint((1 << 31) - 1) + whole).err == errors.MARSHALLING_ERROR
    assert core.watches.is_empty()
    assert core.read(client, op, whole + b"more").err == errors.OK


def test_nul_in_the_path_of_exists(core: Core, client: Client) -> None:
    assert core.read(client, codes.OP_EXISTS, jbuf(b"/a\0") + WATCH).err == errors.BAD_ARGUMENTS
    assert core.read(client, codes.OP_GET_DATA, jbuf(b"/a\0") + WATCH).err == errors.NO_NODE
    assert core.watches.is_empty()


# Watches that reads leave


@pytest.mark.parametrize(
    ("op", "leaves"),
    [(codes.OP_GET_DATA, 0), (codes.OP_EXISTS, 1), (codes.OP_GET_CHILDREN, 0), (codes.OP_GET_CHILDREN2, 0)],
)
def test_only_exists_watches_what_is_not_there(core: Core, client: Client, op: int, leaves: int) -> None:
    assert core.read(client, op, jbuf(b"/a") + WATCH).err == errors.NO_NODE
    assert core.watches.size() == leaves
    core.create(client, b"/a")
    assert client.take_events() == [(codes.EVENT_CREATED, b"/a", core.zxid)] * leaves


@pytest.mark.parametrize("op", READS)
def test_reads_watch_on_demand(core: Core, client: Client, op: int) -> None:
    core.create(client, b"/a")
    core.read(client, op, jbuf(b"/a") + NO_WATCH)
    assert core.watches.is_empty()
    core.read(client, op, jbuf(b"/a") + WATCH)
    core.set(client, b"/a", b"x")
    core.create(client, b"/a/b")
    is_data = op in (codes.OP_GET_DATA, codes.OP_EXISTS)
    expected = (codes.EVENT_DATA_CHANGED, b"/a", 3) if is_data else (codes.EVENT_CHILDREN_CHANGED, b"/a", 4)
    assert client.take_events() == [expected]
    assert core.watches.is_empty()


def test_events_of_a_delete_are_in_java_s_order(core: Core, client: Client) -> None:
    """E3: the znode's own before the parent's; both tables' watches make one event."""
    core.create(client, b"/p")
    core.create(client, b"/p/c")
    core.read(client, codes.OP_GET_DATA, jbuf(b"/p/c") + WATCH)
    core.read(client, codes.OP_GET_CHILDREN, jbuf(b"/p/c") + WATCH)
    core.read(client, codes.OP_GET_CHILDREN, jbuf(b"/p") + WATCH)
    core.delete(client, b"/p/c")
    assert client.take_events() == [
        (codes.EVENT_DELETED, b"/p/c", core.zxid),
        (codes.EVENT_CHILDREN_CHANGED, b"/p", core.zxid),
    ]


def test_events_of_a_multi_and_of_the_root(core: Core, client: Client) -> None:
    watcher = core.connect(8)
    core.read(watcher, codes.OP_EXISTS, jbuf(b"/a") + WATCH)
    core.read(watcher, codes.OP_GET_CHILDREN, jbuf(b"/") + WATCH)
    core.write(client, codes.OP_MULTI, multi_body((1, create_body(b"/a")), (1, create_body(b"/b"))))
    assert watcher.take_events() == [
        (codes.EVENT_CREATED, b"/a", core.zxid),
        (codes.EVENT_CHILDREN_CHANGED, b"/", core.zxid),
    ]


def test_no_events_of_what_failed(core: Core, client: Client) -> None:
    core.read(client, codes.OP_EXISTS, jbuf(b"/a") + WATCH)
    core.multi(client, (1, create_body(b"/a")), (codes.OP_CHECK, jbuf(b"/none") + jint(-1)))
    core.set_acl(client, b"/", OPEN)
    core.set(client, b"/none", b"")
    assert client.take_events() == []
    assert core.watches.size() == 1


def test_events_of_a_session_s_end(core: Core, client: Client) -> None:
    watcher = core.connect(8)
    core.create(client, b"/e", flags=1)
    core.read(watcher, codes.OP_EXISTS, jbuf(b"/e") + WATCH)
    core.close(7)
    assert watcher.take_events() == [(codes.EVENT_DELETED, b"/e", core.zxid)]


def test_event_needs_permission_to_read(core: Core, client: Client) -> None:
    """CVE-2024-23944: a recursive watch told everybody of everything below. For a deleted znode its last ACL counts."""
    bob = Id("digest", "bob:h")
    writer, stranger = core.connect(8), core.connect(9)
    writer.auth = [*writer.auth, bob]
    for client_ in (writer, stranger):
        core.read(client_, codes.OP_ADD_WATCH, jbuf(b"/") + jint(codes.WATCH_MODE_PERSISTENT_RECURSIVE))
    core.create(writer, b"/secret", acl=[ACL(31, bob)])
    core.set(writer, b"/secret", b"x")
    core.create(writer, b"/secret/below", acl=READ_ONLY)
    core.delete(writer, b"/secret/below")
    core.delete(writer, b"/secret")
    assert [event[:2] for event in writer.take_events()] == [
        (codes.EVENT_CREATED, b"/secret"),
        (codes.EVENT_DATA_CHANGED, b"/secret"),
        (codes.EVENT_CREATED, b"/secret/below"),
        (codes.EVENT_DELETED, b"/secret/below"),
        (codes.EVENT_DELETED, b"/secret"),
    ]
    assert [event[:2] for event in stranger.take_events()] == [
        (codes.EVENT_CREATED, b"/secret/below"),
        (codes.EVENT_DELETED, b"/secret/below"),
    ]


def test_filtered_event_uses_the_watch_up(core: Core, client: Client) -> None:
    """WatchManager takes the watcher out before the connection looks at the ACL."""
    stranger = core.connect(8)
    core.read(stranger, codes.OP_EXISTS, jbuf(b"/a") + WATCH)
    core.create(client, b"/a", acl=NOBODY)
    assert stranger.take_events() == []
    assert core.watches.is_empty()


def test_event_to_the_byte() -> None:
    frame = event_frame(codes.EVENT_DATA_CHANGED, b"/ab", 0x1_0000_0002)
    body = jint(-1) + jlong(0x1_0000_0002) + jint(0) + jint(3) + jint(3) + jbuf(b"/ab")
    assert frame == jint(len(body)) + body


# setWatches


def set_watches(core: Core, client: Client, zxid: int, *lists: list[bytes]) -> list[tuple[int, bytes, int]]:
    """The events that come before the reply, which must be the last frame and no error."""
    op = codes.OP_SET_WATCHES if len(lists) == 3 else codes.OP_SET_WATCHES2
    data = core.read_frames(client, op, jlong(zxid) + b"".join(map(jvec, lists)))
    events: list[tuple[int, bytes, int]] = []
    while True:
        end = 4 + Reader(data).int32()
        frame, data = data[:end], data[end:]
        if not data:
            assert (Reply(frame).err, Reply(frame).at_end()) == (errors.OK, True)
            return events
        events.append(read_event(frame))


def test_set_watches_catches_up(core: Core, client: Client) -> None:
    """E4, DataTree.setWatches; such events carry no zxid."""
    for path in (b"/old", b"/new", b"/p", b"/q"):
        core.create(client, path)
    seen = core.zxid
    core.set(client, b"/new", b"x")
    core.create(client, b"/p/c")
    events = set_watches(
        core, client, seen, [b"/old", b"/new", b"/none"], [b"/old", b"/missing"], [b"/p", b"/q", b"/none2"]
    )
    assert events == [
        (codes.EVENT_DATA_CHANGED, b"/new", -1),
        (codes.EVENT_DELETED, b"/none", -1),
        (codes.EVENT_CREATED, b"/old", -1),
        (codes.EVENT_CHILDREN_CHANGED, b"/p", -1),
        (codes.EVENT_DELETED, b"/none2", -1),
    ]
    assert {watcher.session_id: list(paths) for watcher, paths in core.watches.data.by_watcher.items()} == {
        7: [b"/old", b"/missing"]
    }
    assert list(core.watches.children.by_path) == [b"/q"]


def test_set_watches_of_a_delete_is_a_child_s_change(core: Core, client: Client) -> None:
    core.create(client, b"/p")
    core.create(client, b"/p/c")
    seen = core.zxid
    core.delete(client, b"/p/c")
    assert set_watches(core, client, seen, [], [], [b"/p"]) == [(codes.EVENT_CHILDREN_CHANGED, b"/p", -1)]


def test_set_watches2_only_re_arms_persistent_ones(core: Core, client: Client) -> None:
    core.create(client, b"/a")
    assert set_watches(core, client, 0, [], [], [], [b"/a"], [b"/b"]) == []
    assert core.watches.contains(b"/a", codes.WATCHER_PERSISTENT, client)
    assert core.watches.contains(b"/b", codes.WATCHER_PERSISTENT_RECURSIVE, client)


def test_set_watches_asks_nobody_for_permission(core: Core, client: Client) -> None:
    core.create(client, b"/locked", acl=NOBODY)
    assert set_watches(core, client, 0, [b"/locked"], [], []) == [(codes.EVENT_DATA_CHANGED, b"/locked", -1)]


def test_set_watches_with_many_paths(core: Core, client: Client) -> None:
    paths = [b"/n%06d" % n for n in range(10_000)]
    assert len(set_watches(core, client, 0, paths, paths, [])) == 10_000
    assert core.watches.size() == 10_000


@pytest.mark.parametrize("op", [codes.OP_SET_WATCHES, codes.OP_SET_WATCHES2])
def test_set_watches_cut_at_every_byte(core: Core, client: Client, op: int) -> None:
    whole = jlong(0) + jvec([b"/"]) * (3 if op == codes.OP_SET_WATCHES else 5)
    for size in range(len(whole)):
        assert core.read(client, op, whole[:size]).err == errors.MARSHALLING_ERROR
    assert core.watches.is_empty()


# addWatch, checkWatches, removeWatches


def test_add_watch(core: Core, client: Client) -> None:
    reply = core.read(client, codes.OP_ADD_WATCH, jbuf(b"/a") + jint(0))
    assert (reply.err, reply.r.int32(), reply.at_end()) == (0, 0, True)
    core.read(client, codes.OP_ADD_WATCH, jbuf(b"/a") + jint(1))
    core.create(client, b"/a")
    core.create(client, b"/a/b")
    assert [event[:2] for event in client.take_events()] == [
        (codes.EVENT_CREATED, b"/a"),
        (codes.EVENT_CREATED, b"/a/b"),
        (codes.EVENT_CHILDREN_CHANGED, b"/a"),
    ]


@pytest.mark.parametrize("mode", [-1, 2])
def test_add_watch_of_an_unknown_mode(core: Core, client: Client, mode: int) -> None:
    assert core.read(client, codes.OP_ADD_WATCH, jbuf(b"/a") + jint(mode)).err == errors.MARSHALLING_ERROR


def test_check_and_remove_watches(core: Core, client: Client) -> None:
    body = jbuf(b"/") + jint(codes.WATCHER_DATA)
    assert core.read(client, codes.OP_CHECK_WATCHES, body).err == errors.NO_WATCHER
    assert core.read(client, codes.OP_REMOVE_WATCHES, body).err == errors.NO_WATCHER
    core.read(client, codes.OP_GET_DATA, jbuf(b"/") + WATCH)
    reply = core.read(client, codes.OP_CHECK_WATCHES, body)
    assert (reply.err, reply.at_end()) == (errors.OK, True)
    assert core.read(client, codes.OP_REMOVE_WATCHES, body).err == errors.OK
    assert core.watches.is_empty()


@pytest.mark.parametrize("op", [codes.OP_CHECK_WATCHES, codes.OP_REMOVE_WATCHES])
@pytest.mark.parametrize("watcher_type", [0, 6, -1])
def test_unknown_watcher_type(core: Core, client: Client, op: int, watcher_type: int) -> None:
    assert core.read(client, op, jbuf(b"/") + jint(watcher_type)).err == errors.MARSHALLING_ERROR


# getACL


def test_get_acl(core: Core, client: Client) -> None:
    acl = [ACL(16, Id("world", "anyone")), ACL(31, Id("digest", "bob:hash"))]
    core.create(client, b"/a", acl=acl)
    reply = core.read(client, codes.OP_GET_ACL, jbuf(b"/a"))
    assert GetACLResponse.read(reply.r) == GetACLResponse(acl, core.stat(b"/a"))
    assert reply.at_end()


def test_get_acl_masks_digests_without_admin(core: Core, client: Client) -> None:
    acl = [ACL(1, Id("world", "anyone")), ACL(31, Id("digest", "bob:hash"))]
    core.create(client, b"/a", acl=acl)
    reply = core.read(client, codes.OP_GET_ACL, jbuf(b"/a"))
    assert reply.frame[20:-68] == encode_acl([acl[0], ACL(31, Id("digest", "bob:x"))])


def test_get_acl_errors(core: Core, client: Client) -> None:
    core.create(client, b"/locked", acl=NOBODY)
    assert core.read(client, codes.OP_GET_ACL, jbuf(b"/locked")).err == errors.NO_AUTH
    assert core.read(client, codes.OP_GET_ACL, jbuf(b"/none")).err == errors.NO_NODE
    assert core.read(client, codes.OP_GET_ACL, b"").err == errors.MARSHALLING_ERROR


# The others


def test_ping(core: Core, client: Client) -> None:
    reply = core.read(client, codes.OP_PING)
    assert (reply.xid, reply.zxid, reply.err, reply.at_end()) == (codes.XID_PING, core.zxid, 0, True)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (b"/a", b"/a"),
        (b"", b""),
        (b"/\xc3\xbc", b"/\xc3\xbc"),
        (b"/\xff", b"/\xef\xbf\xbd"),
        # BinaryOutputArchive encodes each half of a surrogate pair alone.
        (b"/\xf0\x9f\x98\x80", b"/\xed\xa0\xbd\xed\xb8\x80"),
    ],
)
def test_sync_returns_the_path_as_java_reads_it(core: Core, client: Client, path: bytes, answer: bytes) -> None:
    reply = core.read(client, codes.OP_SYNC, jbuf(path))
    assert (reply.r.path(), reply.at_end()) == (answer, True)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (None, [b"/e1", b"/p/e2", b"/e3"]),
        (b"", [b"/e1", b"/p/e2", b"/e3"]),
        (b"  \t", [b"/e1", b"/p/e2", b"/e3"]),
        (b" / ", [b"/e1", b"/p/e2", b"/e3"]),
        (b"/e", [b"/e1", b"/e3"]),
        (b"/p", [b"/p/e2"]),
        (b" /e", []),
        (b"/none", []),
    ],
)
def test_get_ephemerals(core: Core, client: Client, prefix: bytes | None, expected: list[bytes]) -> None:
    core.create(client, b"/p")
    for path in (b"/e1", b"/p/e2", b"/e3"):
        core.create(client, path, flags=1)
    core.create(core.connect(8), b"/e4", flags=1)
    reply = core.read(client, codes.OP_GET_EPHEMERALS, jbuf(prefix))
    assert (reply.paths(), reply.at_end()) == (expected, True)


def test_get_ephemerals_of_none(core: Core, client: Client) -> None:
    assert core.read(client, codes.OP_GET_EPHEMERALS, jbuf(b"/")).paths() == []


def test_get_all_children_number(core: Core, client: Client) -> None:
    for path in (b"/a", b"/a/b", b"/a/b/c", b"/a/d", b"/ab"):
        core.create(client, path)
    core.create(client, b"/locked", acl=NOBODY)
    for path, number in ((b"/a", 3), (b"/a/d", 0), (b"/", 9), (b"", 10), (b"/zookeeper", 2)):
        reply = core.read(client, codes.OP_GET_ALL_CHILDREN_NUMBER, jbuf(path))
        assert (reply.r.int32(), reply.at_end()) == (number, True)
    assert core.read(client, codes.OP_GET_ALL_CHILDREN_NUMBER, jbuf(b"/none")).err == errors.NO_NODE
    assert core.read(client, codes.OP_GET_ALL_CHILDREN_NUMBER, jbuf(b"/locked")).err == errors.NO_AUTH


def test_who_am_i(core: Core, client: Client) -> None:
    client.auth = [*client.auth, Id("digest", "bob:hash")]
    reply = core.read(client, codes.OP_WHO_AM_I)
    infos = WhoAmIResponse.read(reply.r).client_info
    assert infos is not None
    assert [(info.auth_scheme, info.user) for info in infos] == [("ip", "127.0.0.1"), ("digest", "bob")]
    assert reply.at_end()


@pytest.mark.parametrize("op", [0, 10, codes.OP_CHECK, codes.OP_DELETE_CONTAINER, codes.OP_CREATE_SESSION, -1, 9999])
def test_unknown_operations(core: Core, client: Client, op: int) -> None:
    """ZOOKEEPER-1495: an answer, not silence. The zxid is the one the request never got."""
    reply = core.read(client, op, jbuf(b"/") + jint(-1))
    assert (reply.xid, reply.zxid, reply.err, reply.at_end()) == (core.xid, -1, errors.UNIMPLEMENTED, True)


def test_plain_replies_to_the_byte() -> None:
    assert error_reply(5, 9, -101).hex() == "00000010" + "00000005" + "0000000000000009" + "ffffff9b"
    assert unimplemented_reply(5).hex() == "00000010" + "00000005" + "ffffffffffffffff" + "fffffffa"
    assert sasl_off_reply(5).hex() == "00000014" + "00000005" + "0000000000000000" + "00000000" + "ffffffff"


def test_null_paths_where_java_does_not_mind(core: Core, client: Client) -> None:
    """Java 3.9.3: sync echoes the null, a watch on it is taken and never fires, and none is found to remove."""
    null = jint(-1)
    assert core.read(client, codes.OP_SYNC, null).r.buffer() is None
    assert core.read(client, codes.OP_ADD_WATCH, null + jint(codes.WATCH_MODE_PERSISTENT)).err == errors.OK
    assert core.watches.is_empty()
    for op in (codes.OP_CHECK_WATCHES, codes.OP_REMOVE_WATCHES):
        assert core.read(client, op, null + jint(codes.WATCHER_ANY)).err == errors.NO_WATCHER

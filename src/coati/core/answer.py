"""Answering: reads, delivered writes and events as whole frames, length in front.

Knows the layout of replies and which watches a read leaves. Must not know sockets or what is in flight: reads see what
is committed. The zxid in a reply's header is that of the last txn committed when it is made; in an event's it is the
one that caused it (ZOOKEEPER-4655), or -1 when setWatches caught up on it.
Sources: FinalRequestProcessor, ServerCnxn, DataTree (setWatches, getChildren), MultiResponse, WatcherEvent.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from coati import errors
from coati.core.acl import Access, encode_acl, mask_digests
from coati.core.change import Change, Trigger
from coati.core.multi import are_reads, read_multi
from coati.core.tree import ROOT, Tree
from coati.core.watches import Watcher, Watches
from coati.core.znode import STAT_BYTES, Znode
from coati.errors import BadArguments, KeeperError, MarshallingError, NoAuth, NoNode, NoWatcher
from coati.wire import codes
from coati.wire.jute import NULL_LENGTH, Reader, Writer, decode_text
from coati.wire.records import SetWatches, SetWatches2, WhoAmIResponse

# length, then ReplyHeader: xid, zxid, err.
pack_reply: Final = Struct(">iiqi").pack
# The same and the length of a string behind it.
_pack_reply_string: Final = Struct(">iiqii").pack
# length, xid, zxid, err, then WatcherEvent: type, state, and the length of the path.
_pack_event: Final = Struct(">iiqiiii").pack
# MultiHeader: type, done, err.
_pack_multi_header: Final = Struct(">i?i").pack
_pack_int: Final = Struct(">i").pack
_unpack_int: Final = Struct(">i").unpack_from

HEADER_BYTES: Final = 16
# What a client may have in one reply to a multiRead.
MAX_MULTI_READ_BYTES: Final = 32 << 20
_END_OF_MULTI: Final = _pack_multi_header(-1, True, -1)
NO_ZXID: Final = -1
# What String.trim takes off: everything up to the space.
_BLANK: Final = re.compile(rb"[\x00-\x20]*")


def error_reply(xid: int, zxid: int, err: int) -> bytes:
    """A reply of a header only."""
    return pack_reply(HEADER_BYTES, xid, zxid, err)


def unimplemented_reply(xid: int) -> bytes:
    """For opcodes a client may not send. It never had a zxid, and the connection is closed behind it.

    Source: UnimplementedRequestProcessor.
    """
    return pack_reply(HEADER_BYTES, xid, NO_ZXID, errors.UNIMPLEMENTED)


def sasl_off_reply(xid: int) -> bytes:
    """To a SASL token where nothing is configured for it: fine, and a null token (ZooKeeperServer.processSasl)."""
    return pack_reply(HEADER_BYTES + 4, xid, 0, errors.OK) + NULL_LENGTH


def event_frame(event_type: int, path: bytes, zxid: int) -> bytes:
    """An event as its watcher gets it."""
    size = len(path)
    head = _pack_event(
        HEADER_BYTES + 12 + size, codes.XID_NOTIFICATION, zxid, 0, event_type, codes.STATE_SYNC_CONNECTED, size
    )
    return head + path


def notifications(watches: Watches, access: Access, triggers: list[Trigger], zxid: int) -> list[tuple[Watcher, bytes]]:
    """Who gets which frame for the events of a txn, in order. Who may not READ the znode is not told."""
    told: list[tuple[Watcher, bytes]] = []
    for trigger in triggers:
        watchers = watches.trigger(trigger.event_type, trigger.path)
        if not watchers:
            continue
        frame = event_frame(trigger.event_type, trigger.path, zxid)
        for watcher in watchers:
            if trigger.acl.is_open or access.allows(trigger.acl, codes.PERM_READ, watcher.auth):
                told.append((watcher, frame))
    return told


def write_reply(op: int, xid: int, change: Change) -> bytes:
    """The reply to a delivered write; `op` is the request's.

    Not for a change whose `err` is SESSION_MOVED: there the connection is closed without a word (ZOOKEEPER-710).
    """
    zxid = change.zxid
    if op == codes.OP_MULTI and change.op == codes.OP_MULTI:
        body = _multi_results(change.subs or [])
        return pack_reply(HEADER_BYTES + len(body), xid, zxid, errors.OK) + body
    node = change.node
    err = change.err
    if err != errors.OK or node is None:
        return pack_reply(HEADER_BYTES, xid, zxid, err)
    if op == codes.OP_SET_DATA or op == codes.OP_SET_ACL:
        return pack_reply(HEADER_BYTES + STAT_BYTES, xid, zxid, errors.OK) + node.body[-STAT_BYTES:]
    if op == codes.OP_RECONFIG:
        # As a getData is answered.
        return pack_reply(HEADER_BYTES + len(node.body), xid, zxid, errors.OK) + node.body
    path = change.path
    size = len(path)
    if op == codes.OP_CREATE:
        return _pack_reply_string(HEADER_BYTES + 4 + size, xid, zxid, errors.OK, size) + path
    if not node.body:
        return pack_reply(HEADER_BYTES, xid, zxid, errors.OK)
    head = _pack_reply_string(HEADER_BYTES + 4 + size + STAT_BYTES, xid, zxid, errors.OK, size)
    return head + path + node.body[-STAT_BYTES:]


def _multi_results(subs: list[Change]) -> bytes:
    w = Writer()
    for sub in subs:
        op = sub.op
        node = sub.node
        if op == codes.OP_ERROR or sub.err != errors.OK:
            w.raw(_pack_multi_header(codes.OP_ERROR, False, sub.err))
            w.int32(sub.err)
        elif op == codes.OP_CHECK or node is None:
            w.raw(_pack_multi_header(op, False, errors.OK))
        elif not node.body:
            w.raw(_pack_multi_header(codes.OP_DELETE, False, errors.OK))
        elif op == codes.OP_SET_DATA:
            w.raw(_pack_multi_header(op, False, errors.OK))
            w.raw(node.stat())
        elif op == codes.OP_CREATE:
            w.raw(_pack_multi_header(op, False, errors.OK))
            w.path(sub.path)
        else:
            # Containers and TTLs answer as create2 (OpResult.CreateResult).
            w.raw(_pack_multi_header(codes.OP_CREATE2, False, errors.OK))
            w.path(sub.path)
            w.raw(node.stat())
    w.raw(_END_OF_MULTI)
    return w.getvalue()


def children_vector(path: bytes, node: Znode) -> bytes:
    """The names of the children as a jute vector, kept until the set changes."""
    children = node.children
    if children is None:
        return _NO_CHILDREN
    wire = children.wire
    if wire is None:
        wire = _string_vector(list(children.paths), len(path) + (path != ROOT))
        children.wire = wire
    return wire


def _string_vector(paths: list[bytes], cut: int) -> bytes:
    """The paths without their first bytes as a jute vector. Grows in place: a million pieces take longer to join."""
    vector = bytearray(_pack_int(len(paths)))
    size = 0
    head = _pack_int(0)
    for path in paths:
        if len(path) - cut != size:
            size = len(path) - cut
            head = _pack_int(size)
        vector += head
        vector += path[cut:]
    return bytes(vector)


_NO_CHILDREN: Final = _pack_int(0)


class Answers:
    """Answers reads out of a tree, and sets the watches they ask for."""

    __slots__ = ("_access", "_nodes", "_tree", "_watches")

    def __init__(self, tree: Tree, watches: Watches, access: Access) -> None:
        self._tree = tree
        self._nodes = tree.nodes
        self._watches = watches
        self._access = access

    def answer(self, conn: Watcher, xid: int, op: int, data: bytes, pos: int, end: int) -> bytes:
        """The frames for a request that is no write; its record is `data[pos:end]`.

        One frame, except that the events setWatches catches up on come before its reply.
        """
        try:
            if op == codes.OP_GET_DATA:
                return self._get_data(conn, xid, data, pos, end)
            if op == codes.OP_EXISTS:
                return self._exists(conn, xid, data, pos, end)
            if op == codes.OP_GET_CHILDREN or op == codes.OP_GET_CHILDREN2:
                return self._get_children(conn, xid, op, data, pos, end)
            if op == codes.OP_PING:
                return pack_reply(HEADER_BYTES, codes.XID_PING, self._tree.last_zxid, errors.OK)
            return self._answer_rare(conn, xid, op, Reader(data, pos, end))
        except KeeperError as error:
            return pack_reply(HEADER_BYTES, xid, self._tree.last_zxid, error.code)
        except MarshallingError:
            return pack_reply(HEADER_BYTES, xid, self._tree.last_zxid, errors.MARSHALLING_ERROR)

    def _answer_rare(self, conn: Watcher, xid: int, op: int, r: Reader) -> bytes:
        if op == codes.OP_SYNC:
            body = self._sync(r)
        elif op == codes.OP_GET_ACL:
            body = self._get_acl(conn, r)
        elif op == codes.OP_MULTI_READ:
            return self._multi_read(conn, xid, r)
        elif op == codes.OP_ADD_WATCH:
            body = self._add_watch(conn, r)
        elif op == codes.OP_CHECK_WATCHES or op == codes.OP_REMOVE_WATCHES:
            body = self._check_or_remove(conn, op, r)
        elif op == codes.OP_SET_WATCHES or op == codes.OP_SET_WATCHES2:
            return self._set_watches(conn, xid, op, r)
        elif op == codes.OP_GET_EPHEMERALS:
            body = self._get_ephemerals(conn, r)
        elif op == codes.OP_GET_ALL_CHILDREN_NUMBER:
            body = self._get_all_children_number(conn, r)
        elif op == codes.OP_WHO_AM_I:
            body = self._who_am_i(conn)
        else:
            return unimplemented_reply(xid)
        return pack_reply(HEADER_BYTES + len(body), xid, self._tree.last_zxid, errors.OK) + body

    # getData, exists, getChildren: a path and a flag

    def _readable(self, conn: Watcher, path: bytes, perms: int) -> Znode:
        """The znode, if it is there and the client has one of the permissions."""
        node = self._nodes.get(path)
        if node is None:
            # The empty path is Java's other name for the root.
            if path:
                raise NoNode(path)
            node = self._nodes[ROOT]
        acl = node.acl
        if not acl.is_open and not self._access.allows(acl, perms, conn.auth):
            raise NoAuth(path)
        return node

    def _get_data(self, conn: Watcher, xid: int, data: bytes, pos: int, end: int) -> bytes:
        path_end = _path_end(data, pos, end)
        path = data[pos + 4 : path_end]
        node = self._nodes.get(path)
        if node is None or not node.acl.is_open:
            node = self._readable(conn, path, codes.PERM_READ)
        if data[path_end]:
            self._watches.add_data(path, conn)
        body = node.body
        return pack_reply(HEADER_BYTES + len(body), xid, self._tree.last_zxid, 0) + body

    def _exists(self, conn: Watcher, xid: int, data: bytes, pos: int, end: int) -> bytes:
        path_end = _path_end(data, pos, end)
        path = data[pos + 4 : path_end]
        node = self._nodes.get(path)
        if node is None:
            if b"\0" in path:
                raise BadArguments(path)
            if data[path_end]:
                # The one read that leaves a watch where there is nothing.
                self._watches.add_data(path, conn)
            node = self._readable(conn, path, codes.PERM_READ)
        else:
            if not node.acl.is_open:
                self._readable(conn, path, codes.PERM_READ)
            if data[path_end]:
                self._watches.add_data(path, conn)
        return pack_reply(HEADER_BYTES + STAT_BYTES, xid, self._tree.last_zxid, 0) + node.body[-STAT_BYTES:]

    def _get_children(self, conn: Watcher, xid: int, op: int, data: bytes, pos: int, end: int) -> bytes:
        path_end = _path_end(data, pos, end)
        path = data[pos + 4 : path_end]
        node = self._readable(conn, path, codes.PERM_READ)
        if data[path_end]:
            self._watches.add_children(path, conn)
        body = children_vector(path or ROOT, node)
        if op == codes.OP_GET_CHILDREN2:
            body += node.body[-STAT_BYTES:]
        return pack_reply(HEADER_BYTES + len(body), xid, self._tree.last_zxid, 0) + body

    # The rest

    def _sync(self, r: Reader) -> bytes:
        path = r.buffer()
        if path is None:
            return NULL_LENGTH
        path = _as_java(path)
        return _pack_int(len(path)) + path

    def _get_acl(self, conn: Watcher, r: Reader) -> bytes:
        path = r.path()
        node = self._readable(conn, path, codes.PERM_READ | codes.PERM_ADMIN)
        acl = node.acl
        if self._access.allows(acl, codes.PERM_ADMIN, conn.auth):
            return acl.wire + node.stat()
        return encode_acl(mask_digests(acl.entries)) + node.stat()

    def _multi_read(self, conn: Watcher, xid: int, r: Reader) -> bytes:
        ops = read_multi(r)
        err = errors.OK
        w = Writer()
        if ops and not are_reads(ops):
            # Java finds out when it has begun the response, and sends what there is of it.
            err = errors.MARSHALLING_ERROR
            ops = []
        size = 0
        for op in ops:
            if not op.has_path:
                # As above: Java stumbles here, and what it has is sent.
                err = errors.MARSHALLING_ERROR
                break
            if size > MAX_MULTI_READ_BYTES:
                # Twenty bytes of request may ask for a megabyte, and a request holds fifty thousand times that.
                err = errors.MARSHALLING_ERROR
                w = Writer()
                break
            try:
                node = self._readable(conn, op.path, codes.PERM_READ)
            except KeeperError as error:
                w.raw(_pack_multi_header(codes.OP_ERROR, False, error.code))
                w.int32(error.code)
                continue
            w.raw(_pack_multi_header(op.op, False, errors.OK))
            part = node.body if op.op == codes.OP_GET_DATA else children_vector(op.path or ROOT, node)
            size += len(part)
            w.raw(part)
        w.raw(_END_OF_MULTI)
        body = w.getvalue()
        return pack_reply(HEADER_BYTES + len(body), xid, self._tree.last_zxid, err) + body

    def _add_watch(self, conn: Watcher, r: Reader) -> bytes:
        path = r.buffer()
        mode = r.int32()
        if mode != codes.WATCH_MODE_PERSISTENT and mode != codes.WATCH_MODE_PERSISTENT_RECURSIVE:
            raise MarshallingError(f"watch mode {mode}")
        if path is not None:
            # Java takes a watch on a null path, too; nothing ever happens there.
            self._watches.add_persistent(path, conn, recursive=mode == codes.WATCH_MODE_PERSISTENT_RECURSIVE)
        # An ErrorResponse that says there was none.
        return _pack_int(errors.OK)

    def _check_or_remove(self, conn: Watcher, op: int, r: Reader) -> bytes:
        path = r.buffer()
        watcher_type = r.int32()
        if watcher_type < codes.WATCHER_CHILDREN or watcher_type > codes.WATCHER_PERSISTENT_RECURSIVE:
            raise MarshallingError(f"watcher type {watcher_type}")
        if path is None:
            raise NoWatcher
        if op == codes.OP_CHECK_WATCHES:
            found = self._watches.contains(path, watcher_type, conn)
        else:
            found = self._watches.remove(path, watcher_type, conn)
        if not found:
            raise NoWatcher(path)
        return b""

    def _set_watches(self, conn: Watcher, xid: int, op: int, r: Reader) -> bytes:
        """Sets a reconnected client's watches again, or tells at once what they have missed (DataTree.setWatches).

        Nothing is checked against ACLs here, as in Java. Persistent watches are only set: what they missed is lost.
        """
        watches = self._watches
        frames: list[bytes] = []
        if op == codes.OP_SET_WATCHES:
            old = SetWatches.read(r)
            self._catch_up(conn, frames, old.relative_zxid, old.data_watches, old.exist_watches, old.child_watches)
        else:
            new = SetWatches2.read(r)
            self._catch_up(conn, frames, new.relative_zxid, new.data_watches, new.exist_watches, new.child_watches)
            for path in new.persistent_watches:
                watches.add_persistent(path, conn, recursive=False)
            for path in new.persistent_recursive_watches:
                watches.add_persistent(path, conn, recursive=True)
        frames.append(pack_reply(HEADER_BYTES, xid, self._tree.last_zxid, errors.OK))
        return b"".join(frames)

    def _catch_up(
        self,
        conn: Watcher,
        frames: list[bytes],
        zxid: int,
        data_paths: list[bytes],
        exist_paths: list[bytes],
        child_paths: list[bytes],
    ) -> None:
        nodes = self._nodes
        for path in data_paths:
            # The empty path is Java's other name for the root.
            node = nodes.get(path or ROOT)
            if node is None:
                frames.append(event_frame(codes.EVENT_DELETED, _as_java(path), NO_ZXID))
            elif node.mzxid() > zxid:
                frames.append(event_frame(codes.EVENT_DATA_CHANGED, path, NO_ZXID))
            else:
                self._watches.add_data(path, conn)
        for path in exist_paths:
            if (path or ROOT) in nodes:
                frames.append(event_frame(codes.EVENT_CREATED, path, NO_ZXID))
            else:
                self._watches.add_data(path, conn)
        for path in child_paths:
            node = nodes.get(path or ROOT)
            if node is None:
                frames.append(event_frame(codes.EVENT_DELETED, _as_java(path), NO_ZXID))
            elif node.pzxid() > zxid:
                frames.append(event_frame(codes.EVENT_CHILDREN_CHANGED, path, NO_ZXID))
            else:
                self._watches.add_children(path, conn)

    def _get_ephemerals(self, conn: Watcher, r: Reader) -> bytes:
        prefix = r.buffer()
        mine = self._tree.ephemerals.get(conn.session_id, _NO_PATHS)
        paths = list(mine)
        if prefix is not None and _BLANK.fullmatch(prefix) is None and _trim(prefix) != ROOT:
            paths = [path for path in paths if path.startswith(prefix)]
        return _string_vector(paths, 0)

    def _get_all_children_number(self, conn: Watcher, r: Reader) -> bytes:
        path = r.path()
        self._readable(conn, path, codes.PERM_READ)
        # By its empty name the root counts itself.
        return _pack_int(self._tree.descendants(path) if path else len(self._nodes))

    def _who_am_i(self, conn: Watcher) -> bytes:
        w = Writer()
        WhoAmIResponse(self._access.client_infos(conn.auth)).write(w)
        return w.getvalue()


_NO_PATHS: Final[dict[bytes, None]] = {}


def _as_java(path: bytes) -> bytes:
    """A path that comes back as it came in, the way Java decodes and encodes it.

    Bytes that are no UTF-8 become U+FFFD, and a character beyond the BMP becomes two surrogates of three bytes each
    (BinaryOutputArchive.stringToByteBuffer). No znode has such a path.
    """
    if path.isascii():
        return path
    units = decode_text(path).encode("utf-16-be")
    text = "".join(chr(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2))
    return text.encode("utf-8", "surrogatepass")


def _trim(text: bytes) -> bytes:
    return text.strip(bytes(range(0x21)))


def _path_end(data: bytes, pos: int, end: int) -> int:
    """Where the path at `pos` ends, which is where the flag behind it stands. Raises MarshallingError."""
    if end - pos < 5:
        raise MarshallingError("a path and a flag do not fit")
    size: int = _unpack_int(data, pos)[0]
    path_end = pos + 4 + size
    if size < 0 or path_end >= end:
        raise MarshallingError(f"a path of {size} bytes in {end - pos}")
    return path_end

"""The tree: all znodes by path, the changes in flight on top of it, and its digest.

A txn is staged (`stage_*`: new versions of znodes on top of those already staged), then, in the order of staging,
committed or, newest first, discarded. `nodes` shows what is committed, `find` what is staged. Leader, follower and
recovery share this one meaning of every change; `replay.py` adds what only a txn of somebody else's needs.

Knows znodes, ACLs, quotas, ephemerals. Must not know requests, sessions' clocks, watches or bytes of the log.
Invariants: `staged` maps a path to its newest version in flight and is empty when nothing is; a parent stands in
`nodes` before its children; `digest` is the sum of all shares modulo 2**64, `staged_digest` that of the staged tree.
Sources: DataTree, NodeHashMapImpl, PrepRequestProcessor (ChangeRecord), ZooKeeperServer.processTxn.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from coati import errors
from coati.core.acl import READ_ACL, AclCache, AclList
from coati.core.change import Change, Trigger
from coati.core.quota import QUOTA_ROOT, Quotas
from coati.core.znode import (
    BODY_OVERHEAD,
    INT_MAX,
    INT_MIN,
    KIND_CONTAINER,
    KIND_EPHEMERAL,
    MASK64,
    STAT_BYTES,
    SYSTEM_SUBTREE,
    Children,
    OwnerKinds,
    Znode,
    digest_of,
    encode_buffer,
    pack_block,
    pack_stat,
    tombstone,
    unpack_stat,
    with_buffer_only,
    wrap32,
)
from coati.wire import codes
from coati.wire.paths import parent_of

ROOT: Final = b"/"
SYSTEM: Final = b"/zookeeper"
CONFIG: Final = b"/zookeeper/config"
# DataTree.isSpecialPath: they cannot be deleted.
SPECIAL_PATHS: Final = (ROOT, SYSTEM, QUOTA_ROOT, CONFIG)

# DataTree.DIGEST_LOG_INTERVAL and DIGEST_LOG_LIMIT: the history that the four-letter word `hash` shows.
_DIGEST_LOG_MASK: Final = 127
_DIGEST_LOG_LIMIT: Final = 1024


class TreeConfig:
    """Switches that change what a txn means."""

    __slots__ = ("digest_enabled", "emulate_353_ttl", "extended_types")

    def __init__(
        self, *, digest_enabled: bool = True, extended_types: bool = False, emulate_353_ttl: bool = False
    ) -> None:
        self.digest_enabled = digest_enabled
        self.extended_types = extended_types
        self.emulate_353_ttl = emulate_353_ttl


class Tree:
    """The znodes of one server."""

    __slots__ = (
        "_staged_ephemerals",
        "acls",
        "config",
        "containers",
        "data_bytes",
        "digest",
        "digest_enabled",
        "digest_log",
        "digest_mismatches",
        "digest_target",
        "ephemerals",
        "kinds",
        "last_zxid",
        "nodes",
        "quotas",
        "staged",
        "staged_digest",
        "ttls",
    )

    def __init__(self, config: TreeConfig | None = None, acls: AclCache | None = None) -> None:
        """A tree without any znode; `pristine` and `load.Loader` fill it."""
        self.config = config or TreeConfig()
        self.digest_enabled = self.config.digest_enabled
        self.kinds = OwnerKinds(self.config.extended_types, self.config.emulate_353_ttl)
        self.acls = acls or AclCache()
        self.nodes: dict[bytes, Znode] = {}
        self.ephemerals: dict[int, dict[bytes, None]] = {}
        self.containers: dict[bytes, None] = {}
        self.ttls: dict[bytes, None] = {}
        self.quotas = Quotas(self.nodes)
        self.last_zxid = 0
        self.data_bytes = 0
        self.digest = 0
        self.digest_log: list[tuple[int, int]] = []
        self.digest_mismatches = 0
        # The zxid and digest of a snapshot that may be newer than its name; nothing is compared before that zxid.
        self.digest_target: tuple[int, int] | None = None
        self.staged: dict[bytes, Znode] = {}
        self.staged_digest = 0
        # Which paths a session has ephemerals staged at, and how often.
        self._staged_ephemerals: dict[int, dict[bytes, int]] = {}

    # Reading

    def find(self, path: bytes) -> Znode | None:
        """The znode as it will be when all that is staged has been committed."""
        node = self.staged.get(path)
        if node is None:
            return self.nodes.get(path)
        return node if node.body else None

    def node_count(self) -> int:
        """`zk_znode_count`; Java counts the root under both of its names."""
        return len(self.nodes) + 1

    def ephemerals_count(self) -> int:
        """`zk_ephemerals_count`."""
        return sum(map(len, self.ephemerals.values()))

    def session_paths(self, session_id: int) -> list[bytes]:
        """The ephemerals of a session in the staged tree: what its closeSession deletes."""
        staged = self.staged
        paths: list[bytes] = []
        committed = self.ephemerals.get(session_id, _NO_PATHS)
        for path in committed:
            node = staged.get(path)
            if node is None or (node.body and node.owner == session_id):
                paths.append(path)
        for path in self._staged_ephemerals.get(session_id, _NO_COUNTS):
            node = staged.get(path)
            if node is not None and node.body and node.owner == session_id and path not in committed:
                paths.append(path)
        return paths

    def descendants(self, path: bytes) -> int:
        """How many znodes are below `path`, which exists (DataTree.getAllChildrenNumber)."""
        if path == ROOT:
            return len(self.nodes) - 1
        return _count_below(self.nodes, path)

    # Staging: one method a kind of change

    def stage_set_data(self, zxid: int, time_ms: int, path: bytes, node: Znode, buffer: bytes, version: int) -> Change:
        """New data (as a jute buffer) and data version for `node`, the staged one at `path`."""
        czxid, _, ctime, _, _, cversion, aversion, owner, _, child_count, pzxid = unpack_stat(node.body, -STAT_BYTES)
        stat = pack_stat(
            czxid, zxid, ctime, time_ms, version, cversion, aversion, owner, len(buffer) - 4, child_count, pzxid
        )
        before = self.staged_digest
        digest = 0
        after = before
        if self.digest_enabled:
            if not path.startswith(SYSTEM_SUBTREE):
                block = pack_block(czxid, zxid, pzxid, ctime, time_ms, version, node.cversion, aversion, node.owner)
                digest = crc32(block, crc32(buffer[4:], crc32(path if path != ROOT else b"")))
            after = (before - (node.digest if node.digest >= 0 else digest_of(path, node)) + digest) & MASK64
            self.staged_digest = after
        new = Znode(buffer + stat, node.acl, node.cversion, node.owner, node.children, digest)
        self.staged[path] = new
        return Change(codes.OP_SET_DATA, zxid, path, new, node, before, after)

    def stage_create(
        self,
        op: int,
        zxid: int,
        time_ms: int,
        path: bytes,
        buffer: bytes,
        acl: AclList,
        owner: int,
        parent_cversion: int,
        parent_path: bytes,
        parent: Znode,
        old: Znode | None,
    ) -> Change:
        """A new znode under `parent`, the staged one; `old` is the tombstone in flight at `path`, if any."""
        shown = self._stage_owner(path, owner) if owner else 0
        stat = pack_stat(zxid, zxid, time_ms, time_ms, 0, 0, 0, shown, len(buffer) - 4, 0, zxid)
        node = Znode(buffer + stat, acl, 0, owner, None, 0)
        before = self.staged_digest
        new_parent = self._grown_parent(zxid, parent_path, parent, parent_cversion)
        after = self.staged_digest
        if self.digest_enabled and not path.startswith(SYSTEM_SUBTREE):
            block = pack_block(zxid, zxid, zxid, time_ms, time_ms, 0, 0, 0, owner)
            digest = crc32(block, crc32(buffer[4:], crc32(path)))
            node.digest = digest
            after = (after + digest) & MASK64
            self.staged_digest = after
        staged = self.staged
        staged[parent_path] = new_parent
        staged[path] = node
        change = Change(op, zxid, path, node, old, before, after)
        change.parent_path = parent_path
        change.parent = new_parent
        change.old_parent = parent
        return change

    def _stage_owner(self, path: bytes, owner: int) -> int:
        """Notes a staged ephemeral; the owner as clients see it."""
        if self.kinds.kind(owner) != KIND_EPHEMERAL:
            return 0
        counts = self._staged_ephemerals.get(owner)
        if counts is None:
            counts = {}
            self._staged_ephemerals[owner] = counts
        counts[path] = counts.get(path, 0) + 1
        return owner

    def _unstage_owner(self, path: bytes, owner: int) -> None:
        counts = self._staged_ephemerals.get(owner)
        if counts is None:
            return
        left = counts[path] - 1
        if left:
            counts[path] = left
            return
        del counts[path]
        if not counts:
            del self._staged_ephemerals[owner]

    def _grown_parent(self, zxid: int, path: bytes, parent: Znode, cversion: int) -> Znode:
        """The parent with one child more, its digest already in `staged_digest`.

        `cversion` is what the txn says the number of creates is now, -1 for "one more" (CreateTxnV0). It is only ever
        raised, and pzxid with it: the txn may be older than the content (ZOOKEEPER-1090, DataTree.createNode). So at
        2**31 - 1 creates the counter stays there for good, in Java too.
        """
        body = parent.body
        czxid, mzxid, ctime, mtime, version, _, aversion, owner, size, child_count, pzxid = unpack_stat(
            body, -STAT_BYTES
        )
        child_count += 1
        creates = parent.cversion
        if cversion == -1:
            cversion = wrap32(creates + 1)
        if cversion > creates:
            creates = cversion
            pzxid = zxid
        shown = creates * 2 - child_count
        if shown > INT_MAX or shown < INT_MIN:
            shown = wrap32(shown)
        stat = pack_stat(czxid, mzxid, ctime, mtime, version, shown, aversion, owner, size, child_count, pzxid)
        digest = 0
        if self.digest_enabled:
            if not path.startswith(SYSTEM_SUBTREE):
                block = pack_block(czxid, mzxid, pzxid, ctime, mtime, version, creates, aversion, parent.owner)
                digest = crc32(block, crc32(body[4:-STAT_BYTES], crc32(path if path != ROOT else b"")))
            old = parent.digest if parent.digest >= 0 else digest_of(path, parent)
            self.staged_digest = (self.staged_digest - old + digest) & MASK64
        children = parent.children
        if children is None:
            children = Children()
        return Znode(body[:-STAT_BYTES] + stat, parent.acl, creates, parent.owner, children, digest)

    def stage_delete(self, op: int, zxid: int, path: bytes, node: Znode, parent_path: bytes, parent: Znode) -> Change:
        """The end of `node`, the staged one at `path`, under `parent`, the staged one."""
        before = self.staged_digest
        if self.digest_enabled:
            self.staged_digest = (before - digest_of(path, node)) & MASK64
        gone = tombstone(node)
        self.staged[path] = gone
        change = Change(op, zxid, path, gone, node, before, 0)
        self.stage_parent(change, parent_path, parent, self._shrunk_parent(zxid, parent, 1))
        return change

    def _shrunk_parent(self, zxid: int, parent: Znode, fewer: int = 0) -> Znode:
        """The parent with `fewer` children; pzxid never goes back (ZOOKEEPER-3125)."""
        czxid, mzxid, ctime, mtime, version, _, aversion, owner, size, child_count, pzxid = unpack_stat(
            parent.body, -STAT_BYTES
        )
        child_count -= fewer
        if zxid > pzxid:
            pzxid = zxid
        shown = wrap32(parent.cversion * 2 - child_count)
        stat = pack_stat(czxid, mzxid, ctime, mtime, version, shown, aversion, owner, size, child_count, pzxid)
        return Znode(parent.buffer() + stat, parent.acl, parent.cversion, parent.owner, parent.children, -1)

    def _swap_digest(self, path: bytes, old: Znode, new: Znode) -> None:
        if self.digest_enabled:
            self.staged_digest = (self.staged_digest - digest_of(path, old) + digest_of(path, new)) & MASK64

    def stage_set_acl(self, zxid: int, path: bytes, node: Znode, acl: AclList, aversion: int) -> Change:
        """Another ACL and ACL version for `node`, the staged one at `path`."""
        before = self.staged_digest
        body = node.body
        # aversion is the seventh field of Stat.
        body = body[:-28] + (aversion & 0xFFFFFFFF).to_bytes(4, "big") + body[-24:]
        new = Znode(body, acl, node.cversion, node.owner, node.children, -1)
        self._swap_digest(path, node, new)
        self.staged[path] = new
        return Change(codes.OP_SET_ACL, zxid, path, new, node, before, self.staged_digest)

    def stage_close_session(self, zxid: int, session_id: int, paths: list[bytes]) -> Change:
        """The end of a session: `paths`, and what else it still owns here (DataTree.killSession)."""
        before = self.staged_digest
        subs: list[Change] = []
        for path in paths:
            subs.append(self.stage_delete_of(codes.OP_DELETE, zxid, path))
        for path in self.session_paths(session_id):
            subs.append(self.stage_delete_of(codes.OP_DELETE, zxid, path))
        change = Change(codes.OP_CLOSE_SESSION, zxid, b"", None, None, before, self.staged_digest)
        change.session_id = session_id
        change.subs = subs
        return change

    def stage_delete_of(self, op: int, zxid: int, path: bytes) -> Change:
        """The end of whatever the staged tree has at `path`."""
        parent_path = parent_of(path)
        parent = self.find(parent_path)
        # No server logs the end of the root; one that says so must not end this one, now and at each start.
        if parent is None or path == ROOT:
            return self.stage_nothing(op, zxid, path, errors.NO_NODE)
        node = self.find(path)
        if node is not None:
            if node.child_count():
                return self._stage_delete_tree(op, zxid, path)
            return self.stage_delete(op, zxid, path, node, parent_path, parent)
        # Deleted already when the fuzzy snapshot came by: the parent's pzxid is raised all the same.
        change = self.stage_nothing(op, zxid, path, errors.NO_NODE)
        self.stage_parent(change, parent_path, parent, self._shrunk_parent(zxid, parent))
        return change

    def _stage_delete_tree(self, op: int, zxid: int, path: bytes) -> Change:
        """The end of a znode and all below it.

        When the txn was made there was nothing below, so what is there now came later, and a later txn will bring it
        again. Java leaves it behind without a parent, and when the parent comes again it has no children.
        """
        doomed = [path]
        for parent_path in doomed:
            children = self.nodes[parent_path].children if parent_path in self.nodes else None
            if children is not None:
                doomed.extend(child for child in children.paths if self.find(child) is not None)
        known = dict.fromkeys(doomed)
        prefix = path + b"/"
        doomed.extend(
            staged
            for staged, node in self.staged.items()
            if staged.startswith(prefix) and node.body and staged not in known
        )
        change = self.stage_nothing(op, zxid, path, errors.OK)
        subs: list[Change] = []
        for below in reversed(doomed):
            node = self.find(below)
            parent_path = parent_of(below)
            parent = self.find(parent_path)
            assert node is not None, "nothing is doomed that is not there"
            assert parent is not None, "whatever is there has a parent"
            subs.append(self.stage_delete(op, zxid, below, node, parent_path, parent))
        change.subs = subs
        change.digest = self.staged_digest
        return change

    def stage_parent(self, change: Change, parent_path: bytes, parent: Znode, new: Znode) -> None:
        """Adds to a change, the newest one, a parent whose counters it raises."""
        self._swap_digest(parent_path, parent, new)
        self.staged[parent_path] = new
        change.parent_path = parent_path
        change.parent = new
        change.old_parent = parent
        change.digest = self.staged_digest

    def stage_nothing(self, op: int, zxid: int, path: bytes, err: int) -> Change:
        """A txn that leaves all znodes alone: an error, a check, the opening of a session."""
        change = Change(op, zxid, path, None, None, self.staged_digest, self.staged_digest)
        change.err = err
        return change

    def stage_create_session(self, zxid: int, session_id: int, timeout_ms: int) -> Change:
        """The opening of a session."""
        change = self.stage_nothing(codes.OP_CREATE_SESSION, zxid, b"", errors.OK)
        change.session_id = session_id
        change.timeout_ms = timeout_ms
        return change

    def join(self, zxid: int, subs: list[Change], err: int) -> Change:
        """The changes of a multi, staged one after the other, as one."""
        before = subs[0].digest_before if subs else self.staged_digest
        change = Change(codes.OP_MULTI, zxid, b"", None, None, before, self.staged_digest)
        change.subs = subs
        change.err = err
        return change

    # Committing

    def commit(self, change: Change) -> None:
        """Installs the oldest staged change that is neither committed nor discarded."""
        self._install(change)
        self.digest = change.digest
        zxid = change.zxid
        if zxid > self.last_zxid:
            self.last_zxid = zxid
        if not zxid & _DIGEST_LOG_MASK:
            self.digest_log.append((zxid, change.digest))
            if len(self.digest_log) > _DIGEST_LOG_LIMIT:
                del self.digest_log[0]

    def _install(self, change: Change) -> None:
        if change.subs is not None:
            for sub in change.subs:
                self._install(sub)
            return
        nodes = self.nodes
        staged = self.staged
        node = change.node
        path = change.path
        parent = change.parent
        if node is not None and staged.get(path) is node:
            del staged[path]
        if parent is None:
            if node is not None:
                self._install_version(change, path, node)
            return
        parent_path = change.parent_path
        if staged.get(parent_path) is parent:
            del staged[parent_path]
        if self.quotas.prefixes and parent_path.startswith(QUOTA_ROOT):
            parent = self._fresh(parent_path, parent)
        nodes[parent_path] = parent
        if change.err:
            if node is not None:
                self._install_version(change, path, node)
        else:
            children = parent.children
            assert node is not None, "a parent alone is raised only by a change with an error"
            assert children is not None, "who had or gets a child has a set of children"
            children.wire = None
            if node.body:
                children.paths[path] = None
                nodes[path] = node
                self._on_created(path, node, parent_path)
            else:
                del children.paths[path]
                self._on_deleted(path, nodes.pop(path), parent_path)

    def _install_version(self, change: Change, path: bytes, node: Znode) -> None:
        """Other data or another ACL for a znode that stays."""
        old = self.nodes[path]
        if change.op != codes.OP_SET_DATA and self.quotas.prefixes and path.startswith(QUOTA_ROOT):
            node = self._fresh(path, node)
        self.nodes[path] = node
        if node.acl is not old.acl:
            self.acls.retain(node.acl)
            self.acls.release(old.acl)
        grown = len(node.body) - len(old.body)
        if grown:
            self.data_bytes += grown
            if self.quotas.prefixes:
                self.quotas.count(path, grown, 0)

    def _fresh(self, path: bytes, node: Znode) -> Znode:
        """The version to install, with data that a quota's statistics may have got since it was staged."""
        buffer = self.nodes[path].buffer()
        return node if buffer == node.buffer() else with_buffer_only(node, buffer)

    def _on_created(self, path: bytes, node: Znode, parent_path: bytes) -> None:
        size = len(node.body) - BODY_OVERHEAD
        self.data_bytes += len(path) + size
        acl = node.acl
        if acl.uses:
            acl.uses += 1
        else:
            self.acls.retain(acl)
        owner = node.owner
        if owner:
            self.note_owner(path, owner)
            self._unstage_owner(path, owner)
        # Below /zookeeper every digest is 0, elsewhere hardly any.
        if node.digest == 0 and parent_path.startswith(QUOTA_ROOT):
            self.quotas.on_created(path, parent_path)
        if self.quotas.prefixes:
            self.quotas.count(path, size, 1)

    def note_owner(self, path: bytes, owner: int) -> None:
        """Enters a committed znode with an owner in the list of its kind."""
        kind = self.kinds.kind(owner)
        if kind == KIND_EPHEMERAL:
            mine = self.ephemerals.get(owner)
            if mine is None:
                self.ephemerals[owner] = {path: None}
            else:
                mine[path] = None
        elif kind == KIND_CONTAINER:
            self.containers[path] = None
        else:
            self.ttls[path] = None

    def _on_deleted(self, path: bytes, old: Znode, parent_path: bytes) -> None:
        size = len(old.body) - BODY_OVERHEAD
        self.data_bytes -= len(path) + size
        self.acls.release(old.acl)
        owner = old.owner
        if owner:
            kind = self.kinds.kind(owner)
            if kind == KIND_EPHEMERAL:
                mine = self.ephemerals[owner]
                del mine[path]
                if not mine:
                    del self.ephemerals[owner]
            elif kind == KIND_CONTAINER:
                del self.containers[path]
            else:
                del self.ttls[path]
        if self.quotas.prefixes:
            self.quotas.on_deleted(path, parent_path)
            self.quotas.count(path, -size, -1)

    # Giving up

    def discard(self, change: Change) -> None:
        """Takes back the newest staged change."""
        self._take_back(change)
        self.staged_digest = change.digest_before

    def _take_back(self, change: Change) -> None:
        if change.subs is not None:
            for sub in reversed(change.subs):
                self._take_back(sub)
            return
        node = change.node
        if node is not None:
            self._restore(change.path, change.old)
            self.acls.drop_unused(node.acl)
            if node.owner and node.body and change.old_parent is not None and not change.err:
                self._unstage_owner(change.path, node.owner)
        if change.parent is not None:
            self._restore(change.parent_path, change.old_parent)

    def _restore(self, path: bytes, old: Znode | None) -> None:
        if old is None or self.nodes.get(path) is old:
            self.staged.pop(path, None)
        else:
            self.staged[path] = old

    def discard_all(self) -> None:
        """Forgets everything staged: who prepared it leads no longer."""
        self.staged.clear()
        self._staged_ephemerals.clear()
        self.staged_digest = self.digest

    def triggers(self, change: Change) -> list[Trigger]:
        """The events of a committed change, in Java's order. Needs asking only where somebody watches."""
        found: list[Trigger] = []
        _add_triggers(change, found)
        return found


_NO_PATHS: Final[dict[bytes, None]] = {}
_NO_COUNTS: Final[dict[bytes, int]] = {}


def _add_triggers(change: Change, found: list[Trigger]) -> None:
    if change.subs is not None:
        for sub in change.subs:
            _add_triggers(sub, found)
        return
    node = change.node
    if node is None or change.err:
        return
    parent = change.parent
    if parent is not None:
        # The tombstone has the ACL the znode had before its end (CVE-2024-23944).
        event = codes.EVENT_CREATED if node.body else codes.EVENT_DELETED
        found.append(Trigger(event, change.path, node.acl))
        found.append(Trigger(codes.EVENT_CHILDREN_CHANGED, change.parent_path, parent.acl))
    elif change.op == codes.OP_SET_DATA:
        found.append(Trigger(codes.EVENT_DATA_CHANGED, change.path, node.acl))


def show_config(tree: Tree, text: bytes, version: int) -> None:
    """The ensemble's configuration in its znode: no txn, every server puts its own there (initConfigInZKDatabase).

    Java has the time of the server's start for mtime; here it is 0, so that equal histories give equal trees.
    """
    old = tree.nodes.get(CONFIG)
    if old is None or old.data() == text:
        return
    czxid, _, ctime, _, _, cversion, aversion, owner, size, children, pzxid = unpack_stat(old.body, -STAT_BYTES)
    stat = pack_stat(czxid, version, ctime, 0, -1, cversion, aversion, owner, len(text), children, pzxid)
    tree.nodes[CONFIG] = Znode(encode_buffer(text) + stat, old.acl, old.cversion, old.owner, old.children, -1)
    tree.data_bytes += len(text) - size


def pristine(config: TreeConfig | None = None) -> Tree:
    """The tree of a server that never had a txn: the root, and Java's three system znodes."""
    tree = Tree(config)
    acls = tree.acls
    config_acl = acls.intern([READ_ACL])
    # The config znode's ACL was set once, with -1 for a version (DataTree.addConfigNode).
    for path, acl, aversion, names in (
        (ROOT, acls.open, 0, (SYSTEM,)),
        (SYSTEM, acls.open, 0, (QUOTA_ROOT, CONFIG)),
        (QUOTA_ROOT, acls.open, 0, ()),
        (CONFIG, config_acl, -1, ()),
    ):
        children: Children | None = None
        if names:
            children = Children()
            for name in names:
                children.paths[name] = None
        stat = pack_stat(0, 0, 0, 0, 0, -len(names), aversion, 0, 0, len(names), 0)
        node = Znode(encode_buffer(b"") + stat, acl, 0, 0, children, -1)
        tree.nodes[path] = node
        tree.data_bytes += len(path)
        acls.retain(acl)
        if tree.digest_enabled:
            tree.digest = (tree.digest + digest_of(path, node)) & MASK64
    tree.staged_digest = tree.digest
    return tree


def _count_below(nodes: dict[bytes, Znode], path: bytes) -> int:
    """A level at a time: one may have a million znodes, and everybody waits."""
    count = 0
    level = [path]
    while level:
        families = [family for above in level if (family := nodes[above].children) is not None]
        level = []
        for family in families:
            level.extend(family.paths)
        if len(level) > len(nodes) // 4:
            # To look at all names is faster then than at that many znodes.
            prefix = path + b"/"
            return len([name for name in nodes if name.startswith(prefix)])
        count += len(level)
    return count

"""Building a tree from the plain records of a snapshot.

Knows what a snapshot must hold to be a tree. Must not know files. The root may be named "" as in Java's snapshots.
Source: DataTree.deserialize.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

from coati.core.acl import OPEN_KEY, AclList
from coati.core.quota import LIMIT_NODE, QUOTA_ROOT
from coati.core.tree import ROOT, Tree, TreeConfig
from coati.core.znode import LENGTHS, MASK64, SYSTEM_SUBTREE, Children, Znode, pack_int, wrap32
from coati.errors import MarshallingError
from coati.wire.jute import NULL_LENGTH
from coati.wire.records import ACL

# path, data, key of the ACL, then StatPersisted in three pieces: czxid and mzxid; ctime, mtime, version, cversion,
# aversion and owner; pzxid. Stat has the same bytes before and behind its lengths, the digest's block pzxid earlier.
ZnodeTuple: TypeAlias = tuple[bytes, bytes | None, int, bytes, bytes, bytes]

# The end of the middle piece: cversion, aversion and owner.
_COUNTERS: Final = Struct(">iiq")
_unpack_counters: Final = _COUNTERS.unpack_from
_pack_counters: Final = _COUNTERS.pack
_COUNTERS_AT: Final = 20
_NO_COUNTERS: Final = bytes(16)
_NO_NAMES: Final = (b"/", b"/.", b"/..")
_SLASH: Final = 0x2F


class Loader:
    """Takes a snapshot's znodes in, parents first, and gives the tree."""

    __slots__ = ("_acls", "_parents", "_tree")

    def __init__(self, config: TreeConfig | None, acls: dict[int, list[ACL]]) -> None:
        self._tree = Tree(config)
        cache = self._tree.acls
        self._acls: dict[int, AclList] = {key: cache.intern(entries) for key, entries in acls.items()}
        self._acls[OPEN_KEY] = cache.open
        self._parents: list[Znode] = []

    def add(self, znodes: list[ZnodeTuple]) -> None:
        """Takes more znodes. Raises MarshallingError on one without its parent or with an ACL that is not there.

        An ACL that is not there is never read as an open one (ZOOKEEPER-4689).
        """
        tree = self._tree
        nodes = tree.nodes
        acls = self._acls
        digest_enabled = tree.digest_enabled
        digest_sum = 0
        data_bytes = 0
        for path, data, key, zxids, middle, pzxid in znodes:
            acl = acls.get(key)
            if acl is None:
                raise MarshallingError(f"znode {path!r} has the ACL {key}, which the snapshot does not list")
            acl.uses += 1
            hashed = path
            if len(path) > 1:
                cut = path.rfind(b"/")
                parent = nodes.get(path[:cut] or ROOT)
                # The root is no parent by the name "/": that would make "//a" a znode.
                if parent is None or cut == 1:
                    raise MarshallingError(f"znode {path!r} comes before its parent")
                if path in nodes:
                    raise MarshallingError(f"znode {path!r} comes twice")
                # Its parent has been looked at before, so its own name is all that is left to be seen.
                if path[-1] <= _SLASH and path.endswith(_NO_NAMES):
                    raise MarshallingError(f"znode {path!r} has no name that a client could have given it")
                children = parent.children
                if children is None:
                    children = Children()
                    parent.children = children
                    self._parents.append(parent)
                children.paths[path] = None
            else:
                path = ROOT
                hashed = b""
                if nodes:
                    raise MarshallingError("the root comes twice, or not first")
            shown = middle
            cversion = owner = 0
            if not middle.endswith(_NO_COUNTERS):
                cversion, aversion, owner = _unpack_counters(middle, _COUNTERS_AT)
                shown = self._shown(path, middle, cversion, aversion, owner)
            buffer_length = NULL_LENGTH
            length = LENGTHS[0]
            if data is None:
                data = b""
            else:
                size = len(data)
                data_bytes += size
                buffer_length = length = LENGTHS[size] if size < 512 else pack_int(size)
            data_bytes += len(path)
            body = b"".join((buffer_length, data, zxids, shown, length, LENGTHS[0], pzxid))
            nodes[path] = Znode(body, acl, cversion, owner, None, -1)
            if digest_enabled and not path.startswith(SYSTEM_SUBTREE):
                digest_sum += crc32(b"".join((hashed, data, zxids, pzxid, middle)))
        tree.digest = (tree.digest + digest_sum) & MASK64
        tree.data_bytes += data_bytes

    def _shown(self, path: bytes, middle: bytes, cversion: int, aversion: int, owner: int) -> bytes:
        """The middle piece as clients see it, of a znode that has no children yet."""
        shown = 0
        if owner:
            self._tree.note_owner(path, owner)
            shown = self._tree.kinds.shown(owner)
        return middle[:_COUNTERS_AT] + _pack_counters(wrap32(cversion * 2), aversion, shown)

    def finish(self, zxid: int) -> Tree:
        """The tree, as of `zxid`. Raises MarshallingError when there was no root."""
        tree = self._tree
        if ROOT not in tree.nodes:
            raise MarshallingError("a snapshot without a root")
        for parent in self._parents:
            children = parent.children
            assert children is not None
            _count_children(parent, len(children.paths))
        tree.last_zxid = zxid
        tree.staged_digest = tree.digest
        tree.acls.settle()
        self._find_quotas()
        return tree

    def _find_quotas(self) -> None:
        """Limit nodes that are leaves stand for quotas, whose statistics are counted anew (DataTree.setupQuota)."""
        tree = self._tree
        waiting = [QUOTA_ROOT] if QUOTA_ROOT in tree.nodes else []
        while waiting:
            path = waiting.pop()
            children = tree.nodes[path].children
            if children is not None:
                waiting.extend(children.paths)
            elif path.endswith(b"/" + LIMIT_NODE):
                prefix = path[len(QUOTA_ROOT) : -len(LIMIT_NODE) - 1]
                tree.quotas.add(prefix)
                tree.quotas.recount(prefix)


def _count_children(node: Znode, child_count: int) -> None:
    """Sets what the Stat says of children. The version is not out yet, so it may still change."""
    shown = wrap32(node.cversion * 2 - child_count)
    body = node.body
    # cversion is the sixth field of Stat, the number of children the last but one.
    node.body = b"".join(
        (
            body[:-32],
            (shown & 0xFFFFFFFF).to_bytes(4, "big"),
            body[-28:-12],
            child_count.to_bytes(4, "big"),
            body[-8:],
        )
    )

"""Building a tree from the plain records of a snapshot.

Knows what a snapshot must hold to be a tree. Must not know files. The root may be named "" as in Java's snapshots.
Source: DataTree.deserialize.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias
from zlib import crc32

from coati.core.acl import OPEN_KEY, AclList
from coati.core.quota import LIMIT_NODE, QUOTA_ROOT
from coati.core.tree import ROOT, Tree, TreeConfig
from coati.core.znode import (
    MASK64,
    SYSTEM_SUBTREE,
    Children,
    Znode,
    encode_buffer,
    pack_block,
    pack_stat,
    wrap32,
)
from coati.errors import MarshallingError
from coati.wire.records import ACL

# path, data, key of the ACL, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid.
ZnodeTuple: TypeAlias = tuple[bytes, bytes | None, int, int, int, int, int, int, int, int, int, int]
_NO_NAMES: Final = (b"/", b"/.", b"/..")


class Loader:
    """Takes a snapshot's znodes in, parents first, and gives the tree."""

    __slots__ = ("_acls", "_tree")

    def __init__(self, config: TreeConfig | None, acls: dict[int, list[ACL]]) -> None:
        self._tree = Tree(config)
        cache = self._tree.acls
        self._acls: dict[int, AclList] = {key: cache.intern(entries) for key, entries in acls.items()}
        self._acls[OPEN_KEY] = cache.open

    def add(self, znodes: Iterable[ZnodeTuple]) -> None:
        """Takes more znodes. Raises MarshallingError on one without its parent or with an ACL that is not there.

        An ACL that is not there is never read as an open one (ZOOKEEPER-4689).
        """
        tree = self._tree
        nodes = tree.nodes
        acls = self._acls
        digest_enabled = tree.digest_enabled
        digest_sum = 0
        data_bytes = 0
        for path, data, key, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid in znodes:
            acl = acls.get(key)
            if acl is None:
                raise MarshallingError(f"znode {path!r} has the ACL {key}, which the snapshot does not list")
            acl.uses += 1
            if len(path) > 1:
                cut = path.rfind(b"/")
                parent = nodes.get(path[:cut] or ROOT)
                # The root is no parent by the name "/": that would make "//a" a znode.
                if parent is None or cut == 1:
                    raise MarshallingError(f"znode {path!r} comes before its parent")
                if path in nodes:
                    raise MarshallingError(f"znode {path!r} comes twice")
                # Its parent has been looked at before, so its own name is all that is left to be seen.
                if path.endswith(_NO_NAMES):
                    raise MarshallingError(f"znode {path!r} has no name that a client could have given it")
                children = parent.children
                if children is None:
                    children = Children()
                    parent.children = children
                children.paths[path] = None
            else:
                path = ROOT
                if nodes:
                    raise MarshallingError("the root comes twice, or not first")
            buffer = encode_buffer(data)
            size = len(buffer) - 4
            shown = 0
            if owner:
                tree.note_owner(path, owner)
                shown = tree.kinds.shown(owner)
            stat = pack_stat(czxid, mzxid, ctime, mtime, version, wrap32(cversion * 2), aversion, shown, size, 0, pzxid)
            nodes[path] = Znode(buffer + stat, acl, cversion, owner, None, -1)
            data_bytes += len(path) + size
            if digest_enabled and not path.startswith(SYSTEM_SUBTREE):
                block = pack_block(czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner)
                digest_sum += crc32(block, crc32(data or b"", crc32(path if path != ROOT else b"")))
        tree.digest = (tree.digest + digest_sum) & MASK64
        tree.data_bytes += data_bytes

    def finish(self, zxid: int) -> Tree:
        """The tree, as of `zxid`. Raises MarshallingError when there was no root."""
        tree = self._tree
        if ROOT not in tree.nodes:
            raise MarshallingError("a snapshot without a root")
        for node in tree.nodes.values():
            children = node.children
            if children is not None:
                _count_children(node, len(children.paths))
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

"""The tree serialised for a snapshot, a slice at a time, exactly as it was when the export began.

Knows how a znode is written: path, data, number of the ACL, StatPersisted (DataTree.serializeNode). Must not know
files. Since versions of znodes never change, holding on to those of the moment is all it takes: whatever is committed
between two slices installs other versions, or none.
Invariant: a parent comes before its children, as in the tree's own order.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from coati.core.tree import Tree
from coati.core.znode import LENGTHS, STAT_BYTES, pack_int, unpack_stat
from coati.wire.records import ACL

_pack_long: Final = Struct(">q").pack
_pack_persisted: Final = Struct(">qqqqiiiqq").pack
# The root goes by its other name, the empty one.
_ROOT: Final = LENGTHS[0]


class Export:
    """One snapshot being handed out; `is_done` when all znodes have been.

    `acls` are by value, so a list given up meanwhile is still there.
    """

    __slots__ = ("_next", "_nodes", "_paths", "acls", "digest", "is_done", "sessions", "zxid")

    def __init__(self, tree: Tree, sessions: dict[int, int]) -> None:
        self.zxid = tree.last_zxid
        self.digest = tree.digest
        self.sessions = dict(sessions)
        self.acls: dict[int, list[ACL]] = tree.acls.table()
        self._paths = list(tree.nodes)
        self._nodes = list(tree.nodes.values())
        self._next = 0
        self.is_done = False

    def node_count(self) -> int:
        """How many znodes the snapshot has in all."""
        return len(self._paths)

    def next_slice(self, max_nodes: int) -> bytes:
        """The next znodes, at most `max_nodes`; nothing at the end."""
        start = self._next
        stop = min(start + max_nodes, len(self._paths))
        parts: list[bytes] = []
        acl = None
        key = b""
        paths = self._paths
        nodes = self._nodes
        for index in range(start, stop):
            path = paths[index]
            node = nodes[index]
            if node.acl is not acl:
                acl = node.acl
                key = _pack_long(acl.key)
            size = len(path)
            body = node.body
            if size == 1:
                parts += (_ROOT, body[:-STAT_BYTES], key)
            else:
                parts += (LENGTHS[size] if size < 512 else pack_int(size), path, body[:-STAT_BYTES], key)
            if node.cversion == 0 and node.owner >= 0 and node.children is None:
                # What clients see of a leaf is what is stored, but for dataLength and numChildren.
                parts += (body[-68:-16], body[-8:])
            else:
                czxid, mzxid, ctime, mtime, version, _, aversion, _, _, _, pzxid = unpack_stat(body, -STAT_BYTES)
                parts.append(
                    _pack_persisted(czxid, mzxid, ctime, mtime, version, node.cversion, aversion, node.owner, pzxid)
                )
        self._next = stop
        self.is_done = stop == len(paths)
        return b"".join(parts)

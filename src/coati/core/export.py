"""The tree as plain records for a snapshot, a slice at a time, exactly as it was when the export began.

Knows how a znode becomes a tuple. Must not know files. Since versions of znodes never change, holding on to those of
the moment is all it takes: whatever is committed between two slices installs other versions, or none.
Invariant: a parent comes before its children, as in the tree's own order.
"""

from __future__ import annotations

from typing import TypeAlias

from coati.core.tree import Tree
from coati.core.znode import STAT_BYTES, Znode, unpack_stat
from coati.wire.records import ACL

# path, data, key of the ACL, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid.
ZnodeTuple: TypeAlias = tuple[bytes, bytes | None, int, int, int, int, int, int, int, int, int, int]


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

    def next_slice(self, max_nodes: int) -> list[ZnodeTuple]:
        """The next znodes, at most `max_nodes`; an empty list at the end."""
        start = self._next
        stop = min(start + max_nodes, len(self._paths))
        taken = [_as_tuple(self._paths[index], self._nodes[index]) for index in range(start, stop)]
        self._next = stop
        self.is_done = stop == len(self._paths)
        return taken


def _as_tuple(path: bytes, node: Znode) -> ZnodeTuple:
    czxid, mzxid, ctime, mtime, version, _, aversion, _, _, _, pzxid = unpack_stat(node.body, -STAT_BYTES)
    data = node.data()
    key = node.acl.key
    return path, data, key, czxid, mzxid, ctime, mtime, version, node.cversion, aversion, node.owner, pzxid

"""Which containers and TTL znodes are to go: a pure function of the tree and the time.

Knows the rules; the caller proposes a deleteContainer for each path and keeps the pace of `maxPerMinute`.
Source: ContainerManager.getCandidates.
"""

from __future__ import annotations

from coati.core.tree import Tree
from coati.core.znode import ttl_ms


def reapable(tree: Tree, now_ms: int, max_never_used_ms: int = 0) -> list[bytes]:
    """The paths to delete at wall time `now_ms`.

    A container goes when it is empty and once had a child, or never had one for `max_never_used_ms` (0: never); a TTL
    znode when it is empty and its data has not been changed for longer than its TTL.
    """
    found: list[bytes] = []
    for path in tree.containers:
        node = tree.nodes[path]
        if node.child_count() == 0 and (node.cversion > 0 or 0 < max_never_used_ms < now_ms - node.mtime()):
            found.append(path)
    for path in tree.ttls:
        node = tree.nodes[path]
        if node.child_count() == 0 and 0 < ttl_ms(node.owner) < now_ms - node.mtime():
            found.append(path)
    return found

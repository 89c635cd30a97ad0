"""Which containers and TTL znodes are to go, by the tree and the time, and how many in a round.

Knows the rules; the caller proposes a deleteContainer for each path. Source: ContainerManager.
"""

from __future__ import annotations

from coati.core.tree import Tree
from coati.core.znode import ttl_ms


class Reaper:
    """The rounds: one every `interval_ms`, of no more znodes than `max_per_minute` allows."""

    __slots__ = ("_interval_ms", "_limit", "_max_never_used_ms", "_next_ms")

    def __init__(self, interval_ms: int, max_per_minute: int, max_never_used_ms: int) -> None:
        self._interval_ms = interval_ms
        self._limit = max(1, max_per_minute * interval_ms // 60_000)
        self._max_never_used_ms = max_never_used_ms
        self._next_ms = -1

    def due(self, tree: Tree, now_ms: int, wall_ms: int) -> list[bytes]:
        """The paths to delete now; what goes beyond the limit waits for the next round.

        The first round comes an interval after the first call, when clients have had time to come back.
        """
        if now_ms < self._next_ms:
            return []
        is_first = self._next_ms < 0
        self._next_ms = now_ms + self._interval_ms
        return [] if is_first else reapable(tree, wall_ms, self._max_never_used_ms)[: self._limit]


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

"""Quotas: limits and statistics as text in znodes below /zookeeper/quota, and which quota a path falls under.

Knows the text format, the names, and the committed znodes. Must not know txns; the tree tells of what it installs.
Sources: Quotas, StatsTrack, PathTrie, DataTree (updateQuotaStat, updateQuotaForPath), ZooKeeperServer.checkQuota.
"""

from __future__ import annotations

import re
from typing import Final

from coati.core.znode import BODY_OVERHEAD, Znode, encode_buffer, with_buffer_only

QUOTA_ROOT: Final = b"/zookeeper/quota"
LIMIT_NODE: Final = b"zookeeper_limits"
STAT_NODE: Final = b"zookeeper_stats"

_PAIRS: Final = re.compile(r"[,;]+")
_LONG: Final = re.compile(r"[+-]?[0-9]+")


def limit_path(prefix: bytes) -> bytes:
    """Where the limits of a quota stand."""
    return QUOTA_ROOT + prefix + b"/" + LIMIT_NODE


def stat_path(prefix: bytes) -> bytes:
    """Where the statistics of a quota stand."""
    return QUOTA_ROOT + prefix + b"/" + STAT_NODE


class StatsTrack:
    """Counts and limits as the text has them; -1 is unset.

    Text that Java would die of (no number after a key) reads as unset, since any client may write it.
    """

    __slots__ = ("values",)

    def __init__(self, text: bytes | None = None) -> None:
        self.values: dict[str, int] = {}
        for pair in _PAIRS.split((text or b"").decode("utf-8", "replace")):
            parts = pair.split("=")
            if len(parts) > 1 and _LONG.fullmatch(parts[1]) is not None:
                self.values[parts[0]] = int(parts[1])

    def get(self, key: str) -> int:
        """The value of a key."""
        return self.values.get(key, -1)

    def add(self, *, count: int, size_bytes: int) -> None:
        """Adds to the two counters."""
        self.values["count"] = self.get("count") + count
        self.values["bytes"] = self.get("bytes") + size_bytes

    def text(self) -> bytes:
        """`count=4,bytes=5`, then `=` and the other keys: a form that 3.4's parser survives (StatsTrack.toString)."""
        text = f"count={self.get('count')},bytes={self.get('bytes')}"
        others = sorted(key for key in self.values if key not in ("count", "bytes"))
        if others:
            text += "=" + "".join(f";{key}={self.values[key]}" for key in others)
        return text.encode()


class Quotas:
    """The paths that have a quota (PathTrie), and their statistics, which each server keeps for itself, without txns.

    `nodes` are the committed znodes; the only ones changed here are the statistics nodes.
    """

    __slots__ = ("_nodes", "prefixes")

    def __init__(self, nodes: dict[bytes, Znode]) -> None:
        self._nodes = nodes
        self.prefixes: dict[bytes, None] = {}

    def add(self, prefix: bytes) -> None:
        """A limit node appeared for the path. The root has no quota; Java dies of the attempt."""
        if prefix:
            self.prefixes[prefix] = None

    def find(self, path: bytes) -> bytes | None:
        """The deepest path with a quota that is `path` or above it."""
        while path:
            if path in self.prefixes:
                return path
            path = path[: path.rfind(b"/")]
        return None

    def on_created(self, path: bytes, parent_path: bytes) -> None:
        """A znode below /zookeeper/quota has been installed: perhaps one that makes or measures a quota."""
        prefix = parent_path[len(QUOTA_ROOT) :]
        if path == limit_path(prefix):
            self.add(prefix)
        elif path == stat_path(prefix):
            self.recount(prefix)

    def on_deleted(self, path: bytes, parent_path: bytes) -> None:
        """A znode is gone: perhaps one that made a quota."""
        if parent_path.startswith(QUOTA_ROOT) and path == limit_path(parent_path[len(QUOTA_ROOT) :]):
            self.prefixes.pop(parent_path[len(QUOTA_ROOT) :], None)

    def recount(self, prefix: bytes) -> None:
        """Writes count and bytes of a subtree into its statistics node, if there is one (updateQuotaForPath)."""
        node = self._nodes.get(stat_path(prefix))
        if node is None:
            return
        track = StatsTrack(b"count=0,bytes=0")
        waiting = [prefix or b"/"]
        while waiting:
            counted = self._nodes.get(waiting.pop())
            if counted is not None:
                track.add(count=1, size_bytes=len(counted.body) - BODY_OVERHEAD)
                if counted.children is not None:
                    waiting.extend(counted.children.paths)
        self._nodes[stat_path(prefix)] = with_buffer_only(node, encode_buffer(track.text()))

    def count(self, path: bytes, size_bytes: int, count: int) -> None:
        """Enters a change at `path` in the statistics of the quota over it, if there is one (updateQuotaStat)."""
        prefix = self.find(path)
        node = None if prefix is None else self._nodes.get(stat_path(prefix))
        if prefix is not None and node is not None:
            track = StatsTrack(node.data())
            track.add(count=count, size_bytes=size_bytes)
            self._nodes[stat_path(prefix)] = with_buffer_only(node, encode_buffer(track.text()))


class QuotaBreach:
    """A limit that a request would exceed. Only hard ones refuse it."""

    __slots__ = ("is_hard", "limit", "prefix", "unit", "value")

    def __init__(self, prefix: bytes, unit: str, *, value: int, limit: int, is_hard: bool) -> None:
        self.prefix = prefix
        self.unit = unit
        self.value = value
        self.limit = limit
        self.is_hard = is_hard

    def message(self) -> str:
        """The line Java logs."""
        grade = "hard" if self.is_hard else "soft"
        unit = "Count" if self.unit == "count" else "Byte"
        name = self.prefix.decode("utf-8", "replace")
        return f"Quota exceeded: {name} [current {self.unit}={self.value}, {grade}{unit}Limit={self.limit}]"


def check_quota(
    prefix: bytes, limits: bytes | None, stats: bytes | None, *, count: int, size_bytes: int
) -> list[QuotaBreach]:
    """What a request that adds `count` znodes and `size_bytes` would exceed, up to the first hard limit."""
    breaches: list[QuotaBreach] = []
    limit = StatsTrack(limits)
    current = StatsTrack(stats)
    for unit, hard_key, change in (("count", "countHardLimit", count), ("bytes", "byteHardLimit", size_bytes)):
        if change == 0:
            continue
        is_hard = limit.get(hard_key) > -1
        bound = limit.get(hard_key) if is_hard else limit.get(unit)
        value = current.get(unit) + change
        if bound > -1 and value > bound:
            breaches.append(QuotaBreach(prefix, unit, value=value, limit=bound, is_hard=is_hard))
            if is_hard:
                break
    return breaches

"""What a txn does to the tree, worked out but not installed; and what it triggers.

Knows versions of znodes. Must not know the tree. Made and carried out in `tree.py` only.
"""

from __future__ import annotations

from coati.core.acl import AclList
from coati.core.znode import Znode


class Change:
    """The effect of one txn, or of one part of a multi or closeSession (its `subs`).

    `op` is the txn's type, `err` the code the client gets; with an error there may still be a znode or parent to
    install, since replaying on newer content raises a parent's counters (DataTree.createNode, deleteNode).
    `node` is the new version, or a tombstone, or None; `old` is what it replaces in the staged tree; `parent` and
    `old_parent` are the same of the parent. `digest` is the tree's after the change, `digest_before` before it.
    `session_id` and `timeout_ms` are set for the opening and closing of sessions.
    """

    __slots__ = (
        "digest",
        "digest_before",
        "err",
        "node",
        "old",
        "old_parent",
        "op",
        "parent",
        "parent_path",
        "path",
        "session_id",
        "subs",
        "timeout_ms",
        "zxid",
    )

    def __init__(
        self, op: int, zxid: int, path: bytes, node: Znode | None, old: Znode | None, digest_before: int, digest: int
    ) -> None:
        self.op = op
        self.zxid = zxid
        self.path = path
        self.node = node
        self.old = old
        self.digest_before = digest_before
        self.digest = digest
        self.err = 0
        self.parent_path = b""
        self.parent: Znode | None = None
        self.old_parent: Znode | None = None
        self.subs: list[Change] | None = None
        self.session_id = 0
        self.timeout_ms = 0


class Trigger:
    """An event on a path. Only who may READ by `acl` is told (ZOOKEEPER-4799): for a deleted znode, its last one."""

    __slots__ = ("acl", "event_type", "path")

    def __init__(self, event_type: int, path: bytes, acl: AclList) -> None:
        self.event_type = event_type
        self.path = path
        self.acl = acl

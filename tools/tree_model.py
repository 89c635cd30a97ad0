"""A second, small ZooKeeper tree, written from the specification alone: what the server is compared with.

It takes writes one after the other, each with its zxid and time, and says what must come of them. No code of
`coati.core` is in it: no staging, no interning, no caches, every state a plain dict. Only `world:anyone` has
permissions.
Sources: the order of checks in PrepRequestProcessor, DataTree, DigestCalculator.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

# KeeperException.Code.
OK: Final = 0
RUNTIME_INCONSISTENCY: Final = -2
NO_NODE: Final = -101
NO_AUTH: Final = -102
BAD_VERSION: Final = -103
NO_CHILDREN_FOR_EPHEMERALS: Final = -108
NODE_EXISTS: Final = -110
NOT_EMPTY: Final = -111
SESSION_EXPIRED: Final = -112
# ZooDefs.Perms.
READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
ALL: Final = 31
# Watcher.Event.EventType.
CREATED, DELETED, DATA_CHANGED, CHILDREN_CHANGED = 1, 2, 3, 4
# EphemeralType: the owner that is stored for a container, and the marker of a TTL.
CONTAINER: Final = -(1 << 63)
TTL: Final = -(1 << 56)
_BLOCK: Final = struct.Struct(">qqqqqiiiq")
_U64: Final = (1 << 64) - 1


class Node(NamedTuple):
    """A znode; `creates` is the cversion that is stored, the number of children ever created."""

    data: bytes
    perms: int
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int
    creates: int
    aversion: int
    owner: int


Nodes: TypeAlias = dict[bytes, Node]
Trigger: TypeAlias = tuple[int, bytes]
# czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength, numChildren, pzxid.
Stat: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Write:
    """One write; `kind` says which of the fields count.

    create (also sequential, owner: "" or "ephemeral", "container", "ttl"), set, delete, acl, check, multi, open, close,
    reap.
    """

    kind: str
    path: bytes = b""
    data: bytes = b""
    version: int = -1
    perms: int = ALL
    owner: str = ""
    sequential: bool = False
    number: int = 0  # the timeout of open, the time to live of ttl, in ms
    parts: tuple[Write, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What the client must be told: the error, or path and Stat; of a multi one for each part."""

    err: int = OK
    path: bytes = b""
    stat: Stat | None = None
    parts: list[Outcome] = field(default_factory=list)


class Refused(Exception):
    """The write must fail with this code."""

    def __init__(self, err: int) -> None:
        super().__init__(err)
        self.err = err


class State(NamedTuple):
    """All there is after the txn `zxid`: znodes, sessions with their timeouts, and what the txn triggered."""

    nodes: Nodes
    sessions: dict[int, int]
    triggers: tuple[Trigger, ...]
    outcome: Outcome


def parent_path(path: bytes) -> bytes:
    return path[: path.rindex(b"/")] or b"/"


def child_paths(nodes: Nodes, path: bytes) -> list[bytes]:
    """In order of their names."""
    prefix = path if path == b"/" else path + b"/"
    return sorted(
        other for other in nodes if other.startswith(prefix) and other != b"/" and b"/" not in other[len(prefix) :]
    )


def stat_of(nodes: Nodes, path: bytes) -> Stat:
    """As clients see it."""
    node = nodes[path]
    children = len(child_paths(nodes, path))
    owner = 0 if node.owner in (0, CONTAINER) or is_ttl(node.owner) else node.owner
    cversion = node.creates * 2 - children
    head = (node.czxid, node.mzxid, node.ctime, node.mtime, node.version, cversion, node.aversion)
    return (*head, owner, len(node.data), children, node.pzxid)


def is_ttl(owner: int) -> bool:
    return owner & TTL & _U64 == TTL & _U64


def digest_of(nodes: Nodes) -> int:
    """The tree's digest; everything below /zookeeper counts nothing."""
    total = 0
    for path, node in nodes.items():
        if not path.startswith(b"/zookeeper/"):
            times = (node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime)
            block = _BLOCK.pack(*times, node.version, node.creates, node.aversion, node.owner)
            total += zlib.crc32((b"" if path == b"/" else path) + node.data + block)
    return total & _U64


def pristine() -> Nodes:
    """What a server has before its first txn."""
    node = Node(b"", ALL, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    config = node._replace(perms=READ, aversion=-1)
    return {b"/": node, b"/zookeeper": node, b"/zookeeper/quota": node, b"/zookeeper/config": config}


class Model:
    """The history of a server: its state after each txn."""

    def __init__(self) -> None:
        self.states = [State(pristine(), {}, (), Outcome())]

    @property
    def zxid(self) -> int:
        """The last txn's; they count from 1."""
        return len(self.states) - 1

    def cut(self, zxid: int) -> None:
        """Forgets what came after it: it never was."""
        del self.states[zxid + 1 :]

    def apply(self, zxid: int, time_ms: int, session_id: int, write: Write) -> Outcome:
        """What must come of the next write."""
        assert zxid == self.zxid + 1, f"zxid {zxid} behind {self.zxid}"
        last = self.states[-1]
        step = _Step(dict(last.nodes), dict(last.sessions), zxid, time_ms, session_id)
        try:
            outcome = step.run(write)
        except Refused as refused:
            outcome = Outcome(refused.err)
            step = _Step(last.nodes, last.sessions, zxid, time_ms, session_id)
        self.states.append(State(step.nodes, step.sessions, tuple(step.triggers), outcome))
        return outcome


class _Step:
    """One txn on a copy of the state."""

    def __init__(self, nodes: Nodes, sessions: dict[int, int], zxid: int, time_ms: int, session_id: int) -> None:
        self.nodes = nodes
        self.sessions = sessions
        self.zxid = zxid
        self.time_ms = time_ms
        self.session_id = session_id
        self.triggers: list[Trigger] = []

    def run(self, write: Write) -> Outcome:
        kind = write.kind
        if kind == "open":
            self.sessions[self.session_id] = write.number
            return Outcome()
        if kind == "close":
            self.sessions.pop(self.session_id, None)
            for path in [path for path, node in self.nodes.items() if node.owner == self.session_id]:
                self._remove(path)
            return Outcome()
        if kind == "reap":
            if write.path not in self.nodes:
                raise Refused(NO_NODE)
            if child_paths(self.nodes, write.path):
                raise Refused(NOT_EMPTY)
            self._remove(write.path)
            return Outcome()
        if kind == "multi":
            return self._multi(write)
        return self._single(write)

    def _multi(self, write: Write) -> Outcome:
        before = dict(self.nodes)
        outcome = Outcome()
        for index, part in enumerate(write.parts):
            try:
                outcome.parts.append(self._single(part))
            except Refused as refused:
                self.nodes = before
                self.triggers = []
                rest = len(write.parts) - index - 1
                codes = [OK] * index + [refused.err] + [RUNTIME_INCONSISTENCY] * rest
                outcome.parts = [Outcome(code) for code in codes]
                # Not the reply's, which is fine, but a sign that nothing was done.
                outcome.path = b"failed"
                break
        return outcome

    def _single(self, write: Write) -> Outcome:
        if self.session_id not in self.sessions:
            raise Refused(SESSION_EXPIRED)
        if write.kind == "create":
            return self._create(write)
        if write.kind == "delete":
            return self._delete(write)
        node = self.nodes.get(write.path)
        if node is None:
            raise Refused(NO_NODE)
        needed = {"set": WRITE, "acl": ADMIN, "check": READ}[write.kind]
        if not node.perms & needed:
            raise Refused(NO_AUTH)
        if write.version not in (-1, node.aversion if write.kind == "acl" else node.version):
            raise Refused(BAD_VERSION)
        if write.kind == "set":
            node = node._replace(data=write.data, version=node.version + 1, mzxid=self.zxid, mtime=self.time_ms)
            self.triggers.append((DATA_CHANGED, write.path))
        elif write.kind == "acl":
            node = node._replace(perms=write.perms, aversion=node.aversion + 1)
        self.nodes[write.path] = node
        return Outcome(OK, write.path, stat_of(self.nodes, write.path))

    def _create(self, write: Write) -> Outcome:
        above = parent_path(write.path)
        parent = self.nodes.get(above)
        if parent is None:
            raise Refused(NO_NODE)
        if not parent.perms & CREATE:
            raise Refused(NO_AUTH)
        path = write.path + (b"%010d" % parent.creates if write.sequential else b"")
        if path in self.nodes:
            raise Refused(NODE_EXISTS)
        if parent.owner not in (0, CONTAINER) and not is_ttl(parent.owner):
            raise Refused(NO_CHILDREN_FOR_EPHEMERALS)
        owners = {"": 0, "ephemeral": self.session_id, "container": CONTAINER, "ttl": TTL | write.number}
        zxid, time_ms = self.zxid, self.time_ms
        self.nodes[above] = parent._replace(creates=parent.creates + 1, pzxid=zxid)
        owner = owners[write.owner]
        self.nodes[path] = Node(write.data, write.perms, zxid, zxid, zxid, time_ms, time_ms, 0, 0, 0, owner)
        self.triggers += [(CREATED, path), (CHILDREN_CHANGED, above)]
        return Outcome(OK, path, stat_of(self.nodes, path))

    def _delete(self, write: Write) -> Outcome:
        parent = self.nodes.get(parent_path(write.path))
        if parent is None:
            raise Refused(NO_NODE)
        if not parent.perms & DELETE:
            raise Refused(NO_AUTH)
        node = self.nodes.get(write.path)
        if node is None:
            raise Refused(NO_NODE)
        if write.version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        if child_paths(self.nodes, write.path):
            raise Refused(NOT_EMPTY)
        self._remove(write.path)
        return Outcome()

    def _remove(self, path: bytes) -> None:
        del self.nodes[path]
        above = parent_path(path)
        self.nodes[above] = self.nodes[above]._replace(pzxid=self.zxid)
        self.triggers += [(DELETED, path), (CHILDREN_CHANGED, above)]

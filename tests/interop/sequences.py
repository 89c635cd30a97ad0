"""Random sequences of requests for the differential test: what is asked, not how it is judged.

A sequence is a list of `Step`s: which of a few sessions asks what. A step's `repr` is Python, so a failing sequence
can be pasted into a test. Paths are relative to the subtree of the run: "/a" is /a there, "" its root; "=..." is
taken literally, with {p} standing for the subtree.
Invariant: `generate` is a function of the seed alone, and every step has a meaning whatever happened before it, so
that any sublist of a sequence is a sequence too (the shrinker leaves steps out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, cast

from tests.interop import raw

Value = object
MAX_STEPS: Final = 40
SESSIONS: Final = 3
INT_MAX: Final = 2**31 - 1

# Requests of a session that need no answer before the next is sent are pipelined. These are not. Most of them Java
# answers from the connection's thread, which may overtake the replies of requests still in its pipeline, or they
# end the connection. And after setACL, a request that Java prepares before the setACL is applied is still checked
# against the old ACL (PrepRequestProcessor leaves the new one out of the change record), so what it answers depends
# on the speed of its threads.
SOLO: Final = ("auth", "sasl", "raw", "close", "reconnect", "deleteContainer", "check", "setACL")


@dataclass(frozen=True, slots=True)
class Step:
    """Session number `who` does `kind` with `args`."""

    who: int
    kind: str
    args: tuple[Value, ...] = ()

    def __repr__(self) -> str:
        return f"Step({self.who}, {self.kind!r}, {self.args!r})"


OPCODES: Final[dict[str, int]] = {
    "create": raw.CREATE,
    "create2": raw.CREATE2,
    "createContainer": raw.CREATE_CONTAINER,
    "createTTL": raw.CREATE_TTL,
    "delete": raw.DELETE,
    "deleteContainer": raw.DELETE_CONTAINER,
    "exists": raw.EXISTS,
    "getData": raw.GET_DATA,
    "setData": raw.SET_DATA,
    "getACL": raw.GET_ACL,
    "setACL": raw.SET_ACL,
    "getChildren": raw.GET_CHILDREN,
    "getChildren2": raw.GET_CHILDREN2,
    "sync": raw.SYNC,
    "check": raw.CHECK,
    "multi": raw.MULTI,
    "multiRead": raw.MULTI_READ,
    "reconfig": raw.RECONFIG,
    "checkWatches": raw.CHECK_WATCHES,
    "removeWatches": raw.REMOVE_WATCHES,
    "addWatch": raw.ADD_WATCH,
    "setWatches": raw.SET_WATCHES,
    "setWatches2": raw.SET_WATCHES2,
    "getEphemerals": raw.GET_EPHEMERALS,
    "getAllChildrenNumber": raw.GET_ALL_CHILDREN_NUMBER,
    "whoAmI": raw.WHO_AM_I,
    "auth": raw.AUTH,
    "sasl": raw.SASL,
    "ping": raw.PING,
    "close": raw.CLOSE_SESSION,
}
XIDS: Final[dict[str, int]] = {
    "auth": raw.XID_AUTH,
    "ping": raw.XID_PING,
    "setWatches": raw.XID_SET_WATCHES,
    "setWatches2": raw.XID_SET_WATCHES,
}


# --- from a step to bytes -------------------------------------------------------------------------


def resolve(path: Value, prefix: str) -> raw.Path:
    """The path to send for a step's path argument."""
    if path is None:
        return None
    if isinstance(path, bytes):
        return prefix.encode() + path
    text = cast(str, path)
    return text[1:].replace("{p}", prefix) if text.startswith("=") else prefix + text


def encode(step: Step, prefix: str, last_zxid: int) -> tuple[int, bytes]:
    """Opcode and body of a step's request. `last_zxid` is what this session has seen, for setWatches."""
    if step.kind == "raw":
        op, body = step.args
        return cast(int, op), cast(bytes, body)
    return OPCODES[step.kind], _body(step.kind, step.args, prefix, last_zxid)


def _body(kind: str, args: tuple[Value, ...], prefix: str, last_zxid: int) -> bytes:
    if kind in _RECORDS:
        return _RECORDS[kind](resolve(args[0], prefix), *args[1:])
    if kind in ("multi", "multiRead"):
        return raw.multi([_operation(cast(tuple[Value, ...], operation), prefix) for operation in args])
    if kind in ("setWatches", "setWatches2"):
        lists = [[resolve(path, prefix) for path in cast(tuple[Value, ...], paths)] for paths in args[1:]]
        return raw.set_watches(last_zxid - cast(int, args[0]), *lists)
    if kind == "auth":
        return raw.auth(cast(str, args[0]), cast(bytes | None, args[1]))
    if kind == "sasl":
        return raw.buffer(cast(bytes | None, args[0]))
    if kind == "reconfig":
        return raw.reconfig(*cast(tuple[raw.Path, raw.Path, raw.Path, int], args))
    assert kind in ("whoAmI", "ping", "close"), kind
    return b""


def _operation(operation: tuple[Value, ...], prefix: str) -> tuple[int, bytes]:
    kind = operation[0]
    if isinstance(kind, int):
        return kind, cast(bytes, operation[1])
    name = cast(str, kind)
    return OPCODES[name], _body(name, operation[1:], prefix, 0)


_RECORDS: Final[dict[str, Callable[..., bytes]]] = {
    "create": raw.create,
    "create2": raw.create,
    "createContainer": raw.create,
    "createTTL": raw.create_ttl,
    "delete": raw.path_version,
    "deleteContainer": raw.ustring,
    "exists": raw.path_watch,
    "getData": raw.path_watch,
    "setData": raw.set_data,
    "getACL": raw.ustring,
    "setACL": raw.set_acl,
    "getChildren": raw.path_watch,
    "getChildren2": raw.path_watch,
    "sync": raw.ustring,
    "check": raw.path_version,
    "checkWatches": raw.path_version,
    "removeWatches": raw.path_version,
    "addWatch": raw.path_version,
    "getEphemerals": raw.ustring,
    "getAllChildrenNumber": raw.ustring,
}


# --- generating -----------------------------------------------------------------------------------

# Few names, so that steps meet: creates collide, deletes find children, watches fire.
PATHS: Final = ("/a", "/a", "/a", "/b", "/b", "/a/x", "/a/x", "/a/y", "/b/x", "/a/x/1", "/c", "/é名", "")
SEQUENTIAL: Final = ("/a/s-", "/a/", "/s-", "/b/x")
SEQUENTIAL_MADE: Final = ("/a/s-0000000000", "/a/s-0000000001", "/a/0000000000", "/s-0000000002", "/b/x0000000000")
BAD_PATHS: Final[tuple[Value, ...]] = (
    "/a/", "//a", "/a//b", "/./a", "/a/..", "/a/.", "/a/...", "/a/\0", "/a\x01b", "/\x7f", "/\u0085", "/\ud800",
    "/\ue000", "/\uf8ff",
    "/\ufff0", "/\uffff", "/\U0001f600", "/ ", "=", "=a", "=/", "=a/b", None, b"/\xff", b"/\xc0\xaf",
    b"/\xed\xa0\x80", b"/\xf0\x9f\x98\x80",
    b"/\xc3\xa9", b"/a\xe2\x82", "=/zookeeper", "=/zookeeper/quota", "=/zookeeper/config", "=/zookeeper/nope",
    "/a/b/c/d/e/f/g",
)  # fmt: skip
DATA: Final = (b"", b"x", b"0123456789", b"\0\xff", None, b"z" * 100)
QUOTA_DATA: Final = (b"count=1,bytes=2", b"count=-1,bytes=-1=;byteHardLimit=30;countHardLimit=4")
ALICE: Final = "alice:zMr7NGSJC8xGc4J0Bbvj5q51MxE="
BOB: Final = "bob:X1SKGw3XQQSIPMZRf5lW7e07VPY="
_W: Final = "world"
ACLS: Final[tuple[Value, ...]] = (
    ((1, _W, "anyone"),),
    ((15, _W, "anyone"),),
    ((30, _W, "anyone"),),
    ((31, "auth", ""),),
    ((31, "auth", "ignored"), (1, _W, "anyone")),
    ((31, "digest", ALICE),),
    ((31, "digest", ALICE), (1, _W, "anyone")),
    ((31, "digest", BOB), (8, "digest", ALICE)),
    ((16, "digest", ALICE), (13, "digest", BOB)),
    ((31, "ip", "127.0.0.1"),),
    ((31, "ip", "127.0.0.0/8"), (1, _W, "anyone")),
    ((31, "ip", "10.0.0.0/8"), (1, "ip", "127.0.0.1/32")),
    ((31, "digest", "super:nobody"),),
    ((0, _W, "anyone"),),
    ((31, _W, "anyone"), (31, _W, "anyone")),
    ((31, _W, "anyone"), (1, _W, "anyone"), (31, _W, "anyone")),
)
NULL_WORLD: Final = ((31, _W, None),)
BAD_ACLS: Final[tuple[Value, ...]] = (
    (), None, ((31, "nope", "x"),), ((31, _W, "x"),), NULL_WORLD, ((31, None, "x"),), ((31, "digest", "nocolon"),),
    ((31, "digest", "a:b:c"),),
    ((31, "digest", ""),), ((31, "ip", "1.2.3.4/99"),), ((31, "ip", "300.1.1.1"),), ((31, "ip", "::/0"),),
    ((31, "ip", "::1/129"),), ((31, "ip", ""),),
    ((31, "ip", "1.2.3"),), ((31, "ip", "1.2.3.4/-1"),), ((31, "ip", "1.2.3.4/x"),), ((31, "super", ""),),
    ((31, "super", "x"),), ((31, "x509", "CN=a"),),
    ((31, "sasl", "a"),), ((64, _W, "anyone"),), ((-1, _W, "anyone"),), ((31, _W, "anyone"), (31, "nope", "")),
    ((31, "", ""),),
)  # fmt: skip
VERSIONS: Final = (-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 2, 3, -2, INT_MAX, -INT_MAX - 1)
FLAGS: Final = (0, 0, 0, 0, 1, 1, 2, 2, 3, 3)
BAD_FLAGS: Final = (4, 5, 6, 7, 8, 9, 255, -1, INT_MAX)
CREDENTIALS: Final[tuple[tuple[str, bytes | None], ...]] = (
    ("digest", b"alice:alice"), ("digest", b"alice:alice"), ("digest", b"bob:bob"), ("digest", b"super:secret"),
)  # fmt: skip
BAD_CREDENTIALS: Final[tuple[tuple[str, bytes | None], ...]] = (
    ("digest", b"super:wrong"), ("digest", b"alice"), ("digest", b"alice:"), ("digest", b":x"), ("digest", b""),
    ("nope", b"x"), ("world", b"anyone"),
    ("auth", b""), ("ip", b"1.2.3.4"), ("super", b""), ("sasl", b""), ("digest", b"a:b:c"), ("digest", b"\xff:\xfe"),
)  # fmt: skip
RAW: Final[tuple[tuple[int, bytes], ...]] = (
    (9999, b""), (10, b""), (0, b""), (-1, b""), (23, b""), (108, b""), (-2, b""), (-12, b""), (99, b"abc"), (13, b""),
    (raw.CREATE, b""), (raw.CREATE, b"\0\0\0\1/"), (raw.DELETE, b"\0\0\0\2/"), (raw.SET_DATA, b"\x7f\xff\xff\xff"),
    (raw.GET_DATA, b"\0\0\0\1/"), (raw.GET_CHILDREN, b"\xff\xff\xff\xfe\0"), (raw.EXISTS, b""), (raw.SYNC, b""),
    (raw.MULTI, b""),
    (raw.MULTI, b"\0\0\0\1\0\xff\xff\xff\xff"), (raw.MULTI_READ, b""), (raw.SET_WATCHES, b""), (raw.ADD_WATCH, b""),
    (raw.SET_ACL, b"\0\0\0\0"),
    (raw.GET_ACL, b""), (raw.CHECK_WATCHES, b""), (raw.REMOVE_WATCHES, b"\0\0\0\1/"), (raw.CREATE_TTL, b""),
    (raw.GET_EPHEMERALS, b""),
    (raw.WHO_AM_I, b"trailing"), (raw.PING, b"trailing"), (raw.GET_DATA, b"\0\0\0\1/\0trailing"),
    (raw.EXISTS, b"\0\0\0\1/\2"),
)  # fmt: skip
TTLS: Final = (1, 60_000, 2**40 - 1, 2**40, 0, -1, 2**63 - 1, -(2**63))


class Generator:
    """Makes one sequence from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.who = 0
        self.made: list[str] = []  # paths that probably exist, so that most requests find something

    def sequence(self) -> list[Step]:
        """The steps."""
        quota = self.rng.random() < 0.15
        steps: list[Step] = []
        if self.rng.random() < 0.8:
            self.made += ("/a", "/b", "/a/x")[: self.rng.randint(1, 3)]
            steps += [Step(0, "create", (path, b"", raw.OPEN, 0)) for path in self.made]
        if quota:
            steps += self._quota()
        for _ in range(self.rng.randint(5, MAX_STEPS)):
            if self.rng.random() < 0.3:
                self.who = self.rng.randrange(SESSIONS)
            steps.append(self._step())
        return steps

    def _pick(self, options: Sequence[Value]) -> Value:
        return self.rng.choice(options)

    def _step(self) -> Step:
        names, weights = _WEIGHTED
        kind = self.rng.choices(names, weights)[0]
        return Step(self.who, kind, _ARGUMENTS[kind](self))

    def _quota(self) -> list[Step]:
        """A quota on /a as zkCli writes it (QuotaCommand): limits and the statistics node."""
        hard = self.rng.random() < 0.6
        count, size = self.rng.choice((-1, 1, 2, 3)), self.rng.choice((-1, 0, 5, 12))
        soft = f"count={-1 if hard else count},bytes={-1 if hard else size}"
        limits = f"{soft}=;byteHardLimit={size};countHardLimit={count}" if hard else soft
        root = "=/zookeeper/quota{p}"
        nodes = [(root, b""), (root + "/a", b""), (root + "/a/zookeeper_limits", limits.encode())]
        nodes.append((root + "/a/zookeeper_stats", b"count=0,bytes=0"))
        return [Step(0, "create", (path, data, raw.OPEN, 0)) for path, data in nodes]

    def path(self) -> Value:
        """Mostly a path that others use too."""
        roll = self.rng.random()
        if roll < 0.04:
            return self._pick(BAD_PATHS)
        if roll < 0.10:
            return self._pick(SEQUENTIAL_MADE)
        if roll < 0.12:
            return "=/zookeeper/quota{p}/a/" + self.rng.choice(("zookeeper_stats", "zookeeper_limits"))
        return self._pick(self.made) if self.made and roll < 0.7 else self._pick(PATHS)

    def new_path(self) -> Value:
        """Mostly a path that does not exist yet, below one that does."""
        if self.rng.random() < 0.4:
            return self.path()
        path = f"{self.rng.choice(self.made) if self.made else ''}/{self.rng.choice('nmop')}{len(self.made)}"
        self.made.append(path)
        return path

    def old_path(self) -> Value:
        """A path to delete: the younger, the likelier to be a leaf."""
        if not self.made or self.rng.random() < 0.5:
            return self.path()
        return self.made.pop() if self.rng.random() < 0.7 else self._pick(self.made)

    def _data(self, path: Value) -> Value:
        # Anything but a quota's own syntax in a quota's node ends Java at the next change below it (StatsTrack
        # throws in DataTree.updateQuotaStat). That case is test_bad_input_client.py's.
        return self._pick(QUOTA_DATA if "zookeeper/quota" in str(path) else DATA)

    def acl(self) -> Value:
        """Mostly open."""
        roll = self.rng.random()
        return raw.OPEN if roll < 0.75 else self._pick(ACLS) if roll < 0.93 else self._pick(BAD_ACLS)

    def create(self) -> tuple[Value, ...]:
        flags = self._pick(FLAGS) if self.rng.random() < 0.95 else self._pick(BAD_FLAGS)
        path = self._pick(SEQUENTIAL) if flags in (2, 3) and self.rng.random() < 0.8 else self.new_path()
        return path, self._data(path), self.acl(), flags

    def create_container(self) -> tuple[Value, ...]:
        # With an ephemeral mode Java's change record and its tree disagree on the owner, which again makes timing
        # visible.
        path, flags = self.new_path(), 4 if self.rng.random() < 0.9 else self._pick((0, 2, *BAD_FLAGS))
        return path, self._data(path), self.acl(), flags

    def create_ttl(self) -> tuple[Value, ...]:
        flags = self._pick((5, 6)) if self.rng.random() < 0.9 else self._pick((*FLAGS, *BAD_FLAGS))
        # A negative ttl with another mode passes Java's EphemeralType.validateTTL and then ends the server for good:
        # the logged txn cannot be applied, now or at the next start. That case is test_bad_input_client.py's.
        ttls = TTLS if flags in (5, 6) else (0, 1, 60_000)
        path = self.new_path()
        return path, self._data(path), self.acl(), flags, self._pick(ttls)

    def path_only(self) -> tuple[Value, ...]:
        return (self.path(),)

    def path_version(self) -> tuple[Value, ...]:
        return self.path(), self._pick(VERSIONS)

    def delete(self) -> tuple[Value, ...]:
        return self.old_path(), self._pick(VERSIONS)

    def path_watch(self) -> tuple[Value, ...]:
        return self.path(), self.rng.random() < 0.6

    def set_data(self) -> tuple[Value, ...]:
        path = self.path()
        return path, self._data(path), self._pick(VERSIONS)

    def set_acl(self) -> tuple[Value, ...]:
        return self.path(), self.acl(), self._pick(VERSIONS)

    def watch_type(self) -> tuple[Value, ...]:
        return self.path(), self._pick((1, 2, 3, 4, 5)) if self.rng.random() < 0.95 else self._pick((0, 6, -1))

    def watch_mode(self) -> tuple[Value, ...]:
        return self.path(), self._pick((0, 1)) if self.rng.random() < 0.95 else self._pick((2, -1))

    def set_watches(self) -> tuple[Value, ...]:
        return self._relative(), *(self._paths() for _ in range(3))

    def set_watches2(self) -> tuple[Value, ...]:
        return self._relative(), *(self._paths() for _ in range(5))

    def _relative(self) -> Value:
        return self._pick((0, 1, 2, 5, 1000, -1000))

    def _paths(self) -> Value:
        return tuple(self.path() for _ in range(self.rng.choice((0, 0, 1, 2, 3))))

    def multi(self) -> tuple[Value, ...]:
        return tuple(self._operation() for _ in range(self.rng.choice((0, 1, 2, 2, 3, 3, 4, 6))))

    def _operation(self) -> Value:
        if self.rng.random() < 0.03:
            return self._pick(
                (
                    (99, b""),
                    (raw.MULTI, raw.multi([])),
                    (raw.GET_DATA, raw.path_watch("/")),
                    (raw.SYNC, raw.ustring("/")),
                    (-1, b""),
                )
            )
        kinds = ("create", "create", "create2", "delete", "setData", "setData", "check", "createTTL", "createContainer")
        kind = self.rng.choice(kinds)
        args = _ARGUMENTS[kind](self)
        # A null path or a null world id is a NullPointerException, after which Java forgets to roll the earlier
        # parts of the multi back (PrepRequestProcessor does so for a KeeperException only): what follows depends on
        # timing.
        return ("check", "/a", 0) if args[0] is None or NULL_WORLD in args else (kind, *args)

    def multi_read(self) -> tuple[Value, ...]:
        def operation() -> Value:
            if self.rng.random() < 0.04:
                return self._pick(((99, b""), (raw.EXISTS, raw.path_watch("/")), (raw.DELETE, raw.path_version("/"))))
            return self.rng.choice(("getData", "getChildren")), *self.path_watch()

        return tuple(operation() for _ in range(self.rng.choice((0, 1, 2, 3))))

    def auth(self) -> tuple[Value, ...]:
        scheme, data = self.rng.choice(CREDENTIALS if self.rng.random() < 0.85 else BAD_CREDENTIALS)
        return scheme, data

    def sasl(self) -> tuple[Value, ...]:
        return (self._pick((b"", b"token", None)),)

    def reconfig(self) -> tuple[Value, ...]:
        return (
            self._pick((None, "server.1=h:1:2;3")),
            self._pick((None, "1")),
            self._pick((None, "server.2=h:1:2;3")),
            -1,
        )

    def raw(self) -> tuple[Value, ...]:
        return self.rng.choice(RAW)

    def reconnect(self) -> tuple[Value, ...]:
        return (self._pick(("resume", "resume", "resume", "resume", "ahead", "wrong password")),)

    def nothing(self) -> tuple[Value, ...]:
        return ()


_ARGUMENTS: Final[dict[str, Callable[[Generator], tuple[Value, ...]]]] = {
    "create": Generator.create,
    "create2": Generator.create,
    "createContainer": Generator.create_container,
    "createTTL": Generator.create_ttl,
    "delete": Generator.delete,
    "deleteContainer": Generator.path_only,
    "exists": Generator.path_watch,
    "getData": Generator.path_watch,
    "setData": Generator.set_data,
    "getACL": Generator.path_only,
    "setACL": Generator.set_acl,
    "getChildren": Generator.path_watch,
    "getChildren2": Generator.path_watch,
    "sync": Generator.path_only,
    "check": Generator.path_version,
    "multi": Generator.multi,
    "multiRead": Generator.multi_read,
    "reconfig": Generator.reconfig,
    "checkWatches": Generator.watch_type,
    "removeWatches": Generator.watch_type,
    "addWatch": Generator.watch_mode,
    "setWatches": Generator.set_watches,
    "setWatches2": Generator.set_watches2,
    "getEphemerals": Generator.path_only,
    "getAllChildrenNumber": Generator.path_only,
    "whoAmI": Generator.nothing,
    "auth": Generator.auth,
    "sasl": Generator.sasl,
    "raw": Generator.raw,
    "ping": Generator.nothing,
    "close": Generator.nothing,
    "reconnect": Generator.reconnect,
}
_WEIGHTS: Final[dict[str, int]] = {
    "create": 18, "create2": 8, "createContainer": 2, "createTTL": 3, "delete": 12, "deleteContainer": 1, "exists": 6,
    "getData": 6,
    "setData": 10, "getACL": 3, "setACL": 4, "getChildren": 4, "getChildren2": 4, "sync": 1, "check": 1, "multi": 12,
    "multiRead": 4,
    "reconfig": 1, "checkWatches": 4, "removeWatches": 4, "addWatch": 6, "setWatches": 3, "setWatches2": 3,
    "getEphemerals": 2,
    "getAllChildrenNumber": 2, "whoAmI": 1, "auth": 5, "sasl": 1, "raw": 2, "ping": 1, "close": 2, "reconnect": 3,
}  # fmt: skip
_WEIGHTED: Final = (tuple(_WEIGHTS), tuple(_WEIGHTS.values()))


def generate(seed: int) -> list[Step]:
    """The sequence of `seed`."""
    return Generator(seed).sequence()

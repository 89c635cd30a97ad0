"""Random requests of every kind a client may send, many of them wrong, for comparing core with a Java server.

Some things are left out because there is nothing to compare: what kills a Java server or makes its digest wrong (text
in quota nodes that is no quota, createTTL without a TTL mode, flags of a container in a plain create), and IPv6 in
ACLs, which 3.9.3 cannot read (ZOOKEEPER-4240).
"""

from __future__ import annotations

import random

from coati.core.acl import OPEN_WIRE, generate_digest
from coati.wire import codes
from tests.core.kit import jbuf, jint, jlong, jvec, multi_body

QUOTA = b"/zookeeper/quota"
PATHS = (
    [b"/", b"/a", b"/b", b"/a/b", b"/a/c", b"/a/b/d", b"/q", b"/q/n-", b"/e", b"/e/x", b"/zookeeper", QUOTA]
    + [b"/zookeeper/config", b"/c", b"/c/k", b"/t", b"/\xc3\xbc", b"/p", b"/p/x"]
    + [QUOTA + path for path in (b"/p", b"/p/zookeeper_limits", b"/p/zookeeper_stats", b"/a")]
    + [QUOTA + path for path in (b"/a/zookeeper_limits", b"/a/zookeeper_stats")]
)
BAD_PATHS = [
    b"",
    *b"a /a/ // //a /a//b /./a /a/.. /a/. /x\x00y /x\x01 /\xc2\x80 /\xff\xfe /\xee\x80\x80 a/b /a/b/ /...".split(),
    b"/a/.x",
    b"/\xf0\x9f\x98\x80",
    b"/\x7f",
]
LIMITS = (
    b"count=2,bytes=40",
    b"count=-1,bytes=-1=;byteHardLimit=60;countHardLimit=3",
    b"count=3,bytes=5=;countHardLimit=2",
)
CREDENTIALS = "bob:pw"


def acl(*entries: tuple[int, str, str]) -> bytes:
    fields = [jint(perms) + jbuf(scheme.encode()) + jbuf(who.encode()) for perms, scheme, who in entries]
    return jint(len(fields)) + b"".join(fields)


ACLS = [OPEN_WIRE] * 12 + [
    acl((1, "world", "anyone")),
    acl((31, "digest", generate_digest(CREDENTIALS))),
    acl((31, "auth", "")),
    acl((31, "ip", "127.0.0.1")),
    acl((31, "ip", "10.0.0.0/8"), (1, "world", "anyone")),
    acl(),
    jint(-1),
    acl((31, "bad", "x")),
    acl((31, "world", "x")),
    acl((31, "digest", "nocolon")),
    acl((31, "digest", "a:b:")),
    acl((31, "ip", "1.2.3.4/99")),
    acl((31, "ip", "0.0.0.0/0")),
    acl((31, "ip", "300.1.1.1")),
    acl((31, "world", "anyone"), (31, "world", "anyone")),
    acl((5, "auth", ""), (1, "world", "anyone")),
    acl((64, "world", "anyone")),
    acl((23, "digest", "u:h"), (15, "world", "anyone")),
    acl((31, "super", "")),
    acl((31, "sasl", "x")),
]


class Requests:
    """A stream of requests from a seed."""

    def __init__(self, seed: int, *, extended_types: bool) -> None:
        self.random = random.Random(seed)
        self.extended_types = extended_types

    def any(self) -> tuple[int, bytes]:
        """Opcode and record."""
        draw = self.random.random()
        if draw < 0.28:
            op = self.random.choice((1, 1, 1, 15, 15, 19))
            return op, self._create(op)
        if draw < 0.31:
            return codes.OP_CREATE_TTL, self._create_ttl()
        if draw < 0.42:
            return codes.OP_SET_DATA, self._set_data()
        if draw < 0.53:
            return codes.OP_DELETE, jbuf(self._path()) + self._version()
        if draw < 0.58:
            return codes.OP_SET_ACL, jbuf(self._path()) + self.random.choice(ACLS) + self._version()
        if draw < 0.66:
            return codes.OP_MULTI, self._multi()
        return self._read()

    def _read(self) -> tuple[int, bytes]:
        flag = bytes([self.random.random() < 0.4])
        path = jbuf(self._path())
        number = self.random.randrange(7)
        vectors = [self._vector() for _ in range(5)]
        return self.random.choice(
            [(op, path + flag) for op in (3, 3, 4, 4, 8, 12)]
            + [(op, path) for op in (codes.OP_GET_ACL, codes.OP_SYNC, codes.OP_GET_ALL_CHILDREN_NUMBER)]
            + [(codes.OP_MULTI_READ, self._multi_read()), (codes.OP_WHO_AM_I, b"")]
            + [(op, path + jint(number)) for op in (codes.OP_CHECK_WATCHES, codes.OP_REMOVE_WATCHES)]
            + [(codes.OP_ADD_WATCH, path + jint(number % 3))]
            + [(codes.OP_SET_WATCHES, jlong(self.random.randrange(400)) + b"".join(vectors[:3]))]
            + [(codes.OP_SET_WATCHES2, jlong(self.random.randrange(400)) + b"".join(vectors))]
            + [(codes.OP_GET_EPHEMERALS, jbuf(self.random.choice((None, b"", b"/", b"/e", b" /", b"zz"))))]
            + [(codes.OP_RECONFIG, jbuf(None) + jbuf(b"1") + jbuf(None) + jlong(-1))]
        )

    def _path(self) -> bytes:
        draw = self.random.random()
        if draw < 0.08:
            return self.random.choice(BAD_PATHS)
        if draw < 0.15:
            return self.random.choice(PATHS) + self.random.choice((b"/x", b"/y", b"/n0000000001"))
        return self.random.choice(PATHS)

    def _data(self, path: bytes) -> bytes:
        draw = self.random.random()
        if draw < 0.1 or path.endswith((b"zookeeper_limits", b"zookeeper_stats")):
            return jbuf(self.random.choice(LIMITS))
        if draw < 0.15:
            return jbuf(None)
        return jbuf(bytes([self.random.randrange(256)]) * self.random.randrange(40))

    def _version(self) -> bytes:
        return jint(self.random.choice((-1, -1, -1, 0, 0, 1, 2, 3, -2)))

    def _create(self, op: int, flags: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 2, 2, 3, -1, 7, 5, 6)) -> bytes:
        path = self._path()
        flag = 4 if op == codes.OP_CREATE_CONTAINER else self.random.choice(flags)
        if path == QUOTA:
            path = b"/a"
        if path.startswith(QUOTA) and flag in (2, 3, 6):
            flag = 0
        return jbuf(path) + self._data(path) + self.random.choice(ACLS) + jint(flag)

    def _create_ttl(self) -> bytes:
        path = self._path()
        if path.startswith(b"/zookeeper"):
            path = b"/t"
        flag = self.random.choice((5, 5, 6, 0, 1, 7))
        ttls = (10**9, 0, -1, 1 << 40, (1 << 40) - 1) if flag in (5, 6) else (5,)
        fields = jbuf(path) + self._data(path) + self.random.choice(ACLS) + jint(flag)
        return fields + jlong(self.random.choice(ttls))

    def _set_data(self) -> bytes:
        path = self._path()
        if path == b"/zookeeper/config":
            path = b"/a"
        return jbuf(path) + self._data(path) + self._version()

    def _multi(self) -> bytes:
        return multi_body(*[self._part() for _ in range(self.random.choice((0, 1, 2, 2, 3, 3, 4, 6)))])

    def _part(self) -> tuple[int, bytes]:
        draw = self.random.random()
        if draw < 0.35:
            op = self.random.choice((1, 1, 15, 19))
            return op, self._create(op, (0, 0, 1, 2, 3))
        if draw < 0.6:
            return codes.OP_SET_DATA, self._set_data()
        if draw < 0.9 or not self.extended_types:
            op = codes.OP_DELETE if draw < 0.8 else codes.OP_CHECK
            return op, jbuf(self._path()) + self._version()
        return codes.OP_CREATE_TTL, self._create_ttl()

    def _multi_read(self) -> bytes:
        ops = [(self.random.choice((4, 8)), jbuf(self._path()) + b"\0") for _ in range(self.random.randrange(4))]
        return multi_body(*ops)

    def _vector(self) -> bytes:
        return jvec([self.random.choice(PATHS) for _ in range(self.random.randrange(3))])

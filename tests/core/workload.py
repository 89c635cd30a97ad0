"""Random writes of several sessions on a small set of paths, so that they meet: every txn type, and many failures."""

from __future__ import annotations

import random
from collections.abc import Iterator

from coati.wire import codes
from coati.wire.records import ACL, Id
from tests.core.kit import NOBODY, OPEN, READ_ONLY, Client, Core, create_body, jacl, jbuf, jint, jlong, multi_body

NAMES = (b"a", b"b", b"c")
ACLS = (OPEN, OPEN, OPEN, READ_ONLY, NOBODY, [ACL(31, Id("ip", "127.0.0.1"))])


class Workload:
    """A stream of requests; each is of one of the clients, which it opens and closes as it goes."""

    def __init__(self, core: Core, seed: int) -> None:
        self.core = core
        self.random = random.Random(seed)
        self.clients = [core.connect(session_id) for session_id in (1, 2, 3)]
        self.next_session = 4

    def requests(self, count: int) -> Iterator[tuple[Client | None, int, bytes]]:
        for _ in range(count):
            self.core.now_ms += self.random.randrange(10)
            if self.random.random() < 0.02:
                yield self._close_one()
            else:
                op, body = self._any_write()
                yield self.random.choice(self.clients), op, body

    def _close_one(self) -> tuple[Client | None, int, bytes]:
        old = self.clients.pop(0)
        self.clients.append(Client(self.next_session))
        self.core.sessions.track(self.next_session, 30_000, 0)
        self.next_session += 1
        return old, codes.OP_CLOSE_SESSION, b""

    def _path(self) -> bytes:
        depth = self.random.choice((1, 1, 2, 2, 3))
        return b"".join(b"/" + self.random.choice(NAMES) for _ in range(depth))

    def _data(self) -> bytes | None:
        return self.random.choice((None, b"", b"x", b"data%d" % self.random.randrange(1000)))

    def _any_write(self) -> tuple[int, bytes]:
        draw = self.random.random()
        if draw < 0.12:
            parts = [self._plain_write(in_multi=True) for _ in range(self.random.randrange(5))]
            return codes.OP_MULTI, multi_body(*parts)
        if draw < 0.2:
            return codes.OP_SET_ACL, jbuf(self._path()) + jacl(self.random.choice(ACLS)) + jint(-1)
        return self._plain_write(in_multi=False)

    def _plain_write(self, *, in_multi: bool) -> tuple[int, bytes]:
        draw = self.random.random()
        path = self._path()
        version = self.random.choice((-1, -1, -1, 0, 1))
        if draw < 0.25:
            return codes.OP_SET_DATA, jbuf(path) + jbuf(self._data()) + jint(version)
        if draw < 0.5:
            return codes.OP_DELETE, jbuf(path) + jint(version)
        if draw < 0.55 and in_multi:
            return codes.OP_CHECK, jbuf(path) + jint(version)
        acl = self.random.choice(ACLS)
        if draw < 0.6:
            return codes.OP_CREATE_TTL, create_body(path, self._data(), acl, 5) + jlong(1000)
        if draw < 0.65:
            return codes.OP_CREATE_CONTAINER, create_body(path, self._data(), acl, 4)
        op = self.random.choice((codes.OP_CREATE, codes.OP_CREATE2))
        return op, create_body(path, self._data(), acl, self.random.choice((0, 0, 0, 1, 1, 2, 3)))

    def run(self, count: int) -> None:
        for client, op, body in self.requests(count):
            self.core.write(client, op, body)

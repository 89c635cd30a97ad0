"""A second pair of eyes on the test's subtree: a raw session, which shares no code with the command line."""

from __future__ import annotations

import datetime
from typing import cast

from tests.interop import raw

NO_NODE = -101


class Witness:
    """Makes and reads znodes below `root`, as the server has them."""

    def __init__(self, session: raw.Session, root: str) -> None:
        self.session = session
        self.root = root

    def path(self, path: str) -> str:
        return self.root if path == "/" else self.root + path

    def make(self, *paths: str, data: bytes = b"", flags: int = 0, acl: tuple[raw.Acl, ...] = raw.OPEN) -> None:
        for path in paths:
            error, made = self.session.call(raw.CREATE, raw.create(self.path(path), data, acl, flags))
            assert error == 0, (path, error, made)

    def call(self, op: int, body: bytes) -> object:
        error, value = self.session.call(op, body)
        assert error == 0, error
        return value

    def read(self, path: str) -> tuple[bytes, raw.Stat]:
        return cast("tuple[bytes, raw.Stat]", self.call(raw.GET_DATA, raw.path_watch(self.path(path))))

    def data(self, path: str) -> bytes:
        return self.read(path)[0]

    def stat(self, path: str) -> raw.Stat:
        return self.read(path)[1]

    def acl(self, path: str) -> list[raw.Acl]:
        value = self.call(raw.GET_ACL, raw.path_watch(self.path(path))[:-1])
        return cast("tuple[list[raw.Acl], raw.Stat]", value)[0]

    def children(self, path: str) -> list[str]:
        return cast("list[str]", self.call(raw.GET_CHILDREN, raw.path_watch(self.path(path))))

    def is_there(self, path: str) -> bool:
        error, _ = self.session.call(raw.EXISTS, raw.path_watch(self.path(path)))
        assert error in (0, NO_NODE)
        return error == 0


def iso(milliseconds: int) -> str:
    """A time as commands show it."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"

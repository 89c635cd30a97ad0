"""The walk itself, against a server that is scripted: what goes, what is refused, and how much is asked for at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from coati.cli import walking
from coati.cli.walking import Walk, Znode
from coati.client.ops import Children, Get, Read, ReadResult
from coati.client.types import OPEN, AclInfo, Node, Stat
from coati.errors import KeeperError, MarshallingError, NoAuth, NoNode, ZKError, keeper_error
from coati.sync import Client
from tests.cli import kit
from tests.interop.peers import Server


class Script:
    """A tree in memory that answers as a server; `spoil` may give an error for what is asked."""

    def __init__(self, tree: dict[str, bytes], spoil: Callable[[Read], ZKError | None] = lambda op: None) -> None:
        self.tree = tree
        self.spoil = spoil
        self.asked: list[list[Read]] = []
        self.limit = 1 << 30
        self.names: dict[str, list[str]] = {path: [] for path in tree}
        for path in sorted(tree):
            if path != "/":
                parent, _, name = path.rpartition("/")
                self.names[parent or "/"].append(name)

    async def multi_read(self, ops: Iterable[Read]) -> list[ReadResult]:
        listed = list(ops)
        self.asked.append(listed)
        await asyncio.sleep(0)
        if sum(len(self.tree.get(op.path, b"")) for op in listed if isinstance(op, Get)) > self.limit:
            raise MarshallingError("too long")
        return [self.spoil(op) or self._answer(op) for op in listed]

    def _answer(self, op: Read) -> ReadResult:
        if op.path not in self.tree:
            return NoNode(op.path)
        names = self.names[op.path]
        if isinstance(op, Children):
            return names
        data = self.tree[op.path]
        return Node(op.path, data, Stat(1, 1, 0, 0, 0, 0, 0, 0, len(data), len(names), 1))

    async def get_acl(self, path: str) -> AclInfo:
        error = self.spoil(Children(f"acl of {path}"))
        if error is not None:
            raise error
        return AclInfo(OPEN, Stat(*[0] * 11))


def walked(script: Script, path: str = "/", **how: bool) -> tuple[Walk, list[Znode]]:
    walk = Walk(script, path, **how)

    async def main() -> list[Znode]:
        return [znode async for batch in walk.batches() for znode in batch]

    return walk, asyncio.run(main())


def a_tree(levels: int, width: int) -> dict[str, bytes]:
    tree = {"/": b""}
    level = [""]
    for _ in range(levels):
        level = [f"{path}/{number}" for path in level for number in range(width)]
        tree |= dict.fromkeys(level, b"data")
    return tree


def in_order(tree: Iterable[str]) -> list[str]:
    return sorted(tree, key=lambda path: path.rstrip("/").split("/"))


def failing(path: str, error: ZKError, kind: type[Read] = Children) -> Callable[[Read], ZKError | None]:
    return lambda op: error if op.path == path and isinstance(op, kind) else None


@pytest.mark.parametrize(("levels", "width"), [(0, 0), (1, 1000), (100, 1), (8, 2), (3, 9), (2, 40)])
@pytest.mark.parametrize("scale", [1, 10, 1000])
def test_all_of_it_in_order(levels: int, width: int, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WINDOW", "BATCH", "HELD_BYTES", "HELD_NAMES", "ANSWER_NAMES", "ANSWER_BYTES"):
        monkeypatch.setattr(walking, name, max(getattr(walking, name) // (scale * scale), scale == 1, 1))
    tree = a_tree(levels, width)
    _, znodes = walked(Script(tree))
    assert [znode.path for znode in znodes] == in_order(tree)


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tree of a hundred thousand names only a few are read ahead of what is handed out."""
    monkeypatch.setattr(walking, "HELD_BYTES", 50_000)
    script = Script({"/": b"", **{f"/{number:05}": b"x" * 1000 for number in range(5000)}})
    walk = Walk(script, "/")
    most = 0

    async def main() -> None:
        nonlocal most
        told = 0
        async for batch in walk.batches():
            told += len(batch)
            most = max(most, sum(len(ops) for ops in script.asked) - told)

    asyncio.run(main())
    assert 0 < most <= walking.WINDOW + walking.IN_FLIGHT * walking.BATCH


def test_what_goes_between_two_requests_is_left_out() -> None:
    tree = a_tree(2, 3)
    walk, znodes = walked(Script(tree, failing("/1", NoNode("/1"))))
    assert [znode.path for znode in znodes] == [path for path in in_order(tree) if not path.startswith("/1")]
    assert walk.refused == 0


@pytest.mark.parametrize(("spoilt", "acl"), [("/1", False), ("acl of /1", True)])
def test_what_may_not_be_read_is_counted(spoilt: str, acl: bool) -> None:
    tree = a_tree(2, 3)
    walk, znodes = walked(Script(tree, failing(spoilt, NoAuth("/1"))), acl=acl)
    assert [znode.path for znode in znodes] == [path for path in in_order(tree) if not path.startswith("/1")]
    assert (walk.refused, walk.named) == (1, ["/1"])
    assert {znode.acl for znode in znodes} == {OPEN if acl else None}


def test_other_errors_end_it() -> None:
    script = Script(a_tree(2, 3), failing("/2", keeper_error(-1, "/2")))
    with pytest.raises(KeeperError):
        walked(script)


def test_nothing_there() -> None:
    with pytest.raises(NoNode):
        walked(Script({"/": b""}), "/a")


def test_answers_that_are_too_long_are_asked_for_in_parts() -> None:
    tree = a_tree(1, 500) | {f"/{number}": b"x" * 100 for number in range(0, 500, 7)}
    script = Script(tree)
    script.limit = 1000
    assert len(walked(script)[1]) == 501
    script.limit = 99
    with pytest.raises(MarshallingError):
        walked(script)


def test_no_more_is_asked_for_when_nobody_wants_it() -> None:
    script = Script(a_tree(1, 5000))

    async def main() -> None:
        batches = Walk(script, "/").batches()
        await anext(batches)
        await batches.aclose()

    asyncio.run(main())
    assert len(script.asked) < 10


def test_an_export_of_everything_leaves_out_what_is_the_servers_own(server: Server) -> None:
    """And of a subtree nothing that has the same name."""
    with Client(server.address) as zk:
        zk.ensure("/own/zookeeper")
    # Other tests have theirs on the same server.
    found = kit.run("-s", server.address, "find", "/", "zookeeper").lines
    assert {"/own/zookeeper", "/zookeeper"} <= set(found)
    done = kit.run("-s", server.address, "diff", "/", "-", stdin=kit.run("-s", server.address, "export").out)
    assert (done.code, done.out) == (0, b"")
    assert b'"/zookeeper' not in kit.run("-s", server.address, "export", "/").out
    assert b'"/zookeeper"' in kit.run("-s", f"{server.address}/own", "export", "/").out

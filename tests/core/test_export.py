"""Export and load: a snapshot is exactly the tree of one moment, whatever happens while it is written."""

from __future__ import annotations

from typing import cast

import pytest

from coati.core.export import Export
from coati.core.load import Loader, ZnodeTuple
from coati.core.tree import Tree, TreeConfig, pristine
from coati.errors import MarshallingError
from coati.storage import format
from coati.wire.jute import Writer
from coati.wire.records import ACL, StatPersisted
from tests.core.kit import NOBODY, OPEN, READ_ONLY, Core, image, packed, stat_of
from tests.core.test_replay import fingerprint
from tests.core.workload import Workload

CONFIG = TreeConfig(extended_types=True)
ROOT_ROW = packed(b"", b"", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def load(rows: list[ZnodeTuple], acls: dict[int, list[ACL]], zxid: int = 0) -> Tree:
    loader = Loader(CONFIG, acls)
    loader.add(rows)
    return loader.finish(zxid)


def unpacked(data: bytes) -> list[ZnodeTuple]:
    """The znodes of a slice."""
    rows: list[format.BoxedZnode] = []
    assert format.decode_znodes(data, 0, rows, 1 << 20) == len(data)
    return cast(list[ZnodeTuple], rows)


def row(path: bytes, data: bytes | None = b"", *, key: int = -1, owner: int = 0, cversion: int = 0) -> ZnodeTuple:
    return packed(path, data, key, 3, 4, 5, 6, 7, cversion, 9, owner, 10)


def test_export_of_a_pristine_tree_loads_as_it_was() -> None:
    tree = pristine(CONFIG)
    export = Export(tree, {7: 4000})
    rows = unpacked(export.next_slice(100))
    assert export.is_done
    assert export.next_slice(100) == b""
    assert (export.zxid, export.digest, export.sessions, export.node_count()) == (0, 1371985504, {7: 4000}, 4)
    assert fingerprint(load(rows, export.acls)) == fingerprint(tree)


@pytest.mark.parametrize("seed", range(30))
def test_export_is_the_tree_of_the_moment_it_began(seed: int) -> None:
    """Slices of any size between txns of any type; no znode is missing, newer or half of a multi (3127)."""
    core = Core(extended_types=True)
    workload = Workload(core, seed)
    workload.run(200)
    in_flight = [core.prepare(*request) for request in workload.requests(5)]
    expected = fingerprint(core.tree)
    export = Export(core.tree, {})
    rows: list[ZnodeTuple] = []
    while not export.is_done:
        rows.extend(unpacked(export.next_slice(workload.random.randrange(1, 9))))
        for request in workload.requests(workload.random.randrange(12)):
            in_flight.append(core.prepare(*request))
        while in_flight and workload.random.random() < 0.8:
            core.deliver(in_flight.pop(0))
    assert len(rows) == export.node_count()
    loaded = load(rows, export.acls, export.zxid)
    assert fingerprint(loaded) == expected
    assert loaded.digest == export.digest


def test_znodes_are_written_as_java_does() -> None:
    """DataTree.serializeNode, in every shape a znode can have; the root by its other name."""
    rows = [
        (b"", b"", -1, 0, 0, 0, 0, 0, 296, 0, 0, 513),
        (b"/null", None, 3, 1, 2, 3, 4, -1, 6, 7, -(1 << 63), 9),
        (b"/leaf", b"x" * 100, -1, 1 << 40, 2, 3, 4, 5, 0, 7, 0, 9),
        (b"/leaf-of-somebody", b"x" * 100, 3, 1 << 40, 2, 3, 4, 5, 0, 7, 0x1234567890, 9),
        (b"/ttl", None, 3, 1, 2, 3, 4, 5, 0, 7, -(1 << 56) | 99, 9),
        (b"/" + b"p" * 600, b"y" * 70000, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9),
        (b"/null/child", None, -1, 1, 2, 3, 4, 5, 0, 7, 0, 9),
        (b"/leaf/child", b"", -1, 1, 2, 3, 4, 5, 0, 7, 0, -1),
    ]
    w = Writer()
    for path, data, key, *stat in rows:
        w.path(path)
        w.buffer(data)
        w.int64(1 if key == 3 else -1)
        StatPersisted(*stat).write(w)
    assert Export(load([packed(*row) for row in rows], {3: READ_ONLY}), {}).next_slice(100) == w.getvalue()


def test_two_exports_at_once() -> None:
    core = Core(extended_types=True)
    workload = Workload(core, 5)
    workload.run(50)
    first, first_image = Export(core.tree, {}), image(core.tree)
    workload.run(50)
    second, second_image = Export(core.tree, {}), image(core.tree)
    workload.run(50)
    for export, expected in ((second, second_image), (first, first_image)):
        assert image(load(unpacked(export.next_slice(10**6)), export.acls)) == expected


def test_acls_are_kept_by_value() -> None:
    """ZOOKEEPER-4846 and kin: the last user of an ACL goes while the snapshot is written."""
    core = Core()
    client = core.connect(1)
    core.create(client, b"/a", acl=NOBODY)
    export = Export(core.tree, {})
    core.delete(client, b"/a")
    core.create(client, b"/a", acl=READ_ONLY)
    rows = {r[0]: r for r in unpacked(export.next_slice(100))}
    assert export.acls[rows[b"/a"][2]] == NOBODY
    assert load(list(rows.values()), export.acls).nodes[b"/a"].acl.entries == NOBODY


def test_open_acls_are_minus_one() -> None:
    core = Core()
    core.create(core.connect(1), b"/a", acl=OPEN)
    export = Export(core.tree, {})
    keys = {r[0]: r[2] for r in unpacked(export.next_slice(100))}
    assert keys[b"/a"] == -1
    assert -1 not in export.acls


# Loading


def test_root_has_two_names() -> None:
    for name in (b"", b"/"):
        tree = load([(name, *ROOT_ROW[1:]), row(b"/a")], {})
        assert list(tree.nodes) == [b"/", b"/a"]
        assert tree.nodes[b"/"].child_count() == 1


def test_stat_of_a_loaded_znode() -> None:
    tree = load([ROOT_ROW, row(b"/a", b"data", cversion=8), row(b"/a/b", None), row(b"/a/c")], {}, 77)
    stat = stat_of(tree.nodes[b"/a"])
    assert (stat.czxid, stat.mzxid, stat.ctime, stat.mtime, stat.version, stat.aversion, stat.pzxid) == (
        3, 4, 5, 6, 7, 9, 10,
    )  # fmt: skip
    assert (stat.cversion, stat.num_children, stat.data_length) == (14, 2, 4)
    assert tree.nodes[b"/a/b"].data() is None
    assert tree.last_zxid == 77
    assert tree.data_bytes == len(b"/" + b"/a" + b"data" + b"/a/b" + b"/a/c")


def test_create_counter_of_a_loaded_znode_wraps_in_its_stat() -> None:
    tree = load([ROOT_ROW, row(b"/a", cversion=(1 << 31) - 1), row(b"/a/b"), row(b"/c", cversion=-(1 << 31))], {})
    assert stat_of(tree.nodes[b"/a"]).cversion == -3
    assert stat_of(tree.nodes[b"/c"]).cversion == 0


def test_owners_of_loaded_znodes() -> None:
    rows = [
        ROOT_ROW,
        row(b"/e", owner=5),
        row(b"/f", owner=5),
        row(b"/c", owner=-(1 << 63)),
        row(b"/t", owner=-(1 << 56) | 99),
    ]
    tree = load(rows, {})
    assert tree.ephemerals == {5: {b"/e": None, b"/f": None}}
    assert (list(tree.containers), list(tree.ttls)) == ([b"/c"], [b"/t"])
    owners = [stat_of(tree.nodes[path]).ephemeral_owner for path in (b"/e", b"/c", b"/t")]
    assert owners == [5, 0, 0]


def test_ttl_without_extended_types_is_somebody_s_ephemeral() -> None:
    """EphemeralType.get: so Java reads it after the switch was turned off."""
    loader = Loader(None, {})
    loader.add([ROOT_ROW, row(b"/t", owner=-(1 << 56) | 99)])
    assert loader.finish(0).ephemerals == {-(1 << 56) | 99: {b"/t": None}}


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([ROOT_ROW, row(b"/a/b")], "before its parent"),
        ([row(b"/a")], "before its parent"),
        ([ROOT_ROW, row(b"/a"), row(b"/a")], "twice"),
        ([ROOT_ROW, row(b"/a", key=5)], "has the ACL 5"),
        ([ROOT_ROW, row(b"ab")], "before its parent"),
        ([ROOT_ROW, row(b"/a"), row(b"/a//b")], "before its parent"),
        ([ROOT_ROW, row(b"/a"), row(b"/a/")], "has no name"),
        ([ROOT_ROW, row(b"/a"), row(b"/a/..")], "has no name"),
        ([ROOT_ROW, row(b"/a"), row(b"/a/."), row(b"/a/./b")], "has no name"),
        ([ROOT_ROW, row(b"/a" * 100_000)], "before its parent"),
        ([], "without a root"),
    ],
)
def test_what_is_no_tree_is_refused(rows: list[ZnodeTuple], complaint: str) -> None:
    """An unknown ACL above all: it must not be read as an open one (ZOOKEEPER-4689)."""
    with pytest.raises(MarshallingError, match=complaint):
        load(rows, {1: READ_ONLY})


def test_deep_trees_are_no_recursion() -> None:
    depth = 3000
    tree = load([ROOT_ROW, *(row(b"/a" * level) for level in range(1, depth + 1))], {})
    assert len(tree.nodes) == depth + 1
    assert tree.descendants(b"/a") == depth - 1


def test_acls_nobody_uses_are_dropped() -> None:
    tree = load([ROOT_ROW, row(b"/a", key=9)], {5: NOBODY, 9: READ_ONLY})
    assert list(tree.acls.table().values()) == [READ_ONLY]


def test_equal_acls_under_two_keys_are_one() -> None:
    tree = load([ROOT_ROW, row(b"/a", key=5), row(b"/b", key=9)], {5: READ_ONLY, 9: list(READ_ONLY)})
    assert tree.nodes[b"/a"].acl is tree.nodes[b"/b"].acl
    assert tree.nodes[b"/a"].acl.uses == 2


def test_loading_in_parts() -> None:
    loader = Loader(CONFIG, {})
    loader.add([ROOT_ROW])
    loader.add([row(b"/a")])
    loader.add([])
    loader.add([row(b"/a/b")])
    assert image(loader.finish(0)) == image(load([ROOT_ROW, row(b"/a"), row(b"/a/b")], {}))


def test_no_digest_where_it_is_switched_off() -> None:
    loader = Loader(TreeConfig(digest_enabled=False), {})
    loader.add([ROOT_ROW, row(b"/a")])
    assert loader.finish(0).digest == 0


def test_quotas_are_found_and_counted_anew() -> None:
    """DataTree.setupQuota: statistics are nobody's txn, so they are not trusted."""
    quota = b"/zookeeper/quota"
    rows = [
        ROOT_ROW,
        row(b"/app", b"12345"),
        row(b"/app/x", None),
        row(b"/zookeeper"),
        row(quota),
        row(quota + b"/app"),
        row(quota + b"/app/zookeeper_limits", b"count=9,bytes=9"),
        row(quota + b"/app/zookeeper_stats", b"count=0,bytes=0"),
        row(quota + b"/bare"),
        row(quota + b"/bare/zookeeper_limits", b"count=9,bytes=9"),
        row(quota + b"/zookeeper_limits", b"of the root, which has none"),
    ]
    tree = load(rows, {})
    assert list(tree.quotas.prefixes) in ([b"/app", b"/bare"], [b"/bare", b"/app"])
    stats = tree.nodes[quota + b"/app/zookeeper_stats"]
    assert stats.data() == b"count=2,bytes=5"
    assert stat_of(stats).data_length == len(b"count=2,bytes=5")

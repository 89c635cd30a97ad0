"""The tree: pristine, staged and committed or given up, its sums and lists."""

from __future__ import annotations

import pytest

from coati import errors
from coati.core.tree import TreeConfig, pristine, show_config
from coati.wire import codes
from tests.core.kit import NOBODY, OPEN, READ_ONLY, Client, Core, create_body, image, jbuf, jint, stat_of
from tests.core.workload import Workload


def test_pristine_tree_is_java_s() -> None:
    tree = pristine()
    assert tree.digest == tree.staged_digest == 1371985504
    assert list(tree.nodes) == [b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"]
    shown = {path: (stat_of(node).cversion, stat_of(node).num_children) for path, node in tree.nodes.items()}
    assert shown == {
        b"/": (-1, 1),
        b"/zookeeper": (-2, 2),
        b"/zookeeper/quota": (0, 0),
        b"/zookeeper/config": (0, 0),
    }
    config = tree.nodes[b"/zookeeper/config"]
    assert (config.acl.entries, stat_of(config).aversion) == (READ_ONLY, -1)
    assert tree.node_count() == 5, "zk_znode_count of a fresh Java server"
    assert tree.data_bytes == sum(map(len, tree.nodes))


def test_pristine_tree_without_digests() -> None:
    assert pristine(TreeConfig(digest_enabled=False)).digest == 0


def test_staged_is_not_committed() -> None:
    core = Core()
    client = core.connect(1)
    before = image(core.tree)
    proposal = core.prepare(client, codes.OP_CREATE, create_body(b"/a", b"x"))
    assert image(core.tree) == before
    assert core.tree.find(b"/a") is proposal.change.node
    assert core.tree.digest != core.tree.staged_digest
    core.deliver(proposal)
    assert core.node(b"/a") is proposal.change.node
    assert core.tree.digest == core.tree.staged_digest
    assert core.tree.last_zxid == proposal.zxid
    assert core.tree.staged == {}


def test_giving_everything_up() -> None:
    """Who led leads no longer: what was proposed and not committed is somebody else's to decide."""
    core = Core()
    client = core.connect(1)
    core.create(client, b"/a")
    before = image(core.tree)
    for op, body in (
        (codes.OP_CREATE, create_body(b"/b", flags=1)),
        (codes.OP_SET_DATA, jbuf(b"/a") + jbuf(b"x") + jint(-1)),
        (codes.OP_DELETE, jbuf(b"/a") + jint(-1)),
    ):
        core.prepare(client, op, body)
    core.tree.discard_all()
    assert image(core.tree) == before
    assert core.tree.find(b"/b") is None
    assert core.tree.session_paths(1) == []
    assert core.tree.staged_digest == core.tree.digest
    assert core.create(client, b"/a/x").err == errors.OK


@pytest.mark.parametrize("seed", range(12))
def test_discarding_is_the_inverse_of_staging(seed: int) -> None:
    """Stage a few, discard the newest ones, commit the rest: the same as if those had never been."""
    core = Core(extended_types=True)
    workload = Workload(core, seed)
    workload.run(100)
    staged = [core.prepare(*request) for request in workload.requests(12)]
    overlay, digest = dict(core.tree.staged), core.tree.staged_digest
    owned = {client.session_id: core.tree.session_paths(client.session_id) for client in workload.clients}
    doomed = [core.prepare(*request) for request in workload.requests(12)]
    for proposal in reversed(doomed):
        core.tree.discard(proposal.change)
    assert core.tree.staged == overlay
    assert core.tree.staged_digest == digest
    assert owned == {session_id: core.tree.session_paths(session_id) for session_id in owned}
    for proposal in staged:
        core.deliver(proposal)
    assert core.tree.staged == {}
    assert core.tree.digest == core.tree.staged_digest == digest


@pytest.mark.parametrize("seed", range(6))
def test_sums_and_lists_are_those_of_the_znodes(seed: int) -> None:
    core = Core(extended_types=True)
    workload = Workload(core, seed)
    in_flight = []
    for request in workload.requests(600):
        in_flight.append(core.prepare(*request))
        while in_flight and workload.random.random() < 0.6:
            core.deliver(in_flight.pop(0))
    for proposal in in_flight:
        core.deliver(proposal)
    tree = core.tree
    nodes = tree.nodes
    assert tree.data_bytes == sum(len(path) + len(node.data() or b"") for path, node in nodes.items())
    owners = {path: node.owner for path, node in nodes.items() if node.owner}
    assert {p for p, o in owners.items() if o > 0} == {p for mine in tree.ephemerals.values() for p in mine}
    assert all(owners[p] == session_id for session_id, mine in tree.ephemerals.items() for p in mine)
    assert tree.ephemerals_count() == sum(o > 0 for o in owners.values())
    assert {p for p, o in owners.items() if o == codes.OWNER_CONTAINER} == set(tree.containers)
    assert {p for p, o in owners.items() if codes.OWNER_CONTAINER < o < 0} == set(tree.ttls)
    for path, node in nodes.items():
        prefix = b"/" if path == b"/" else path + b"/"
        below = {p for p in nodes if p.startswith(prefix) and p != b"/" and b"/" not in p[len(prefix) :]}
        assert below == (set() if node.children is None else set(node.children.paths))
        assert node.child_count() == len(below)
        assert stat_of(node).cversion == 2 * node.cversion - len(below)
    used = {node.acl.key for node in nodes.values() if not node.acl.is_open}
    assert set(tree.acls.table()) == used
    assert all(node.acl.uses == sum(n.acl is node.acl for n in nodes.values()) for node in nodes.values())


def test_parents_come_before_their_children() -> None:
    core = Core(extended_types=True)
    Workload(core, 3).run(800)
    seen: set[bytes] = set()
    for path in core.tree.nodes:
        assert path == b"/" or (path[: path.rfind(b"/")] or b"/") in seen
        seen.add(path)


def test_digest_history_has_every_128th_zxid() -> None:
    core = Core()
    client = core.connect(1)
    digests = {}
    for n in range(300):
        core.create(client, b"/n%d" % n)
        digests[core.zxid] = core.tree.digest
    assert core.tree.digest_log == [(128, digests[128]), (256, digests[256])]


def test_digest_history_is_bounded() -> None:
    core = Core()
    tree = core.tree
    for zxid in range(128, 128 * 1100, 128):
        tree.commit(tree.stage_nothing(codes.OP_ERROR, zxid, b"", -1))
    assert len(tree.digest_log) == 1024
    assert tree.digest_log[-1][0] == 128 * 1099


def test_descendants() -> None:
    core = Core()
    client = core.connect(1)
    core.create(client, b"/a")
    for n in range(10):
        core.create(client, b"/a/%d" % n)
    assert core.tree.descendants(b"/a") == 10
    assert core.tree.descendants(b"/") == 14


def test_acl_in_flight_survives_the_end_of_its_only_user() -> None:
    core = Core()
    client = core.connect(1)
    core.create(client, b"/a", acl=READ_ONLY)
    core.create(client, b"/b", acl=NOBODY)
    keep = core.prepare(client, codes.OP_CREATE, create_body(b"/c", b"", NOBODY))
    core.delete(client, b"/b")
    core.deliver(keep)
    assert core.tree.acls.table()[core.node(b"/c").acl.key] == NOBODY


def test_strangers_to_a_session_own_nothing() -> None:
    assert Core().tree.session_paths(99) == []
    assert Client(1) != Client(1)
    assert OPEN != NOBODY


def test_the_view_is_shown_and_counts_in_no_digest() -> None:
    """As a member of Java's shows it: version -1, the view's version for mzxid."""
    tree = pristine()
    digest, held = tree.digest, tree.data_bytes
    show_config(tree, b"server.1=a:1:2:participant\nversion=5", 5)
    node = tree.nodes[b"/zookeeper/config"]
    stat = stat_of(node)
    assert node.data() == b"server.1=a:1:2:participant\nversion=5"
    assert (stat.czxid, stat.mzxid, stat.mtime, stat.version, stat.data_length) == (0, 5, 0, -1, 36)
    assert (tree.digest, tree.data_bytes) == (digest, held + 36)
    show_config(tree, b"server.1=a:1:2:participant\nversion=5", 5)
    assert tree.nodes[b"/zookeeper/config"] is node

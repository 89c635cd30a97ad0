"""Replay: a follower ends where its leader is, and txns older than the content change nothing for the worse."""

from __future__ import annotations

import random

import pytest

from coati import errors
from coati.core.load import Loader, ZnodeTuple
from coati.core.replay import apply, compare_digest, stage, stage_payload
from coati.core.tree import Tree, TreeConfig, pristine
from coati.errors import MarshallingError
from coati.wire import codes
from coati.wire.records import ACL
from coati.wire.txns import (
    AnyTxn,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateTTLTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
    decode_txn,
    encode_record,
)
from tests.core.kit import NOBODY, OPEN, READ_ONLY, T0, Core, header, image, jint, packed, stat_of
from tests.core.workload import Workload

CONFIG = TreeConfig(extended_types=True)


def replay(tree: Tree, payloads: list[bytes]) -> None:
    for payload in payloads:
        record = decode_txn(payload)
        apply(tree, record.header, record.txn, record.digest)


def fingerprint(tree: Tree) -> object:
    owned = {session_id: set(mine) for session_id, mine in tree.ephemerals.items()}
    acls = sorted(map(repr, tree.acls.table().values()))
    return image(tree), tree.digest, owned, set(tree.containers), set(tree.ttls), acls, tree.data_bytes, tree.last_zxid


@pytest.mark.parametrize("seed", range(10))
def test_follower_ends_where_its_leader_is(seed: int) -> None:
    """Z11: from the bytes of the log alone, with equal digests after every txn."""
    core = Core(extended_types=True)
    Workload(core, seed).run(500)
    follower = pristine(CONFIG)
    replay(follower, core.log)
    assert follower.digest_mismatches == 0
    assert fingerprint(follower) == fingerprint(core.tree)


@pytest.mark.parametrize("seed", range(4))
def test_payloads_read_by_hand_are_what_their_records_say(seed: int) -> None:
    """Whole, cut short, and with bytes that are wrong: the same change or the same refusal, and the same tree."""
    dice = random.Random(seed)
    core = Core(extended_types=True)
    Workload(core, seed).run(500)
    by_hand, by_record = pristine(CONFIG), pristine(CONFIG)
    for payload in core.log:
        zxid = decode_txn(payload).header.zxid
        broken = bytearray(payload[: dice.choice((len(payload), dice.randrange(32, len(payload) + 1)))])
        for _ in range(dice.randrange(3) if len(broken) > 32 else 0):
            broken[dice.randrange(32, len(broken))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
        for candidate in (bytes(broken), payload):
            outcomes: list[object] = []
            for tree in (by_hand, by_record):
                try:
                    if tree is by_hand:
                        change, session_id, xid, op, digest = stage_payload(tree, zxid, candidate)
                    else:
                        record = decode_txn(candidate)
                        change = stage(tree, record.header, record.txn)
                        session_id, xid, op = record.header.client_id, record.header.cxid, record.header.type
                        digest = record.digest
                except MarshallingError as error:
                    outcomes.append(str(error))
                    continue
                node = None if change.node is None else (change.node.body, change.node.acl.wire, change.node.owner)
                outcomes.append((change.op, change.path, change.err, change.digest, node, session_id, xid, op, digest))
                if candidate is payload:
                    tree.commit(change)
                    compare_digest(tree, zxid, digest)
                else:
                    tree.discard_all()
            assert outcomes[0] == outcomes[1], candidate.hex()
    assert fingerprint(by_hand) == fingerprint(by_record) == fingerprint(core.tree)
    assert by_hand.digest_mismatches == 0


@pytest.mark.parametrize("seed", range(40))
def test_replay_over_a_fuzzy_snapshot_heals_it(seed: int) -> None:
    """ZOOKEEPER-3125, 3145, 3249 and kin: znodes written at different moments, each later than the snapshot's zxid.

    Java's writer goes through the tree depth first while txns are applied; then everything from the start of the
    snapshot on is replayed. Stats, ACLs and digest must be those of the server that never stopped.
    """
    core = Core(extended_types=True)
    workload = Workload(core, seed)
    workload.run(150)
    first = core.zxid
    sample = fuzzy_snapshot(core, workload)
    end, digest = core.zxid, core.tree.digest
    workload.run(50)

    loader = Loader(CONFIG, dict(core_acls(sample)))
    loader.add([row for row, _ in sample])
    tree = loader.finish(first)
    tree.digest_target = (end, digest)
    replay(tree, core.log[first:])
    assert tree.digest_mismatches == 0
    assert fingerprint(tree) == fingerprint(core.tree)


def core_acls(sample: list[tuple[ZnodeTuple, list[ACL]]]) -> list[tuple[int, list[ACL]]]:
    return [(row[2], entries) for row, entries in sample if row[2] != -1]


def fuzzy_snapshot(core: Core, workload: Workload) -> list[tuple[ZnodeTuple, list[ACL]]]:
    """DataTree.serializeNode: a znode and the names of its children at one moment, the children some time later."""
    found: list[tuple[ZnodeTuple, list[ACL]]] = []

    def visit(path: bytes) -> None:
        node = core.tree.nodes.get(path)
        if node is None:
            return
        stat = stat_of(node)
        children = [] if node.children is None else sorted(node.children.paths)
        row = packed(
            path, node.data(), node.acl.key, stat.czxid, stat.mzxid, stat.ctime, stat.mtime,
            stat.version, node.cversion, stat.aversion, node.owner, stat.pzxid,
        )  # fmt: skip
        found.append((row, node.acl.entries))
        workload.run(workload.random.randrange(6))
        for child in children:
            visit(child)

    visit(b"/")
    return found


@pytest.mark.parametrize("seed", range(10))
def test_replaying_everything_twice_changes_nothing(seed: int) -> None:
    """Idempotence of the tail: a crash between snapshot and purge brings txns that are in it already."""
    core = Core(extended_types=True)
    workload = Workload(core, seed)
    workload.run(300)
    start = random.Random(seed).randrange(300)
    tree = pristine(CONFIG)
    replay(tree, core.log)
    before = fingerprint(tree)
    tree.digest_target = (core.zxid, core.tree.digest)
    replay(tree, core.log[start:])
    assert fingerprint(tree) == before
    assert tree.digest_mismatches == 0


# One by one


def fresh() -> Tree:
    tree = pristine(CONFIG)
    apply(tree, header(codes.OP_CREATE, 10), CreateTxn(b"/p", b"", OPEN, False, 1))
    return tree


def test_create_under_a_parent_that_is_gone() -> None:
    """ZOOKEEPER-1573: this once ended the load."""
    tree = fresh()
    before = image(tree)
    change = apply(tree, header(codes.OP_CREATE, 20), CreateTxn(b"/none/x", b"", OPEN, False, 1))
    assert change.err == errors.NO_NODE
    assert image(tree) == before
    assert tree.last_zxid == 20


@pytest.mark.parametrize("op", [codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL])
def test_create_of_what_exists_raises_the_parent_s_counters(op: int) -> None:
    """ZOOKEEPER-3249. For all create types: with create2 Java forgets, and may then give a number twice."""
    tree = fresh()
    apply(tree, header(codes.OP_CREATE, 15), CreateTxn(b"/p/x", b"new", OPEN, False, 1))
    txns: dict[int, AnyTxn] = {
        codes.OP_CREATE: CreateTxn(b"/p/x", b"old", READ_ONLY, False, 4),
        codes.OP_CREATE2: CreateTxn(b"/p/x", b"old", READ_ONLY, False, 4),
        codes.OP_CREATE_CONTAINER: CreateContainerTxn(b"/p/x", b"old", READ_ONLY, 4),
        codes.OP_CREATE_TTL: CreateTTLTxn(b"/p/x", b"old", READ_ONLY, 4, 1000),
    }
    change = apply(tree, header(op, 20), txns[op])
    assert change.err == errors.NODE_EXISTS
    assert tree.triggers(change) == []
    parent = tree.nodes[b"/p"]
    assert (parent.cversion, parent.pzxid(), parent.child_count()) == (4, 20, 1)
    node = tree.nodes[b"/p/x"]
    assert node.data() == b"new"
    assert node.acl.entries == READ_ONLY, "DataTree.createNode gives it the ACL of the txn"
    assert tree.digest == tree.staged_digest


def test_create_of_what_exists_never_lowers_the_parent_s_counters() -> None:
    tree = fresh()
    apply(tree, header(codes.OP_CREATE, 15), CreateTxn(b"/p/x", b"", OPEN, False, 7))
    parent = tree.nodes[b"/p"]
    apply(tree, header(codes.OP_CREATE, 12), CreateTxn(b"/p/x", b"", OPEN, False, 3))
    assert tree.nodes[b"/p"] is parent
    assert tree.last_zxid == 15, "nor the zxid"


def test_old_create_over_newer_content_does_not_lower_pzxid() -> None:
    """ZOOKEEPER-3125: pzxid never decreases in replay."""
    tree = fresh()
    apply(tree, header(codes.OP_CREATE, 30), CreateTxn(b"/p/y", b"", OPEN, False, 9))
    apply(tree, header(codes.OP_CREATE, 20), CreateTxn(b"/p/x", b"", OPEN, False, 4))
    parent = tree.nodes[b"/p"]
    assert (parent.cversion, parent.pzxid(), parent.child_count()) == (9, 30, 2)


def test_create_txn_without_a_cversion_counts_itself() -> None:
    """CreateTxnV0 of 3.3 and older."""
    tree = fresh()
    apply(tree, header(codes.OP_CREATE, 20), CreateTxn(b"/p/x", b"", OPEN, False, -1))
    assert (tree.nodes[b"/p"].cversion, tree.nodes[b"/p"].pzxid()) == (1, 20)
    apply(tree, header(codes.OP_CREATE, 21), CreateTxn(b"/p/x", b"", OPEN, False, -1))
    assert (tree.nodes[b"/p"].cversion, tree.nodes[b"/p"].pzxid()) == (2, 21)


def test_delete_of_what_is_gone_raises_pzxid() -> None:
    tree = fresh()
    change = apply(tree, header(codes.OP_DELETE, 20), DeleteTxn(b"/p/x"))
    assert change.err == errors.NO_NODE
    assert tree.nodes[b"/p"].pzxid() == 20
    apply(tree, header(codes.OP_DELETE, 15), DeleteTxn(b"/p/x"))
    assert tree.nodes[b"/p"].pzxid() == 20
    assert apply(tree, header(codes.OP_DELETE, 21), DeleteTxn(b"/none/x")).err == errors.NO_NODE
    assert tree.digest == tree.staged_digest


def test_raise_can_be_taken_back() -> None:
    tree = fresh()
    parent, digest = tree.nodes[b"/p"], tree.digest
    tree.discard(stage(tree, header(codes.OP_DELETE, 20), DeleteTxn(b"/p/x")))
    apply(tree, header(codes.OP_CREATE, 21), CreateTxn(b"/p/e", b"", OPEN, True, 1))
    again = stage(tree, header(codes.OP_CREATE, 22), CreateTxn(b"/p/e", b"", NOBODY, True, 5))
    tree.discard(again)
    apply(tree, header(codes.OP_DELETE, 23), DeleteTxn(b"/p/e"))
    assert parent.pzxid() == 10
    assert tree.staged == {}
    assert digest != tree.digest
    assert len(tree.acls) == 1


def test_writes_to_what_is_gone() -> None:
    tree = fresh()
    before = image(tree)
    assert apply(tree, header(5, 20), SetDataTxn(b"/none", b"", 3)).err == errors.NO_NODE
    assert apply(tree, header(7, 21), SetACLTxn(b"/none", OPEN, 3)).err == errors.NO_NODE
    assert apply(tree, header(13, 22), CheckVersionTxn(b"/none", 3)).err == errors.OK
    assert apply(tree, header(-1, 23), ErrorTxn(-101)).err == -101
    assert image(tree) == before


@pytest.mark.parametrize("op", [codes.OP_DELETE, codes.OP_DELETE_CONTAINER])
def test_the_root_stays_whatever_a_log_says(op: int) -> None:
    tree = fresh()
    before = image(tree)
    assert apply(tree, header(op, 20), DeleteTxn(b"/")).err == errors.NO_NODE
    assert image(tree) == before


def test_close_session_deletes_what_the_txn_names_and_what_is_left() -> None:
    """ZOOKEEPER-3145: the paths in the txn, whoever owns them now; and the session's others here."""
    tree = fresh()
    apply(tree, header(1, 20, client_id=5), CreateTxn(b"/p/mine", b"", OPEN, True, 1))
    apply(tree, header(1, 21, client_id=5), CreateTxn(b"/p/unnamed", b"", OPEN, True, 2))
    apply(tree, header(1, 22, client_id=6), CreateTxn(b"/p/other", b"", OPEN, True, 3))
    paths = [b"/p/mine", b"/p/other", b"/p/gone", b"/none/gone"]
    change = apply(tree, header(-11, 23, client_id=5), CloseSessionTxn(paths))
    assert tree.nodes[b"/p"].child_count() == 0
    assert tree.ephemerals == {}
    assert change.subs is not None
    assert [sub.err for sub in change.subs] == [0, 0, errors.NO_NODE, errors.NO_NODE, 0]
    assert [trigger.path for trigger in tree.triggers(change)] == [
        b"/p/mine", b"/p", b"/p/other", b"/p", b"/p/unnamed", b"/p",
    ]  # fmt: skip


def test_reconfig_is_data_of_the_config_znode() -> None:
    tree = fresh()
    apply(tree, header(codes.OP_RECONFIG, 20), SetDataTxn(b"/zookeeper/config", b"server.1=", -1))
    stat = stat_of(tree.nodes[b"/zookeeper/config"])
    assert (stat.version, stat.mzxid, stat.mtime) == (-1, 20, T0)


def test_failed_multi_applies_nothing() -> None:
    """DataTree.processTxn: one error among the parts, and all of them are results only."""
    tree = fresh()
    before = image(tree)
    parts = [
        Txn(1, encode_record(CreateTxn(b"/a", b"", OPEN, False, 2))),
        Txn(-1, jint(errors.BAD_VERSION)),
        Txn(5, encode_record(SetDataTxn(b"/p", b"x", 1))),
        Txn(-1, jint(errors.RUNTIME_INCONSISTENCY)),
    ]
    change = apply(tree, header(codes.OP_MULTI, 20), MultiTxn(parts))
    assert change.subs is not None
    assert [sub.err for sub in change.subs] == [0, errors.BAD_VERSION, -2, -2]
    assert change.err == errors.BAD_VERSION
    assert image(tree) == before


def test_multi_over_newer_content_goes_on() -> None:
    tree = fresh()
    parts = [
        Txn(5, encode_record(SetDataTxn(b"/none", b"", 1))),
        Txn(5, encode_record(SetDataTxn(b"/p", b"x", 1))),
        Txn(2, None),
    ]
    with pytest.raises(MarshallingError):
        apply(tree, header(codes.OP_MULTI, 20), MultiTxn(parts))
    assert tree.staged == {}
    change = apply(tree, header(codes.OP_MULTI, 20), MultiTxn(parts[:2]))
    assert change.err == errors.NO_NODE
    assert tree.nodes[b"/p"].data() == b"x"
    assert apply(tree, header(codes.OP_MULTI, 21), MultiTxn(None)).subs == []


def test_wrong_digest_is_counted() -> None:
    tree = fresh()
    apply(tree, header(5, 20), SetDataTxn(b"/p", b"x", 1), 12345)
    assert tree.digest_mismatches == 1
    apply(tree, header(5, 21), SetDataTxn(b"/p", b"y", 2), None)
    apply(tree, header(5, 22), SetDataTxn(b"/p", b"z", 3), tree.digest)
    assert tree.digest_mismatches == 2
    off = pristine(TreeConfig(digest_enabled=False))
    apply(off, header(1, 1), CreateTxn(b"/a", b"", OPEN, False, 1), 12345)
    assert off.digest_mismatches == 0


@pytest.mark.parametrize(("target", "mismatches"), [((21, 1), 1), ((21, 0), 0), ((20, 0), 0), ((19, 1), 0)])
def test_nothing_is_compared_before_the_snapshot_s_end(target: tuple[int, int], mismatches: int) -> None:
    """DataTree.compareSnapshotDigests: at that very zxid against the snapshot's, and from then on against the txns'."""
    tree = fresh()
    twin = fresh()
    expected = {}
    for zxid in (20, 21, 22):
        apply(twin, header(5, zxid), SetDataTxn(b"/p", b"%d" % zxid, zxid))
        expected[zxid] = twin.digest
    zxid, wrong = target
    tree.digest_target = (zxid, expected.get(zxid, 0) + wrong)
    for zxid in (20, 21, 22):
        digest = 12345 if zxid < target[0] else expected[zxid]
        apply(tree, header(5, zxid), SetDataTxn(b"/p", b"%d" % zxid, zxid), digest)
    assert tree.digest_mismatches == mismatches
    assert tree.digest_target is None

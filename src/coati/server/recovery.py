"""From the files to a tree: snapshot, replay, sessions; and the snapshot that an empty directory needs.

Introduces storage, which knows files, to core, which knows trees. Must not know sockets or time. Blocking: it runs
before the server serves. Source: ZooKeeperServer.loadData, FileTxnSnapLog.restore.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final, Protocol

from coati.core.export import Export
from coati.core.load import Loader
from coati.core.replay import compare_digest, stage_payload
from coati.core.tree import Tree, TreeConfig, pristine
from coati.errors import MarshallingError, StorageCorrupt
from coati.storage.recovery import Places
from coati.storage.snapshot import SnapshotReader
from coati.storage.store import Recovered, Store
from coati.wire.codes import OP_CLOSE_SESSION, OP_CREATE_SESSION

logger = logging.getLogger("coati.server.recovery")

SLICE_NODES: Final = 10_000


class Collector(Protocol):
    """Python's cycle collector, for those who make very many objects that live long."""

    def rest(self) -> None:
        """A tree is about to be made."""

    def go_on(self) -> None:
        """It is given up."""

    def settle(self) -> None:
        """It is there, and need not be looked at."""


class Loaded:
    """What the disk had: the tree, and the sessions (id to timeout in ms) that are alive in it."""

    __slots__ = ("replayed", "timeouts", "tree")

    def __init__(self, tree: Tree, timeouts: dict[int, int], replayed: int) -> None:
        self.tree = tree
        self.timeouts = timeouts
        self.replayed = replayed


def load(store: Store, config: TreeConfig, *, is_alone: bool = True) -> Loaded:
    """Recovers the store and everything in it. Raises StorageCorrupt, StorageFailed; nothing is lost by that.

    A member of an ensemble is not alone: it changes nothing in its tree by itself, or it would differ from the others.
    """
    sessions: list[dict[int, int]] = [{}]

    def build(reader: SnapshotReader) -> Tree:
        loader = Loader(config, reader.acls)
        try:
            for batch in reader.batches():
                loader.add(batch)
            tree = loader.finish(reader.zxid)
        except MarshallingError as error:
            raise StorageCorrupt(reader.path, 0, str(error)) from error
        sessions[0] = dict(reader.sessions)
        return tree

    recovered = store.recover(build)
    tree = recovered.tree
    if tree is None:
        tree = pristine(config)
    if recovered.digest is not None:
        tree.digest_target = (recovered.digest.zxid, recovered.digest.digest)
    timeouts = sessions[0]
    replayed = _replay(tree, timeouts, recovered)
    if tree.digest_mismatches:
        logger.error("digest mismatches=%d: the tree is not what its writer had", tree.digest_mismatches)
    has_changed = is_alone and _bury_ownerless(tree, timeouts)
    if has_changed or (recovered.tree is None and recovered.last_zxid >= 0):
        _write_snapshot(store, tree, timeouts)
    return Loaded(tree, timeouts, replayed)


def reload(
    store: Store, config: TreeConfig, zxid: int, collector: Collector | None = None, *, may_fail: bool = False
) -> Loaded:
    """TRUNC: cuts the store back to `zxid` and makes tree and sessions anew from what the disk has then. Blocking.

    It is never the old tree with something taken back: what is in memory is what a restart would find
    (ZOOKEEPER-5094). Raises StorageFailed, and StorageCorrupt, also when no snapshot is left to begin with: then
    nothing was changed, and Java, which goes on with the snapshot, has the txns back (ZOOKEEPER-2832, 4837). If it
    `may_fail` so, the tree is what it was.
    """
    if not store.truncate(zxid) and not may_fail:
        places = Places(store.config.data_dir, store.config.log_dir)
        reason = f"the leader has nothing above {zxid:#x}, and no snapshot here is without what is to go"
        raise StorageCorrupt(places.snapshots, 0, reason, places.advice())
    if collector is not None:
        collector.rest()
    loaded = load(store, config, is_alone=False)
    if collector is not None:
        collector.settle()
    return loaded


def ownerless(tree: Tree, timeouts: dict[int, int]) -> list[int]:
    """The sessions that own ephemerals and are not alive: a leader closes them by txns."""
    return [owner for owner in tree.ephemerals if owner not in timeouts]


def _replay(tree: Tree, timeouts: dict[int, int], recovered: Recovered[Tree]) -> int:
    count = 0
    for batch in recovered.batches():
        for zxid, payload in batch:
            try:
                change, session_id, _, op, digest = stage_payload(tree, zxid, payload)
            except MarshallingError as error:
                raise recovered.unreadable(zxid, error) from error
            tree.commit(change)
            compare_digest(tree, zxid, digest)
            if op == OP_CREATE_SESSION:
                timeouts[session_id] = change.timeout_ms
            elif op == OP_CLOSE_SESSION:
                timeouts.pop(session_id, None)
        count += len(batch)
    return count


def _bury_ownerless(tree: Tree, timeouts: dict[int, int]) -> bool:
    """Ephemerals whose session is gone, as a fuzzy snapshot may have them, go too (ZooKeeperServer.loadData).

    No txn says so. The caller writes a snapshot, or the next recovery would replay later txns on top of them, and a
    create in the place of one, acknowledged since, would be lost.
    """
    owners = ownerless(tree, timeouts)
    for session_id in owners:
        logger.warning("ephemerals without a session are removed session=%#x", session_id)
        tree.commit(tree.stage_close_session(tree.last_zxid, session_id, []))
    return bool(owners)


def _write_snapshot(store: Store, tree: Tree, timeouts: dict[int, int]) -> None:
    """Java refuses logs without a snapshot, so an empty database is put on disk before its first txn."""
    export = Export(tree, timeouts)
    store.write_snapshot(export.zxid, export.sessions, export.acls, _slices(export), export.digest)


def _slices(export: Export) -> Iterator[bytes]:
    while data := export.next_slice(SLICE_NODES):
        yield data

"""Snapshots as people look at them: what one holds, whether it is sound, how two differ.

Znodes are read as a stream, so that a file of any size needs little memory; what must know all paths says so. The
order of the sections and the checksums are `storage.snapshot`'s.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from coati.errors import StorageCorrupt
from coati.offline.places import reading, real_disk, real_file
from coati.offline.txns import acl_text
from coati.storage import format
from coati.storage.format import ZnodeTuple
from coati.storage.prune import content_zxid
from coati.storage.snapshot import SnapshotReader
from coati.wire.paths import parent_of

# As large as a field of a znode may be; nobody who looks at a file knows the server's jute.maxbuffer.
MAX_FIELD_BYTES: Final = 64 << 20
_GZIP: Final = b"\x1f\x8b"
_SNAPPY: Final = b"\x82SNAPPY"
_MASK64: Final = (1 << 64) - 1
_SYSTEM: Final = b"/zookeeper/"
_NO_NAMES: Final = (b"/", b"/.", b"/..")
_unpack_stat: Final = Struct(">qqqqiiiqq").unpack
_ZNODE_FRAME_BYTES: Final = 8 + 68


class Stored(NamedTuple):
    """A znode as a snapshot has it. `cversion` counts creates of children, `owner` may also be a container's or a
    TTL's: what clients see of both is worked out by the server."""

    path: bytes
    data: bytes | None
    acl: str
    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    owner: int
    pzxid: int


@contextmanager
def opened(path: str) -> Iterator[SnapshotReader]:
    """A snapshot to read, by the name of its file. Raises StorageCorrupt, StorageFailed, ConfigError (snappy)."""
    found = real_file(path)
    zxid, compression = format.parse_snapshot_name(os.path.basename(found))
    with reading(path):
        if zxid < 0:
            compression = _compression_of(found)
        reader = SnapshotReader(real_disk(), found, zxid, compression, MAX_FIELD_BYTES)
    try:
        yield reader
    finally:
        reader.close()


def _compression_of(path: str) -> str:
    """Of a file whose name does not say it."""
    file = real_disk().open_read(path)
    try:
        start = file.read(len(_SNAPPY))
    finally:
        file.close()
    return "gz" if start.startswith(_GZIP) else "snappy" if start == _SNAPPY else ""


def batches_of(reader: SnapshotReader) -> Iterator[list[ZnodeTuple]]:
    """`reader.batches()`, with the disk's errors told. Raises StorageCorrupt, StorageFailed."""
    with reading(reader.path):
        yield from reader.batches()


def znodes_of(reader: SnapshotReader) -> Iterator[Stored]:
    """The znodes in the order of the file, parents first. They count only if it is read to the end."""
    acls = acl_texts(reader)
    for batch in batches_of(reader):
        for path, data, acl, zxids, middle, pzxid in batch:
            yield Stored(path, data, acls[acl], *_unpack_stat(zxids + middle + pzxid))


def acl_texts(reader: SnapshotReader) -> dict[int, str]:
    """The ACLs by id, as text."""
    texts = {key: acl_text(entries) for key, entries in reader.acls.items()}
    texts[format.OPEN_ACL_ID] = "world:anyone:cdrwa"
    return texts


class Facts:
    """What there is to say about one snapshot. `problem` None: it is sound as far as it was looked at."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.zxid = format.parse_snapshot_name(os.path.basename(path))[0]
        self.file_bytes = 0
        self.znodes = 0
        self.sessions = 0
        self.digest: int | None = None
        self.digest_zxid = -1
        self.content_zxid: int | None = None
        self.problem: StorageCorrupt | None = None

    @property
    def is_fuzzy(self) -> bool:
        """Txns after its zxid may be in it, in part; a server replays them again."""
        return self.content_zxid is None or self.content_zxid > self.zxid


def facts_of(path: str) -> Facts:
    """Reads a snapshot to its end, checking all seals. Raises StorageFailed when it cannot be read at all."""
    return _look(Facts(path), None)


def verify(path: str) -> Facts:
    """The same, and looks whether the znodes are a tree and have the digest that was written. Holds all paths."""
    return _look(Facts(path), _Structure(path))


def _look(facts: Facts, structure: _Structure | None) -> Facts:
    facts.file_bytes = os.path.getsize(real_file(facts.path))
    try:
        with opened(facts.path) as reader:
            facts.sessions = len(reader.sessions)
            if structure is not None:
                structure.start(reader)
            for batch in batches_of(reader):
                facts.znodes += len(batch)
                if structure is not None:
                    structure.add(batch)
            if reader.digest is not None:
                facts.digest = reader.digest.digest
                facts.digest_zxid = reader.digest.zxid
            facts.content_zxid = content_zxid(reader)
            if structure is not None:
                structure.compare(reader)
    except StorageCorrupt as error:
        facts.problem = error
    return facts


class _Structure:
    """Whether znodes are a tree, and the sum of their digests."""

    def __init__(self, path: str) -> None:
        self._file = path
        self._offset = 0
        self._paths: set[bytes] = set()
        self._digest = 0

    def start(self, reader: SnapshotReader) -> None:
        self._offset = len(format.encode_snapshot_head(reader.sessions, reader.acls))

    def add(self, batch: list[ZnodeTuple]) -> None:
        """Raises StorageCorrupt."""
        paths = self._paths
        digest = 0
        for path, data, _, zxids, middle, pzxid in batch:
            if path == b"/":
                hashed = b""
            else:
                hashed = path
                if path in paths:
                    raise self._corrupt(batch, path, "comes twice")
                if parent_of(path) not in paths or path.rfind(b"/") == 1:
                    raise self._corrupt(batch, path, "comes before its parent")
                if path.endswith(_NO_NAMES):
                    raise self._corrupt(batch, path, "has no name that a client could have given it")
            paths.add(path)
            if not path.startswith(_SYSTEM):
                digest += crc32(b"".join((hashed, data or b"", zxids, pzxid, middle)))
        self._digest = (self._digest + digest) & _MASK64
        self._offset += _bytes_of(batch)

    def compare(self, reader: SnapshotReader) -> None:
        """A snapshot that txns were put into while it was written has the digest of a later tree: a replay shows it."""
        digest = reader.digest
        if digest is None or digest.zxid != reader.zxid or digest.version != format.DIGEST_VERSION:
            return
        if not digest.zxid:
            # A server that never had a txn writes an empty one (DataTree.deserializeZxidDigest).
            return
        if digest.digest != self._digest:
            reason = f"the znodes have the digest {self._digest:#x}, and {digest.digest:#x} was written"
            raise StorageCorrupt(self._file, self._offset, reason)

    def _corrupt(self, batch: list[ZnodeTuple], path: bytes, what: str) -> StorageCorrupt:
        at = next(index for index, znode in enumerate(batch) if znode[0] is path)
        return StorageCorrupt(self._file, self._offset + _bytes_of(batch[:at]), f"znode {path!r} {what}")


def _bytes_of(batch: list[ZnodeTuple]) -> int:
    size = sum(len(znode[0]) + len(znode[1] or b"") for znode in batch) + _ZNODE_FRAME_BYTES * len(batch)
    return size - 1 if batch and batch[0][0] == b"/" else size


# Comparing


class Difference(NamedTuple):
    """One znode that is not the same in both; what only one has is `created` or `deleted`."""

    change: str
    path: bytes
    before: Stored | None
    after: Stored | None


def differences(old: str, new: str) -> Iterator[Difference]:
    """What changed from one snapshot to the other: by path, deletions last. Holds the znodes of the old one.

    Counters that only say that children came and went are not compared. Raises StorageCorrupt, StorageFailed.
    """
    with opened(old) as reader:
        before = {znode.path: znode for znode in znodes_of(reader)}
    with opened(new) as reader:
        for after in znodes_of(reader):
            was = before.pop(after.path, None)
            if was is None:
                yield Difference("created", after.path, None, after)
            elif change := _change(was, after):
                yield Difference(change, after.path, was, after)
    for path, was in before.items():
        yield Difference("deleted", path, was, None)


def _change(before: Stored, after: Stored) -> str:
    if before.czxid != after.czxid:
        return "recreated"
    parts = []
    if before.data != after.data:
        parts.append("data")
    elif (before.mzxid, before.version) != (after.mzxid, after.version):
        parts.append("written again")
    if (before.acl, before.aversion) != (after.acl, after.aversion):
        parts.append("acl")
    return "+".join(parts)


# The largest


def top(path: str, by: str, count: int) -> list[tuple[bytes, int]]:
    """The paths that have most: `bytes` of data, `children`, or bytes of the whole `subtree` with its paths.

    For the latter two it holds the paths of all that have children. Raises StorageCorrupt, StorageFailed.
    """
    with opened(path) as reader:
        if by == "bytes":
            return heapq.nlargest(count, _sizes(reader, 0), _size)
        if by == "children":
            return heapq.nlargest(count, _child_counts(reader).items(), _size)
        totals = _below(reader)
    # Once more for the znodes themselves: only now it is known which of them have anything below.
    with opened(path) as reader:
        whole = ((path, size + totals.get(path, 0)) for path, size in _sizes(reader, 1))
        return heapq.nlargest(count, whole, _size)


def _size(item: tuple[bytes, int]) -> int:
    return item[1]


def _sizes(reader: SnapshotReader, with_path: int) -> Iterator[tuple[bytes, int]]:
    for batch in batches_of(reader):
        for znode in batch:
            yield znode[0], len(znode[1] or b"") + len(znode[0]) * with_path


def _child_counts(reader: SnapshotReader) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for path, _ in _sizes(reader, 0):
        if path != b"/":
            parent = parent_of(path)
            counts[parent] = counts.get(parent, 0) + 1
    return counts


def _below(reader: SnapshotReader) -> dict[bytes, int]:
    """The bytes below each znode that has something below."""
    totals: dict[bytes, int] = {b"/": 0}
    for path, size in _sizes(reader, 1):
        cut = path.rfind(b"/") if path != b"/" else -1
        while cut > 0:
            above = path[:cut]
            totals[above] = totals.get(above, 0) + size
            cut = path.rfind(b"/", 0, cut)
        if path != b"/":
            totals[b"/"] += size
    return totals

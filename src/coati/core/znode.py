"""Znodes: immutable versions, how their Stat is packed, whose they are, and their share of the tree digest.

Knows the layout of Stat and of the digest's block. Must not know the tree, paths other than to hash them, or txns.
Invariants: a Znode is never changed once another part can see it (a write installs a new version), with two caches
excepted: `digest`, filled when first asked for, and `children`, which all versions of a znode share and which the tree
changes only when it commits. So whoever holds a reference to a version holds a consistent znode: that is what makes a
snapshot exact without copying. Sources: DataNode, DigestCalculator, EphemeralType, EphemeralTypeEmulate353.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

from coati.core.acl import AclList
from coati.wire import codes
from coati.wire.jute import NULL_LENGTH

# Stat as clients see it: czxid mzxid ctime mtime version cversion aversion ephemeralOwner dataLength numChildren pzxid.
STAT: Final = Struct(">qqqqiiiqiiq")
STAT_BYTES: Final = 68
# What the digest covers: czxid mzxid pzxid ctime mtime version cversion aversion ephemeralOwner, the last four stored.
BLOCK: Final = Struct(">qqqqqiiiq")

# What a body has beside the data: the length in front, the Stat behind.
BODY_OVERHEAD: Final = 4 + STAT_BYTES

pack_stat: Final = STAT.pack
# To be called with the offset -STAT_BYTES on a body.
unpack_stat: Final = STAT.unpack_from
pack_block: Final = BLOCK.pack

# Most lengths are small: a table is quicker than packing.
pack_int: Final = Struct(">i").pack
LENGTHS: Final[list[bytes]] = [pack_int(size) for size in range(512)]

MASK64: Final = (1 << 64) - 1
INT_MAX: Final = (1 << 31) - 1
INT_MIN: Final = -(1 << 31)
SYSTEM_SUBTREE: Final = b"/zookeeper/"

# EphemeralType: what a stored ephemeralOwner means.
KIND_PERSISTENT: Final = 0
KIND_EPHEMERAL: Final = 1
KIND_CONTAINER: Final = 2
KIND_TTL: Final = 3
_VALUE_MASK: Final = (1 << 40) - 1


def wrap32(value: int) -> int:
    """The value as Java's int holds it."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class OwnerKinds:
    """What a stored owner stands for; TTLs exist only with `extended_types` (EphemeralType.get)."""

    __slots__ = ("emulate_353_ttl", "extended_types")

    def __init__(self, extended_types: bool = False, emulate_353_ttl: bool = False) -> None:
        self.extended_types = extended_types
        self.emulate_353_ttl = emulate_353_ttl

    def kind(self, owner: int) -> int:
        """One of the KIND numbers."""
        if owner == 0:
            return KIND_PERSISTENT
        if owner > 0:
            return KIND_EPHEMERAL
        if self.extended_types:
            if self.emulate_353_ttl and owner != codes.OWNER_CONTAINER:
                return KIND_TTL
            # 0xff in the top byte; Java throws on a feature other than TTL, here it stays somebody's session.
            if owner >= codes.OWNER_TTL_MASK and (owner >> 40) & 0xFFFF == 0:
                return KIND_TTL
        return KIND_CONTAINER if owner == codes.OWNER_CONTAINER else KIND_EPHEMERAL

    def shown(self, owner: int) -> int:
        """The owner as clients see it: a session, or 0 (DataNode.getClientEphemeralOwner)."""
        return owner if owner == 0 or self.kind(owner) == KIND_EPHEMERAL else 0


def ttl_ms(owner: int) -> int:
    """The time to live in the stored owner of a TTL znode."""
    return owner & _VALUE_MASK


def ttl_owner(ttl: int) -> int:
    """The stored owner of a TTL znode (EphemeralType.TTL.toEphemeralOwner); the caller has checked the range."""
    return codes.OWNER_TTL_MASK | (ttl & _VALUE_MASK)


class Children:
    """The children of a znode: their full paths in order of creation, and the encoded names until the set changes.

    Full paths, since the tree's keys are those very objects: names of their own would cost a hundred bytes a znode.
    """

    __slots__ = ("paths", "wire")

    def __init__(self) -> None:
        self.paths: dict[bytes, None] = {}
        self.wire: bytes | None = None


class Znode:
    """One version of a znode.

    `body` is the reply to getData: the data as a jute buffer, then the 68-byte Stat as clients see it. It is all there
    is of both; a reply is a header and these bytes. `cversion` and `owner` are what is stored: the number of creates,
    and the owner that may also mean a container or a TTL. `digest` is -1 until computed. A deleted znode is
    represented, in flight only, by a version with an empty body.
    """

    __slots__ = ("acl", "body", "children", "cversion", "digest", "owner")

    def __init__(
        self, body: bytes, acl: AclList, cversion: int, owner: int, children: Children | None, digest: int
    ) -> None:
        self.body = body
        self.acl = acl
        self.cversion = cversion
        self.owner = owner
        self.children = children
        self.digest = digest

    def data(self) -> bytes | None:
        """The data."""
        body = self.body
        return None if body.startswith(NULL_LENGTH) else body[4:-STAT_BYTES]

    def buffer(self) -> bytes:
        """The data as a jute buffer."""
        return self.body[:-STAT_BYTES]

    def stat(self) -> bytes:
        """The Stat as clients see it."""
        return self.body[-STAT_BYTES:]

    def child_count(self) -> int:
        """How many children this version has."""
        return int.from_bytes(self.body[-12:-8], "big")

    def pzxid(self) -> int:
        """The zxid of the last create or delete of a child."""
        return int.from_bytes(self.body[-8:], "big", signed=True)

    def mzxid(self) -> int:
        """The zxid of the last change of the data."""
        return int.from_bytes(self.body[-60:-52], "big", signed=True)

    def mtime(self) -> int:
        """When the data was changed last, in ms."""
        return int.from_bytes(self.body[-44:-36], "big", signed=True)


def encode_buffer(data: bytes | None) -> bytes:
    """The data as a jute buffer."""
    return NULL_LENGTH if data is None else len(data).to_bytes(4, "big") + data


def tombstone(old: Znode) -> Znode:
    """The mark of a deletion in flight."""
    return Znode(b"", old.acl, 0, old.owner, None, 0)


def with_buffer_only(old: Znode, buffer: bytes) -> Znode:
    """A new version whose data changed without a txn, as the quota statistics do (DataTree.updateQuotaStat)."""
    stat = old.stat()
    body = buffer + stat[:52] + (len(buffer) - 4).to_bytes(4, "big") + stat[56:]
    return Znode(body, old.acl, old.cversion, old.owner, old.children, old.digest)


def digest_of(path: bytes, node: Znode) -> int:
    """The znode's share of the tree digest, cached in the version (DigestCalculator.calculateDigest)."""
    if node.digest >= 0:
        return node.digest
    if path.startswith(SYSTEM_SUBTREE):
        # Quota statistics differ between servers, so nothing below /zookeeper counts.
        node.digest = 0
        return 0
    body = node.body
    czxid, mzxid, ctime, mtime, version, _, aversion, _, _, _, pzxid = unpack_stat(body, -STAT_BYTES)
    block = pack_block(czxid, mzxid, pzxid, ctime, mtime, version, node.cversion, aversion, node.owner)
    # The root goes by its other name, the empty one. Null data leaves nothing between length and Stat either.
    digest = crc32(block, crc32(body[4:-STAT_BYTES], crc32(path if path != b"/" else b"")))
    node.digest = digest
    return digest

"""Znodes: kinds of owners, the Stat in a body, and the digest."""

from __future__ import annotations

from zlib import crc32

import pytest

from coati.core.acl import AclCache
from coati.core.znode import (
    KIND_CONTAINER,
    KIND_EPHEMERAL,
    KIND_PERSISTENT,
    KIND_TTL,
    OwnerKinds,
    Znode,
    digest_of,
    encode_buffer,
    pack_stat,
    tombstone,
    ttl_ms,
    ttl_owner,
    with_buffer_only,
    wrap32,
)
from coati.wire.records import Stat
from tests.core.kit import stat_of

CONTAINER = -(1 << 63)


def znode(data: bytes | None = b"data", owner: int = 0) -> Znode:
    size = 0 if data is None else len(data)
    stat = pack_stat(1, 2, 3, 4, 5, 11, 7, owner, size, 1, 10)
    return Znode(encode_buffer(data) + stat, AclCache().open, 6, owner, None, -1)


@pytest.mark.parametrize(
    ("owner", "plain", "extended", "emulated"),
    [
        (0, KIND_PERSISTENT, KIND_PERSISTENT, KIND_PERSISTENT),
        (0x1000A1B2C3D0000, KIND_EPHEMERAL, KIND_EPHEMERAL, KIND_EPHEMERAL),
        (-0x0200000000000000, KIND_EPHEMERAL, KIND_EPHEMERAL, KIND_TTL),  # a session of server 254
        (CONTAINER, KIND_CONTAINER, KIND_CONTAINER, KIND_CONTAINER),
        (-0x0100000000000000 | 5000, KIND_EPHEMERAL, KIND_TTL, KIND_TTL),
        (-0x0100000000000000 | 1 << 40, KIND_EPHEMERAL, KIND_EPHEMERAL, KIND_TTL),  # another feature than TTL
        (CONTAINER | 5000, KIND_EPHEMERAL, KIND_EPHEMERAL, KIND_TTL),  # a TTL of 3.5.3
        (-1, KIND_EPHEMERAL, KIND_EPHEMERAL, KIND_TTL),
    ],
)
def test_kind_of_an_owner(owner: int, plain: int, extended: int, emulated: int) -> None:
    """EphemeralType.get: TTLs exist only with extended types."""
    kinds = (OwnerKinds(), OwnerKinds(True), OwnerKinds(True, True))
    assert tuple(k.kind(owner) for k in kinds) == (plain, extended, emulated)
    assert OwnerKinds().shown(owner) == (owner if plain == KIND_EPHEMERAL else 0)
    assert OwnerKinds(True).shown(owner) == (owner if extended == KIND_EPHEMERAL else 0)


def test_ttl_in_an_owner() -> None:
    assert ttl_owner(1) == -0x0100000000000000 + 1
    assert ttl_ms(ttl_owner((1 << 40) - 1)) == (1 << 40) - 1


def test_wrap_is_java_s_int() -> None:
    assert [wrap32(v) for v in (0, 1 << 31, (1 << 31) - 1, -(1 << 31) - 1, 1 << 32)] == [
        0,
        -(1 << 31),
        (1 << 31) - 1,
        (1 << 31) - 1,
        0,
    ]


def test_fields_of_a_body() -> None:
    node = znode()
    assert node.data() == b"data"
    assert node.buffer() == b"\0\0\0\4data"
    assert stat_of(node) == Stat(1, 2, 3, 4, 5, 11, 7, 0, 4, 1, 10)
    assert (node.mzxid(), node.mtime(), node.pzxid(), node.child_count()) == (2, 4, 10, 1)
    assert len(node.stat()) == 68


def test_null_data_is_not_empty_data() -> None:
    assert znode(None).data() is None
    assert znode(b"").data() == b""
    assert znode(None).buffer() == b"\xff\xff\xff\xff"
    assert znode(b"\xff\xff\xff\xff").data() == b"\xff\xff\xff\xff"


def test_data_changed_without_a_txn() -> None:
    new = with_buffer_only(znode(), encode_buffer(b"longer data"))
    assert new.data() == b"longer data"
    assert stat_of(new) == Stat(1, 2, 3, 4, 5, 11, 7, 0, 11, 1, 10)


def test_tombstone_remembers_acl_and_owner() -> None:
    node = znode(owner=5)
    gone = tombstone(node)
    assert (gone.body, gone.acl, gone.owner) == (b"", node.acl, 5)


BLOCK = bytes.fromhex(
    "0000000000000001" "0000000000000002" "000000000000000a" "0000000000000003" "0000000000000004"
    "00000005" "00000006" "00000007" "0000000000000000"
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "data", "hashed"),
    [
        (b"/a", b"data", b"/adata"),
        (b"/a", None, b"/a"),
        (b"/a", b"", b"/a"),
        (b"/", b"data", b"data"),
        (b"/zookeeper", b"data", b"/zookeeperdata"),
    ],
)
def test_digest_covers_path_data_and_stored_stat(path: bytes, data: bytes | None, hashed: bytes) -> None:
    """DigestCalculator: 60 bytes with the stored cversion and owner, not the shown ones."""
    node = znode(data)
    assert digest_of(path, node) == crc32(hashed + BLOCK)
    assert node.digest == crc32(hashed + BLOCK), "and it is kept"


def test_digest_of_the_system_subtree_is_nothing() -> None:
    assert digest_of(b"/zookeeper/quota", znode()) == 0

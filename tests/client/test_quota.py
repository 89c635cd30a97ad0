"""Quotas as the tools of upstream write them: the same text, the same znodes, no nesting."""

from __future__ import annotations

import asyncio

import pytest

import coati
from coati.client.quota import parse, text
from tests.client.livekit import client, run


# StatsTrack.toString, and what its constructor reads.
@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"count=4,bytes=5", {"count": 4, "bytes": 5}),
        (b"count=-1,bytes=-1", {"count": -1, "bytes": -1}),
        (
            b"count=4,bytes=5=;byteHardLimit=6;countHardLimit=7",
            {"count": 4, "bytes": 5, "byteHardLimit": 6, "countHardLimit": 7},
        ),
    ],
)
def test_text_is_that_of_upstream(data: bytes, values: dict[str, int]) -> None:
    assert parse(data) == values
    assert text(values) == data


def test_text_that_means_nothing_is_left_out() -> None:
    assert parse(b"count=,bytes=x;what;countHardLimit=3\xff") == {}
    assert parse(b"count=2;countHardLimit=3") == {"count": 2, "countHardLimit": 3}
    assert parse(b"") == {}


def test_limits_are_set_read_and_lifted(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(f"{top}/a", b"12345", parents=True)
            assert await zk.quota.get(top) is None
            assert await zk.quota.set(top, count=5) == coati.Quota(top, count=5)
            node = await zk.get(f"/zookeeper/quota{top}/zookeeper_limits")
            # What zkCli's `setquota -n 5` leaves on 3.9.3.
            assert node.data == b"count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=-1"
            assert await zk.quota.usage(top) == coati.Usage(top, count=2, bytes=5)
            quota = await zk.quota.set(top, count=9, bytes=0, hard=True)
            assert quota == coati.Quota(top, count=5, hard_count=9, hard_bytes=0)
            assert await zk.quota.get(top) == quota
            assert await zk.quota.unset(top, count=True) == coati.Quota(top, hard_count=9, hard_bytes=0)
            assert await zk.quota.unset(top, count=True, bytes=True, hard=True) == coati.Quota(top)
            assert await zk.quota.remove(top)
            assert await zk.exists(f"/zookeeper/quota{top}") is None
            assert await zk.exists("/zookeeper/quota") is not None
            assert not await zk.quota.remove(top)
            with pytest.raises(coati.NoNode):
                await zk.quota.usage(top)
            with pytest.raises(coati.NoNode):
                await zk.quota.unset(top, count=True)

    run(scene)


def test_quotas_do_not_nest_and_are_listed(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(f"{top}/a/b/c", parents=True)
            await zk.create(f"{top}/ab", parents=True)
            await zk.quota.set(f"{top}/a/b", count=5)
            await zk.quota.set(f"{top}/ab", bytes=5)
            for path in (top, f"{top}/a", f"{top}/a/b/c"):
                with pytest.raises(coati.BadArguments, match=rf"{top}/a(/b|b) has a quota, and quotas do not nest"):
                    await zk.quota.set(path, count=1)
            listed = [coati.Quota(f"{top}/a/b", count=5), coati.Quota(f"{top}/ab", bytes=5)]
            assert [quota for quota in await zk.quota.list() if quota.path.startswith(f"{top}/")] == listed
            view = zk.chroot(top)
            assert await view.quota.list() == [coati.Quota("/a/b", count=5), coati.Quota("/ab", bytes=5)]
            assert await view.quota.get("/ab") == coati.Quota("/ab", bytes=5)
            assert await view.quota.remove("/ab")
            assert await zk.quota.list() != []
            assert await view.quota.list() == [coati.Quota("/a/b", count=5)]
            assert await zk.quota.remove(f"{top}/a/b")
            own = zk.chroot(f"{top}/a")
            await own.quota.set("/", count=7)
            assert await own.quota.list() == [coati.Quota("/", count=7)]

    run(scene)


def test_quotas_that_make_no_sense_are_refused(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            with pytest.raises(coati.NoNode):
                await zk.quota.set(top, count=1)
            await zk.create(top)
            with pytest.raises(ValueError):
                await zk.quota.set(top, count=0)
            with pytest.raises(ValueError):
                await zk.quota.set(top, bytes=-1)
            with pytest.raises(ValueError):
                await zk.quota.set(top)
            for path in ("/", "/zookeeper/quota", f"/zookeeper/quota{top}"):
                with pytest.raises(coati.BadArguments):
                    await zk.quota.set(path, count=1)

    run(scene)


def test_quotas_set_at_once_keep_all_limits(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await zk.create(top)
            for _ in range(10):
                await asyncio.gather(
                    zk.quota.set(top, count=1), other.quota.set(top, bytes=2), zk.quota.set(top, count=3, hard=True)
                )
                assert await zk.quota.get(top) == coati.Quota(top, count=1, bytes=2, hard_count=3)
                await asyncio.gather(zk.quota.remove(top), other.quota.remove(top))
                assert await zk.exists(f"/zookeeper/quota{top}") is None

    run(scene)


def test_half_a_quota_is_mended(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(top)
            where = f"/zookeeper/quota{top}"
            await zk.put(f"{where}/zookeeper_stats", b"count=9,bytes=9")
            await zk.quota.set(top, count=4)
            assert await zk.quota.usage(top) == coati.Usage(top, 1, 0)
            await zk.delete(f"{where}/zookeeper_stats")
            assert await zk.quota.remove(top)
            await zk.put(f"{where}/zookeeper_stats", b"count=9,bytes=9")
            assert not await zk.quota.remove(top)

    run(scene)


def test_usage_counts_and_hard_limits_refuse(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(top)
            await zk.quota.set(top, count=2, hard=True)
            await zk.create(f"{top}/a", b"123")
            assert await zk.quota.usage(top) == coati.Usage(top, 2, 3)
            with pytest.raises(coati.QuotaExceeded):
                await zk.create(f"{top}/b")

    run(scene)

"""Leases: one holder at a time, for some time, by wall clocks that the tests set."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from coati.recipes.lease import Lease
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, names, run, until

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()


def test_a_lease_is_for_one_until_its_time_is_over(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            now = [NOON]
            one = Lease(zks[0], path, 60.0, id="one", clock=lambda: now[0])
            two = Lease(zks[1], path, 60.0, id="two", clock=lambda: now[0])
            assert await one.holders() == []
            assert await one.obtain()
            assert not await two.obtain()
            (holder,) = await two.holders()
            assert (holder.id, holder.end.timestamp()) == ("one", NOON + 60)
            now[0] += 30
            assert await one.obtain()
            now[0] += 59
            assert not await two.obtain()
            now[0] += 1
            assert await two.holders() == []
            assert await two.obtain()
            assert not await one.obtain()
            assert not await one.release()
            assert await two.release()
            assert await one.obtain()
            told = json.loads((await zks[0].get(f"{path}/lease_holder")).data)
            assert told == {"version": 1, "holder": "one", "end": "2030-01-01T12:02:30"}
            assert await names(zks[0], path) == ["lease_holder"]

    run(main())


def test_so_many_hold_a_lease_of_several(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            leases = [zks[0].lease(path, 60.0, count=2) for _ in range(3)]
            assert sorted([await lease.obtain() for lease in leases]) == [False, True, True]
            assert len(await leases[0].holders()) == 2
            assert await leases[0].obtain()

    run(main())


def test_many_who_ask_at_once_get_one_lease(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            got = await asyncio.gather(*(zk.lease(path, 60.0).obtain() for zk in zks for _ in range(3)))
            assert sum(got) == 1

    run(main())


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"{}", b'{"version": 2, "holder": "x", "end": "x"}'])
def test_what_cannot_be_read_belongs_to_somebody_else(server: Server, path: str, data: bytes) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            await zks[0].create(f"{path}/lease_holder", data, parents=True)
            assert not await zks[0].lease(path, 60.0).obtain()
            assert await zks[0].lease(path, 60.0).holders() == []
            with pytest.raises(ValueError, match="some time"):
                zks[0].lease(path, 0.0)

    run(main())


def test_cancelled_requests_leave_nobody_in_the_line(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:

            async def is_clean() -> bool:
                return set(await names(zks[0], path)) <= {"lease_holder"}

            at = 0
            while True:
                at += 1
                tried = CancelAt(zks[0].lease(path, 60.0, id="me").obtain(), at, late=False)
                try:
                    await tried
                except asyncio.CancelledError:
                    await until(is_clean, "nobody stands there")
                if not tried.was_reached:
                    break
            assert at > 3

    run(main())

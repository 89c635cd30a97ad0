"""`undo`: what was changed is as it was before, unless somebody else has changed it since."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from coati.cli import journal as journals
from coati.cli.journal import Journal, JournalClient
from coati.client.ops import Check, Create, Delete, MultiError, Op, Set
from coati.client.types import CREATOR, OPEN, Digest, Mode, Perm
from coati.errors import BadVersion, NoNode

CLOSED = [OPEN[0]._replace(perms=OPEN[0].perms & ~Perm.DELETE)]
Work = Callable[[JournalClient], Awaitable[object]]


def journaled(hosts: str, work: Work) -> None:
    async def run() -> None:
        client = JournalClient(hosts)
        client.journal = Journal()
        async with client:
            await work(client)

    asyncio.run(run())


async def line(zk: JournalClient, work: Awaitable[object]) -> None:
    zk.journal.begin("a line")
    try:
        await work
    finally:
        zk.journal.end()


async def undo(zk: JournalClient) -> None:
    await zk.undo(zk.journal.entries.pop())


def test_each_kind_of_change(hosts: str) -> None:
    async def work(zk: JournalClient) -> None:
        await zk.create("/a", b"one", acl=OPEN)
        await zk.create("/a/b", b"two", mode=Mode.EPHEMERAL)
        await zk.create("/box", mode=Mode.CONTAINER)
        assert not zk.journal.entries, "nothing is kept between lines"
        await line(zk, zk.set("/a", b"other"))
        await undo(zk)
        assert (await zk.get("/a")).data == b"one"
        await line(zk, zk.create("/new/deep/er", b"x", parents=True))
        await undo(zk)
        assert await zk.children("/") == ["a", "box"]
        await line(zk, zk.delete("/a/b"))
        await undo(zk)
        node = await zk.get("/a/b")
        assert (node.data, node.stat.ephemeral_owner) == (b"two", zk.session.id)
        await line(zk, zk.delete("/box"))
        await undo(zk)
        assert await zk.exists("/box") is not None
        await line(zk, zk.set_acl("/a", CLOSED))
        await undo(zk)
        assert (await zk.get_acl("/a")).acl == OPEN
        await line(zk, zk.create("/a/seq-", mode=Mode.SEQUENTIAL))
        await undo(zk)
        assert await zk.children("/a") == ["b"]

    journaled(hosts, work)


def test_a_tree_comes_back_with_its_acls(hosts: str) -> None:
    async def work(zk: JournalClient) -> None:
        await zk.authenticate(Digest("alice", "pw"))
        view = zk.chroot("/t")
        await zk.create("/t")
        await view.create("/a", b"1", acl=CREATOR)
        await view.create("/a/b", b"2")
        acl = (await view.get_acl("/a")).acl
        await line(zk, view.delete_tree("/a"))
        assert await view.children("/") == []
        await undo(zk)
        assert (await view.get("/a/b")).data == b"2"
        assert (await view.get_acl("/a")).acl == acl

    journaled(hosts, work)


def test_a_multi_is_taken_back_as_one(hosts: str) -> None:
    async def work(zk: JournalClient) -> None:
        await zk.create("/a", b"old")
        await zk.create("/gone", b"here")
        ops: list[Op] = [Check("/a"), Set("/a", b"new"), Create("/b"), Delete("/gone")]
        await line(zk, zk.multi(ops))
        await undo(zk)
        assert await zk.children("/") == ["a", "gone"]
        assert [(await zk.get(path)).data for path in ("/a", "/gone")] == [b"old", b"here"]
        zk.journal.begin("mixed")
        await zk.create("/c")
        await zk.set_acl("/c", CLOSED)
        await zk.create("/d")
        zk.journal.end()
        await undo(zk)
        assert await zk.children("/") == ["a", "gone"]

    journaled(hosts, work)


def test_what_somebody_else_changed_stays(hosts: str) -> None:
    async def work(zk: JournalClient) -> None:
        await zk.create("/a", b"one")
        await line(zk, zk.set("/a", b"two"))
        await zk.set("/a", b"theirs")
        with pytest.raises(MultiError) as refused:
            await undo(zk)
        assert isinstance(refused.value.results[0], BadVersion)
        assert (await zk.get("/a")).data == b"theirs"

    journaled(hosts, work)


def test_what_failed_is_no_change(hosts: str) -> None:
    async def work(zk: JournalClient) -> None:
        for failing in (zk.set("/no", b""), zk.delete("/no"), zk.set_acl("/no", OPEN), zk.create("/no/no")):
            with pytest.raises(NoNode):
                await line(zk, failing)
        assert not zk.journal.entries

    journaled(hosts, work)


@pytest.mark.parametrize("limit", ["MOST_ZNODES", "MOST_BYTES"])
def test_too_much_is_not_kept(hosts: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, limit, 3)

    async def work(zk: JournalClient) -> None:
        for name in "abcd":
            await zk.create(f"/{name}", b"xx")
        await line(zk, zk.delete_tree("/", keep_root=True))
        entry = zk.journal.entries.pop()
        assert "were changed" in entry.lost
        assert entry.steps == []

    journaled(hosts, work)


def test_why_it_cannot_be_taken_back(hosts: str) -> None:
    async def work(zk: JournalClient) -> None:
        hidden = OPEN[0]._replace(scheme="digest", id="bob:hash")
        only_delete = OPEN[0]._replace(perms=OPEN[0].perms & ~Perm.READ)
        async with JournalClient(hosts) as other:
            other.journal = Journal()
            await other.create("/theirs", mode=Mode.EPHEMERAL)
            await line(zk, zk.delete("/theirs"))
            assert "another session's ephemeral" in zk.journal.entries.pop().lost
        await zk.create("/hidden", acl=[OPEN[0]._replace(perms=OPEN[0].perms & ~Perm.ADMIN), hidden])
        await line(zk, zk.delete("/hidden"))
        assert "not shown to us" in zk.journal.entries.pop().lost
        await zk.create("/dark", acl=[only_delete])
        await line(zk, zk.set("/dark", b"x"))
        assert "could not be read" in zk.journal.entries.pop().lost
        await line(zk, zk.delete("/dark"))
        assert "could not be read" in zk.journal.entries.pop().lost

    journaled(hosts, work)

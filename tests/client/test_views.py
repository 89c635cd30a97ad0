"""A view's root is made by what makes parents, wherever the view begins."""

from __future__ import annotations

import pytest

import coati
from tests.client.livekit import client, run


def test_parents_of_a_views_root_are_made_too(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            view = zk.chroot(f"{top}/a/b")
            with pytest.raises(coati.NoNode):
                await view.create("/x")
            node = await view.create("/x", parents=True)
            assert node.path == "/x"
            assert await zk.exists(f"{top}/a/b/x") is not None
            assert await zk.chroot(f"{top}/c").ensure("/d/e")
            assert await zk.chroot(f"{top}/f").ensure("/")
            await zk.chroot(f"{top}/g/h").put("/i", b"1")
            serial = await zk.chroot(f"{top}/j/k").create("/", parents=True, mode=coati.Mode.SEQUENTIAL)
            assert serial.path == "/0000000000"
            assert await zk.children(top) == ["a", "c", "f", "g", "j"]

    run(scene)

"""Which containers and TTL znodes go, and when."""

from __future__ import annotations

from coati.core.reap import Reaper, reapable
from coati.wire import codes
from tests.core.kit import OPEN, T0, Client, Core, create_body, jlong


def start() -> tuple[Core, Client]:
    core = Core(extended_types=True)
    return core, core.connect(7)


def container(core: Core, client: Client, path: bytes) -> None:
    core.write(client, codes.OP_CREATE_CONTAINER, create_body(path, b"", OPEN, 4))


def test_container_goes_when_its_last_child_went() -> None:
    core, client = start()
    container(core, client, b"/c")
    core.create(client, b"/c/x")
    assert reapable(core.tree, T0 + 10**9) == []
    core.delete(client, b"/c/x")
    assert reapable(core.tree, T0) == [b"/c"]


def test_container_never_used_stays_unless_told() -> None:
    core, client = start()
    container(core, client, b"/c")
    assert reapable(core.tree, T0 + 10**9) == []
    assert reapable(core.tree, T0 + 5000, 5000) == []
    assert reapable(core.tree, T0 + 5001, 5000) == [b"/c"]


def test_ttl_counts_from_the_last_change_of_data() -> None:
    core, client = start()
    core.write(client, codes.OP_CREATE_TTL, create_body(b"/t", b"", OPEN, 5) + jlong(1000))
    assert reapable(core.tree, T0 + 1000) == []
    assert reapable(core.tree, T0 + 1001) == [b"/t"]
    core.now_ms = T0 + 500
    core.set(client, b"/t", b"x")
    assert reapable(core.tree, T0 + 1500) == []
    assert reapable(core.tree, T0 + 1501) == [b"/t"]
    core.create(client, b"/t/child")
    assert reapable(core.tree, T0 + 9999) == []


def test_others_never_go() -> None:
    core, client = start()
    core.create(client, b"/p")
    core.create(client, b"/e", flags=1)
    core.create(client, b"/p/x")
    core.delete(client, b"/p/x")
    assert reapable(core.tree, T0 + 10**12, 1) == []


def test_rounds_keep_their_distance_and_their_limit() -> None:
    """The first comes an interval after the start; six a minute are one in ten seconds, never none."""
    core, client = start()
    for number in range(3):
        container(core, client, b"/c%d" % number)
        core.create(client, b"/c%d/x" % number)
        core.delete(client, b"/c%d/x" % number)
    for reaper in (Reaper(10_000, 6, 0), Reaper(10_000, 1, 0)):
        assert reaper.due(core.tree, 500, T0) == []
        assert reaper.due(core.tree, 10_499, T0) == []
        assert reaper.due(core.tree, 10_500, T0) == [b"/c0"]
        assert reaper.due(core.tree, 20_499, T0) == []

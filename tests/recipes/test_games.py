"""Clients play games in simulated storms: the rules hold, and each planted mistake breaks one of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

import coati
from coati.client import watchtable
from coati.client.watchtable import WatchTable
from coati.recipes import claim, held
from coati.recipes.held import Held
from coati.recipes.queue import _Hold
from coati.testing import world
from tools.recipe_games import GAMES, Room
from tools.storm_recipes import play, shape

SECONDS = 25.0
SEEDS = 24
BATCH = 8
LIMIT_S = 200.0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Servers warn of what a crash has torn."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(seed: int, *names: str, kind: str = "") -> Counter[str]:
    return world.run(
        lambda sim: play(sim, seconds=SECONDS, names=names, kind=kind), seed, config=shape(seed), limit_s=LIMIT_S
    )


def is_caught(*names: str, seeds: int = 30, kind: str = "") -> bool:
    """Whether some seed finds it."""
    for seed in range(1, seeds + 1):
        try:
            run(seed, *names, kind=kind)
        except (AssertionError, ExceptionGroup):
            return True
    return False


@pytest.mark.no_cover
@pytest.mark.parametrize("first", range(1, SEEDS + 1, BATCH))
def test_nobody_breaks_a_rule(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(first, first + BATCH):
        seen += run(seed)
    assert len([name for name in seen if not name.startswith("fault")]) >= 6, "most games were played"


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.__name__)
def test_each_game_has_moves(game: type) -> None:
    assert run(1, game.__name__.lower())[game.__name__.lower()] > 0


def hold_on_to_it(patch: pytest.MonkeyPatch) -> None:
    """Whoever has lost something does not hear of it."""
    patch.setattr(Held, "lose", lambda self, why: None)
    patch.setattr(Held, "check", lambda self: None)


@pytest.mark.no_cover
@pytest.mark.parametrize("game", ["locking", "permitting"])
def test_a_holder_who_does_not_hear_of_the_loss_is_caught(monkeypatch: pytest.MonkeyPatch, game: str) -> None:
    hold_on_to_it(monkeypatch)
    assert is_caught(game)


@pytest.mark.no_cover
def test_a_follower_without_its_leader_vouches_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers pings and reads for syncLimit ticks, while the leader may expire the session."""
    assert not is_caught("locking", seeds=6, kind="apart")
    believed = property(lambda self: self._client.session.deadline * (self._why is None))
    monkeypatch.setattr(Held, "deadline", believed)

    async def believe(client: coati.Client) -> None:
        """The leader is not asked before what was won is relied on either."""

    monkeypatch.setattr(held, "ask_leader", believe)
    monkeypatch.setattr(claim, "ask_leader", believe)
    assert is_caught("locking", seeds=60, kind="apart")


@pytest.mark.no_cover
def test_a_stale_write_without_its_guard_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_on_to_it(monkeypatch)
    monkeypatch.setattr(Room, "visit", lambda self, name, session_id: nullcontext())
    assert not is_caught("locking", seeds=6), "with the guard the server refuses it"
    monkeypatch.setattr(Held, "guard", lambda self: coati.Check("/"))
    assert is_caught("locking")


@pytest.mark.no_cover
def test_an_item_that_is_done_as_far_as_its_consumer_knows_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = _Hold._finish

    async def believe(self: _Hold) -> None:
        try:
            await finish(self)
        except coati.LockLost:
            return

    monkeypatch.setattr(_Hold, "_finish", believe)
    assert is_caught("queueing")


@pytest.mark.skipif(not (watchtable.__file__ or "").endswith(".py"), reason="compiled classes cannot be patched")
def test_watches_that_no_new_server_is_told_of_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WatchTable, "replay", lambda self, zxid: [])
    assert is_caught("following")

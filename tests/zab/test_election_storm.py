"""Elections in bad weather, by seed: no leader that knows less than a quorum, and always one soon after the calm."""

from __future__ import annotations

import random

import pytest

from coati.zab.election import Election, Vote
from coati.zab.quorum import View
from tests.zab.electionkit import Ensemble, Kind, view_of

SEEDS = range(1, 26)


@pytest.fixture
def kind() -> Kind:
    return Election


def random_logs(dice: random.Random, view: View) -> list[Vote]:
    """Few different ones, so that the sid often decides."""
    votes = []
    for sid in [*view.voters(), *view.observers()]:
        epoch = dice.randint(1, 3)
        zxid = dice.randint(max(1, epoch - 1), epoch) << 32 | dice.randint(0, 2)
        votes.append(Vote(sid, zxid, epoch))
    return votes


def random_view(dice: random.Random, voters: int) -> View:
    kind = dice.randint(0, 3)
    if kind == 0:
        return view_of(voters, observers=1)
    if kind == 1 and voters == 7:
        # The last group has no weight: it counts for nothing, and nobody of it may lead.
        groups = {1: [1, 2, 3], 2: [4, 5], 3: [6, 7]}
        return view_of(voters, groups=groups, weights={6: 0, 7: 0, 1: 2})
    return view_of(voters)


def storm(seed: int, voters: int, kind: Kind = Election, other: Kind | None = None) -> Ensemble:
    """An ensemble behind all that can go wrong. Some of its servers are of the `other` kind, if there is one."""
    dice = random.Random(seed * 31 + voters)
    view = random_view(dice, voters)
    net = Ensemble(view, random_logs(dice, view), seed=seed, delay_ms=(1, dice.choice([5, 50, 400])), kind=kind)
    net.loss = dice.choice([0.0, 0.1, 0.4])
    sids = list(net.hosts)
    if other is not None:
        net.kinds = {sid: other for sid in sids if dice.random() < 0.5}
    for sid in sids:
        if dice.random() < 0.7:
            net.start(sid)
    for _ in range(dice.randint(3, 25)):
        net.run(dice.choice([5, 50, 150, 400, 1500]))
        what = dice.randint(0, 4)
        a, b = dice.sample(sids, 2)
        if what == 0:
            net.crash(a)
        elif what == 1:
            net.cut(a, b)
        elif what == 2:
            net.heal(a, b)
        else:
            net.start(a)
    if dice.random() < 0.3:
        # Long enough for the resends to be a minute apart.
        net.run(200_000)
    net.calm()
    return net


@pytest.mark.slow
@pytest.mark.parametrize("voters", [3, 5, 7])
def test_any_storm_is_followed_by_one_leader(voters: int, kind: Kind) -> None:
    """As many votes as a few resends of all to all make, and silence in the end."""
    for seed in SEEDS:
        net = storm(seed, voters, kind)
        a_turn = len(net.hosts) ** 2
        assert net.messages < 2 * a_turn * (1 + net.now_ms // 200), f"seed {seed}: {net.messages} messages: {net}"
        leader = net.settle(8_000)
        # It stays: nobody looks again when all is well, and nobody talks.
        net.run(1000)
        net.messages = 0
        net.run(10_000)
        assert (net.agreed(), net.messages) == (leader, 0), f"seed {seed}: {net}"

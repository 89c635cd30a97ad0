"""The strategies keep what they promise: shares, order, loyalty, and little movement when somebody comes or goes."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from coati.recipes.balance import ConsistentHash, LeastLoaded, RoundRobin, Sticky, Strategy, Uniform, Weighted

THREE = ("a", "b", "c")
PICKS = 6000


def shares(strategy: Strategy[str], instances: tuple[str, ...] = THREE) -> dict[str, float]:
    picked = Counter(strategy.pick(instances, None) for _ in range(PICKS))
    return {name: picked[name] / PICKS for name in instances}


def test_uniform_gives_all_alike() -> None:
    # Three standard deviations of a share of 1/3 in 6,000 picks are 0.018.
    assert all(share == pytest.approx(1 / 3, abs=0.02) for share in shares(Uniform(Random(1))).values())


def test_round_robin_goes_round_whoever_comes_or_goes() -> None:
    strategy = RoundRobin[str]()
    assert [strategy.pick(THREE, None) for _ in range(5)] == ["a", "b", "c", "a", "b"]
    assert strategy.pick(("a",), None) == "a"
    assert {strategy.pick(("a", "b"), None) for _ in range(2)} == {"a", "b"}


def test_weighted_gives_in_proportion_and_nothing_for_zero() -> None:
    weights = {"a": 3.0, "b": 1.0, "c": 0.0}
    got = shares(Weighted(weights.__getitem__, Random(2)))
    assert got["c"] == 0
    assert got["a"] == pytest.approx(0.75, abs=0.02)


def test_weighted_with_no_weight_at_all_gives_all_alike() -> None:
    assert all(share > 0.3 for share in shares(Weighted(lambda _: -1.0, Random(3))).values())


def test_least_loaded_takes_the_idle_one() -> None:
    load = {"a": 2.0, "b": 0.0, "c": 1.0}
    strategy = LeastLoaded(load.__getitem__, Random(4))
    assert strategy.pick(THREE, None) == "b"
    load["b"] = 1.0
    assert set(shares(strategy)) == set(THREE)
    assert {strategy.pick(THREE, None) for _ in range(50)} == {"b", "c"}


def test_consistent_hash_is_loyal_and_moves_only_the_share_of_who_has_gone() -> None:
    strategy = ConsistentHash[str](str)
    keys = [f"key-{number}" for number in range(3000)]
    before = {key: strategy.pick(THREE, key) for key in keys}
    assert before == {key: ConsistentHash[str](str).pick(("c", "a", "b"), key) for key in keys}, "order is of no matter"
    after = {key: strategy.pick(("a", "c"), key) for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != "b")
    counts = Counter(before.values())
    # With 100 places each, shares have a standard deviation of about 10 %.
    assert all(700 < counts[name] < 1300 for name in THREE)


def test_consistent_hash_follows_weights() -> None:
    strategy = ConsistentHash[str](str, weight={"a": 2.0, "b": 1.0, "c": 0.0}.__getitem__)
    counts = Counter(strategy.pick(THREE, f"key-{number}") for number in range(3000))
    assert counts["c"] == 0
    assert 1.4 < counts["a"] / counts["b"] < 2.9
    assert ConsistentHash[str](str, weight=lambda _: 0.0).pick(THREE, "key") == "a"


def test_consistent_hash_without_a_key_takes_any() -> None:
    assert {ConsistentHash[str](str, dice=Random(number)).pick(THREE, None) for number in range(30)} == set(THREE)


def test_sticky_stays_until_its_choice_has_gone() -> None:
    strategy = Sticky(RoundRobin[str]())
    assert [strategy.pick(THREE, None) for _ in range(3)] == ["a", "a", "a"]
    assert strategy.pick(("b", "c"), None) == "c"
    assert strategy.pick(THREE, None) == "c"

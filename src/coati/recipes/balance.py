"""Strategies that choose one of several instances: the load balancing of a client that knows all servers itself.

Pure: instances come as a list in a fixed order, dice come by constructor, load is counted by whoever uses an instance.
Sources: the mission's load balancer; Curator's RandomStrategy, RoundRobinStrategy, StickyStrategy; Karger et al. 1997
for consistent hashing, in the ring form of Ketama.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# Places on the ring for one unit of weight: with 100 of them shares differ by some 10 % (standard deviation).
RING_PLACES: Final = 100


class Weigh(Protocol[T_contra]):
    """How much of the load an instance is to get, relative to the others; 0 for none."""

    def __call__(self, instance: T_contra, /) -> float: ...


class Strategy(Protocol[T]):
    """Chooses one of `instances`, which is not empty. `key` is what the request is about, for those who care."""

    def pick(self, instances: Sequence[T], key: str | None) -> T: ...


class Uniform(Generic[T]):
    """Any one, all alike."""

    def __init__(self, dice: Random | None = None) -> None:
        self._dice = dice or Random()

    def pick(self, instances: Sequence[T], key: str | None) -> T:
        return instances[self._dice.randrange(len(instances))]


class RoundRobin(Generic[T]):
    """One after the other."""

    def __init__(self) -> None:
        self._next = 0

    def pick(self, instances: Sequence[T], key: str | None) -> T:
        chosen = instances[self._next % len(instances)]
        self._next += 1
        return chosen


class Weighted(Generic[T]):
    """By chance, in proportion to the weights. If all weights are 0, all are alike."""

    def __init__(self, weight: Weigh[T], dice: Random | None = None) -> None:
        self._weight = weight
        self._dice = dice or Random()

    def pick(self, instances: Sequence[T], key: str | None) -> T:
        weights = [max(self._weight(instance), 0.0) for instance in instances]
        if not any(weights):
            weights = [1.0] * len(instances)
        return self._dice.choices(instances, weights)[0]


class LeastLoaded(Generic[T]):
    """The one with the fewest requests under way; of equals, any. `load` tells how many an instance has."""

    def __init__(self, load: Callable[[T], float], dice: Random | None = None) -> None:
        self._load = load
        self._dice = dice or Random()

    def pick(self, instances: Sequence[T], key: str | None) -> T:
        loads = [self._load(instance) for instance in instances]
        least = min(loads)
        best = [instance for instance, load in zip(instances, loads, strict=True) if load == least]
        return best[self._dice.randrange(len(best))]


class ConsistentHash(Generic[T]):
    """The same instance for the same key; when one comes or goes, only its share of the keys moves.

    `name` must tell instances apart, and be the same on every client. Without a key, any one.
    """

    def __init__(self, name: Callable[[T], str], *, weight: Weigh[T] | None = None, dice: Random | None = None) -> None:
        self._name = name
        self._weight = weight
        self._dice = dice or Random()
        self._made_of: tuple[tuple[str, int], ...] = ()
        self._places: list[int] = []
        self._owners: list[int] = []

    def pick(self, instances: Sequence[T], key: str | None) -> T:
        if key is None:
            return instances[self._dice.randrange(len(instances))]
        self._make_ring(instances)
        if not self._places:
            return instances[0]
        at = bisect.bisect(self._places, _place(key)) % len(self._places)
        return instances[self._owners[at]]

    def _make_ring(self, instances: Sequence[T]) -> None:
        made_of = tuple((self._name(instance), self._places_of(instance)) for instance in instances)
        if made_of == self._made_of:
            return
        ring = sorted(
            (_place(f"{name}-{number}"), owner)
            for owner, (name, count) in enumerate(made_of)
            for number in range(count)
        )
        self._made_of = made_of
        self._places = [place for place, _ in ring]
        self._owners = [owner for _, owner in ring]

    def _places_of(self, instance: T) -> int:
        return RING_PLACES if self._weight is None else round(max(self._weight(instance), 0.0) * RING_PLACES)


class Sticky(Generic[T]):
    """Stays with one instance for as long as it is there; `among` chooses the first and each next."""

    def __init__(self, among: Strategy[T]) -> None:
        self._among = among
        self._chosen: T | None = None

    def pick(self, instances: Sequence[T], key: str | None) -> T:
        if self._chosen is None or self._chosen not in instances:
            self._chosen = self._among.pick(instances, key)
        return self._chosen


def _place(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")

"""The lock of the lab: whom a release wakes, by what the servers sent."""

from __future__ import annotations

import pytest

from coati.errors import ConfigError
from coati.lab.locks import KINDS, compare, lock, short
from coati.lab.story import HEAR, STATE, text_of


@pytest.mark.parametrize("clients", [1, 2, 6])
def test_a_herd_is_woken_by_every_release_and_a_line_one_by_one(clients: int) -> None:
    herd, line = (lock(kind, clients) for kind in KINDS)
    # After each release all who are left are woken, so n-1 + n-2 + ... of them; of a line only the next one is.
    assert herd.facts["wake_ups"] == clients * (clients - 1) // 2
    assert line.facts["wake_ups"] == clients - 1
    assert herd.facts["most_woken"] == clients - 1
    assert line.facts["most_woken"] == min(1, clients - 1)


def test_a_line_is_fair_and_everybody_gets_the_lock_once() -> None:
    assert lock("sequence", 6).facts["order"] == ["c1", "c2", "c3", "c4", "c5", "c6"]
    order = lock("herd", 6).facts["order"]
    assert isinstance(order, list)
    assert sorted(order) == ["c1", "c2", "c3", "c4", "c5", "c6"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_holder_at_a_time(kind: str) -> None:
    holder = ""
    for step in lock(kind, 4).steps:
        if step.kind == STATE and step.label == "HOLDING":
            assert not holder, f"{step.lane} has it, too"
            holder = step.lane
        elif step.kind == STATE and step.label == "DONE":
            assert holder == step.lane
            holder = ""


def test_a_wake_up_comes_before_the_lock() -> None:
    story = lock("sequence", 3)
    woken = [step.lane for step in story.steps if step.kind == HEAR and "is woken" in step.text]
    assert woken == ["c2", "c3"]
    own = [step.lane for step in story.steps if step.kind == HEAR and "its own release" in step.text]
    assert own == ["c1", "c2", "c3"], "who holds it watches its znode, and that is no wake-up"


def test_the_same_lock_has_the_same_text() -> None:
    assert text_of(lock("herd", 3)) == text_of(lock("herd", 3))


def test_kinds_are_compared() -> None:
    stories = [lock(kind, 4) for kind in KINDS]
    head, herd, line = compare(stories, KINDS)
    assert head.split("  ")[0] == "lock"
    assert herd.split()[:3] == ["herd", "6", "3"]
    assert line.split()[:3] == ["sequence", "3", "1"]
    assert compare(stories[:1], KINDS[:1]) == []


@pytest.mark.parametrize("clients", [0, 51])
def test_room_for_so_many_clients(clients: int) -> None:
    with pytest.raises(ConfigError):
        lock("herd", clients)


def test_names_are_short() -> None:
    assert short("/lock/_c_0a-1b-lock-0000000007") == "/lock/..0000000007"
    assert short("/lock") == "/lock"

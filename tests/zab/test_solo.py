"""Solo: zxids without gaps, and delivery of what is durable."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coati.zab.broadcast import Broadcast
from coati.zab.solo import Solo


def test_zxids_go_on_behind_the_last_one() -> None:
    solo = Solo(0x500000007)
    assert solo.next_zxid() == 0x500000008
    # Asking gives nothing out.
    assert solo.next_zxid() == 0x500000008
    solo.propose(0x500000008, b"a")
    assert solo.next_zxid() == 0x500000009
    assert (solo.proposed_zxid, solo.delivered_zxid) == (0x500000008, 0x500000007)


def test_the_log_is_handed_out_once_and_in_order() -> None:
    solo = Solo(0)
    assert solo.take_log() == []
    solo.propose(1, b"a")
    solo.propose(2, b"b")
    assert solo.take_log() == [b"a", b"b"]
    assert solo.take_log() == []
    solo.propose(3, b"c")
    assert solo.take_log() == [b"c"]


def test_what_is_durable_is_delivered() -> None:
    solo = Solo(0)
    for zxid in (1, 2, 3):
        solo.propose(zxid, b"")
    solo.on_synced(2)
    assert solo.delivered_zxid == 2
    solo.on_synced(2)
    solo.on_synced(3)
    assert solo.delivered_zxid == 3


@pytest.mark.parametrize("zxid", [0, 1, 3])
def test_a_gap_in_the_numbers_is_refused(zxid: int) -> None:
    solo = Solo(1)
    with pytest.raises(AssertionError):
        solo.propose(zxid, b"")
    assert (solo.proposed_zxid, solo.log) == (1, [])


@pytest.mark.parametrize("zxid", [0, 3])
def test_nothing_is_durable_before_it_was_proposed_nor_taken_back(zxid: int) -> None:
    solo = Solo(1)
    solo.propose(2, b"")
    with pytest.raises(AssertionError):
        solo.on_synced(zxid)
    assert solo.delivered_zxid == 1


def test_a_role_does_only_what_is_its_own() -> None:
    """Who is alone asks nobody, and who does not lead proposes nothing."""
    solo = Solo(1)
    assert solo.leads
    learner = Broadcast(leads=False, last_zxid=1)
    misuses: list[Callable[[], object]] = [
        lambda: solo.request(1, 1, 1, b"", []),
        lambda: solo.revalidate(1, 4000),
        lambda: solo.sync(solo),
        lambda: learner.next_zxid(),
        lambda: learner.propose(2, b""),
    ]
    for misuse in misuses:
        with pytest.raises(AssertionError):
            misuse()
    assert (learner.proposed_zxid, learner.delivered_zxid) == (1, 1)

"""Writes and recoveries in the lab, by whole servers: what they do to a proposal, and that it is told as it was."""

from __future__ import annotations

import pytest

from coati.errors import ConfigError
from coati.lab.broadcast import broadcast
from coati.lab.recover import compare, recover
from coati.lab.stage import CLIENT, DELAY_MS, DISK_MS, Stage, StageClient
from coati.lab.story import FAULT, HEAR, NOTE, STATE, Story, text_of


def heard(story: Story) -> list[tuple[str, str, str]]:
    """(packet, from, to) in order."""
    return [(str(step.facts["packet"]), step.peers[0], step.lane) for step in story.steps if "packet" in step.facts]


# Broadcast (rows 13, 16, 17, 24, 94 and 95 of section 10 of the specification).


def test_a_write_of_a_followers_client_goes_to_the_leader_and_to_all() -> None:
    story = broadcast()
    assert heard(story) == [
        ("REQUEST", "1", "3"),
        ("PROPOSAL", "3", "1"), ("PROPOSAL", "3", "2"),
        ("ACK", "1", "3"), ("ACK", "2", "3"),
        ("COMMIT", "3", "1"), ("COMMIT", "3", "2"), ("INFORM", "3", "4"),
    ]  # fmt: skip
    assert story.facts["packets"] == {"REQUEST": 1, "PROPOSAL": 2, "ACK": 2, "COMMIT": 2, "INFORM": 1}


def test_more_than_half_is_enough_and_observers_do_not_count() -> None:
    for servers, needed in ((3, 2), (5, 3)):
        story = broadcast(servers, 2)
        acks = story.facts["acks"]
        assert isinstance(acks, list)
        assert len(acks) == needed
        assert max(acks) <= servers
        commit = next(index for index, step in enumerate(story.steps) if "commits it" in step.text)
        before = [step for step in story.steps[:commit] if step.facts.get("packet") == "ACK"]
        assert len(before) == needed - 1, "its own ack needs no packet"


def test_an_ack_comes_behind_the_disk() -> None:
    times = {step.lane: step.at_ms for step in broadcast(3, 0).steps if step.label.endswith("on disk")}
    acks = {step.peers[0]: step.sent_ms for step in broadcast(3, 0).steps if step.facts.get("packet") == "ACK"}
    assert set(acks) == {"1", "2"}
    assert all(acks[sid] == times[sid] for sid in acks)


def test_a_read_of_the_times() -> None:
    story = broadcast(3, 0)
    # To server 1, to the leader, to all; their disks; the acks; COMMIT; the answer.
    assert story.facts["committed_ms"] == 4 * DELAY_MS + DISK_MS
    assert story.facts["answered_ms"] == 6 * DELAY_MS + DISK_MS
    assert story.steps[-1].lane == CLIENT
    assert [step for step in story.steps if step.kind in (STATE, FAULT)] == []


def test_a_server_alone_needs_nobody() -> None:
    story = broadcast(1, 0)
    assert (story.facts["acks"], story.facts["packets"]) == ([1], {})
    assert "Packets between servers: none." in text_of(story)


@pytest.mark.parametrize(("servers", "observers"), [(0, 0), (10, 0), (3, -1), (3, 10)])
def test_room_for_so_many(servers: int, observers: int) -> None:
    with pytest.raises(ConfigError):
        broadcast(servers, observers)


def test_an_error_is_told() -> None:
    stage = Stage(1)
    stage.begin("", [CLIENT, "1"], [])
    client = StageClient(stage, 1)
    client.create(b"/a/b", "create /a/b")
    stage.run_until(lambda: bool(client.replies))
    assert stage.story.steps[-1].text == "error -101"


# Recovery (rows 52 to 54).


def test_what_nobody_else_has_logged_is_discarded() -> None:
    story = recover(3, 0)
    assert (story.facts["survives"], story.facts["sync"], story.facts["new_leader"]) == (False, "TRUNC", 2)
    assert any(step.lane == "3" and "what came later is discarded" in step.text for step in story.steps)


@pytest.mark.parametrize(("servers", "acked"), [(3, 1), (3, 2), (5, 1), (5, 4)])
def test_what_one_of_those_who_elect_has_logged_survives(servers: int, acked: int) -> None:
    story = recover(servers, acked)
    assert (story.facts["survives"], story.facts["sync"]) == (True, "DIFF")
    new = story.facts["new_leader"]
    assert isinstance(new, int)
    assert new <= acked, "who has it has the larger zxid, and leads"


def test_the_old_leader_had_it_on_disk_and_no_commit_was_sent() -> None:
    for acked in (0, 1):
        story = recover(3, acked)
        death = next(index for index, step in enumerate(story.steps) if step.text == "dies")
        before = story.steps[:death]
        on_disk = {step.lane for step in before if step.label.endswith("on disk")}
        assert on_disk == {"3", *map(str, range(1, acked + 1))}
        assert not any(step.facts.get("packet") in ("COMMIT", "ACK") for step in before)


def test_the_phases_come_in_order() -> None:
    story = recover(3, 1)
    names = [name for name, sender, lane in heard(story) if {sender, lane} == {"1", "2"}]
    assert names == [
        "FOLLOWERINFO", "LEADERINFO", "ACKEPOCH",
        "DIFF", "PROPOSAL", "COMMIT", "NEWLEADER", "ACK",
        "UPTODATE", "ACK",
    ]  # fmt: skip
    of_1 = [step.label for step in story.steps if step.kind == STATE and step.lane == "1"]
    assert of_1 == ["LOOKING", "LEADING"]
    served = next(step for step in story.steps if step.kind == NOTE and step.lane == "1" and step.label == "serves")
    ack = next(step for step in story.steps if step.kind == HEAR and step.facts.get("packet") == "ACK")
    assert ack.at_ms <= served.at_ms, "a quorum has its history first"


def test_times_never_go_back() -> None:
    for story in (broadcast(5, 2), recover(3, 0), recover(5, 2)):
        times = [step.at_ms for step in story.steps]
        assert times == sorted(times)


def test_both_fates_side_by_side() -> None:
    stories = [recover(3, 0), recover(3, 1)]
    assert [line.split() for line in compare(stories)[1:]] == [
        ["0", "2", "is", "discarded", "TRUNC"], ["1", "1", "survives", "DIFF"],
    ]  # fmt: skip
    assert compare(stories[:1]) == []


@pytest.mark.parametrize(("servers", "acked"), [(2, 0), (10, 0), (3, 3), (3, -1)])
def test_a_recovery_needs_a_quorum_without_the_leader(servers: int, acked: int) -> None:
    with pytest.raises(ConfigError):
        recover(servers, acked)


def test_a_snapshot_that_is_taken_over_is_told() -> None:
    stage = Stage(3)
    leader = stage.leader()
    stage.member(1).kill()
    for member in stage.cluster.members.values():
        member.cluster.config.forces_snapshot = True
    stage.begin("", ["1", "2", "3"], [])
    for sid in (2, 3):
        if sid != leader:
            stage.member(sid).kill()
    stage.member(leader).kill()
    for sid in (1, 2, 3):
        stage.member(sid).start()
    stage.run_until(stage.cluster.all_serve)
    assert any(step.label == "snapshot" for step in stage.story.steps)

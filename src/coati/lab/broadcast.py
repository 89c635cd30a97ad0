"""A write goes through an ensemble: request, PROPOSAL, ACKs of more than half, COMMIT, and INFORM to observers."""

from __future__ import annotations

from typing import Final

from coati.errors import ConfigError
from coati.lab.ballots import zxid_text
from coati.lab.stage import CLIENT, DELAY_MS, DISK_MS, Stage, StageClient
from coati.lab.story import Story
from coati.testing import history

MAX_SERVERS: Final = 9
PATH: Final = "/lab"


def broadcast(servers: int = 3, observers: int = 1) -> Story:
    """The story of one create by a client of a follower (of the leader, where it is alone). Raises ConfigError."""
    if not 1 <= servers <= MAX_SERVERS or not 0 <= observers <= MAX_SERVERS:
        raise ConfigError(f"the lab has room for 1 to {MAX_SERVERS} servers that vote, and {MAX_SERVERS} that observe")
    stage = Stage(servers, observers)
    leader = stage.leader()
    home = min((sid for sid in stage.cluster.view.voters() if sid != leader), default=leader)
    client = StageClient(stage, home)
    stage.run(10 * (DELAY_MS + DISK_MS))
    everybody = sorted(stage.cluster.members)
    watching = [sid for sid in everybody if sid > servers]
    intro = [f"Server {leader} leads; the client is connected to server {home}."]
    if watching:
        intro.append(f"No vote, and no ack: {', '.join(map(str, watching))} (observing).")
    intro.append(f"A message takes {DELAY_MS} ms, a write to a disk {DISK_MS} ms.")
    title = f"A write in an ensemble of {servers} voting servers; more than half of them is {stage.needed}."
    stage.begin(title, [CLIENT, *map(str, everybody)], intro)
    client.create(PATH.encode(), f"create {PATH}")
    stage.run_until(lambda: bool(client.replies))
    zxid = client.replies[0].zxid
    stage.run_until(lambda: all(one.tree.last_zxid == zxid for one in stage.cluster.members.values()))
    story = stage.story
    ((committed_ms, commit),) = stage.traced(history.COMMITTED, zxid)
    applied_ms = max(at_ms for at_ms, _ in stage.traced(history.APPLIED, zxid))
    answered_ms = next(step.at_ms for step in story.steps if step.lane == CLIENT)
    counts = ", ".join(f"{count} {name}" for name, count in stage.packets.items()) or "none"
    zxid_shown, share = zxid_text(zxid), f"{len(commit.acks)} of {servers}"
    story.outcome = [
        f"{zxid_shown} was committed at {committed_ms} ms, when {share} were known to have it on their disks.",
        f"The client knew it at {answered_ms} ms, the last server at {applied_ms} ms.",
        f"Packets between servers: {counts}.",
    ]
    story.facts = {
        "zxid": zxid,
        "leader": leader,
        "committed_ms": committed_ms,
        "acks": list(commit.acks),
        "answered_ms": answered_ms,
        "packets": dict(stage.packets),
    }
    return story

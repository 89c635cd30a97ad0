"""The leader dies before COMMIT: what becomes of the write that it had proposed.

It survives if a server had logged it that takes part in the next election, as such a server has the larger zxid and
leads; what nobody else had is cut off the log of the old leader when that comes back (TRUNC). The servers find that out
themselves; this only breaks what has to break.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coati.errors import ConfigError
from coati.lab.ballots import zxid_text
from coati.lab.stage import CLIENT, DELAY_MS, DISK_MS, Stage, StageClient
from coati.lab.story import FAULT, HEAR, NOTE, Story, table_of
from coati.testing import history

MIN_SERVERS: Final = 3
MAX_SERVERS: Final = 9
PATH: Final = "/lab"
_KINDS: Final = ("DIFF", "TRUNC", "SNAP")


def recover(servers: int = 3, acked: int = 0) -> Story:
    """One life and death of a proposal that `acked` followers have logged. Raises ConfigError."""
    if not MIN_SERVERS <= servers <= MAX_SERVERS:
        raise ConfigError(f"without its leader there has to be a quorum: {MIN_SERVERS} to {MAX_SERVERS} servers")
    if not 0 <= acked < servers:
        raise ConfigError(
            f"of {servers} servers {servers - 1} follow, so 0 to {servers - 1} of them can have logged it"
        )
    stage = Stage(servers)
    old = stage.leader()
    client = StageClient(stage, old)
    stage.run(10 * (DELAY_MS + DISK_MS))
    followers = [sid for sid in sorted(stage.cluster.members) if sid != old]
    stage.begin(
        f"The leader dies before COMMIT; {acked} of {servers - 1} followers have logged its proposal.",
        [CLIENT, *map(str, sorted(stage.cluster.members))],
        [f"Server {old} leads, and the client is connected to it."],
    )
    zxid = _propose(stage, client, old, followers[:acked], followers[acked:])
    stage.member(old).kill()
    stage.cluster.net.heal_all()
    stage.tell(CLIENT, NOTE, "has no answer, and does not know whether its write is done: connection lost")
    stage.run_until(lambda: _is_whole(stage))
    new = stage.leader()
    stage.member(old).start()
    stage.run_until(lambda: _is_whole(stage))
    _conclude(stage, zxid, old, new)
    return stage.story


def _propose(stage: Stage, client: StageClient, old: int, hearing: Sequence[int], deaf: Sequence[int]) -> int:
    """The leader proposes; `hearing` get it, and no ack of theirs comes back. Gives the zxid."""
    net = stage.cluster.net
    for sid in deaf:
        net.cut(old, sid)
    for sid in hearing:
        net.cut(sid, old)
    if deaf:
        stage.tell(str(old), FAULT, f"nothing that it sends gets to {_names(deaf)} any more", label="cut off")
    if hearing:
        stage.tell(str(old), FAULT, f"hears nothing of {_names(hearing)} any more, no ack either", label="deaf")
    client.create(PATH.encode(), f"create {PATH}")
    traces = stage.cluster.traces
    first = len(traces)
    stage.run_until(lambda: any(one.kind == history.PROPOSED for one in traces[first:]))
    zxid = next(one.zxid for one in traces[first:] if one.kind == history.PROPOSED)
    stage.run_until(lambda: {old, *hearing} <= {one.sid for _, one in stage.traced(history.SYNCED, zxid)})
    return zxid


def _is_whole(stage: Stage) -> bool:
    """Whether all that run serve, with one tree."""
    members = [one for one in stage.cluster.members.values() if one.is_up]
    return stage.cluster.all_serve() and len({(one.tree.last_zxid, one.tree.digest) for one in members}) == 1


def _conclude(stage: Stage, zxid: int, old: int, new: int) -> None:
    story = stage.story
    having = [sid for sid, one in stage.cluster.members.items() if PATH.encode() in one.tree.nodes]
    assert len(having) in (0, len(stage.cluster.members)), "all servers have the same tree"
    syncs = [
        str(step.facts["packet"])
        for step in story.steps
        if step.kind == HEAR and step.lane == str(old) and step.facts.get("packet") in _KINDS
    ]
    epoch = stage.member(new).store.current_epoch
    fate = "survives: all servers have it" if having else "is discarded: no server has it, and none will"
    story.outcome = [
        f"Server {new} leads, in epoch {epoch}. The write {zxid_text(zxid)} {fate}.",
        f"Server {old} came back as a follower and was brought up to date by {syncs[-1]}.",
    ]
    story.facts = {
        "zxid": zxid,
        "old_leader": old,
        "new_leader": new,
        "epoch": epoch,
        "survives": bool(having),
        "sync": syncs[-1],
    }


def compare(stories: Sequence[Story]) -> list[str]:
    """What became of the same write, in each."""
    if len(stories) < 2:
        return []
    rows = [
        [
            story.title.partition("; ")[2].partition(" ")[0],
            str(story.facts["new_leader"]),
            "survives" if story.facts["survives"] else "is discarded",
            str(story.facts["sync"]),
        ]
        for story in stories
    ]
    return table_of(["logged by", "new leader", "the write", "the old leader gets"], rows)


def _names(sids: Sequence[int]) -> str:
    return ", ".join(map(str, sids))

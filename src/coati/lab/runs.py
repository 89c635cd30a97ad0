"""One seed, one life of an ensemble under faults, told, with the invariants that were checked in it.

The run and its judgement are `coati.testing.sim`'s; here its faults and the servers' changes of role are put in a row.
"""

from __future__ import annotations

from typing import Final

from coati.errors import ConfigError
from coati.lab.ballots import zxid_text
from coati.lab.story import FAULT, NOTE, STATE, Step, Story
from coati.testing import history
from coati.testing.history import Trace, Violation
from coati.testing.sim import Sim, Stuck
from coati.zab.peer import STATE_NAMES

MAX_SERVERS: Final = 9
MAX_STEPS: Final = 400
NETWORK: Final = "all"

INVARIANTS: Final[dict[str, dict[str, str]]] = {
    "agreement": {
        "Z1": "one leader for each epoch",
        "Z2": "equal histories up to the shorter one",
        "Z3": "only what was proposed is delivered",
        "Z4": "one order everywhere",
        "Z5": "zxids and epochs only rise",
        "Z6": "a new leader has all that was committed",
        "Z7": "an ack stands for what is on disk",
        "Z8": "epochs on disk are in step with the log",
        "Z9": "no gap in a log",
        "Z10": "memory claims no more than the disk has",
        "Z11": "equal trees at equal zxids",
        "Z12": "no commit without a quorum of acks",
        "Z13": "observers never count",
    },
    "writes": {
        "W1": "what was acknowledged is there, once",
        "W2": "what was not answered is there once at most",
        "W3": "writes keep the order of real time",
        "W4": "and that of each client",
        "W5": "versions are checked",
        "W6": "errors are true",
        "W7": "a multi is one",
        "W8": "stats are right",
        "W9": "sequence numbers are right",
        "W10": "dead sessions write nothing",
    },
    "reads": {
        "R1": "every read shows a state that was",
        "R2": "nobody goes back in time",
        "R3": "clients read their own writes",
        "R4": "sync shows what was done before",
        "R5": "no server lags for long",
    },
    "watches": {
        "E1": "the event comes before the data",
        "E2": "one event for a watch",
        "E3": "events are in order",
        "E4": "watches outlive a connection",
        "E5": "persistent ones persist",
        "E6": "no event without the right to read",
        "E7": "no watch leaks",
    },
    "sessions": {
        "S1": "a session's end is a txn",
        "S2": "none expires early",
        "S3": "or lives too long",
        "S4": "a session has one home",
        "S5": "a wrong password is no session",
        "S6": "an expired one says so",
        "S7": "ids are unique",
    },
}


class ToldSim(Sim):
    """A run whose faults are written down as they come."""

    def __init__(self, seed: int, *, steps: int, voters: int) -> None:
        super().__init__(seed, steps=steps, voters=voters)
        self.told: list[tuple[int, str]] = []
        self.began_ms = self.clock.now_ms

    def _break(self, fault: str) -> None:
        if fault not in ("kill", "power", "start"):
            # The servers' traces tell those, and of whom.
            self.told.append((self.clock.now_ms, fault))
        super()._break(fault)


def life(seed: int, *, servers: int = 3, steps: int = 40) -> Story:
    """The story of a run. Raises ConfigError."""
    if not 1 <= servers <= MAX_SERVERS or not 1 <= steps <= MAX_STEPS:
        raise ConfigError(f"a run has 1 to {MAX_SERVERS} voting servers and 1 to {MAX_STEPS} steps")
    sim = ToldSim(seed, steps=steps, voters=servers)
    story = Story(
        f"The run of seed {seed}: {servers} voting servers, {sim.config.observers} observing, {steps} steps.",
        [NETWORK, *map(str, sim.cluster.members)],
        [f"Ticks of {sim.config.tick_ms} ms; messages take {sim.net.delay_ms[0]} to {sim.net.delay_ms[1]} ms."],
    )
    violations: list[Violation] = []
    try:
        sim.go()
        violations = sim.check()
    except Stuck as stuck:
        story.failure = str(stuck)
    story.steps = _steps(sim)
    _conclude(story, sim, violations)
    return story


def _steps(sim: ToldSim) -> list[Step]:
    steps = [
        Step(at_ms - sim.began_ms, FAULT, NETWORK, f"fault: {fault}", label=fault, facts={"fault": fault})
        for at_ms, fault in sim.told
    ]
    for trace in sim.traces:
        told = _words(trace)
        if told is not None:
            kind, text, label = told
            steps.append(Step(trace.at_ms - sim.began_ms, kind, str(trace.sid), text, label=label))
    return sorted(steps, key=lambda step: step.at_ms)


def _words(trace: Trace) -> tuple[str, str, str] | None:
    """Kind, text and label; None for what happens with every write."""
    kind, zxid = trace.kind, zxid_text(trace.zxid)
    if kind == history.RECOVERED:
        return FAULT, f"starts; its log ends at {zxid}, its epoch is {trace.epoch}", "starts"
    if kind == history.DOWN:
        return FAULT, "dies", "dies"
    if kind == history.LOOKING:
        return STATE, f"looks for a leader; its log ends at {zxid}", "LOOKING"
    if kind == history.LEADING:
        return STATE, f"is elected and has a quorum for epoch {trace.epoch}", "LEADING"
    if kind == history.SERVING:
        leads = "leads and " if trace.is_leader else ""
        return NOTE, f"{leads}serves, in epoch {trace.epoch}", f"serves, epoch {trace.epoch}"
    if kind == history.JOINING:
        return STATE, "connects to the one elected", "JOINING"
    if kind == history.TRUNCATED:
        return NOTE, f"cuts its log off behind {zxid}", "TRUNC"
    if kind == history.INSTALLED:
        return NOTE, f"takes over a snapshot, up to {zxid}", "SNAP"
    return None


def _conclude(story: Story, sim: ToldSim, violations: list[Violation]) -> None:
    committed = {trace.zxid for trace in sim.traces if trace.kind == history.COMMITTED}
    epochs = {trace.epoch for trace in sim.traces if trace.kind == history.SERVING and trace.is_leader}
    faults = ", ".join(f"{count} {name}" for name, count in sorted(sim.faults.items())) or "none"
    calls = sum(isinstance(line, history.Call) for line in sim.history.lines)
    last = ", ".join(
        f"{one.sid} {STATE_NAMES[one.state] if one.is_up else 'down'}" for one in sim.cluster.members.values()
    )
    story.outcome = [
        f"Faults: {faults}.",
        f"{calls} requests of {len(sim.walkers)} clients, {len(committed)} txns committed, {len(epochs)} leader(s).",
        f"In the end: {last}. The run's mark is {sim.trace_hash()[:16]}.",
    ]
    if story.failure:
        story.outcome.append(f"It came to no good end: {story.failure}")
    else:
        for name, rules in INVARIANTS.items():
            story.outcome.append(f"Checked, {name}: {'; '.join(f'{id_} {words}' for id_, words in rules.items())}.")
        story.outcome += [f"VIOLATED {one}" for one in violations]
        story.outcome.append("All of it holds." if not violations else f"{len(violations)} violation(s).")
    if violations:
        story.failure = f"{len(violations)} invariant(s) broken, the first one: {violations[0]}"
    story.facts = {
        "seed": sim.seed,
        "faults": dict(sorted(sim.faults.items())),
        "requests": calls,
        "committed": len(committed),
        "leaders": len(epochs),
        "mark": sim.trace_hash(),
        "violations": [str(one) for one in violations],
    }

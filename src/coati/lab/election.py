"""Elections by one algorithm or by both, for the same servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coati.lab.ballots import Ballot
from coati.lab.contest import DELAY_MS, LIMIT_MS, Contest
from coati.lab.fast import FastContest
from coati.lab.polling import PollingContest
from coati.lab.story import Story, table_of

_ALGORITHMS: Final[dict[str, list[type[Contest]]]] = {
    "fle": [FastContest],
    "polling": [PollingContest],
    "both": [FastContest, PollingContest],
}


def elections(
    ballots: Sequence[Ballot],
    algorithm: str = "fle",
    *,
    delay_ms: int = DELAY_MS,
    limit_ms: int = LIMIT_MS,
    led_by: int = 0,
) -> list[Story]:
    """A story for each algorithm: "fle", "polling" or "both". Raises ConfigError."""
    kinds = _ALGORITHMS[algorithm]
    return [kind(ballots, delay_ms=delay_ms, limit_ms=limit_ms, led_by=led_by).run() for kind in kinds]


def compare(stories: Sequence[Story]) -> list[str]:
    """What two algorithms needed, as a table; nothing to compare for one."""
    if len(stories) < 2:
        return []
    rows = [
        [
            str(facts["algorithm"]),
            str(facts["leader"] or "none"),
            f"{facts['elected_ms']} ms" if facts["leader"] else "never",
            str(facts["rounds"]),
            str(facts["messages"]),
            str(facts["refused"]),
        ]
        for facts in (story.facts for story in stories)
    ]
    return table_of(["algorithm", "leader", "elected at", "rounds", "messages", "refused"], rows)

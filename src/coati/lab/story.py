"""Stories: what happened in a simulated ensemble, step by step, and the text of it.

Knows steps, lanes (who takes part) and words. Must not know how anything was simulated: texts, drawings and programs
are served from the same steps.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

Fact = bool | int | str | Sequence["Fact"] | Mapping[str, "Fact"]

# Kinds of steps.
SEND: Final = "send"  # of one message to `peers`; told, not drawn
HEAR: Final = "hear"  # a message of peers[0], sent at `sent_ms`, has arrived
LOST: Final = "lost"  # nobody listens at `peers`
STATE: Final = "state"  # the lane is now what `label` says
NOTE: Final = "note"  # what a lane counts, writes or waits for
FAULT: Final = "fault"  # something breaks, or is mended

_ARROWS: Final = {SEND: "->", HEAR: "<-", LOST: "-x"}
WIDTH: Final = 118


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. `label` is short, for a drawing; `text` is for a reader, `facts` for a program."""

    at_ms: int
    kind: str
    lane: str
    text: str
    peers: tuple[str, ...] = ()
    sent_ms: int = -1
    label: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """The lane, and with whom."""
        arrow = _ARROWS.get(self.kind)
        return f"{self.lane} {arrow} {','.join(self.peers)}" if arrow else self.lane


@dataclass(slots=True)
class Story:
    """Steps in the order of time. `lanes` from left to right; `outcome` are the last lines, `facts` the same as values.

    `failure` says why it has not come to a good end, if it has not.
    """

    title: str
    lanes: list[str]
    intro: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outcome: list[str] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    failure: str = ""

    def add(self, step: Step) -> None:
        """One more."""
        self.steps.append(step)


def text_of(story: Story) -> str:
    """A timeline for people: when, who, what."""
    lines = [story.title, *(f"  {line}" for line in story.intro), ""]
    times = [str(step.at_ms) for step in story.steps]
    first = max(2, *(len(time) for time in times), 0)
    second = max((len(step.who) for step in story.steps), default=0)
    lines.append(f"{'ms':>{first}}  {'who':<{second}}  what")
    before = ""
    for time, step in zip(times, story.steps, strict=True):
        # A moment's first step says when it is: what is one moment is seen at a glance.
        shown = time if time != before else ""
        before = time
        words = step.text if step.kind != STATE else f"[{step.label}] {step.text}".rstrip()
        head = f"{shown:>{first}}  {step.who:<{second}}  "
        lines += _wrapped(words, head, " " * len(head))
    lines.append("")
    for line in story.outcome:
        lines += _wrapped(line, "", "  ")
    return "\n".join(lines).rstrip() + "\n"


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under a head, aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]

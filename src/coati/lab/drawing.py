"""Drawings: a story as a sequence diagram in SVG. Lifelines from left to right, time from top to bottom.

Knows steps and pixels. Each drawn step has a row of its own, so that labels never meet; rows of one moment share the
time at the margin. Nothing is fetched from anywhere, and all text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Final

from coati.lab.story import FAULT, HEAR, LOST, NOTE, STATE, Step, Story

_ROW: Final = 24
_MARGIN: Final = 70
_LANE: Final = 190
_TOP: Final = 34
_LINE: Final = 18
# Of the fonts' letters, about.
_CHAR: Final = 7.3
_TITLE_CHAR: Final = 8.5
# What a box needs below it, more than an arrow.
_BOX: Final = 7
# By how much an arrow falls: a message takes its time.
_FALL: Final = 8
_COLOURS: Final = {
    "LOOKING": "#f6e3a8",
    "LEADING": "#b9e2b5",
    "FOLLOWING": "#bcd6f2",
    "OBSERVING": "#dccbee",
    "WAITING": "#f6e3a8",
    "HOLDING": "#b9e2b5",
}
_OTHER: Final = "#e4e4e4"
_BAD: Final = "#f4b8b0"
_STYLE: Final = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#222}"
    ".t{font-weight:bold;font-size:14px}.g{fill:#666}.l{stroke:#999;stroke-dasharray:2 3}"
    ".m{stroke:#345;stroke-width:1.3;fill:none}.x{stroke:#b33;stroke-width:1.3;stroke-dasharray:5 3}"
)
_DRAWN: Final = (HEAR, LOST, STATE, FAULT)


def draw(stories: Sequence[Story]) -> str:
    """The stories beside each other, as one SVG document."""
    x, parts, height = 0.0, [], 0.0
    for story in stories:
        body, width, tall = _one(story)
        parts.append(f'<g transform="translate({x:g} 0)">\n{body}\n</g>')
        x += width
        height = max(height, tall)
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{x:g}" height="{height:g}" viewBox="0 0 {x:g} {height:g}" role="img">\n'
        f"<title>{_text(' / '.join(story.title for story in stories))}</title>\n<style>{_STYLE}</style>\n"
        '<defs><marker id="a" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        '<path d="M0 0 L9 4 L0 8 z" fill="#345"/></marker></defs>\n'
        f'<rect width="{x:g}" height="{height:g}" fill="#fff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _one(story: Story) -> tuple[str, float, float]:
    """A story's elements, its width and its height."""
    drawn = [step for step in story.steps if _is_drawn(step)]
    at = {lane: _MARGIN + _LANE * (index + 0.5) for index, lane in enumerate(story.lanes)}
    notes = [len(step.label) for step in drawn if step.kind == NOTE and step.lane == story.lanes[-1]]
    beside = max(0.0, max(notes, default=0) * _CHAR - _LANE / 2 + 10)
    needed = max(len(story.title) * _TITLE_CHAR, max(map(len, story.intro), default=0) * _CHAR)
    width = max(_MARGIN + _LANE * len(at) + beside, needed + 20)
    outcome = [line for text in story.outcome for line in wrap(text, int(width / _CHAR) - 4, subsequent_indent="  ")]
    y = float(_TOP + _LINE * len(story.intro) + 12)
    out = [_label(10, 22, story.title, "t")]
    out += [_label(10, 22 + _LINE * (index + 1), line, "g") for index, line in enumerate(story.intro)]
    top = y + 26
    rows = []
    time, row_y = -1, top
    for step in drawn:
        row_y += _ROW + (6 if step.at_ms != time and time >= 0 else 0)
        if step.at_ms != time:
            rows.append(_label(10, row_y + 4, f"{step.at_ms} ms", "g"))
            time = step.at_ms
        rows += _row(step, at, row_y)
        if step.kind in (STATE, FAULT):
            row_y += _BOX
    bottom = row_y + _ROW
    for lane, x in at.items():
        out.append(_box(x, y + 12, lane if not lane.isdigit() else f"server {lane}", "#fff"))
        out.append(f'<line class="l" x1="{x:g}" y1="{top:g}" x2="{x:g}" y2="{bottom:g}"/>')
    out += rows
    out += [_label(10, bottom + _LINE * (index + 1), line) for index, line in enumerate(outcome)]
    return "\n".join(out), width, bottom + _LINE * (len(outcome) + 1)


def _is_drawn(step: Step) -> bool:
    return step.kind in _DRAWN or (step.kind == NOTE and bool(step.label))


def _row(step: Step, at: dict[str, float], y: float) -> list[str]:
    x = at[step.lane]
    if step.kind == STATE:
        return [_box(x, y, step.label, _COLOURS.get(step.label.split(" ")[0], _OTHER))]
    if step.kind == FAULT:
        return [_box(x, y, step.label or step.text, _BAD)]
    if step.kind == NOTE:
        return [_label(x + 6, y + 4, step.label, "g")]
    if step.kind == HEAR:
        return _arrow(at[step.peers[0]], x, y, step.label)
    return [part for peer in step.peers for part in _refused(x, at[peer], y)]


def _arrow(start: float, end: float, y: float, label: str) -> list[str]:
    # Beside the receiver, where there is always room, however many lanes are crossed.
    near = end - 8 if start < end else end + 8
    anchor = "end" if start < end else "start"
    return [
        f'<line class="m" x1="{start:g}" y1="{y - _FALL:g}" x2="{end:g}" y2="{y:g}" marker-end="url(#a)"/>',
        f'<text x="{near:g}" y="{y - _FALL - 2:g}" text-anchor="{anchor}">{_text(label)}</text>',
    ]


def _refused(start: float, end: float, y: float) -> list[str]:
    stop = end - 14 if start < end else end + 14
    cross = f"M{stop - 4:g} {y - 4:g} l8 8 m0 -8 l-8 8"
    return [
        f'<line class="x" x1="{start:g}" y1="{y:g}" x2="{stop:g}" y2="{y:g}"/>',
        f'<path class="m" d="{cross}"/>',
    ]


def _box(x: float, y: float, text: str, fill: str) -> str:
    wide = max(60.0, len(text) * 7.4 + 14)
    return (
        f'<rect x="{x - wide / 2:g}" y="{y - 10:g}" width="{wide:g}" height="20" rx="4" fill="{fill}" stroke="#666"/>'
        f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle">{_text(text)}</text>'
    )


def _label(x: float, y: float, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{style}>{_text(text)}</text>'


def _text(text: str) -> str:
    """Escaped, and without what XML forbids."""
    return escape("".join(char if char.isprintable() else "?" for char in text))

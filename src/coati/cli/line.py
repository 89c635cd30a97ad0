"""A line typed into the shell: its words, and where its output goes.

Knows quotes, `|`, `>`, `>>` and `&`; must not know commands. Unlike in sh, a quote opens a quoted part only where a
word begins, or behind the `=` of a flag: runbooks of the Java shell hold `set /a {"x":1}`, where it stands for itself,
as a backslash does. `|`, `>` and `&` mean something only where a word begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from coati.cli.exits import USAGE, CommandError

_BLANK: Final = re.compile(r"\s*")
_FLAG: Final = re.compile(r"--?[A-Za-z][\w-]*=")
_ESCAPED: Final = re.compile(r'\\(["\\])')
_PLAIN: Final = re.compile(r"""[^\s"'|>&#][^\s]*""")


class Word(NamedTuple):
    """`at`: where it begins in the line; `is_plain`: it has no quotes, and may be an operator."""

    text: str
    at: int
    is_plain: bool
    is_closed: bool = True


@dataclass(slots=True)
class Line:
    """`pipe`: what the system's shell is to run behind it; `file`: where the output goes instead."""

    words: list[str] = field(default_factory=list)
    pipe: str | None = None
    file: str | None = None
    appends: bool = False
    is_background: bool = False


def parsed(text: str) -> Line:
    """Empty for a comment. Raises CommandError for a quote that is not closed and a `>` without a file."""
    line = Line()
    if text.lstrip().startswith("#"):
        return line
    words = words_of(text)
    for word in words:
        if not word.is_closed:
            raise CommandError("a quote is not closed", USAGE)
        if word.is_plain and word.text.startswith("|"):
            line.pipe = text[word.at + 1 :].strip()
            if not line.pipe:
                raise CommandError("a program to pipe to is missing behind the |", USAGE)
            break
        if word.is_plain and word.text.startswith(">"):
            _redirected(line, word, words)
            break
        line.is_background = word.is_plain and word.text == "&"
        line.words.append(word.text)
    if line.is_background:
        del line.words[-1]
    return line


def _redirected(line: Line, word: Word, words: Iterator[Word]) -> None:
    line.appends = word.text.startswith(">>")
    name = word.text.lstrip(">")
    rest = [name] if name else []
    rest += (one.text for one in words)
    if len(rest) != 1:
        raise CommandError("one file comes behind the >, and nothing else", USAGE)
    line.file = rest[0]


def words_of(text: str) -> Iterator[Word]:
    """One after the other; the last one may be unclosed."""
    at = _end(_BLANK, text, 0)
    while at < len(text):
        begin = at
        parts: list[str] = []
        is_closed = True
        is_plain = True
        while at < len(text) and not text[at].isspace():
            if text[at] in "\"'" and (not parts or not is_plain or _FLAG.fullmatch("".join(parts))):
                is_plain = False
                part, at, is_closed = _quoted(text, at)
                parts.append(part)
            else:
                parts.append(text[at])
                at += 1
        yield Word("".join(parts), begin, is_plain, is_closed)
        at = _end(_BLANK, text, at)


def last_word(text: str) -> Word:
    """The one that the end of the text belongs to; empty behind a blank."""
    last = Word("", len(text), True)
    for word in words_of(text):
        last = word
    if last.is_closed and text[-1:].isspace():
        return Word("", len(text), True)
    return last


def quoted(word: str) -> str:
    """So that it is read as one word again."""
    if _PLAIN.fullmatch(word):
        return word
    if "'" not in word:
        return f"'{word}'"
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted(text: str, at: int) -> tuple[str, int, bool]:
    """What is in the quotes that open here, where it ends, and whether it does. Only in double ones \\ escapes."""
    quote = text[at]
    end = at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if quote == '"' and text[end] == "\\" and text[end + 1 : end + 2] in ('"', "\\") else 1
    inside = text[at + 1 : min(end, len(text))]
    if quote == '"':
        inside = _ESCAPED.sub(r"\1", inside)
    return inside, min(end + 1, len(text)), end < len(text)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()

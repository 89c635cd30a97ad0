"""java.util.Properties: the syntax of zoo.cfg, with the line of each key kept for messages.

Knows bytes and lines; must not know what a key means. Source: Properties.load and its LineReader (JDK 17).
Invariant: whatever Java reads from a file, this reads the same, but for a byte order mark, which Java would take for
a part of the first key and so lose that key silently.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from coati.errors import ConfigError

# A zoo.cfg has some dozen lines; what is larger is not one, and is refused before it is read into memory.
MAX_FILE_BYTES: Final = 1 << 20

_BYTE_ORDER_MARK: Final = "\u00ef\u00bb\u00bf"  # the UTF-8 one, as Latin-1 shows it
_BLANKS: Final = " \t\f"
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_HEX: Final = frozenset("0123456789abcdefABCDEF")
# What String.trim removes: everything up to and including the blank.
_TRIMMED: Final = "".join(map(chr, range(0x21)))


class Property(NamedTuple):
    """A value and the line (from 1) on which its key stands."""

    value: str
    line: int


def java_trim(text: str) -> str:
    """String.trim: control characters go too, but no Unicode blanks."""
    return text.strip(_TRIMMED)


def parse_properties(data: bytes) -> dict[str, Property]:
    """Keys and values, trimmed, in the order of the file; of a key given twice the last counts.

    Raises ConfigError on a malformed `\\u` escape, as Java does.
    """
    text = data.decode("latin-1").removeprefix(_BYTE_ORDER_MARK)
    found: dict[str, Property] = {}
    for number, line in _logical_lines(text):
        key, value = _split(line)
        name = java_trim(_unescape(key, number))
        found.pop(name, None)
        found[name] = Property(java_trim(_unescape(value, number)), number)
    return found


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines without comments and blank ones, continuations joined; each with the number of its first line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    logical: list[tuple[int, str]] = []
    index = 0
    while index < len(lines):
        line = lines[index].lstrip(_BLANKS)
        index += 1
        # A backslash alone joins the next line to nothing, and Java then looks for a comment sign again.
        if not line or line[0] in "#!" or line == "\\":
            continue
        number = index
        parts: list[str] = []
        while _is_continued(line):
            parts.append(line[:-1])
            # A backslash before the end of the file continues with nothing.
            line = lines[index].lstrip(_BLANKS) if index < len(lines) else ""
            index += 1
        parts.append(line)
        logical.append((number, "".join(parts)))
    return logical


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str) -> tuple[str, str]:
    """The key ends at the first `=`, `:` or blank that is not escaped; one separator and the blanks around it go."""
    end = 0
    size = len(line)
    while end < size and line[end] not in "=: \t\f":
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(_BLANKS)
    if rest and rest[0] in "=:":
        rest = rest[1:].lstrip(_BLANKS)
    return line[:end], rest


def _unescape(text: str, line: int) -> str:
    if "\\" not in text:
        return text
    parts: list[str] = []
    pos = 0
    while True:
        slash = text.find("\\", pos)
        if slash < 0 or slash + 1 >= len(text):
            parts.append(text[pos:] if slash < 0 else text[pos:slash])
            return "".join(parts)
        parts.append(text[pos:slash])
        char = text[slash + 1]
        pos = slash + 2
        if char == "u":
            digits = text[pos : pos + 4]
            if len(digits) != 4 or not _HEX.issuperset(digits):
                raise ConfigError(f"line {line}: malformed \\uxxxx encoding")
            parts.append(chr(int(digits, 16)))
            pos += 4
        else:
            parts.append(_ESCAPES.get(char, char))

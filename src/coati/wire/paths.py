"""Znode paths as UTF-8 bytes: the rules of PathUtils.validatePath, and how a path splits.

Must not know the tree. A valid path starts with a slash, ends without one, and has no empty, `.` or `..` element and
no character that Java forbids.
"""

from __future__ import annotations

import re
from typing import Final

from coati.errors import BadArguments

ROOT: Final = b"/"

# The usual case in one test: printable ASCII, no empty element, none that starts with a dot. Possessive: an element is
# never taken back, so a path of 500,000 elements needs no memory for it.
_PLAIN: Final = re.compile(rb"(?:/[!-\-0-~ ][ -.0-~]*+)++")
# PathUtils.validatePath: NUL, C0, DEL and C1, private use, specials. Its surrogates cannot come out of a decoder.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ue000-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")
# An empty, `.` or `..` element, or the slash at the end.
_BAD_ELEMENT: Final = re.compile(rb"/\.{0,2}(?:/|\Z)")


def validate_path(path: bytes, sequential: bool = False) -> None:
    """Raises BadArguments as Java does; a sequential path is tested with a digit appended."""
    if sequential:
        path = path + b"1"
    if _PLAIN.fullmatch(path) is None and not _is_valid(path):
        raise BadArguments(path)


def _is_valid(path: bytes) -> bool:
    if path == ROOT:
        return True
    if not path.startswith(b"/") or _BAD_ELEMENT.search(path) is not None:
        return False
    # Java's decoder turns bytes that are not UTF-8 into U+FFFD, which is itself forbidden; so is each half of a
    # surrogate pair, which is how Java sees characters beyond the BMP.
    return _FORBIDDEN.search(path.decode("utf-8", "replace")) is None


def parent_of(path: bytes) -> bytes:
    """The parent's path; `/` for a child of the root."""
    return path[: path.rfind(b"/")] or ROOT

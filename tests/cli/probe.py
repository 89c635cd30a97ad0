"""A command that checks what it was given."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    return 42 if argv == ["1", "two"] else 1

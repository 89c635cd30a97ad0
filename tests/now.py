"""What an attribute is at this moment.

A type checker believes that what was asserted of an attribute stays so, whatever is called afterwards.
"""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def now(value: T) -> T:
    """The value; nothing that is asserted of it is taken for a promise."""
    return value

"""What the shell offers for the word that is being typed: commands, flags, znodes.

Knows the shell's commands and its client; must not know terminals. A listing is asked for only so long, and nothing is
said when there is none: a person is typing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from coati.cli.line import last_word, quoted, words_of
from coati.errors import ZKError
from coati.recipes.client import Client

BUDGET_S: Final = 0.15
FRESH_S: Final = 2.0
MOST_LISTINGS: Final = 100
MOST_OFFERS: Final = 1000


class Offer(NamedTuple):
    """`text` takes the place of what begins at `at`; `shown` stands in the menu."""

    text: str
    at: int
    shown: str


class Offers:
    """`flags`: those of each command, asked for when they are needed; `where`: a typed path made absolute."""

    def __init__(
        self,
        commands: Callable[[], Sequence[str]],
        flags: Callable[[str], Sequence[str]],
        where: Callable[[str], str],
        client: Callable[[], Client | None],
    ) -> None:
        self._commands = commands
        self._flags = flags
        self._where = where
        self._client = client
        self._listings: dict[str, tuple[float, list[str]]] = {}

    async def at(self, text: str) -> list[Offer]:
        """For the end of the text."""
        word = last_word(text)
        before = [one.text for one in words_of(text[: word.at])]
        if not before or before == ["help"]:
            return [Offer(name, word.at, name) for name in self._commands() if name.startswith(word.text)]
        if word.is_plain and word.text.startswith("-"):
            return [Offer(flag, word.at, flag) for flag in self._flags(before[0]) if flag.startswith(word.text)]
        parent, slash, start = word.text.rpartition("/")
        names = await self._children(self._where(parent + slash or "."))
        fitting = [name for name in names if name.startswith(start) and name.isprintable()][:MOST_OFFERS]
        return [Offer(quoted(parent + slash + name), word.at, name) for name in fitting]

    async def _children(self, path: str) -> list[str]:
        now = asyncio.get_running_loop().time()
        since, names = self._listings.get(path, (-FRESH_S, []))
        client = self._client()
        if now - since < FRESH_S or client is None:
            return names
        try:
            async with asyncio.timeout(BUDGET_S):
                names = await client.children(path)
        except (ZKError, TimeoutError):
            return []
        if len(self._listings) >= MOST_LISTINGS:
            self._listings.clear()
        self._listings[path] = (now, names)
        return names


def flags_in(options: Mapping[str, object]) -> list[str]:
    """Of a parser: the long ones, and the short ones that stand for no other."""
    longest: dict[int, str] = {}
    for text, action in options.items():
        if len(text) > len(longest.get(id(action), "")):
            longest[id(action)] = text
    return sorted(longest.values())

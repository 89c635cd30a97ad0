"""Where the rooms meet: the replica (pure), its driver, and the asyncio shells around them.

`from coati.server import Config, Server` is a server in one's own event loop; it is loaded when it is asked for, as the
pure modules here need no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coati.server.embed import Config, Server

__all__ = ["Config", "Server"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from coati.server import embed

    return embed.Server if name == "Server" else embed.Config

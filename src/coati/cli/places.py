"""Where on this machine the command line keeps what it keeps (XDG base directories).

As text: pathlib takes longer to load than a completion should.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


def contexts_path(environ: Mapping[str, str]) -> str:
    """The file of contexts: COATI_CONFIG, or coati/config.toml where configurations are."""
    if given := environ.get("COATI_CONFIG"):
        return given
    return os.path.join(_home(environ, "XDG_CONFIG_HOME", ".config"), "config.toml")


def history_path(environ: Mapping[str, str]) -> str:
    """The shell's history."""
    return os.path.join(_home(environ, "XDG_STATE_HOME", ".local/state"), "history")


def listings_path(environ: Mapping[str, str]) -> str:
    """The directory of listings that completions share."""
    return os.path.join(_home(environ, "XDG_CACHE_HOME", ".cache"), "listings")


def _home(environ: Mapping[str, str], variable: str, usual: str) -> str:
    return os.path.join(environ.get(variable) or os.path.join(environ.get("HOME", "/"), usual), "coati")

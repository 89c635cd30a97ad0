"""Where on this machine the command line keeps what it keeps (XDG base directories)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def contexts_path(environ: Mapping[str, str]) -> Path:
    """The file of contexts: COATI_CONFIG, or coati/config.toml where configurations are."""
    if given := environ.get("COATI_CONFIG"):
        return Path(given)
    return _home(environ, "XDG_CONFIG_HOME", ".config") / "config.toml"


def history_path(environ: Mapping[str, str]) -> Path:
    """The shell's history."""
    return _home(environ, "XDG_STATE_HOME", ".local/state") / "history"


def listings_path(environ: Mapping[str, str]) -> Path:
    """The directory of listings that completions share."""
    return _home(environ, "XDG_CACHE_HOME", ".cache") / "listings"


def _home(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    return Path(environ.get(variable) or os.path.join(environ.get("HOME", "/"), usual), "coati")

"""Small habits: no blanket excepts and ignores, nothing left to do, no words that belong elsewhere."""

from __future__ import annotations

import ast
import re
from typing import Final

from tests.tidy.source import Module

# `# type: ignore[code]  # why`, and the same for ruff's noqa and coverage's no cover.
WAIVER: Final = re.compile(r"#\s*(type:\s*ignore|noqa|pragma:\s*no\s*(?:cover|branch))(\S*)(.*)")
# Put together from halves, so that this file does not complain of itself.
UNFINISHED: Final = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
FOREIGN: Final = tuple(
    "".join(halves)
    for halves in (
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/.lib", "rary"),
        ("py", "pi.org"),
        ("python", "hosted"),
        ("registry.", "npmjs"),
        ("repo1.", "maven"),
        ("repo.maven", ".apache"),
        ("crates", ".io"),
        ("archive.", "apache.org"),
    )
)


def check_excepts(module: Module) -> list[str]:
    """`except:` also swallows KeyboardInterrupt and cancellation. So does a silent `except BaseException`."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(module.complaint(node, "bare except"))
            elif all(isinstance(line, ast.Pass) for line in node.body) and _catches_all(node.type):
                found.append(module.complaint(node, "swallows every exception without a word"))
    return found


def _catches_all(node: ast.expr) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(name, ast.Name) and name.id in ("Exception", "BaseException") for name in names)


def check_waivers(module: Module) -> list[str]:
    """A check that is waived names what it waives, and says why behind a second `#`."""
    found = []
    for number, line in enumerate(module.text.splitlines(), 1):
        match = WAIVER.search(line)
        if match is None:
            continue
        kind, code, rest = match.groups()
        if kind.startswith("type") and not code.startswith("["):
            found.append(f"{module.name}:{number}: type: ignore without a code")
        elif not rest.partition("#")[2].strip():
            found.append(f"{module.name}:{number}: {kind} without a reason behind it")
    return found


def check_words(name: str, text: str) -> list[str]:
    """Words that no file of the project holds: unfinished business, a developer's own paths, hosts of registries."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = UNFINISHED.search(line)
        if match is not None and name.endswith((".py", "Makefile", ".toml", ".sh", "run")):
            found.append(f"{name}:{number}: {match.group()}")
        found += [f"{name}:{number}: {word}" for word in FOREIGN if word in line]
    return found

"""Who may import whom, and what a room may take from the standard library and from other projects."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.tidy.source import Module

# What a pure module may use: no clock, no dice, no file, no socket, no thread, no loop, no environment.
PURE: Final = frozenset(
    (
        *("__future__", "abc", "base64", "binascii", "bisect", "collections", "contextlib", "dataclasses", "enum"),
        *("functools", "hashlib", "heapq", "hmac", "ipaddress", "itertools", "math", "operator", "re", "string"),
        *("struct", "types", "typing", "unicodedata", "zlib"),
    )
)
# And nowhere: what runs code out of data, or forks the process behind the loop's back.
NOWHERE: Final = frozenset(("imp", "pickle", "marshal", "shelve", "telnetlib", "xmlrpc", "multiprocessing"))


@dataclass(frozen=True, slots=True)
class Room:
    """`ours`: the rooms or modules of coati it may import, besides itself; `outside`: packages that are not ours.

    `standard`: what it may take from the standard library besides PURE; None stands for anything but NOWHERE.
    """

    ours: tuple[str, ...] = ()
    standard: tuple[str, ...] | None = ()
    outside: tuple[str, ...] = ()


GROUND: Final = ("coati.errors", "coati.seams", "coati.wire")
SERVER: Final = (*GROUND, "coati.core", "coati.zab", "coati.storage")
SERVE: Final = ("coati.server.main", "coati.server.config", "coati.server.logs", "coati.server.exitcodes")
CLIENT: Final = ("coati.errors", "coati.seams", "coati.wire")

# The longest name that fits a module is its rule.
ROOMS: Final[dict[str, Room]] = {
    "coati": Room(("coati.door", "coati.errors", "coati.client", "coati.recipes")),
    "coati.door": Room((), ("importlib",)),
    "coati.__main__": Room(("coati.cli.main",), ("sys",)),
    "coati.errors": Room(),
    "coati.seams": Room(),
    "coati.wire": Room(("coati.errors",)),
    "coati.core": Room(("coati.wire", "coati.errors")),
    "coati.zab": Room(("coati.wire", "coati.errors")),
    "coati.storage": Room(GROUND, ("gzip", "io", "logging"), ("cramjam",)),
    "coati.storage.format": Room(GROUND),
    "coati.storage.disk": Room(GROUND, ("errno", "fcntl", "os", "queue", "stat", "threading", "time")),
    # The front door tells the server its version; nothing behind the door leads back into the server.
    "coati.server": Room(("coati", *SERVER), None, ("uvloop",)),
    "coati.server.errands": Room(SERVER),
    "coati.server.handshake": Room(SERVER),
    "coati.server.login": Room(SERVER),
    "coati.server.outlet": Room(SERVER),
    "coati.server.pipeline": Room(SERVER),
    "coati.server.readonly": Room(SERVER, ("logging",)),
    "coati.server.replica": Room(SERVER),
    "coati.server.driver": Room(SERVER, ("logging",)),
    "coati.client": Room(CLIENT, None, ("uvloop",)),
    "coati.client.codecs": Room(CLIENT, ("json",), ("msgspec", "pydantic")),
    "coati.client.dns": Room(CLIENT, ("asyncio",), ("dns",)),
    "coati.client.hosts": Room(CLIENT, ("random",)),
    "coati.client.levels": Room(CLIENT),
    "coati.client.ops": Room(CLIENT),
    "coati.client.session": Room(CLIENT, ("random",)),
    "coati.client.types": Room(CLIENT, ("datetime",)),
    "coati.client.watchtable": Room(CLIENT),
    "coati.recipes": Room(("coati.client", "coati.errors"), ("asyncio", "contextvars", "datetime", "logging")),
    "coati.recipes.balance": Room((), ("random",)),
    "coati.recipes.instances": Room((), ("json", "urllib")),
    "coati.recipes.lease": Room(("coati.client", "coati.errors"), ("asyncio", "datetime", "json")),
    # Leases, delays and schedules are agreed on by the time of day.
    "coati.recipes.wallclock": Room((), ("time",)),
    # Applications of the recipes, as a user would write them.
    "coati.patterns": Room(
        ("coati.client", "coati.recipes", "coati.errors"),
        ("asyncio", "json", "logging", "random", "time", "urllib", "uuid"),
    ),
    "coati.sync": Room(("coati.client", "coati.recipes", "coati.patterns", "coati.errors"), None, ("uvloop",)),
    "coati.bench": Room(CLIENT, None, ("uvloop",)),
    "coati.cli": Room(
        ("coati", "coati.admin", "coati.client", "coati.recipes", "coati.errors", "coati.bench"),
        None,
        ("prompt_toolkit", "textual"),
    ),
    # What operators ask servers besides the client port's operations: words, metrics, configurations.
    "coati.admin": Room(("coati.client", "coati.errors", "coati.server.config"), None),
    # Data directories without a server: what the storage commands are made of, and the simulator's stories.
    "coati.offline": Room((*GROUND, "coati.core", "coati.storage"), ("datetime", "errno", "json", "os", "shlex")),
    "coati.lab": Room(
        (*GROUND, "coati.core", "coati.zab", "coati.testing", "coati.recipes"),
        ("asyncio", "html", "random", "textwrap"),
    ),
    "coati.cli.serve": Room(("coati", "coati.cli.standard", "coati.errors", *SERVE), None),
    "coati.cli.configfacts": Room(("coati.admin", "coati.cli", "coati.errors", "coati.server.config"), None),
    # The supervisor of a local ensemble asks its servers as tests do.
    "coati.cli.supervisor": Room(("coati.testing.probe",), None),
    "coati.cli.offline": Room(("coati.cli", "coati.errors", "coati.offline"), None),
    # What was on the disk goes back through a client.
    "coati.cli.undelete": Room(("coati.cli", "coati.client", "coati.errors", "coati.offline"), None),
    "coati.cli.lab": Room(("coati.cli", "coati.errors", "coati.lab"), None),
    "coati.console": Room(("coati", "coati.client", "coati.recipes", "coati.errors"), None, ("starlette", "uvicorn")),
    # Beside the package, for the front door costs more than a run of pytest should that does not need it.
    "coati_pytest": Room(("coati", "coati.sync", "coati.testing"), None, ("pytest",)),
    "coati.testing": Room(
        (*SERVER, "coati.server", "coati.client", "coati.recipes", "coati.sync"), None, ("hypothesis", "pytest")
    ),
}

# Imports inside functions, (module, what): only where loading costs what the other commands should not pay.
# A server to embed is a whole server, and the pure modules beside it need no loop. Every run of pytest loads the
# plugin.
# And packages that nobody needs but who asks for them, and what only a file of contexts needs.
LAZY: Final[frozenset[tuple[str, str]]] = frozenset(
    (
        ("coati.cli.command", "traceback"),
        ("coati.cli.main", "difflib"),
        ("coati.cli.online", "tomllib"),
        ("coati.cli.completing", "tomllib"),
        ("coati.cli.sh", "coati.cli.terminal"),
        ("coati.client.codecs", "msgspec"),
        ("coati.client.codecs", "pydantic"),
        ("coati.client.dns", "dns.asyncresolver"),
        # A probe has 60 ms, and most speak no TLS.
        ("coati.cli.probe", "ssl"),
        ("coati.server", "coati.server.embed"),
        ("coati_pytest", "coati.testing.pytest"),
    )
)


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, and where it stands."""

    target: str
    node: ast.stmt
    lazy: bool


def imports_of(module: Module, ours: frozenset[str]) -> Iterator[Import]:
    """All imports, also those under TYPE_CHECKING. `from coati.wire import codes` counts as coati.wire.codes."""
    inside: list[tuple[ast.AST, bool]] = [(module.tree, False)]
    while inside:
        node, lazy = inside.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(full if full in ours else base, node, lazy)
        deeper = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        inside.extend((child, deeper) for child in ast.iter_child_nodes(node))


def rule_of(module: str) -> Room | None:
    """The rule for a module; `coati` alone is the front door and rules nothing below it."""
    name = module
    while name:
        if name in ROOMS and (name != "coati" or module == "coati"):
            return ROOMS[name]
        name = name.rpartition(".")[0]
    return None


def own_room(module: str) -> str:
    """`coati.wire` for `coati.wire.jute`; a module at the top is its own room."""
    return ".".join(module.split(".")[:2])


def allowed(module: str, rule: Room, target: str) -> bool:
    top = target.partition(".")[0]
    if top == "coati":
        if module != "coati" and own_room(target) == own_room(module):
            return True
        # The front door is allowed by its exact name only: below it is everything.
        return any(target == ours or (ours != "coati" and target.startswith(ours + ".")) for ours in rule.ours)
    if top in sys.stdlib_module_names:
        return top not in NOWHERE if rule.standard is None else top in PURE or top in rule.standard
    return top in rule.outside


def check_imports(module: Module, ours: frozenset[str]) -> list[str]:
    """What the module imports against its room's rule, and imports hidden in functions."""
    rule = rule_of(module.name)
    if rule is None:
        return [f"{module.name}:1: no rule says what this room may import"]
    found = []
    for one in imports_of(module, ours):
        if not allowed(module.name, rule, one.target):
            found.append(module.complaint(one.node, f"may not import {one.target}"))
        if one.lazy and (module.name, one.target) not in LAZY:
            found.append(module.complaint(one.node, f"imports {one.target} inside a function"))
        if isinstance(one.node, ast.ImportFrom) and one.node.level:
            found.append(module.complaint(one.node, "imports by a relative name"))
    return found


def cycles(graph: dict[str, list[str]]) -> list[str]:
    """Cycles of a graph of imports, each once, as `a -> b -> a`."""
    found: list[str] = []
    done: dict[str, bool] = {}
    for start in graph:
        _visit(start, [], graph, done, found)
    return found


def _visit(name: str, trail: list[str], graph: dict[str, list[str]], done: dict[str, bool], found: list[str]) -> None:
    if name in trail:
        found.append(" -> ".join([*trail[trail.index(name) :], name]))
        return
    if name in done:
        return
    for target in graph.get(name, []):
        _visit(target, [*trail, name], graph, done, found)
    done[name] = True


def graph_of(modules: tuple[Module, ...]) -> dict[str, list[str]]:
    """Which of the modules imports which of them. A room's empty `__init__` is no stop on the way."""
    ours = frozenset(module.name for module in modules)
    return {
        module.name: sorted({one.target for one in imports_of(module, ours)} & ours - {module.name})
        for module in modules
    }

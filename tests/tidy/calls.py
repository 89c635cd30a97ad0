"""Calls that a room must not make, because they open a door to the world beside the four seams."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.tidy.source import Module


@dataclass(frozen=True, slots=True)
class Ban:
    """`names`: what must not be used in coati, but for the modules and rooms in `but`. A name that ends in a dot stands
    for everything below it; one that starts with a dot is a method, whatever it is called on.
    """

    names: tuple[str, ...]
    but: tuple[str, ...]
    why: str


# A user's process and a test's workshop: not part of a server.
OUTSIDE: Final = ("coati.cli", "coati.bench", "coati.console", "coati.testing")

BANS: Final = (
    Ban(("time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.utcnow"),
        # How old a file is, the file system says in wall time.
        ("coati.server.clock", "coati.recipes.wallclock", "coati.cli.completing"),
        "wall time comes from the Clock"),
    Ban(("time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns"),
        ("coati.server.clock", "coati.storage.disk", *OUTSIDE), "monotonic time comes from the Clock or as now_ms"),
    Ban(("time.sleep",), (), "nothing sleeps: a deadline is handed to the driver"),
    Ban(("random.",), (), "dice come from the Entropy seam"),
    Ban(("secrets.", "os.urandom", "uuid."), ("coati.server.main", "coati.bench"),
        "the seed comes from one place"),
    Ban(("os.environ", "os.environb", "os.getenv"), ("coati.cli", "coati.server.config", "coati.testing.children"),
        "the environment is read in cli and server/config.py"),
    Ban(("print", "sys.stdout", "sys.stderr"), ("coati.cli", "coati.bench"),
        "only the command line writes"),
    Ban(("open", "os.open", "io.open", ".read_text", ".write_text", ".read_bytes", ".write_bytes"),
        ("coati.storage.disk", "coati.server.config", "coati.server.embed", "coati.cli", "coati.bench",
         "coati.testing.children"), "files are the Disk's"),
    # The guardian forks: what its child could not run must not go on as a second guardian.
    Ban(("os._exit", "exit", "quit"), ("coati.cli.guardian",), "a process ends by returning from main"),
    Ban(("eval", "exec", "compile", "__import__", "globals", "locals"), (), "code is not made at run time"),
    # The front door leads to rooms that are entered when somebody asks for them.
    Ban(("importlib.",), ("coati.door", "coati.cli.main"), "imports are statements"),
    # A table of keys and the fields they fill is what a configuration is.
    Ban(("setattr", "delattr"), ("coati.server.config", "coati.cli"), "no access by name"),
    # In a coroutine of the client's, a sleep is the timer: its loop may be a simulated one.
    Ban(("asyncio.sleep",), (*OUTSIDE, "coati.client", "coati.recipes", "coati.patterns"),
        "a timer is set, not slept through"),
    Ban(("threading.Thread", "concurrent.futures."),
        # No timeout reaches the resolver, and a person waits.
        ("coati.storage.disk", "coati.bench", "coati.testing", "coati.sync", "coati.cli.completing"),
        "one loop, and one disk thread"),
)  # fmt: skip
# A Random made from a seed is the seam itself, and may be made where the seed is known.
SEEDED: Final = ("random.Random",)


def aliases(tree: ast.Module) -> dict[str, str]:
    """What the names bound by imports stand for: `{"t": "time", "now": "time.time"}`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` for such an expression; None for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return None if base is None else f"{base}.{node.attr}"
    return None


def uses(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Every name and attribute that is read, by its full name as far as imports tell it."""
    names = aliases(tree)
    defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        name = dotted(node)
        if isinstance(node, ast.Attribute):
            yield node, f".{node.attr}"
        if name is not None:
            head, dot, rest = name.partition(".")
            if head in names:
                yield node, names[head] + dot + rest
            elif not dot and head not in defined:
                yield node, head


def hits(ban: Ban, name: str) -> bool:
    return any(name == banned or (banned.endswith(".") and name.startswith(banned)) for banned in ban.names)


def check_calls(module: Module) -> list[str]:
    """Uses of what is banned where the module stands."""
    bans = [ban for ban in BANS if not module.is_in(*ban.but)]
    return [
        module.complaint(node, f"uses {name.lstrip('.')}: {ban.why}")
        for node, name in uses(module.tree)
        for ban in bans
        if hits(ban, name) and name not in SEEDED
    ]


def check_test_sleeps(module: Module) -> list[str]:
    """Tests wait for what they wait for. `asyncio.sleep(0)` only lets others run, and may stay."""
    names = aliases(module.tree)
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)) is not None:
            head, dot, rest = name.partition(".")
            full = names.get(head, head) + dot + rest
            if full in ("time.sleep", "asyncio.sleep") and not _is_zero(node):
                found.append(module.complaint(node, f"a test calls {full}"))
    return found


def _is_zero(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0

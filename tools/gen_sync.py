"""Writes the blocking classes of src/coati/sync from the async ones; `--check` compares instead.

MIRRORS says which classes are mirrored, in which module, and what of them needs a word. Everything else follows from
the source of the async class, its bases included: `async def` becomes `def`, `async with` becomes `with`, an async
iterator becomes one that can be polled, docstrings and defaults are taken over, and what is returned is mirrored in
turn. What cannot be mirrored stops the generator: it must be skipped by name, or be written by hand in a base class.
"""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

# As a script it finds what is beside it only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.sync_texts import (
    CLAIM_DOC,
    CLIENT_DOC,
    CLIENT_WRITTEN,
    CONFIG_DOC,
    JOIN_WRITTEN,
    LOST_WRITTEN,
    ONCE_WRITTEN,
    SCHEDULER_WRITTEN,
)

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"


@dataclass(frozen=True)
class Mirror:
    """One class. `args`: of a generic class, which one, as `module:Class`; `named`: what that is called here.

    `base`: what it stands on in bridge.py. `skip`: not for threads, or written by hand. `written`: methods written by
    hand. `here`: properties and plain methods that touch nothing of the loop's, called on the caller's own thread; "*"
    stands for all. `light`: coroutines that do without a task, see LightJob. `timed`: those that wait for ever, and
    have a timeout here. `fields`: attributes, with type and docstring, which `__init__` does not declare. `doc`:
    instead of the async class's. `drops`: methods whose `on_loss` is not offered.
    """

    origin: str
    into: str
    base: str = "Mirror"
    args: str = ""
    named: str = ""
    skip: frozenset[str] = frozenset()
    here: frozenset[str] = frozenset()
    light: frozenset[str] = frozenset()
    timed: frozenset[str] = frozenset()
    drops: frozenset[str] = frozenset()
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)
    written: str = ""
    doc: str = ""

    @property
    def module(self) -> str:
        return self.origin.partition(":")[0]

    @property
    def original(self) -> str:
        return self.origin.partition(":")[2]

    @property
    def name(self) -> str:
        return self.named or self.original


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLIENT: Final = "coati.sync.client"
VIEWS: Final = "coati.sync.views"
RECIPES: Final = "coati.sync.recipes"
PATTERNS: Final = "coati.sync.patterns"
BRIDGE: Final = "coati.sync.bridge"

# Of Held: not for users, or used by blocks only.
INSIDE: Final = names("enter loss begin keep look let_go lose watch_again own settle is_kept end_ hold")
HELD_FIELDS: Final = {
    "path": ("str", "The znode that stands for it."),
    "token": ("int", "Its czxid: later holders have larger ones."),
    "owner": ("int", "The id of the session that it ends with."),
}
MULTI_FIELDS: Final = {"parts": ("tuple[Held, ...]", "One for each lock, in the order of the paths.")}
HELD: Final = "coati.recipes.held:Held"
CLAIM: Final = "coati.recipes.claim:Claim"
ATTEMPT: Final = "coati.recipes.claim:Attempt"
MULTI: Final = "coati.recipes.multilock:MultiHeld"
WRITE: Final = "coati.recipes.rwlock:WriteHeld"
UPGRADABLE: Final = "coati.recipes.rwlock:UpgradableHeld"


def held(origin: str, **more: frozenset[str]) -> Mirror:
    return Mirror(
        origin,
        RECIPES,
        skip=INSIDE | names("paths"),
        here=names("guard is_lost guards tokens"),
        timed=names("lost revoked"),
        fields=MULTI_FIELDS if origin == MULTI else HELD_FIELDS,
    )


MIRRORS: Final = (
    Mirror(
        "coati.client.streams:Stream",
        VIEWS,
        base="PolledMirror",
        skip=names("poll"),
        fields={"gaps": ("int", "How often something may have happened that no item shows.")},
    ),
    Mirror(
        "coati.client.watching:Trigger",
        VIEWS,
        skip=names("arm on_event"),
        here=names("has_fired"),
        fields={"event": ("Event | None", "What has happened, or None so far.")},
    ),
    Mirror(
        "coati.client.watching:Watch",
        VIEWS,
        base="PolledMirror",
        skip=names("on_event on_end poll put end take"),
        fields={"gaps": ("int", "How often something may have happened that no item shows.")},
    ),
    Mirror("coati.client.cache:TreeCache", VIEWS, here=names("get __len__ __contains__ is_current")),
    Mirror(
        "coati.client.transaction:Transaction",
        VIEWS,
        here=names("*"),
        fields={
            "ops": ("list[Op]", "What has been gathered."),
            "results": ("list[OpResult] | None", "One for each operation, once the block has ended."),
        },
    ),
    Mirror(
        "coati.client.client:SessionView",
        VIEWS,
        skip=names("on_end vouch"),
        here=names("id timeout state server read_only deadline last_zxid"),
    ),
    Mirror("coati.client.quota:QuotaView", VIEWS),
    Mirror("coati.client.typed:TypedClient", VIEWS, here=names("values")),
    # What is held, and the ways to it.
    Mirror("coati.recipes.line:Contender", RECIPES, skip=names("client")),
    held(HELD),
    held(MULTI),
    held(WRITE),
    held(UPGRADABLE),
    Mirror(ATTEMPT, RECIPES, args=HELD, base="Winning"),
    Mirror(ATTEMPT, RECIPES, args=MULTI, named="MultiAttempt", base="Winning"),
    Mirror(ATTEMPT, RECIPES, args=WRITE, named="WriteAttempt", base="Winning"),
    Mirror(ATTEMPT, RECIPES, args=UPGRADABLE, named="UpgradableAttempt", base="Winning"),
    Mirror(CLAIM, RECIPES, args=HELD, base="Winning", skip=INSIDE, doc=CLAIM_DOC),
    Mirror(CLAIM, RECIPES, args=WRITE, named="WriteClaim", base="Winning", skip=INSIDE, doc=CLAIM_DOC),
    Mirror(CLAIM, RECIPES, args=UPGRADABLE, named="UpgradableClaim", base="Winning", skip=INSIDE, doc=CLAIM_DOC),
    Mirror("coati.recipes.lock:Lock", RECIPES, base="Winning", skip=INSIDE),
    Mirror("coati.recipes.lock:ExclusiveLock", RECIPES, base="Winning", skip=INSIDE),
    Mirror("coati.recipes.semaphore:Semaphore", RECIPES, base="Winning", skip=INSIDE),
    Mirror(
        "coati.recipes.multilock:MultiLock",
        RECIPES,
        base="Winning",
        skip=INSIDE,
        fields={"paths": ("tuple[str, ...]", "Of the locks, sorted.")},
    ),
    Mirror(
        "coati.recipes.rwlock:RWLock",
        RECIPES,
        base="Winning",
        skip=names("client"),
        here=names("read write upgradable"),
    ),
    # Offices and groups.
    Mirror(
        "coati.recipes.election:Term",
        RECIPES,
        base="Winning",
        skip=INSIDE,
        here=names("guard is_lost"),
        timed=names("lost revoked"),
        fields=HELD_FIELDS,
    ),
    Mirror("coati.recipes.election:Election", RECIPES, base="Winning"),
    Mirror("coati.recipes.keeper:EphemeralKeeper", RECIPES, here=names("is_there"), written=LOST_WRITTEN),
    Mirror("coati.recipes.keeper:TtlKeeper", RECIPES),
    Mirror("coati.recipes.group:Membership", RECIPES, here=names("is_there"), written=LOST_WRITTEN),
    Mirror("coati.recipes.group:Group", RECIPES, here=names("join me")),
    Mirror("coati.recipes.registry:Registry", RECIPES, here=names("directory provider register")),
    Mirror("coati.recipes.registry:Registration", RECIPES),
    Mirror("coati.recipes.registry:Provider", RECIPES),
    # Waiting for each other, numbers, work.
    Mirror("coati.recipes.barrier:Barrier", RECIPES),
    Mirror("coati.recipes.barrier:DoubleBarrier", RECIPES),
    Mirror("coati.recipes.counter:Counter", RECIPES),
    Mirror("coati.recipes.counter:IdSequence", RECIPES),
    Mirror("coati.recipes.value:Value", RECIPES),
    Mirror(
        "coati.recipes.queue:Item",
        RECIPES,
        here=names("guard data"),
    ),
    Mirror("coati.recipes.queue:Queue", RECIPES, base="Taking"),
    Mirror("coati.recipes.lease:Lease", RECIPES),
    Mirror(
        "coati.recipes.partition:Assignment",
        RECIPES,
        skip=names("end hold"),
        here=names("__iter__ __len__ is_over"),
        timed=names("ended"),
        fields={"items": ("tuple[str, ...]", "What is this member's.")},
    ),
    Mirror(
        "coati.recipes.partition:Partition",
        RECIPES,
        fields={"items": ("list[str]", "All that is shared out, sorted.")},
    ),
    Mirror("coati.recipes.once:Once", RECIPES, base="Serving", skip=names("run"), written=ONCE_WRITTEN),
    Mirror(
        "coati.recipes.once:LeaderScheduler",
        RECIPES,
        base="Serving",
        skip=names("run every"),
        here=names("election"),
        written=SCHEDULER_WRITTEN,
    ),
    # Applications.
    Mirror("coati.patterns.naming:NamingService", PATTERNS, here=names("path")),
    Mirror(
        "coati.patterns.config:Config",
        PATTERNS,
        here=names("value version"),
        fields={"error": ("ValueError | None", "Why the newest data of the znode could not be taken, if so.")},
        doc=CONFIG_DOC,
    ),
    Mirror(
        "coati.patterns.membership:Member",
        PATTERNS,
        fields={"term": ("Term | None", "While it is the master: `term.guard()` keeps a former master's writes out.")},
    ),
    Mirror("coati.patterns.membership:Cluster", PATTERNS, skip=names("join"), written=JOIN_WRITTEN),
    Mirror(
        "coati.recipes.client:Client",
        CLIENT,
        base="Opened",
        skip=names("start aclose spawn __aenter__ __aexit__ value entropy unique joining bounded"),
        # What only builds an object on the client.
        here=names(
            "chroot with_options chroot_free transaction watch is_closed states walk values members cache typed quota "
            "lock exclusive_lock rwlock semaphore semaphore_mutex multilock election group ephemeral ttl_node barrier "
            "double_barrier registry sequence queue lease partition once leader_scheduler"
        ),
        light=names("get exists children get_acl sync count create set delete set_acl multi multi_read"),
        drops=names("queue"),
        fields={
            "name": ("str", "What it is called in messages."),
            "session": ("SessionView", "What the client knows of its session."),
        },
        written=CLIENT_WRITTEN,
        doc=CLIENT_DOC,
    ),
)

# By class and what it is a class of, if that makes it another one here.
BY_KEY: Final = {(mirror.origin, mirror.args): mirror for mirror in MIRRORS}
# What asks for any client is given the one with all verbs.
BASE_CLIENT: Final = "coati.client.client:BaseClient"
BY_KEY[BASE_CLIENT, ""] = BY_KEY["coati.recipes.client:Client", ""]

HEADERS: Final = {
    CLIENT: "Client: the async client's verbs, recipes and streams for threads, each of which waits.",
    VIEWS: "What a client of coati.sync gives besides values: watches, streams, caches, transactions, views.",
    RECIPES: "The recipes of coati.sync.Client: locks, offices, groups, queues and the like.",
    PATTERNS: "The patterns for threads, made with a coati.sync.Client: names, configuration, membership.",
}
# What an interrupt that came too late for it takes back.
UNDO: Final = {
    "acquire": "lambda got: self._it.release(got)",
    "try_acquire": "if_any(self._it.release)",
    "get": "lambda got: got.end(is_done=False)",
}
UNDONE: Final = (("Winning", "acquire"), ("Winning", "try_acquire"), ("Taking", "get"))
WRITTEN: Final = "Written by tools/gen_sync.py: do not edit.\n"
# Names of these rooms may not be imported by coati.sync: a default that comes from them is written as its value.
FOREIGN: Final = ("coati.wire",)
ITERATORS: Final = ("AsyncIterator", "AsyncGenerator")
DOC_COLUMNS: Final = 114
# Dunder methods that have a meaning for users, as they are.
KEPT: Final = names("__len__ __contains__ __getitem__ __iter__ __str__")
WORDS: Final = (
    (r"`async with", "`with"),
    (r"`async for", "`for"),
    (r": async with", ": with"),
    (r"\bawait ", ""),
    (r"\baclose\b", "close"),
    (r"\btask(s?)\b", r"thread\1"),
    (r"\ban\s+async iterator\b", "an iterator"),
    (r"\bcoati\.Client\b", "coati.sync.Client"),
)
FN = (ast.FunctionDef, ast.AsyncFunctionDef)
Fn = ast.FunctionDef | ast.AsyncFunctionDef


class CannotMirror(Exception):
    """A signature that needs a decision."""


@dataclass
class Origin:
    """A module of the async client: its classes, and where its names come from."""

    name: str
    classes: dict[str, ast.ClassDef]
    names: dict[str, str]
    values: dict[str, ast.expr]

    def knowing(self, more: dict[str, str]) -> Origin:
        """The same with more names."""
        return Origin(self.name, self.classes, self.names | more, self.values)


@cache
def origin(module: str) -> Origin:
    path = SOURCE / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = Origin(module, {}, {}, {})
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found.names |= {alias.asname or alias.name: f"{node.module}:{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found.names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            found.classes[node.name] = node
            found.names[node.name] = f"{module}:{node.name}"
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                found.names[target.id] = f"{module}:{target.id}"
                if node.value is not None:
                    found.values[target.id] = node.value
    return found


@dataclass
class Member:
    """One method, and the module whose names it uses."""

    fn: Fn
    where: Origin
    overloads: list[Fn] = field(default_factory=list)

    @property
    def is_property(self) -> bool:
        return has_decorator(self.fn, "property")

    @property
    def is_async(self) -> bool:
        return isinstance(self.fn, ast.AsyncFunctionDef) and not self.is_generator

    @property
    def is_generator(self) -> bool:
        return any(isinstance(node, ast.Yield) for node in ast.walk(self.fn))

    @property
    def has_on_loss(self) -> bool:
        args = self.fn.args
        return any(is_name(arg.annotation, "OnLoss") for arg in args.args + args.kwonlyargs)


def has_decorator(fn: Fn, name: str) -> bool:
    return any(is_name(one, name) for one in fn.decorator_list)


def is_name(node: ast.expr | None, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def type_parameters(where: Origin, node: ast.ClassDef) -> list[str]:
    """Of `class C(Generic[T])` or `class C(Base[T])`: T."""
    inside = [base.slice for base in node.bases if isinstance(base, ast.Subscript)]
    found = [one.id for slices in inside for one in ast.walk(slices) if isinstance(one, ast.Name)]
    return list(dict.fromkeys(name for name in found if is_type_variable(where, name)))


def is_type_variable(where: Origin, name: str) -> bool:
    module, _, known = where.names.get(name, "").partition(":")
    value = origin(module).values.get(known) if module.startswith("coati.") else None
    return isinstance(value, ast.Call) and is_name(value.func, "TypeVar")


Bound = dict[str, tuple[ast.expr, Origin]]


class _Bind(ast.NodeTransformer):
    """Puts types in the place of type parameters."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.bound[node.id][0] if node.id in self.bound else node


def lineage(where: Origin, name: str, bound: Bound) -> Iterator[tuple[Origin, ast.ClassDef]]:
    """The class's bases, the farthest first, then the class, with types in the place of type parameters."""
    node = where.classes[name]
    for base in node.bases:
        head = base.value if isinstance(base, ast.Subscript) else base
        module, _, found = where.names.get(head.id, "").partition(":") if isinstance(head, ast.Name) else ("", "", "")
        if module.startswith("coati.") and found:
            there = origin(module)
            given: Bound = {}
            if isinstance(base, ast.Subscript):
                inside = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
                for parameter, one in zip(type_parameters(there, there.classes[found]), inside, strict=True):
                    given[parameter] = (_Bind(bound).visit(copy.deepcopy(one)), where)
            yield from lineage(there, found, given)
    more = {known: at.names[known] for one, at in bound.values() for known in names_in(one) if known in at.names}
    yield where.knowing(more), _Bind(bound).visit(copy.deepcopy(node))


def names_in(node: ast.expr) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


def classes(mirror: Mirror) -> list[tuple[Origin, ast.ClassDef]]:
    where = origin(mirror.module)
    bound: Bound = {}
    if mirror.args:
        module, _, name = mirror.args.partition(":")
        (parameter,) = type_parameters(where, where.classes[mirror.original])
        bound[parameter] = (ast.Name(name), Origin(module, {}, {name: mirror.args}, {}))
    return list(lineage(where, mirror.original, bound))


def members(mirror: Mirror) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for where, node in classes(mirror):
        overloads: list[Fn] = []
        for line in node.body:
            if isinstance(line, FN) and has_decorator(line, "overload"):
                overloads.append(line)
            elif isinstance(line, FN):
                found[line.name] = Member(line, where, [one for one in overloads if one.name == line.name])
    return found


def is_for_tasks(known: str) -> bool:
    """A class of ours with coroutines: what returns one would be of no use in a thread."""
    module, _, name = known.partition(":")
    if not module.startswith("coati.") or name not in origin(module).classes:
        return False
    node = origin(module).classes[name]
    return not any(is_name(base, "Protocol") for base in node.bases) and any(
        isinstance(line, ast.AsyncFunctionDef) for line in node.body
    )


def fields(mirror: Mirror) -> Iterator[tuple[str, ast.expr, str, Origin]]:
    """Attributes, with type and docstring: those of the table, and what `__init__` or a dataclass declares."""
    merged: dict[str, str] = {}
    declared: dict[str, tuple[ast.expr, Origin]] = {}
    for where, node in classes(mirror):
        merged |= where.names
        if is_record(node):
            lines = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            declared |= {
                line.target.id: (line.annotation, where) for line in lines if isinstance(line.target, ast.Name)
            }
        for line in node.body:
            if isinstance(line, ast.FunctionDef) and line.name == "__init__":
                declared |= {name: (kind, where) for name, kind in kept_parameters(line)}
    for name, (kind, where) in declared.items():
        if not name.startswith("_") and name not in mirror.skip and name not in mirror.fields:
            yield name, kind, "", where
    for name, (text, doc) in mirror.fields.items():
        yield name, ast.parse(text, mode="eval").body, doc, Origin(mirror.module, {}, merged, {})


def is_record(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(one) for one in node.decorator_list)


def kept_parameters(init: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """Of `self.path = path`: path, and its type."""
    kinds = {arg.arg: arg.annotation for arg in init.args.args + init.args.kwonlyargs}
    for node in ast.walk(init):
        match node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.Name(id=given)):
                kind = kinds.get(given)
                if name == given and kind is not None:
                    yield name, kind


def docstring(node: Fn | ast.ClassDef, indent: str) -> str:
    text = ast.get_docstring(node) or ""
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    if not text:
        return ""
    if max(map(len, text.splitlines())) > DOC_COLUMNS - len(indent):
        # The words here have made it longer. The quotes stand before the first line.
        blocks = [textwrap.fill(" ".join(block.split()), DOC_COLUMNS - len(indent)) for block in text.split("\n\n")]
        text = "\n\n".join(blocks)
    lines = text.splitlines()
    if len(lines) == 1:
        return f'{indent}"""{text}"""\n'
    body = "\n".join(f"{indent}{line}" if line else "" for line in lines)
    return f'{indent}"""{body.lstrip()}\n{indent}"""\n'


class Page:
    """One module in the making."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.imports: set[tuple[str, str]] = set()
        self.body: list[str] = []

    # --- names and types --------------------------------------------------------------------------

    def take(self, module: str, name: str) -> str:
        """Imports a name and returns what it is called here."""
        if module != self.module:
            self.imports.add((module, name))
        return name

    def name(self, where: Origin, name: str) -> str:
        """What a name of the async module is called here."""
        known = where.names.get(name)
        if known is None:
            return name
        mirror = BY_KEY.get((known, ""))
        if mirror is not None:
            return self.take(mirror.into, mirror.name)
        if name == "T" and is_type_variable(where, name):
            # One type variable is as good as another.
            return self.take(BRIDGE, "T")
        module, _, found = known.partition(":")
        if not found:
            raise CannotMirror(f"{where.name}: {name} is a module")
        if is_for_tasks(known):
            raise CannotMirror(f"{known} has coroutines: list it in MIRRORS, or skip what returns it")
        return self.take(module, found if found == name else f"{found} as {name}")

    def mirror_of(self, where: Origin, node: ast.expr) -> Mirror | None:
        """Of a class, or of a class of something."""
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            args = where.names.get(node.slice.id, "") if isinstance(node.slice, ast.Name) else ""
            known = where.names.get(node.value.id, "")
            return BY_KEY.get((known, args)) or BY_KEY.get((known, ""))
        return BY_KEY.get((where.names.get(node.id, ""), "")) if isinstance(node, ast.Name) else None

    def annotation(self, where: Origin, node: ast.expr) -> str:
        """The type here of what has this type there."""
        match node:
            case ast.Constant(value=str(text)):
                return self.annotation(where, ast.parse(text, mode="eval").body)
            case ast.Constant():
                return ast.unparse(node)
            case ast.Name(id="OnLoss"):
                return self.take(BRIDGE, "OnLoss") + " | None"
            case ast.Name(id=name):
                return self.name(where, name)
            case ast.Subscript(value=ast.Name(id=name), slice=inside) if name in ITERATORS:
                first = inside.elts[0] if isinstance(inside, ast.Tuple) else inside
                return f"{self.take(BRIDGE, 'Steps')}[{self.annotation(where, first)}]"
            case ast.Subscript(value=ast.Name(id="Literal")):
                return f"{self.take('typing', 'Literal')}[{ast.unparse(node.slice)}]"
            case ast.Subscript(value=ast.Name(id=name), slice=inside):
                if name in ("Awaitable", "Coroutine"):
                    raise CannotMirror(ast.unparse(node))
                mirror = self.mirror_of(where, node)
                if mirror is not None and mirror.args:
                    return self.take(mirror.into, mirror.name)
                return f"{self.name(where, name)}[{self.annotation(where, inside)}]"
            case ast.Tuple(elts=elts):
                return ", ".join(self.annotation(where, one) for one in elts)
            case ast.List(elts=elts):
                return "[" + ", ".join(self.annotation(where, one) for one in elts) + "]"
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return f"{self.annotation(where, left)} | {self.annotation(where, right)}"
            case ast.Attribute(value=ast.Name(id=name)):
                module = where.names[name]
                self.imports.add(("", module))
                return ast.unparse(node)
        raise CannotMirror(ast.unparse(node))

    def default(self, where: Origin, node: ast.expr) -> str:
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in where.names:
            module, _, found = where.names[root.id].partition(":")
            if module.startswith(FOREIGN):
                assert isinstance(node, ast.Attribute)
                return ast.unparse(origin(f"{module}.{found}").values[node.attr])
            return self.name(where, root.id) + ast.unparse(node)[len(root.id) :]
        return ast.unparse(node)

    # --- values -----------------------------------------------------------------------------------

    def wrapped(self, where: Origin, node: ast.expr | None, value: str, extra: str = "") -> str:
        """The expression that makes `value`, of the async type, one of the type here."""
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=inside) if name in ITERATORS:
                first = inside.elts[0] if isinstance(inside, ast.Tuple) else inside
                item = self.wrapped(where, first, "one", extra)
                if item != "one":
                    value = f"{self.take(BRIDGE, 'mapped')}({value}, lambda one: {item})"
                return f"{self.take(BRIDGE, 'Steps')}({value}, self._on)"
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                if value.isidentifier():
                    inner = self.wrapped(where, left, value, extra)
                    return value if inner == value else f"None if {value} is None else {inner}"
                inner = self.wrapped(where, left, "got", extra)
                return value if inner == "got" else f"None if (got := {value}) is None else {inner}"
            case ast.BinOp(left=left, op=ast.BitOr(), right=right) if self.mirror_of(where, left):
                # Of one class for several types.
                if self.mirror_of(where, left) is not self.mirror_of(where, right):
                    raise CannotMirror(ast.unparse(node))
                return self.wrapped(where, left, value, extra)
            case ast.Subscript(value=ast.Name(id="list"), slice=inside):
                item = self.wrapped(where, inside, "one", extra)
                return value if item == "one" else f"[{item} for one in {value}]"
            case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[inside, ast.Constant(value=e)])):
                item = self.wrapped(where, inside, "one", extra)
                return value if item == "one" or e is not ... else f"tuple({item} for one in {value})"
        mirror = None if node is None else self.mirror_of(where, node)
        if mirror is not None:
            how = extra if mirror.base == "Winning" else ""
            return f"{self.take(mirror.into, mirror.name)}({value}, self._on{how})"
        return value

    def given(self, where: Origin, arg: ast.arg) -> str:
        """What the async function is given for a parameter."""
        node = arg.annotation
        match node:
            case ast.Name(id="OnLoss"):
                return '"flag"'
            case ast.Subscript(value=ast.Name(id="Iterable")):
                # A generator of the caller's runs on the caller's thread.
                return f"list({arg.arg})"
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)) if self.mirror_of(where, left):
                return f"None if {arg.arg} is None else {self.take(BRIDGE, 'Mirror')}.original({arg.arg})"
        if node is not None and self.mirror_of(where, node):
            return f"{self.take(BRIDGE, 'Mirror')}.original({arg.arg})"
        return arg.arg

    # --- functions --------------------------------------------------------------------------------

    def parameters(self, member: Member, *, drops: bool = False) -> tuple[str, str]:
        """The parameters here, after self, and the arguments there. `drops`: on_loss is not one of them."""
        args, where = member.fn.args, member.where
        declared: list[str] = []
        passed: list[str] = []
        plain = args.args[1:]
        defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
        for arg, value in zip(plain, defaults, strict=True):
            declared.append(self.parameter(where, arg, value))
            passed.append(self.given(where, arg))
        if args.vararg is not None:
            declared.append("*" + self.parameter(where, args.vararg, None))
            passed.append(f"*{args.vararg.arg}")
        elif args.kwonlyargs:
            declared.append("*")
        for arg, value in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            if not (drops and is_name(arg.annotation, "OnLoss")):
                declared.append(self.parameter(where, arg, value))
            passed.append(f"{arg.arg}={self.given(where, arg)}")
        if args.kwarg is not None or args.posonlyargs:
            raise CannotMirror(f"{member.fn.name}: parameters")
        return ", ".join(declared), ", ".join(passed)

    def parameter(self, where: Origin, arg: ast.arg, value: ast.expr | None) -> str:
        assert arg.annotation is not None, arg.arg
        text = f"{arg.arg}: {self.annotation(where, arg.annotation)}"
        if isinstance(arg.annotation, ast.Name) and arg.annotation.id == "OnLoss":
            return text + " = None"
        return text if value is None else f"{text} = {self.default(where, value)}"

    def method(self, mirror: Mirror, member: Member) -> str:
        fn, where = member.fn, member.where
        if fn.name == "__init__":
            return ""
        if fn.name == "__aenter__":
            return self.entering(mirror, member)
        if fn.name == "__aexit__":
            return self.leaving(mirror, member)
        if fn.name == "__aiter__":
            return ""
        if fn.name == "__anext__":
            return self.advancing(mirror, member)
        asked = [arg for arg in fn.args.args + fn.args.kwonlyargs if is_function(arg.annotation)]
        if asked and not member.is_async:
            raise CannotMirror(f"{mirror.origin}.{fn.name}: a function as argument")
        assert fn.returns is not None
        drops = fn.name in mirror.drops
        declared, passed = self.parameters(member, drops=drops)
        returned = self.annotation(where, fn.returns)
        target = f"self._it.{fn.name}"
        if fn.name in mirror.timed:
            return self.waiting(member, target)
        for decorator, how in (("asynccontextmanager", "{}"), ("contextmanager", "on_the_loop({})")):
            if has_decorator(fn, decorator):
                assert isinstance(fn.returns, ast.Subscript)
                inside = fn.returns.slice
                got = self.annotation(where, inside.elts[0] if isinstance(inside, ast.Tuple) else inside)
                block = self.take(BRIDGE, "Block")
                if "(" in how:
                    self.take(BRIDGE, "on_the_loop")
                head = f"    def {fn.name}(self, {declared}) -> {block}[{got}]:\n"
                value = how.format(f"{target}({passed})")
                return f"{head}{docstring(fn, ' ' * 8)}        return {block}({value}, self._on)\n"
        is_here = "*" in mirror.here or fn.name in mirror.here
        if member.is_property:
            value = target if is_here else f"self._on.do(lambda: {target})"
        elif fn.name in KEPT:
            value = PLAIN[fn.name].format(passed)
            value = value if is_here else f"self._on.do(lambda: {value})"
        elif member.is_async and asked:
            value = self.asking(asked, target, passed)
        elif member.is_async:
            value = f"self._on.{'ask' if fn.name in mirror.light else 'call'}({target}({passed}))"
            if (mirror.base, fn.name) in UNDONE:
                return self.taking(mirror, member, f"{target}({passed})", declared, returned)
        elif is_here or member.is_generator:
            value = f"{target}({passed})"
        else:
            value = f"self._on.do(lambda: {target}({passed}))"
        name = "close" if fn.name == "aclose" else fn.name
        head = "    @property\n" if member.is_property else ""
        for one in member.overloads:
            self.take("typing", "overload")
            assert one.returns is not None
            given, _ = self.parameters(Member(one, where), drops=drops)
            head += f"    @overload\n    def {name}(self, {given}) -> {self.annotation(where, one.returns)}: ...\n\n"
        head += f"    def {name}(self{', ' if declared else ''}{declared}) -> {returned}:\n"
        extra = ", on_loss" if member.has_on_loss and not drops else ", self._on_loss"
        return (
            head + docstring(fn, " " * 8) + self.returning(member, value, extra if self.has_loss(mirror, extra) else "")
        )

    def has_loss(self, mirror: Mirror, extra: str) -> bool:
        return extra == ", on_loss" or mirror.base == "Winning"

    def returning(self, member: Member, value: str, extra: str) -> str:
        node = member.fn.returns
        if is_name(node, "Self"):
            return f"        return self._view({value})\n"
        value = self.wrapped(member.where, node, value, extra)
        return f"        {'' if is_none(node) else 'return '}{value}\n"

    def waiting(self, member: Member, target: str) -> str:
        """What waits for ever there, may be given a time here."""
        fn = member.fn
        assert fn.returns is not None
        text = docstring(fn, " " * 8).rstrip().removesuffix('"""').rstrip()
        if is_none(fn.returns):
            how, returned, told = "happened", "bool", "True; False after so many seconds without."
        else:
            how, returned, told = (
                "within",
                f"{self.annotation(member.where, fn.returns)} | None",
                "None after so many seconds.",
            )
        return (
            f"    def {fn.name}(self, timeout: float | None = None) -> {returned}:\n"
            f'{text}\n\n        {told}\n        """\n'
            f"        return self._on.call({self.take(BRIDGE, how)}({target}(), timeout))\n"
        )

    def asking(self, asked: list[ast.arg], target: str, passed: str) -> str:
        """The function must run on the caller's thread: it may do what it likes there."""
        (arg,) = asked
        inner = re.sub(rf"\b{arg.arg}\b", "asked", passed)
        return f"{self.take(BRIDGE, 'asking')}(self._on, {arg.arg}, lambda asked: {target}({inner}))"

    def taking(self, mirror: Mirror, member: Member, call: str, declared: str, returned: str) -> str:
        """What gives the caller something to give back."""
        fn = member.fn
        wrapped = self.wrapped(member.where, fn.returns, "got")
        if "if_any" in UNDO[fn.name]:
            self.take(BRIDGE, "if_any")
        head = f"    def {fn.name}(self{', ' if declared else ''}{declared}) -> {returned}:\n{docstring(fn, ' ' * 8)}"
        return f"{head}        return self._on.enter({call}, lambda got: {wrapped}, {UNDO[fn.name]})\n"

    def entering(self, mirror: Mirror, member: Member) -> str:
        node = member.fn.returns
        assert node is not None
        head = f"    def __enter__(self) -> {self.annotation(member.where, node)}:\n{docstring(member.fn, ' ' * 8)}"
        if is_name(node, "Self"):
            wrap = "self._entered(self._it)" if mirror.base == "Winning" else "self"
            given = "_"
        elif mirror.base == "Winning" and isinstance(node, ast.BinOp):
            held = self.wrapped(member.where, node.left, "self._watch_over(got)")
            wrap, given = f"None if got is None else {held}", "got"
        else:
            got = "self._watch_over(got)" if mirror.base == "Winning" else "got"
            wrap, given = self.wrapped(member.where, node, got), "got"
        undo = "lambda _: self._it.__aexit__(None, None, None)"
        return f"{head}        return self._on.enter(self._it.__aenter__(), lambda {given}: {wrap}, {undo})\n"

    def leaving(self, mirror: Mirror, member: Member) -> str:
        args = "kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None"
        self.take("types", "TracebackType")
        node = member.fn.returns
        assert node is not None
        head = f"    def __exit__(self, {args}) -> {self.annotation(member.where, node)}:\n"
        result = "" if is_none(node) else "return "
        leave = f"{result}self._on.leave(self._it.__aexit__(kind, error, trace))\n"
        if mirror.base == "Winning":
            return f"{head}        try:\n            {leave}        finally:\n            self._let_go()\n"
        return f"{head}        {leave}"

    def advancing(self, mirror: Mirror, member: Member) -> str:
        node = member.fn.returns
        assert node is not None
        value = self.wrapped(member.where, node, "await self._it.__anext__()")
        return f"    async def _advance(self) -> {self.annotation(member.where, node)}:\n        return {value}\n"

    # --- classes ----------------------------------------------------------------------------------

    def original(self, mirror: Mirror) -> str:
        """The async class, with its parameters."""
        self.imports.add((mirror.module, f"{mirror.original} as Async{mirror.original}"))
        kind = f"Async{mirror.original}"
        if mirror.args:
            module, _, name = mirror.args.partition(":")
            self.imports.add((module, f"{name} as Async{name}"))
            return f"{kind}[Async{name}]"
        where = origin(mirror.module)
        parameters = [self.name(where, one) for one in type_parameters(where, where.classes[mirror.original])]
        return f"{kind}[{', '.join(parameters)}]" if parameters else kind

    def write(self, mirror: Mirror) -> None:
        where, node = classes(mirror)[-1]
        found = members(mirror)
        bases = self.original(mirror)
        if mirror.base == "PolledMirror":
            item = found["__anext__"].fn.returns
            assert item is not None
            bases += f", {self.annotation(found['__anext__'].where, item)}"
        doc = mirror.doc or docstring(node, "    ")
        lines = [f"class {mirror.name}({self.take(BRIDGE, mirror.base)}[{bases}]):\n{doc}"]
        if mirror.name in CONSTRUCTED:
            lines.append(self.constructor(mirror, found["__init__"]))
        for name, kind, text, at in fields(mirror):
            shown = f'        """{text}"""\n' if text else ""
            lines.append(
                f"    @property\n    def {name}(self) -> {self.annotation(at, kind)}:\n{shown}"
                f"        return {self.wrapped(at, kind, f'self._it.{name}')}\n"
            )
        for name, member in found.items():
            is_public = not name.startswith("_") or name in KEPT or name in PROTOCOL
            if is_public and name not in mirror.skip:
                lines.append(self.method(mirror, member))
        if mirror.written:
            lines.append(mirror.written)
            self.take_all(where, mirror.written)
        if len(lines) == 1 and not doc:
            lines.append("    pass\n")
        self.body.append("\n".join(line for line in lines if line))

    def take_all(self, where: Origin, text: str) -> None:
        """What methods written by hand use."""
        for word in sorted(set(re.findall(r"\b[A-Z]\w*\b|\boverload\b|\bshowing\b", re.sub(r'""".*?"""', "", text)))):
            if word in ("Callable", "overload"):
                self.take("collections.abc" if word == "Callable" else "typing", word)
            elif word in ("Steps", "Block", "showing"):
                self.take(BRIDGE, word)
            elif word in where.names:
                self.name(where, word)

    def constructor(self, mirror: Mirror, member: Member) -> str:
        declared, passed = self.parameters(member)
        kind = self.original(mirror)
        head = f"    def __init__(self{', ' if declared else ''}{declared}) -> None:\n{docstring(member.fn, ' ' * 8)}"
        for arg in member.fn.args.args:
            if isinstance(arg.annotation, ast.Name) and member.where.names.get(arg.annotation.id) == BASE_CLIENT:
                return f"{head}        super().__init__({kind}({passed}), {arg.arg}._on)\n"
        bridge = self.take(BRIDGE, "Bridge")
        if mirror.base == "Opened":
            return f"{head}        it = {kind}({passed})\n        super().__init__(it, {bridge}(it))\n"
        return f"{head}        super().__init__({kind}({passed}), {bridge}())\n"

    def text(self) -> str:
        lines = [f'"""{HEADERS[self.module]}\n\n{WRITTEN}"""\n']
        lines.append("from __future__ import annotations\n")
        for module, name in sorted(self.imports):
            lines.append(f"from {module} import {name}" if module else f"import {name}")
        return "\n".join(lines) + "\n\n\n" + "\n\n".join(self.body)


# Made by the user's own hand; all others come from a client.
CONSTRUCTED: Final = names("Client Trigger NamingService Config Cluster")
PROTOCOL: Final = names("__aenter__ __aexit__ __aiter__ __anext__")


def is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


# How a dunder method is called.
PLAIN: Final = {
    "__len__": "len(self._it)",
    "__contains__": "{} in self._it",
    "__getitem__": "self._it[{}]",
    "__iter__": "iter(self._it)",
    "__str__": "str(self._it)",
}


def is_function(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Callable"


def generate(module: str) -> str:
    page = Page(module)
    for mirror in MIRRORS:
        if mirror.into == module:
            page.write(mirror)
    return page.text()


def target(module: str) -> Path:
    return (SOURCE / Path(*module.split("."))).with_suffix(".py")


def ruff(path: Path, text: str, *command: str) -> str:
    line = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
    return subprocess.run(line, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def formatted(path: Path, text: str) -> str:
    return ruff(path, ruff(path, text, "check", "--quiet", "--select", "I,F401", "--fix"), "format")


def front() -> str:
    """The room's door: all classes, and what they stand on that has a meaning for users."""
    doors = {BRIDGE: ["OnLoss", "Polled", "Steps"]}
    for mirror in MIRRORS:
        # Patterns have a door of their own, as in asyncio.
        if mirror.into != PATTERNS:
            doors.setdefault(mirror.into, []).append(mirror.name)
    lines = ['"""coati.sync: the client for threads. Names from inside, and no code.\n\n' + WRITTEN + '"""\n']
    lines += [f"from {module} import (\n    {', '.join(sorted(found))},\n)" for module, found in sorted(doors.items())]
    everything = sorted(name for found in doors.values() for name in found)
    return "\n".join([*lines, "", f"__all__ = {everything!r}", ""])


def main() -> int:
    stale = []
    pages = {target(module): generate(module) for module in sorted({mirror.into for mirror in MIRRORS})}
    pages[SOURCE / "coati" / "sync" / "__init__.py"] = front()
    for path, raw in pages.items():
        text = formatted(path, raw)
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    for name in stale:
        print(f"{name} is not what tools/gen_sync.py writes: run python tools/gen_sync.py")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Writes the blocking classes of src/coati/sync from the async ones; `--check` compares instead.

MIRRORS says which classes are mirrored, in which module, and what of them needs a word. Everything else follows from
the source of the async class, its bases included: `async def` becomes `def`, `async with` becomes `with`, an async
iterator becomes one that can be polled, docstrings and defaults are taken over, and what is returned is mirrored in
turn. What cannot be mirrored stops the generator: it must be skipped by name, or be written by hand in a base class.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
BRIDGE: Final = "coati.sync.bridge"


@dataclass(frozen=True)
class Mirror:
    """One class. `base`: what it stands on in bridge.py. `skip`: not for threads, or written by hand in `base`.

    `here`: properties and plain methods that touch nothing of the loop's, called on the caller's own thread; "*" stands
    for all. `fields`: attributes, with type and docstring. `doc`: instead of the async class's. `light`: coroutines
    that do without a task, see LightJob.
    """

    origin: str
    into: str = "coati.sync.client"
    base: str = "Mirror"
    skip: frozenset[str] = frozenset()
    here: frozenset[str] = frozenset()
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)
    doc: str = ""
    light: frozenset[str] = frozenset()

    @property
    def module(self) -> str:
        return self.origin.partition(":")[0]

    @property
    def name(self) -> str:
        return self.origin.partition(":")[2]


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLIENT_DOC = '''\
    """A ZooKeeper session for threads, any number of them: `with coati.sync.Client("h1,h2/app") as zk:`.

    All arguments are those of coati.Client, and so are the verbs: each waits. Interrupted, by KeyboardInterrupt say, it
    is cancelled first. Functions that are given to the client run on the thread that calls, but for `on_loss`.
    """
'''

MIRRORS: Final = (
    Mirror(
        "coati.client.watching:Trigger",
        skip=names("arm on_event"),
        here=names("has_fired"),
        fields={"event": ("Event | None", "What has happened, or None so far.")},
    ),
    Mirror("coati.client.watching:Watch", base="PolledMirror", skip=names("on_event on_end")),
    Mirror(
        "coati.client.transaction:Transaction",
        here=names("*"),
        fields={
            "ops": ("list[Op]", "What has been gathered."),
            "results": ("list[OpResult] | None", "One for each operation, once the block has ended."),
        },
    ),
    Mirror(
        "coati.client.client:SessionView",
        skip=names("on_end"),
        here=names("id timeout state server read_only deadline last_zxid"),
    ),
    Mirror(
        "coati.recipes.held:Held",
        base="Holding",
        skip=names("lost loss keep let_go lose watch_again"),
        here=names("guard"),
        fields={
            "path": ("str", "The znode that stands for it."),
            "token": ("int", "Its czxid: later holders have larger ones."),
        },
    ),
    Mirror(
        "coati.recipes.client:Client",
        base="Opened",
        skip=names("start aclose spawn __aenter__ __aexit__"),
        here=names("chroot with_options chroot_free transaction watch is_closed states walk"),
        fields={
            "name": ("str", "What it is called in messages."),
            "session": ("SessionView", "What the client knows of its session."),
        },
        light=names("get exists children get_acl sync count create set delete set_acl multi multi_read"),
        doc=CLIENT_DOC,
    ),
)
BY_ORIGIN: Final = {mirror.origin: mirror for mirror in MIRRORS}

HEADERS: Final = {
    "coati.sync.client": "Client: the async client's verbs, recipes and streams for threads, each of which waits.",
}
# Names of these rooms may not be imported by coati.sync: a default that comes from them is written as its value.
FOREIGN: Final = ("coati.wire",)
ITERATORS: Final = ("AsyncIterator", "AsyncGenerator")
# Dunder methods that have a meaning for users, as they are.
KEPT: Final = names("__len__ __contains__ __getitem__ __iter__ __str__")
WORDS: Final = (
    (r"`async with", "`with"),
    (r"`async for", "`for"),
    (r"\bawait ", ""),
    (r"\baclose\b", "close"),
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

    @property
    def is_property(self) -> bool:
        return any(isinstance(one, ast.Name) and one.id == "property" for one in self.fn.decorator_list)

    @property
    def is_async(self) -> bool:
        return isinstance(self.fn, ast.AsyncFunctionDef) and not self.is_generator

    @property
    def is_generator(self) -> bool:
        return any(isinstance(node, ast.Yield) for node in ast.walk(self.fn))


def lineage(where: Origin, name: str) -> Iterator[tuple[Origin, ast.ClassDef]]:
    """The class's bases, the farthest first, then the class."""
    node = where.classes[name]
    for base in node.bases:
        head = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(head, ast.Name):
            module, _, found = where.names.get(head.id, "").partition(":")
            if module.startswith("coati.") and found:
                yield from lineage(origin(module), found)
    yield where, node


def merged(mirror: Mirror) -> Origin:
    """All names that the class's modules know, for what the table says."""
    found: dict[str, str] = {}
    for where, _ in lineage(origin(mirror.module), mirror.name):
        found |= where.names
    return Origin(mirror.module, {}, found, {})


def members(mirror: Mirror) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for where, node in lineage(origin(mirror.module), mirror.name):
        for line in node.body:
            if isinstance(line, FN):
                found[line.name] = Member(line, where)
    return found


def docstring(node: Fn | ast.ClassDef, indent: str) -> str:
    text = ast.get_docstring(node) or ""
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    if not text:
        return ""
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
        mirror = BY_ORIGIN.get(known)
        if mirror is not None:
            return self.take(mirror.into, mirror.name)
        module, _, found = known.partition(":")
        if not found:
            raise CannotMirror(f"{where.name}: {name} is a module")
        return self.take(module, found if found == name else f"{found} as {name}")

    def mirror_of(self, where: Origin, node: ast.expr) -> Mirror | None:
        head = node.value if isinstance(node, ast.Subscript) else node
        return BY_ORIGIN.get(where.names.get(head.id, "")) if isinstance(head, ast.Name) else None

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
                item = self.wrapped(where, first, "one")
                if item != "one":
                    value = f"{self.take(BRIDGE, 'mapped')}({value}, lambda one: {item})"
                return f"{self.take(BRIDGE, 'Steps')}({value}, self._on)"
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                inner = self.wrapped(where, left, "got")
                return value if inner == "got" else f"None if (got := {value}) is None else {inner}"
            case ast.Subscript(value=ast.Name(id="list"), slice=inside):
                item = self.wrapped(where, inside, "one")
                return value if item == "one" else f"[{item} for one in {value}]"
        if node is not None:
            mirror = self.mirror_of(where, node)
            if mirror is not None:
                return f"{self.take(mirror.into, mirror.name)}({value}, self._on{extra})"
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
                return f"None if {arg.arg} is None else {self.take(BRIDGE, 'original')}({arg.arg})"
        if node is not None and self.mirror_of(where, node):
            return f"{self.take(BRIDGE, 'original')}({arg.arg})"
        return arg.arg

    # --- functions --------------------------------------------------------------------------------

    def parameters(self, member: Member) -> tuple[str, str]:
        """The parameters here, after self, and the arguments there."""
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
        declared, passed = self.parameters(member)
        returned = self.annotation(where, fn.returns)
        is_here = "*" in mirror.here or fn.name in mirror.here
        target = f"self._it.{fn.name}"
        if member.is_property:
            value = target if is_here else f"self._on.do(lambda: {target})"
        elif member.is_async and asked:
            value = self.asking(asked, target, passed)
        elif member.is_async:
            value = f"self._on.{'ask' if fn.name in mirror.light else 'call'}({target}({passed}))"
        elif is_here or member.is_generator:
            value = f"{target}({passed})"
        else:
            value = f"self._on.do(lambda: {target}({passed}))"
        head = "    @property\n" if member.is_property else ""
        head += f"    def {fn.name}(self{', ' if declared else ''}{declared}) -> {returned}:\n"
        return head + docstring(fn, " " * 8) + self.returning(member, value)

    def returning(self, member: Member, value: str) -> str:
        node = member.fn.returns
        if isinstance(node, ast.Name) and node.id == "Self":
            return f"        return self._view({value})\n"
        on_loss = any(
            isinstance(arg.annotation, ast.Name) and arg.annotation.id == "OnLoss"
            for arg in member.fn.args.args + member.fn.args.kwonlyargs
        )
        value = self.wrapped(member.where, node, value, ", on_loss" if on_loss else "")
        return f"        {'' if is_none(node) else 'return '}{value}\n"

    def asking(self, asked: list[ast.arg], target: str, passed: str) -> str:
        """The function must run on the caller's thread: it may do what it likes there."""
        (arg,) = asked
        inner = re.sub(rf"\b{arg.arg}\b", "asked", passed)
        return f"{self.take(BRIDGE, 'asking')}(self._on, {arg.arg}, lambda asked: {target}({inner}))"

    def entering(self, mirror: Mirror, member: Member) -> str:
        node = member.fn.returns
        assert node is not None
        head = f"    def __enter__(self) -> {self.annotation(member.where, node)}:\n"
        call = "self._on.call(self._it.__aenter__(), lambda: self._it.__aexit__(None, None, None))"
        if isinstance(node, ast.Name) and node.id == "Self":
            return f"{head}        {call}\n        return self\n"
        if mirror.base == "Winning":
            call = f"self._watch_over({call})"
        return f"{head}        return {self.wrapped(member.where, node, call)}\n"

    def leaving(self, mirror: Mirror, member: Member) -> str:
        args = "kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None"
        self.take("types", "TracebackType")
        node = member.fn.returns
        assert node is not None
        head = f"    def __exit__(self, {args}) -> {self.annotation(member.where, node)}:\n"
        let_go = "        self._let_go()\n" if mirror.base == "Winning" else ""
        result = "" if is_none(node) else "return "
        return f"{head}{let_go}        {result}self._on.call(self._it.__aexit__(kind, error, trace))\n"

    def advancing(self, mirror: Mirror, member: Member) -> str:
        node = member.fn.returns
        assert node is not None
        value = self.wrapped(member.where, node, "await self._it.__anext__()")
        return f"    async def _advance(self) -> {self.annotation(member.where, node)}:\n        return {value}\n"

    # --- classes ----------------------------------------------------------------------------------

    def original(self, mirror: Mirror) -> str:
        self.imports.add((mirror.module, f"{mirror.name} as Async{mirror.name}"))
        return f"Async{mirror.name}"

    def write(self, mirror: Mirror) -> None:
        where = origin(mirror.module)
        node = where.classes[mirror.name]
        found = members(mirror)
        bases = self.original(mirror)
        if mirror.base == "PolledMirror":
            item = found["__anext__"].fn.returns
            assert item is not None
            bases += f", {self.annotation(where, item)}"
        lines = [
            f"class {mirror.name}({self.take(BRIDGE, mirror.base)}[{bases}]):\n{mirror.doc or docstring(node, '    ')}"
        ]
        if mirror.name in CONSTRUCTED:
            lines.append(self.constructor(mirror, found["__init__"]))
        where = merged(mirror)
        for name, (kind, text) in mirror.fields.items():
            annotation = ast.parse(kind, mode="eval").body
            lines.append(
                f"    @property\n    def {name}(self) -> {self.annotation(where, annotation)}:\n"
                f'        """{text}"""\n'
                f"        return {self.wrapped(where, annotation, f'self._it.{name}')}\n"
            )
        for name, member in found.items():
            is_public = not name.startswith("_") or name in KEPT or name in PROTOCOL
            if is_public and name not in mirror.skip:
                lines.append(self.method(mirror, member))
        self.body.append("\n".join(line for line in lines if line))

    def constructor(self, mirror: Mirror, member: Member) -> str:
        declared, passed = self.parameters(member)
        kind = self.original(mirror)
        bridge = self.take(BRIDGE, "Bridge")
        head = f"    def __init__(self{', ' if declared else ''}{declared}) -> None:\n{docstring(member.fn, ' ' * 8)}"
        if mirror.base == "Opened":
            return f"{head}        it = {kind}({passed})\n        super().__init__(it, {bridge}(it))\n"
        return f"{head}        super().__init__({kind}({passed}), {bridge}())\n"

    def text(self) -> str:
        lines = [f'"""{HEADERS[self.module]}\n\nWritten by tools/gen_sync.py: do not edit.\n"""\n']
        lines.append("from __future__ import annotations\n")
        for module, name in sorted(self.imports):
            lines.append(f"from {module} import {name}" if module else f"import {name}")
        return "\n".join(lines) + "\n\n\n" + "\n\n".join(self.body)


# Made by the user's own hand; all others come from a client.
CONSTRUCTED: Final = names("Client Trigger")
PROTOCOL: Final = names("__aenter__ __aexit__ __aiter__ __anext__")


def is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


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
    return ruff(path, ruff(path, text, "check", "--quiet", "--select", "I", "--fix"), "format")


def main() -> int:
    stale = []
    for module in sorted({mirror.into for mirror in MIRRORS}):
        path = target(module)
        text = formatted(path, generate(module))
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    for name in stale:
        print(f"{name} is not what tools/gen_sync.py writes: run python tools/gen_sync.py")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

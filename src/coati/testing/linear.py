"""Linearizability of single znodes without believing any zxid: the search of Wing and Gong, with Lowe's memory.

For small registers only: writes, the parts of multis and the reads behind a sync, at most MAX_OPERATIONS of MAX_CLIENTS
a path; the search gives up after MAX_STEPS. It finds a server that lies about its zxids, which `checkers.py` cannot.
What has no reply may take effect at any time after its call, or never; what was refused for a reason that is not in the
znode itself has changed nothing. A read behind a sync shows a state from the call of the sync on: no later one is
promised. Must not know logs, traces or zxids.
Sources: Wing and Gong (1993); Lowe, Testing for linearizability (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, TypeAlias

from coati import errors
from coati.errors import MarshallingError
from coati.testing.history import Operation, Story, Violation
from coati.testing.requests import WRITES, Write, read_write
from coati.wire import codes
from coati.wire.jute import Reader

MAX_OPERATIONS: Final = 100
MAX_CLIENTS: Final = 8
MAX_STEPS: Final = 20_000
_KINDS: Final = {
    codes.OP_CREATE: "create",
    codes.OP_CREATE2: "create",
    codes.OP_SET_DATA: "set",
    codes.OP_DELETE: "delete",
    codes.OP_CHECK: "check",
}
# What the znode itself explains.
TOLD: Final = (0, errors.NO_NODE, errors.NODE_EXISTS, errors.BAD_VERSION)
# How the results of a multi begin if there are none, or the first is an error.
_FAILED: Final = codes.OP_ERROR.to_bytes(4, "big", signed=True)
_VERSION_AT: Final = -36
_NEVER: Final = 1 << 62

# Data and version of the znode, or None where there is none.
Register: TypeAlias = tuple[bytes | None, int] | None


class Step:
    """One operation on a register: `kind` create, set, delete, check, read or multi; `err` is None without a reply.

    `shown` is what a read told; `version` what a write demanded, -1 for any; `parts` those of a multi on this register.
    """

    __slots__ = ("call", "data", "end", "err", "kind", "parts", "shown", "source", "version")

    def __init__(self, kind: str, call: int, end: int, err: int | None) -> None:
        self.kind = kind
        self.call = call
        self.end = end
        self.err = err
        self.data: bytes | None = None
        self.version = -1
        self.shown: Register = None
        self.parts: list[Step] = []
        self.source: object = None

    def __repr__(self) -> str:
        return f"{self.kind} -> {self.err}: {self.source}"


def apply(step: Step, state: Register) -> tuple[int, Register]:
    """Error and new state, if it takes effect now."""
    if step.kind == "multi":
        return _apply_all(step.parts, state)
    if step.kind == "create":
        return (errors.NODE_EXISTS, state) if state is not None else (0, (step.data, 0))
    if state is None:
        return errors.NO_NODE, None
    if step.kind == "read":
        return 0, state
    if step.version not in (-1, state[1]):
        return errors.BAD_VERSION, state
    if step.kind == "check":
        return 0, state
    return 0, (step.data, state[1] + 1) if step.kind == "set" else None


def _apply_all(parts: list[Step], state: Register) -> tuple[int, Register]:
    after = state
    for part in parts:
        err, after = apply(part, after)
        if err:
            return err, state
    return 0, after


def is_linear(steps: Sequence[Step], start: Register = None, max_steps: int = MAX_STEPS) -> bool | None:
    """Whether some order of the steps, within their times, explains all replies. None: gave up."""
    order = sorted(steps, key=lambda step: step.call)
    # Those without a reply need not take effect.
    needed = sum(1 << index for index, step in enumerate(order) if step.err is not None)
    seen: dict[tuple[int, Register], None] = {}
    todo: list[tuple[int, Register]] = [(0, start)]
    tried = 0
    while todo:
        done, state = todo.pop()
        if done & needed == needed:
            return True
        for index in reversed(_next_steps(order, done)):
            step = order[index]
            tried += 1
            if tried > max_steps:
                return None
            err, after = apply(step, state)
            if step.err is not None and (err != step.err or (step.kind == "read" and not err and step.shown != after)):
                continue
            key = (done | 1 << index, after)
            if key not in seen:
                seen[key] = None
                todo.append(key)
    return False


def _next_steps(order: Sequence[Step], done: int) -> list[int]:
    """Which may be the next: no other one that is left has returned before its call. Those that must come first."""
    known: list[int] = []
    unknown: list[int] = []
    first_end = _NEVER
    # What all before it have done is a run of ones at the low end.
    for index in range((~done & (done + 1)).bit_length() - 1, len(order)):
        step = order[index]
        if step.call > first_end:
            break
        if done >> index & 1:
            continue
        if step.err is None:
            unknown.append(index)
        else:
            known.append(index)
            first_end = min(first_end, step.end)
    return known + unknown


def check_registers(story: Story, dice: Random, *, samples: int = 20) -> list[Violation]:
    """Some of the paths, from their first operation on; W3 or R4 if one fails.

    A path's steps are taken up to MAX_OPERATIONS: what is cut off behind can only have come later, but for what was
    in flight then, which is kept as unknown.
    """
    registers = _collect(story)
    found = []
    paths = sorted(registers)
    for path in dice.sample(paths, min(samples, len(paths))):
        violation = check_register(path, registers[path])
        if violation is not None:
            found.append(violation)
    return found


def check_register(path: bytes, steps: list[Step]) -> Violation | None:
    """One path; what its first reader or writer found is nothing."""
    steps = _cut(steps)
    if is_linear(steps) is not False:
        return None
    writes = [step for step in steps if step.kind != "read"]
    id_ = "R4" if is_linear(writes) else "W3"
    text = f"no order of its {len(steps)} operations explains what was told of {path!r}"
    return Violation(id_, text, [step.source for step in steps[-10:]])


def _cut(steps: list[Step]) -> list[Step]:
    steps.sort(key=lambda step: step.call)
    kept = steps[:MAX_OPERATIONS]
    if len(steps) > len(kept):
        limit = steps[len(kept)].call
        # Something that is cut off may have come before what was in flight; and a read that may be of later is none.
        kept = [step for step in kept if step.end < limit or step.kind != "read"]
        for step in kept:
            if step.end >= limit:
                step.err = None
    return kept


def _collect(story: Story) -> dict[bytes, list[Step]]:
    """The steps by path; without those paths that something else changes, or more than MAX_CLIENTS use."""
    registers: dict[bytes, list[Step]] = {}
    users: dict[bytes, dict[int, None]] = {}
    spoilt: dict[bytes, None] = {}
    synced: dict[int, Operation] = {}
    prefixes: dict[bytes, None] = {}
    for operation in story.operations:
        call = operation.call
        if call.op == codes.OP_SYNC:
            synced[call.conn] = operation
            continue
        sync = synced.pop(call.conn, None)
        if call.op == codes.OP_GET_DATA:
            found = _read_step(operation, sync)
        else:
            found = _write_steps(operation, prefixes)
        for path, step in found:
            if step is None:
                spoilt[path] = None
                continue
            step.source = operation
            registers.setdefault(path, []).append(step)
            users.setdefault(path, {})[call.session_id] = None
    return {
        path: steps
        for path, steps in registers.items()
        if path not in spoilt and path[:-10] not in prefixes and len(users[path]) <= MAX_CLIENTS
    }


def _read_step(operation: Operation, sync: Operation | None) -> list[tuple[bytes, Step | None]]:
    end = operation.end
    if sync is None or sync.end is None or sync.end.err or end is None or end.err not in (0, errors.NO_NODE):
        return []
    step = Step("read", sync.at, operation.until, end.err)
    try:
        path = Reader(operation.call.body).path()
        if not end.err:
            version = int.from_bytes(end.body[_VERSION_AT : _VERSION_AT + 4], "big", signed=True)
            step.shown = (Reader(end.body).buffer(), version)
    except MarshallingError:
        return []
    return [(path, step)]


def _write_steps(operation: Operation, prefixes: dict[bytes, None]) -> list[tuple[bytes, Step | None]]:
    """What it does to which paths; None: something that this search does not understand."""
    call, end = operation.call, operation.end
    write = read_write(call.op, call.body) if call.op in WRITES else None
    if write is None:
        return []
    until = operation.until if end is not None else _NEVER
    err = end.err if end is not None else None
    if call.op != codes.OP_MULTI:
        if err is not None and err not in TOLD:
            # Refused for what is not in the znode itself: nothing was done.
            return []
        return _part_of(write, Step("", operation.at, until, err), prefixes)
    if end is not None and (end.err or end.body[:4] == _FAILED):
        return []
    multis: dict[bytes, Step] = {}
    found: list[tuple[bytes, Step | None]] = []
    for part in write.parts:
        for path, step in _part_of(part, Step("", operation.at, until, err), prefixes):
            if step is None:
                found.append((path, None))
                continue
            if path not in multis:
                multis[path] = Step("multi", operation.at, until, err)
                found.append((path, multis[path]))
            multis[path].parts.append(step)
    return found


def _part_of(write: Write, step: Step, prefixes: dict[bytes, None]) -> list[tuple[bytes, Step | None]]:
    kind = _KINDS.get(write.op)
    if kind is None or (kind == "create" and write.flags == codes.FLAG_EPHEMERAL):
        # Ephemerals, containers and TTLs go without a request.
        return [(write.path, None)] if write.acl is not None and write.op != codes.OP_SET_ACL else []
    if kind == "create" and write.flags:
        # It made some name with a number behind this.
        prefixes[write.path] = None
        return []
    if kind == "create" and step.err == errors.NO_NODE:
        # It is the parent that is not there.
        return []
    step.kind, step.data, step.version = kind, write.data, write.version
    return [(write.path, step)]

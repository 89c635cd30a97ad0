"""Linearizability of single znodes without believing any zxid: the search of Wing and Gong, with Lowe's memory.

For small registers only: writes and the reads behind a sync, at most MAX_OPERATIONS of MAX_CLIENTS a path; the search
gives up after MAX_STEPS. It finds a server that lies about its zxids, which `checkers.py` cannot. What has no reply may
take effect at any time after its call, or never. Must not know logs, traces or zxids.
Sources: Wing and Gong (1993); Lowe, Testing for linearizability (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, TypeAlias

from coati import errors
from coati.errors import MarshallingError
from coati.testing.history import Line, Operation, Story, Violation
from coati.testing.requests import read_write
from coati.wire import codes
from coati.wire.jute import Reader

MAX_OPERATIONS: Final = 100
MAX_CLIENTS: Final = 8
MAX_STEPS: Final = 200_000
_WRITES: Final = (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_SET_DATA, codes.OP_DELETE)
_VERSION_AT: Final = -36
_NEVER: Final = 1 << 62

# Data and version of the znode, or None where there is none.
Register: TypeAlias = tuple[bytes | None, int] | None


class Step:
    """One operation on a register: `kind` create, set, delete or read; `err` is None where no reply came.

    `shown` is what a read told; `version` what a write demanded, -1 for any.
    """

    __slots__ = ("call", "data", "end", "err", "kind", "shown", "source", "version")

    def __init__(self, kind: str, call: int, end: int, err: int | None) -> None:
        self.kind = kind
        self.call = call
        self.end = end
        self.err = err
        self.data: bytes | None = None
        self.version = -1
        self.shown: Register = None
        self.source: object = None


def apply(step: Step, state: Register) -> tuple[int, Register]:
    """Error and new state, if it takes effect now."""
    if step.kind == "create":
        return (errors.NODE_EXISTS, state) if state is not None else (0, (step.data, 0))
    if state is None:
        return errors.NO_NODE, None
    if step.kind == "read":
        return 0, state
    if step.version not in (-1, state[1]):
        return errors.BAD_VERSION, state
    return 0, (step.data, state[1] + 1) if step.kind == "set" else None


def is_linear(steps: Sequence[Step], start: Register = None, max_steps: int = MAX_STEPS) -> bool | None:
    """Whether some order of the steps, within their times, explains all replies. None: gave up."""
    order = sorted(steps, key=lambda step: step.call)
    every = (1 << len(order)) - 1
    # Those without a reply need not take effect.
    needed = sum(1 << index for index, step in enumerate(order) if step.err is not None)
    seen: dict[tuple[int, Register], None] = {}
    todo: list[tuple[int, Register]] = [(0, start)]
    tried = 0
    while todo:
        done, state = todo.pop()
        if done & needed == needed:
            return True
        left = every & ~done
        first_end = min(order[index].end for index in _bits(left) if order[index].err is not None)
        for index in _bits(left):
            step = order[index]
            if step.call > first_end:
                break
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


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def check_registers(lines: Sequence[Line], dice: Random, *, samples: int = 20) -> list[Violation]:
    """Some of the paths that are written by plain requests alone, from their first operation on; W3 or R4 if one fails.

    A path's steps are taken up to MAX_OPERATIONS: what is cut off behind can only have come later, but for what was
    in flight then, which is kept as unknown.
    """
    story = Story(lines)
    registers = _collect(story)
    found = []
    paths = sorted(registers)
    for path in dice.sample(paths, min(samples, len(paths))):
        steps = _cut(registers[path])
        if is_linear(steps) is False:
            writes = [step for step in steps if step.kind != "read"]
            id_ = "R4" if is_linear(writes) else "W3"
            text = f"no order of its {len(steps)} operations explains what was told of {path!r}"
            found.append(Violation(id_, text, [step.source for step in steps[-10:]]))
    return found


def _cut(steps: list[Step]) -> list[Step]:
    steps.sort(key=lambda step: step.call)
    kept = steps[:MAX_OPERATIONS]
    if len(steps) > len(kept):
        limit = steps[len(kept)].call
        for step in kept:
            if step.end >= limit:
                # Something that is cut off may have come before it.
                step.err = None
    return kept


def _collect(story: Story) -> dict[bytes, list[Step]]:
    """The steps by path; without those paths that something else changes, or more than MAX_CLIENTS use."""
    registers: dict[bytes, list[Step]] = {}
    users: dict[bytes, dict[int, None]] = {}
    spoilt: dict[bytes, None] = {}
    synced: dict[int, None] = {}
    prefixes: dict[bytes, None] = {}
    for operation in story.operations:
        call = operation.call
        if call.op == codes.OP_SYNC:
            synced[call.conn] = None
            continue
        is_behind_sync = call.conn in synced
        synced.pop(call.conn, None)
        if call.op in (codes.OP_CREATE, codes.OP_CREATE2):
            write = read_write(call.op, call.body)
            if write is not None and write.flags & 2:
                # It made some name with a number behind this.
                prefixes[write.path] = None
        for path, step in _steps_of(operation, is_behind_sync):
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


def _steps_of(operation: Operation, is_behind_sync: bool) -> list[tuple[bytes, Step | None]]:
    call, end = operation.call, operation.end
    until = operation.until if end is not None else _NEVER
    err = end.err if end is not None else None
    if call.op == codes.OP_GET_DATA:
        if not is_behind_sync or end is None or err not in (0, errors.NO_NODE):
            return []
        return _read_step(operation, Step("read", operation.at, until, err), end.body)
    if call.op == codes.OP_MULTI:
        write = read_write(call.op, call.body)
        return [(part.path, None) for part in write.parts] if write is not None else []
    if call.op not in _WRITES:
        return []
    write = read_write(call.op, call.body)
    if write is None:
        return []
    kinds = {codes.OP_SET_DATA: "set", codes.OP_DELETE: "delete"}
    step = Step(kinds.get(call.op, "create"), operation.at, until, err)
    step.data, step.version = write.data, write.version
    # Ephemerals go without a request, and a refusal may be about the parent.
    is_plain = not write.flags and err in (None, 0, errors.NO_NODE, errors.NODE_EXISTS, errors.BAD_VERSION)
    if write.flags not in (0, 1) or (step.kind == "create" and err == errors.NO_NODE):
        return []
    return [(write.path, step if is_plain else None)]


def _read_step(operation: Operation, step: Step, body: bytes) -> list[tuple[bytes, Step | None]]:
    try:
        path = Reader(operation.call.body).path()
        if not step.err:
            version = int.from_bytes(body[_VERSION_AT : _VERSION_AT + 4], "big", signed=True)
            step.shown = (Reader(body).buffer(), version)
    except MarshallingError:
        return []
    return [(path, step)]

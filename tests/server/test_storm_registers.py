"""The registers of a storm: what was told in some order passes, and a stale read behind a sync does not."""

from __future__ import annotations

from random import Random

from tools.storm_registers import OPERATIONS, Registers
from tools.tree_model import NO_NODE, NODE_EXISTS, NOT_EMPTY, OK, Stat, Write

PATH = b"/s/r0"
ALICE, BOB = 1, 2


def stat(version: int) -> Stat:
    return (0, 0, 0, 0, version, 0, 0, 0, 0, 0, 0)


class Talk:
    """Clients of which each is answered at once, or later."""

    def __init__(self) -> None:
        self.registers = Registers()
        self.xid = 0

    def call(self, who: int, kind: str, data: bytes = b"", version: int = -1) -> int:
        self.xid += 1
        self.registers.called(who, self.xid, Write(kind, PATH, data, version))
        return self.xid

    def do(self, who: int, kind: str, data: bytes = b"", version: int = -1, *, err: int = OK) -> None:
        self.registers.returned(who, self.call(who, kind, data, version), err)

    def look(self, who: int, data: bytes, version: int, *, err: int = OK) -> None:
        self.registers.returned(who, self.call(who, "look"), err, None if err else (data, stat(version)))


def begun() -> Talk:
    talk = Talk()
    talk.look(BOB, b"", 0, err=NO_NODE)
    talk.do(ALICE, "create", b"old")
    talk.do(BOB, "create", b"x", err=NODE_EXISTS)
    talk.do(BOB, "delete", err=NOT_EMPTY)
    return talk


def test_what_has_an_order_passes() -> None:
    talk = begun()
    lost = talk.call(ALICE, "set", b"new")
    talk.look(BOB, b"new", 1)
    talk.registers.returned(ALICE, lost, OK)
    # No reply: it may come still.
    talk.call(ALICE, "delete")
    talk.look(BOB, b"new", 1)
    talk.look(BOB, b"", 0, err=NO_NODE)
    assert talk.registers.faults() == []


def test_a_stale_read_behind_a_sync_is_told() -> None:
    talk = begun()
    talk.do(ALICE, "set", b"new", 0)
    talk.look(BOB, b"old", 0)
    (fault,) = talk.registers.faults()
    assert fault.startswith("R4")


def test_an_acknowledged_write_that_is_gone_is_told() -> None:
    talk = begun()
    talk.do(ALICE, "set", b"new", 0)
    talk.do(BOB, "set", b"other", 0)
    (fault,) = talk.registers.faults()
    assert fault.startswith("W3")


def test_each_register_gets_as_much_as_the_search_can_take() -> None:
    registers, dice = Registers(), Random(1)
    for xid in range(3 * OPERATIONS):
        registers.called(ALICE, xid, registers.draw(dice, b"data"))
    assert [len(steps) for steps in registers.steps.values()] == [OPERATIONS] * 3
    assert {step.kind for step in registers.steps[PATH]} == {"create", "set", "delete", "read"}

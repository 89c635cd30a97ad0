"""The numbers of the protocol are those of a running Java: ZooDefs, KeeperException.Code, Watcher, CreateMode."""

from __future__ import annotations

import json
import re

from coati import errors
from coati.wire import codes
from tests.wire.wirepeer import FIXTURES

JAVA: dict[str, dict[str, int]] = json.loads((FIXTURES / "java_codes.json").read_text())
ERROR_CLASSES = vars(errors)["_BY_CODE"]


def constants(module: object, prefix: str = "") -> dict[str, int]:
    """The upper-case ints of a module whose name starts with the prefix, without it."""
    found = {}
    for name, value in vars(module).items():
        if name.isupper() and name.startswith(prefix) and type(value) is int:
            found[name.removeprefix(prefix)] = value
    return found


def upper(name: str) -> str:
    """getACL -> GET_ACL, createTTL -> CREATE_TTL."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def test_opcodes() -> None:
    assert constants(codes, "OP_") == {upper(name): number for name, number in JAVA["OpCode"].items()}
    assert {name: number for number, name in codes.OP_NAMES.items()} == JAVA["OpCode"]


def test_permissions() -> None:
    assert constants(codes, "PERM_") == JAVA["Perms"]


def test_create_flags() -> None:
    assert constants(codes, "FLAG_") == JAVA["CreateMode"]


def test_watch_modes() -> None:
    assert constants(codes, "WATCH_MODE_") == JAVA["AddWatchMode"]


def test_watcher_types() -> None:
    assert constants(codes, "WATCHER_") == {upper(name): number for name, number in JAVA["WatcherType"].items()}


def test_event_types() -> None:
    ours = {name.replace("_", ""): number for name, number in constants(codes, "EVENT_").items()}
    assert ours == {name.removeprefix("Node").upper(): number for name, number in JAVA["EventType"].items()}


def test_keeper_states() -> None:
    ours = {name.replace("_", ""): number for name, number in constants(codes, "STATE_").items()}
    java = {name.upper(): number for name, number in JAVA["KeeperState"].items()}
    # Both are deprecated and never sent.
    assert (java.pop("UNKNOWN"), java.pop("NOSYNCCONNECTED")) == (-1, 1)
    assert ours == java


def test_error_codes() -> None:
    ours = {name.replace("_", ""): number for name, number in constants(errors).items()}
    assert ours == JAVA["Code"]


def test_special_xids() -> None:
    # ClientCnxn: NOTIFICATION_XID, PING_XID, AUTHPACKET_XID, SET_WATCHES_XID.
    assert constants(codes, "XID_") == {"NOTIFICATION": -1, "PING": -2, "AUTH": -4, "SET_WATCHES": -8}


def test_stored_owners() -> None:
    # EphemeralType: CONTAINER_EPHEMERAL_OWNER, EXTENDED_MASK and the 40 bits of a TTL.
    assert codes.OWNER_CONTAINER & (1 << 64) - 1 == 0x8000000000000000
    assert codes.OWNER_TTL_MASK & (1 << 64) - 1 == 0xFF00000000000000
    assert codes.TTL_MAX_MS == 1099511627775
    assert codes.MAX_BUFFER_BYTES == 1048575

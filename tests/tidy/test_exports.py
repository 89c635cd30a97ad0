"""The front door: its names are a promise, so a new or lost one is a decision that shows here."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import coati
from tests.tidy.source import SOURCE

PROMISED = [
    "ACL",
    "ACLs",
    "ANY",
    "AclInfo",
    "Assignment",
    "Auth",
    "AuthFailed",
    "BYTES",
    "BadArguments",
    "BadVersion",
    "CREATOR",
    "Candidate",
    "Change",
    "Check",
    "Children",
    "Client",
    "ClientClosed",
    "ClientInfo",
    "Codec",
    "ConfigError",
    "ConnectionLoss",
    "Contender",
    "Create",
    "DecodeError",
    "Delete",
    "Digest",
    "DnsSrv",
    "EnsembleConfig",
    "EphemeralOnLocalSession",
    "Event",
    "EventType",
    "ExclusiveLock",
    "ForkedClient",
    "Get",
    "Held",
    "Holder",
    "Host",
    "HostLookup",
    "HostProvider",
    "InvalidACL",
    "Item",
    "JSON",
    "KEEP",
    "KeeperError",
    "KeyState",
    "LeadershipLost",
    "Lock",
    "LockLost",
    "LockTimeout",
    "MarshallingError",
    "Membership",
    "Mode",
    "MultiError",
    "MultiHeld",
    "MultiLock",
    "NewConfigNoQuorum",
    "NoAuth",
    "NoChildrenForEphemerals",
    "NoNode",
    "NoWatcher",
    "Node",
    "NodeExists",
    "NotEmpty",
    "NotReadOnly",
    "OPEN",
    "Op",
    "OpResult",
    "OperationTimeout",
    "Perm",
    "ProtocolError",
    "Quota",
    "QuotaExceeded",
    "QuotaView",
    "READ_ONLY",
    "RWLock",
    "ReadResult",
    "ReconfigDisabled",
    "ReconfigInProgress",
    "Retry",
    "SaslDigest",
    "Semaphore",
    "SessionClosedRequireSaslAuth",
    "SessionExpired",
    "SessionMoved",
    "SessionToken",
    "Set",
    "Stat",
    "State",
    "StateChange",
    "StorageCorrupt",
    "StorageFailed",
    "Stream",
    "TEXT",
    "TLS",
    "Term",
    "Throttled",
    "Transaction",
    "TreeCache",
    "Trigger",
    "TypedClient",
    "TypedNode",
    "USE_SESSION",
    "Unimplemented",
    "UpgradableHeld",
    "Usage",
    "ValueCodec",
    "Versioned",
    "Watch",
    "WatchMode",
    "WriteHeld",
    "ZKError",
    "__version__",
    "acl",
    "digest_id",
    "json_codec",
    "msgspec_codec",
    "pydantic_codec",
]


def names_bound(tree: ast.Module) -> list[str]:
    """What type checkers see: the imports at the top of a module, and those under TYPE_CHECKING."""
    names = []
    for node in tree.body:
        block = node.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name) else [node]
        for statement in block:
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("coati"):
                names += [alias.asname or alias.name for alias in statement.names]
    return names


def front_door() -> ast.Module:
    return ast.parse((SOURCE / "coati" / "__init__.py").read_text(encoding="utf-8"))


def test_the_front_door_exports_what_was_promised() -> None:
    assert sorted(coati.__all__) == PROMISED
    assert [name for name in coati.__all__ if not hasattr(coati, name)] == []


def test_type_checkers_see_what_the_front_door_leads_to() -> None:
    assert sorted([*names_bound(front_door()), "__version__"]) == PROMISED
    for node in ast.walk(front_door()):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coati"):
            module = importlib.import_module(node.module or "")
            shown = [alias for alias in node.names if alias.asname is None]
            assert all(getattr(coati, alias.name) is getattr(module, alias.name) for alias in shown)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'coati' has no attribute 'nothing'"):
        getattr(coati, "no" + "thing")


def test_the_front_door_is_light() -> None:
    code = "import sys, coati; print(*(name for name in sys.modules if name == 'asyncio' or name.startswith('coati.')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.split() == ["coati.door"]


def test_names_bound_sees_a_stray_name() -> None:
    source = "if TYPE_CHECKING:\n    from coati.errors import ZKError as Z\nfrom typing import Final"
    assert names_bound(ast.parse(source)) == ["Z"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(coati.__file__).parent / "py.typed").exists()

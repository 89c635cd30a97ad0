"""The front door: its names are a promise, so a new or lost one is a decision that shows here."""

from __future__ import annotations

import ast
from pathlib import Path

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
    "BadArguments",
    "BadVersion",
    "CREATOR",
    "Candidate",
    "Check",
    "Children",
    "Client",
    "ClientClosed",
    "ClientInfo",
    "ConfigError",
    "ConnectionLoss",
    "Create",
    "Delete",
    "Digest",
    "EnsembleConfig",
    "EphemeralOnLocalSession",
    "Event",
    "EventType",
    "ForkedClient",
    "Get",
    "Held",
    "Holder",
    "Host",
    "HostProvider",
    "InvalidACL",
    "Item",
    "KEEP",
    "KeeperError",
    "KeyState",
    "LeadershipLost",
    "LockLost",
    "LockTimeout",
    "MarshallingError",
    "Membership",
    "Mode",
    "MultiError",
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
    "QuotaExceeded",
    "READ_ONLY",
    "ReadResult",
    "ReconfigDisabled",
    "ReconfigInProgress",
    "Retry",
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
    "TLS",
    "Term",
    "Throttled",
    "Transaction",
    "Trigger",
    "USE_SESSION",
    "Unimplemented",
    "ValueCodec",
    "Versioned",
    "Watch",
    "WatchMode",
    "ZKError",
    "__version__",
    "acl",
    "digest_id",
]


def names_bound(tree: ast.Module) -> list[str]:
    """What the imports and assignments at the top of a module bind."""
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def front_door() -> ast.Module:
    return ast.parse((SOURCE / "coati" / "__init__.py").read_text(encoding="utf-8"))


def test_the_front_door_exports_what_was_promised() -> None:
    assert sorted(coati.__all__) == PROMISED
    assert [name for name in coati.__all__ if not hasattr(coati, name)] == []


def test_the_front_door_binds_nothing_it_does_not_export() -> None:
    assert sorted(names_bound(front_door())) == sorted([*PROMISED, "__all__"])


def test_the_front_door_holds_no_code() -> None:
    kinds = [type(node) for node in front_door().body]
    assert kinds[0] is ast.Expr
    assert set(kinds[1:]) <= {ast.ImportFrom, ast.Assign}


def test_names_bound_sees_a_stray_name() -> None:
    assert names_bound(ast.parse("from coati.errors import ZKError as Z\nx = 1")) == ["Z", "x"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(coati.__file__).parent / "py.typed").exists()

"""`coati errors`: what each error means, whether to repeat the request, and what to do about it.

Knows the errors by name and number, and in which exit code each ends; must not know servers. `explain` in the shell
uses the same words.
"""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Final, NamedTuple

from coati import errors
from coati.cli import exits
from coati.cli.command import Call, Command
from coati.cli.exits import USAGE, CommandError, code_of


class Help(NamedTuple):
    """`name` is the class's, or Java's where we have none; `repeat` says whether the same request may be sent again."""

    name: str
    meaning: str
    repeat: str
    advice: str


_LOST: Final = "only if it was no write, or you have read what became of it"

BY_CODE: Final[dict[int, Help]] = {
    errors.OK: Help("OK", "It was done.", "not needed", "Nothing."),
    errors.SYSTEM_ERROR: Help(
        "SystemError", "The server failed in a way it has no other code for.", "with care",
        "Look into the server's log at this time; read what became of a write before it is repeated.",
    ),
    errors.RUNTIME_INCONSISTENCY: Help(
        "RuntimeInconsistency", "Another operation of the same multi failed, so this one was not reached.", "no",
        "Look at the operation that failed first; none of the multi was done.",
    ),
    errors.DATA_INCONSISTENCY: Help(
        "DataInconsistency", "The server found its data in a state that should not be.", "no",
        "Compare the servers (coati doctor); restore the one at fault from its peers.",
    ),
    errors.CONNECTION_LOSS: Help(
        "ConnectionLoss", "The connection went before the answer came.", _LOST,
        "The client finds another server by itself. After a write: read, then decide.",
    ),
    errors.MARSHALLING_ERROR: Help(
        "MarshallingRefused", "The server could not read the request, or we could not read the answer.", "no",
        "Larger than jute.maxbuffer (1 MB)? Of a version that the other side does not know? Else report it.",
    ),
    errors.UNIMPLEMENTED: Help(
        "Unimplemented", "The server does not have this operation.", "no",
        "It is older than the operation, or has it switched off (TTLs: extendedTypesEnabled). See coati status.",
    ),
    errors.OPERATION_TIMEOUT: Help(
        "OperationTimeout", "No answer within the time allowed.", _LOST,
        "Is the server reachable and has it a quorum? coati status, coati 4lw ruok; --timeout gives more time.",
    ),
    errors.BAD_ARGUMENTS: Help(
        "BadArguments", "A path, flag or value breaks the rules.", "no",
        "Paths begin with /, do not end with it, and have no empty, . or .. part.",
    ),
    errors.UNKNOWN_SESSION: Help(
        "UnknownSession", "The server knows no such session.", "no", "Connect anew; what was ephemeral has gone.",
    ),
    errors.NEW_CONFIG_NO_QUORUM: Help(
        "NewConfigNoQuorum", "No quorum of the new configuration is in sync with the leader.", "yes, when it is",
        "Start the new servers and wait until they follow, then repeat.",
    ),
    errors.RECONFIG_IN_PROGRESS: Help(
        "ReconfigInProgress", "Another reconfiguration is under way.", "yes, when it is done",
        "Wait; look at coati config show before the next one.",
    ),
    errors.API_ERROR: Help(
        "APIError", "The border below which errors are the server's answers; none is sent with it.", "no", "Report it.",
    ),
    errors.NO_NODE: Help(
        "NoNode", "The znode, or the parent of the one to create, is not there.", "no, until it is made",
        "Look with coati ls; coati create -p makes parents. Below a chroot, is the root itself there?",
    ),
    errors.NO_AUTH: Help(
        "NoAuth", "The ACL does not permit it.", "no, not as the same identity",
        "coati acl get shows who may; --auth or COATI_AUTH says who you are; coati auth whoami shows it.",
    ),
    errors.BAD_VERSION: Help(
        "BadVersion", "Somebody else changed it since the version that was expected.", "no: read again first",
        "Read it, decide anew, and write with the version that was read.",
    ),
    errors.NO_CHILDREN_FOR_EPHEMERALS: Help(
        "NoChildrenForEphemerals", "An ephemeral znode cannot be a parent.", "no",
        "Put the child beside it, or below a persistent znode.",
    ),
    errors.NODE_EXISTS: Help(
        "NodeExists", "The znode is there already.", "no",
        "It may be your own, from a create whose answer was lost: compare its data and owner.",
    ),
    errors.NOT_EMPTY: Help(
        "NotEmpty", "The znode to delete has children.", "no, until they are gone", "coati rm -r deletes the subtree.",
    ),
    errors.SESSION_EXPIRED: Help(
        "SessionExpired", "The session is over: its ephemerals and watches are gone.", "yes, in a new session",
        "Connect anew and make again what was ephemeral. Often the client paused longer than its session timeout.",
    ),
    errors.INVALID_CALLBACK: Help(
        "InvalidCallback", "A client library was given a callback it cannot use.", "no", "Report it to its maker.",
    ),
    errors.INVALID_ACL: Help(
        "InvalidACL", "The ACL is empty, malformed, or names nobody.", "no",
        "It reads scheme:id:perms, as world:anyone:r; auth::cdrwa needs an identity (--auth).",
    ),
    errors.AUTH_FAILED: Help(
        "AuthFailed", "The credentials were refused.", "no",
        "Check scheme, user and password; does the server have the scheme? It closes the connection after this.",
    ),
    errors.SESSION_MOVED: Help(
        "SessionMoved", "The session lives on another connection now.", "yes",
        "The client goes on by itself; if it recurs, two processes use one session.",
    ),
    errors.NOT_READ_ONLY: Help(
        "NotReadOnly", "A write was sent to a server that has lost its quorum.", "yes, elsewhere or later",
        "Bring back a majority of servers (coati status), or leave --read-only out.",
    ),
    errors.EPHEMERAL_ON_LOCAL_SESSION: Help(
        "EphemeralOnLocalSession", "A local session cannot own ephemerals.", "no",
        "The server has localSessionsEnabled without localSessionsUpgradingEnabled.",
    ),
    errors.NO_WATCHER: Help("NoWatcher", "There is no such watch to remove or check.", "no", "Nothing is left to do."),
    errors.REQUEST_TIMEOUT: Help(
        "RequestTimeout", "A request was not answered in time.", _LOST, "As OperationTimeout.",
    ),
    errors.RECONFIG_DISABLED: Help(
        "ReconfigDisabled", "Dynamic reconfiguration is switched off.", "no",
        "Set reconfigEnabled=true in zoo.cfg of all servers and restart them one by one.",
    ),
    errors.SESSION_CLOSED_REQUIRE_SASL_AUTH: Help(
        "SessionClosedRequireSaslAuth", "The server demands authentication before anything else.", "no",
        "Authenticate with a scheme that it enforces (enforce.auth.schemes).",
    ),
    errors.QUOTA_EXCEEDED: Help(
        "QuotaExceeded", "A hard quota forbids it.", "no, until there is room",
        "coati quota ls shows limits and usage.",
    ),
    errors.THROTTLED_OP: Help(
        "Throttled", "The server is overloaded and dropped the request unexecuted.", "yes, later",
        "coati status shows latency and what waits; slow down, or raise requestThrottleLimit.",
    ),
}  # fmt: skip
"""By the numbers of the wire."""

BY_NAME: Final[dict[str, Help]] = {
    "ClientClosed": Help(
        "ClientClosed", "The client was closed, or never started; nothing was sent.", "yes, with an open client",
        "In the shell: connect HOST:PORT.",
    ),
    "LockTimeout": Help(
        "LockTimeout", "The lock was not free within the given time; nothing of the attempt is left.", "yes",
        "coati who PATH shows who holds it.",
    ),
    "LockLost": Help(
        "LockLost", "The lock is no longer certainly held: the session's time ran out, or its znode is gone.",
        "yes, as a new attempt", "What was done since then may overlap with the next holder: use a fence.",
    ),
    "LeadershipLost": Help(
        "LeadershipLost", "The office is no longer certainly held.", "yes, as a new candidate", "As LockLost.",
    ),
    "DecodeError": Help(
        "DecodeError", "The data of a znode is not what its reader expects.", "no", "coati get PATH shows the bytes.",
    ),
    "MarshallingError": Help(
        "MarshallingError", "Bytes that are not the record they should be.", "no", "Does ZooKeeper listen there?",
    ),
    "ProtocolError": Help(
        "ProtocolError", "The peer broke the protocol; its connection was closed.", "no",
        "Is it a ZooKeeper client port, and TLS on both sides or on none?",
    ),
    "ForkedClient": Help(
        "ForkedClient", "This process is a fork of the one that opened the client; nothing was sent.", "no",
        "Open a client after the fork.",
    ),
    "StorageCorrupt": Help(
        "StorageCorrupt", "A file on disk is damaged before its tail; the server does not start.", "no",
        "coati log verify and coati snap verify say where; restore from a peer or a snapshot.",
    ),
    "StorageFailed": Help(
        "StorageFailed", "A write or fsync failed; the server ended.", "no", "Look at the disk: space, health, log.",
    ),
    "ConfigError": Help(
        "ConfigError", "The configuration cannot be used.", "no", "coati check-config zoo.cfg names key and line.",
    ),
}  # fmt: skip
"""Of the client and the server themselves; they have no number."""

EXITS: Final[dict[int, str]] = {
    exits.BUG: "a fault of coati's own: please report it",
    exits.USAGE: "the command was not understood",
    exits.NO_CONNECTION: "no server answered, or not in time; the message says if a write may have been applied",
    exits.MISSING: "a znode is not there",
    exits.CONFLICT: "it is there already, has another version, or is not empty",
    exits.NOT_AUTHORISED: "the ACL or the credentials do not permit it",
    exits.REFUSED: "refused by policy: read-only, protected, over quota, or not confirmed",
    exits.LOST: "the session, a lock or an office was lost meanwhile",
    exits.CHECK_FAILED: "a check did not pass, or a wait was in vain",
    exits.INTERRUPTED: "interrupted",
}
"""What the exit codes say."""


def found(asked: str) -> tuple[int | None, Help] | None:
    """By number (with its sign or without) or name, however it is spelt: -101, 101, NoNode, NONODE, no_node."""
    if re.fullmatch(r"[+-]?\d{1,9}", asked):
        code = -abs(int(asked))
        return (code, BY_CODE[code]) if code in BY_CODE else None
    name = _plain(asked)
    for code, one in BY_CODE.items():
        if _plain(one.name) == name:
            return code, one
    return next(((None, one) for one in BY_NAME.values() if _plain(one.name) == name), None)


def help_of(error: BaseException) -> tuple[int | None, Help] | None:
    """For an error that was raised; None for what is no error of ours."""
    code = error.code if isinstance(error, errors.KeeperError) else None
    if code is not None:
        return (code, BY_CODE[code]) if code in BY_CODE else None
    return next((one for kind in type(error).__mro__ if (one := found(kind.__name__)) is not None), None)


def exit_code(name: str, code: int | None) -> int:
    """What a command ends with."""
    if code is None or name in ("ConnectionLoss", "OperationTimeout"):
        kind: type[BaseException] = getattr(errors, name)
        return code_of(kind.__new__(kind))
    return 0 if code == errors.OK else code_of(errors.keeper_error(code))


def _plain(name: str) -> str:
    plain = re.sub("[^a-z0-9]", "", name.lower())
    return plain.removeprefix("zookeeper").removesuffix("exception")


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("error", nargs="?", metavar="CODE|NAME", help="-101, 101, NoNode, NONODE; without one: all")


def _errors(call: Call) -> None:
    asked = call.options.error
    if asked is None:
        with call.out.table("code", "name", "exit", "repeat", "meaning") as table:
            for code, one in [*BY_CODE.items(), *((None, one) for one in BY_NAME.values())]:
                table.row(code, one.name, exit_code(one.name, code), one.repeat, one.meaning)
        return
    answer = found(asked)
    if answer is None:
        names = [one.name for one in (*BY_CODE.values(), *BY_NAME.values())]
        near = difflib.get_close_matches(asked, names, 1)
        raise CommandError(f"there is no error {asked!r}" + (f"; is it {near[0]} you mean?" if near else ""), USAGE)
    code, one = answer
    call.out.record(
        {"code": code, "name": one.name, "meaning": one.meaning, "repeat": one.repeat, "advice": one.advice,
         "exit": exit_code(one.name, code)}
    )  # fmt: skip


ERRORS = Command(
    "errors", _flags, _errors,
    "  coati errors                # all of them\n  coati errors NoNode\n  coati errors -- -101",
)  # fmt: skip

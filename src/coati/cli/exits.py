"""What the process's exit code says, and which error ends in which.

Scripts depend on these numbers; they are in docs/cli.md.
"""

from __future__ import annotations

from typing import Final

from coati import errors

DONE: Final = 0
BUG: Final = 1
USAGE: Final = 2
NO_CONNECTION: Final = 3
MISSING: Final = 4
CONFLICT: Final = 5
NOT_AUTHORISED: Final = 6
REFUSED: Final = 7
LOST: Final = 8
CHECK_FAILED: Final = 9
SIGNAL: Final = 128
"""And the number of the signal that ended a child, or us."""
INTERRUPTED: Final = SIGNAL + 2
BROKEN_PIPE: Final = SIGNAL + 13

# The first class that fits.
_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.LockTimeout, CHECK_FAILED),
    (errors.LockLost, LOST),
    (errors.OperationTimeout, NO_CONNECTION),
    (errors.ConnectionLoss, NO_CONNECTION),
    (errors.ClientClosed, NO_CONNECTION),
    (errors.ProtocolError, NO_CONNECTION),
    (errors.MarshallingError, USAGE),
    (errors.ConfigError, USAGE),
    (errors.DecodeError, CHECK_FAILED),
    (errors.StorageCorrupt, CHECK_FAILED),
    (errors.StorageFailed, CHECK_FAILED),
    (OSError, NO_CONNECTION),
)
# What the server said: a multi that was refused ends like the operation that was at fault.
_ANSWERS: Final[dict[int, int]] = {
    errors.NO_NODE: MISSING,
    errors.NO_WATCHER: MISSING,
    errors.NODE_EXISTS: CONFLICT,
    errors.BAD_VERSION: CONFLICT,
    errors.NOT_EMPTY: CONFLICT,
    errors.NO_CHILDREN_FOR_EPHEMERALS: CONFLICT,
    errors.RECONFIG_IN_PROGRESS: CONFLICT,
    errors.NO_AUTH: NOT_AUTHORISED,
    errors.AUTH_FAILED: NOT_AUTHORISED,
    errors.SESSION_CLOSED_REQUIRE_SASL_AUTH: NOT_AUTHORISED,
    errors.INVALID_ACL: USAGE,
    errors.BAD_ARGUMENTS: USAGE,
    errors.NOT_READ_ONLY: REFUSED,
    errors.QUOTA_EXCEEDED: REFUSED,
    errors.RECONFIG_DISABLED: REFUSED,
    errors.NEW_CONFIG_NO_QUORUM: REFUSED,
    errors.EPHEMERAL_ON_LOCAL_SESSION: REFUSED,
    errors.UNIMPLEMENTED: REFUSED,
    errors.THROTTLED_OP: NO_CONNECTION,
    errors.SESSION_MOVED: NO_CONNECTION,
    errors.SESSION_EXPIRED: LOST,
}


class CommandError(Exception):
    """A command cannot go on: what to say, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: BaseException) -> int:
    """The exit code for what a command ended with; BUG for what no command expects."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, errors.KeeperError):
        return _ANSWERS.get(error.code, BUG)
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG)

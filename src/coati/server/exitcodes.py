"""Exit codes of a server process: those of Java's ExitCode, so that supervisors need not be told."""

from __future__ import annotations

from typing import Final

FINISHED: Final = 0
UNEXPECTED_ERROR: Final = 1
INVALID_INVOCATION: Final = 2
UNABLE_TO_ACCESS_DATADIR: Final = 3
# Java's TXNLOG_ERROR_TAKING_SNAPSHOT, "severe error during snapshot IO"; SyncRequestProcessor and FileTxnSnapLog end
# with it on errors of the transaction log as well.
SEVERE_LOG_ERROR: Final = 10
QUORUM_PORT_BIND_ERROR: Final = 14

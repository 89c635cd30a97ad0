"""What runs the servers of a test's ensemble: the verbs, and what all of them have in common.

Knows ports, directories and the keys of zoo.cfg. Must not know what a test wants.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from coati.testing.probe import Seen
from coati.testing.wires import free_sockets

HOST: Final = "127.0.0.1"
# Short enough for tests of failures, wide enough for a machine with other work. Nothing is synced: who loses power
# loses the test as well, and what a killed process wrote is in the kernel.
DEFAULTS: Final[Mapping[str, str]] = {
    "tickTime": "200",
    "initLimit": "50",
    "syncLimit": "10",
    "minSessionTimeout": "400",
    "maxSessionTimeout": "60000",
    "maxClientCnxns": "0",
    "4lw.commands.whitelist": "*",
    "admin.enableServer": "false",
    "forceSync": "no",
    "preAllocSize": "64",
    "busyPollMicros": "0",
}
SHARED_MEMORY: Final = "/dev/shm"
# The roles of who serves clients.
SERVING: Final = ("standalone", "leader", "follower", "observer")
LEADING: Final = ("standalone", "leader")
STOPPED: Final = "stopped"
PAUSED: Final = "paused"
LOOKING: Final = "looking"


class EnsembleError(RuntimeError):
    """The ensemble could not be started, or does not serve in time; the message says what its members do."""


class FaultRefused(EnsembleError):
    """This backend cannot do that to its servers; the message says which can."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One member: where it is and whether it votes. `host` and `port` are for clients."""

    sid: int
    host: str
    port: int
    quorum_port: int = 0
    election_port: int = 0
    is_observer: bool = False

    @property
    def hosts(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def line(self) -> str:
        """What all of them have in zoo.cfg of this one."""
        tail = ":observer" if self.is_observer else ""
        return f"{self.host}:{self.quorum_port}:{self.election_port}{tail}"


class Backend(Protocol):
    """The verbs. `sid` is one of `plans`; each verb is called in a state where it makes sense."""

    @property
    def name(self) -> str: ...

    @property
    def look_s(self) -> float:
        """The pause between two looks at somebody who is waited for."""

    @property
    def plans(self) -> Mapping[int, Plan]: ...

    async def launch(self, sid: int) -> None:
        """Starts it, and does not wait until it serves."""

    async def end(self, sid: int, *, is_clean: bool) -> None:
        """As SIGTERM does, or as SIGKILL."""

    def pause(self, sid: int) -> None: ...

    def resume(self, sid: int) -> None: ...

    def set_cuts(self, ways: Sequence[tuple[int, int]]) -> None:
        """From now on nothing gets from the first of each pair to the second, and all gets through elsewhere."""

    def drop_clients(self, sid: int) -> int:
        """Ends the connections of its clients; how many there were."""

    def role(self, sid: int) -> str:
        """One of SERVING, `looking`, `read-only`, or `stopped`."""

    def tree(self, sid: int, limit: int) -> list[Seen]:
        """Some of its znodes. Raises ZKError."""

    def log(self, sid: int) -> list[str]:
        """The last lines of its log; of all members, if they share one."""

    async def close(self) -> None:
        """Ends everything, and removes what was temporary."""


class Ground:
    """The ports and the directory that an ensemble stands on."""

    def __init__(self, members: int, observers: int, config: Mapping[str, object]) -> None:
        count = members + observers
        self._sockets = free_sockets(3 * count, HOST)
        ports = [bound_port(sock) for sock in self._sockets]
        thirds = zip(ports[:count], ports[count : 2 * count], ports[2 * count :], strict=True)
        self.plans = {
            sid: Plan(sid, HOST, client, quorum, election, sid > members)
            for sid, (client, quorum, election) in enumerate(thirds, 1)
        }
        self._config = {name: str(value) for name, value in config.items()}
        self.directory = Path(tempfile.mkdtemp(prefix="coati-ensemble-", dir=memory_dir()))

    def data_dir(self, sid: int) -> Path:
        """Made when it is asked for."""
        path = self.directory / str(sid)
        path.mkdir(exist_ok=True)
        return path

    def keys(self, sid: int) -> dict[str, str]:
        """All of its zoo.cfg."""
        plan = self.plans[sid]
        keys = {**DEFAULTS, "dataDir": str(self.data_dir(sid))}
        keys |= {"clientPort": str(plan.port), "clientPortAddress": plan.host}
        if len(self.plans) > 1:
            keys |= {f"server.{other.sid}": other.line for other in self.plans.values()}
            if len([other for other in self.plans.values() if not other.is_observer]) == 1:
                # Else one voter would be a server alone, which has no observers.
                keys["standaloneEnabled"] = "false"
        if plan.is_observer:
            keys["peerType"] = "observer"
        return keys | self._config

    def close(self) -> None:
        """Gives up the ports and removes the directory."""
        for sock in self._sockets:
            sock.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def bound_port(sock: socket.socket) -> int:
    """Where it is bound."""
    port: int = sock.getsockname()[1]
    return port


def memory_dir() -> str | None:
    """A directory in memory; None where there is none, for the one of the system."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None

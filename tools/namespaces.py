"""A network namespace for each server, on one bridge, of which single directions can be cut. Linux, root and `ip`.

The thread that enters gets a new namespace with the bridge in it, and has its old one back at the end: what it and its
children do meanwhile touches no network of the machine, and the kernel removes all of it with the last descriptor.
A cut sends frames to a hardware address that nobody has. So they are lost without a word, as on a broken cable, with
the acknowledgements of TCP among them, and only from the one to the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

CLONE_NEWNET: Final = 0x40000000
OWN: Final = "/proc/thread-self/ns/net"
BRIDGE: Final = "bridge"
CARD: Final = "eth0"
HUB: Final = 254
NOBODY: Final = 255

_libc: Final = ctypes.CDLL(None, use_errno=True)


def why_missing() -> str | None:
    """What has to be installed for such a network; None if all is there."""
    return "ip (of iproute2) is not installed" if shutil.which("ip") is None else None


def why_refused() -> str | None:
    """Why this kernel lets this user have no such network, as in many containers; None if it does."""
    try:
        with Namespaces() as network:
            network.add(1)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace can be made here: {error}"
    return None


def host(number: int) -> str:
    """The address of a server, or of the hub, where the clients are."""
    return f"10.77.0.{number}"


def hardware(number: int) -> str:
    """The same on the wire; of one that does not exist, for `NOBODY`."""
    return f"02:00:00:00:00:{number:02x}"


class Namespaces:
    """The namespaces of the servers that were added, and what is cut."""

    def __init__(self) -> None:
        self._hub = -1
        self._inner: dict[int, int] = {}
        self._blocked: dict[tuple[int, int], None] = {}
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            ending.callback(_enter_and_close, os.open(OWN, os.O_RDONLY))
            unshare(CLONE_NEWNET)
            self._hub = os.open(OWN, os.O_RDONLY)
            ending.callback(self._close)
            _ip("link", "set", "lo", "up")
            _ip("link", "add", BRIDGE, "address", hardware(HUB), "type", "bridge")
            _ip("address", "add", f"{host(HUB)}/24", "dev", BRIDGE)
            _ip("link", "set", BRIDGE, "up")
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def _close(self) -> None:
        for inner in (self._hub, *self._inner.values()):
            os.close(inner)
        self._inner = {}

    def add(self, sid: int) -> str:
        """A namespace for this server; its address."""
        _ip("link", "add", f"port{sid}", "type", "veth", "peer", "name", CARD, "address", hardware(sid))
        unshare(CLONE_NEWNET)
        try:
            self._inner[sid] = os.open(OWN, os.O_RDONLY)
        finally:
            enter(self._hub, CLONE_NEWNET)
        _ip("link", "set", CARD, "netns", f"/proc/{os.getpid()}/fd/{self._inner[sid]}")
        _ip("link", "set", f"port{sid}", "master", BRIDGE, "up")
        with self.inside(sid):
            _ip("link", "set", "lo", "up")
            _ip("address", "add", f"{host(sid)}/24", "dev", CARD)
            _ip("link", "set", CARD, "up")
        return host(sid)

    @contextlib.contextmanager
    def inside(self, sid: int) -> Iterator[None]:
        """Sockets and processes that this thread makes in the block are in the server's namespace, and stay there."""
        enter(self._inner[sid], CLONE_NEWNET)
        try:
            yield
        finally:
            enter(self._hub, CLONE_NEWNET)

    def block(self, *ways: tuple[int, int]) -> None:
        """From now on nothing gets from the first of each pair to the second."""
        for way in ways:
            self._blocked[way] = None
            self._point(*way, NOBODY)

    def heal(self) -> None:
        """All gets through again, and TCP sends again what was lost."""
        for source, target in self._blocked:
            self._point(source, target, target)
        self._blocked = {}

    def _point(self, source: int, target: int, number: int) -> None:
        """Where `source` sends what is meant for `target`."""
        with self.inside(source):
            _ip("neighbour", "replace", host(target), "lladdr", hardware(number), "dev", CARD, "nud", "permanent")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)


def unshare(kind: int) -> None:
    """This thread, and what it starts, is in a new namespace. Raises OSError."""
    _checked(_libc.unshare(kind))


def enter(namespace: int, kind: int) -> None:
    """Into the one that this descriptor stands for. Raises OSError."""
    _checked(_libc.setns(namespace, kind))


def _enter_and_close(namespace: int) -> None:
    try:
        enter(namespace, CLONE_NEWNET)
    finally:
        os.close(namespace)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""The list of servers in files, as a reconfig changes it: what a restart begins with, of this server or of a Java one.

    zoo.cfg.dynamic.VERSION   the list that is in force, its version (in hexadecimal) in the name only
    zoo.cfg                   names that file, and has no list of its own any more
    zoo.cfg.bak               zoo.cfg as it was before the first list left it
    zoo.cfg.dynamic.next      a later list that was seen, while it may or may not become the next
Each is written aside, synced, and renamed; the list is there before zoo.cfg names it, and `next` goes last.
Sources: QuorumPeerConfig (writeDynamicConfig, editStaticConfig, backupOldConfig), QuorumPeer.setQuorumVerifier.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from coati.errors import ConfigError
from coati.seams import Disk
from coati.server.config import NEXT_SUFFIX, ServerConfig, read_entries
from coati.server.links import Links
from coati.server.members import client_address, is_member_key
from coati.server.properties import MAX_FILE_BYTES
from coati.zab.quorum import View

logger = logging.getLogger("coati.server.dynamicconfig")

_POINTER: Final = "dynamicConfigFile"
_ENCODING: Final = "latin-1"


class ViewKeeper:
    """coati.server.reconfig.Keeper on the files beside zoo.cfg. Without one (flags only) nothing is written."""

    def __init__(self, config: ServerConfig, disk: Disk, move_clients: Callable[[str, int], None]) -> None:
        """`move_clients` listens for clients at another address from now on; the host is empty for every address."""
        self._config = config
        self._move_clients = move_clients
        self._disk = disk
        self.links: Links | None = None

    def on_activated(self, view: View) -> None:
        config = self._config
        config.ensemble = view
        logger.info("configuration activated version=%x servers=%s", view.version, ",".join(map(str, view.servers)))
        own = view.servers.get(config.my_id)
        if own is not None and own.client:
            address, port = client_address(own)
            if (address, port) != (config.client_address, config.client_port):
                # Only then: a port that stays is never let go (ZOOKEEPER-2847).
                self._move_clients(address, port)
        if config.path:
            # Java goes on as well: what it had before, it begins with again, and is told the rest by the others.
            try:
                write_activated(self._disk, config.path, view, erases_client_port=own is not None and bool(own.client))
            except (OSError, ConfigError) as error:
                logger.error("the new configuration cannot be written path=%s reason=%s", config.path, error)

    def on_seen(self, view: View) -> None:
        if self._config.path:
            try:
                write_file(self._disk, f"{self._config.path}{NEXT_SUFFIX}", list_text(view, with_version=True).encode())
            except OSError as error:
                logger.error("the next configuration cannot be written path=%s reason=%s", self._config.path, error)

    def on_in_force(self, view: View) -> None:
        if self.links is not None:
            self.links.set_view(view)


def list_text(view: View, *, with_version: bool) -> str:
    """The lines of a list, sorted, as Java writes them."""
    lines = sorted(view.to_text().decode().split("\n"))
    return "\n".join(line for line in lines if with_version or not line.startswith("version="))


def write_activated(disk: Disk, path: str, view: View, *, erases_client_port: bool) -> None:
    """The list in its file, and zoo.cfg that names it. Raises OSError, ConfigError."""
    name = f"{path}.dynamic.{view.version:x}"
    write_file(disk, name, list_text(view, with_version=False).encode())
    entries = read_entries(path)
    if _POINTER not in entries:
        write_file(disk, f"{path}.bak", _read_file(disk, path))
    lines = [
        f"{key}={_escaped(entry.value)}\n"
        for key, entry in entries.items()
        if not is_member_key(key)
        and not key.startswith((_POINTER, "peerType"))
        and not (erases_client_port and key.startswith("clientPort"))
    ]
    lines.append(f"{_POINTER}={_escaped(os.path.realpath(name))}\n")
    write_file(disk, path, "".join(lines).encode(_ENCODING))
    if disk.exists(f"{path}{NEXT_SUFFIX}"):
        disk.remove(f"{path}{NEXT_SUFFIX}")


def _escaped(value: str) -> str:
    """Java forgets to, and reads something else afterwards."""
    return value.replace("\\", "\\\\")


def write_file(disk: Disk, path: str, data: bytes) -> None:
    """All of it or nothing, durably. Raises OSError."""
    aside = f"{path}.tmp"
    if disk.exists(aside):
        disk.remove(aside)
    file = disk.create(aside)
    try:
        file.append(data)
        file.sync()
    finally:
        file.close()
    disk.rename(aside, path)
    disk.sync_dir(os.path.dirname(os.path.abspath(path)))


def _read_file(disk: Disk, path: str) -> bytes:
    file = disk.open_read(path)
    try:
        return file.read(MAX_FILE_BYTES)
    finally:
        file.close()

"""Facts of a zoo.cfg and of the machine it is for: what check-config and doctor judge.

Knows files, disks, names and ports; reads only. What is wrong with it all is `admin`'s.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coati.admin.facts import ConfigFacts, members_in
from coati.admin.knock import ask
from coati.cli.exits import USAGE, CommandError
from coati.errors import ConfigError
from coati.server.config import Entry, load_config, read_entries

PORT_TIMEOUT_S: Final = 1.0
VERSIONED: Final = "version-2"
# What only a ZooKeeper says to `srvr`.
KNOWN_ANSWERS: Final = (b"Zookeeper version", b"ZooKeeper instance", b"is not in the whitelist")


@dataclass(frozen=True, slots=True)
class Source:
    """A file, the -D properties beside it, and whether it is for another machine than this."""

    path: str
    properties: Sequence[str] = ()
    is_elsewhere: bool = False


def config_facts(source: Source) -> ConfigFacts:
    """All that can be seen. Raises CommandError if there is no such file."""
    if not os.path.exists(source.path):
        raise CommandError(f"{source.path}: no such file", USAGE)
    properties = {name: Entry(value, f"-D{name}") for name, value in map(_pair, source.properties)}
    keys: dict[str, str] = {}
    facts = ConfigFacts(source.path, keys)
    try:
        keys.update((key, entry.value) for key, entry in read_entries(source.path).items())
        if dynamic := keys.get("dynamicConfigFile"):
            keys.update((key, entry.value) for key, entry in read_entries(dynamic).items())
    except ConfigError as error:
        facts.refusal = str(error)
    # As the server does: a key of the file goes before the property of that name.
    for name, entry in properties.items():
        keys.setdefault(name.removeprefix("zookeeper."), entry.value)
    if not facts.refusal:
        _load(facts, source, properties)
    if not source.is_elsewhere:
        _look_at_machine(facts)
    return facts


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


def _load(facts: ConfigFacts, source: Source, properties: dict[str, Entry]) -> None:
    """What the server itself would say."""
    with tempfile.TemporaryDirectory() as scratch:
        overrides = {}
        if source.is_elsewhere:
            # The directory is on the other machine, with the number that the server asks for.
            overrides = {"dataDir": Entry(scratch, source.path)}
            members = members_in(facts.keys)
            if members:
                with open(os.path.join(scratch, "myid"), "w", encoding="ascii") as file:
                    file.write(str(members[0].sid))
        try:
            facts.warnings = load_config(source.path, overrides=overrides, properties=dict(properties)).warnings
        except ConfigError as error:
            facts.refusal = str(error)


def _look_at_machine(facts: ConfigFacts) -> None:
    data_dir = facts.text("dataDir")
    log_dir = facts.text("dataLogDir") or data_dir
    try:
        with open(os.path.join(data_dir, "myid"), encoding="ascii", errors="replace") as file:
            facts.myid = file.readline().strip()
    except OSError:
        facts.myid = None
    if os.path.isdir(data_dir):
        facts.is_writable = os.access(data_dir, os.W_OK | os.X_OK)
        for path in (data_dir, log_dir):
            _look_at_disk(facts, path)
        if os.path.isdir(log_dir):
            facts.is_one_disk = os.stat(data_dir).st_dev == os.stat(log_dir).st_dev
    facts.kept_files = sum(map(_kept, dict.fromkeys((data_dir, log_dir))))
    names = [member.host for member in facts.members]
    names += [member.client.name for member in facts.members if member.client is not None]
    facts.unresolved = unresolved(sorted(set(names)))
    port = facts.text("clientPort")
    if port.isdecimal() and 0 < int(port) < 65536:
        facts.port_holder = port_holder(facts.text("clientPortAddress") or "127.0.0.1", int(port))


def _look_at_disk(facts: ConfigFacts, path: str) -> None:
    """The fuller one counts."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if not facts.total_bytes or (total and free * facts.total_bytes < (facts.free_bytes or 0) * total):
        facts.free_bytes, facts.total_bytes = free, total


def _kept(path: str) -> int:
    """How many snapshots and logs."""
    try:
        names = os.listdir(os.path.join(path, VERSIONED))
    except OSError:
        return 0
    return sum(name.startswith(("snapshot.", "log.")) for name in names)


def unresolved(names: Sequence[str]) -> list[str]:
    """Those that have no address."""
    found: list[str] = []
    for name in names:
        try:
            socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found.append(name)
    return found


def port_holder(host: str, port: int) -> str:
    """Who listens: nobody (""), "zookeeper" or "stranger". Who says nothing in time may be a busy ZooKeeper."""
    address = ("127.0.0.1" if host == "0.0.0.0" else host, port)
    try:
        socket.create_connection(address, PORT_TIMEOUT_S).close()
    except OSError:
        return ""
    try:
        answer = ask(address, "srvr", PORT_TIMEOUT_S)
    except TimeoutError:
        return ""
    except OSError:
        return "stranger"
    return "zookeeper" if any(text in answer for text in KNOWN_ANSWERS) else "stranger"

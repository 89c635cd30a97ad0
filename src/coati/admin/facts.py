"""Facts: what the doctor's checks are given. Gathered elsewhere, so that each check is a function of them alone.

Knows the keys of zoo.cfg as texts, since a file that the server refuses is one to look at too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coati.admin.ensemble import MemberLine, Report, parse_member


@dataclass(slots=True)
class ConfigFacts:
    """One zoo.cfg, and what is on its machine. `keys` holds the dynamic file's and -D properties' too.

    `port_holder` is who listens on the client's port: nobody (""), "zookeeper" or "stranger". `myid` is None if the
    file is not there, and empty if nobody looked; else None stands for what is not known.
    """

    path: str
    keys: dict[str, str]
    refusal: str = ""
    warnings: list[str] = field(default_factory=list)
    myid: str | None = ""
    port_holder: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    is_one_disk: bool | None = None
    is_writable: bool = True
    kept_files: int = 0
    unresolved: list[str] = field(default_factory=list)

    def text(self, *names: str) -> str:
        """The value of the first of the names that is there, or nothing."""
        return next((self.keys[name] for name in names if name in self.keys), "")

    def number(self, name: str, default: int) -> int:
        """A value as a number; what is none is the default's, and the server refuses it anyway."""
        try:
            return int(self.keys.get(name, ""))
        except ValueError:
            return default

    def is_on(self, name: str) -> bool:
        return self.keys.get(name, "").strip().lower() in ("true", "yes")

    @property
    def tick_ms(self) -> int:
        return self.number("tickTime", 3000)

    @property
    def max_buffer_bytes(self) -> int:
        return self.number("jute.maxbuffer", 0xFFFFF)

    @property
    def members(self) -> list[MemberLine]:
        """Those lines server.N that can be read."""
        return members_in(self.keys)

    @property
    def sid(self) -> int | None:
        """The number in myid, if it is one."""
        text = (self.myid or "").strip()
        return int(text) if text.isdecimal() else None


def members_in(keys: Mapping[str, str]) -> list[MemberLine]:
    """The lines server.N that can be read, by N."""
    found: list[MemberLine] = []
    for name, text in keys.items():
        if name.startswith("server.") and name[7:].isdecimal():
            try:
                found.append(parse_member(int(name[7:]), text))
            except ValueError:
                continue
    return sorted(found, key=lambda member: member.sid)


@dataclass(slots=True)
class TreeFacts:
    """What a look at the tree found. Sizes in bytes; the skew is the leader's clock minus ours, None if not asked."""

    root_acl: str = ""
    large: list[tuple[str, int]] = field(default_factory=list)
    crowded: list[tuple[str, int]] = field(default_factory=list)
    skew_s: float | None = None


@dataclass(slots=True)
class Facts:
    """All there is to judge. `named` are the hosts of the connect string as they were given."""

    configs: list[ConfigFacts] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    servers: list[Report] = field(default_factory=list)
    tree: TreeFacts | None = None

"""Addresses as texts: `host:port`, several joined by `|`, the parts of a server line.

Knows how Java splits them and how it writes a literal again. No name is ever resolved here: what a stranger sends must
not make this server ask a DNS. Whoever calls decides what a refusal is: everything here raises ValueError.
Sources: ConfigUtils.getHostAndPort, NetUtils.formatInetAddr; InetSocketAddress.getHostString, IPAddressUtil of the JDK.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}")
_HEX_NUMBER: Final = re.compile(r"[+-]?[0-9A-Fa-f]{1,40}")
_DIGITS: Final = re.compile(r"[0-9]+")
_MAX_PORT: Final = 0xFFFF
_MAX_V4_TEXT: Final = 15
_LONG_MAX: Final = (1 << 63) - 1
_BLANKS: Final = "".join([chr(c) for c in range(33)])
_WILDCARDS: Final = ("0.0.0.0", "0:0:0:0:0:0:0:0")


def java_split(text: str, separator: str) -> list[str]:
    """String.split: empty strings at the end are dropped, but nothing is one empty string."""
    if not text:
        return [""]
    parts = text.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def java_strip(text: str) -> str:
    """String.trim: all up to the space goes."""
    return text.strip(_BLANKS)


def java_long(text: str, base: int = 10) -> int:
    """Long.parseLong, in digits of ASCII. Raises ValueError."""
    pattern = _NUMBER if base == 10 else _HEX_NUMBER
    value = int(text, base) if pattern.fullmatch(text) else _LONG_MAX + 1
    if not -_LONG_MAX - 1 <= value <= _LONG_MAX:
        raise ValueError(f"no number: {text[:40]!a}")
    return value


def parse_port(text: str) -> int:
    """A port of 0 to 65535. Raises ValueError."""
    port = java_long(text)
    if not 0 <= port <= _MAX_PORT:
        raise ValueError("a port is not between 0 and 65535")
    return port


def split_host(text: str) -> list[str]:
    """The host and what stands behind it, split at the colons; an IPv6 host is in brackets. Raises ValueError."""
    if not text.startswith("["):
        return java_split(text, ":")
    end = text.find("]")
    if end < 0:
        raise ValueError("it starts with '[' but has no matching ']'")
    if end + 2 == len(text):
        raise ValueError("it has no port after the colon")
    if end + 1 == len(text):
        return [text[1:end]]
    return [text[1:end], *java_split(text[end + 2 :], ":")]


def canonical_host(text: str) -> str:
    """The host as Java writes it again: a literal in full, a name as it is. Raises ValueError if it cannot be one."""
    # Java takes these, writes them, and reads something else.
    if not text.isprintable() or " " in text or "[" in text or "]" in text:
        raise ValueError(f"no host: {text[:40]!a}")
    if not text:
        # InetAddress.getByName: nothing is the loopback.
        return "localhost"
    if ":" in text:
        try:
            address = IPv6Address(text)
        except AddressValueError:
            return text
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        packed = address.packed
        groups = [f"{int.from_bytes(packed[at : at + 2], 'big'):x}" for at in range(0, 16, 2)]
        return ":".join(groups) + (f"%{address.scope_id}" if address.scope_id else "")
    return _canonical_v4(text)


def _canonical_v4(text: str) -> str:
    """Four numbers, or fewer of which the last fills what is left: 127.1 is 127.0.0.1."""
    parts = text.split(".")
    if len(text) > _MAX_V4_TEXT or len(parts) > 4 or not all(_DIGITS.fullmatch(part) for part in parts):
        return text
    numbers = [int(part) for part in parts]
    last = numbers.pop()
    left = 4 - len(numbers)
    if max(numbers, default=0) > 255 or last >= 1 << 8 * left:
        return text
    return ".".join([str(number) for number in [*numbers, *last.to_bytes(left, "big")]])


def is_wildcard(host: str) -> bool:
    """Whether a literal stands for every address of its machine."""
    return canonical_host(host) in _WILDCARDS


def format_address(host: str, port: int) -> str:
    """host:port, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`. Raises ValueError."""
    parts = split_host(text)
    if len(parts) != 2:
        raise ValueError("an address is host:port")
    return canonical_host(parts[0]), parse_port(parts[1])


def parse_addresses(text: str) -> list[tuple[str, int]]:
    """`host:port|host:port`, without the wildcards among them: nobody can connect to those. Raises ValueError."""
    found = [parse_address(part) for part in java_split(text, "|")]
    return [(host, port) for host, port in found if not is_wildcard(host)]

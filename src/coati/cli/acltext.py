"""ACLs as text, `scheme:id:perms,...`, as upstream's tools write them: read, and judged before anything is sent."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Final

from coati.cli.exits import USAGE, CommandError
from coati.client.types import ACL, Perm, acl

LETTERS: Final = "c (create), d (delete), r (read), w (write), a (admin)"
# Of SHA-1, SHA-256, SHA-512 and their like (zookeeper.DigestAuthenticationProvider.digestAlg).
_HASH_BYTES: Final = (20, 28, 32, 48, 64)
_SEPARATORS: Final = re.compile(r"[,\n]")


def parsed(text: str) -> tuple[ACL, ...]:
    """The entries of an ACL; lines separate them too. Raises CommandError, which says what is wrong with which."""
    parts = [part.strip() for part in _SEPARATORS.split(text)]
    entries = tuple(_entry(part) for part in parts if part)
    if not entries:
        raise CommandError("an ACL has at least one entry scheme:id:perms, as world:anyone:cdrwa", USAGE)
    return entries


def id_and_perms(text: str) -> tuple[str, str, Perm]:
    """`scheme:id:perms`, or `scheme:id` for all of them: what to take away. Raises CommandError."""
    scheme, _, rest = text.strip().partition(":")
    identity, colon, letters = rest.rpartition(":")
    if colon and letters and not set(letters) - set("cdrwa"):
        return scheme, identity, acl(text.strip())[0].perms
    if not scheme or not rest:
        raise _wrong(text, "what to remove is scheme:id, or scheme:id:perms for some permissions of it")
    return scheme, rest, Perm.ALL


def _entry(text: str) -> ACL:
    scheme, _, rest = text.partition(":")
    identity, colon, letters = rest.rpartition(":")
    if not colon or not scheme:
        raise _wrong(text, "it has the form scheme:id:perms, as world:anyone:cdrwa or auth::cdrwa")
    strange = sorted(set(letters) - set("cdrwa"))
    if strange:
        raise _wrong(text, f"{strange[0]!r} is no permission; there are {LETTERS}")
    if not letters:
        raise _wrong(text, f"it permits nothing; there are {LETTERS}")
    wrong = wrong_id(scheme, identity)
    if wrong:
        raise _wrong(text, wrong)
    return acl(text)[0]


def wrong_id(scheme: str, identity: str) -> str:
    """Why no server takes this id, or nobody could ever be it; empty where only the server knows."""
    if scheme == "world" and identity != "anyone":
        return "the only id of world is anyone"
    if scheme == "digest":
        user, _, secret = identity.partition(":")
        if not user or not _is_hash(secret):
            return "digest has user:hash; `coati auth hash USER` prints that"
    if scheme == "ip":
        try:
            ipaddress.ip_network(identity, strict=False)
        except ValueError:
            return f"{identity!r} is no address, and no network as 10.0.0.0/8"
    return ""


def _is_hash(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) in _HASH_BYTES
    except (binascii.Error, ValueError):
        return False


def _wrong(text: str, why: str) -> CommandError:
    return CommandError(f"ACL entry {text!r}: {why}", USAGE)

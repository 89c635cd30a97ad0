"""ACLs: interned lists, who may do what, how a list in a request becomes the list that is stored, and credentials.

Knows the schemes and the rules of the Java providers. Must not know paths, the tree or connections.
Invariants: two AclLists of one cache that are in use have different entries; `uses` counts the committed znodes that
have the list, and a list nobody uses leaves the cache.
Sources: ReferenceCountedACLCache, ZooKeeperServer.checkACL, PrepRequestProcessor.fixupACL, server/auth/*.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Final

from coati import errors
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import ACL, ClientInfo, Id

OPEN_KEY: Final = -1
# Entries up to which an ACL is looked through each time; verdicts that a longer one remembers.
SHORT_ACL: Final = 32
MAX_VERDICTS: Final = 64

WORLD: Final = Id("world", "anyone")
OPEN_ACL: Final = ACL(codes.PERM_ALL, WORLD)
READ_ACL: Final = ACL(codes.PERM_READ, WORLD)
SUPER: Final = Id("super", "")

_DIGIT_RUN: Final = re.compile(r"[+-]?[0-9]+")
_HEX_RUN: Final = re.compile(r"[+-]?[0-9a-fA-F]+")
# What `.` does not match in Java, which the masking of digests leans on.
_AFTER_COLON: Final = re.compile("[:][^\n\r\u0085\u2028\u2029]*")
_V6_SEGMENTS: Final = 8
_INT_MAX: Final = (1 << 31) - 1


def encode_acl(entries: list[ACL]) -> bytes:
    """The jute vector of the entries."""
    w = Writer()
    w.int32(len(entries))
    for entry in entries:
        entry.write(w)
    return w.getvalue()


OPEN_WIRE: Final = encode_acl([OPEN_ACL])


class AclList:
    """An interned ACL. `is_open` says that anybody may do anything; `key` is its number in our snapshots."""

    __slots__ = ("entries", "is_open", "key", "uses", "verdicts", "wire")

    def __init__(self, entries: list[ACL], wire: bytes, key: int) -> None:
        # By the identity of a list of ids, which is never changed, and the permission: the list, and whether it may.
        self.verdicts: dict[tuple[int, int], tuple[list[Id], bool]] = {}
        self.entries = entries
        self.wire = wire
        self.key = key
        self.is_open = wire == OPEN_WIRE
        self.uses = 0


class AclCache:
    """All ACLs in use: `intern` gives one object for equal lists, `table` says which keys committed znodes have.

    The two are kept apart, since a list may be staged while its last committed use goes: the next `intern` then makes
    a second object with a key of its own, and a snapshot has to list both (Java would refuse it otherwise).
    """

    __slots__ = ("_by_key", "_by_wire", "_last_key", "open")

    def __init__(self) -> None:
        self.open = AclList([OPEN_ACL], OPEN_WIRE, OPEN_KEY)
        self._by_wire: dict[bytes, AclList] = {OPEN_WIRE: self.open}
        self._by_key: dict[int, AclList] = {}
        self._last_key = 0

    def __len__(self) -> int:
        """How many lists are known, the open one not counted."""
        return len(self._by_wire) - 1

    def intern(self, entries: list[ACL] | None) -> AclList:
        """The one object for these entries; a null list is the open one (ReferenceCountedACLCache.convertAcls)."""
        if entries is None:
            return self.open
        wire = encode_acl(entries)
        acl = self._by_wire.get(wire)
        if acl is None:
            self._last_key += 1
            acl = AclList(entries, wire, self._last_key)
            self._by_wire[wire] = acl
        return acl

    def retain(self, acl: AclList) -> None:
        """A znode with this ACL has been installed."""
        if acl.uses == 0 and not acl.is_open:
            self._by_key[acl.key] = acl
            self._by_wire.setdefault(acl.wire, acl)
        acl.uses += 1

    def release(self, acl: AclList) -> None:
        """A znode with this ACL is gone."""
        acl.uses -= 1
        self.drop_unused(acl)

    def drop_unused(self, acl: AclList) -> None:
        """A change that brought the list is taken back; should another one in flight have it, `retain` re-enters it."""
        if acl.uses == 0 and not acl.is_open:
            self._by_key.pop(acl.key, None)
            if self._by_wire.get(acl.wire) is acl:
                del self._by_wire[acl.wire]

    def settle(self) -> None:
        """After loading, which only counts: enters what is used and drops what is not, as a snapshot may list some
        (ReferenceCountedACLCache.purgeUnused)."""
        for acl in list(self._by_wire.values()):
            if acl.uses and not acl.is_open:
                self._by_key[acl.key] = acl
            else:
                self.drop_unused(acl)

    def table(self) -> dict[int, list[ACL]]:
        """The lists of committed znodes by key, the open one left out as in Java's snapshots."""
        return {acl.key: acl.entries for acl in self._by_key.values()}


class AccessConfig:
    """What decides about access. `super_digest` is `user:base64(hash)`; `schemes` are enabled beyond digest and ip."""

    __slots__ = ("digest_algorithm", "digest_enabled", "ensemble_names", "schemes", "skip_acl", "super_digest")

    def __init__(
        self,
        *,
        skip_acl: bool = False,
        super_digest: str | None = None,
        digest_algorithm: str = "sha1",
        digest_enabled: bool = True,
        ensemble_names: tuple[str, ...] = (),
        schemes: tuple[str, ...] = (),
    ) -> None:
        self.skip_acl = skip_acl
        self.super_digest = super_digest
        self.digest_algorithm = digest_algorithm
        self.digest_enabled = digest_enabled
        self.ensemble_names = ensemble_names
        self.schemes = schemes


class AuthResult:
    """What came of an auth packet: `err` is OK or AUTH_FAILED, `ids` are to be added to the connection.

    `must_close` says that the connection ends without a word, so that the client tries another server. `names_super`
    says that somebody would be the super user, rightly or not.
    """

    __slots__ = ("err", "ids", "must_close", "names_super")

    def __init__(self, err: int, ids: list[Id], must_close: bool = False, names_super: bool = False) -> None:
        self.err = err
        self.ids = ids
        self.must_close = must_close
        self.names_super = names_super


class Access:
    """The rules of access of one server."""

    __slots__ = ("config",)

    def __init__(self, config: AccessConfig | None = None) -> None:
        self.config = config or AccessConfig()

    def allows(self, acl: AclList, perm: int, ids: list[Id]) -> bool:
        """Whether somebody with these ids has one of the permission bits (ZooKeeperServer.checkACL)."""
        # An empty list protects nothing: Java's rule, for znodes of old files.
        if acl.is_open or self.config.skip_acl or not acl.entries:
            return True
        for who in ids:
            if who.scheme == "super":
                return True
        if len(acl.entries) <= SHORT_ACL:
            return self._grants(acl, perm, ids)
        # A megabyte of entries takes a tenth of a second, and a client may ask ten thousand times in one go.
        key = (id(ids), perm)
        known = acl.verdicts.get(key)
        if known is None:
            if len(acl.verdicts) >= MAX_VERDICTS:
                acl.verdicts.clear()
            known = (ids, self._grants(acl, perm, ids))
            acl.verdicts[key] = known
        return known[1]

    def _grants(self, acl: AclList, perm: int, ids: list[Id]) -> bool:
        # By hash, as both lists may have thousands.
        mine = dict.fromkeys(ids)
        addresses = [who.id for who in ids if who.scheme == "ip"]
        return any(entry.perms & perm and self._matches(entry.id, mine, addresses) for entry in acl.entries)

    def _matches(self, wanted: Id, ids: dict[Id, None], addresses: list[str]) -> bool:
        scheme = wanted.scheme
        if scheme == "world" and wanted.id == "anyone":
            return True
        if not self.has_provider(scheme):
            return False
        if scheme == "ip":
            return any(ip_matches(address, wanted.id) for address in addresses)
        return wanted in ids

    def has_provider(self, scheme: str) -> bool:
        """Whether ACLs and auth packets of this scheme mean something here (ProviderRegistry)."""
        return scheme == "ip" or (scheme == "digest" and self.config.digest_enabled) or scheme in self.config.schemes

    def _is_valid(self, who: Id) -> bool:
        scheme = who.scheme
        if not self.has_provider(scheme):
            return False
        if scheme == "ip":
            return _parse_ip_expression(who.id) is not None
        if scheme == "digest":
            return _java_split_length(who.id) == 2
        return scheme != "ensemble"

    def fixup(self, entries: list[ACL] | None, ids: list[Id]) -> list[ACL] | None:
        """The list to store for the list in a request, or None for InvalidACL (PrepRequestProcessor.fixupACL)."""
        if not entries:
            return None
        fixed: list[ACL] = []
        # Without doubles, in the order they came; by hash, as a list may have thousands.
        for entry in dict.fromkeys(entries):
            who = entry.id
            if who == WORLD:
                fixed.append(entry)
            elif who.scheme == "auth":
                mine = [ACL(entry.perms, one) for one in ids if one.scheme != "ip" and self.has_provider(one.scheme)]
                if not mine:
                    return None
                fixed.extend(mine)
            elif self._is_valid(who):
                fixed.append(entry)
            else:
                return None
        return fixed

    def authenticate(self, scheme: str | None, auth: bytes | None, address: str) -> AuthResult:
        """What an auth packet brings (ZooKeeperServer.processPacket and the providers' handleAuthentication)."""
        if scheme == "ip":
            return AuthResult(errors.OK, [Id("ip", address)])
        if scheme == "digest" and self.config.digest_enabled and auth is not None:
            return self._authenticate_digest(auth)
        if scheme == "ensemble" and "ensemble" in self.config.schemes:
            names = self.config.ensemble_names
            if not auth or not names or auth.decode("utf-8", "replace") in names:
                return AuthResult(errors.OK, [])
            return AuthResult(errors.AUTH_FAILED, [], must_close=True)
        return AuthResult(errors.AUTH_FAILED, [])

    def client_infos(self, ids: list[Id]) -> list[ClientInfo]:
        """What whoAmI tells: a digest by its user's name only, nothing of a scheme without a provider (AuthUtil)."""
        infos: list[ClientInfo] = []
        for who in ids:
            if not self.has_provider(who.scheme):
                infos.append(ClientInfo(who.scheme, ""))
            elif who.scheme == "digest":
                infos.append(ClientInfo("digest", who.id.split(":", 1)[0]))
            else:
                infos.append(ClientInfo(who.scheme, who.id))
        return infos

    def _authenticate_digest(self, auth: bytes) -> AuthResult:
        digest = generate_digest(auth.decode("utf-8", "replace"), self.config.digest_algorithm)
        mine = Id("digest", digest)
        wanted = self.config.super_digest
        # The super user is named first, and is himself as well.
        ids = [SUPER, mine] if digest == wanted else [mine]
        is_named = wanted is not None and digest.split(":", 1)[0] == wanted.split(":", 1)[0]
        return AuthResult(errors.OK, ids, names_super=is_named)


def generate_digest(id_password: str, algorithm: str = "sha1") -> str:
    """`user:base64(hash(user:password))` (DigestAuthenticationProvider.generateDigest)."""
    hashed = hashlib.new(algorithm, id_password.encode("utf-8", "surrogatepass")).digest()
    return id_password.split(":", 1)[0] + ":" + b64encode(hashed).decode("ascii")


def mask_digests(entries: list[ACL]) -> list[ACL]:
    """The list for somebody without ADMIN: the hashes of digests are replaced (FinalRequestProcessor, getACL)."""
    return [
        ACL(entry.perms, Id("digest", _AFTER_COLON.sub(":x", entry.id.id))) if entry.id.scheme == "digest" else entry
        for entry in entries
    ]


def _java_split_length(text: str) -> int:
    """`text.split(":").length`: Java drops empty parts at the end, but an empty text is one part."""
    parts = text.split(":")
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return len(parts)


def _java_int(text: str) -> int | None:
    """Integer.parseInt, or None for its exception."""
    if _DIGIT_RUN.fullmatch(text) is None:
        return None
    value = int(text)
    return value if -_INT_MAX - 1 <= value <= _INT_MAX else None


def ip_matches(address: str, expression: str) -> bool:
    """Whether an address is in `address[/bits]` (IPAuthenticationProvider.matches)."""
    parsed = _parse_ip_expression(expression)
    mine = _parse_ip(address)
    if parsed is None or mine is None:
        return False
    wanted, bits = parsed
    if len(mine) != len(wanted):
        return False
    shift = len(wanted) * 8 - bits
    return int.from_bytes(mine, "big") >> shift == int.from_bytes(wanted, "big") >> shift


def _parse_ip_expression(expression: str) -> tuple[bytes, int] | None:
    """Address and number of bits of `address[/bits]`; None where Java says invalid."""
    text, slash, mask = expression.partition("/")
    address = _parse_ip(text)
    if address is None:
        return None
    size = len(address) * 8
    if not slash:
        return address, size
    bits = _java_int(mask)
    return None if bits is None or not 0 <= bits <= size else (address, bits)


def _parse_ip(text: str) -> bytes | None:
    if ":" in text:
        return _parse_v6(text)
    parts = text.split(".")
    if len(parts) != 4:
        return None
    octets: list[int] = []
    for part in parts:
        value = _java_int(part)
        if value is None or not 0 <= value <= 255:
            return None
        octets.append(value)
    return bytes(octets)


def _parse_v6(text: str) -> bytes | None:
    """IPAuthenticationProvider.parseV6addr (ZOOKEEPER-4240): eight segments, or fewer around one `::`."""
    halves = text.split("::")
    head = halves[0].split(":") if halves[0] else []
    if len(halves) == 1:
        return _segments(head) if len(head) == _V6_SEGMENTS else None
    if len(halves) != 2:
        return None
    tail = halves[1].split(":") if halves[1] else []
    missing = _V6_SEGMENTS - len(head) - len(tail)
    return _segments([*head, *["0"] * missing, *tail]) if missing > 0 else None


def _segments(parts: list[str]) -> bytes | None:
    address = bytearray()
    for part in parts:
        if len(part) > 4 or _HEX_RUN.fullmatch(part) is None:
            return None
        # A sign is what Integer.parseInt(part, 16) takes as well; only the low 16 bits are kept.
        address += (int(part, 16) & 0xFFFF).to_bytes(2, "big")
    return bytes(address)

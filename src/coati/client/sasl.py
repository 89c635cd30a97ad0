"""SASL's DIGEST-MD5: a user proves to know a password, and so does the server, and neither sends it.

Knows the client's half of RFC 2831 as Java's servers speak it: one exchange for each connection, quality of protection
`auth`. Tokens come in and go out as bytes; what carries them is the session's matter.
"""

from __future__ import annotations

import hashlib
import re
from random import Random
from typing import Final

from coati.client.types import Auth

SCHEME: Final = "sasl"
# What Java's servers are called in the exchange (ZooKeeperSaslServer, SecurityUtils.createSaslClient).
SERVICE: Final = "zookeeper"
SERVER: Final = "zk-sasl-md5"

_DIRECTIVE: Final = re.compile(rb'\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))\s*(?:,|$)', re.DOTALL)
_CNONCE_BITS: Final = 128


def SaslDigest(user: str, password: str, *, service: str = SERVICE, server: str = SERVER) -> Auth:
    """User and password of SASL's DIGEST-MD5, for the client's constructor; the server has them in its JAAS file."""
    parts = (user, password, service, server)
    if any("\0" in part for part in parts):
        raise ValueError("user, password and names contain no zero character")
    return Auth(SCHEME, "\0".join(parts).encode())


class SaslRefused(Exception):
    """The exchange has come to nothing, for the reason it gives."""


class DigestMd5:
    """One exchange. `credentials` are those of a SaslDigest."""

    def __init__(self, credentials: bytes, dice: Random) -> None:
        user, password, service, server = credentials.split(b"\0")
        self._user = user
        self._password = password
        self._uri = service + b"/" + server
        self._cnonce = b"%032x" % dice.getrandbits(_CNONCE_BITS)
        self._proof = b""
        self.is_over = False

    def respond(self, token: bytes | None) -> bytes | None:
        """What to answer to the server's token; None: nothing, it is over and well. Raises SaslRefused."""
        if token is None:
            raise SaslRefused("the server does not know SASL")
        said = _directives(token)
        if self._proof:
            if said.get(b"rspauth") != self._proof:
                raise SaslRefused("the server does not know the password")
            self.is_over = True
            return None
        if b"nonce" not in said or said.get(b"algorithm") != b"md5-sess":
            raise SaslRefused("the server offers no DIGEST-MD5")
        if b"auth" not in said.get(b"qop", b"auth").replace(b" ", b"").split(b","):
            raise SaslRefused("the server wants more than authentication")
        return self._answer(said)

    def _answer(self, said: dict[bytes, bytes]) -> bytes:
        realm, nonce, cnonce = said.get(b"realm", b""), said[b"nonce"], self._cnonce
        secret = _md5(b":".join(map(_hashed, (self._user, realm, self._password))))
        a1 = _hex(b":".join((secret, nonce, cnonce)))

        def proof(a2: bytes) -> bytes:
            return _hex(b":".join((a1, nonce, b"00000001", cnonce, b"auth", _hex(a2))))

        # The server proves with the same, but for the method.
        self._proof = proof(b":" + self._uri)
        quoted = {
            b"username": self._user, b"realm": realm, b"nonce": nonce, b"cnonce": cnonce, b"digest-uri": self._uri,
        }  # fmt: skip
        parts = [b'%s="%s"' % (name, re.sub(rb'(["\\])', rb"\\\1", value)) for name, value in quoted.items()]
        response = proof(b"AUTHENTICATE:" + self._uri)
        return b",".join((b"charset=utf-8", *parts, b"nc=00000001,qop=auth,response=" + response))


def _directives(token: bytes) -> dict[bytes, bytes]:
    """`name=value,...`; of several realms the first."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(token):
        match = _DIRECTIVE.match(token, at)
        if match is None:
            raise SaslRefused("the server's challenge cannot be read")
        name, quoted, plain = match.groups()
        value = plain if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL)
        found.setdefault(name.lower(), value)
        at = match.end()
    return found


def _hashed(text: bytes) -> bytes:
    """As it goes into the hash: in ISO 8859-1 where that has all of it (RFC 2831, 2.1.2.1)."""
    try:
        return text.decode().encode("latin-1")
    except UnicodeError:
        return text


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _hex(data: bytes) -> bytes:
    return _md5(data).hex().encode()

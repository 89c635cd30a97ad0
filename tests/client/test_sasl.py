"""SASL's DIGEST-MD5 by the example of its RFC, and the session's part of it against a server written down by hand."""

from __future__ import annotations

import hashlib
import struct
from random import Random

import pytest

from coati.client.sasl import DigestMd5, SaslDigest, SaslRefused
from coati.client.types import State
from coati.wire import codes
from tests.client.kit import ID, START_MS, A, B, Driver, hello, reply, sent, text

# RFC 2831, section 4.
CHALLENGE = b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
RESPONSE = b"d388dad90d4bbd760a152321f2143af7"
PROOF = b"rspauth=ea40f60335c427b5527b84dbabcdfffd"


class Given(DigestMd5):
    """With the nonce of the RFC's client."""

    def __init__(self) -> None:
        auth = SaslDigest("chris", "secret", service="imap", server="elwood.innosoft.com")
        super().__init__(auth.credentials, Random(1))
        self._cnonce = b"OA6MHXh6VqTrRk"


def test_the_example_of_the_rfc() -> None:
    exchange = Given()
    answer = exchange.respond(CHALLENGE)
    assert answer is not None
    assert set(answer.split(b",")) == {
        b"charset=utf-8", b'username="chris"', b'realm="elwood.innosoft.com"', b'nonce="OA6MG9tEQGm2hh"',
        b"nc=00000001", b'cnonce="OA6MHXh6VqTrRk"', b'digest-uri="imap/elwood.innosoft.com"',
        b"response=" + RESPONSE, b"qop=auth",
    }  # fmt: skip
    assert not exchange.is_over
    assert exchange.respond(PROOF) is None
    assert exchange.is_over


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    exchange = Given()
    exchange.respond(CHALLENGE)
    with pytest.raises(SaslRefused, match="does not know the password"):
        exchange.respond(PROOF[:-1] + b"0")


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        (None, "does not know SASL"),
        (b"", "no DIGEST-MD5"),
        (b"nonce=x,algorithm=md5", "no DIGEST-MD5"),
        (b'nonce=x,algorithm=md5-sess,qop="auth-int,auth-conf"', "more than authentication"),
        (b"nonce", "cannot be read"),
        (b'nonce="x', "cannot be read"),
    ],
)
def test_a_challenge_that_cannot_be_met(challenge: bytes | None, why: str) -> None:
    with pytest.raises(SaslRefused, match=why):
        Given().respond(challenge)


def test_quotes_and_letters_beyond_ascii_are_written_as_the_rfc_wants() -> None:
    exchange = DigestMd5(SaslDigest('a"b\\é', "pässword").credentials, Random(1))
    answer = exchange.respond(rb'realm="say \"hi\"",nonce="x\\y",algorithm=md5-sess,qop="auth-conf, auth"')
    assert answer is not None
    assert 'username="a\\"b\\\\é"'.encode() in answer
    assert rb'realm="say \"hi\""' in answer
    assert rb'nonce="x\\y"' in answer
    # Beyond ISO 8859-1 a name is hashed as it is.
    assert DigestMd5(SaslDigest("名", "x").credentials, Random(1)).respond(CHALLENGE) is not None


def test_credentials_with_a_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="no zero character"):
        SaslDigest("a\0b", "c")


def test_two_exchanges_have_two_nonces() -> None:
    dice = Random(7)
    credentials = SaslDigest("a", "b").credentials
    answers = {DigestMd5(credentials, dice).respond(CHALLENGE) for _ in range(2)}
    assert len(answers) == 2


# --- the session ----------------------------------------------------------------------------------


def token(driver: Driver) -> tuple[int, bytes]:
    """The xid and the token of the one request that was sent."""
    (data,) = driver.sends
    driver.sends.clear()
    xid, op, body = sent(data)
    assert op == codes.OP_SASL
    assert struct.unpack_from(">i", body) == (len(body) - 4,)
    return xid, body[4:]


def greeted() -> Driver:
    """Up to the first token."""
    driver = Driver(A, B)
    auth = SaslDigest("bob", "secret")
    driver.machine.authenticate(auth.scheme, auth.credentials, START_MS)
    driver.machine.authenticate("digest", b"also:this", START_MS)
    driver.start()
    driver.machine.on_connected(driver.now_ms)
    driver.take()
    driver.sends.clear()
    driver.feed(hello())
    return driver


def proof(answer: bytes) -> bytes:
    """What a server answers that knows bob's password: computed by its own half of RFC 2831."""

    def md5(data: bytes) -> bytes:
        return hashlib.md5(data).digest()

    def hexed(data: bytes) -> bytes:
        return md5(data).hex().encode()

    cnonce = answer.partition(b'cnonce="')[2].partition(b'"')[0]
    a1 = hexed(md5(b"bob:zk-sasl-md5:secret") + b":n:" + cnonce)
    return b"rspauth=" + hexed(b":".join((a1, b"n", b"00000001", cnonce, b"auth", hexed(b":zookeeper/zk-sasl-md5"))))


OFFER = b'realm="zk-sasl-md5",nonce="n",charset=utf-8,algorithm=md5-sess'


def test_nothing_is_asked_before_the_exchange_is_over() -> None:
    driver = greeted()
    driver.call()
    first, empty = token(driver)
    assert empty == b""
    driver.feed(reply(first, body=text(OFFER)))
    second, answer = token(driver)
    assert second == first + 1
    assert driver.states == []
    driver.feed(reply(second, body=text(proof(answer))))
    assert driver.states == [State.CONNECTED]
    assert driver.machine.session_id == ID
    assert [sent(data)[1] for data in driver.sends] == [codes.OP_AUTH, codes.OP_GET_DATA]


def test_each_connection_begins_with_it() -> None:
    driver = greeted()
    token(driver)
    driver.lose()
    driver.redial()
    driver.machine.on_connected(driver.now_ms)
    driver.take()
    driver.sends.clear()
    driver.feed(hello())
    assert token(driver)[1] == b""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"err": -115}, "refused the credentials"),
        ({"err": -124}, "refused the credentials"),
        ({"body": struct.pack(">i", -1)}, "does not know SASL"),
        ({"body": text(b"nonsense")}, "cannot be read"),
    ],
)
def test_a_refusal_ends_the_client(answer: dict[str, object], reason: str) -> None:
    driver = greeted()
    xid, _ = token(driver)
    driver.feed(reply(xid, **answer))  # type: ignore[arg-type]  # of two kinds
    assert driver.states == [State.AUTH_FAILED]
    assert reason in driver.reasons[-1]


@pytest.mark.parametrize("data", [reply(99), struct.pack(">i", 3) + b"abc"])
def test_what_is_no_answer_loses_the_connection_only(data: bytes) -> None:
    driver = greeted()
    token(driver)
    driver.feed(data)
    assert driver.hang_ups == 1
    assert driver.states == []


def test_a_connection_that_stands_takes_no_sasl() -> None:
    driver = Driver(A)
    driver.start()
    driver.connect()
    with pytest.raises(ValueError, match="constructor"):
        driver.machine.authenticate("sasl", SaslDigest("bob", "secret").credentials, driver.now_ms)


def test_the_number_of_a_request_goes_round() -> None:
    driver = greeted()
    driver.machine._xid = (1 << 31) - 1
    driver.feed(reply((1 << 31) - 1, body=text(OFFER)))
    driver.sends.pop(0)
    assert token(driver)[0] == 1

"""ACLs: interning, checks, what a request's list becomes, credentials and masking."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from time import process_time

import pytest

from coati.core.acl import (
    MAX_VERDICTS,
    OPEN_ACL,
    OPEN_KEY,
    OPEN_WIRE,
    SUPER,
    Access,
    AccessConfig,
    AclCache,
    encode_acl,
    generate_digest,
    ip_matches,
    mask_digests,
)
from coati.errors import AUTH_FAILED, OK
from coati.wire import codes
from coati.wire.records import ACL, ClientInfo, Id

BOB = Id("digest", "bob:" + "EAkjfiBWc9eiN9kGLtBKtJGFm8U=")
IP = Id("ip", "10.1.2.3")


def acl(perms: int, scheme: str, who: str) -> ACL:
    return ACL(perms, Id(scheme, who))


# The cache.


def test_open_acl_is_known_by_its_bytes() -> None:
    cache = AclCache()
    assert OPEN_WIRE.hex() == "000000010000001f00000005776f726c6400000006616e796f6e65"
    assert cache.intern([OPEN_ACL]) is cache.open
    assert cache.open.is_open
    assert cache.open.key == OPEN_KEY == -1


def test_null_acl_is_open() -> None:
    """ReferenceCountedACLCache.convertAcls."""
    cache = AclCache()
    assert cache.intern(None) is cache.open


def test_equal_lists_are_one_object() -> None:
    cache = AclCache()
    one = cache.intern([acl(1, "world", "anyone")])
    assert cache.intern([acl(1, "world", "anyone")]) is one
    assert cache.intern([acl(2, "world", "anyone")]) is not one
    assert not one.is_open
    assert (one.key, len(cache)) == (1, 2)


def test_unused_list_leaves_the_cache() -> None:
    """ZOOKEEPER-3531 and others: the table must not grow with every ACL there ever was."""
    cache = AclCache()
    one = cache.intern([acl(1, "world", "anyone")])
    cache.retain(one)
    cache.retain(one)
    cache.release(one)
    assert cache.table() == {1: [acl(1, "world", "anyone")]}
    cache.release(one)
    assert cache.table() == {}


def test_open_list_stays() -> None:
    cache = AclCache()
    cache.retain(cache.open)
    cache.release(cache.open)
    cache.settle()
    assert cache.intern([OPEN_ACL]) is cache.open
    assert len(cache) == 0


def test_list_given_up_and_used_again_is_entered_again() -> None:
    cache = AclCache()
    staged = cache.intern([acl(1, "world", "anyone")])
    cache.drop_unused(staged)
    assert len(cache) == 0
    cache.retain(staged)
    assert cache.table() == {1: staged.entries}


def test_two_objects_for_one_list_do_not_disturb_each_other() -> None:
    cache = AclCache()
    first = cache.intern([acl(1, "world", "anyone")])
    cache.drop_unused(first)
    second = cache.intern([acl(1, "world", "anyone")])
    cache.retain(second)
    cache.retain(first)
    cache.release(first)
    assert cache.table() == {second.key: second.entries}


def test_snapshot_lists_an_acl_that_was_staged_while_its_last_use_went() -> None:
    """Java refused the snapshot for the missing key ("Failed to fetch acls"): found by the round trip through 3.8.0."""
    cache = AclCache()
    entries = [acl(1, "world", "anyone")]
    old = cache.intern(entries)
    cache.retain(old)
    staged = cache.intern(entries)
    cache.release(old)
    later = cache.intern(entries)
    cache.retain(staged)
    cache.retain(later)
    assert {staged.key, later.key} <= set(cache.table())


def test_purge_keeps_what_is_used() -> None:
    cache = AclCache()
    used = cache.intern([acl(1, "world", "anyone")])
    cache.intern([acl(2, "world", "anyone")])
    cache.retain(used)
    cache.settle()
    assert cache.table() == {used.key: used.entries}


# Checks.


def allows(entries: list[ACL], perm: int, ids: list[Id], config: AccessConfig | None = None) -> bool:
    return Access(config).allows(AclCache().intern(entries), perm, ids)


def test_world_may_what_it_says() -> None:
    assert allows([acl(1, "world", "anyone")], 1, [])
    assert not allows([acl(1, "world", "anyone")], 2, [])
    assert allows([acl(2, "world", "anyone")], 3, []), "one of the bits is enough (getACL asks for two)"
    assert not allows([acl(31, "world", "somebody")], 1, [])


def test_digest_must_be_equal() -> None:
    assert allows([ACL(31, BOB)], 4, [IP, BOB])
    assert not allows([ACL(31, BOB)], 4, [IP, Id("digest", "bob:other")])
    assert not allows([ACL(31, BOB)], 4, [Id("sasl", BOB.id)]), "another scheme is another identity"
    assert not allows([ACL(31, BOB)], 4, [BOB], AccessConfig(digest_enabled=False))


def test_every_entry_counts() -> None:
    entries = [ACL(1, BOB), acl(2, "ip", "10.0.0.0/8")]
    assert allows(entries, 2, [IP])
    assert not allows(entries, 1, [IP])
    assert allows(entries, 1, [BOB])


def test_long_list_is_not_looked_through_each_time() -> None:
    access = Access()
    acl = AclCache().intern([ACL(codes.PERM_READ, Id("digest", f"u{n}:x")) for n in range(20_000)])
    strangers = [[Id("ip", f"10.0.0.{n}"), Id("digest", f"v{n}:x")] for n in range(2 * MAX_VERDICTS)]
    last = [Id("digest", "u19999:x")]
    began = process_time()
    for _ in range(2000):
        assert access.allows(acl, codes.PERM_READ, last)
        assert not access.allows(acl, codes.PERM_WRITE, last)
        assert not access.allows(acl, codes.PERM_READ, strangers[0])
    assert process_time() - began < 5
    assert [access.allows(acl, codes.PERM_READ, who) for who in strangers] == [False] * len(strangers)
    assert len(acl.verdicts) <= MAX_VERDICTS
    assert access.allows(acl, codes.PERM_READ, [*strangers[0], *last])


def test_super_may_everything() -> None:
    assert allows([acl(0, "world", "anyone")], 16, [SUPER])


def test_nobody_is_asked_with_skip_acl() -> None:
    assert allows([acl(0, "world", "anyone")], 16, [], AccessConfig(skip_acl=True))


def test_empty_list_protects_nothing() -> None:
    """ZooKeeperServer.checkACL: such lists come only from old files."""
    assert allows([], 16, [])


def test_scheme_without_provider_matches_nobody() -> None:
    who = Id("sasl", "alice")
    assert not allows([ACL(31, who)], 1, [who])
    assert allows([ACL(31, who)], 1, [who], AccessConfig(schemes=("sasl",)))


# IP: vectors read off IPAuthenticationProvider and its parseV6addr.


@pytest.mark.parametrize(
    ("address", "expression", "expected"),
    [
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.128/25", False),
        ("10.1.2.200", "10.1.2.128/25", True),
        ("1.2.3.4", "9.9.9.9/0", True),
        ("1.2.3.4", "::/0", False),
        ("::1", "0.0.0.0/0", False),
        ("::1", "::1", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("2001:db8::5", "2001:db8::/32", True),
        ("2001:db9::5", "2001:db8::/32", False),
        ("fe80::1%eth0", "fe80::/10", False),
        ("nonsense", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/33", False),
        ("10.1.2.3", "10.0.0.0/x", False),
    ],
)
def test_ip_matches(address: str, expression: str, expected: bool) -> None:
    assert ip_matches(address, expression) == expected
    assert allows([acl(1, "ip", expression)], 1, [Id("ip", address)]) == expected


@pytest.mark.parametrize(
    ("expression", "valid"),
    [
        ("1.2.3.4", True),
        ("1.2.3.4/32", True),
        ("1.2.3.4/+8", True),
        ("1.2.3.4/-1", False),
        ("1.2.3.4/99", False),
        ("1.2.3.4/", False),
        ("1.2.3.4/99999999999", False),
        ("300.1.1.1", False),
        ("1.2.3", False),
        ("1.2.3.4.5", False),
        ("1.2.3.", False),
        ("1.2.3.x", False),
        ("", False),
        ("host", False),
        ("::", True),
        ("::/0", True),
        ("::/129", False),
        ("1:2:3:4:5:6:7:8", True),
        ("1:2:3:4:5:6:7", False),
        ("1:2:3:4:5:6:7:8:9", False),
        ("1:2:3:4::5:6:7:8", False),
        ("1::2::3", False),
        ("1:::2", False),
        (":1:2:3:4:5:6:7", False),
        ("12345::", False),
        ("g::", False),
        ("ffff:FFFF::", True),
    ],
)
def test_ip_of_an_acl_is_valid(expression: str, valid: bool) -> None:
    entry = acl(31, "ip", expression)
    assert Access().fixup([entry], []) == ([entry] if valid else None)


# What a request's list becomes.


def test_fixup_keeps_world_digest_and_ip() -> None:
    entries = [OPEN_ACL, ACL(1, BOB), acl(31, "ip", "10.0.0.0/8")]
    assert Access().fixup(entries, []) == entries


@pytest.mark.parametrize(
    "entries",
    [
        None,
        [],
        [acl(31, "world", "everybody")],
        [acl(31, "", "")],
        [acl(31, "super", "")],
        [acl(31, "sasl", "alice")],
        [acl(31, "nosuch", "x")],
        [acl(31, "auth", "")],
        [OPEN_ACL, acl(31, "auth", "")],
    ],
)
def test_fixup_refuses(entries: list[ACL] | None) -> None:
    assert Access().fixup(entries, [IP]) is None


def test_fixup_drops_duplicates() -> None:
    assert Access().fixup([OPEN_ACL, ACL(1, BOB), OPEN_ACL], []) == [OPEN_ACL, ACL(1, BOB)]


def test_auth_becomes_all_authenticated_ids() -> None:
    sasl = Id("sasl", "alice")
    access = Access(AccessConfig(schemes=("sasl",)))
    assert access.fixup([acl(5, "auth", "whatever")], [IP, BOB, SUPER, sasl]) == [ACL(5, BOB), ACL(5, sasl)]


@pytest.mark.parametrize(
    ("who", "valid"),
    # DigestAuthenticationProvider.isValid: two parts, and Java's split drops empty ones at the end.
    [("u:h", True), (":h", True), ("u:h:", True), ("u", False), ("u:", False), ("", False), ("u::h", False)],
)
def test_digest_of_an_acl_has_two_parts(who: str, valid: bool) -> None:
    entry = acl(31, "digest", who)
    assert Access().fixup([entry], []) == ([entry] if valid else None)


def test_digest_may_be_switched_off() -> None:
    assert Access(AccessConfig(digest_enabled=False)).fixup([ACL(31, BOB)], []) is None


def test_ensemble_is_no_scheme_for_acls() -> None:
    assert Access(AccessConfig(schemes=("ensemble",))).fixup([acl(31, "ensemble", "x")], []) is None


def test_unknown_permission_bits_are_kept() -> None:
    assert Access().fixup([acl(96, "world", "anyone")], []) == [acl(96, "world", "anyone")]


# Credentials.


def test_digest_is_java_s() -> None:
    """`super:test` is the example of the administrators' guide."""
    assert generate_digest("super:test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
    assert generate_digest("noPassword").startswith("noPassword:")
    assert generate_digest("a:b:c").startswith("a:")


def test_digest_algorithm_can_be_chosen() -> None:
    expected = "x:" + b64encode(hashlib.sha256(b"x:y").digest()).decode()
    assert generate_digest("x:y", "sha256") == expected


def test_auth_by_digest() -> None:
    result = Access().authenticate("digest", b"super:test", "1.2.3.4")
    assert (result.err, result.ids, result.must_close) == (
        OK,
        [Id("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")],
        False,
    )


def test_super_user_is_also_himself() -> None:
    config = AccessConfig(super_digest="super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
    mine = Id("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
    assert Access(config).authenticate("digest", b"super:test", "").ids == [SUPER, mine]
    assert SUPER not in Access(config).authenticate("digest", b"super:wrong", "").ids


def test_auth_by_ip_names_the_address() -> None:
    assert Access().authenticate("ip", b"whatever", "1.2.3.4").ids == [Id("ip", "1.2.3.4")]


@pytest.mark.parametrize(
    ("scheme", "auth"), [("digest", None), ("world", b""), ("auth", b""), ("super", b""), ("x", b""), (None, None)]
)
def test_auth_fails(scheme: str | None, auth: bytes | None) -> None:
    result = Access().authenticate(scheme, auth, "1.2.3.4")
    assert (result.err, result.ids, result.must_close) == (AUTH_FAILED, [], False)


def test_auth_by_digest_fails_where_it_is_switched_off() -> None:
    assert Access(AccessConfig(digest_enabled=False)).authenticate("digest", b"a:b", "").err == AUTH_FAILED


@pytest.mark.parametrize(
    ("names", "auth", "ok"),
    [
        (("one", "two"), b"two", True),
        (("one",), b"two", False),
        (("one",), b"", True),
        (("one",), None, True),
        ((), b"two", True),
    ],
)
def test_auth_by_ensemble_name(names: tuple[str, ...], auth: bytes | None, ok: bool) -> None:
    """EnsembleAuthenticationProvider: another name means that the client is to go elsewhere, not that it failed."""
    access = Access(AccessConfig(schemes=("ensemble",), ensemble_names=names))
    result = access.authenticate("ensemble", auth, "1.2.3.4")
    assert (result.err == OK, result.must_close, result.ids) == (ok, not ok, [])


def test_ensemble_is_unknown_unless_configured() -> None:
    assert Access().authenticate("ensemble", b"", "").err == AUTH_FAILED


# What others get to see.


def test_mask_hides_hashes() -> None:
    entries = [ACL(1, BOB), OPEN_ACL, acl(2, "digest", "a:b:c"), acl(4, "digest", "a:b\nc:d"), acl(8, "ip", "1:2")]
    assert mask_digests(entries) == [
        acl(1, "digest", "bob:x"),
        OPEN_ACL,
        acl(2, "digest", "a:x"),
        acl(4, "digest", "a:x\nc:x"),
        acl(8, "ip", "1:2"),
    ]


def test_who_am_i_names_users() -> None:
    access = Access(AccessConfig(schemes=("sasl",)))
    ids = [IP, BOB, Id("sasl", "alice"), SUPER, Id("x509", "CN=a")]
    assert access.client_infos(ids) == [
        ClientInfo("ip", "10.1.2.3"),
        ClientInfo("digest", "bob"),
        ClientInfo("sasl", "alice"),
        ClientInfo("super", ""),
        ClientInfo("x509", ""),
    ]


def test_encoding_is_a_jute_vector() -> None:
    assert encode_acl([]).hex() == "00000000"
    assert encode_acl([acl(5, "a", "bc")]).hex() == "00000001" + "00000005" + "00000001" + "61" + "00000002" + "6263"

"""Every operation of kazoo, on coati and on Java alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    QuotaExceededError,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.security import (
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    make_acl,
    make_digest_acl,
    make_digest_acl_credential,
)

from tests.interop import peers, raw
from tests.interop.peers import Server

Clients = Callable[..., KazooClient]


# --- create ---------------------------------------------------------------------------------------


def test_create_returns_the_path_and_get_the_data(zk: KazooClient) -> None:
    assert zk.create("/a", b"data") == "/a"
    data, stat = zk.get("/a")
    assert data == b"data"
    assert (stat.version, stat.cversion, stat.aversion, stat.numChildren, stat.dataLength) == (0, 0, 0, 0, 4)
    assert stat.czxid == stat.mzxid == stat.pzxid
    assert stat.ctime == stat.mtime
    assert stat.ephemeralOwner == 0


def test_create_with_include_data_returns_the_stat(zk: KazooClient) -> None:
    path, stat = zk.create("/a", b"data", include_data=True)
    assert path == "/a"
    assert stat == zk.exists("/a")


@pytest.mark.parametrize("include_data", [False, True])
def test_create_sequence_counts_creates_of_the_parent(zk: KazooClient, include_data: bool) -> None:
    zk.ensure_path("/p")
    made = [zk.create("/p/n-", sequence=True, include_data=include_data) for _ in range(2)]
    zk.delete("/p/n-0000000001")
    zk.create("/p/plain")
    made.append(zk.create("/p/n-", sequence=True, include_data=include_data))
    names = [each[0] if include_data else each for each in made]
    assert names == ["/p/n-0000000000", "/p/n-0000000001", "/p/n-0000000003"]


def test_create_sequence_with_a_bare_parent_names_by_number_alone(zk: KazooClient) -> None:
    zk.ensure_path("/p")
    assert zk.create("/p/", sequence=True) == "/p/0000000000"


@pytest.mark.parametrize("sequence", [False, True])
def test_create_ephemeral_belongs_to_the_session(zk: KazooClient, sequence: bool) -> None:
    path = zk.create("/e", ephemeral=True, sequence=sequence)
    assert zk.exists(path).ephemeralOwner == zk.client_id[0]


def test_create_makepath_makes_the_parents(zk: KazooClient) -> None:
    assert zk.create("/a/b/c", b"x", makepath=True) == "/a/b/c"
    assert zk.get("/a/b") == (b"", zk.exists("/a/b"))


def test_create_refusals(zk: KazooClient) -> None:
    zk.create("/a")
    zk.create("/e", ephemeral=True)
    with pytest.raises(NodeExistsError):
        zk.create("/a")
    with pytest.raises(NoNodeError):
        zk.create("/no/child")
    with pytest.raises(NoChildrenForEphemeralsError):
        zk.create("/e/child")
    with pytest.raises(InvalidACLError):
        zk.create("/b", acl=[make_acl("nope", "x", all=True)])
    with pytest.raises(BadArgumentsError):
        zk.create("/b\x00c")


def test_create_with_unicode_path_and_empty_and_large_data(zk: KazooClient) -> None:
    zk.create("/ключ-名前-é", "значение".encode())
    assert zk.get("/ключ-名前-é")[0] == "значение".encode()
    zk.create("/empty", b"")
    assert zk.get("/empty")[0] == b""
    zk.create("/large", bytes(1_000_000))
    assert zk.exists("/large").dataLength == 1_000_000


def test_ensure_path_is_idempotent(zk: KazooClient) -> None:
    assert zk.ensure_path("/x/y/z")
    assert zk.ensure_path("/x/y/z")
    assert zk.get_children("/x") == ["y"]


# --- read -----------------------------------------------------------------------------------------


def test_exists_of_nothing_is_none(zk: KazooClient) -> None:
    assert zk.exists("/nothing") is None


def test_get_of_nothing_is_no_node(zk: KazooClient) -> None:
    with pytest.raises(NoNodeError):
        zk.get("/nothing")
    with pytest.raises(NoNodeError):
        zk.get_children("/nothing")


def test_get_children_with_and_without_stat(zk: KazooClient) -> None:
    for name in "bac":
        zk.create(f"/p/{name}", makepath=True)
    assert sorted(zk.get_children("/p")) == ["a", "b", "c"]
    children, stat = zk.get_children("/p", include_data=True)
    assert sorted(children) == ["a", "b", "c"]
    assert (stat.numChildren, stat.cversion) == (3, 3)
    zk.delete("/p/a")
    assert zk.exists("/p").cversion == 4


def test_stat_properties_of_kazoo(zk: KazooClient) -> None:
    zk.create("/a", b"xy")
    zk.set("/a", b"xyz")
    stat = zk.exists("/a")
    assert (stat.version, stat.acl_version, stat.children_version, stat.data_length, stat.children_count) == (
        1,
        0,
        0,
        3,
        0,
    )
    assert stat.created <= stat.last_modified
    assert stat.creation_transaction_id < stat.last_modified_transaction_id
    assert stat.owner_session_id is None


def test_sync_returns_the_path(zk: KazooClient) -> None:
    assert zk.sync("/") == "/"


# --- write ----------------------------------------------------------------------------------------


def test_set_counts_versions(zk: KazooClient) -> None:
    zk.create("/a", b"0")
    assert zk.set("/a", b"1").version == 1
    assert zk.set("/a", b"2", version=1).version == 2
    with pytest.raises(BadVersionError):
        zk.set("/a", b"3", version=1)
    with pytest.raises(NoNodeError):
        zk.set("/nothing", b"")
    assert zk.get("/a")[0] == b"2"


def test_set_data_none_is_read_as_none(zk: KazooClient) -> None:
    zk.create("/a", b"0")
    stat = zk.set("/a", None)
    assert stat.dataLength == 0
    assert zk.get("/a")[0] is None


def test_delete_checks_version_and_children(zk: KazooClient) -> None:
    zk.create("/a/b", makepath=True)
    with pytest.raises(NotEmptyError):
        zk.delete("/a")
    with pytest.raises(BadVersionError):
        zk.delete("/a/b", version=3)
    assert zk.delete("/a/b", version=0)
    with pytest.raises(NoNodeError):
        zk.delete("/a/b")


def test_delete_recursive(zk: KazooClient) -> None:
    for path in ("/a/b/c", "/a/d", "/a/b/e/f"):
        zk.create(path, makepath=True)
    zk.delete("/a", recursive=True)
    assert zk.exists("/a") is None
    assert zk.get_children("/") == []


def test_async_operations_are_answered_in_order(zk: KazooClient) -> None:
    asked = [zk.create_async("/a", b"0")]
    asked += [zk.set_async("/a", str(number).encode()) for number in range(100)]
    got = zk.get_async("/a")
    gone = zk.delete_async("/a")
    assert [each.get(20).version for each in asked[1:]] == list(range(1, 101))
    assert got.get(20)[0] == b"99"
    assert gone.get(20)
    assert zk.get_children_async("/").get(20) == []
    assert zk.exists_async("/a").get(20) is None
    assert zk.sync_async("/a").get(20) == "/a"
    assert zk.ensure_path_async("/q/r").get(20)
    assert zk.get_acls_async("/q").get(20)[0] == OPEN_ACL_UNSAFE


# --- transactions ---------------------------------------------------------------------------------


def test_transaction_does_all_at_one_zxid(zk: KazooClient) -> None:
    zk.create("/old", b"x")
    zk.create("/gone")
    asked = zk.transaction()
    asked.create("/new", b"n")
    asked.create("/new/seq-", sequence=True)
    asked.create("/mine", ephemeral=True)
    asked.set_data("/old", b"y", version=0)
    asked.check("/old", 1)
    asked.delete("/gone")
    results = asked.commit()
    assert results[:3] == ["/new", "/new/seq-0000000000", "/mine"]
    assert results[3] == zk.exists("/old")
    assert results[4:] == [True, True]
    assert zk.exists("/new").czxid == zk.exists("/old").mzxid == zk.exists("/mine").czxid == zk.exists("/new").pzxid
    assert zk.exists("/gone") is None


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_transaction_that_fails_changes_nothing(zk: KazooClient, bad: int) -> None:
    asked = zk.transaction()
    for number in range(3):
        if number == bad:
            asked.check("/nothing", 0)
        else:
            asked.create(f"/n{number}")
    results = asked.commit()
    assert [type(each) for each in results] == [
        RolledBackError if number < bad else NoNodeError if number == bad else RuntimeInconsistency
        for number in range(3)
    ]
    assert zk.get_children("/") == []


def test_transaction_errors_of_every_operation(zk: KazooClient) -> None:
    zk.create("/a/b", makepath=True)

    def error(build: Callable[..., object], *args: object, **options: object) -> type:
        asked = zk.transaction()
        build(asked, *args, **options)
        (result,) = asked.commit()
        return type(result)

    transaction = type(zk.transaction())
    assert error(transaction.create, "/a") is NodeExistsError
    assert error(transaction.create, "/x/y") is NoNodeError
    assert error(transaction.set_data, "/a", b"", version=5) is BadVersionError
    assert error(transaction.set_data, "/x", b"") is NoNodeError
    assert error(transaction.delete, "/a") is NotEmptyError
    assert error(transaction.delete, "/a/b", version=5) is BadVersionError
    assert error(transaction.check, "/a", 5) is BadVersionError


def test_transaction_sees_its_own_changes(zk: KazooClient) -> None:
    with zk.transaction() as asked:
        asked.create("/a", b"0")
        asked.set_data("/a", b"1", version=0)
        asked.create("/a/b")
        asked.delete("/a/b", version=0)
        asked.check("/a", 1)
    assert zk.get("/a")[0] == b"1"
    assert zk.exists("/a").cversion == 2


def test_empty_transaction(zk: KazooClient) -> None:
    assert zk.transaction().commit() == []


# --- access ---------------------------------------------------------------------------------------


def test_get_acls_of_an_open_node(zk: KazooClient) -> None:
    zk.create("/a")
    acls, stat = zk.get_acls("/a")
    assert acls == OPEN_ACL_UNSAFE
    assert stat.aversion == 0


def test_set_acls_counts_aversion(zk: KazooClient) -> None:
    zk.create("/a")
    assert zk.set_acls("/a", [*READ_ACL_UNSAFE, make_acl("world", "anyone", admin=True)]).aversion == 1
    with pytest.raises(BadVersionError):
        zk.set_acls("/a", OPEN_ACL_UNSAFE, version=0)
    with pytest.raises(NoAuthError):
        zk.set("/a", b"")
    assert zk.set_acls("/a", OPEN_ACL_UNSAFE, version=1).aversion == 2
    with pytest.raises(NoNodeError):
        zk.set_acls("/nothing", OPEN_ACL_UNSAFE)
    with pytest.raises(InvalidACLError):
        zk.set_acls("/a", [])


def test_digest_acl_admits_only_its_user(zk: KazooClient, clients: Clients) -> None:
    acl = make_digest_acl("alice", "secret", all=True)
    zk.create("/a", b"x", acl=[acl])
    calls: list[Callable[[], object]] = [
        lambda: zk.get("/a"),
        lambda: zk.set("/a", b""),
        lambda: zk.get_children("/a"),
        lambda: zk.exists("/a"),
    ]
    for refused in calls:
        with pytest.raises(NoAuthError):
            refused()
    with pytest.raises(NoAuthError):
        zk.get_acls("/a")
    alice = clients(auth_data=[("digest", "alice:secret")])
    assert alice.get("/a")[0] == b"x"
    assert alice.get_acls("/a")[0] == [acl]
    zk.add_auth("digest", "alice:secret")
    assert zk.get("/a")[0] == b"x"


def test_permissions_are_each_needed(zk: KazooClient) -> None:
    zk.create("/p", acl=[make_acl("world", "anyone", read=True, admin=True)])
    with pytest.raises(NoAuthError):
        zk.create("/p/c")
    zk.set_acls("/p", [make_acl("world", "anyone", create=True, admin=True)])
    zk.create("/p/c")
    with pytest.raises(NoAuthError):
        zk.delete("/p/c")
    with pytest.raises(NoAuthError):
        zk.get_children("/p")
    zk.set_acls("/p", [make_acl("world", "anyone", delete=True)])
    zk.delete("/p/c")
    with pytest.raises(NoAuthError):
        zk.set_acls("/p", OPEN_ACL_UNSAFE)
    with pytest.raises(NoAuthError):
        zk.get_acls("/p")


def test_digest_of_others_is_masked_without_admin(zk: KazooClient) -> None:
    credential = make_digest_acl_credential("bob", "secret")
    zk.create("/a", acl=[make_digest_acl("bob", "secret", all=True), make_acl("world", "anyone", read=True)])
    shown, _ = zk.get_acls("/a")
    assert [each.id.id for each in shown] == ["bob:x", "anyone"]
    zk.add_auth("digest", "bob:secret")
    shown, _ = zk.get_acls("/a")
    assert shown[0].id.id == credential


def test_creator_all_acl_stands_for_the_sessions_identities(zk: KazooClient) -> None:
    with pytest.raises(InvalidACLError):
        zk.create("/a", acl=CREATOR_ALL_ACL)
    zk.add_auth("digest", "carol:pw")
    zk.create("/a", acl=CREATOR_ALL_ACL)
    assert [each.id.id for each in zk.get_acls("/a")[0]] == [make_digest_acl_credential("carol", "pw")]


def test_default_acl_of_the_client(clients: Clients) -> None:
    dave = clients(auth_data=[("digest", "dave:pw")], default_acl=CREATOR_ALL_ACL)
    dave.create("/a")
    with pytest.raises(NoAuthError):
        clients().get("/a")


def test_ip_acl(zk: KazooClient) -> None:
    zk.create("/here", acl=[make_acl("ip", "127.0.0.1", all=True)])
    zk.create("/net", acl=[make_acl("ip", "127.0.0.0/8", all=True)])
    zk.create("/there", acl=[make_acl("ip", "10.0.0.0/8", all=True)])
    assert zk.get("/here")[0] == zk.get("/net")[0] == b""
    with pytest.raises(NoAuthError):
        zk.get("/there")


def test_superuser_passes_every_acl(zk: KazooClient, clients: Clients) -> None:
    zk.create("/a", b"x", acl=[make_digest_acl("nobody", "knows", all=True)])
    boss = clients(auth_data=[("digest", peers.SUPER_PASSWORD)])
    assert boss.get("/a")[0] == b"x"
    assert boss.set_acls("/a", OPEN_ACL_UNSAFE).aversion == 1
    assert zk.get("/a")[0] == b"x"


# --- the server -----------------------------------------------------------------------------------


def test_command_and_server_version(zk: KazooClient) -> None:
    assert zk.command(b"ruok") == "imok"
    assert "Mode: standalone" in zk.command(b"srvr")
    version = zk.server_version()
    assert len(version) == 3
    assert version >= (3, 8, 0)


def test_config_node_is_readable(server: Server) -> None:
    client = KazooClient(server.address)
    client.start(timeout=20)
    try:
        data, stat = client.get("/zookeeper/config")
        assert stat.version == 0 or data
        assert sorted(client.get_children("/zookeeper")) == ["config", "quota"]
        acls, _ = client.get_acls("/zookeeper/config")
        assert acls == READ_ACL_UNSAFE
    finally:
        client.stop()
        client.close()


def test_reconfig_is_refused_when_not_enabled(zk: KazooClient) -> None:
    with pytest.raises(ReconfigDisabledError):
        zk.reconfig(joining="server.2=127.0.0.1:1:2;3", leaving=None, new_members=None)


def test_ttl_and_container_through_raw(server: Server, root: str, zk: KazooClient) -> None:
    # kazoo cannot create them, but has to live with those that others made.
    with peers.session(server) as session:
        error, made = session.call(raw.CREATE_TTL, raw.create_ttl(f"{root}/ttl", b"t", raw.OPEN, 5, 3_600_000))
        assert error == 0
        assert made
        error, _ = session.call(raw.CREATE_CONTAINER, raw.create(f"{root}/box", b"c", raw.OPEN, 4))
        assert error == 0
        session.close()
    assert zk.exists("/ttl").ephemeralOwner == 0
    assert zk.exists("/box").ephemeralOwner == 0
    zk.create("/box/child")
    zk.delete("/box/child")
    peers.eventually(lambda: zk.exists("/box") is None, "an empty container goes")
    assert zk.exists("/ttl") is not None


def test_expired_ttl_node_goes(server: Server, root: str, zk: KazooClient) -> None:
    with peers.session(server) as session:
        assert session.call(raw.CREATE_TTL, raw.create_ttl(f"{root}/ttl", b"t", raw.OPEN, 6, 1))[0] == 0
        session.close()
    peers.eventually(lambda: zk.get_children("/") == [], "a node goes after its ttl")


def test_quota_nodes_count_and_do_not_bind_unless_enforced(server: Server, root: str, zk: KazooClient) -> None:
    limits = f"/zookeeper/quota{root}/q"
    admin = KazooClient(server.address)
    admin.start(timeout=20)
    try:
        zk.create("/q", b"12")
        admin.create(
            f"{limits}/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=3;countHardLimit=2", makepath=True
        )
        admin.create(f"{limits}/zookeeper_stats", b"count=0,bytes=0")
        try:
            zk.create("/q/a", b"345")
            zk.create("/q/b", b"")
        except QuotaExceededError:
            pytest.fail("hard limits bind only with zookeeper.enforceQuota=true")
        assert admin.get(f"{limits}/zookeeper_stats")[0] == b"count=3,bytes=5"
        zk.delete("/q/b")
        zk.set("/q/a", b"")
        assert admin.get(f"{limits}/zookeeper_stats")[0] == b"count=2,bytes=2"
    finally:
        admin.stop()
        admin.close()

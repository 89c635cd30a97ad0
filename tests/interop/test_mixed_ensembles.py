"""Ensembles of coati and Java servers: whoever leads, all have the same tree, and nothing acknowledged is lost.

Every way that a member is brought up to date is staged in both directions: DIFF, TRUNC and SNAP.
COATI_LONG_ENSEMBLES=1 runs the cases that make no new point, which are skipped otherwise to save time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop import picture, raw
from tests.interop.ensembles import COATI, CONFIG, Ensemble, Held, Load, Member
from tests.interop.peers import eventually

IS_LONG = os.environ.get("COATI_LONG_ENSEMBLES") == "1"
only_long = pytest.mark.skipif(not IS_LONG, reason="COATI_LONG_ENSEMBLES=1 runs the cases that make no new point")
J9, J8 = "3.9.3", "3.8.0"
# So few that a member which missed MISSED txns gets a snapshot.
SNAPSHOTS_SOON = {"zookeeper.commitLogCount": "400", "zookeeper.snapshotSizeFactor": "-1"}
MISSED = 1200
TAIL = 20


def write(session: raw.Session, base: str, count: int) -> list[str]:
    """Pipelined creates, all acknowledged."""
    paths = [f"{base}{number:04d}" for number in range(count)]
    for path in paths:
        session.send(raw.CREATE, raw.create(path, path.encode()))
    for path in paths:
        assert session.reply().err == 0, path
    return paths


def has_logged(member: Member, path: str) -> bool:
    """Whether a member's log has a create of this path."""
    logs = (member.data_dir / "version-2").glob("log.*")
    return any(path.encode() in log.read_bytes() for log in logs)


def follower_of(ensemble: Ensemble) -> Member:
    return next(member for member in ensemble.running if member.mode() == "follower")


@pytest.mark.parametrize(
    ("kinds", "leader", "observers"),
    [
        pytest.param((COATI, COATI, J9), 3, (), id="3.9.3 leads two of ours"),
        pytest.param((J9, COATI, J9), 2, (), id="ours leads two of 3.9.3"),
        pytest.param((J9, J9, COATI), 2, (3,), id="our observer of 3.9.3"),
        pytest.param((COATI, COATI, J9), 2, (3,), id="an observer of 3.9.3 of ours"),
        pytest.param((J8, COATI, J8), 2, (), id="ours leads two of 3.8.0"),
        pytest.param((COATI, COATI, J8), 3, (), id="3.8.0 leads two of ours", marks=only_long),
        pytest.param((J8, J8, COATI), 2, (3,), id="our observer of 3.8.0", marks=only_long),
        pytest.param((COATI, COATI, J8), 2, (3,), id="an observer of 3.8.0 of ours", marks=only_long),
    ],
)
def test_members_agree_and_sessions_move(
    kinds: tuple[str, ...], leader: int, observers: tuple[int, ...], tmp_path: Path
) -> None:
    with Ensemble(tmp_path, kinds, observers=observers) as ensemble:
        ensemble.start_led_by(leader)
        sessions = {sid: ensemble.session(sid) for sid in ensemble.members}
        written: list[str] = []
        for sid, session in sessions.items():
            written += write(session, f"/from{sid}-", 20)
            assert session.call(raw.CREATE, raw.create(f"/alive{sid}", flags=1))[0] == 0
            assert session.call(raw.CREATE_CONTAINER, raw.create(f"/box{sid}", flags=4))[0] == 0
            assert session.call(raw.SET_ACL, raw.set_acl(f"/from{sid}-0000", ((31, "digest", "a:b"),)))[0] == 0
            parts = [(raw.CREATE, raw.create(f"/multi{sid}")), (raw.DELETE, raw.path_version(f"/from{sid}-0001"))]
            assert session.call(raw.MULTI, raw.multi(parts))[0] == 0
            written.remove(f"/from{sid}-0001")
        before = ensemble.check(written)
        # Each session goes to the next member, with what it had.
        for sid, session in sessions.items():
            session.wire.close()
            moved = ensemble.resumed(sid % len(sessions) + 1, session)
            assert moved.call(raw.GET_EPHEMERALS, raw.ustring("")) == (0, [f"/alive{sid}"])
            assert before[f"/alive{sid}"].stat.ephemeral_owner == moved.session_id
            moved.close()
        after = ensemble.check(written)
        assert not any(path.startswith("/alive") for path in after), "an ephemeral outlived its session"


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param((COATI, J9, COATI), id="an old leader of 3.9.3"),
        pytest.param((J9, COATI, J9), id="an old leader of ours"),
        pytest.param((COATI, J8, COATI), id="an old leader of 3.8.0", marks=only_long),
        pytest.param((J8, COATI, J8), id="an old leader of ours, of 3.8.0", marks=only_long),
    ],
)
def test_a_leaders_uncommitted_tail_is_cut(kinds: tuple[str, ...], tmp_path: Path) -> None:
    """It logs what nobody else gets, and comes back when the others have a new leader."""
    with Ensemble(tmp_path, kinds) as ensemble:
        ensemble.start_led_by(2)
        old = ensemble[2]
        with ensemble.session(2) as session:
            written = write(session, "/kept", 20)
            for sid in (1, 3):
                ensemble[sid].freeze()
            for number in range(TAIL):
                session.send(raw.CREATE, raw.create(f"/tail{number:04d}"))
            eventually(lambda: has_logged(old, f"/tail{TAIL - 1:04d}"), "the leader logs alone", 30.0)
            for sid in (2, 1, 3):
                ensemble[sid].kill()
        ensemble.start(1, 3)
        if kinds[0] == COATI:
            # TRUNC and a DIFF behind it; Java sends a snapshot then (LearnerHandler.queueCommittedProposals).
            with ensemble.session(1) as other:
                written += write(other, "/later", 20)
        old.launch()
        ensemble.wait()
        assert old.mode() == "follower"
        shown = ensemble.check(written)
        assert not any(path.startswith("/tail") for path in shown)
        assert CUT[kinds[1] == COATI] in old.log(), "it is to be cut, not to get a snapshot"
        # What it logs from now on survives its restart.
        with ensemble.session(2) as again:
            written += write(again, "/again", 5)
        old.kill()
        ensemble.start(2)
        ensemble.check(written)


CUT = {True: "log cut to=", False: "Truncating log to get in sync with the leader"}
INSTALLED = {True: "snapshot of the leader installed", False: "Getting a snapshot from leader"}


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param((J9, COATI, COATI), id="3.9.3 from ours"),
        pytest.param((COATI, J9, J9), id="ours from 3.9.3"),
        pytest.param((J8, COATI, COATI), id="3.8.0 from ours", marks=only_long),
        pytest.param((COATI, J8, J8), id="ours from 3.8.0", marks=only_long),
    ],
)
def test_who_missed_much_gets_a_snapshot(kinds: tuple[str, ...], tmp_path: Path) -> None:
    with Ensemble(tmp_path, kinds, props=SNAPSHOTS_SOON) as ensemble:
        ensemble.start_led_by(3)
        late = ensemble[1]
        with ensemble.session(3) as session:
            written = write(session, "/before", 20)
            assert session.call(raw.CREATE, raw.create("/alive", flags=1))[0] == 0
            late.kill()
            ensemble.start(2) if not ensemble[2].is_running else ensemble.wait()
            for part in range(MISSED // 400):
                written += write(session, f"/missed{part}-", 400)
            late.launch()
            ensemble.wait()
            assert INSTALLED[late.kind == COATI] in late.log()
            assert "/alive" in ensemble.check(written)
            written += write(session, "/after", 5)
            late.kill()
            # A small gap is filled by a DIFF.
            written += write(session, "/small", 5)
            late.launch()
            ensemble.wait()
            session.close()
        assert "/alive" not in ensemble.check(written)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param((COATI, J9, COATI), id="one of 3.9.3"),
        pytest.param((J9, COATI, J9), id="two of 3.9.3", marks=only_long),
        pytest.param((J8, COATI, J9), id="one of each", marks=only_long),
    ],
)
def test_the_leader_is_killed_again_and_again_under_load(kinds: tuple[str, ...], tmp_path: Path) -> None:
    with Ensemble(tmp_path, kinds) as ensemble:
        ensemble.start_led_by(2)
        with Load(ensemble) as load:
            load.wait_for(30)
            for _ in range(6 if IS_LONG else 3):
                leader = ensemble.leader()
                leader.kill()
                load.wait_for(30)
                leader.launch()
                ensemble.wait()
                load.wait_for(30)
            session = load.end()
            shown = ensemble.check(load.acknowledged)
            load.check_shown(shown)
            assert shown[load.ephemeral].stat.ephemeral_owner == session.session_id


# What a server says of a snapshot that it cannot read.
UNREADABLE = ("is skipped", "problem reading snap file", "invalid snapshot")
# So soon that each member writes one in the time that it has as one kind.
SNAPSHOTS_OFTEN = {"zookeeper.snapCount": "40"}


@pytest.mark.parametrize("version", [pytest.param(J9), pytest.param(J8, marks=only_long)])
def test_a_java_ensemble_moves_to_ours_and_back_member_by_member(version: str, tmp_path: Path) -> None:
    """The same data directories, under load: no session expires, nothing is lost, each reads the other's snapshots."""
    with Ensemble(tmp_path, (version,) * 3, props=SNAPSHOTS_OFTEN) as ensemble:
        ensemble.start(1, 2, 3)
        older = furnish(ensemble)
        numbers = [next_number(ensemble, 1)]
        with ExitStack() as stack:
            load = stack.enter_context(Load(ensemble))
            held = [stack.enter_context(Held(ensemble, sid)) for sid in ensemble.members]
            load.wait_for(50)
            known = {sid: member.snapshots() for sid, member in ensemble.members.items()}
            for kind in (COATI, version):
                for sid, member in ensemble.members.items():
                    wait_for_snapshot(load, member, known[sid])
                    member.become(kind)
                    known[sid] = member.snapshots()
                    ensemble.wait()
                    load.wait_for(20)
                    numbers.append(next_number(ensemble, sid))
                    for one in held:
                        one.check()
            session = load.end()
            shown = ensemble.check(load.acknowledged)
            load.check_shown(shown)
            assert numbers == list(range(7))
            assert {path: shown[path] for path in older} == older
            owners = {load.ephemeral: session.session_id}
            for one in held:
                owners[one.path] = one.end().session_id
            assert {path: shown[path].stat.ephemeral_owner for path in owners} == owners
            for one in held:
                one.end().close()
            session.close()
        assert not owners.keys() & ensemble.check(load.acknowledged).keys()
        for member in ensemble.members.values():
            assert not [line for line in member.log().splitlines() if any(text in line for text in UNREADABLE)]


def wait_for_snapshot(load: Load, member: Member, known: set[str]) -> None:
    """Until it has written one, as what it is now."""
    load.wait_until(lambda: member.snapshots() - known, f"a snapshot of {member.sid}, which is {member.kind}")


def furnish(ensemble: Ensemble) -> dict[str, picture.Shown]:
    """Some of everything; nobody touches it afterwards."""
    with ensemble.session(1) as session:
        assert session.call(raw.CREATE, raw.create("/older"))[0] == 0
        write(session, "/older", 200)
        for op, body in (
            (raw.CREATE, raw.create("/older/deep")),
            (raw.CREATE, raw.create("/older/deep/er", b"x" * 5000, ((31, "digest", "a:b"), (1, "world", "anyone")))),
            (raw.SET_DATA, raw.set_data("/older0001", b"again")),
            (raw.SET_ACL, raw.set_acl("/older0002", ((31, "ip", "127.0.0.1"),))),
            (raw.DELETE, raw.path_version("/older0003")),
            (raw.CREATE_CONTAINER, raw.create("/older/box", flags=4)),
            (raw.CREATE, raw.create("/older/box/full")),
            (raw.CREATE_TTL, raw.create_ttl("/older/timed", b"", raw.OPEN, 5, 3_600_000)),
            (raw.CREATE, raw.create("/numbers")),
        ):
            assert session.call(op, body)[0] == 0, (op, body)
        session.close()
    shown = ensemble.check()
    return {path: one for path, one in shown.items() if path.startswith("/older")}


def next_number(ensemble: Ensemble, sid: int) -> int:
    """What the next sequential znode is called, asked of one member."""
    with ensemble.session(sid) as session:
        error, path = session.call(raw.CREATE, raw.create("/numbers/n", flags=2))
        assert error == 0
        session.close()
    return int(str(path).removeprefix("/numbers/n"))


@pytest.mark.parametrize("kind", [J9, COATI])
def test_the_configuration_is_shown(kind: str, tmp_path: Path) -> None:
    """ZKDatabase.initConfigInZKDatabase: every member shows the view, though no txn has put it there."""
    with Ensemble(tmp_path, (kind, COATI)) as ensemble:
        ensemble.start(1, 2)
        lines = [f"server.{sid}={ensemble[sid].quorum_ports}:participant" for sid in (1, 2)]
        text = "\n".join([*lines, "version=0"]).encode()
        for sid in ensemble.members:
            with ensemble.session(sid) as session:
                error, answer = session.call(raw.GET_DATA, raw.path_watch(CONFIG))
                assert error == 0
                assert isinstance(answer, tuple)
                data, stat = answer
                assert data == text, f"{sid}: {data!r}"
                assert (stat.czxid, stat.mzxid, stat.version, stat.data_length) == (0, 0, -1, len(text)), stat
                session.close()

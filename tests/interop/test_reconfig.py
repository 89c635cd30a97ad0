"""reconfig against Java 3.9.3: the same answers and files, and members that come and go in mixed ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.interop import peers, raw
from tests.interop.ensembles import COATI, CONFIG, Ensemble, Member
from tests.interop.peers import eventually
from tools.javapeer import free_port

J9 = "3.9.3"
ENABLED = {"reconfigEnabled": "true"}
MARSHALLING, BAD_ARGUMENTS, NO_QUORUM, NO_AUTH, BAD_VERSION = -5, -8, -13, -102, -103
# What is asked for, and Java's answer; P1 stands for the ports of server 1.
WISHES: Sequence[tuple[tuple[raw.Path, raw.Path, raw.Path, int], int]] = (
    (("some thing", None, None, -1), BAD_ARGUMENTS),
    (("server.x=127.0.0.1:10:11;12", None, None, -1), MARSHALLING),
    (("server.9=127.0.0.1:10;12", None, None, -1), BAD_ARGUMENTS),
    (("server.9=127.0.0.1:10:11", None, None, -1), BAD_ARGUMENTS),
    (("server.9=127.0.0.1:10:11;12", None, None, 7), BAD_VERSION),
    ((None, "x", None, -1), MARSHALLING),
    ((None, "1,2,3", None, -1), BAD_ARGUMENTS),
    ((None, "1,3", None, -1), BAD_ARGUMENTS),
    ((None, None, "", -1), BAD_ARGUMENTS),
    ((None, None, "foo=1", -1), BAD_ARGUMENTS),
    ((None, None, "server.1=x", -1), BAD_ARGUMENTS),
    ((None, None, "server.1=127.0.0.1:1:2;3", -1), BAD_ARGUMENTS),
    ((None, None, "server.1=127.0.0.1:1:2;3,server.2=127.0.0.1:4:5:observer;6", -1), MARSHALLING),
    ((None, None, "server.1=127.0.0.1:1:2:observer;3", -1), MARSHALLING),
    ((None, None, "server.1=127.0.0.1:1:2:observer;3,server.2=x", -1), BAD_ARGUMENTS),
    ((None, None, "version=7", -1), BAD_ARGUMENTS),
    ((None, None, None, -1), 0),
    (("", "", None, -1), 0),
    (("server.9=P1;12", None, None, -1), 0),
    (("server.9=127.0.0.1:1:2;3,server.8=127.0.0.1:4:5;6,server.7=127.0.0.1:7:8;9", None, None, -1), NO_QUORUM),
    (("server.9=127.0.0.1:10:11:foo;12", None, None, -1), BAD_ARGUMENTS),
    (("9=127.0.0.1:10:11:observer;12", None, None, -1), 0),
    ((None, " 9", None, -1), 0),
    ((None, "9", None, -1), 0),
    ((None, None, "server.1=P1,server.2=P2,server.3=P3,group.1=1:2:3", -1), 0),
    (("server.9=127.0.0.1:10:11:observer;12", None, None, -1), BAD_ARGUMENTS),
    ((None, None, "server.1=P1,server.2=P2,server.3=P3", -1), 0),
)


def administrator(ensemble: Ensemble, sid: int) -> raw.Session:
    session = ensemble.session(sid)
    error, _ = session.call(raw.AUTH, raw.auth("digest", peers.SUPER_PASSWORD.encode()), xid=raw.XID_AUTH)
    assert error == 0
    return session


def line(member: Member, kind: str = "participant") -> str:
    return f"server.{member.sid}={member.quorum_ports}:{kind};127.0.0.1:{member.port}"


def config_of(ensemble: Ensemble, sid: int) -> bytes:
    with ensemble.session(sid) as session:
        error, shown = session.call(raw.GET_DATA, raw.path_watch(CONFIG))
        assert error == 0
        assert isinstance(shown, tuple)
        text: bytes = shown[0]
        return b"\n".join(sorted(text.split(b"\n")))


def agree(ensemble: Ensemble) -> set[bytes]:
    """The list that all show, and have in their files."""
    ensemble.wait()
    eventually(lambda: len({config_of(ensemble, m.sid) for m in ensemble.running}) == 1, "all show the same list")
    shown = {config_of(ensemble, member.sid) for member in ensemble.running}
    (text,) = shown
    version = text.rpartition(b"version=")[2].decode()
    for member in ensemble.running:
        dynamic = member.server.scratch / f"zoo.cfg.dynamic.{version}"
        assert dynamic.read_bytes().split(b"\n") == text.split(b"\n")[:-1], member.kind
        assert (member.server.scratch / "zoo.cfg").read_text().endswith(f"dynamicConfigFile={dynamic}\n")
        assert not (member.server.scratch / "zoo.cfg.dynamic.next").exists()
    return shown


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param((COATI, COATI, COATI), id="ours"),
        pytest.param((COATI, J9, COATI), id="3.9.3 leads two of ours"),
        pytest.param((J9, COATI, J9), id="ours leads two of 3.9.3"),
    ],
)
def test_what_is_asked_for_is_answered_as_java_does(kinds: tuple[str, ...], tmp_path: Path) -> None:
    with Ensemble(tmp_path, kinds, cfg=ENABLED) as ensemble:
        ensemble.start_led_by(2)
        with ensemble.session(1) as nobody:
            for wish in ("server.9=127.0.0.1:10:11;12", "some thing"):
                error, _ = nobody.call(raw.RECONFIG, raw.reconfig(wish, None, None, -1))
                assert error == (NO_AUTH if "=" in wish else BAD_ARGUMENTS)
        with administrator(ensemble, 1) as session:
            for (joining, leaving, members, version), answer in WISHES:
                texts = [joining, leaving, members]
                for sid, member in ensemble.members.items():
                    ports = f"{member.quorum_ports};127.0.0.1:{member.port}" if members else member.quorum_ports
                    texts = [text.replace(f"P{sid}", ports) if isinstance(text, str) else text for text in texts]
                error, done = session.call(raw.RECONFIG, raw.reconfig(texts[0], texts[1], texts[2], version))
                assert error == answer, texts
                if isinstance(done, tuple):
                    text, stat = done
                    assert stat.version == -1
                    assert text.endswith(f"version={stat.mzxid:x}".encode())
        agree(ensemble)
        ensemble.check()


@pytest.mark.parametrize(
    ("kinds", "joiner"),
    [
        pytest.param((COATI, COATI, J9), COATI, id="3.9.3 leads, and ours joins"),
        pytest.param((J9, J9, COATI), J9, id="ours leads, and 3.9.3 joins"),
    ],
)
def test_a_server_joins_and_the_leader_leaves(kinds: tuple[str, ...], joiner: str, tmp_path: Path) -> None:
    """In an ensemble of both kinds, led by 3: 4 joins as a voter, then 3 leaves, and then 4 observes."""
    with Ensemble(tmp_path, (*kinds, joiner), cfg=ENABLED, observers=(4,)) as ensemble:
        four = ensemble.members.pop(4)
        ensemble.start(2, 3)
        ensemble.start(1)
        assert ensemble.leader().sid == 3
        ensemble.members[4] = four
        four.launch()
        ensemble.wait()
        with administrator(ensemble, 1) as session:
            error, _ = session.call(raw.RECONFIG, raw.reconfig(line(four), None, None, -1))
            assert error == 0
            agree(ensemble)
            eventually(lambda: four.mode() == "follower", "4 follows")
        with administrator(ensemble, 1) as session:
            session.send(raw.RECONFIG, raw.reconfig(None, "3", None, -1))
            eventually(lambda: ensemble[3].mode() == "follower", "3 has handed over", 60.0)
        (text,) = agree(ensemble)
        assert b"server.3=" not in text
        assert ensemble.leader().sid != 3
        with administrator(ensemble, ensemble.leader().sid) as session:
            assert session.call(raw.CREATE, raw.create("/behind"))[0] == 0
        assert "/behind" in ensemble.check(["/behind"])


def test_clients_move_to_another_port(tmp_path: Path) -> None:
    """Who is connected stays; a port that is taken changes nothing. And a restart reads all of it from the files."""
    with Ensemble(tmp_path, (COATI, COATI, COATI), cfg=ENABLED) as ensemble:
        ensemble.start_led_by(2)
        one, two = ensemble[1], ensemble[2]
        old_port, one.port = one.port, free_port()
        stays = raw.Session(peers.HOST, old_port, 10_000, deadline_s=20.0)
        with administrator(ensemble, 2) as session:
            error, _ = session.call(raw.RECONFIG, raw.reconfig(line(one), None, None, -1))
            assert error == 0
            eventually(lambda: one.mode() == "follower", "clients connect elsewhere")
            assert stays.call(raw.CREATE, raw.create("/stays"))[0] == 0
            stays.wire.close()
            # The same port as another member: it cannot be taken.
            error, _ = session.call(
                raw.RECONFIG, raw.reconfig(f"server.1={one.quorum_ports};127.0.0.1:{two.port}", None, None, -1)
            )
            assert error == 0
            eventually(lambda: "clients stay where they were" in one.log(), "1 says so")
        assert one.mode() == "follower"


class FromFiles(Ensemble):
    """Members that are exchanged begin with the list in the files of the one before."""

    def __init__(self, base: Path, kinds: Sequence[str]) -> None:
        super().__init__(base, kinds, cfg=ENABLED)
        self._kept: dict[int, str] = {}

    def keep(self, sid: int) -> None:
        """Its dynamic file, which goes with its server."""
        text = (self[sid].server.scratch / "zoo.cfg").read_text()
        dynamic = Path(text.rpartition("dynamicConfigFile=")[2].strip())
        kept = self.base / f"{sid}-{dynamic.name}"
        kept.write_bytes(dynamic.read_bytes())
        self._kept[sid] = str(kept)

    def cfg(self, sid: int) -> dict[str, str]:
        if sid not in self._kept:
            return super().cfg(sid)
        return {**self._cfg, "dynamicConfigFile": self._kept[sid]}


def test_a_server_of_the_other_kind_goes_on_from_the_files(tmp_path: Path) -> None:
    """The list that a reconfig left behind, with client ports: ours from Java's files, and Java from ours."""
    with FromFiles(tmp_path, (COATI, COATI, J9)) as ensemble:
        ensemble.start_led_by(2)
        members = ",".join(line(member) for member in ensemble.members.values())
        with administrator(ensemble, 1) as session:
            assert session.call(raw.RECONFIG, raw.reconfig(None, None, members, -1))[0] == 0
        (before,) = agree(ensemble)
        for sid, kind in ((1, J9), (3, COATI)):
            ensemble.keep(sid)
            ensemble[sid].become(kind)
            ensemble.wait()
            assert {config_of(ensemble, member.sid) for member in ensemble.running} == {before}
        with administrator(ensemble, 1) as session:
            assert session.call(raw.RECONFIG, raw.reconfig(None, None, None, -1))[0] == 0
        agree(ensemble)
        ensemble.check()

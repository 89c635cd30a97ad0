"""config: who is in the ensemble, on three of ours and three of Java's, and alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from coati.cli import exits
from coati.cli.config import parts_of
from tests.cli import kit
from tests.interop import peers
from tests.interop.ensembles import COATI, Ensemble


@pytest.fixture(scope="module", params=[COATI, pytest.param("3.9.3", marks=pytest.mark.interop)])
def ensemble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    kinds = (request.param,) * 3
    with Ensemble(tmp_path_factory.mktemp("config"), kinds, cfg={"reconfigEnabled": "true"}) as made:
        made.start(1, 2, 3)
        yield made


@pytest.fixture
def admin(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """Commands are the super user's, and go to the second server."""
    monkeypatch.setenv("COATI_HOSTS", f"{peers.HOST}:{ensemble[2].port}")
    monkeypatch.setenv("COATI_AUTH", f"digest:{peers.SUPER_PASSWORD}")
    return ensemble


def shown() -> dict[int, dict[str, object]]:
    done = kit.run("-o", "json", "config", "show")
    assert done.code == exits.DONE, done.err
    return {line["sid"]: line for line in json.loads(done.out)}


def test_an_observer_comes_and_goes(admin: Ensemble) -> None:
    before = shown()
    assert sorted(before) == [1, 2, 3]
    assert (before[1]["role"], before[1]["servers"]) == ("participant", admin[1].quorum_ports)
    line = "server.9=127.0.0.1:10:11:observer;127.0.0.1:12"
    refused = kit.run("config", "add", line)
    assert (refused.code, f"+ {line}" in refused.err) == (exits.REFUSED, True)
    assert kit.run("config", "add", line, stdin=b"y\n", is_asked=True).code == exits.DONE
    after = shown()
    assert (after[9]["role"], after[9]["client"]) == ("observer", "127.0.0.1:12")
    assert after[1]["version"] != before[1]["version"]
    done = kit.run("config", "remove", "9", "--yes")
    assert done.code == exits.DONE
    assert "server.9" not in done.text
    assert sorted(shown()) == [1, 2, 3]


def test_the_whole_list_comes_from_a_file(admin: Ensemble) -> None:
    lines = [f"server.{sid}={line['servers']}:participant;{line['client']}" for sid, line in shown().items()]
    text = "\n".join(["# members", *lines, "version=17"])
    assert kit.run("config", "set", "-", "--yes", stdin=text.encode()).code == exits.DONE
    assert sorted(shown()) == [1, 2, 3]


def test_what_is_refused_is_refused_with_advice(admin: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    voters = [f"server.{sid}=127.0.0.1:{sid}0:{sid}1;{sid}2" for sid in (7, 8, 9)]
    done = kit.run("config", "add", *voters, "--yes")
    assert (done.code, "must run and follow before" in done.err) == (exits.REFUSED, True)
    monkeypatch.delenv("COATI_AUTH")
    done = kit.run("config", "add", "server.9=127.0.0.1:10:11:observer;12", "--yes")
    assert (done.code, "log in as the super user" in done.err) == (exits.REFUSED, True)


@pytest.mark.parametrize(
    ("words", "tells"),
    [
        (("show", "x"), "no more words"),
        (("add",), "say what"),
        (("set", "a", "b"), "say what"),
        (("add", "4=h:1:2"), "is no line as"),
        (("remove", "9"), "there are 1, 2, 3"),
        (("remove", "x"), "no server 'x'"),
    ],
)
def test_words_that_are_wrong(words: tuple[str, ...], tells: str, admin: Ensemble) -> None:
    done = kit.run("config", *words, "--yes")
    assert (done.code, done.out) == (exits.USAGE, b"")
    assert tells in done.err


def test_a_file_without_members(admin: Ensemble) -> None:
    done = kit.run("config", "set", "-", "--yes", stdin=b"# nobody\n")
    assert (done.code, "no line server.N" in done.err) == (exits.USAGE, True)


def test_a_server_alone(cli: kit.Cli) -> None:
    done = cli("config", "show")
    assert done.code == exits.DONE
    assert "a server alone" in done.err
    done = cli("config", "add", "server.9=127.0.0.1:10:11:observer;12", "--yes")
    assert done.code == exits.REFUSED


def test_lines_are_taken_apart() -> None:
    assert parts_of("h:1:2") == ("h:1:2", "participant", "")
    assert parts_of("h:1:2:observer;0.0.0.0:3") == ("h:1:2", "observer", "0.0.0.0:3")

"""Power lost at every call of the disk under a whole server, and everything it had said compared with a model.

These are samples; `tools/storm_server.py` runs thousands. What recovered is read by a client: data, children, Stat and
ACL of every znode, the digest, the sessions, and that sequence numbers go on.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from random import Random

import pytest

from coati.testing.disk import PowerCut
from coati.testing.server import Parts, SimClient, SimConfig, SimServer, data_of, path_of
from coati.wire import codes
from tools import storm_server, tree_model
from tools.storm_server import Storm, Tally

# Measured with Java (DigestCalculator): an empty server's tree.
PRISTINE_DIGEST = 1371985504


def test_the_model_has_javas_digest_of_an_empty_tree() -> None:
    assert tree_model.digest_of(tree_model.pristine()) == PRISTINE_DIGEST


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("seed", [1, 2])
def test_a_script_survives_power_loss_at_every_call(seed: int) -> None:
    tally = Storm(seed).go_scripted()
    assert tally.txns > 80
    assert tally.points > 100
    assert tally.states + tally.refused == tally.points
    assert {"create", "write", "sync", "rename", "sync_dir", "allocate"} <= set(tally.kinds)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.no_cover) for seed in range(2, 7))])
def test_random_clients_survive_power_loss(seed: int) -> None:
    tally = Storm(seed, crash_every=3).go(200)
    assert tally.points > 50
    assert tally.replies > 150


@pytest.mark.slow
def test_without_crashes_every_reply_and_event_is_the_models() -> None:
    total = Tally()
    for seed in range(100, 112):
        total.add(Storm(seed, crash_every=0).go(200))
    assert total.replies > 3000
    assert total.events > 100
    assert total.restarts > 2


def test_one_seed_is_one_run() -> None:
    runs = [Storm(7, crash_every=40).go(60) for _ in range(2)]
    assert str(runs[0]) == str(runs[1])


def test_sequence_numbers_go_on_after_a_restart(parts: Parts) -> None:
    """W9: also those of children that are gone, and of a tree that comes from a snapshot."""
    server = SimServer(parts=parts).start()
    for number in range(4):
        client = server.client()
        client.create(b"/q-", flags=codes.FLAG_PERSISTENT_SEQUENTIAL)
        server.run()
        path = path_of(client.reply(1))
        assert path == b"/q-%010d" % number
        client.delete(path)
        server.run()
        if number == 1:
            server.replica.snapshot_is_due = True
            server.driver.turn()
            server.run()
        server.kill()
        server.start()


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_killed_server_had_not_synced_is_durable_before_it_is_served_again(fails: bool, parts: Parts) -> None:
    """It comes back from the kernel's memory: the end of the log, and the name of the file, may not be on the disk yet.

    After a failed sync the kernel takes the pages for clean, so that syncing once more does not help.
    """
    server = SimServer(parts=parts, config=SimConfig(disk_ms=(20, 20))).start()
    client = server.client()
    server.run()

    def dies(kind: str, path: str) -> None:
        if kind == "sync":
            raise PowerCut

    if fails:
        server.disk.fail("sync", 1, errno.EIO, where="/log.")
    else:
        server.disk.on_call = dies
    client.create(b"/a", b"x" * 700)
    try:
        server.run()
    except PowerCut:
        # In between write and sync; the process dies, and the machine goes on.
        assert not fails
    assert client.replies == []
    server.kill()
    server.start()
    # A session that comes back and reads needs no sync: what it reads must be there for good (R2).
    back = SimClient(server.link())
    back.resume_from(client)
    back.get(b"/a")
    server.run()
    assert data_of(back.replies[0]) == b"x" * 700
    server.crash(Random(1), "lose")
    server.start()
    writer = server.client()
    writer.create(b"/b")
    server.run()
    server.crash(Random(1), "lose")
    server.start()
    assert list(server.tree.nodes)[-2:] == [b"/a", b"/b"]


def test_a_log_whose_name_is_not_durable_yet_gets_it_at_the_start(parts: Parts) -> None:
    server = SimServer(parts=parts, config=SimConfig(disk_ms=(1, 1))).start()
    client = server.client()
    calls: list[str] = []

    def dies(kind: str, path: str) -> None:
        # The first log: created, headed, padded, written and synced; the directory is not.
        calls.append(kind)
        if kind == "sync_dir":
            raise PowerCut

    server.disk.on_call = dies
    with pytest.raises(PowerCut):
        server.run()
    assert calls == ["create", "write", "allocate", "write", "sync", "sync_dir"]
    server.kill()
    server.start()
    client = server.client()
    server.run()
    client.create(b"/a")
    server.run()
    assert client.reply(1).err == 0
    server.crash(Random(1), "lose")
    server.start()
    assert b"/a" in server.tree.nodes


def test_a_finding_names_its_seed(parts: Parts) -> None:
    """A run that is compared with another model than its own."""
    storm = Storm(5, crash_every=0, parts=replace(parts))
    storm.model.states[0] = storm.model.states[0]._replace(nodes={})
    with pytest.raises(AssertionError):
        storm.go(20)


def test_the_command_line_notes_down_what_it_covered(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path_factory.mktemp("docs") / "ledger.md"
    ledger.write_text("| a table |\n")
    arguments = ["--seeds", "1", "--steps", "10", "--variants", "1", "--date", "2026-01-02", "--ledger", str(ledger)]
    assert storm_server.main(arguments) == 0
    assert "1 seeds:" in capsys.readouterr().out
    lines = ledger.read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(
        "| 2026-01-02 | server storm | `python tools/storm_server.py --first-seed 1 --seeds 1` |"
    )

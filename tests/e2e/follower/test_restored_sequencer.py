"""A sequencer that lost its machine: backed up while it worked, restored, and brought up to date by its follower."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.follower.apart import Apart, founded, wait
from yilian.node.home import Home
from yilian.node.resume import confirm_no_followers, is_restored

SECRET = ("--passphrase-file", "secret.txt")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("restored")
    (folder / "secret.txt").write_text("correct horse battery\n")
    (folder / "backups").mkdir()
    running = founded(folder)
    running.stop("h")
    with (folder / "h" / "node.toml").open("a") as settings:
        settings.write(f'\n[backup]\nfolder = "{folder / "backups"}"\n')
    running.start("h")
    yield running
    running.close()


def _register(apart: Apart, label: str) -> tuple[int, str, str]:
    return apart.run("network", "key", "register", "--label", label, "--role", "nurse", "--as", "centre-officer")


def test_nothing_acknowledged_is_lost_that_a_follower_has(apart: Apart) -> None:
    assert _register(apart, "before")[0] == 0
    words = ("backup", "-o", "monday.yilian-backup", *SECRET)
    refused = apart.run(*words, "--as", "centre-physician")
    made = apart.json(*words, "--as", "centre-officer")
    assert _register(apart, "after")[0] == 0
    apart.wait_level()
    before = apart.status("h")
    apart.kill("h")
    shutil.rmtree(apart.folder / "h")

    restored = apart.json("restore", "backups/monday.yilian-backup", "--verify", *SECRET)
    apart.start("h")
    wait(lambda: not is_restored(Home(apart.folder / "h")))
    after = apart.status("h")
    registered = _register(apart, "later")
    apart.wait_level()

    assert refused[0] in {1, 4}
    assert restored["height"] == made["height"] < before["height"]
    assert restored["vaults"] == 3
    assert (after["height"], after["app_hash"]) == (before["height"], before["app_hash"])
    assert registered[0] == 0
    assert apart.status("h2")["app_hash"] == apart.status("h")["app_hash"]
    assert apart.status("h2")["failure"] == ""


def test_a_restored_sequencer_signs_nothing_while_a_member_has_not_answered(apart: Apart) -> None:
    apart.wait_level()
    apart.stop("h2")
    apart.json("backup", "-o", "tuesday.yilian-backup", *SECRET, "--as", "centre-officer")
    apart.kill("h")
    shutil.rmtree(apart.folder / "h")
    apart.json("node", "restore", "backups/tuesday.yilian-backup", *SECRET)

    apart.start("h")
    wait(lambda: "--no-followers" in _register(apart, "early")[2])
    code, _, said = _register(apart, "early")
    height, held = (apart.status("h")[name] for name in ("height", "held"))
    apart.stop("h")
    confirm_no_followers(Home(apart.folder / "h"))
    apart.start("h")
    registered = _register(apart, "confirmed")

    assert (code, "has not been heard" in said) == (7, True)
    assert "--no-followers" in held
    assert registered[0] == 0
    assert apart.status("h")["height"] == height + 1


def test_a_backup_goes_nowhere_but_into_the_operators_folder(apart: Apart, tmp_path: Path) -> None:
    code, _, said = apart.run("backup", "-o", str(tmp_path / "x.yilian-backup"), *SECRET, "--as", "centre-officer")
    assert (code, list(tmp_path.iterdir())) == (2, []), said

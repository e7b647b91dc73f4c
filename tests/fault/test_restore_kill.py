"""A restore that is killed: whenever it ends, there is the whole new home or none, and the next try succeeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from yilian.ledger.members import InstitutionKind
from yilian.node.backup import closed_sources, make_backup
from yilian.node.compose import now, open_node
from yilian.node.home import Home, InstitutionSpec
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.restore import RESTORED_FILE
from yilian.node.settings import Settings

NETWORK = NetworkSpec(
    name="fault",
    institutions=(
        InstitutionSpec(slug="centre", name="Lake Centre", kind=InstitutionKind.COMMUNITY_CENTRE),
        InstitutionSpec(slug="hospital", name="City Hospital", kind=InstitutionKind.HOSPITAL),
    ),
)
SETTINGS = Settings(engine=msgspec.structs.replace(Settings().engine, second_core=False))
PASSPHRASE = b"correct horse battery"
LOOK_S = 0.002


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    home = Home(folder / "home")
    found_demo(home, SETTINGS, NETWORK, now())
    open_node(home, SETTINGS).close()
    with closed_sources(home, SETTINGS, "", now()) as sources:
        make_backup(sources, folder / "one.yilian-backup", PASSPHRASE)
    (folder / "secret").write_bytes(PASSPHRASE)
    return folder / "one.yilian-backup"


def _restore(backup: Path, home: Path) -> subprocess.Popen[bytes]:
    words = ["restore", str(backup), "--home", str(home), "--passphrase-file", str(backup.parent / "secret")]
    command = [sys.executable, "-m", "yilian.cli.main", *words, "--verify"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)


@pytest.mark.parametrize("after_files", [1, 8, 20, 30])
def test_a_killed_restore_leaves_no_home_and_the_next_one_makes_it(
    backup: Path, tmp_path: Path, after_files: int
) -> None:
    shutil.copy2(backup.parent / "home.passphrase", tmp_path / "new.passphrase")
    home = tmp_path / "new"
    with _restore(backup, home) as process:
        while process.poll() is None and len(list(tmp_path.glob("new.restoring-*/**/*"))) < after_files:
            time.sleep(LOOK_S)
        process.send_signal(signal.SIGKILL)
    assert not home.exists() or (home / RESTORED_FILE).is_file()
    shutil.rmtree(home, ignore_errors=True)
    with _restore(backup, home) as again:
        assert again.wait() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.passphrase"]

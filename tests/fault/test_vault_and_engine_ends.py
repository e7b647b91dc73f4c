"""Ends that are torn: a vault's write-ahead log that was cut, a first start that failed, a state that stays shut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bench.world import World
from tests.conftest import IN_CI
from tests.fault.faults import ERRORS, Faults, FaultyDisk, Kind
from tests.fault.stand import KEY, TREE_DEPTH, Stand, found, keep, problems, read_world
from tests.fault.system_calls import LMDB, failing, why_not
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger.ports import Batch
from yilian.storage.blobs import LocalBlobs
from yilian.storage.keystore import FileKeystore, find_damage
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks
from yilian.storage.vault import Vault

RECORDS = 6
ROOT = Path(__file__).parents[2]

# Keeps records in a vault, and is killed with a write-ahead log that nobody has folded in.
WRITER = """
import os, signal, sys
from pathlib import Path
from tests.fault.stand import KEY, TREE_DEPTH, keep
from bench.world import World
from yilian.storage.vault import Vault
vault, world = Vault(Path(sys.argv[1]), KEY), World(TREE_DEPTH)
for number in range(int(sys.argv[2])):
    list(keep(vault, world, number))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("killed") / "vault.db"
    done = subprocess.run([sys.executable, "-c", WRITER, str(file), str(RECORDS)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.with_name("vault.db-wal").stat().st_size > 50_000
    return file


def kept(file: Path, world: World) -> list[int]:
    """Give the numbers of the records that a vault holds."""
    with closing(Vault(file, KEY)) as vault:
        return [number for number in range(RECORDS) if vault.records.find(world.publish(number)[0]) is not None]


def copied(killed: Path, folder: Path) -> Path:
    for file in killed.parent.iterdir():
        shutil.copy(file, folder)
    return folder / "vault.db"


def test_a_vault_whose_log_was_cut_holds_what_was_written_before_the_cut_and_goes_on(
    killed: Path, tmp_path: Path
) -> None:
    world, counts = World(TREE_DEPTH), []
    size = killed.with_name("vault.db-wal").stat().st_size
    for part in range(11):
        file = copied(killed, tmp_path)
        file.with_name("vault.db-shm").unlink()
        os.truncate(file.with_name("vault.db-wal"), size * part // 10)
        assert Vault.check(file, KEY) == []
        found_here = kept(file, world)
        assert found_here == list(range(len(found_here)))
        counts.append(len(found_here))
        with closing(Vault(file, KEY)) as vault:
            for number in range(RECORDS):
                list(keep(vault, world, number))
        assert kept(file, world) == list(range(RECORDS))
    assert (counts, counts[-1]) == (sorted(counts), RECORDS)


def test_a_page_of_the_vault_that_was_changed_is_named(killed: Path, tmp_path: Path) -> None:
    file = copied(killed, tmp_path)
    assert len(kept(file, World(TREE_DEPTH))) == RECORDS  # folds the log in
    content = file.read_bytes()
    place = content.rindex(World(TREE_DEPTH).publish(RECORDS - 1)[0])
    file.write_bytes(content[:place] + bytes(32) + content[place + 32 :])
    assert Vault.check(file, KEY)


# ---------------------------------------------------------------------------------------------------------- first start


# A store of blobs begins with a folder for each byte: the first ones stand for all.
@pytest.mark.parametrize(("store", "most"), [("state", 40), ("segments", 40), ("blobs", 5)])
def test_a_first_start_that_fails_at_any_operation_is_repeated(store: str, most: int, tmp_path: Path) -> None:
    if store == "state" and (reason := why_not(LMDB)):
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    at = 0
    while at < most:
        home = tmp_path / f"{at}"
        found(home, World(TREE_DEPTH))
        world = read_world(home)
        faults = Faults(store, at, ERRORS[at % len(ERRORS)])
        with failing(LMDB, faults), faults.armed(), suppress(UnavailableError):
            Stand(home, world, FaultyDisk(faults)).__exit__()
        if not faults.has_struck:
            break
        with Stand(home, world) as stand:
            stand.publish(0)
            stand.follow()
            assert stand.missing([0]) == []
        if at % 4 == 0:
            assert problems(home, world) == []
        shutil.rmtree(home)
        at += 1
    assert 0 < at < 40


# ----------------------------------------------------------------------------------------------------------- the engine


class ShutState(LmdbState):
    """A state that writes, fails, and does not open again: nobody knows what it has written."""

    is_failing = False

    def write(self, batch: Batch) -> None:
        super().write(batch)
        if self.is_failing:
            raise VerificationError("the state store failed while it wrote and does not open again: restart the node")


def test_a_block_that_the_state_may_have_stays_for_the_next_start(tmp_path: Path) -> None:
    world = World(TREE_DEPTH)
    with (
        closing(ShutState(tmp_path / "state")) as state,
        closing(SegmentBlocks(tmp_path / "segments")) as blocks,
        closing(world.engine(state, blocks)) as engine,
    ):
        engine.submit(world.transaction([world.publication(0)])).result(30)
        state.is_failing = True
        with pytest.raises(VerificationError, match="restart the node"):
            engine.submit(world.transaction([world.publication(1)])).result(30)
        with pytest.raises(UnavailableError, match="restart the node"):
            engine.submit(world.transaction([world.publication(2)])).result(30)
        assert blocks.last_height() == 2
    with (
        closing(LmdbState(tmp_path / "state")) as state,
        closing(SegmentBlocks(tmp_path / "segments", committed=2)) as blocks,
        closing(world.engine(state, blocks)) as engine,
    ):
        assert engine.head().height == 2
        (answer,) = engine.submit(world.transaction([world.publication(1)])).result(30).answers
        assert (answer.ok, answer.leaf) == (True, 1)


def test_reads_go_on_while_the_state_is_opened_again(tmp_path: Path) -> None:
    if reason := why_not(LMDB):
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    faults = Faults("state")
    with failing(LMDB, faults), closing(LmdbState(tmp_path / "state")) as state:
        for height in range(1, 4):
            state.write(_batch(height))
        with faults.armed():
            state.write(_batch(4))
        before = len(faults.calls)
        faults.at = before + before - 1  # the last one writes the root page
        with faults.armed(), pytest.raises(UnavailableError):
            state.write(_batch(5))
        assert faults.has_struck
        assert (state.head(), state.get(bytes(31) + b"\4"), state.get(bytes(31) + b"\5")) == (b"4", b"row", None)
        state.write(_batch(5))
        assert (state.head(), state.get(bytes(31) + b"\5")) == (b"5", b"row")


def _batch(height: int) -> Batch:
    return Batch(height=height, rows={height.to_bytes(32): b"row"}, tiles={}, leaves=b"", head=b"%d" % height)


# ----------------------------------------------------------------------------------------------------- keys, transfers


@pytest.mark.parametrize("kind", ERRORS)
def test_a_key_that_could_not_be_kept_is_not_there_and_is_made_again(tmp_path: Path, kind: Kind) -> None:
    faults = Faults("keys", None, kind)
    keystore = FileKeystore(tmp_path / "keys", b"passphrase", disk=FaultyDisk(faults))
    names = []
    for at in range(10):
        faults.calls.clear()
        faults.at, faults.has_struck, name = at, False, f"key-{at}"
        with faults.armed(), suppress(UnavailableError):
            keystore.create(name, b"first")
            assert not faults.has_struck
        if not faults.has_struck:
            break
        assert name not in keystore.names()
        keystore.create(name, b"second")
        names.append(name)
    assert len(names) == 5
    again = FileKeystore(tmp_path / "keys", b"passphrase")
    assert [again.load(name) for name in names] == [b"second"] * 5
    assert find_damage(tmp_path / "keys") == []


@pytest.mark.parametrize("kind", ERRORS)
def test_a_transfer_whose_end_failed_is_ended_again(tmp_path: Path, kind: Kind) -> None:
    faults = Faults("blobs", None, kind)
    blobs = LocalBlobs(tmp_path / "blobs", disk=FaultyDisk(faults))
    for at in range(10):
        root = bytes([at]) * 32
        faults.calls.clear()
        faults.at, faults.has_struck = at, False
        with blobs.writer("transfer") as writer:
            writer.append(b"sealed")
            with faults.armed(), suppress(UnavailableError):
                writer.commit(root)
            if faults.has_struck:
                writer.commit(root)
        assert (blobs.size(root), blobs.partials()) == (6, [])
        if not faults.has_struck:
            break
    assert at == 4

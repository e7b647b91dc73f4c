"""Every file operation of a commit goes wrong once, in every way: what was acknowledged stays, and the node goes on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.world import World
from tests.conftest import IN_CI, RecordCount
from tests.fault.faults import ERRORS, KILLS, Faults, Kind
from tests.fault.forking import Forks
from tests.fault.stand import KEY, LIBRARIES, OLD_BLOCKS, Stand, contents, faulty, found, problems, read_world, rebuilt
from tests.fault.system_calls import why_not
from yilian.errors import UnavailableError
from yilian.storage.vault import Vault

STORES = ("state", "segments", "blobs", "index.db", "vault.db")
BESIDE_THE_LEDGER = frozenset({"index.db", "vault.db", "snapshots"})
"""A fault here cannot reach the ledger: that is checked after one in so many of them, the vault after every one."""
CHECK_EVERY = 12
WRITES = frozenset({"write", "pwrite", "pwrite64"})
BEFORE = 4
"""Records before the commit that goes wrong; the next block begins a segment."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("original") / "home"
    found(home, World(8))
    with Stand(home, read_world(home)) as stand:
        for number in range(BEFORE):
            stand.publish(number)
        stand.follow()
    return home


@pytest.fixture(scope="module")
def world(original: Path) -> World:
    return read_world(original)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as process:
        yield process


class Homes:
    """A fresh copy of one home at a time."""

    def __init__(self, original: Path, folder: Path) -> None:
        self._original = original
        self._home = folder / "home"
        self.scratch = folder / "rebuilt.db"

    def fresh(self, store: str) -> Path:
        """Give the copy as if nothing had happened; where blobs are not what fails, they are kept in one place."""
        shutil.rmtree(self._home, ignore_errors=True)
        self.scratch.unlink(missing_ok=True)
        kept = self._original.with_name("blobs")
        if store == "blobs":
            return Path(shutil.copytree(self._original, self._home))
        if not kept.exists():
            shutil.copytree(self._original / "hospital" / "blobs", kept)
        shutil.copytree(self._original, self._home, ignore=shutil.ignore_patterns("blobs"))
        (self._home / "hospital" / "blobs").symlink_to(kept)
        return self._home


@pytest.fixture
def homes(original: Path, tmp_path: Path) -> Homes:
    return Homes(original, tmp_path)


def commit(stand: Stand) -> None:
    """Publish the next record."""
    stand.publish(BEFORE)
    stand.follow()


def operations(store: str, homes: Homes, world: World, act: Callable[[Stand], None] = commit) -> list[str]:
    """Give the file operations of one commit, or of another act, in a store, in order."""
    if (library := LIBRARIES.get(store)) and (reason := why_not(library)):
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    faults = Faults(store)
    with faulty(homes.fresh(store), world, faults) as stand, faults.armed():
        act(stand)
    assert faults.calls
    return faults.calls


def attempt(stand: Stand, number: int) -> bool:
    """Publish a record; say whether it was acknowledged."""
    try:
        stand.publish(number)
    except UnavailableError:
        return False
    return True


def is_checked(store: str, at: int) -> bool:
    """Say whether the whole home is checked after a fault at an operation."""
    return store not in BESIDE_THE_LEDGER or at % CHECK_EVERY == 0


def look(store: str, home: Path, world: World, acknowledged: list[int], scratch: Path, *, is_checked: bool) -> None:
    """Check a home that was closed or left, open it, look for all that was acknowledged, and let it go on."""
    if is_checked:
        assert problems(home, world) == []
    elif store == "vault.db":
        assert Vault.check(home / "hospital" / "vault.db", KEY) == []
    with Stand(home, world) as stand:
        stand.follow()
        assert stand.missing(acknowledged) == []
        for number in range(BEFORE, BEFORE + 3):
            stand.publish(number)
        stand.follow()
        assert stand.missing(range(BEFORE + 3)) == []
        if is_checked or store == "index.db":
            assert contents(stand.index) == rebuilt(stand, scratch)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("store", STORES)
def test_an_error_at_any_operation(
    store: str, kind: Kind, homes: Homes, world: World, record_count: RecordCount
) -> None:
    for at, call in enumerate(operations(store, homes, world)):
        if kind == Kind.SHORT and call not in WRITES:
            continue
        home, faults = homes.fresh(store), Faults(store, at, kind)
        acknowledged = list(range(BEFORE))
        with faulty(home, world, faults) as stand:
            with faults.armed():
                if attempt(stand, BEFORE):
                    acknowledged.append(BEFORE)
                try:
                    stand.follow()
                except UnavailableError:
                    assert store == "index.db"
            assert faults.has_struck
            if attempt(stand, BEFORE + 1):
                acknowledged.append(BEFORE + 1)
        look(store, home, world, acknowledged, homes.scratch, is_checked=is_checked(store, at))
        record_count("file operations that fail", store, 1)


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("store", STORES)
def test_a_kill_at_any_operation(
    store: str, kind: Kind, homes: Homes, world: World, forks: Forks, record_count: RecordCount
) -> None:
    for at in range(len(operations(store, homes, world))):
        home = homes.fresh(store)
        acknowledged, status = forks.commit(home, store, at, kind, BEFORE)
        assert status == -signal.SIGKILL
        acknowledged = [*range(BEFORE), *acknowledged]
        look(store, home, world, acknowledged, homes.scratch, is_checked=is_checked(store, at))
        record_count("file operations that kill", store, 1)


# --------------------------------------------------------------------------------------------------- snapshot and prune


def look_after_pruning(home: Path, world: World, *, is_checked: bool) -> None:
    """Check a home whose pruning went wrong: nothing is missing, and the next one takes its turn."""
    if is_checked:
        assert problems(home, world) == []
    with Stand(home, world) as stand:
        assert stand.snapshot_height() in {0, BEFORE}
        assert stand.snapshot_height() or stand.blocks.first_height() == 1
        stand.publish(BEFORE)
        stand.follow()
        stand.prune()
        assert (stand.snapshot_height(), stand.missing(range(BEFORE + 1))) == (BEFORE + 1, [])
        assert stand.blocks.first_height() == OLD_BLOCKS
    if is_checked:
        assert problems(home, world) == []


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("store", ["snapshots", "segments"])
def test_an_error_at_any_operation_of_pruning(
    store: str, kind: Kind, homes: Homes, world: World, record_count: RecordCount
) -> None:
    for at, call in enumerate(operations(store, homes, world, Stand.prune)):
        if kind == Kind.SHORT and call not in WRITES:
            continue
        home, faults = homes.fresh(store), Faults(store, at, kind)
        with faulty(home, world, faults) as stand:
            with faults.armed(), suppress(UnavailableError):
                stand.prune()
            assert faults.has_struck
            stand.prune()
            assert stand.snapshot_height() == BEFORE
        look_after_pruning(home, world, is_checked=is_checked(store, at))
        record_count("file operations that fail", f"{store} pruned", 1)


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("store", ["snapshots", "segments"])
def test_a_kill_at_any_operation_of_pruning(
    store: str, kind: Kind, homes: Homes, world: World, forks: Forks, record_count: RecordCount
) -> None:
    for at in range(len(operations(store, homes, world, Stand.prune))):
        home = homes.fresh(store)
        assert forks.commit(home, store, at, kind, 0) == ([], -signal.SIGKILL)
        look_after_pruning(home, world, is_checked=is_checked(store, at))
        record_count("file operations that kill", f"{store} pruned", 1)


def test_a_snapshot_half_dropped_is_none(homes: Homes, world: World) -> None:
    home = homes.fresh("snapshots")
    with Stand(home, world) as stand:
        stand.prune()
        first = home / "ledger" / "snapshots" / f"{BEFORE:012}"
        kept = {file.name: file.read_bytes() for file in first.iterdir() if file.suffix == ".gz"}
        stand.publish(BEFORE)
        stand.prune()
        assert not first.exists()
        first.mkdir()
        for name, content in list(kept.items())[1:]:
            (first / name).write_bytes(content)
        assert stand.snapshot_height() == BEFORE + 1
        stand.prune()
        assert (stand.snapshot_height(), first.exists()) == (BEFORE + 1, False)

"""Every file operation of a commit goes wrong once, in every way: what was acknowledged stays, and the node goes on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.world import World
from tests.conftest import IN_CI, RecordCount
from tests.fault.faults import ERRORS, KILLS, Faults, Kind
from tests.fault.forking import Forks
from tests.fault.stand import (
    KEY,
    LIBRARIES,
    OLD_BLOCKS,
    Stand,
    contents,
    faulty,
    found,
    keep,
    problems,
    read_world,
    rebuilt,
)
from tests.fault.system_calls import SQLITE, failing, why_not
from yilian.errors import UnavailableError
from yilian.node.projections import Projector
from yilian.storage.sql import SqlIndex
from yilian.storage.vault import Vault
from yilian.storage.vault.records import RecordStatus

STORES = ("state", "segments", "blobs")
CHECK_EVERY = 6
"""A fault of a snapshot cannot reach the ledger: the whole is checked after one in so many of them."""
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


def needs(library: tuple[str, ...]) -> None:
    """Skip where the calls of a library cannot be made to fail, and fail in CI."""
    if (reason := why_not(library)) is not None:
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def commit(stand: Stand) -> None:
    """Publish the next record."""
    stand.publish(BEFORE)
    stand.follow()


def operations(store: str, homes: Homes, world: World, act: Callable[[Stand], None] = commit) -> list[str]:
    """Give the file operations of one commit, or of another act, in a store, in order."""
    if library := LIBRARIES.get(store):
        needs(library)
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


def look(home: Path, world: World, acknowledged: list[int], scratch: Path) -> None:
    """Check a home that was closed or left, open it, look for all that was acknowledged, and let it go on."""
    assert problems(home, world) == []
    with Stand(home, world) as stand:
        stand.follow()
        assert stand.missing(acknowledged) == []
        for number in range(BEFORE, BEFORE + 3):
            stand.publish(number)
        stand.follow()
        assert stand.missing(range(BEFORE + 3)) == []
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
                stand.follow()
            assert faults.has_struck
            if attempt(stand, BEFORE + 1):
                acknowledged.append(BEFORE + 1)
        look(home, world, acknowledged, homes.scratch)
        record_count("file operations that fail", store, 1)


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("store", STORES)
def test_a_kill_at_any_operation(
    store: str, kind: Kind, homes: Homes, world: World, forks: Forks, record_count: RecordCount
) -> None:
    for at in range(len(operations(store, homes, world))):
        home = homes.fresh(store)
        leaves, status = forks.commit(home, store, at, kind, BEFORE)
        assert status == -signal.SIGKILL
        look(home, world, list(range(BEFORE + len(leaves))), homes.scratch)
        record_count("file operations that kill", store, 1)


# ---------------------------------------------------------------------------------------------------- read model, vault


@pytest.fixture(scope="module")
def behind(original: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a home whose read model lacks the last record."""
    home = Path(shutil.copytree(original, tmp_path_factory.mktemp("behind") / "home"))
    with Stand(home, world) as stand:
        stand.publish(BEFORE)
    return home


@pytest.fixture(scope="module")
def chain(behind: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Give that home's chain, open, with a read model that lacks nothing."""
    with Stand(Path(shutil.copytree(behind, tmp_path_factory.mktemp("chain") / "home")), world) as stand:
        stand.follow()
        yield stand


def following(chain: Stand, index: SqlIndex) -> Projector:
    return Projector(SimpleNamespace(engine=chain.engine, registry=chain.registry, index=index))


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_at_any_operation_of_the_read_model(
    kind: Kind, behind: Path, chain: Stand, tmp_path: Path, record_count: RecordCount
) -> None:
    needs(SQLITE)
    file, at = tmp_path / "index.db", 0
    while True:
        shutil.copy(behind / "index.db", file)
        faults = Faults("index.db", at, kind)
        with failing(SQLITE, faults), closing(SqlIndex(file)) as index:
            projector = following(chain, index)
            with faults.armed(), suppress(UnavailableError):
                projector.catch_up()
            projector.catch_up()
            assert contents(index) == contents(chain.index)
        with closing(SqlIndex(file)) as index:
            assert contents(index) == contents(chain.index)
        if not faults.has_struck:
            break
        record_count("file operations that fail", "index.db", 1)
        at += 1
    assert at > 10


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_at_any_operation_of_the_read_model(
    kind: Kind, behind: Path, chain: Stand, tmp_path: Path, forks: Forks, record_count: RecordCount
) -> None:
    needs(SQLITE)
    home, at = Path(shutil.copytree(behind, tmp_path / "home")), 0
    while True:
        for file in home.glob("index.db*"):
            file.unlink()
        shutil.copy(behind / "index.db", home / "index.db")
        _, status = forks.commit(home, "index.db", at, kind, BEFORE)
        with closing(SqlIndex(home / "index.db")) as index:
            assert index.height() in {BEFORE, BEFORE + 1}
            following(chain, index).catch_up()
            assert contents(index) == contents(chain.index)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        record_count("file operations that kill", "index.db", 1)
        at += 1
    assert at > 10


def look_into_vault(file: Path, world: World, durable: list[RecordStatus]) -> None:
    """Check a vault, look for what was durable in it, and let it go on."""
    assert Vault.check(file, KEY) == []
    case, _ = world.publish(BEFORE)
    with closing(Vault(file, KEY)) as vault:
        record = vault.records.find(case)
        assert record is not None or not durable
        assert RecordStatus.PUBLISHED not in durable or (record and record.status == RecordStatus.PUBLISHED)
        assert vault.records.get(world.publish(0)[0]).status == RecordStatus.PUBLISHED
        assert list(keep(vault, world, BEFORE))[-1] == RecordStatus.PUBLISHED


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_at_any_operation_of_the_vault(
    kind: Kind, original: Path, world: World, tmp_path: Path, record_count: RecordCount
) -> None:
    needs(SQLITE)
    file, at = tmp_path / "vault.db", 0
    while True:
        shutil.copy(original / "hospital" / "vault.db", file)
        faults, durable = Faults("vault.db", at, kind), []
        with failing(SQLITE, faults), closing(Vault(file, KEY)) as vault:
            with faults.armed(), suppress(UnavailableError):
                for status in keep(vault, world, BEFORE):
                    durable.append(status)  # noqa: PERF402 - what came before the error counts
            durable += keep(vault, world, BEFORE)
        look_into_vault(file, world, durable)
        if not faults.has_struck:
            break
        record_count("file operations that fail", "vault.db", 1)
        at += 1
    assert at > 10


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_at_any_operation_of_the_vault(
    kind: Kind, original: Path, world: World, tmp_path: Path, forks: Forks, record_count: RecordCount
) -> None:
    needs(SQLITE)
    home, at = tmp_path / "home", 0
    shutil.copytree(original, home, ignore=shutil.ignore_patterns("blobs", "state", "segments"))
    while True:
        for file in (home / "hospital").glob("vault.db*"):
            file.unlink()
        shutil.copy(original / "hospital" / "vault.db", home / "hospital" / "vault.db")
        durable, status = forks.commit(home, "vault.db", at, kind, BEFORE)
        look_into_vault(home / "hospital" / "vault.db", world, [RecordStatus(each) for each in durable])
        if status == 0:
            break
        assert status == -signal.SIGKILL
        record_count("file operations that kill", "vault.db", 1)
        at += 1
    assert at > 10


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
        look_after_pruning(home, world, is_checked=store == "segments" or at % CHECK_EVERY == 0)
        record_count("file operations that fail", f"{store} pruned", 1)


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("store", ["snapshots", "segments"])
def test_a_kill_at_any_operation_of_pruning(
    store: str, kind: Kind, homes: Homes, world: World, forks: Forks, record_count: RecordCount
) -> None:
    for at in range(len(operations(store, homes, world, Stand.prune))):
        home = homes.fresh(store)
        assert forks.commit(home, store, at, kind, 0) == ([], -signal.SIGKILL)
        look_after_pruning(home, world, is_checked=store == "segments" or at % CHECK_EVERY == 0)
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

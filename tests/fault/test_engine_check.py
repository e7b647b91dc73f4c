"""One byte changed anywhere in a home, and the check names it; never a traceback, never a dead process unsaid."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bench.world import World
from yilian import canonical
from yilian.crypto.blob import root_of_blob
from yilian.crypto.seal import seal_bytes
from yilian.errors import ConflictError
from yilian.ledger.block import Genesis
from yilian.ledger.state import key_hash
from yilian.node.check import Counts, Finding, InstitutionPaths, check_home, check_ledger
from yilian.storage.blobs import LocalBlobs
from yilian.storage.keystore import FileKeystore
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks

ENTRIES = 40


@pytest.fixture(scope="module")
def world() -> World:
    return World(10)


@pytest.fixture(scope="module")
def original(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "ledger").mkdir()
    (home / "ledger" / "genesis.cbor").write_bytes(canonical.encode(world.genesis))
    with (
        closing(LmdbState(home / "ledger" / "state", map_size=1 << 22)) as state,
        closing(SegmentBlocks(home / "ledger" / "segments")) as blocks,
        closing(world.engine(state, blocks)) as engine,
    ):
        for number in range(ENTRIES):
            engine.submit(world.transaction([world.publication(number)])).result(60)
        engine.submit(world.transaction([world.restriction(0)])).result(60)
    store = LocalBlobs(home / "hospital" / "blobs")
    blob, _, _ = seal_bytes(b"a sealed record")
    store.put(root_of_blob(io.BytesIO(blob)), blob)
    FileKeystore(home / "hospital" / "keys", b"passphrase").create_signer("gateway")
    return home


def read_genesis(content: bytes) -> Genesis:
    return canonical.decode(content, Genesis)


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


def findings(
    home: Path, world: World, *, counts: Counts | None = None, expected: tuple[bytes, ...] = ()
) -> list[Finding]:
    hospital = InstitutionPaths(
        blobs=home / "hospital" / "blobs",
        keys=home / "hospital" / "keys",
        expected_blobs=expected,
        checks=(list,),
    )
    return list(check_home(home / "ledger", [hospital], world.registry, counts=counts, read_genesis=read_genesis))


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x01
    path.write_bytes(content)


def only_file(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_an_untouched_home_has_no_finding(home: Path, world: World) -> None:
    counts, steps = Counts(), []
    paths = InstitutionPaths(blobs=home / "hospital" / "blobs", keys=home / "hospital" / "keys")
    found = list(
        check_home(
            home / "ledger",
            [paths],
            world.registry,
            counts=counts,
            progress=lambda *step: steps.append(step[0]),
            read_genesis=read_genesis,
        )
    )
    assert found == []
    assert (counts.blocks, counts.operations, counts.blobs, counts.keys) == (ENTRIES + 1, ENTRIES + 1, 1, 2)
    assert counts.rows > ENTRIES
    assert sorted(set(steps)) == ["blobs", "blocks"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.9999])
def test_a_byte_of_a_block_segment(home: Path, world: World, share: float) -> None:
    segment = only_file(home / "ledger" / "segments", "*.seg")
    flip(segment, int(segment.stat().st_size * share))
    found = findings(home, world)
    assert {each.area for each in found} == {"blocks"}
    assert segment.name in found[0].place


def test_a_cut_last_block_that_the_state_has_executed(home: Path, world: World) -> None:
    segment = only_file(home / "ledger" / "segments", "*.seg")
    segment.write_bytes(segment.read_bytes()[:-10])
    assert {each.area for each in findings(home, world)} == {"blocks"}


def test_a_torn_end_that_a_crash_left_is_no_finding(home: Path, world: World) -> None:
    segment = only_file(home / "ledger" / "segments", "*.seg")
    segment.write_bytes(segment.read_bytes() + segment.read_bytes()[:50])
    assert findings(home, world) == []


def test_segments_that_are_missing_are_found(home: Path, world: World) -> None:
    only_file(home / "ledger" / "segments", "*.seg").unlink()
    (found,) = findings(home, world)
    assert (found.area, "end at block 0" in found.found) == ("blocks", True)


def live_places(home: Path, wanted: bytes) -> list[int]:
    """Give the offsets in data.mdb at which bytes stand; old pages may hold them too."""
    content = (home / "ledger" / "state" / "data.mdb").read_bytes()
    places, at = [], content.find(wanted)
    while at != -1:
        places.append(at)
        at = content.find(wanted, at + 1)
    return places


def flip_all(home: Path, places: list[int]) -> None:
    for place in places:
        flip(home / "ledger" / "state" / "data.mdb", place)


@pytest.mark.parametrize("number", [0, 7, ENTRIES - 1])
def test_a_byte_of_a_live_value(home: Path, world: World, number: int) -> None:
    _, command = world.publish(number)
    # the row, not the leaves: only there the bytes before it say `case/`
    flip_all(home, live_places(home, command.commitment))
    found = findings(home, world)
    case, _ = world.publish(number)
    assert any(each.area == "state" and case.hex() in each.found for each in found)


@pytest.mark.parametrize("number", [0, 7, ENTRIES - 1])
def test_a_byte_of_a_live_key(home: Path, world: World, number: int) -> None:
    case, _ = world.publish(number)
    places = live_places(home, key_hash(b"case/" + case))
    assert places
    flip_all(home, [place + 31 for place in places])
    found = findings(home, world)
    assert any(each.area == "state" and case.hex() in each.found and "missing" in each.found for each in found)
    assert any("no block made" in each.found for each in found)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_wrecked_page_ends_the_child_alone(home: Path, world: World, share: float) -> None:
    data = home / "ledger" / "state" / "data.mdb"
    content = bytearray(data.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    data.write_bytes(content[: 4096 * 2 + int((len(content) - 8192) * share)])
    assert any(each.area == "state" for each in findings(home, world))


def test_a_missing_state(home: Path, world: World) -> None:
    shutil.rmtree(home / "ledger" / "state")
    (found,) = findings(home, world)
    assert (found.area, "data.mdb" in found.found) == ("state", True)


@pytest.mark.parametrize(
    "change", [lambda path: path.unlink(), lambda path: flip(path, 5), lambda path: flip(path, 300)]
)
def test_a_changed_genesis(home: Path, world: World, change: Callable[[Path], None]) -> None:
    change(home / "ledger" / "genesis.cbor")
    assert findings(home, world)


def test_a_byte_of_a_blob(home: Path, world: World) -> None:
    blob = only_file(home / "hospital" / "blobs", "??/" + "?" * 62)
    flip(blob, blob.stat().st_size // 2)
    (found,) = findings(home, world)
    assert (found.area, found.place) == ("blob", str(blob))


def test_a_genesis_that_its_founders_did_not_sign(home: Path, world: World) -> None:
    (found,) = check_ledger(home / "ledger", world.registry)
    assert found.area == "genesis"


def test_a_missing_blob(home: Path, world: World) -> None:
    (found,) = findings(home, world, expected=(bytes(32),))
    assert (found.area, bytes(32).hex() in found.found) == ("blob", True)


@pytest.mark.parametrize("name", ["master", "gateway"])
def test_a_byte_of_a_keystore_file(home: Path, world: World, name: str) -> None:
    flip(home / "hospital" / "keys" / f"{name}.key", 60)
    (found,) = findings(home, world)
    assert (found.area, f"{name}.key" in found.found) == ("keystore", True)


def test_what_a_further_check_says_or_raises_is_a_finding(home: Path, world: World) -> None:
    def broken() -> list[str]:
        raise ValueError("no vault")

    paths = InstitutionPaths(
        blobs=home / "hospital" / "blobs", keys=home / "hospital" / "keys", checks=(lambda: ["a row is torn"], broken)
    )
    found = list(check_home(home / "ledger", [paths], world.registry, read_genesis=read_genesis))
    assert [(each.area, each.found) for each in found] == [("vault", "a row is torn"), ("vault", "no vault")]
    assert str(found[0]).startswith("vault: ")


def test_a_running_node_is_not_checked(home: Path, world: World) -> None:
    with closing(SegmentBlocks(home / "ledger" / "segments")), pytest.raises(ConflictError, match="open already"):
        findings(home, world)

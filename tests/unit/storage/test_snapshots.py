"""Snapshots: taken while blocks are written, verified before use, refused with the chunk that lies; pruned stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from bench.world import World
from yilian import canonical
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.engine.embedded import EmbeddedEngine
from yilian.errors import ConflictError, NotFoundError, VerificationError
from yilian.ledger.block import parse_block, seal_block
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.execution import PARAMETER_KEYS
from yilian.ledger.log import Log, LogProofs
from yilian.ledger.results import BlockRecords, Head, app_hash_of
from yilian.ledger.snapshot import (
    CHUNK_BYTES,
    MAX_MANIFEST,
    Chunk,
    ChunkKind,
    Manifest,
    Restoration,
    check_head,
    pack,
    parse_manifest,
    unpack,
)
from yilian.ledger.state import key_hash, natural_key_of
from yilian.ledger.tree import StateTree
from yilian.node.stores import NewStores
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks, find_damage, read_base
from yilian.storage.snapshots import Snapshot, Snapshots, pack_chunk, unpack_chunk
from yilian.values import HOUR

BLOCKS = 6
WAIT_S = 60.0
SEGMENT = 900
"""Bytes of a segment: about one block each, so that pruning has something to remove."""


@pytest.fixture(scope="module")
def world() -> World:
    return World(10)


@contextmanager
def opened(world: World, ledger: Path, *, hours: int = 0) -> Iterator[tuple[EmbeddedEngine, LmdbState, SegmentBlocks]]:
    with (
        closing(LmdbState(ledger / "state")) as state,
        closing(SegmentBlocks(ledger / "segments", segment_bytes=SEGMENT)) as blocks,
    ):
        clock = Clock(world, hours)
        with closing(world.engine(state, blocks, clock=clock)) as engine:
            yield engine, state, blocks


class Clock:
    def __init__(self, world: World, hours: int) -> None:
        self.time, self._step = int(world.start), 1 + hours * HOUR

    def __call__(self) -> int:
        self.time += self._step
        return self.time


def publish(world: World, engine: EmbeddedEngine, first: int, count: int, *, hours: int = 0) -> None:
    for number in range(first, first + count):
        operations = [world.publication(number)] if hours or number != first + 1 else [world.restriction(first)]
        valid_until = engine.head().time + (hours + 1) * HOUR
        engine.submit(world.transaction(operations, valid_until=valid_until)).result(WAIT_S)


@pytest.fixture(scope="module")
def taken(world: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    ledger = tmp_path_factory.mktemp("taken")
    with opened(world, ledger) as (engine, state, blocks):
        publish(world, engine, 1, BLOCKS)
        return Snapshots(ledger / "snapshots").take(state, blocks, world.chain)


def restore(
    world: World, manifest: Manifest, read: Callable[[int], bytes], ledger: Path, trusted: Checkpoint | None = None
) -> Head:
    with NewStores(ledger, first_block=manifest.first_block) as stores:
        if trusted is not None:
            check_head(manifest, trusted)
        head = Restoration(manifest, world.genesis, read, stores).run()
        stores.finish(head)
    return head


def checkpoint(manifest: Manifest) -> Checkpoint:
    return manifest.head.checkpoint(manifest.chain)


def test_a_restored_store_goes_on_where_the_snapshot_was_taken(world: World, taken: Snapshot, tmp_path: Path) -> None:
    head = restore(world, taken.manifest, taken.chunk, tmp_path / "ledger", checkpoint(taken.manifest))
    with opened(world, tmp_path / "ledger") as (engine, state, blocks):
        assert engine.head() == head == taken.manifest.head
        again = engine.submit(world.transaction([world.publication(1)])).result(WAIT_S)
        assert (engine.head().height, again.answers[0].leaf) == (BLOCKS, 0)
        engine.submit(world.transaction([world.publication(99)])).result(WAIT_S)
        assert engine.head().height == BLOCKS + 1
        assert [event.height for event in engine.events(1)] == [1]
        assert LogProofs(state.tile).inclusion_proof(0, engine.head().log_size)
        assert blocks.first_height() == 1


def test_a_snapshot_of_the_genesis_holds_its_rows_alone(world: World, tmp_path: Path) -> None:
    with opened(world, tmp_path / "old") as (_, state, blocks):
        snapshot = Snapshots(tmp_path / "snapshots").take(state, blocks, world.chain)
    assert {chunk.kind for chunk in snapshot.manifest.chunks} == {ChunkKind.ROWS}
    assert restore(world, snapshot.manifest, snapshot.chunk, tmp_path / "new").height == 0


def test_a_snapshot_is_taken_while_blocks_are_written(world: World, tmp_path: Path) -> None:
    with opened(world, tmp_path / "old") as (engine, state, blocks):
        publish(world, engine, 1, 3)
        with state.frozen() as frozen:
            publish(world, engine, 10, 3)
            assert canonical.decode(frozen.head() or b"", Head).height == 3
            rows = len(list(frozen.rows()))
        assert len(list(state.scan(b"\0" * 32, None))) == rows + 2
        snapshots = Snapshots(tmp_path / "snapshots")
        heights = [snapshots.take(state, blocks, world.chain).manifest.head.height]
        publish(world, engine, 20, 1)
        heights.append(snapshots.take(state, blocks, world.chain).manifest.head.height)
        newest = snapshots.newest()
    assert heights == [6, 7]
    assert newest is not None
    assert newest.manifest.head.height == 7
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_a_damaged_chunk_is_named_with_its_number_and_nothing_is_written(
    world: World, taken: Snapshot, tmp_path: Path
) -> None:
    for number in range(len(taken.manifest.chunks)):
        for at in (0, taken.manifest.chunks[number].size // 2, taken.manifest.chunks[number].size - 1):

            def read(asked: int, *, bad: int = number, at: int = at) -> bytes:
                data = bytearray(taken.chunk(asked))
                if asked == bad:
                    data[at] ^= 1
                return bytes(data)

            with pytest.raises(VerificationError, match=f"chunk {number} has"):
                restore(world, taken.manifest, read, tmp_path / "ledger")
            assert list((tmp_path / "ledger").iterdir()) == []


def lying(
    taken: Snapshot, kind: ChunkKind, change: Callable[[list[bytes]], list[bytes]]
) -> tuple[Manifest, list[bytes]]:
    """Change the items of a kind of chunk and make the manifest fit, as a lying member would."""
    data = [taken.chunk(number) for number in range(len(taken.manifest.chunks))]
    at = next(number for number, chunk in enumerate(taken.manifest.chunks) if chunk.kind == kind)
    data[at] = next(iter(pack(change(unpack(data[at])))))
    chunks = list(taken.manifest.chunks)
    chunks[at] = Chunk(kind=kind, digest=sha256(data[at]), size=len(data[at]))
    return msgspec.structs.replace(taken.manifest, chunks=tuple(chunks)), data


def _flipped(item: bytes, at: int) -> bytes:
    changed = bytearray(item)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        pytest.param(ChunkKind.ROWS, lambda items: items[:-1], "its manifest says 56", id="a-row-left-out"),
        pytest.param(
            ChunkKind.ROWS,
            lambda items: [*items[:-1], _flipped(items[-1], -1)],
            "rows have state root",
            id="a-row-changed",
        ),
        pytest.param(ChunkKind.ROWS, lambda items: [*items, items[-1]], "not in order", id="a-row-twice"),
        pytest.param(ChunkKind.ROWS, lambda items: items[::-1], "not in order", id="rows-in-another-order"),
        pytest.param(ChunkKind.ROWS, lambda items: [b"\x60", *items], "row without a key", id="no-row"),
        pytest.param(
            ChunkKind.LEAF_HASHES, lambda items: [_flipped(items[0], 3)], "have log root", id="a-leaf-hash-changed"
        ),
        pytest.param(ChunkKind.LEAF_HASHES, lambda items: [items[0][:-32]], "leaf hashes have", id="a-leaf-missing"),
        pytest.param(ChunkKind.LEAF_HASHES, lambda items: [items[0][:-1]], "no leaf hashes", id="half-a-hash"),
        pytest.param(ChunkKind.RECORDS, lambda items: items[1:], "skips leaves", id="records-left-out"),
        pytest.param(ChunkKind.RECORDS, lambda items: items[:-1], "records end at", id="newest-records-left-out"),
        pytest.param(ChunkKind.RECORDS, lambda items: [items[0], *items[2:]], "skips leaves", id="records-with-a-gap"),
        pytest.param(
            ChunkKind.RECORDS, lambda items: [_flipped(items[0], -1), *items[1:]], "other rows", id="record-changed"
        ),
        pytest.param(ChunkKind.RECORDS, lambda items: [b"\x80", *items], "no records", id="no-records"),
        pytest.param(ChunkKind.BLOCKS, lambda items: items[:-1], "blocks end at", id="newest-block-left-out"),
        pytest.param(ChunkKind.BLOCKS, lambda items: items[1:], "does not follow", id="oldest-block-left-out"),
        pytest.param(
            ChunkKind.BLOCKS, lambda items: [*items[:-1], _flipped(items[-1], -1)], "does not hold", id="block-changed"
        ),
    ],
)
def test_a_lying_snapshot_is_refused(
    world: World,
    taken: Snapshot,
    tmp_path: Path,
    kind: ChunkKind,
    change: Callable[[list[bytes]], list[bytes]],
    words: str,
) -> None:
    manifest, data = lying(taken, kind, change)
    with pytest.raises(VerificationError, match=words):
        restore(world, manifest, data.__getitem__, tmp_path / "ledger")
    assert list((tmp_path / "ledger").iterdir()) == []


def _relabelled(items: list[bytes], at: int, **changes: object) -> list[bytes]:
    """Change fields of the first leaf of one block's records."""
    records = canonical.decode(items[at], BlockRecords)
    first = records.records[0]
    leaf = msgspec.structs.replace(first.leaf, **changes)
    changed = msgspec.structs.replace(
        records, records=(msgspec.structs.replace(first, leaf=leaf), *records.records[1:])
    )
    return [*items[:at], canonical.encode(changed), *items[at + 1 :]]


def _merged(items: list[bytes]) -> list[bytes]:
    """Tell of two blocks as if they were one."""
    one, two = (canonical.decode(item, BlockRecords) for item in items[:2])
    both = msgspec.structs.replace(one, records=(*one.records, *two.records))
    return [canonical.encode(both), *items[2:]]


def _signed_by_a_stranger(items: list[bytes]) -> list[bytes]:
    header, block = parse_block(items[0])
    return [seal_block(header, block.transactions, Ed25519Signer.generate()), *items[1:]]


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        pytest.param(
            ChunkKind.RECORDS,
            lambda items: _relabelled(items, 2, height=1),
            "block 1 after block 2",
            id="height-twice",
        ),
        pytest.param(
            ChunkKind.RECORDS, lambda items: _relabelled(items, 2, height=9), "another leaf 2", id="another-height"
        ),
        pytest.param(ChunkKind.RECORDS, _merged, "mixes leaves of two blocks", id="two-blocks-as-one"),
        pytest.param(ChunkKind.BLOCKS, _signed_by_a_stranger, "not signed by a gateway key", id="signed-by-a-stranger"),
    ],
)
def test_records_and_blocks_that_decode_and_lie_are_refused(
    world: World,
    taken: Snapshot,
    tmp_path: Path,
    kind: ChunkKind,
    change: Callable[[list[bytes]], list[bytes]],
    words: str,
) -> None:
    manifest, data = lying(taken, kind, change)
    with pytest.raises(VerificationError, match=words):
        restore(world, manifest, data.__getitem__, tmp_path / "ledger")


def _of_roots(manifest: Manifest, **roots: bytes) -> Manifest:
    """Give a manifest of other roots whose app hash fits them."""
    head = msgspec.structs.replace(manifest.head, **roots)
    app_hash = app_hash_of(head.log_size, head.log_root, head.state_root, head.parameters_root)
    return msgspec.structs.replace(manifest, head=msgspec.structs.replace(head, app_hash=app_hash))


def test_parameters_that_are_missing_or_others_are_refused(world: World, taken: Snapshot, tmp_path: Path) -> None:
    wanted = {key_hash(key) for key in PARAMETER_KEYS}

    def kept(items: list[bytes]) -> list[bytes]:
        return [row for row in items if key_hash(natural_key_of(row)) not in wanted]

    manifest, data = lying(taken, ChunkKind.ROWS, kept)
    rows = [(key_hash(natural_key_of(row)), sha256(row)) for row in unpack(data[0])]
    without = _of_roots(msgspec.structs.replace(manifest, rows=len(rows)), state_root=StateTree.build(10, rows).root)
    with pytest.raises(VerificationError, match="lack parameters"):
        restore(world, without, data.__getitem__, tmp_path / "ledger")
    other = _of_roots(taken.manifest, parameters_root=sha256(b"other"))
    with pytest.raises(VerificationError, match="its parameters have root"):
        restore(world, other, taken.chunk, tmp_path / "ledger")


def test_chunks_and_manifests_of_another_form_are_refused(world: World, taken: Snapshot, tmp_path: Path) -> None:
    for data in (b"\x80", b"\x81\x01", b"\xa0", b"\x00"):
        with pytest.raises(VerificationError, match="no array of byte strings"):
            unpack(data)
    chunk = Chunk(kind=ChunkKind.ROWS, digest=sha256(b"\xff"), size=1)
    manifest = msgspec.structs.replace(taken.manifest, chunks=(chunk, *taken.manifest.chunks[1:]))
    with pytest.raises(VerificationError, match="chunk 0 does not decode"):
        restore(world, manifest, lambda _: b"\xff", tmp_path / "ledger")
    with pytest.raises(VerificationError, match="expected at most"):
        parse_manifest(bytes(MAX_MANIFEST + 1))
    for chunks in (taken.manifest.chunks[::-1], ()):
        with pytest.raises(VerificationError, match="not in the order"):
            parse_manifest(canonical.encode(msgspec.structs.replace(taken.manifest, chunks=chunks)))
    assert taken.manifest.digest == sha256(taken.manifest_bytes)


def test_a_consistent_snapshot_of_another_state_is_refused_by_what_is_trusted(
    world: World, taken: Snapshot, tmp_path: Path
) -> None:
    with opened(world, tmp_path / "other") as (engine, state, blocks):
        publish(world, engine, 50, BLOCKS)
        other = Snapshots(tmp_path / "snapshots").take(state, blocks, world.chain)
    with pytest.raises(VerificationError, match="its log root is"):
        restore(world, other.manifest, other.chunk, tmp_path / "ledger", checkpoint(taken.manifest))
    with pytest.raises(VerificationError, match="its app_hash is"):
        check_head(other.manifest, taken.manifest.head.app_hash)
    check_head(taken.manifest, taken.manifest.head.app_hash)


def test_a_snapshot_of_another_chain_is_refused(taken: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="it is of chain"):
        restore(World(11), taken.manifest, taken.chunk, tmp_path / "ledger")


def test_a_manifest_that_says_another_app_hash_than_its_roots_is_refused(
    world: World, taken: Snapshot, tmp_path: Path
) -> None:
    head = msgspec.structs.replace(taken.manifest.head, log_size=taken.manifest.head.log_size + 1)
    with pytest.raises(VerificationError, match="its roots give app_hash"):
        restore(world, msgspec.structs.replace(taken.manifest, head=head), taken.chunk, tmp_path / "ledger")


def test_a_manifest_that_names_another_block_or_time_is_refused(world: World, taken: Snapshot, tmp_path: Path) -> None:
    for changed in (
        msgspec.structs.replace(taken.manifest.head, block=sha256(b"another")),
        msgspec.structs.replace(taken.manifest.head, time=taken.manifest.head.time + 1),
        msgspec.structs.replace(taken.manifest.head, height=taken.manifest.head.height + 1),
    ):
        with pytest.raises(VerificationError, match=r"block"):
            restore(world, msgspec.structs.replace(taken.manifest, head=changed), taken.chunk, tmp_path / "ledger")


def test_a_ledger_that_is_there_is_never_written_over(world: World, taken: Snapshot, tmp_path: Path) -> None:
    restore(world, taken.manifest, taken.chunk, tmp_path / "ledger")
    with pytest.raises(ConflictError, match="holds a ledger already"):
        restore(world, taken.manifest, taken.chunk, tmp_path / "ledger")


def test_items_are_packed_in_order_into_chunks_of_at_most_8_mib() -> None:
    items = [bytes((number,)) * (3 << 20) for number in range(5)] + [b"\x09" * (CHUNK_BYTES + 5)]
    chunks = list(pack(items))
    assert [item for chunk in chunks for item in unpack(chunk)] == items
    assert [len(unpack(chunk)) for chunk in chunks] == [2, 2, 1, 1]
    assert max(map(len, chunks[:-1])) <= CHUNK_BYTES


def test_a_chunk_decompresses_to_its_size_or_not_at_all() -> None:
    packed = pack_chunk(bytes(1000))
    assert unpack_chunk(packed, 3, 1000) == bytes(1000)
    for bad, size in ((packed, 999), (packed, 1001), (packed + b"\0", 1000), (packed[:-1], 1000), (b"\0", 1000)):
        with pytest.raises(VerificationError, match="chunk 3"):
            unpack_chunk(bad, 3, size)


def test_a_pruned_store_keeps_the_log_and_goes_on(world: World, tmp_path: Path) -> None:
    with opened(world, tmp_path / "old", hours=10) as (engine, state, blocks):
        publish(world, engine, 1, BLOCKS, hours=10)
        assert blocks.prune_below(1) == 1
        assert blocks.prune_below(BLOCKS) == BLOCKS
        assert [file.name for file in sorted((tmp_path / "old" / "segments").glob("*.seg"))] == ["00000006.seg"]
        with pytest.raises(NotFoundError, match="block 1 is not among 6 … 6"):
            engine.block(1)
        assert len(LogProofs(state.tile).inclusion_proof(0, BLOCKS)) == 3
    assert list(find_damage(tmp_path / "old" / "segments")) == []


def test_a_store_pruned_to_its_window_is_opened_again_and_snapshotted(world: World, tmp_path: Path) -> None:
    with opened(world, tmp_path / "old", hours=10) as (engine, state, blocks):
        publish(world, engine, 1, BLOCKS, hours=10)
        head = engine.head()
        snapshot = Snapshots(tmp_path / "snapshots").take(state, blocks, world.chain, first_block=3)
        assert blocks.prune_below(3) == 3
    restored = restore(world, snapshot.manifest, snapshot.chunk, tmp_path / "new")
    assert (snapshot.manifest.first_block, restored) == (3, head)
    for ledger in (tmp_path / "old", tmp_path / "new"):
        with opened(world, ledger) as (engine, _, blocks):
            assert (engine.head(), blocks.first_height(), blocks.last_height()) == (head, 3, BLOCKS)
        assert list(find_damage(ledger / "segments")) == []


def test_pruning_cut_short_is_finished_on_opening(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "old" / "segments"
    with opened(world, tmp_path / "old", hours=10) as (engine, _, blocks):
        publish(world, engine, 1, BLOCKS, hours=10)
        left = {file: file.read_bytes() for file in folder.glob("*.seg")}
        blocks.prune_below(3)
    for file, content in left.items():
        file.write_bytes(content)
    assert list(find_damage(folder)) == []
    with opened(world, tmp_path / "old") as (engine, _, blocks):
        assert (blocks.first_height(), blocks.last_height(), engine.head().height) == (3, BLOCKS, BLOCKS)
    assert len(list(folder.glob("*.seg"))) == 4


def test_a_damaged_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("7 00000000\n")
    with pytest.raises(VerificationError, match="base does not hold"):
        read_base(tmp_path)
    with pytest.raises(VerificationError, match="base does not hold"):
        SegmentBlocks(tmp_path)


def test_tiles_built_from_leaf_hashes_are_those_of_the_log(world: World, taken: Snapshot, tmp_path: Path) -> None:
    restore(world, taken.manifest, taken.chunk, tmp_path / "ledger")
    with closing(LmdbState(tmp_path / "ledger" / "state")) as state:
        log = Log.load(taken.manifest.head.log_size, state.tile)
    assert log.root() == taken.manifest.head.log_root

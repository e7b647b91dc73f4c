"""Snapshots: all that a store holds after one block, in chunks; for backup, followers that begin, and pruning. Pure.

A manifest names the head and every chunk by its SHA-256; a chunk is a CBOR array of byte strings, at most 8 MiB (one
item that is longer stands alone). Kinds of chunks stand in this order:

    ROWS         every row of the state, in order of key hash (the key is in the row: no row can stand for another)
    LEAF_HASHES  every leaf hash of the log, 256 an item: the tiles of level 0, of which all others follow
    RECORDS      `BlockRecords` of every block: leaves and the rows that they wrote, both proven by the leaf hashes
    BLOCKS       the newest blocks without a gap, at least a day and one: the op-id window is rebuilt from them

Compression lies outside the hashes. `Restoration` recomputes state root, log root and parameters root, and compares
the app hash with one that is trusted, before anybody may use what it has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Annotated, Final, Protocol

from msgspec import Meta

from yilian import canonical
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.block import Genesis, parse_block, verify_block
from yilian.ledger.cases import Part
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.execution import PARAMETER_KEYS
from yilian.ledger.log import TILE, Log, changes_digest
from yilian.ledger.machine import parameters_root_of
from yilian.ledger.members import Constitution, Key, Parameters, Role
from yilian.ledger.results import BlockRecords, Head, app_hash_of
from yilian.ledger.state import decode_case, decode_register, key_hash, natural_key_of
from yilian.ledger.tree import Allocate, StateTree
from yilian.values import CaseId, Digest, Natural, case_id

FORMAT: Final = 1
CHUNK_BYTES: Final = 8 << 20
MAX_CHUNK: Final = 64 << 20
"""A chunk of one item, such as the records of a block that wrote much, may be so long."""
MAX_CHUNKS: Final = 65_536
MAX_MANIFEST: Final = 4 << 20
_ITEM_HEAD: Final = 9
"""Most bytes before an item: the head of a byte string."""


class ChunkKind(IntEnum):
    """What a chunk holds; the order of the numbers is that of the chunks."""

    ROWS = 1
    LEAF_HASHES = 2
    RECORDS = 3
    BLOCKS = 4


class Chunk(Part, frozen=True, kw_only=True):
    """One chunk as the manifest names it."""

    kind: Annotated[int, Meta(ge=1, le=4)]
    digest: Digest
    """SHA-256 of its bytes, not compressed."""
    size: Annotated[int, Meta(ge=1, le=MAX_CHUNK)]


class Manifest(Part, frozen=True, kw_only=True):
    """What a snapshot holds. Its own digest names the snapshot; what it says is believed only once recomputed."""

    version: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    chain: Digest
    head: Head
    first_block: Natural
    """Height of the oldest block carried; 1 in a snapshot of height 0, which carries none."""
    rows: Natural
    chunks: Annotated[tuple[Chunk, ...], Meta(max_length=MAX_CHUNKS)]

    @property
    def digest(self) -> Digest:
        """SHA-256 of the manifest's bytes."""
        return sha256(canonical.encode(self))


class Target(Protocol):
    """Where what was verified is written; nobody reads it before the whole holds."""

    def put_rows(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Keep rows under their key hashes, in order."""
        ...

    def put_tiles(self, tiles: dict[tuple[int, int], bytes]) -> None:
        """Keep tiles of the log."""
        ...

    def tile(self, level: int, index: int) -> bytes | None:
        """Give a tile that was put."""
        ...

    def put_records(self, records: list[tuple[int, bytes]]) -> None:
        """Keep what blocks did, by height."""
        ...

    def put_block(self, height: int, block: bytes) -> None:
        """Keep the next block."""
        ...

    def get(self, key_hash: bytes) -> bytes | None:
        """Give a row that was put."""
        ...


def pack(items: Iterable[bytes]) -> Iterator[bytes]:
    """Put items into chunks of at most 8 MiB, in order."""
    held: list[bytes] = []
    size = 0
    for item in items:
        if held and size + len(item) + _ITEM_HEAD > CHUNK_BYTES - _ITEM_HEAD:
            yield _array(held)
            held, size = [], 0
        held.append(item)
        size += len(item) + _ITEM_HEAD
    if held:
        yield _array(held)


def unpack(data: bytes) -> list[bytes]:
    """Give the items of a chunk; VerificationError where it is no array of byte strings in canonical form."""
    items = canonical.decode_builtins(data)
    if not isinstance(items, list) or not items or not all(isinstance(item, bytes) for item in items):
        raise VerificationError("it is no array of byte strings: fetch the snapshot from another member")
    return items


def parse_manifest(data: bytes) -> Manifest:
    """Decode a manifest strictly.

    Raises:
        VerificationError: too long, no manifest, or its chunks are not in the order of their kinds.
    """
    if len(data) > MAX_MANIFEST:
        raise VerificationError(f"a manifest of {len(data)} bytes, expected at most {MAX_MANIFEST}: refuse it")
    manifest = canonical.decode(data, Manifest)
    kinds = [chunk.kind for chunk in manifest.chunks]
    if kinds != sorted(kinds) or kinds[:1] != [ChunkKind.ROWS]:
        raise VerificationError(f"a manifest whose {len(kinds)} chunks are not in the order of their kinds: refuse it")
    return manifest


def check_head(manifest: Manifest, trusted: Checkpoint | Digest) -> None:
    """Make sure that a manifest is of the head that is trusted: of a believed checkpoint, or of an app hash alone.

    Raises:
        VerificationError: another chain, height, time, log or app hash.
    """
    head = manifest.head
    if isinstance(trusted, bytes):
        compared: tuple[tuple[str, object, object], ...] = (("app_hash", head.app_hash, trusted),)
    else:
        compared = (
            ("chain", manifest.chain, trusted.chain),
            ("height", head.height, trusted.height),
            ("time", head.time, trusted.time),
            ("log size", head.log_size, trusted.log_size),
            ("log root", head.log_root, trusted.log_root),
            ("app_hash", head.app_hash, trusted.app_hash),
        )
    for name, found, expected in compared:
        if found != expected:
            raise _refused(f"its {name} is {_show(found)}, trusted is {_show(expected)}")


class Restoration:
    """Verifies a snapshot chunk by chunk while it is written to a target.

    Args:
        manifest: of the snapshot; `check_head` first compares it with what is trusted.
        genesis: of the chain, which says how deep the state tree is.
        read: gives the bytes of a chunk by its number, not compressed.
        target: where the parts go.
        allocate: memory for the state tree.
    """

    def __init__(
        self,
        manifest: Manifest,
        genesis: Genesis,
        read: Callable[[int], bytes],
        target: Target,
        *,
        allocate: Allocate = bytearray,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._manifest, self._genesis = manifest, genesis
        self._read, self._target, self._allocate, self._progress = read, target, allocate, progress

    def run(self) -> Head:
        """Verify and write all of it, and give the head that it now may be given.

        1. The manifest is of this chain, and its app hash is that of the roots it names.
        2. Each chunk has the size and SHA-256 that the manifest says.
        3. Rows stand in order, once each, and give the state root; parameters and constitution the parameters root.
        4. Leaf hashes give the log root, and as many as it says.
        5. Records follow each other; their leaves have the hashes of the log, their rows the leaves' digests.
        6. Blocks are chained up to the head's, each signed by a registered gateway key.

        Raises:
            VerificationError: any of these; names the chunk.
        """
        manifest, head = self._manifest, self._manifest.head
        # 1.
        if manifest.chain != self._genesis.chain:
            raise _refused(f"it is of chain {manifest.chain.hex()}, this is {self._genesis.chain.hex()}")
        app_hash = app_hash_of(head.log_size, head.log_root, head.state_root, head.parameters_root)
        if app_hash != head.app_hash:
            raise _refused(f"its roots give app_hash {app_hash.hex()}, it says {head.app_hash.hex()}")
        self._restore_rows()
        self._restore_log()
        self._restore_records()
        self._restore_blocks()
        return head

    def _chunks(self, kind: ChunkKind) -> Iterator[tuple[int, list[bytes]]]:
        """Read the chunks of a kind, each checked against the manifest: (number, items)."""
        total = len(self._manifest.chunks)
        for number, chunk in enumerate(self._manifest.chunks):
            if chunk.kind != kind:
                continue
            data = self._read(number)
            # 2.
            found = sha256(data)
            if len(data) != chunk.size or found != chunk.digest:
                raise _refused(
                    f"chunk {number} has {len(data)} bytes and hash {found.hex()}, the manifest says {chunk.size} "
                    f"and {chunk.digest.hex()}"
                )
            try:
                items = unpack(data)
            except VerificationError as error:
                raise _refused(f"chunk {number} does not decode ({error})") from error
            self._progress(number + 1, total)
            yield number, items

    def _restore_rows(self) -> None:
        head = self._manifest.head
        tree = StateTree.build(self._genesis.tree_depth, self._rows(), self._allocate)
        if tree.root != head.state_root:
            raise _refused(f"its rows have state root {tree.root.hex()}, its head says {head.state_root.hex()}")
        found = [self._target.get(key_hash(key)) for key in PARAMETER_KEYS]
        if found[0] is None or found[1] is None:
            raise _refused("its rows lack parameters or constitution")
        root = parameters_root_of(decode_register(found[0], Parameters), decode_register(found[1], Constitution))
        if root != head.parameters_root:
            raise _refused(f"its parameters have root {root.hex()}, its head says {head.parameters_root.hex()}")

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Give (key hash, value hash) of every row in order, having written them. 3."""
        last, count = b"", 0
        for number, items in self._chunks(ChunkKind.ROWS):
            rows = []
            for row in items:
                key = key_hash(_natural_key(row, number))
                if key <= last:
                    raise _refused(f"chunk {number} holds rows that are not in order of their key hashes")
                last = key
                rows.append((key, row))
            self._target.put_rows(rows)
            count += len(rows)
            for key, row in rows:
                yield key, sha256(row)
        if count != self._manifest.rows:
            raise _refused(f"it holds {count} rows, its manifest says {self._manifest.rows}")

    def _restore_log(self) -> None:
        head, log = self._manifest.head, Log(0, [])
        for number, items in self._chunks(ChunkKind.LEAF_HASHES):
            for item in items:
                if not item or len(item) % 32 or len(item) > TILE * 32:
                    raise _refused(f"chunk {number} holds an item of {len(item)} bytes that are no leaf hashes")
                log.extend([item[at : at + 32] for at in range(0, len(item), 32)])
            self._target.put_tiles({place: bytes(tile) for place, tile in log.touched.items()})
            log.touched.clear()
        # 4.
        if (log.size, log.root()) != (head.log_size, head.log_root):
            raise _refused(
                f"its {log.size} leaf hashes have log root {log.root().hex()}, its head says {head.log_size} and "
                f"{head.log_root.hex()}"
            )

    def _restore_records(self) -> None:
        """Check records block by block. 5."""
        height = leaf = 0
        for number, items in self._chunks(ChunkKind.RECORDS):
            kept = []
            for item in items:
                try:
                    records = canonical.decode(item, BlockRecords)
                except VerificationError as error:
                    raise _refused(f"chunk {number} holds no records of a block ({error})") from error
                if not records.records or records.first != leaf:
                    raise _refused(f"chunk {number} skips leaves before {records.first}")
                above = records.records[0].leaf.height
                if above <= height:
                    raise _refused(f"chunk {number} holds block {above} after block {height}")
                height, leaf = above, records.first + len(records.records)
                self._check_records(number, records)
                kept.append((height, item))
            self._target.put_records(kept)
        if leaf != self._manifest.head.log_size:
            raise _refused(f"its records end at leaf {leaf}, its log at {self._manifest.head.log_size}")

    def _check_records(self, number: int, records: BlockRecords) -> None:
        one = records.records[0].leaf
        for index, record in enumerate(records.records, start=records.first):
            stored = self._target.tile(0, index // TILE) or b""
            at = index % TILE * 32
            if sha256(b"\x00", canonical.encode(record.leaf)) != stored[at : at + 32]:
                raise _refused(f"chunk {number} shows another leaf {index} than the log")
            if (record.leaf.height, record.leaf.time) != (one.height, one.time):
                raise _refused(f"chunk {number} mixes leaves of two blocks at leaf {index}")
            pairs = sorted((key_hash(_natural_key(row, number)), bytes(sha256(row))) for row in record.rows)
            if changes_digest(pairs) != record.leaf.changes:
                raise _refused(f"chunk {number} shows other rows than leaf {index} says")

    def _restore_blocks(self) -> None:
        """Check the chain of headers up to the head. 6."""
        manifest, head = self._manifest, self._manifest.head
        height, parent = manifest.first_block - 1, None
        for number, items in self._chunks(ChunkKind.BLOCKS):
            for data in items:
                height += 1
                try:
                    header, block = parse_block(data)
                except VerificationError as error:
                    raise _refused(f"chunk {number}: block {height} does not hold ({error})") from error
                expected = manifest.chain if height == 1 else parent
                if (header.chain, header.height) != (manifest.chain, height) or (
                    expected is not None and header.parent != expected
                ):
                    raise _refused(f"chunk {number}: block {height} does not follow the one before")
                key = self._gateway_key(case_id(header.key_id))
                if key is None or key.owner != header.proposer or not verify_block(block, key.public_key):
                    raise _refused(f"chunk {number}: block {height} is not signed by a gateway key of its proposer")
                parent = header.digest
                self._target.put_block(height, data)
                if height == head.height and header.time != head.time:
                    raise _refused(f"chunk {number}: block {height} is at {header.time}, the head at {head.time}")
        if height != head.height or (parent or manifest.chain) != head.block:
            raise _refused(f"its blocks end at {height}, its head is {head.height}, {head.block.hex()}")

    def _gateway_key(self, case: CaseId) -> Key | None:
        row = self._target.get(key_hash(b"case/" + case))
        found = None if row is None else decode_case(row, {"key": Key})
        fields = None if found is None else found[1].fields
        return fields if isinstance(fields, Key) and fields.role == Role.NODE else None


def _array(items: list[bytes]) -> bytes:
    return canonical.array([canonical.byte_string(item) for item in items])


def _natural_key(row: bytes, number: int) -> bytes:
    """Read the natural key that a row begins with."""
    try:
        return natural_key_of(row)
    except VerificationError as error:
        raise _refused(f"chunk {number} holds a row without a key ({error})") from error


def _refused(what: str) -> VerificationError:
    return VerificationError(f"the snapshot does not hold: {what}: refuse it, take one of another member or backup")


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

"""Snapshots on disk: taken from stores while blocks are written, kept in a folder, read back.

A snapshot is a folder with `manifest.cbor` and `00000.gz`, `00001.gz` …: it exists once its manifest does, which is
written last. `Snapshots` keeps some of them under their heights.
"""

from __future__ import annotations

import gzip
import os
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from yilian import canonical
from yilian.crypto.suite import sha256
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.ledger.log import TILE
from yilian.ledger.results import Head
from yilian.ledger.snapshot import FORMAT, MAX_CHUNK, MAX_CHUNKS, Chunk, ChunkKind, Manifest, pack, parse_manifest
from yilian.storage.disk import Disk, disk_errors
from yilian.values import Digest

MANIFEST = "manifest.cbor"
MOST_PACKED = MAX_CHUNK + (1 << 20)
"""No chunk is longer when compressed: gzip adds a few bytes to what it cannot shorten."""
_LEVEL = 1
_TRIES = 3
_PART = ".part-"


class Frozen(Protocol):
    """One committed state from first to last."""

    def head(self) -> bytes | None:
        """Give the head, or None before the first commit."""
        ...

    def rows(self) -> Iterator[bytes]:
        """Give every row in order of key hash."""
        ...

    def tile(self, level: int, index: int) -> bytes | None:
        """Give a tile of the log, or None."""
        ...

    def leaves(self) -> Iterator[bytes]:
        """Give the leaves of every block that added some, in order of height."""
        ...


class Freezable(Protocol):
    """A state store that can be read as a whole while blocks are written."""

    def frozen(self) -> AbstractContextManager[Frozen]:
        """Hold one committed state; UnavailableError where the store needs room meanwhile."""
        ...


class KeptBlocks(Protocol):
    """A block store, perhaps a pruned one."""

    def first_height(self) -> int:
        """Give the height of the oldest block kept."""
        ...

    def read(self, height: int) -> bytes:
        """Give the bytes of one block."""
        ...


class Snapshot:
    """A snapshot in a folder."""

    def __init__(self, path: Path) -> None:
        """Read the manifest; NotFoundError, VerificationError where there is none that holds."""
        self.path = path
        self.manifest_bytes = _read(path / MANIFEST)
        self.manifest = parse_manifest(self.manifest_bytes)

    def packed(self, number: int) -> bytes:
        """Give a chunk as it lies, compressed; NotFoundError where there is none of this number."""
        if not 0 <= number < len(self.manifest.chunks):
            raise NotFoundError(f"chunk {number} is not among {len(self.manifest.chunks)}: name one of these")
        return _read(self.path / _chunk_name(number))

    def chunk(self, number: int) -> bytes:
        """Give a chunk; VerificationError where it does not decompress to what the manifest says."""
        return unpack_chunk(self.packed(number), number, self.manifest.chunks[number].size)


class Snapshots:
    """The snapshots of a ledger, newest last; at most `keep` of them."""

    def __init__(self, folder: Path, *, keep: int = 1, disk: Disk | None = None) -> None:
        self._folder, self._keep, self._disk = folder, keep, disk or Disk()

    def newest(self) -> Snapshot | None:
        """Give the newest snapshot, or None."""
        paths = self._paths()
        return Snapshot(paths[-1]) if paths else None

    def take(self, state: Freezable, blocks: KeptBlocks, chain: Digest, *, first_block: int = 0) -> Snapshot:
        """Take a snapshot of the newest block while blocks are written, and drop the oldest ones.

        Args:
            state: of the running node; read in one transaction.
            blocks: of the running node.
            chain: its id.
            first_block: height from which blocks are carried; 0 = all that are kept.

        Raises:
            UnavailableError: the disk failed, or the state store needed room three times.
        """
        with disk_errors(f"snapshots {self._folder}"):
            self._disk.make_folder(self._folder)
            for left in self._folder.iterdir():
                if left.name.startswith(_PART) or (left.name.isdecimal() and not (left / MANIFEST).is_file()):
                    shutil.rmtree(left, ignore_errors=True)
        part = self._folder / f"{_PART}{secrets.token_hex(8)}"
        height = self._take(part, state, blocks, chain, first_block=first_block)
        place = self._folder / f"{height:012}"
        with disk_errors(f"snapshot {place}"):
            if (place / MANIFEST).is_file():
                shutil.rmtree(part)
            else:
                shutil.rmtree(place, ignore_errors=True)  # one that was being dropped
                self._disk.rename(part, place)
            self._disk.sync_folder(self._folder)
            for old in self._paths()[: -self._keep]:
                self._drop(old)
        return Snapshot(place)

    def _take(self, part: Path, state: Freezable, blocks: KeptBlocks, chain: Digest, *, first_block: int) -> int:
        for left in range(_TRIES - 1, -1, -1):
            try:
                return _take(part, state, blocks, chain, first_block=first_block, disk=self._disk)
            except UnavailableError:
                shutil.rmtree(part, ignore_errors=True)
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _drop(self, old: Path) -> None:
        # the manifest goes first: what is left of a snapshot after a crash is none
        self._disk.remove(old / MANIFEST)
        self._disk.sync_folder(old)
        shutil.rmtree(old)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("[0-9]*") if (path / MANIFEST).is_file())


def pack_chunk(data: bytes) -> bytes:
    """Compress a chunk; the same bytes every time."""
    return gzip.compress(data, _LEVEL, mtime=0)


def unpack_chunk(packed: bytes, number: int, size: int) -> bytes:
    """Decompress a chunk of a size that the manifest says, in no more memory than that.

    Raises:
        VerificationError: other bytes; names the chunk.
    """
    decompressor = zlib.decompressobj(wbits=31)
    try:
        data = decompressor.decompress(packed, size + 1)
    except zlib.error as error:
        raise VerificationError(
            f"chunk {number} does not decompress ({error}): fetch it from another member"
        ) from error
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise VerificationError(f"chunk {number} is not of {size} bytes, as its manifest says: fetch it elsewhere")
    return data


def _take(part: Path, state: Freezable, blocks: KeptBlocks, chain: Digest, *, first_block: int, disk: Disk) -> int:
    with disk_errors(f"snapshot {part}"), state.frozen() as frozen:
        disk.make_folder(part)
        stored = frozen.head()
        if stored is None:
            raise NotFoundError("the ledger has no head yet: start its node once")
        head = canonical.decode(stored, Head)
        first = max(first_block, blocks.first_height())
        counted = _Counted(frozen.rows())
        chunks: list[Chunk] = []
        parts: tuple[tuple[ChunkKind, Iterable[bytes]], ...] = (
            (ChunkKind.ROWS, counted),
            (ChunkKind.LEAF_HASHES, _leaf_tiles(frozen, head.log_size)),
            (ChunkKind.RECORDS, frozen.leaves()),
            (ChunkKind.BLOCKS, (blocks.read(height) for height in range(first, head.height + 1))),
        )
        for kind, items in parts:
            for data in pack(items):
                _write(disk, part / _chunk_name(len(chunks)), pack_chunk(data))
                chunks.append(Chunk(kind=kind, digest=sha256(data), size=len(data)))
        if len(chunks) > MAX_CHUNKS:
            raise UnavailableError(f"the snapshot has {len(chunks)} chunks, at most {MAX_CHUNKS}: keep fewer blocks")
        manifest = Manifest(
            version=FORMAT, chain=chain, head=head, first_block=first, rows=counted.count, chunks=tuple(chunks)
        )
        disk.sync_folder(part)
        disk.store(part / MANIFEST, canonical.encode(manifest))
    return head.height


class _Counted:
    """Counts what it gives."""

    def __init__(self, items: Iterator[bytes]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for item in self._items:
            self.count += 1
            yield item


def _leaf_tiles(frozen: Frozen, log_size: int) -> Iterator[bytes]:
    for index in range((log_size + TILE - 1) // TILE):
        tile = frozen.tile(0, index)
        if tile is None:
            raise VerificationError(f"tile {index} of the log's leaves is missing: run `yilian node check`")
        yield tile[: (log_size - index * TILE) * 32]


def _chunk_name(number: int) -> str:
    return f"{number:05}.gz"


def _write(disk: Disk, path: Path, content: bytes) -> None:
    descriptor = disk.create(path)
    try:
        disk.write(descriptor, content)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no {path}: take the snapshot again") from error
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}, expected a readable file: repair it") from error

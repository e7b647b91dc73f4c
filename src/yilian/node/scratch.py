"""A state in memory that begins with a ledger's newest snapshot, where the blocks before it were pruned."""

from __future__ import annotations

from pathlib import Path

from yilian import canonical
from yilian.engine.tuning import anonymous_memory
from yilian.errors import NotFoundError, VerificationError
from yilian.ledger.block import Genesis
from yilian.ledger.ports import Batch, Blocks
from yilian.ledger.snapshot import Restoration
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.snapshots import Snapshots


class WindowBlocks(MemoryBlocks):
    """The blocks that a snapshot carries, under their heights."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first

    def append(self, height: int, block: bytes) -> None:
        """Keep the next block."""
        super().append(height - self._first + 1, block)

    def read(self, height: int) -> bytes:
        """Give a block; NotFoundError where the snapshot carries none of this height."""
        if height < self._first:
            raise NotFoundError(f"the snapshot carries blocks from {self._first} on, not {height}: take another")
        return super().read(height - self._first + 1)

    def first_height(self) -> int:
        """Give the oldest height."""
        return self._first

    def last_height(self) -> int:
        """Give the newest height."""
        return super().last_height() + self._first - 1


class _Scratch:
    """The `Target` of a restoration into memory."""

    def __init__(self, state: MemoryState, blocks: WindowBlocks, head: bytes) -> None:
        self._state, self._blocks, self._head = state, blocks, head

    def put_rows(self, rows: list[tuple[bytes, bytes]]) -> None:
        self._state.write(Batch(height=0, rows=dict(rows), tiles={}, leaves=b"", head=self._head))

    def put_tiles(self, tiles: dict[tuple[int, int], bytes]) -> None:
        self._state.write(Batch(height=0, rows={}, tiles=tiles, leaves=b"", head=self._head))

    def tile(self, level: int, index: int) -> bytes | None:
        return self._state.tile(level, index)

    def put_records(self, records: list[tuple[int, bytes]]) -> None:
        for height, leaves in records:
            self._state.write(Batch(height=height, rows={}, tiles={}, leaves=leaves, head=self._head))

    def put_block(self, height: int, block: bytes) -> None:
        self._blocks.append(height, block)

    def get(self, key_hash: bytes) -> bytes | None:
        return self._state.get(key_hash)


def begin_with_snapshot(folder: Path, genesis: Genesis, state: MemoryState) -> Blocks:
    """Fill a state from the newest snapshot of a ledger, verified, and give the blocks of its window.

    The caller executes the blocks that follow: the first of them names the app hash which the snapshot must have.

    Raises:
        VerificationError: there is none, or it does not hold.
    """
    snapshot = Snapshots(folder).newest()
    if snapshot is None:
        raise VerificationError(f"old blocks were pruned and {folder} holds no snapshot: restore it from a backup")
    manifest = snapshot.manifest
    blocks = WindowBlocks(manifest.first_block)
    target = _Scratch(state, blocks, canonical.encode(manifest.head))
    Restoration(manifest, genesis, snapshot.chunk, target, allocate=anonymous_memory).run()
    return blocks

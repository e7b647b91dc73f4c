"""What a node's own chain says of its past: checkpoints of older heights, consistency proofs, tiles of the log.

All of it is computed from what this node executed and stored itself, so it is what a checkpoint of somebody else is
compared with.
"""

from __future__ import annotations

from yilian import canonical
from yilian.engine.port import Engine
from yilian.errors import NotFoundError, VerificationError
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.log import TILE, LogProofs
from yilian.ledger.results import BlockRecords
from yilian.ledger.tiles import LEVELS, encode_bundle
from yilian.values import Digest

MOST_EMPTY = 1_000
"""Blocks without a leaf in a row, at most."""


class History:
    """Reads an engine's chain; any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next: dict[int, int] = {}
        """Block in which the bundle after the one that was asked for last begins."""
        self._proofs = LogProofs(engine.state.tile)

    @property
    def size(self) -> int:
        """Leaves of the log after the newest block."""
        return self._engine.head().log_size

    def checkpoint(self, height: int | None = None) -> Checkpoint:
        """Give the checkpoint of a height, unsigned; of the newest block where none is named.

        Raises:
            NotFoundError: this chain has no such block, or no longer.
        """
        head = self._engine.head()
        if height is None or height == head.height:
            return head.checkpoint(self._engine.chain)
        if not 0 < height < head.height:
            raise NotFoundError(f"block {height} is not among 1 … {head.height}: name one of these")
        size = self.size_at(height)
        return Checkpoint(
            chain=self._engine.chain,
            log_size=size,
            log_root=self.root(size),
            app_hash=self._engine.block(height + 1)[0].app_hash,
            height=height,
            time=self._engine.block(height)[0].time,
        )

    def size_at(self, height: int) -> int:
        """Give the leaves of the log after a block; NotFoundError where this node does not hold them."""
        for one in range(height, max(0, height - MOST_EMPTY), -1):
            found = self._records(one)
            if found is not None:
                return found.first + len(found.records)
        if height > MOST_EMPTY:
            raise NotFoundError(
                f"the leaves of block {height} are not here: ask a node that has the log from its start"
            )
        return 0

    def root(self, size: int) -> Digest:
        """Give the root at an older size; NotFoundError where the log has not come so far."""
        self._check(size)
        return self._proofs.root(size)

    def consistency(self, old: int, size: int) -> tuple[Digest, ...]:
        """Prove that the log of `old` leaves is a beginning of that of `size`; NotFoundError beyond the log."""
        self._check(size)
        if not 0 <= old <= size:
            raise NotFoundError(f"no log of {old} leaves begins one of {size}: ask from the smaller to the larger")
        return self._proofs.consistency_proof(old, size) if old else ()

    def tile(self, level: int, index: int, width: int = TILE) -> bytes:
        """Give the first `width` hashes of a tile (C2SP tlog-tiles); NotFoundError where the log has them not."""
        if not (0 <= level < LEVELS and 0 <= index < 1 << 56 and 1 <= width <= TILE):
            raise NotFoundError(f"there is no tile {level}/{index} of width {width}: see C2SP tlog-tiles")
        stored = self._engine.state.tile(level * LEVELS, index) or b""
        if len(stored) < 32 * width:
            raise NotFoundError(
                f"tile {level}/{index} has {len(stored) // 32} hashes, asked were {width}: ask for less"
            )
        return stored[: 32 * width]

    def entries(self, index: int, width: int = TILE) -> bytes:
        """Give the first `width` leaves of a bundle, each after its length in two bytes (C2SP tlog-tiles)."""
        first = index * TILE
        if not (first >= 0 and 1 <= width <= TILE and first + width <= self.size):
            raise NotFoundError(f"bundle {index} of width {width} is beyond {self.size} leaves: ask for less")
        height = self._next.get(index) or self._height_of(first)
        parts: list[bytes] = []
        while len(parts) < width:
            if height > self._engine.head().height:
                raise NotFoundError(
                    f"the leaves of bundle {index} are not here: ask a node that has the log from its start"
                )
            found = self._records(height)
            if found is not None:
                parts += [canonical.encode(record.leaf) for record in found.records[max(0, first - found.first) :]]
            height += 1
        self._next = {index + 1: height - 1}
        return encode_bundle(parts[:width])

    def _height_of(self, leaf: int) -> int:
        """Find the block that added a leaf."""
        low, high = 1, self._engine.head().height
        while low < high:
            middle = (low + high) // 2
            if self.size_at(middle) > leaf:
                high = middle
            else:
                low = middle + 1
        return low

    def _records(self, height: int) -> BlockRecords | None:
        stored = self._engine.state.leaves(height)
        return canonical.decode_trusted(stored, BlockRecords) if stored else None

    def _check(self, size: int) -> None:
        if size > self.size:
            raise NotFoundError(
                f"this log has {self.size} leaves, asked was one of {size}: ask later, or another member"
            )
        if size < 0:
            raise VerificationError(f"a log of {size} leaves: ask for none or more")

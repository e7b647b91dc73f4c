"""The state as it stood some blocks ago: what the newest blocks overwrote, kept so long as there is room. Pure.

A checkpoint is cosigned a moment after its block, when the chain may have gone on: proofs are of the state that it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from yilian.ledger.results import Head
from yilian.ledger.tree import Rows, StateProof, StateTree, proof_of

MAX_BUCKETS: Final = 20_000
"""Buckets kept over all blocks, about 8 MB; a single block is kept whatever its size."""
MAX_BLOCKS: Final = 2_000
"""Blocks kept; one of refused operations alone overwrites nothing."""


class Overwritten(msgspec.Struct, frozen=True, kw_only=True):
    """What one block overwrote."""

    before: Head
    """The head before the block."""
    nodes: Mapping[int, bytes]
    """Bucket → its hash before."""
    buckets: Mapping[int, Rows]
    """Bucket → its rows before, where it had any."""
    rows: Mapping[bytes, bytes]
    """Key hash → row before, of rows that were changed."""


class View:
    """One state, to read and prove from; good until the machine executes the next block."""

    def __init__(  # noqa: PLR0917 - what a state is read from
        self,
        head: Head,
        tree: StateTree,
        stored: Callable[[int], Rows],
        row: Callable[[bytes], bytes | None],
        overwritten: Overwritten | None = None,
    ) -> None:
        self.head = head if overwritten is None else overwritten.before
        self._tree = tree
        self._stored = stored
        self._row = row
        self._overwritten = overwritten
        self._levels = [] if overwritten is None else _levels(tree, overwritten.nodes)

    def row(self, hashed_key: bytes) -> bytes | None:
        """Give the row under the hash of its natural key."""
        if not any(key == hashed_key for key, _ in self._rows(self._tree.bucket(hashed_key))):
            return None
        older = self._overwritten.rows.get(hashed_key) if self._overwritten is not None else None
        return self._row(hashed_key) if older is None else older

    def prove(self, hashed_key: bytes) -> StateProof:
        """Prove what stands under a key hash."""
        index, depth = self._tree.bucket(hashed_key), self._tree.depth
        siblings = [self._node(level, index >> depth - level ^ 1) for level in range(depth, 0, -1)]
        return proof_of(hashed_key, self._rows(index), siblings)

    def _rows(self, bucket: int) -> Rows:
        if self._overwritten is not None and bucket in self._overwritten.nodes:
            return self._overwritten.buckets.get(bucket, ())
        return () if self._tree.is_empty(bucket) else self._stored(bucket)

    def _node(self, level: int, index: int) -> bytes:
        older = self._levels[level].get(index) if self._levels else None
        return self._tree.node(level, index) if older is None else older


class Past:
    """The newest blocks' overwritten buckets and rows."""

    def __init__(self) -> None:
        self._blocks: deque[Overwritten] = deque()
        self._size = 0

    def add(self, block: Overwritten) -> None:
        """Keep what a block overwrote, and drop the oldest where there is no room."""
        self._blocks.append(block)
        self._size += len(block.nodes)
        while len(self._blocks) > MAX_BLOCKS or (self._size > MAX_BUCKETS and len(self._blocks) > 1):
            self._size -= len(self._blocks.popleft().nodes)

    def since(self, height: int) -> Overwritten | None:
        """Give what all blocks after `height` overwrote together; None where that is not kept."""
        after = [block for block in self._blocks if block.before.height >= height]
        if not after or after[0].before.height != height:
            return None
        nodes: dict[int, bytes] = {}
        buckets: dict[int, Rows] = {}
        rows: dict[bytes, bytes] = {}
        for block in reversed(after):
            nodes.update(block.nodes)
            for index in block.nodes:
                buckets[index] = block.buckets.get(index, ())
            rows.update(block.rows)
        return Overwritten(before=after[0].before, nodes=nodes, buckets=buckets, rows=rows)


def _levels(tree: StateTree, buckets: Mapping[int, bytes]) -> list[Mapping[int, bytes]]:
    """Give the nodes above some older buckets, as they were; from the root down."""
    level: Mapping[int, bytes] = buckets
    levels = [level]
    for depth in range(tree.depth, 0, -1):
        above: dict[int, bytes] = {}
        for index in level:
            if index >> 1 not in above:
                left, right = (level.get(one) or tree.node(depth, one) for one in (index & ~1, index | 1))
                above[index >> 1] = sha256(b"\x01" + left + right).digest()
        level = above
        levels.append(level)
    return levels[::-1]

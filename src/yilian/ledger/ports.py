"""What the ledger needs of a disk: the protocols `State` and `Blocks`.

Implementations may differ in speed and in what survives a power cut of the hardware, in nothing else;
`tests/conformance` runs one suite over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one block changes; written as a whole or not at all."""

    height: int
    rows: Mapping[bytes, bytes | None]
    """Key hash (32 bytes) → row bytes; None removes the row."""
    tiles: Mapping[tuple[int, int], bytes]
    """(level, tile index) → up to 256 concatenated node hashes of the log; replaces the tile."""
    leaves: bytes
    """The block's log leaves, canonical CBOR; empty where the block adds none."""
    head: bytes
    """Canonical bytes of the head after the block."""


class State(Protocol):
    """The current rows, the log's nodes and leaves, and the head, as of the last committed block.

    Reads may come from any thread and see one committed state each; only one thread writes.
    """

    def get(self, key_hash: bytes) -> bytes | None:
        """Give the row stored under a key hash, or None."""
        ...

    def scan(self, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Give (key hash, row) in order of key hash, from `start` on, before `stop` (None: to the end)."""
        ...

    def tile(self, level: int, index: int) -> bytes | None:
        """Give the stored hashes of one tile of the log, or None."""
        ...

    def leaves(self, height: int) -> bytes | None:
        """Give the leaves that the block at `height` added, or None where it added none."""
        ...

    def head(self) -> bytes | None:
        """Give the head of the last commit, or None before the first."""
        ...

    def write(self, batch: Batch) -> None:
        """Make one block's changes durable, atomically; return only after they are.

        Raises:
            UnavailableError: the disk is full or failed; nothing of the batch was written.
        """
        ...

    def close(self) -> None:
        """Release files and locks."""
        ...


class Blocks(Protocol):
    """The chain of blocks, append-only; heights have no gap, and start at 1 or where older ones were pruned."""

    def append(self, height: int, block: bytes) -> None:
        """Make a block durable; return only after it is.

        Raises:
            ConflictError: the height is not the next one.
            UnavailableError: the disk is full or failed; the block is not there.
        """
        ...

    def read(self, height: int) -> bytes:
        """Give the bytes of one block.

        Raises:
            NotFoundError: no such height.
            VerificationError: the stored bytes do not match their length or checksum.
        """
        ...

    def last_height(self) -> int:
        """Give the newest height, 0 where there is no block."""
        ...

    def first_height(self) -> int:
        """Give the height of the oldest block that is kept, or would be: 1, unless older ones were pruned."""
        ...

    def truncate_after(self, height: int) -> None:
        """Drop the blocks above `height`."""
        ...

    def close(self) -> None:
        """Release files and locks."""
        ...

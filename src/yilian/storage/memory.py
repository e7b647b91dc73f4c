"""`State` and `Blocks` in memory: for executing a chain again beside its store, for tests and for measuring."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from yilian.errors import ConflictError, NotFoundError
from yilian.ledger.ports import Batch

BUCKET_BITS = 20
_BUCKETS = 1 << BUCKET_BITS
_ZEROS = bytes(29)


class MemoryState:
    """The `State` port in dictionaries; key hashes are also kept by their first 20 bits, so that a scan of one bucket
    of a million rows touches that bucket alone.
    """  # noqa: D205 - one sentence

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[bytes, bytes] = {}
        self._buckets: dict[int, tuple[bytes, ...]] = {}
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._leaves: dict[int, bytes] = {}
        self._head: bytes | None = None

    def get(self, key_hash: bytes) -> bytes | None:
        """Give the row stored under a key hash, or None."""
        return self._rows.get(key_hash)

    def scan(self, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Give (key hash, row) in order of key hash, from `start` on, before `stop`; one state from first to last."""
        first = _bucket(start)
        if stop is not None and _bucket(stop) == first + 1 and _is_bound(start) and _is_bound(stop):
            # exactly one bucket, as the state tree asks for it
            with self._lock:
                return iter([(key, self._rows[key]) for key in self._buckets.get(first, ())])
        last = _BUCKETS - 1 if stop is None else min(_bucket(stop), _BUCKETS - 1)
        with self._lock:
            numbers = (
                range(first, last + 1)
                if last - first < len(self._buckets)
                else sorted(number for number in self._buckets if first <= number <= last)
            )
            found = [
                (key, self._rows[key])
                for number in numbers
                for key in self._buckets.get(number, ())
                if key >= start and (stop is None or key < stop)
            ]
        return iter(found)

    def tile(self, level: int, index: int) -> bytes | None:
        """Give the stored hashes of one tile of the log, or None."""
        return self._tiles.get((level, index))

    def leaves(self, height: int) -> bytes | None:
        """Give the leaves that the block at `height` added, or None where it added none."""
        return self._leaves.get(height)

    def head(self) -> bytes | None:
        """Give the head of the last commit, or None before the first."""
        return self._head

    def write(self, batch: Batch) -> None:
        """Take over one block's changes at once."""
        with self._lock:
            for key, row in batch.rows.items():
                if row is None:
                    self._drop(key)
                else:
                    self._keep(key, row)
            self._tiles.update(batch.tiles)
            if batch.leaves:
                self._leaves[batch.height] = batch.leaves
            self._head = batch.head

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _keep(self, key: bytes, row: bytes) -> None:
        if key not in self._rows:
            number = _bucket(key)
            self._buckets[number] = tuple(sorted((*self._buckets.get(number, ()), key)))
        self._rows[key] = row

    def _drop(self, key: bytes) -> None:
        if self._rows.pop(key, None) is None:
            return
        number = _bucket(key)
        rest = tuple(other for other in self._buckets[number] if other != key)
        if rest:
            self._buckets[number] = rest
        else:
            del self._buckets[number]


class MemoryBlocks:
    """The `Blocks` port in a list."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def append(self, height: int, block: bytes) -> None:
        """Keep a block; ConflictError where the height is not the next one."""
        if height != len(self._blocks) + 1:
            raise ConflictError(f"block {height} came after {len(self._blocks)}: append {len(self._blocks) + 1}")
        self._blocks.append(bytes(block))

    def read(self, height: int) -> bytes:
        """Give the bytes of one block; NotFoundError where there is none."""
        if not 1 <= height <= len(self._blocks):
            raise NotFoundError(f"block {height} is not among 1 … {len(self._blocks)}: name one of these")
        return self._blocks[height - 1]

    def last_height(self) -> int:
        """Give the newest height, 0 where there is no block."""
        return len(self._blocks)

    def first_height(self) -> int:
        """Give the height of the oldest block that is kept: 1."""
        return 1

    def truncate_after(self, height: int) -> None:
        """Drop the blocks above `height`."""
        del self._blocks[height:]

    def close(self) -> None:
        """Do nothing: there is no file."""


def _bucket(key: bytes) -> int:
    return int.from_bytes(key[:3].ljust(3, b"\0")) >> (24 - BUCKET_BITS)


def _is_bound(key: bytes) -> bool:
    return key[3:] == _ZEROS and not key[2] & 0x0F

"""The log: an unmodified RFC 6962 Merkle tree over every operation, refused ones too, with stored nodes.

Nodes of every level lie in tiles of 256, so that an old leaf proves against the newest root by reading few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256 as _sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from yilian.crypto import merkle
from yilian.crypto.suite import sha256
from yilian.values import Digest, InstitutionId, Natural, OpId, UnixMillis, Word, digest

TILE = 256
EMPTY_ROOT = sha256(b"")

ReadTile = Callable[[int, int], bytes | None]


class Leaf(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What the log says of one operation; the leaf hash is RFC 6962's over its canonical bytes."""

    height: Natural
    time: UnixMillis
    actor: InstitutionId
    op_id: OpId
    operation: Digest
    """RFC 6962 leaf hash of the operation's bytes."""
    result: Annotated[tuple[tuple[Word, Natural], ...], Meta(max_length=4)]
    """Empty: done. Else (workflow, number) of the refusal, the inner ones of consequences behind it."""
    changes: Digest
    """Digest over the changed rows: key hash and value hash each, in order of key hash."""
    claims_root: Digest | None


class Log:
    """The growing end of the log: its size and the newest tile of each level.

    `append` changes this object only; `touched` are the tiles to write. Work on a `copy` until the block is durable.
    """

    def __init__(self, size: int, tails: list[bytearray]) -> None:
        self.size = size
        self._tails = tails
        self.touched: dict[tuple[int, int], bytearray] = {}

    @classmethod
    def load(cls, size: int, read_tile: ReadTile) -> Log:
        """Load the end of a log of `size` leaves.

        Raises:
            KeyError: a tile that must exist is missing (the state store is damaged).
        """
        tails: list[bytearray] = []
        for level in range(size.bit_length()):
            count = size >> level
            stored = read_tile(level, (count - 1) // TILE)
            if stored is None:
                raise KeyError(f"log tile of level {level} is missing at size {size}")
            tails.append(bytearray(stored))
        return cls(size, tails)

    def copy(self) -> Log:
        """Copy the end, to append to it without changing this one."""
        return Log(self.size, [bytearray(tail) for tail in self._tails])

    def append(self, leaf_hash: bytes) -> None:
        """Append one leaf hash and the inner nodes that it completes (RFC 6962 section 2.1)."""
        self.extend([leaf_hash])

    def extend(self, leaf_hashes: Sequence[bytes]) -> None:
        """Append leaf hashes and the inner nodes that they complete, level by level."""
        nodes, first, level = list(leaf_hashes), self.size, 0
        self.size += len(nodes)
        while nodes:
            if level == len(self._tails):
                self._tails.append(bytearray())
            if first & 1:
                nodes.insert(0, bytes(self._tails[level][-32:]))
                self._keep(level, first, nodes[1:])
            else:
                self._keep(level, first, nodes)
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            nodes = [_sha256(b"\x01" + left + right).digest() for left, right in pairs]
            first >>= 1
            level += 1

    def _keep(self, level: int, first: int, nodes: Sequence[bytes]) -> None:
        """Put nodes of one level, from index `first` on, into its tiles."""
        done = 0
        while done < len(nodes):
            tail = self._tails[level]
            if len(tail) == TILE * 32:
                tail = self._tails[level] = bytearray()
            room = TILE - len(tail) // 32
            tail += b"".join(nodes[done : done + room])
            self.touched[level, (first + done) // TILE] = tail
            done += room

    def root(self) -> Digest:
        """Give the root over all leaves."""
        if not self.size:
            return EMPTY_ROOT
        root: bytes | None = None
        for level, tail in enumerate(self._tails):
            if self.size >> level & 1:
                node = bytes(tail[-32:])
                root = node if root is None else merkle.node_hash(node, root)
        if root is None:
            raise AssertionError("a log with leaves has a root")
        return digest(root)


class LogProofs:
    """Proofs over stored tiles, for any size up to the newest (RFC 6962 sections 2.1.1, 2.1.2)."""

    def __init__(self, read_tile: ReadTile) -> None:
        self._read_tile = read_tile

    def leaf_hash(self, index: int) -> Digest:
        """Give the hash of one leaf."""
        return digest(self._node(0, index))

    def root(self, size: int) -> Digest:
        """Give the root at an older size."""
        return digest(self._subtree(0, size)) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> tuple[Digest, ...]:
        """Prove that leaf `index` is in the tree of `size` leaves.

        Raises:
            ValueError: `index` is not below `size`.
        """
        if not 0 <= index < size:
            raise ValueError(f"leaf {index} is not in a tree of {size}")
        path: list[Digest] = []
        start, stop = 0, size
        while stop - start > 1:
            middle = start + _split(stop - start)
            if index < middle:
                path.append(digest(self._subtree(middle, stop)))
                stop = middle
            else:
                path.append(digest(self._subtree(start, middle)))
                start = middle
        return tuple(reversed(path))

    def consistency_proof(self, old: int, size: int) -> tuple[Digest, ...]:
        """Prove that the tree of `old` leaves is a prefix of the tree of `size` leaves.

        Raises:
            ValueError: not 0 < old ≤ size.
        """
        if not 0 < old <= size:
            raise ValueError(f"no consistency proof from {old} to {size}")
        path: list[bytes] = []
        start, stop, whole = 0, size, True
        while stop != old:
            middle = start + _split(stop - start)
            if old <= middle:
                path.append(self._subtree(middle, stop))
                stop = middle
            else:
                path.append(self._subtree(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._subtree(start, stop))
        return tuple(digest(node) for node in reversed(path))

    def _node(self, level: int, index: int) -> bytes:
        tile = self._read_tile(level, index // TILE) or b""
        start = index % TILE * 32
        node = tile[start : start + 32]
        if len(node) != 32:
            raise KeyError(f"log node {index} of level {level} is missing")
        return node

    def _subtree(self, start: int, stop: int) -> bytes:
        size = stop - start
        if size & (size - 1) == 0 and start % size == 0:
            return self._node(size.bit_length() - 1, start // size)
        middle = start + _split(size)
        return merkle.node_hash(self._subtree(start, middle), self._subtree(middle, stop))


def changes_digest(changes: Sequence[tuple[bytes, bytes]]) -> Digest:
    """Give the digest of changes: (key hash, value hash) pairs, sorted by key hash."""
    if len(changes) == 1:
        ((key, value),) = changes
        return _sha256(b"yilian/changes/v1" + key + value).digest()  # type: ignore[return-value]  # 32 bytes
    return sha256(b"yilian/changes/v1", *[part for change in changes for part in change])


def _split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1

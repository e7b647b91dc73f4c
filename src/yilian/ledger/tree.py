"""The state tree: a prefix-bucketed sparse Merkle tree over the current rows; proves presence and absence.

    row    = H(0x00 ‖ key hash ‖ value hash)
    bucket = H(0x02 ‖ count ‖ RFC 6962 shaped root over its rows in order of key hash)
    node   = H(0x01 ‖ left ‖ right)

A bucket is the leaf of a key hash's first `depth` bits. It is a tree itself: ids can be ground into one bucket, and a
flat bucket would then make every proof and update there expensive. All levels lie flat in memory, 2^(depth + 1) × 32
bytes (64 MB at depth 20), rebuilt by one sorted scan at start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from yilian.crypto import merkle
from yilian.values import Digest, Natural, digest

EMPTY_BUCKET = sha256(b"yilian/empty-bucket/v1").digest()
Rows = Sequence[tuple[bytes, bytes]]
"""(key hash, value hash) pairs in order of key hash."""


class ProvenRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A row of a bucket with its inclusion proof (RFC 6962) under the bucket's root."""

    index: Natural
    key_hash: Digest
    value_hash: Digest
    path: Annotated[tuple[Digest, ...], Meta(max_length=64)]


class StateProof(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Shows what stands under a key hash: the row itself, or the rows between which it would lie.

    It grows with the logarithm of the bucket's rows, so that keys ground into one bucket make no large proofs.
    """

    count: Natural
    """Rows of the bucket."""
    bucket_root: Digest
    rows: Annotated[tuple[ProvenRow, ...], Meta(max_length=2)]
    siblings: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=24)]
    """From the bucket up, one a level."""


_FILLED_AT_ONCE = 1 << 14
"""Nodes: half a megabyte."""


class Flat(Protocol):
    """Bytes of a fixed size that are read and written by slices: a `bytearray`, or memory that an engine brings."""

    def __getitem__(self, index: slice, /) -> bytes | bytearray:
        """Read some bytes."""
        ...

    def __setitem__(self, index: slice, value: bytes, /) -> None:
        """Write as many bytes as the slice has."""
        ...


Allocate = Callable[[int], Flat]
"""Gives memory of a size in bytes."""


class StateTree:
    """The flat levels. `update` changes them at once and returns what `undo` needs."""

    def __init__(self, depth: int, allocate: Allocate = bytearray) -> None:
        self.depth = depth
        defaults = [EMPTY_BUCKET]
        for _ in range(depth):
            defaults.append(_node(defaults[-1] + defaults[-1]))
        self._levels = [allocate(32 << level) for level in range(depth + 1)]
        for level, flat in enumerate(self._levels):
            piece = defaults[depth - level] * min(1 << level, _FILLED_AT_ONCE)
            for start in range(0, 32 << level, len(piece)):
                flat[start : start + len(piece)] = piece

    @classmethod
    def build(cls, depth: int, rows: Iterable[tuple[bytes, bytes]], allocate: Allocate = bytearray) -> StateTree:
        """Build from all rows (key hash, value hash) in order of key hash."""
        tree = cls(depth, allocate)
        buckets: dict[int, bytes] = {}
        current = -1
        bucket: list[tuple[bytes, bytes]] = []
        for row in rows:
            index = tree.bucket(row[0])
            if index != current:
                if bucket:
                    buckets[current] = _bucket(bucket)
                current, bucket = index, []
            bucket.append(row)
        if bucket:
            buckets[current] = _bucket(bucket)
        tree._write(buckets)
        return tree

    @property
    def root(self) -> Digest:
        """Root over all rows."""
        return digest(bytes(self._levels[0][:]))

    def bucket(self, key_hash: bytes) -> int:
        """Give the index of a key hash's bucket: its first `depth` bits."""
        return int.from_bytes(key_hash[:8], "big") >> (64 - self.depth)

    def bucket_range(self, index: int) -> tuple[bytes, bytes | None]:
        """Give the key hashes between which a bucket's rows lie: from the first, before the second (None: the end)."""
        shift = 64 - self.depth
        start = (index << shift).to_bytes(8, "big") + b"\0" * 24
        after = index + 1
        return start, None if after >> self.depth else (after << shift).to_bytes(8, "big") + b"\0" * 24

    def is_empty(self, index: int) -> bool:
        """Say whether a bucket has no row."""
        return self._levels[self.depth][index * 32 : index * 32 + 32] == EMPTY_BUCKET

    def update(self, changes: Mapping[bytes, bytes | None], stored: Callable[[int], Rows]) -> dict[int, bytes]:
        """Apply changed rows (key hash → value hash, None = removed) and return the buckets' hashes overwritten.

        `stored(bucket index)` gives the rows of a bucket before the change; it is asked for non-empty buckets only.
        """
        shift = 64 - self.depth
        first: dict[int, bytes] = {}
        crowded: dict[int, list[bytes]] = {}
        for key in changes:
            index = int.from_bytes(key[:8], "big") >> shift
            if first.setdefault(index, key) is not key:
                crowded.setdefault(index, [first[index]]).append(key)
        leaves = self._levels[self.depth]
        buckets: dict[int, bytes] = {}
        for index, key in first.items():
            value = changes[key]
            empty = leaves[index << 5 : (index << 5) + 32] == EMPTY_BUCKET
            if empty and value is not None and index not in crowded:
                buckets[index] = _single(key, value)
                continue
            rows = [] if empty else list(stored(index))
            for other in crowded.get(index, (key,)):
                _put(rows, other, changes[other])
            buckets[index] = _bucket(rows)
        return self._write(buckets)

    def undo(self, overwritten: Mapping[int, bytes]) -> None:
        """Put back what `update` overwrote."""
        self._write(overwritten)

    def node(self, level: int, index: int) -> bytes:
        """Give a node; level 0 is the root, the deepest level are the buckets."""
        return bytes(self._levels[level][index * 32 : index * 32 + 32])

    def prove(self, key_hash: bytes, stored: Callable[[int], Rows]) -> StateProof:
        """Prove what stands under a key hash, present or absent."""
        index = self.bucket(key_hash)
        rows: Rows = () if self.is_empty(index) else stored(index)
        siblings = [self.node(level, index >> self.depth - level ^ 1) for level in range(self.depth, 0, -1)]
        return proof_of(key_hash, rows, siblings)

    def _write(self, buckets: Mapping[int, bytes]) -> dict[int, bytes]:
        """Set hashes of buckets, rehash what lies above them, and give the buckets' hashes as they were."""
        flat = self._levels[self.depth]
        overwritten: dict[int, bytes] = {}
        for index, node in buckets.items():
            at = index << 5
            overwritten[index] = bytes(flat[at : at + 32])
            flat[at : at + 32] = node
        level: Iterable[int] = buckets
        for depth in range(self.depth - 1, -1, -1):
            above = self._levels[depth]
            level = dict.fromkeys([index >> 1 for index in level])
            for index in level:
                at = index << 6
                node = sha256(b"\x01" + flat[at : at + 64]).digest()
                at >>= 1
                above[at : at + 32] = node
            flat = above
        return overwritten


def proof_of(key_hash: bytes, rows: Rows, siblings: Sequence[bytes]) -> StateProof:
    """Make the proof for a key hash from the rows of its bucket and the siblings above, lowest first."""
    leaves = [_row(key, value) for key, value in rows]
    at = bisect_left(rows, key_hash, key=lambda row: row[0])
    present = at < len(rows) and rows[at][0] == key_hash
    shown = (at,) if present else tuple(place for place in (at - 1, at) if 0 <= place < len(rows))
    return StateProof(
        count=len(rows),
        bucket_root=merkle.root(leaves),
        rows=tuple(
            ProvenRow(
                index=place,
                key_hash=digest(rows[place][0]),
                value_hash=digest(rows[place][1]),
                path=tuple(digest(node) for node in merkle.inclusion_proof(leaves, place)),
            )
            for place in shown
        ),
        siblings=tuple(digest(node) for node in siblings),
    )


def verify_state(proof: StateProof, key_hash: bytes, value_hash: bytes | None, root: bytes) -> bool:
    """Say whether a proof shows `value_hash` under `key_hash` (None: absent) in the state of `root`."""
    if not proof.siblings or not _shows(proof, key_hash, value_hash):
        return False
    for row in proof.rows:
        leaf = _row(row.key_hash, row.value_hash)
        if not merkle.verify_inclusion(leaf, row.index, proof.count, row.path, proof.bucket_root):
            return False
    index = int.from_bytes(key_hash[:8], "big") >> (64 - len(proof.siblings))
    node = _bucket_node(proof.count, proof.bucket_root) if proof.count else EMPTY_BUCKET
    for sibling in proof.siblings:
        node = _node(sibling + node if index & 1 else node + sibling)
        index >>= 1
    return node == root


def _shows(proof: StateProof, key_hash: bytes, value_hash: bytes | None) -> bool:
    """Say whether the rows shown are the right ones: the row itself, or its neighbours where it is absent."""
    rows = proof.rows
    if value_hash is not None:
        return len(rows) == 1 and (rows[0].key_hash, rows[0].value_hash) == (key_hash, value_hash)
    if not proof.count or not rows:
        return not proof.count and not rows
    if len(rows) == 2:
        return rows[0].key_hash < key_hash < rows[1].key_hash and rows[0].index + 1 == rows[1].index
    (row,) = rows
    first, last = row.index == 0, row.index == proof.count - 1
    return (first and key_hash < row.key_hash) or (last and row.key_hash < key_hash)


def _row(key: bytes, value: bytes) -> bytes:
    return sha256(b"\x00" + key + value).digest()


def _put(rows: list[tuple[bytes, bytes]], key: bytes, value: bytes | None) -> None:
    """Set or remove one row among sorted ones."""
    at = bisect_left(rows, (key,))
    if at < len(rows) and rows[at][0] == key:
        del rows[at]
    if value is not None:
        rows.insert(at, (key, value))


def _node(pair: bytes) -> bytes:
    return sha256(b"\x01" + pair).digest()


def _single(key: bytes, value: bytes) -> bytes:
    return sha256(b"\x02\0\0\0\0\0\0\0\x01" + sha256(b"\x00" + key + value).digest()).digest()


def _bucket(rows: Rows) -> bytes:
    if not rows:
        return EMPTY_BUCKET
    return _bucket_node(len(rows), merkle.root([_row(key, value) for key, value in rows]))


def _bucket_node(count: int, root: bytes) -> bytes:
    return sha256(b"\x02" + count.to_bytes(8, "big") + root).digest()

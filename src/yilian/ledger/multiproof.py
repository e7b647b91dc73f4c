"""Several rows of the state proven together: paths that meet share what lies above. Pure.

The buckets of all rows shown are the leaves; from the lowest level up, each node whose neighbour is not known takes it
from the packed siblings, in order of place. So a file with many rows needs about log₂(rows) hashes less a row, and has
one root to compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated

from msgspec import Meta

from yilian.errors import VerificationError
from yilian.ledger.cases import Part
from yilian.ledger.tree import EMPTY_BUCKET, StateProof
from yilian.values import Digest, Natural, digest

Hashes = Annotated[bytes, Meta(max_length=32 * 64)]
"""Hashes of 32 bytes each, one after the other."""
MAX_ROWS = 512


class ShownRow(Part, frozen=True, kw_only=True):
    """A row with its place in its bucket: the rows there, its index, and its path (RFC 6962), packed."""

    row: Annotated[bytes, Meta(max_length=1 << 20)]
    count: Natural
    index: Natural
    path: Hashes


class Neighbour(Part, frozen=True, kw_only=True):
    """A row beside the place where an absent one would stand."""

    key_hash: Digest
    value_hash: Digest
    index: Natural
    path: Hashes


class AbsentRow(Part, frozen=True, kw_only=True):
    """That no row stands under a natural key: its neighbours in a bucket of `count` rows; none where that is empty."""

    natural_key: Annotated[bytes, Meta(max_length=1_000)]
    count: Natural
    neighbours: Annotated[tuple[Neighbour, ...], Meta(max_length=2)]


class Shown(Part, frozen=True, kw_only=True):
    """Rows present and absent in one state."""

    depth: Annotated[int, Meta(ge=8, le=24)]
    present: Annotated[tuple[ShownRow, ...], Meta(max_length=MAX_ROWS)]
    absent: Annotated[tuple[AbsentRow, ...], Meta(max_length=1)]
    siblings: Annotated[bytes, Meta(max_length=32 * 24 * (MAX_ROWS + 1))]


def pack(hashes: Sequence[bytes]) -> bytes:
    """Put hashes one after the other."""
    return b"".join(hashes)


def unpack(packed: bytes) -> tuple[Digest, ...]:
    """Take packed hashes apart; VerificationError where a part is left."""
    if len(packed) % 32:
        raise VerificationError(f"{len(packed)} bytes of hashes, expected a multiple of 32: fetch the file again")
    return tuple(digest(packed[at : at + 32]) for at in range(0, len(packed), 32))


def join(depth: int, proofs: Mapping[bytes, StateProof]) -> bytes:
    """Give the packed siblings that prove all of some key hashes together, from a proof of each at one state."""
    level = {_bucket(key, depth): proof.siblings for key, proof in proofs.items()}
    packed: list[bytes] = []
    for step in range(depth):
        packed += [level[index][step] for index in sorted(level) if index ^ 1 not in level]
        level = {index >> 1: siblings for index, siblings in level.items()}
    return pack(packed)


def root_of(shown: Shown, keys: Sequence[bytes]) -> Digest:
    """Compute the state root from what is shown; `keys` are the key hashes of the present rows, in their order.

    Raises:
        VerificationError: a row is not at its place, two rows say other things of one bucket, neighbours are none,
            too few or too many siblings.
    """
    buckets: dict[int, bytes] = {}
    for key, row in zip(keys, shown.present, strict=True):
        leaf = _row(key, sha256(row.row).digest())
        _put(buckets, _bucket(key, shown.depth), row.count, _climb(leaf, row.index, row.count, row.path))
    for absent in shown.absent:
        _put_absent(buckets, absent, shown.depth)
    siblings = iter(unpack(shown.siblings))
    level = dict(sorted(buckets.items()))
    for _ in range(shown.depth):
        above: dict[int, bytes] = {}
        for index, node in level.items():
            if index >> 1 in above:
                continue
            beside = level.get(index ^ 1) or next(siblings, None)
            if beside is None:
                raise VerificationError("siblings of the state tree are missing: fetch the file again")
            pair = beside + node if index & 1 else node + beside
            above[index >> 1] = sha256(b"\x01" + pair).digest()
        level = above
    if not level or next(siblings, None) is not None:
        raise VerificationError("rows or siblings of the state tree are too few or too many: fetch the file again")
    return digest(level[0])


def _put_absent(buckets: dict[int, bytes], absent: AbsentRow, depth: int) -> None:
    key = sha256(absent.natural_key).digest()
    place = _bucket(key, depth)
    rows = absent.neighbours
    if not _lies_between(key, absent) or any(_bucket(row.key_hash, depth) != place for row in rows):
        raise VerificationError(
            f"the rows shown are not the neighbours of absent key {key.hex()} among {absent.count}: refuse the file"
        )
    if not rows:
        _put(buckets, place, 0, None)
    for row in rows:
        leaf = _row(row.key_hash, row.value_hash)
        _put(buckets, place, absent.count, _climb(leaf, row.index, absent.count, row.path))


def _lies_between(key: bytes, absent: AbsentRow) -> bool:
    rows = absent.neighbours
    if not rows or not absent.count:
        return not rows and not absent.count
    if len(rows) == 2:
        return rows[0].key_hash < key < rows[1].key_hash and rows[0].index + 1 == rows[1].index
    (row,) = rows
    before_first = row.index == 0 and key < row.key_hash
    after_last = row.index == absent.count - 1 and row.key_hash < key
    return before_first or after_last


def _put(buckets: dict[int, bytes], index: int, count: int, root: bytes | None) -> None:
    node = EMPTY_BUCKET if root is None else sha256(b"\x02" + count.to_bytes(8, "big") + root).digest()
    if buckets.setdefault(index, node) != node:
        raise VerificationError(f"two rows say other things of bucket {index}: refuse the file")


def _climb(leaf: bytes, index: int, size: int, packed: bytes) -> bytes:
    """Give the root above a leaf. Source: RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size:
        raise VerificationError(f"index {index} of {size} leaves, expected one below: refuse the file")
    node, last, found = index, size - 1, leaf
    for beside in unpack(packed):
        if last == 0:
            raise VerificationError(f"the path of index {index} of {size} is too long: refuse the file")
        if node & 1 or node == last:
            found = sha256(b"\x01" + beside + found).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = sha256(b"\x01" + found + beside).digest()
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError(f"the path of index {index} of {size} is too short: refuse the file")
    return found


def _bucket(key_hash: bytes, depth: int) -> int:
    return int.from_bytes(key_hash[:8], "big") >> (64 - depth)


def _row(key: bytes, value: bytes) -> bytes:
    return sha256(b"\x00" + key + value).digest()

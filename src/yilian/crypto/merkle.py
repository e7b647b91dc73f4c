"""Merkle trees of RFC 6962: root, inclusion and consistency proofs over leaf hashes. Pure.

Source: RFC 6962 section 2.1; checks after RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from yilian import values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from hashlib import _Hash as HASH

    from yilian.values import Digest

# RFC 6962 section 2.1: leaf and node hashes start with different bytes, so that a node can never pass as a leaf.
LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"
EMPTY_ROOT: Final = values.digest(sha256(b"").digest())


def leaf_hash(data: bytes | bytearray | memoryview) -> Digest:
    """Hash the bytes of one leaf."""
    hasher = sha256(LEAF_PREFIX)
    hasher.update(data)
    return hasher.digest()  # type: ignore[return-value]  # 32 bytes by construction, on the path of every row


def leaf_hasher() -> HASH:
    """Give a hash object for one leaf whose bytes come in pieces."""
    return sha256(LEAF_PREFIX)


def node_hash(left: bytes, right: bytes) -> Digest:
    """Hash two children, left one first."""
    return sha256(NODE_PREFIX + left + right).digest()  # type: ignore[return-value]  # as in `leaf_hash`


def root(leaf_hashes: Sequence[bytes]) -> Digest:
    """Give the root over leaf hashes; of none, SHA-256 of the empty string."""
    level = list(leaf_hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = _parents(level)
    return values.digest(level[0])


class RootBuilder:
    """Build a root leaf by leaf, keeping one hash a level: memory grows with the logarithm of the leaves."""

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._peaks: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add the next leaf hash."""
        size = self._size
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self._size += 1

    def root(self) -> Digest:
        """Give the root of the leaves so far; more may follow."""
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            found = node_hash(peak, found)
        return values.digest(found)


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Give the hashes beside the path from a leaf to the root, lowest first.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaf_hashes):
        raise IndexError(f"leaf {index} of {len(leaf_hashes)}")
    level, proof = list(leaf_hashes), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            proof.append(level[beside])
        level, index = _parents(level), index >> 1
    return tuple(proof)


def verify_inclusion(  # noqa: PLR0917 - the order of RFC 9162
    leaf: bytes, index: int, tree_size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Say whether a leaf hash stands at an index of the tree with this size and root. Source: RFC 9162, 2.1.3.2."""
    if not 0 <= index < tree_size:
        return False
    node, last, found = index, tree_size - 1, leaf
    for beside in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(beside, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(leaf_hashes: Sequence[bytes], m: int) -> tuple[bytes, ...]:
    """Prove that the tree over the first `m` leaves is a beginning of the whole; empty where m is 0 or all.

    Raises:
        IndexError: the tree has fewer than `m` leaves.

    Source: RFC 6962 section 2.1.2.
    """
    if not 0 <= m <= len(leaf_hashes):
        raise IndexError(f"first {m} leaves of {len(leaf_hashes)}")
    if m in {0, len(leaf_hashes)}:
        return ()
    proof: list[bytes] = []
    start, stop, whole = 0, len(leaf_hashes), True
    # SUBPROOF of the RFC from the top down; the hash of the other side of each split goes behind what lies below it.
    while m != stop - start:
        split = 1 << ((stop - start - 1).bit_length() - 1)
        if m <= split:
            proof.append(root(leaf_hashes[start + split : stop]))
            stop = start + split
        else:
            proof.append(root(leaf_hashes[start : start + split]))
            start, m, whole = start + split, m - split, False
    if not whole:
        proof.append(root(leaf_hashes[start:stop]))
    return tuple(reversed(proof))


def verify_consistency(  # noqa: PLR0917 - the order of RFC 9162
    m: int, n: int, proof: Sequence[bytes], root_m: bytes, root_n: bytes
) -> bool:
    """Say whether the tree of `m` leaves and `root_m` is a beginning of that of `n` and `root_n`.

    An empty tree is a beginning of every tree. Source: RFC 9162, 2.1.4.2.
    """
    if not 0 <= m <= n:
        return False
    if m == n:
        return not proof and root_m == root_n
    if m == 0:
        return not proof and root_m == EMPTY_ROOT
    path = list(proof)
    if m & (m - 1) == 0:
        path.insert(0, root_m)
    if not path:
        return False
    node, last = m - 1, n - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for beside in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        node, last = node >> 1, last >> 1
    return last == 0 and old == root_m and new == root_n


def _parents(level: list[bytes]) -> list[bytes]:
    above: list[bytes] = [
        sha256(NODE_PREFIX + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
    ]
    # A node without a neighbour rises as it is.
    if len(level) & 1:
        above.append(level[-1])
    return above

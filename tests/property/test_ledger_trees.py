"""Laws of the log and the state tree: every leaf proves itself, nothing false is proven, changes can be undone."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from yilian.crypto import merkle
from yilian.crypto.suite import sha256
from yilian.ledger.log import Log, LogProofs
from yilian.ledger.tree import StateTree, verify_state

DEPTH = 8
# few first bytes, so that buckets hold several rows
KEYS = st.builds(lambda first, rest: bytes((first,)) + sha256(rest)[1:], st.integers(0, 7), st.binary(max_size=2))
ROWS = st.dictionaries(KEYS, st.binary(min_size=32, max_size=32), max_size=40)


def grown(leaves: list[bytes], cuts: list[int]) -> tuple[Log, dict[tuple[int, int], bytes]]:
    """Grow a log in steps, each loaded again from the tiles that the last one stored."""
    tiles: dict[tuple[int, int], bytes] = {}
    log = Log(0, [])
    bounds = [0, *sorted(cut % (len(leaves) + 1) for cut in cuts), len(leaves)]
    for start, stop in pairwise(bounds):
        log = Log.load(log.size, lambda level, index: tiles.get((level, index)))
        for leaf in leaves[start:stop]:
            log.append(leaf)
        tiles.update({place: bytes(tile) for place, tile in log.touched.items()})
    return log, tiles


@given(size=st.integers(0, 600), cuts=st.lists(st.integers(0, 600), max_size=4), pick=st.integers(0, 2**30))
@settings(max_examples=60, deadline=None)
def test_every_leaf_proves_inclusion_and_every_size_its_consistency(size: int, cuts: list[int], pick: int) -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(size)]
    log, tiles = grown(leaves, cuts)
    proofs = LogProofs(lambda level, index: tiles.get((level, index)))
    assert log.root() == merkle.root(leaves)
    old = pick % (size + 1)
    assert proofs.root(old) == merkle.root(leaves[:old])
    if not size:
        return
    index = pick % size
    path = proofs.inclusion_proof(index, size)
    assert proofs.leaf_hash(index) == leaves[index]
    assert merkle.verify_inclusion(leaves[index], index, size, path, log.root())
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, path, log.root())
    if old:
        consistency = proofs.consistency_proof(old, size)
        assert merkle.verify_consistency(old, size, consistency, proofs.root(old), log.root())
        assert not merkle.verify_consistency(old, size, consistency, sha256(b"other"), log.root())


@given(first=ROWS, changes=st.dictionaries(KEYS, st.none() | st.binary(min_size=32, max_size=32), max_size=20))
@settings(max_examples=150, deadline=None)
def test_an_updated_tree_equals_the_rebuilt_one_and_undo_gives_it_back(
    first: dict[bytes, bytes], changes: dict[bytes, bytes | None]
) -> None:
    tree = StateTree.build(DEPTH, sorted(first.items()))
    before = tree.root

    def stored(index: int) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in first.items() if tree.bucket(key) == index)

    overwritten = tree.update(changes, stored)
    after = {key: value for key, value in {**first, **changes}.items() if value is not None}
    assert tree.root == StateTree.build(DEPTH, sorted(after.items())).root
    tree.undo(overwritten)
    assert tree.root == before


@given(rows=ROWS, key=KEYS, other=st.binary(min_size=32, max_size=32))
@settings(max_examples=150, deadline=None)
def test_presence_and_absence_are_proven_and_nothing_else(rows: dict[bytes, bytes], key: bytes, other: bytes) -> None:
    tree = StateTree.build(DEPTH, sorted(rows.items()))

    def stored(index: int) -> list[tuple[bytes, bytes]]:
        return sorted((each, value) for each, value in rows.items() if tree.bucket(each) == index)

    for asked in (key, *list(rows)[:3]):
        proof = tree.prove(asked, stored)
        value = rows.get(asked)
        assert verify_state(proof, asked, value, tree.root)
        assert not verify_state(proof, asked, None if value is not None else other, tree.root)
        assert other == value or not verify_state(proof, asked, other, tree.root)
        assert not verify_state(proof, asked, value, sha256(b"other root"))

from __future__ import annotations

import pytest

from yilian.crypto import merkle

LEAVES = [merkle.leaf_hash(bytes((number,))) for number in range(7)]
ROOT = merkle.root(LEAVES)
PROOF = merkle.inclusion_proof(LEAVES, 2)
GROWTH = merkle.consistency_proof(LEAVES, 3)
ROOT_3 = merkle.root(LEAVES[:3])


def test_a_leaf_cannot_pass_as_a_node() -> None:
    assert merkle.leaf_hash(LEAVES[0] + LEAVES[1]) != merkle.node_hash(LEAVES[0], LEAVES[1])


def test_an_empty_builder_has_the_empty_root() -> None:
    assert (merkle.RootBuilder().root(), merkle.RootBuilder().size) == (merkle.root([]), 0)


@pytest.mark.parametrize(
    ("leaf", "index", "size", "proof", "root"),
    [
        pytest.param(LEAVES[3], 2, 7, PROOF, ROOT, id="other-leaf"),
        pytest.param(LEAVES[2], 3, 7, PROOF, ROOT, id="other-index"),
        pytest.param(LEAVES[2], 7, 7, PROOF, ROOT, id="index-outside"),
        pytest.param(LEAVES[2], -1, 7, PROOF, ROOT, id="negative-index"),
        pytest.param(LEAVES[2], 2, 3, PROOF, ROOT, id="other-size"),
        pytest.param(LEAVES[2], 2, 7, PROOF[:-1], ROOT, id="short-proof"),
        pytest.param(LEAVES[2], 2, 7, (*PROOF, LEAVES[0]), ROOT, id="long-proof"),
        pytest.param(LEAVES[2], 2, 7, PROOF[::-1], ROOT, id="turned-proof"),
        pytest.param(LEAVES[2], 2, 7, PROOF, ROOT_3, id="other-root"),
        pytest.param(LEAVES[2], 0, 0, (), ROOT, id="empty-tree"),
    ],
)
def test_a_wrong_inclusion_is_refused(
    leaf: bytes, index: int, size: int, proof: tuple[bytes, ...], root: bytes
) -> None:
    assert not merkle.verify_inclusion(leaf, index, size, proof, root)


@pytest.mark.parametrize(
    ("m", "n", "proof", "root_m", "root_n"),
    [
        pytest.param(3, 7, GROWTH, ROOT, ROOT_3, id="roots-exchanged"),
        pytest.param(7, 3, GROWTH, ROOT, ROOT_3, id="shrunk"),
        pytest.param(-1, 7, GROWTH, ROOT_3, ROOT, id="negative"),
        pytest.param(3, 7, GROWTH[:-1], ROOT_3, ROOT, id="short-proof"),
        pytest.param(3, 7, (*GROWTH, LEAVES[0]), ROOT_3, ROOT, id="long-proof"),
        pytest.param(3, 7, (), ROOT_3, ROOT, id="no-proof"),
        pytest.param(4, 7, GROWTH, ROOT_3, ROOT, id="other-first-size"),
        pytest.param(7, 7, (), ROOT_3, ROOT, id="same-size-other-root"),
        pytest.param(7, 7, (LEAVES[0],), ROOT, ROOT, id="same-size-with-proof"),
        pytest.param(0, 7, (), ROOT_3, ROOT, id="empty-with-a-root"),
        pytest.param(0, 7, (LEAVES[0],), merkle.EMPTY_ROOT, ROOT, id="empty-with-proof"),
    ],
)
def test_a_wrong_consistency_is_refused(m: int, n: int, proof: tuple[bytes, ...], root_m: bytes, root_n: bytes) -> None:
    assert not merkle.verify_consistency(m, n, proof, root_m, root_n)


def test_an_empty_tree_is_a_beginning_of_every_tree() -> None:
    assert merkle.consistency_proof(LEAVES, 0) == ()
    assert merkle.verify_consistency(0, 7, (), merkle.EMPTY_ROOT, ROOT)


@pytest.mark.parametrize("index", [-1, 7])
def test_there_is_no_proof_of_a_leaf_that_does_not_exist(index: int) -> None:
    with pytest.raises(IndexError, match=f"leaf {index} of 7"):
        merkle.inclusion_proof(LEAVES, index)


@pytest.mark.parametrize("m", [-1, 8])
def test_there_is_no_proof_of_a_tree_that_was_never_there(m: int) -> None:
    with pytest.raises(IndexError, match=f"first {m} leaves of 7"):
        merkle.consistency_proof(LEAVES, m)

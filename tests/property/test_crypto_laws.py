"""Laws of sealing, trees and framing, for all inputs."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yilian import canonical
from yilian.crypto import cose, merkle, seal, suite
from yilian.crypto.blob import padded_size
from yilian.crypto.intl import Ed25519Signer
from yilian.errors import VerificationError

KEY = b"k" * 32
SIGNER = Ed25519Signer.from_seed(b"s" * 32)
LEAVES = [merkle.leaf_hash(bytes((number,))) for number in range(130)]
POSITIONS = st.integers(1, 130).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


def sealed(plain: bytes) -> tuple[bytes, seal.Sealed]:
    out = io.BytesIO()
    made = seal.seal((plain,), len(plain), out, KEY, segment_size=1024)
    return out.getvalue(), made


@given(st.binary(max_size=5_000))
def test_opening_undoes_sealing(plain: bytes) -> None:
    blob, made = sealed(plain)

    assert seal.open_bytes(blob, KEY, made.root) == plain
    assert (len(blob), seal.root_of_blob(io.BytesIO(blob))) == (made.blob_size, made.root)


@given(st.lists(st.binary(max_size=1_500), max_size=6))
def test_the_cut_of_the_source_leaves_no_trace(pieces: list[bytes]) -> None:
    whole, out = b"".join(pieces), io.BytesIO()

    made = seal.seal(iter(pieces), len(whole), out, KEY, segment_size=1024)

    assert seal.open_bytes(out.getvalue(), KEY, made.root) == whole


@given(st.binary(min_size=1, max_size=3_000), st.data())
def test_no_changed_byte_passes(plain: bytes, data: st.DataObject) -> None:
    blob, made = sealed(plain)
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = blob[:at] + bytes((blob[at] ^ data.draw(st.integers(1, 255)),)) + blob[at + 1 :]

    with pytest.raises(VerificationError):
        seal.open_bytes(changed, KEY, made.root)


@given(st.integers(0, 2**62))
def test_padding_adds_an_eighth_at_most_and_keeps_order(size: int) -> None:
    padded = padded_size(size)

    assert size <= padded <= size + size // 8 + 1
    assert padded_size(padded) == padded


@given(POSITIONS)
def test_every_leaf_proves_its_inclusion(position: tuple[int, int]) -> None:
    index, size = position
    leaves = LEAVES[:size]

    proof = merkle.inclusion_proof(leaves, index)

    assert merkle.verify_inclusion(leaves[index], index, size, proof, merkle.root(leaves))


@given(POSITIONS, st.integers(-2, 140))
def test_a_leaf_proves_no_other_place(position: tuple[int, int], other_index: int) -> None:
    index, size = position
    leaves = LEAVES[:size]
    proof = merkle.inclusion_proof(leaves, index)

    held = merkle.verify_inclusion(leaves[index], other_index, size, proof, merkle.root(leaves))

    assert held == (other_index == index)


@given(st.integers(0, 130).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_every_beginning_is_consistent(sizes: tuple[int, int]) -> None:
    m, n = sizes

    proof = merkle.consistency_proof(LEAVES[:n], m)

    assert merkle.verify_consistency(m, n, proof, merkle.root(LEAVES[:m]), merkle.root(LEAVES[:n]))


@given(st.integers(2, 130).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))), st.data())
def test_a_rewritten_beginning_is_not_consistent(sizes: tuple[int, int], data: st.DataObject) -> None:
    m, n = sizes
    rewritten: list[bytes] = list(LEAVES[:n])
    rewritten[data.draw(st.integers(0, m - 1))] = bytes(32)

    proof = merkle.consistency_proof(rewritten, m)

    assert not merkle.verify_consistency(m, n, proof, merkle.root(LEAVES[:m]), merkle.root(rewritten))


@given(st.integers(0, 130))
def test_a_root_built_leaf_by_leaf_is_the_root(size: int) -> None:
    builder = merkle.RootBuilder()
    for leaf in LEAVES[:size]:
        builder.append(leaf)

    assert (builder.root(), builder.size) == (merkle.root(LEAVES[:size]), size)


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
def test_framing_tells_different_lists_of_parts_apart(one: list[bytes], other: list[bytes]) -> None:
    assert (suite.framed("tag", *one) == suite.framed("tag", *other)) == (one == other)


@settings(max_examples=50)
@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=30))
def test_signed_bytes_equal_their_cbor(protected: bytes, payload: bytes, aad: bytes) -> None:
    made = cose.to_be_signed(protected, payload, aad)

    assert made == canonical.encode(["Signature1", protected, aad, payload])


@settings(max_examples=50)
@given(st.binary(max_size=300), st.binary(max_size=30))
def test_what_is_signed_verifies(payload: bytes, aad: bytes) -> None:
    signed = cose.sign1(payload, aad, SIGNER)

    assert cose.verify1(signed, aad, SIGNER.suite, SIGNER.public_key)


@given(st.binary(max_size=100), st.binary(max_size=80))
def test_no_random_bytes_verify_or_raise(public_key: bytes, signature: bytes) -> None:
    assert not suite.verify(SIGNER.suite, public_key, b"message", signature)

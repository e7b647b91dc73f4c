"""COSE receipts: read by an implementation of others, refused by ours wherever a byte is changed."""

from __future__ import annotations

import cbor2
import pytest
import scitt_cose  # type: ignore[import-untyped]  # it has no stubs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from yilian.crypto import merkle
from yilian.crypto.cose_receipt import Inclusion, sign_receipt, verify_cose_receipt
from yilian.crypto.intl import Ed25519Signer
from yilian.errors import VerificationError

SIGNER = Ed25519Signer.from_seed(bytes(range(32)))
OTHER = Ed25519Signer.from_seed(bytes(32))
PEM = Ed25519PublicKey.from_public_bytes(SIGNER.public_key).public_bytes(
    Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
)
LEAVES = [f"leaf {number}".encode() for number in range(11)]
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]


def inclusion(index: int) -> Inclusion:
    path = merkle.inclusion_proof(HASHES, index)
    return Inclusion(leaf=LEAVES[index], index=index, tree_size=len(LEAVES), path=path)


def receipt(index: int = 4) -> bytes:
    return sign_receipt(inclusion(index), SIGNER, issuer="yilian/00", subject="ab")


def changed(data: bytes, label: int, value: object) -> bytes:
    """Set one unprotected header field."""
    protected, unprotected, payload, signature = cbor2.loads(data[1:])
    return b"\xd2" + cbor2.dumps([protected, {**unprotected, label: value}, payload, signature])


@pytest.mark.parametrize("index", range(len(LEAVES)))
def test_an_independent_implementation_takes_the_receipt_of_each_leaf(index: int) -> None:
    result = scitt_cose.verify_receipt(receipt(index), leaf_entry_hex=LEAVES[index].hex(), log_public_key_pem=PEM)

    assert (result.ok, result.errors, result.leaf_index, result.tree_size) == (True, [], index, len(LEAVES))
    assert (result.root, result.issuer, result.subject) == (merkle.root(HASHES).hex(), "yilian/00", "ab")


def test_an_independent_implementation_refuses_it_for_another_leaf() -> None:
    result = scitt_cose.verify_receipt(receipt(4), leaf_entry_hex=LEAVES[5].hex(), log_public_key_pem=PEM)

    assert not result.ok


def test_a_receipt_says_what_was_signed() -> None:
    found = verify_cose_receipt(receipt(7), SIGNER.public_key)

    assert (found.key_id, found.issuer, found.subject) == (SIGNER.key_id, "yilian/00", "ab")
    assert found.inclusion == inclusion(7)
    assert found.inclusion.root == merkle.root(HASHES)


def test_a_leaf_without_neighbours_is_the_root() -> None:
    alone = Inclusion(leaf=b"only", index=0, tree_size=1, path=())

    data = sign_receipt(alone, SIGNER, issuer="i", subject="s")

    assert verify_cose_receipt(data, SIGNER.public_key).inclusion.root == merkle.leaf_hash(b"only")


def test_every_changed_byte_is_refused_and_never_an_exception_of_another_kind() -> None:
    data = receipt()
    accepted = []

    for at in range(len(data)):
        forged = bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]])
        try:
            verify_cose_receipt(forged, SIGNER.public_key)
        except VerificationError:
            continue
        accepted.append(at)

    assert accepted == []


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        receipt()[1:],
        receipt() + b"\0",
        receipt()[:-1],
        changed(receipt(), 99, 1),
        changed(receipt(), 396, {-1: []}),
        changed(receipt(), 396, {-1: [cbor2.dumps([11, 4, []])]}),
        changed(receipt(), 396, {-1: [cbor2.dumps([11, -1, []])]}),
        changed(receipt(), 396, {-2: []}),
        changed(receipt(), -65_540, "text"),
        b"\xd2" + cbor2.dumps([b"\xa0", {}, None, bytes(64)]),
        b"\xd2" + cbor2.dumps(7),
    ],
    ids=[
        "empty", "untagged", "trailing", "cut", "surplus field", "no proof", "short path", "negative index",
        "consistency proof", "leaf as text", "empty header", "no array",
    ],
)  # fmt: skip
def test_what_is_no_receipt_is_refused(forged: bytes) -> None:
    with pytest.raises(VerificationError):
        verify_cose_receipt(forged, SIGNER.public_key)


def test_a_key_that_the_receipt_does_not_name_is_refused() -> None:
    with pytest.raises(VerificationError, match="look up the key that it names"):
        verify_cose_receipt(receipt(), OTHER.public_key)


def test_no_receipt_is_made_of_a_path_that_fits_no_tree() -> None:
    with pytest.raises(VerificationError, match="fits no leaf 4 of 11"):
        sign_receipt(
            Inclusion(leaf=b"x", index=4, tree_size=11, path=inclusion(4).path[:-1]), SIGNER, issuer="i", subject="s"
        )

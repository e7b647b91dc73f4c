from __future__ import annotations

import pytest

from yilian.crypto import intl
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId, key_id_of, verify
from yilian.errors import VerificationError


def test_a_generated_key_signs_what_verifies() -> None:
    signer = Ed25519Signer.generate()

    assert verify(signer.suite, signer.public_key, b"m", signer.sign(b"m"))
    assert signer.key_id == key_id_of(SuiteId.INTL, signer.public_key)


def test_a_key_comes_back_from_its_seed() -> None:
    signer = Ed25519Signer.generate()

    assert Ed25519Signer.from_seed(signer.seed).public_key == signer.public_key


def test_printing_a_key_shows_no_secret() -> None:
    signer, pair = Ed25519Signer.generate(), intl.generate_x25519()

    assert repr(signer) == f"Ed25519Signer({signer.key_id.hex()})"
    assert repr(pair) == f"KeyPair({pair.public_key.hex()})"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_private_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes, expected 32"):
        Ed25519Signer.from_seed(bytes(size))
    with pytest.raises(ValueError, match=f"{size} bytes, expected 32"):
        intl.x25519_from_private(bytes(size))


def test_an_x25519_key_comes_back_from_its_private_half() -> None:
    pair = intl.generate_x25519()

    assert intl.x25519_from_private(pair.private_key) == pair


def test_what_is_wrapped_opens_for_its_key_and_place() -> None:
    pair = intl.generate_x25519()

    wrapped = intl.hpke_wrap(pair.public_key, b"k" * 32, b"place")

    assert len(wrapped) == 32 + intl.HPKE_OVERHEAD
    assert intl.hpke_unwrap(pair.private_key, wrapped, b"place") == b"k" * 32


PAIR = intl.generate_x25519()
WRAPPED = intl.hpke_wrap(PAIR.public_key, b"k" * 32, b"place")


@pytest.mark.parametrize(
    ("private_key", "wrapped", "info"),
    [
        pytest.param(PAIR.private_key, WRAPPED, b"another", id="other-info"),
        pytest.param(intl.generate_x25519().private_key, WRAPPED, b"place", id="other-key"),
        pytest.param(PAIR.private_key, WRAPPED[:-1] + bytes((WRAPPED[-1] ^ 1,)), b"place", id="one-bit"),
        pytest.param(PAIR.private_key, WRAPPED[:-1], b"place", id="cut"),
        pytest.param(PAIR.private_key, b"", b"place", id="nothing"),
        pytest.param(PAIR.private_key, bytes(80), b"place", id="small-order-share"),
    ],
)
def test_what_was_not_wrapped_so_does_not_open(private_key: bytes, wrapped: bytes, info: bytes) -> None:
    with pytest.raises(VerificationError, match="does not open"):
        intl.hpke_unwrap(private_key, wrapped, info)


@pytest.mark.parametrize("public_key", [bytes(32), b"\x01" * 31], ids=["small-order", "31-bytes"])
def test_nothing_is_wrapped_to_an_unusable_key(public_key: bytes) -> None:
    with pytest.raises(VerificationError, match="no usable X25519 key"):
        intl.hpke_wrap(public_key, b"k", b"")

from __future__ import annotations

import pytest

from yilian.crypto import suite
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId

SIGNER = Ed25519Signer.from_seed(bytes(range(32)))
SIGNATURE = SIGNER.sign(b"message")


def test_a_signature_holds_for_its_message_and_key() -> None:
    assert suite.verify(SuiteId.INTL, SIGNER.public_key, b"message", SIGNATURE)


@pytest.mark.parametrize(
    ("public_key", "message", "signature"),
    [
        pytest.param(SIGNER.public_key, b"another", SIGNATURE, id="other-message"),
        pytest.param(Ed25519Signer.generate().public_key, b"message", SIGNATURE, id="other-key"),
        pytest.param(SIGNER.public_key, b"message", SIGNATURE[:-1] + bytes((SIGNATURE[-1] ^ 1,)), id="one-bit"),
        pytest.param(SIGNER.public_key, b"message", SIGNATURE[:-1], id="63-bytes"),
        pytest.param(SIGNER.public_key, b"message", SIGNATURE + b"\0", id="65-bytes"),
        pytest.param(SIGNER.public_key, b"message", b"", id="no-signature"),
        pytest.param(SIGNER.public_key[:-1], b"message", SIGNATURE, id="key-of-31-bytes"),
        pytest.param(SIGNER.public_key + b"\0", b"message", SIGNATURE, id="key-of-33-bytes"),
        pytest.param(b"\xff" * 32, b"message", SIGNATURE, id="key-not-on-the-curve"),
    ],
)
def test_what_does_not_verify_is_false_and_no_error(public_key: bytes, message: bytes, signature: bytes) -> None:
    assert not suite.verify(SuiteId.INTL, public_key, message, signature)


def test_an_unknown_suite_verifies_nothing_and_has_only_weak_keys() -> None:
    unknown: SuiteId = 9  # type: ignore[assignment]  # what a decoder of another release may hand over

    assert not suite.verify(unknown, SIGNER.public_key, b"message", SIGNATURE)
    assert suite.is_weak(unknown, SIGNER.public_key)


def test_a_fresh_key_is_not_weak() -> None:
    assert not suite.is_weak(SuiteId.INTL, Ed25519Signer.generate().public_key)


@pytest.mark.parametrize("public_key", [b"", b"\x01" * 31, b"\x01" * 33], ids=["none", "31", "33"])
def test_a_key_of_another_length_is_weak(public_key: bytes) -> None:
    assert suite.is_weak(SuiteId.INTL, public_key)


def test_sha256_hashes_the_plain_concatenation() -> None:
    assert suite.sha256(b"a", b"bc") == suite.sha256(b"abc")
    assert suite.sha256(b"abc").hex().startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((b"a", b"bc"), (b"ab", b"c"), id="moved-border"),
        pytest.param((b"abc",), (b"abc", b""), id="empty-part"),
        pytest.param((), (b"",), id="no-part"),
    ],
)
def test_tagged_hashes_of_different_parts_differ(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    assert suite.tagged_hash("tag", *one) != suite.tagged_hash("tag", *other)


def test_tagged_hashes_of_different_tags_differ() -> None:
    assert suite.tagged_hash("tag/a", b"x") != suite.tagged_hash("tag/b", b"x")

"""What a suite of algorithms is: verification, hashes and the `Signer` port. Pure: draws no random number.

One library, pinned, verifies Ed25519 on every node: libraries disagree on small-order keys, and two nodes that
disagree stop the chain (`libsodium` refuses them, OpenSSL takes them).
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from hashlib import sha256 as _sha256
from typing import TYPE_CHECKING, Protocol

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import CryptoError

from yilian import values

if TYPE_CHECKING:
    from yilian.values import Digest, KeyId, PublicKey

SIGNATURE_SIZE, ED25519_KEY_SIZE = 64, 32
KEY_TAG = b"yilian/key/v1"


class SuiteId(IntEnum):
    """Suites that a chain may allow; the number is ledger format and stands in every transaction and blob header."""

    INTL = 1
    """Ed25519, X25519-HPKE, AES-256-GCM, SHA-256."""


class Signer(Protocol):
    """A key that signs: a file keystore, hardware or a device.

    Implementations differ in where the private key lies and in how long a signature takes; the bytes verify alike.
    """

    @property
    def suite(self) -> SuiteId:
        """The suite of the key."""
        ...

    @property
    def public_key(self) -> PublicKey:
        """The raw public key."""
        ...

    @property
    def key_id(self) -> KeyId:
        """`key_id_of` of suite and public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign a message; for INTL 64 bytes.

        Raises:
            UnavailableError: the device that holds the key does not answer.
        """
        ...


# Ids, keys and digests are short; their lengths are written for every operation.
_SIZES = tuple(size.to_bytes(8, "big") for size in range(65))


def key_id_of(suite: SuiteId, public_key: PublicKey) -> KeyId:
    """Name a key: SHA-256("yilian/key/v1" ‖ suite byte ‖ public key)."""
    return values.key_id(_sha256(KEY_TAG + bytes((suite,)) + public_key).digest())


def verify(suite: SuiteId, public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a signature over a message holds; False for malformed keys and signatures too, never an error.

    Source: RFC 8032 as libsodium checks it (small-order keys and R, and S not reduced, are refused).
    """
    if suite is not SuiteId.INTL or len(signature) != SIGNATURE_SIZE or len(public_key) != ED25519_KEY_SIZE:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except CryptoError:
        return False
    return True


def is_weak(suite: SuiteId, public_key: bytes) -> bool:
    """Say whether a signing key must not be registered.

    True for small-order points, points outside the prime-order group, encodings that are not canonical or no point of
    the curve, and other lengths: signatures under such keys are judged differently by different libraries.
    """
    if suite is not SuiteId.INTL or len(public_key) != ED25519_KEY_SIZE:
        return True
    return not crypto_core_ed25519_is_valid_point(public_key)


def sha256(*parts: bytes) -> Digest:
    """Hash the plain concatenation of parts; for formats of others. Our own use `tagged_hash`."""
    return _sha256(b"".join(parts)).digest()  # type: ignore[return-value]  # 32 bytes by construction


def framed(tag: str, *parts: bytes) -> bytes:
    """Join a tag and parts so that no two lists of parts give the same bytes: each part after its 8-byte length.

    The tag itself must hold no NUL byte; tags are constants of this project.
    """
    out = [tag.encode()]
    for part in parts:
        size = len(part)
        out += (_SIZES[size] if size < len(_SIZES) else size.to_bytes(8, "big"), part)
    return b"".join(out)


def tagged_hash(tag: str, *parts: bytes) -> Digest:
    """SHA-256 of `framed(tag, *parts)`: hashes of different kinds, and different lists of parts, never meet."""
    return _sha256(framed(tag, *parts)).digest()  # type: ignore[return-value]  # 32 bytes by construction


def derive_key(secret: bytes, info: bytes) -> bytes:
    """Derive 32 bytes from a secret of high entropy, one value an `info`.

    Source: RFC 5869, HKDF-SHA256 with no salt and one block of output.
    """
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")

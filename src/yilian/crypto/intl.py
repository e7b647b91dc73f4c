"""Keys of the international suite: Ed25519 signing and X25519 wrapping (HPKE). Draws random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_sign
from nacl.signing import SigningKey

from yilian import values
from yilian.crypto.suite import SIGNATURE_SIZE, SuiteId, key_id_of
from yilian.errors import VerificationError

if TYPE_CHECKING:
    from yilian.values import KeyId, PublicKey

__all__ = [
    "HPKE_OVERHEAD",
    "Ed25519Signer",
    "KeyPair",
    "generate_x25519",
    "hpke_unwrap",
    "hpke_wrap",
    "x25519_from_private",
]

SEED_SIZE: Final = 32
# RFC 9180: the encapsulated X25519 key (32 bytes) goes before, the GCM tag (16 bytes) behind the ciphertext.
HPKE_OVERHEAD: Final = 48
_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Ed25519Signer:
    """An Ed25519 key held in memory; the `Signer` of tests, small sites and wallets."""

    __slots__ = ("_expanded", "_key_id", "_public_key", "_seed")

    def __init__(self, seed: bytes) -> None:
        key = SigningKey(_sized(seed))
        self._seed = bytes(seed)
        self._public_key = values.public_key(bytes(key.verify_key))
        self._expanded = self._seed + self._public_key
        self._key_id = key_id_of(SuiteId.INTL, self._public_key)

    @classmethod
    def generate(cls) -> Ed25519Signer:
        """Make a fresh random key."""
        return cls(bytes(SigningKey.generate()))

    @classmethod
    def from_seed(cls, seed: bytes) -> Ed25519Signer:
        """Take a key from its 32-byte seed (RFC 8032, the "secret key"); ValueError for another length."""
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The secret 32 bytes; for keystores and wallets only."""
        return self._seed

    @property
    def suite(self) -> SuiteId:
        """Always INTL."""
        return SuiteId.INTL

    @property
    def public_key(self) -> PublicKey:
        """The raw 32 bytes."""
        return self._public_key

    @property
    def key_id(self) -> KeyId:
        """`key_id_of` of this key."""
        return self._key_id

    def sign(self, message: bytes) -> bytes:
        """Sign a message: 64 bytes, the same each time (RFC 8032)."""
        return crypto_sign(message, self._expanded)[:SIGNATURE_SIZE]

    def __repr__(self) -> str:
        return f"Ed25519Signer({self._key_id.hex()})"


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """An X25519 key: what is wrapped to `public_key` opens with `private_key`. 32 raw bytes each."""

    private_key: bytes
    public_key: PublicKey

    def __repr__(self) -> str:
        return f"KeyPair({self.public_key.hex()})"


def generate_x25519() -> KeyPair:
    """Make a fresh X25519 key: a gateway's, a wallet's, or the one-time key of one reservation."""
    return _pair(X25519PrivateKey.generate())


def x25519_from_private(private_key: bytes) -> KeyPair:
    """Take a key from its private 32 bytes; ValueError for another length."""
    return _pair(X25519PrivateKey.from_private_bytes(_sized(private_key)))


def hpke_wrap(public_key: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encrypt to an X25519 key and bind `info`: opens only for the key's holder, with the same `info`.

    The sender is anonymous: what must be attributable travels inside a signed message. 48 bytes longer.

    Raises:
        VerificationError: no X25519 key, or one of small order.

    Source: RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
    """
    try:
        return _HPKE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info=info)
    except ValueError as error:
        raise VerificationError(
            f"{len(public_key)} bytes {public_key.hex()} are no usable X25519 key: ask the recipient for a fresh one"
        ) from error


def hpke_unwrap(private_key: bytes, wrapped: bytes, info: bytes) -> bytes:
    """Open what `hpke_wrap` made for this key with this `info`.

    Raises:
        VerificationError: made for another key or other `info`, or changed on the way.
    """
    key = X25519PrivateKey.from_private_bytes(_sized(private_key))
    try:
        return _HPKE.decrypt(wrapped, key, info=info)
    except (InvalidTag, ValueError) as error:
        raise VerificationError(
            f"a wrapped key of {len(wrapped)} bytes does not open, expected one made for this key and context: "
            "ask its sender to wrap again"
        ) from error


def _pair(key: X25519PrivateKey) -> KeyPair:
    public = values.public_key(key.public_key().public_bytes_raw())
    return KeyPair(private_key=key.private_bytes_raw(), public_key=public)


def _sized(raw: bytes) -> bytes:
    if len(raw) != SEED_SIZE:
        raise ValueError(f"private key has {len(raw)} bytes, expected {SEED_SIZE}")
    return raw

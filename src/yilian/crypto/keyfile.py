"""Encrypted containers for what stays at home: keystores and vault keys, under a passphrase or under a key."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta
from nacl.pwhash import argon2id

from yilian import canonical
from yilian.errors import VerificationError

KEY_SIZE, NONCE_SIZE, TAG_SIZE = 32, 12, 16
VERSION: Final = 1
# RFC 9106 section 4 asks for more memory where there is some; 64 MiB and two passes also run on an old PC (~0.1 s).
OPERATIONS, MEMORY_BYTES = argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE
# A file from outside must not make us take all memory.
MOST_OPERATIONS, LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES = 16, 8 << 20, 1 << 30


class Locked(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The file form of `seal_with_passphrase`: Argon2id parameters beside what they protect."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    operations: Annotated[int, Meta(ge=1, le=MOST_OPERATIONS)]
    memory_bytes: Annotated[int, Meta(ge=LEAST_MEMORY_BYTES, le=MOST_MEMORY_BYTES)]
    salt: Annotated[bytes, Meta(min_length=argon2id.SALTBYTES, max_length=argon2id.SALTBYTES)]
    sealed: Annotated[bytes, Meta(min_length=1 + NONCE_SIZE + TAG_SIZE, max_length=64 << 20)]


def seal_with_passphrase(passphrase: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt under a passphrase and bind `aad` (what the file is for, and whose). About 0.1 s and 64 MiB by intent.

    Raises:
        ValueError: the passphrase is empty.

    Source: RFC 9106, Argon2id; AES-256-GCM under the derived key.
    """
    if not passphrase:
        raise ValueError("the passphrase is empty, expected at least one byte: give one from a file or credential")
    salt = secrets.token_bytes(argon2id.SALTBYTES)
    key = argon2id.kdf(KEY_SIZE, passphrase, salt, opslimit=OPERATIONS, memlimit=MEMORY_BYTES)
    return canonical.encode(
        Locked(
            version=VERSION,
            operations=OPERATIONS,
            memory_bytes=MEMORY_BYTES,
            salt=salt,
            sealed=seal_with_key(key, plaintext, aad),
        )
    )


def open_with_passphrase(passphrase: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal_with_passphrase` made.

    Raises:
        VerificationError: no such container, another passphrase, another `aad`, or changed bytes.
    """
    locked = canonical.decode(sealed, Locked)
    key = argon2id.kdf(KEY_SIZE, passphrase, locked.salt, opslimit=locked.operations, memlimit=locked.memory_bytes)
    return open_with_key(key, locked.sealed, aad)


def seal_with_key(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt under a 32-byte key: version byte, 12-byte random nonce, ciphertext; 29 bytes longer.

    At most 2³² values a key (NIST SP 800-38D section 8.3).

    Raises:
        ValueError: the key has not 32 bytes.
    """
    nonce = secrets.token_bytes(NONCE_SIZE)
    return bytes((VERSION,)) + nonce + _cipher(key).encrypt(nonce, plaintext, aad)


def open_with_key(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal_with_key` made.

    Raises:
        VerificationError: another key, another `aad`, or changed bytes.
        ValueError: the key has not 32 bytes.
    """
    cipher = _cipher(key)
    if len(sealed) < 1 + NONCE_SIZE + TAG_SIZE or sealed[0] != VERSION:
        raise VerificationError(
            f"{len(sealed)} bytes are no sealed value of version {VERSION}: restore the file from the backup"
        )
    try:
        return cipher.decrypt(sealed[1 : 1 + NONCE_SIZE], sealed[1 + NONCE_SIZE :], aad)
    except InvalidTag as error:
        raise VerificationError(
            f"{len(sealed)} sealed bytes do not open, expected those sealed with this key or passphrase for this "
            "place: check the passphrase, or restore the file from the backup"
        ) from error


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_SIZE:
        raise ValueError(f"key has {len(key)} bytes, expected {KEY_SIZE}")
    return AESGCM(key)

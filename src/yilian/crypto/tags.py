"""Names that are derived, never chosen: subject tags, entry ids, a patient's case keys. Pure: HMAC and hashes only."""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from yilian import values
from yilian.crypto.suite import derive_key, framed
from yilian.values import MAX_INT

if TYPE_CHECKING:
    from yilian.values import CaseId, Digest, EntryId, InstitutionId

SECRET_SIZE: Final = 32
_SIZE: Final = (32).to_bytes(8, "big")
ENTRY_TAG, CASE_KEY_TAG = "yilian/entry/v1", "yilian/case-key/v1"
SUBJECT_KEY_TAG: Final = "yilian/subject-key/v1"


def subject_tag(subject_key: bytes, j: int) -> Digest:
    """Give the tag of a patient's j-th entry (from 0) under one subject key K(custodian, year): HMAC-SHA256(K, j).

    Two tags are linked only by who holds K.

    Raises:
        ValueError: the key has not 32 bytes, or j is negative or over 63 bits.
    """
    _check_secret(subject_key)
    if not 0 <= j <= MAX_INT:
        raise ValueError(f"entry number {j} is outside 0 … 2⁶³ − 1")
    return values.digest(hmac.digest(subject_key, j.to_bytes(8, "big"), "sha256"))


def entry_id(chain: Digest, custodian: InstitutionId, tag: Digest) -> EntryId:
    """Derive the id of an entry: a custodian's tag is used once by construction."""
    start = _entry_start(chain, custodian)
    return sha256(start + _SIZE + tag).digest()  # type: ignore[return-value]  # 32 bytes by construction


@lru_cache(maxsize=256)
def _entry_start(chain: Digest, custodian: InstitutionId) -> bytes:
    # alike for all entries of a custodian, and on the path of every publication
    return framed(ENTRY_TAG, chain, custodian)


def subject_key_info(chain: Digest, custodian: InstitutionId, year: int) -> bytes:
    """Give the HPKE `info` to which K(custodian, year), sealed to a wallet, is bound."""
    return framed(SUBJECT_KEY_TAG, chain, custodian, year.to_bytes(4, "big"))


def case_key_seed(wallet_secret: bytes, case_id: CaseId) -> bytes:
    """Derive the 32-byte seed of the key with which a patient signs one case; two cases share nothing.

    Raises:
        ValueError: the secret has not 32 bytes.
    """
    _check_secret(wallet_secret)
    return derive_key(wallet_secret, framed(CASE_KEY_TAG, case_id))


def _check_secret(secret: bytes) -> None:
    if len(secret) != SECRET_SIZE:
        raise ValueError(f"secret has {len(secret)} bytes, expected {SECRET_SIZE}")

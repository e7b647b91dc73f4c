"""The masked data key of one use: opens only with the mask that the ledger publishes and the one-time private key."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from yilian.crypto.intl import HPKE_OVERHEAD, hpke_unwrap, hpke_wrap
from yilian.crypto.suite import SuiteId, derive_key, framed
from yilian.errors import VerificationError
from yilian.values import CaseId, Digest, EntryId, InstitutionId, KeyId

if TYPE_CHECKING:
    from yilian.values import PublicKey

MASK_SIZE = KEY_SIZE = 32
WRAPPED_SIZE: Final = KEY_SIZE + HPKE_OVERHEAD
PAD_TAG, INFO_TAG = "yilian/mask/v1", "yilian/release/v1"


class ReleaseContext(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """To whom, on which grant and for which record a key is masked: a wrap cannot be moved to another one."""

    chain: Digest
    custodian: InstitutionId
    recipient: InstitutionId
    person: KeyId
    grant: CaseId
    entry: EntryId
    root: Digest
    commitment: Digest
    suite: SuiteId = SuiteId.INTL

    def info(self) -> bytes:
        """Give the bytes that the wrap binds: tag and every field, each after its 8-byte length."""
        return framed(
            INFO_TAG,
            self.chain,
            self.custodian,
            self.recipient,
            self.person,
            self.grant,
            self.entry,
            self.root,
            self.commitment,
            bytes((self.suite,)),
        )


class MaskedKey(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What the custodian's signed message M says of one entry; without the mask it opens nothing."""

    entry: EntryId
    root: Digest
    commitment: Digest
    wrapped: Annotated[bytes, Meta(min_length=WRAPPED_SIZE, max_length=WRAPPED_SIZE)]


def new_mask() -> bytes:
    """Draw the 32-byte mask of one message M: one M and one mask for exactly the entries of one reservation."""
    return secrets.token_bytes(MASK_SIZE)


def mask_pad(mask: bytes, entry: EntryId) -> bytes:
    """Give the 32 bytes that hide the data key of one entry: HKDF(mask, entry).

    Raises:
        ValueError: the mask has not 32 bytes.
    """
    return derive_key(_sized(mask, "mask"), framed(PAD_TAG, entry))


def wrap_masked(one_time_public: PublicKey, data_key: bytes, mask: bytes, context: ReleaseContext) -> bytes:
    """Mask a data key and wrap it to the one-time key of a reservation: 80 bytes for `MaskedKey.wrapped`.

    Raises:
        VerificationError: the one-time key is no usable X25519 key.
        ValueError: data key or mask has not 32 bytes.
    """
    masked = _xor(_sized(data_key, "data key"), mask_pad(mask, context.entry))
    return hpke_wrap(one_time_public, masked, context.info())


def unwrap_masked(one_time_private: bytes, wrapped: bytes, mask: bytes, context: ReleaseContext) -> bytes:
    """Give the data key back. Another mask gives another key unseen here: `seal.key_fits` shows it.

    Raises:
        VerificationError: wrapped to another key or for another context, changed, or of another size.
        ValueError: the mask has not 32 bytes.
    """
    if len(wrapped) != WRAPPED_SIZE:
        raise VerificationError(
            f"wrapped key of entry {context.entry.hex()} has {len(wrapped)} bytes, expected {WRAPPED_SIZE}: "
            "ask the custodian for another message"
        )
    masked = hpke_unwrap(one_time_private, wrapped, context.info())
    return _xor(masked, mask_pad(mask, context.entry))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _sized(raw: bytes, what: str) -> bytes:
    if len(raw) != KEY_SIZE:
        raise ValueError(f"{what} has {len(raw)} bytes, expected {KEY_SIZE}")
    return raw

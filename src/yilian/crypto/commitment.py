"""Salted commitments over bytes as received: never re-serialised, since `1.50` must not become `1.5`. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from yilian import values
from yilian.crypto.suite import framed

if TYPE_CHECKING:
    from yilian.values import CaseId, Digest, EntryId, InstitutionId

SALT_SIZE: Final = 32
RECORD_TAG: Final = "yilian/record/v1"


class Commitment:
    """A commitment in the making: feed the bytes as they were received, in order, then ask for the digest."""

    __slots__ = ("_hasher",)

    def __init__(self, head: bytes) -> None:
        self._hasher = sha256(head)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._hasher.update(data)

    def digest(self) -> Digest:
        """Give the commitment to the bytes so far."""
        return values.digest(self._hasher.digest())


def record_commitment(chain: Digest, custodian: InstitutionId, entry_id: EntryId, salt: bytes) -> Commitment:
    """Start the commitment of a record.

    H("yilian/record/v1" ‖ chain ‖ custodian ‖ entry id ‖ salt ‖ bytes): all but the bytes after their 8-byte length,
    so that the parts cannot be moved against each other; the bytes come last and as they are.

    Raises:
        ValueError: the salt has not 32 bytes; without it a short record is found by trying all values.
    """
    return Commitment(framed(RECORD_TAG, chain, custodian, entry_id, _salt(salt)))


def attachment_commitment(  # noqa: PLR0917 - the order in which they are hashed
    tag: str, chain: Digest, case_id: CaseId, salt: bytes, data: bytes
) -> Digest:
    """Commit to an attachment of a case under the tag of its kind; laid out as `record_commitment`.

    Raises:
        ValueError: the salt has not 32 bytes.
    """
    commitment = Commitment(framed(tag, chain, case_id, _salt(salt)))
    commitment.update(data)
    return commitment.digest()


def _salt(salt: bytes) -> bytes:
    if len(salt) != SALT_SIZE:
        raise ValueError(f"salt has {len(salt)} bytes, expected {SALT_SIZE}")
    return salt

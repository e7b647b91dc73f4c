"""What a recipient does about its copies of a record that is erased: it destroys them, or keeps them under a duty."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.ledger.members import InstitutionKind
from yilian.storage.vault.releases import OneTimeKeyStatus, ReceivedCopy
from yilian.values import EntryId
from yilian.workflows.consent.copies import Duty
from yilian.workflows.consent.ports import Institution

DUTIES = {
    InstitutionKind.HOSPITAL: Duty.MEDICAL_RECORD,
    InstitutionKind.COMMUNITY_CENTRE: Duty.MEDICAL_RECORD,
    InstitutionKind.LABORATORY: Duty.MEDICAL_RECORD,
    InstitutionKind.PHARMACY: Duty.MEDICAL_RECORD,
    InstitutionKind.REGULATOR: Duty.STATUTORY_DUTY,
    InstitutionKind.AUDIT_BODY: Duty.STATUTORY_DUTY,
    InstitutionKind.CDC: Duty.STATUTORY_DUTY,
}
"""Who keeps a copy by an own duty: as part of the own medical record, or as evidence. All others destroy it."""


def settle_copies(party: Institution, kind: InstitutionKind, entry: EntryId) -> Duty | None:
    """Give the duty by which the copies of an entry are kept; where there is none, destroy what is here of it.

    Raises:
        UnavailableError: the disk failed; do it again.
    """
    copies = party.vault.releases.copies_of_entry(entry)
    duty = DUTIES.get(kind) if copies else None
    if duty is None:
        forget(party, copies)
    return duty


def forget(party: Institution, copies: list[ReceivedCopy]) -> None:
    """Destroy keys, salts and ciphertext of received copies, and the one-time keys that could open them again."""
    for copy in copies:
        key = party.vault.releases.find_key_of_use(copy.use_id)
        if key is not None and key.status != OneTimeKeyStatus.ERASED:
            party.vault.releases.put_key(replace(key, private=b"", message=b"", status=OneTimeKeyStatus.ERASED))
        party.blobs.delete(copy.root)
        party.vault.releases.erase_copy(copy.entry_id, copy.use_id)

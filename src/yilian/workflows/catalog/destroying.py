"""What a custodian destroys once an entry is being erased: key and salt first, then whatever they opened.

Each step is durable and safe to repeat, so that a crash between two of them leaves nothing but work to do again.
"""

from __future__ import annotations

from yilian.crypto.suite import Signer
from yilian.engine.gateway import Gateway
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.storage.vault.records import Record, RecordStatus
from yilian.values import EntryId, InstitutionId
from yilian.workflows.catalog.model import Erase, ErasureBasis
from yilian.workflows.catalog.service import Ports


def erase(
    gateway: Gateway,
    entry_id: EntryId,
    basis: ErasureBasis,
    *,
    recipients: tuple[InstitutionId, ...],
    officers: tuple[Signer, Signer],
) -> Answer:
    """Decide that a record is destroyed, signed by a DATA_OFFICER and a DISCLOSURE_OFFICER; the node does the rest.

    Raises:
        Refused: by the ledger.
    """
    data, disclosure = officers
    persons = [(data, Role.DATA_OFFICER), (disclosure, Role.DISCLOSURE_OFFICER)]
    return gateway.act(Erase(basis=basis, recipients=recipients), entry_id, persons=persons)


def destroy(ports: Ports, entry_id: EntryId) -> None:
    """Destroy data key, salt and ciphertext of an own record, the file that it came in, and a subject key left over.

    The received file holds the record as it was, so it goes too; what else was in it has been sealed record by record.
    Whose record it was stays in the vault, as the fact of the erasure stays on the ledger. Nothing happens where the
    vault has no such record.

    Raises:
        UnavailableError: the disk failed; do it again.
    """
    record = ports.vault.records.find(entry_id)
    if record is None:
        return
    if record.status != RecordStatus.ERASED:
        ports.vault.records.erase(entry_id)
    ports.blobs.delete(record.root)
    _destroy_file(ports, record)
    _destroy_subject_key(ports, record)


def _destroy_file(ports: Ports, record: Record) -> None:
    file = ports.vault.records.find_file(record.source) if record.source else None
    if file is None:
        return
    ports.blobs.delete(file.root)
    ports.vault.records.erase_file(record.source)


def _destroy_subject_key(ports: Ports, record: Record) -> None:
    """Destroy the patient's key of a year once no record is left under it: no tag of that year links to another."""
    rows = ports.vault.records.of_subject(record.subject_ref)
    if any(row.year == record.year and row.status != RecordStatus.ERASED for row in rows):
        return
    ports.vault.subjects.erase_key(record.subject_ref, record.year)

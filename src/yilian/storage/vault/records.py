"""What an institution keeps of its own records: keys, salts and where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from yilian.errors import NotFoundError
from yilian.storage.vault.core import Columns, SealedTable, VaultCore
from yilian.storage.vault.schema import RECEIVED_FILES, RECORDS, SUMMARIES
from yilian.values import Digest, EntryId


class RecordStatus(StrEnum):
    """Where a record of our own stands."""

    PREPARED = "PREPARED"
    """Blob and row are durable, `catalog.publish` has not landed."""
    PUBLISHED = "PUBLISHED"
    REPLACED = "REPLACED"
    WITHDRAWN = "WITHDRAWN"
    ERASED = "ERASED"
    """Key and salt are gone."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record that this institution published, or will."""

    entry_id: EntryId
    root: Digest
    data_key: bytes
    """32 bytes; empty once erased."""
    salt: bytes
    """32 bytes of the commitment; empty once erased."""
    level: int
    """The true data level, 5 included."""
    true_size: int
    """Bytes before padding."""
    subject_ref: bytes
    year: int
    """Year of the subject key."""
    j: int
    """Number of the tag under that key."""
    source: bytes
    """Digest of the received file that it was cut from."""
    encounter: str
    """The encounter's own identifier at its source, to find it again at the next import."""
    canonical: bytes
    """Digest of the content in canonical form, for finding duplicates; never leaves the vault."""
    kind: str
    """Class code, WS/T 500."""
    status: RecordStatus
    commitment: bytes = b""
    """32 bytes, as published."""
    month: int = 0
    """Month of the event, as published."""
    origin: str = "system"
    late: bool = False
    replaces: EntryId | None = None
    """The entry that this one takes the place of, or will."""
    sensitivity: tuple[str, ...] = ()
    """Why the level is 5; travels sealed."""
    content_type: str = "application/fhir+json"


class ReceivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was received, sealed as a blob of its own so that the same bytes can be given back."""

    digest: bytes
    root: Digest
    data_key: bytes
    true_size: int
    name: str
    """As the sender named it; may hold a patient's name."""
    is_imported: bool
    """All of its records are published: another import of the same bytes does nothing."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to no encounter of a patient; stays with the home and travels in a referral."""

    subject_ref: bytes
    root: Digest
    data_key: bytes
    salt: bytes
    true_size: int
    level: int = 4
    """The true data level, 5 included; a request that carries the summary has at least this one."""
    sensitivity: tuple[str, ...] = ()


class Records:
    """The institution's own records, the files they came from, and the patients' summaries."""

    def __init__(self, vault: VaultCore) -> None:
        self._vault = vault
        self._records = SealedTable(vault, RECORDS, Record, columns=self._columns)
        self._files = SealedTable(
            vault,
            RECEIVED_FILES,
            ReceivedFile,
            columns=lambda file: {"digest": vault.blind("file", file.digest)},
        )
        self._summaries = SealedTable(
            vault,
            SUMMARIES,
            Summary,
            columns=lambda summary: {"subject": vault.blind("subject", summary.subject_ref)},
        )

    def insert(self, records: Iterable[Record]) -> None:
        """Add records; ConflictError where an entry id is taken."""
        self._records.insert(records)

    def put(self, records: Iterable[Record]) -> None:
        """Add records, or put them in place of those with the same entry id."""
        self._records.put(records)

    def get(self, entry_id: bytes) -> Record:
        """Give a record; NotFoundError where there is none."""
        return self._records.get(entry_id=entry_id)

    def find(self, entry_id: bytes) -> Record | None:
        """Give a record, or None."""
        return self._records.find(entry_id=entry_id)

    def find_many(self, entry_ids: Iterable[bytes]) -> dict[bytes, Record]:
        """Give those of the records that are here, by entry id."""
        wanted = list(dict.fromkeys(entry_ids))
        if len(wanted) == 1:  # the statement for one is made ready once
            found = self._records.find(entry_id=wanted[0])
            return {} if found is None else {found.entry_id: found}
        return {record.entry_id: record for record in self._records.find_in("entry_id", wanted)}

    def find_by_encounters(self, encounters: Iterable[str]) -> dict[str, list[Record]]:
        """Give the records of many encounters, by encounter; those without a record are left out."""
        found: dict[str, list[Record]] = {}
        blinds = (self._vault.blind("encounter", encounter.encode()) for encounter in encounters)
        for record in self._records.find_in("encounter", blinds):
            found.setdefault(record.encounter, []).append(record)
        return found

    def of_subject(self, subject_ref: bytes) -> list[Record]:
        """Give all records of a patient."""
        return self._records.find_all(subject=self._vault.blind("subject", subject_ref))

    def with_status(self, status: RecordStatus) -> Iterator[Record]:
        """Give the records that stand so, a few at a time."""
        return self._records.each(RECORDS.c.status == status)

    def each(self) -> Iterator[Record]:
        """Give all records, a few at a time, in order of entry id."""
        return self._records.each()

    def after(self, entry_id: bytes, limit: int) -> list[Record]:
        """Give the records behind an entry id, in order of entry id."""
        return self._records.select(RECORDS.c.entry_id > entry_id, limit=limit)

    def count(self) -> int:
        """Count all records."""
        return self._records.count()

    def set_status(self, entry_ids: Sequence[bytes], status: RecordStatus) -> None:
        """Move records to a status, together; NotFoundError where one is not there, and then none moves."""
        with self._vault.transaction():
            found = self.find_many(entry_ids)
            if missing := next((entry_id for entry_id in entry_ids if entry_id not in found), None):
                raise NotFoundError(f"the vault has no record {missing.hex()}: check the id")
            self._records.put(msgspec.structs.replace(record, status=status) for record in found.values())

    def erase(self, entry_id: bytes) -> Record:
        """Forget a record's key and salt for good, and give what is left; the blob is the caller's to delete."""
        with self._vault.transaction():
            left = msgspec.structs.replace(self.get(entry_id), data_key=b"", salt=b"", status=RecordStatus.ERASED)
            self._records.put([left])
        self._vault.scrub()
        return left

    def put_file(self, file: ReceivedFile) -> None:
        """Keep what opens a received file; in place of the row with the same digest."""
        self._files.put([file])

    def find_file(self, digest: bytes) -> ReceivedFile | None:
        """Give what opens a received file, or None."""
        return self._files.find(digest=self._vault.blind("file", digest))

    def erase_file(self, digest: bytes) -> None:
        """Forget what opens a received file for good; the blob is the caller's to delete."""
        if self._files.delete(RECEIVED_FILES.c.digest == self._vault.blind("file", digest)):
            self._vault.scrub()

    def files(self) -> Iterator[ReceivedFile]:
        """Give all received files, a few at a time."""
        return self._files.each()

    def files_after(self, key: bytes, limit: int) -> list[tuple[bytes, ReceivedFile]]:
        """Give received files behind a key, each with its own: a blind index of its digest."""
        files = self._files.select(RECEIVED_FILES.c.digest > key, limit=limit)
        return [(self._vault.blind("file", file.digest), file) for file in files]

    def put_summary(self, summary: Summary) -> None:
        """Keep a patient's summary, in place of the one before."""
        self._summaries.put([summary])

    def find_summary(self, subject_ref: bytes) -> Summary | None:
        """Give a patient's summary, or None."""
        return self._summaries.find(subject=self._vault.blind("subject", subject_ref))

    def summaries_after(self, key: bytes, limit: int) -> list[tuple[bytes, Summary]]:
        """Give summaries behind a key, each with its own: a blind index of its patient."""
        found = self._summaries.select(SUMMARIES.c.subject > key, limit=limit)
        return [(self._vault.blind("subject", summary.subject_ref), summary) for summary in found]

    def counts(self) -> tuple[int, int, int]:
        """Count records, received files and summaries."""
        return self._records.count(), self._files.count(), self._summaries.count()

    def summaries(self) -> Iterator[Summary]:
        """Give all summaries, a few at a time."""
        return self._summaries.each()

    def _columns(self, record: Record) -> Columns:
        blind = self._vault.blind
        return {
            "entry_id": record.entry_id,
            "subject": blind("subject", record.subject_ref),
            "encounter": blind("encounter", record.encounter.encode()),
            "status": str(record.status),
        }

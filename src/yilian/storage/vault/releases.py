"""The two sides of a use: messages M that this institution made, and keys and copies that it received."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from yilian.storage.vault.core import SealedTable, VaultCore
from yilian.storage.vault.schema import MESSAGES_MADE, NOTES, ONE_TIME_KEYS, RECEIVED_COPIES
from yilian.values import CaseId, Digest, EntryId, InstitutionId, KeyId


class MessageStatus(StrEnum):
    """Where a message M of ours stands."""

    MADE = "MADE"
    DELIVERING = "DELIVERING"
    """The mask was sent to the ledger: from here on it counts as public."""
    DELIVERED = "DELIVERED"
    DECLINED = "DECLINED"
    LAPSED = "LAPSED"


class MessageMade(msgspec.Struct, frozen=True, kw_only=True):
    """A message M, made once for one recipient, one key and exactly these entries."""

    h_m: Digest
    """H(M)."""
    mask: bytes
    """m, 32 bytes."""
    grant: CaseId
    recipient: InstitutionId
    person: KeyId | None
    entries: tuple[EntryId, ...]
    one_time_key: bytes
    """Public half, as the recipient named it."""
    use_id: CaseId | None = None
    """The reservation that names this M; None until there is one."""
    made_at: int
    """Milliseconds."""
    status: MessageStatus


class OneTimeKeyStatus(StrEnum):
    """Where a one-time key of ours stands."""

    ASKED = "ASKED"
    """Ciphertext and M are asked for or here; nothing is reserved."""
    RESERVED = "RESERVED"
    OPENED = "OPENED"
    CLOSED = "CLOSED"
    """Declined or lapsed."""
    ERASED = "ERASED"


class OneTimeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient key of one reservation, with the M that was sealed to it."""

    public: bytes
    private: bytes
    """Empty once erased."""
    grant: CaseId
    use_id: CaseId | None = None
    message: bytes = b""
    """M as received, signed by its custodian; empty until it came."""
    status: OneTimeKeyStatus
    erase_after: int
    """Milliseconds; end of the dispute window."""


class ReceivedCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A record of another institution that was delivered here; the blob lies under `root`."""

    entry_id: EntryId
    use_id: CaseId
    root: Digest
    data_key: bytes
    salt: bytes
    true_size: int
    level: int = 4
    sensitivity: tuple[str, ...] = ()


class NoteKind(StrEnum):
    """What an institution was told, or decided, about a case beside the ledger."""

    LEVEL_FIVE_LEAVE = "LEVEL_FIVE_LEAVE"
    """A grant may deliver records of level 5."""
    STOP = "STOP"
    """No delivery under this grant or consent: a revocation arrived before its block did."""
    EMERGENCY_IDENTITY = "EMERGENCY_IDENTITY"
    """Whom an emergency is about; sealed to this institution."""
    CUSTODIAL_IDENTITY = "CUSTODIAL_IDENTITY"
    """Whom a custodial case is about; sealed to this institution as the home."""
    REFERRAL_PUSHED = "REFERRAL_PUSHED"
    """The referrer's push of a referral was acknowledged."""
    CASE_SUBJECT = "CASE_SUBJECT"
    """Which patient of this institution a case is about: the reference of the registration."""
    PATIENT_TO_TELL = "PATIENT_TO_TELL"
    """A grant was issued by law on an own entry: its patient is to be told, unless the legal basis forbids it; the
    body is the reference of the registration."""
    SCREENING = "SCREENING"
    """The latest screening of a patient, in JSON; `about` is a blind index of the registration."""
    STATEMENT = "STATEMENT"
    """The list behind a daily statement: number, pair and commitment of each event; `about` is the statement."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One such note; a later one of the kind about the case takes its place."""

    about: bytes
    """Id of the case."""
    kind: NoteKind
    by: bytes
    """Key id or institution id of who said it."""
    time: int
    """Milliseconds."""
    body: bytes = b""


class Releases:
    """Messages made, one-time keys, copies received, notes."""

    def __init__(self, vault: VaultCore) -> None:
        self._vault = vault
        self._messages = SealedTable(
            vault,
            MESSAGES_MADE,
            MessageMade,
            columns=lambda made: {"h_m": made.h_m},
        )
        self._keys = SealedTable(
            vault,
            ONE_TIME_KEYS,
            OneTimeKey,
            columns=lambda key: {
                "public": key.public,
                "use_id": key.use_id,
                "status": str(key.status),
                "erase_after": key.erase_after,
            },
        )
        self._copies = SealedTable(
            vault,
            RECEIVED_COPIES,
            ReceivedCopy,
            columns=lambda copy: {"entry_id": copy.entry_id, "use_id": copy.use_id},
        )
        self._notes = SealedTable(
            vault, NOTES, Note, columns=lambda note: {"about": note.about, "kind": str(note.kind)}
        )

    def put_note(self, note: Note) -> None:
        """Keep a note, in place of the one of its kind about the same case."""
        self._notes.put([note])

    def find_note(self, about: bytes, kind: NoteKind) -> Note | None:
        """Give the note of a kind about a case, or None."""
        return self._notes.find(about=about, kind=str(kind))

    def notes(self, kind: NoteKind) -> list[Note]:
        """Give all notes of a kind."""
        return self._notes.find_all(kind=str(kind))

    def insert_message(self, made: MessageMade) -> None:
        """Keep a message before it is sent; ConflictError where one with this hash exists."""
        self._messages.insert([made])

    def put_message(self, made: MessageMade) -> None:
        """Keep a message, in place of the one with its hash."""
        self._messages.put([made])

    def find_message(self, h_m: bytes) -> MessageMade | None:
        """Give the message with a hash, or None: then this institution never made it."""
        return self._messages.find(h_m=h_m)

    def put_key(self, key: OneTimeKey) -> None:
        """Keep a one-time key, in place of the one with its public half."""
        self._keys.put([key])

    def find_key(self, public: bytes) -> OneTimeKey | None:
        """Give a one-time key by its public half, or None."""
        return self._keys.find(public=public)

    def find_key_of_use(self, use_id: bytes) -> OneTimeKey | None:
        """Give the one-time key of a reservation, or None."""
        return self._keys.find(use_id=use_id)

    def erase_keys_due(self, now: int) -> int:
        """Forget the private halves whose dispute window ended before `now` (milliseconds), and give their number."""
        with self._vault.transaction():
            due = self._keys.select(
                ONE_TIME_KEYS.c.erase_after < now, ONE_TIME_KEYS.c.status != OneTimeKeyStatus.ERASED
            )
            self._keys.put(msgspec.structs.replace(key, private=b"", status=OneTimeKeyStatus.ERASED) for key in due)
        if due:
            self._vault.scrub()
        return len(due)

    def put_copies(self, copies: Iterable[ReceivedCopy]) -> None:
        """Keep what opens delivered records."""
        self._copies.put(copies)

    def copies_of_entry(self, entry_id: bytes) -> list[ReceivedCopy]:
        """Give the copies of one entry, one for each use."""
        return self._copies.find_all(entry_id=entry_id)

    def copies(self) -> Iterator[ReceivedCopy]:
        """Give all copies, a few at a time."""
        return self._copies.each()

    def copies_after(self, entry_id: bytes, limit: int) -> list[ReceivedCopy]:
        """Give copies of the entries behind an entry id, in order of entry id."""
        return self._copies.select(RECEIVED_COPIES.c.entry_id > entry_id, limit=limit)

    def count_copies(self) -> int:
        """Count all copies."""
        return self._copies.count()

    def erase_copy(self, entry_id: bytes, use_id: bytes) -> None:
        """Forget key and salt of a delivered record for good; the blob is the caller's to delete."""
        self._copies.delete(RECEIVED_COPIES.c.entry_id == entry_id, RECEIVED_COPIES.c.use_id == use_id)
        self._vault.scrub()

"""The institution's patients: identities found by blind index, wallets, and the subject keys that make tags."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

import msgspec

from yilian.storage.vault.core import SealedTable, VaultCore
from yilian.storage.vault.schema import IDENTIFIERS, SUBJECT_KEYS, SUBJECTS
from yilian.values import CaseId

SUBJECT_REF_BYTES = 16


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One patient as registered here."""

    subject_ref: bytes
    """16 random bytes; known to this vault only."""
    identity: bytes
    """JSON of name, birth date, address …, as the registration has it."""
    identifiers: tuple[str, ...]
    """What the patient is found by, each with its system: `urn:…|value`."""
    wallet: bytes | None = None
    """X25519 public key of the patient's wallet."""
    locate_consent: CaseId | None = None
    """Consent of purpose LOCATE under which the home receives the subject keys."""


class SubjectKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key of one patient and year of publication: tag of the j-th entry = HMAC(key, j)."""

    subject_ref: bytes
    year: int
    key: bytes
    next_j: int


class _Identifier(msgspec.Struct, frozen=True, kw_only=True):
    identifier: str
    subject_ref: bytes


class Subjects:
    """Patients, found by any of their identifiers."""

    def __init__(self, vault: VaultCore) -> None:
        self._vault = vault
        self._subjects = SealedTable(
            vault, SUBJECTS, Subject, columns=lambda subject: {"subject": self._blind(subject.subject_ref)}
        )
        self._identifiers = SealedTable(
            vault,
            IDENTIFIERS,
            _Identifier,
            columns=lambda row: {
                "identifier": vault.blind("identifier", row.identifier.encode()),
                "subject": self._blind(row.subject_ref),
            },
        )
        self._keys = SealedTable(
            vault,
            SUBJECT_KEYS,
            SubjectKey,
            columns=lambda key: {"subject": self._blind(key.subject_ref), "year": key.year},
        )

    def put(self, subjects: Iterable[Subject]) -> None:
        """Register patients, or put them in place of those with the same reference."""
        subjects = tuple(subjects)
        with self._vault.transaction():
            for subject in subjects:
                self._identifiers.delete(IDENTIFIERS.c.subject == self._blind(subject.subject_ref))
            self._subjects.put(subjects)
            self._identifiers.put(
                _Identifier(identifier=identifier, subject_ref=subject.subject_ref)
                for subject in subjects
                for identifier in subject.identifiers
            )

    def get(self, subject_ref: bytes) -> Subject:
        """Give a patient; NotFoundError where there is none."""
        return self._subjects.get(subject=self._blind(subject_ref))

    def find(self, subject_ref: bytes) -> Subject | None:
        """Give a patient, or None."""
        return self._subjects.find(subject=self._blind(subject_ref))

    def find_by_identifier(self, identifier: str) -> list[Subject]:
        """Give the patients that bear an identifier; more than one means that registrations must be compared."""
        found = self._identifiers.select(
            IDENTIFIERS.c.identifier == self._vault.blind("identifier", identifier.encode())
        )
        return [self.get(row.subject_ref) for row in found]

    def each(self) -> Iterator[Subject]:
        """Give all patients, a few at a time."""
        return self._subjects.each()

    def count(self) -> int:
        """Count all patients."""
        return self._subjects.count()

    def put_keys(self, keys: Iterable[SubjectKey]) -> None:
        """Keep subject keys, each in place of the one of the same patient and year."""
        self._keys.put(keys)

    def find_key(self, subject_ref: bytes, year: int) -> SubjectKey | None:
        """Give the key of a patient and year, or None."""
        return self._keys.find(subject=self._blind(subject_ref), year=year)

    def find_keys(self, subject_refs: Iterable[bytes], year: int) -> dict[bytes, SubjectKey]:
        """Give the keys of many patients for one year, by patient; those without a key are left out."""
        found = self._keys.find_in("subject", map(self._blind, subject_refs))
        return {key.subject_ref: key for key in found if key.year == year}

    def keys_of(self, subject_ref: bytes) -> list[SubjectKey]:
        """Give all keys of a patient, by year."""
        return self._keys.find_all(subject=self._blind(subject_ref))

    def erase_key(self, subject_ref: bytes, year: int) -> None:
        """Forget a patient's key of one year for good; nothing happens where there is none."""
        subject = self._blind(subject_ref)
        if self._keys.delete(SUBJECT_KEYS.c.subject == subject, SUBJECT_KEYS.c.year == year):
            self._vault.scrub()

    def erase(self, subject_ref: bytes) -> None:
        """Forget a patient's identity, identifiers and keys for good."""
        subject = self._blind(subject_ref)
        with self._vault.transaction():
            self._identifiers.delete(IDENTIFIERS.c.subject == subject)
            self._keys.delete(SUBJECT_KEYS.c.subject == subject)
            self._subjects.delete(SUBJECTS.c.subject == subject)
        self._vault.scrub()

    def _blind(self, subject_ref: bytes) -> bytes:
        return self._vault.blind("subject", subject_ref)


def new_subject_ref() -> bytes:
    """Draw the reference of a patient who is registered for the first time."""
    return secrets.token_bytes(SUBJECT_REF_BYTES)

"""The institution's register of patients: found by any identifier through a blind index, never by name.

Matching is exact: same system, same value. Two registrations behind the identifiers of one patient are never merged by
machine: a person compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from yilian.errors import ConflictError, NotFoundError
from yilian.standards.fhir.splitting import Patient
from yilian.storage.vault import Vault
from yilian.storage.vault.subjects import Subject, new_subject_ref


def identifiers_of(patient: Patient) -> tuple[str, ...]:
    """Give what a patient is found by: `system|value` of each identifier, else the resource's own id."""
    named = [f"{item.system or ''}|{item.value}" for item in patient.identifiers if item.value]
    return tuple(dict.fromkeys(named or [patient.patient_id]))


def find_subject(vault: Vault, identifiers: Iterable[str]) -> Subject | None:
    """Give the patient who bears any of these identifiers, or None.

    Raises:
        ConflictError: they lead to more than one registration.
    """
    found: dict[bytes, Subject] = {}
    for identifier in identifiers:
        found |= {subject.subject_ref: subject for subject in vault.subjects.find_by_identifier(identifier)}
    if len(found) > 1:
        raise ConflictError(f"the identifiers lead to {len(found)} registrations, expected one: compare them first")
    return next(iter(found.values()), None)


def get_subject(vault: Vault, identifier: str) -> Subject:
    """Give the one patient who bears an identifier, written `system|value`.

    Raises:
        NotFoundError: nobody is registered under it; the identifier is not repeated.
        ConflictError: more than one is.
    """
    found = find_subject(vault, (identifier,))
    if found is None:
        raise NotFoundError("nobody is registered here under this identifier: check system and value")
    return found


def register(vault: Vault, patients: Sequence[Patient]) -> list[bytes | None]:
    """Register patients, or bring their registrations up to date, in one transaction; gives their references.

    None stands for a patient whose identifiers lead to more than one registration: nothing is kept of that one.
    """
    references: list[bytes | None] = []
    with vault.transaction():
        changed: dict[bytes, Subject] = {}
        fresh: dict[str, bytes] = {}
        for patient in patients:
            subject = _registered(vault, patient, fresh, changed)
            references.append(None if subject is None else subject.subject_ref)
            if subject is not None:
                changed[subject.subject_ref] = subject
                fresh |= dict.fromkeys(subject.identifiers, subject.subject_ref)
        vault.subjects.put(changed.values())
    return references


def identity_of(subject: Subject) -> Patient:
    """Give the identity of a registration."""
    return msgspec.json.decode(subject.identity, type=Patient)


def _registered(
    vault: Vault, patient: Patient, fresh: dict[str, bytes], changed: dict[bytes, Subject]
) -> Subject | None:
    identifiers = identifiers_of(patient)
    here = {fresh[identifier] for identifier in identifiers if identifier in fresh}
    try:
        stored = find_subject(vault, identifiers)
    except ConflictError:
        return None
    if stored is not None:
        here.add(stored.subject_ref)
    if len(here) > 1:
        return None
    reference = next(iter(here), None) or new_subject_ref()
    known = changed.get(reference) or stored
    if known is None:
        known = Subject(subject_ref=reference, identity=b"", identifiers=())
    merged = tuple(dict.fromkeys((*known.identifiers, *identifiers)))
    return msgspec.structs.replace(known, identity=msgspec.json.encode(patient), identifiers=merged)

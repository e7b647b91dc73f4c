"""A custodian's own records off the ledger: seal, number, keep, publish, replace, restrict, withdraw.

Blob and vault row are durable before `catalog.publish` is sent; a row that is PREPARED still has to land, and is sent
again with the same bytes until it does. Records are published in the order of their entry ids: these are hashes, so it
is a random order over patients, and stays one however the work is cut.
Source: spec/release.md, Sealed record and Commitment.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from yilian.crypto.commitment import record_commitment
from yilian.crypto.seal import new_salt, padded_size, seal_bytes, size_class
from yilian.crypto.suite import Signer
from yilian.crypto.tags import entry_id as derive_entry_id
from yilian.crypto.tags import subject_tag
from yilian.engine.gateway import Gateway, Signed, check
from yilian.errors import ConflictError, NotFoundError, Refused, SettingsError
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.storage.port import Blobs
from yilian.storage.vault import Vault
from yilian.storage.vault.records import Record, RecordStatus
from yilian.storage.vault.subjects import SubjectKey
from yilian.values import (
    Day,
    Digest,
    EntryId,
    Month,
    UnixMillis,
    civil_from_day,
    day_of,
    digest,
    month_of,
    unix_millis,
)
from yilian.workflows.catalog.model import (
    Description,
    Entry,
    EntryState,
    Origin,
    Publish,
    Replace,
    Restrict,
    Unrestrict,
    Withdraw,
)

FHIR_JSON = "application/fhir+json"
SUBJECT_KEY_BYTES = 32
DEEPEST_LEVEL, SHOWN_LEVEL = 5, 4
"""What is of level 5 shows 4 on the ledger."""
PUBLISHED_AT_ONCE = 1_000


class Ports(Protocol):
    """An institution's hand on the ledger, its vault and its sealed records."""

    @property
    def gateway(self) -> Gateway:
        """Acts for the institution."""
        ...

    @property
    def vault(self) -> Vault:
        """Keys, salts, patients."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Sealed records."""
        ...


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a record beside its bytes; `level` is the true one, 1 to 5.

    `source`, `encounter` and `canonical` are as in the vault's `Record`; `replaces` is an entry of one's own.
    """

    subject_ref: bytes
    kind: str
    level: int
    month: Month
    late: bool = False
    origin: Origin = Origin.SYSTEM
    sensitivity: tuple[str, ...] = ()
    content_type: str = FHIR_JSON
    source: bytes = b""
    encounter: str = ""
    canonical: bytes = b""
    replaces: EntryId | None = None


class NewRecord(Label, frozen=True, kw_only=True):
    """A record to seal and publish, in memory."""

    payload: bytes


class SealedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What sealing a record gave, its blob durable under `root`."""

    root: Digest
    data_key: bytes
    true_size: int


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What became of records that were waiting: how many landed, and which the ledger refused and why."""

    landed: int
    refused: tuple[tuple[EntryId, Refused], ...] = ()


def now(ports: Ports) -> UnixMillis:
    """Give the time: the wall clock, or the newest block's time where that is ahead."""
    return unix_millis(max(time.time_ns() // 1_000_000, ports.gateway.engine.head().time))


def timely_since(ports: Ports, origin: Origin = Origin.SYSTEM) -> Day:
    """Give the first day whose events do not count as published late now, by the chain's parameter of their origin."""
    parameter = "catalog.late_device" if origin == Origin.DEVICE else "catalog.late_system"
    return day_of(unix_millis(now(ports) - ports.gateway.engine.reads().number(parameter)))


def this_month(ports: Ports) -> Month:
    """Give the month of today at UTC+8."""
    return month_of(day_of(now(ports)))


def publish_records(ports: Ports, batch: Sequence[NewRecord]) -> list[EntryId]:
    """Seal records, make them durable, publish them, and give their entry ids in the order of the batch.

    Raises:
        SettingsError: a kind or level that no entry may have; nothing was done.
        Refused: the ledger refused one; it stays prepared, the others landed.
        UnavailableError: the disk or the ledger did not answer; what is prepared lands with `publish_prepared`.
    """
    prepared = prepare_records(ports, batch)
    outcome = _publish(ports, list(ports.vault.records.find_many(prepared).values()))
    if outcome.refused:
        raise outcome.refused[0][1]
    return prepared


def prepare_records(ports: Ports, batch: Sequence[NewRecord]) -> list[EntryId]:
    """Seal records and make blobs, then vault rows durable; `publish_prepared` brings them into the catalogue.

    Raises:
        SettingsError: a kind or level that no entry may have; nothing was done.
        UnavailableError: the disk is full or failed.
    """
    check_labels(ports, batch)
    sealed, blobs = [], []
    for record in batch:
        blob, form, data_key = seal_bytes(record.payload)
        sealed.append(SealedRecord(root=form.root, data_key=data_key, true_size=len(record.payload)))
        blobs.append((bytes(form.root), blob))
    ports.blobs.put_many(blobs)
    with ports.vault.transaction():
        numbers = _number(ports, [record.subject_ref for record in batch])
        rows = []
        for record, form_, (key, j) in zip(batch, sealed, numbers, strict=True):
            salt = new_salt()
            entry_id = _entry_id(ports, key, j)
            commitment = record_commitment(ports.gateway.engine.chain, ports.gateway.institution, entry_id, salt)
            commitment.update(record.payload)
            rows.append(row_of(record, form_, key, j, entry_id=entry_id, salt=salt, commitment=commitment.digest()))
        ports.vault.records.insert(rows)
    return [row.entry_id for row in rows]


def publish_prepared(
    ports: Ports,
    *,
    progress: Callable[[int], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Published:
    """Publish every record that is prepared, those that an earlier start left too; safe to repeat.

    `progress` is told the number of each lot that was sent. Refused records stay prepared.
    """
    landed = 0
    refused: dict[EntryId, Refused] = {}
    while not is_cancelled():
        waiting = ports.vault.records.with_status(RecordStatus.PREPARED)
        lot = list(islice((row for row in waiting if row.entry_id not in refused), PUBLISHED_AT_ONCE))
        if not lot:
            break
        outcome = _publish(ports, lot)
        landed += outcome.landed
        refused.update(outcome.refused)
        progress(len(lot))
    return Published(landed=landed, refused=tuple(refused.items()))


def replace_record(ports: Ports, entry_id: EntryId, record: NewRecord) -> EntryId:
    """Publish a corrected record, under a fresh tag, in the place of one; the level never falls.

    Raises:
        NotFoundError: no record of one's own under this id.
        Refused: the entry is not CURRENT any more.
    """
    ports.vault.records.get(entry_id)
    (successor,) = publish_records(ports, [msgspec.structs.replace(record, replaces=entry_id)])
    return successor


def restrict(ports: Ports, entry_ids: Sequence[EntryId], *, lift: bool = False) -> None:
    """Make the patient's general no effective on entries of one's own, or lift it; all are sent in one go.

    Raises:
        Refused: the ledger refused one; the others stand.
    """
    command = Unrestrict() if lift else Restrict()
    drafts = [ports.gateway.draft(command, case=entry_id) for entry_id in entry_ids]
    for answer in ports.gateway.send([Signed(core=draft.core) for draft in drafts]):
        check(answer)


def restrict_subject(ports: Ports, subject_ref: bytes, *, lift: bool = False) -> list[EntryId]:
    """Make a patient's general no effective on all that is published here of the patient; gives the entries."""
    held = {RecordStatus.PUBLISHED, RecordStatus.WITHDRAWN}
    entry_ids = [row.entry_id for row in ports.vault.records.of_subject(subject_ref) if row.status in held]
    restrict(ports, entry_ids, lift=lift)
    return entry_ids


def withdraw(ports: Ports, entry_id: EntryId, officer: Signer) -> Answer:
    """Take an entry out of circulation, signed by a DATA_OFFICER.

    Raises:
        NotFoundError: no record of one's own under this id.
        Refused: by the ledger.
    """
    ports.vault.records.get(entry_id)
    answer = ports.gateway.act(Withdraw(), entry_id, persons=[(officer, Role.DATA_OFFICER)])
    ports.vault.records.set_status([entry_id], RecordStatus.WITHDRAWN)
    return answer


def ledger_entry(ports: Ports, entry_id: EntryId) -> tuple[str, Entry]:
    """Give state and fields of an entry; NotFoundError where the ledger has none under this id."""
    found = ports.gateway.find(Entry, entry_id)
    if found is None:
        raise NotFoundError(f"the ledger has no entry {entry_id.hex()}: check the id")
    return found.state, found.fields


def check_labels(ports: Ports, labels: Sequence[Label]) -> None:
    """Raise a SettingsError for a kind that the chain does not list, or a level that is none."""
    kinds = frozenset(ports.gateway.engine.reads().words("catalog.kinds"))
    for label in labels:
        if label.kind not in kinds:
            raise SettingsError(f"kind {label.kind} is not on the chain's list: take a class that others share")
        if not 1 <= label.level <= DEEPEST_LEVEL:
            raise SettingsError(f"level is {label.level}, expected 1 to {DEEPEST_LEVEL}: correct it")


def candidate(ports: Ports, subject_ref: bytes) -> tuple[SubjectKey, int, EntryId]:
    """Give key, number and entry id that the patient's next record gets; `take` it in a transaction."""
    with ports.vault.transaction():
        year = civil_from_day(day_of(now(ports)))[0]
        key = ports.vault.subjects.find_key(subject_ref, year) or _new_key(subject_ref, year)
        ports.vault.subjects.put_keys([key])
        return key, key.next_j, _entry_id(ports, key, key.next_j)


def take(ports: Ports, key: SubjectKey, j: int) -> None:
    """Use up a number that `candidate` gave; inside the transaction that inserts the record's row.

    Raises:
        ConflictError: another record took it meanwhile: ask for the next one.
    """
    found = ports.vault.subjects.find_key(key.subject_ref, key.year)
    if found is None or found.next_j != j:
        raise ConflictError(f"number {j} of the subject key of {key.year} was taken meanwhile: ask for the next one")
    ports.vault.subjects.put_keys([msgspec.structs.replace(found, next_j=j + 1)])


def row_of(
    label: Label,
    sealed: SealedRecord,
    key: SubjectKey,
    j: int,
    *,
    entry_id: EntryId,
    salt: bytes,
    commitment: Digest,
) -> Record:
    """Make the vault's row of a record that is sealed and numbered."""
    return Record(
        entry_id=entry_id,
        root=sealed.root,
        data_key=sealed.data_key,
        salt=salt,
        level=label.level,
        true_size=sealed.true_size,
        subject_ref=label.subject_ref,
        year=key.year,
        j=j,
        source=label.source,
        encounter=label.encounter,
        canonical=label.canonical,
        kind=label.kind,
        status=RecordStatus.PREPARED,
        commitment=commitment,
        month=label.month,
        origin=label.origin.value,
        late=label.late,
        replaces=label.replaces,
        sensitivity=label.sensitivity,
        content_type=label.content_type,
    )


def publish_rows(ports: Ports, rows: Sequence[Record]) -> None:
    """Publish these prepared rows.

    Raises:
        Refused: the ledger refused one; the others landed.
    """
    outcome = _publish(ports, rows)
    if outcome.refused:
        raise outcome.refused[0][1]


def _publish(ports: Ports, rows: Sequence[Record]) -> Published:
    ordered = sorted(rows, key=lambda row: row.entry_id)
    keys = _keys_of(ports, ordered)
    replaced = ports.vault.records.find_many([row.replaces for row in ordered if row.replaces is not None])
    operations = [_operation(ports, row, keys[row.subject_ref, row.year], replaced) for row in ordered]
    answers = ports.gateway.send(operations)
    done: list[Record] = []
    refused: list[tuple[EntryId, Refused]] = []
    for row, answer in zip(ordered, answers, strict=True):
        if answer.ok or _has_landed(ports, row):
            done.append(msgspec.structs.replace(row, status=RecordStatus.PUBLISHED))
            old = replaced.get(row.replaces) if row.replaces is not None else None
            if old is not None:
                done.append(msgspec.structs.replace(old, status=RecordStatus.REPLACED))
            continue
        try:
            check(answer)
        except Refused as error:
            refused.append((row.entry_id, error))
    ports.vault.records.put(done)
    return Published(landed=len(ordered) - len(refused), refused=tuple(refused))


def _operation(ports: Ports, row: Record, key: SubjectKey, replaced: dict[bytes, Record]) -> Signed:
    said = {
        "tag": subject_tag(key.key, row.j),
        "root": row.root,
        "commitment": digest(row.commitment),
        "size_class": size_class(padded_size(row.true_size)),
        "kind": row.kind,
        "level": min(row.level, SHOWN_LEVEL),
        "month": row.month,
        "origin": Origin(row.origin),
        "late": row.late,
    }
    if row.replaces is None:
        command: Description = Publish(**said)  # type: ignore[arg-type]  # the same fields for both
        return Signed(core=ports.gateway.draft(command, row.entry_id, version=0).core)
    old = replaced.get(row.replaces)
    if old is not None:
        said["level"] = min(max(row.level, old.level), SHOWN_LEVEL)
    return Signed(core=ports.gateway.draft(Replace(**said), row.replaces).core)  # type: ignore[arg-type]  # as above


def _has_landed(ports: Ports, row: Record) -> bool:
    """Say whether an earlier attempt brought the row into the catalogue: a crash came between answer and vault."""
    found = ports.gateway.find(Entry, row.entry_id)
    return (
        found is not None
        and found.fields.root == row.root
        and found.fields.commitment == row.commitment
        and found.state in {EntryState.CURRENT, EntryState.DISPUTED}
    )


def _keys_of(ports: Ports, rows: Sequence[Record]) -> dict[tuple[bytes, int], SubjectKey]:
    found: dict[tuple[bytes, int], SubjectKey] = {}
    for year in {row.year for row in rows}:
        keys = ports.vault.subjects.find_keys({row.subject_ref for row in rows if row.year == year}, year)
        found |= {(subject_ref, year): key for subject_ref, key in keys.items()}
    return found


def _number(ports: Ports, subject_refs: Sequence[bytes]) -> list[tuple[SubjectKey, int]]:
    """Give each record the next number of its patient's key; inside a transaction, which makes them durable."""
    year = civil_from_day(day_of(now(ports)))[0]
    keys = ports.vault.subjects.find_keys(subject_refs, year)
    numbers: list[tuple[SubjectKey, int]] = []
    for subject_ref in subject_refs:
        key = keys.get(subject_ref) or _new_key(subject_ref, year)
        numbers.append((key, key.next_j))
        keys[subject_ref] = msgspec.structs.replace(key, next_j=key.next_j + 1)
    ports.vault.subjects.put_keys(keys.values())
    return numbers


def _new_key(subject_ref: bytes, year: int) -> SubjectKey:
    return SubjectKey(subject_ref=subject_ref, year=year, key=secrets.token_bytes(SUBJECT_KEY_BYTES), next_j=0)


def _entry_id(ports: Ports, key: SubjectKey, j: int) -> EntryId:
    return derive_entry_id(ports.gateway.engine.chain, ports.gateway.institution, subject_tag(key.key, j))

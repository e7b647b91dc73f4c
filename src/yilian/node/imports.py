"""Import FHIR at one institution: take what that institution made, seal it, then publish it in random order.

The file stays in the vault as received; others' encounters are counted and skipped; what belongs to no encounter stays
with the patient's home. Everything can be cut at any moment and started again: what is there already is passed over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from yilian.errors import NotFoundError
from yilian.node.host import Host
from yilian.node.organisations import Counted, OrganisationTable
from yilian.node.providers import providers_of
from yilian.node.registration import register
from yilian.standards.fhir.organisations import EncounterCounts, OrganisationMapping, home_of
from yilian.standards.fhir.reading import (
    ARCHIVE_ENDINGS,
    JSON_ENDINGS,
    BrokenInput,
    Limits,
    ReceivedBundle,
    read_bundles,
)
from yilian.standards.fhir.sensitivity import DEFAULT_CODES, SensitiveCodes
from yilian.standards.fhir.splitting import EncounterRecord, Patient, PatientBundle, split
from yilian.storage.vault.records import ReceivedFile, Record, RecordStatus
from yilian.workflows.catalog.opening import NewSummary, keep_received, keep_summaries, mark_imported
from yilian.workflows.catalog.service import NewRecord, prepare_records, publish_prepared, timely_since

BATCH = 500
WINDOW_BYTES = 16 << 20
"""Payload bytes held before they are sealed."""
NO_INSTITUTION = "(none)"

Report = Callable[[Mapping[str, int | float | str]], None]
_LIVE = {RecordStatus.PREPARED, RecordStatus.PUBLISHED}


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did; numbers, and places of what was broken. `others`: encounters skipped, by institution.

    `records` are new, `replaced` had other bytes before, `unchanged` were here already, `withheld` are withdrawn or
    erased here and stay so. `files_known` were imported whole before and not read again; a file of which nothing could
    be read never is.
    """

    files: int = 0
    files_known: int = 0
    patients: int = 0
    residents: int = 0
    homeless: int = 0
    records: int = 0
    replaced: int = 0
    unchanged: int = 0
    withheld: int = 0
    resources: int = 0
    bytes_received: int = 0
    bytes_sealed: int = 0
    published: int = 0
    refused: int = 0
    others: dict[str, int] = {}
    broken: list[BrokenInput] = []
    mapping: tuple[str, ...] = ()
    seconds: float = 0.0

    def figures(self) -> dict[str, object]:
        """Give it for a job's progress: of what is broken the place, not the file's name, which may be a person's."""
        found: dict[str, object] = msgspec.structs.asdict(self)
        found["broken"] = [
            {"position": item.position, "entry": item.entry, "element": item.element, "reason": item.reason}
            for item in self.broken
        ]
        return found


class _Taken(msgspec.Struct, kw_only=True):
    """One patient of a window: own encounters, and the rest where this is the home."""

    position: int
    patient: Patient
    encounters: tuple[EncounterRecord, ...]
    summary: tuple[bytes, int, tuple[str, ...]] | None
    source: bytes


def run_import(
    host: Host,
    path: Path,
    table: OrganisationTable,
    *,
    explicit: Mapping[str, str] | None = None,
    explicit_only: bool = False,
    report: Report = lambda _: None,
    batch: int = BATCH,
    limits: Limits | None = None,
    codes: SensitiveCodes = DEFAULT_CODES,
) -> ImportReport:
    """Import a FHIR file, folder or archive at one institution.

    `report` is told how far it is and may raise to stop: what is sealed by then is published by the next import.

    Raises:
        NotFoundError: nothing lies at `path`.
        SettingsError: the mapping names an institution that is not here.
        UnavailableError: the disk or the ledger did not answer; start it again.
    """
    began = time.monotonic()
    work = _Import(host, table, report=report, batch=batch, limits=limits or Limits(), codes=codes)
    files = _input_files(path)
    kept = table.kept()
    unmoved = not explicit or all(kept.get(name) == slug for name, slug in explicit.items())
    received = zip(files, keep_received(host, files), strict=True)
    fresh = [(file, found) for file, (found, _) in received if not (found.is_imported and unmoved)]
    work.done.files = len(files)
    work.done.files_known = len(files) - len(fresh)
    work.done.bytes_received = sum(found.true_size for _, found in fresh)
    if fresh:
        bundles = work.count(fresh)
        mapping = table.map([found.digest for _, found in fresh], explicit, explicit_only=explicit_only)
        work.take_all(fresh, mapping, bundles)
    work.publish()
    if not work.done.refused:
        mark_imported(host, [found for _, found in fresh if found.digest not in work.unread])
    work.done.seconds = round(time.monotonic() - began, 3)
    return work.done


class _Import:
    """One import on its way: windows of patients are sealed by a second thread while the next ones are read."""

    def __init__(
        self,
        host: Host,
        table: OrganisationTable,
        *,
        report: Report,
        batch: int,
        limits: Limits,
        codes: SensitiveCodes,
    ) -> None:
        self.host = host
        self.table = table
        self.done = ImportReport()
        self.unread: set[bytes] = set()
        self._report = report
        self._batch = batch
        self._limits = limits
        self._codes = codes
        self._others: Counter[str] = Counter()
        self._window: list[_Taken] = []
        self._ids: set[str] = set()
        self._bytes = 0
        self._pending: Future[None] | None = None
        self._timely_since = timely_since(host)

    def count(self, files: Sequence[tuple[Path, ReceivedFile]]) -> int:
        """Count the organisations of files that this process has not counted yet; gives the number of bundles."""
        total = 0
        with self.table.lock:
            for file, found in files:
                counted = self.table.find(found.digest)
                if counted is None:
                    counted = self._counted(file, total)
                    self.table.remember(found.digest, counted)
                total += counted.bundles
        return total

    def take_all(self, files: Sequence[tuple[Path, ReceivedFile]], mapping: OrganisationMapping, bundles: int) -> None:
        """Read the files and seal what this institution made."""
        self.done.mapping = mapping.lines()
        institutions = mapping.institutions()
        began, position = time.monotonic(), 0
        with ThreadPoolExecutor(1, thread_name_prefix="import-seal") as sealer:
            for file, found in files:
                broken = read = 0
                for item in self._bundles(file):
                    self._take(item, position, found.digest, institutions)
                    broken, read = broken + isinstance(item, BrokenInput), read + isinstance(item, PatientBundle)
                    position += 1
                    self._tell("seal", position, bundles, began)
                    if self._is_full():
                        self._hand_over(sealer)
                if broken and not read:
                    self.unread.add(found.digest)
            self._hand_over(sealer)
            self._settle()
        self.done.others = dict(sorted(self._others.items()))

    def publish(self) -> None:
        """Publish all that is prepared, what an import before left as well."""
        began = time.monotonic()
        total = sum(1 for _ in self.host.vault.records.with_status(RecordStatus.PREPARED))
        sent = 0

        def tell(number: int) -> None:
            nonlocal sent
            sent += number
            self._tell("publish", sent, total, began)

        outcome = publish_prepared(self.host, progress=tell)
        self.done.published, self.done.refused = outcome.landed, len(outcome.refused)

    def _counted(self, file: Path, before: int) -> Counted:
        counts, bundles, began = EncounterCounts(), 0, time.monotonic()
        for item in read_bundles(file, self._limits):
            bundles += 1
            self._tell("count", before + bundles, 0, began)
            if isinstance(item, ReceivedBundle):
                counts.add(*providers_of(item))
        return Counted(counts=counts, bundles=bundles)

    def _bundles(self, file: Path) -> Iterator[PatientBundle | BrokenInput]:
        for item in read_bundles(file, self._limits):
            yield split(item, self._codes) if isinstance(item, ReceivedBundle) else item

    def _take(
        self, item: PatientBundle | BrokenInput, position: int, source: bytes, institutions: Mapping[str, str]
    ) -> None:
        if isinstance(item, BrokenInput):
            self.done.broken.append(msgspec.structs.replace(item, position=position))
            return
        slugs = [institutions.get(one.provider or "") for one in item.encounters]
        own = tuple(one for one, slug in zip(item.encounters, slugs, strict=True) if slug == self.host.slug)
        self._others.update(slug or NO_INSTITUTION for slug in slugs if slug != self.host.slug)
        home = home_of(Counter(slug for slug in slugs if slug is not None), self.table.communities)
        self.done.homeless += home is None
        if not own and home != self.host.slug:
            return
        rest = item.rest
        if any(one.encounter_id in self._ids for one in own):
            self._settle()
            self._seal(self._emptied())
        summary = (rest.payload, rest.level, rest.sensitivity) if home == self.host.slug else None
        taken = _Taken(position=position, patient=item.patient, encounters=own, summary=summary, source=source)
        self._window.append(taken)
        self._ids.update(one.encounter_id for one in own)
        self._bytes += sum(len(one.payload) for one in own) + (len(rest.payload) if summary else 0)

    def _is_full(self) -> bool:
        return len(self._ids) >= self._batch or self._bytes >= WINDOW_BYTES

    def _emptied(self) -> list[_Taken]:
        window, self._window, self._ids, self._bytes = self._window, [], set(), 0
        return window

    def _hand_over(self, sealer: ThreadPoolExecutor) -> None:
        self._settle()
        self._pending = sealer.submit(self._seal, self._emptied())

    def _settle(self) -> None:
        """Wait until the window before is durable; at most two are held."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _seal(self, window: Sequence[_Taken]) -> None:
        references = register(self.host.vault, [taken.patient for taken in window])
        known = self.host.vault.records.find_by_encounters(
            one.encounter_id for taken in window for one in taken.encounters
        )
        records: list[NewRecord] = []
        summaries: list[NewSummary] = []
        for taken, reference in zip(window, references, strict=True):
            if reference is None:
                reason = "lead to more than one registration: compare these first"
                self.done.broken.append(
                    BrokenInput(file="", position=taken.position, entry=-1, element="Patient.identifier", reason=reason)
                )
                continue
            self.done.patients += 1
            if taken.summary is not None:
                payload, level, sensitivity = taken.summary
                summaries.append(
                    NewSummary(subject_ref=reference, payload=payload, level=level, sensitivity=sensitivity)
                )
            for one in taken.encounters:
                records += self._new(one, reference, taken.source, known.get(one.encounter_id, []))
        self.done.residents += len(summaries)
        keep_summaries(self.host, summaries)
        prepare_records(self.host, records)
        self.done.bytes_sealed += sum(len(record.payload) for record in records)

    def _new(self, one: EncounterRecord, reference: bytes, source: bytes, known: Sequence[Record]) -> list[NewRecord]:
        live = next((row for row in known if row.status in _LIVE), None)
        if live is not None and live.canonical == one.duplicate_digest:
            self.done.unchanged += 1
            return []
        if live is None and known:
            self.done.withheld += 1
            return []
        self.done.records += live is None
        self.done.replaced += live is not None
        self.done.resources += one.resources
        return [
            NewRecord(
                subject_ref=live.subject_ref if live is not None else reference,
                payload=one.payload,
                kind=one.document_class,
                level=max(one.level, live.level) if live is not None else one.level,
                month=one.month,
                late=one.day < self._timely_since,
                sensitivity=one.sensitivity,
                source=source,
                encounter=one.encounter_id,
                canonical=one.duplicate_digest,
                replaces=live.entry_id if live is not None else None,
            )
        ]

    def _tell(self, phase: str, done: int, total: int, began: float) -> None:
        passed = max(time.monotonic() - began, 1e-3)
        rate = done / passed
        self._report(
            {
                "phase": phase,
                "done": done,
                "total": total,
                "bytes": self.done.bytes_received,
                "records": self.done.records,
                "resources": self.done.resources,
                "rate": round(rate, 1),
                "remaining_s": round(max(total - done, 0) / rate, 1) if rate else 0.0,
            }
        )


def _input_files(path: Path) -> list[Path]:
    """List the files of an input; a file of another kind counts only where it was named itself."""
    if not path.exists():
        raise NotFoundError(f"nothing lies at {path}: name a FHIR file, a folder or an archive")
    if path.is_file():
        return [path]
    endings = JSON_ENDINGS + ARCHIVE_ENDINGS
    # a link in the folder would name a file that the caller itself may not read
    there = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return sorted(file for file in there if file.name.lower().endswith(endings))

"""Screen an institution's residents for cardiovascular risk: from its own sealed records, results sealed in its vault.

Residents are the patients whose home this institution is. Nothing is invented: what a model lacks is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from yilian.clinic.screening import CONSTANTS_VERSION, Inputs, RiskClass, screen
from yilian.errors import NotFoundError, VerificationError
from yilian.node.host import Host
from yilian.standards.fhir.findings import Findings, Region, screening_findings
from yilian.storage.vault.records import RecordStatus
from yilian.storage.vault.releases import Note, NoteKind
from yilian.values import Day, KeyId, day_of
from yilian.workflows.catalog.opening import open_row, open_summary
from yilian.workflows.catalog.service import now

LEAST_AGE, GREATEST_AGE = 30, 79
"""No model answers outside these ages: such residents' records are not opened."""
BLIND_DOMAIN = "screening"

Report = Callable[[Mapping[str, int | float | str]], None]


class ScreeningResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a screening said of one resident; for the eyes of the institution's physicians only.

    `risk_class`, `model` and `percent` are None where no model could answer; `missing` names what the first model
    lacks. `used` are the inputs of the model that decided. `is_deceased` and `is_out_of_age`: not screened.
    """

    subject_ref: bytes
    on: Day
    version: str
    risk_class: RiskClass | None = None
    model: str | None = None
    percent: float | None = None
    missing: tuple[str, ...] = ()
    used: dict[str, float | bool | str] = {}
    is_deceased: bool = False
    is_out_of_age: bool = False

    @property
    def is_screened(self) -> bool:
        """Whether a model answered."""
        return self.risk_class is not None


class ScreeningReport(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of a run over all residents."""

    residents: int
    screened: int
    high: int
    medium: int
    low: int
    unanswered: int
    out_of_age: int
    deceased: int
    unreadable: int
    seconds: float

    def figures(self) -> dict[str, object]:
        """Give it for a job's progress."""
        return msgspec.structs.asdict(self)


def run_screening(
    host: Host,
    *,
    by: KeyId,
    on: Day | None = None,
    region: Region | None = None,
    report: Report = lambda _: None,
) -> ScreeningReport:
    """Screen all residents of an institution and keep each one's result sealed in its vault.

    Args:
        host: the institution.
        by: key of the physician who asked for it; stands with each result.
        on: day of the screening, by default today at UTC+8.
        region: where the community lies; without it China-PAR answers that it is missing.
        report: is told how far it is, and may raise to stop; what is screened by then stays.

    Raises:
        NotFoundError: the institution is nobody's home.
    """
    began = time.monotonic()
    day = day_of(now(host)) if on is None else on
    residents = [summary.subject_ref for summary in host.vault.records.summaries()]
    if not residents:
        raise NotFoundError(f"{host.slug} is nobody's home: screen at a community centre, after an import")
    unreadable = 0
    found: list[ScreeningResult] = []
    for position, subject_ref in enumerate(residents, 1):
        try:
            found.append(screen_subject(host, subject_ref, on=day, region=region))
        except VerificationError:
            unreadable += 1
        report(_progress(position, len(residents), time.monotonic() - began))
    _keep(host, found, by)
    return _report(found, len(residents), unreadable, time.monotonic() - began)


def screen_subject(host: Host, subject_ref: bytes, *, on: Day, region: Region | None = None) -> ScreeningResult:
    """Screen one patient by what this institution holds of him or her.

    Raises:
        VerificationError: a record does not open, or is no payload of ours.
    """
    summary = open_summary(host, subject_ref)
    rest = [] if summary is None else [summary]
    first = _findings(rest, on, region)
    bare = ScreeningResult(subject_ref=subject_ref, on=on, version=CONSTANTS_VERSION)
    if first.deceased:
        return msgspec.structs.replace(bare, is_deceased=True)
    if first.age is not None and not LEAST_AGE <= first.age <= GREATEST_AGE:
        return msgspec.structs.replace(bare, is_out_of_age=True)
    rows = host.vault.records.of_subject(subject_ref)
    published = [row for row in rows if row.status == RecordStatus.PUBLISHED and row.encounter]
    findings = _findings([*rest, *(open_row(host, row) for row in published)], on, region)
    screening = screen(msgspec.convert(findings, Inputs, from_attributes=True))
    decided = screening.decided
    if decided is None:
        return msgspec.structs.replace(bare, missing=screening.missing)
    return ScreeningResult(
        subject_ref=subject_ref,
        on=on,
        version=screening.version,
        risk_class=decided.risk_class,
        model=decided.model.value,
        percent=decided.percent,
        missing=screening.missing,
        used=decided.used,
    )


def results(host: Host, risk_class: RiskClass | None = None) -> list[ScreeningResult]:
    """Give the latest results of all residents, or those of a class, the highest risk first.

    The caller has made sure that who asks is a physician of this institution.
    """
    found = (_result(note) for note in host.vault.releases.notes(NoteKind.SCREENING))
    wanted = [item for item in found if risk_class is None or item.risk_class == risk_class]
    return sorted(wanted, key=lambda item: (-(item.percent or 0.0), item.subject_ref))


def result_of(host: Host, subject_ref: bytes) -> ScreeningResult | None:
    """Give the latest result of one patient, or None."""
    note = host.vault.releases.find_note(_about(host, subject_ref), NoteKind.SCREENING)
    return None if note is None else _result(note)


def proposals(host: Host) -> list[ScreeningResult]:
    """Give whom to refer: residents of class HIGH of whom no referral of this institution is known yet."""
    referred = {note.body for note in host.vault.releases.notes(NoteKind.CASE_SUBJECT)}
    return [item for item in results(host, RiskClass.HIGH) if item.subject_ref not in referred]


def _findings(payloads: Iterable[bytes], on: Day, region: Region | None) -> Findings:
    try:
        return screening_findings(payloads, on=on, region=region)
    except msgspec.DecodeError as error:
        raise VerificationError("a record of this patient is no collection of entries: verify it") from error


def _keep(host: Host, found: Iterable[ScreeningResult], by: KeyId) -> None:
    moment = now(host)
    with host.vault.transaction():
        for item in found:
            note = Note(
                about=_about(host, item.subject_ref),
                kind=NoteKind.SCREENING,
                by=by,
                time=moment,
                body=msgspec.json.encode(item),
            )
            host.vault.releases.put_note(note)


def _about(host: Host, subject_ref: bytes) -> bytes:
    return host.vault.blind(BLIND_DOMAIN, subject_ref)


def _result(note: Note) -> ScreeningResult:
    return msgspec.json.decode(note.body, type=ScreeningResult)


def _progress(done: int, total: int, passed: float) -> dict[str, int | float | str]:
    rate = done / max(passed, 1e-3)
    return {
        "phase": "screen",
        "done": done,
        "total": total,
        "rate": round(rate, 1),
        "remaining_s": round((total - done) / rate, 1),
    }


def _report(found: list[ScreeningResult], residents: int, unreadable: int, seconds: float) -> ScreeningReport:
    classes = [item.risk_class for item in found]
    return ScreeningReport(
        residents=residents,
        screened=sum(item.is_screened for item in found),
        high=classes.count(RiskClass.HIGH),
        medium=classes.count(RiskClass.MEDIUM),
        low=classes.count(RiskClass.LOW),
        unanswered=sum(not (item.is_screened or item.is_deceased or item.is_out_of_age) for item in found),
        out_of_age=sum(item.is_out_of_age for item in found),
        deceased=sum(item.is_deceased for item in found),
        unreadable=unreadable,
        seconds=round(seconds, 3),
    )

"""Refer a resident and answer a referral: what spans catalogue, consent and referral, put together.

The referrer publishes the sealed request, has the consent signed (by the wallet, or as the home that holds the paper),
and creates the referral over its own records. The receiver matches who arrived, attests, and completes with a result.
Every step is the same operation that a person would send by hand; nothing here has a way around a gate.
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from yilian.crypto.suite import Signer
from yilian.errors import ConflictError, NotFoundError, Refused, VerificationError
from yilian.ledger.cases import Patient
from yilian.ledger.members import Role
from yilian.node.host import Host
from yilian.node.registration import find_subject, identifiers_of, identity_of, register
from yilian.node.screening import result_of
from yilian.standards.fhir import splitting
from yilian.standards.fhir.reading import BrokenInput, parse_bundle
from yilian.storage.vault.records import Record, RecordStatus
from yilian.storage.vault.releases import Note, NoteKind
from yilian.values import (
    DAY,
    CaseId,
    EntryId,
    InstitutionId,
    OpId,
    UnixMillis,
    civil_from_day,
    day_of,
    digest,
    op_id,
    unix_millis,
)
from yilian.workflows.catalog.interface import RESTRICTED, Entry, EntryState
from yilian.workflows.catalog.opening import open_copy, open_record, open_summary
from yilian.workflows.catalog.service import DEEPEST_LEVEL, NewRecord, now, publish_records, this_month
from yilian.workflows.consent import asking
from yilian.workflows.consent.service import attest
from yilian.workflows.referral import documents, service
from yilian.workflows.referral.documents import RiskStatement
from yilian.workflows.referral.model import MAX_RECORDS, State, Urgency

REQUEST_KIND, PAPER_KIND, RESULT_KIND = "C0002", "C0031", "C0053"
"""Classes that other records share: an outpatient record, another signed consent, a discharge summary."""
RESULT_KINDS = frozenset({"C0045", "C0053"})
DELIVERIES_A_RECORD, RESULT_DELIVERIES, VIEW_DAYS = 2, 2, 90
_ADMINISTRATIVE = frozenset({"Patient", "Organization", "Practitioner", "PractitionerRole", "Location"})


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the referring physician asks for.

    `records` None: the most relevant are picked. `deliveries` None: two for each record. `language` of the consent.
    """

    subject_ref: bytes
    receiver: InstitutionId
    urgency: Urgency
    purpose: str
    specialty: str = ""
    records: tuple[EntryId, ...] | None = None
    deliveries: int | None = None
    view_days: int = VIEW_DAYS
    language: str = "zh"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request that stands in the catalogue, and what goes along with it."""

    request: EntryId
    records: tuple[EntryId, ...]
    deliveries: int


class Witnessed(msgspec.Struct, frozen=True, kw_only=True):
    """A consent on paper: the scan's bytes, and the PHYSICIAN or NURSE who saw it signed."""

    paper: bytes
    content_type: str
    witness: Signer
    role: Role


class Referred(msgspec.Struct, frozen=True, kw_only=True):
    """A referral that was requested."""

    case: CaseId
    consent: CaseId
    request: EntryId
    records: tuple[EntryId, ...]


def refer(host: Host, wish: Wish, physician: Signer, witnessed: Witnessed) -> Referred:
    """Refer a custodial patient: request, paper, consent signed as the home, referral.

    Raises:
        NotFoundError: no such patient or receiver.
        ConflictError: nothing that could go along.
        Refused: by the ledger; what was published by then stays.
    """
    prepared = prepare_request(host, wish)
    consent = consent_on_paper(host, wish, prepared, witnessed)
    return refer_under(host, wish, prepared, physician, consent=consent, patient=_home(host))


def prepare_request(host: Host, wish: Wish) -> Prepared:
    """Publish the sealed request of a referral.

    Raises:
        NotFoundError: no such patient or receiver.
        ConflictError: no record that could go along.
    """
    records = wish.records if wish.records is not None else select_records(host, wish.subject_ref)
    if not records:
        raise ConflictError("no record of this patient can go along, expected 1 to 31 of one's own: publish one first")
    member = host.gateway.engine.reads().member(wish.receiver)
    if member is None:
        raise NotFoundError(f"there is no member {wish.receiver.hex()}: check the receiver")
    payload = documents.build_request(
        patient=_patient_resource(host, wish.subject_ref),
        purpose=wish.purpose,
        specialty=wish.specialty,
        urgency=wish.urgency,
        authored=day_of(now(host)),
        receiver=member.fields.name,
        records=records,
        risk=_risk(host, wish.subject_ref),
        summary=_summary(host, wish.subject_ref),
    )
    (request,) = publish_records(host, [_document(host, wish.subject_ref, payload, REQUEST_KIND)])
    deliveries = wish.deliveries if wish.deliveries is not None else DELIVERIES_A_RECORD * len(records)
    return Prepared(request=request, records=tuple(records), deliveries=deliveries)


def consent_on_paper(host: Host, wish: Wish, prepared: Prepared, witnessed: Witnessed) -> CaseId:
    """Publish the scan, propose the consent with this institution as home, and sign it; gives the consent.

    Raises:
        Refused: by the ledger, such as CUSTODIAL_CAP.
    """
    scan = msgspec.structs.replace(
        _document(host, wish.subject_ref, witnessed.paper, PAPER_KIND), content_type=witnessed.content_type
    )
    (paper_entry,) = publish_records(host, [scan])
    commitment = host.vault.records.get(paper_entry).commitment
    consent = propose_consent(host, wish, prepared, _home(host))
    asking.sign_as_home(
        host.gateway,
        consent,
        text=asking.text_digest(wish.language),
        paper=digest(commitment),
        paper_entry=paper_entry,
        witness=witnessed.witness,
        role=witnessed.role,
    )
    return consent


def propose_consent(host: Host, wish: Wish, prepared: Prepared, patient: Patient, *, op: OpId | None = None) -> CaseId:
    """Propose the consent of a referral; a wallet signs it through a draft, with the key it made for the case id.

    Raises:
        Refused: by the ledger.
    """
    reads = host.gateway.engine.reads()
    moment = host.gateway.engine.head().time
    policy = asking.treatment_policy(
        referrer=host.id,
        receiver=wish.receiver,
        result_kinds=reads.words("referral.result_classes"),
        begins=moment,
        ends=asking.latest_end(moment),
        maximum=reads.number("referral.request_deliveries") + prepared.deliveries + RESULT_DELIVERIES,
    )
    return asking.propose(host.gateway, patient, policy, language=wish.language, op=op)


def refer_under(
    host: Host,
    wish: Wish,
    prepared: Prepared,
    physician: Signer,
    *,
    consent: CaseId,
    patient: Patient,
    op: OpId | None = None,
) -> Referred:
    """Create the referral under a consent that is signed; `patient` speaks for this case alone.

    Raises:
        Refused: by the ledger, such as NO_TREATMENT_BASIS.
    """
    terms = _terms(host, wish, prepared, consent=consent, patient=patient)
    case = service.create(host.gateway, terms, physician, op=op)
    return _noted(host, case, wish, terms)


def refer_down(host: Host, completed: CaseId, wish: Wish, physician: Signer, *, witnessed: Witnessed) -> Referred:
    """Close a completed referral and open the follow-up, with request, paper and consent of its own.

    Raises:
        ConflictError: the referral is not COMPLETED.
        Refused: by the ledger.
    """
    service.get_referral(host.gateway, completed, State.COMPLETED)
    prepared = prepare_request(host, wish)
    consent = consent_on_paper(host, wish, prepared, witnessed)
    terms = _terms(host, wish, prepared, consent=consent, patient=_home(host))
    op = op_id(os.urandom(16))
    case = service.refer_down(host.gateway, completed, terms, physician, op=op)
    return _noted(host, case, wish, terms)


def complete(
    host: Host,
    case: CaseId,
    physician: Signer,
    *,
    text: str,
    title: str = "出院小结",
    kind: str = RESULT_KIND,
    deliveries: int = RESULT_DELIVERIES,
    view_days: int = VIEW_DAYS,
) -> EntryId:
    """Publish the result of a referral and give it back to the referrer; gives the result's entry.

    Where the consent is not in force any more the case is completed with RESULT_WITHHELD.

    Raises:
        ConflictError: the patient has not arrived.
        NotFoundError: the request was never fetched here.
        Refused: by the ledger.
    """
    found = service.get_referral(host.gateway, case, State.IN_CARE)
    subject_ref = attest_arrival(host, case)
    payload = documents.build_result(
        patient=_patient_resource(host, subject_ref), kind=kind, title=title, text=text, authored=day_of(now(host))
    )
    (result,) = publish_records(host, [_document(host, subject_ref, payload, kind)])
    service.complete(
        host.gateway,
        case,
        result,
        physician,
        deliveries=deliveries,
        view_until=min(_until(host, view_days), found.fields.view_until),
    )
    return result


def attest_arrival(host: Host, case: CaseId) -> bytes:
    """Match the patient who arrived, by the request that was fetched, attest the consent, and give the registration.

    A consent that is not in force any more cannot be attested: the result will be withheld.

    Raises:
        NotFoundError: no such referral, or its request was never fetched here.
        VerificationError: the request is damaged.
        ConflictError: its identifiers lead to several registrations.
    """
    found = service.get_referral(host.gateway, case)
    subject_ref = match_patient(host, open_copy(host, found.fields.request))
    _note_subject(host, case, subject_ref)
    with suppress(Refused):
        attest(host, found.fields.consent)
    return subject_ref


def match_patient(host: Host, request: bytes) -> bytes:
    """Give the registration of the patient of a request, registering whom nobody here knows yet.

    Raises:
        VerificationError: the bytes are no request.
        ConflictError: the identifiers lead to several registrations: a person compares them.
    """
    parsed = parse_bundle("request", request)
    bundle = parsed if isinstance(parsed, BrokenInput) else splitting.split(parsed)
    if isinstance(bundle, BrokenInput):
        raise VerificationError(
            f"a request of {len(request)} bytes does not parse ({bundle.element}: {bundle.reason}), expected a FHIR "
            "collection with one patient: ask the referrer"
        )
    known = find_subject(host.vault, identifiers_of(bundle.patient))
    if known is not None:
        return known.subject_ref
    (made,) = register(host.vault, [bundle.patient])
    if made is None:
        raise ConflictError("the identifiers lead to several registrations, expected one: compare them first")
    return made


def read_request(host: Host, case: CaseId) -> tuple[documents.ReferralRequest, bytes]:
    """Give the request of a referral, own or fetched, and the Patient resource in it.

    Raises:
        NotFoundError: no such referral, or not fetched here yet.
        VerificationError: it does not hold.
    """
    found = service.get_referral(host.gateway, case).fields
    content = _own_or_copy(host, found.request, own=found.referrer == host.id)
    return documents.read_request(content), documents.patient_of(content) or b"{}"


def read_result(host: Host, case: CaseId) -> documents.ReferralResult:
    """Give the result of a referral, own or fetched; errors as `read_request`."""
    found = service.get_referral(host.gateway, case).fields
    if found.result is None:
        raise NotFoundError(f"referral {case.hex()} has no result yet: wait for it")
    return documents.read_result(_own_or_copy(host, found.result, own=found.receiver == host.id))


def select_records(host: Host, subject_ref: bytes, limit: int = MAX_RECORDS) -> tuple[EntryId, ...]:
    """Pick what goes along: own records of care, current, unrestricted, not of level 5, the newest first.

    Within a month stays and emergencies come before visits.
    """
    rows = [row for row in host.vault.records.of_subject(subject_ref) if _is_of_care(row)]
    rows.sort(key=lambda row: (-row.month, row.kind == REQUEST_KIND, row.entry_id))
    picked: list[EntryId] = []
    for row in rows:
        found = host.gateway.find(Entry, row.entry_id)
        if found is not None and found.state == EntryState.CURRENT and RESTRICTED not in found.header.flags:
            picked.append(row.entry_id)
        if len(picked) == limit:
            break
    return tuple(picked)


def _is_of_care(row: Record) -> bool:
    of_care = bool(row.encounter) or row.kind in RESULT_KINDS
    return of_care and row.status == RecordStatus.PUBLISHED and row.level < DEEPEST_LEVEL


def _terms(host: Host, wish: Wish, prepared: Prepared, *, consent: CaseId, patient: Patient) -> service.Terms:
    return service.Terms(
        receiver=wish.receiver,
        urgency=wish.urgency,
        request=prepared.request,
        records=prepared.records,
        consent=consent,
        deliveries=prepared.deliveries,
        view_until=_until(host, wish.view_days),
        patient=patient,
    )


def _noted(host: Host, case: CaseId, wish: Wish, terms: service.Terms) -> Referred:
    _note_subject(host, case, wish.subject_ref)
    return Referred(case=case, consent=terms.consent, request=terms.request, records=terms.records)


def _note_subject(host: Host, case: CaseId, subject_ref: bytes) -> None:
    note = Note(about=case, kind=NoteKind.CASE_SUBJECT, by=host.id, time=now(host), body=subject_ref)
    host.vault.releases.put_note(note)


def _own_or_copy(host: Host, entry_id: EntryId, *, own: bool) -> bytes:
    return open_record(host, entry_id) if own else open_copy(host, entry_id)


def _home(host: Host) -> Patient:
    return Patient(key=None, home=host.id)


def _until(host: Host, days: int) -> UnixMillis:
    return unix_millis(host.gateway.engine.head().time + days * DAY)


def _document(host: Host, subject_ref: bytes, payload: bytes, kind: str) -> NewRecord:
    host.vault.subjects.get(subject_ref)
    return NewRecord(subject_ref=subject_ref, payload=payload, kind=kind, level=4, month=this_month(host))


def _risk(host: Host, subject_ref: bytes) -> RiskStatement | None:
    found = result_of(host, subject_ref)
    if found is None or found.risk_class is None or found.model is None or found.percent is None:
        return None
    return RiskStatement(
        model=found.model, version=found.version, risk_class=found.risk_class.value, percent=found.percent
    )


def _summary(host: Host, subject_ref: bytes) -> list[bytes]:
    """Give what belongs to no encounter, as received; nothing where it is of level 5: that needs a leave of its own."""
    kept = host.vault.records.find_summary(subject_ref)
    if kept is None or kept.level >= DEEPEST_LEVEL:
        return []
    payload = open_summary(host, subject_ref) or b""
    return [bytes(raw) for raw in splitting.payload_entries(payload) if _kind(raw) not in _ADMINISTRATIVE]


def _patient_resource(host: Host, subject_ref: bytes) -> bytes:
    """Give the Patient as received where this is the home, else as the registration has it."""
    payload = open_summary(host, subject_ref)
    found = documents.patient_of(payload) if payload is not None else None
    if found is not None:
        return found
    identity = identity_of(host.vault.subjects.get(subject_ref))
    resource: dict[str, object] = {
        "resourceType": "Patient",
        "id": identity.patient_id.rpartition("|")[2],
        "identifier": [_present(item) for item in identity.identifiers],
        "name": [_present(item) for item in identity.names],
        "telecom": [_present(item) for item in identity.telecom],
        "address": [_present(item) for item in identity.addresses],
        "gender": identity.sex or "unknown",
    }
    if identity.birth_day is not None:
        year, month, day = civil_from_day(identity.birth_day)
        resource["birthDate"] = f"{year:04}-{month:02}-{day:02}"
    return msgspec.json.encode({name: value for name, value in resource.items() if value})


def _present(element: msgspec.Struct) -> object:
    plain: dict[str, object] = msgspec.to_builtins(element)
    return {name: value for name, value in plain.items() if value}


class _Resource(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name


class _Entry(msgspec.Struct):
    resource: _Resource


def _kind(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=_Entry).resource.resourceType

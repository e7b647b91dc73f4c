"""Split a patient's bundle into one record per encounter, made of the received bytes of its entries.

A record's payload is a collection bundle whose entries are the slices as received, in their order, unchanged: `1.50`
stays `1.50`. What refers to no encounter (the patient, allergies, goals, organisations …) is the `rest`, which stays
with the patient's home. No entry is lost and none stands twice.

Class of a record (WS/T 500-2016; none that occurs once a patient), by `Encounter.class` (HL7 v3 ActCode):
emergency and observation (EMER, OBSENC) C0003, stays (IMP, ACUTE, NONAC, SS, PRENC) C0053, all else C0002.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypedDict, TypeVar

import msgspec

from yilian.standards.fhir.model import (
    NOTHING,
    Address,
    CodeableConcept,
    Coding,
    ContactPoint,
    Element,
    EncounterElements,
    HumanName,
    Identifier,
    Instant,
    Meta,
    OrganizationElements,
    PatientElements,
    Reference,
    parse_instant,
)
from yilian.standards.fhir.organisations import Organisation
from yilian.standards.fhir.reading import BrokenElementError, BrokenInput, ReceivedBundle
from yilian.standards.fhir.sensitivity import (
    DEFAULT_CODES,
    DEFAULT_LEVEL,
    SENSITIVE_LEVEL,
    SensitiveCodes,
    sensitivities,
)
from yilian.values import Day, Digest, Month, digest, month_of

EMERGENCY, OUTPATIENT, DISCHARGE = "C0003", "C0002", "C0053"
DOCUMENT_CLASSES = {"EMER": EMERGENCY, "OBSENC": EMERGENCY} | dict.fromkeys(
    ("IMP", "ACUTE", "NONAC", "SS", "PRENC"), DISCHARGE
)
UNKNOWN_CLASS = "UNK"

_OPEN, _CLOSE = b'{"resourceType":"Bundle","type":"collection","entry":[', b"]}"
_CLAIMS = frozenset({"Claim", "ExplanationOfBenefit"})
_IN_CONTEXT = frozenset({"DocumentReference", "MedicationAdministration", "MedicationDispense", "ChargeItem"})
_CODED = frozenset(
    {"Condition", "Observation", "Procedure", "DiagnosticReport", "ServiceRequest", "AllergyIntolerance", "Flag"}
)


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """Who the bundle is about, for the encrypted registration only; never for a log or the ledger."""

    patient_id: str
    identifiers: tuple[Identifier, ...]
    names: tuple[HumanName, ...]
    telecom: tuple[ContactPoint, ...]
    addresses: tuple[Address, ...]
    sex: str | None
    birth_day: Day | None
    deceased: bool


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A collection bundle of received entries.

    `duplicate_digest` is equal where nothing but `meta.versionId`, `meta.lastUpdated`, white space and order differ;
    it serves the search for duplicates, off the ledger only.
    `sensitivity` names why `level` is 5, and is sealed with the data.
    """

    payload: bytes
    resources: int
    level: int
    sensitivity: tuple[str, ...]
    duplicate_digest: Digest


class EncounterRecord(Payload, frozen=True, kw_only=True):
    """One encounter and all entries that refer to it.

    `encounter_id` is `system|value` of its first identifier, else its id, else its fullUrl: the same in every export.
    `provider` is the `identifier.value` of its organisation, None where the bundle names none.
    `day` is the first day at UTC+8; `document_class` a WS/T 500 code.
    """

    encounter_id: str
    provider: str | None
    day: Day
    month: Month
    encounter_class: str
    document_class: str


class PatientBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A received bundle, split: every entry stands in exactly one of `encounters` or in `rest`."""

    name: str
    position: int
    sha256: Digest
    patient: Patient
    encounters: tuple[EncounterRecord, ...]
    rest: Payload
    organisations: tuple[Organisation, ...]
    resources: int


class _Context(Element, frozen=True, kw_only=True):
    reference: str | None = None
    encounter: tuple[Reference, ...] = ()


class _Item(Element, frozen=True, kw_only=True):
    encounter: tuple[Reference, ...] = ()


class _Resource(Element, frozen=True, kw_only=True):
    resource_type: str
    id: str | None = None
    meta: Meta | None = None
    encounter: Reference | tuple[Reference, ...] | None = None
    claim: msgspec.Raw = NOTHING
    context: msgspec.Raw = NOTHING
    item: msgspec.Raw = NOTHING
    code: msgspec.Raw = NOTHING


class _Entry(Element, frozen=True, kw_only=True):
    resource: _Resource
    full_url: str | None = None


class _EncounterEntry(msgspec.Struct):
    resource: EncounterElements


class _PatientEntry(msgspec.Struct):
    resource: PatientElements


class _OrganizationEntry(msgspec.Struct):
    resource: OrganizationElements


class _Whole(Element, frozen=True, kw_only=True):
    resource: dict[str, object]


class _PayloadFields(TypedDict):
    payload: bytes
    resources: int
    level: int
    sensitivity: tuple[str, ...]
    duplicate_digest: Digest


T = TypeVar("T")

_ENTRY = msgspec.json.Decoder(_Entry)
_ENCOUNTERS = msgspec.json.Decoder(_EncounterEntry)
_PATIENTS = msgspec.json.Decoder(_PatientEntry)
_ORGANIZATIONS = msgspec.json.Decoder(_OrganizationEntry)
# Numbers keep their digits, so that 1.50 and 1.5 are two contents.
_WHOLE = msgspec.json.Decoder(_Whole, float_hook=lambda text: msgspec.Raw(text.encode()))
_SORTED = msgspec.json.Encoder(order="sorted")
_CODE = msgspec.json.Decoder(CodeableConcept)
_ITEMS = msgspec.json.Decoder(list[_Item])
_CONTEXT = msgspec.json.Decoder(_Context)
_REFERENCE = msgspec.json.Decoder(Reference)


def split(bundle: ReceivedBundle, codes: SensitiveCodes = DEFAULT_CODES) -> PatientBundle | BrokenInput:
    """Split one patient's bundle into records; a bundle that breaks FHIR is a `BrokenInput` as a whole."""
    try:
        return _Splitting(bundle, codes).result()
    except BrokenElementError as broken:
        return broken.in_file(bundle.name, bundle.position)


def payload_entries(payload: bytes) -> list[msgspec.Raw]:
    """Give the entries of a record's payload, as received.

    Raises:
        msgspec.DecodeError: not a payload of ours.
    """
    return msgspec.json.decode(payload, type=_Collection).entry


class _Collection(msgspec.Struct):
    entry: list[msgspec.Raw]


class _Splitting:
    """One bundle on its way through: entries decoded once, references resolved, groups collected."""

    def __init__(self, bundle: ReceivedBundle, codes: SensitiveCodes) -> None:
        self.bundle, self.codes = bundle, codes
        self.entries = [_decode(index, "entry", _ENTRY, raw) for index, raw in enumerate(bundle.entries)]
        self.kinds = [entry.resource.resource_type for entry in self.entries]
        self.where = self._index()

    def result(self) -> PatientBundle:
        patients = self._of_kind("Patient")
        if len(patients) != 1:
            raise BrokenElementError(-1, "Bundle.entry", f"{len(patients)} Patient resources: send one a bundle")
        groups: dict[int, list[int]] = {index: [] for index in self._of_kind("Encounter")}
        rest: list[int] = []
        for index in range(len(self.entries)):
            home = index if index in groups else self._encounter_of(index)
            (groups[home] if home is not None else rest).append(index)
        found = {index: self._organisation(index) for index in self._of_kind("Organization")}
        records = tuple(self._record(index, members, found) for index, members in groups.items())
        return PatientBundle(
            name=self.bundle.name,
            position=self.bundle.position,
            sha256=self.bundle.sha256,
            patient=self._patient(patients[0]),
            encounters=records,
            rest=Payload(**self._payload(rest)),
            organisations=tuple(found.values()),
            resources=len(self.entries),
        )

    def _of_kind(self, kind: str) -> list[int]:
        return [index for index, found in enumerate(self.kinds) if found == kind]

    def _index(self) -> dict[str, int]:
        where: dict[str, int] = {}
        for index, entry in enumerate(self.entries):
            if entry.full_url is not None:
                if entry.full_url in where:
                    raise BrokenElementError(index, "entry.fullUrl", "names an earlier entry too: send each once")
                where[entry.full_url] = index
            if entry.resource.id is not None:
                where.setdefault(f"{self.kinds[index]}/{entry.resource.id}", index)
        return where

    def _resolve(self, reference: str | None) -> int | None:
        """Find a literal reference: by fullUrl, else by its last `Type/id`, without a version."""
        if reference is None:
            return None
        found = self.where.get(reference)
        if found is None and "/" in reference:
            parts = reference.partition("/_history/")[0].split("/")
            found = self.where.get("/".join(parts[-2:]))
        return found

    def _encounter_of(self, index: int) -> int | None:
        for reference in self._encounter_references(index):
            found = self._resolve(reference.reference)
            if found is not None and self.kinds[found] == "Encounter":
                return found
        return None

    def _encounter_references(self, index: int) -> tuple[Reference, ...]:
        resource, kind = self.entries[index].resource, self.kinds[index]
        if resource.encounter is not None:
            return resource.encounter if isinstance(resource.encounter, tuple) else (resource.encounter,)
        if kind in _IN_CONTEXT and resource.context:
            context = _decode(index, f"{kind}.context", _CONTEXT, resource.context)
            return (Reference(reference=context.reference), *context.encounter)
        if kind not in _CLAIMS:
            return ()
        items = _decode(index, f"{kind}.item", _ITEMS, resource.item) if resource.item else []
        named = tuple(reference for item in items for reference in item.encounter)
        if not named and kind == "ExplanationOfBenefit" and resource.claim:
            claim = self._resolve(_decode(index, f"{kind}.claim", _REFERENCE, resource.claim).reference)
            if claim is not None and self.kinds[claim] == "Claim":
                return self._encounter_references(claim)
        return named

    def _record(self, index: int, members: list[int], organisations: dict[int, Organisation]) -> EncounterRecord:
        raw = self.bundle.entries[index]
        elements = _decode(index, "entry", _ENCOUNTERS, raw).resource
        start = elements.period and (elements.period.start or elements.period.end)
        if not start:
            raise BrokenElementError(index, "Encounter.period.start", "missing: a record needs its day")
        day = _instant(index, "Encounter.period.start", start).day
        code = (elements.class_ and elements.class_.code) or UNKNOWN_CLASS
        return EncounterRecord(
            encounter_id=self._id(index, elements.identifier, elements.id),
            provider=self._provider(elements.service_provider, organisations),
            day=day,
            month=month_of(day),
            encounter_class=code,
            document_class=DOCUMENT_CLASSES.get(code, OUTPATIENT),
            **self._payload(members, *(coding for reason in elements.reason_code for coding in reason.coding)),
        )

    def _id(self, index: int, identifiers: tuple[Identifier, ...], resource_id: str | None) -> str:
        for identifier in identifiers:
            if identifier.value:
                return f"{identifier.system or ''}|{identifier.value}"
        found = resource_id or self.entries[index].full_url
        if not found:
            kind = self.kinds[index]
            raise BrokenElementError(index, f"{kind}.id", "no identifier, id or fullUrl: send one of them")
        return found

    def _provider(self, reference: Reference | None, organisations: dict[int, Organisation]) -> str | None:
        """Give the organisation's identifier.value: in the bundle, in a logical or in a conditional reference."""
        if reference is None:
            return None
        found = self._resolve(reference.reference)
        if found is not None and found in organisations:
            return organisations[found].identifier
        if reference.identifier is not None and reference.identifier.value:
            return reference.identifier.value
        asked, question, search = (reference.reference or "").partition("?identifier=")
        if question and asked == "Organization":
            return search.rpartition("|")[2] or None
        return None

    def _organisation(self, index: int) -> Organisation:
        elements = _decode(index, "entry", _ORGANIZATIONS, self.bundle.entries[index]).resource
        value = next((identifier.value for identifier in elements.identifier if identifier.value), None)
        kinds = [coding.code for concept in elements.type for coding in concept.coding if coding.code]
        return Organisation(
            identifier=value or self._id(index, (), elements.id),
            name=elements.name or "",
            type=kinds[0] if kinds else "",
        )

    def _patient(self, index: int) -> Patient:
        elements = _decode(index, "entry", _PATIENTS, self.bundle.entries[index]).resource
        born = elements.birth_date
        return Patient(
            patient_id=self._id(index, elements.identifier, elements.id),
            identifiers=elements.identifier,
            names=elements.name,
            telecom=elements.telecom,
            addresses=elements.address,
            sex=elements.gender,
            birth_day=_instant(index, "Patient.birthDate", born).day if born else None,
            deceased=bool(elements.deceased_boolean or elements.deceased_date_time),
        )

    def _payload(self, members: list[int], *codes: Coding) -> _PayloadFields:
        slices = [self.bundle.entries[index] for index in members]
        found: set[str] = set(sensitivities((), codes, self.codes))
        for index in members:
            resource, kind = self.entries[index].resource, self.kinds[index]
            labels = resource.meta.security if resource.meta else ()
            coded = kind in _CODED and resource.code
            coding = _decode(index, f"{kind}.code", _CODE, resource.code).coding if coded else ()
            if labels or coding:
                found |= sensitivities(labels, coding, self.codes)
        return _PayloadFields(
            payload=_OPEN + b",".join(slices) + _CLOSE,
            resources=len(slices),
            level=SENSITIVE_LEVEL if found else DEFAULT_LEVEL,
            sensitivity=tuple(sorted(found)),
            duplicate_digest=_duplicate_digest(members, slices),
        )


def _duplicate_digest(members: Iterable[int], slices: Iterable[msgspec.Raw]) -> Digest:
    found = []
    for index, raw in zip(members, slices, strict=True):
        resource = _decode(index, "entry", _WHOLE, raw).resource
        meta = resource.get("meta")
        if isinstance(meta, dict):
            kept = {name: value for name, value in meta.items() if name not in {"versionId", "lastUpdated"}}
            resource = {**resource, "meta": kept}
        found.append(hashlib.sha256(_SORTED.encode(resource)).digest())
    return digest(hashlib.sha256(b"".join(sorted(found))).digest())


def _decode(index: int, prefix: str, decoder: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenElementError.from_decoding(index, prefix, error) from None


def _instant(index: int, element: str, text: str) -> Instant:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise BrokenElementError(index, element, str(error)) from None

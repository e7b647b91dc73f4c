"""Find in a person's records what a cardiovascular screening asks for: latest measurements, conditions, treatment.

Rules, none of which invents anything:

- Observations count when final, amended or corrected and not after the day asked for; the latest of each kind counts.
  Both blood pressures come from one panel (LOINC 55284-4 or 85354-9 with 8480-6 and 8462-4; a lone 8480-6 counts too).
  A value in a unit not listed here is missing.
- Diabetes, hypertension: a Condition, neither resolved nor refuted, by ICD-10 (E10–E14; I10–I15) or a SNOMED CT number.
  No such Condition among the records means no.
- Treated for hypertension: a MedicationRequest with status active whose drug is antihypertensive by WHO ATC (C02, C03,
  C07, C08, C09), or whose reason is hypertension by code or by reference to such a Condition.
- Smoker: LOINC 72166-2 with a code of current smoking; former and never count as no; unknown is missing.
- Family history of atherosclerotic disease: our examination code `family-history-ascvd` as valueBoolean, or a
  FamilyMemberHistory with ICD-10 I20–I25 or I60–I69. Otherwise missing, never assumed.

Code numbers are facts; no terminology is built from them. LOINC codes: copyright Regenstrief Institute, loinc.org.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from yilian.standards.fhir.model import (
    NOTHING,
    CodeableConcept,
    Coding,
    Element,
    Period,
    Reference,
    parse_instant,
)
from yilian.standards.fhir.splitting import payload_entries
from yilian.values import Day, civil_from_day

EXAMINATION_SYSTEM = "urn:yilian:examination"
FAMILY_HISTORY = "family-history-ascvd"

LOINC, SNOMED, ATC = "http://loinc.org", "http://snomed.info/sct", "http://www.whocc.no/atc"
SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"
PRESSURE_PANELS = frozenset({"55284-4", "85354-9"})
SMOKING = "72166-2"
MEASURED = {
    "2093-3": "total_cholesterol_mg_dl",
    "14647-2": "total_cholesterol_mg_dl",
    "2085-9": "hdl_cholesterol_mg_dl",
    "14646-4": "hdl_cholesterol_mg_dl",
    "56086-2": "waist_cm",
    "8280-0": "waist_cm",
    "4548-4": "hba1c_percent",
    "39156-5": "bmi_kg_m2",
    SYSTOLIC: "systolic_mm_hg",
}
CHOLESTEROL_MG_DL_PER_MMOL_L = 1 / 0.0259
"""The factor of the China-PAR papers."""

_CHOLESTEROL = {"mg/dL": 1.0, "mmol/L": CHOLESTEROL_MG_DL_PER_MMOL_L}
_UNITS: dict[str, dict[str, float]] = {
    "total_cholesterol_mg_dl": _CHOLESTEROL,
    "hdl_cholesterol_mg_dl": _CHOLESTEROL,
    "waist_cm": {"cm": 1.0, "m": 100.0, "[in_i]": 2.54},
    "hba1c_percent": {"%": 1.0},
    "bmi_kg_m2": {"kg/m2": 1.0, "kg/m²": 1.0},
    "systolic_mm_hg": {"mm[Hg]": 1.0, "mmHg": 1.0},
    "diastolic_mm_hg": {"mm[Hg]": 1.0, "mmHg": 1.0},
}
_DONE = frozenset({"final", "amended", "corrected"})
_OVER = frozenset({"resolved", "inactive", "remission", "refuted", "entered-in-error"})
_DIABETES = frozenset({"44054006", "46635009", "73211009"})
_HYPERTENSION = frozenset({"59621000", "38341003"})
_SMOKES = frozenset({"LA18976-3", "LA18977-1", "LA18981-3", "LA18982-1", "449868002", "428041000124106", "77176002"})
_SMOKES_NOT = frozenset({"LA18978-9", "LA15920-4", "266919005", "8517006"})
_ANTIHYPERTENSIVE = ("C02", "C03", "C07", "C08", "C09")
_ATHEROSCLEROTIC = tuple(f"I{number}" for number in (*range(20, 26), *range(60, 70)))
_RACES = {"2106-3": "white", "2054-5": "black"}
_RACE_URL = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say on the day asked for; None is missing, units in the names, age in whole years.

    Its fields are named as those of `clinic.screening.Inputs`, so that
    `msgspec.convert(findings, Inputs, from_attributes=True)` gives the input of a screening.
    `measured` is the day of the latest blood pressure. `race` is white, black or other, from the US Core extension.
    `unreadable` counts resources of the kinds read here that are not as FHIR says: they say nothing.
    """

    age: int | None = None
    sex: str | None = None
    race: str | None = None
    deceased: bool = False
    systolic_mm_hg: float | None = None
    diastolic_mm_hg: float | None = None
    hypertension: bool = False
    hypertension_treated: bool = False
    total_cholesterol_mg_dl: float | None = None
    hdl_cholesterol_mg_dl: float | None = None
    waist_cm: float | None = None
    smoker: bool | None = None
    diabetes: bool = False
    family_history: bool | None = None
    hba1c_percent: float | None = None
    bmi_kg_m2: float | None = None
    north: bool | None = None
    urban: bool | None = None
    measured: Day | None = None
    unreadable: int = 0


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """Where a community lies, a setting of the institution: China-PAR asks for it and no record says it."""

    north: bool
    urban: bool


class _Quantity(Element, frozen=True, kw_only=True):
    value: float | None = None
    unit: str | None = None
    code: str | None = None


class _Component(Element, frozen=True, kw_only=True):
    code: CodeableConcept
    value_quantity: _Quantity | None = None


class _Observation(Element, frozen=True, kw_only=True):
    code: CodeableConcept
    status: str = ""
    effective_date_time: str | None = None
    effective_period: Period | None = None
    issued: str | None = None
    component: tuple[_Component, ...] = ()
    value_quantity: _Quantity | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_boolean: bool | None = None


class _Condition(Element, frozen=True, kw_only=True):
    id: str | None = None
    code: CodeableConcept | None = None
    clinical_status: CodeableConcept | None = None
    verification_status: CodeableConcept | None = None
    onset_date_time: str | None = None
    recorded_date: str | None = None


class _MedicationRequest(Element, frozen=True, kw_only=True):
    status: str = ""
    authored_on: str | None = None
    medication_codeable_concept: CodeableConcept | None = None
    reason_code: tuple[CodeableConcept, ...] = ()
    reason_reference: tuple[Reference, ...] = ()


class _FamilyMember(Element, frozen=True, kw_only=True):
    condition: tuple[_Condition, ...] = ()


class _Extension(Element, frozen=True, kw_only=True):
    url: str = ""
    value_coding: Coding | None = None
    extension: tuple[_Extension, ...] = ()


class _Patient(Element, frozen=True, kw_only=True):
    birth_date: str | None = None
    gender: str | None = None
    deceased_boolean: bool | None = None
    deceased_date_time: str | None = None
    extension: tuple[_Extension, ...] = ()


class _Kind(Element, frozen=True, kw_only=True):
    resource_type: str


class _Entry(Element, frozen=True, kw_only=True):
    full_url: str = ""
    resource: msgspec.Raw = NOTHING


Value: TypeAlias = float | bool


def screening_findings(payloads: Iterable[bytes], *, on: Day, region: Region | None = None) -> Findings:
    """Collect from a person's payloads (the encounters' and the rest) what a screening on a day may use.

    Raises:
        msgspec.DecodeError: a payload is no collection of entries with resources.
    """
    search = _Search(on)
    for payload in payloads:
        for raw in payload_entries(payload):
            search.take(raw)
    return search.result(region)


class _Search:
    """The latest of everything so far."""

    def __init__(self, on: Day) -> None:
        self.on = on
        self.latest: dict[str, tuple[int, Value | None]] = {}
        self.measured: Day | None = None
        self.unreadable = 0
        self.patient = _Patient()
        self.born: Day | None = None
        self.died: Day | None = None
        self.diabetes = self.family_history = False
        self.hypertensions: set[str] = set()
        self.requests: list[_MedicationRequest] = []
        self.takers: dict[str, Callable[[_Entry], None]] = {
            "Observation": self._observation,
            "Condition": self._condition,
            "MedicationRequest": self._medication_request,
            "FamilyMemberHistory": self._family_member,
            "Patient": self._person,
        }

    def take(self, raw: msgspec.Raw) -> None:
        entry = _ENTRY.decode(raw)
        taker = self.takers.get(_KIND.decode(entry.resource).resource_type)
        if taker is None:
            return
        try:
            taker(entry)
        except (msgspec.DecodeError, ValueError):
            self.unreadable += 1

    def result(self, region: Region | None) -> Findings:
        found = {name: value for name, (_, value) in self.latest.items()}
        if self.family_history:
            found["family_history"] = True
        patient, born = self.patient, self.born
        return msgspec.convert(
            found
            | {
                "age": None if born is None or born > self.on else whole_years(born, self.on),
                "sex": patient.gender if patient.gender in {"male", "female"} else None,
                "race": _race(patient),
                "deceased": bool(patient.deceased_boolean) or (self.died is not None and self.died <= self.on),
                "hypertension": bool(self.hypertensions),
                "hypertension_treated": any(self._treats(request) for request in self.requests),
                "diabetes": self.diabetes,
                "north": region and region.north,
                "urban": region and region.urban,
                "measured": self.measured,
                "unreadable": self.unreadable,
            },
            Findings,
        )

    def _observation(self, entry: _Entry) -> None:
        observation = _OBSERVATION.decode(entry.resource)
        period = observation.effective_period
        when = observation.effective_date_time or (period and (period.start or period.end)) or observation.issued
        if observation.status not in _DONE or not when:
            return
        time, day = parse_instant(when)
        if day > self.on:
            return
        codes = {coding.code for coding in observation.code.coding if coding.code and coding.system == LOINC}
        if codes & PRESSURE_PANELS:
            self._pressure(observation, time, day)
        elif SMOKING in codes:
            self._keep("smoker", time, _smokes(observation.value_codeable_concept))
        elif _has(observation.code, EXAMINATION_SYSTEM, FAMILY_HISTORY):
            self._keep("family_history", time, observation.value_boolean)
        for code in codes & MEASURED.keys():
            kept = self._keep(MEASURED[code], time, _measure(MEASURED[code], observation.value_quantity))
            if kept and code == SYSTOLIC:
                self.latest.pop("diastolic_mm_hg", None)
                self.measured = day

    def _pressure(self, observation: _Observation, time: int, day: Day) -> None:
        quantities = {coding.code: part.value_quantity for part in observation.component for coding in part.code.coding}
        if self._keep("systolic_mm_hg", time, _measure("systolic_mm_hg", quantities.get(SYSTOLIC))):
            self.measured = day
            self.latest["diastolic_mm_hg"] = (time, _measure("diastolic_mm_hg", quantities.get(DIASTOLIC)))

    def _keep(self, name: str, time: int, value: Value | None) -> bool:
        known = self.latest.get(name)
        if value is None or (known is not None and known[0] > time):
            return False
        self.latest[name] = (time, value)
        return True

    def _condition(self, entry: _Entry) -> None:
        condition = _CONDITION.decode(entry.resource)
        if _codes(condition.clinical_status) & _OVER or _codes(condition.verification_status) & _OVER:
            return
        since = condition.onset_date_time or condition.recorded_date
        if since and parse_instant(since).day > self.on:
            return
        if _is_diabetes(condition.code):
            self.diabetes = True
        if _is_hypertension(condition.code):
            self.hypertensions |= {entry.full_url, f"Condition/{condition.id}"}

    def _medication_request(self, entry: _Entry) -> None:
        request = _REQUEST.decode(entry.resource)
        since = request.authored_on
        if request.status == "active" and not (since and parse_instant(since).day > self.on):
            self.requests.append(request)

    def _treats(self, request: _MedicationRequest) -> bool:
        drug = request.medication_codeable_concept
        return (
            _starts(drug, ATC, _ANTIHYPERTENSIVE)
            or any(_is_hypertension(reason) for reason in request.reason_code)
            or any(reference.reference in self.hypertensions for reference in request.reason_reference)
        )

    def _family_member(self, entry: _Entry) -> None:
        member = _FAMILY_MEMBER.decode(entry.resource)
        if any(_is_icd10(condition.code, _ATHEROSCLEROTIC) for condition in member.condition):
            self.family_history = True

    def _person(self, entry: _Entry) -> None:
        patient = _PATIENT.decode(entry.resource)
        self.born = parse_instant(patient.birth_date).day if patient.birth_date else None
        self.died = parse_instant(patient.deceased_date_time).day if patient.deceased_date_time else None
        self.patient = patient


_ENTRY = msgspec.json.Decoder(_Entry)
_KIND = msgspec.json.Decoder(_Kind)
_OBSERVATION = msgspec.json.Decoder(_Observation)
_CONDITION = msgspec.json.Decoder(_Condition)
_REQUEST = msgspec.json.Decoder(_MedicationRequest)
_FAMILY_MEMBER = msgspec.json.Decoder(_FamilyMember)
_PATIENT = msgspec.json.Decoder(_Patient)


def whole_years(born: Day, on: Day) -> int:
    """Give the age in completed years on a day."""
    year, month, day = civil_from_day(on)
    born_year, born_month, born_day = civil_from_day(born)
    return year - born_year - ((month, day) < (born_month, born_day))


def _measure(name: str, quantity: _Quantity | None) -> float | None:
    if quantity is None or quantity.value is None:
        return None
    units = _UNITS[name]
    factor = units.get(quantity.code or "") or units.get(quantity.unit or "")
    return None if factor is None else quantity.value * factor


def _smokes(answer: CodeableConcept | None) -> bool | None:
    codes = _codes(answer)
    if codes & _SMOKES:
        return True
    return False if codes & _SMOKES_NOT else None


def _race(patient: _Patient) -> str | None:
    for extension in patient.extension:
        if extension.url != _RACE_URL:
            continue
        for part in extension.extension:
            if part.url == "ombCategory" and part.value_coding and part.value_coding.code:
                return _RACES.get(part.value_coding.code, "other")
    return None


def _codes(concept: CodeableConcept | None) -> set[str]:
    return {coding.code for coding in concept.coding if coding.code} if concept else set()


def _has(concept: CodeableConcept, system: str, code: str) -> bool:
    return any(coding.system == system and coding.code == code for coding in concept.coding)


def _starts(concept: CodeableConcept | None, system: str, prefixes: tuple[str, ...]) -> bool:
    codings = concept.coding if concept else []
    return any(coding.system == system and (coding.code or "").startswith(prefixes) for coding in codings)


def _is_icd10(concept: CodeableConcept | None, prefixes: tuple[str, ...]) -> bool:
    codings = concept.coding if concept else []
    return any("icd-10" in (c.system or "").lower() and (c.code or "").upper().startswith(prefixes) for c in codings)


def _is_diabetes(concept: CodeableConcept | None) -> bool:
    return _is_icd10(concept, ("E10", "E11", "E12", "E13", "E14")) or _is_snomed(concept, _DIABETES)


def _is_hypertension(concept: CodeableConcept | None) -> bool:
    return _is_icd10(concept, ("I10", "I11", "I12", "I13", "I15")) or _is_snomed(concept, _HYPERTENSION)


def _is_snomed(concept: CodeableConcept | None, numbers: frozenset[str]) -> bool:
    return concept is not None and any(c.system == SNOMED and c.code in numbers for c in concept.coding)

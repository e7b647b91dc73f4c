from __future__ import annotations

from typing import Any

import msgspec
import pytest

from yilian.clinic.screening import Inputs
from yilian.standards.fhir import Findings, Region, screening_findings, whole_years
from yilian.standards.fhir.findings import ATC, EXAMINATION_SYSTEM, FAMILY_HISTORY, LOINC, SNOMED
from yilian.values import day_from_civil

TODAY = day_from_civil(2026, 6, 30)
ICD10 = "http://hl7.org/fhir/sid/icd-10"
Json = dict[str, Any]


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def observation(code: str, when: str = "2026-01-01", **elements: object) -> Json:
    usual = {"resourceType": "Observation", "status": "final", "code": concept(LOINC, code)}
    return usual | {"effectiveDateTime": when} | elements


def measured(code: str, value: float, unit: str, when: str = "2026-01-01", **elements: object) -> Json:
    return observation(code, when, valueQuantity={"value": value, "code": unit}, **elements)


def pressure(systolic: Json, diastolic: Json, when: str = "2026-01-01") -> Json:
    return observation(
        "85354-9",
        when,
        component=[
            {"code": concept(LOINC, "8480-6"), "valueQuantity": systolic},
            {"code": concept(LOINC, "8462-4"), "valueQuantity": diastolic},
        ],
    )


def condition(system: str, code: str, status: str = "active", name: str = "c1") -> Json:
    return {
        "resourceType": "Condition",
        "id": name,
        "code": concept(system, code),
        "clinicalStatus": concept("urn:s", status),
    }


def find(*resources: Json) -> Findings:
    entries = [{"fullUrl": f"urn:uuid:{each.get('id', '')}", "resource": each} for each in resources]
    payload = msgspec.json.encode({"resourceType": "Bundle", "type": "collection", "entry": entries})
    return screening_findings([payload], on=TODAY)


def mm_hg(value: float) -> Json:
    return {"value": value, "unit": "mmHg", "code": "mm[Hg]"}


def test_the_latest_measurement_counts_and_none_after_the_day_asked_for() -> None:
    found = find(
        measured("8280-0", 90, "cm", "2025-01-01"),
        measured("8280-0", 91, "cm", "2026-01-01T08:00:00+08:00"),
        measured("8280-0", 92, "cm", "2026-07-01"),
        measured("8280-0", 93, "cm", "2024-01-01"),
    )
    assert found.waist_cm == 91


def test_both_pressures_come_from_the_latest_panel_and_its_day_is_told() -> None:
    found = find(pressure(mm_hg(150), mm_hg(95), "2026-03-02"), pressure(mm_hg(120), mm_hg(70), "2025-03-02"))
    assert (found.systolic_mm_hg, found.diastolic_mm_hg) == (150, 95)
    assert found.measured == day_from_civil(2026, 3, 2)


def test_a_panel_without_values_does_not_hide_an_earlier_one() -> None:
    assert find(pressure(mm_hg(150), mm_hg(95), "2025-03-02"), pressure({}, {}, "2026-03-02")).systolic_mm_hg == 150


def test_a_later_lone_systolic_pressure_leaves_no_diastolic_of_another_day() -> None:
    found = find(pressure(mm_hg(150), mm_hg(95), "2025-03-02"), measured("8480-6", 140, "mm[Hg]"))
    assert (found.systolic_mm_hg, found.diastolic_mm_hg) == (140, None)


@pytest.mark.parametrize(
    ("unit", "value"), [("mg/dL", 5.18), ("mmol/L", 200.0), ("g/L", None)], ids=["mg-dl", "mmol-l", "unknown"]
)
def test_cholesterol_is_given_in_mg_dl_and_an_unknown_unit_is_missing(unit: str, value: float | None) -> None:
    found = find(measured("2093-3", 5.18, unit)).total_cholesterol_mg_dl
    assert found == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize("status", ["preliminary", "entered-in-error", "cancelled"])
def test_an_observation_that_is_not_final_does_not_count(status: str) -> None:
    assert find(measured("8280-0", 90, "cm", status=status)).waist_cm is None


@pytest.mark.parametrize(
    ("code", "smoker"),
    [
        ("LA18976-3", True),
        ("449868002", True),
        ("LA15920-4", False),
        ("266919005", False),
        ("8517006", False),
        ("LA18980-5", None),
    ],
)
def test_only_a_current_smoker_smokes_and_unknown_is_missing(code: str, smoker: bool | None) -> None:
    assert find(observation("72166-2", valueCodeableConcept=concept("urn:any", code))).smoker is smoker


@pytest.mark.parametrize(
    ("resource", "diabetes", "hypertension"),
    [
        (condition(ICD10, "E11.9"), True, False),
        (condition(SNOMED, "44054006"), True, False),
        (condition(ICD10, "I10"), False, True),
        (condition(SNOMED, "38341003"), False, True),
        (condition(ICD10, "E11.9", "resolved"), False, False),
        (condition("urn:other", "I10"), False, False),
        (condition(ICD10, "E11.9") | {"onsetDateTime": "2027"}, False, False),
        (condition(ICD10, "E11.9") | {"verificationStatus": concept("urn:s", "refuted")}, False, False),
    ],
)
def test_conditions_count_by_code_unless_over_or_refuted(resource: Json, diabetes: bool, hypertension: bool) -> None:
    found = find(resource)
    assert (found.diabetes, found.hypertension) == (diabetes, hypertension)


@pytest.mark.parametrize(
    ("changes", "treated"),
    [
        ({"medicationCodeableConcept": concept(ATC, "C08CA01")}, True),
        ({"medicationCodeableConcept": concept(ATC, "A10BA02")}, False),
        ({"medicationCodeableConcept": concept(ATC, "C08CA01"), "status": "stopped"}, False),
        ({"medicationCodeableConcept": concept(ATC, "C08CA01"), "authoredOn": "2027"}, False),
        ({"reasonReference": [{"reference": "urn:uuid:c1"}]}, True),
        ({"reasonReference": [{"reference": "Condition/c1"}]}, True),
        ({"reasonReference": [{"reference": "urn:uuid:c2"}]}, False),
        ({"reasonCode": [concept(ICD10, "I10")]}, True),
    ],
)
def test_treatment_is_an_active_request_by_drug_or_by_reason(changes: Json, treated: bool) -> None:
    request = {"resourceType": "MedicationRequest", "id": "m", "status": "active"} | changes
    found = find(request, condition(ICD10, "I10"), condition(ICD10, "E11", name="c2"))
    assert found.hypertension_treated is treated


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ((), None),
        (({"resourceType": "FamilyMemberHistory", "condition": [{"code": concept(ICD10, "I21")}]},), True),
        (({"resourceType": "FamilyMemberHistory", "condition": [{"code": concept(ICD10, "C34")}]},), None),
        ((observation("x") | {"code": concept(EXAMINATION_SYSTEM, FAMILY_HISTORY), "valueBoolean": False},), False),
        ((observation("x") | {"code": concept(EXAMINATION_SYSTEM, FAMILY_HISTORY), "valueBoolean": True},), True),
    ],
)
def test_family_history_is_missing_unless_told(resources: tuple[Json, ...], expected: bool | None) -> None:
    assert find(*resources).family_history is expected


def test_the_person_is_described_on_the_day_asked_for() -> None:
    race = {
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [{"url": "ombCategory", "valueCoding": {"code": "2054-5"}}],
    }
    patient = {"resourceType": "Patient", "gender": "male", "birthDate": "1966-07-01", "extension": [race]}
    found = find(patient | {"deceasedDateTime": "2026-07-01"})
    assert (found.age, found.sex, found.race, found.deceased) == (59, "male", "black", False)
    assert find(patient | {"deceasedDateTime": "2026-06-30"}).deceased
    assert find({"resourceType": "Patient", "gender": "other"}) == Findings()


def test_what_is_not_as_fhir_says_is_counted_and_says_nothing() -> None:
    found = find(observation("8280-0", valueQuantity="ninety"), measured("8280-0", 90, "cm", "soon"))
    assert (found.waist_cm, found.unreadable) == (None, 2)


def test_the_region_comes_from_the_institution_and_findings_become_the_inputs_of_a_screening() -> None:
    found = screening_findings([], on=TODAY, region=Region(north=True, urban=False))
    inputs = msgspec.convert(found, Inputs, from_attributes=True)
    assert inputs == Inputs(north=True, urban=False, hypertension_treated=False, diabetes=False)


@pytest.mark.parametrize(
    ("on", "age"), [((2026, 2, 28), 65), ((2026, 3, 1), 66), ((2024, 2, 28), 63), ((2024, 2, 29), 64)]
)
def test_age_counts_completed_years(on: tuple[int, int, int], age: int) -> None:
    assert whole_years(day_from_civil(1960, 2, 29), day_from_civil(*on)) == age

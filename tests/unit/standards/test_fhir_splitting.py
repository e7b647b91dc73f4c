from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from yilian.standards.fhir import (
    BrokenInput,
    EncounterRecord,
    PatientBundle,
    ReceivedBundle,
    SensitiveCodes,
    parse_bundle,
    payload_entries,
    split,
)
from yilian.values import day_from_civil, month_of

Json = dict[str, Any]
PATIENT: Json = {"resourceType": "Patient", "id": "p1", "birthDate": "1960-02-29", "gender": "female"}
ORGANISATION: Json = {
    "resourceType": "Organization",
    "id": "o1",
    "identifier": [{"system": "urn:x", "value": "ORG-7"}],
    "name": "Centre",
    "type": [{"coding": [{"system": "urn:t", "code": "prov"}]}],
}


def encounter(**changes: object) -> Json:
    usual = {
        "resourceType": "Encounter",
        "id": "e1",
        "class": {"code": "AMB"},
        "period": {"start": "2020-05-31T20:30:00+00:00"},
        "serviceProvider": {"reference": "urn:uuid:o1"},
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def bundle(*resources: Json, kind: str = "transaction") -> ReceivedBundle:
    entries = [{"fullUrl": f"urn:uuid:{each['id']}", "resource": each} for each in resources]
    return of_bytes(msgspec.json.encode({"resourceType": "Bundle", "type": kind, "entry": entries}))


def of_bytes(raw: bytes) -> ReceivedBundle:
    found = parse_bundle("x.json", raw, position=3)
    assert isinstance(found, ReceivedBundle)
    return found


def done(found: PatientBundle | BrokenInput) -> PatientBundle:
    assert isinstance(found, PatientBundle), found
    return found


def only(found: PatientBundle | BrokenInput) -> EncounterRecord:
    (record,) = done(found).encounters
    return record


def ids(payload: bytes) -> list[str]:
    return [msgspec.json.decode(entry)["resource"]["id"] for entry in payload_entries(payload)]


def referring(kind: str, name: str, **elements: object) -> Json:
    return {"resourceType": kind, "id": name, **elements}


AT_E1 = {"reference": "urn:uuid:e1"}


def test_a_record_holds_the_encounter_and_all_that_refers_to_it_and_the_rest_holds_the_others() -> None:
    found = done(
        split(
            bundle(
                PATIENT,
                ORGANISATION,
                referring("Observation", "before", encounter=AT_E1),
                encounter(),
                referring("Condition", "by-type-and-id", encounter={"reference": "Encounter/e1/_history/2"}),
                referring("MedicationRequest", "absolute", encounter={"reference": "http://h/fhir/Encounter/e1"}),
                referring("Claim", "claim", item=[{"sequence": 1}, {"encounter": [AT_E1]}]),
                referring("ExplanationOfBenefit", "eob", item=[{"encounter": [AT_E1]}]),
                referring("ExplanationOfBenefit", "by-claim", claim={"reference": "urn:uuid:claim"}),
                referring("DocumentReference", "document", context={"encounter": [AT_E1]}),
                referring("MedicationAdministration", "context", context=AT_E1),
                referring("Goal", "goal", subject={"reference": "urn:uuid:p1"}),
                referring("Observation", "elsewhere", encounter={"reference": "urn:uuid:unknown"}),
                referring("Observation", "mistaken", encounter={"reference": "urn:uuid:p1"}),
                referring("ExplanationOfBenefit", "lone", claim={"reference": "urn:uuid:nothing"}),
            )
        )
    )
    record = found.encounters[0]
    assert ids(record.payload) == [
        "before", "e1", "by-type-and-id", "absolute", "claim", "eob", "by-claim", "document", "context",
    ]  # fmt: skip
    assert ids(found.rest.payload) == ["p1", "o1", "goal", "elsewhere", "mistaken", "lone"]
    assert (record.resources, found.rest.resources, found.resources) == (9, 6, 15)


def test_the_bytes_of_a_record_are_the_received_slices_unchanged() -> None:
    first = b'{"fullUrl":"urn:uuid:e1", "resource" : {"resourceType":"Encounter","id":"e1","period":{"start":"2020"}}}'
    second = (
        b'{"resource":{"resourceType":"Observation","valueQuantity":{"value":1.50},"note":"\\u6c34 \xe6\xb0\xb4",'
        b'"big":123456789012345678901234567890,"encounter":{"reference":"urn:uuid:e1"}}}'
    )
    patient = b'{"resource":{"resourceType":"Patient","id":"p1"}}'
    raw = b'{"resourceType":"Bundle","type":"collection","entry":[' + b" ,\n".join((second, patient, first)) + b"]}"
    record = only(split(of_bytes(raw)))
    head = b'{"resourceType":"Bundle","type":"collection","entry":['
    assert record.payload == head + second + b"," + first + b"]}"


def test_day_and_month_are_those_at_utc_plus_8() -> None:
    record = only(split(bundle(PATIENT, ORGANISATION, encounter())))
    assert record.day == day_from_civil(2020, 6, 1)
    assert record.month == month_of(day_from_civil(2020, 6, 1))


@pytest.mark.parametrize(
    ("start", "day"),
    [
        ("1931", (1931, 1, 1)),
        ("1931-07", (1931, 7, 1)),
        ("1931-07-09", (1931, 7, 9)),
        ("1931-07-09T17:00:00Z", (1931, 7, 10)),
        ("1931-07-09T23:59:59", (1931, 7, 9)),
        ("2031-07-09T15:59:59.999Z", (2031, 7, 9)),
        ("2031-07-09T16:00:00.000Z", (2031, 7, 10)),
    ],
)
def test_every_form_of_a_fhir_date_is_read(start: str, day: tuple[int, int, int]) -> None:
    assert only(split(bundle(PATIENT, encounter(period={"start": start})))).day == day_from_civil(*day)


def test_an_encounter_without_start_takes_its_end() -> None:
    record = only(split(bundle(PATIENT, encounter(period={"end": "2020-06-01"}))))
    assert record.day == day_from_civil(2020, 6, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"class": {"code": "EMER"}}, "C0003"),
        ({"class": {"code": "OBSENC"}}, "C0003"),
        ({"class": {"code": "IMP"}}, "C0053"),
        ({"class": {"code": "SS"}}, "C0053"),
        ({"class": {"code": "AMB"}}, "C0002"),
        ({"class": {"code": "VR"}}, "C0002"),
        ({"class": None}, "C0002"),
    ],
)
def test_the_class_of_a_record_follows_the_class_of_the_encounter(changes: Json, expected: str) -> None:
    assert only(split(bundle(PATIENT, encounter(**changes)))).document_class == expected


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ({"reference": "urn:uuid:o1"}, "ORG-7"),
        ({"reference": "Organization/o1"}, "ORG-7"),
        ({"reference": "Organization?identifier=urn:x|ORG-9"}, "ORG-9"),
        ({"identifier": {"value": "ORG-8"}}, "ORG-8"),
        ({"reference": "urn:uuid:p1"}, None),
        ({"reference": "Organization/none"}, None),
        (None, None),
    ],
)
def test_the_provider_is_the_identifier_of_the_organisation(provider: Json | None, expected: str | None) -> None:
    assert only(split(bundle(PATIENT, ORGANISATION, encounter(serviceProvider=provider)))).provider == expected


def test_the_id_of_an_encounter_is_its_identifier_then_its_id_then_its_full_url() -> None:
    known = only(split(bundle(PATIENT, encounter(identifier=[{"system": "urn:v", "value": "V1"}]))))
    plain = only(split(bundle(PATIENT, encounter())))
    raw = (
        b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p"}},'
        b'{"fullUrl":"urn:uuid:f","resource":{"resourceType":"Encounter","period":{"start":"2020"}}}]}'
    )
    assert (known.encounter_id, plain.encounter_id) == ("urn:v|V1", "e1")
    assert only(split(of_bytes(raw))).encounter_id == "urn:uuid:f"


def test_patient_and_organisations_are_given_for_registration_and_mapping() -> None:
    found = done(split(bundle(PATIENT | {"deceasedDateTime": "2021"}, ORGANISATION, encounter())))
    assert (found.patient.patient_id, found.patient.sex, found.patient.deceased) == ("p1", "female", True)
    assert found.patient.birth_day == day_from_civil(1960, 2, 29)
    assert [(each.identifier, each.name, each.type) for each in found.organisations] == [("ORG-7", "Centre", "prov")]


@pytest.mark.parametrize(
    ("resource", "sensitivity"),
    [
        (referring("Condition", "c", code=None), ()),
        (referring("Condition", "c", code={"system": "http://hl7.org/fhir/sid/icd-10", "code": "B24"}), ("HIV",)),
        (referring("Condition", "c", code={"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "F32.1"}), ("PSY",)),
        (referring("Procedure", "c", code={"system": "http://hl7.org/fhir/sid/icd-10", "code": "i10"}), ()),
        (referring("Condition", "c", code={"system": "urn:other", "code": "B24"}), ()),
        (referring("Device", "c", code=None, meta={"security": [{"code": "R"}]}), ("R",)),
        (referring("Device", "c", code=None, meta={"security": [{"code": "ETH"}, {"code": "HIV"}]}), ("ETH", "HIV")),
        (referring("Device", "c", code=None, meta={"security": [{"code": "N"}]}), ()),
    ],
)
def test_a_listed_code_or_label_makes_the_record_level_5(resource: Json, sensitivity: tuple[str, ...]) -> None:
    code = resource.pop("code")
    coded = {"code": {"coding": [code]}} if code else {}
    record = only(split(bundle(PATIENT, encounter(), resource | coded | {"encounter": AT_E1})))
    assert (record.level, record.sensitivity) == (5 if sensitivity else 4, sensitivity)


def test_the_reason_of_an_encounter_and_a_table_of_ones_own_count_too() -> None:
    own = SensitiveCodes(labels={}, icd10={}, exact={("urn:ours", "42"): "SDV"})
    reasoned = bundle(PATIENT, encounter(reasonCode=[{"coding": [{"system": "urn:ours", "code": "42"}]}]))
    assert only(split(reasoned, own)).sensitivity == ("SDV",)
    assert only(split(reasoned)).level == 4


def test_the_duplicate_digest_ignores_version_time_order_and_white_space_but_not_content() -> None:
    def observed(version: str, value: bytes) -> bytes:
        return (
            b'{"resource":{"resourceType":"Observation","meta":{"versionId":"%s","lastUpdated":"%s"},"encounter":'
            b'{"reference":"Encounter/e1"},"valueQuantity":{"value":%s}}}' % (version.encode(), version.encode(), value)
        )

    def digest_of(*entries: bytes) -> bytes:
        raw = b'{"resourceType":"Bundle","type":"collection","entry":[' + b" , ".join(entries) + b"]}"
        return only(split(of_bytes(raw))).duplicate_digest

    patient = b'{"resource":{"resourceType":"Patient","id":"p"}}'
    visit = b'{"resource":{"resourceType":"Encounter","id":"e1","period":{"start":"2020"}}}'
    respaced = b'{ "resource" : {"id":"e1","resourceType":"Encounter", "period":{"start":"2020"} } }'
    usual = digest_of(patient, visit, observed("1", b"1.50"))
    assert digest_of(observed("2", b"1.50"), respaced, patient) == usual
    assert digest_of(patient, visit, observed("1", b"1.5")) != usual
    assert len(usual) == hashlib.sha256().digest_size


@pytest.mark.parametrize(
    ("resources", "entry", "element"),
    [
        pytest.param((encounter(),), -1, "Bundle.entry", id="no-patient"),
        pytest.param((PATIENT, PATIENT | {"id": "p2"}), -1, "Bundle.entry", id="two-patients"),
        pytest.param((PATIENT, PATIENT), 1, "entry.fullUrl", id="full-url-twice"),
        pytest.param((PATIENT, encounter(period=None)), 1, "Encounter.period.start", id="no-period"),
        pytest.param((PATIENT, encounter(period={"start": "Wang"})), 1, "Encounter.period.start", id="no-date"),
        pytest.param((PATIENT, encounter(period={"start": "2020-02-30"})), 1, "Encounter.period.start", id="30-feb"),
        pytest.param((PATIENT, encounter(period={"start": 2020})), 1, "entry.resource.period.start", id="number"),
        pytest.param((PATIENT | {"birthDate": "Wang"},), 0, "Patient.birthDate", id="birth-date"),
        pytest.param((PATIENT, {"id": "x"}), 1, "entry.resource", id="no-type"),
        pytest.param((PATIENT, referring("Claim", "c", item="Wang")), 1, "Claim.item", id="item"),
        pytest.param(
            (PATIENT, referring("Condition", "c", code={"coding": "Wang"})), 1, "Condition.code.coding", id="c"
        ),
    ],
)
def test_a_bundle_that_breaks_fhir_is_reported_with_entry_and_element_and_without_content(
    resources: tuple[Json, ...], entry: int, element: str
) -> None:
    found = split(bundle(*resources))
    assert isinstance(found, BrokenInput)
    assert (found.file, found.position, found.entry, found.element) == ("x.json", 3, entry, element)
    assert "Wang" not in found.reason


def test_an_encounter_that_nobody_can_find_again_is_reported() -> None:
    raw = (
        b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p"}},'
        b'{"resource":{"resourceType":"Encounter","period":{"start":"2020"}}}]}'
    )
    found = split(of_bytes(raw))
    assert isinstance(found, BrokenInput)
    assert (found.entry, found.element) == (1, "Encounter.id")


def test_nesting_too_deep_and_bytes_that_are_no_text_are_reported() -> None:
    head = b'{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p","x":'
    text = parse_bundle("x.json", head + b'"\xff"}}]}')
    deep = parse_bundle("x.json", head + b"[" * 3000 + b"]" * 3000 + b"}}]}")
    assert isinstance(deep, BrokenInput)
    assert deep.reason == "nested too deep: send valid FHIR JSON"
    assert isinstance(text, ReceivedBundle)
    assert isinstance(split(text), BrokenInput)


def test_a_month_before_1970_is_a_month() -> None:
    assert only(split(bundle(PATIENT, encounter(period={"start": "1914-06-01"})))).month == 1914 * 12 + 5

"""What travels sealed in a referral is read as it was written, and nothing else passes for it."""

from __future__ import annotations

import json

import pytest

from yilian.errors import VerificationError
from yilian.standards.fhir.reading import ReceivedBundle, parse_bundle
from yilian.standards.fhir.splitting import PatientBundle, split
from yilian.values import case_id, day_from_civil
from yilian.workflows.referral.documents import (
    RiskStatement,
    build_request,
    build_result,
    patient_of,
    read_request,
    read_result,
)
from yilian.workflows.referral.model import Urgency

PATIENT = b'{"resourceType":"Patient","id":"p","identifier":[{"system":"urn:x","value":"1"}],"weight":1.50}'
ALLERGY = b'{"fullUrl":"urn:a","resource":{"resourceType":"AllergyIntolerance","id":"a","note":[{"text":"1.50"}]}}'
DAY = day_from_civil(2026, 6, 30)
RISK = RiskStatement(model="china-par-2016", version="2026.1", risk_class="high", percent=12.345)
ENTRY = case_id(bytes(range(32)))


def _request(risk: RiskStatement | None = RISK) -> bytes:
    return build_request(
        patient=PATIENT,
        purpose="胸痛 & <br>",
        specialty="cardiology",
        urgency=Urgency.URGENT,
        authored=DAY,
        receiver="City Hospital",
        records=[ENTRY],
        risk=risk,
        summary=[ALLERGY],
    )


def test_a_request_is_read_as_it_was_written() -> None:
    request = read_request(_request())
    assert (request.purpose, request.specialty, request.priority) == ("胸痛 & <br>", "cardiology", "urgent")
    assert request.risk == RISK
    assert request.records == (ENTRY.hex(),)
    assert request.summary == ("AllergyIntolerance",)


def test_patient_and_summary_stand_in_it_byte_for_byte() -> None:
    content = _request()
    assert patient_of(content) == PATIENT
    assert ALLERGY in content


def test_it_is_a_fhir_collection_of_one_patient() -> None:
    bundle = parse_bundle("request", _request())
    assert isinstance(bundle, ReceivedBundle)
    found = split(bundle)
    assert isinstance(found, PatientBundle)
    assert found.patient.identifiers[0].value == "1"
    order = next(
        entry["resource"]
        for entry in json.loads(_request())["entry"]
        if entry["resource"]["resourceType"] == "ServiceRequest"
    )
    assert (order["intent"], order["status"], order["authoredOn"]) == ("order", "active", "2026-06-30")


def test_without_a_screening_there_is_no_assessment() -> None:
    content = _request(None)
    assert read_request(content).risk is None
    assert b"RiskAssessment" not in content


def test_a_result_is_read_as_it_was_written() -> None:
    content = build_result(patient=PATIENT, kind="C0053", title="出院小结", text="BP < 140/90 & stable", authored=DAY)
    result = read_result(content)
    assert (result.kind, result.text) == ("C0053", "BP < 140/90 & stable")
    assert b"BP &lt; 140/90 &amp; stable" in content
    assert patient_of(content) == PATIENT


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"entry":[]}', b'{"entry":[{"resource":{"resourceType":"Patient"}}]}']
)
def test_other_bytes_are_no_request_and_no_result(content: bytes) -> None:
    with pytest.raises(VerificationError):
        read_request(content)
    with pytest.raises(VerificationError):
        read_result(content)


def test_a_request_or_result_that_lacks_an_element_is_refused() -> None:
    with pytest.raises(VerificationError):
        read_request(b'{"entry":[{"resource":{"resourceType":"ServiceRequest","reasonCode":[]}}]}')
    with pytest.raises(VerificationError):
        read_result(b'{"entry":[{"resource":{"resourceType":"Composition","extension":[]}}]}')

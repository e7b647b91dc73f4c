from __future__ import annotations

from collections import Counter
from datetime import date

import msgspec
import pytest

from yilian.clinic.screening import Inputs, Model, Risk, RiskClass, Screening, screen
from yilian.demo.residents import CITIZEN_ID, LAST_DAY, DemoOrganisation, check_digit, citizen_id, generate
from yilian.errors import SettingsError
from yilian.standards.fhir import (
    PatientBundle,
    ProviderKind,
    ReceivedBundle,
    Region,
    parse_bundle,
    screening_findings,
    split,
)

ORGANISATIONS = (
    DemoOrganisation(identifier="c1", name="松风社区卫生服务中心", kind=ProviderKind.COMMUNITY),
    DemoOrganisation(identifier="c2", name="柳堤社区卫生服务中心", kind=ProviderKind.COMMUNITY),
    DemoOrganisation(identifier="h1", name="虚州市第一医院", kind=ProviderKind.HOSPITAL),
)


@pytest.fixture(scope="module")
def residents() -> list[PatientBundle]:
    found = []
    for name, raw in generate(300, 7, ORGANISATIONS):
        received = parse_bundle(name, raw)
        assert isinstance(received, ReceivedBundle)
        bundle = split(received)
        assert isinstance(bundle, PatientBundle)
        found.append(bundle)
    return found


def screened(resident: PatientBundle) -> Screening:
    payloads = [*(record.payload for record in resident.encounters), resident.rest.payload]
    findings = screening_findings(payloads, on=LAST_DAY, region=Region(north=True, urban=True))
    return screen(msgspec.convert(findings, Inputs, from_attributes=True))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert list(generate(5, 1, ORGANISATIONS)) == list(generate(5, 1, ORGANISATIONS))
    assert list(generate(5, 1, ORGANISATIONS)) != list(generate(5, 2, ORGANISATIONS))


def test_residents_have_three_to_six_encounters_none_after_the_last_day(residents: list[PatientBundle]) -> None:
    assert set(Counter(len(resident.encounters) for resident in residents)) <= {3, 4, 5, 6}
    assert max(record.day for resident in residents for record in resident.encounters) <= LAST_DAY


def test_every_resident_was_at_a_community_centre_and_most_at_a_hospital(residents: list[PatientBundle]) -> None:
    providers = [{record.provider for record in resident.encounters} for resident in residents]
    assert all(found & {"c1", "c2"} for found in providers)
    assert sum("h1" in found for found in providers) > 150


def test_all_kinds_of_encounter_and_a_few_sensitive_records_occur(residents: list[PatientBundle]) -> None:
    records = [record for resident in residents for record in resident.encounters]
    assert {record.document_class for record in records} == {"C0002", "C0003", "C0053"}
    assert 0 < sum(record.level == 5 for record in records) < len(records) // 20


def test_china_par_answers_for_all_and_a_fifth_to_a_third_are_at_high_risk(residents: list[PatientBundle]) -> None:
    decided = [screened(resident).decided for resident in residents]
    assert all(isinstance(risk, Risk) and risk.model is Model.CHINA_PAR for risk in decided)
    high = sum(risk is not None and risk.risk_class is RiskClass.HIGH for risk in decided)
    assert 0.18 <= high / len(residents) <= 0.3


def test_citizen_ids_are_unique_checked_and_of_no_assigned_region(residents: list[PatientBundle]) -> None:
    found = [each.value for resident in residents for each in resident.patient.identifiers if each.system == CITIZEN_ID]
    numbers = [number for number in found if number is not None]
    assert len(set(numbers)) == len(residents)
    assert all(number.startswith("99") and number[17] == check_digit(number[:17]) for number in numbers)


def test_the_serial_of_a_citizen_id_is_odd_for_men_alone(residents: list[PatientBundle]) -> None:
    pairs = {(int((r.patient.identifiers[0].value or "")[16]) % 2, r.patient.sex) for r in residents}
    assert pairs == {(1, "male"), (0, "female")}


@pytest.mark.parametrize(("digits", "check"), [("11010519491231002", "X"), ("44052418800101001", "4")])
def test_the_check_digit_is_that_of_the_examples_of_gb_11643(digits: str, check: str) -> None:
    assert check_digit(digits) == check


def test_a_citizen_id_is_built_from_region_birth_date_and_serial() -> None:
    assert citizen_id("110105", date(1949, 12, 31), 2) == "11010519491231002X"


def test_without_a_community_or_without_a_hospital_nothing_is_made() -> None:
    with pytest.raises(SettingsError, match="name at least one of each"):
        list(generate(1, 1, ORGANISATIONS[:2]))

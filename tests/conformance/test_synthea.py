"""The whole Synthea archive of the shared data (`01-fhir-synthea`): counts as its README states them, nothing lost."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from yilian.clinic.screening import Inputs, Model, RiskClass, screen
from yilian.standards.fhir import (
    EncounterCounts,
    Institution,
    PatientBundle,
    ProviderKind,
    ReceivedBundle,
    Region,
    map_organisations,
    payload_entries,
    read_bundles,
    screening_findings,
    split,
)
from yilian.values import day_from_civil

FOLDER = Path(os.environ.get("YILIAN_SHARED_DATA", "../shared/data")) / "01-fhir-synthea"
ARCHIVE = FOLDER / "synthea_r4_400.tar.xz"
ON = day_from_civil(2021, 6, 1)
INSTITUTIONS = (
    Institution(slug="c1", kind=ProviderKind.COMMUNITY),
    Institution(slug="c2", kind=ProviderKind.COMMUNITY),
    Institution(slug="t1", kind=ProviderKind.COMMUNITY),
    Institution(slug="h1", kind=ProviderKind.HOSPITAL),
    Institution(slug="h2", kind=ProviderKind.HOSPITAL),
)

pytestmark = pytest.mark.skipif(
    not ARCHIVE.exists(), reason=f"shared data not found at {ARCHIVE}: counts and screening of Synthea patients not run"
)


class Tally:
    """What passes by, counted: the archive is read once and never held."""

    def __init__(self) -> None:
        self.patients = self.unequal = 0
        self.encounters: dict[str, int] = {}
        self.kinds: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.counts = EncounterCounts()
        self.screenings: Counter[tuple[Model | None, RiskClass | None]] = Counter()
        self.without_waist = 0

    def add(self, received: ReceivedBundle) -> None:
        bundle = split(received)
        assert isinstance(bundle, PatientBundle)
        self.patients += 1
        payloads = [*(record.payload for record in bundle.encounters), bundle.rest.payload]
        slices = sorted(bytes(entry) for payload in payloads for entry in payload_entries(payload))
        self.unequal += slices != sorted(bytes(entry) for entry in received.entries)
        self.kinds.update(msgspec.json.decode(each)["resource"]["resourceType"] for each in slices)
        self.encounters[bundle.patient.patient_id] = len(bundle.encounters)
        self.classes.update(record.document_class for record in bundle.encounters)
        self.counts.add(
            bundle.organisations, [(record.provider, record.encounter_class) for record in bundle.encounters]
        )
        findings = screening_findings(payloads, on=ON, region=Region(north=True, urban=True))
        if findings.age is not None and 35 <= findings.age <= 74 and not findings.deceased:
            result = screen(msgspec.convert(findings, Inputs, from_attributes=True))
            self.without_waist += "waist_cm" in result.missing
            decided = result.decided
            self.screenings[decided.model if decided else None, decided.risk_class if decided else None] += 1


@pytest.fixture(scope="module")
def tally() -> Tally:
    found = Tally()
    for each in read_bundles(ARCHIVE):
        assert isinstance(each, ReceivedBundle)
        found.add(each)
    return found


def test_every_one_of_the_11_884_encounters_of_400_patients_is_a_record(tally: Tally) -> None:
    assert tally.patients == 400
    assert sum(tally.encounters.values()) == 11_884
    assert tally.classes == {"C0002": 10_851, "C0003": 627, "C0053": 406}


def test_each_patient_has_as_many_records_as_the_index_says(tally: Tally) -> None:
    with (FOLDER / "index.csv").open(encoding="utf-8", newline="") as stream:
        expected = Counter(int(row["n_enc"]) for row in csv.DictReader(stream))
    assert Counter(tally.encounters.values()) == expected


def test_every_entry_stands_in_exactly_one_payload_with_its_received_bytes(tally: Tally) -> None:
    assert tally.unequal == 0
    stated = {"Encounter": 11_884, "Observation": 58_191, "Claim": 15_018, "ExplanationOfBenefit": 11_884}
    stated |= {"Condition": 3_026, "MedicationRequest": 3_134, "Procedure": 9_565, "Immunization": 4_742}
    stated |= {
        "DiagnosticReport": 4_106,
        "ImagingStudy": 224,
        "CarePlan": 1_152,
        "Goal": 729,
        "AllergyIntolerance": 221,
    }
    assert {kind: tally.kinds[kind] for kind in stated} == stated


def test_the_default_mapping_leaves_no_organisation_and_no_encounter_out(tally: Tally) -> None:
    mapping = map_organisations(tally.counts, INSTITUTIONS)
    assert len(mapping.rows) == 97
    assert [row for row in mapping.rows if row.institution is None] == []
    assert sum(row.encounters for row in mapping.rows) == 11_884
    assert set(mapping.institutions().values()) == {institution.slug for institution in INSTITUTIONS}


def test_the_158_living_adults_are_screened_by_framingham_since_waist_is_missing(tally: Tally) -> None:
    assert tally.screenings.total() == tally.without_waist == 158
    assert {model for model, _ in tally.screenings} == {Model.FRAMINGHAM}
    assert tally.screenings[Model.FRAMINGHAM, RiskClass.HIGH] > 0

"""Counting organisations agrees with splitting, bundle by bundle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from yilian.node.providers import providers_of
from yilian.standards.fhir import PatientBundle, ReceivedBundle, read_bundles, split
from yilian.standards.fhir.reading import BrokenInput, parse_bundle


def _agree(bundles: Iterable[ReceivedBundle | BrokenInput]) -> int:
    seen = 0
    for bundle in bundles:
        assert isinstance(bundle, ReceivedBundle)
        whole = split(bundle)
        assert isinstance(whole, PatientBundle)
        organisations, encounters = providers_of(bundle)
        assert tuple(organisations) == whole.organisations
        assert encounters == [(one.provider, one.encounter_class) for one in whole.encounters]
        seen += len(encounters)
    return seen


def test_both_agree_on_made_up_residents(resident_files: Path) -> None:
    assert _agree(read_bundles(resident_files)) > 0


def test_both_agree_on_the_third_party_bundles(shared_data: Path) -> None:
    assert _agree(read_bundles(shared_data / "01-fhir-synthea" / "quick")) > 0


def test_logical_and_conditional_references_name_the_organisation() -> None:
    content = b"""{"resourceType": "Bundle", "type": "collection", "entry": [
        {"fullUrl": "urn:x:1", "resource": {"resourceType": "Patient", "id": "p"}},
        {"fullUrl": "urn:x:2", "resource": {"resourceType": "Encounter", "id": "a", "class": {"code": "AMB"},
            "period": {"start": "2026-01-01"}, "serviceProvider": {"identifier": {"value": "one"}}}},
        {"fullUrl": "urn:x:3", "resource": {"resourceType": "Encounter", "id": "b", "period": {"start": "2026-01-01"},
            "serviceProvider": {"reference": "Organization?identifier=sys|two"}}},
        {"fullUrl": "urn:x:4", "resource": {"resourceType": "Encounter", "id": "c", "period": {"start": "2026-01-01"},
            "serviceProvider": {"reference": "Organization/o/_history/3"}}},
        {"fullUrl": "urn:x:5", "resource": {"resourceType": "Organization", "id": "o", "name": "three"}},
        {"fullUrl": "urn:x:6", "resource": {"resourceType": "Encounter", "id": "d", "period": {"start": "2026-01-01"}}}
    ]}"""
    bundle = parse_bundle("references", content)
    assert isinstance(bundle, ReceivedBundle)
    assert _agree([bundle]) == 4
    assert providers_of(bundle)[1] == [("one", "AMB"), ("two", "UNK"), ("o", "UNK"), (None, "UNK")]


def test_a_bundle_that_breaks_counts_nothing() -> None:
    bundle = parse_bundle("broken", b'{"resourceType": "Bundle", "type": "collection", "entry": [{"resource": 7}]}')
    assert isinstance(bundle, ReceivedBundle)
    assert providers_of(bundle) == ([], [])

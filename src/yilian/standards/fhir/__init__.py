"""FHIR R4 in: read bundles as received, split them into records, map organisations, find what a screening needs.

Nothing is parsed by hand and nothing is re-written: every byte that leaves here is a slice of what came in.
Source: HL7 FHIR R4 (4.0.1).
"""

from yilian.standards.fhir.findings import Findings, Region, screening_findings, whole_years
from yilian.standards.fhir.organisations import (
    EncounterCounts,
    Institution,
    MappedOrganisation,
    Organisation,
    OrganisationMapping,
    ProviderKind,
    home_of,
    map_organisations,
    parse_mapping,
)
from yilian.standards.fhir.reading import BrokenInput, Limits, ReceivedBundle, parse_bundle, read_bundles
from yilian.standards.fhir.sensitivity import DEFAULT_CODES, SensitiveCodes
from yilian.standards.fhir.splitting import (
    EncounterRecord,
    Patient,
    PatientBundle,
    Payload,
    payload_entries,
    split,
)

__all__ = [
    "DEFAULT_CODES",
    "BrokenInput",
    "EncounterCounts",
    "EncounterRecord",
    "Findings",
    "Institution",
    "Limits",
    "MappedOrganisation",
    "Organisation",
    "OrganisationMapping",
    "Patient",
    "PatientBundle",
    "Payload",
    "ProviderKind",
    "ReceivedBundle",
    "Region",
    "SensitiveCodes",
    "home_of",
    "map_organisations",
    "parse_bundle",
    "parse_mapping",
    "payload_entries",
    "read_bundles",
    "screening_findings",
    "split",
    "whole_years",
]

"""Screening residents from sealed records: who is screened, what is kept, who is proposed."""

from __future__ import annotations

from pathlib import Path

import pytest

from yilian.clinic.screening import CONSTANTS_VERSION, RiskClass
from yilian.demo.residents import LAST_DAY
from yilian.errors import NotFoundError
from yilian.ledger.members import Role
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.node.imports import run_import
from yilian.node.organisations import OrganisationTable
from yilian.node.screening import ScreeningReport, proposals, result_of, results, run_screening
from yilian.standards.fhir.findings import Region
from yilian.storage.vault.releases import Note, NoteKind

NORTH = Region(north=True, urban=True)


@pytest.fixture
def centre(records_node: Node, organisation_table: OrganisationTable, resident_files: Path) -> Host:
    host = records_node.host("centre")
    run_import(host, resident_files, organisation_table)
    return host


def _screen(host: Host, region: Region | None = NORTH) -> ScreeningReport:
    return run_screening(host, by=host.person(Role.PHYSICIAN).key_id, on=LAST_DAY, region=region)


def test_all_residents_are_screened_and_counted_by_class(centre: Host) -> None:
    report = _screen(centre)
    assert report.residents == report.screened == report.high + report.medium + report.low == 12
    kept = results(centre)
    assert len(kept) == 12
    assert {item.version for item in kept} == {CONSTANTS_VERSION}
    assert [item.percent for item in kept] == sorted((item.percent for item in kept), key=lambda value: -(value or 0))
    assert all(item.model == "china-par-2016" for item in kept)


def test_without_a_region_china_par_says_what_is_missing_and_framingham_decides(centre: Host) -> None:
    _screen(centre, None)
    assert all("north" in item.missing and item.model == "framingham-2008" for item in results(centre))


def test_a_later_screening_takes_the_place_of_the_one_before(centre: Host) -> None:
    _screen(centre, None)
    _screen(centre)
    assert len(results(centre)) == 12
    one = results(centre)[0]
    assert result_of(centre, one.subject_ref) == one


def test_high_risk_residents_are_proposed_until_they_are_referred(centre: Host) -> None:
    _screen(centre)
    high = results(centre, RiskClass.HIGH)
    assert proposals(centre) == high
    assert high
    note = Note(about=bytes(32), kind=NoteKind.CASE_SUBJECT, by=centre.id, time=0, body=high[0].subject_ref)
    centre.vault.releases.put_note(note)
    assert proposals(centre) == high[1:]


def test_the_dead_and_those_outside_every_models_ages_are_not_screened(centre: Host) -> None:
    report = run_screening(centre, by=centre.person(Role.PHYSICIAN).key_id, on=LAST_DAY + 60 * 365)
    assert report.out_of_age == 12
    assert report.screened == 0


def test_an_institution_that_is_nobodys_home_has_nobody_to_screen(records_node: Node) -> None:
    with pytest.raises(NotFoundError):
        _screen(records_node.host("hospital"))


def test_a_stopped_screening_keeps_nothing_half_done(centre: Host) -> None:
    class StoppedError(Exception):
        pass

    def stop(figures: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        run_screening(centre, by=centre.person(Role.PHYSICIAN).key_id, on=LAST_DAY, report=stop)
    assert not results(centre)


def test_a_record_that_does_not_open_is_counted_and_harms_no_other(centre: Host) -> None:
    row = next(iter(centre.vault.records.each()))
    with centre.blobs.open(row.root) as blob:
        content = bytearray(blob.read())
    content[-1] ^= 1
    centre.blobs.put(row.root, bytes(content))
    report = _screen(centre)
    assert (report.unreadable, report.screened) == (1, 11)

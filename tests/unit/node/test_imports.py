"""Importing at one institution: what is taken, what is left, what a second import does, what is kept as received."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from yilian.errors import NotFoundError, UnavailableError
from yilian.node.compose import Node
from yilian.node.imports import ImportReport, run_import
from yilian.node.organisations import OrganisationTable
from yilian.storage.vault.records import RecordStatus
from yilian.workflows.catalog.model import Entry, EntryState
from yilian.workflows.catalog.opening import give_back, open_record, open_summary, verify_record


def _import(node: Node, slug: str, path: Path, table: OrganisationTable) -> ImportReport:
    return run_import(node.host(slug), path, table)


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_each_institution_takes_its_own_encounters_and_counts_the_others(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    centre = _import(records_node, "centre", resident_files, organisation_table)
    hospital = _import(records_node, "hospital", resident_files, organisation_table)
    assert centre.records == hospital.others["centre"] > 0
    assert hospital.records == centre.others["hospital"] > 0
    assert (centre.residents, hospital.residents) == (12, 0)
    assert centre.published == centre.records
    assert not centre.broken
    assert len(centre.mapping) == 2


def test_every_record_stands_in_the_catalogue_and_opens(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    host = records_node.host("centre")
    report = _import(records_node, "centre", resident_files, organisation_table)
    rows = list(host.vault.records.each())
    assert len(rows) == report.records
    for row in rows:
        found = host.gateway.find(Entry, row.entry_id)
        assert found is not None
        assert (found.state, found.fields.level) == (EntryState.CURRENT, 4)
        assert json.loads(open_record(host, row.entry_id))["resourceType"] == "Bundle"
        assert verify_record(host, row.entry_id).root == found.fields.root


def test_publication_is_in_the_order_of_entry_ids_whoever_the_patient_is(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    _import(records_node, "centre", resident_files, organisation_table)
    engine = records_node.engine
    events = [event for height in range(1, engine.head().height + 1) for event in engine.events(height)]
    published = [event.case_id for event in events if event.command == "catalog.publish"]
    assert published == sorted(published)


def test_a_second_import_does_nothing_and_one_of_the_same_content_finds_it_unchanged(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    first = _import(records_node, "centre", resident_files, organisation_table)
    height = records_node.engine.head().height
    again = _import(records_node, "centre", resident_files, organisation_table)
    assert (again.files_known, again.records, again.unchanged) == (12, 0, 0)
    for file in resident_files.iterdir():
        file.write_bytes(b" " + file.read_bytes())
    spaced = _import(records_node, "centre", resident_files, organisation_table)
    assert (spaced.files_known, spaced.records, spaced.unchanged) == (0, 0, first.records)
    assert records_node.engine.head().height == height


def test_the_same_encounter_with_other_bytes_replaces_its_entry(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    host = records_node.host("centre")
    _import(records_node, "centre", resident_files, organisation_table)
    file = min(resident_files.iterdir())
    _change(file, '"status":"final"', '"status":"amended"')
    report = _import(records_node, "centre", resident_files, organisation_table)
    assert report.records == 0
    assert report.replaced > 0
    old = next(iter(host.vault.records.with_status(RecordStatus.REPLACED)))
    found = host.gateway.find(Entry, old.entry_id)
    assert found is not None
    assert found.state == EntryState.SUPERSEDED
    found_again = host.vault.records.find_by_encounters([old.encounter])[old.encounter]
    (new,) = [row for row in found_again if row.status == "PUBLISHED"]
    successor = host.gateway.find(Entry, new.entry_id)
    assert successor is not None
    assert successor.fields.replaces == old.entry_id
    assert new.subject_ref == old.subject_ref


def test_the_file_is_given_back_byte_for_byte(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    host = records_node.host("centre")
    file = min(resident_files.iterdir())
    _import(records_node, "centre", file, organisation_table)
    (kept,) = host.vault.records.files()
    out = io.BytesIO()
    give_back(host, kept.digest, out)
    assert out.getvalue() == file.read_bytes()
    assert kept.is_imported


def test_archives_and_packed_files_bring_the_same_records(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path, tmp_path: Path
) -> None:
    files = sorted(resident_files.iterdir())
    archive = tmp_path / "all.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for file in files:
            tar.add(file, arcname=file.name)
    packed = tmp_path / "one.json.gz"
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    first = _import(records_node, "centre", packed, organisation_table)
    everything = _import(records_node, "centre", archive, organisation_table)
    assert everything.unchanged == first.records > 0
    assert everything.patients == 12


def test_a_broken_file_is_named_by_its_place_and_harms_no_other(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    (resident_files / "resident-00000.json").write_text('{"resourceType": "Bundle", "type": "coll', encoding="utf-8")
    report = _import(records_node, "centre", resident_files, organisation_table)
    (broken,) = report.broken
    assert broken.position == 0
    assert report.patients == 11
    assert "resident-00000" not in json.dumps(report.figures())
    assert report.figures()["broken"][0]["reason"] == broken.reason


def test_a_file_of_which_nothing_could_be_read_is_named_again_by_the_next_import(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    (resident_files / "resident-00000.json").write_text('{"resourceType": "Bundle", "type": "coll', encoding="utf-8")
    first = _import(records_node, "centre", resident_files, organisation_table)
    again = _import(records_node, "centre", resident_files, organisation_table)
    assert again.files_known == again.files - 1
    assert [one.reason for one in again.broken] == [one.reason for one in first.broken]


def test_what_belongs_to_no_encounter_stays_with_the_home(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    for slug in ("centre", "hospital"):
        _import(records_node, slug, resident_files, organisation_table)
    centre, hospital = records_node.host("centre"), records_node.host("hospital")
    for subject in centre.vault.subjects.each():
        payload = open_summary(centre, subject.subject_ref)
        assert payload is not None
        assert b'"Patient"' in payload
    assert all(open_summary(hospital, subject.subject_ref) is None for subject in hospital.vault.subjects.each())


def test_a_stopped_import_is_taken_up_where_it_was(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    class StoppedError(Exception):
        pass

    def stop(figures: object) -> None:
        if isinstance(figures, dict) and figures["phase"] == "publish":
            raise StoppedError

    host = records_node.host("centre")
    with pytest.raises(StoppedError):
        run_import(host, resident_files, organisation_table, report=stop, batch=5)
    report = _import(records_node, "centre", resident_files, organisation_table)
    assert not list(host.vault.records.with_status(RecordStatus.PREPARED))
    assert report.records == 0
    assert report.unchanged == host.vault.records.count()


def test_progress_tells_phase_rate_and_what_remains(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    told: list[dict[str, object]] = []
    run_import(
        records_node.host("centre"), resident_files, organisation_table, report=lambda item: told.append(dict(item))
    )
    phases = list(dict.fromkeys(item["phase"] for item in told))
    assert phases == ["count", "seal", "publish"]
    assert all({"done", "total", "bytes", "rate", "remaining_s"} <= item.keys() for item in told)


def test_nothing_at_the_path_is_said(records_node: Node, organisation_table: OrganisationTable, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        _import(records_node, "centre", tmp_path / "absent", organisation_table)


def test_identifiers_of_two_registrations_are_left_to_a_person(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    files = sorted(resident_files.iterdir())
    _import(records_node, "centre", files[0], organisation_table)
    _import(records_node, "centre", files[1], organisation_table)
    first, second = (json.loads(file.read_text(encoding="utf-8")) for file in files[:2])
    patients = [
        next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient")
        for bundle in (first, second)
    ]
    patients[0]["identifier"] += patients[1]["identifier"]
    files[0].write_text(json.dumps(first), encoding="utf-8")
    report = _import(records_node, "centre", files[0], organisation_table)
    (broken,) = report.broken
    assert broken.element == "Patient.identifier"
    assert report.replaced == 0


def test_a_file_that_cannot_be_read_is_not_named(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnavailableError) as caught:
        _import(records_node, "centre", resident_files, organisation_table)
    assert "resident-" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_neighbours_in_the_catalogue_are_no_likelier_to_be_of_one_patient_than_chance(
    records_node: Node, organisation_table: OrganisationTable, resident_files: Path
) -> None:
    """A guesser who pairs each entry with the next one published: over many orders the hits are what chance gives."""
    host = records_node.host("centre")
    _import(records_node, "centre", resident_files, organisation_table)
    owners = {row.entry_id: row.subject_ref for row in host.vault.records.each()}
    engine = records_node.engine
    events = [event for height in range(1, engine.head().height + 1) for event in engine.events(height)]
    order = [owners[event.case_id] for event in events if event.command == "catalog.publish"]
    hits = sum(first == second for first, second in pairwise(order))
    total = len(order)
    sizes = Counter(order).values()
    chance = (total - 1) * sum(size * (size - 1) for size in sizes) / (total * (total - 1))
    assert hits <= chance + 5 * chance**0.5 + 3

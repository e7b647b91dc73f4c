"""The read model follows the ledger, starts where it stood, and can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yilian.engine.gateway import Signed
from yilian.errors import NotFoundError, UnavailableError
from yilian.node.compose import Node
from yilian.node.imports import run_import
from yilian.node.organisations import OrganisationTable
from yilian.node.projections import Projector, positions_of
from yilian.storage.rows import CaseQuery, EntryQuery
from yilian.values import case_id
from yilian.workflows.catalog.model import Challenge, Entry, Withdraw
from yilian.workflows.catalog.service import restrict


@pytest.fixture
def filled(records_node: Node, organisation_table: OrganisationTable, resident_files: Path) -> Node:
    run_import(records_node.host("centre"), resident_files, organisation_table)
    return records_node


def test_positions_are_the_fields_that_hold_an_institution() -> None:
    assert positions_of(Challenge) == ("challenger", "custodian")
    assert positions_of(Entry) == ("custodian", "disputer")


def test_a_projector_takes_over_what_was_there_and_follows(filled: Node) -> None:
    projector = Projector(filled)
    projector.start()
    try:
        projector.caught_up()
        page = filled.index.find_entries(EntryQuery(limit=1000))
        rows = list(filled.host("centre").vault.records.each())
        assert {item.entry_id for item in page.items} == {row.entry_id for row in rows}
        restrict(filled.host("centre"), [rows[0].entry_id])
        projector.caught_up()
        entry = filled.index.get_entry(rows[0].entry_id)
        assert entry.restricted
        assert entry.custodian == filled.host("centre").id
    finally:
        projector.stop()


def test_a_case_keeps_who_opened_it_and_its_positions(filled: Node) -> None:
    projector = Projector(filled)
    projector.catch_up()
    row = next(iter(filled.host("centre").vault.records.each()))
    restrict(filled.host("centre"), [row.entry_id])
    later = Projector(filled)
    later.catch_up()
    case = filled.index.get_case(row.entry_id)
    assert case.opener == filled.host("centre").id
    assert ("custodian", filled.host("centre").id) in case.positions
    assert case.flags == ("RESTRICTED",)
    assert json.loads(case.fields)["root"] == row.root.hex()
    found = filled.index.find_cases(CaseQuery(kind="entry", institution=filled.host("centre").id, limit=1000))
    assert row.entry_id in {item.case_id for item in found.items}


def test_a_refused_operation_is_an_event_with_its_number(filled: Node) -> None:
    host = filled.host("centre")
    missing = case_id(bytes(32))
    core = host.gateway.draft(Withdraw(), missing, version=0).core
    (answer,) = host.gateway.send([Signed(core=core)])
    assert not answer.ok
    Projector(filled).catch_up()
    (event,) = filled.index.events_of_case(missing).items
    assert event.result == answer.result[0][1]
    assert json.loads(event.detail)["_refusal"] == [list(answer.result[0])]
    with pytest.raises(NotFoundError):
        filled.index.get_case(missing)


def test_a_read_model_made_again_is_the_same(filled: Node) -> None:
    projector = Projector(filled)
    height = projector.catch_up()
    before = filled.index.find_cases(CaseQuery(limit=1000)), filled.index.tally()
    projector.rebuild()
    assert projector.caught_up() == height
    assert (filled.index.find_cases(CaseQuery(limit=1000)), filled.index.tally()) == before


def test_waiting_for_a_height_that_does_not_come_ends(records_node: Node) -> None:
    with pytest.raises(UnavailableError):
        Projector(records_node).caught_up(10_000, timeout_s=0.01)

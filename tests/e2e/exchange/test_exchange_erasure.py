"""Erasing a record that two others received: what is destroyed where, who keeps a copy, and what goes on as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.e2e.exchange.pair import MEMBERS, SETTINGS, Pair
from yilian.errors import ConflictError, Refused, YilianError
from yilian.ledger.members import InstitutionKind, Role
from yilian.node import erasures, exchange
from yilian.node.compose import now as clock
from yilian.node.home import Home, InstitutionSpec, PersonSpec
from yilian.node.host import Host
from yilian.node.network import NetworkSpec, found_demo
from yilian.storage.vault.records import RecordStatus
from yilian.values import DAY, EntryId, case_id, day_of, month_of, unix_millis
from yilian.workflows.catalog import opening
from yilian.workflows.catalog.destroying import destroy, erase
from yilian.workflows.catalog.model import Entry, ErasureBasis, Refusal
from yilian.workflows.catalog.service import NewRecord, publish_records
from yilian.workflows.consent.copies import Copy, CopyState, Duty, copy_id
from yilian.workflows.consent.interface import Basis, Purpose
from yilian.workflows.consent.model import GrantIssue

CENTRE, HOSPITAL, _, BUREAU = MEMBERS
OFFICER = PersonSpec(label="officer", role=Role.OFFICER)
DATA = PersonSpec(label="data-officer", role=Role.DATA_OFFICER)
PEOPLE = (
    OFFICER,
    DATA,
    PersonSpec(label="disclosure-officer", role=Role.DISCLOSURE_OFFICER),
    PersonSpec(label="physician", role=Role.PHYSICIAN),
)
INSTITUTE = InstitutionSpec(
    slug="institute",
    name="Institute",
    kind=InstitutionKind.RESEARCH_INSTITUTE,
    people=(OFFICER, PersonSpec(label="researcher", role=Role.RESEARCHER)),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = Home(tmp_path_factory.mktemp("erasure") / "home")
    members = (msgspec.structs.replace(CENTRE, people=PEOPLE), HOSPITAL, INSTITUTE, BUREAU)
    found_demo(home, SETTINGS, NetworkSpec(name="erasure", institutions=members, tree_depth=8), clock())
    running = Pair(home).start()
    running.register()
    yield running
    running.stop()


def _fetched_by_both(pair: Pair, *entries: EntryId) -> None:
    assert pair.fetch(pair.grant(entries)).verified
    institute = pair.node.host("institute")
    issue = GrantIssue(
        basis=Basis.CONSENT,
        covered_by=pair.consent(),
        recipient=institute.id,
        purpose=Purpose.TREAT,
        entries=entries,
        level_cap=4,
        begins=unix_millis(pair.node.clock() - 1000),
        ends=unix_millis(pair.node.clock() + DAY),
        deliveries=10,
        depth=0,
    )
    grant = pair.centre.gateway.act(issue).case_id
    researcher = institute.person(Role.RESEARCHER)
    assert exchange.fetch(pair.node, institute, grant, signer=researcher.signer, role=Role.RESEARCHER).verified


def _erase(pair: Pair, entry: EntryId) -> None:
    pair.wait(lambda: pair.node.index.height() == pair.node.engine.head().height)
    officers = (pair.centre.person(Role.DATA_OFFICER).signer, pair.centre.person(Role.DISCLOSURE_OFFICER).signer)
    recipients = erasures.recipients_of(pair.node, entry)
    erase(pair.centre.gateway, entry, ErasureBasis.PATIENT_RIGHT, recipients=recipients, officers=officers)


def _copy(pair: Pair, entry: EntryId, host: Host) -> tuple[str, Duty | None]:
    found = pair.get(Copy, copy_id(pair.node.chain, entry, host.id))
    return found.state, found.fields.duty


def test_a_record_is_destroyed_at_its_custodian_and_answered_for_by_all_who_received_it(pair: Pair) -> None:
    erased, kept = pair.publish(b"to be erased", b"to be kept")
    _fetched_by_both(pair, erased, kept)
    root = pair.get(Entry, erased).fields.root
    institute = pair.node.host("institute")
    _erase(pair, erased)
    pair.wait(lambda: pair.get(Entry, erased).state == "erased")

    record = pair.centre.vault.records.get(erased)
    assert (record.status, record.data_key, record.salt) == (RecordStatus.ERASED, b"", b"")
    assert not pair.centre.blobs.exists(root)
    assert _copy(pair, erased, pair.hospital) == (CopyState.KEPT, Duty.MEDICAL_RECORD)
    assert opening.open_copy(pair.hospital, erased) == b"to be erased"
    assert _copy(pair, erased, institute) == (CopyState.ERASED, None)
    assert institute.vault.releases.copies_of_entry(erased) == []
    assert not institute.blobs.exists(root)
    assert opening.open_copy(institute, kept) == b"to be kept"
    assert pair.centre.vault.records.get(kept).data_key
    (year,) = {pair.centre.vault.records.get(entry).year for entry in (erased, kept)}
    assert pair.centre.vault.subjects.find_key(pair.subject, year) is not None


def test_nobody_receives_what_is_being_erased(pair: Pair) -> None:
    (entry,) = pair.publish(b"granted, then erased")
    grant = pair.grant((entry,))
    _erase(pair, entry)
    pair.wait(lambda: pair.get(Entry, entry).state == "erased")
    with pytest.raises(YilianError):
        pair.fetch(grant)


def test_the_last_record_of_a_year_takes_the_subject_key_along(pair: Pair) -> None:
    other = b"\x05" * 16
    (entry,) = pair.publish(b"the only one", subject=other)
    year = pair.centre.vault.records.get(entry).year
    assert pair.centre.vault.subjects.find_key(other, year) is not None
    _erase(pair, entry)
    pair.wait(lambda: pair.get(Entry, entry).state == "erased")
    assert pair.centre.vault.subjects.find_key(other, year) is None


def test_destroying_again_changes_nothing(pair: Pair) -> None:
    (entry,) = pair.publish(b"destroyed twice")
    root = pair.get(Entry, entry).fields.root
    for _ in range(2):
        destroy(pair.centre, entry)
        assert not pair.centre.blobs.exists(root)
        assert pair.centre.vault.records.get(entry).status == RecordStatus.ERASED
    destroy(pair.centre, case_id(b"\x09" * 32))
    with pytest.raises(ConflictError):
        opening.open_record(pair.centre, entry)


def test_an_erasure_that_a_crash_cut_short_is_finished(pair: Pair) -> None:
    (entry,) = pair.publish(b"half destroyed")
    root = pair.get(Entry, entry).fields.root
    pair.centre.vault.records.erase(entry)
    assert pair.centre.blobs.exists(root)
    _erase(pair, entry)
    pair.wait(lambda: pair.get(Entry, entry).state == "erased")
    assert not pair.centre.blobs.exists(root)


def test_the_file_that_a_record_came_in_is_destroyed_with_it(pair: Pair, tmp_path: Path) -> None:
    source = tmp_path / "bundle.json"
    source.write_bytes(b'{"whole": "bundle"}')
    ((file, _),) = opening.keep_received(pair.centre, [source])
    month = month_of(day_of(pair.node.clock()))
    record = NewRecord(
        subject_ref=pair.subject, kind="C0002", level=3, month=month, payload=b"cut from it", source=file.digest
    )
    (entry,) = publish_records(pair.centre, [record])
    destroy(pair.centre, entry)
    assert pair.centre.vault.records.find_file(file.digest) is None
    assert not pair.centre.blobs.exists(file.root)


def test_a_record_is_not_erased_as_over_age_while_it_is_to_be_kept(pair: Pair) -> None:
    (entry,) = pair.publish(b"young")
    officers = (pair.centre.person(Role.DATA_OFFICER).signer, pair.centre.person(Role.DISCLOSURE_OFFICER).signer)
    with pytest.raises(Refused) as caught:
        erase(pair.centre.gateway, entry, ErasureBasis.RETENTION_OVER, recipients=(), officers=officers)
    assert caught.value.number == Refusal.RETENTION_RUNNING

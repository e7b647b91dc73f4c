"""An inspection gets the records it asked for: the custodian's node grants by itself, the inspector fetches once."""

from __future__ import annotations

import pytest

from tests.e2e.exchange.pair import WAIT_S, Pair
from yilian.crypto.suite import sha256
from yilian.engine.gateway import check
from yilian.errors import NoGrantError, Refused
from yilian.ledger.cases import Command, Found
from yilian.ledger.members import Role
from yilian.node import exchange, inspections
from yilian.node.host import Host
from yilian.node.reactions import DONE, REACTIONS
from yilian.storage.vault.releases import NoteKind
from yilian.storage.vault.subjects import new_subject_ref
from yilian.values import CaseId, EntryId, day_of
from yilian.workflows.audit.model import (
    CancelReason,
    Disclosure,
    DisclosureState,
    Inspection,
    InspectionApproveScope,
    InspectionCancel,
    InspectionClose,
    InspectionExport,
    InspectionFind,
    InspectionOpen,
    InspectionRequestContent,
    InspectionState,
    Severity,
)
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.catalog import opening
from yilian.workflows.consent.interface import Basis, Purpose
from yilian.workflows.consent.model import Grant, GrantState
from yilian.workflows.consent.receiving import Fetched


def _bureau(pair: Pair) -> Host:
    return pair.node.host("bureau")


def _act(pair: Pair, command: Command, case: CaseId | None, *roles: Role) -> CaseId:
    bureau = _bureau(pair)
    return check(
        bureau.gateway.act(command, case, persons=[(bureau.person(role).signer, role) for role in roles])
    ).case_id


def _asked(pair: Pair, *entries: EntryId) -> CaseId:
    """Open an inspection of the centre, have its scope approved, and ask for records."""
    today = day_of(pair.node.clock())
    opened = InspectionOpen(
        legal_basis="ROUTINE",
        institutions=(pair.centre.id,),
        period_from=today,
        period_to=today,
        question=sha256(b"question"),
    )
    case = _act(pair, opened, None, Role.INSPECTOR)
    _act(pair, InspectionApproveScope(), case, Role.SECOND_OFFICER)
    return _act(pair, InspectionRequestContent(entries=entries), case, Role.INSPECTOR)


def _grants(pair: Pair, inspection: CaseId) -> list[Found[Grant]]:
    found = pair.get(Inspection, inspection)
    ids = [one.grant for one in inspections.owed(pair.centre, found)]
    grants = [pair.centre.gateway.find(Grant, grant) for grant in ids]
    return [grant for grant in grants if grant is not None]


def _granted(pair: Pair, *entries: EntryId) -> tuple[CaseId, list[Found[Grant]]]:
    inspection = _asked(pair, *entries)
    pair.wait(lambda: len(_grants(pair, inspection)) == len(entries))
    return inspection, _grants(pair, inspection)


def _fetch(pair: Pair, grant: CaseId) -> Fetched:
    inspector = _bureau(pair).person(Role.INSPECTOR)
    return exchange.fetch(pair.node, _bureau(pair), grant, signer=inspector.signer, role=Role.INSPECTOR)


def _concluded(pair: Pair, inspection: CaseId) -> None:
    _act(pair, InspectionExport(manifest=sha256(b"manifest")), inspection, Role.INSPECTOR)
    finding = InspectionFind(finding=sha256(b"finding"), severity=Severity.NONE)
    _act(pair, finding, inspection, Role.INSPECTOR)


def test_an_inspector_fetches_what_the_custodian_granted_by_itself_until_the_inspection_closes(pair: Pair) -> None:
    (entry,) = pair.publish(b"asked for by an inspector")
    inspection, (grant,) = _granted(pair, entry)
    fields = grant.fields
    assert (fields.basis, fields.covered_by, fields.purpose) == (Basis.STATUTORY, None, Purpose.HOPERAT)
    assert (fields.custodian, fields.recipient, fields.entries) == (pair.centre.id, _bureau(pair).id, (entry,))

    fetched = _fetch(pair, grant.header.id)
    assert fetched.verified
    assert opening.open_copy(_bureau(pair), entry) == b"asked for by an inspector"
    pairing = disclosure_id(pair.node.chain, fetched.use_id)
    pair.wait(lambda: pair.centre.gateway.find(Disclosure, pairing) is not None)
    pair.wait(lambda: pair.get(Disclosure, pairing).state == DisclosureState.MATCHED)
    with pytest.raises(Refused):
        _fetch(pair, grant.header.id)

    _concluded(pair, inspection)
    closing = InspectionClose(grants=(grant.header.id,))
    _act(pair, closing, inspection, Role.INSPECTOR, Role.SECOND_OFFICER)
    assert pair.get(Inspection, inspection).state == InspectionState.CLOSED
    assert pair.get(Grant, grant.header.id).state == GrantState.ENDED


def test_the_custodian_notes_whose_patient_is_to_be_told_of_a_grant_by_law(pair: Pair) -> None:
    subject = new_subject_ref()
    (entry,) = pair.publish(b"of a patient to be told", subject=subject)
    _, (grant,) = _granted(pair, entry)
    pair.wait(lambda: _noted(pair, grant.header.id) is not None)
    assert _noted(pair, grant.header.id) == subject


def _noted(pair: Pair, grant: CaseId) -> bytes | None:
    note = pair.centre.vault.releases.find_note(grant, NoteKind.PATIENT_TO_TELL)
    return None if note is None else note.body


def test_records_of_several_patients_are_granted_one_by_one_and_once(pair: Pair) -> None:
    entries = (
        *pair.publish(b"of one patient", subject=new_subject_ref()),
        *pair.publish(b"of another patient", subject=new_subject_ref()),
    )
    inspection, grants = _granted(pair, *entries)
    assert [grant.fields.entries for grant in grants] == [(entry,) for entry in entries]
    assert all(_fetch(pair, grant.header.id).verified for grant in grants)
    assert pair.reactors.wait_idle(WAIT_S)

    (further,) = pair.publish(b"asked for later")
    _act(pair, InspectionRequestContent(entries=(entries[0], further)), inspection, Role.INSPECTOR)
    pair.wait(lambda: len(_grants(pair, inspection)) == len(entries) + 1)
    assert pair.reactors.wait_idle(WAIT_S)
    before = pair.node.engine.head().height
    assert REACTIONS[inspections.GRANT](pair.node, pair.centre, [inspection]) == DONE
    assert pair.node.engine.head().height == before
    assert pair.get(Grant, grants[0].header.id).state == GrantState.EXHAUSTED


def test_grants_that_the_end_of_an_inspection_did_not_name_are_taken_back_by_their_custodian(pair: Pair) -> None:
    entries = pair.publish(b"named at the end", b"left over at the end")
    inspection, (named, left) = _granted(pair, *entries)
    cancelling = InspectionCancel(reason=CancelReason.NO_LONGER_NEEDED, grants=(named.header.id,))
    _act(pair, cancelling, inspection, Role.INSPECTOR)
    assert pair.get(Grant, named.header.id).state == GrantState.ENDED
    pair.wait(lambda: pair.get(Grant, left.header.id).state == GrantState.REVOKED_EVERYWHERE)
    with pytest.raises(NoGrantError, match="GRANT_REVOKED"):
        _fetch(pair, left.header.id)


def test_an_inspection_that_is_over_is_granted_nothing(pair: Pair) -> None:
    (entry,) = pair.publish(b"of an inspection that is over")
    inspection, (grant,) = _granted(pair, entry)
    _act(pair, InspectionCancel(reason=CancelReason.MISTAKE, grants=(grant.header.id,)), inspection, Role.INSPECTOR)
    assert inspections.owed(pair.centre, pair.get(Inspection, inspection)) == ()
    assert REACTIONS[inspections.GRANT](pair.node, pair.centre, [inspection]) == DONE
    assert REACTIONS[inspections.END](pair.node, pair.centre, [inspection]) == DONE

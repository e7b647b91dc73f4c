"""Referring a resident and answering: request, consent, records, match, result, follow-up."""

from __future__ import annotations

import msgspec
import pytest

from yilian.crypto.intl import Ed25519Signer
from yilian.errors import ConflictError, NotFoundError, Refused, VerificationError
from yilian.ledger.cases import Patient
from yilian.ledger.members import Role
from yilian.node import care
from yilian.node.care import Referred, Wish, Witnessed
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.node.screening import proposals
from yilian.storage.vault.releases import NoteKind, ReceivedCopy
from yilian.values import CaseId, EntryId, op_id
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.catalog.model import ChallengeAnswer, ChallengeOpen, ChallengePass
from yilian.workflows.catalog.opening import open_copy, open_record
from yilian.workflows.catalog.service import restrict
from yilian.workflows.consent.model import Consent, ConsentState, Sign
from yilian.workflows.referral.model import Accept, Arrive, Direction, Receive, Referral, State, Urgency, Verify


@pytest.fixture
def node(screened_node: Node) -> Node:
    return screened_node


def _wish(node: Node) -> Wish:
    resident = proposals(node.host("centre"))[0]
    return Wish(
        subject_ref=resident.subject_ref,
        receiver=node.host("hospital").id,
        urgency=Urgency.ROUTINE,
        purpose="high ten-year risk",
        specialty="cardiology",
    )


def _witnessed(host: Host) -> Witnessed:
    witness = host.person(Role.PHYSICIAN)
    return Witnessed(paper=b"%PDF scan", content_type="application/pdf", witness=witness.signer, role=witness.role)


def _refer(node: Node) -> Referred:
    centre = node.host("centre")
    return care.refer(centre, _wish(node), centre.person(Role.PHYSICIAN).signer, _witnessed(centre))


def _subject(host: Host, case: CaseId) -> bytes:
    note = host.vault.releases.find_note(case, NoteKind.CASE_SUBJECT)
    assert note is not None
    return note.body


def _receive(node: Node, referred: Referred) -> None:
    """Verify and receive, then hand the request over as a use would."""
    hospital, centre = node.host("hospital"), node.host("centre")
    entries = (referred.request, *referred.records)
    challenge = hospital.gateway.act(ChallengeOpen(custodian=centre.id, entries=entries)).case_id
    centre.gateway.act(ChallengeAnswer(message=node.chain), challenge)
    hospital.gateway.act(ChallengePass(), challenge)
    hospital.gateway.act(Verify(), referred.case, refs=[challenge])
    hospital.gateway.act(Receive(), referred.case)
    _hand_over(centre, hospital, referred.request, referred.case)


def _hand_over(sender: Host, recipient: Host, entry_id: EntryId, use: CaseId) -> None:
    row = sender.vault.records.get(entry_id)
    with sender.blobs.open(row.root) as blob:
        recipient.blobs.put(row.root, blob.read())
    copy = ReceivedCopy(
        entry_id=entry_id, use_id=use, root=row.root, data_key=row.data_key, salt=row.salt, true_size=row.true_size
    )
    recipient.vault.releases.put_copies([copy])


def _arrive(node: Node, referred: Referred) -> None:
    hospital = node.host("hospital")
    physician = hospital.person(Role.PHYSICIAN)
    _receive(node, referred)
    hospital.gateway.act(Accept(), referred.case, persons=[(physician.signer, Role.PHYSICIAN)])
    hospital.gateway.act(Arrive(), referred.case)


def _referral(node: Node, case: CaseId) -> tuple[str, Referral]:
    found = node.host("centre").gateway.find(Referral, case)
    assert found is not None
    return found.state, found.fields


def test_a_resident_is_referred_upwards_with_consent_on_paper(node: Node) -> None:
    resident, referred = _wish(node).subject_ref, _refer(node)
    state, fields = _referral(node, referred.case)
    assert (state, fields.direction) == (State.REQUESTED, Direction.UP)
    assert fields.records == referred.records
    centre = node.host("centre")
    consent = centre.gateway.find(Consent, referred.consent)
    assert consent is not None
    assert consent.state == ConsentState.ACTIVE
    assert consent.header.patient == Patient(key=None, home=centre.id)
    assert _subject(centre, referred.case) == resident


def test_the_request_tells_the_receiver_what_it_needs_and_the_ledger_nothing(node: Node) -> None:
    centre = node.host("centre")
    referred = _refer(node)
    request, patient = care.read_request(centre, referred.case)
    assert (request.purpose, request.specialty, request.priority) == ("high ten-year risk", "cardiology", "routine")
    assert request.risk is not None
    assert request.risk.risk_class == "high"
    assert request.records == tuple(entry.hex() for entry in referred.records)
    assert b'"Patient"' in patient
    found = centre.gateway.find(Entry, referred.request)
    assert found is not None
    assert found.fields.kind == "C0002"


def test_who_was_referred_is_not_proposed_again(node: Node) -> None:
    before = proposals(node.host("centre"))
    _refer(node)
    assert proposals(node.host("centre")) == before[1:]


def test_the_newest_unrestricted_records_below_level_five_go_along(node: Node) -> None:
    centre = node.host("centre")
    subject_ref = _wish(node).subject_ref
    picked = care.select_records(centre, subject_ref)
    months = [centre.vault.records.get(entry_id).month for entry_id in picked]
    assert months == sorted(months, reverse=True)
    restrict(centre, [picked[0]])
    assert picked[0] not in care.select_records(centre, subject_ref)
    assert len(care.select_records(centre, subject_ref, 1)) == 1


def test_the_receiver_matches_a_patient_it_knows_and_registers_one_it_does_not(node: Node) -> None:
    hospital, centre = node.host("hospital"), node.host("centre")
    referred = _refer(node)
    _receive(node, referred)
    content = open_copy(hospital, referred.request)
    before = hospital.vault.subjects.count()
    matched = care.match_patient(hospital, content)
    assert care.match_patient(hospital, content) == matched
    after = hospital.vault.subjects.count()
    assert after - before in {0, 1}
    ours = centre.vault.subjects.get(_subject(centre, referred.case))
    theirs = hospital.vault.subjects.get(matched)
    assert set(ours.identifiers) & set(theirs.identifiers)
    assert theirs.subject_ref != ours.subject_ref
    with pytest.raises(VerificationError):
        care.match_patient(hospital, b"{}")


def test_a_result_goes_back_to_the_referrer(node: Node) -> None:
    hospital, centre = node.host("hospital"), node.host("centre")
    referred = _refer(node)
    _arrive(node, referred)
    result = care.complete(hospital, referred.case, hospital.person(Role.PHYSICIAN).signer, text="控制血压 <140/90")
    state, fields = _referral(node, referred.case)
    assert (state, fields.result) == (State.COMPLETED, result)
    assert len(fields.grants) == 3
    assert care.read_result(hospital, referred.case).text == "控制血压 <140/90"
    with pytest.raises(NotFoundError):
        care.read_result(centre, referred.case)
    _hand_over(hospital, centre, result, referred.case)
    assert care.read_result(centre, referred.case).kind == "C0053"


def test_a_result_needs_a_patient_who_arrived_and_a_request_that_was_fetched(node: Node) -> None:
    hospital = node.host("hospital")
    physician = hospital.person(Role.PHYSICIAN).signer
    referred = _refer(node)
    with pytest.raises(ConflictError):
        care.complete(hospital, referred.case, physician, text="x")
    with pytest.raises(NotFoundError):
        care.attest_arrival(hospital, referred.case)
    with pytest.raises(NotFoundError):
        care.complete(hospital, referred.consent, physician, text="x")


def test_the_hospital_refers_down_under_a_consent_of_its_own(node: Node) -> None:
    hospital, centre = node.host("hospital"), node.host("centre")
    physician = hospital.person(Role.PHYSICIAN).signer
    referred = _refer(node)
    _arrive(node, referred)
    result = care.complete(hospital, referred.case, physician, text="follow up")
    wish = Wish(
        subject_ref=_subject(hospital, referred.case),
        receiver=centre.id,
        urgency=Urgency.ROUTINE,
        purpose="follow-up",
    )
    down = care.refer_down(hospital, referred.case, wish, physician, witnessed=_witnessed(hospital))
    assert _referral(node, referred.case)[0] == State.CLOSED
    state, fields = _referral(node, down.case)
    assert (state, fields.direction, fields.predecessor) == (State.REQUESTED, Direction.DOWN, referred.case)
    assert result in fields.records


def test_a_wallet_signs_the_consent_itself(node: Node) -> None:
    centre = node.host("centre")
    wish = _wish(node)
    prepared = care.prepare_request(centre, wish)
    key = Ed25519Signer.generate()
    patient = Patient(key=key.public_key, home=None)
    consent = care.propose_consent(centre, wish, prepared, patient, op=op_id(bytes(range(16))))
    proposed = centre.gateway.find(Consent, consent)
    assert proposed is not None
    centre.gateway.act(
        Sign(text=proposed.fields.text, paper=None, paper_entry=None), consent, persons=[(key, Role.PATIENT)]
    )
    physician = centre.person(Role.PHYSICIAN).signer
    case_patient = Patient(key=Ed25519Signer.generate().public_key, home=None)
    referred = care.refer_under(centre, wish, prepared, physician, consent=consent, patient=case_patient)
    assert _referral(node, referred.case)[0] == State.REQUESTED


def test_nothing_is_referred_without_a_consent_that_covers_it(node: Node) -> None:
    centre = node.host("centre")
    wish = _wish(node)
    prepared = care.prepare_request(centre, wish)
    patient = Patient(key=None, home=centre.id)
    consent = care.propose_consent(centre, wish, prepared, patient)
    physician = centre.person(Role.PHYSICIAN).signer
    with pytest.raises(Refused):
        care.refer_under(centre, wish, prepared, physician, consent=consent, patient=patient)
    with pytest.raises(ConflictError):
        care.prepare_request(centre, msgspec.structs.replace(wish, records=()))


def test_the_paper_is_given_back_as_scanned(node: Node) -> None:
    centre = node.host("centre")
    referred = _refer(node)
    consent = centre.gateway.find(Consent, referred.consent)
    assert consent is not None
    assert consent.fields.paper_entry is not None
    assert open_record(centre, consent.fields.paper_entry) == b"%PDF scan"
    assert centre.vault.records.get(consent.fields.paper_entry).content_type == "application/pdf"

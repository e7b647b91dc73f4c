"""What the nodes do by themselves after a block: verify and receive referrals, match emergencies, expire, recover."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.exchange.pair import SETTINGS, WAIT_S, Pair, found_home
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.engine.gateway import Signed, check
from yilian.ledger.cases import Patient
from yilian.ledger.members import Role
from yilian.node import exchange
from yilian.node.compose import open_node
from yilian.storage.vault.releases import OneTimeKeyStatus
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.values import DAY, HOUR, CaseId, EntryId, unix_millis
from yilian.workflows.audit.model import Disclosure, DisclosureState
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.catalog.model import Challenge, ChallengeFail, ChallengeOpen, ChallengeState
from yilian.workflows.consent.emergency_model import (
    Emergency,
    EmergencyCosign,
    EmergencyReason,
    EmergencyState,
    NoMatchReason,
)
from yilian.workflows.consent.interface import is_attested
from yilian.workflows.consent.model import Grant, GrantState, Use, UseState
from yilian.workflows.consent.service import Identity
from yilian.workflows.referral.model import Accept, Arrive, Create, Direction, Referral, State, Urgency


def _refer(pair: Pair, request: EntryId, records: tuple[EntryId, ...]) -> CaseId:
    physician = pair.centre.person(Role.PHYSICIAN)
    command = Create(
        receiver=pair.hospital.id,
        direction=Direction.UP,
        urgency=Urgency.ROUTINE,
        request=request,
        records=records,
        consent=pair.consent(),
        deliveries=60,
        view_until=unix_millis(pair.node.clock() + 80 * DAY),
        patient=Patient(key=Ed25519Signer.from_seed(sha256(b"case key")).public_key, home=None),
    )
    return pair.centre.gateway.act(command, persons=[(physician.signer, Role.PHYSICIAN)]).case_id


def test_a_referral_is_verified_pushed_and_received_and_its_consent_attested_by_the_nodes_alone(pair: Pair) -> None:
    request, *records = pair.publish(*(f"record {number}".encode() for number in range(8)))
    case = _refer(pair, request, tuple(records))
    pair.wait(lambda: pair.get(Referral, case).state == State.RECEIVED)
    (of_request,) = pair.get(Referral, case).fields.grants
    assert pair.fetch(of_request).verified

    physician = pair.hospital.person(Role.PHYSICIAN)
    check(pair.hospital.gateway.act(Accept(), case, persons=[(physician.signer, Role.PHYSICIAN)]))
    _, of_records = pair.get(Referral, case).fields.grants
    fetched = pair.fetch(of_records)
    assert fetched.verified
    assert fetched.entries == tuple(records)

    referral = pair.get(Referral, case)
    check(pair.hospital.gateway.act(Arrive(), case))
    pair.wait(lambda: is_attested(pair.node.engine.reads(), referral.fields.consent, pair.hospital.id))
    assert pair.reactors.wait_idle(WAIT_S)


def test_a_receiver_that_cannot_be_reached_is_told_again_until_it_can(pair: Pair) -> None:
    request, record = pair.publish(b"a request to push again", b"a record to push again")
    address, pair.hospital.peer_address = pair.hospital.peer_address, ""
    tried = pair.reactors.failures["push"]
    case = _refer(pair, request, (record,))
    pair.wait(lambda: pair.reactors.failures["push"] > tried + 1)
    assert pair.get(Referral, case).state in {State.REQUESTED, State.VERIFIED}
    pair.hospital.peer_address = address
    pair.wait(lambda: pair.get(Referral, case).state == State.RECEIVED)


def test_many_reservations_are_answered_in_few_blocks(pair: Pair) -> None:
    entries = pair.publish(*(f"record {number} of many".encode() for number in range(12)))
    grants = [pair.grant((entry,)) for entry in entries]
    asked = [_begun(pair, grant) for grant in grants]
    before = pair.node.engine.head().height
    answers = pair.hospital.gateway.send(asked)
    uses = [answer.case_id for answer in answers]
    pair.wait(lambda: all(pair.get(Use, use).state == UseState.CONFIRMED for use in uses))
    assert pair.node.engine.head().height - before < 3 * len(uses)


def _begun(pair: Pair, grant: CaseId) -> Signed:
    """Bring a reservation to where it is signed on a device and handed in by somebody else."""
    physician = pair.hospital.person(Role.PHYSICIAN)
    asked = exchange.begin(pair.node, pair.hospital, grant, person=physician.key_id)
    signature = pair.hospital.gateway.sign(asked.draft.core, physician.signer, Role.PHYSICIAN)
    return Signed(core=asked.draft.core, persons=(signature,))


def test_a_referral_whose_record_is_lost_is_contested_and_not_received(pair: Pair) -> None:
    request, kept, lost = pair.publish(b"a request", b"kept", b"lost")
    pair.centre.blobs.delete(pair.get(Entry, lost).fields.root)
    first = pair.node.engine.head().height
    case = _refer(pair, request, (kept, lost))

    def contested() -> bool:
        heights = range(first + 1, pair.node.engine.head().height + 1)
        events = (event for height in heights for event in pair.node.engine.events(height))
        return any(isinstance(event.body, ChallengeFail) and event.body.entries == (lost,) for event in events)

    pair.wait(contested)
    assert pair.get(Referral, case).state == State.REQUESTED


def test_an_institution_checks_its_own_store_by_a_challenge(pair: Pair) -> None:
    entries = pair.publish(b"one of mine", b"another of mine")
    challenge = pair.centre.gateway.act(ChallengeOpen(custodian=pair.centre.id, entries=entries)).case_id
    pair.wait(lambda: pair.get(Challenge, challenge).state == ChallengeState.PASSED)


def test_a_grant_whose_time_is_over_is_expired_by_a_node(pair: Pair) -> None:
    grant = pair.grant(pair.publish(b"for a second"), lasts_ms=1000)
    pair.wait(lambda: pair.get(Grant, grant).state == GrantState.EXPIRED)


def _emergency(pair: Pair, identifier: str) -> CaseId:
    return exchange.open_emergency(
        pair.node,
        pair.hospital,
        pair.centre.id,
        identity=Identity(identifiers=(identifier,)),
        reason=EmergencyReason.UNCONSCIOUS,
        lasts_ms=HOUR,
        signer=pair.hospital.person(Role.PHYSICIAN).signer,
    ).case_id


def test_an_emergency_is_matched_by_the_custodian_who_alone_lists_the_records(pair: Pair) -> None:
    subject = new_subject_ref()
    pair.centre.vault.subjects.put([Subject(subject_ref=subject, identity=b"{}", identifiers=("urn:test|2",))])
    entries = pair.publish(b"known", b"known too", subject=subject)
    case = _emergency(pair, "urn:test|2")
    pair.wait(lambda: pair.get(Emergency, case).state == EmergencyState.EMERGENCY_ACTIVE)
    grant = pair.get(Emergency, case).fields.grant
    assert grant is not None
    fetched = pair.fetch(grant)
    assert fetched.verified
    assert sorted(fetched.entries) == sorted(entries)


def test_an_emergency_that_reaches_level_five_needs_a_second_signature(pair: Pair) -> None:
    subject = new_subject_ref()
    pair.centre.vault.subjects.put([Subject(subject_ref=subject, identity=b"{}", identifiers=("urn:test|3",))])
    pair.publish(b"of level five", level=5, subject=subject)
    case = _emergency(pair, "urn:test|3")
    pair.wait(lambda: pair.get(Emergency, case).state == EmergencyState.AWAITING_COSIGNATURE)
    other = pair.node.host("other")
    physician = other.person(Role.PHYSICIAN)
    check(other.gateway.act(EmergencyCosign(), case, persons=[(physician.signer, Role.PHYSICIAN)]))
    pair.wait(lambda: pair.get(Emergency, case).state == EmergencyState.EMERGENCY_ACTIVE)
    assert pair.reactors.wait_idle(WAIT_S)
    grant = pair.get(Emergency, case).fields.grant
    assert grant is not None
    assert pair.fetch(grant).verified


def test_an_emergency_of_nobody_known_is_declined_on_record(pair: Pair) -> None:
    case = _emergency(pair, "urn:test|unknown")
    pair.wait(lambda: pair.get(Emergency, case).state == EmergencyState.NOT_MATCHED)
    assert pair.get(Emergency, case).fields.no_match == NoMatchReason.UNKNOWN_PATIENT


def test_a_restart_delivers_what_was_reserved_and_opens_what_nobody_waits_for(tmp_path: Path) -> None:
    home = found_home(tmp_path)
    before = Pair(home).start(reactors=False)
    before.register()
    entries = before.publish(b"reserved before the restart")
    grant = before.grant(entries)
    physician = before.hospital.person(Role.PHYSICIAN)
    asked = exchange.begin(before.node, before.hospital, grant, person=physician.key_id)
    signature = before.hospital.gateway.sign(asked.draft.core, physician.signer, Role.PHYSICIAN)
    before.hospital.gateway.send([Signed(core=asked.draft.core, persons=(signature,))])
    use = asked.draft.case_id
    assert before.use(use).state == UseState.RESERVED
    before.stop()

    after = Pair(home).start()
    after.wait(lambda: after.get(Use, use).state == UseState.CONFIRMED)
    after.wait(lambda: after.centre.gateway.find(Disclosure, disclosure_id(after.node.chain, use)) is not None)
    key = after.hospital.vault.releases.find_key_of_use(use)
    pair_state = after.get(Disclosure, disclosure_id(after.node.chain, use)).state
    assert after.reactors.wait_idle(WAIT_S)
    failures = dict(after.reactors.failures)
    after.stop()

    assert key is not None
    assert key.status == OneTimeKeyStatus.OPENED
    assert pair_state == DisclosureState.MATCHED
    assert failures == {}

    again = open_node(home, SETTINGS)
    cursors = {slug: host.vault.access.cursor("reactors") for slug, host in again.hosts.items()}
    head = again.engine.head().height
    again.close()
    assert set(cursors.values()) == {head}

"""Keys: registered with proof, rotated, suspended, revoked; valid at the time of a block."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflows.governance.council import Council, refused, refused_by_kernel
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.ledger.envelope import InvalidTransaction, TransactionCode
from yilian.ledger.members import HeldBy, InstitutionKind, Key, KeyState, Role
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KernelRefusal
from yilian.testing.consortium import Consortium
from yilian.values import DAY, CaseId, case_id, public_key, unix_millis
from yilian.workflows import governance
from yilian.workflows.governance import interface
from yilian.workflows.governance.model import (
    OFFICER_KEY_ON_NODE,
    KeyRegister,
    KeyResume,
    KeyRevoke,
    KeyRotate,
    KeySuspend,
    NewKey,
    Refusal,
)
from yilian.workflows.governance.records import Suspend

NEW = Ed25519Signer.from_seed(sha256(b"a new key"))
THREE_YEARS = 3 * 366 * DAY


def register(council: Council, key: NewKey, role: Role = Role.NURSE, name: str = "centre") -> Answer:
    c = council.consortium
    answer: Answer = c.act(c[name], KeyRegister(role=role, key=key), persons=[Role.OFFICER])
    return answer


def a_key(council: Council, name: str = "centre") -> NewKey:
    key: NewKey = council.key(council.consortium[name], NEW)
    return key


def state(council: Council, key: CaseId) -> str:
    return str(council.consortium.case(Key, key).state)


def nurse(council: Council, name: str = "centre") -> CaseId:
    return case_id(council.consortium[name].person(Role.NURSE).key_id)


def revoke(c: Consortium, name: str, key: CaseId, *roles: Role, since: int = 0) -> Answer:
    command = KeyRevoke(reason="lost", compromised_since=unix_millis(since))
    return c.act(c[name], command, key, persons=roles)


# --------------------------------------------------------------------------------------------------------- registration


def test_an_officer_registers_a_persons_key_under_its_key_id(council: Council) -> None:
    answer = register(council, a_key(council))
    assert answer.ok
    assert answer.case_id == case_id(NEW.key_id)
    found = council.consortium.case(Key, answer.case_id)
    assert found.state == KeyState.ACTIVE
    assert (found.fields.owner, found.fields.role) == (council.consortium["centre"].id, Role.NURSE)


def test_a_registered_key_signs_from_the_next_block(council: Council) -> None:
    c = council.consortium
    assert register(council, a_key(council), Role.OFFICER).ok
    again = KeyRegister(role=Role.NURSE, key=council.key(c["centre"], Ed25519Signer.from_seed(sha256(b"next"))))
    assert c.act(c["centre"], again, persons=[(Role.OFFICER, NEW)]).ok


@pytest.mark.parametrize(
    ("changes", "role", "refusal"),
    [
        pytest.param({"suite": 2}, Role.NURSE, Refusal.SUITE_NOT_ALLOWED, id="suite"),
        pytest.param({"public_key": public_key(bytes(32))}, Role.NURSE, Refusal.WEAK_KEY, id="small-order"),
        pytest.param({"possession": bytes(64)}, Role.NURSE, Refusal.NO_POSSESSION_PROOF, id="no-proof"),
        pytest.param({}, Role.COURIER, Refusal.ROLE_NOT_FOR_KIND, id="courier-at-a-centre"),
        pytest.param({}, Role.NEWCOMER, Refusal.ROLE_NOT_FOR_KIND, id="newcomer"),
        pytest.param({}, Role.PATIENT, Refusal.ROLE_NOT_FOR_KIND, id="patient"),
        pytest.param({"held_by": HeldBy.NODE}, Role.OFFICER, Refusal.OFFICER_KEY_ON_NODE, id="officer-on-node"),
        pytest.param({}, Role.PHYSICIAN, Refusal.LICENCE_MISSING, id="physician-without-licence"),
        pytest.param({}, Role.PHARMACIST, Refusal.LICENCE_MISSING, id="pharmacist-without-licence"),
        pytest.param({}, Role.NODE, Refusal.EXCHANGE_KEY_MISPLACED, id="gateway-without-exchange-key"),
        pytest.param({"valid_until": unix_millis(0)}, Role.NURSE, Refusal.VALIDITY_OUT_OF_LIMIT, id="over-already"),
        pytest.param(
            {"valid_from": unix_millis(2**62)}, Role.NURSE, Refusal.VALIDITY_OUT_OF_LIMIT, id="ends-before-it-begins"
        ),
    ],
)
def test_a_key_is_refused(council: Council, changes: dict[str, Any], role: Role, refusal: Refusal) -> None:
    assert refused(register(council, replace(a_key(council), **changes), role), refusal)


@pytest.mark.parametrize(("over", "done"), [(0, True), (1, False)])
def test_a_key_holds_for_its_longest_validity_and_no_longer(council: Council, over: int, done: bool) -> None:
    end = unix_millis(council.consortium.time + 1 + THREE_YEARS + over)
    assert register(council, replace(a_key(council), valid_until=end)).ok is done


@pytest.mark.parametrize("size", [32, 65])
def test_an_exchange_key_goes_with_a_gateway_key_alone(council: Council, size: int) -> None:
    exchange = public_key(b"\x09" * size)
    key = council.key(council.consortium["centre"], NEW, exchange=exchange)
    assert refused(register(council, key, Role.NURSE), Refusal.EXCHANGE_KEY_MISPLACED)
    assert register(council, key, Role.NODE).ok is (size == 32)


def test_a_key_is_registered_once_by_anyone(council: Council) -> None:
    assert register(council, a_key(council)).ok
    again = register(council, a_key(council, "hospital"), name="hospital")
    assert refused_by_kernel(again, KernelRefusal.STALE_VERSION)


def test_anothers_key_cannot_be_registered_as_ones_own(council: Council) -> None:
    theirs = a_key(council, "hospital")
    assert refused(register(council, theirs), Refusal.NO_POSSESSION_PROOF)


def test_a_licensed_physician_is_registered(council: Council) -> None:
    assert register(council, council.licensed(a_key(council)), Role.PHYSICIAN).ok


def test_a_demo_may_keep_officer_keys_on_the_node(council: Council) -> None:
    c = Consortium.found(
        {"a": InstitutionKind.HOSPITAL}, workflows=(governance.WORKFLOW,), parameters={OFFICER_KEY_ON_NODE: 1}
    )
    demo = type(council)(c)
    key = demo.key(c["a"], NEW, held_by=HeldBy.NODE)
    assert register(demo, key, Role.OFFICER, "a").ok


# ------------------------------------------------------------------------------------------------------------- rotation


def rotate(council: Council, old: CaseId, key: NewKey, endorsement: bytes | None = None) -> Answer:
    c = council.consortium
    command = KeyRotate(key=key, endorsement=endorsement)
    answer: Answer = c.act(c["centre"], command, old, persons=[Role.OFFICER])
    return answer


def test_a_rotated_key_has_a_successor_of_the_same_owner_and_role(council: Council) -> None:
    old = nurse(council)
    assert rotate(council, old, a_key(council)).ok
    assert state(council, old) == KeyState.ROTATED
    successor = council.consortium.case(Key, case_id(NEW.key_id))
    assert successor.state == KeyState.ACTIVE
    assert (successor.fields.owner, successor.fields.role) == (council.consortium["centre"].id, Role.NURSE)


def test_a_gateway_pair_rotates_as_one(council: Council) -> None:
    c = council.consortium
    old = case_id(c["centre"].gateway.key_id)
    assert refused(rotate(council, old, a_key(council)), Refusal.EXCHANGE_KEY_MISPLACED)
    pair = council.key(c["centre"], NEW, exchange=public_key(b"\x09" * 32), held_by=HeldBy.NODE)
    assert rotate(council, old, pair).ok
    with pytest.raises(InvalidTransaction) as caught:
        c.act(c["centre"], KeySuspend(), nurse(council), persons=[Role.OFFICER])
    assert caught.value.code == TransactionCode.KEY_NOT_VALID
    assert c.act(c["centre"], KeySuspend(), nurse(council), persons=[Role.OFFICER], gateway=NEW).ok


def test_a_physicians_licence_goes_over_to_the_successor(council: Council) -> None:
    c = council.consortium
    old = case_id(c["centre"].person(Role.PHYSICIAN).key_id)
    assert rotate(council, old, a_key(council)).ok
    assert c.case(Key, case_id(NEW.key_id)).fields.licence == c.case(Key, old).fields.licence


def test_the_old_key_may_endorse_the_new_one_and_nobody_else(council: Council) -> None:
    c = council.consortium
    message = interface.possession_message(c.chain, c["centre"].id, NEW.public_key, None)
    other = c["centre"].person(Role.NURSE, 1).sign(message)
    assert refused(rotate(council, nurse(council), a_key(council), other), Refusal.NO_POSSESSION_PROOF)
    right = c["centre"].person(Role.NURSE).sign(message)
    assert rotate(council, nurse(council), a_key(council), right).ok


def test_a_key_does_not_rotate_to_a_registered_one(council: Council) -> None:
    c = council.consortium
    known = council.key(c["centre"], c["centre"].person(Role.NURSE, 1))
    assert refused(rotate(council, nurse(council), known), Refusal.KEY_REUSED)


def test_a_suspended_member_rotates_suspends_and_revokes_but_registers_and_resumes_nothing(council: Council) -> None:
    c = council.consortium
    voters = ("second", "township", "hospital", "clinic", "laboratory")
    proposal = council.approve(Suspend(institution=c["centre"].id, reason="incident"), voters)
    assert council.apply(proposal, "second").ok
    assert refused_by_kernel(register(council, a_key(council)), KernelRefusal.MEMBER_SUSPENDED)
    assert rotate(council, nurse(council), a_key(council)).ok
    other = case_id(c["centre"].person(Role.NURSE, 1).key_id)
    assert c.act(c["centre"], KeySuspend(), other, persons=[Role.OFFICER]).ok
    resumed = c.act(c["centre"], KeyResume(), other, persons=[Role.OFFICER])
    assert refused_by_kernel(resumed, KernelRefusal.MEMBER_SUSPENDED)
    assert revoke(c, "centre", other, Role.OFFICER).ok


# ----------------------------------------------------------------------------------------------- suspension, revocation


def test_a_suspended_key_signs_again_once_resumed(council: Council) -> None:
    c = council.consortium
    officer = c["centre"].person(Role.OFFICER, 1)
    key = case_id(officer.key_id)
    assert c.act(c["centre"], KeySuspend(), key, persons=[Role.OFFICER]).ok
    silent = c.act(c["centre"], KeySuspend(), nurse(council), persons=[(Role.OFFICER, officer)])
    assert refused_by_kernel(silent, KernelRefusal.KEY_NOT_VALID)
    assert c.act(c["centre"], KeyResume(), key, persons=[Role.OFFICER]).ok
    assert c.act(c["centre"], KeySuspend(), nurse(council), persons=[(Role.OFFICER, officer)]).ok


def test_a_revoked_key_signs_nothing_from_the_next_block(council: Council) -> None:
    c = council.consortium
    officer = c["centre"].person(Role.OFFICER, 1)
    assert revoke(c, "centre", case_id(officer.key_id), Role.OFFICER).ok
    silent = c.act(c["centre"], KeySuspend(), nurse(council), persons=[(Role.OFFICER, officer)])
    assert refused_by_kernel(silent, KernelRefusal.KEY_NOT_VALID)
    assert refused_by_kernel(
        revoke(c, "centre", case_id(officer.key_id), Role.OFFICER), KernelRefusal.ILLEGAL_TRANSITION
    )


def test_a_revocation_may_say_since_when_and_not_from_when(council: Council) -> None:
    c = council.consortium
    assert refused(revoke(c, "centre", nurse(council), Role.OFFICER, since=c.time + 2), Refusal.DATE_NOT_POSSIBLE)
    assert revoke(c, "centre", nurse(council), Role.OFFICER, since=c.time - DAY).ok
    assert c.case(Key, nurse(council)).fields.compromised_since == c.time - DAY - 1


def test_a_holder_revokes_its_own_key_and_no_colleagues(council: Council) -> None:
    c = council.consortium
    colleague = case_id(c["centre"].person(Role.NURSE, 1).key_id)
    assert refused(revoke(c, "centre", colleague, Role.NURSE), Refusal.MAY_NOT_REVOKE)
    assert revoke(c, "centre", nurse(council), Role.NURSE).ok


def test_an_officer_revokes_no_key_of_another_member(council: Council) -> None:
    answer = revoke(council.consortium, "hospital", nurse(council), Role.OFFICER)
    assert refused_by_kernel(answer, KernelRefusal.NOT_PERMITTED)


def test_a_regulators_inspector_revokes_with_a_second_officer_and_not_alone(council: Council) -> None:
    c = council.consortium
    alone = revoke(c, "regulator", nurse(council), Role.INSPECTOR)
    assert refused_by_kernel(alone, KernelRefusal.NOT_PERMITTED)
    assert revoke(c, "regulator", nurse(council), Role.INSPECTOR, Role.SECOND_OFFICER).ok
    assert state(council, nurse(council)) == KeyState.REVOKED


def test_an_audit_body_revokes_nobodys_key() -> None:
    c = Consortium.found(
        {"a": InstitutionKind.HOSPITAL, "audit": InstitutionKind.AUDIT_BODY}, workflows=(governance.WORKFLOW,)
    )
    key = case_id(c["a"].person(Role.NURSE).key_id)
    assert refused(revoke(c, "audit", key, Role.INSPECTOR, Role.SECOND_OFFICER), Refusal.MAY_NOT_REVOKE)


def test_a_key_past_its_end_is_not_valid(council: Council) -> None:
    c = council.consortium
    short = replace(a_key(council), valid_until=unix_millis(c.time + DAY))
    assert register(council, short, Role.OFFICER).ok
    c.advance(DAY)
    late = c.act(c["centre"], KeySuspend(), nurse(council), persons=[(Role.OFFICER, NEW)])
    assert refused_by_kernel(late, KernelRefusal.KEY_NOT_VALID)

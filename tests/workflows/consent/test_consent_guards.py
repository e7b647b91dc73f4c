"""Guards that no lawful story reaches, and the questions that other workflows ask: over rows given by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.consent.consent_story import Story, by
from yilian.errors import Refused
from yilian.ledger.cases import Case, Found, Register
from yilian.ledger.members import Key, Member, Role
from yilian.ledger.workflow import Call, Person
from yilian.values import HOUR, CaseId, InstitutionId, KeyId, case_id, digest
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.catalog.model import Restrict
from yilian.workflows.consent import contract, interface
from yilian.workflows.consent.counting import counters_of, existing
from yilian.workflows.consent.emergency_model import (
    Emergency,
    EmergencyJudge,
    EmergencyMatch,
    EmergencyOpen,
    EmergencyReason,
)
from yilian.workflows.consent.interface import (
    Access,
    Basis,
    Consent,
    ConsentQuestion,
    Counters,
    Effect,
    Grant,
    GrantState,
    IssueGrant,
    Item,
    Obligations,
    Purpose,
    Use,
    provision,
)
from yilian.workflows.consent.model import GrantRevoke, Refusal, UseReserve

NOWHERE = case_id(b"\1" * 32)


class Rows:
    """`Reads` over the committed state of a story; `changed` states stand in for what is there."""

    def __init__(self, story: Story, **changed: str) -> None:
        self._story = story
        self._changed = changed

    def case(self, kind: type[Case], wanted: CaseId) -> Found[Any] | None:
        found = self._story.consortium.case(kind, wanted)
        if found is None or kind.__name__ not in self._changed:
            return found
        header = type(found.header)(
            **{name: getattr(found.header, name) for name in found.header.__struct_fields__}
            | {"state": self._changed[kind.__name__]}
        )
        return Found(header, found.fields)

    def register(self, kind: type[Register], *key: bytes) -> Any:  # noqa: ANN401 - fields of a command, or a step
        return self._story.consortium.register(kind, *key)

    def number(self, parameter: str) -> int:
        return 24 * HOUR if parameter else 0

    def words(self, parameter: str) -> tuple[str, ...]:
        return (parameter,)

    def member(self, institution: InstitutionId) -> Found[Member] | None:
        return self._story.consortium.case(Member, case_id(institution))

    def key(self, key_id: KeyId) -> Found[Key] | None:
        return self._story.consortium.case(Key, case_id(key_id))


def call_by(story: Story, who: str, **fields: Any) -> Call:  # noqa: ANN401 - fields of a command, or a step
    call = story.consortium.call(story[who], bytes(16))
    return Call(**{name: getattr(call, name) for name in call.__struct_fields__} | fields)


def person_of(story: Story, key: KeyId) -> Person:
    return Person(
        key_id=key, role=Role.PHYSICIAN, institution=story["hospital"].id, operator=story["hospital"].operator
    )


def test_the_opener_of_an_emergency_does_not_review_it(story: Story) -> None:
    opening = EmergencyOpen(
        custodian=story["centre"].id, identity=digest(bytes(32)), reason=EmergencyReason.NO_TIME, lasts=HOUR
    )
    emergency = story.do("hospital", opening, None, (Role.PHYSICIAN,))
    judgement = EmergencyJudge(justified=True, finding=digest(bytes(32)))

    with pytest.raises(Refused) as caught:
        contract.emergency_judge(
            call_by(story, "hospital"), judgement, story.found(Emergency, emergency).fields, Rows(story)
        )

    assert caught.value.number == Refusal.SELF_REVIEW


def test_a_workflow_grants_on_its_own_basis_only(story: Story) -> None:
    terms = story.terms(None, (NOWHERE,), basis=Basis.EMERGENCY)
    command = IssueGrant(**{name: getattr(terms, name) for name in terms.__struct_fields__})

    with pytest.raises(Refused) as caught:
        contract.issue_grant(call_by(story, "hospital", caller="referral"), command, Rows(story))

    assert caught.value.number == Refusal.BASIS_NOT_ALIVE


def test_a_use_is_judged_by_the_consent_behind_its_grant(story: Story) -> None:
    entries = story.entries(1)
    grant = story.grant(entries)
    command: UseReserve = story.reservation(grant, entries)
    person = story["hospital"].person(Role.PHYSICIAN)

    with pytest.raises(Refused) as caught:
        contract.use_reserve(
            call_by(story, "hospital", persons=(person_of(story, person.key_id),)),
            command,
            Rows(story, Consent="expired"),
        )

    assert caught.value.number == Refusal.BASIS_NOT_ALIVE


def test_a_damaged_state_stops_the_node_instead_of_answering(story: Story) -> None:
    with pytest.raises(LookupError, match="damaged"):
        existing(Rows(story), Grant, NOWHERE)
    with pytest.raises(LookupError, match="damaged"):
        counters_of(Rows(story), NOWHERE)


def test_an_entry_above_the_cap_of_a_child_is_not_used(story: Story) -> None:
    entries = story.entries(1)
    child = story.child(story.grant(entries), "hospital", "branch", level_cap=2)

    answer = story.act("branch", story.reservation(child, entries), None, (Role.PHYSICIAN,))

    assert answer.result == by(Refusal.LEVEL_TOO_HIGH)


def test_a_grant_without_a_consent_is_revoked_alone(story: Story) -> None:
    opening = EmergencyOpen(
        custodian=story["centre"].id, identity=digest(bytes(32)), reason=EmergencyReason.NO_TIME, lasts=HOUR
    )
    emergency = story.do("hospital", opening, None, (Role.PHYSICIAN,))
    story.do("centre", EmergencyMatch(entries=story.entries(1), deliveries=1), emergency)
    found = interface.emergency(Rows(story), emergency)
    assert found is not None
    assert found.fields.grant is not None

    story.do("centre", GrantRevoke(paper=None), found.fields.grant)

    assert story.state(Grant, found.fields.grant) == "revoked"


# ------------------------------------------------------------------------------------------------ what others may ask


def test_others_find_consents_grants_uses_and_counts(story: Story) -> None:
    consent, entries = story.consent(), story.entries(1)
    grant = story.grant(entries, consent)
    use, reads = story.reserve(grant, entries), Rows(story)

    assert interface.consent(reads, consent) == story.found(Consent, consent)
    assert interface.grant(reads, grant) == story.found(Grant, grant)
    assert interface.use(reads, use) == story.found(Use, use)
    assert interface.emergency(reads, NOWHERE) is None
    assert interface.counters(reads, grant) == Counters(n=10, reserved=1, delivered=0, forgiven=0, delegated=0)


@pytest.mark.parametrize("state", list(GrantState))
def test_issued_suspended_and_exhausted_grants_live(story: Story, state: GrantState) -> None:
    grant = story.grant(story.entries(1))

    lives = interface.living(Rows(story, Grant=state), grant)

    assert lives == (state in {"issued", "suspended", "exhausted"})
    assert not interface.living(Rows(story), NOWHERE)


def question(story: Story, consent: CaseId, **fields: Any) -> ConsentQuestion:  # noqa: ANN401 - fields of a command, or a step
    plain: dict[str, Any] = {
        "consent": consent,
        "custodian": story["centre"].id,
        "recipient": story["hospital"].id,
        "purpose": Purpose.TREAT,
        "begins": story.time,
        "until": story.later(HOUR),
    }
    return ConsentQuestion(**{**plain, **fields})


def test_a_permit_names_its_rule_and_its_duties(story: Story) -> None:
    policy = story.policy(access=Access.STORE, erase_by=story.later(HOUR))
    consent, entries = story.consent(policy), story.entries(2)

    decision = interface.covers(Rows(story), question(story, consent, entries=entries))

    assert (decision.permit, decision.matched_provision, decision.refusal) == (True, 0, None)
    assert decision.obligations == Obligations(access=Access.STORE, erase_by=policy.erase_by)


def test_a_permit_among_the_exceptions_beats_a_denying_base(story: Story) -> None:
    may = provision(Effect.PERMIT, Purpose.TREAT, recipients=(story["hospital"].id,))
    consent = story.consent(story.policy(base=provision(Effect.DENY), exceptions=(may,)))
    entries = story.entries(1)

    asked = interface.covers(Rows(story), question(story, consent, entries=entries))
    other = interface.covers(Rows(story), question(story, consent, entries=entries, recipient=story["laboratory"].id))

    assert (asked.permit, asked.matched_provision) == (True, 1)
    assert (other.permit, other.matched_provision, other.refusal) == (False, 0, Refusal.WIDER_THAN_BASIS)


def test_unknown_and_restricted_entries_are_denied(story: Story) -> None:
    consent, entries = story.consent(), story.entries(1)
    story.do("centre", Restrict(), entries[0])

    decisions = [
        interface.covers(Rows(story), question(story, consent, entries=named)) for named in ((NOWHERE,), entries)
    ]

    assert [one.refusal for one in decisions] == [Refusal.ENTRY_NOT_CURRENT, Refusal.ENTRY_RESTRICTED]
    assert story.state(Entry, entries[0]) == "current"


def test_a_result_to_come_is_asked_by_class_ahead_of_the_attestation(story: Story) -> None:
    consent = story.consent()
    to_come = (Item(kind="C0053", level=3, month=story.found(Entry, story.entry()).fields.month),)
    back = {"custodian": story["hospital"].id, "recipient": story["centre"].id, "items": to_come}

    ahead = interface.covers(Rows(story), question(story, consent, attested=False, **back))
    now = interface.covers(Rows(story), question(story, consent, **back))

    assert (ahead.permit, now.refusal) == (True, Refusal.NOT_ATTESTED)


def test_a_question_about_nothing_is_denied(story: Story) -> None:
    decision = interface.covers(Rows(story), question(story, story.consent()))

    assert (decision.permit, decision.refusal) == (False, Refusal.WIDER_THAN_BASIS)

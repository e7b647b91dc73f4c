"""A grant: issued by its custodian alone, within its basis; passed on, halted, taken back, ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflows.consent.consent_story import Story, by, by_kernel
from yilian.ledger.cases import Patient
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.workflow import KernelRefusal
from yilian.values import DAY, HOUR, CaseId, case_id, day_of, digest, unix_millis
from yilian.workflows.audit.model import InspectionApproveScope, InspectionOpen
from yilian.workflows.catalog.model import Restrict, Withdraw
from yilian.workflows.consent.interface import Basis, Counters, Effect, Grant, Purpose, provision
from yilian.workflows.consent.model import (
    GrantExpire,
    GrantResume,
    GrantRevoke,
    GrantSuspend,
    Holdings,
    Refusal,
    Revoke,
    SuspendReason,
)

NOWHERE = case_id(b"\1" * 32)


def test_a_grant_copies_the_patient_of_its_consent_and_opens_its_counters(story: Story) -> None:
    grant = story.grant((story.entry(),), deliveries=7)

    found = story.found(Grant, grant)
    assert (found.state, found.header.patient, found.fields.issuer) == ("issued", story.by_key, story["centre"].id)
    assert story.counters(grant) == (7, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        pytest.param({"basis": Basis.TREATMENT}, Refusal.BASIS_NOT_ALIVE, id="a-basis-of-another-workflow"),
        pytest.param({"covered_by": None}, Refusal.BASIS_NOT_ALIVE, id="no-consent"),
        pytest.param({"covered_by": NOWHERE}, Refusal.BASIS_NOT_ALIVE, id="unknown-consent"),
        pytest.param({"entries": (NOWHERE,)}, Refusal.ENTRY_NOT_CURRENT, id="unknown-entry"),
        pytest.param({"level_cap": 2}, Refusal.LEVEL_TOO_HIGH, id="entry-above-the-cap"),
        pytest.param({"purpose": Purpose.HRESCH}, Refusal.WIDER_THAN_BASIS, id="another-purpose"),
        pytest.param({"deliveries": 101}, Refusal.WIDER_THAN_BASIS, id="over-the-budget"),
        pytest.param({"ends": unix_millis(1)}, Refusal.GRANT_EXPIRED, id="over-already"),
        pytest.param({"begins": unix_millis(2**60)}, Refusal.GRANT_EXPIRED, id="begins-after-its-end"),
        pytest.param({"ends": unix_millis(2**60)}, Refusal.WIDER_THAN_BASIS, id="longer-than-the-consent"),
        pytest.param({"recipient": NOWHERE}, Refusal.NOT_THE_RECIPIENT, id="no-member"),
    ],
)
def test_a_grant_outside_its_basis_is_refused(story: Story, fields: dict[str, Any], refusal: Refusal) -> None:
    consent, entry = story.consent(), story.entry()

    answer = story.act("centre", story.terms(**{"covered_by": consent, "entries": (entry,), **fields}))

    assert answer.result == by(refusal)


def test_a_grant_at_the_edge_of_its_basis_is_issued(story: Story) -> None:
    policy = story.policy()
    consent = story.consent(policy)

    answer = story.act("centre", story.terms(consent, (story.entry(),), deliveries=100, ends=policy.ends, level_cap=3))

    assert answer.ok


def test_a_cap_above_what_the_consent_permits_is_refused(story: Story) -> None:
    consent = story.consent(story.policy(base=provision(Effect.PERMIT, Purpose.TREAT, levels=(1, 3))))

    answer = story.act("centre", story.terms(consent, (story.entry(),), level_cap=4))

    assert answer.result == by(Refusal.WIDER_THAN_BASIS)


def test_a_grant_deeper_than_the_consent_is_refused(story: Story) -> None:
    answer = story.act("centre", story.terms(story.consent(story.policy(depth=1)), (story.entry(),), depth=2))

    assert answer.result == by(Refusal.DEPTH_SPENT)


def test_the_custodian_alone_grants(story: Story) -> None:
    consent, entry = story.consent(), story.entry()
    story.attest(consent, "hospital")

    answer = story.act("hospital", story.terms(consent, (entry,), recipient=story["branch"].id))

    assert answer.result == by(Refusal.NOT_THE_CUSTODIAN)


def test_a_custodian_grants_nothing_to_itself(story: Story) -> None:
    answer = story.act("centre", story.terms(story.consent(), (story.entry(),), recipient=story["centre"].id))

    assert answer.result == by(Refusal.NOT_THE_RECIPIENT)


def test_a_consent_has_no_force_before_the_custodian_attests(story: Story) -> None:
    consent, entry = story.consent(), story.entry("laboratory")
    terms = story.terms(consent, (entry,))

    before = story.act("laboratory", terms)
    story.attest(consent, "laboratory")
    after = story.act("laboratory", terms)

    assert (before.result, after.ok) == (by(Refusal.NOT_ATTESTED), True)


def test_restricted_withdrawn_or_repeated_entries_are_not_granted(story: Story) -> None:
    consent, (restricted, withdrawn, plain) = story.consent(), story.entries(3)
    story.do("centre", Restrict(), restricted)
    story.do("centre", Withdraw(), withdrawn, (Role.DATA_OFFICER,))

    answers = [
        story.act("centre", story.terms(consent, entries))
        for entries in ((plain, restricted), (plain, withdrawn), (plain, plain))
    ]

    wanted = (Refusal.ENTRY_RESTRICTED, Refusal.ENTRY_NOT_CURRENT, Refusal.NOT_IN_LIST)
    assert [answer.result for answer in answers] == [by(refusal) for refusal in wanted]


def test_all_grants_of_a_consent_share_its_budget(story: Story) -> None:
    consent, entries = story.consent(story.policy(maximum=10)), story.entries(1)
    first = story.grant(entries, consent, deliveries=6)

    too_many = story.act("centre", story.terms(consent, entries, deliveries=5))
    story.do("centre", GrantRevoke(paper=None), first)
    afterwards = story.act("centre", story.terms(consent, entries, deliveries=10))

    assert (too_many.result, afterwards.ok) == (by(Refusal.WIDER_THAN_BASIS), True)


# ---------------------------------------------------------------------------------------------------------- by law


def inspection(story: Story) -> CaseId:
    """Give an inspection whose scope is approved."""
    opening = InspectionOpen(
        legal_basis="LAW",
        institutions=(story["centre"].id,),
        period_from=day_of(unix_millis(story.time - 90 * DAY)),
        period_to=day_of(story.time),
        question=digest(story.consortium.draw()),
    )
    opened = story.do("regulator", opening, None, (Role.INSPECTOR,))
    return story.do("regulator", InspectionApproveScope(), opened, (Role.SECOND_OFFICER,))


def lawful(story: Story, entry: CaseId, **fields: Any) -> Any:  # noqa: ANN401 - a command
    plain: dict[str, Any] = {
        "basis": Basis.STATUTORY,
        "recipient": story["regulator"].id,
        "purpose": Purpose.PUBHLTH,
        "depth": 0,
    }
    return story.terms(None, (entry,), **{**plain, **fields})


def test_an_inspection_reaches_restricted_entries_and_is_flagged(story: Story) -> None:
    entry = story.entry()
    story.do("centre", Restrict(), entry)

    grant = story.do("centre", lawful(story, entry), refs=(inspection(story),))

    found = story.found(Grant, grant)
    assert (found.header.flags, found.header.patient, found.fields.covered_by) == (("RESTRICTED",), None, None)


def test_a_duty_by_law_names_its_inspection_and_nothing_else_does(story: Story) -> None:
    entry, consent, named = story.entry(), story.consent(), inspection(story)

    without = story.act("centre", lawful(story, entry))
    needless = story.act("centre", story.terms(consent, (entry,)), refs=(named,))

    assert without.result == needless.result == by_kernel(KernelRefusal.REFERENCE_NOT_ADMISSIBLE)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        pytest.param(lambda _: {"purpose": Purpose.TREAT}, Refusal.PURPOSE_DIFFERS, id="for-treatment"),
        pytest.param(lambda _: {"depth": 1}, Refusal.DEPTH_SPENT, id="to-be-passed-on"),
        pytest.param(lambda _: {"covered_by": NOWHERE}, Refusal.DEPTH_SPENT, id="on-a-consent-too"),
        pytest.param(
            lambda story: {"recipient": story["hospital"].id},
            Refusal.NOT_THE_RECIPIENT,
            id="to-one-that-inspects-nobody",
        ),
    ],
)
def test_a_grant_by_law_stays_within_it(
    story: Story, fields: Callable[[Story], dict[str, Any]], refusal: Refusal
) -> None:
    command = replace(lawful(story, story.entry()), **fields(story))

    answer = story.act("centre", command, refs=(inspection(story),))

    assert answer.result == by(refusal)


def test_a_suspended_custodian_grants_to_an_inspection_only(story: Story) -> None:
    entry, consent, named = story.entry(), story.consent(), inspection(story)
    story.suspend_member("centre")

    by_consent = story.act("centre", story.terms(consent, (entry,)))
    by_law = story.act("centre", lawful(story, entry), refs=(named,))

    assert (by_consent.result, by_law.ok) == (by_kernel(KernelRefusal.MEMBER_SUSPENDED), True)


# ---------------------------------------------------------------------------------------------------------- passed on


def test_a_child_lies_within_its_parent_and_takes_its_deliveries(story: Story) -> None:
    root = story.grant(story.entries(2), deliveries=10)

    child = story.child(root, "hospital", "branch", deliveries=4)

    fields = story.found(Grant, child).fields
    assert (fields.ancestors, fields.issuer, fields.depth) == ((root,), story["hospital"].id, 2)
    assert fields.custodian == story["centre"].id
    assert (story.counters(root), story.counters(child)) == ((10, 0, 0, 0, 4), (4, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        pytest.param({"deliveries": 11}, Refusal.DELIVERIES_SPENT, id="more-deliveries"),
        pytest.param({"entries": (NOWHERE,)}, Refusal.NOT_IN_LIST, id="another-entry"),
        pytest.param({"level_cap": 4}, Refusal.WIDER_THAN_PARENT, id="higher-level"),
        pytest.param({"ends": unix_millis(2**60)}, Refusal.WIDER_THAN_PARENT, id="longer"),
        pytest.param({"begins": unix_millis(1)}, Refusal.WIDER_THAN_PARENT, id="sooner"),
        pytest.param({"depth": 3}, Refusal.DEPTH_SPENT, id="as-deep-as-the-parent"),
        pytest.param({"purpose": Purpose.HRESCH}, Refusal.PURPOSE_DIFFERS, id="another-purpose"),
    ],
)
def test_a_child_wider_than_its_parent_is_refused(story: Story, fields: dict[str, Any], refusal: Refusal) -> None:
    root = story.grant((story.entry(),), level_cap=3)

    answer = story.act("hospital", story.passing(root, "branch", **fields), root, (Role.PHYSICIAN,))

    assert answer.result == by(refusal)


def test_a_child_for_somebody_the_consent_denies_is_refused(story: Story) -> None:
    denied = provision(Effect.DENY, recipient_kinds=(InstitutionKind.LABORATORY,))
    root = story.grant((story.entry(),), story.consent(story.policy(exceptions=(denied,))))

    answer = story.act("hospital", story.passing(root, "laboratory"), root, (Role.PHYSICIAN,))

    assert answer.result == by(Refusal.WIDER_THAN_BASIS)


def test_passing_back_to_the_custodian_is_refused(story: Story) -> None:
    root = story.grant((story.entry(),))

    answer = story.act("hospital", story.passing(root, "centre"), root, (Role.PHYSICIAN,))

    assert answer.result == by(Refusal.NOT_THE_RECIPIENT)


def test_restricted_or_withdrawn_entries_are_not_passed_on(story: Story) -> None:
    restricted, withdrawn = story.entries(2)
    first, second = story.grant((restricted,)), story.grant((withdrawn,))
    story.do("centre", Restrict(), restricted)
    story.do("centre", Withdraw(), withdrawn, (Role.DATA_OFFICER,))

    one = story.act("hospital", story.passing(first, "branch"), first, (Role.PHYSICIAN,))
    two = story.act("hospital", story.passing(second, "branch"), second, (Role.PHYSICIAN,))

    assert (one.result, two.result) == (by(Refusal.ENTRY_RESTRICTED), by(Refusal.ENTRY_NOT_CURRENT))


def test_a_grant_is_passed_on_three_times_and_no_further(story: Story) -> None:
    root = story.grant((story.entry(),))
    one = story.child(root, "hospital", "branch", deliveries=3)
    two = story.child(one, "branch", "laboratory", deliveries=2)
    three = story.child(two, "laboratory", "regulator", deliveries=1)

    answer = story.act("regulator", story.passing(three, "hospital", deliveries=1), three, (Role.INSPECTOR,))

    assert story.found(Grant, three).fields.ancestors == (two, one, root)
    assert answer.result == by(Refusal.DEPTH_SPENT)


def test_a_grant_by_law_is_not_passed_on(story: Story) -> None:
    grant = story.do("centre", lawful(story, story.entry()), refs=(inspection(story),))

    answer = story.act("regulator", story.passing(grant, "hospital"), grant, (Role.INSPECTOR,))

    assert answer.result == by(Refusal.DEPTH_SPENT)


def test_children_and_living_grants_are_limited() -> None:
    story = Story(consent__children=1, consent__living=3)
    root = story.grant((story.entry(),))
    child = story.child(root, "hospital", "branch")

    sibling = story.act("hospital", story.passing(root, "laboratory"), root, (Role.PHYSICIAN,))
    grandchild = story.child(child, "branch", "laboratory", deliveries=1)
    fourth = story.act(
        "laboratory", story.passing(grandchild, "regulator", deliveries=1), grandchild, (Role.PHYSICIAN,)
    )

    assert sibling.result == by(Refusal.TREE_FULL)
    assert fourth.result == by(Refusal.TREE_FULL)


def test_a_grant_passed_on_whole_is_exhausted_and_reopens_when_the_child_ends(story: Story) -> None:
    root = story.grant((story.entry(),), deliveries=4)
    child = story.child(root, "hospital", "branch", deliveries=4)
    before = story.state(Grant, root)

    story.do("hospital", GrantRevoke(paper=None), child)

    assert (before, story.state(Grant, root)) == ("exhausted", "issued")
    assert story.counters(root) == (4, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("halt", "refusal"),
    [
        pytest.param(
            lambda story, root: story.do("centre", suspension(), root, (Role.DATA_OFFICER,)),
            Refusal.GRANT_SUSPENDED,
            id="suspended",
        ),
        pytest.param(lambda story, _: story.consortium.advance(2 * HOUR), Refusal.GRANT_EXPIRED, id="expired"),
    ],
)
def test_nothing_is_passed_on_below_a_halted_ancestor(
    story: Story, halt: Callable[[Story, CaseId], object], refusal: Refusal
) -> None:
    root = story.grant((story.entry(),), ends=story.later(HOUR))
    child = story.child(root, "hospital", "branch")
    halt(story, root)

    answer = story.act("branch", story.passing(child, "laboratory", deliveries=1), child, (Role.PHYSICIAN,))

    assert answer.result == by(refusal)


# ------------------------------------------------------------------------------------------------- halt, end, revoke


def suspension() -> GrantSuspend:
    return GrantSuspend(reason=SuspendReason.DISPUTE, paper=None)


HALTERS = [
    pytest.param("centre", "patient", id="patient"),
    pytest.param("centre", Role.DATA_OFFICER, id="custodian"),
    pytest.param("regulator", Role.INSPECTOR, id="inspector"),
]


@pytest.mark.parametrize(("who", "role"), HALTERS)
def test_whoever_suspended_a_grant_resumes_it(story: Story, who: str, role: Role | str) -> None:
    grant = story.grant((story.entry(),))
    persons = story.patient if isinstance(role, str) and role == "patient" else (role,)
    story.do(who, suspension(), grant, persons)
    halted = story.state(Grant, grant)

    story.do(who, GrantResume(paper=None), grant, persons)

    found = story.found(Grant, grant)
    assert (halted, found.state, found.fields.suspender) == ("suspended", "issued", None)


@pytest.mark.parametrize(("who", "role"), HALTERS[1:])
def test_another_one_does_not_resume_it(story: Story, who: str, role: Role) -> None:
    grant = story.grant((story.entry(),))
    story.do("centre", suspension(), grant, story.patient)

    answer = story.act(who, GrantResume(paper=None), grant, (role,))

    assert answer.result == by(Refusal.NOT_WHO_SUSPENDED)


def test_a_home_halts_and_resumes_for_its_patient(story: Story) -> None:
    paper = digest(story.consortium.draw())
    scan = story.entry(commitment=paper)
    home = Patient(key=None, home=story["centre"].id)
    consent = story.do("centre", story.proposal(story.policy(depth=0), patient=home))
    story.do("centre", story.signature(paper=paper, paper_entry=scan), consent, (Role.NURSE,))
    grant = story.grant((story.entry(),), consent, depth=0)

    without = story.act("centre", suspension(), grant)
    story.do("centre", GrantSuspend(reason=SuspendReason.PATIENT_REQUEST, paper=paper), grant)
    story.do("centre", GrantResume(paper=paper), grant)

    assert without.result == by_kernel(KernelRefusal.NOT_PERMITTED)
    assert story.state(Grant, grant) == "issued"


@pytest.mark.parametrize(
    ("who", "persons"),
    [
        pytest.param("centre", "patient", id="patient"),
        pytest.param("centre", (), id="custodian"),
        pytest.param("hospital", (), id="holder-of-the-parent"),
    ],
)
def test_a_child_is_taken_back_by_patient_custodian_and_holder_of_the_parent(
    story: Story,
    who: str,
    persons: Any,  # noqa: ANN401 - people, or a word for the patient
) -> None:
    root = story.grant((story.entry(),))
    child = story.child(root, "hospital", "branch")

    story.do(who, GrantRevoke(paper=None), child, story.patient if persons == "patient" else persons)

    assert (story.state(Grant, root), story.state(Grant, child)) == ("issued", "revoked")


def test_a_recipient_does_not_revoke_its_own_grant(story: Story) -> None:
    answer = story.act("hospital", GrantRevoke(paper=None), story.grant((story.entry(),)))

    assert answer.result == by_kernel(KernelRefusal.NOT_PERMITTED)


def test_revoking_a_grant_revokes_all_that_was_passed_on_and_returns_what_is_unused(story: Story) -> None:
    consent, entries = story.consent(), story.entries(1)
    root = story.grant(entries, consent)
    one = story.child(root, "hospital", "branch", deliveries=5)
    two = story.child(one, "branch", "laboratory", deliveries=3)
    three = story.child(two, "laboratory", "regulator", deliveries=2)
    other = story.grant(entries, consent)
    story.deliver(story.reserve(two, entries, "laboratory"))

    story.do("hospital", GrantRevoke(paper=None), one)

    assert [story.state(Grant, item) for item in (root, one, two, three, other)] == [
        "issued",
        "revoked",
        "revoked",
        "revoked",
        "issued",
    ]
    assert story.counters(root) == (10, 0, 0, 0, 1)
    assert story.living(root) == (root, other)


def test_an_expired_grant_returns_what_it_did_not_use(story: Story) -> None:
    consent, entries = story.consent(), story.entries(1)
    root = story.grant(entries, consent, deliveries=10)
    child = story.child(root, "hospital", "branch", ends=story.later(HOUR))
    early = story.act("regulator", GrantExpire(), child)
    story.consortium.advance(2 * HOUR)

    story.do("regulator", GrantExpire(), child)

    assert early.result == by_kernel(KernelRefusal.TOO_EARLY)
    assert (story.state(Grant, child), story.counters(root)) == ("expired", (10, 0, 0, 0, 0))


def test_what_an_expired_root_did_not_use_returns_to_the_budget(story: Story) -> None:
    consent, entries = story.consent(), story.entries(2)
    root = story.grant(entries, consent, ends=story.later(HOUR))
    child = story.child(root, "hospital", "branch", deliveries=4)
    story.deliver(story.reserve(root, entries))
    story.consortium.advance(2 * HOUR)

    story.do("regulator", GrantExpire(), root)
    story.do("regulator", GrantExpire(), child)

    assert story.consortium.register(Holdings, consent) == Holdings(living=(), committed=2)


def test_a_grant_of_a_revoked_consent_is_not_issued(story: Story) -> None:
    consent = story.consent()
    story.do("centre", Revoke(paper=None), consent, story.patient)

    answer = story.act("centre", story.terms(consent, (story.entry(),)))

    assert answer.result == by(Refusal.BASIS_NOT_ALIVE)


def test_a_consent_whose_period_is_over_grants_nothing_more(story: Story) -> None:
    consent, entry = story.consent(), story.entry()
    story.consortium.advance(91 * DAY)

    answer = story.act("centre", story.terms(consent, (entry,)))

    assert answer.result == by(Refusal.BASIS_NOT_ALIVE)


def test_counters_are_asked_by_the_id_of_the_grant(story: Story) -> None:
    assert story.consortium.register(Counters, NOWHERE) is None

"""A consent: proposed, signed by key or through a home, attested, narrowed, taken back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.workflows.consent.consent_story import MONTH, Story, by, by_kernel
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.ledger.cases import Patient
from yilian.ledger.members import Role
from yilian.ledger.workflow import KernelRefusal
from yilian.values import DAY, digest, unix_millis
from yilian.workflows.consent.interface import Consent, Effect, Grant, Purpose, provision
from yilian.workflows.consent.model import (
    Amend,
    Attest,
    Attestations,
    Copies,
    Expire,
    GrantAcknowledge,
    Holdings,
    Refusal,
    Reject,
    Revoke,
)


def test_a_consent_signed_by_the_patients_key_becomes_active(story: Story) -> None:
    proposed = story.do("centre", story.proposal())

    story.do("centre", story.signature(), proposed, story.patient)

    found = story.found(Consent, proposed)
    assert (found.state, found.fields.paper, found.fields.signed) == ("active", None, story.time)
    assert found.header.patient == story.by_key


def test_the_proposer_attests_by_proposing_and_others_once(story: Story) -> None:
    consent = story.consent()

    story.attest(consent, "hospital")
    story.attest(consent, "hospital")

    row = story.consortium.register(Attestations, consent)
    assert row == Attestations(custodians=(story["centre"].id, story["hospital"].id))


def test_more_attestations_than_the_limit_are_refused() -> None:
    story = Story(consent__attestations=1)

    answer = story.act("hospital", Attest(), story.consent())

    assert answer.result == by(Refusal.TREE_FULL)


def test_another_key_does_not_sign(story: Story) -> None:
    proposed = story.do("centre", story.proposal())
    stranger = Ed25519Signer.from_seed(sha256(b"another wallet"))

    answer = story.act("centre", story.signature(), proposed, ((Role.PATIENT, stranger),))

    assert answer.result == by_kernel(KernelRefusal.KEY_NOT_VALID)


def test_another_text_than_proposed_is_not_signed(story: Story) -> None:
    proposed = story.do("centre", story.proposal())

    answer = story.act("centre", story.signature(text=sha256(b"another")), proposed, story.patient)

    assert answer.result == by(Refusal.TEXT_CHANGED)


def test_a_proposal_lapses_and_then_expires(story: Story) -> None:
    proposed = story.do("centre", story.proposal())
    early = story.act("regulator", Expire(), proposed)
    story.consortium.advance(31 * DAY)

    late = story.act("centre", story.signature(), proposed, story.patient)
    story.do("regulator", Expire(), proposed)

    assert early.result == by_kernel(KernelRefusal.TOO_EARLY)
    assert late.result == by_kernel(KernelRefusal.DEADLINE_PASSED)
    assert story.state(Consent, proposed) == "expired"


def test_a_proposal_that_lapsed_is_rejected_no_more(story: Story) -> None:
    proposed = story.do("centre", story.proposal())
    story.consortium.advance(31 * DAY)

    answer = story.act("centre", Reject(paper=None), proposed, story.patient)

    assert answer.result == by_kernel(KernelRefusal.DEADLINE_PASSED)


def test_an_active_consent_expires_with_its_period(story: Story) -> None:
    consent = story.consent()
    story.consortium.advance(91 * DAY)

    story.do("regulator", Expire(), consent)

    assert story.state(Consent, consent) == "expired"


def test_a_proposal_is_rejected_by_the_patient(story: Story) -> None:
    proposed = story.do("centre", story.proposal())

    story.do("centre", Reject(paper=None), proposed, story.patient)

    assert story.state(Consent, proposed) == "rejected"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"begins": unix_millis(2**60), "ends": unix_millis(2**60)}, id="ends-when-it-begins"),
        pytest.param({"ends": unix_millis(1)}, id="over-already"),
        pytest.param({"base": provision(Effect.PERMIT)}, id="permits-without-a-purpose"),
        pytest.param({"base": provision(Effect.DENY, Purpose.TREAT)}, id="permits-nothing"),
        pytest.param({"base": provision(Effect.PERMIT, Purpose.TREAT, levels=(3, 2))}, id="empty-levels"),
    ],
)
def test_a_malformed_policy_is_refused(story: Story, fault: dict[str, object]) -> None:
    answer = story.act("centre", story.proposal(story.policy(**fault)))

    assert answer.result == by(Refusal.POLICY_MALFORMED)


def test_a_policy_deeper_than_the_chain_allows_is_refused() -> None:
    story = Story(consent__depth=1)

    answer = story.act("centre", story.proposal(story.policy(depth=2)))

    assert answer.result == by(Refusal.POLICY_MALFORMED)


@pytest.mark.parametrize("named", ["nobody", "both"])
def test_a_consent_names_either_a_case_key_or_a_home(story: Story, named: str) -> None:
    speakers = {
        "nobody": Patient(key=None, home=None),
        "both": Patient(key=story.wallet.public_key, home=story["centre"].id),
    }

    answer = story.act("centre", story.proposal(patient=speakers[named]))

    assert answer.result == by(Refusal.POLICY_MALFORMED)


# --------------------------------------------------------------------------------------------------- signed by a home


def test_a_home_signs_with_a_witness_and_the_published_paper(story: Story) -> None:
    paper = digest(story.consortium.draw())
    scan = story.entry(commitment=paper)
    home = Patient(key=None, home=story["centre"].id)
    proposed = story.do("centre", story.proposal(story.policy(depth=0), patient=home))

    alone = story.act("centre", story.signature(paper=paper, paper_entry=scan), proposed)
    story.do("centre", story.signature(paper=paper, paper_entry=scan), proposed, (Role.NURSE,))

    assert alone.result == by_kernel(KernelRefusal.NOT_PERMITTED)
    found = story.found(Consent, proposed)
    assert (found.state, found.fields.paper, found.fields.paper_entry) == ("active", paper, scan)


@pytest.mark.parametrize("wrong", ["not published", "another commitment", "of another institution"])
def test_a_paper_that_is_no_entry_of_the_home_is_refused(story: Story, wrong: str) -> None:
    paper = digest(story.consortium.draw())
    scans = {
        "not published": None,
        "another commitment": story.entry(),
        "of another institution": story.entry("hospital", commitment=paper),
    }
    home = Patient(key=None, home=story["centre"].id)
    proposed = story.do("centre", story.proposal(story.policy(depth=0), patient=home))

    answer = story.act("centre", story.signature(paper=paper, paper_entry=scans[wrong]), proposed, (Role.PHYSICIAN,))

    assert answer.result == by(Refusal.WITNESS_MISSING)


@pytest.mark.parametrize(
    "beyond",
    [
        pytest.param({"base": provision(Effect.PERMIT, Purpose.TREAT, Purpose.HRESCH)}, id="research"),
        pytest.param({"ends": unix_millis(1_780_000_000_000 + 400 * DAY)}, id="over-a-year"),
        pytest.param({"depth": 1}, id="onward-transfer"),
    ],
)
def test_a_home_signs_within_the_caps_only(story: Story, beyond: dict[str, object]) -> None:
    paper = digest(story.consortium.draw())
    scan = story.entry(commitment=paper)
    policy = story.policy(**{"depth": 0, **beyond})
    proposed = story.do("centre", story.proposal(policy, patient=Patient(key=None, home=story["centre"].id)))

    answer = story.act("centre", story.signature(paper=paper, paper_entry=scan), proposed, (Role.PHYSICIAN,))

    assert answer.result == by(Refusal.CUSTODIAL_CAP)


# ---------------------------------------------------------------------------------------------------------- successor


def test_a_signed_successor_ends_the_consent_and_revokes_its_grants(story: Story) -> None:
    old = story.consent()
    grant = story.grant((story.entry(),), old)

    new = story.consent(replaces=old)

    assert story.state(Consent, old) == "inactive"
    assert story.state(Grant, grant) == "revoked"
    assert story.state(Consent, new) == "active"


def test_a_successor_of_a_consent_revoked_meanwhile_is_signed_all_the_same(story: Story) -> None:
    old = story.consent()
    new = story.do("centre", story.proposal(replaces=old))
    story.do("centre", Revoke(paper=None), old, story.patient)

    story.do("centre", story.signature(), new, story.patient)

    assert (story.state(Consent, old), story.state(Consent, new)) == ("revoked", "active")


def test_nobody_proposes_to_end_another_patients_consent(story: Story) -> None:
    old = story.consent()
    stranger = Patient(key=Ed25519Signer.from_seed(sha256(b"another wallet")).public_key, home=None)

    answer = story.act("hospital", story.proposal(replaces=old, patient=stranger))

    assert answer.result == by(Refusal.NOT_THE_PATIENT)


def test_only_a_living_consent_is_replaced(story: Story) -> None:
    old = story.consent()
    story.do("centre", Revoke(paper=None), old, story.patient)

    answer = story.act("centre", story.proposal(replaces=old))

    assert answer.result == by(Refusal.BASIS_NOT_ALIVE)


# ------------------------------------------------------------------------------------------------------------- amend


def test_a_wider_amendment_is_refused(story: Story) -> None:
    consent = story.consent()

    answer = story.act("centre", Amend(policy=story.policy(maximum=101), paper=None), consent, story.patient)

    assert answer.result == by(Refusal.NOT_NARROWER)


def test_a_malformed_amendment_is_refused(story: Story) -> None:
    consent = story.consent()

    answer = story.act("centre", Amend(policy=story.policy(ends=unix_millis(1)), paper=None), consent, story.patient)

    assert answer.result == by(Refusal.POLICY_MALFORMED)


def test_an_amendment_narrows_the_grants_that_rely_on_the_consent(story: Story) -> None:
    policy = story.policy()
    consent = story.consent(policy)
    low, high = story.entry(level=2), story.entry(level=4)
    grant = story.grant((low, high), consent, ends=story.later(60 * DAY))
    narrower = replace(
        policy,
        ends=story.later(20 * DAY),
        depth=1,
        maximum=6,
        base=provision(Effect.PERMIT, Purpose.TREAT, levels=(1, 3)),
    )

    story.do("centre", Amend(policy=narrower, paper=None), consent, story.patient)

    fields = story.found(Grant, grant).fields
    assert (fields.entries, fields.level_cap, fields.ends, fields.depth) == ((low,), 3, narrower.ends, 1)
    assert story.state(Grant, grant) == "issued"
    assert story.counters(grant) == (6, 0, 0, 0, 0)


def test_an_amendment_revokes_a_grant_of_which_nothing_is_left(story: Story) -> None:
    policy = story.policy()
    consent = story.consent(policy)
    grant = story.grant((story.entry(),), consent)
    refused = provision(Effect.DENY, recipients=(story["hospital"].id,))

    story.do("centre", Amend(policy=replace(policy, exceptions=(refused,)), paper=None), consent, story.patient)

    found = story.found(Grant, grant)
    assert (found.state, found.fields.acknowledge_by > story.time) == ("revoked", True)
    assert story.consortium.register(Holdings, consent) == Holdings(living=(), committed=0)


def test_an_amendment_that_forbids_onward_transfer_revokes_what_was_passed_on(story: Story) -> None:
    policy = story.policy()
    consent = story.consent(policy)
    parent = story.grant((story.entry(),), consent)
    child = story.child(parent, "hospital", "branch")

    story.do("centre", Amend(policy=replace(policy, depth=0), paper=None), consent, story.patient)

    assert (story.state(Grant, parent), story.state(Grant, child)) == ("issued", "revoked")
    assert story.counters(parent) == (10, 0, 0, 0, 0)


def test_an_amendment_revokes_a_child_whose_parent_is_revoked(story: Story) -> None:
    policy = story.policy()
    consent = story.consent(policy)
    parent = story.grant((story.entry(),), consent)
    child = story.child(parent, "hospital", "branch")
    refused = provision(Effect.DENY, recipients=(story["hospital"].id,))

    story.do("centre", Amend(policy=replace(policy, exceptions=(refused,)), paper=None), consent, story.patient)

    assert (story.state(Grant, parent), story.state(Grant, child)) == ("revoked", "revoked")


def test_an_amendment_that_forbids_onward_transfer_reopens_what_was_passed_on_whole() -> None:
    """64 grants, half of them exhausted by the other half, stay within one operation."""
    story = Story()
    policy = story.policy()
    consent, entries = story.consent(policy), story.entries(1)
    roots = [story.grant(entries, consent, deliveries=1) for _ in range(32)]
    children = [story.child(root, "hospital", "branch", deliveries=1) for root in roots]
    exhausted = {story.state(Grant, root) for root in roots}

    story.do("centre", Amend(policy=replace(policy, depth=0), paper=None), consent, story.patient)

    assert (exhausted, {story.state(Grant, root) for root in roots}) == ({"exhausted"}, {"issued"})
    assert {story.state(Grant, child) for child in children} == {"revoked"}


def test_a_smaller_budget_never_cuts_below_what_is_used(story: Story) -> None:
    policy = story.policy(maximum=20)
    consent, entries = story.consent(policy), story.entries(3)
    used, unused = story.grant(entries, consent), story.grant(entries, consent)
    story.deliver(story.reserve(used, entries))
    child = story.child(used, "hospital", "branch", deliveries=4)
    story.reserve(child, entries[:1], "branch")

    story.do("centre", Amend(policy=replace(policy, maximum=2), paper=None), consent, story.patient)

    assert story.counters(used) == (4, 0, 3, 0, 1)
    assert story.counters(child) == (1, 1, 0, 0, 0)
    assert story.counters(unused) == (0, 0, 0, 0, 0)
    row = story.consortium.register(Holdings, consent)
    assert row is not None
    assert row.committed == 4


# ------------------------------------------------------------------------------------------------------------ revoke


def test_a_revocation_revokes_every_grant_in_the_same_block(story: Story) -> None:
    consent, entries = story.consent(), story.entries(1)
    root = story.grant(entries, consent)
    child = story.child(root, "hospital", "branch")
    other = story.grant(entries, consent, recipient=story["laboratory"].id)

    story.do("centre", Revoke(paper=None), consent, story.patient)

    states = [story.found(Grant, item) for item in (root, child, other)]
    assert [found.state for found in states] == ["revoked"] * 3
    assert len({found.header.changed_height for found in states}) == 1
    assert story.consortium.register(Holdings, consent) == Holdings(living=(), committed=0)


def test_nobody_outruns_a_revocation_by_raising_versions(story: Story) -> None:
    consent = story.consent()

    answer = story.act("centre", Revoke(paper=None), consent, story.patient, version=1)

    assert answer.ok


def test_a_full_tree_of_grants_is_revoked_in_one_operation() -> None:
    story = Story(consent__living=64)
    consent, entries = story.consent(story.policy(maximum=1000)), story.entries(1)
    grants = [story.grant(entries, consent, deliveries=1) for _ in range(64)]
    one_more = story.act("centre", story.terms(consent, entries, deliveries=1))

    story.do("centre", Revoke(paper=None), consent, story.patient)

    assert one_more.result == by(Refusal.TREE_FULL)
    assert {story.state(Grant, grant) for grant in grants} == {"revoked"}


def test_both_sides_acknowledge_a_revocation_late_is_flagged(story: Story) -> None:
    consent = story.consent()
    grant = story.grant((story.entry(),), consent)
    story.do("centre", Revoke(paper=None), consent, story.patient)
    story.do("centre", GrantAcknowledge(copies=Copies.DELIVERIES_STOPPED), grant)
    halfway = story.state(Grant, grant)
    story.consortium.advance(DAY)

    story.do("hospital", GrantAcknowledge(copies=Copies.ERASED), grant)

    found = story.found(Grant, grant)
    assert (halfway, found.state, found.header.flags) == ("revoked", "revoked_everywhere", ("OVERDUE",))


@pytest.mark.parametrize(
    ("who", "copies", "refusal"),
    [
        pytest.param("hospital", Copies.DELIVERIES_STOPPED, Refusal.NOT_THE_CUSTODIAN, id="recipient-as-custodian"),
        pytest.param("centre", Copies.NO_COPY, Refusal.NOT_THE_RECIPIENT, id="custodian-as-recipient"),
    ],
)
def test_each_side_states_its_own_part(story: Story, who: str, copies: Copies, refusal: Refusal) -> None:
    consent = story.consent()
    grant = story.grant((story.entry(),), consent)
    story.do("centre", Revoke(paper=None), consent, story.patient)

    answer = story.act(who, GrantAcknowledge(copies=copies), grant)

    assert answer.result == by(refusal)


def test_months_and_classes_of_a_policy_are_those_of_the_entries(story: Story) -> None:
    may = provision(Effect.PERMIT, Purpose.TREAT, months=(MONTH, MONTH), kinds=("C0007",))
    consent = story.consent(story.policy(base=may))

    older = story.act("centre", story.terms(consent, (story.entry(month=MONTH - 1),)))
    other = story.act("centre", story.terms(consent, (story.entry(kind="C0006"),)))
    right = story.act("centre", story.terms(consent, (story.entry(),)))

    assert (older.result, other.result) == (by(Refusal.WIDER_THAN_BASIS), by(Refusal.WIDER_THAN_BASIS))
    assert right.ok

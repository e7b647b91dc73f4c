"""A use: reserved by the recipient, delivered by the ledger, counted, confirmed, disputed or forgiven."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflows.consent.consent_story import Story, by, by_kernel
from yilian.ledger.members import Role
from yilian.ledger.workflow import KernelRefusal
from yilian.values import DAY, HOUR, MINUTE, CaseId, case_id
from yilian.workflows.catalog.interface import DisputeReason, Entry
from yilian.workflows.catalog.model import Restrict, Withdraw
from yilian.workflows.consent.interface import Effect, Grant, Purpose, Use, provision
from yilian.workflows.consent.model import (
    CUSTODIAN_SUSPENDED,
    LEASE_OVER,
    Amend,
    DeclineReason,
    GrantExpire,
    GrantRevoke,
    GrantSuspend,
    Refusal,
    Revoke,
    SuspendReason,
    UseConfirm,
    UseDecline,
    UseDeliver,
    UseDispute,
    UseExpire,
    UseForgive,
)

NOWHERE = case_id(b"\1" * 32)
PHYSICIAN = (Role.PHYSICIAN,)


def reserve(story: Story, grant: CaseId, entries: tuple[CaseId, ...], who: str = "hospital", **fields: Any) -> Any:  # noqa: ANN401 - an answer
    return story.act(who, story.reservation(grant, entries, **fields), None, PHYSICIAN)


def test_a_reservation_takes_one_delivery_an_entry(story: Story) -> None:
    entries = story.entries(3)
    grant = story.grant(entries, deliveries=5)

    use = story.reserve(grant, entries)

    found = story.found(Use, use)
    assert (found.state, found.fields.custodian) == ("reserved", story["centre"].id)
    assert found.fields.person == story["hospital"].person(Role.PHYSICIAN).key_id
    assert found.fields.lease_end == story.time + 10 * MINUTE
    assert story.counters(grant) == (5, 3, 0, 0, 0)


def test_a_delivery_publishes_the_mask_and_gives_the_numbers(story: Story) -> None:
    entries = story.entries(2)
    grant = story.grant(entries, deliveries=9)
    story.do("centre", UseForgive(), story.deliver(story.reserve(grant, entries)))
    mask, use = story.mask(), story.reserve(grant, entries)

    story.do("centre", UseDeliver(mask=mask), use)

    fields = story.found(Use, use).fields
    assert (fields.mask, fields.first_number, fields.allowed, fields.forgiven) == (mask, 3, 9, 2)
    assert (story.state(Use, use), story.counters(grant)) == ("delivered", (9, 0, 4, 2, 0))


def test_a_second_mask_for_one_reservation_is_refused(story: Story) -> None:
    entries = story.entries(1)
    use = story.deliver(story.reserve(story.grant(entries), entries))

    answer = story.act("centre", UseDeliver(mask=story.mask()), use)

    assert answer.result == by_kernel(KernelRefusal.ILLEGAL_TRANSITION)


def test_only_the_custodian_delivers(story: Story) -> None:
    entries = story.entries(1)

    answer = story.act("hospital", UseDeliver(mask=story.mask()), story.reserve(story.grant(entries), entries))

    assert answer.result == by_kernel(KernelRefusal.NOT_PERMITTED)


@pytest.mark.parametrize(
    ("who", "fields", "refusal"),
    [
        pytest.param("hospital", {"grant": NOWHERE}, Refusal.NO_GRANT, id="no-such-grant"),
        pytest.param("branch", {}, Refusal.NOT_THE_RECIPIENT, id="another-institution"),
        pytest.param("hospital", {"purpose": Purpose.HRESCH}, Refusal.PURPOSE_DIFFERS, id="another-purpose"),
        pytest.param("hospital", {"entries": (NOWHERE,)}, Refusal.ENTRY_NOT_CURRENT, id="unknown-entry"),
    ],
)
def test_a_reservation_outside_its_grant_is_refused(
    story: Story, who: str, fields: dict[str, Any], refusal: Refusal
) -> None:
    entries = story.entries(1)
    grant = story.grant(entries)

    answer = reserve(story, **{"grant": grant, "entries": entries, "who": who, **fields})

    assert answer.result == by(refusal)


def test_entries_beside_the_list_or_named_twice_are_refused(story: Story) -> None:
    listed, other = story.entries(2)
    grant = story.grant((listed,))

    beside, twice = reserve(story, grant, (listed, other)), reserve(story, grant, (listed, listed))

    assert beside.result == twice.result == by(Refusal.NOT_IN_LIST)


def test_one_delivery_more_than_allowed_is_refused(story: Story) -> None:
    entries = story.entries(2)
    grant = story.grant(entries, deliveries=3)
    story.reserve(grant, entries)

    too_many, last = reserve(story, grant, entries), reserve(story, grant, entries[:1])

    assert (too_many.result, last.ok) == (by(Refusal.DELIVERIES_SPENT), True)


def test_the_last_delivery_exhausts_the_grant_and_forgiving_one_reopens_it(story: Story) -> None:
    entries = story.entries(1)
    grant = story.grant(entries, deliveries=2)
    first, second = story.reserve(grant, entries), story.reserve(grant, entries)
    story.deliver(first)
    with_one_reserved = story.state(Grant, grant)
    story.deliver(second)
    exhausted, refused = story.state(Grant, grant), reserve(story, grant, entries)

    story.do("centre", UseForgive(), first, (Role.DATA_OFFICER,))

    assert (with_one_reserved, exhausted) == ("issued", "exhausted")
    assert refused.result == by(Refusal.DELIVERIES_SPENT)
    assert (story.state(Grant, grant), story.state(Use, first)) == ("issued", "forgiven")
    assert reserve(story, grant, entries).ok


# --------------------------------------------------------------------------- what may have changed since the grant


def revoke(story: Story, grant: CaseId, entry: CaseId) -> None:
    story.do("centre", GrantRevoke(paper=None), grant)


def revoke_consent(story: Story, grant: CaseId, entry: CaseId) -> None:
    story.do("centre", Revoke(paper=None), story.found(Grant, grant).fields.covered_by, story.patient)


def expire(story: Story, grant: CaseId, entry: CaseId) -> None:
    story.consortium.advance(2 * HOUR)


def expire_visibly(story: Story, grant: CaseId, entry: CaseId) -> None:
    story.consortium.advance(2 * HOUR)
    story.do("regulator", GrantExpire(), grant)


def suspend(story: Story, grant: CaseId, entry: CaseId) -> None:
    halt = GrantSuspend(reason=SuspendReason.DISPUTE, paper=None)
    story.do("centre", halt, grant, (Role.DATA_OFFICER,))


def restrict(story: Story, grant: CaseId, entry: CaseId) -> None:
    story.do("centre", Restrict(), entry)


def withdraw(story: Story, grant: CaseId, entry: CaseId) -> None:
    story.do("centre", Withdraw(), entry, (Role.DATA_OFFICER,))


def narrow_roles(story: Story, grant: CaseId, entry: CaseId) -> None:
    consent = story.found(Grant, grant).fields.covered_by
    policy = story.policy(ends=story.later(80 * DAY))
    only = replace(policy, base=provision(Effect.PERMIT, Purpose.TREAT, roles=(Role.NURSE,)))
    story.do("centre", Amend(policy=only, paper=None), consent, story.patient)


CHANGES = [
    pytest.param(revoke, Refusal.GRANT_REVOKED, id="revoked"),
    pytest.param(revoke_consent, Refusal.GRANT_REVOKED, id="consent-revoked"),
    pytest.param(expire, Refusal.GRANT_EXPIRED, id="past-its-end"),
    pytest.param(expire_visibly, Refusal.GRANT_EXPIRED, id="expired"),
    pytest.param(suspend, Refusal.GRANT_SUSPENDED, id="suspended"),
    pytest.param(withdraw, Refusal.ENTRY_NOT_CURRENT, id="withdrawn"),
    pytest.param(restrict, Refusal.ENTRY_RESTRICTED, id="restricted"),
    pytest.param(narrow_roles, Refusal.WIDER_THAN_BASIS, id="narrowed-to-nurses"),
]


@pytest.mark.parametrize(("change", "refusal"), CHANGES)
def test_a_reservation_is_judged_on_what_holds_now(story: Story, change: Any, refusal: Refusal) -> None:  # noqa: ANN401 - a step
    entries = story.entries(1)
    grant = story.grant(entries, ends=story.later(HOUR))
    change(story, grant, entries[0])

    answer = reserve(story, grant, entries)

    assert answer.result == by(refusal)


@pytest.mark.parametrize(("change", "refusal"), CHANGES[:6])
def test_a_child_is_judged_by_its_ancestors_too(story: Story, change: Any, refusal: Refusal) -> None:  # noqa: ANN401 - a step
    entries = story.entries(1)
    root = story.grant(entries, ends=story.later(HOUR))
    child = story.child(root, "hospital", "branch")
    change(story, root, entries[0])

    answer = reserve(story, child, entries, "branch")

    assert answer.result == by(refusal)


@pytest.mark.parametrize(("change", "refusal"), CHANGES)
def test_a_delivery_is_never_refused_but_released_where_a_guard_fails_by_then(
    change: Any,  # noqa: ANN401 - fields of a command, or a step
    refusal: Refusal,
) -> None:
    story = Story(consent__lease=DAY)
    entries = story.entries(1)
    grant = story.grant(entries, ends=story.later(HOUR))
    use = story.reserve(grant, entries)
    change(story, grant, entries[0])

    story.deliver(use)

    found = story.found(Use, use)
    assert (found.state, found.fields.failed_guard, found.fields.mask is not None) == ("released", refusal, True)
    assert story.counters(grant)[1:4] == (0, 1, 0)


def test_a_delivery_after_the_lease_is_released(story: Story) -> None:
    entries = story.entries(1)
    use = story.reserve(story.grant(entries), entries)
    story.consortium.advance(11 * MINUTE)

    story.deliver(use)

    assert (story.state(Use, use), story.found(Use, use).fields.failed_guard) == ("released", LEASE_OVER)


def test_a_delivery_by_a_suspended_custodian_is_released(story: Story) -> None:
    entries = story.entries(1)
    use = story.reserve(story.grant(entries), entries)
    story.suspend_member("centre")

    story.deliver(use)

    assert (story.state(Use, use), story.found(Use, use).fields.failed_guard) == ("released", CUSTODIAN_SUSPENDED)


def test_the_own_reservation_is_not_subtracted_at_delivery(story: Story) -> None:
    entries = story.entries(2)
    grant = story.grant(entries, deliveries=2)
    use = story.reserve(grant, entries)

    story.deliver(use)

    assert (story.state(Use, use), story.state(Grant, grant)) == ("delivered", "exhausted")


def test_a_policy_names_the_role_that_may_use(story: Story) -> None:
    entries = story.entries(1)
    only = provision(Effect.PERMIT, Purpose.TREAT, roles=(Role.NURSE,))
    grant = story.grant(entries, story.consent(story.policy(base=only)))

    physician = reserve(story, grant, entries)
    nurse = story.act("hospital", story.reservation(grant, entries), None, (Role.NURSE,))

    assert (physician.result, nurse.ok) == (by(Refusal.WIDER_THAN_BASIS), True)


def test_a_node_alone_reserves_nothing(story: Story) -> None:
    entries = story.entries(1)

    answer = story.act("hospital", story.reservation(story.grant(entries), entries))

    assert answer.result == by_kernel(KernelRefusal.NOT_PERMITTED)


# ----------------------------------------------------------------------------------------------- what gives back


def test_a_declined_and_a_lapsed_reservation_return_their_deliveries(story: Story) -> None:
    entries = story.entries(2)
    grant = story.grant(entries, deliveries=4)
    declined, lapsed = story.reserve(grant, entries), story.reserve(grant, entries)
    early = story.act("regulator", UseExpire(), lapsed)

    story.do("centre", UseDecline(reason=DeclineReason.LEVEL_FIVE), declined)
    story.consortium.advance(11 * MINUTE)
    story.do("regulator", UseExpire(), lapsed)

    assert early.result == by_kernel(KernelRefusal.TOO_EARLY)
    assert (story.state(Use, declined), story.state(Use, lapsed)) == ("declined", "lapsed")
    assert story.found(Use, declined).fields.declined == DeclineReason.LEVEL_FIVE
    assert story.counters(grant) == (4, 0, 0, 0, 0)


def test_what_a_dead_grant_gives_back_goes_to_the_nearest_living_ancestor(story: Story) -> None:
    entries = story.entries(1)
    root = story.grant(entries, deliveries=6)
    one = story.child(root, "hospital", "branch", deliveries=6)
    two = story.child(one, "branch", "laboratory", deliveries=6)
    kept, returned = story.reserve(two, entries, "laboratory"), story.reserve(two, entries, "laboratory")
    story.do("hospital", GrantRevoke(paper=None), one)
    before = (story.state(Grant, root), story.counters(root))
    story.deliver(kept)

    story.do("centre", UseDecline(reason=DeclineReason.REVOCATION_RECEIVED), returned)

    assert before == ("issued", (6, 0, 0, 0, 2))
    assert story.counters(root) == (6, 0, 0, 0, 1)
    assert story.counters(one)[4] == story.counters(two)[1] + story.counters(two)[2] == 1


def test_a_return_reopens_an_exhausted_ancestor(story: Story) -> None:
    entries = story.entries(1)
    root = story.grant(entries, deliveries=1)
    child = story.child(root, "hospital", "branch", deliveries=1)
    use = story.reserve(child, entries, "branch")
    story.do("hospital", GrantRevoke(paper=None), child)
    before = story.state(Grant, root)

    story.do("centre", UseDecline(reason=DeclineReason.OFFLINE), use)

    assert (before, story.state(Grant, root)) == ("exhausted", "issued")


def test_what_a_dead_root_gives_back_goes_nowhere(story: Story) -> None:
    entries = story.entries(1)
    root = story.grant(entries)
    use = story.reserve(root, entries)
    story.do("centre", GrantRevoke(paper=None), root)

    story.do("centre", UseDecline(reason=DeclineReason.ANOTHER_PATIENT), use)

    assert (story.state(Grant, root), story.counters(root)) == ("revoked", (10, 0, 0, 0, 0))


# ---------------------------------------------------------------------------------------------- after the delivery


def test_a_recipient_confirms_within_the_window(story: Story) -> None:
    entries = story.entries(1)
    grant = story.grant(entries)
    use, late = story.deliver(story.reserve(grant, entries)), story.deliver(story.reserve(grant, entries))
    story.do("hospital", UseConfirm(), use)
    story.consortium.advance(73 * HOUR)

    answer = story.act("hospital", UseConfirm(), late)

    assert (story.state(Use, use), story.state(Use, late)) == ("confirmed", "delivered")
    assert answer.result == by_kernel(KernelRefusal.DEADLINE_PASSED)


def test_a_dispute_reaches_the_catalogue_and_stays_counted(story: Story) -> None:
    entries = story.entries(3)
    grant = story.grant(entries)
    use = story.deliver(story.reserve(grant, entries))
    withdraw(story, grant, entries[1])

    story.do("hospital", UseDispute(entries=entries[:2], reason=DisputeReason.KEY_DIFFERS), use)

    found = story.found(Use, use)
    assert (found.state, found.fields.disputed) == ("disputed", entries[:2])
    assert [story.state(Entry, entry) for entry in entries] == ["disputed", "withdrawn", "current"]
    assert story.counters(grant) == (10, 0, 3, 0, 0)


def test_only_what_was_delivered_is_disputed(story: Story) -> None:
    delivered, other = story.entries(2)
    use = story.deliver(story.reserve(story.grant((delivered, other)), (delivered,)))
    reason = DisputeReason.COMMITMENT_DIFFERS

    beside = story.act("hospital", UseDispute(entries=(other,), reason=reason), use)
    twice = story.act("hospital", UseDispute(entries=(delivered, delivered), reason=reason), use)

    assert beside.result == twice.result == by(Refusal.NOT_IN_LIST)


def test_a_disputed_use_may_be_forgiven_by_a_suspended_custodian(story: Story) -> None:
    entries = story.entries(1)
    grant = story.grant(entries)
    use = story.deliver(story.reserve(grant, entries))
    story.do("hospital", UseDispute(entries=entries, reason=DisputeReason.WRONG_PATIENT), use)
    story.suspend_member("centre")

    story.do("centre", UseForgive(), use)

    assert (story.state(Use, use), story.counters(grant)) == ("forgiven", (10, 0, 1, 1, 0))


def test_a_released_use_is_neither_confirmed_nor_forgiven(story: Story) -> None:
    entries = story.entries(1)
    grant = story.grant(entries)
    use = story.reserve(grant, entries)
    revoke(story, grant, entries[0])
    story.deliver(use)

    confirmed, forgiven = story.act("hospital", UseConfirm(), use), story.act("centre", UseForgive(), use)

    assert confirmed.result == forgiven.result == by_kernel(KernelRefusal.ILLEGAL_TRANSITION)

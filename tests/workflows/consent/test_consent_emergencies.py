"""Emergency access: granted by the custodian alone, closed by itself, told to the patient, reviewed by others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.consent.consent_story import Story, by, by_kernel
from yilian.ledger.members import Role
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import DAY, HOUR, CaseId, digest
from yilian.workflows.catalog.model import Restrict
from yilian.workflows.consent.emergency_model import (
    Emergency,
    EmergencyAskCosignature,
    EmergencyClose,
    EmergencyCosign,
    EmergencyDecline,
    EmergencyExpire,
    EmergencyJudge,
    EmergencyMatch,
    EmergencyNotify,
    EmergencyOpen,
    EmergencyReason,
    NoMatchReason,
)
from yilian.workflows.consent.interface import Grant, Purpose, Use
from yilian.workflows.consent.model import GrantExpire, Refusal

PHYSICIAN = (Role.PHYSICIAN,)


def opening(story: Story, **fields: Any) -> EmergencyOpen:  # noqa: ANN401 - fields of a command, or a step
    plain: dict[str, Any] = {
        "custodian": story["centre"].id,
        "identity": digest(story.consortium.draw()),
        "reason": EmergencyReason.UNCONSCIOUS,
        "lasts": 4 * HOUR,
    }
    return EmergencyOpen(**{**plain, **fields})


def opened(story: Story, **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command, or a step
    return story.do("hospital", opening(story, **fields), None, PHYSICIAN)


def matched(story: Story, *entries: CaseId) -> CaseId:
    emergency = opened(story)
    return story.do("centre", EmergencyMatch(entries=entries or (story.entry(),), deliveries=5), emergency)


def grant_of(story: Story, emergency: CaseId) -> CaseId:
    grant = story.found(Emergency, emergency).fields.grant
    assert grant is not None
    return grant


def judgement(story: Story, *, justified: bool = True) -> EmergencyJudge:
    return EmergencyJudge(justified=justified, finding=digest(story.consortium.draw()))


def test_the_custodian_grants_at_once_and_a_physician_uses(story: Story) -> None:
    entry = story.entry()
    story.do("centre", Restrict(), entry)
    emergency = matched(story, entry)
    grant = grant_of(story, emergency)

    use = story.reserve(grant, (entry,), purpose=Purpose.ETREAT)
    story.deliver(use)

    found = story.found(Grant, grant)
    assert (found.state, found.header.flags, found.header.patient) == ("issued", ("RESTRICTED",), None)
    assert (story.state(Use, use), story.found(Use, use).header.flags) == ("delivered", ("RESTRICTED",))


def test_only_a_physician_uses_an_emergency_grant(story: Story) -> None:
    entry = story.entry()
    grant = grant_of(story, matched(story, entry))

    answer = story.act("hospital", story.reservation(grant, (entry,), purpose=Purpose.ETREAT), None, (Role.NURSE,))

    assert answer.result == by(Refusal.NOT_THE_RECIPIENT)


def test_a_suspended_custodian_still_delivers_in_an_emergency(story: Story) -> None:
    entry = story.entry()
    use = story.reserve(grant_of(story, matched(story, entry)), (entry,), purpose=Purpose.ETREAT)
    story.suspend_member("centre")

    story.deliver(use)

    assert story.state(Use, use) == "delivered"


def test_an_emergency_is_a_day_at_most(story: Story) -> None:
    longest = story.act("hospital", opening(story, lasts=24 * HOUR), None, PHYSICIAN)
    longer = story.act("hospital", opening(story, lasts=24 * HOUR + 1), None, PHYSICIAN)

    assert (longest.ok, longer.result) == (True, by(Refusal.PERIOD_TOO_LONG))


def test_nobody_asks_itself(story: Story) -> None:
    answer = story.act("hospital", opening(story, custodian=story["hospital"].id), None, PHYSICIAN)

    assert answer.result == by(Refusal.NOT_THE_CUSTODIAN)


def test_a_custodian_lists_its_own_entries_only(story: Story) -> None:
    emergency = opened(story)

    answer = story.act("centre", EmergencyMatch(entries=(story.entry("laboratory"),), deliveries=1), emergency)

    assert answer.result == by(Refusal.NOT_THE_CUSTODIAN)


def test_an_entry_named_twice_refuses_the_match_and_changes_nothing(story: Story) -> None:
    emergency, entry = opened(story), story.entry()

    answer = story.act("centre", EmergencyMatch(entries=(entry, entry), deliveries=1), emergency)

    wanted = ((KERNEL, int(KernelRefusal.CONSEQUENCE_REFUSED)), ("consent", int(Refusal.NOT_IN_LIST)))
    assert (answer.result, story.state(Emergency, emergency)) == (wanted, "opened")


def test_a_custodian_may_decline_to_match(story: Story) -> None:
    emergency = opened(story)

    story.do("centre", EmergencyDecline(reason=NoMatchReason.UNKNOWN_PATIENT), emergency)

    found = story.found(Emergency, emergency)
    assert (found.state, found.fields.no_match) == ("not_matched", NoMatchReason.UNKNOWN_PATIENT)


# ------------------------------------------------------------------------------------------------------- co-signature


def test_the_custodian_asks_for_one_cosignature_by_another_operator(story: Story) -> None:
    emergency = opened(story)
    story.do("centre", EmergencyAskCosignature(), emergency)
    early = story.act("centre", EmergencyMatch(entries=(story.entry(),), deliveries=1), emergency)
    same = story.act("branch", EmergencyCosign(), emergency, PHYSICIAN)

    story.do("laboratory", EmergencyCosign(), emergency, PHYSICIAN)
    again = story.act("centre", EmergencyAskCosignature(), emergency)

    found = story.found(Emergency, emergency)
    assert (found.state, found.fields.cosigner) == ("opened", story["laboratory"].id)
    assert early.result == by_kernel(KernelRefusal.ILLEGAL_TRANSITION)
    assert (same.result, again.result) == (by(Refusal.SAME_OPERATOR), by(Refusal.COSIGNED_ALREADY))


def test_above_the_limit_a_cosignature_is_asked_never_a_refusal(story: Story) -> None:
    states = [story.state(Emergency, opened(story)) for _ in range(6)]

    assert states == ["opened"] * 5 + ["awaiting_cosignature"]


def test_an_overdue_review_counts_against_the_opener_no_longer() -> None:
    story = Story(consent__emergencies_open=1)
    matched(story)
    while_unreviewed = story.state(Emergency, opened(story))
    story.consortium.advance(8 * DAY)

    afterwards = story.state(Emergency, opened(story))

    assert (while_unreviewed, afterwards) == ("awaiting_cosignature", "opened")


def test_an_emergency_closed_unused_leaves_nothing_to_review() -> None:
    story = Story(consent__emergencies_open=1)
    story.do("hospital", EmergencyClose(), opened(story), PHYSICIAN)

    assert story.state(Emergency, opened(story)) == "opened"


def test_after_an_unjustified_access_a_cosignature_is_asked_for_ninety_days(story: Story) -> None:
    emergency = matched(story)
    story.do("hospital", EmergencyClose(), emergency, PHYSICIAN)
    story.do("regulator", judgement(story, justified=False), emergency, (Role.INSPECTOR,))
    soon = story.state(Emergency, opened(story))
    story.consortium.advance(91 * DAY)

    later = story.state(Emergency, opened(story))

    assert (story.state(Emergency, emergency), soon, later) == ("unjustified", "awaiting_cosignature", "opened")


# ------------------------------------------------------------------------------------------------------ end and review


def test_closing_ends_the_grant(story: Story) -> None:
    emergency = matched(story)

    story.do("hospital", EmergencyClose(), emergency, PHYSICIAN)

    assert story.state(Emergency, emergency) == "auto_closed"
    assert story.state(Grant, grant_of(story, emergency)) == "ended"


def test_its_opener_closes_it_at_any_version(story: Story) -> None:
    emergency = matched(story)

    answer = story.act("hospital", EmergencyClose(), emergency, PHYSICIAN, version=1)

    assert (answer.ok, story.state(Emergency, emergency)) == (True, "auto_closed")


def test_an_ended_grant_delivers_nothing_more(story: Story) -> None:
    entry = story.entry()
    emergency = matched(story, entry)
    story.do("hospital", EmergencyClose(), emergency, PHYSICIAN)
    reservation = story.reservation(grant_of(story, emergency), (entry,), purpose=Purpose.ETREAT)

    answer = story.act("hospital", reservation, None, PHYSICIAN)

    assert answer.result == by(Refusal.BASIS_NOT_ALIVE)


def test_anyone_closes_it_once_its_time_is_over(story: Story) -> None:
    used, unused = matched(story), opened(story)
    early = story.act("regulator", EmergencyExpire(), used)
    story.consortium.advance(5 * HOUR)
    story.do("regulator", GrantExpire(), grant_of(story, used))

    story.do("regulator", EmergencyExpire(), used)
    story.do("regulator", EmergencyExpire(), unused)

    assert early.result == by_kernel(KernelRefusal.TOO_EARLY)
    assert (story.state(Emergency, used), story.state(Emergency, unused)) == ("auto_closed", "closed_unused")
    assert story.state(Grant, grant_of(story, used)) == "expired"


def test_it_is_told_and_reviewed_late_is_flagged(story: Story) -> None:
    emergency = matched(story)
    story.do("hospital", EmergencyClose(), emergency, PHYSICIAN)
    story.do("centre", EmergencyNotify(notice=digest(story.consortium.draw())), emergency)
    told = story.found(Emergency, emergency)
    story.consortium.advance(8 * DAY)

    story.do("centre", judgement(story), emergency, (Role.DATA_OFFICER,))

    found = story.found(Emergency, emergency)
    assert (told.state, told.header.flags) == ("review_due", ())
    assert (found.state, found.header.flags, found.fields.reviewer) == ("justified", ("OVERDUE",), story["centre"].id)


def test_an_institution_under_the_same_operator_does_not_review(story: Story) -> None:
    entry = story.entry("branch")
    emergency = opened(story, custodian=story["branch"].id)
    story.do("branch", EmergencyMatch(entries=(entry,), deliveries=1), emergency)
    story.do("hospital", EmergencyClose(), emergency, PHYSICIAN)

    answer = story.act("branch", judgement(story), emergency, (Role.DATA_OFFICER,))

    assert answer.result == by(Refusal.SAME_OPERATOR)


@pytest.mark.parametrize("who", ["hospital", "branch"])
def test_the_recipient_does_not_tell_the_patient(story: Story, who: str) -> None:
    emergency = matched(story)
    story.do("hospital", EmergencyClose(), emergency, PHYSICIAN)

    answer = story.act(who, EmergencyNotify(notice=digest(story.consortium.draw())), emergency)

    assert answer.result == by_kernel(KernelRefusal.NOT_PERMITTED)

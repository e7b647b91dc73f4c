"""Every guard of a referral: what is refused, by which number, at which limit."""

from __future__ import annotations

import pytest

from tests.workflows.referral.referral_story import DOCTOR, Story
from yilian.ledger.cases import Patient
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KernelRefusal
from yilian.values import DAY, HOUR, case_id, institution_id, unix_millis
from yilian.workflows.catalog.model import Restrict
from yilian.workflows.consent.interface import Purpose
from yilian.workflows.referral.model import (
    MAX_RECORDS,
    Accept,
    Acknowledge,
    Arrive,
    Ask,
    Cancel,
    CancelReason,
    Direction,
    Expire,
    NoShow,
    ReferDown,
    Refusal,
    Reject,
    Reschedule,
    Schedule,
    State,
    Supply,
    Urgency,
    Verify,
)

NOBODY = institution_id(b"\7" * 32)
NOTHING = case_id(b"\7" * 32)


def refused(answer: Answer, number: Refusal) -> bool:
    return answer.result == (("referral", number),)


def kernel_refused(answer: Answer, number: KernelRefusal) -> bool:
    return answer.result[0] == ("kernel", number)


# --------------------------------------------------------------------------------------------------------------- create


def test_a_request_is_listed_once_only(story: Story) -> None:
    assert refused(story.create(records=(story.request,)), Refusal.LISTED_TWICE)


def test_a_record_is_listed_once_only(story: Story) -> None:
    assert refused(story.create(records=(story.records[0], story.records[0])), Refusal.LISTED_TWICE)


def test_an_unknown_record_is_refused(story: Story) -> None:
    assert refused(story.create(records=(NOTHING,)), Refusal.RECORD_NOT_CURRENT)


def test_a_withdrawn_request_is_refused(story: Story) -> None:
    story.withdraw(story.request)
    assert refused(story.create(), Refusal.RECORD_NOT_CURRENT)


def test_a_record_of_another_custodian_is_refused(story: Story) -> None:
    theirs = story.publish(story.hospital)
    assert refused(story.create(records=(theirs,)), Refusal.NOT_YOUR_RECORD)


def test_thirty_one_records_go_along(story: Story) -> None:
    records = tuple(story.publish(story.centre) for _ in range(MAX_RECORDS))
    assert story.create(records=records).ok


def test_a_consent_that_does_not_exist_is_no_basis(story: Story) -> None:
    assert refused(story.create(consent=NOTHING), Refusal.NO_TREATMENT_BASIS)


def test_a_consent_that_the_referrer_did_not_attest_is_no_basis(story: Story) -> None:
    theirs = story.agree(party=story.hospital)
    assert refused(story.create(consent=theirs), Refusal.NO_TREATMENT_BASIS)
    story.attest(story.centre, theirs)
    assert story.create(consent=theirs).ok


def test_a_restricted_record_has_no_basis(story: Story) -> None:
    story.done(story.act(story.centre, Restrict(), story.records[0]))
    assert refused(story.create(), Refusal.NO_TREATMENT_BASIS)


def test_a_view_beyond_the_consents_end_has_no_basis(story: Story) -> None:
    late = unix_millis(story.consortium.time + 366 * DAY)
    assert refused(story.create(view_until=late), Refusal.NO_TREATMENT_BASIS)


def test_deliveries_of_request_and_records_stay_within_the_consents_budget() -> None:
    story = Story(maximum=12)
    assert refused(story.create(deliveries=11), Refusal.NO_TREATMENT_BASIS)
    assert story.create(deliveries=10).ok


def test_a_consent_that_leaves_out_the_classes_of_a_result_is_no_basis(story: Story) -> None:
    one_way = story.agree(kinds=("C0002", "C0007"))
    assert refused(story.create(consent=one_way), Refusal.NO_TREATMENT_BASIS)
    both_ways = story.agree(kinds=("C0002", "C0007", "C0045", "C0053"))
    assert story.create(consent=both_ways).ok


def test_without_classes_of_a_result_on_the_chains_list_a_consent_one_way_is_enough() -> None:
    story = Story(words={"referral.result_classes": ()})
    assert story.create(consent=story.agree(kinds=("C0002", "C0007"))).ok


@pytest.mark.parametrize("both", [pytest.param(False, id="neither"), pytest.param(True, id="both")])
def test_exactly_one_speaks_for_the_patient(story: Story, both: bool) -> None:
    key = story.centre.gateway.public_key if both else None
    home = story.centre.id if both else None
    assert refused(story.create(patient=Patient(key=key, home=home)), Refusal.PATIENT_NOT_NAMED)


def test_a_home_is_a_member(story: Story) -> None:
    assert refused(story.create(patient=Patient(key=None, home=NOBODY)), Refusal.PATIENT_NOT_NAMED)


@pytest.mark.parametrize("direction", [Direction.DOWN, Direction.SAME])
def test_to_a_higher_grade_the_direction_is_up(story: Story, direction: Direction) -> None:
    assert refused(story.create(direction=direction), Refusal.DIRECTION_WRONG)


@pytest.mark.parametrize("direction", list(Direction))
def test_between_grades_without_rank_any_direction_fits(direction: Direction) -> None:
    story = Story(words={"referral.grades": ("primary",)})
    assert story.create(direction=direction).ok


def test_between_equal_grades_the_direction_is_the_same() -> None:
    story = Story(grades={"centre": "secondary", "hospital": "secondary"})
    assert refused(story.create(direction=Direction.UP), Refusal.DIRECTION_WRONG)
    assert story.create(direction=Direction.SAME).ok


def test_the_chains_list_says_which_grade_is_higher() -> None:
    story = Story(words={"referral.grades": ("tertiary", "primary")})
    assert refused(story.create(direction=Direction.UP), Refusal.DIRECTION_WRONG)
    assert story.create(direction=Direction.DOWN).ok


@pytest.mark.parametrize("name", ["centre", "nobody"])
def test_oneself_and_a_stranger_are_no_receivers(story: Story, name: str) -> None:
    receiver = story.centre.id if name == "centre" else NOBODY
    answer = story.create(receiver=receiver, direction=Direction.SAME)
    assert refused(answer, Refusal.RELATION_NOT_ALLOWED)


def test_a_suspended_member_is_no_receiver(story: Story) -> None:
    story.suspend(story.hospital)
    assert refused(story.create(), Refusal.RELATION_NOT_ALLOWED)


def test_only_relations_on_the_chains_list_are_allowed() -> None:
    story = Story(words={"referral.relations": ("community_centre:laboratory",)})
    assert refused(story.create(), Refusal.RELATION_NOT_ALLOWED)
    story = Story(words={"referral.relations": ("community_centre:laboratory", "community_centre:hospital")})
    assert story.create().ok


def test_a_predecessor_is_completed_or_closed(story: Story) -> None:
    first = story.at(State.IN_CARE)
    assert kernel_refused(story.create(refs=[first]), KernelRefusal.REFERENCE_NOT_ADMISSIBLE)


# --------------------------------------------------------------------------------------------------- verify to schedule


def test_a_record_without_a_passed_challenge_is_not_verified(story: Story) -> None:
    case = story.at(State.REQUESTED)
    challenge = story.passed((story.request, story.records[0]))
    assert refused(story.act(story.hospital, Verify(), case, refs=[challenge]), Refusal.CHALLENGE_MISSING)


def test_a_request_without_a_passed_challenge_is_not_verified(story: Story) -> None:
    case = story.at(State.REQUESTED)
    challenge = story.passed(story.records)
    assert refused(story.act(story.hospital, Verify(), case, refs=[challenge]), Refusal.CHALLENGE_MISSING)


def test_verifying_without_any_challenge_is_refused(story: Story) -> None:
    case = story.at(State.REQUESTED)
    answer = story.act(story.hospital, Verify(), case)
    assert kernel_refused(answer, KernelRefusal.REFERENCE_NOT_ADMISSIBLE)


def test_a_challenge_before_the_request_does_not_count(story: Story) -> None:
    early = story.passed((story.request, *story.records))
    case = story.at(State.REQUESTED)
    assert refused(story.act(story.hospital, Verify(), case, refs=[early]), Refusal.CHALLENGE_MISSING)


def test_a_challenge_by_another_member_does_not_count(story: Story) -> None:
    case = story.at(State.REQUESTED)
    theirs = story.passed((story.request, *story.records), by=story.other)
    assert refused(story.act(story.hospital, Verify(), case, refs=[theirs]), Refusal.CHALLENGE_MISSING)


def test_a_failed_challenge_does_not_pass_its_other_entries(story: Story) -> None:
    case = story.at(State.REQUESTED)
    unrelated = story.publish(story.centre)
    failed = story.failed((story.request, *story.records, unrelated), [unrelated])
    assert refused(story.act(story.hospital, Verify(), case, refs=[failed]), Refusal.CHALLENGE_MISSING)


def test_a_referral_whose_records_are_all_gone_is_not_verified(story: Story) -> None:
    case = story.at(State.REQUESTED)
    challenge = story.passed((story.request, *story.records))
    story.withdraw(story.records[0])
    story.withdraw(story.records[1])
    assert refused(story.act(story.hospital, Verify(), case, refs=[challenge]), Refusal.RECORD_NOT_CURRENT)


def test_accepting_without_a_record_that_can_be_released_is_refused(story: Story) -> None:
    case = story.at(State.RECEIVED)
    story.withdraw(story.records[0])
    story.done(story.act(story.centre, Restrict(), story.records[1]))
    assert refused(story.doctor(story.hospital, Accept(), case), Refusal.RECORD_NOT_CURRENT)


def test_accepting_after_the_consent_was_revoked_is_refused(story: Story) -> None:
    case = story.at(State.RECEIVED)
    story.revoke_consent()
    assert refused(story.doctor(story.hospital, Accept(), case), Refusal.NO_TREATMENT_BASIS)


def test_the_referrer_does_not_accept_its_own_referral(story: Story) -> None:
    case = story.at(State.RECEIVED)
    assert kernel_refused(story.doctor(story.centre, Accept(), case), KernelRefusal.NOT_PERMITTED)


def test_a_second_receiver_accepts_nothing(story: Story) -> None:
    case = story.at(State.RECEIVED)
    assert kernel_refused(story.doctor(story.other, Accept(), case), KernelRefusal.NOT_PERMITTED)


def test_accepting_after_the_lapse_is_refused_though_information_was_asked_meanwhile(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    story.consortium.advance(7 * DAY)
    answer = story.doctor(story.centre, Supply(add=(story.publish(story.centre),), drop=()), case)
    assert kernel_refused(answer, KernelRefusal.DEADLINE_PASSED)


@pytest.mark.parametrize(
    ("urgency", "lapse"),
    [(Urgency.EMERGENCY, 2 * HOUR), (Urgency.URGENT, 24 * HOUR), (Urgency.ROUTINE, 7 * DAY)],
    ids=str,
)
def test_a_request_is_decided_up_to_its_lapse_and_not_after(story: Story, urgency: Urgency, lapse: int) -> None:
    case = story.at(State.RECEIVED, urgency=urgency)
    deadline = story.case(case).fields.deadline
    assert deadline == story.case(case).header.opened_time + lapse
    story.consortium.time = unix_millis(deadline - 2)
    assert kernel_refused(story.act(story.other, Expire(), case), KernelRefusal.TOO_EARLY)
    assert story.doctor(story.hospital, Accept(), case).ok


def test_rejecting_needs_a_reason(story: Story) -> None:
    case = story.at(State.RECEIVED)
    assert refused(story.doctor(story.hospital, Reject(reason=None), case), Refusal.REASON_MISSING)


def test_asking_needs_to_say_what_is_missing(story: Story) -> None:
    case = story.at(State.RECEIVED)
    assert refused(story.doctor(story.hospital, Ask(missing=()), case), Refusal.REASON_MISSING)


def test_supplying_nothing_new_is_refused(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    known = Supply(add=(*story.records, story.request), drop=story.records)
    assert refused(story.doctor(story.centre, known, case), Refusal.NOTHING_NEW_SUPPLIED)


def test_supplying_an_unknown_record_is_refused(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    assert refused(story.doctor(story.centre, Supply(add=(NOTHING,), drop=()), case), Refusal.RECORD_NOT_CURRENT)


def test_supplying_a_record_of_another_custodian_is_refused(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    theirs = story.publish(story.hospital)
    assert refused(story.doctor(story.centre, Supply(add=(theirs,), drop=()), case), Refusal.NOT_YOUR_RECORD)


def test_after_supplying_there_are_thirty_one_records_at_most(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    added = tuple(story.publish(story.centre) for _ in range(MAX_RECORDS - 1))
    assert refused(story.doctor(story.centre, Supply(add=added, drop=()), case), Refusal.TOO_MANY_RECORDS)
    assert story.doctor(story.centre, Supply(add=added, drop=story.records[:1]), case).ok


def test_an_appointment_yesterday_is_refused(story: Story) -> None:
    case = story.at(State.ACCEPTED)
    assert refused(story.doctor(story.hospital, Schedule(day=story.day(-1)), case), Refusal.DAY_PAST)


def test_moving_an_appointment_to_yesterday_is_refused(story: Story) -> None:
    case = story.at(State.SCHEDULED)
    assert refused(story.doctor(story.hospital, Reschedule(day=story.day(-1)), case), Refusal.DAY_PAST)


def test_an_appointment_moves_no_fourth_time(story: Story) -> None:
    case = story.at(State.SCHEDULED)
    for later in (4, 5, 6):
        story.done(story.doctor(story.hospital, Reschedule(day=story.day(later)), case))
    answer = story.doctor(story.hospital, Reschedule(day=story.day(7)), case)
    assert refused(answer, Refusal.TOO_MANY_RESCHEDULES)


def test_nobody_stayed_away_before_the_day_is_over(story: Story) -> None:
    case = story.at(State.SCHEDULED)
    story.consortium.time = unix_millis(story.case(case).fields.visit_ends - 1)
    assert kernel_refused(story.act(story.hospital, NoShow(), case), KernelRefusal.TOO_EARLY)


def test_arriving_after_the_day_that_follows_the_appointment_is_refused(story: Story) -> None:
    case = story.at(State.SCHEDULED)
    story.consortium.time = story.case(case).fields.deadline
    assert kernel_refused(story.act(story.hospital, Arrive(), case), KernelRefusal.DEADLINE_PASSED)


# -------------------------------------------------------------------------------------------------- complete to the end


def test_completing_without_a_result_is_refused(story: Story) -> None:
    case = story.at(State.IN_CARE)
    assert refused(story.doctor(story.hospital, story.completion(), case), Refusal.RESULT_MISSING)


def test_a_result_of_another_custodian_is_refused(story: Story) -> None:
    case = story.at(State.IN_CARE)
    answer = story.doctor(story.hospital, story.completion(result=story.records[0]), case)
    assert refused(answer, Refusal.NOT_YOUR_RECORD)


def test_a_result_that_is_not_current_is_refused(story: Story) -> None:
    case = story.at(State.IN_CARE)
    answer = story.doctor(story.hospital, story.completion(result=NOTHING), case)
    assert refused(answer, Refusal.RECORD_NOT_CURRENT)


def test_only_a_suspended_receiver_carries_the_publication_inside(story: Story) -> None:
    case = story.at(State.IN_CARE)
    publish = story.description(kind="C0053")
    result = story.consortium.derived_id(story.hospital, publish, bytes(16))
    answer = story.doctor(story.hospital, story.completion(result=result, publish=publish), case)
    assert refused(answer, Refusal.RESULT_MISSING)


def test_the_publication_inside_is_that_of_the_result(story: Story) -> None:
    case = story.at(State.IN_CARE)
    story.suspend(story.hospital)
    command = story.completion(result=NOTHING, publish=story.description(kind="C0053"))
    assert refused(story.doctor(story.hospital, command, case), Refusal.RESULT_MISSING)


def test_a_result_grant_beyond_the_consents_end_is_refused_not_withheld(story: Story) -> None:
    case = story.at(State.IN_CARE)
    story.attest(story.hospital)
    result = story.publish(story.hospital, kind="C0053")
    late = unix_millis(story.consortium.time + 366 * DAY)
    answer = story.doctor(story.hospital, story.completion(result=result, view_until=late), case)
    assert refused(answer, Refusal.NO_TREATMENT_BASIS)


def test_an_unread_result_is_not_acknowledged(story: Story) -> None:
    case = story.at(State.COMPLETED)
    assert refused(story.doctor(story.centre, Acknowledge(), case), Refusal.RESULT_NOT_READ)


def test_reading_something_else_is_not_reading_the_result(story: Story) -> None:
    case = story.at(State.ACCEPTED)
    use = story.read(story.hospital, story.centre, story.grant(case, 1).header.id, story.records)
    done = story.at(State.COMPLETED)
    assert refused(story.doctor(story.centre, Acknowledge(), done, refs=[use]), Refusal.RESULT_NOT_READ)


def test_referring_down_does_not_go_up(story: Story) -> None:
    case = story.at(State.COMPLETED)
    command = ReferDown(new=story.creation(direction=Direction.UP))
    assert refused(story.doctor(story.hospital, command, case), Refusal.DIRECTION_WRONG)


def test_a_follow_up_that_would_be_refused_keeps_the_case_open(story: Story) -> None:
    case = story.at(State.COMPLETED)
    command = ReferDown(new=story.creation(direction=Direction.DOWN, receiver=story.centre.id))

    answer = story.doctor(story.hospital, command, case)

    assert answer.result == (
        ("kernel", KernelRefusal.CONSEQUENCE_REFUSED),
        ("referral", Refusal.NOT_YOUR_RECORD),
    )
    assert story.case(case).state == State.COMPLETED


def test_nobody_opens_a_follow_up_by_itself(story: Story) -> None:
    case = story.at(State.COMPLETED)
    command = story.opening_down(case)
    answer = story.consortium.act(story.hospital, command, persons=DOCTOR)
    assert kernel_refused(answer, KernelRefusal.NOT_PERMITTED)


def test_cancelling_needs_a_reason(story: Story) -> None:
    case = story.at(State.REQUESTED)
    assert refused(story.doctor(story.centre, Cancel(reason=None, paper=None), case), Refusal.REASON_MISSING)


def test_a_patient_in_care_is_not_cancelled(story: Story) -> None:
    case = story.at(State.IN_CARE)
    answer = story.doctor(story.centre, Cancel(reason=CancelReason.DUPLICATE, paper=None), case)
    assert kernel_refused(answer, KernelRefusal.ILLEGAL_TRANSITION)


def test_a_home_cancels_only_with_the_paper(story: Story) -> None:
    case = story.done(story.create(patient=Patient(key=None, home=story.other.id)))
    reason = CancelReason.PATIENT_REFUSED
    assert kernel_refused(story.act(story.other, Cancel(reason=reason, paper=None), case), KernelRefusal.NOT_PERMITTED)
    assert story.act(story.other, Cancel(reason=reason, paper=story.draw()), case).ok


def test_a_use_after_cancelling_is_refused(story: Story) -> None:
    case = story.at(State.ACCEPTED)
    grant = story.grant(case, 1).header.id
    story.done(story.doctor(story.centre, Cancel(reason=CancelReason.DUPLICATE, paper=None), case))
    reserving = story.reservation(grant, story.records, Purpose.TREAT)
    assert not story.consortium.act(story.hospital, reserving, persons=DOCTOR).ok

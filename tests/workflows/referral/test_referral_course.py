"""How a referral goes from the request to the closed loop, and what each step opens, closes and notes."""

from __future__ import annotations

from tests.workflows.referral.referral_story import AS_PATIENT, DOCTOR, WALLET, Story
from yilian.ledger.cases import Patient
from yilian.ledger.running import OVERDUE
from yilian.values import DAY, HOUR, end_of_day, unix_millis
from yilian.workflows.catalog.interface import Entry, EntryState, entry_id
from yilian.workflows.catalog.model import Restrict
from yilian.workflows.consent.interface import Basis, GrantState, Purpose
from yilian.workflows.referral.model import (
    Accept,
    Acknowledge,
    Arrive,
    Cancel,
    CancelReason,
    Direction,
    Expire,
    Flag,
    Missing,
    NoShow,
    Receive,
    ReferDown,
    Referral,
    Reject,
    RejectReason,
    Reschedule,
    Schedule,
    State,
    Supply,
    Urgency,
    Verify,
)


def test_a_request_is_on_record_with_its_lists_and_the_lapse_of_its_urgency(story: Story) -> None:
    view_until = unix_millis(story.consortium.time + 30 * DAY)

    case = story.done(story.create(urgency=Urgency.URGENT, view_until=view_until))

    found = story.case(case)
    assert found.state == State.REQUESTED
    assert found.header.patient == Patient(key=WALLET.public_key, home=None)
    assert found.fields == Referral(
        referrer=story.centre.id,
        receiver=story.hospital.id,
        direction=Direction.UP,
        urgency=Urgency.URGENT,
        level=4,
        request=story.request,
        records=story.records,
        consent=story.consent,
        deliveries=10,
        view_until=view_until,
        predecessor=None,
        deadline=unix_millis(found.header.opened_time + 24 * HOUR),
        visit_ends=unix_millis(0),
        reschedules=0,
        missing=(),
        grants=(),
        result=None,
        acknowledge_by=unix_millis(0),
        reason=None,
    )


def test_a_home_may_speak_for_the_patient(story: Story) -> None:
    case = story.done(story.create(patient=Patient(key=None, home=story.centre.id)))
    assert story.case(case).header.patient == Patient(key=None, home=story.centre.id)


def test_a_request_may_name_a_completed_referral_as_its_predecessor(story: Story) -> None:
    first = story.at(State.COMPLETED)
    second = story.done(story.create(refs=[first]))
    assert story.case(second).fields.predecessor == first


def test_several_challenges_together_verify_request_and_records(story: Story) -> None:
    case = story.at(State.REQUESTED)
    challenges = [story.passed([story.request]), story.passed(story.records)]

    story.done(story.act(story.hospital, Verify(), case, refs=challenges))

    assert story.case(case).state == State.VERIFIED


def test_a_challenge_passed_again_after_one_that_lapsed_verifies(story: Story) -> None:
    case = story.at(State.REQUESTED)
    entries = (story.request, *story.records)
    challenges = [story.lapsed(entries), story.passed(entries)]

    story.done(story.act(story.hospital, Verify(), case, refs=challenges))

    assert story.case(case).state == State.VERIFIED


def test_a_record_not_current_any_more_needs_no_challenge(story: Story) -> None:
    case = story.at(State.REQUESTED)
    story.withdraw(story.records[0])

    story.done(
        story.act(story.hospital, Verify(), case, refs=[story.passed((story.request, story.records[1]))]),
    )

    assert story.case(case).state == State.VERIFIED


def test_a_lapsed_challenge_makes_the_referral_defective(story: Story) -> None:
    case = story.at(State.REQUESTED)
    challenges = [story.passed((story.request, story.records[0])), story.lapsed([story.records[1]])]

    story.done(story.act(story.hospital, Verify(), case, refs=challenges))

    assert story.case(case).state == State.DEFECTIVE


def test_a_failed_challenge_counts_for_its_failed_entries_and_wins(story: Story) -> None:
    case = story.at(State.REQUESTED)
    entries = (story.request, *story.records)
    failed = story.failed(entries, [story.records[0]])

    story.done(story.act(story.hospital, Verify(), case, refs=[failed]))

    assert story.case(case).state == State.DEFECTIVE
    assert story.get(Entry, story.records[0]).state == EntryState.DISPUTED


def test_a_defective_referral_ends_the_grant_over_its_request(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    story.done(story.doctor(story.centre, Supply(add=(story.publish(story.centre),), drop=()), case))
    records = story.case(case).fields.records

    story.done(story.act(story.hospital, Verify(), case, refs=[story.lapsed((story.request, *records))]))

    assert story.case(case).state == State.DEFECTIVE
    assert story.grant(case, 0).state == GrantState.ENDED


def test_receiving_opens_the_request_alone_for_two_deliveries(story: Story) -> None:
    case = story.at(State.RECEIVED)

    grant = story.grant(case, 0).fields

    assert story.case(case).fields.grants == (story.grant(case, 0).header.id,)
    assert (grant.basis, grant.covered_by, grant.purpose) == (Basis.TREATMENT, story.consent, Purpose.TREAT)
    assert (grant.custodian, grant.recipient, grant.entries) == (story.centre.id, story.hospital.id, (story.request,))
    assert (grant.level_cap, grant.ends) == (3, story.case(case).fields.view_until)
    assert story.allowed(case, 0) == 2
    story.read(story.hospital, story.centre, story.grant(case, 0).header.id, [story.request])


def test_accepting_opens_the_records_as_created_and_gives_thirty_days(story: Story) -> None:
    case = story.at(State.ACCEPTED)

    grant = story.grant(case, 1).fields

    assert (grant.basis, grant.covered_by, grant.entries) == (Basis.TREATMENT, story.consent, story.records)
    assert (grant.custodian, grant.recipient, grant.level_cap) == (story.centre.id, story.hospital.id, 4)
    assert story.allowed(case, 1) == 10
    found = story.case(case)
    assert found.fields.deadline == found.header.changed_time + 30 * DAY
    story.read(story.hospital, story.centre, story.grant(case, 1).header.id, story.records)


def test_accepting_leaves_out_what_is_restricted_or_not_current(story: Story) -> None:
    third = story.publish(story.centre)
    case = story.at(State.RECEIVED, records=(*story.records, third))
    story.done(story.act(story.centre, Restrict(), story.records[0]))
    story.withdraw(story.records[1])

    story.done(story.doctor(story.hospital, Accept(), case))

    assert story.grant(case, 1).fields.entries == (third,)


def test_rejecting_closes_the_request(story: Story) -> None:
    case = story.at(State.RECEIVED)

    story.done(story.doctor(story.hospital, Reject(reason=RejectReason.NO_BED), case))

    assert story.case(case).state == State.REJECTED
    assert story.case(case).fields.reason == "no_bed"
    assert story.grant(case, 0).state == GrantState.ENDED


def test_what_was_asked_is_supplied_and_verified_anew_without_a_second_request_grant(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    assert story.case(case).fields.missing == (Missing.IMAGING,)
    deadline = story.case(case).fields.deadline
    new = story.publish(story.centre, level=2)

    story.done(story.doctor(story.centre, Supply(add=(new,), drop=(story.records[1],)), case))

    supplied = story.case(case)
    assert supplied.state == State.REQUESTED
    assert supplied.fields.records == (story.records[0], new)
    assert (supplied.fields.level, supplied.fields.missing, supplied.fields.deadline) == (3, (), deadline)
    challenge = story.passed((story.request, *supplied.fields.records))
    story.done(story.act(story.hospital, Verify(), case, refs=[challenge]))
    story.done(story.act(story.hospital, Receive(), case))
    assert story.case(case).fields.grants == supplied.fields.grants


def test_an_appointment_may_be_kept_until_the_end_of_the_day_after_it(story: Story) -> None:
    case = story.at(State.ACCEPTED)
    day = story.day(5)

    story.done(story.act(story.hospital, Schedule(day=day), case))

    fields = story.case(case).fields
    assert (fields.visit_ends, fields.deadline) == (end_of_day(day), end_of_day(day) + DAY)


def test_an_appointment_may_be_today(story: Story) -> None:
    case = story.at(State.ACCEPTED)
    assert story.doctor(story.hospital, Schedule(day=story.day(0)), case).ok


def test_an_appointment_moves_three_times(story: Story) -> None:
    case = story.at(State.SCHEDULED)
    story.done(story.act(story.hospital, Reschedule(day=story.day(7)), case))
    story.done(story.doctor(story.hospital, Reschedule(day=story.day(8)), case))
    story.done(story.doctor(story.hospital, Reschedule(day=story.day(9)), case))

    fields = story.case(case).fields
    assert (fields.reschedules, fields.deadline) == (3, end_of_day(story.day(9)) + DAY)
    assert story.case(case).state == State.SCHEDULED


def test_a_patient_may_arrive_without_an_appointment_and_is_in_care_for_ninety_days(story: Story) -> None:
    case = story.at(State.ACCEPTED)

    story.done(story.doctor(story.hospital, Arrive(), case))

    found = story.case(case)
    assert found.state == State.IN_CARE
    assert found.fields.deadline == found.header.changed_time + 90 * DAY


def test_a_patient_who_did_not_come_closes_what_was_opened(story: Story) -> None:
    case = story.at(State.SCHEDULED)
    story.consortium.time = story.case(case).fields.visit_ends

    story.done(story.act(story.hospital, NoShow(), case))

    assert story.case(case).state == State.NO_SHOW
    assert [story.grant(case, place).state for place in (0, 1)] == [GrantState.ENDED, GrantState.ENDED]


def test_the_result_closes_the_records_and_opens_itself_to_the_referrer(story: Story) -> None:
    case = story.at(State.COMPLETED)

    found = story.case(case)
    result = story.grant(case, 2).fields

    assert story.grant(case, 1).state == GrantState.ENDED
    assert (result.custodian, result.recipient, result.entries) == (
        story.hospital.id,
        story.centre.id,
        (found.fields.result,),
    )
    assert (result.basis, result.covered_by, story.allowed(case, 2)) == (Basis.TREATMENT, story.consent, 2)
    assert found.header.flags == ()
    assert found.fields.acknowledge_by == found.header.changed_time + 3 * DAY
    assert found.fields.deadline == found.header.changed_time + 30 * DAY


def test_a_result_that_nobody_attested_is_withheld_and_needs_no_reading(story: Story) -> None:
    case = story.at(State.IN_CARE)
    result = story.publish(story.hospital, kind="C0053")

    story.done(story.doctor(story.hospital, story.completion(result=result), case))

    withheld = story.case(case)
    assert withheld.state == State.COMPLETED
    assert withheld.header.flags == (Flag.RESULT_WITHHELD,)
    assert len(withheld.fields.grants) == 2
    story.done(story.doctor(story.centre, Acknowledge(), case))
    assert story.case(case).state == State.CLOSED


def test_a_restricted_result_is_withheld(story: Story) -> None:
    case = story.at(State.IN_CARE)
    story.attest(story.hospital)
    result = story.publish(story.hospital, kind="C0053")
    story.done(story.act(story.hospital, Restrict(), result))

    story.done(story.doctor(story.hospital, story.completion(result=result), case))

    assert story.case(case).header.flags == (Flag.RESULT_WITHHELD,)


def test_what_the_records_grant_gives_back_is_there_for_the_result() -> None:
    story = Story(maximum=12)
    case = story.at(State.COMPLETED)
    assert story.allowed(case, 2) == 2


def test_a_result_after_the_time_in_care_is_taken_and_marked_as_late(story: Story) -> None:
    case = story.at(State.IN_CARE)
    story.attest(story.hospital)
    story.consortium.advance(91 * DAY)
    result = story.publish(story.hospital, kind="C0053")

    story.done(story.doctor(story.hospital, story.completion(result=result), case))

    assert story.case(case).header.flags == (OVERDUE,)


def test_a_suspended_receiver_gives_the_result_back_with_its_publication_inside(story: Story) -> None:
    case = story.at(State.IN_CARE)
    story.attest(story.hospital)
    story.suspend(story.hospital)
    publish = story.description(kind="C0053")
    result = entry_id(story.consortium.call(story.hospital, bytes(16)), publish.tag)

    story.done(story.doctor(story.hospital, story.completion(result=result, publish=publish), case))

    assert story.get(Entry, result).state == EntryState.CURRENT
    assert story.case(case).state == State.COMPLETED
    assert story.case(case).fields.result == result


def test_reading_the_result_closes_the_loop(story: Story) -> None:
    case = story.at(State.COMPLETED)
    grant, result = story.grant(case, 2).header.id, story.case(case).fields.result
    assert result is not None
    use = story.read(story.centre, story.hospital, grant, [result])

    story.done(story.doctor(story.centre, Acknowledge(), case, refs=[use]))

    closed = story.case(case)
    assert (closed.state, closed.header.flags) == (State.CLOSED, ())
    assert [story.grant(case, place).state for place in (0, 1, 2)] == [
        GrantState.ENDED,
        GrantState.ENDED,
        GrantState.ENDED,
    ]


def test_a_late_acknowledgement_is_taken_and_marked(story: Story) -> None:
    case = story.at(State.COMPLETED)
    result = story.case(case).fields.result
    assert result is not None
    story.consortium.advance(4 * DAY)
    use = story.read(story.centre, story.hospital, story.grant(case, 2).header.id, [result])

    story.done(story.doctor(story.centre, Acknowledge(), case, refs=[use]))

    assert story.case(case).header.flags == (OVERDUE,)


def test_referring_down_closes_the_case_and_opens_the_follow_up_by_its_own_consent(story: Story) -> None:
    case = story.at(State.COMPLETED)
    result = story.case(case).fields.result
    plan = story.publish(story.hospital, kind="C0002")
    back = story.agree(party=story.hospital)
    new = story.creation(
        receiver=story.centre.id, direction=Direction.DOWN, request=plan, records=(result,), consent=back
    )
    operation = story.consortium.draw()[:16]

    answer = story.consortium.act(story.hospital, ReferDown(new=new), case, persons=DOCTOR, operation=operation)

    story.done(answer)
    assert story.case(case).state == State.CLOSED
    assert story.grant(case, 2).state == GrantState.ENDED
    follow_up = story.case(story.consequence_id(story.hospital, case, operation))
    assert follow_up.state == State.REQUESTED
    assert (follow_up.fields.referrer, follow_up.fields.receiver) == (story.hospital.id, story.centre.id)
    assert (follow_up.fields.direction, follow_up.fields.predecessor) == (Direction.DOWN, case)
    assert follow_up.header.patient == new.patient


def test_the_referrer_may_cancel_before_care_and_closes_what_was_opened(story: Story) -> None:
    case = story.at(State.SCHEDULED)

    story.done(story.doctor(story.centre, Cancel(reason=CancelReason.NO_LONGER_NEEDED, paper=None), case))

    assert story.case(case).state == State.CANCELLED
    assert story.case(case).fields.reason == "no_longer_needed"
    assert [story.grant(case, place).state for place in (0, 1)] == [GrantState.ENDED, GrantState.ENDED]


def test_the_patient_may_cancel_with_the_case_key(story: Story) -> None:
    case = story.at(State.ACCEPTED)
    command = Cancel(reason=CancelReason.PATIENT_REFUSED, paper=None)

    story.done(story.consortium.act(story.centre, command, case, persons=AS_PATIENT))

    assert story.case(case).state == State.CANCELLED


def test_a_request_nobody_decides_expires_by_anybodys_node(story: Story) -> None:
    case = story.at(State.RECEIVED, urgency=Urgency.EMERGENCY)
    story.consortium.advance(2 * HOUR)

    story.done(story.act(story.other, Expire(), case))

    assert (story.case(case).state, story.case(case).header.flags) == (State.EXPIRED, ())
    assert story.grant(case, 0).state == GrantState.ENDED


def test_a_case_without_a_result_in_time_is_closed_as_unanswered(story: Story) -> None:
    case = story.at(State.IN_CARE)
    story.consortium.advance(90 * DAY)

    story.done(story.act(story.other, Expire(), case))

    assert (story.case(case).state, story.case(case).header.flags) == (State.CLOSED, (Flag.UNANSWERED,))
    assert story.grant(case, 1).state == GrantState.ENDED


def test_a_result_that_nobody_acknowledges_is_closed_as_unread(story: Story) -> None:
    case = story.at(State.COMPLETED)
    story.consortium.advance(30 * DAY)

    story.done(story.act(story.other, Expire(), case))

    assert (story.case(case).state, story.case(case).header.flags) == (State.CLOSED, (Flag.UNREAD,))
    assert story.grant(case, 2).state == GrantState.ENDED


def test_grants_that_ended_otherwise_are_not_ended_twice(story: Story) -> None:
    case = story.at(State.RECEIVED)
    story.revoke(story.grant(case, 0).header.id)

    story.done(story.doctor(story.hospital, Reject(reason=RejectReason.DUPLICATE), case))

    assert story.grant(case, 0).state == GrantState.REVOKED


def test_a_suspended_receiver_may_still_reject(story: Story) -> None:
    case = story.at(State.RECEIVED)
    story.suspend(story.hospital)
    assert story.doctor(story.hospital, Reject(reason=RejectReason.OUT_OF_SCOPE), case).ok


def test_a_suspended_referrer_may_still_supply_and_cancel(story: Story) -> None:
    case = story.at(State.NEED_INFO)
    new = story.publish(story.centre)
    story.suspend(story.centre)
    story.done(story.doctor(story.centre, Supply(add=(new,), drop=()), case))
    assert story.doctor(story.centre, Cancel(reason=CancelReason.MADE_IN_ERROR, paper=None), case).ok


def test_stopping_steps_need_no_current_version(story: Story) -> None:
    case = story.at(State.RECEIVED)
    command = Cancel(reason=CancelReason.OTHER_RECEIVER, paper=None)
    assert story.consortium.act(story.centre, command, case, persons=DOCTOR, version=1).ok

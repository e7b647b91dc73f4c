"""The steps of a referral. The kernel has checked schema, keys, rows, positions, versions, deadlines and refs."""

from __future__ import annotations

from msgspec.structs import replace as changed

from yilian.errors import Refused
from yilian.ledger.workflow import Call, Consequence, Outcome, Reads, step
from yilian.values import EntryId
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent import interface as consent
from yilian.workflows.consent.interface import ConsentQuestion, Purpose
from yilian.workflows.referral import guards
from yilian.workflows.referral.model import (
    Accept,
    Acknowledge,
    Arrive,
    Ask,
    Cancel,
    Complete,
    Create,
    Direction,
    Expire,
    Flag,
    NoShow,
    OpenDown,
    Receive,
    ReferDown,
    Referral,
    Refusal,
    Reject,
    Reschedule,
    Schedule,
    State,
    Supply,
    Verify,
)
from yilian.workflows.referral.outcomes import appointed, ended, grant_terms, later, opened, stopped, with_flag

_RECORDS_GRANT, _RESULT_GRANT = 1, 2
"""Places in `Referral.grants`."""


@step
def create(call: Call, command: Create, reads: Reads) -> Outcome[Referral]:
    """Ask another institution to take a patient; the receiver must decide before the lapse of the urgency.

    Refuses: LISTED_TWICE, RECORD_NOT_CURRENT, NOT_YOUR_RECORD, NO_TREATMENT_BASIS, PATIENT_NOT_NAMED, DIRECTION_WRONG,
    RELATION_NOT_ALLOWED.
    """
    return opened(call, command, call.refs[0] if call.refs else None, reads)


@step
def open_down(call: Call, command: OpenDown, reads: Reads) -> Outcome[Referral]:
    """Open the follow-up of a completed referral, with the old receiver as referrer.

    Refuses: as `create`.
    """
    return opened(call, command.new, command.predecessor, reads)


@step
def verify(call: Call, command: Verify, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Judge by the receiver's challenges whether the referrer still holds request and records.

    Refuses: CHALLENGE_MISSING, RECORD_NOT_CURRENT.
    """
    if not guards.is_defective(call, case, reads):
        return Outcome(case, to=State.VERIFIED)
    return Outcome(case, to=State.DEFECTIVE, consequences=ended(case.grants, reads))


@step
def receive(call: Call, command: Receive, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Confirm the push; the first receipt opens the request, and nothing else, to the receiver."""
    if case.grants:
        return Outcome(case)
    grant = call.new_id(1)
    issue = grant_terms(
        call,
        case,
        recipient=case.receiver,
        entries=(case.request,),
        level=guards.highest_level(reads, (case.request,)),
        deliveries=reads.number("referral.request_deliveries"),
        ends=case.view_until,
    )
    return Outcome(changed(case, grants=(grant,)), consequences=(Consequence(case_id=grant, command=issue),))


@step
def accept(call: Call, command: Accept, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Take the patient; opens the records that can still be released, in the number and until the end as created.

    Refuses: RECORD_NOT_CURRENT, NO_TREATMENT_BASIS.
    """
    records = tuple(entry_id for entry_id in case.records if catalog.is_available(reads, entry_id))
    if not records:
        raise Refused(
            Refusal.RECORD_NOT_CURRENT,
            f"none of {len(case.records)} records is current and unrestricted, expected at least one: ask for others",
        )
    level = guards.highest_level(reads, records)
    guards.check_covered(
        reads,
        ConsentQuestion(
            consent=case.consent,
            custodian=case.referrer,
            recipient=case.receiver,
            purpose=Purpose.TREAT,
            begins=call.time,
            until=case.view_until,
            entries=records,
            uses=case.deliveries,
            level_cap=level,
        ),
    )
    grant = call.new_id(1)
    issue = grant_terms(
        call,
        case,
        recipient=case.receiver,
        entries=records,
        level=level,
        deliveries=case.deliveries,
        ends=case.view_until,
    )
    accepted = changed(case, grants=(*case.grants, grant), deadline=later(call, reads, "referral.visit"))
    return Outcome(accepted, consequences=(Consequence(case_id=grant, command=issue),))


@step
def reject(call: Call, command: Reject, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Do not take the patient; what was opened is closed.

    Refuses: REASON_MISSING.
    """
    return stopped(case, command.reason, reads)


@step
def ask(call: Call, command: Ask, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Ask for what is missing.

    Refuses: REASON_MISSING.
    """
    if not command.missing:
        raise Refused(
            Refusal.REASON_MISSING, "found nothing named as missing, expected 1 to 8 codes: name what you need"
        )
    return Outcome(changed(case, missing=tuple(dict.fromkeys(command.missing))))


@step
def supply(call: Call, command: Supply, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Add records of the referrer's own, and drop others; the receiver verifies anew.

    Refuses: NOTHING_NEW_SUPPLIED, RECORD_NOT_CURRENT, NOT_YOUR_RECORD, TOO_MANY_RECORDS.
    """
    known = (case.request, *case.records)
    new = tuple(entry_id for entry_id in dict.fromkeys(command.add) if entry_id not in known)
    if not new:
        raise Refused(
            Refusal.NOTHING_NEW_SUPPLIED,
            f"found no new entry among {len(command.add)}, expected at least one: add what was asked for, or cancel",
        )
    guards.check_own_current(reads, new, case.referrer)
    records = tuple(entry_id for entry_id in case.records if entry_id not in command.drop) + new
    guards.check_count(records)
    level = guards.highest_level(reads, (case.request, *records))
    return Outcome(changed(case, records=records, level=level, missing=()))


@step
def schedule(call: Call, command: Schedule, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Give the day; the patient may come until the end of the day after it.

    Refuses: DAY_PAST.
    """
    return appointed(call, command.day, case)


@step
def reschedule(call: Call, command: Reschedule, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Move the appointment.

    Refuses: DAY_PAST, TOO_MANY_RESCHEDULES.
    """
    outcome = appointed(call, command.day, case)
    limit = reads.number("referral.reschedules")
    if case.reschedules >= limit:
        raise Refused(
            Refusal.TOO_MANY_RESCHEDULES,
            f"moved {case.reschedules} times already, expected at most {limit}: keep the day, or make a new referral",
        )
    return Outcome(changed(outcome.case, reschedules=case.reschedules + 1))


@step
def arrive(call: Call, command: Arrive, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Say that the patient is here; the result is due by the end of the time in care."""
    return Outcome(changed(case, deadline=later(call, reads, "referral.care")))


@step
def no_show(call: Call, command: NoShow, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Say that the patient did not come; what was opened is closed."""
    return Outcome(case, consequences=ended(case.grants, reads))


@step
def complete(call: Call, command: Complete, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Give the result back: the records are closed to the receiver, the result is opened to the referrer.

    Where the consent covers no use of the result at all (not attested by the receiver, revoked, restricted), the case
    is completed with RESULT_WITHHELD and no grant; where only the terms asked go beyond it, the step is refused.

    Refuses: RESULT_MISSING, RECORD_NOT_CURRENT, NOT_YOUR_RECORD, NO_TREATMENT_BASIS.
    """
    result, item = _result(call, command, reads)
    ending = ended(case.grants[_RECORDS_GRANT:], reads)
    returning = guards.returning(reads, tuple(consequence.case_id for consequence in ending))
    publishing = () if command.publish is None else (Consequence(case_id=result, command=command.publish),)
    completed = changed(
        case,
        result=result,
        acknowledge_by=later(call, reads, "referral.acknowledge"),
        deadline=later(call, reads, "referral.unread"),
    )
    question = _of_result(call, case, (result,) if command.publish is None else (), item)
    if not consent.covers(reads, changed(question, uses=max(0, 1 - returning))).permit:
        flags = with_flag(call, Flag.RESULT_WITHHELD)
        return Outcome(completed, flags=flags, consequences=(*publishing, *ending))
    guards.check_covered(
        reads, changed(question, until=command.view_until, uses=max(0, command.deliveries - returning))
    )
    grant = call.new_id(1)
    issue = grant_terms(
        call,
        case,
        recipient=case.referrer,
        entries=(result,),
        level=item.level,
        deliveries=command.deliveries,
        ends=command.view_until,
    )
    return Outcome(
        changed(completed, grants=(*case.grants, grant)),
        consequences=(*publishing, *ending, Consequence(case_id=grant, command=issue)),
    )


@step
def acknowledge(call: Call, command: Acknowledge, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Close the loop: the referrer's physician has read the result.

    Refuses: RESULT_NOT_READ.
    """
    withheld = call.header is not None and Flag.RESULT_WITHHELD in call.header.flags
    if not withheld and not _has_read(call, case, reads):
        raise Refused(
            Refusal.RESULT_NOT_READ,
            f"found no confirmed use of the result by {call.institution.hex()}, expected one as ref: read it first",
        )
    return Outcome(case, consequences=ended(case.grants, reads))


@step
def refer_down(call: Call, command: ReferDown, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Close this case and open the follow-up, in one step.

    Refuses: DIRECTION_WRONG; the new case: as `create`.
    """
    if command.new.direction == Direction.UP:
        raise Refused(
            Refusal.DIRECTION_WRONG, "direction is up, expected down or same: to refer upwards, create a new referral"
        )
    opening = Consequence(case_id=call.new_id(1), command=OpenDown(new=command.new, predecessor=call.case_id))
    return Outcome(case, consequences=(*ended(case.grants, reads), opening))


@step
def cancel(call: Call, command: Cancel, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Take the request back, as referrer or patient; what was opened is closed.

    Refuses: REASON_MISSING.
    """
    return stopped(case, command.reason, reads)


@step
def expire(call: Call, command: Expire, case: Referral, reads: Reads) -> Outcome[Referral]:
    """Make visible that the time is over: without decision or visit, without a result, or without a reader."""
    flags = None
    if call.state == State.IN_CARE:
        flags = with_flag(call, Flag.UNANSWERED)
    elif call.state == State.COMPLETED:
        flags = with_flag(call, Flag.UNREAD)
    return Outcome(case, flags=flags, consequences=ended(case.grants, reads))


def _result(call: Call, command: Complete, reads: Reads) -> tuple[EntryId, consent.Item]:
    if command.result is None:
        raise Refused(Refusal.RESULT_MISSING, "found no result document, expected an entry of the receiver: name it")
    publish = command.publish
    if publish is None:
        entry = guards.own_current(reads, command.result, call.institution)
        return command.result, consent.Item(kind=entry.kind, level=entry.level, month=entry.month)
    if not call.suspended or command.result != catalog.entry_id(call, publish.tag):
        raise Refused(
            Refusal.RESULT_MISSING,
            f"found a publication carried inside that is not that of {command.result.hex()} by a suspended member, "
            "expected a published entry: publish the result first, then name it",
        )
    return command.result, consent.Item(kind=publish.kind, level=publish.level, month=publish.month)


def _of_result(call: Call, case: Referral, published: tuple[EntryId, ...], item: consent.Item) -> ConsentQuestion:
    return ConsentQuestion(
        consent=case.consent,
        custodian=case.receiver,
        recipient=case.referrer,
        purpose=Purpose.TREAT,
        begins=call.time,
        until=call.time,
        entries=published,
        # what this very step publishes does not stand in the catalogue yet
        items=() if published else (item,),
        level_cap=item.level,
    )


def _has_read(call: Call, case: Referral, reads: Reads) -> bool:
    found = consent.use(reads, call.refs[0]) if call.refs else None
    return (
        found is not None
        and found.fields.recipient == call.institution
        and case.grants[_RESULT_GRANT:] == (found.fields.grant,)
        and case.result in found.fields.entries
    )

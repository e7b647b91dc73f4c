"""What several steps of a referral have in common: opening, stopping, appointments, grants, deadlines."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace as changed

from yilian.errors import Refused
from yilian.ledger.workflow import Call, Consequence, Outcome, Reads
from yilian.values import DAY, CaseId, Day, EntryId, InstitutionId, UnixMillis, end_of_day, unix_millis
from yilian.workflows.consent import interface as consent
from yilian.workflows.consent.interface import Basis, IssueGrant, Purpose
from yilian.workflows.referral import guards
from yilian.workflows.referral.model import CancelReason, Create, Flag, Referral, Refusal, RejectReason, Urgency

_LAPSE_OF = {
    Urgency.EMERGENCY: "referral.lapse_emergency",
    Urgency.URGENT: "referral.lapse_urgent",
    Urgency.ROUTINE: "referral.lapse_routine",
}


def opened(call: Call, command: Create, predecessor: CaseId | None, reads: Reads) -> Outcome[Referral]:
    """Open a case for whoever acts, as referrer.

    Refuses: LISTED_TWICE, RECORD_NOT_CURRENT, NOT_YOUR_RECORD, NO_TREATMENT_BASIS, PATIENT_NOT_NAMED, DIRECTION_WRONG,
    RELATION_NOT_ALLOWED.
    """
    entries = (command.request, *command.records)
    guards.check_listed_once(entries)
    guards.check_own_current(reads, entries, call.institution)
    guards.check_consent(call, command, reads)
    guards.check_patient(reads, command.patient)
    guards.check_direction(call, command, reads)
    guards.check_relation(call, command, reads)
    case = Referral(
        referrer=call.institution,
        receiver=command.receiver,
        direction=command.direction,
        urgency=command.urgency,
        level=guards.highest_level(reads, entries),
        request=command.request,
        records=command.records,
        consent=command.consent,
        deliveries=command.deliveries,
        view_until=command.view_until,
        predecessor=predecessor,
        deadline=later(call, reads, _LAPSE_OF[command.urgency]),
        visit_ends=unix_millis(0),
        reschedules=0,
        missing=(),
        grants=(),
        result=None,
        acknowledge_by=unix_millis(0),
        reason=None,
    )
    return Outcome(case, patient=command.patient)


def stopped(case: Referral, reason: RejectReason | CancelReason | None, reads: Reads) -> Outcome[Referral]:
    """Stop before care, for a reason, and close what was opened; refuses REASON_MISSING."""
    if reason is None:
        raise Refused(Refusal.REASON_MISSING, "found no reason, expected one of the coded ones: name it")
    return Outcome(changed(case, reason=reason.value), consequences=ended(case.grants, reads))


def appointed(call: Call, day: Day, case: Referral) -> Outcome[Referral]:
    """Set the day: the patient may come until the end of the day after it; refuses DAY_PAST."""
    guards.check_day(day, call.time)
    ends = end_of_day(day)
    return Outcome(changed(case, visit_ends=ends, deadline=unix_millis(ends + DAY)))


def grant_terms(
    call: Call,
    case: Referral,
    *,
    recipient: InstitutionId,
    entries: tuple[EntryId, ...],
    level: int,
    deliveries: int,
    ends: UnixMillis,
) -> IssueGrant:
    """Ask `consent` for a grant for treatment, from now on, not to be passed on, under the consent of the case."""
    return IssueGrant(
        basis=Basis.TREATMENT,
        covered_by=case.consent,
        recipient=recipient,
        purpose=Purpose.TREAT,
        entries=entries,
        level_cap=level,
        begins=call.time,
        ends=ends,
        deliveries=deliveries,
        depth=0,
    )


def ended(grants: Sequence[CaseId], reads: Reads) -> tuple[Consequence, ...]:
    """End those of these grants that still live."""
    return tuple(
        Consequence(case_id=grant_id, command=consent.EndGrant())
        for grant_id in grants
        if consent.living(reads, grant_id)
    )


def later(call: Call, reads: Reads, parameter: str) -> UnixMillis:
    """Give the block time plus a parameter."""
    return unix_millis(call.time + reads.number(parameter))


def with_flag(call: Call, flag: Flag) -> tuple[str, ...]:
    """Give the flags of the case and one more, sorted."""
    flags = call.header.flags if call.header is not None else ()
    return tuple(sorted(dict.fromkeys((*flags, flag.value))))

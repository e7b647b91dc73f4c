"""The steps of an emergency access: only the custodian grants, others review."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.workflow import Call, Consequence, Outcome, Put, Reads, step
from yilian.values import CaseId, InstitutionId, UnixMillis, unix_millis
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.emergency_model import (
    MAX_REMEMBERED,
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
    EmergencyRecord,
    EmergencyState,
    Unreviewed,
)
from yilian.workflows.consent.model import LIVING, Basis, EndGrant, Grant, IssueGrant, Refusal
from yilian.workflows.consent.policy import Purpose


@step
def emergency_open(call: Call, command: EmergencyOpen, reads: Reads) -> Outcome[Emergency]:
    """Ask a custodian; with too many unreviewed, or one found unjustified lately, a co-signature is asked first.

    Refuses: NOT_THE_CUSTODIAN, PERIOD_TOO_LONG.
    """
    if command.custodian == call.institution or reads.member(command.custodian) is None:
        raise Refused(
            Refusal.NOT_THE_CUSTODIAN, f"{command.custodian.hex()} is oneself, or no member: name another member"
        )
    longest = reads.number("consent.emergency")
    if command.lasts > longest:
        raise Refused(Refusal.PERIOD_TOO_LONG, f"{command.lasts} ms are asked, {longest} at most: ask for less")
    ends = unix_millis(call.time + command.lasts)
    record = _record(reads, call.institution)
    waits = _needs_cosignature(record, call.time, reads)
    emergency = Emergency(
        recipient=call.institution,
        custodian=command.custodian,
        identity=command.identity,
        reason=command.reason,
        ends=ends,
        cosign_asked=waits,
        cosigner=None,
        grant=None,
        no_match=None,
        notify_by=unix_millis(0),
        notice=None,
        review_by=unix_millis(0),
        finding=None,
        reviewer=None,
    )
    review_by = unix_millis(ends + reads.number("consent.emergency_review"))
    return Outcome(
        emergency,
        to=EmergencyState.AWAITING_COSIGNATURE if waits else EmergencyState.OPENED,
        registers=(_put(call.institution, _with_unreviewed(record, call.case_id, review_by)),),
    )


@step
def emergency_ask_cosignature(
    call: Call,  # noqa: ARG001 - one signature
    command: EmergencyAskCosignature,  # noqa: ARG001 - one signature
    case: Emergency,
    reads: Reads,  # noqa: ARG001 - one signature
) -> Outcome[Emergency]:
    """Ask for a co-signature, once.

    Refuses: COSIGNED_ALREADY.
    """
    if case.cosign_asked:
        raise Refused(
            Refusal.COSIGNED_ALREADY, "a co-signature was asked for and given: list the entries, or decline the match"
        )
    return Outcome(replace(case, cosign_asked=True))


@step
def emergency_cosign(call: Call, command: EmergencyCosign, case: Emergency, reads: Reads) -> Outcome[Emergency]:  # noqa: ARG001 - one signature
    """Stand for the emergency beside its opener.

    Refuses: SAME_OPERATOR.
    """
    _check_other_operator(call, case, reads)
    return Outcome(replace(case, cosigner=call.institution))


@step
def emergency_match(call: Call, command: EmergencyMatch, case: Emergency, reads: Reads) -> Outcome[Emergency]:
    """List the custodian's entries of the patient, and so grant them until the emergency ends.

    Refuses: NOT_THE_CUSTODIAN; CONSEQUENCE_REFUSED with the guards of the grant.
    """
    for entry_id in command.entries:
        found = catalog.entry(reads, entry_id)
        if found is None or found.fields.custodian != call.institution:
            raise Refused(
                Refusal.NOT_THE_CUSTODIAN,
                f"entry {entry_id.hex()} is not kept by {call.institution.hex()}: leave it out",
            )
    grant = call.new_id(1)
    granting = IssueGrant(
        basis=Basis.EMERGENCY,
        covered_by=None,
        recipient=case.recipient,
        purpose=Purpose.ETREAT,
        entries=command.entries,
        level_cap=4,
        begins=call.time,
        ends=case.ends,
        deliveries=command.deliveries,
        depth=0,
    )
    return Outcome(replace(case, grant=grant), consequences=(Consequence(case_id=grant, command=granting),))


@step
def emergency_decline(call: Call, command: EmergencyDecline, case: Emergency, reads: Reads) -> Outcome[Emergency]:
    """List nothing; the refusal to match is on record, and nothing is left to review."""
    record = _without(_record(reads, case.recipient), call.case_id)
    return Outcome(replace(case, no_match=command.reason), registers=(_put(case.recipient, record),))


@step
def emergency_close(call: Call, command: EmergencyClose, case: Emergency, reads: Reads) -> Outcome[Emergency]:  # noqa: ARG001 - one signature
    """Close it as its opener; a grant that still lives ends."""
    return _closed(call, case, reads)


@step
def emergency_expire(call: Call, command: EmergencyExpire, case: Emergency, reads: Reads) -> Outcome[Emergency]:  # noqa: ARG001 - one signature
    """Close it once its time is over; a grant that still lives ends."""
    return _closed(call, case, reads)


@step
def emergency_notify(call: Call, command: EmergencyNotify, case: Emergency, reads: Reads) -> Outcome[Emergency]:  # noqa: ARG001 - one signature
    """Say that the patient was told by custodian and home."""
    return Outcome(replace(case, notice=command.notice))


@step
def emergency_judge(call: Call, command: EmergencyJudge, case: Emergency, reads: Reads) -> Outcome[Emergency]:
    """Review the access as another institution under another operator.

    Refuses: SELF_REVIEW, SAME_OPERATOR.
    """
    if call.institution == case.recipient:
        raise Refused(Refusal.SELF_REVIEW, f"{call.institution.hex()} opened this emergency: let another one review it")
    _check_other_operator(call, case, reads)
    record = _without(_record(reads, case.recipient), call.case_id)
    if not command.justified:
        record = replace(record, unjustified=call.time)
    return Outcome(
        replace(case, finding=command.finding, reviewer=call.institution),
        to=EmergencyState.JUSTIFIED if command.justified else EmergencyState.UNJUSTIFIED,
        registers=(_put(case.recipient, record),),
    )


def _closed(call: Call, case: Emergency, reads: Reads) -> Outcome[Emergency]:
    record = _without(_record(reads, case.recipient), call.case_id)
    if case.grant is None:
        return Outcome(case, to=EmergencyState.CLOSED_UNUSED, registers=(_put(case.recipient, record),))
    found = reads.case(Grant, case.grant)
    lives = found is not None and found.state in LIVING
    ending = (Consequence(case_id=case.grant, command=EndGrant()),) if lives else ()
    notify_by = unix_millis(call.time + reads.number("consent.emergency_notice"))
    review_by = unix_millis(call.time + reads.number("consent.emergency_review"))
    return Outcome(
        replace(case, notify_by=notify_by, review_by=review_by),
        to=EmergencyState.AUTO_CLOSED,
        registers=(_put(case.recipient, _with_unreviewed(record, call.case_id, review_by)),),
        consequences=ending,
    )


def _needs_cosignature(record: EmergencyRecord, time: UnixMillis, reads: Reads) -> bool:
    # An overdue review counts against the reviewer, no longer against the opener.
    counting = [item for item in record.unreviewed if time <= item.review_by]
    remembered = record.unjustified + reads.number("consent.unjustified_memory")
    recently = bool(record.unjustified) and time <= remembered
    return recently or len(counting) >= reads.number("consent.emergencies_open")


def _check_other_operator(call: Call, case: Emergency, reads: Reads) -> None:
    opener = reads.member(case.recipient)
    if opener is None or opener.fields.operator == call.operator:
        raise Refused(
            Refusal.SAME_OPERATOR, f"{call.operator.hex()} runs both institutions: ask one under another operator"
        )


def _record(reads: Reads, institution: InstitutionId) -> EmergencyRecord:
    row = reads.register(EmergencyRecord, institution)
    return row if row is not None else EmergencyRecord(unreviewed=(), unjustified=unix_millis(0))


def _with_unreviewed(record: EmergencyRecord, case_id: CaseId, review_by: UnixMillis) -> EmergencyRecord:
    unreviewed = (*record.unreviewed, Unreviewed(id=case_id, review_by=review_by))
    return replace(record, unreviewed=unreviewed[-MAX_REMEMBERED:])


def _without(record: EmergencyRecord, case_id: CaseId) -> EmergencyRecord:
    return replace(record, unreviewed=tuple(item for item in record.unreviewed if item.id != case_id))


def _put(institution: InstitutionId, record: EmergencyRecord) -> Put:
    return Put(key=(institution,), value=record)

"""The steps of a living grant: halt, narrow, take back, end, acknowledge; how it comes to be: `issuing.py`."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.members import Role
from yilian.ledger.workflow import Call, Consequence, Outcome, Reads, step
from yilian.values import CaseId, unix_millis
from yilian.workflows.consent.counting import available, counters_of, end, subtree
from yilian.workflows.consent.model import (
    Copies,
    EndGrant,
    Grant,
    GrantAcknowledge,
    GrantExhaust,
    GrantExpire,
    GrantNarrow,
    GrantReopen,
    GrantResume,
    GrantRevoke,
    GrantState,
    GrantSuspend,
    Refusal,
    Suspender,
)


@step
def grant_suspend(call: Call, command: GrantSuspend, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Halt a grant; who halted it is kept."""
    return Outcome(replace(case, suspender=_suspender(call), suspend_reason=command.reason))


@step
def grant_resume(call: Call, command: GrantResume, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Let a halted grant go on.

    Refuses: NOT_WHO_SUSPENDED.
    """
    if _suspender(call) != case.suspender:
        raise Refused(Refusal.NOT_WHO_SUSPENDED, "another one halted this grant: whoever halted it lets it go on")
    return Outcome(replace(case, suspender=None, suspend_reason=None))


@step
def grant_revoke(call: Call, command: GrantRevoke, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Take a grant back, and in the same operation all that was passed on from it."""
    # A sender of this workflow lists the whole tree flat.
    below = () if call.caller else subtree(reads, call.case_id, case)
    cascade = tuple(Consequence(case_id=item, command=GrantRevoke(paper=None)) for item in below)
    return _ended(_owing(call, case, reads), call.case_id, reads, cascade)


@step
def end_grant(call: Call, command: EndGrant, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """End a grant whose basis is over, and all that was passed on from it."""
    below = () if call.caller == "consent" else subtree(reads, call.case_id, case)
    cascade = tuple(Consequence(case_id=item, command=EndGrant()) for item in below)
    return _ended(case, call.case_id, reads, cascade)


@step
def grant_expire(call: Call, command: GrantExpire, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Make the end of the period visible; what the grant did not use returns."""
    return _ended(case, call.case_id, reads, ())


@step
def grant_narrow(call: Call, command: GrantNarrow, case: Grant, reads: Reads) -> Outcome[Grant]:
    """Take what `narrowing` left of the grant; revoke it where nothing is left."""
    if not command.entries:
        # Every ancestor is narrowed after this grant in the same operation, and reopens itself.
        returned = end(reads, call.case_id, case).registers
        return Outcome(_owing(call, case, reads), to=GrantState.REVOKED, registers=returned)
    narrowed = replace(
        case,
        entries=command.entries,
        level_cap=command.level_cap,
        begins=command.begins,
        ends=command.ends,
        depth=command.depth,
    )
    reopens = call.state == GrantState.EXHAUSTED and available(counters_of(reads, call.case_id)) > 0
    return Outcome(narrowed, to=GrantState.ISSUED if reopens else call.state)


@step
def grant_exhaust(call: Call, command: GrantExhaust, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Mark that nothing is available and nothing reserved."""
    return Outcome(case)


@step
def grant_reopen(call: Call, command: GrantReopen, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Mark that something is available again."""
    return Outcome(case)


@step
def grant_acknowledge_revocation(
    call: Call,
    command: GrantAcknowledge,
    case: Grant,
    reads: Reads,  # noqa: ARG001 - one signature
) -> Outcome[Grant]:
    """Acknowledge a revocation; the last of custodian and recipient closes it.

    Refuses: NOT_THE_CUSTODIAN, NOT_THE_RECIPIENT.
    """
    stopped = command.copies == Copies.DELIVERIES_STOPPED
    if stopped and call.institution != case.custodian:
        raise Refused(
            Refusal.NOT_THE_CUSTODIAN, "a recipient stated deliveries_stopped: state what became of the copies"
        )
    if not stopped and call.institution != case.recipient:
        raise Refused(Refusal.NOT_THE_RECIPIENT, "a custodian stated what became of copies: state deliveries_stopped")
    first = case.stopped or call.time
    answered = replace(case, stopped=first) if stopped else replace(case, copies=command.copies)
    everywhere = bool(answered.stopped) and answered.copies is not None
    return Outcome(answered, to=GrantState.REVOKED_EVERYWHERE if everywhere else GrantState.REVOKED)


def _suspender(call: Call) -> Suspender:
    """Say who acts: an officer or inspector of an institution, else the patient, by key or through the home."""
    role = call.persons[0].role if call.persons else Role.PATIENT
    return Suspender(role=role, institution=None if role == Role.PATIENT else call.institution)


def _owing(call: Call, case: Grant, reads: Reads) -> Grant:
    """Make both sides owe an acknowledgement of the revocation."""
    return replace(case, acknowledge_by=unix_millis(call.time + reads.number("consent.acknowledgement")))


def _ended(case: Grant, grant_id: CaseId, reads: Reads, cascade: tuple[Consequence, ...]) -> Outcome[Grant]:
    change = end(reads, grant_id, case)
    return Outcome(case, registers=change.registers, consequences=(*cascade, *change.consequences))

"""The steps of a living grant: halt, narrow, take back, end, acknowledge; how it comes to be: `issuing.py`."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.workflow import Call, Consequence, Outcome, Reads, step
from yilian.values import CaseId, UnixMillis, unix_millis
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.counting import end, existing, subtree
from yilian.workflows.consent.covers import ConsentQuestion, Item, decide
from yilian.workflows.consent.model import (
    LIVING,
    Consent,
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
from yilian.workflows.consent.policy import level_cap


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
def grant_narrow(call: Call, command: GrantNarrow, case: Grant, reads: Reads) -> Outcome[Grant]:  # noqa: ARG001 - one signature
    """Fit a grant into its consent and its parent as they are now; revoke it where nothing is left."""
    narrowed = _narrowed(case, case.covered_by, reads, time=call.time) if case.covered_by is not None else None
    if narrowed is not None:
        return Outcome(narrowed, to=call.state)
    change = end(reads, call.case_id, case)
    return Outcome(
        _owing(call, case, reads),
        to=GrantState.REVOKED,
        registers=change.registers,
        consequences=change.consequences,
    )


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


def _narrowed(case: Grant, consent_id: CaseId, reads: Reads, *, time: UnixMillis) -> Grant | None:
    """Give what is left of a grant, None where nothing is."""
    policy = existing(reads, Consent, consent_id).fields.policy
    parent = existing(reads, Grant, case.ancestors[0]) if case.ancestors else None
    if (parent is not None and parent.state not in LIVING) or len(case.ancestors) > policy.depth:
        return None
    above = parent.fields if parent is not None else case
    begins = max(case.begins, policy.begins, above.begins)
    ends = min(case.ends, policy.ends, above.ends)
    cap = min(case.level_cap, level_cap(policy), above.level_cap)
    moment = max(time, begins)
    question = ConsentQuestion(
        consent=consent_id,
        custodian=case.custodian,
        recipient=case.recipient,
        purpose=case.purpose,
        begins=moment,
        until=moment,
    )
    member = reads.member(case.recipient)
    kind = InstitutionKind(member.fields.kind) if member is not None else None
    entries = []
    for entry_id in case.entries:
        # A restriction may end again, so it stops uses and does not shorten the list.
        entry = existing(reads, catalog.Entry, entry_id).fields
        item = Item(kind=entry.kind, level=entry.level, month=entry.month)
        if entry_id in above.entries and decide(policy, question, (item,), kind, committed=0).permit:
            entries.append(entry_id)
    if begins > ends or not entries:
        return None
    depth = min(case.depth, policy.depth - len(case.ancestors))
    return replace(case, begins=begins, ends=ends, level_cap=cap, entries=tuple(entries), depth=depth)

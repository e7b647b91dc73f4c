"""The steps of audit; the kernel has checked keys, rows, deadlines and refs. Those of statements: `statements.py`."""

from __future__ import annotations

from msgspec.structs import replace as changed

from yilian.errors import Refused
from yilian.ledger.workflow import Call, Consequence, Outcome, Put, Reads, step
from yilian.values import CaseId, EntryId, InstitutionId, Natural, end_of_day, month_of, unix_millis
from yilian.workflows.audit.model import (
    MAX_CONTENT,
    WAS_ONE_SIDED,
    Disclosure,
    DisclosureAccept,
    DisclosureDeclareBreach,
    DisclosureExpire,
    DisclosureExplain,
    DisclosureObject,
    DisclosureReceived,
    DisclosureSent,
    ExpirePaper,
    Inspection,
    InspectionApproveScope,
    InspectionCancel,
    InspectionClose,
    InspectionDemand,
    InspectionExport,
    InspectionFind,
    InspectionOpen,
    InspectionRemedy,
    InspectionRequestContent,
    JudgePaper,
    OpenPaper,
    Paper,
    PaperState,
    Refusal,
    RequestPaper,
    Sequence,
    Verdict,
)
from yilian.workflows.audit.statements import (
    statement_explain,
    statement_publish,
    statement_report_gap,
    statement_report_missing,
)
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent import interface as consent

__all__ = [
    "disclosure_accept",
    "disclosure_declare_breach",
    "disclosure_expire",
    "disclosure_explain",
    "disclosure_object",
    "disclosure_received",
    "disclosure_sent",
    "inspection_approve_scope",
    "inspection_cancel",
    "inspection_close",
    "inspection_demand",
    "inspection_expire_paper",
    "inspection_export",
    "inspection_find",
    "inspection_judge_paper",
    "inspection_open",
    "inspection_open_paper",
    "inspection_remedy",
    "inspection_request_content",
    "inspection_request_paper",
    "statement_explain",
    "statement_publish",
    "statement_report_gap",
    "statement_report_missing",
]


@step
def disclosure_sent(call: Call, command: DisclosureSent, case: Disclosure | None, reads: Reads) -> Outcome[Disclosure]:
    """Put the source's event on record, as the first or the second of the pair.

    Refuses: NOT_A_PARTY, PAIR_MISMATCH, EVENT_THERE_ALREADY.
    """
    case = case or _opened(call, reads)
    _check_party(call, case.source, "source")
    _check_own_event(call, case, there=case.source_event is not None)
    number = _next_number(reads, call.institution)
    return Outcome(
        changed(case, source_event=command.event, source_number=number),
        registers=(Put(key=(call.institution,), value=Sequence(last=number)),),
    )


@step
def disclosure_received(
    call: Call, command: DisclosureReceived, case: Disclosure | None, reads: Reads
) -> Outcome[Disclosure]:
    """Put the recipient's event on record, as the first or the second of the pair.

    Refuses: NOT_A_PARTY, PAIR_MISMATCH, EVENT_THERE_ALREADY.
    """
    case = case or _opened(call, reads)
    _check_party(call, case.recipient, "recipient")
    _check_own_event(call, case, there=case.recipient_event is not None)
    number = _next_number(reads, call.institution)
    return Outcome(
        changed(case, recipient_event=command.event, recipient_number=number),
        registers=(Put(key=(call.institution,), value=Sequence(last=number)),),
    )


@step
def disclosure_expire(call: Call, command: DisclosureExpire, case: Disclosure, reads: Reads) -> Outcome[Disclosure]:
    """Raise the alert, which stays on record; the silent side owes an explanation."""
    explain_by = unix_millis(call.time + reads.number("audit.explanation"))
    return Outcome(changed(case, explain_by=explain_by), flags=(WAS_ONE_SIDED,))


@step
def disclosure_explain(call: Call, command: DisclosureExplain, case: Disclosure, reads: Reads) -> Outcome[Disclosure]:
    """Keep what the silent side says."""
    return Outcome(changed(case, explanation=command.reason, evidence=command.evidence))


@step
def disclosure_accept(call: Call, command: DisclosureAccept, case: Disclosure, reads: Reads) -> Outcome[Disclosure]:
    """Settle the pair."""
    return Outcome(case)


@step
def disclosure_object(call: Call, command: DisclosureObject, case: Disclosure, reads: Reads) -> Outcome[Disclosure]:
    """Record a breach in spite of the explanation."""
    return Outcome(case)


@step
def disclosure_declare_breach(
    call: Call, command: DisclosureDeclareBreach, case: Disclosure, reads: Reads
) -> Outcome[Disclosure]:
    """Record a breach, since no explanation came in time."""
    return Outcome(case)


@step
def inspection_open(call: Call, command: InspectionOpen, reads: Reads) -> Outcome[Inspection]:
    """Open an inspection of members over a period.

    Refuses: NOT_A_PARTY, PERIOD_REVERSED.
    """
    for institution in command.institutions:
        if reads.member(institution) is None:
            raise Refused(
                Refusal.NOT_A_PARTY, f"{institution.hex()} is no member, expected members alone: leave it out"
            )
    if command.period_from > command.period_to:
        raise Refused(
            Refusal.PERIOD_REVERSED,
            f"the period is from day {command.period_from} to day {command.period_to}, expected the earlier first: "
            "swap them",
        )
    return Outcome(
        Inspection(
            regulator=call.institution,
            opener=call.persons[0].key_id,
            legal_basis=command.legal_basis,
            institutions=command.institutions,
            period_from=command.period_from,
            period_to=command.period_to,
            question=command.question,
        )
    )


@step
def inspection_approve_scope(
    call: Call, command: InspectionApproveScope, case: Inspection, reads: Reads
) -> Outcome[Inspection]:
    """Approve basis and scope; the opener cannot, since a key has one role alone."""
    return Outcome(changed(case, approver=call.persons[0].key_id))


@step
def inspection_request_content(
    call: Call, command: InspectionRequestContent, case: Inspection, reads: Reads
) -> Outcome[Inspection]:
    """List records; each custodian owes a STATUTORY grant to the asking institution.

    Refuses: OUTSIDE_SCOPE, TOO_MUCH_CONTENT.
    """
    for entry_id in command.entries:
        _check_scope(reads, entry_id, case)
    content = tuple(dict.fromkeys((*case.content, *command.entries)))
    if len(content) > MAX_CONTENT:
        raise Refused(
            Refusal.TOO_MUCH_CONTENT,
            f"{len(content)} records would be asked for, expected at most {MAX_CONTENT}: open another inspection",
        )
    content_by = unix_millis(call.time + reads.number("audit.content"))
    return Outcome(changed(case, content=content, asker=call.institution, content_by=content_by))


@step
def inspection_cancel(call: Call, command: InspectionCancel, case: Inspection, reads: Reads) -> Outcome[Inspection]:
    """End the inspection and the grants issued on it.

    Refuses: NOT_ITS_GRANT.
    """
    return Outcome(case, consequences=_ends(reads, command.grants, case))


@step
def inspection_export(call: Call, command: InspectionExport, case: Inspection, reads: Reads) -> Outcome[Inspection]:
    """Keep the commitment of the evidence."""
    return Outcome(changed(case, manifest=command.manifest))


@step
def inspection_find(call: Call, command: InspectionFind, case: Inspection, reads: Reads) -> Outcome[Inspection]:
    """Keep the commitment of the finding and how grave it is."""
    return Outcome(changed(case, finding=command.finding, severity=command.severity))


@step
def inspection_close(call: Call, command: InspectionClose, case: Inspection, reads: Reads) -> Outcome[Inspection]:
    """Close the inspection and end the grants issued on it.

    Refuses: NOT_ITS_GRANT.
    """
    return Outcome(case, consequences=_ends(reads, command.grants, case))


@step
def inspection_demand(call: Call, command: InspectionDemand, case: Inspection, reads: Reads) -> Outcome[Inspection]:
    """Set the day by whose end the remedy is due.

    Refuses: DATE_PASSED.
    """
    if command.day < 0 or end_of_day(command.day) <= call.time:
        raise Refused(
            Refusal.DATE_PASSED,
            f"day {command.day} is over at block time {call.time}, expected a later one: choose one",
        )
    return Outcome(changed(case, remedy_by=end_of_day(command.day)))


@step
def inspection_remedy(call: Call, command: InspectionRemedy, case: Inspection, reads: Reads) -> Outcome[Inspection]:
    """Keep the commitment of the evidence, and whose it is."""
    return Outcome(changed(case, remedy=command.evidence, remedied_by=call.institution))


@step
def inspection_request_paper(call: Call, command: RequestPaper, reads: Reads) -> Outcome[Paper]:
    """Ask the home that signed a consent for the scan that it committed to.

    Refuses: NOT_CUSTODIAL.
    """
    found = consent.consent(reads, command.consent)
    patient = found.header.patient if found is not None else None
    home = patient.home if patient is not None else None
    if found is None or home is None or found.fields.paper is None or found.fields.paper_entry is None:
        raise Refused(
            Refusal.NOT_CUSTODIAL,
            f"{command.consent.hex()} is no consent that a home signed, expected one: name another consent",
        )
    return Outcome(
        Paper(
            asker=call.institution,
            home=home,
            consent=command.consent,
            paper=found.fields.paper,
            entry=found.fields.paper_entry,
            deadline=unix_millis(call.time + reads.number("audit.paper_open")),
        )
    )


@step
def inspection_open_paper(call: Call, command: OpenPaper, case: Paper, reads: Reads) -> Outcome[Paper]:
    """Grant the asker one delivery of the scan, for as long as it may judge."""
    deadline = unix_millis(call.time + reads.number("audit.paper_judge"))
    grant = call.new_id(1)
    terms = consent.IssueGrant(
        basis=consent.Basis.STATUTORY,
        covered_by=None,
        recipient=case.asker,
        purpose=consent.Purpose.HOPERAT,
        entries=(case.entry,),
        level_cap=4,
        begins=call.time,
        ends=deadline,
        deliveries=1,
        depth=0,
    )
    return Outcome(
        changed(case, grant=grant, deadline=deadline), consequences=(Consequence(case_id=grant, command=terms),)
    )


@step
def inspection_judge_paper(call: Call, command: JudgePaper, case: Paper, reads: Reads) -> Outcome[Paper]:
    """Record what the paper shows, and end the grant."""
    return Outcome(
        changed(case, verdict=command.verdict),
        to=PaperState.MATCHED if command.verdict == Verdict.MATCHES else PaperState.BREACH,
        consequences=_end(reads, case.grant),
    )


@step
def inspection_expire_paper(call: Call, command: ExpirePaper, case: Paper, reads: Reads) -> Outcome[Paper]:
    """Make the end of the time visible: a breach where the paper was not opened; end the grant where it was."""
    return Outcome(case, consequences=_end(reads, case.grant))


def _opened(call: Call, reads: Reads) -> Disclosure:
    found = consent.use(reads, call.refs[0])
    if found is None or call.institution not in (found.fields.custodian, found.fields.recipient):
        raise Refused(
            Refusal.NOT_A_PARTY,
            f"found {call.institution.hex()}, expected source or recipient of use {call.refs[0].hex()}: "
            "name an own use",
        )
    source, recipient = found.fields.custodian, found.fields.recipient
    return Disclosure(
        use=call.refs[0],
        source=source,
        recipient=recipient,
        first=call.institution,
        second=recipient if call.institution == source else source,
        complete_by=unix_millis(call.time + reads.number("audit.pair_complete")),
    )


def _check_party(call: Call, party: InstitutionId, side: str) -> None:
    if call.institution != party:
        raise Refused(
            Refusal.NOT_A_PARTY,
            f"found {call.institution.hex()}, expected {party.hex()}, the {side} of the use: name the own side's event",
        )


def _check_own_event(call: Call, case: Disclosure, *, there: bool) -> None:
    if case.use != call.refs[0]:
        raise Refused(
            Refusal.PAIR_MISMATCH,
            f"the pair is of use {case.use.hex()}, expected {call.refs[0].hex()}: derive the pair's id",
        )
    if there:
        raise Refused(
            Refusal.EVENT_THERE_ALREADY,
            f"the event of {call.institution.hex()} is on record, expected the other side's: wait for that",
        )


def _next_number(reads: Reads, institution: InstitutionId) -> Natural:
    row = reads.register(Sequence, institution)
    return 1 if row is None else row.last + 1


def _check_scope(reads: Reads, entry_id: EntryId, case: Inspection) -> None:
    found = catalog.entry(reads, entry_id)
    within = (
        found is not None
        and found.fields.custodian in case.institutions
        and month_of(case.period_from) <= found.fields.month <= month_of(case.period_to)
    )
    if not within:
        raise Refused(
            Refusal.OUTSIDE_SCOPE,
            f"entry {entry_id.hex()} is not of the {len(case.institutions)} institutions and the period of this "
            "inspection, expected one that is: leave it out, or open an inspection for it",
        )


def _ends(reads: Reads, grants: tuple[CaseId, ...], case: Inspection) -> tuple[Consequence, ...]:
    named = tuple(dict.fromkeys(grants))
    for grant_id in named:
        found = consent.grant(reads, grant_id)
        of_this = (
            found is not None
            and found.fields.basis == consent.Basis.STATUTORY
            and all(entry_id in case.content for entry_id in found.fields.entries)
        )
        if not of_this:
            raise Refused(
                Refusal.NOT_ITS_GRANT,
                f"{grant_id.hex()} is no statutory grant over this inspection's content, expected one: leave it out",
            )
    return tuple(end for grant_id in named for end in _end(reads, grant_id))


def _end(reads: Reads, grant: CaseId | None) -> tuple[Consequence, ...]:
    if grant is None or not consent.living(reads, grant):
        return ()
    return (Consequence(case_id=grant, command=consent.EndGrant()),)

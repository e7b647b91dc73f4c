"""How a grant comes to be: by its custodian, by the consequence of a workflow, or passed on from another grant."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.cases import Patient
from yilian.ledger.members import InstitutionKind
from yilian.ledger.workflow import KERNEL, Call, Consequence, KernelRefusal, Outcome, Put, Reads, step
from yilian.values import CaseId, EntryId, InstitutionId, unix_millis
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.counting import (
    add_living,
    available,
    children,
    counters_of,
    existing,
    holdings_of,
    put_counters,
)
from yilian.workflows.consent.covers import ConsentQuestion, covers
from yilian.workflows.consent.model import (
    RESTRICTED,
    Basis,
    Consent,
    Counters,
    Grant,
    GrantDelegate,
    GrantIssue,
    GrantState,
    GrantTerms,
    IssueGrant,
    OpenChild,
    Refusal,
)
from yilian.workflows.consent.policy import Purpose
from yilian.workflows.consent.uses import BY_LAW, ancestor_states

BASIS_OF_CALLER: Mapping[str, Basis] = {
    "referral": Basis.TREATMENT,
    "audit": Basis.STATUTORY,
    "consent": Basis.EMERGENCY,
}
"""Which basis the consequence of a workflow may claim."""
PURPOSES_OF_BASIS: Mapping[Basis, tuple[Purpose, ...]] = {
    Basis.TREATMENT: (Purpose.TREAT,),
    Basis.STATUTORY: (Purpose.PUBHLTH, Purpose.HOPERAT),
    Basis.EMERGENCY: (Purpose.ETREAT,),
}
"""A basis that is not here takes its purpose from the consent."""
INSPECTING = (InstitutionKind.REGULATOR, InstitutionKind.AUDIT_BODY)
"""Kinds whose people open inspections and ask for papers: the only recipients by law."""


@step
def grant_issue(call: Call, command: GrantIssue, reads: Reads) -> Outcome[Grant]:
    """Grant one's own entries, on a consent or on an inspection.

    Refuses: BASIS_NOT_ALIVE, ENTRY_NOT_CURRENT, ENTRY_RESTRICTED, NOT_THE_CUSTODIAN, NOT_IN_LIST, LEVEL_TOO_HIGH,
    PURPOSE_DIFFERS, NOT_THE_RECIPIENT, GRANT_EXPIRED, NOT_ATTESTED, WIDER_THAN_BASIS, DEPTH_SPENT, TREE_FULL; as the
    kernel does, MEMBER_SUSPENDED and REFERENCE_NOT_ADMISSIBLE.
    """
    if command.basis not in (Basis.CONSENT, Basis.STATUTORY):
        raise Refused(
            Refusal.BASIS_NOT_ALIVE,
            f"basis {command.basis.value} grants in a step of its own workflow: use CONSENT or STATUTORY here",
        )
    statutory = command.basis == Basis.STATUTORY
    if call.suspended and not statutory:
        raise Refused(
            KernelRefusal.MEMBER_SUSPENDED,
            "a suspended member may grant to an inspection only: ask for reinstatement",
            workflow=KERNEL,
        )
    if len(call.refs) != int(statutory):
        raise Refused(
            KernelRefusal.REFERENCE_NOT_ADMISSIBLE,
            f"{len(call.refs)} inspections are named, {command.basis.value} expects {int(statutory)}: correct refs",
            workflow=KERNEL,
        )
    return _issue(call, command, call.institution, reads)


@step
def issue_grant(call: Call, command: IssueGrant, reads: Reads) -> Outcome[Grant]:
    """Grant entries that their custodian listed in the sending step.

    Refuses: as `grant_issue`.
    """
    if BASIS_OF_CALLER.get(call.caller) != command.basis:
        raise Refused(
            Refusal.BASIS_NOT_ALIVE, f"{call.caller} may not grant on {command.basis.value}: use the basis of its own"
        )
    first = catalog.entry(reads, command.entries[0])
    custodian = first.fields.custodian if first is not None else call.institution
    return _issue(call, command, custodian, reads)


@step
def grant_open_child(call: Call, command: OpenChild, reads: Reads) -> Outcome[Grant]:
    """Open the child of a grant, as `grant_delegate` judged it."""
    parent = existing(reads, Grant, command.parent)
    above = parent.fields
    child = Grant(
        basis=above.basis,
        covered_by=above.covered_by,
        custodian=above.custodian,
        recipient=command.recipient,
        issuer=above.recipient,
        purpose=above.purpose,
        entries=command.entries,
        level_cap=command.level_cap,
        begins=command.begins,
        ends=command.ends,
        depth=command.depth,
        ancestors=(command.parent, *above.ancestors),
        suspender=None,
        suspend_reason=None,
        acknowledge_by=unix_millis(0),
        stopped=unix_millis(0),
        copies=None,
    )
    return Outcome(child, patient=parent.header.patient, registers=(_fresh(call.case_id, command.deliveries),))


@step
def grant_delegate(call: Call, command: GrantDelegate, case: Grant, reads: Reads) -> Outcome[Grant]:
    """Pass a part of a grant on; its deliveries are taken from those still available.

    Refuses: GRANT_EXPIRED, GRANT_SUSPENDED, DELIVERIES_SPENT, BASIS_NOT_ALIVE, NOT_ATTESTED,
    ENTRY_NOT_CURRENT, ENTRY_RESTRICTED, NOT_IN_LIST, WIDER_THAN_PARENT, DEPTH_SPENT, PURPOSE_DIFFERS,
    NOT_THE_RECIPIENT, WIDER_THAN_BASIS, TREE_FULL.
    """
    row = counters_of(reads, call.case_id)
    _check_parent_alive(call, case, reads)
    left = available(row)
    if command.deliveries > left:
        raise Refused(
            Refusal.DELIVERIES_SPENT, f"{left} deliveries are available, {command.deliveries} asked for: pass fewer on"
        )
    if case.covered_by is None:
        raise Refused(Refusal.DEPTH_SPENT, f"basis {case.basis.value} allows no onward transfer: ask the custodian")
    _check_within_parent(command, case)
    _check_recipient(command.recipient, case.custodian, reads)
    _check_covered(command, case.covered_by, case.custodian, reads, uses=0, depth=len(case.ancestors) + 1)
    _check_currency(command.entries, case.custodian, case.basis, reads)
    _check_room(reads, case.covered_by)
    limit = reads.number("consent.children")
    if children(reads, call.case_id, case.covered_by) >= limit:
        raise Refused(Refusal.TREE_FULL, f"{limit} grants were passed on from this one: end one of them first")
    child = call.new_id(1)
    taken = replace(row, delegated=row.delegated + command.deliveries)
    spent = not available(taken) and not taken.reserved
    return Outcome(
        case,
        to=GrantState.EXHAUSTED if spent else GrantState.ISSUED,
        registers=(
            put_counters(call.case_id, taken),
            add_living(reads, case.covered_by, child, call.case_id, root_n=0),
        ),
        consequences=(Consequence(case_id=child, command=_child_of(call.case_id, command)),),
    )


def _child_of(parent: CaseId, command: GrantDelegate) -> OpenChild:
    return OpenChild(
        parent=parent,
        recipient=command.recipient,
        purpose=command.purpose,
        entries=command.entries,
        level_cap=command.level_cap,
        begins=command.begins,
        ends=command.ends,
        deliveries=command.deliveries,
        depth=command.depth,
    )


def _issue(call: Call, command: GrantTerms, custodian: InstitutionId, reads: Reads) -> Outcome[Grant]:
    restricted = _check_currency(command.entries, custodian, command.basis, reads)
    _check_levels(command.entries, command.level_cap, reads)
    allowed = PURPOSES_OF_BASIS.get(command.basis)
    if allowed is not None and command.purpose not in allowed:
        raise Refused(
            Refusal.PURPOSE_DIFFERS,
            f"purpose {command.purpose.value} is not one of {command.basis.value}: use {' or '.join(allowed)}",
        )
    _check_recipient(command.recipient, custodian, reads)
    if command.basis == Basis.STATUTORY:
        _check_inspects(command.recipient, reads)
    if command.begins > command.ends or command.ends <= call.time:
        raise Refused(
            Refusal.GRANT_EXPIRED,
            f"the grant would hold from {command.begins} to {command.ends}, the block is at {call.time}: end it later",
        )
    grant = Grant(
        basis=command.basis,
        covered_by=command.covered_by,
        custodian=custodian,
        recipient=command.recipient,
        issuer=custodian,
        purpose=command.purpose,
        entries=command.entries,
        level_cap=command.level_cap,
        begins=command.begins,
        ends=command.ends,
        depth=command.depth,
        ancestors=(),
        suspender=None,
        suspend_reason=None,
        acknowledge_by=unix_millis(0),
        stopped=unix_millis(0),
        copies=None,
    )
    rows, speaker = _under_basis(call.case_id, command, custodian, reads)
    flags = (RESTRICTED,) if restricted else None
    return Outcome(grant, patient=speaker, flags=flags, registers=(_fresh(call.case_id, command.deliveries), *rows))


def _under_basis(
    grant_id: CaseId, command: GrantTerms, custodian: InstitutionId, reads: Reads
) -> tuple[tuple[Put, ...], Patient | None]:
    if command.basis in BY_LAW:
        if command.covered_by is not None or command.depth:
            raise Refused(
                Refusal.DEPTH_SPENT,
                f"basis {command.basis.value} relies on no consent and is not passed on: name neither",
            )
        return (), None
    if command.covered_by is None:
        raise Refused(
            Refusal.BASIS_NOT_ALIVE, f"basis {command.basis.value} relies on a consent, none is named: name it"
        )
    _check_covered(command, command.covered_by, custodian, reads, uses=command.deliveries, depth=command.depth)
    _check_room(reads, command.covered_by)
    speaker = existing(reads, Consent, command.covered_by).header.patient
    return (add_living(reads, command.covered_by, grant_id, None, root_n=command.deliveries),), speaker


def _check_currency(entries: tuple[EntryId, ...], custodian: InstitutionId, basis: Basis, reads: Reads) -> bool:
    """Judge the entries of a list; True: a RESTRICTED one is reached by law or emergency."""
    restricted = False
    for entry_id in entries:
        found = catalog.current(reads, entry_id)
        if found is None:
            raise Refused(Refusal.ENTRY_NOT_CURRENT, f"entry {entry_id.hex()} is not current: leave it out")
        if catalog.is_restricted(found):
            restricted = True
            if basis not in BY_LAW:
                raise Refused(Refusal.ENTRY_RESTRICTED, f"entry {entry_id.hex()} is restricted: leave it out")
        if found.fields.custodian != custodian:
            raise Refused(
                Refusal.NOT_THE_CUSTODIAN,
                f"entry {entry_id.hex()} is kept by {found.fields.custodian.hex()}, not {custodian.hex()}: ask it",
            )
        if entries.count(entry_id) > 1:
            raise Refused(Refusal.NOT_IN_LIST, f"entry {entry_id.hex()} is named twice: name it once")
    return restricted


def _check_levels(entries: tuple[EntryId, ...], cap: int, reads: Reads) -> None:
    for entry_id in entries:
        found = catalog.entry(reads, entry_id)
        if found is not None and found.fields.level > cap:
            raise Refused(
                Refusal.LEVEL_TOO_HIGH,
                f"entry {entry_id.hex()} is of level {found.fields.level}, the cap is {cap}: leave it out",
            )


def _check_recipient(recipient: InstitutionId, custodian: InstitutionId, reads: Reads) -> None:
    if recipient == custodian or reads.member(recipient) is None:
        raise Refused(
            Refusal.NOT_THE_RECIPIENT, f"{recipient.hex()} is the custodian itself, or no member: name another member"
        )


def _check_inspects(recipient: InstitutionId, reads: Reads) -> None:
    member = reads.member(recipient)
    if member is None or member.fields.kind not in INSPECTING:
        raise Refused(
            Refusal.NOT_THE_RECIPIENT,
            f"{recipient.hex()} inspects nobody, and a duty by law reaches past the patient's no: "
            f"name one of kind {' or '.join(INSPECTING)}",
        )


def _check_covered(
    terms: GrantTerms | GrantDelegate,
    consent: CaseId,
    custodian: InstitutionId,
    reads: Reads,
    *,
    uses: int,
    depth: int,
) -> None:
    question = ConsentQuestion(
        consent=consent,
        custodian=custodian,
        recipient=terms.recipient,
        purpose=terms.purpose,
        begins=terms.begins,
        until=terms.ends,
        entries=terms.entries,
        uses=uses,
        depth=depth,
        level_cap=terms.level_cap,
    )
    decision = covers(reads, question)
    if decision.refusal is not None:
        raise Refused(
            decision.refusal,
            f"consent {consent.hex()} does not cover this grant (rule {decision.matched_provision}): "
            "narrow the grant, or ask the patient for a wider consent",
        )


def _check_room(reads: Reads, consent: CaseId) -> None:
    limit = reads.number("consent.living")
    if len(holdings_of(reads, consent).living) >= limit:
        raise Refused(Refusal.TREE_FULL, f"{limit} grants live under {consent.hex()}: end or expire one of them first")


def _check_parent_alive(call: Call, parent: Grant, reads: Reads) -> None:
    # Where an ancestor is revoked or ended, so is the parent, and the kernel refused already.
    states = ancestor_states(parent, reads)
    if GrantState.EXPIRED in states or not parent.begins <= call.time <= parent.ends:
        raise Refused(
            Refusal.GRANT_EXPIRED,
            f"the grant holds from {parent.begins} to {parent.ends}, the block is at {call.time}: ask for a new one",
        )
    if GrantState.SUSPENDED in states:
        raise Refused(Refusal.GRANT_SUSPENDED, "a grant that this one comes from is halted: wait until it goes on")


def _check_within_parent(command: GrantDelegate, parent: Grant) -> None:
    missing = [entry_id for entry_id in command.entries if entry_id not in parent.entries]
    if missing:
        raise Refused(Refusal.NOT_IN_LIST, f"entry {missing[0].hex()} is not in the list of the parent: leave it out")
    inside = parent.begins <= command.begins <= command.ends <= parent.ends
    if not inside or command.level_cap > parent.level_cap:
        raise Refused(
            Refusal.WIDER_THAN_PARENT,
            f"period {command.begins} to {command.ends} or level {command.level_cap} is outside the parent's "
            f"({parent.begins} to {parent.ends}, level {parent.level_cap}): stay inside",
        )
    if command.depth >= parent.depth:
        raise Refused(
            Refusal.DEPTH_SPENT, f"depth {command.depth} is asked, {parent.depth - 1} is left at most: pass on less far"
        )
    if command.purpose != parent.purpose:
        raise Refused(
            Refusal.PURPOSE_DIFFERS,
            f"the grant is for {parent.purpose.value}, not {command.purpose.value}: keep its purpose",
        )


def _fresh(grant_id: CaseId, deliveries: int) -> Put:
    return put_counters(grant_id, Counters(n=deliveries, reserved=0, delivered=0, forgiven=0, delegated=0))

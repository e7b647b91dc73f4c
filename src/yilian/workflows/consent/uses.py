"""The steps of a use: reserve, deliver, confirm; a fair exchange in which the ledger delivers (spec/release.md)."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.cases import Found
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.workflow import Call, Consequence, Outcome, Reads, step
from yilian.values import UnixMillis, unix_millis
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.counting import Change, available, counters_of, existing, give_back, put_counters
from yilian.workflows.consent.covers import ConsentQuestion, Item, decide, is_alive
from yilian.workflows.consent.model import (
    CUSTODIAN_SUSPENDED,
    LEASE_OVER,
    RESTRICTED,
    Basis,
    Consent,
    Grant,
    GrantExhaust,
    GrantState,
    Refusal,
    Use,
    UseConfirm,
    UseDecline,
    UseDeliver,
    UseDispute,
    UseExpire,
    UseForgive,
    UseReserve,
    UseState,
)
from yilian.workflows.consent.policy import Purpose

BY_LAW = (Basis.STATUTORY, Basis.EMERGENCY)
"""Bases without a consent: the patient's general no does not stop them, but flags them."""
_REVOKED = (GrantState.REVOKED, GrantState.REVOKED_EVERYWHERE)


@step
def use_reserve(call: Call, command: UseReserve, reads: Reads) -> Outcome[Use]:
    """Take deliveries for the lease: each entry counts one.

    Refuses: NO_GRANT, NOT_THE_RECIPIENT, GRANT_REVOKED, GRANT_EXPIRED, GRANT_SUSPENDED, DELIVERIES_SPENT,
    BASIS_NOT_ALIVE, ENTRY_NOT_CURRENT, ENTRY_RESTRICTED, NOT_IN_LIST, WIDER_THAN_BASIS, LEVEL_TOO_HIGH,
    PURPOSE_DIFFERS.
    """
    found = reads.case(Grant, command.grant)
    if found is None:
        raise Refused(Refusal.NO_GRANT, f"there is no grant {command.grant.hex()}: ask the custodian for one")
    grant, person = found.fields, call.persons[0]
    use = Use(
        grant=command.grant,
        custodian=grant.custodian,
        recipient=call.institution,
        person=person.key_id,
        role=person.role,
        entries=command.entries,
        purpose=command.purpose,
        one_time=command.one_time,
        message=command.message,
        lease_end=unix_millis(call.time + reads.number("consent.lease")),
        mask=None,
        first_number=0,
        allowed=0,
        forgiven=0,
        delivered=unix_millis(0),
        dispute_until=unix_millis(0),
        failed_guard=0,
        declined=None,
        disputed=(),
        dispute_reason=None,
    )
    restricted = _check_release(call.time, found, use, reads, own=0)
    row = counters_of(reads, command.grant)
    taken = replace(row, reserved=row.reserved + len(command.entries))
    flags = (RESTRICTED,) if restricted else None
    return Outcome(use, flags=flags, registers=(put_counters(command.grant, taken),))


@step
def use_deliver(call: Call, command: UseDeliver, case: Use, reads: Reads) -> Outcome[Use]:
    """Publish the mask and count the deliveries; where a guard of the reservation fails by now, as RELEASED."""
    number = len(case.entries)
    failed = _failed_guard(call, case, reads)
    row = counters_of(reads, case.grant)
    counted = replace(row, reserved=row.reserved - number, delivered=row.delivered + number)
    delivered = replace(
        case,
        mask=command.mask,
        first_number=row.delivered + 1,
        allowed=row.n,
        forgiven=row.forgiven,
        delivered=call.time,
        dispute_until=unix_millis(call.time + reads.number("consent.dispute_window")),
        failed_guard=failed,
    )
    spent = not available(counted) and not counted.reserved
    exhausting = spent and existing(reads, Grant, case.grant).state == GrantState.ISSUED
    consequences = (Consequence(case_id=case.grant, command=GrantExhaust()),) if exhausting else ()
    return Outcome(
        delivered,
        to=UseState.RELEASED if failed else UseState.DELIVERED,
        registers=(put_counters(case.grant, counted),),
        consequences=consequences,
    )


@step
def use_decline(call: Call, command: UseDecline, case: Use, reads: Reads) -> Outcome[Use]:  # noqa: ARG001 - one signature
    """Refuse to deliver; the deliveries return."""
    return _with(replace(case, declined=command.reason), give_back(reads, case.grant, reserved=len(case.entries)))


@step
def use_expire(call: Call, command: UseExpire, case: Use, reads: Reads) -> Outcome[Use]:  # noqa: ARG001 - one signature
    """Make the end of the lease visible; the deliveries return."""
    return _with(case, give_back(reads, case.grant, reserved=len(case.entries)))


@step
def use_confirm(call: Call, command: UseConfirm, case: Use, reads: Reads) -> Outcome[Use]:  # noqa: ARG001 - one signature
    """Say that the records opened as committed."""
    return Outcome(case)


@step
def use_dispute(call: Call, command: UseDispute, case: Use, reads: Reads) -> Outcome[Use]:  # noqa: ARG001 - one signature
    """Dispute delivered entries; those still CURRENT are disputed in the catalogue too.

    Refuses: NOT_IN_LIST.
    """
    for entry_id in command.entries:
        if entry_id not in case.entries or command.entries.count(entry_id) > 1:
            raise Refused(
                Refusal.NOT_IN_LIST, f"entry {entry_id.hex()} was not delivered here, or named twice: correct the list"
            )
    disputes = tuple(
        Consequence(case_id=entry_id, command=catalog.Dispute(reason=command.reason, own_entry=None))
        for entry_id in command.entries
        if _is_open_to_dispute(reads.case(catalog.Entry, entry_id))
    )
    return Outcome(replace(case, disputed=command.entries, dispute_reason=command.reason), consequences=disputes)


@step
def use_forgive(call: Call, command: UseForgive, case: Use, reads: Reads) -> Outcome[Use]:  # noqa: ARG001 - one signature
    """Give the deliveries back; their numbers are not given again."""
    return _with(case, give_back(reads, case.grant, forgiven=len(case.entries)))


def _with(case: Use, change: Change) -> Outcome[Use]:
    return Outcome(case, registers=change.registers, consequences=change.consequences)


def _is_open_to_dispute(found: Found[catalog.Entry] | None) -> bool:
    return found is not None and found.state == catalog.EntryState.CURRENT


def _failed_guard(call: Call, case: Use, reads: Reads) -> int:
    if call.time > case.lease_end:
        return LEASE_OVER
    found = existing(reads, Grant, case.grant)
    if call.suspended and found.fields.basis not in BY_LAW:
        return CUSTODIAN_SUSPENDED
    try:
        _check_release(call.time, found, case, reads, own=len(case.entries))
    except Refused as refused:
        return refused.number
    return 0


def _check_release(time: UnixMillis, found: Found[Grant], use: Use, reads: Reads, *, own: int) -> bool:
    """Judge a reservation on current versions, `own` deliveries being reserved by it already.

    True: an entry under the patient's general no is reached, by law or emergency.
    """
    grant = found.fields
    _check_grant(time, found, use, reads, own=own)
    consent = _living_basis(time, grant, reads)
    items, restricted = _check_entries(grant, use, reads)
    if consent is not None:
        _check_policy(consent, grant, use, reads, time=time, items=items)
    too_high = [item.level for item in items if item.level > grant.level_cap]
    if too_high:
        raise Refused(
            Refusal.LEVEL_TOO_HIGH,
            f"an entry is of level {max(too_high)}, the grant holds to {grant.level_cap}: ask for a wider grant",
        )
    if use.purpose != grant.purpose:
        raise Refused(
            Refusal.PURPOSE_DIFFERS,
            f"the grant is for {grant.purpose.value}, not {use.purpose.value}: use it for its purpose",
        )
    return restricted


def _check_grant(time: UnixMillis, found: Found[Grant], use: Use, reads: Reads, *, own: int) -> None:
    grant, name = found.fields, use.grant.hex()
    if grant.recipient != use.recipient or (grant.purpose == Purpose.ETREAT and use.role != Role.PHYSICIAN):
        raise Refused(
            Refusal.NOT_THE_RECIPIENT,
            f"grant {name} is for {grant.recipient.hex()}, in an emergency for a physician: ask for an own grant",
        )
    states = (found.state, *ancestor_states(grant, reads))
    if any(state in _REVOKED for state in states):
        raise Refused(Refusal.GRANT_REVOKED, f"grant {name}, or one that it comes from, was revoked: ask anew")
    if GrantState.EXPIRED in states or not grant.begins <= time <= grant.ends:
        raise Refused(
            Refusal.GRANT_EXPIRED,
            f"grant {name} holds from {grant.begins} to {grant.ends}, the block is at {time}: ask for a new grant",
        )
    if GrantState.SUSPENDED in states:
        raise Refused(Refusal.GRANT_SUSPENDED, f"grant {name} is halted: wait until whoever halted it lets it go on")
    left = available(counters_of(reads, use.grant)) + own
    if found.state == GrantState.EXHAUSTED or left < len(use.entries):
        raise Refused(
            Refusal.DELIVERIES_SPENT,
            f"{left} deliveries are available, {len(use.entries)} asked for: ask for fewer, or for a new grant",
        )
    if GrantState.ENDED in states:
        raise Refused(Refusal.BASIS_NOT_ALIVE, f"the basis of grant {name} is over: ask for a grant on another one")


def ancestor_states(grant: Grant, reads: Reads) -> tuple[str, ...]:
    """Give the states of the grants that this one comes from, the parent first."""
    return tuple(existing(reads, Grant, ancestor).state for ancestor in grant.ancestors)


def _living_basis(time: UnixMillis, grant: Grant, reads: Reads) -> Found[Consent] | None:
    if grant.covered_by is None:
        return None
    consent = existing(reads, Consent, grant.covered_by)
    if not is_alive(consent, time):
        raise Refused(
            Refusal.BASIS_NOT_ALIVE, f"consent {grant.covered_by.hex()} holds no longer: ask the patient for a new one"
        )
    return consent


def _check_entries(grant: Grant, use: Use, reads: Reads) -> tuple[tuple[Item, ...], bool]:
    items, restricted = [], False
    for entry_id in use.entries:
        found = catalog.current(reads, entry_id)
        if found is None:
            raise Refused(
                Refusal.ENTRY_NOT_CURRENT, f"entry {entry_id.hex()} is not current: ask the custodian what replaced it"
            )
        if catalog.is_restricted(found):
            restricted = True
            if grant.basis not in BY_LAW:
                raise Refused(Refusal.ENTRY_RESTRICTED, f"entry {entry_id.hex()} is restricted: leave it out")
        if entry_id not in grant.entries or use.entries.count(entry_id) > 1:
            raise Refused(
                Refusal.NOT_IN_LIST,
                f"entry {entry_id.hex()} is not in the list of the grant, or named twice: correct the list",
            )
        items.append(Item(kind=found.fields.kind, level=found.fields.level, month=found.fields.month))
    return tuple(items), restricted


def _check_policy(
    consent: Found[Consent], grant: Grant, use: Use, reads: Reads, *, time: UnixMillis, items: tuple[Item, ...]
) -> None:
    question = ConsentQuestion(
        consent=consent.header.id,
        custodian=grant.custodian,
        recipient=grant.recipient,
        purpose=grant.purpose,
        begins=time,
        until=time,
        role=use.role,
        depth=len(grant.ancestors),
    )
    member = reads.member(grant.recipient)
    kind = InstitutionKind(member.fields.kind) if member is not None else None
    decision = decide(consent.fields.policy, question, items, kind, committed=0)
    if decision.refusal is not None:
        raise Refused(
            decision.refusal,
            f"consent {consent.header.id.hex()} does not cover this use (rule {decision.matched_provision}): "
            "ask the patient for a wider one",
        )

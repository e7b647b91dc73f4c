"""The arithmetic of deliveries: what is available, what returns and to whom, what a narrower budget leaves.

Law: masks published − forgiven ≤ N of the root, under any interleaving of all steps. Source: spec/release.md, Count.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec.structs import replace

from yilian.ledger.cases import Case, Found
from yilian.ledger.workflow import Consequence, Put, Reads
from yilian.values import CaseId
from yilian.workflows.consent.model import LIVING, Counters, Grant, GrantReopen, GrantState, Holdings, LivingGrant

C = TypeVar("C", bound=Case)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to write and commands to send beside a step's own case."""

    registers: tuple[Put, ...] = ()
    consequences: tuple[Consequence, ...] = ()


def used(row: Counters) -> int:
    """Give what is taken of N: reserved, delivered and not forgiven, delegated."""
    return row.reserved + row.delivered - row.forgiven + row.delegated


def available(row: Counters) -> int:
    """Give what may still be reserved or delegated."""
    return row.n - used(row)


def existing(reads: Reads, kind: type[C], case_id: CaseId) -> Found[C]:
    """Get a case that another one names, and that can only be missing where the state is damaged.

    Raises:
        LookupError: it is missing.
    """
    found = reads.case(kind, case_id)
    if found is None:
        raise LookupError(f"{kind.__name__} {case_id.hex()} is named and missing: the state is damaged, restore it")
    return found


def counters_of(reads: Reads, grant: CaseId) -> Counters:
    """Get the counts of a grant that exists; LookupError where the state is damaged."""
    row = reads.register(Counters, grant)
    if row is None:
        raise LookupError(f"grant {grant.hex()} has no counters: the state is damaged, restore a snapshot")
    return row


def holdings_of(reads: Reads, consent: CaseId) -> Holdings:
    """Get what lives under a consent; nothing at first."""
    row = reads.register(Holdings, consent)
    return row if row is not None else Holdings(living=(), committed=0)


def put_counters(grant: CaseId, row: Counters) -> Put:
    """Write the counts of a grant."""
    return Put(key=(grant,), value=row)


def add_living(reads: Reads, consent: CaseId, grant: CaseId, parent: CaseId | None, *, root_n: int) -> Put:
    """Enter a new grant under its consent; `root_n` is what a root takes of the budget, 0 for a child."""
    row = holdings_of(reads, consent)
    living = (*row.living, LivingGrant(id=grant, parent=parent))
    return Put(key=(consent,), value=Holdings(living=living, committed=row.committed + root_n))


def subtree(reads: Reads, grant_id: CaseId, grant: Grant) -> tuple[CaseId, ...]:
    """List the living descendants of a grant, parents before children; at most `consent.living`."""
    if grant.covered_by is None:
        return ()
    inside: list[CaseId] = [grant_id]
    for item in holdings_of(reads, grant.covered_by).living:
        if item.parent is not None and item.parent in inside:
            inside.append(item.id)
    return tuple(inside[1:])


def children(reads: Reads, grant_id: CaseId, consent: CaseId) -> int:
    """Count the living children of a grant."""
    return sum(1 for item in holdings_of(reads, consent).living if item.parent == grant_id)


def end(reads: Reads, grant_id: CaseId, grant: Grant) -> Change:
    """End a grant: what it did not use returns to the nearest living ancestor, at last to the consent's budget."""
    if grant.covered_by is None:
        return Change()
    spare = available(counters_of(reads, grant_id))
    change, landed = _return_to_ancestors(reads, grant.ancestors, spare)
    row = holdings_of(reads, grant.covered_by)
    living = tuple(item for item in row.living if item.id != grant_id)
    kept = Holdings(living=living, committed=row.committed if landed else row.committed - spare)
    return replace(change, registers=(*change.registers, Put(key=(grant.covered_by,), value=kept)))


def give_back(reads: Reads, grant_id: CaseId, *, reserved: int = 0, forgiven: int = 0) -> Change:
    """Return deliveries that were reserved, or delivered and now forgiven.

    A living grant has them available again; a dead one's go to the nearest living ancestor, else nowhere.
    """
    row = counters_of(reads, grant_id)
    kept = replace(row, reserved=row.reserved - reserved, forgiven=row.forgiven + forgiven)
    found = existing(reads, Grant, grant_id)
    if found.state in LIVING:
        change = Change(consequences=_reopening(found.state, grant_id, reserved + forgiven))
    else:
        change, _ = _return_to_ancestors(reads, found.fields.ancestors, reserved + forgiven)
    return replace(change, registers=(put_counters(grant_id, kept), *change.registers))


def fit_budget(reads: Reads, consent: CaseId, maximum: int) -> tuple[Put, ...]:
    """Cut what is available under a consent to a smaller budget; N of a grant never falls below what it used.

    Roots come before what was passed on from them, older grants before newer ones.
    """
    holdings = holdings_of(reads, consent)
    rows = {item.id: counters_of(reads, item.id) for item in holdings.living}
    left = max(0, maximum - (holdings.committed - sum(available(row) for row in rows.values())))
    cuts: list[tuple[CaseId, int]] = []
    for item in holdings.living:
        spare = available(rows[item.id])
        kept = min(spare, left)
        left -= kept
        if kept < spare:
            cuts.append((item.id, spare - kept))
    changed: dict[CaseId, Counters] = {}
    for grant_id, cut in cuts:
        row = changed.get(grant_id, rows[grant_id])
        changed[grant_id] = replace(row, n=row.n - cut)
        for ancestor in existing(reads, Grant, grant_id).fields.ancestors:
            row = changed.get(ancestor) or counters_of(reads, ancestor)
            changed[ancestor] = replace(row, n=row.n - cut, delegated=row.delegated - cut)
    if not cuts:
        return ()
    total = sum(cut for _, cut in cuts)
    kept_holdings = Holdings(living=holdings.living, committed=holdings.committed - total)
    puts = tuple(put_counters(grant_id, row) for grant_id, row in changed.items())
    return (*puts, Put(key=(consent,), value=kept_holdings))


def _return_to_ancestors(reads: Reads, ancestors: tuple[CaseId, ...], amount: int) -> tuple[Change, bool]:
    if not amount:
        return Change(), True
    puts: list[Put] = []
    for ancestor in ancestors:
        row = counters_of(reads, ancestor)
        puts.append(put_counters(ancestor, replace(row, delegated=row.delegated - amount)))
        state = existing(reads, Grant, ancestor).state
        if state in LIVING:
            reopening = _reopening(state, ancestor, amount)
            return Change(registers=tuple(puts), consequences=reopening), True
    return Change(registers=tuple(puts)), False


def _reopening(state: str, grant_id: CaseId, amount: int) -> tuple[Consequence, ...]:
    if state != GrantState.EXHAUSTED or not amount:
        return ()
    return (Consequence(case_id=grant_id, command=GrantReopen()),)

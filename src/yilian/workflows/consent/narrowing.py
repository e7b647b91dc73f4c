"""What a narrower consent leaves of the grants that rely on it."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.ledger.members import InstitutionKind
from yilian.ledger.workflow import Consequence, Reads
from yilian.values import CaseId, UnixMillis
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.counting import existing, holdings_of
from yilian.workflows.consent.covers import ConsentQuestion, Item, decide
from yilian.workflows.consent.model import Grant, GrantNarrow
from yilian.workflows.consent.policy import Policy, level_cap


def narrowing(reads: Reads, consent: CaseId, policy: Policy, time: UnixMillis) -> tuple[Consequence, ...]:
    """Fit every living grant of a consent into its new policy and into its narrowed parent.

    The commands stand in the order children before parents, so that what a revoked child returns is there when its
    parent is narrowed: no grant needs a second command, and 64 grants stay within one operation.
    """
    fitted: dict[CaseId, Grant] = {}
    commands: list[Consequence] = []
    for item in holdings_of(reads, consent).living:
        grant = existing(reads, Grant, item.id).fields
        parent = fitted.get(item.parent) if item.parent is not None else grant
        left = _fit(grant, parent, policy, reads, consent=consent, time=time) if parent is not None else None
        if left is not None:
            fitted[item.id] = left
        commands.append(Consequence(case_id=item.id, command=_command(left or replace(grant, entries=()))))
    return tuple(reversed(commands))


def _command(grant: Grant) -> GrantNarrow:
    return GrantNarrow(
        entries=grant.entries,
        level_cap=grant.level_cap,
        begins=grant.begins,
        ends=grant.ends,
        depth=grant.depth,
    )


def _fit(
    grant: Grant, parent: Grant, policy: Policy, reads: Reads, *, consent: CaseId, time: UnixMillis
) -> Grant | None:
    """Give what is left of a grant, None where nothing is; a root stands for its own parent."""
    if len(grant.ancestors) > policy.depth:
        return None
    begins = max(grant.begins, policy.begins, parent.begins)
    ends = min(grant.ends, policy.ends, parent.ends)
    entries = _covered(grant, parent, policy, reads, consent=consent, time=max(time, begins))
    if begins > ends or not entries:
        return None
    return replace(
        grant,
        begins=begins,
        ends=ends,
        level_cap=min(grant.level_cap, level_cap(policy), parent.level_cap),
        entries=entries,
        depth=min(grant.depth, policy.depth - len(grant.ancestors)),
    )


def _covered(
    grant: Grant, parent: Grant, policy: Policy, reads: Reads, *, consent: CaseId, time: UnixMillis
) -> tuple[CaseId, ...]:
    # A restriction may end again, so it stops uses and does not shorten the list.
    question = ConsentQuestion(
        consent=consent,
        custodian=grant.custodian,
        recipient=grant.recipient,
        purpose=grant.purpose,
        begins=time,
        until=time,
    )
    member = reads.member(grant.recipient)
    kind = InstitutionKind(member.fields.kind) if member is not None else None
    kept = []
    for entry_id in grant.entries:
        entry = existing(reads, catalog.Entry, entry_id).fields
        item = Item(kind=entry.kind, level=entry.level, month=entry.month)
        if entry_id in parent.entries and decide(policy, question, (item,), kind, committed=0).permit:
            kept.append(entry_id)
    return tuple(kept)

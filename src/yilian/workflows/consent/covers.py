"""The decision function: does one consent, as it stands now, allow this? The same in contracts, nodes and tests.

A deny beats a permit among the exceptions, an exception beats the base, nothing matched is a deny.
"""

from __future__ import annotations

import msgspec

from yilian.ledger.cases import Found
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.workflow import Reads
from yilian.values import CaseId, EntryId, InstitutionId, Month, UnixMillis, Word
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.model import Attestations, Consent, ConsentState, Holdings, Refusal
from yilian.workflows.consent.policy import Access, Effect, Policy, Provision, Purpose, level_cap, provisions


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What a provision looks at in an entry, or in one that is yet to come: class, level, month of the event."""

    kind: Word
    level: int
    month: Month


class ConsentQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """May `recipient` use these entries (or entries like `items`) of `custodian` for this purpose in this period?"""

    consent: CaseId
    custodian: InstitutionId
    recipient: InstitutionId
    purpose: Purpose
    begins: UnixMillis
    until: UnixMillis
    """A use asks for one moment: both are the block time."""
    entries: tuple[EntryId, ...] = ()
    """Entries of the catalogue; one that does not exist or is RESTRICTED denies."""
    items: tuple[Item, ...] = ()
    """Entries that do not stand in the catalogue yet, such as a result to come."""
    role: Role | None = None
    """Role of the person who uses; None where nobody does yet: then only rules without roles deny."""
    uses: int = 0
    """Deliveries to be taken from the consent's budget."""
    depth: int = 0
    """How many times the data is to be passed on in all, counted from the custodian's grant."""
    level_cap: int = 0
    attested: bool = True
    """False: asked ahead of the custodian's attestation (a result to come)."""


class Obligations(msgspec.Struct, frozen=True, kw_only=True):
    """Duties that go with a permit."""

    access: Access
    erase_by: UnixMillis | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `matched_provision` is an index into `provisions(policy)`, None where none matched."""

    permit: bool
    matched_provision: int | None
    obligations: Obligations | None
    refusal: Refusal | None
    """Why not; None where permitted."""


def covers(reads: Reads, question: ConsentQuestion) -> Decision:
    """Decide one question on the current version of one consent and the flag RESTRICTED of the entries."""
    found = reads.case(Consent, question.consent)
    if found is None or not is_alive(found, question.begins):
        return _denied(Refusal.BASIS_NOT_ALIVE)
    if question.attested and not is_attested(reads, question.consent, question.custodian):
        return _denied(Refusal.NOT_ATTESTED)
    items = list(question.items)
    for entry_id in question.entries:
        entry = catalog.entry(reads, entry_id)
        if entry is None:
            return _denied(Refusal.ENTRY_NOT_CURRENT)
        if catalog.is_restricted(entry):
            return _denied(Refusal.ENTRY_RESTRICTED)
        items.append(Item(kind=entry.fields.kind, level=entry.fields.level, month=entry.fields.month))
    member = reads.member(question.recipient)
    kind = InstitutionKind(member.fields.kind) if member is not None else None
    return decide(found.fields.policy, question, tuple(items), kind, committed=committed(reads, question.consent))


def decide(
    policy: Policy,
    question: ConsentQuestion,
    items: tuple[Item, ...],
    kind: InstitutionKind | None,
    *,
    committed: int,
) -> Decision:
    """Decide by the policy alone: every item must be permitted, and period, budget, depth and cap must hold."""
    if not policy.begins <= question.begins <= question.until <= policy.ends or not items:
        return _denied(Refusal.WIDER_THAN_BASIS)
    if question.uses and committed + question.uses > policy.maximum:
        return _denied(Refusal.WIDER_THAN_BASIS)
    if question.level_cap > level_cap(policy):
        return _denied(Refusal.WIDER_THAN_BASIS)
    if question.depth > policy.depth:
        return _denied(Refusal.DEPTH_SPENT)
    matched = None
    for item in items:
        matched = _matched(policy, question, item, kind)
        if matched is None or provisions(policy)[matched].effect == Effect.DENY:
            return _denied(Refusal.WIDER_THAN_BASIS, matched)
    obligations = Obligations(access=policy.access, erase_by=policy.erase_by)
    return Decision(permit=True, matched_provision=matched, obligations=obligations, refusal=None)


def is_alive(found: Found[Consent], time: UnixMillis) -> bool:
    """Say whether a consent is ACTIVE and its period not over."""
    return found.state == ConsentState.ACTIVE and time <= found.fields.ends


def is_attested(reads: Reads, consent: CaseId, custodian: InstitutionId) -> bool:
    """Say whether a custodian attested a consent."""
    row = reads.register(Attestations, consent)
    return row is not None and custodian in row.custodians


def committed(reads: Reads, consent: CaseId) -> int:
    """Give how many deliveries of the consent's budget are taken."""
    row = reads.register(Holdings, consent)
    return row.committed if row is not None else 0


def _matched(policy: Policy, question: ConsentQuestion, item: Item, kind: InstitutionKind | None) -> int | None:
    base, *exceptions = provisions(policy)
    hits = [index for index, rule in enumerate(exceptions, 1) if _matches(rule, question, item, kind)]
    denies = [index for index in hits if exceptions[index - 1].effect == Effect.DENY]
    if denies:
        return denies[0]
    if hits:
        return hits[0]
    return 0 if _matches(base, question, item, kind) else None


def _matches(rule: Provision, question: ConsentQuestion, item: Item, kind: InstitutionKind | None) -> bool:
    anyone = not rule.recipients and not rule.recipient_kinds
    return (
        (anyone or question.recipient in rule.recipients or kind in rule.recipient_kinds)
        and _holds_for_role(rule, question.role)
        and (not rule.custodians or question.custodian in rule.custodians)
        and (not rule.purposes or question.purpose in rule.purposes)
        and (not rule.kinds or item.kind in rule.kinds)
        and rule.level_from <= item.level <= rule.level_to
        and rule.month_from <= item.month <= rule.month_to
        and _holds_in_period(rule, question)
    )


def _holds_for_role(rule: Provision, role: Role | None) -> bool:
    if role is None:
        return not rule.roles or rule.effect == Effect.PERMIT
    return not rule.roles or role in rule.roles


def _holds_in_period(rule: Provision, question: ConsentQuestion) -> bool:
    # a permit must hold all the time, a deny at any time of it
    if rule.effect == Effect.PERMIT:
        return rule.begins <= question.begins and question.until <= rule.ends
    return rule.begins <= question.until and question.begins <= rule.ends


def _denied(refusal: Refusal, matched: int | None = None) -> Decision:
    return Decision(permit=False, matched_provision=matched, obligations=None, refusal=refusal)

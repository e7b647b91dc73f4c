"""What an institution's node does once an entry is being erased: the custodian destroys, recipients answer.

Only what is destroyed is confirmed; every step looks at the ledger and the vault first, so it is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from yilian.engine.gateway import Signed
from yilian.ledger.cases import Found
from yilian.ledger.members import LIVING
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.values import CaseId, EntryId, InstitutionId, case_id, institution_id
from yilian.workflows.audit.questions import Questions
from yilian.workflows.catalog.destroying import destroy
from yilian.workflows.catalog.interface import ConfirmErased, EntryState, erasure
from yilian.workflows.catalog.model import Entry
from yilian.workflows.consent.copies import Copy, CopyAnswer, copy_id
from yilian.workflows.consent.keeping import settle_copies

DESTROY, ACCOUNT = "destroy", "account"


def kind_of(me: InstitutionId, entry: Entry, state: str) -> str | None:
    """Say which work an entry makes for an institution: DESTROY for its custodian, ACCOUNT for who may have copies."""
    if state not in {EntryState.ERASING, EntryState.ERASED}:
        return None
    if entry.custodian != me:
        return ACCOUNT
    return DESTROY if state == EntryState.ERASING else None


def recipients_of(node: Node, entry: EntryId) -> tuple[InstitutionId, ...]:
    """List the members that were delivered an entry, from the read model: whom `catalog.erase` has to name."""
    deliveries = Questions(node.index).deliveries(entry=entry)
    named = dict.fromkeys(institution_id(bytes.fromhex(one.recipient)) for one in deliveries)
    directory = node.engine.directory()
    return tuple(one for one in named if (member := directory.member(one)) is not None and member.state in LIVING)


def confirmation(host: Host, entry: Found[Entry]) -> Sequence[Signed]:
    """Destroy what the custodian holds of an entry, and give what confirms it; nothing where that is on record."""
    under_way = erasure(host.gateway.engine.reads(), entry.header.id)
    if entry.state != EntryState.ERASING or under_way is None or under_way.destroyed:
        return ()
    destroy(host, entry.header.id)
    draft = host.gateway.draft(ConfirmErased(), entry.header.id, version=entry.header.version)
    return (Signed(core=draft.core),)


def answer(node: Node, host: Host, entry: Found[Entry]) -> Sequence[Signed] | None:
    """Settle the copies that an institution has of an entry, and give its answer; None where it has to wait for it.

    Who neither was named nor has a copy owes nothing; the read model may be behind the ledger.
    """
    case = entry.header.id
    if host.gateway.find(Copy, copy_id(node.chain, case, host.id)) is not None:
        return ()
    copies = host.vault.releases.copies_of_entry(case)
    under_way = erasure(host.gateway.engine.reads(), case)
    if not copies and (under_way is None or host.id not in under_way.waiting):
        return ()
    uses = [copy.use_id for copy in copies] or _uses(node, host, case)
    if not uses:
        return None
    duty = settle_copies(host, host.kind, case)
    draft = host.gateway.draft(CopyAnswer(entry=case, duty=duty), refs=(uses[0],), version=0)
    return (Signed(core=draft.core),)


def _uses(node: Node, host: Host, entry: EntryId) -> list[CaseId]:
    deliveries = Questions(node.index).deliveries(entry=entry, recipient=host.id)
    return [case_id(bytes.fromhex(one.use)) for one in deliveries]

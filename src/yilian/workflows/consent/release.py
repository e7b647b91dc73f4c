"""The custodian's side of a release: messages M made, reservations answered (spec/release.md, Use).

Only the custodian knows whose records these are and which are of level 5, so only here can that be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from yilian.crypto.mask import new_mask
from yilian.engine.gateway import Signed
from yilian.errors import ConflictError, NotFoundError, Refused
from yilian.ledger.cases import Found
from yilian.ledger.results import Answer
from yilian.storage.vault.records import Record, RecordStatus
from yilian.storage.vault.releases import MessageMade, MessageStatus, NoteKind
from yilian.values import CaseId, EntryId, InstitutionId, UnixMillis, digest
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.consent.message import (
    MESSAGE_TAG,
    Item,
    Listed,
    Slip,
    Terms,
    encode_message,
    make_item,
    message_hash,
)
from yilian.workflows.consent.model import (
    LIVING,
    DeclineReason,
    Grant,
    GrantState,
    Refusal,
    Use,
    UseDecline,
    UseDeliver,
    UseState,
)
from yilian.workflows.consent.ports import ExchangeRequest, Institution

Beside = Callable[[Found[Use]], Sequence[Signed]]
"""Gives the operations that go into the envelope of a delivery, behind it."""

_OF_STATE = {
    GrantState.REVOKED: Refusal.GRANT_REVOKED,
    GrantState.REVOKED_EVERYWHERE: Refusal.GRANT_REVOKED,
    GrantState.EXPIRED: Refusal.GRANT_EXPIRED,
    GrantState.ENDED: Refusal.BASIS_NOT_ALIVE,
}


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """What only this custodian knows speaks against it."""

    reason: DeclineReason
    message: str


def check_party(custodian: Institution, recipient: InstitutionId, grant_id: CaseId) -> Found[Grant]:
    """Give a living grant over this custodian's records to this recipient.

    Raises:
        Refused: NO_GRANT, NOT_THE_RECIPIENT, GRANT_REVOKED, GRANT_EXPIRED or BASIS_NOT_ALIVE.
    """
    found = custodian.gateway.find(Grant, grant_id)
    if found is None or found.fields.custodian != custodian.id:
        raise _refused(Refusal.NO_GRANT, f"there is no grant {grant_id.hex()} over records of this custodian: ask it")
    if found.fields.recipient != recipient:
        raise _refused(
            Refusal.NOT_THE_RECIPIENT, f"grant {grant_id.hex()} is for another institution: ask for an own one"
        )
    if found.state not in LIVING:
        raise _refused(
            _OF_STATE[GrantState(found.state)], f"grant {grant_id.hex()} is {found.state}: ask for a new one"
        )
    return found


def prepare_message(
    custodian: Institution, recipient: InstitutionId, request: ExchangeRequest, now: UnixMillis
) -> bytes:
    """Make the signed message M for exactly these entries, this person and this one-time key; durable before it leaves.

    Nothing opens with it: the mask stays here until a use that names it stands in a block.

    Raises:
        Refused: no living grant of this recipient over these entries, with the number of the refusal.
        ConflictError: what only the custodian knows speaks against it; the message says the code.
    """
    grant = check_party(custodian, recipient, request.grant)
    for entry in request.entries:
        if entry not in grant.fields.entries or request.entries.count(entry) > 1:
            raise _refused(
                Refusal.NOT_IN_LIST,
                f"entry {entry.hex()} is not in grant {request.grant.hex()}, or named twice: drop it",
            )
    records = custodian.vault.records.find_many((*request.entries, *grant.fields.entries))
    declined = judge_records(custodian, grant, request.entries, records)
    if declined is not None:
        raise ConflictError(f"{declined.reason.value}: {declined.message}")
    terms = Terms(
        chain=custodian.gateway.engine.chain,
        custodian=custodian.id,
        recipient=recipient,
        person=request.person,
        grant=request.grant,
        one_time_key=request.one_time_key,
    )
    mask = new_mask()
    items = tuple(_item(custodian, terms, records[entry], mask) for entry in request.entries)
    signed = custodian.gateway.sign_document(encode_message(terms, custodian.gateway.key_id, items), MESSAGE_TAG)
    custodian.vault.releases.insert_message(
        MessageMade(
            h_m=message_hash(signed),
            mask=mask,
            grant=request.grant,
            recipient=recipient,
            person=request.person,
            entries=request.entries,
            one_time_key=request.one_time_key,
            made_at=now,
            status=MessageStatus.MADE,
        )
    )
    return signed


def judge_records(
    custodian: Institution, grant: Found[Grant], entries: Sequence[EntryId], records: dict[bytes, Record]
) -> Declined | None:
    """Judge what only the custodian knows: one patient, level 5, local stops. `records`: those of grant and entries."""
    grant_id, fields = grant.header.id, grant.fields
    bases = (grant_id, *fields.ancestors, *((fields.covered_by,) if fields.covered_by is not None else ()))
    if any(custodian.vault.releases.find_note(basis, NoteKind.STOP) is not None for basis in bases):
        return Declined(
            reason=DeclineReason.REVOCATION_RECEIVED, message="a revocation has arrived: ask for a new grant"
        )
    for entry in entries:
        record = records.get(entry)
        if record is None or not record.data_key or record.status != RecordStatus.PUBLISHED:
            return Declined(reason=DeclineReason.LOCAL_STOP, message=f"entry {entry.hex()} is not released any more")
    if len({record.subject_ref for record in records.values()}) != 1:
        return Declined(reason=DeclineReason.ANOTHER_PATIENT, message="the grant lists entries of several patients")
    if any(records[entry].level == 5 for entry in entries):
        leave = custodian.vault.releases.find_note(grant_id, NoteKind.LEVEL_FIVE_LEAVE)
        if leave is None:
            return Declined(
                reason=DeclineReason.LEVEL_FIVE, message="an entry is of level 5 and no leave is recorded: ask for it"
            )
    return None


def judge_reservation(custodian: Institution, use: Found[Use]) -> MessageMade | Declined:
    """Decide on a reservation that stands in a block: the message whose mask to publish, or why not.

    1. This custodian made the M with this hash. 2. It was for exactly this grant, these entries, this person and key.
    3. It was not delivered before. 4. What only the custodian knows still holds.
    """
    fields = use.fields
    made = custodian.vault.releases.find_message(fields.message)
    same = made is not None and (made.grant, made.recipient, made.person, made.entries, made.one_time_key) == (
        fields.grant,
        fields.recipient,
        fields.person,
        fields.entries,
        fields.one_time,
    )
    if made is None or not same:
        return Declined(reason=DeclineReason.MESSAGE_DIFFERS, message="no such message was made for this")
    fresh = made.status == MessageStatus.MADE or (
        made.status == MessageStatus.DELIVERING and made.use_id == use.header.id
    )
    if not fresh:
        return Declined(reason=DeclineReason.MESSAGE_DIFFERS, message="the message served another reservation already")
    grant = custodian.gateway.find(Grant, fields.grant)
    if grant is None:
        return Declined(reason=DeclineReason.MESSAGE_DIFFERS, message="there is no such grant")
    records = custodian.vault.records.find_many((*fields.entries, *grant.fields.entries))
    return judge_records(custodian, grant, fields.entries, records) or made


def answer_reservations(
    custodian: Institution, uses: Sequence[Found[Use]], now: UnixMillis, beside: Beside
) -> list[Answer]:
    """Deliver or decline reservations of own custody, in as few envelopes as there are; doing it again does nothing.

    What the lease of has passed is left alone: its mask is never sent.

    Raises:
        UnavailableError: the ledger did not answer; ask again, the state tells what became of it.
    """
    operations: list[Signed] = []
    deciding: list[tuple[Found[Use], MessageMade | Declined]] = []
    with custodian.vault.transaction():  # all that is noted before masks leave is durable in one step
        for use in uses:
            if use.fields.custodian != custodian.id or use.state != UseState.RESERVED or now >= use.fields.lease_end:
                continue
            decision = judge_reservation(custodian, use)
            deciding.append((use, decision))
            if isinstance(decision, Declined):
                operations.append(_draft(custodian, UseDecline(reason=decision.reason), use))
                continue
            delivering = msgspec.structs.replace(decision, status=MessageStatus.DELIVERING, use_id=use.header.id)
            custodian.vault.releases.put_message(delivering)
            operations.append(_draft(custodian, UseDeliver(mask=digest(decision.mask)), use))
            operations.extend(beside(use))
    if not operations:
        return []
    lease_end = min(use.fields.lease_end for use, _ in deciding)
    answers = custodian.gateway.send(operations, valid_until=lease_end)
    settle(custodian, [use.header.id for use, decision in deciding if _is_own(decision)], but=UseState.DELIVERED)
    return answers


def settle(custodian: Institution, uses: Sequence[CaseId], *, but: UseState | None = None) -> None:
    """Bring the own notes of messages up to what the ledger says of their uses; those in state `but` wait."""
    found = [use for use_id in uses if (use := custodian.gateway.find(Use, use_id)) is not None and use.state != but]
    if not found:
        return
    with custodian.vault.transaction():
        for use in found:
            made = custodian.vault.releases.find_message(use.fields.message)
            if made is None:
                continue
            ended = {
                UseState.RESERVED: made.status,
                UseState.DECLINED: MessageStatus.DECLINED,
                UseState.LAPSED: MessageStatus.LAPSED,
            }
            status = ended.get(UseState(use.state), MessageStatus.DELIVERED)
            noted = msgspec.structs.replace(made, status=status, use_id=use.header.id)
            custodian.vault.releases.put_message(noted)


def _is_own(decision: MessageMade | Declined) -> bool:
    """Say whether the message, if there is one, belongs to the reservation that was decided on."""
    return not (isinstance(decision, Declined) and decision.reason == DeclineReason.MESSAGE_DIFFERS)


def _item(custodian: Institution, terms: Terms, record: Record, mask: bytes) -> Item:
    entry = custodian.gateway.find(Entry, record.entry_id)
    if entry is None or entry.fields.root != record.root:
        raise NotFoundError(f"entry {record.entry_id.hex()} is not what the vault holds: run `yilian node check`")
    slip = Slip(
        salt=record.salt,
        level=record.level,
        sensitivity=record.sensitivity,
        content_type=record.content_type,
        true_size=record.true_size,
    )
    return make_item(terms, listed(entry), record.data_key, slip, mask=mask)


def listed(entry: Found[Entry]) -> Listed:
    """Give what the ledger says of an entry's bytes."""
    return Listed(entry=entry.header.id, root=entry.fields.root, commitment=entry.fields.commitment)


def _draft(custodian: Institution, command: UseDeliver | UseDecline, use: Found[Use]) -> Signed:
    draft = custodian.gateway.draft(command, use.header.id, version=use.header.version)
    return Signed(core=draft.core)


def _refused(number: Refusal, message: str) -> Refused:
    return Refused(number, message, workflow="consent")

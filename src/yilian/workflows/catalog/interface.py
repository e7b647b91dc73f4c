"""What other workflows may ask the catalogue, and the commands that they may send it."""

from __future__ import annotations

from yilian.crypto import tags
from yilian.ledger.cases import Found
from yilian.ledger.members import MemberState
from yilian.ledger.workflow import Call, Reads
from yilian.values import CaseId, Digest, EntryId, InstitutionId
from yilian.workflows.catalog.model import (
    RESTRICTED,
    Challenge,
    ChallengeState,
    ConfirmErased,
    Dispute,
    DisputeReason,
    Entry,
    EntryState,
    Erasure,
    ErasureBasis,
    Origin,
    Publish,
)

__all__ = [
    "RESTRICTED",
    "Challenge",
    "ChallengeState",
    "ConfirmErased",
    "Dispute",
    "DisputeReason",
    "Entry",
    "EntryState",
    "Erasure",
    "ErasureBasis",
    "Origin",
    "Publish",
    "challenge",
    "current",
    "entry",
    "entry_id",
    "erasure",
    "has_current_state",
    "is_available",
    "is_current",
    "is_erasing",
    "is_gone",
    "is_restricted",
]


def entry_id(call: Call, tag: Digest) -> EntryId:
    """Derive the id of the entry that the acting institution publishes under a tag; `case_id` of a `Publish` sent."""
    return tags.entry_id(call.chain, call.institution, tag)


def entry(reads: Reads, entry_id: EntryId) -> Found[Entry] | None:
    """Find an entry, whatever its state."""
    return reads.case(Entry, entry_id)


def current(reads: Reads, entry_id: EntryId) -> Found[Entry] | None:
    """Find an entry that is CURRENT, of a custodian neither REMOVED nor LEFT (its entries count as withdrawn)."""
    found = reads.case(Entry, entry_id)
    return found if found is not None and has_current_state(reads, found) else None


def is_current(reads: Reads, entry_id: EntryId) -> bool:
    """Say whether `current` finds the entry."""
    return current(reads, entry_id) is not None


def is_available(reads: Reads, entry_id: EntryId) -> bool:
    """Say whether an entry is current and not RESTRICTED: what a release on any basis but law and emergency needs."""
    found = current(reads, entry_id)
    return found is not None and not is_restricted(found)


def is_restricted(found: Found[Entry]) -> bool:
    """Say whether the patient's general no lies on an entry."""
    return RESTRICTED in found.header.flags


def has_current_state(reads: Reads, found: Found[Entry]) -> bool:
    """Say whether an entry already read is CURRENT, of a custodian neither REMOVED nor LEFT."""
    return found.state == EntryState.CURRENT and not is_gone(reads, found.fields.custodian)


def erasure(reads: Reads, entry_id: EntryId) -> Erasure | None:
    """Find how far the erasure of an entry is; None where none was decided."""
    return reads.register(Erasure, entry_id)


def is_erasing(reads: Reads, entry_id: EntryId) -> bool:
    """Say whether an entry is ERASING, so that `ConfirmErased` may be sent to it."""
    found = reads.case(Entry, entry_id)
    return found is not None and found.state == EntryState.ERASING


def challenge(reads: Reads, challenge_id: CaseId) -> Found[Challenge] | None:
    """Find a challenge."""
    return reads.case(Challenge, challenge_id)


def is_gone(reads: Reads, institution: InstitutionId) -> bool:
    """Say whether an institution is REMOVED or LEFT, or never was a member."""
    member = reads.member(institution)
    return member is None or member.state in (MemberState.REMOVED, MemberState.LEFT)

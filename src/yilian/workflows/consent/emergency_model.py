"""Emergency access (break-glass): states, fields, commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from yilian.ledger.cases import Case, Command, Part, Register
from yilian.values import CaseId, Digest, EntryId, InstitutionId, UnixMillis
from yilian.workflows.consent.model import Deliveries

MAX_REMEMBERED = 64


class EmergencyState(StrEnum):
    """States of an emergency access."""

    OPENED = "opened"
    AWAITING_COSIGNATURE = "awaiting_cosignature"
    EMERGENCY_ACTIVE = "emergency_active"
    NOT_MATCHED = "not_matched"
    AUTO_CLOSED = "auto_closed"
    CLOSED_UNUSED = "closed_unused"
    REVIEW_DUE = "review_due"
    JUSTIFIED = "justified"
    UNJUSTIFIED = "unjustified"


class EmergencyReason(StrEnum):
    """Why there is no time to ask; says nothing about the illness."""

    UNCONSCIOUS = "unconscious"
    NO_TIME = "no_time"
    CANNOT_SPEAK_FOR_SELF = "cannot_speak_for_self"
    PUBLIC_EMERGENCY = "public_emergency"


class NoMatchReason(StrEnum):
    """Why a custodian lists nothing."""

    UNKNOWN_PATIENT = "unknown_patient"
    NOTHING_HELD = "nothing_held"
    IDENTITY_UNCLEAR = "identity_unclear"
    LOCAL_STOP = "local_stop"


class Emergency(Case, frozen=True, kw_only=True):
    """An access without the patient's word, told to the patient and reviewed by others."""

    recipient: InstitutionId
    custodian: InstitutionId
    identity: Digest
    """Digest of the message, sealed to the custodian, that names the patient."""
    reason: EmergencyReason
    ends: UnixMillis
    """When it closes by comparison."""
    cosign_asked: bool
    """Whether a co-signature was asked for, by rule or by the custodian."""
    cosigner: InstitutionId | None
    grant: CaseId | None
    no_match: NoMatchReason | None
    notify_by: UnixMillis
    """Until when the custodian owes the patient word, else 0."""
    notice: Digest | None
    """Commitment of what the patient was told."""
    review_by: UnixMillis
    """Until when the review is due, else 0."""
    finding: Digest | None
    reviewer: InstitutionId | None


class Unreviewed(Part, frozen=True, kw_only=True):
    """An emergency that counts against its opener until it is reviewed or its review is overdue."""

    id: CaseId
    review_by: UnixMillis


class EmergencyRecord(Register, frozen=True, kw_only=True):
    """What decides whether an institution's next emergency needs a co-signature; one row an institution."""

    word: ClassVar[str] = "emergencies"

    unreviewed: Annotated[tuple[Unreviewed, ...], Meta(max_length=MAX_REMEMBERED)]
    """The newest ones."""
    unjustified: UnixMillis
    """When the last one was found UNJUSTIFIED, else 0."""


class EmergencyOpen(Command, frozen=True, kw_only=True):
    """Ask one custodian for a patient's records without the patient's word, for `lasts` milliseconds."""

    custodian: InstitutionId
    identity: Digest
    reason: EmergencyReason
    lasts: Annotated[int, Meta(ge=60_000, le=2**53)]


class EmergencyAskCosignature(Command, frozen=True, kw_only=True):
    """Ask for a co-signature, once: what only the custodian knows is of level 5."""


class EmergencyCosign(Command, frozen=True, kw_only=True):
    """Stand for the emergency as a physician under another operator."""


class EmergencyMatch(Command, frozen=True, kw_only=True):
    """List one's own entries of the patient, and so grant them until the emergency ends."""

    entries: Annotated[tuple[EntryId, ...], Meta(min_length=1, max_length=20)]
    deliveries: Deliveries


class EmergencyDecline(Command, frozen=True, kw_only=True):
    """List nothing, and say why."""

    reason: NoMatchReason


class EmergencyClose(Command, frozen=True, kw_only=True):
    """Close it as the one who opened it."""


class EmergencyExpire(Command, frozen=True, kw_only=True):
    """Make it visible that its time is over."""


class EmergencyNotify(Command, frozen=True, kw_only=True):
    """Say that the patient was told: commitment of the words."""

    notice: Digest


class EmergencyJudge(Command, frozen=True, kw_only=True):
    """Review it: justified or not, with the commitment of the finding."""

    justified: bool
    finding: Digest

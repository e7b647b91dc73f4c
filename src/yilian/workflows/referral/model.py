"""What a referral is: its states, fields, commands, refusals and parameters."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from yilian.ledger.cases import Case, Command, Patient
from yilian.ledger.workflow import ParameterSpec, RefusalCode
from yilian.values import DAY, HOUR, CaseId, Day, Digest, EntryId, InstitutionId, Natural, UnixMillis, Word
from yilian.workflows.catalog.interface import Publish

MAX_RECORDS = 31
"""Beside the request: both together fit one challenge and one grant of 32 entries."""

Records = Annotated[tuple[EntryId, ...], Meta(min_length=1, max_length=MAX_RECORDS)]
Deliveries = Annotated[int, Meta(ge=1, le=10_000)]
"""N of a grant; each entry of each use counts one."""


class State(StrEnum):
    """Where the referral stands; who must act next follows from it."""

    REQUESTED = "requested"
    VERIFIED = "verified"
    DEFECTIVE = "defective"
    RECEIVED = "received"
    NEED_INFO = "need_info"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SCHEDULED = "scheduled"
    IN_CARE = "in_care"
    NO_SHOW = "no_show"
    COMPLETED = "completed"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


BEFORE_CARE = (
    State.REQUESTED,
    State.VERIFIED,
    State.RECEIVED,
    State.NEED_INFO,
    State.ACCEPTED,
    State.SCHEDULED,
)
"""REQUESTED to SCHEDULED: the states in which the referral may be cancelled or lapse."""


class Flag(StrEnum):
    """What a referral's header says beside its state (OVERDUE is the kernel's)."""

    RESULT_WITHHELD = "RESULT_WITHHELD"
    """Completed without a grant to the referrer: no consent covers the result."""
    UNANSWERED = "UNANSWERED"
    """The time in care is over without a result."""
    UNREAD = "UNREAD"
    """The referrer did not acknowledge the result."""


class Direction(StrEnum):
    """Where the patient goes, by the grades of both institutions."""

    UP = "up"
    DOWN = "down"
    SAME = "same"


class Urgency(StrEnum):
    """How soon the receiver must decide."""

    EMERGENCY = "emergency"
    URGENT = "urgent"
    ROUTINE = "routine"


class RejectReason(StrEnum):
    """Why a receiver does not take the patient."""

    NO_BED = "no_bed"
    OUT_OF_SCOPE = "out_of_scope"
    DUPLICATE = "duplicate"
    PATIENT_REFUSED = "patient_refused"
    INSUFFICIENT_DATA = "insufficient_data"


class CancelReason(StrEnum):
    """Why the referrer or the patient takes the request back; says nothing about health."""

    PATIENT_REFUSED = "patient_refused"
    NO_LONGER_NEEDED = "no_longer_needed"
    OTHER_RECEIVER = "other_receiver"
    DUPLICATE = "duplicate"
    MADE_IN_ERROR = "made_in_error"


class Missing(StrEnum):
    """What a receiver needs before it can decide."""

    OUTPATIENT_RECORD = "outpatient_record"
    INPATIENT_RECORD = "inpatient_record"
    EXAMINATION_REPORT = "examination_report"
    LABORATORY_REPORT = "laboratory_report"
    IMAGING = "imaging"
    MEDICATION = "medication"
    PURPOSE = "purpose"


class Referral(Case, frozen=True, kw_only=True):
    """One patient's way from one institution to another: the ledger's part of it.

    Identity, ServiceRequest, summary, specialty and screening class lie sealed in the `request`.
    """

    referrer: InstitutionId
    receiver: InstitutionId
    direction: Direction
    urgency: Urgency
    level: Annotated[int, Meta(ge=1, le=4)]
    """Highest level of request and records."""
    request: EntryId
    """What the receiver needs to decide; the referrer's entry."""
    records: Records
    """The referrer's own entries that go along."""
    consent: CaseId
    deliveries: Deliveries
    """N of the grant over the records, fixed by their custodian."""
    view_until: UnixMillis
    """End of view: the grants over request and records hold until then."""
    predecessor: CaseId | None
    deadline: UnixMillis
    """Until when the next step is possible: decision, visit, result; afterwards `referral.expire` remains."""
    visit_ends: UnixMillis
    """Last millisecond of the day of the appointment at UTC+8; 0 without one."""
    reschedules: Natural
    missing: Annotated[tuple[Missing, ...], Meta(max_length=8)]
    """What the receiver last asked for; empty once it is supplied."""
    grants: Annotated[tuple[CaseId, ...], Meta(max_length=3)]
    """Grants that this case issued, in this order: over the request, over the records, over the result."""
    result: EntryId | None
    acknowledge_by: UnixMillis
    """Until when the referrer should have read the result; 0 before there is one."""
    reason: Word | None
    """Why it was rejected or cancelled: a `RejectReason` or a `CancelReason`."""


class Create(Command, frozen=True, kw_only=True):
    """Ask another institution to take a patient, with the records that its doctor needs."""

    receiver: InstitutionId
    direction: Direction
    urgency: Urgency
    request: EntryId
    records: Records
    consent: CaseId
    deliveries: Deliveries
    view_until: UnixMillis
    patient: Patient
    """Of this case alone: a fresh case key, or the home that holds the paper."""


class OpenDown(Command, frozen=True, kw_only=True):
    """Open the follow-up of a completed referral; only as the consequence of `referral.refer_down`."""

    new: Create
    predecessor: CaseId


class Verify(Command, frozen=True, kw_only=True):
    """Say what the receiver's challenges over request and records showed; names them as refs."""


class Receive(Command, frozen=True, kw_only=True):
    """Confirm that the request has arrived; opens the request to the receiver's physicians."""


class Accept(Command, frozen=True, kw_only=True):
    """Take the patient; opens the records to the receiver's physicians."""


class Reject(Command, frozen=True, kw_only=True):
    """Do not take the patient."""

    reason: RejectReason | None


class Ask(Command, frozen=True, kw_only=True):
    """Ask the referrer for what is missing; the time limit keeps running."""

    missing: Annotated[tuple[Missing, ...], Meta(max_length=8)]


class Supply(Command, frozen=True, kw_only=True):
    """Add records that were asked for, and drop others; the receiver verifies anew."""

    add: Annotated[tuple[EntryId, ...], Meta(max_length=MAX_RECORDS)]
    drop: Annotated[tuple[EntryId, ...], Meta(max_length=MAX_RECORDS)]


class Schedule(Command, frozen=True, kw_only=True):
    """Give the day of the appointment; the hour goes to the patient off the ledger."""

    day: Day


class Reschedule(Command, frozen=True, kw_only=True):
    """Move the appointment to another day."""

    day: Day


class Arrive(Command, frozen=True, kw_only=True):
    """Say that the patient is here."""


class NoShow(Command, frozen=True, kw_only=True):
    """Say that the patient did not come on the day of the appointment."""


class Complete(Command, frozen=True, kw_only=True):
    """Give the result back to the referrer.

    `deliveries` and `view_until` are those of the grant over the result, fixed by its custodian, the receiver.
    """

    result: EntryId | None
    deliveries: Deliveries
    view_until: UnixMillis
    publish: Publish | None
    """The result's own publication, carried inside; only while the receiver is suspended."""


class Acknowledge(Command, frozen=True, kw_only=True):
    """Say that the referrer's physician has read the result; names the confirmed use of it as ref."""


class ReferDown(Command, frozen=True, kw_only=True):
    """Send the patient on for follow-up care and close this case."""

    new: Create


class Cancel(Command, frozen=True, kw_only=True):
    """Take the request back."""

    reason: CancelReason | None
    paper: Digest | None
    """Commitment of the scanned wish; mandatory where a home speaks for the patient."""


class Expire(Command, frozen=True, kw_only=True):
    """Make visible that the time is over."""


class Refusal(RefusalCode):
    """Why a step of a referral is refused; numbers are frozen."""

    RECORD_NOT_CURRENT = 1
    NOT_YOUR_RECORD = 2
    RELATION_NOT_ALLOWED = 3
    DIRECTION_WRONG = 4
    NO_TREATMENT_BASIS = 5
    REASON_MISSING = 6
    NOTHING_NEW_SUPPLIED = 7
    CHALLENGE_MISSING = 8
    RESULT_MISSING = 9
    RESULT_NOT_READ = 10
    TOO_MANY_RESCHEDULES = 11
    PATIENT_NOT_NAMED = 12
    LISTED_TWICE = 13
    TOO_MANY_RECORDS = 14
    DAY_PAST = 15


LONGEST = 3_660 * DAY
"""Longest time of a step: so no time that follows from one leaves its 64 bits."""
PARAMETERS = (
    ParameterSpec(name="referral.lapse_emergency", number=2 * HOUR, least=1, most=LONGEST),
    ParameterSpec(name="referral.lapse_urgent", number=24 * HOUR, least=1, most=LONGEST),
    ParameterSpec(name="referral.lapse_routine", number=7 * DAY, least=1, most=LONGEST),
    ParameterSpec(name="referral.visit", number=30 * DAY, least=1, most=LONGEST),
    ParameterSpec(name="referral.care", number=90 * DAY, least=1, most=LONGEST),
    ParameterSpec(name="referral.acknowledge", number=3 * DAY, least=1, most=LONGEST),
    ParameterSpec(name="referral.unread", number=30 * DAY, least=1, most=LONGEST),
    ParameterSpec(name="referral.request_deliveries", number=2, least=1, most=10_000),
    ParameterSpec(name="referral.reschedules", number=3, most=1_000),
    ParameterSpec(name="referral.relations", may_be_empty=True),
    ParameterSpec(name="referral.grades", words=("primary", "secondary", "tertiary")),
    ParameterSpec(name="referral.result_classes", words=("C0045", "C0053")),
)
"""Times in milliseconds.

`relations`: allowed pairs `from:to` of kinds of institution, such as `community_centre:hospital`; empty = all.
`grades`: grades of members from the lowest to the highest; one outside the list has no rank, so any direction fits it.
`result_classes`: WS/T 500 classes of a result (consultation note, discharge summary) that the consent must cover from
the start; empty = none.
"""

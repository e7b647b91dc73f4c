"""Consents, grants and uses: states, fields, commands, refusals. Source: spec/release.md, Use.

The tables stand in `tables.py`, parameters in `parameters.py`, the policy in `policy.py`, emergencies in
`emergency_model.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from yilian.ledger.cases import Case, Command, Part, Patient, Register
from yilian.ledger.members import Role
from yilian.ledger.workflow import RefusalCode
from yilian.values import (
    CaseId,
    Digest,
    EntryId,
    InstitutionId,
    KeyId,
    Natural,
    PublicKey,
    UnixMillis,
    Word,
)
from yilian.workflows.catalog.interface import DisputeReason
from yilian.workflows.consent.policy import Level, Policy, Purpose

MAX_LIVING, MAX_ATTESTATIONS, MAX_DEPTH = 64, 16, 3
RESTRICTED = "RESTRICTED"
"""Flag of a grant or use by law or emergency that reaches past the patient's general no; the patient is told."""

Entries = Annotated[tuple[EntryId, ...], Meta(min_length=1, max_length=32)]
Deliveries = Annotated[int, Meta(ge=1, le=10_000)]
"""N of a grant; each entry of each use counts one."""
Depth = Annotated[int, Meta(ge=0, le=MAX_DEPTH)]


class ConsentState(StrEnum):
    """States of a consent."""

    PROPOSED = "proposed"
    ACTIVE = "active"
    REJECTED = "rejected"
    EXPIRED = "expired"
    INACTIVE = "inactive"
    REVOKED = "revoked"


class GrantState(StrEnum):
    """States of a grant; EXHAUSTED is not the end: a delivery given back reopens it."""

    ISSUED = "issued"
    SUSPENDED = "suspended"
    EXHAUSTED = "exhausted"
    REVOKED = "revoked"
    ENDED = "ended"
    EXPIRED = "expired"
    REVOKED_EVERYWHERE = "revoked_everywhere"


LIVING = (GrantState.ISSUED, GrantState.SUSPENDED, GrantState.EXHAUSTED)


class UseState(StrEnum):
    """States of a use."""

    RESERVED = "reserved"
    DELIVERED = "delivered"
    RELEASED = "released"
    DECLINED = "declined"
    LAPSED = "lapsed"
    CONFIRMED = "confirmed"
    DISPUTED = "disputed"
    FORGIVEN = "forgiven"


class Basis(StrEnum):
    """The lawful basis of a grant; it says who may issue it and for which purposes."""

    CONSENT = "CONSENT"
    TREATMENT = "TREATMENT"
    DISPENSING = "DISPENSING"
    REUSE = "REUSE"
    CLAIM = "CLAIM"
    RESEARCH = "RESEARCH"
    TRIAL = "TRIAL"
    STATUTORY = "STATUTORY"
    EMERGENCY = "EMERGENCY"


class SuspendReason(StrEnum):
    """Why a grant is halted."""

    DISPUTE = "dispute"
    SUSPECTED_MISUSE = "suspected_misuse"
    PATIENT_REQUEST = "patient_request"


class DeclineReason(StrEnum):
    """Why a custodian does not deliver what only it can judge."""

    ANOTHER_PATIENT = "another_patient"
    LEVEL_FIVE = "level_five"
    LOCAL_STOP = "local_stop"
    REVOCATION_RECEIVED = "revocation_received"
    MESSAGE_DIFFERS = "message_differs"
    OFFLINE = "offline"


class Copies(StrEnum):
    """What an acknowledgement of a revocation says: the first is the custodian's, the others the recipient's."""

    DELIVERIES_STOPPED = "deliveries_stopped"
    NO_COPY = "no_copy"
    ERASED = "erased"
    KEPT_UNDER_DUTY = "kept_under_duty"


class Refusal(RefusalCode):
    """Refusals of consent; numbers are frozen. The first six are judged in this order."""

    NO_GRANT = 1
    NOT_THE_RECIPIENT = 2
    GRANT_REVOKED = 3
    GRANT_EXPIRED = 4
    GRANT_SUSPENDED = 5
    DELIVERIES_SPENT = 6
    BASIS_NOT_ALIVE = 7
    NOT_ATTESTED = 8
    NOT_THE_CUSTODIAN = 9
    ENTRY_NOT_CURRENT = 10
    ENTRY_RESTRICTED = 11
    NOT_IN_LIST = 12
    WIDER_THAN_BASIS = 13
    WIDER_THAN_PARENT = 14
    NOT_NARROWER = 15
    CUSTODIAL_CAP = 16
    DEPTH_SPENT = 17
    LEVEL_TOO_HIGH = 18
    PURPOSE_DIFFERS = 19
    NOT_THE_PATIENT = 20
    TEXT_CHANGED = 21
    WITNESS_MISSING = 22
    SELF_REVIEW = 23
    SAME_OPERATOR = 24
    COSIGNED_ALREADY = 25
    # not in the list of chapter 3.8: what its guards name without a number
    POLICY_MALFORMED = 26
    TREE_FULL = 27
    NOT_WHO_SUSPENDED = 28
    PERIOD_TOO_LONG = 29
    NOT_BEING_ERASED = 30


# ---------------------------------------------------------------------------------------------------------------- cases


class Consent(Case, frozen=True, kw_only=True):
    """A patient's policy. The header names who speaks for the patient: a case key, or a home."""

    institution: InstitutionId
    """Who proposed it."""
    text: Digest
    """Digest of the text shown to the patient."""
    language: Word
    policy_uri: Digest
    """Digest of the URI of the policy that the text follows."""
    policy: Policy
    replaces: CaseId | None
    """The consent that becomes INACTIVE once this one is signed."""
    lapse: UnixMillis
    """Until when it may be signed."""
    ends: UnixMillis
    """End of the policy's period."""
    paper: Digest | None
    """Commitment of the witnessed scan; None where the patient's own key signed."""
    paper_entry: EntryId | None
    """The home's entry with that commitment."""
    signed: UnixMillis
    """When it was signed, else 0."""


class Suspender(Part, frozen=True, kw_only=True):
    """Who halted a grant, and so may let it go on: a role, and of officers their institution."""

    role: Role
    institution: InstitutionId | None


class Grant(Case, frozen=True, kw_only=True):
    """A list of entries of one custodian, for one recipient and one purpose. Its counts are a `Counters` row."""

    basis: Basis
    covered_by: CaseId | None
    """The consent that it relies on; None for STATUTORY and EMERGENCY alone."""
    custodian: InstitutionId
    recipient: InstitutionId
    issuer: InstitutionId
    """The custodian, or the recipient of the parent: may take it back."""
    purpose: Purpose
    entries: Entries
    level_cap: Level
    begins: UnixMillis
    ends: UnixMillis
    depth: Depth
    """How many times it may still be passed on."""
    ancestors: Annotated[tuple[CaseId, ...], Meta(max_length=MAX_DEPTH)]
    """The parent first, the root last; empty for a root."""
    suspender: Suspender | None
    suspend_reason: SuspendReason | None
    acknowledge_by: UnixMillis
    """Until when custodian and recipient owe an acknowledgement of the revocation, else 0."""
    stopped: UnixMillis
    """When the custodian acknowledged, else 0."""
    copies: Copies | None
    """What the recipient stated about its copies."""


class Use(Case, frozen=True, kw_only=True):
    """One reservation, and what became of it (spec/release.md, Use)."""

    grant: CaseId
    custodian: InstitutionId
    recipient: InstitutionId
    person: KeyId
    """Key of the person who asked."""
    role: Role
    entries: Entries
    purpose: Purpose
    one_time: PublicKey
    """Public half of the recipient's one-time key."""
    message: Digest
    """H(M): the recipient says that it holds the ciphertext and M."""
    lease_end: UnixMillis
    mask: Digest | None
    """The last part of the key; public once delivered."""
    first_number: Natural
    """Number of the first of its deliveries under the grant, counted from 1; 0 before delivery."""
    allowed: Natural
    """N of the grant at delivery."""
    forgiven: Natural
    """Deliveries forgiven so far under the grant, at delivery."""
    delivered: UnixMillis
    """When it was delivered, else 0."""
    dispute_until: UnixMillis
    """End of the window to confirm or dispute, else 0."""
    failed_guard: Natural
    """Of a RELEASED use: the refusal that a reservation would have met, LEASE_OVER or CUSTODIAN_SUSPENDED; else 0."""
    declined: DeclineReason | None
    disputed: Annotated[tuple[EntryId, ...], Meta(max_length=32)]
    dispute_reason: DisputeReason | None


LEASE_OVER, CUSTODIAN_SUSPENDED = 1001, 1002
"""Values of `Use.failed_guard` beside refusal numbers: the lease was over, the custodian was suspended."""


# ------------------------------------------------------------------------------------------------------------ registers


class Attestations(Register, frozen=True, kw_only=True):
    """Custodians that attested a consent; one row a consent."""

    word: ClassVar[str] = "attestations"

    custodians: Annotated[tuple[InstitutionId, ...], Meta(max_length=MAX_ATTESTATIONS)]


class LivingGrant(Part, frozen=True, kw_only=True):
    """A living grant and its parent."""

    id: CaseId
    parent: CaseId | None


class Holdings(Register, frozen=True, kw_only=True):
    """What lives under a consent, parents before children, and how much of its budget is taken; one row a consent."""

    word: ClassVar[str] = "holdings"

    living: Annotated[tuple[LivingGrant, ...], Meta(max_length=MAX_LIVING)]
    committed: Natural
    """Σ N of living roots + what ended roots did not give back."""


class Counters(Register, frozen=True, kw_only=True):
    """Counts of one grant; they change in every state of the grant. `available` = n − used."""

    word: ClassVar[str] = "counters"

    n: Natural
    reserved: Natural
    delivered: Natural
    """Masks published; numbers of deliveries are given from it and never reused."""
    forgiven: Natural
    delegated: Natural
    """Σ n of living children + Σ used of ended ones."""


# ------------------------------------------------------------------------------------------------------------- commands


class Propose(Command, frozen=True, kw_only=True):
    """Put a policy to the patient. A successor (`replaces`) names the same patient key or home."""

    patient: Patient
    text: Digest
    language: Word
    policy_uri: Digest
    policy: Policy
    replaces: CaseId | None


class Sign(Command, frozen=True, kw_only=True):
    """Agree to exactly this text. A home names the scan's commitment and its entry."""

    text: Digest
    paper: Digest | None
    paper_entry: EntryId | None


class Reject(Command, frozen=True, kw_only=True):
    """Say no to a proposal."""

    paper: Digest | None


class Attest(Command, frozen=True, kw_only=True):
    """Say as a custodian: this key, or this home, speaks for the subject of entries of mine."""


class Amend(Command, frozen=True, kw_only=True):
    """Narrow the policy; every grant that relies on it is narrowed or revoked."""

    policy: Policy
    paper: Digest | None


class Revoke(Command, frozen=True, kw_only=True):
    """Take the consent back, and with it every grant that relies on it."""

    paper: Digest | None


class Expire(Command, frozen=True, kw_only=True):
    """Make it visible that the time to sign, or the period, is over."""


class Supersede(Command, frozen=True, kw_only=True):
    """End a consent whose successor was signed; sent by `consent.sign` alone."""


class GrantTerms(Command, frozen=True, kw_only=True):
    """What a grant allows; see `Grant`. `deliveries` is N."""

    basis: Basis
    covered_by: CaseId | None
    recipient: InstitutionId
    purpose: Purpose
    entries: Entries
    level_cap: Level
    begins: UnixMillis
    ends: UnixMillis
    deliveries: Deliveries
    depth: Depth


class GrantIssue(GrantTerms, frozen=True, kw_only=True):
    """Grant entries of one's own: on a consent, or on an inspection that the refs name."""


class IssueGrant(GrantTerms, frozen=True, kw_only=True):
    """Grant as a consequence of a step over records that their custodian listed itself."""


class GrantDelegate(Command, frozen=True, kw_only=True):
    """Pass a part on: the child lies within this grant, its deliveries are taken from those still available."""

    recipient: InstitutionId
    purpose: Purpose
    entries: Entries
    level_cap: Level
    begins: UnixMillis
    ends: UnixMillis
    deliveries: Deliveries
    depth: Depth


class OpenChild(GrantDelegate, frozen=True, kw_only=True):
    """Open the child of a grant; sent by `grant.delegate` alone."""

    parent: CaseId


class GrantSuspend(Command, frozen=True, kw_only=True):
    """Halt a grant: no reservation until whoever halted it lets it go on."""

    reason: SuspendReason
    paper: Digest | None


class GrantResume(Command, frozen=True, kw_only=True):
    """Let a halted grant go on."""

    paper: Digest | None


class GrantRevoke(Command, frozen=True, kw_only=True):
    """Take a grant back, and all that was passed on from it."""

    paper: Digest | None


class EndGrant(Command, frozen=True, kw_only=True):
    """End a living grant, and all that was passed on from it: its basis is over."""


class GrantExpire(Command, frozen=True, kw_only=True):
    """Make it visible that the period of a grant is over; what it did not use returns."""


class GrantNarrow(Command, frozen=True, kw_only=True):
    """Leave this much of a grant, no entries: revoke it; sent by `consent.amend` alone."""

    entries: Annotated[tuple[EntryId, ...], Meta(max_length=32)]
    level_cap: Level
    begins: UnixMillis
    ends: UnixMillis
    depth: Depth


class GrantExhaust(Command, frozen=True, kw_only=True):
    """Mark that nothing is available and nothing reserved; sent by `use.deliver` alone."""


class GrantReopen(Command, frozen=True, kw_only=True):
    """Mark that something is available again; sent by the step that gave it back."""


class GrantAcknowledge(Command, frozen=True, kw_only=True):
    """Say as custodian that deliveries are stopped, as recipient what became of the copies."""

    copies: Copies


class UseReserve(Command, frozen=True, kw_only=True):
    """Ask for deliveries: "I hold the ciphertext and M". Each entry counts one."""

    grant: CaseId
    purpose: Purpose
    entries: Entries
    one_time: PublicKey
    message: Digest


class UseDeliver(Command, frozen=True, kw_only=True):
    """Publish the mask: the ledger itself delivers. Never refused on a RESERVED use."""

    mask: Digest


class UseDecline(Command, frozen=True, kw_only=True):
    """Refuse to deliver; the deliveries return."""

    reason: DeclineReason


class UseExpire(Command, frozen=True, kw_only=True):
    """Make it visible that the lease is over; the deliveries return."""


class UseConfirm(Command, frozen=True, kw_only=True):
    """Say that the records opened, and that `key_check` and commitment hold."""


class UseDispute(Command, frozen=True, kw_only=True):
    """Say that some of the delivered entries are wrong; the deliveries stay counted."""

    entries: Entries
    reason: DisputeReason


class UseForgive(Command, frozen=True, kw_only=True):
    """Give the deliveries back, as the custodian."""

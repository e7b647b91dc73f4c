"""Disclosure pairs, inspections, papers of custodial signatures: states, fields, commands. Source: chapter 4."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from yilian.ledger.cases import Case, Command, Register
from yilian.ledger.workflow import ParameterSpec, RefusalCode
from yilian.values import (
    DAY,
    HOUR,
    MINUTE,
    CaseId,
    Day,
    Digest,
    EntryId,
    InstitutionId,
    KeyId,
    Natural,
    UnixMillis,
    Word,
)

WAS_ONE_SIDED = "WAS_ONE_SIDED"
"""Flag of a disclosure pair: one event was missing when the time was over; stays when the other comes late."""

EVIDENCE_AGE = "audit.evidence_age"
"""How old the newest cosigned checkpoint may be (ms) for a node to release records; 0: any age."""

MAX_CONTENT = 256
Content = Annotated[tuple[EntryId, ...], Meta(min_length=1, max_length=64)]
NamedGrants = Annotated[tuple[CaseId, ...], Meta(max_length=64)]
"""Grants that custodians issued on this inspection; the ending command names them."""


class DisclosureState(StrEnum):
    """States of a disclosure pair."""

    SENT = "sent"
    RECEIVED = "received"
    MATCHED = "matched"
    ONE_SIDED = "one_sided"
    EXPLAINED = "explained"
    SETTLED = "settled"
    BREACH = "breach"


class InspectionState(StrEnum):
    """States of an inspection."""

    OPENED = "opened"
    SCOPE_APPROVED = "scope_approved"
    CANCELLED = "cancelled"
    EVIDENCE_EXPORTED = "evidence_exported"
    FINDING = "finding"
    REMEDIATION_DUE = "remediation_due"
    REMEDIED = "remedied"
    CLOSED = "closed"


class PaperState(StrEnum):
    """States of a check of the paper behind a custodial signature."""

    REQUESTED = "requested"
    OPENED = "opened"
    MATCHED = "matched"
    BREACH = "breach"
    UNCHECKED = "unchecked"


class Explanation(StrEnum):
    """Why a side of a disclosure was silent."""

    NODE_DOWN = "node_down"
    EVENT_LOST = "event_lost"
    NOT_RECEIVED = "not_received"
    NOT_SENT = "not_sent"


class Severity(StrEnum):
    """How grave a finding is."""

    NONE = "none"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class CancelReason(StrEnum):
    """Why an inspection ended before its evidence."""

    MISTAKE = "mistake"
    SCOPE_REFUSED = "scope_refused"
    NO_LONGER_NEEDED = "no_longer_needed"


class Verdict(StrEnum):
    """What the auditor saw on the paper: it equals the commitment, is signed and witnessed, or not."""

    MATCHES = "matches"
    OTHER_PAPER = "other_paper"
    NOT_SIGNED = "not_signed"
    NOT_WITNESSED = "not_witnessed"


class Refusal(RefusalCode):
    """Refusals of audit; numbers are frozen."""

    NOT_A_PARTY = 1
    PAIR_MISMATCH = 2
    EVENT_THERE_ALREADY = 3
    OUTSIDE_SCOPE = 4
    NOT_CUSTODIAL = 5
    PERIOD_REVERSED = 6
    DATE_PASSED = 7
    NOT_ITS_GRANT = 8
    TOO_MUCH_CONTENT = 9
    STATEMENT_EXISTS = 10
    STATEMENT_NOT_CONTINUED = 11
    DAY_NOT_OVER = 12
    NOT_OF_THIS_DAY = 13
    NUMBERS_NOT_ASSIGNED = 14
    EVIDENCE_TOO_OLD = 15


class Disclosure(Case, frozen=True, kw_only=True):
    """One use as both sides have it on record; its id follows from the use, so either side may come first."""

    use: CaseId
    source: InstitutionId
    recipient: InstitutionId
    first: InstitutionId
    """The side that came first."""
    second: InstitutionId
    """The side whose event is, or was, still missing."""
    complete_by: UnixMillis
    source_event: Digest | None = None
    """Commitment of the BALP event of the privacy disclosure at its source."""
    recipient_event: Digest | None = None
    """Commitment of the BALP event of the privacy disclosure at its recipient."""
    source_number: Natural = 0
    """Place of the event in its institution's own sequence, from 1; 0 without event."""
    recipient_number: Natural = 0
    explain_by: UnixMillis = 0  # type: ignore[assignment]  # zero, where never one-sided
    explanation: Explanation | None = None
    evidence: Digest | None = None


class Sequence(Register, frozen=True, kw_only=True):
    """The last number of one institution's disclosure events; the ledger assigns them, so that no race loses one."""

    word: ClassVar[str] = "sequence"

    last: Natural


class Inspection(Case, frozen=True, kw_only=True):
    """What a regulator looks at, on which basis and within which scope, and what came of it."""

    regulator: InstitutionId
    opener: KeyId
    legal_basis: Word
    institutions: Annotated[tuple[InstitutionId, ...], Meta(min_length=1, max_length=16)]
    period_from: Day
    period_to: Day
    question: Digest
    """Commitment of the question."""
    approver: KeyId | None = None
    content: Annotated[tuple[EntryId, ...], Meta(max_length=MAX_CONTENT)] = ()
    """Entries asked for so far; each custodian answers with a STATUTORY grant."""
    asker: InstitutionId | None = None
    """Who asked for content last: the recipient of the grants."""
    content_by: UnixMillis = 0  # type: ignore[assignment]  # zero, where no content was asked for
    manifest: Digest | None = None
    finding: Digest | None = None
    severity: Severity | None = None
    remedy_by: UnixMillis = 0  # type: ignore[assignment]  # zero, where nothing was demanded
    remedied_by: InstitutionId | None = None
    remedy: Digest | None = None


class Paper(Case, frozen=True, kw_only=True):
    """A sample: does the paper behind a home's signature exist, and is it what the home committed to?"""

    asker: InstitutionId
    home: InstitutionId
    consent: CaseId
    paper: Digest
    """Commitment of the scan, from the consent."""
    entry: EntryId
    """The home's entry with that commitment."""
    deadline: UnixMillis
    """End of the time to open, then to judge."""
    grant: CaseId | None = None
    verdict: Verdict | None = None


class DisclosureSent(Command, frozen=True, kw_only=True):
    """Commit to the source's own event of a use; the operation names the use as its ref."""

    event: Digest


class DisclosureReceived(Command, frozen=True, kw_only=True):
    """Commit to the recipient's own event of a use; the operation names the use as its ref."""

    event: Digest


class DisclosureExpire(Command, frozen=True, kw_only=True):
    """Raise the alert: one event is missing and the time is over."""


class DisclosureExplain(Command, frozen=True, kw_only=True):
    """Say why the own event is missing."""

    reason: Explanation
    evidence: Digest


class DisclosureAccept(Command, frozen=True, kw_only=True):
    """Take the explanation."""


class DisclosureObject(Command, frozen=True, kw_only=True):
    """Refuse the explanation."""


class DisclosureDeclareBreach(Command, frozen=True, kw_only=True):
    """Call it a breach: the explanation is overdue."""


class InspectionOpen(Command, frozen=True, kw_only=True):
    """Begin an inspection of institutions over a period of days, both included."""

    legal_basis: Word
    institutions: Annotated[tuple[InstitutionId, ...], Meta(min_length=1, max_length=16)]
    period_from: Day
    period_to: Day
    question: Digest


class InspectionApproveScope(Command, frozen=True, kw_only=True):
    """Approve basis and scope; another officer than the opener."""


class InspectionRequestContent(Command, frozen=True, kw_only=True):
    """Ask the custodians for records of the scope; 256 in all at most."""

    entries: Content


class InspectionCancel(Command, frozen=True, kw_only=True):
    """End an inspection before its evidence, and the grants issued on it."""

    reason: CancelReason
    grants: NamedGrants


class InspectionExport(Command, frozen=True, kw_only=True):
    """Commit to the bundle of evidence with its inclusion proofs."""

    manifest: Digest


class InspectionFind(Command, frozen=True, kw_only=True):
    """Commit to the finding."""

    finding: Digest
    severity: Severity


class InspectionClose(Command, frozen=True, kw_only=True):
    """Close an inspection, and end the grants issued on it."""

    grants: NamedGrants


class InspectionDemand(Command, frozen=True, kw_only=True):
    """Demand a remedy by the end of a day."""

    day: Day


class InspectionRemedy(Command, frozen=True, kw_only=True):
    """Commit to the evidence that a demand was met."""

    evidence: Digest


class RequestPaper(Command, frozen=True, kw_only=True):
    """Ask a home for the paper behind its signature."""

    consent: CaseId


class OpenPaper(Command, frozen=True, kw_only=True):
    """Show the scan: grants the asker one delivery of the own entry that holds it."""


class JudgePaper(Command, frozen=True, kw_only=True):
    """Say whether the paper is what was committed to."""

    verdict: Verdict


class ExpirePaper(Command, frozen=True, kw_only=True):
    """Make it visible that the time to open or to judge is over."""


PARAMETERS = (
    ParameterSpec(name="audit.pair_complete", number=10 * MINUTE, least=MINUTE, most=7 * DAY),
    ParameterSpec(name="audit.explanation", number=3 * DAY, least=HOUR, most=90 * DAY),
    ParameterSpec(name="audit.content", number=24 * HOUR, least=HOUR, most=90 * DAY),
    ParameterSpec(name="audit.paper_open", number=3 * DAY, least=HOUR, most=90 * DAY),
    ParameterSpec(name="audit.paper_judge", number=30 * DAY, least=HOUR, most=365 * DAY),
    ParameterSpec(name="audit.statement", number=6 * HOUR, least=HOUR, most=7 * DAY),
    ParameterSpec(name=EVIDENCE_AGE, number=0, least=0, most=30 * DAY),
)

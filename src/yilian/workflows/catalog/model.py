"""Entries of the catalogue and challenges to their custodians: states, fields, commands, tables. Source: chapter 2."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from yilian.crypto.tags import entry_id
from yilian.ledger.cases import Case, Command, Register
from yilian.ledger.members import Role
from yilian.ledger.workflow import (
    ANY,
    SELF,
    Call,
    ParameterSpec,
    Ref,
    RefusalCode,
    anyone,
    both,
    moves,
    node,
    opens,
    person,
    workflow,
)
from yilian.values import DAY, HOUR, SECOND, Day, Digest, EntryId, InstitutionId, Month, Natural, UnixMillis, Word

RESTRICTED = "RESTRICTED"
"""Flag of an entry: the patient's general no; every guard of a release reads it."""

Level = Annotated[int, Meta(ge=1, le=4)]
"""GB/T 39725-2020 level as shown on the ledger; what is 5 shows 4, and the custodian enforces 5 at delivery."""
SizeClass = Annotated[int, Meta(ge=0, le=255)]
"""Class of the padded size of the sealed blob."""
Entries = Annotated[tuple[EntryId, ...], Meta(min_length=1, max_length=32)]


class EntryState(StrEnum):
    """States of an entry."""

    CURRENT = "current"
    DISPUTED = "disputed"
    SUPERSEDED = "superseded"
    ENTERED_IN_ERROR = "entered_in_error"
    WITHDRAWN = "withdrawn"
    ERASING = "erasing"
    ERASED = "erased"


class ChallengeState(StrEnum):
    """States of a challenge."""

    OPEN = "open"
    ANSWERED = "answered"
    CONTESTED = "contested"
    PASSED = "passed"
    FAILED = "failed"
    LAPSED = "lapsed"
    UNCHECKED = "unchecked"


class Origin(StrEnum):
    """How a record came to be."""

    DEVICE = "device"
    SYSTEM = "system"
    MANUAL = "manual"


class DisputeReason(StrEnum):
    """Why an entry is disputed."""

    KEY_DIFFERS = "key_differs"
    COMMITMENT_DIFFERS = "commitment_differs"
    WRONG_PATIENT = "wrong_patient"
    OUT_OF_CALIBRATION = "out_of_calibration"
    CHALLENGE_FAILED = "challenge_failed"


class Resolution(StrEnum):
    """What the custodian found about a disputed entry: RIGHT and SHOWN_AGAIN keep it, the others end it."""

    RIGHT = "right"
    SHOWN_AGAIN = "shown_again"
    WRONG_PATIENT = "wrong_patient"
    WRONG_CONTENT = "wrong_content"
    LOST = "lost"


class ErasureBasis(StrEnum):
    """Why a record may be destroyed: Art. 47 PIPL, and the retention period of medical records."""

    RETENTION_OVER = "retention_over"
    PATIENT_RIGHT = "patient_right"


class Refusal(RefusalCode):
    """Refusals of the catalogue; numbers are frozen."""

    LEVEL_LOWERED = 1
    UNKNOWN_TYPE = 2
    TYPE_TOO_FINE = 3
    NOT_CUSTODIAN = 4
    ENTRY_NOT_CURRENT = 5
    CHALLENGE_LIMIT = 6
    NOT_YOUR_CHALLENGE = 7
    OWN_ENTRY = 8
    ENTRY_TWICE = 9
    NOT_CHALLENGED = 10
    ANSWER_DIFFERS = 11
    SAME_OPERATOR = 12
    RETENTION_RUNNING = 13
    ERASURE_CONFIRMED = 14


class Entry(Case, frozen=True, kw_only=True):
    """That a record exists, where, of what kind, how sensitive, unchanged since when; never the record."""

    custodian: InstitutionId
    tag: Digest
    """Subject tag HMAC(K(custodian, year), j): two entries of one patient cannot be linked by it."""
    root: Digest
    """RFC 6962 root of the sealed blob; leaf 0 is its header."""
    commitment: Digest
    """Salted commitment of the bytes as received."""
    size_class: SizeClass
    kind: Word
    """WS/T 500 class code of the chain's list."""
    level: Level
    month: Month
    """Month of the event, at UTC+8."""
    origin: Origin
    late: bool
    """Published later after the event than the chain's parameter for its origin allows."""
    replaces: EntryId | None = None
    disputer: InstitutionId | None = None
    """Who disputed it last."""
    dispute_reason: DisputeReason | None = None
    answer_by: UnixMillis = 0  # type: ignore[assignment]  # zero, where never disputed
    """Until when the custodian owes a resolution, or the end of an erasure (due)."""


class Challenge(Case, frozen=True, kw_only=True):
    """A question whether a custodian still holds the ciphertext of some entries."""

    challenger: InstitutionId
    custodian: InstitutionId
    entries: Entries
    value: Digest
    """Picks the segments; neither side could choose it."""
    deadline: UnixMillis
    """End of the time to answer, then to check, then to prove."""
    answer: Digest | None = None
    """Digest of the signed segment message, which goes to the challenger off the ledger."""
    contested: Annotated[tuple[EntryId, ...], Meta(max_length=32)] = ()
    failed: Annotated[tuple[EntryId, ...], Meta(max_length=32)] = ()
    undisputed: Annotated[tuple[EntryId, ...], Meta(max_length=32)] = ()
    """Failed entries that were not CURRENT any more when judged."""


class ChallengeCount(Register, frozen=True, kw_only=True):
    """Challenges of one challenger to one custodian on the last day with any; one row a pair, so that none pile up."""

    word: ClassVar[str] = "challenges"

    day: Day
    count: Natural


class Erasure(Register, frozen=True, kw_only=True):
    """How far the erasure of an entry is; key: (entry id)."""

    word: ClassVar[str] = "erasure"

    basis: ErasureBasis
    begun: UnixMillis
    destroyed: UnixMillis
    """When the custodian confirmed; 0 until then."""
    waiting: Annotated[tuple[InstitutionId, ...], Meta(max_length=256)]
    """Recipients that have not answered for their copies."""


class Description(Command, frozen=True, kw_only=True):
    """What a custodian says of a record whose blob and vault row are durable already; see `Entry`."""

    tag: Digest
    root: Digest
    commitment: Digest
    size_class: SizeClass
    kind: Word
    level: Level
    month: Month
    origin: Origin
    late: bool


class Publish(Description, frozen=True, kw_only=True):
    """Enter a record of one's own. The id of the entry is H(chain ‖ custodian ‖ tag): a tag serves once."""


class Replace(Description, frozen=True, kw_only=True):
    """Put a corrected record, under a fresh tag, in the place of this one; its level must not be lower."""


class PublishSuccessor(Description, frozen=True, kw_only=True):
    """Open the entry that replaces another; sent by `catalog.replace` alone."""

    replaces: EntryId
    restricted: bool


class Restrict(Command, frozen=True, kw_only=True):
    """Make the patient's general no effective: no release but for emergencies and duties by law."""


class Unrestrict(Command, frozen=True, kw_only=True):
    """End the patient's general no."""


class Dispute(Command, frozen=True, kw_only=True):
    """Say that an entry is wrong. An officer of another custodian names its own entry, a node its lapsed challenge."""

    reason: DisputeReason
    own_entry: EntryId | None


class Resolve(Command, frozen=True, kw_only=True):
    """Answer a dispute: the entry stands, or it was entered in error."""

    resolution: Resolution


class Withdraw(Command, frozen=True, kw_only=True):
    """Take an entry out of circulation: no new grants, and running ones fail at the next use."""


class Erase(Command, frozen=True, kw_only=True):
    """Decide that a record is destroyed everywhere; nothing of it is delivered from here on."""

    basis: ErasureBasis
    recipients: Annotated[tuple[InstitutionId, ...], Meta(max_length=256)]
    """Who was delivered copies and has to answer for them."""


class ConfirmErased(Command, frozen=True, kw_only=True):
    """Say that data, keys and salt are destroyed; for a recipient `consent` says it."""


class ChallengeOpen(Command, frozen=True, kw_only=True):
    """Ask whether a custodian, oneself included, still holds 1 to 32 of its entries."""

    custodian: InstitutionId
    entries: Entries


class ChallengeAnswer(Command, frozen=True, kw_only=True):
    """Answer in time: the digest of the signed segment message that was sent to the challenger."""

    message: Digest


class ChallengePass(Command, frozen=True, kw_only=True):
    """Say that every segment was checked against its root."""


class ChallengeFail(Command, frozen=True, kw_only=True):
    """Name the entries whose segments did not check."""

    entries: Entries


class ChallengeJudge(Command, frozen=True, kw_only=True):
    """Decide a contested challenge after opening the signed message; no failed entries: it is passed."""

    message: Digest
    """Digest of the message that was opened to the auditor."""
    failed: Annotated[tuple[EntryId, ...], Meta(max_length=32)]


class ChallengeExpire(Command, frozen=True, kw_only=True):
    """Make it visible that the time to answer, check or prove is over."""


WS_T_500 = tuple(f"C{number:04}" for number in range(1, 54))
"""Class codes of shared documents, WS/T 500-2016."""
ONCE_A_PATIENT = ("C0001", "C0036", "C0050", "C0051")
"""Classes that tell patients apart: such a record goes under a class of its setting."""

PARAMETERS = (
    ParameterSpec(name="catalog.kinds", words=tuple(code for code in WS_T_500 if code not in ONCE_A_PATIENT)),
    ParameterSpec(name="catalog.dispute_answer", number=7 * DAY, least=DAY, most=90 * DAY),
    ParameterSpec(name="catalog.challenges_a_day", number=1_000, least=1, most=1_000_000),
    ParameterSpec(name="catalog.challenge_answer", number=60 * SECOND, least=SECOND, most=7 * DAY),
    ParameterSpec(name="catalog.self_check_answer", number=24 * HOUR, least=SECOND, most=7 * DAY),
    ParameterSpec(name="catalog.challenge_check", number=24 * HOUR, least=SECOND, most=30 * DAY),
    ParameterSpec(name="catalog.challenge_proof", number=30 * DAY, least=DAY, most=365 * DAY),
    ParameterSpec(name="catalog.late_system", number=24 * HOUR, least=HOUR, most=30 * DAY),
    ParameterSpec(name="catalog.late_device", number=HOUR, least=SECOND, most=30 * DAY),
    ParameterSpec(name="catalog.retention", number=30 * 366 * DAY, least=0, most=100 * 366 * DAY),
    ParameterSpec(name="catalog.erasure", number=30 * DAY, least=HOUR, most=366 * DAY),
)


def id_of_entry(call: Call, command: Description) -> EntryId:
    """Derive the id of the entry that the acting institution describes."""
    return entry_id(call.chain, call.institution, command.tag)


_E, _C = EntryState, ChallengeState
_KEPT = (_E.CURRENT, _E.DISPUTED, _E.WITHDRAWN)
_OFFICER = person("custodian", Role.DATA_OFFICER)
_LAPSED_CHALLENGE = Ref(case_type="challenge", states=(_C.LAPSED.value,), at_least=1, at_most=1)

ENTRY_ROWS = (
    opens(
        "catalog.publish",
        Publish,
        _E.CURRENT,
        who=node(ANY) | person(ANY, Role.PHYSICIAN, Role.TECHNICIAN) | workflow("referral"),
        id_of=id_of_entry,
    ),
    opens("catalog.publish_successor", PublishSuccessor, _E.CURRENT, who=workflow(SELF), id_of=id_of_entry),
    moves("catalog.replace", Replace, _E.CURRENT, _E.SUPERSEDED, who=node("custodian")),
    moves(
        "catalog.restrict",
        Restrict,
        _KEPT,
        who=_OFFICER | node("custodian"),
        while_suspended=True,
        any_version=True,
    ),
    moves("catalog.unrestrict", Unrestrict, _KEPT, who=_OFFICER | node("custodian"), any_version=True),
    moves(
        "catalog.dispute",
        Dispute,
        _E.CURRENT,
        _E.DISPUTED,
        who=workflow("consent") | workflow(SELF) | person(ANY, Role.DATA_OFFICER, Role.AUDITOR),
    ),
    moves("catalog.dispute", Dispute, _E.CURRENT, _E.DISPUTED, who=node(ANY), refs=(_LAPSED_CHALLENGE,)),
    moves(
        "catalog.resolve",
        Resolve,
        _E.DISPUTED,
        (_E.CURRENT, _E.ENTERED_IN_ERROR),
        who=_OFFICER,
        due="answer_by",
        while_suspended=True,
    ),
    moves("catalog.withdraw", Withdraw, (_E.CURRENT, _E.DISPUTED), _E.WITHDRAWN, who=_OFFICER, while_suspended=True),
    moves(
        "catalog.erase",
        Erase,
        (*_KEPT, _E.SUPERSEDED, _E.ENTERED_IN_ERROR),
        _E.ERASING,
        who=both(_OFFICER, person("custodian", Role.DISCLOSURE_OFFICER)),
    ),
    moves(
        "catalog.confirm_erased",
        ConfirmErased,
        _E.ERASING,
        (_E.ERASING, _E.ERASED),
        who=node("custodian") | workflow("consent"),
        due="answer_by",
        while_suspended=True,
    ),
)

CHALLENGE_ROWS = (
    opens("challenge.open", ChallengeOpen, _C.OPEN, who=node(ANY) | person(ANY, Role.AUDITOR, Role.INSPECTOR)),
    moves(
        "challenge.answer",
        ChallengeAnswer,
        _C.OPEN,
        _C.ANSWERED,
        who=node("custodian"),
        before="deadline",
        while_suspended=True,
    ),
    moves("challenge.pass", ChallengePass, _C.ANSWERED, _C.PASSED, who=node("challenger")),
    moves("challenge.fail", ChallengeFail, _C.ANSWERED, _C.CONTESTED, who=node("challenger")),
    moves("challenge.judge", ChallengeJudge, _C.CONTESTED, (_C.FAILED, _C.PASSED), who=person(ANY, Role.AUDITOR)),
    moves("challenge.expire", ChallengeExpire, _C.OPEN, _C.LAPSED, who=anyone(), after="deadline", any_version=True),
    moves(
        "challenge.expire",
        ChallengeExpire,
        (_C.ANSWERED, _C.CONTESTED),
        _C.UNCHECKED,
        who=anyone(),
        after="deadline",
        any_version=True,
    ),
)

"""Daily statements: how many disclosure events an institution has on record for a day, and the root over them.

Numbers of events are given by the ledger, so a statement that continues the one of the day before leaves none out. The
root is over the leaves of `statement_leaf`, in the order of the numbers; the list stays with the institution, so that
it can show that an event is covered, and cannot show it where it is not. Source: chapter 4, Node statement.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta
from msgspec.structs import replace as changed

from yilian.canonical import encode
from yilian.crypto.merkle import leaf_hash
from yilian.crypto.suite import tagged_hash
from yilian.errors import Refused
from yilian.ledger.cases import Case, Command, Register
from yilian.ledger.members import LIVING, Role
from yilian.ledger.workflow import ANY, Call, Outcome, Put, Reads, anyone, moves, node, opens, person, step
from yilian.values import (
    CaseId,
    Day,
    Digest,
    InstitutionId,
    Natural,
    UnixMillis,
    case_id,
    day_of,
    end_of_day,
    unix_millis,
)
from yilian.workflows.audit.model import Disclosure, Refusal, Sequence
from yilian.workflows.audit.table import USE, disclosure_id
from yilian.workflows.consent import interface as consent

STATEMENT_TAG = "yilian/statement/v1"


class StatementState(StrEnum):
    """States of a statement."""

    PUBLISHED = "published"
    MISSING = "missing"
    PUBLISHED_LATE = "published_late"
    GAP = "gap"
    EXPLAINED = "explained"


class GapReason(StrEnum):
    """Why a use is not covered by the statement of its day."""

    NEXT_DAY = "next_day"
    EVENT_LOST = "event_lost"
    REPORT_WRONG = "report_wrong"


class Statement(Case, frozen=True, kw_only=True):
    """What an institution has on record for a day; its id follows from both."""

    custodian: InstitutionId
    day: Day
    first: Natural = 0
    """Number of the day's first event: the last number of the day before plus one."""
    count: Natural = 0
    root: Digest | None = None
    """None while it is missing."""
    use: CaseId | None = None
    """The use that is said not to be covered."""
    reporter: InstitutionId | None = None
    report: Digest | None = None
    """Commitment of what the reporter has in hand: the inclusion proof of the use's event."""
    explain_by: UnixMillis = 0  # type: ignore[assignment]  # zero, where no gap was reported
    reason: GapReason | None = None
    evidence: Digest | None = None


class Stated(Register, frozen=True, kw_only=True):
    """How far the statements of an institution go; key: (institution)."""

    word: ClassVar[str] = "stated"

    day: Day
    last: Natural
    """Number of the last event stated."""


class StatementPublish(Command, frozen=True, kw_only=True):
    """State the own events of a day that is over."""

    day: Day
    first: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    count: Natural
    root: Digest


class StatementReportMissing(Command, frozen=True, kw_only=True):
    """Say that an institution has not stated a day in time."""

    custodian: InstitutionId
    day: Day


class StatementReportGap(Command, frozen=True, kw_only=True):
    """Say that a use of the day is not covered; the operation names the use as its ref."""

    report: Digest


class StatementExplain(Command, frozen=True, kw_only=True):
    """Explain a gap."""

    reason: GapReason
    evidence: Digest


def statement_id(chain: Digest, custodian: InstitutionId, day: Day) -> CaseId:
    """Derive the id of an institution's statement of a day: H(tag ‖ chain ‖ institution ‖ day in 8 bytes)."""
    return case_id(tagged_hash(STATEMENT_TAG, chain, custodian, day.to_bytes(8, "big", signed=True)))


def statement_leaf(number: int, pair: CaseId, event: Digest) -> Digest:
    """Hash one line of a statement: RFC 6962 leaf hash of canonical CBOR [number, disclosure pair, commitment]."""
    return leaf_hash(encode((number, pair, event)))


def id_of_own(call: Call, command: StatementPublish) -> CaseId:
    """Derive the id of the acting institution's statement."""
    return statement_id(call.chain, call.institution, command.day)


def id_of_missing(call: Call, command: StatementReportMissing) -> CaseId:
    """Derive the id of the statement that is missing."""
    return statement_id(call.chain, command.custodian, command.day)


_S = StatementState
STATEMENT_ROWS = (
    opens("statement.publish", StatementPublish, _S.PUBLISHED, who=node(ANY), id_of=id_of_own, while_suspended=True),
    opens("statement.report_missing", StatementReportMissing, _S.MISSING, who=anyone(), id_of=id_of_missing),
    moves(
        "statement.publish",
        StatementPublish,
        _S.MISSING,
        _S.PUBLISHED_LATE,
        who=node("custodian"),
        while_suspended=True,
        any_version=True,
    ),
    moves(
        "statement.report_gap",
        StatementReportGap,
        _S.PUBLISHED,
        _S.GAP,
        who=person(ANY, Role.AUDITOR, Role.DATA_OFFICER) | node(ANY),
        refs=(USE,),
    ),
    moves(
        "statement.explain",
        StatementExplain,
        _S.GAP,
        _S.EXPLAINED,
        who=person("custodian", Role.DATA_OFFICER),
        due="explain_by",
        while_suspended=True,
    ),
)


@step
def statement_publish(
    call: Call, command: StatementPublish, case: Statement | None, reads: Reads
) -> Outcome[Statement]:
    """Put count and root of a day on record; numbers go on where the day before ended.

    Refuses: NOT_OF_THIS_DAY, DAY_NOT_OVER, STATEMENT_EXISTS, STATEMENT_NOT_CONTINUED, NUMBERS_NOT_ASSIGNED.
    """
    _check_over(call, command.day, after=0)
    if case is not None and case.day != command.day:
        raise Refused(
            Refusal.NOT_OF_THIS_DAY, f"day {case.day} is missing, day {command.day} was stated: state the one missing"
        )
    stated = reads.register(Stated, call.institution)
    _check_not_stated(stated, command.day, call.institution)
    last = 0 if stated is None else stated.last
    if command.first != last + 1 or (stated is not None and command.day != stated.day + 1):
        raise Refused(
            Refusal.STATEMENT_NOT_CONTINUED,
            f"day {command.day} begins with number {command.first}, expected number {last + 1}"
            f"{'' if stated is None else f' and day {stated.day + 1}'}: state every day, in order",
        )
    given = reads.register(Sequence, call.institution)
    reached = last + command.count
    if reached > (0 if given is None else given.last):
        raise Refused(
            Refusal.NUMBERS_NOT_ASSIGNED,
            f"the statement ends with number {reached}, the ledger gave {0 if given is None else given.last}: "
            "count the events that are on record",
        )
    statement = case if case is not None else Statement(custodian=call.institution, day=command.day)
    return Outcome(
        changed(statement, first=command.first, count=command.count, root=command.root),
        registers=(Put(key=(call.institution,), value=Stated(day=command.day, last=reached)),),
    )


@step
def statement_report_missing(call: Call, command: StatementReportMissing, reads: Reads) -> Outcome[Statement]:
    """Put on record that a member has not stated a day of its membership in time.

    Refuses: NOT_A_PARTY, NOT_OF_THIS_DAY, DAY_NOT_OVER, STATEMENT_EXISTS.
    """
    member = reads.member(command.custodian)
    if member is None or member.state not in LIVING:
        raise Refused(
            Refusal.NOT_A_PARTY, f"{command.custodian.hex()} is no living member, expected one: it owes nothing"
        )
    if command.day < day_of(member.header.opened_time):
        raise Refused(
            Refusal.NOT_OF_THIS_DAY,
            f"day {command.day} is before the membership of {command.custodian.hex()}: it owes nothing for it",
        )
    _check_over(call, command.day, after=reads.number("audit.statement"))
    _check_not_stated(reads.register(Stated, command.custodian), command.day, command.custodian)
    return Outcome(Statement(custodian=command.custodian, day=command.day))


@step
def statement_report_gap(call: Call, command: StatementReportGap, case: Statement, reads: Reads) -> Outcome[Statement]:
    """Put on record that the statement does not cover a use of its day, by who took part in it or an auditor.

    Refuses: NOT_A_PARTY, NOT_OF_THIS_DAY.
    """
    found = consent.use(reads, call.refs[0])
    parties = () if found is None else (found.fields.custodian, found.fields.recipient)
    by_auditor = any(one.role == Role.AUDITOR for one in call.persons)
    if case.custodian not in parties or not (by_auditor or call.institution in parties):
        raise Refused(
            Refusal.NOT_A_PARTY,
            f"{call.institution.hex()} or {case.custodian.hex()} is no party of use {call.refs[0].hex()}: "
            "name a use of the institution that stated, as its other side or as an auditor",
        )
    number = _number(call, case.custodian, reads)
    if found is None or day_of(found.fields.delivered) != case.day or 0 < number < case.first:
        raise Refused(
            Refusal.NOT_OF_THIS_DAY,
            f"use {call.refs[0].hex()} is not of day {case.day}, or an earlier statement covers its number {number}: "
            "name the statement of its day",
        )
    return Outcome(
        changed(
            case,
            use=call.refs[0],
            reporter=call.institution,
            report=command.report,
            explain_by=unix_millis(call.time + reads.number("audit.explanation")),
        )
    )


@step
def statement_explain(call: Call, command: StatementExplain, case: Statement, reads: Reads) -> Outcome[Statement]:  # noqa: ARG001 - one signature
    """Keep what the institution says of the gap."""
    return Outcome(changed(case, reason=command.reason, evidence=command.evidence))


def _check_over(call: Call, day: Day, *, after: int) -> None:
    if day < 0 or call.time <= end_of_day(day) + after:
        raise Refused(
            Refusal.DAY_NOT_OVER,
            f"block time {call.time} is not {after} ms past the end of day {day} at UTC+8: wait until it is",
        )


def _check_not_stated(stated: Stated | None, day: Day, institution: InstitutionId) -> None:
    if stated is not None and day <= stated.day:
        raise Refused(
            Refusal.STATEMENT_EXISTS,
            f"the statements of {institution.hex()} reach day {stated.day}, day {day} was named: name a later one",
        )


def _number(call: Call, custodian: InstitutionId, reads: Reads) -> int:
    """Give the number of an institution's event of the use named; 0 where it has none on record."""
    pair = reads.case(Disclosure, disclosure_id(call.chain, call.refs[0]))
    if pair is None:
        return 0
    return pair.fields.source_number if pair.fields.source == custodian else pair.fields.recipient_number

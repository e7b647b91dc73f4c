"""Daily statements: they go on without a gap, and what is missing from one is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yilian.crypto import merkle
from yilian.crypto.suite import sha256
from yilian.ledger.cases import Found
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.running import OVERDUE
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import DAY, HOUR, CaseId, Day, day_of
from yilian.workflows.audit.model import Disclosure, DisclosureReceived, DisclosureSent, Refusal
from yilian.workflows.audit.statements import (
    GapReason,
    Stated,
    Statement,
    StatementExplain,
    StatementPublish,
    StatementReportGap,
    StatementReportMissing,
    StatementState,
    statement_id,
    statement_leaf,
)

if TYPE_CHECKING:
    from tests.workflows.audit.conftest import World

REPORT = StatementReportGap(report=sha256(b"inclusion proof"))
EXPLANATION = StatementExplain(reason=GapReason.EVENT_LOST, evidence=sha256(b"evidence"))


def empty(day: Day, first: int = 1) -> StatementPublish:
    return StatementPublish(day=day, first=first, count=0, root=merkle.EMPTY_ROOT)


def today(world: World) -> Day:
    return day_of(world.time)


def found(world: World, case: CaseId) -> Found[Statement]:
    there = world.case(Statement, case)
    assert there is not None
    return there


def by(answer: Answer) -> tuple[str, int]:
    return answer.result[0]


def sent_use(world: World) -> tuple[CaseId, CaseId]:
    """Deliver a record and put the centre's event on record: (use, pair)."""
    use = world.delivered_use()
    event = DisclosureSent(event=sha256(b"sent", use))
    return use, world.done(world["centre"], event, None, refs=(use,))


def published(world: World, count: int) -> tuple[CaseId, Day]:
    """Let the day end, and have the centre state it."""
    day = today(world)
    world.advance(DAY)
    command = StatementPublish(day=day, first=1, count=count, root=sha256(b"root"))
    return world.done(world["centre"], command), day


def test_a_statement_counts_the_days_events_and_the_next_one_goes_on_from_it(world: World) -> None:
    day, pairs = today(world), [sent_use(world)[1] for _ in range(3)]
    leaves = [statement_leaf(n, pair, sha256(b"sent", _use(world, pair))) for n, pair in enumerate(pairs, start=1)]
    world.advance(DAY)
    root = merkle.root(leaves)
    case = world.done(world["centre"], StatementPublish(day=day, first=1, count=3, root=root))
    assert case == statement_id(world.chain, world["centre"].id, day)
    assert found(world, case).fields == Statement(custodian=world["centre"].id, day=day, first=1, count=3, root=root)
    assert world.register(Stated, world["centre"].id) == Stated(day=day, last=3)
    assert merkle.verify_inclusion(leaves[1], 1, 3, merkle.inclusion_proof(leaves, 1), root)
    world.advance(DAY)
    assert world.done(world["centre"], empty(day + 1, first=4))
    assert world.register(Stated, world["centre"].id) == Stated(day=day + 1, last=3)


def _use(world: World, pair: CaseId) -> CaseId:
    there = world.case(Disclosure, pair)
    assert there is not None
    return there.fields.use


def test_a_day_is_stated_once_it_is_over(world: World) -> None:
    answer = world.act(world["centre"], empty(today(world)))
    assert by(answer) == ("audit", Refusal.DAY_NOT_OVER)
    before_time = world.act(world["centre"], empty(-1))
    assert by(before_time) == ("audit", Refusal.DAY_NOT_OVER)


def test_a_statement_that_does_not_continue_the_day_before_is_refused(world: World) -> None:
    day = today(world)
    world.advance(4 * DAY)
    assert by(world.act(world["centre"], empty(day, first=2))) == ("audit", Refusal.STATEMENT_NOT_CONTINUED)
    world.done(world["centre"], empty(day))
    for command in (empty(day + 2), empty(day + 1, first=2)):
        assert by(world.act(world["centre"], command)) == ("audit", Refusal.STATEMENT_NOT_CONTINUED)
    assert by(world.act(world["centre"], empty(day - 1))) == ("audit", Refusal.STATEMENT_EXISTS)
    assert by(world.act(world["centre"], empty(day))) == (KERNEL, KernelRefusal.STALE_VERSION)


def test_a_statement_counts_no_events_that_the_ledger_has_not_numbered(world: World) -> None:
    sent_use(world)
    day = today(world)
    world.advance(DAY)
    too_many = StatementPublish(day=day, first=1, count=2, root=sha256(b"root"))
    assert by(world.act(world["centre"], too_many)) == ("audit", Refusal.NUMBERS_NOT_ASSIGNED)
    assert by(world.act(world["hospital"], too_many)) == ("audit", Refusal.NUMBERS_NOT_ASSIGNED)


def test_a_day_that_nobody_stated_in_time_is_missing_and_is_published_late(world: World) -> None:
    day, missing = today(world), StatementReportMissing(custodian=world["centre"].id, day=today(world))
    world.advance(DAY)
    assert by(world.act(world["hospital"], missing)) == ("audit", Refusal.DAY_NOT_OVER)
    world.advance(12 * HOUR)
    case = world.done(world["hospital"], missing)
    assert (case, found(world, case).state) == (statement_id(world.chain, world["centre"].id, day), "missing")
    other_day = world.act(world["centre"], empty(day - 1), case)
    assert by(other_day) == ("audit", Refusal.NOT_OF_THIS_DAY)
    world.done(world["centre"], empty(day), case)
    assert found(world, case).state == StatementState.PUBLISHED_LATE


def test_only_a_members_own_days_can_be_missing(world: World) -> None:
    stranger = StatementReportMissing(custodian=world["centre"].id[:0] + b"\x05" * 32, day=today(world))
    assert by(world.act(world["hospital"], stranger)) == ("audit", Refusal.NOT_A_PARTY)
    before = StatementReportMissing(custodian=world["centre"].id, day=today(world) - 1)
    assert by(world.act(world["hospital"], before)) == ("audit", Refusal.NOT_OF_THIS_DAY)


def test_what_is_stated_is_not_missing(world: World) -> None:
    day = today(world)
    world.advance(3 * DAY)
    world.done(world["centre"], empty(day + 1))
    for one in (day, day + 1):
        answer = world.act(world["hospital"], StatementReportMissing(custodian=world["centre"].id, day=one))
        expected = ("audit", Refusal.STATEMENT_EXISTS) if one == day else (KERNEL, KernelRefusal.STALE_VERSION)
        assert by(answer) == expected


@pytest.mark.parametrize(
    ("who", "roles"), [("hospital", ()), ("hospital", (Role.DATA_OFFICER,)), ("bureau", (Role.AUDITOR,))]
)
def test_a_gap_is_reported_by_the_other_side_or_an_auditor_and_explained(
    world: World, who: str, roles: tuple[Role, ...]
) -> None:
    use, _ = sent_use(world)
    case, _ = published(world, 0)
    world.done(world[who], REPORT, case, *roles, refs=(use,))
    gap = found(world, case)
    assert (gap.state, gap.fields.use, gap.fields.reporter) == ("gap", use, world[who].id)
    world.done(world["centre"], EXPLANATION, case, Role.DATA_OFFICER)
    explained = found(world, case)
    assert (explained.state, explained.fields.reason) == ("explained", GapReason.EVENT_LOST)


def test_a_use_without_any_event_is_a_gap_too(world: World) -> None:
    use = world.delivered_use()
    case, _ = published(world, 0)
    assert world.done(world["hospital"], REPORT, case, refs=(use,))


def test_who_took_no_part_reports_no_gap(world: World) -> None:
    use, _ = sent_use(world)
    case, _ = published(world, 0)
    assert by(world.act(world["regulator"], REPORT, case, refs=(use,))) == ("audit", Refusal.NOT_A_PARTY)
    day = today(world) - 1
    others = world.done(world["regulator"], empty(day))
    answer = world.act(world["hospital"], REPORT, others, refs=(use,))
    assert by(answer) == ("audit", Refusal.NOT_A_PARTY)


def test_a_gap_is_of_the_day_of_the_statement(world: World) -> None:
    case, _ = published(world, 0)
    use = world.delivered_use()
    assert by(world.act(world["hospital"], REPORT, case, refs=(use,))) == ("audit", Refusal.NOT_OF_THIS_DAY)


def test_what_an_earlier_statement_covers_by_its_number_is_no_gap(world: World) -> None:
    use, pair = sent_use(world)
    world.done(world["hospital"], DisclosureReceived(event=sha256(b"received")), pair, refs=(use,))
    first = today(world)
    world.advance(2 * DAY)
    world.done(world["centre"], StatementPublish(day=first - 1, first=1, count=1, root=sha256(b"root")))
    case = world.done(world["centre"], empty(first, first=2))
    assert by(world.act(world["hospital"], REPORT, case, refs=(use,))) == ("audit", Refusal.NOT_OF_THIS_DAY)


def test_a_late_explanation_is_taken_and_stays_marked(world: World) -> None:
    use, _ = sent_use(world)
    case, _ = published(world, 0)
    world.done(world["hospital"], REPORT, case, refs=(use,))
    world.advance(4 * DAY)
    world.done(world["centre"], EXPLANATION, case, Role.DATA_OFFICER)
    assert found(world, case).header.flags == (OVERDUE,)

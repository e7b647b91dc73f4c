"""How a regulator inspects within an approved scope, on grants of the custodians."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yilian.crypto.suite import sha256
from yilian.ledger.cases import Found
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.running import OVERDUE
from yilian.ledger.workflow import KernelRefusal
from yilian.values import (
    DAY,
    HOUR,
    CaseId,
    Day,
    case_id,
    day_from_civil,
    day_of,
    end_of_day,
    institution_id,
    unix_millis,
)
from yilian.workflows.audit.model import (
    MAX_CONTENT,
    CancelReason,
    Inspection,
    InspectionApproveScope,
    InspectionCancel,
    InspectionClose,
    InspectionDemand,
    InspectionExport,
    InspectionFind,
    InspectionOpen,
    InspectionRemedy,
    InspectionRequestContent,
    InspectionState,
    Refusal,
    Severity,
)
from yilian.workflows.consent.model import Basis, Grant, GrantIssue, GrantState, UseDeliver
from yilian.workflows.consent.policy import Purpose

if TYPE_CHECKING:
    from tests.workflows.audit.conftest import World

MONTH = 2026 * 12 + 4
MANIFEST, FINDING, REMEDY = sha256(b"manifest"), sha256(b"finding"), sha256(b"remedy")


def opening(world: World, first: Day, last: Day, *institutions: str) -> InspectionOpen:
    return InspectionOpen(
        legal_basis="ROUTINE",
        institutions=tuple(world[name].id for name in institutions),
        period_from=first,
        period_to=last,
        question=sha256(b"question"),
    )


def opened(world: World) -> CaseId:
    command = opening(world, day_from_civil(2026, 5, 20), day_from_civil(2026, 6, 3), "centre")
    return world.done(world["regulator"], command, None, Role.INSPECTOR)


def approved(world: World) -> CaseId:
    return world.done(world["regulator"], InspectionApproveScope(), opened(world), Role.SECOND_OFFICER)


def exported(world: World, inspection: CaseId) -> CaseId:
    return world.done(world["regulator"], InspectionExport(manifest=MANIFEST), inspection, Role.INSPECTOR)


def concluded(world: World, inspection: CaseId, severity: Severity = Severity.MINOR) -> CaseId:
    exported(world, inspection)
    command = InspectionFind(finding=FINDING, severity=severity)
    return world.done(world["regulator"], command, inspection, Role.INSPECTOR)


def demanded(world: World, inspection: CaseId) -> CaseId:
    command = InspectionDemand(day=Day(day_of(world.time) + 10))
    return world.done(world["regulator"], command, concluded(world, inspection), Role.INSPECTOR)


def granted(world: World, inspection: CaseId, entry: CaseId) -> CaseId:
    world.done(world["regulator"], InspectionRequestContent(entries=(entry,)), inspection, Role.INSPECTOR)
    command = GrantIssue(
        basis=Basis.STATUTORY,
        covered_by=None,
        recipient=world["regulator"].id,
        purpose=Purpose.PUBHLTH,
        entries=(entry,),
        level_cap=4,
        begins=world.time,
        ends=unix_millis(world.time + 30 * DAY),
        deliveries=3,
        depth=0,
    )
    return world.done(world["centre"], command, None, refs=(inspection,))


def found(world: World, inspection: CaseId) -> Found[Inspection]:
    there = world.case(Inspection, inspection)
    assert there is not None
    return there


def state_of(world: World, grant: CaseId) -> str:
    there = world.case(Grant, grant)
    assert there is not None
    return there.state


def refusal(answer: Answer) -> tuple[str, int]:
    return answer.result[0]


def test_an_inspector_opens_an_inspection_with_basis_scope_and_question(world: World) -> None:
    inspection = found(world, opened(world))
    assert inspection.state == InspectionState.OPENED
    assert inspection.fields == Inspection(
        regulator=world["regulator"].id,
        opener=world["regulator"].person(Role.INSPECTOR).key_id,
        legal_basis="ROUTINE",
        institutions=(world["centre"].id,),
        period_from=day_from_civil(2026, 5, 20),
        period_to=day_from_civil(2026, 6, 3),
        question=sha256(b"question"),
    )


def test_a_period_does_not_end_before_it_begins(world: World) -> None:
    command = opening(world, day_from_civil(2026, 6, 3), day_from_civil(2026, 6, 2), "centre")
    answer = world.act(world["regulator"], command, persons=[Role.INSPECTOR])
    assert refusal(answer) == ("audit", Refusal.PERIOD_REVERSED)


def test_only_members_are_inspected(world: World) -> None:
    command = InspectionOpen(
        legal_basis="ROUTINE",
        institutions=(institution_id(world.draw()),),
        period_from=day_from_civil(2026, 6, 2),
        period_to=day_from_civil(2026, 6, 2),
        question=sha256(b"question"),
    )
    answer = world.act(world["regulator"], command, persons=[Role.INSPECTOR])
    assert refusal(answer) == ("audit", Refusal.NOT_A_PARTY)


def test_a_second_officer_approves_the_scope(world: World) -> None:
    inspection = found(world, approved(world))
    assert inspection.state == InspectionState.SCOPE_APPROVED
    assert inspection.fields.approver == world["regulator"].person(Role.SECOND_OFFICER).key_id


def test_an_inspector_does_not_approve_a_scope(world: World) -> None:
    answer = world.act(world["regulator"], InspectionApproveScope(), opened(world), persons=[Role.INSPECTOR])
    assert refusal(answer) == ("kernel", KernelRefusal.NOT_PERMITTED)


def test_content_is_asked_for_within_the_scope_and_is_due_within_a_day(world: World) -> None:
    inspection = approved(world)
    first, _ = world.published(world["centre"], MONTH)
    second, _ = world.published(world["centre"], MONTH + 1)

    world.done(world["regulator"], InspectionRequestContent(entries=(first,)), inspection, Role.INSPECTOR)
    world.done(world["regulator"], InspectionRequestContent(entries=(first, second)), inspection, Role.INSPECTOR)

    fields = found(world, inspection).fields
    assert fields.content == (first, second)
    assert (fields.asker, fields.content_by) == (world["regulator"].id, world.time + 24 * HOUR)


@pytest.mark.parametrize(
    ("party", "month"),
    [
        pytest.param("hospital", MONTH, id="another-institution"),
        pytest.param("centre", MONTH - 1, id="the-month-before"),
        pytest.param("centre", MONTH + 2, id="the-month-after"),
    ],
)
def test_content_outside_the_scope_is_refused(world: World, party: str, month: int) -> None:
    inspection = approved(world)
    entry, _ = world.published(world[party], month)
    command = InspectionRequestContent(entries=(entry,))
    answer = world.act(world["regulator"], command, inspection, persons=[Role.INSPECTOR])
    assert refusal(answer) == ("audit", Refusal.OUTSIDE_SCOPE)


def test_an_entry_that_does_not_exist_is_outside_every_scope(world: World) -> None:
    command = InspectionRequestContent(entries=(case_id(world.draw()),))
    answer = world.act(world["regulator"], command, approved(world), persons=[Role.INSPECTOR])
    assert refusal(answer) == ("audit", Refusal.OUTSIDE_SCOPE)


def test_one_inspection_asks_for_so_many_records_and_no_more(world: World) -> None:
    inspection = approved(world)
    entries = [world.published(world["centre"])[0] for _ in range(MAX_CONTENT + 1)]
    for start in range(0, MAX_CONTENT, 64):
        command = InspectionRequestContent(entries=tuple(entries[start : start + 64]))
        world.done(world["regulator"], command, inspection, Role.INSPECTOR)

    command = InspectionRequestContent(entries=(entries[-1],))
    answer = world.act(world["regulator"], command, inspection, persons=[Role.INSPECTOR])

    assert refusal(answer) == ("audit", Refusal.TOO_MUCH_CONTENT)
    assert found(world, inspection).fields.content == tuple(entries[:-1])


def test_the_custodians_grant_lets_the_inspector_have_the_record(world: World) -> None:
    inspection = approved(world)
    entry, _ = world.published(world["centre"])
    grant = granted(world, inspection, entry)
    use = world.reserved("regulator", grant, entry, Role.INSPECTOR, Purpose.PUBHLTH)
    assert world.act(world["centre"], UseDeliver(mask=sha256(b"mask")), use).ok


def test_cancelling_ends_the_grants_issued_on_the_inspection(world: World) -> None:
    inspection = approved(world)
    entry, _ = world.published(world["centre"])
    grant = granted(world, inspection, entry)

    command = InspectionCancel(reason=CancelReason.NO_LONGER_NEEDED, grants=(grant, grant))
    world.done(world["regulator"], command, inspection, Role.INSPECTOR)

    assert found(world, inspection).state == InspectionState.CANCELLED
    assert state_of(world, grant) == GrantState.ENDED


def test_a_grant_of_another_inspection_is_not_ended(world: World) -> None:
    inspection, other = approved(world), approved(world)
    entry, _ = world.published(world["centre"])
    grant = granted(world, other, entry)

    command = InspectionCancel(reason=CancelReason.MISTAKE, grants=(grant,))
    answer = world.act(world["regulator"], command, inspection, persons=[Role.INSPECTOR])

    assert refusal(answer) == ("audit", Refusal.NOT_ITS_GRANT)
    assert state_of(world, grant) == GrantState.ISSUED


def test_a_grant_that_does_not_exist_is_not_ended(world: World) -> None:
    command = InspectionCancel(reason=CancelReason.MISTAKE, grants=(case_id(world.draw()),))
    answer = world.act(world["regulator"], command, opened(world), persons=[Role.INSPECTOR])
    assert refusal(answer) == ("audit", Refusal.NOT_ITS_GRANT)


def test_without_a_remedy_two_officers_close_and_the_grants_end(world: World) -> None:
    inspection = approved(world)
    entry, _ = world.published(world["centre"])
    grant = granted(world, inspection, entry)
    concluded(world, inspection, Severity.NONE)
    alone = world.act(world["regulator"], InspectionClose(grants=()), inspection, persons=[Role.INSPECTOR])

    command = InspectionClose(grants=(grant,))
    world.done(world["regulator"], command, inspection, Role.INSPECTOR, Role.SECOND_OFFICER)

    fields = found(world, inspection).fields
    assert refusal(alone) == ("kernel", KernelRefusal.NOT_PERMITTED)
    assert (fields.manifest, fields.finding, fields.severity) == (MANIFEST, FINDING, Severity.NONE)
    assert found(world, inspection).state == InspectionState.CLOSED
    assert state_of(world, grant) == GrantState.ENDED


def test_closing_passes_over_a_grant_that_has_ended_before(world: World) -> None:
    first = approved(world)
    entry, _ = world.published(world["centre"])
    grant = granted(world, first, entry)
    second = approved(world)
    world.done(world["regulator"], InspectionRequestContent(entries=(entry,)), second, Role.INSPECTOR)
    command = InspectionCancel(reason=CancelReason.MISTAKE, grants=(grant,))
    world.done(world["regulator"], command, first, Role.INSPECTOR)

    world.done(world["regulator"], command, second, Role.INSPECTOR)

    assert state_of(world, grant) == GrantState.ENDED


def test_a_demand_is_met_by_an_inspected_institution_and_then_closed_by_the_inspector(world: World) -> None:
    inspection = demanded(world, approved(world))
    assert found(world, inspection).fields.remedy_by == end_of_day(Day(day_of(world.time) + 10))

    world.done(world["centre"], InspectionRemedy(evidence=REMEDY), inspection, Role.DATA_OFFICER)
    remedied = found(world, inspection)
    world.done(world["regulator"], InspectionClose(grants=()), inspection, Role.INSPECTOR)

    assert (remedied.state, remedied.header.flags) == (InspectionState.REMEDIED, ())
    assert (remedied.fields.remedy, remedied.fields.remedied_by) == (REMEDY, world["centre"].id)
    assert found(world, inspection).state == InspectionState.CLOSED


def test_a_remedy_may_be_demanded_again(world: World) -> None:
    inspection = demanded(world, approved(world))
    world.done(world["centre"], InspectionRemedy(evidence=REMEDY), inspection, Role.DATA_OFFICER)
    world.done(world["regulator"], InspectionDemand(day=Day(day_of(world.time) + 1)), inspection, Role.INSPECTOR)
    assert found(world, inspection).state == InspectionState.REMEDIATION_DUE


def test_a_remedy_after_its_day_is_marked_as_overdue(world: World) -> None:
    inspection = demanded(world, approved(world))
    world.advance(11 * DAY)
    world.done(world["centre"], InspectionRemedy(evidence=REMEDY), inspection, Role.DATA_OFFICER)
    assert found(world, inspection).header.flags == (OVERDUE,)


def test_who_was_not_inspected_remedies_nothing(world: World) -> None:
    inspection = demanded(world, approved(world))
    command = InspectionRemedy(evidence=REMEDY)
    answer = world.act(world["hospital"], command, inspection, persons=[Role.DATA_OFFICER])
    assert refusal(answer) == ("kernel", KernelRefusal.NOT_PERMITTED)


@pytest.mark.parametrize("days", [pytest.param(-1, id="yesterday"), pytest.param(-1_000_000, id="before-1970")])
def test_a_remedy_is_not_demanded_by_a_day_that_is_over(world: World, days: int) -> None:
    inspection = concluded(world, approved(world))
    day = Day(max(day_of(world.time) + days, -1_000_000))
    answer = world.act(world["regulator"], InspectionDemand(day=day), inspection, persons=[Role.INSPECTOR])
    assert refusal(answer) == ("audit", Refusal.DATE_PASSED)

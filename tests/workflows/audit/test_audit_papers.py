"""How an auditor samples the paper behind a home's signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yilian.crypto.suite import sha256
from yilian.ledger.cases import Found
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import DAY, CaseId, case_id, unix_millis
from yilian.workflows.audit.model import (
    ExpirePaper,
    JudgePaper,
    OpenPaper,
    Paper,
    PaperState,
    Refusal,
    RequestPaper,
    Verdict,
)
from yilian.workflows.catalog.model import Withdraw
from yilian.workflows.consent.model import Basis, Consent, Grant, GrantState, UseDeliver
from yilian.workflows.consent.policy import Purpose

if TYPE_CHECKING:
    from tests.workflows.audit.conftest import World


def requested(world: World) -> CaseId:
    command = RequestPaper(consent=world.custodial_consent())
    return world.done(world["bureau"], command, None, Role.AUDITOR)


def opened(world: World) -> CaseId:
    return world.done(world["centre"], OpenPaper(), requested(world), Role.DATA_OFFICER)


def found(world: World, paper: CaseId) -> Found[Paper]:
    there = world.case(Paper, paper)
    assert there is not None
    return there


def grant_of(world: World, paper: CaseId) -> Found[Grant]:
    named = found(world, paper).fields.grant
    assert named is not None
    there = world.case(Grant, named)
    assert there is not None
    return there


def refusal(answer: Answer) -> tuple[str, int]:
    return answer.result[0]


def test_an_auditor_asks_a_home_for_the_paper_of_a_consent(world: World) -> None:
    signed = world.custodial_consent()
    paper = world.done(world["bureau"], RequestPaper(consent=signed), None, Role.AUDITOR)

    consent = world.case(Consent, signed)
    assert consent is not None
    assert consent.fields.paper is not None
    assert consent.fields.paper_entry is not None
    assert found(world, paper).state == PaperState.REQUESTED
    assert found(world, paper).fields == Paper(
        asker=world["bureau"].id,
        home=world["centre"].id,
        consent=signed,
        paper=consent.fields.paper,
        entry=consent.fields.paper_entry,
        deadline=unix_millis(world.time + 3 * DAY),
    )


def test_a_consent_of_a_patients_own_key_has_no_paper(world: World) -> None:
    answer = world.act(world["bureau"], RequestPaper(consent=world.own_key_consent()), persons=[Role.AUDITOR])
    assert refusal(answer) == ("audit", Refusal.NOT_CUSTODIAL)


def test_a_consent_that_does_not_exist_has_no_paper(world: World) -> None:
    answer = world.act(world["bureau"], RequestPaper(consent=case_id(world.draw())), persons=[Role.AUDITOR])
    assert refusal(answer) == ("audit", Refusal.NOT_CUSTODIAL)


def test_opening_the_paper_grants_the_asker_one_delivery_of_the_scan(world: World) -> None:
    paper = opened(world)

    grant, fields = grant_of(world, paper), found(world, paper).fields
    assert found(world, paper).state == PaperState.OPENED
    assert fields.deadline == world.time + 30 * DAY
    assert (grant.state, grant.fields.basis) == (GrantState.ISSUED, Basis.STATUTORY)
    assert (grant.fields.custodian, grant.fields.recipient) == (world["centre"].id, world["bureau"].id)
    assert (grant.fields.entries, grant.fields.ends) == ((fields.entry,), fields.deadline)
    use = world.reserved("bureau", grant.header.id, fields.entry, Role.AUDITOR, Purpose.HOPERAT)
    world.done(world["centre"], UseDeliver(mask=sha256(b"mask")), use)
    assert grant_of(world, paper).state == GrantState.EXHAUSTED


def test_a_home_that_withdrew_the_scan_cannot_open_it(world: World) -> None:
    paper = requested(world)
    world.done(world["centre"], Withdraw(), found(world, paper).fields.entry, Role.DATA_OFFICER)
    answer = world.act(world["centre"], OpenPaper(), paper, persons=[Role.DATA_OFFICER])
    assert refusal(answer) == (KERNEL, KernelRefusal.CONSEQUENCE_REFUSED)
    assert found(world, paper).state == PaperState.REQUESTED


def test_nobody_but_the_home_opens_its_paper(world: World) -> None:
    answer = world.act(world["hospital"], OpenPaper(), requested(world), persons=[Role.DATA_OFFICER])
    assert refusal(answer) == (KERNEL, KernelRefusal.NOT_PERMITTED)


def test_a_paper_is_not_opened_after_three_days(world: World) -> None:
    paper = requested(world)
    world.advance(3 * DAY)
    answer = world.act(world["centre"], OpenPaper(), paper, persons=[Role.DATA_OFFICER])
    assert refusal(answer) == (KERNEL, KernelRefusal.DEADLINE_PASSED)


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        pytest.param(Verdict.MATCHES, PaperState.MATCHED, id="matches"),
        pytest.param(Verdict.OTHER_PAPER, PaperState.BREACH, id="another-paper"),
        pytest.param(Verdict.NOT_SIGNED, PaperState.BREACH, id="not-signed"),
        pytest.param(Verdict.NOT_WITNESSED, PaperState.BREACH, id="not-witnessed"),
    ],
)
def test_the_asker_judges_and_the_grant_ends(world: World, verdict: Verdict, state: PaperState) -> None:
    paper = opened(world)
    world.done(world["bureau"], JudgePaper(verdict=verdict), paper, Role.AUDITOR)
    assert (found(world, paper).state, found(world, paper).fields.verdict) == (state, verdict)
    assert grant_of(world, paper).state == GrantState.ENDED


def test_another_auditor_does_not_judge(world: World) -> None:
    command = JudgePaper(verdict=Verdict.MATCHES)
    answer = world.act(world["regulator"], command, opened(world), persons=[Role.AUDITOR])
    assert refusal(answer) == (KERNEL, KernelRefusal.NOT_PERMITTED)


def test_a_paper_never_opened_is_a_breach(world: World) -> None:
    paper = requested(world)
    too_early = world.act(world["hospital"], ExpirePaper(), paper)
    world.advance(3 * DAY)
    world.done(world["hospital"], ExpirePaper(), paper)
    assert refusal(too_early) == (KERNEL, KernelRefusal.TOO_EARLY)
    assert found(world, paper).state == PaperState.BREACH


def test_a_paper_never_judged_ends_unchecked_and_its_grant_ends(world: World) -> None:
    paper = opened(world)
    world.advance(30 * DAY)
    world.done(world["hospital"], ExpirePaper(), paper)
    assert found(world, paper).state == PaperState.UNCHECKED
    assert grant_of(world, paper).state == GrantState.ENDED

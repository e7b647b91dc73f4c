"""How both sides of a use account for it, in any order, and what follows where one is silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yilian.crypto.suite import sha256
from yilian.ledger.cases import Found
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.running import OVERDUE
from yilian.ledger.workflow import KernelRefusal
from yilian.values import DAY, MINUTE, CaseId, unix_millis
from yilian.workflows.audit.model import (
    WAS_ONE_SIDED,
    Disclosure,
    DisclosureAccept,
    DisclosureDeclareBreach,
    DisclosureExpire,
    DisclosureExplain,
    DisclosureObject,
    DisclosureReceived,
    DisclosureSent,
    DisclosureState,
    Explanation,
    Refusal,
    Sequence,
)
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.consent.model import UseConfirm

if TYPE_CHECKING:
    from tests.workflows.audit.conftest import World

SENT, RECEIVED = DisclosureSent(event=sha256(b"sent")), DisclosureReceived(event=sha256(b"received"))
EXPLANATION = DisclosureExplain(reason=Explanation.NODE_DOWN, evidence=sha256(b"evidence"))


def found(world: World, pair: CaseId) -> Found[Disclosure]:
    there = world.case(Disclosure, pair)
    assert there is not None
    return there


def refusal(answer: Answer) -> tuple[str, int]:
    return answer.result[0]


def one_sided(world: World) -> CaseId:
    pair = world.done(world["centre"], SENT, None, refs=(world.delivered_use(),))
    world.advance(10 * MINUTE)
    return world.done(world["regulator"], DisclosureExpire(), pair)


def explained(world: World) -> CaseId:
    return world.done(world["hospital"], EXPLANATION, one_sided(world), Role.DATA_OFFICER)


def test_the_source_opens_the_pair_and_the_recipient_matches_it(world: World) -> None:
    use = world.delivered_use()

    pair = world.done(world["centre"], SENT, None, refs=(use,))
    opened, opened_at = found(world, pair), world.time
    world.done(world["hospital"], RECEIVED, pair, refs=(use,))

    assert pair == disclosure_id(world.chain, use)
    assert opened.state == DisclosureState.SENT
    assert found(world, pair).state == DisclosureState.MATCHED
    assert found(world, pair).fields == Disclosure(
        use=use,
        source=world["centre"].id,
        recipient=world["hospital"].id,
        first=world["centre"].id,
        second=world["hospital"].id,
        complete_by=unix_millis(opened_at + 10 * MINUTE),
        source_event=SENT.event,
        recipient_event=RECEIVED.event,
        source_number=1,
        recipient_number=1,
    )


def test_the_recipient_may_come_first(world: World) -> None:
    use = world.delivered_use()

    pair = world.done(world["hospital"], RECEIVED, None, refs=(use,))
    assert found(world, pair).state == DisclosureState.RECEIVED
    world.done(world["centre"], SENT, pair, refs=(use,))

    matched = found(world, pair)
    assert (matched.state, matched.fields.first) == (DisclosureState.MATCHED, world["hospital"].id)


def test_a_use_that_was_confirmed_before_is_accounted_for_too(world: World) -> None:
    use = world.done(world["hospital"], UseConfirm(), world.delivered_use())
    assert world.act(world["centre"], SENT, refs=[use]).ok


def test_a_use_that_was_not_delivered_has_no_pair(world: World) -> None:
    answer = world.act(world["centre"], SENT, refs=[world.reserved_use()])
    assert refusal(answer) == ("kernel", KernelRefusal.REFERENCE_NOT_ADMISSIBLE)


def test_the_ledger_numbers_the_events_of_each_institution(world: World) -> None:
    uses = [world.delivered_use() for _ in range(3)]
    pairs = [world.done(world["hospital"], RECEIVED, None, refs=(use,)) for use in uses]
    world.done(world["centre"], SENT, pairs[-1], refs=(uses[-1],))

    fields = found(world, pairs[-1]).fields
    assert (fields.recipient_number, fields.source_number) == (3, 1)
    assert world.register(Sequence, world["hospital"].id) == Sequence(last=3)
    assert world.register(Sequence, world["regulator"].id) is None


@pytest.mark.parametrize("command", [SENT, RECEIVED], ids=["sent", "received"])
def test_who_is_no_party_of_the_use_opens_no_pair(world: World, command: DisclosureSent | DisclosureReceived) -> None:
    answer = world.act(world["regulator"], command, refs=[world.delivered_use()])
    assert refusal(answer) == ("audit", Refusal.NOT_A_PARTY)


def test_a_party_does_not_speak_for_the_other_side(world: World) -> None:
    answer = world.act(world["hospital"], SENT, refs=[world.delivered_use()])
    assert refusal(answer) == ("audit", Refusal.NOT_A_PARTY)


def test_a_pair_is_not_matched_by_another_use(world: World) -> None:
    use, other = world.delivered_use(), world.delivered_use()
    pair = world.done(world["centre"], SENT, None, refs=(use,))
    answer = world.act(world["hospital"], RECEIVED, pair, refs=[other])
    assert refusal(answer) == ("audit", Refusal.PAIR_MISMATCH)


def test_the_first_side_does_not_come_twice(world: World) -> None:
    use = world.delivered_use()
    pair = world.done(world["centre"], SENT, None, refs=(use,))
    answer = world.act(world["centre"], SENT, pair, refs=[use])
    assert refusal(answer) == ("kernel", KernelRefusal.STALE_VERSION)


@pytest.mark.parametrize(
    ("party", "command"),
    [pytest.param("centre", SENT, id="source"), pytest.param("hospital", RECEIVED, id="recipient")],
)
def test_the_side_that_spoke_does_not_match_its_own_event_later(
    world: World, party: str, command: DisclosureSent | DisclosureReceived
) -> None:
    use = world.delivered_use()
    pair = world.done(world[party], command, None, refs=(use,))
    world.advance(10 * MINUTE)
    world.done(world["regulator"], DisclosureExpire(), pair)

    answer = world.act(world[party], command, pair, refs=[use])

    assert refusal(answer) == ("audit", Refusal.EVENT_THERE_ALREADY)


def test_the_alert_comes_after_ten_minutes_and_stays_when_the_pair_is_matched_late(world: World) -> None:
    use = world.delivered_use()
    pair = world.done(world["centre"], SENT, None, refs=(use,))
    too_early = world.act(world["regulator"], DisclosureExpire(), pair)
    world.advance(10 * MINUTE)
    world.done(world["regulator"], DisclosureExpire(), pair)
    alerted = found(world, pair)
    assert alerted.fields.explain_by == world.time + 3 * DAY
    world.done(world["hospital"], RECEIVED, pair, refs=(use,))

    assert refusal(too_early) == ("kernel", KernelRefusal.TOO_EARLY)
    assert (alerted.state, alerted.header.flags) == (DisclosureState.ONE_SIDED, (WAS_ONE_SIDED,))
    assert (found(world, pair).state, found(world, pair).header.flags) == (DisclosureState.MATCHED, (WAS_ONE_SIDED,))


def test_the_silent_side_explains_and_the_other_settles(world: World) -> None:
    pair = explained(world)
    waiting = found(world, pair)
    assert (waiting.state, waiting.fields.explanation) == (DisclosureState.EXPLAINED, Explanation.NODE_DOWN)

    world.done(world["centre"], DisclosureAccept(), pair, Role.DATA_OFFICER)

    assert found(world, pair).state == DisclosureState.SETTLED


def test_an_explanation_after_three_days_is_marked_as_overdue(world: World) -> None:
    pair = one_sided(world)
    world.advance(3 * DAY)
    world.done(world["hospital"], EXPLANATION, pair, Role.DATA_OFFICER)
    assert found(world, pair).header.flags == tuple(sorted((OVERDUE, WAS_ONE_SIDED)))


def test_the_side_that_spoke_has_nothing_to_explain(world: World) -> None:
    answer = world.act(world["centre"], EXPLANATION, one_sided(world), persons=[Role.DATA_OFFICER])
    assert refusal(answer) == ("kernel", KernelRefusal.NOT_PERMITTED)


def test_the_silent_side_does_not_accept_its_own_explanation(world: World) -> None:
    answer = world.act(world["hospital"], DisclosureAccept(), explained(world), persons=[Role.DATA_OFFICER])
    assert refusal(answer) == ("kernel", KernelRefusal.NOT_PERMITTED)


def test_an_auditor_may_object_to_an_explanation(world: World) -> None:
    pair = world.done(world["bureau"], DisclosureObject(), explained(world), Role.AUDITOR)
    assert found(world, pair).state == DisclosureState.BREACH


def test_a_breach_is_declared_once_the_explanation_is_overdue(world: World) -> None:
    pair = one_sided(world)
    too_early = world.act(world["regulator"], DisclosureDeclareBreach(), pair, persons=[Role.INSPECTOR])
    world.advance(3 * DAY)
    world.done(world["regulator"], DisclosureDeclareBreach(), pair, Role.INSPECTOR)

    assert refusal(too_early) == ("kernel", KernelRefusal.TOO_EARLY)
    assert found(world, pair).state == DisclosureState.BREACH

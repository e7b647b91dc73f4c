"""How a challenge goes, who may decide it, and what follows for the entries."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yilian.crypto.suite import sha256, tagged_hash
from yilian.ledger.cases import Found
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KernelRefusal
from yilian.testing.consortium import Consortium
from yilian.values import DAY, HOUR, SECOND, CaseId, case_id, digest, unix_millis
from yilian.workflows.catalog.model import (
    Challenge,
    ChallengeAnswer,
    ChallengeExpire,
    ChallengeFail,
    ChallengeJudge,
    ChallengeOpen,
    ChallengePass,
    ChallengeState,
    Dispute,
    DisputeReason,
    Entry,
    EntryState,
    Refusal,
    Withdraw,
)

Publisher = Callable[..., CaseId]
MESSAGE, OTHER_MESSAGE = sha256(b"signed segments"), sha256(b"other segments")


def challenge(consortium: Consortium, *entries: CaseId, by: str = "hospital") -> Answer:
    command = ChallengeOpen(custodian=consortium["centre"].id, entries=entries)
    return consortium.act(consortium[by], command)


def answered(consortium: Consortium, *entries: CaseId) -> CaseId:
    opened = challenge(consortium, *entries).case_id
    assert consortium.act(consortium["centre"], ChallengeAnswer(message=MESSAGE), opened).ok
    return opened


def contested(consortium: Consortium, *entries: CaseId) -> CaseId:
    opened = answered(consortium, *entries)
    assert consortium.act(consortium["hospital"], ChallengeFail(entries=entries), opened).ok
    return opened


def lapsed(consortium: Consortium, *entries: CaseId, by: str = "hospital") -> CaseId:
    opened = challenge(consortium, *entries, by=by).case_id
    consortium.advance(2 * DAY)
    assert consortium.act(consortium["regulator"], ChallengeExpire(), opened).ok
    return opened


def found(consortium: Consortium, case: CaseId) -> Found[Challenge]:
    there = consortium.case(Challenge, case)
    assert there is not None
    return there


def state_of(consortium: Consortium, entry: CaseId) -> str:
    there = consortium.case(Entry, entry)
    assert there is not None
    return there.state


def refusal(answer: Answer) -> tuple[str, int]:
    return answer.result[0]


def test_neither_side_chooses_the_value_of_a_challenge(consortium: Consortium, publish: Publisher) -> None:
    entries = (publish(consortium["centre"]), publish(consortium["centre"]))
    app_hash = consortium.machine.head.app_hash

    opened = challenge(consortium, *entries)

    assert found(consortium, opened.case_id).fields == Challenge(
        challenger=consortium["hospital"].id,
        custodian=consortium["centre"].id,
        entries=entries,
        value=tagged_hash("yilian/challenge/v1", app_hash, *entries),
        deadline=unix_millis(consortium.time + 60 * SECOND),
    )


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.INSPECTOR])
def test_auditors_and_inspectors_challenge_too(consortium: Consortium, publish: Publisher, role: Role) -> None:
    command = ChallengeOpen(custodian=consortium["centre"].id, entries=(publish(consortium["centre"]),))
    assert consortium.act(consortium["regulator"], command, persons=[role]).ok


def test_a_self_check_has_a_day(consortium: Consortium, publish: Publisher) -> None:
    opened = challenge(consortium, publish(consortium["centre"]), by="centre")
    assert found(consortium, opened.case_id).fields.deadline == consortium.time + 24 * HOUR


def test_one_challenge_is_about_one_custodian(consortium: Consortium, publish: Publisher) -> None:
    opened = challenge(consortium, publish(consortium["centre"]), publish(consortium["hospital"]))
    assert refusal(opened) == ("catalog", Refusal.NOT_CUSTODIAN)


def test_only_current_entries_are_challenged(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    consortium.act(consortium["centre"], Withdraw(), entry, persons=[Role.DATA_OFFICER])
    assert refusal(challenge(consortium, entry)) == ("catalog", Refusal.ENTRY_NOT_CURRENT)


def test_an_entry_that_does_not_exist_is_not_challenged(consortium: Consortium, publish: Publisher) -> None:
    unknown = case_id(consortium.draw())
    assert refusal(challenge(consortium, unknown)) == ("catalog", Refusal.ENTRY_NOT_CURRENT)


def test_an_entry_is_named_once_in_a_challenge(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    assert refusal(challenge(consortium, entry, entry)) == ("catalog", Refusal.ENTRY_TWICE)


def test_challenges_of_a_pair_are_limited_by_the_day(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    today = [challenge(consortium, entry) for _ in range(4)]
    of_another = challenge(consortium, entry, by="regulator")
    consortium.advance(DAY)
    tomorrow = challenge(consortium, entry)

    assert [answer.ok for answer in today] == [True, True, True, False]
    assert refusal(today[-1]) == ("catalog", Refusal.CHALLENGE_LIMIT)
    assert (of_another.ok, tomorrow.ok) == (True, True)


def test_an_answer_that_checks_passes(consortium: Consortium, publish: Publisher) -> None:
    opened = answered(consortium, publish(consortium["centre"]))
    waiting = found(consortium, opened).fields
    assert (waiting.answer, waiting.deadline) == (MESSAGE, consortium.time + 24 * HOUR)

    assert consortium.act(consortium["hospital"], ChallengePass(), opened).ok

    assert found(consortium, opened).state == ChallengeState.PASSED


def test_an_answer_at_the_last_moment_counts_and_one_after_it_does_not(
    consortium: Consortium, publish: Publisher
) -> None:
    entry = publish(consortium["centre"])
    first = challenge(consortium, entry).case_id
    consortium.advance(60 * SECOND - 1)
    at_the_end = consortium.act(consortium["centre"], ChallengeAnswer(message=MESSAGE), first)
    second = challenge(consortium, entry).case_id
    consortium.advance(60 * SECOND)
    too_late = consortium.act(consortium["centre"], ChallengeAnswer(message=MESSAGE), second)

    assert at_the_end.ok
    assert refusal(too_late) == ("kernel", KernelRefusal.DEADLINE_PASSED)


def test_only_the_challenger_passes_a_challenge(consortium: Consortium, publish: Publisher) -> None:
    opened = answered(consortium, publish(consortium["centre"]))
    answer = consortium.act(consortium["centre"], ChallengePass(), opened)
    assert refusal(answer) == ("kernel", KernelRefusal.NOT_PERMITTED)


def test_what_fails_stays_current_until_it_is_judged(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])

    opened = contested(consortium, entry)

    case = found(consortium, opened)
    assert (case.state, case.fields.contested) == (ChallengeState.CONTESTED, (entry,))
    assert case.fields.deadline == consortium.time + 30 * DAY
    assert state_of(consortium, entry) == EntryState.CURRENT


def test_an_entry_outside_the_challenge_does_not_fail_in_it(consortium: Consortium, publish: Publisher) -> None:
    entry, other = publish(consortium["centre"]), publish(consortium["centre"])
    opened = answered(consortium, entry)
    answer = consortium.act(consortium["hospital"], ChallengeFail(entries=(other,)), opened)
    assert refusal(answer) == ("catalog", Refusal.NOT_CHALLENGED)


def test_an_entry_fails_once(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    opened = answered(consortium, entry)
    answer = consortium.act(consortium["hospital"], ChallengeFail(entries=(entry, entry)), opened)
    assert refusal(answer) == ("catalog", Refusal.ENTRY_TWICE)


def test_failed_entries_become_disputed_and_those_no_longer_current_are_named(
    consortium: Consortium, publish: Publisher
) -> None:
    held, lost, withdrawn = (publish(consortium["centre"]) for _ in range(3))
    opened = contested(consortium, held, lost, withdrawn)
    consortium.act(consortium["centre"], Withdraw(), withdrawn, persons=[Role.DATA_OFFICER])

    verdict = ChallengeJudge(message=MESSAGE, failed=(lost, withdrawn))
    answer = consortium.act(consortium["regulator"], verdict, opened, persons=[Role.AUDITOR])

    assert answer.ok, answer.message
    case = found(consortium, opened)
    assert case.state == ChallengeState.FAILED
    assert (case.fields.failed, case.fields.undisputed) == ((lost, withdrawn), (withdrawn,))
    states = tuple(state_of(consortium, entry) for entry in (held, lost, withdrawn))
    assert states == (EntryState.CURRENT, EntryState.DISPUTED, EntryState.WITHDRAWN)
    disputed = consortium.case(Entry, lost)
    assert disputed is not None
    assert disputed.fields.dispute_reason == DisputeReason.CHALLENGE_FAILED


def test_a_judge_who_finds_nothing_wrong_passes_the_challenge(consortium: Consortium, publish: Publisher) -> None:
    opened = contested(consortium, publish(consortium["centre"]))
    verdict = ChallengeJudge(message=MESSAGE, failed=())
    consortium.act(consortium["regulator"], verdict, opened, persons=[Role.AUDITOR])
    assert found(consortium, opened).state == ChallengeState.PASSED


def test_a_judge_stands_under_the_operator_of_neither_side(consortium: Consortium, publish: Publisher) -> None:
    opened = contested(consortium, publish(consortium["centre"]))
    verdict = ChallengeJudge(message=MESSAGE, failed=())
    answer = consortium.act(consortium["bureau"], verdict, opened, persons=[Role.AUDITOR])
    assert refusal(answer) == ("catalog", Refusal.SAME_OPERATOR)


@pytest.mark.parametrize(
    ("message", "wrong", "number"),
    [
        pytest.param(OTHER_MESSAGE, "none", Refusal.ANSWER_DIFFERS, id="another-message-opened"),
        pytest.param(MESSAGE, "twice", Refusal.ENTRY_TWICE, id="an-entry-twice"),
        pytest.param(MESSAGE, "uncontested", Refusal.NOT_CHALLENGED, id="an-entry-not-contested"),
    ],
)
def test_a_verdict_is_refused(
    consortium: Consortium, publish: Publisher, message: bytes, wrong: str, number: Refusal
) -> None:
    entry, other = publish(consortium["centre"]), publish(consortium["centre"])
    opened = contested(consortium, entry)
    failed = {"none": (entry,), "twice": (entry, entry), "uncontested": (other,)}[wrong]

    verdict = ChallengeJudge(message=digest(message), failed=failed)
    answer = consortium.act(consortium["regulator"], verdict, opened, persons=[Role.AUDITOR])

    assert refusal(answer) == ("catalog", number)


def test_a_challenge_without_answer_lapses_after_its_time_only(consortium: Consortium, publish: Publisher) -> None:
    opened = challenge(consortium, publish(consortium["centre"])).case_id
    too_early = consortium.act(consortium["regulator"], ChallengeExpire(), opened)
    consortium.advance(60 * SECOND)
    in_time = consortium.act(consortium["regulator"], ChallengeExpire(), opened, version=0)

    assert refusal(too_early) == ("kernel", KernelRefusal.TOO_EARLY)
    assert in_time.ok
    assert found(consortium, opened).state == ChallengeState.LAPSED


@pytest.mark.parametrize(
    ("prepare", "wait"),
    [
        pytest.param(answered, 24 * HOUR, id="the-challenger-did-not-check"),
        pytest.param(contested, 30 * DAY, id="nothing-was-proven"),
    ],
)
def test_an_answered_challenge_ends_unchecked(
    consortium: Consortium, publish: Publisher, prepare: Callable[..., CaseId], wait: int
) -> None:
    opened = prepare(consortium, publish(consortium["centre"]))
    consortium.advance(wait)
    assert consortium.act(consortium["regulator"], ChallengeExpire(), opened).ok
    assert found(consortium, opened).state == ChallengeState.UNCHECKED


def test_the_challenger_of_a_lapsed_challenge_disputes_its_entries(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    opened = lapsed(consortium, entry)
    command = Dispute(reason=DisputeReason.CHALLENGE_FAILED, own_entry=None)

    assert consortium.act(consortium["hospital"], command, entry, refs=[opened]).ok

    assert state_of(consortium, entry) == EntryState.DISPUTED


def test_a_challenge_that_was_answered_is_no_ground_for_a_dispute(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    opened = answered(consortium, entry)
    command = Dispute(reason=DisputeReason.CHALLENGE_FAILED, own_entry=None)
    answer = consortium.act(consortium["hospital"], command, entry, refs=[opened])
    assert refusal(answer) == ("kernel", KernelRefusal.REFERENCE_NOT_ADMISSIBLE)


@pytest.mark.parametrize(
    ("party", "reason", "about_it"),
    [
        pytest.param("regulator", DisputeReason.CHALLENGE_FAILED, True, id="anothers-challenge"),
        pytest.param("hospital", DisputeReason.CHALLENGE_FAILED, False, id="about-another-entry"),
        pytest.param("hospital", DisputeReason.WRONG_PATIENT, True, id="a-reason-it-does-not-show"),
    ],
)
def test_a_lapsed_challenge_lets_nobody_else_dispute_and_nothing_else(
    consortium: Consortium, publish: Publisher, party: str, reason: DisputeReason, about_it: bool
) -> None:
    challenged, other = publish(consortium["centre"]), publish(consortium["centre"])
    opened = lapsed(consortium, challenged)
    entry = challenged if about_it else other

    answer = consortium.act(consortium[party], Dispute(reason=reason, own_entry=None), entry, refs=[opened])

    assert refusal(answer) == ("catalog", Refusal.NOT_YOUR_CHALLENGE)

"""One shape of errors both ways: what a node describes, a client raises again."""

from __future__ import annotations

import msgspec
import pytest

from yilian.errors import (
    ConflictError,
    NoGrantError,
    NotFoundError,
    Refused,
    SettingsError,
    UnavailableError,
    VerificationError,
    YilianError,
)
from yilian.ledger.envelope import InvalidTransaction, TransactionCode
from yilian.web.kit.problems import Named, Problem, Unauthenticated, error_of, plain, problem_of
from yilian.web.kit.text import Language


def _name(workflow: str, number: int, language: Language) -> Named:
    return Named(workflow=workflow, number=number, name=f"N{number}", title=f"{language} {workflow} {number}")


def _described(error: YilianError, language: Language = "en") -> Problem:
    return problem_of(error, _name, language=language, instance="/v1/x", trace_id="t")


def _again(problem: Problem) -> YilianError:
    return error_of(msgspec.to_builtins(problem), problem.status)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthenticated("who"), 401),
        (SettingsError("what"), 400),
        (NotFoundError("where"), 404),
        (NoGrantError("why"), 403),
        (VerificationError("bytes"), 422),
        (ConflictError("first"), 409),
        (UnavailableError("later"), 503),
        (YilianError("other"), 500),
    ],
)
def test_each_branch_has_its_status_and_comes_back_as_itself(error: YilianError, status: int) -> None:
    problem = _described(error)

    assert (problem.status, problem.detail, problem.instance) == (status, str(error), "/v1/x")
    assert isinstance(_again(problem), type(error)) or status == 500


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (Refused(2, "m", workflow="kernel"), 403),
        (Refused(4, "m", workflow="kernel"), 404),
        (Refused(5, "m", workflow="kernel"), 409),
        (Refused(10, "m", workflow="kernel"), 422),
        (Refused(1, "m", workflow="consent"), 403),
        (Refused(6, "m", workflow="consent"), 422),
        (Refused(11, "m", workflow="kernel", inner=(("consent", 2),)), 403),
        (Refused(11, "m", workflow="kernel", inner=(("consent", 6),)), 422),
    ],
)
def test_a_refusal_has_the_status_of_what_it_means(refused: Refused, status: int) -> None:
    assert _described(refused).status == status


def test_a_refusal_keeps_workflow_number_and_what_lay_behind_it() -> None:
    refused = Refused(11, "found a, expected b: do c", workflow="kernel", inner=(("consent", 6),))

    problem = _described(refused, "zh")
    again = _again(problem)

    assert problem.type == "urn:yilian:refusal:kernel:11"
    assert problem.title == "zh kernel 11"
    assert isinstance(again, Refused)
    assert (again.workflow, again.number, again.inner) == ("kernel", 11, (("consent", 6),))


def test_a_transaction_that_enters_no_block_is_named_by_its_code() -> None:
    error = InvalidTransaction(TransactionCode.BAD_SIGNATURE, "signature")

    assert _described(error).code == "BAD_SIGNATURE"


def test_what_holds_no_problem_is_judged_by_its_status() -> None:
    assert isinstance(error_of(None, 502), UnavailableError)
    assert isinstance(error_of({"other": 1}, 400), SettingsError)


def test_titles_are_in_the_language_that_was_asked_for() -> None:
    told = [
        plain(404, "NotFoundError", "d", language=tongue, instance="/", trace_id="t").title for tongue in ("zh", "en")
    ]

    assert told == ["不存在", "Not found"]

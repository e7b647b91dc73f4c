"""Repeats under one key, and what a token is known by."""

from __future__ import annotations

import threading

import pytest

from yilian.errors import ConflictError, SettingsError
from yilian.web.kit.answers import Kept, Once
from yilian.web.kit.keys import bearer, is_same, new_token, token_hash
from yilian.web.kit.problems import Unauthenticated


class Shelf:
    """A memory of one test."""

    def __init__(self) -> None:
        self.answers: dict[bytes, Kept] = {}

    def find_answer(self, key_hash: bytes) -> Kept | None:
        return self.answers.get(key_hash)

    def keep_answer(self, key_hash: bytes, kept: Kept) -> None:
        self.answers[key_hash] = kept


class Work:
    """Counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self) -> tuple[int, bytes]:
        self.done += 1
        return 200, b"answer %d" % self.done


def _ask(memory: Shelf, work: Work, *, key: str | None = "k", owner: bytes = b"o", request: bytes = b"r") -> bytes:
    return Once().answer(memory, key=key, owner=owner, request=request, work=work)[1]


def test_a_repeat_gets_the_answer_that_was_given() -> None:
    memory, work = Shelf(), Work()

    assert _ask(memory, work) == _ask(memory, work) == b"answer 1"
    assert work.done == 1


def test_without_a_key_each_request_is_done() -> None:
    memory, work = Shelf(), Work()

    assert _ask(memory, work, key=None) != _ask(memory, work, key=None)


def test_two_callers_may_use_the_same_key() -> None:
    memory, work = Shelf(), Work()

    assert _ask(memory, work, owner=b"one") != _ask(memory, work, owner=b"two")


def test_the_same_key_for_another_request_is_a_conflict() -> None:
    memory, work = Shelf(), Work()
    _ask(memory, work)

    with pytest.raises(ConflictError, match="another request"):
        _ask(memory, work, request=b"other")


def test_a_repeat_while_the_first_is_at_work_is_a_conflict() -> None:
    once, memory = Once(), Shelf()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> tuple[int, bytes]:
        begun.set()
        go_on.wait(5)
        return 200, b"slow"

    first = threading.Thread(
        target=once.answer, args=(memory,), kwargs={"key": "k", "owner": b"o", "request": b"r", "work": slow}
    )
    first.start()
    begun.wait(5)
    with pytest.raises(ConflictError, match="at work"):
        once.answer(memory, key="k", owner=b"o", request=b"r", work=slow)
    go_on.set()
    first.join()

    assert once.answer(memory, key="k", owner=b"o", request=b"r", work=slow) == (200, b"slow")


def test_an_error_is_not_kept() -> None:
    once, memory, work = Once(), Shelf(), Work()

    def broken() -> tuple[int, bytes]:
        raise SettingsError("wrong")

    with pytest.raises(SettingsError):
        once.answer(memory, key="k", owner=b"o", request=b"r", work=broken)
    assert once.answer(memory, key="k", owner=b"o", request=b"r", work=work) == (200, b"answer 1")


@pytest.mark.parametrize("key", ["", "x" * 129])
def test_a_key_of_no_sensible_length_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match="Idempotency-Key"):
        _ask(Shelf(), Work(), key=key)


def test_a_token_is_known_by_its_hash_alone() -> None:
    token = new_token()

    assert bearer(f"Bearer {token}") == token_hash(token)
    assert is_same(token_hash(token), bearer(f"bearer {token}"))
    assert not is_same(token_hash(token), token_hash(new_token()))


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer short", "Bearer " + "é" * 40, "Bearer " + "a" * 300])
def test_what_is_no_token_is_turned_away(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        bearer(header)

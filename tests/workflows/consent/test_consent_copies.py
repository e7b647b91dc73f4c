"""Erasing a record that was delivered: its recipients answer for their copies, then it is erased everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.workflows.consent.consent_story import Story, by, by_kernel
from yilian.ledger.members import Role
from yilian.ledger.workflow import KernelRefusal
from yilian.values import DAY, CaseId
from yilian.workflows.catalog.interface import Entry, Erasure, ErasureBasis
from yilian.workflows.catalog.model import ConfirmErased, Erase
from yilian.workflows.catalog.model import Refusal as CatalogRefusal
from yilian.workflows.consent.copies import Copy, CopyAnswer, Duty, copy_id
from yilian.workflows.consent.model import Refusal, Use, UseConfirm

OFFICERS = (Role.DATA_OFFICER, Role.DISCLOSURE_OFFICER)


@dataclass
class Delivered:
    story: Story
    entry: CaseId
    use: CaseId

    def erase(self, *recipients: str) -> None:
        named = tuple(self.story[name].id for name in recipients)
        command = Erase(basis=ErasureBasis.PATIENT_RIGHT, recipients=named)
        self.story.do("centre", command, self.entry, OFFICERS)

    def confirm(self) -> None:
        self.story.do("centre", ConfirmErased(), self.entry)

    def answer(self, duty: Duty | None = None) -> CaseId:
        return self.story.do("hospital", CopyAnswer(entry=self.entry, duty=duty), refs=(self.use,))

    @property
    def state(self) -> str:
        return self.story.state(Entry, self.entry)

    @property
    def waiting(self) -> tuple[bytes, ...]:
        erasure = self.story.consortium.register(Erasure, self.entry)
        assert erasure is not None
        return erasure.waiting


@pytest.fixture
def delivered(story: Story) -> Delivered:
    entry = story.entry()
    use = story.reserve(story.grant((entry,)), (entry,))
    story.deliver(use)
    story.do("hospital", UseConfirm(), use)
    return Delivered(story, entry, use)


@pytest.mark.parametrize("custodian_first", [True, False])
def test_an_entry_is_erased_once_its_custodian_and_every_recipient_have_answered(
    delivered: Delivered, custodian_first: bool
) -> None:
    delivered.erase("hospital")
    assert delivered.waiting == (delivered.story["hospital"].id,)
    steps = [delivered.confirm, delivered.answer]
    first, second = steps if custodian_first else reversed(steps)
    first()
    assert delivered.state == "erasing"
    second()
    assert (delivered.state, delivered.waiting) == ("erased", ())


def test_without_recipients_the_custodians_word_is_enough(story: Story) -> None:
    entry = story.entry()
    Delivered(story, entry, entry).erase("centre")
    story.do("centre", ConfirmErased(), entry)
    assert story.state(Entry, entry) == "erased"


def test_a_recipient_may_keep_its_copy_under_a_duty_that_it_names(delivered: Delivered) -> None:
    delivered.erase("hospital")
    answer = delivered.answer(Duty.MEDICAL_RECORD)
    assert answer == copy_id(delivered.story.consortium.chain, delivered.entry, delivered.story["hospital"].id)
    found = delivered.story.found(Copy, answer)
    assert (found.state, found.fields.duty) == ("kept", Duty.MEDICAL_RECORD)
    delivered.confirm()
    assert delivered.state == "erased"


def test_a_recipient_that_nobody_named_answers_too_and_is_on_record(delivered: Delivered) -> None:
    delivered.erase()
    delivered.confirm()
    assert delivered.state == "erased"
    assert delivered.story.state(Copy, delivered.answer()) == "erased"


def test_a_recipient_answers_once(delivered: Delivered) -> None:
    delivered.erase("hospital", "laboratory")
    delivered.answer()
    again = delivered.story.act("hospital", CopyAnswer(entry=delivered.entry, duty=None), refs=(delivered.use,))
    assert again.result == by_kernel(KernelRefusal.STALE_VERSION)


def test_the_custodian_confirms_once(delivered: Delivered) -> None:
    delivered.erase("hospital")
    delivered.confirm()
    again = delivered.story.act("centre", ConfirmErased(), delivered.entry)
    assert again.result == (("catalog", int(CatalogRefusal.ERASURE_CONFIRMED)),)


def test_who_received_nothing_has_nothing_to_answer_for(delivered: Delivered) -> None:
    delivered.erase("laboratory")
    answer = delivered.story.act("laboratory", CopyAnswer(entry=delivered.entry, duty=None), refs=(delivered.use,))
    assert answer.result == by(Refusal.NOT_THE_RECIPIENT)


def test_an_answer_is_for_an_entry_that_the_use_delivered(delivered: Delivered) -> None:
    other = delivered.story.entry()
    answer = delivered.story.act("hospital", CopyAnswer(entry=other, duty=None), refs=(delivered.use,))
    assert answer.result == by(Refusal.NOT_IN_LIST)


def test_a_copy_is_answered_for_only_while_its_entry_is_erased(delivered: Delivered) -> None:
    answer = delivered.story.act("hospital", CopyAnswer(entry=delivered.entry, duty=None), refs=(delivered.use,))
    assert answer.result == by(Refusal.NOT_BEING_ERASED)


def test_an_entry_that_is_being_erased_is_granted_reserved_and_delivered_no_more(story: Story) -> None:
    entry = story.entry()
    grant = story.grant((entry,))
    use = story.reserve(grant, (entry,))
    Delivered(story, entry, use).erase()
    issued = story.act("centre", story.terms(story.consent(), (entry,)))
    reserved = story.act("hospital", story.reservation(grant, (entry,)), None, (Role.PHYSICIAN,))
    assert (issued.result, reserved.result) == (by(Refusal.ENTRY_NOT_CURRENT), by(Refusal.ENTRY_NOT_CURRENT))
    story.deliver(use)
    assert story.state(Use, use) == "released"
    assert story.found(Use, use).fields.failed_guard == Refusal.ENTRY_NOT_CURRENT


def test_an_overdue_erasure_is_on_record_and_still_ends(delivered: Delivered) -> None:
    delivered.erase("hospital")
    delivered.confirm()
    delivered.story.consortium.advance(31 * DAY)
    delivered.answer()
    found = delivered.story.found(Entry, delivered.entry)
    assert (found.state, found.header.flags) == ("erased", ("OVERDUE",))


def test_an_answer_with_another_use_as_its_ref_is_not_admissible(delivered: Delivered) -> None:
    lapsed = delivered.story.reserve(delivered.story.grant((delivered.entry,)), (delivered.entry,))
    delivered.erase("hospital")
    answer = delivered.story.act("hospital", CopyAnswer(entry=delivered.entry, duty=None), refs=(lapsed,))
    assert answer.result == by_kernel(KernelRefusal.REFERENCE_NOT_ADMISSIBLE)

"""Erasing an entry: who decides it, when it may be, and what stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.reads import CommittedReads
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.testing.consortium import Consortium
from yilian.values import DAY, CaseId, case_id, unix_millis
from yilian.workflows.catalog import interface
from yilian.workflows.catalog.model import (
    ConfirmErased,
    Dispute,
    DisputeReason,
    Entry,
    EntryState,
    Erase,
    Erasure,
    ErasureBasis,
    Publish,
    Refusal,
    Replace,
    Resolution,
    Resolve,
    Restrict,
    Withdraw,
)
from yilian.workflows.governance.model import MemberAnnounceLeave, MemberLeave

OFFICERS = [Role.DATA_OFFICER, Role.DISCLOSURE_OFFICER]
RIGHT = Erase(basis=ErasureBasis.PATIENT_RIGHT, recipients=())
OVER = Erase(basis=ErasureBasis.RETENTION_OVER, recipients=())


def test_two_officers_of_the_custodian_erase_and_its_node_confirms(
    consortium: Consortium, publish: Callable[..., CaseId]
) -> None:
    hospital = consortium["hospital"]
    entry = publish(hospital)
    before = consortium.case(Entry, entry)
    assert consortium.act(hospital, RIGHT, entry, persons=OFFICERS).ok
    assert consortium.case(Entry, entry).state == EntryState.ERASING
    assert consortium.act(hospital, ConfirmErased(), entry).ok
    after = consortium.case(Entry, entry)
    assert after.state == EntryState.ERASED
    assert (after.fields.commitment, after.fields.root) == (before.fields.commitment, before.fields.root)
    erasure = consortium.register(Erasure, entry)
    assert (erasure.basis, erasure.waiting) == (ErasureBasis.PATIENT_RIGHT, ())
    assert erasure.begun < erasure.destroyed


@pytest.mark.parametrize("persons", [[], OFFICERS[:1], OFFICERS[1:], [Role.PHYSICIAN, Role.DISCLOSURE_OFFICER]])
def test_one_officer_alone_erases_nothing(
    consortium: Consortium, publish: Callable[..., CaseId], persons: list[Role]
) -> None:
    hospital = consortium["hospital"]
    answer = consortium.act(hospital, RIGHT, publish(hospital), persons=persons)
    assert answer.result == ((KERNEL, int(KernelRefusal.NOT_PERMITTED)),)


def test_another_institution_erases_nothing(consortium: Consortium, publish: Callable[..., CaseId]) -> None:
    answer = consortium.act(consortium["centre"], RIGHT, publish(consortium["hospital"]), persons=OFFICERS)
    assert answer.result == ((KERNEL, int(KernelRefusal.NOT_PERMITTED)),)


def test_the_retention_period_runs_until_it_is_over(consortium: Consortium, publish: Callable[..., CaseId]) -> None:
    hospital = consortium["hospital"]
    entry = publish(hospital)
    early = consortium.act(hospital, OVER, entry, persons=OFFICERS)
    assert early.result == (("catalog", int(Refusal.RETENTION_RUNNING)),)


def test_what_is_past_its_retention_period_is_erased_on_that_basis(describe: Callable[..., dict[str, object]]) -> None:
    kinds = {"hospital": InstitutionKind.HOSPITAL}
    brief = Consortium.found(kinds, parameters={"catalog.retention": DAY})
    hospital = brief["hospital"]
    entry = brief.act(hospital, Publish(**describe())).case_id
    brief.advance(DAY)
    assert brief.act(hospital, OVER, entry, persons=OFFICERS).ok


def test_a_record_is_erased_whatever_had_become_of_it(
    consortium: Consortium, publish: Callable[..., CaseId], describe: Callable[..., dict[str, object]]
) -> None:
    hospital, centre = consortium["hospital"], consortium["centre"]
    superseded, withdrawn, disputed, mistaken = (publish(hospital) for _ in range(4))
    assert consortium.act(hospital, Replace(**describe()), superseded).ok
    assert consortium.act(hospital, Withdraw(), withdrawn, persons=[Role.DATA_OFFICER]).ok
    reason = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=publish(centre))
    for entry in (disputed, mistaken):
        assert consortium.act(centre, reason, entry, persons=[Role.DATA_OFFICER]).ok
    wrong = Resolve(resolution=Resolution.WRONG_CONTENT)
    assert consortium.act(hospital, wrong, mistaken, persons=[Role.DATA_OFFICER]).ok
    for entry in (superseded, withdrawn, disputed, mistaken):
        assert consortium.act(hospital, RIGHT, entry, persons=OFFICERS).ok
        assert consortium.case(Entry, entry).state == EntryState.ERASING


def test_nothing_but_the_confirmation_is_left_to_an_entry_that_is_erased(
    consortium: Consortium, publish: Callable[..., CaseId], describe: Callable[..., dict[str, object]]
) -> None:
    hospital = consortium["hospital"]
    entry = publish(hospital)
    assert consortium.act(hospital, RIGHT, entry, persons=OFFICERS).ok
    for command in (Restrict(), Replace(**describe())):
        answer = consortium.act(hospital, command, entry)
        assert answer.result == ((KERNEL, int(KernelRefusal.ILLEGAL_TRANSITION)),)
    assert consortium.act(hospital, ConfirmErased(), entry).ok
    again = consortium.act(hospital, ConfirmErased(), entry)
    assert again.result == ((KERNEL, int(KernelRefusal.ILLEGAL_TRANSITION)),)


def test_the_custodian_waits_for_recipients_that_are_still_members(
    consortium: Consortium, publish: Callable[..., CaseId]
) -> None:
    hospital, regulator = consortium["hospital"], consortium["regulator"]
    entry = publish(hospital)
    named = Erase(basis=ErasureBasis.PATIENT_RIGHT, recipients=(regulator.id, regulator.id, hospital.id))
    assert consortium.act(hospital, named, entry, persons=OFFICERS).ok
    assert consortium.register(Erasure, entry).waiting == (regulator.id,)
    assert consortium.act(hospital, ConfirmErased(), entry).ok
    early = consortium.act(hospital, ConfirmErased(), entry)
    assert early.result == (("catalog", int(Refusal.ERASURE_CONFIRMED)),)
    _leave(consortium, "regulator")
    assert consortium.act(hospital, ConfirmErased(), entry).ok
    assert consortium.case(Entry, entry).state == EntryState.ERASED


def test_others_ask_whether_an_entry_is_being_erased(consortium: Consortium, publish: Callable[..., CaseId]) -> None:
    hospital = consortium["hospital"]
    entry = publish(hospital)
    reads = CommittedReads(consortium.state, consortium.machine.registry)
    assert (interface.is_erasing(reads, entry), interface.erasure(reads, entry)) == (False, None)
    assert consortium.act(hospital, RIGHT, entry, persons=OFFICERS).ok
    reads = CommittedReads(consortium.state, consortium.machine.registry)
    assert interface.is_erasing(reads, entry)
    assert interface.erasure(reads, entry) is not None
    assert not interface.is_current(reads, entry)


def _leave(consortium: Consortium, name: str) -> None:
    party = consortium[name]
    soon = unix_millis(consortium.time + DAY)
    assert consortium.act(party, MemberAnnounceLeave(leaves_on=soon), case_id(party.id), persons=[Role.OFFICER]).ok
    consortium.advance(2 * DAY)
    assert consortium.act(party, MemberLeave(), case_id(party.id), persons=[Role.OFFICER]).ok

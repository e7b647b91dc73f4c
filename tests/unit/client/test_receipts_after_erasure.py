"""Erasing a record leaves every proof valid: those made before, and those made after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.client.proof_stand import Stand
from yilian.client.verify import verify_receipt
from yilian.ledger.members import Role
from yilian.workflows.catalog.model import ConfirmErased, Entry, Erase, ErasureBasis
from yilian.workflows.consent.copies import CopyAnswer
from yilian.workflows.consent.interface import Use

OFFICERS = (Role.DATA_OFFICER, Role.DISCLOSURE_OFFICER)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_every_proof_about_an_erased_record_still_holds(stand: Stand) -> None:
    story = stand.story
    use = _delivered(stand)
    (entry, *_) = story.found(Use, use).fields.entries
    prove = {
        "entry": lambda: stand.prover.state(entry),
        "course": lambda: stand.prover.case(entry),
        "exchange": lambda: stand.prover.exchange(use),
        "operation": lambda: stand.prover.operation(0),
    }
    before = {name: make() for name, make in prove.items()}
    recipient = story["hospital"]
    story.do("centre", Erase(basis=ErasureBasis.PATIENT_RIGHT, recipients=(recipient.id,)), entry, OFFICERS)
    story.do("hospital", CopyAnswer(entry=entry, duty=None), refs=(use,))
    story.do("centre", ConfirmErased(), entry)
    assert story.state(Entry, entry) == "erased"
    stand.follow()
    after = {name: make() for name, make in prove.items()}
    trust = stand.trust()
    held = {
        (when, name): verify_receipt(data, trust, now=stand.now).holds
        for when, made in (("before", before), ("after", after))
        for name, data in made.items()
    }
    assert all(held.values()), held


def _delivered(stand: Stand) -> bytes:
    raise NotImplementedError

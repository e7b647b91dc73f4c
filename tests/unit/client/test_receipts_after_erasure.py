"""Erasing a record leaves every proof valid: those made before, and those made after."""

from __future__ import annotations

from collections.abc import Iterator
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
def own_stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.close()


def test_every_proof_about_an_erased_record_still_holds(own_stand: Stand) -> None:
    stand, story = own_stand, own_stand.story
    use = stand.used
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
        (when, name): verify_receipt(data, trust, now=stand.now).failed
        for when, made in (("before", before), ("after", after))
        for name, data in made.items()
    }
    assert held == dict.fromkeys(held, "")

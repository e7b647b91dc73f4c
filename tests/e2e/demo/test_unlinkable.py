"""Two entries of one patient that were never used cannot be linked from the ledger; the patient's wallet links them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from yilian.client.http import Client
from yilian.client.wallet import Wallet
from yilian.demo.residents import DemoOrganisation, generate
from yilian.errors import NotFoundError
from yilian.ledger.cases import Found
from yilian.standards.fhir.organisations import ProviderKind
from yilian.storage.vault.records import Record
from yilian.testing.served import Served, serve
from yilian.values import CaseId, EntryId, case_id, digest, institution_id
from yilian.workflows.catalog.model import Entry

PATIENTS, SEED = 160, 9
CENTRE = DemoOrganisation(identifier="ORG-C", name="Centre", kind=ProviderKind.COMMUNITY)
HOSPITAL = DemoOrganisation(identifier="ORG-H", name="Hospital", kind=ProviderKind.HOSPITAL)
MAPPING = {CENTRE.identifier: "centre", HOSPITAL.identifier: "hospital"}
Described = tuple[Found[Entry], int]
"""An entry with the place of its publication in the log: all that the ledger has about it."""


def _distance(field: str) -> Callable[[Described, Described], float]:
    def score(one: Described, other: Described) -> float:
        first, second = (bytes(getattr(item[0].fields, field)) for item in (one, other))
        return int.from_bytes(first, "big") ^ int.from_bytes(second, "big")

    return score


GUESSES: Mapping[str, Callable[[Described, Described], float]] = {
    "published next to each other": lambda one, other: abs(one[1] - other[1]),
    "published in one block": lambda one, other: abs(one[0].header.opened_height - other[0].header.opened_height),
    "like tags": _distance("tag"),
    "like roots": _distance("root"),
    "like commitments": _distance("commitment"),
    "like ids": lambda one, other: int.from_bytes(one[0].header.id, "big") ^ int.from_bytes(other[0].header.id, "big"),
}
"""Ways to guess which of two entries belongs to the patient of a third: the one with the smaller score."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("residents")
    for name, content in generate(PATIENTS, SEED, (CENTRE, HOSPITAL)):
        (folder / name).write_bytes(content)
    with serve(tmp_path_factory.mktemp("unlinkable")) as node:
        for slug in MAPPING.values():
            with node.client(f"{slug}-data-officer") as officer:
                asked = {"path": str(folder), "mapping": MAPPING, "only_mapped": True}
                officer.wait_for_job(officer.post("/v1/imports", asked)["job_id"])
        node.wait_projected()
        yield node


@pytest.fixture(scope="module")
def ledger(served: Served) -> dict[EntryId, Described]:
    """Everything that the ledger says of each entry of the centre."""
    found: dict[EntryId, Described] = {}
    for height in range(1, served.node.engine.head().height + 1):
        for event in served.node.engine.events(height):
            for kind, case in event.cases:
                if kind == "entry" and isinstance(case.fields, Entry):
                    found[case.header.id] = (msgspec.structs.replace(case), event.leaf)
    return found


@pytest.fixture(scope="module")
def truth(served: Served) -> dict[bytes, list[Record]]:
    """Which records belong together: known to the centre's vault alone."""
    found: dict[bytes, list[Record]] = defaultdict(list)
    for record in served.node.hosts["centre"].vault.records.each():
        found[record.subject_ref].append(record)
    return found


@pytest.mark.parametrize("guess", GUESSES, ids=str)
def test_a_guesser_with_the_whole_ledger_does_no_better_than_chance(
    ledger: Mapping[EntryId, Described], truth: Mapping[bytes, list[Record]], guess: str
) -> None:
    draw = random.Random(SEED)
    patients = [records for records in truth.values() if len(records) >= 2]
    right = 0
    for number, records in enumerate(patients):
        mine, also_mine = (ledger[record.entry_id] for record in draw.sample(records, 2))
        other = ledger[draw.choice(patients[number - 1]).entry_id]
        # a coin decides between equals
        guessed = [(GUESSES[guess](mine, candidate), draw.random()) for candidate in (also_mine, other)]
        right += guessed[0] < guessed[1]
    # chance is a half: four standard deviations to either side
    assert abs(right - len(patients) / 2) < 2 * len(patients) ** 0.5


def test_the_publication_order_is_one_over_all_patients(
    ledger: Mapping[EntryId, Described], truth: Mapping[bytes, list[Record]]
) -> None:
    order = sorted((ledger[record.entry_id][1], subject) for subject, records in truth.items() for record in records)
    neighbours = sum(one[1] == other[1] for one, other in pairwise(order))
    assert neighbours < len(order) / 20


def test_the_keys_in_the_wallet_find_exactly_the_patients_entries_at_every_institution(
    served: Served, tmp_path: Path
) -> None:
    subject, identifier = next(
        (item, item.identifiers[0])
        for item in served.node.hosts["hospital"].vault.subjects.each()
        if len(served.node.hosts["hospital"].vault.records.of_subject(item.subject_ref)) >= 1
    )
    assert subject.wallet is None
    chain, wallet = served.node.chain, Wallet.create(tmp_path / "wallet", b"a passphrase for this test")
    expected: set[str] = set()
    for slug in MAPPING.values():
        with served.client(f"{slug}-physician") as physician:
            known = physician.post("/v1/subjects/find", {"identifier": identifier})
            expected.update(known["entries"])
            asked = {"subject": known["subject"], "exchange_key": wallet.exchange_key.hex()}
            keys = physician.post("/v1/wallets", asked)
        wallet.add_keys(
            digest(chain),
            [
                (institution_id(bytes.fromhex(key["custodian"])), key["year"], bytes.fromhex(key["wrapped"]))
                for key in keys
            ],
        )
    with served.client("bureau-inspector") as anyone:
        found = wallet.entries(chain, lambda entries: _look_up(anyone, entries))
    assert {item.entry.hex() for item in found} == expected
    assert len({item.custodian for item in found}) == len(MAPPING)


def _look_up(client: Client, entries: tuple[EntryId, ...] | list[EntryId]) -> dict[CaseId, object]:
    found: dict[CaseId, object] = {}
    for entry in entries:
        with suppress(NotFoundError):
            found[case_id(entry)] = client.case(entry.hex())
    return found

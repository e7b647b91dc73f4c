"""Erasing a record from the command line, with two officers; daily statements; votes on sequencer and witnesses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import msgspec
import pytest

from yilian.cli.main import main
from yilian.ledger.members import Role
from yilian.node.home import PersonSpec
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.testing.served import NETWORK, Served, serve
from yilian.values import day_of, month_of
from yilian.workflows.catalog.model import Entry
from yilian.workflows.catalog.service import NewRecord, publish_records

OFFICER = PersonSpec(label="officer", role=Role.OFFICER)
PEOPLE = (
    OFFICER,
    PersonSpec(label="data-officer", role=Role.DATA_OFFICER),
    PersonSpec(label="disclosure-officer", role=Role.DISCLOSURE_OFFICER),
)
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    centre, *others = NETWORK.institutions
    institutions = (msgspec.structs.replace(centre, people=PEOPLE), *others)
    with serve(tmp_path_factory.mktemp("erase"), msgspec.structs.replace(NETWORK, institutions=institutions)) as node:
        yield node


@pytest.fixture
def run(served: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))

    def call(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = main([*words, "--lang", "en"])
        return code, capfd.readouterr().out

    return call


def test_two_officers_erase_a_record_and_the_node_destroys_it(served: Served, run: Run) -> None:
    host = served.node.hosts["centre"]
    subject = new_subject_ref()
    host.vault.subjects.put([Subject(subject_ref=subject, identity=b"{}", identifiers=("urn:test|1",))])
    month = month_of(day_of(served.node.clock()))
    record = NewRecord(subject_ref=subject, kind="C0002", level=3, month=month, payload=b"to be erased")
    (entry,) = publish_records(host, [record])
    served.wait_projected()
    words = ("record", "erase", entry.hex(), "--basis", "patient_right")
    people = ("--second", "centre-disclosure-officer", "--as", "centre-data-officer")

    code, out = run(*words, *people, "--json")

    assert (code, json.loads(out)["state"]) == (0, "erasing")
    height = served.node.engine.head().height
    while (found := host.gateway.find(Entry, entry)) is not None and found.state != "erased":
        assert served.node.engine.wait_height(height + 1, 30.0)
        height += 1
    assert not host.blobs.exists(host.vault.records.get(entry).root)
    assert run("record", "verify", entry.hex(), "--as", "centre-data-officer")[0] != 0
    assert run(*words, *people)[0] == 1


def test_statements_are_listed(run: Run) -> None:
    code, out = run("audit", "statements", "--as", "bureau-inspector", "--json")
    assert (code, json.loads(out)) == (0, [])


def test_the_sequencer_and_the_number_of_witnesses_are_proposed(run: Run) -> None:
    officer = ("--as", "centre-officer", "--json")
    code, out = run("network", "propose", "sequencer", "--member", "hospital", *officer)
    assert (code, json.loads(out)["state"]) == (0, "open")
    code, out = run("network", "propose", "witnesses", "--number", "2", *officer)
    assert (code, json.loads(out)["state"]) == (0, "open")
    assert run("network", "propose", "witnesses", "--number", "3", *officer)[0] == 1
    assert run("network", "propose", "parameter", "--name", "governance.witnesses", "--number", "1", *officer)[0] == 1

"""People whose keys lie on a device: the node drafts, the device signs, nothing else differs for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from yilian.cli.main import main
from yilian.client.http import Client
from yilian.crypto.intl import Ed25519Signer
from yilian.demo.residents import DemoOrganisation, generate
from yilian.ledger.members import HeldBy, InstitutionKind, Role
from yilian.node.home import InstitutionSpec, PersonSpec
from yilian.node.network import NetworkSpec, found
from yilian.standards.fhir.organisations import ProviderKind
from yilian.testing.served import Served, serve

CENTRE = DemoOrganisation(identifier="91320400000000001X", name="Lake Community Centre", kind=ProviderKind.COMMUNITY)
HOSPITAL = DemoOrganisation(identifier="91320400000000002X", name="City Hospital", kind=ProviderKind.HOSPITAL)
PEOPLE = (
    PersonSpec(label="officer", role=Role.OFFICER, held_by=HeldBy.DEVICE),
    PersonSpec(label="physician", role=Role.PHYSICIAN, held_by=HeldBy.DEVICE),
)
NETWORK = NetworkSpec(
    name="devices",
    institutions=(
        InstitutionSpec(slug="centre", name="Lake Community Centre", kind=InstitutionKind.COMMUNITY_CENTRE),
        InstitutionSpec(slug="hospital", name="City Hospital", kind=InstitutionKind.HOSPITAL, people=PEOPLE),
    ),
    tree_depth=8,
)

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("devices"), NETWORK, found=found) as node:
        yield node


@pytest.fixture(scope="module")
def granted(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a grant of the centre to the hospital, under a wallet's consent."""
    folder = tmp_path_factory.mktemp("fhir")
    for name, content in generate(2, 7, (CENTRE, HOSPITAL)):
        (folder / name).write_bytes(content)
    with served.client("centre-data-officer") as officer:
        mapping = {CENTRE.identifier: "centre", HOSPITAL.identifier: "hospital"}
        job = officer.post("/v1/imports", {"path": str(folder), "mapping": mapping, "only_mapped": True})
        officer.wait_for_job(job["job_id"])
    served.wait_projected()
    return _granted(served)


def _granted(served: Served) -> str:
    patient = Ed25519Signer.generate()
    with served.client("centre-data-officer") as officer:
        entry = next(officer.pages("/v1/entries", custodian=officer.me()["institution"]))["entry_id"]
        hospital = officer.institution("hospital")
        now = officer.get("/v1/ledger")["time"]
        ends = now + 86_400_000
        consent = _consent(officer, hospital, patient, (now, ends))
        terms = {
            "basis": "CONSENT", "covered_by": consent, "recipient": hospital, "purpose": "TREAT", "entries": [entry],
            "level_cap": 4, "begins": now, "ends": ends, "deliveries": 2, "depth": 0,
        }  # fmt: skip
        return str(officer.act("consent", "grant.issue", terms)["case_id"])


def _consent(officer: Client, recipient: str, patient: Ed25519Signer, period: tuple[int, int]) -> str:
    begins, ends = period
    base = {
        "effect": "permit", "recipients": [recipient], "recipient_kinds": [], "roles": [], "custodians": [],
        "purposes": ["TREAT"], "kinds": [], "level_from": 1, "level_to": 4, "month_from": 22_800,
        "month_to": 119_999, "begins": 0, "ends": ends,
    }  # fmt: skip
    policy = {
        "begins": begins, "ends": ends, "maximum": 5, "depth": 0, "access": "view", "erase_by": None, "base": base,
        "exceptions": [],
    }  # fmt: skip
    proposal = {
        "patient": {"key": patient.public_key.hex(), "home": None}, "text": "00" * 32, "language": "zh",
        "policy_uri": "00" * 32, "policy": policy, "replaces": None,
    }  # fmt: skip
    consent = str(officer.act("consent", "consent.propose", proposal)["case_id"])
    body = {"text": "00" * 32, "paper": None, "paper_entry": None}
    signers = [(patient.key_id.hex(), "patient")]
    draft = officer.draft("consent", "consent.sign", body, case_id=consent, signers=signers)
    officer.sign_and_submit(draft, patient)
    return consent


@pytest.fixture
def run(served: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))

    def call(*words: str) -> Any:  # noqa: ANN401 - what JSON holds
        capfd.readouterr()
        code = main([*words, "--json", "--lang", "en"])
        wrote = capfd.readouterr()
        assert code == 0, wrote.err
        return json.loads(wrote.out)

    return call


def test_a_physician_fetches_with_a_key_on_a_device(run: Run, granted: str) -> None:
    fetched = run("record", "fetch", granted, "--as", "hospital-physician")
    opened = run("record", "show", fetched["entries"][0], "--as", "hospital-physician")

    verified = run("record", "verify", fetched["entries"][0], "--as", "hospital-physician")

    assert fetched["verified"] is True
    assert opened["resourceType"] == "Bundle"
    assert verified["entry_id"] == fetched["entries"][0]


def test_the_key_file_may_lie_anywhere(run: Run, served: Served, granted: str, tmp_path: Path) -> None:
    kept = served.home.people / "hospital-physician.key"
    (tmp_path / "stick.key").write_bytes(kept.read_bytes())

    fetched = run("record", "fetch", granted, "--as", "hospital-physician", "--key", str(tmp_path / "stick.key"))

    assert fetched["verified"] is True

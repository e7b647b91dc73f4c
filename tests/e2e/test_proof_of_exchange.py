"""From a screening to one file that shows a delivery of records, checked with the network's own trust file."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from yilian.cli.main import main
from yilian.demo.residents import DemoOrganisation, generate
from yilian.standards.fhir.organisations import ProviderKind
from yilian.testing.served import Served, serve
from yilian.values import case_id
from yilian.workflows.audit.model import DisclosureState
from yilian.workflows.audit.table import disclosure_id

CENTRE = DemoOrganisation(identifier="91320400000000001X", name="Lake Community Centre", kind=ProviderKind.COMMUNITY)
HOSPITAL = DemoOrganisation(identifier="91320400000000002X", name="City Hospital", kind=ProviderKind.HOSPITAL)

Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("exchange-proof")) as node:
        yield node


@pytest.fixture
def run(served: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "fhir").mkdir()
    for name, content in generate(24, 7, (CENTRE, HOSPITAL)):
        (tmp_path / "fhir" / name).write_bytes(content)
    rows = f'[organisations]\n"{CENTRE.identifier}" = "centre"\n"{HOSPITAL.identifier}" = "hospital"\n'
    (tmp_path / "mapping.toml").write_text(rows)
    (tmp_path / "consent.txt").write_text("signed")

    def call(*words: str) -> tuple[str, str]:
        capfd.readouterr()
        code = main([*words, "--lang", "en"])
        wrote = capfd.readouterr()
        assert code == 0, wrote.err
        return wrote.out, wrote.err

    return call


def following(err: str) -> list[str]:
    line = next(line for line in err.splitlines() if line.startswith("next: "))
    words = shlex.split(line.removeprefix("next: "))
    return words[words.index("yilian") + 1 :]


def wait_for_both_sides(served: Served, use: str) -> None:
    """Wait, block by block, until custodian and recipient have put the delivery on record."""
    engine = served.node.engine
    pair = disclosure_id(engine.chain, case_id(bytes.fromhex(use)))
    deadline = time.monotonic() + 30
    while True:
        height, found = engine.head().height, engine.find_case(pair)
        if found is not None and found[1].state == DisclosureState.MATCHED:
            return
        assert time.monotonic() < deadline
        engine.wait_height(height + 1, 1.0)


def verified(file: str) -> Any:  # noqa: ANN401 - what JSON holds
    ran = subprocess.run(
        [sys.executable, "-m", "yilian.client.verify_cli", file, "--trust", "lake.trust", "--json"],
        capture_output=True,
        check=False,
    )
    return json.loads(ran.stdout) | {"code": ran.returncode}


def test_a_delivery_is_shown_by_one_file_that_the_verifier_takes(run: Run, served: Served) -> None:
    run("record", "import", "fhir", "--mapping", "mapping.toml", "--only-mapped", "--as", "centre-data-officer")
    served.wait_projected()
    _, screened = run("screen", "--north", "--urban", "--as", "centre-physician")
    _, created = run(*following(screened))
    _, accepted = run(*following(created))
    run(*following(accepted))
    with served.client("hospital-physician") as client:
        use = client.get("/v1/cases", kind="use")["items"][0]
    wait_for_both_sides(served, use["case_id"])
    run("network", "trust", "-o", "lake.trust", "--as", "centre-officer")
    run("proof", "exchange", use["case_id"], "-o", "delivery.yilian-proof", "--as", "hospital-physician")
    run("proof", "case", use["case_id"], "-o", "use.yilian-proof", "--as", "centre-physician")

    delivery, whole = verified("delivery.yilian-proof"), verified("use.yilian-proof")

    assert (delivery["code"], delivery["failed"], delivery["kind"]) == (0, "", "exchange")
    assert delivery["delivery"]["first"] == 1
    assert (whole["code"], whole["failed"], len(whole["operations"])) == (0, "", use["version"])

"""The demonstration on FHIR that was given: the same story, and no resident is named."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

Told = tuple[str, dict[str, dict[str, int]]]
"""What was printed, and the report."""


@pytest.fixture(scope="module")
def quick(shared_data: Path) -> Path:
    return shared_data / "01-fhir-synthea" / "quick"


@pytest.fixture(scope="module")
def told(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    report = tmp_path_factory.mktemp("given") / "report.json"
    command = f"{sys.executable} -m yilian.cli.main demo --headless --lang en"
    done = subprocess.run(
        [*command.split(), "--data", str(quick), "--report", str(report)],
        env=os.environ | {"TMPDIR": str(report.parent)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode(), json.loads(report.read_bytes())


def test_every_patient_and_record_comes_in_and_every_delivery_is_verified(quick: Path, told: Told) -> None:
    _, figures = told
    assert figures["patients"] == len(list(quick.glob("*.json.gz")))
    assert figures["fetches"]["attempted"] == figures["fetches"]["verified"] == figures["audit"]["pairs"] > 0
    assert figures["audit"]["one_sided"] == 0
    assert min(figures["refused"].values()) >= 1
    assert figures["referrals"]["closed"] > 0


def test_no_resident_is_named(quick: Path, told: Told) -> None:
    text, _ = told
    named: set[str] = set()
    for file in quick.glob("*.json.gz"):
        for entry in json.loads(gzip.decompress(file.read_bytes()))["entry"]:
            for name in entry["resource"]["name"] if entry["resource"]["resourceType"] == "Patient" else ():
                named |= {name["family"], *name["given"]}
    assert len(named) > 20
    assert {name for name in named if name in text} == set()

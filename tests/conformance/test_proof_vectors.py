"""The vectors of receipts: our verifier answers each as it should, and the driver finds one that does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tools import check_proofs
from yilian.client.verify import verify_receipt
from yilian.crypto.cose_receipt import verify_cose_receipt
from yilian.ledger.trust import Trust, parse_trust
from yilian.values import public_key, unix_millis

VECTORS: dict[str, Any] = json.loads(check_proofs.VECTORS.read_text(encoding="utf-8"))
CASES = list(check_proofs.cases(VECTORS))
LATER = unix_millis(1_790_000_000_000)
FEW = {**VECTORS, "valid": VECTORS["valid"][:1], "changed": VECTORS["changed"][:1]}


@pytest.fixture(scope="module")
def trust() -> Trust:
    return parse_trust(json.dumps(VECTORS["trust"]).encode())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_is_answered_with_the_step_that_fails(case: check_proofs.Case, trust: Trust) -> None:
    report = verify_receipt(case.content, trust, now=LATER)

    assert (report.ok, report.failed) == (not case.failed, case.failed)


def test_every_step_of_the_specification_is_made_to_fail_by_some_file() -> None:
    failing = {case.failed for case in CASES if case.failed}

    assert failing == {
        "file", "checkpoint", "trust", "state", "app_hash", "operation", "envelope", "leaf", "log", "signature",
        "persons", "parts", "subject", "changes", "exchange", "claim", "rows",
    }  # fmt: skip


def test_each_valid_file_fails_with_another_trust(trust: Trust) -> None:
    other = msgspec.structs.replace(trust, chain="00" * 32)

    reports = [verify_receipt(case.content, other, now=LATER) for case in CASES if not case.failed]

    assert {report.failed for report in reports} == {"trust"}


def test_the_cose_receipt_says_what_stands_beside_it() -> None:
    cose = VECTORS["cose"]

    found = verify_cose_receipt(bytes.fromhex(cose["receipt"]), public_key(bytes.fromhex(cose["public_key"])))

    assert found.inclusion.leaf.hex() == cose["leaf"]
    assert (found.inclusion.index, found.inclusion.tree_size) == (cose["leaf_index"], cose["tree_size"])
    assert (found.inclusion.root.hex(), found.subject) == (cose["root"], cose["subject"])


def test_the_driver_finds_nothing_wrong_with_our_verifier(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "yilian.client.verify_cli"]

    assert list(check_proofs.differing(command, tmp_path, FEW)) == []


def test_the_driver_names_each_file_that_a_credulous_verifier_takes(tmp_path: Path) -> None:
    credulous = [sys.executable, "-c", """print('{"ok": true, "failed": ""}')"""]

    problems = list(check_proofs.differing(credulous, tmp_path, FEW))

    assert problems == ["operation: nothing in the file: answered (0, True, ''), expected (5, False, 'file')"]


def test_the_driver_says_what_a_broken_verifier_wrote(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('no verifier')"]

    problems = list(check_proofs.differing(broken, tmp_path, FEW))

    assert len(problems) == 2
    assert "no verifier" in problems[0]

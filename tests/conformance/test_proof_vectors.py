"""The vectors of receipts: two verifiers answer each as they should, and the driver finds one that does not."""

from __future__ import annotations

import importlib.util
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
SECOND = Path(__file__).parent / "independent_verifier.py"
LATER = unix_millis(1_790_000_000_000)
FEW = {**VECTORS, "valid": VECTORS["valid"][:1], "changed": VECTORS["changed"][:1]}


@pytest.fixture(scope="module")
def trust() -> Trust:
    return parse_trust(json.dumps(VECTORS["trust"]).encode())


@pytest.fixture(scope="module")
def second() -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location("independent_verifier", SECOND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_is_answered_with_the_step_that_fails(case: check_proofs.Case, trust: Trust) -> None:
    report = verify_receipt(case.content, trust, now=LATER)

    assert (report.ok, report.failed) == (not case.failed, case.failed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_verifier_written_from_the_specification_alone_agrees(case: check_proofs.Case, second: Any) -> None:  # noqa: ANN401
    assert second.verified(case.content, VECTORS["trust"], LATER) == case.failed


def test_both_verifiers_refuse_a_receipt_with_one_bit_changed(trust: Trust, second: Any) -> None:  # noqa: ANN401
    content = CASES[0].content
    taken = []

    for at in range(0, len(content), 3):
        changed = content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]
        if verify_receipt(changed, trust, now=LATER).ok or not second.verified(changed, VECTORS["trust"], LATER):
            taken.append(at)

    assert taken == []


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


@pytest.mark.parametrize("command", [["-m", "yilian.client.verify_cli"], [str(SECOND)]], ids=["ours", "second"])
def test_the_driver_finds_nothing_wrong_with_a_verifier(tmp_path: Path, command: list[str]) -> None:
    command = [sys.executable, *command]

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

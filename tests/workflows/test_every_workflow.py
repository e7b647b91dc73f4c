"""What every workflow must be, whichever it is: generated from the registry."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from yilian.ledger.registry import Registry
from yilian.ledger.workflow import CaseType, KernelRefusal, Workflow
from yilian.testing.exhaustive import CaseTypeCheck
from yilian.workflows.registry import WORKFLOWS

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ROOT / "src" / "yilian" / "workflows"
LEGAL = ROOT / "spec" / "legal"
CASE_TYPES = [
    pytest.param(workflow, case_type, id=f"{workflow.name}.{case_type.word}")
    for workflow in WORKFLOWS
    for case_type in workflow.cases
]
EACH = [pytest.param(workflow, id=workflow.name) for workflow in WORKFLOWS]


@pytest.mark.parametrize(("workflow", "case_type"), CASE_TYPES)
def test_the_kernel_refuses_everything_outside_the_table_with_the_right_number(
    workflow: Workflow, case_type: CaseType, record_count: Callable[[str, str, int], None]
) -> None:
    mismatches, legal, count = CaseTypeCheck(WORKFLOWS, workflow, case_type).run()
    record_count("refusal cases", f"{workflow.name}.{case_type.word}", count)
    frozen = (LEGAL / f"{workflow.name}.{case_type.word}.txt").read_text(encoding="utf-8").splitlines()
    assert mismatches == []
    assert legal == frozen, "the legal set changed: review it, then run tools/freeze_legal.py"


def test_the_registry_lists_the_folders_and_no_other() -> None:
    folders = sorted(path.parent.name for path in FOLDERS.glob("*/model.py"))
    assert sorted(workflow.name for workflow in WORKFLOWS) == folders


@pytest.mark.parametrize("workflow", EACH)
@pytest.mark.parametrize("file", ["__init__.py", "model.py", "contract.py", "text.toml"])
def test_a_workflow_folder_has_the_agreed_files(workflow: Workflow, file: str) -> None:
    assert (FOLDERS / workflow.name / file).is_file()


def test_the_registry_binds_every_row_to_its_function() -> None:
    registry = Registry(WORKFLOWS)
    assert set(registry.commands) == {
        (workflow.name, row.name) for workflow in WORKFLOWS for case in workflow.cases for row in case.rows
    }


@pytest.mark.parametrize("workflow", EACH)
def test_the_text_names_all_that_the_table_names_and_nothing_else(workflow: Workflow) -> None:
    text = _text(workflow)
    assert set(text["cases"]) == {case.word for case in workflow.cases}
    assert {word: tuple(states) for word, states in text["states"].items()} == {
        case.word: case.states for case in workflow.cases
    }
    assert set(text["commands"]) == {row.name for case in workflow.cases for row in case.rows}
    assert tuple(text["refusals"]) == tuple(code.name for code in workflow.refusals)
    assert tuple(text["parameters"]) == tuple(spec.name for spec in workflow.parameters)
    assert {word: tuple(fields) for word, fields in text["fields"].items()} == {
        case.word: case.fields.__struct_fields__ for case in workflow.cases
    }


@pytest.mark.parametrize("workflow", EACH)
def test_every_word_of_the_text_is_there_in_both_languages(workflow: Workflow) -> None:
    assert list(_one_language_only(_text(workflow))) == []


@pytest.mark.parametrize("workflow", EACH)
def test_every_refusal_is_provoked_by_a_test(workflow: Workflow) -> None:
    tests = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != "test_every_workflow.py"
    )
    assert [refusal.name for refusal in workflow.refusals if f".{refusal.name}" not in tests] == []


def test_kernel_refusals_are_the_frozen_ones() -> None:
    assert {refusal.name: refusal.value for refusal in KernelRefusal} == {
        "OP_ID_REUSED": 1,
        "NOT_PERMITTED": 2,
        "KEY_NOT_VALID": 3,
        "NO_SUCH_CASE": 4,
        "STALE_VERSION": 5,
        "ILLEGAL_TRANSITION": 6,
        "MEMBER_SUSPENDED": 7,
        "TOO_EARLY": 8,
        "DEADLINE_PASSED": 9,
        "REFERENCE_NOT_ADMISSIBLE": 10,
        "CONSEQUENCE_REFUSED": 11,
    }


def _text(workflow: Workflow) -> dict[str, Any]:
    return tomllib.loads((FOLDERS / workflow.name / "text.toml").read_text(encoding="utf-8"))


def _one_language_only(text: dict[str, Any], place: str = "") -> Iterator[str]:
    for key, value in text.items():
        if isinstance(value, str) or set(value) & {"zh", "en"}:
            if isinstance(value, str) or set(value) != {"zh", "en"} or not all(value.values()):
                yield f"{place}{key}"
        else:
            yield from _one_language_only(value, f"{place}{key}.")

"""The reference pages say what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from yilian.cli.reference import page
from yilian.ledger.workflow import Workflow
from yilian.workflows.registry import WORKFLOWS

FOLDER = Path(__file__).parent.parent.parent / "docs" / "use" / "workflows"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: one.name)
def test_the_page_of_a_workflow_is_the_one_that_its_table_gives(workflow: Workflow, language: str) -> None:
    name = f"{workflow.name}.md" if language == "en" else f"{workflow.name}.zh.md"
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == page(workflow, language), "run tools/write_reference.py"

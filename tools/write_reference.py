"""Write the reference pages of all workflows to `docs/use/workflows/`, in both languages, from the tables."""

from __future__ import annotations

import sys
from pathlib import Path

from yilian.cli.reference import page
from yilian.ledger.workflow import Workflow
from yilian.workflows.registry import WORKFLOWS

FOLDER = Path(__file__).parent.parent / "docs" / "use" / "workflows"


def write(workflow: Workflow) -> None:
    """Write the two pages of one workflow."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{workflow.name}.md").write_text(page(workflow, "en"), encoding="utf-8")
    (FOLDER / f"{workflow.name}.zh.md").write_text(page(workflow, "zh"), encoding="utf-8")


def main() -> int:
    """Write every page."""
    for workflow in WORKFLOWS:
        write(workflow)
    return 0


if __name__ == "__main__":
    sys.exit(main())

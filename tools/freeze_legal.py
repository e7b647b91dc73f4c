"""Write the legal set of every case type to `spec/legal/`.

Run it after a table changed on purpose, and review the difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

from yilian.testing.exhaustive import CaseTypeCheck
from yilian.workflows.registry import WORKFLOWS

SPEC = Path(__file__).parent.parent / "spec" / "legal"


def main() -> int:
    """Write one file a case type; 1 where the kernel and a table disagree."""
    SPEC.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for workflow in WORKFLOWS:
        for case_type in workflow.cases:
            mismatches, legal, count = CaseTypeCheck(WORKFLOWS, workflow, case_type).run()
            wrong += len(mismatches)
            name = f"{workflow.name}.{case_type.word}.txt"
            (SPEC / name).write_text("\n".join(legal) + "\n", encoding="utf-8")
            sys.stdout.write(f"{name}: {len(legal)} lines from {count} combinations, {len(mismatches)} mismatches\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

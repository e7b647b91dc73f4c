"""Write the names of fields by which a verifier reads rows, from the registry to `src/yilian/client/shapes.json`.

Run it after a case type, a register or the signers of a row were added, and review the difference: what stands there
already is frozen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from yilian.ledger.workflow import CaseType, Row
from yilian.workflows.registry import WORKFLOWS

PLACE = Path(__file__).parent.parent / "src" / "yilian" / "client" / "shapes.json"


def table() -> dict[str, Any]:
    """Give fields by case type and shape, fields by register, and the commands that only a patient signs."""
    rows: dict[str, list[Row]] = {}
    for workflow in WORKFLOWS:
        for case_type in workflow.cases:
            for row in case_type.rows:
                rows.setdefault(row.name, []).append(row)
    return {
        "cases": {case_type.word: _shapes(case_type) for workflow in WORKFLOWS for case_type in workflow.cases},
        "registers": {
            f"{workflow.name}/{register.word}": list(register.__struct_fields__)
            for workflow in WORKFLOWS
            for register in workflow.registers
        },
        "patient_commands": sorted(name for name, of_name in rows.items() if _is_patients(of_name)),
    }


def text() -> str:
    """Give the file's text."""
    return json.dumps(table(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file."""
    PLACE.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{PLACE.name}: {len(table()['cases'])} case types\n")
    return 0


def _shapes(case_type: CaseType) -> dict[str, list[str]]:
    """Give the shapes of a case type: the present one, and older ones as they were written."""
    known = json.loads(PLACE.read_text(encoding="utf-8"))["cases"] if PLACE.exists() else {}
    return {**known.get(case_type.word, {}), str(case_type.shape): list(case_type.fields.__struct_fields__)}


def _is_patients(rows: list[Row]) -> bool:
    kinds = [one.kind for row in rows for one in row.who.alternatives if one.kind != "workflow"]
    return bool(kinds) and all(kind == "patient" for kind in kinds)


if __name__ == "__main__":
    sys.exit(main())

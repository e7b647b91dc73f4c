"""Run a verifier of receipts against `spec/vectors/proofs.json`: `python tools/check_proofs.py [COMMAND …]`.

Each file is given to it as `COMMAND FILE --trust FILE --json`. It must print JSON with `ok` and `failed` (the name of
the step that failed, else empty) and end with 0 where the file holds, with 5 where it does not. Without arguments our
own verifier is run. Ends with 1 where one answer is another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

VECTORS = Path(__file__).parent.parent / "spec" / "vectors" / "proofs.json"
HOLDS, DOES_NOT = 0, 5
TIMEOUT_S = 60


class Case(NamedTuple):
    """A file with the answer that is right."""

    name: str
    content: bytes
    failed: str


def cases(vectors: dict[str, Any]) -> Iterator[Case]:
    """Give all files: those that hold, and those that were changed."""
    whole = {one["name"]: bytes.fromhex(one["receipt"]) for one in vectors["valid"]}
    for name, content in whole.items():
        yield Case(name, content, "")
    for one in vectors["changed"]:
        content, at = whole[one["of"]], one["at"]
        changed = content[:at] + bytes.fromhex(one["put"]) + content[at + one["removed"] :]
        yield Case(f"{one['of']}: {one['name']}", changed, one["failed"])


def differing(command: Sequence[str], folder: Path, vectors: dict[str, Any]) -> Iterator[str]:
    """Give what a verifier answers otherwise than it should."""
    trust, file = folder / "trust", folder / "receipt.yilian-proof"
    trust.write_text(json.dumps(vectors["trust"]), encoding="utf-8")
    for case in cases(vectors):
        file.write_bytes(case.content)
        ran = subprocess.run(
            [*command, str(file), "--trust", str(trust), "--json"],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        try:
            answer = json.loads(ran.stdout)
            found = (ran.returncode, answer["ok"], answer["failed"])
        except (ValueError, KeyError, TypeError):
            found = (ran.returncode, None, ran.stderr.decode(errors="replace")[-200:])
        expected = (DOES_NOT, False, case.failed) if case.failed else (HOLDS, True, "")
        if found != expected:
            yield f"{case.name}: answered {found}, expected {expected}"


def main() -> int:
    """Check and print."""
    command = sys.argv[1:] or [sys.executable, "-m", "yilian.client.verify_cli"]
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        problems = list(differing(command, Path(folder), vectors))
    for problem in problems:
        print(problem, file=sys.stderr)
    total = len(vectors["valid"]) + len(vectors["changed"])
    print(f"{total - len(problems)} of {total} files answered as they should")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

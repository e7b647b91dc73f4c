"""A new workflow is green as it is written: one line in the registry, and all that every workflow must be holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("src", "spec", "tools", "bench", "docs/use/workflows", "tests/workflows", "tests/docs")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of what the tool reads and writes."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def test_a_new_workflow_passes_its_own_tests_and_those_of_every_workflow(copy: Path) -> None:
    written = run(copy, "tools/new_workflow.py", "loan")
    registry = copy / "src" / "yilian" / "workflows" / "registry.py"
    text = registry.read_text(encoding="utf-8")
    text = text.replace("import audit,", "import loan, audit,").replace(
        "    referral.WORKFLOW,\n", "    referral.WORKFLOW,\n    loan.WORKFLOW,\n"
    )
    registry.write_text(text, encoding="utf-8")
    checked = run(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "loan or folders or binds",
        "tests/workflows/loan", "tests/workflows/test_every_workflow.py", "tests/docs/test_reference.py",
    )  # fmt: skip

    assert (written.returncode, checked.returncode) == (0, 0), written.stderr + checked.stdout
    assert "loan.loan" in checked.stdout


def test_a_name_that_is_taken_or_no_word_is_refused(copy: Path) -> None:
    taken, odd = run(copy, "tools/new_workflow.py", "referral"), run(copy, "tools/new_workflow.py", "Loan-1")

    assert (taken.returncode, odd.returncode) == (2, 2)
    assert "choose another name" in taken.stderr

"""The import rules bite: each violation planted into a copy of the package breaks the rule that forbids it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

DOWN = "Dependencies point down"
INTERFACE = "A workflow asks another one only through interface.py"
CIRCLE = "Workflows never form a circle"
PURE = "Code inside consensus has no clock, chance, network or disk"
ADAPTERS = "Only the composition root and the test kit name an adapter"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of the package and of the rules, to be spoilt."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_package_keeps_all_rules(copy: Path) -> None:
    assert broken_rules(copy) == ()


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        pytest.param("workflows/referral/contract.py", "import time", PURE, id="clock in a contract"),
        pytest.param("workflows/consent/model.py", "from datetime import date", PURE, id="calendar in a model"),
        pytest.param("values.py", "import random", PURE, id="chance under the ledger"),
        pytest.param("ledger/envelope.py", "from yilian.crypto import seal", PURE, id="ledger reaches sealing"),
        pytest.param("workflows/catalog/contract.py", "from yilian import clinic", PURE, id="contract to clinic"),
        pytest.param(
            "workflows/catalog/contract.py",
            "import yilian.workflows.catalog.service",
            PURE,
            id="contract to own service",
        ),
        pytest.param(
            "workflows/referral/contract.py", "import yilian.workflows.consent.model", INTERFACE, id="another's model"
        ),
        pytest.param(
            "workflows/referral/interface.py",
            "import yilian.workflows.consent.contract",
            INTERFACE,
            id="another's guards",
        ),
        pytest.param(
            "workflows/catalog/service.py", "import yilian.workflows.consent.service", INTERFACE, id="another's service"
        ),
        pytest.param(
            "workflows/catalog/interface.py",
            "import yilian.workflows.referral.interface",
            CIRCLE,
            id="workflows in a circle",
        ),
        pytest.param("ledger/log.py", "from yilian.workflows import registry", DOWN, id="ledger to workflows"),
        pytest.param("crypto/merkle.py", "from yilian.ledger import ports", DOWN, id="crypto to ledger"),
        pytest.param("engine/port.py", "from yilian.storage import port", DOWN, id="engine to storage"),
        pytest.param("clinic/screening.py", "from yilian import standards", DOWN, id="clinic to standards"),
        pytest.param("workflows/referral/service.py", "from yilian import client", DOWN, id="service to client"),
        pytest.param("web/app.py", "from yilian import node", DOWN, id="web to node"),
        pytest.param("demo/__init__.py", "from yilian import testing", DOWN, id="demo to test kit"),
        pytest.param("helpers.py", "", DOWN, id="module that no layer lists"),
        pytest.param("workflows/catalog/service.py", "from yilian.storage import sql", ADAPTERS, id="service to sql"),
        pytest.param("cli/main.py", "from yilian.storage import lmdb", ADAPTERS, id="command line to state"),
        pytest.param("web/app.py", "from yilian.engine import embedded", ADAPTERS, id="web to engine"),
    ],
)
def test_a_planted_violation_breaks_its_rule(copy: Path, module: str, line: str, rule: str) -> None:
    path = copy / "src" / "yilian" / module
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")

    assert rule in broken_rules(copy)


def broken_rules(copy: Path) -> tuple[str, ...]:
    """Run import-linter over a copy; the names of the broken rules, the run's own words where it could not run."""
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    # "name BROKEN" or, where some imports are let through, "name BROKEN (12 ignored imports)"
    broken = tuple(re.findall(r"^(.+) BROKEN(?: \(.+\))?$", run.stdout, re.MULTILINE))
    assert run.returncode == (1 if broken else 0), run.stdout + run.stderr
    return broken

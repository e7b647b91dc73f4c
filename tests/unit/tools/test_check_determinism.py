"""The determinism check finds each planted violation and lets what is sound pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import check_determinism

ROOT = Path(__file__).resolve().parents[3]

SOUND = '''"""A contract."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import isqrt

import msgspec
from yilian.workflows.consent import interface as consent


def share(total_fen: int, rows: dict[str, int]) -> tuple[str, ...]:
    """Pay."""
    half = total_fen // 2
    names = sorted(set(rows))
    if half in {1, 2} or len(set(rows.values())) != len(rows) or not rows.keys() & {"a"} == set():
        raise ValueError(f"{half:.2f}")
    try:
        return tuple(names)
    except (KeyError, msgspec.ValidationError):
        return ()
'''


@pytest.mark.parametrize(
    ("line", "what"),
    [
        pytest.param("x = 0.5", "the float 0.5", id="float"),
        pytest.param("x = 1e3", "the float 1000.0", id="float with an exponent"),
        pytest.param("x = 2j", "the float 2j", id="complex"),
        pytest.param("x = float('1')", "float is not exact", id="call of float"),
        pytest.param("x: float", "float is not exact", id="annotation float"),
        pytest.param("x = 7 / 2", "true division", id="division"),
        pytest.param("x = 7\nx /= 2", "true division", id="division in place"),
        pytest.param("x = {1, 2}", "a set", id="set"),
        pytest.param("x = {a for a in (1, 2)}", "a set", id="set comprehension"),
        pytest.param("x = set((1, 2))", "set()", id="call of set"),
        pytest.param("x = tuple(frozenset((1, 2)))", "frozenset()", id="frozenset put in order by chance"),
        pytest.param("for a in {1, 2}: pass", "a set", id="loop over a set"),
        pytest.param("x = [a for a in set((1, 2))]", "set()", id="comprehension over a set"),
        pytest.param("x = b''.join({b'a', b'b'} | {b'c'})", "a set", id="union joined"),
        pytest.param("x = list({}.keys() - {}.keys())", "an operator on keys()", id="difference of keys"),
        pytest.param("x = hash('a')", "hash()", id="hash"),
        pytest.param("x = id('a')", "id()", id="id"),
        pytest.param("x = open('a')", "open()", id="open"),
        pytest.param("try: x = 1\nexcept: pass", "a broad except", id="bare except"),
        pytest.param("try: x = 1\nexcept Exception: pass", "a broad except", id="except Exception"),
        pytest.param("try: x = 1\nexcept (KeyError, BaseException): pass", "a broad except", id="broad in a tuple"),
        pytest.param("import time", "import of time", id="clock"),
        pytest.param("from datetime import date", "import of datetime.date", id="calendar"),
        pytest.param("import os.path", "import of os.path", id="disk"),
        pytest.param("import random as r", "import of random", id="chance"),
        pytest.param("def f() -> None:\n    from threading import Lock", "import of threading.Lock", id="thread"),
        pytest.param("from math import gcd, sqrt", "import of math.sqrt", id="floating mathematics"),
        pytest.param("import httpx", "import of httpx", id="network"),
    ],
)
def test_a_planted_violation_is_found(line: str, what: str) -> None:
    findings = check_determinism.check_source(f"{line}\n", Path("contract.py"))

    assert [finding.text.startswith(what) for finding in findings if finding.text.startswith(what)] == [True]


def test_sound_code_passes() -> None:
    assert check_determinism.check_source(SOUND, Path("contract.py")) == ()


def test_a_finding_names_the_line() -> None:
    found = check_determinism.check_source("a = 1\n\nb = a / 2\n", Path("ledger/log.py"))

    assert [str(finding).split(": ")[0] for finding in found] == ["ledger/log.py:3"]


def test_all_modules_inside_consensus_are_looked_at_and_no_others(tmp_path: Path) -> None:
    inside = (
        "canonical.py",
        "ledger/__init__.py",
        "ledger/log.py",
        "values.py",
        "workflows/consent/contract.py",
        "workflows/consent/grants.py",
        "workflows/consent/interface.py",
        "workflows/consent/model.py",
        "workflows/registry.py",
    )
    outside = (
        "workflows/consent/service.py",
        "workflows/consent/routes.py",
        "workflows/consent/__init__.py",
        "workflows/consent/receiving.py",
        "node/a.py",
    )
    _write(tmp_path, dict.fromkeys(inside + outside, "x = 0.5\n"))
    _write(tmp_path, {"workflows/consent/contract.py": "from yilian.workflows.consent.grants import issue\nx = 0.5\n"})

    found = check_determinism.check_package(tmp_path)

    assert tuple(str(finding.path.relative_to(tmp_path)) for finding in found) == inside


def test_the_command_exits_1_and_names_file_and_line(tmp_path: Path) -> None:
    _write(tmp_path, {"ledger/log.py": "import time\n"})

    run = _run(str(tmp_path))

    assert (run.returncode, run.stdout.split(": ")[0]) == (1, f"{tmp_path}/ledger/log.py:1")


def test_a_folder_without_a_ledger_does_not_pass_as_clean(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no folder ledger"):
        check_determinism.check_package(tmp_path)


def test_the_package_itself_is_clean() -> None:
    run = _run()

    assert (run.returncode, run.stdout) == (0, "")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "check_determinism.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _write(package: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

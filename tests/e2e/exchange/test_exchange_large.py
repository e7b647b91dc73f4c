"""500 MB sealed, transferred and verified: what it costs in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no /proc/self/clear_refs to measure peaks with: use Linux"
)
ROOT = Path(__file__).parents[3]
SIZE = 500_000_000
MOST_ADDED_MB = 64


def test_500_mb_are_sealed_sent_and_verified_with_64_mb_of_memory_for_both_sides_together(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.e2e.exchange.large", str(tmp_path), str(SIZE)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["verified"] is True
    assert measured["sealing_mb"] <= MOST_ADDED_MB, measured
    assert measured["added_mb"] <= MOST_ADDED_MB, measured

"""How a demonstration that is cut short ends: the node with it, its temporary home removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TIMEOUT_S = 60.0


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_demonstration_that_is_cut_short_leaves_no_process_and_no_folder(
    tmp_path: Path, name: signal.Signals
) -> None:
    command = [sys.executable, "-m", "yilian.cli.main", "demo", "--headless", "--residents", "6", "--lang", "en"]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    node = _node_of(tmp_path)
    process.send_signal(name)

    assert process.wait(TIMEOUT_S) == 130
    assert not Path(f"/proc/{node}").exists()
    assert list(tmp_path.iterdir()) == []


def _node_of(folder: Path) -> int:
    """Wait until a node runs in a home below a folder, and give its process."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for entry in Path("/proc").iterdir():
            if (
                entry.name.isdigit()
                and _command_line(entry).endswith(b"/home\0")
                and str(folder).encode() in (_command_line(entry))
            ):
                return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no node came up")


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""

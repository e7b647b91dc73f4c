"""The node of the demonstration: a process of its own, started by its command line, and how much memory all take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

from yilian.errors import UnavailableError
from yilian.node.control import NodeFile, read_node_file
from yilian.node.home import Home

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
_POLL_S = 0.05
_KIB = 1024
_MB = 1_000_000


class RunsNode(Protocol):
    """A node that was started: wait until it is ready, ask whether it runs, leave the block to stop it."""

    def __enter__(self) -> Self:
        """Give itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        ...

    def wait_ready(self) -> NodeFile:
        """Wait until all doors are open, and say where they are."""
        ...

    def is_running(self) -> bool:
        """Say whether it runs."""
        ...


class NodeProcess:
    """A running `yilian node start`; use it as a context manager.

    Raises:
        UnavailableError: it did not come up; says what it wrote last.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - our own command, no words from outside
            [sys.executable, "-m", "yilian.cli.main", "node", "start", "--home", str(home.path)],
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Give the process; `wait_ready` says when it serves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(self) -> NodeFile:
        """Wait until all doors are open, and say where they are."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UnavailableError(f"the node ended with {self._process.returncode}: {self._last_words()}")
            with suppress(UnavailableError):
                found = read_node_file(self._home)
                if found.pid == self.pid:
                    return found
            time.sleep(_POLL_S)
        raise UnavailableError(f"the node was not ready within {START_TIMEOUT_S:.0f} s: read {self._home.log_file}")

    def is_running(self) -> bool:
        """Say whether it runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it in order; by force where it does not end in a minute."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"read {self._home.log_file}"


class MemoryWatch:
    """Samples what all processes below this one hold, this one included.

    `peak_mb` is the greatest sum, at one moment, of the resident memory of all that live.
    """

    def __init__(self, every_s: float = 0.2) -> None:
        self.peak_mb = 0
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take a last sample and end."""
        self._stopping.set()
        self._thread.join()

    def sample(self) -> None:
        """Look once."""
        total = sum(_resident_bytes(pid) for pid in _family(os.getpid()))
        self.peak_mb = max(self.peak_mb, -(-total // _MB))

    def _watch(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.sample()
        self.sample()


def _family(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                # the name in parentheses may hold blanks: the parent is the second field behind it
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    family = [root]
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
    return family


def _resident_bytes(pid: int) -> int:
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * _KIB
    return 0

"""Run from a fresh interpreter: forks a child for every line asked, in which a commit dies at one file operation.

A line is `home store at kind number`. The child prints a line for what is durable; then comes `ended STATUS`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]


class Forks:
    """A process that opens homes in children of its own; a context manager."""

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.communicate()

    def commit(self, home: Path, store: str, at: int, kind: str, number: int) -> tuple[list[str], int]:
        """Let a child write and die at an operation; gives what it said is durable, and its end.

        In a read model it follows the chain, in a vault it keeps the row of a record, for number 0 it prunes blocks,
        else it publishes a record.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{home}\t{store}\t{at}\t{kind}\t{number}\n")
        self._process.stdin.flush()
        durable = []
        for line in self._process.stdout:
            word, _, value = line.rstrip().partition(" ")
            if word == "ended":
                return durable, int(value)
            durable.append(word)
        raise AssertionError("the process that forks has ended")


def serve() -> None:
    """Do what the standard input asks."""
    from tests.fault import stand  # noqa: PLC0415 - loaded once, before the first fork
    from tests.fault.faults import Faults, Kind  # noqa: PLC0415 - as above

    for line in sys.stdin:
        home, store, at, kind, number = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            for word in stand.act(Path(home), Faults(store, int(at), Kind(kind)), int(number)):
                os.write(1, f"{word}\n".encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())

"""Run from a fresh interpreter: forks a child for every line asked, in which a commit dies at one file operation.

A line is `home store at kind number`; for number 0 blocks are pruned instead. The child prints `acknowledged N` for
each record; then comes `ended STATUS`.
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

    def commit(self, home: Path, store: str, at: int, kind: str, number: int) -> tuple[list[int], int]:
        """Let a child publish records from a number on and die at an operation; gives what it acknowledged, its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{home}\t{store}\t{at}\t{kind}\t{number}\n")
        self._process.stdin.flush()
        acknowledged = []
        for line in self._process.stdout:
            word, _, value = line.partition(" ")
            if word == "ended":
                return acknowledged, int(value)
            acknowledged.append(int(value))
        raise AssertionError("the process that forks has ended")


def serve() -> None:
    """Do what the standard input asks."""
    from tests.fault.faults import Faults, Kind  # noqa: PLC0415 - loaded once, before the first fork
    from tests.fault.stand import faulty, read_world  # noqa: PLC0415 - as above

    for line in sys.stdin:
        home, store, at, kind, number = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            faults = Faults(store, int(at), Kind(kind))
            with faulty(Path(home), read_world(Path(home)), faults) as stand, faults.armed():
                if number == "0":
                    stand.prune()
                else:
                    stand.publish(int(number))
                    os.write(1, f"acknowledged {number}\n".encode())
                    stand.follow()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())

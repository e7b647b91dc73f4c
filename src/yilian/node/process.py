"""Nodes as processes of their own, started and stopped from Python: for demonstrations, tests and supervisors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from yilian.errors import UnavailableError
from yilian.node.control import NodeControl
from yilian.node.home import Home

READY_S = 120.0
STOP_S = 60.0


class _Ready(msgspec.Struct, frozen=True):
    """What `yilian node start --json` says once everything is open."""

    ready: str
    chain: str
    doors: dict[str, str]


class NodeProcess:
    """The node of a home in a child process; `stop` or `kill` ends it.

    Args:
        home: folder of the home; found or joined before.
        settings: variables such as `YILIAN_API__PORT`, over those of this process.

    Raises:
        UnavailableError: it did not become ready; what it wrote to stderr is in the message.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = Home(home)
        self._draining: threading.Thread | None = None
        command = [sys.executable, "-m", "yilian.cli.main", "node", "start", "--home", str(self.home.path), "--json"]
        self._child = subprocess.Popen(  # noqa: S603 - this interpreter, this program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(settings or {})},
            process_group=0,
        )
        ready = self._wait_ready()
        self.url = ready.ready
        """Of its API."""
        self.doors: Mapping[str, str] = ready.doors
        """Institution → address for other institutions."""

    @property
    def process_id(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def control(self) -> NodeControl:
        """Open the operator's side door."""
        return NodeControl(self.home)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has; UnavailableError where it ends with another code than 0."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        try:
            code = self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -signal.SIGKILL
        self._close()
        if code:
            raise UnavailableError(f"the node of {self.home.path} ended with {code}, expected 0: read its log")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._child.kill()
        self._child.wait()
        self._close()

    def _wait_ready(self) -> _Ready:
        timer = threading.Timer(READY_S, self._child.kill)
        timer.start()
        try:
            line = self._child.stdout.readline() if self._child.stdout is not None else b""
        finally:
            timer.cancel()
        try:
            ready = msgspec.json.decode(line, type=_Ready)
        except msgspec.DecodeError:
            self._child.kill()
            wrote = self._child.stderr.read() if self._child.stderr is not None else b""
            self._child.wait()
            self._close()
            raise UnavailableError(
                f"the node of {self.home.path} did not become ready, expected it to say so: "
                f"{wrote.decode(errors='replace')[-1000:]}"
            ) from None
        # what it goes on to write is thrown away, so that no full pipe holds it up
        self._draining = threading.Thread(target=self._drain, name="node-stderr", daemon=True)
        self._draining.start()
        return ready

    def _drain(self) -> None:
        while self._child.stderr is not None and self._child.stderr.read(65_536):
            pass

    def _close(self) -> None:
        """Close the pipes of a child that has ended."""
        if self._draining is not None:
            self._draining.join()
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

"""Two nodes as processes of their own, each with its home: a sequencer with three founders, a follower with one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yilian.cli.main import main
from yilian.node.process import NodeProcess

NETWORK = """
name = "lake-city"
admit_delay_ms = 0
tree_depth = 8

[[institutions]]
slug = "centre"
name = "Lake Community Centre"
kind = "community_centre"

[[institutions]]
slug = "hospital"
name = "City Hospital"
kind = "hospital"

[[institutions]]
slug = "bureau"
name = "Health Bureau"
kind = "regulator"
"""
WAIT_S = 60.0


class Apart:
    """The folder of both homes, with their processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.nodes: dict[str, NodeProcess] = {}
        self.early: tuple[int, str, str] = (0, "", "")
        """What came of joining before the members had voted."""
        self.joined: dict[str, Any] = {}
        """What joining said."""

    def start(self, home: str) -> NodeProcess:
        """Start the node of a home; the sequencer's door is always at the same port."""
        port = self.port if home == "h" else 0
        settings = {
            "YILIAN_API__PORT": "0",
            "YILIAN_PEER__BASE_PORT": str(port),
            "YILIAN_ENGINE__SECOND_CORE": "false",
        }
        node = self.nodes[home] = NodeProcess(self.folder / home, settings)
        return node

    def stop(self, home: str) -> None:
        """Stop the node of a home."""
        self.nodes.pop(home).stop()

    def kill(self, home: str) -> None:
        """End the node of a home at once."""
        self.nodes.pop(home).kill()

    def close(self) -> None:
        """End what runs."""
        for node in self.nodes.values():
            node.kill()

    def run(self, *words: str, home: str = "h") -> tuple[int, str, str]:
        """Run one command line for a home, in the folder: (exit code, stdout, stderr)."""
        return self.plain(*words, "--home", str(self.folder / home))

    def plain(self, *words: str) -> tuple[int, str, str]:
        """Run one command line that needs no home, as `run` does."""
        out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([*words, "--lang", "en"])
        finally:
            os.chdir(before)
        return code, out.getvalue(), err.getvalue()

    def json(self, *words: str, home: str = "h") -> Any:  # noqa: ANN401 - what it prints
        """Run one command line that must succeed, and give its result."""
        code, out, err = self.run(*words, "--json", home=home)
        assert code == 0, f"{words}: {err}"
        return json.loads(out)

    def status(self, home: str) -> dict[str, Any]:
        """Give a node's own status."""
        return dict(self.nodes[home].control().status())

    def wait_level(self) -> int:
        """Wait until the follower stands where the sequencer stands, and give the height."""
        target = int(self.status("h")["height"])
        wait(lambda: self.status("h2")["height"] >= target)
        return target


def wait(holds: Callable[[], bool]) -> None:
    """Wait, at most a minute, until something holds."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.1)


def founded(folder: Path) -> Apart:
    """Found the network, start the sequencer, and let a township centre join from a home of its own."""
    apart = Apart(folder)
    (folder / "network.toml").write_text(NETWORK)
    apart.json("network", "found", "network.toml", "--demo")
    apart.start("h")
    asked = apart.json(
        "node", "init", "--slug", "township", "--name", "Township Centre", "--kind", "community_centre",
        "--officer", "node", home="h2",
    )  # fmt: skip
    invited = apart.json("network", "invite", "--request", asked["request"], "--as", "centre-officer")
    apart.early = apart.run("node", "join", invited["invitation"], home="h2")
    for officer in ("centre-officer", "hospital-officer"):
        apart.json("network", "vote", invited["proposal"], "--as", officer)
    apart.json("network", "apply", invited["proposal"], "--as", "centre-officer")
    apart.joined = apart.json("node", "join", invited["invitation"], home="h2")
    apart.start("h2")
    return apart


def _free_port() -> int:
    """Give the first of some ports that nobody has now; founders take the ones behind it."""
    for port in range(20_000 + os.getpid() % 10_000, 60_000, 7):
        with contextlib.ExitStack() as stack:
            try:
                for offset in range(3):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")

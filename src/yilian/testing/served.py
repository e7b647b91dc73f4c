"""A whole node in the test process: founded in a fresh home, behind real sockets and mutual TLS, asked over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from yilian.client.http import Client
from yilian.errors import UnavailableError
from yilian.ledger.members import InstitutionKind
from yilian.node.compose import Node, now
from yilian.node.home import Home, InstitutionSpec
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.run import RunningNode, run_node
from yilian.node.settings import ApiSettings, PeerSettings, Settings
from yilian.values import UnixMillis

READY_TIMEOUT_S = 60.0
NETWORK = NetworkSpec(
    name="lake",
    institutions=(
        InstitutionSpec(
            slug="centre", name="Lake Community Centre", kind=InstitutionKind.COMMUNITY_CENTRE, grade="primary"
        ),
        InstitutionSpec(slug="hospital", name="City Hospital", kind=InstitutionKind.HOSPITAL, grade="tertiary"),
        InstitutionSpec(slug="bureau", name="Health Bureau", kind=InstitutionKind.REGULATOR),
    ),
    admit_delay_ms=0,
    tree_depth=8,
)
SETTINGS = Settings(
    api=ApiSettings(port=0),
    peer=PeerSettings(base_port=0),
    engine=msgspec.structs.replace(Settings().engine, second_core=False),
)


Found = Callable[[Home, Settings, NetworkSpec, UnixMillis], object]


class Served:
    """A node that serves. `client` gives a person's access, such as `client("centre-physician")`."""

    def __init__(self, home: Home, running: RunningNode) -> None:
        self.home = home
        self.url = running.url
        self.node: Node = running.node
        self._running = running

    def access_file(self, name: str) -> Path:
        """Give the access file of a person, named `<institution>-<label>`."""
        file = self.home.clients / f"{name}.toml"
        return file if file.is_file() else self.home.people / f"{name}.toml"

    def client(self, name: str, *, language: str = "en") -> Client:
        """Give a person's access."""
        return Client.from_file(self.access_file(name), language=language)

    def wait_projected(self) -> None:
        """Wait until the read model is at the newest block; UnavailableError where it does not come so far."""
        self._running.projector.caught_up(self.node.engine.head().height)


@contextmanager
def serve(
    folder: Path, network: NetworkSpec = NETWORK, settings: Settings = SETTINGS, *, found: Found = found_demo
) -> Iterator[Served]:
    """Found a network in a folder and run its node until the block ends.

    `found` is `network.found` where people keep their keys on devices, as they do outside demos.

    Raises:
        UnavailableError: it was not ready in a minute.
    """
    home = Home(folder / "home")
    found(home, settings, network, now())
    stop, ready = threading.Event(), threading.Event()
    running: list[RunningNode] = []
    problems: list[BaseException] = []

    def on_ready(node: RunningNode) -> None:
        running.append(node)
        ready.set()

    def run() -> None:
        try:
            run_node(home, settings, on_ready=on_ready, stop=stop)
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            problems.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="served-node")
    thread.start()
    try:
        if not ready.wait(READY_TIMEOUT_S) or problems or not running:
            raise UnavailableError(f"the node did not come up: {problems}") from next(iter(problems), None)
        yield Served(home, running[0])
    finally:
        stop.set()
        thread.join(READY_TIMEOUT_S)
    if problems:
        raise problems[0]

"""The demonstration played once, its node in the test's process, so that what passes inside TLS can be seen."""

from __future__ import annotations

import io
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import pytest

from yilian.demo.report import Report
from yilian.demo.stage import Options
from yilian.demo.story import play
from yilian.demo.telling import Teller
from yilian.errors import UnavailableError
from yilian.node import peers
from yilian.node.compose import Node
from yilian.node.control import NodeFile, read_node_file
from yilian.node.home import Home
from yilian.node.host import Host
from yilian.node.run import RunningNode, run_node
from yilian.node.settings import load

RESIDENTS, SEED = 24, 5

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass
class Played:
    """What one playing of the demonstration left."""

    home: Home
    told: str = ""
    report: Report | None = None
    passed: list[bytes] = field(default_factory=list)
    """Paths, headers and bodies between institutions, as they are inside TLS."""

    @property
    def figures(self) -> Report:
        """The report."""
        assert self.report is not None
        return self.report


class InProcess:
    """A node that runs in a thread of the test, behind real sockets and mutual TLS."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stop, self._ready = threading.Event(), threading.Event()
        self._problems: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="demo-node")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def wait_ready(self) -> NodeFile:
        if not self._ready.wait(60) or self._problems:
            raise UnavailableError(f"the node did not come up: {self._problems}")
        return read_node_file(self._home)

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        def on_ready(_: RunningNode) -> None:
            self._ready.set()

        written = load(self._home.settings_file)
        engine = msgspec.structs.replace(written.engine, second_core=False)
        settings = msgspec.structs.replace(written, engine=engine)
        try:
            run_node(self._home, settings, on_ready=on_ready, stop=self._stop)
        except BaseException as error:  # noqa: BLE001 - told by `wait_ready`
            self._problems.append(error)
            self._ready.set()


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    home = Home(tmp_path_factory.mktemp("demo") / "home")
    done, out = Played(home=home), io.StringIO()
    made = peers.peer_app

    def listening(node: Node, host: Host) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        return _listening(made(node, host), done.passed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "peer_app", listening)
        options = Options(data=None, residents=RESIDENTS, seed=SEED)
        done.report = play(home.path, Teller("zh", out), options, start=InProcess)
    done.told = out.getvalue()
    return done


def _listening(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], passed: list[bytes]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def listened(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            passed.append(scope["raw_path"] + b"?" + scope["query_string"])
            passed.extend(name + b": " + value for name, value in scope["headers"])

        async def received() -> MutableMapping[str, Any]:
            message = await receive()
            passed.append(bytes(message.get("body", b"")))
            return message

        async def sent(message: MutableMapping[str, Any]) -> None:
            passed.extend(name + b": " + value for name, value in message.get("headers", ()))
            passed.append(bytes(message.get("body", b"")))
            await send(message)

        await app(scope, received, sent)

    return listened

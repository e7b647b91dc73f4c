"""Two institutions on nodes of their own: processes that follow the sequencer, execute again, and witness.

After the founding each moves out of the common home into `<home>/nodes/<institution>`, as an institution does that gets
a machine of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Self

from yilian.demo.consortium import FOLLOWERS, LAKESIDE
from yilian.demo.faces import wait_until
from yilian.demo.process import RunsNode
from yilian.demo.stage import Stage
from yilian.node.control import NodeControl, NodeFile
from yilian.node.home import Home, store_private
from yilian.node.moving import move_out
from yilian.node.network import read_access, store_access
from yilian.node.settings import ApiSettings, EngineSettings, PeerSettings, Settings, to_toml

CATCH_UP_S = 120.0


def move_all_out(stage: Stage) -> None:
    """Give each follower a home of its own; does nothing where it has one."""
    for place in FOLLOWERS:
        home = stage.home_of(place)
        if not home.folder(place.slug).is_dir():
            move_out(stage.home, place.slug, home, _settings(stage, ""))
            stage.tell.say("moved_out", name=stage.name(place))


class Followers:
    """The followers' nodes; a context manager that starts and stops them, while the sequencer's node runs."""

    def __init__(self, stage: Stage, start: Callable[[Home], RunsNode], sequencer: NodeFile) -> None:
        self._stage = stage
        self._start = start
        self._door = sequencer.doors[LAKESIDE.slug]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start them, and wait until each has executed all that the sequencer has."""
        stage = self._stage
        with ExitStack() as stack:
            nodes = []
            for place in FOLLOWERS:
                home = stage.home_of(place)
                store_private(home.settings_file, to_toml(_settings(stage, self._door)).encode())
                nodes.append((place, home, stack.enter_context(self._start(home))))
            for place, home, node in nodes:
                stage.know(place, node.wait_ready().url, stack.enter_context(closing(NodeControl(home))))
                _publish_access(stage, home)
            for place in FOLLOWERS:
                stage.catch_up(place)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self._stack.close()


def _publish_access(stage: Stage, home: Home) -> None:
    """Lay the access files, with the address of their own node, beside the others: `--as` finds all in one place."""
    for file in sorted(home.clients.glob("*.toml")):
        store_access(stage.home.clients / file.name, read_access(file))


def _settings(stage: Stage, door: str) -> Settings:
    return Settings(
        passphrase_file=str(stage.home.passphrase_file(stage.settings)),
        api=ApiSettings(port=0),
        peer=PeerSettings(base_port=0, sequencer=door),
        engine=EngineSettings(second_core=False),
    )


def wait_equal(stage: Stage) -> int:
    """Wait until every follower has the sequencer's app hash, and give how many do."""

    def equal() -> bool:
        head = stage.control.status()
        return all(stage.control_of(place).status()["app_hash"] == head["app_hash"] for place in FOLLOWERS)

    wait_until(equal, "the followers to have the same app hash", CATCH_UP_S)
    return len(FOLLOWERS)

"""Old blocks are removed once a snapshot stands above them; the log, its leaves and every proof stay.

What is kept: as many of the newest blocks as the settings say, never less than a day of block time and one block (the
op-id window is rebuilt from them), and nothing that the read model or a reactor has not taken over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from yilian.engine.port import Engine
from yilian.errors import YilianError
from yilian.ledger.judge import PERSON_VALIDITY
from yilian.node.backup import ledger_stores
from yilian.node.compose import Node
from yilian.node.reactors import CURSOR
from yilian.storage.snapshots import Snapshots

EVERY_S = 3600.0
_LOG = structlog.get_logger("yilian.retention")


def window_start(engine: Engine) -> int:
    """Give the height from which blocks are needed to open the chain: the newest that is older than a day."""
    head = engine.head()
    low, high = engine.first_block(), head.height
    while low < high:
        middle = (low + high + 1) // 2
        if engine.block(middle)[0].time < head.time - PERSON_VALIDITY:
            low = middle
        else:
            high = middle - 1
    return low


def cut_of(node: Node) -> int:
    """Give the height below which blocks may go; at most the oldest that is kept now where none may."""
    engine = node.engine
    taken = [node.index.height(), *(host.vault.access.cursor(CURSOR) for host in node.hosts.values())]
    wanted = engine.head().height - node.settings.ledger.keep_blocks + 1
    return min(wanted, window_start(engine), *(height + 1 for height in taken))


def prune(node: Node) -> int:
    """Take a snapshot and remove the blocks that the settings do not keep; gives the oldest height that is left.

    Raises:
        UnavailableError: the disk is full or failed; nothing was removed.
    """
    engine = node.engine
    cut = cut_of(node) if node.settings.ledger.keep_blocks else 0
    if cut <= engine.first_block():
        return engine.first_block()
    state, blocks = ledger_stores(engine)
    if not blocks.can_prune_below(cut):
        return engine.first_block()
    Snapshots(node.home.ledger / "snapshots").take(state, blocks, node.chain, first_block=cut)
    return blocks.prune_below(cut)


class Retention:
    """The thread that prunes, once an hour; `start` and `stop` it."""

    def __init__(self, node: Node, *, wait: Callable[[threading.Event, float], bool] = threading.Event.wait) -> None:
        self._node, self._wait = node, wait
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, where the settings let blocks go."""
        if self._node.settings.ledger.keep_blocks:
            self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._wait(self._stopping, EVERY_S):
            try:
                _LOG.info("blocks kept", first=prune(self._node), height=self._node.engine.head().height)
            except YilianError as error:
                _LOG.warning("pruning failed", error=type(error).__name__)

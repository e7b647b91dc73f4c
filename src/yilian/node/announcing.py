"""A follower tells the sequencer where its doors are, and learns where those of the others are."""

from __future__ import annotations

import threading

import structlog

from yilian.engine.follower import FollowerEngine
from yilian.engine.port import Engine
from yilian.errors import YilianError
from yilian.ledger.members import LIVING
from yilian.node.addresses import Peer
from yilian.node.compose import Node
from yilian.node.ledger_doors import keep_ca
from yilian.values import case_id

EVERY_S, SOON_S = 10.0, 1.0
STOP_S = 30.0
_LOG = structlog.get_logger("yilian.announcing")


class Announcer:
    """A thread that announces this node's doors every some seconds; nothing to do where the sequencer is here."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless the sequencer is in this node."""
        if self._node.line is not None:
            self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """Announce now: a door has opened."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; nothing happens where it never began."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def round(self) -> None:
        """Announce every door of this node, and keep what comes back; UnavailableError while the sequencer is away."""
        line = self._node.line
        if line is None:
            return
        for host in list(self._node.hosts.values()):
            found = self._node.engine.find_case(case_id(host.id))
            if host.peer_address and found is not None and found[1].header.state in LIVING:
                self._learn(line.announce(host.id, host.peer_address))

    def _learn(self, peers: tuple[Peer, ...]) -> None:
        node = self._node
        others = [peer for peer in peers if node.host_of(peer.institution) is None]
        node.addresses.learn(others)
        for peer in others:
            keep_ca(node, peer.ca)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            pause = EVERY_S
            try:
                self.round()
            except YilianError as error:
                _LOG.info("not announced", error=type(error).__name__)
                pause = SOON_S
            except Exception as error:  # noqa: BLE001 - the outermost loop of a thread
                _LOG.exception("announcing broke", error=type(error).__name__)
            if not self._stopping:
                self._wake.wait(pause)


def away_of(engine: Engine) -> str | None:
    """Say why the sequencer is not heard; None where it is, or is here."""
    return engine.away if isinstance(engine, FollowerEngine) else None

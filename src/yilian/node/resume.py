"""A sequencer that was restored from a backup: it signs no block before its followers have shown what they keep.

Operations that were acknowledged after the backup stand in blocks that followers have. A block signed before they were
taken over would be a second history. So every living member outside this home is asked, and its newer blocks are
executed again here; only then blocks are made. Who cannot be reached keeps the node waiting (reads go on), unless the
operator knows that nobody follows: `yilian node start --no-followers`.
"""

from __future__ import annotations

import threading
from contextlib import closing

import structlog

from yilian.engine.embedded import EmbeddedEngine
from yilian.errors import NotFoundError, UnavailableError, VerificationError, YilianError
from yilian.ledger.members import LIVING, Roster
from yilian.node.compose import Node
from yilian.node.home import Home, remove
from yilian.node.host import Host
from yilian.node.peer_client import check_answer, transported
from yilian.node.restore import RESTORED_FILE
from yilian.node.sequencer_line import HEIGHT_HEADER, frames
from yilian.node.witness_doors import fetch_note
from yilian.values import InstitutionId

AGAIN_S = 5.0
_LOG = structlog.get_logger("yilian.resume")


def is_restored(home: Home) -> bool:
    """Say whether a home was restored and has not been resumed yet."""
    return (home.path / RESTORED_FILE).is_file()


def confirm_no_followers(home: Home) -> None:
    """Let a restored home go on from its backup: the operator says that nobody else has newer blocks."""
    remove(home.path / RESTORED_FILE)


class Resume:
    """Holds the engine of a restored home until every other member was asked; `start` and `stop` its thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        engine = node.engine
        self._engine = engine if isinstance(engine, EmbeddedEngine) and is_restored(node.home) else None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if self._engine is not None:
            self._engine.hold("restored from a backup, the other members are asked for newer blocks")
        elif is_restored(node.home):
            remove(node.home.path / RESTORED_FILE)  # a follower takes what is newer from its sequencer anyway

    def start(self) -> None:
        """Begin to ask."""
        if self._engine is not None:
            self._thread = threading.Thread(target=self._run, args=(self._engine,), name="resume", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, engine: EmbeddedEngine) -> None:
        while not self._stopping.is_set():
            missing = self.ask(engine)
            if not missing:
                remove(self._node.home.path / RESTORED_FILE)
                engine.release()
                _LOG.info("resumed", height=engine.head().height)
                return
            engine.hold(
                f"restored from a backup, {'; '.join(missing)}: let them answer, or start with --no-followers where "
                "nobody else has blocks of this chain"
            )
            _LOG.warning("resume waits", height=engine.head().height, missing=missing)
            self._stopping.wait(AGAIN_S)

    def ask(self, engine: EmbeddedEngine) -> list[str]:
        """Ask every other member once and take over what is newer; give who is missing and why."""
        host = next(iter(self._node.hosts.values()))
        others = self._others()
        missing = []
        for other in others:
            try:
                self._take_from(engine, host, other)
            except YilianError as error:
                missing.append(f"{other.hex()[:16]} has not been heard ({error})")
        return missing if others else ["the ledger names no member outside this home"]

    def _others(self) -> list[InstitutionId]:
        engine = self._node.engine
        roster = engine.reads().register(Roster)
        directory = engine.directory()
        found = []
        for institution in roster.members if roster is not None else ():
            member = directory.member(institution)
            if member is not None and member.state in LIVING and self._node.host_of(institution) is None:
                found.append(institution)
        return found

    def _take_from(self, engine: EmbeddedEngine, host: Host, other: InstitutionId) -> None:
        """Take over what a member has beyond this chain.

        How high it stands is what its door says of its blocks: a checkpoint that it has seen may be older than they.

        Raises:
            VerificationError: its history is another one than this.
            UnavailableError: it is away, or has newer blocks that it cannot give.
        """
        while not self._stopping.is_set():
            before = engine.head()
            newest = fetch_note(self._node, host, other).checkpoint
            if newest.height == before.height and newest.app_hash != before.app_hash:
                raise VerificationError(
                    f"it has another state at block {before.height}, {newest.app_hash.hex()}: restore a newer backup, "
                    "and let the members compare checkpoints"
                )
            try:
                theirs = self._adopt_from(engine, host, other)
            except NotFoundError as error:
                if newest.height > before.height:
                    raise UnavailableError(
                        f"it gives no block after {before.height} ({error}): restore a newer backup, or begin with its "
                        "snapshot"
                    ) from error
                return  # it lies behind this node
            if theirs <= engine.head().height:
                return
            if engine.head().height == before.height:
                raise UnavailableError(f"it is at block {theirs} and gave none after {before.height}: try again later")

    def _adopt_from(self, engine: EmbeddedEngine, host: Host, other: InstitutionId) -> int:
        """Take the blocks of one answer over, and give the height at which the other stood; errors as `_take_from`."""
        client = self._node.peers.client(host, other)
        path = f"/peer/blocks?after={engine.head().height}"
        with transported(other), client.stream("GET", path) as answer:
            check_answer(answer, other)
            named = answer.headers.get(HEIGHT_HEADER, "")
            if not (named.isascii() and named.isdigit()):
                raise UnavailableError("it does not say how high it is: let it update")
            theirs = int(named)
            with closing(frames(answer.iter_raw())) as blocks:
                while engine.head().height < theirs and not self._stopping.is_set():
                    block = next(blocks, b"")
                    if not block:
                        break
                    engine.adopt(block)
        return theirs

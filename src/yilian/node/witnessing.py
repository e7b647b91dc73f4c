"""The thread that has checkpoints witnessed: the sequencer's newest is signed or fetched, compared, cosigned, shown.

A follower asks the sequencer after every block and each second, pushes the lines of its institutions to it, and
exchanges newest notes with the other members, so that two histories are exposed by the first exchange.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from yilian.errors import UnavailableError, VerificationError, YilianError
from yilian.ledger.checkpoint import CLOCK_TOLERANCE, Note, SignatureKind, SignatureLine
from yilian.node import witness_doors
from yilian.node.alerts import AlertKind, MisbehaviourError
from yilian.node.host import Host
from yilian.node.signers import needed
from yilian.node.witness import Clockwork, Prove, Witness
from yilian.storage.checkpoints import Seen
from yilian.values import InstitutionId, UnixMillis

if TYPE_CHECKING:
    from yilian.node.checkpoints import Checkpoints

UNHURRIED_S, IDLE_S = 1.0, 60.0
"""Where no policy waits for witnesses: between two checkpoints that are kept, and without a new block."""
POLL_S, HURRIED_POLL_S, BETWEEN_S, GOSSIP_S = 1.0, 0.1, 0.2, 5.0
PRUNE_EVERY = 1_000
CAUGHT_UP_S = 2.0
STOP_S = 30.0
MOST_SHOWN = 64
_LOG = structlog.get_logger("yilian.checkpoints")


class Rounds:
    """One round after another, on one thread."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._node = checkpoints.node
        self._store = checkpoints.store
        self._signers = checkpoints.signers
        self._watch = checkpoints.watch
        self._clock = Clockwork(self._node.clock)
        self._witnesses: dict[InstitutionId, Witness] = {}
        self._shown: deque[tuple[InstitutionId, Note]] = deque(maxlen=MOST_SHOWN)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._hurried = False
        self._next_gossip = 0.0
        self._judged = self._node.engine.head().height
        self._kept = 0
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin."""
        self._unsubscribe = self._node.engine.subscribe(self._saw)
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way."""
        self._unsubscribe()
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def hurry(self) -> None:
        """Do the next round now: somebody waits for it."""
        self._hurried = True
        self._wake.set()

    def look_at(self, peer: InstitutionId, note: Note) -> None:
        """Compare a note that a member showed, and that is ahead of this node, soon."""
        self._shown.append((peer, note))
        self._wake.set()

    def round(self) -> None:
        """Sign or fetch the newest checkpoint, have it witnessed, look at what members showed.

        Raises:
            MisbehaviourError: an alert was raised; nothing was signed.
            UnavailableError: the sequencer, or what must be compared, is out of reach.
        """
        if self._checkpoints.is_sequencer():
            self._have_witnessed(self._checkpoints.sign_now(), ())
        else:
            self._follow()
        self._look_at_shown()

    def gossip(self) -> None:
        """Exchange newest notes with every member whose door is known."""
        host, notes = self._speaker(), self._store.newest()
        if host is None or not notes:
            return
        for other in self._others():
            try:
                shown = witness_doors.exchange_notes(self._node, host, other, notes[0])
                self._accept(shown, self._provers(host, other))
            except (YilianError, OSError) as error:
                _LOG.debug("not exchanged", institution=other.hex(), error=type(error).__name__)

    def ask_first(self) -> None:
        """Ask the followers what this sequencer signed, before it signs: it may come back from an old backup."""
        host = self._speaker()
        for other in self._others() if self._checkpoints.is_sequencer() else ():
            if host is None:
                break
            try:
                shown = witness_doors.fetch_note(self._node, host, other)
                self._watch.check_signed(shown)
            except (YilianError, OSError) as error:
                _LOG.info("not asked", institution=other.hex(), error=type(error).__name__)
                continue
            self._store.keep(Note(shown.checkpoint, shown.lines[:1]))
        self._checkpoints.asked.set()

    def _saw(self, height: int) -> None:
        self._clock.saw(height)
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if not self._checkpoints.asked.is_set():
                    self.ask_first()
                self.round()
                if time.monotonic() >= self._next_gossip and not self._checkpoints.is_sequencer():
                    self._next_gossip = time.monotonic() + GOSSIP_S
                    self.gossip()
            except MisbehaviourError as error:
                _LOG.error("refused to sign", kind=str(error.kind))
            except (YilianError, OSError) as error:
                _LOG.debug("no checkpoint yet", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - the outermost loop of a server
                _LOG.exception("checkpoints broke", error=type(error).__name__)
            self._rest()

    def _rest(self) -> None:
        """Wait for a block, but not forever."""
        if not needed(self._node.engine) and self._checkpoints.is_sequencer():
            self._wake.wait(IDLE_S)
            self._stopping.wait(UNHURRIED_S)
        elif self._hurried:
            self._hurried = False
            self._wake.wait(HURRIED_POLL_S)
        elif self._wake.wait(POLL_S) and not self._checkpoints.is_sequencer() and not self._hurried:
            self._stopping.wait(BETWEEN_S)

    def _follow(self) -> None:
        host = self._speaker()
        if host is None:
            return
        leader = self._signers.sequencer()
        asked = self._node.clock()
        note = witness_doors.fetch_note(self._node, host, leader)
        self._watch.check_signed(note)
        provers: list[Prove] = [partial(witness_doors.fetch_consistency, self._node, host, leader)]
        height = note.checkpoint.height
        if self._node.engine.head().height < height:
            self._node.engine.wait_height(height, CAUGHT_UP_S)
        self._judge_times()
        self._accept(note, provers, is_newest=True)
        self._have_witnessed(note, provers)
        self._push(note, leader)
        self._clock.told(height, asked)
        self._checkpoints.promises.look()
        self._checkpoints.promises.check_due(height, asked)

    def _accept(self, note: Note, provers: Sequence[Prove], *, is_newest: bool = False) -> None:
        """Compare a note, and keep it with those of its lines that hold."""
        self._watch.check(note, provers, is_newest=is_newest)
        kinds = [(self._signers.kind_of(note.checkpoint, line), line) for line in note.lines[1:]]
        self._store.keep(note, [(kind, line) for kind, line in kinds if kind is not None])
        self._checkpoints.tell()

    def _have_witnessed(self, note: Note, provers: Sequence[Prove]) -> None:
        """Let the institutions of this node sign a checked note, and keep that before anybody sees it."""
        signed: list[tuple[Host, SignatureKind, SignatureLine, Seen]] = []
        hosts = [host for host in tuple(self._node.hosts.values()) if self._signers.may_witness(host.id)]
        if hosts and self._watch.halted():
            _LOG.error("refused to sign", kind=str(AlertKind.SPLIT_VIEW))
            hosts = []
        for host in hosts:
            try:
                signed += self._signed(host, note, provers)
            except VerificationError as error:
                kind = str(error.kind) if isinstance(error, MisbehaviourError) else ""
                _LOG.error("refused to sign", institution=host.slug, kind=kind)
        if signed or self._store.find(note.checkpoint.height) is None:
            lines = [(kind, line) for _, kind, line, _ in signed]
            self._store.keep_signed(note, lines, [seen for _, _, _, seen in signed])
            self._kept += 1
            if self._kept % PRUNE_EVERY == 0:
                self._store.prune()
            self._checkpoints.tell()

    def _push(self, shown: Note, leader: InstitutionId) -> None:
        """Give the sequencer the lines of this node's institutions that its note has not."""
        kept = self._store.find(shown.checkpoint.height)
        lines = [line for line in kept.lines[1:] if line not in shown.lines] if kept is not None else []
        for host in tuple(self._node.hosts.values()):
            for line in lines:
                if line.name == host.id.hex():
                    pushed = Note(shown.checkpoint, (shown.lines[0], line))
                    try:
                        witness_doors.push_cosignature(self._node, host, leader, pushed)
                    except YilianError as error:
                        _LOG.warning("cosignature not taken", institution=host.slug, error=type(error).__name__)

    def _signed(
        self, host: Host, note: Note, provers: Sequence[Prove]
    ) -> list[tuple[Host, SignatureKind, SignatureLine, Seen]]:
        witness = self._witnesses.get(host.id)
        if witness is None:
            secret = self._checkpoints.secret(host.id)
            witness = self._witnesses[host.id] = Witness(host.id, secret, self._store)
        kind = self._kind(witness, note)
        made = witness.sign(
            note, kind, self._node.clock(), extends=lambda seen: self._watch.extends(note, seen, provers)
        )
        return [] if made is None else [(host, kind, *made)]

    def _kind(self, witness: Witness, note: Note) -> SignatureKind:
        """Say what an institution may sign: EXECUTED where its own chain has this, and the block time was right.

        Raises:
            MisbehaviourError: the block time is off.
        """
        checkpoint, seen = note.checkpoint, witness.seen()
        head = self._node.engine.head()
        if head.log_size < checkpoint.log_size or head.height < checkpoint.height:
            return SignatureKind.LOG
        if seen is not None and seen.height == checkpoint.height and seen.kind == SignatureKind.EXECUTED:
            return SignatureKind.EXECUTED
        is_right = self._clock.is_right(checkpoint.height, checkpoint.time)
        if is_right is False:
            raise self._time_off(checkpoint.height, checkpoint.time)
        return SignatureKind.EXECUTED if is_right else SignatureKind.LOG

    def _judge_times(self) -> None:
        """Judge the times of blocks that were executed since the last look, cosigned or not."""
        head = self._node.engine.head().height
        for height in range(max(self._judged, head - Clockwork.KEPT) + 1, head + 1):
            block_time = self._node.engine.block(height)[0].time
            if self._clock.is_right(height, block_time) is False:
                self._time_off(height, block_time)
        self._judged = head

    def _time_off(self, height: int, block_time: UnixMillis) -> MisbehaviourError:
        return self._checkpoints.alerts.raise_alert(
            AlertKind.BLOCK_TIME_OFF,
            f"block {height} is at {block_time}, the clock here at {self._node.clock()}, more than {CLOCK_TOLERANCE} "
            "ms apart when it came: compare both clocks with a time server, then ask the sequencer's operator",
            about=height.to_bytes(8, "big"),
        )

    def _look_at_shown(self) -> None:
        """Look again at notes that members showed and that were ahead of this node."""
        host = self._speaker()
        for _ in range(len(self._shown)):
            peer, note = self._shown.popleft()
            try:
                self._watch.check(note, self._provers(host, peer) if host is not None else ())
            except UnavailableError:
                self._shown.append((peer, note))
            except YilianError as error:
                _LOG.info("shown in vain", institution=peer.hex(), error=type(error).__name__)

    def _speaker(self) -> Host | None:
        """Give the institution in whose name this node asks others."""
        hosts = tuple(self._node.hosts.values())
        return next((host for host in hosts if self._signers.operator(host.id) is not None), None)

    def _others(self) -> list[InstitutionId]:
        local = {host.id for host in tuple(self._node.hosts.values())}
        return [one for one in self._signers.members() if one not in local and self._signers.operator(one) is not None]

    def _provers(self, host: Host, other: InstitutionId) -> list[Prove]:
        asked = [one for one in dict.fromkeys((other, self._signers.sequencer())) if self._node.host_of(one) is None]
        return [partial(witness_doors.fetch_consistency, self._node, host, one) for one in asked]

"""A sequencer and followers in one process, each with its own chain and checkpoint store, that speak by real bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from yilian.crypto.suite import Signer, sha256
from yilian.engine.embedded import EmbeddedEngine
from yilian.engine.follower import FollowerEngine
from yilian.engine.gateway import Gateway
from yilian.engine.port import Engine
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger import envelope
from yilian.ledger.checkpoint import Checkpoint, Note, sign
from yilian.ledger.members import InstitutionKind
from yilian.ledger.results import TransactionResult
from yilian.node import witness_doors
from yilian.node.alerts import MisbehaviourError
from yilian.node.checkpoints import Checkpoints
from yilian.storage.checkpoints import CheckpointStore
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.sql import SqlIndex
from yilian.testing.consortium import NOON, Consortium, Party
from yilian.values import HOUR, InstitutionId, UnixMillis, op_id, unix_millis
from yilian.workflows import catalog, governance
from yilian.workflows.catalog.model import Origin, Publish

KINDS = {
    "hospital": InstitutionKind.HOSPITAL,
    "centre": InstitutionKind.COMMUNITY_CENTRE,
    "laboratory": InstitutionKind.LABORATORY,
    "clinic": InstitutionKind.HOSPITAL,
    "annex": InstitutionKind.COMMUNITY_CENTRE,
}
OPERATORS = {"clinic": "laboratory", "annex": "hospital"}
WAIT_S = 30.0


class Line:
    """`engine.follower.Source` over an engine of this process; it can be cut."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.is_up = True
        self._closed = threading.Event()

    def blocks_after(self, height: int) -> Iterator[bytes]:
        """Stream blocks while the line is up."""
        self._check()
        while self.engine.wait_height(height + 1, 0.05) > height and not self._closed.is_set():
            self._check()
            height += 1
            yield self.engine.encoded_block(height)

    def submit(self, transaction: bytes) -> TransactionResult:
        """Hand a transaction in."""
        self._check()
        return self.engine.submit(transaction).result(WAIT_S)

    def close(self) -> None:
        """Cut it for good."""
        self._closed.set()

    def _check(self) -> None:
        if not self.is_up or self._closed.is_set():
            raise UnavailableError("the line is cut, expected it up: mend it")


class Seat:
    """A node with one institution: engine, checkpoints, and lines to other seats by institution."""

    def __init__(self, stand: Stand, party: Party, engine: Engine, folder: Path) -> None:
        self.stand, self.party, self.engine, self.folder = stand, party, engine, folder
        self.genesis = stand.founded.machine.genesis
        self.chain = engine.chain
        self.index = SqlIndex(folder / "index.db")
        self.offset = 0
        self.line: Line | None = None
        self.lines: dict[InstitutionId, Seat] = {}
        self.told: dict[str, bytes] = {}
        """Answers that this seat gives instead of its own, by what was asked for."""
        keystore = SimpleNamespace(load_signer=lambda _: party.gateway)
        gateway = Gateway(engine, stand.founded.machine.registry, party.id, party.gateway, clock=self.clock)
        self.desk = SimpleNamespace(slug=party.name, id=party.id, gateway=gateway, keystore=keystore)
        self.hosts = {party.name: self.desk}
        self.peers = SimpleNamespace(of=lambda host: SimpleNamespace(call=self._caller(host.id)))
        self.checkpoints = Checkpoints(cast("Any", self), CheckpointStore(folder / "checkpoints.db"))
        engine.subscribe(self.checkpoints.rounds._saw)  # noqa: SLF001 - rounds are played by hand, not by the thread

    def clock(self) -> UnixMillis:
        """Give the time of this machine."""
        return unix_millis(self.stand.time + self.offset)

    def host_of(self, institution: InstitutionId) -> Any:  # noqa: ANN401 - a host
        """Give the institution of this node."""
        return self.desk if institution == self.party.id else None

    def round(self) -> None:
        """Play one round, after catching up."""
        if self.line is not None and self.line.is_up:
            height = self.line.engine.head().height
            assert self.engine.wait_height(height, WAIT_S) >= height
        self.checkpoints.rounds.round()

    def alerts(self) -> list[str]:
        """Give the kinds of the alerts, in order."""
        return [alert.kind for alert in self.checkpoints.alerts.all()]

    def _caller(self, speaker: InstitutionId) -> Callable[..., bytes]:
        def call(other: InstitutionId, method: str, path: str, *, content: bytes = b"", most: int = 4096) -> bytes:
            seat = self.lines.get(other)
            if seat is None:
                raise UnavailableError("the door is not known, expected a line: connect the seats")
            what, _, query = path.removeprefix("/peer/").partition("?")
            if what in seat.told:
                return seat.told[what]
            node = cast("Any", seat)
            try:
                if method == "GET":
                    answer = witness_doors.answer_get(node, what, query.encode())
                else:
                    answer = witness_doors.answer_post(node, speaker, what, content)
            except MisbehaviourError as error:
                raise VerificationError(str(error)) from None  # as it comes over HTTP
            assert len(answer) <= most
            return answer

        return call


class Stand:
    """Makes seats of one founded consortium; `time` is what all clocks show."""

    def __init__(self, folder: Path, *, witnesses: int = 0) -> None:
        self.folder = folder
        self.founded = Consortium.found(
            KINDS,
            operators=OPERATORS,
            parameters={"governance.witnesses": witnesses},
            workflows=(governance.WORKFLOW, catalog.WORKFLOW),
        )
        self.time = NOON + 1_000
        self.kind = self.founded.machine.directory().words("catalog.kinds")[0]
        self._opened: list[Seat] = []
        self._number = 0

    def party(self, name: str) -> Party:
        """Give an institution."""
        return self.founded[name]

    def sequencer(self, blocks: MemoryBlocks | None = None, *, offset: int = 0) -> Seat:
        """Open the hospital's node over some blocks; several of them are several histories."""
        party = self.party("hospital")
        engine = EmbeddedEngine(
            genesis=self.founded.machine.genesis,
            registry=self.founded.machine.registry,
            state=MemoryState(),
            blocks=MemoryBlocks() if blocks is None else blocks,
            proposer=party.gateway,
            proposer_id=party.id,
            clock=lambda: self.time + offset,
            second_core=False,
        )
        seat = self._seat(party, engine)
        seat.offset = offset
        seat.checkpoints.asked.set()
        return seat

    def follower(self, name: str, sequencer: Seat) -> Seat:
        """Open another institution's node that follows a sequencer."""
        line = Line(cast("EmbeddedEngine", sequencer.engine))
        engine = FollowerEngine(
            genesis=self.founded.machine.genesis,
            registry=self.founded.machine.registry,
            state=MemoryState(),
            blocks=MemoryBlocks(),
            source=line,
            second_core=False,
        )
        seat = self._seat(self.party(name), engine)
        seat.line = line
        seat.lines[sequencer.party.id] = sequencer
        sequencer.lines[seat.party.id] = seat
        return seat

    def meet(self, one: Seat, other: Seat) -> None:
        """Let two nodes know each other's doors."""
        one.lines[other.party.id] = other
        other.lines[one.party.id] = one

    def block(self, seat: Seat, *, number: int | None = None) -> bytes:
        """Let a sequencer make one block with one publication, and give its transaction."""
        transaction = self.transaction(number)
        assert not cast("EmbeddedEngine", seat.engine).submit(transaction).result(WAIT_S).code
        return transaction

    def transaction(self, number: int | None = None) -> bytes:
        """Sign an envelope of the hospital that publishes one entry; a fresh one without a number."""
        if number is None:
            self._number += 1
            number = self._number
        founded, party = self.founded, self.party("hospital")
        drawn = sha256(b"drawn", number.to_bytes(4, "big"))
        command = Publish(
            tag=drawn,
            root=drawn,
            commitment=drawn,
            size_class=14,
            kind=self.kind,
            level=3,
            month=24_300,  # type: ignore[arg-type]  # a number of months
            origin=Origin.SYSTEM,
            late=False,
        )
        core = founded.core(party, command, operation=op_id(drawn[:16]), version=0)
        return envelope.sign_transaction(
            [envelope.encode_operation(core)],
            party.gateway,
            chain=founded.chain,
            actor=party.id,
            valid_until=unix_millis(self.time + HOUR // 2),
        )

    def signed(self, checkpoint: Checkpoint, signer: Signer | None = None) -> Note:
        """Sign any checkpoint with the sequencer's key, as a sequencer that lies."""
        return Note(checkpoint, (sign(checkpoint, signer or self.party("hospital").gateway),))

    def close(self) -> None:
        """Close every seat."""
        for seat in reversed(self._opened):
            seat.engine.close()
            seat.checkpoints.store.close()
            seat.index.close()

    def _seat(self, party: Party, engine: Engine) -> Seat:
        folder = self.folder / f"{party.name}-{len(self._opened)}"
        folder.mkdir()
        seat = Seat(self, party, engine, folder)
        self._opened.append(seat)
        return seat

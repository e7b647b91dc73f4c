"""Receipts of a chain with a million operations and a million live rows: how large, how soon made, how soon checked.

The live rows and most leaves are written as such, as their operations would have left them; the operations that are
proven were signed and executed, and stand at the beginning of the log, where paths are longest. Three witnesses signed.
"""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import msgspec

from bench.growth import TREE_DEPTH, Chain, fill
from bench.report import Measurement, judged
from bench.world import World
from yilian import canonical
from yilian.client.verify import verify_receipt
from yilian.crypto.intl import Ed25519Signer
from yilian.engine.embedded import EmbeddedEngine
from yilian.ledger.checkpoint import Note, SignatureKind, cosign, sign
from yilian.ledger.log import Log
from yilian.ledger.ports import Batch, State
from yilian.ledger.receipt import parse_receipt
from yilian.ledger.results import Head, app_hash_of
from yilian.ledger.trust import Trust, TrustedKey
from yilian.node.proofs import Prover
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.sql import SqlIndex
from yilian.values import CaseId, case_id, institution_id

LOGGED = 1_000_000
LIVE = 1_000_000
EXECUTED, BLOCK, ENVELOPE = 20_000, 1_000, 100
PROOFS = 300
WITNESSES = 3
BYTES, MADE_MS, CHECKED_MS = 4_096, 20.0, 5.0
"""Targets: bytes of a receipt beyond its operation, milliseconds to make and to check it."""


def grow_log(state: State, size: int) -> None:
    """Append leaves that no operation stands behind, up to `size`, and write the head that follows."""
    stored = state.head()
    if stored is None:
        raise AssertionError("the chain has begun")
    head = canonical.decode(stored, Head)
    log = Log.load(head.log_size, state.tile)
    log.extend([sha256(b"leaf" + number.to_bytes(8, "big")).digest() for number in range(head.log_size, size)])
    root = log.root()
    changed = msgspec.structs.replace(
        head,
        log_size=size,
        log_root=root,
        app_hash=app_hash_of(size, root, head.state_root, head.parameters_root),
    )
    tiles = {place: bytes(tile) for place, tile in log.touched.items()}
    state.write(Batch(height=0, rows={}, tiles=tiles, leaves=b"", head=canonical.encode(changed)))


class Signed:
    """Checkpoints of an engine's newest block, as its sequencer and three witnesses sign them, and who trusts them."""

    def __init__(self, world: World, engine: EmbeddedEngine) -> None:
        self._world, self._engine = world, engine
        self._witnesses = [
            Ed25519Signer.from_seed(sha256(b"witness %d" % number).digest()) for number in range(WITNESSES)
        ]

    def note(self) -> Note:
        """Sign the newest block's."""
        head = self._engine.head()
        checkpoint = head.checkpoint(self._engine.chain)
        lines = [sign(checkpoint, self._world.party.gateway)]
        for witness in self._witnesses:
            institution = institution_id(witness.key_id)
            lines.append(cosign(checkpoint, SignatureKind.EXECUTED, witness, institution=institution, now=head.time))
        return Note(checkpoint, tuple(lines))

    def trust(self) -> Trust:
        """Give what a reader believes."""
        party = self._world.party
        return Trust(
            format=1,
            name="bench",
            chain=self._engine.chain.hex(),
            sequencer=(_trusted(party.id, party.gateway.public_key),),
            witnesses=tuple(_trusted(one.key_id, one.public_key) for one in self._witnesses),
            needed=WITNESSES,
        )


def _trusted(institution: bytes, key: bytes) -> TrustedKey:
    name = institution.hex()
    return TrustedKey(institution=name, operator=name, public_key=key.hex(), held_by="node")


class Stand:
    """An engine in memory over such a chain, with a prover."""

    def __init__(self, folder: Path, *, logged: int, live: int, executed: int) -> None:
        world = World(TREE_DEPTH)
        state, blocks = MemoryState(), MemoryBlocks()
        fill(state, world, live)
        chain = Chain(state, blocks, world)
        transactions = world.transactions(0, executed, each=ENVELOPE)
        for at in range(0, len(transactions), BLOCK // ENVELOPE):
            chain.block(tuple(transactions[at : at + BLOCK // ENVELOPE]))
        del chain
        grow_log(state, logged)
        self.executed = executed
        self.world = world
        self.engine = world.engine(state, blocks)
        self.index = SqlIndex(folder / "index.db")
        self.signed = Signed(world, self.engine)
        note = self.signed.note()
        self.now = note.checkpoint.time
        self.trust = self.signed.trust()
        self.prover = Prover(self.engine, self.index, lambda: note)

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()
        self.index.close()

    def entry(self, number: int) -> CaseId:
        """Give the id of the number-th entry that was published."""
        return self.world.publish(number)[0]


def compared(
    stand: Stand, what: str, make: Callable[[int], bytes], *, of: Callable[[bytes], int]
) -> Iterator[Measurement]:
    """Make and check receipts, and give the medians of their bytes beyond what `of` counts, and of both times."""
    drawn = random.Random(4)
    sizes, made, checked = [], [], []
    for _ in range(PROOFS):
        number = drawn.randrange(stand.executed)
        start = time.perf_counter()
        content = make(number)
        between = time.perf_counter()
        report = verify_receipt(content, stand.trust, now=stand.now)
        end = time.perf_counter()
        if not report.ok:
            raise AssertionError(f"{what}: a receipt failed at {report.failed}")
        sizes.append(len(content) - of(content))
        made.append(1_000 * (between - start))
        checked.append(1_000 * (end - between))
    size, making, checking = (statistics.median(values) for values in (sizes, made, checked))
    yield judged(f"proofs: {what}, bytes beyond it", size, "bytes", ratio=size / BYTES, kind="<=", bound=1.0)
    yield judged(f"proofs: {what}, made", making, "ms", ratio=making / MADE_MS, kind="<=", bound=1.0)
    yield judged(f"proofs: {what}, checked", checking, "ms", ratio=checking / CHECKED_MS, kind="<=", bound=1.0)


def operation_bytes(content: bytes) -> int:
    """Count the bytes of the operation that a receipt shows."""
    (logged,) = parse_receipt(content).operations
    return len(logged.operation)


def row_bytes(content: bytes) -> int:
    """Count the bytes of the rows that a receipt shows."""
    return sum(len(shown.row) for shown in parse_receipt(content).state.present)


def measured_on(stand: Stand) -> Iterator[Measurement]:
    """Give the lines of all kinds."""
    prover = stand.prover
    yield from compared(stand, "operation", prover.operation, of=operation_bytes)
    yield from compared(stand, "presence", lambda number: prover.state(stand.entry(number)), of=row_bytes)
    yield from compared(stand, "absence", lambda number: prover.absence(nobody(number)), of=row_bytes)


def nobody(number: int) -> CaseId:
    """Give an id under which nothing stands."""
    return case_id(sha256(b"nobody %d" % number).digest())


def measure() -> Iterator[Measurement]:
    """Give size and times of receipts at a million operations."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Stand(Path(folder), logged=LOGGED, live=LIVE, executed=EXECUTED)) as stand,
    ):
        gc.collect()
        gc.freeze()
        yield from measured_on(stand)
        gc.unfreeze()

"""Growth: how much slower an operation is with 1 M live entries than with 10 k.

In memory at 1 operation an envelope, with durable commits (LMDB, segments) at 100. Signatures count as checked: both
sides of the ratio would pay for them alike. The live entries are written as rows, as their operations would have.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

import msgspec

from bench.report import Measurement, judged, measured
from bench.world import World, drawn
from yilian import canonical
from yilian.engine.tuning import anonymous_memory
from yilian.ledger.block import BlockHeader, seal_block, transactions_root
from yilian.ledger.cases import Found, Header
from yilian.ledger.machine import Machine
from yilian.ledger.ports import Batch, Blocks, State
from yilian.ledger.results import Checked, Head
from yilian.ledger.state import encode_case, key_hash
from yilian.ledger.tree import StateTree
from yilian.storage.lmdb import LmdbState
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.segments import SegmentBlocks
from yilian.values import case_id, unix_millis
from yilian.workflows.catalog.model import Entry, EntryState, Origin

FEW, MANY = 10_000, 1_000_000
TREE_DEPTH = 20
OPERATIONS = 20_000
BLOCK = 1_000
FILL = 50_000


def fill(state: State, world: World, count: int) -> None:
    """Write live entries and a head with their root, in batches."""
    Machine(state, world.registry, world.genesis)
    stored = state.head()
    if stored is None:
        raise AssertionError("opening a machine writes the genesis")
    head = canonical.decode(stored, Head)
    for start in range(0, count, FILL):
        rows = {}
        for number in range(start, min(start + FILL, count)):
            raw = drawn(b"live", number)
            rows[key_hash(b"case/" + raw)] = entry_row(world, raw)
        state.write(Batch(height=0, rows=rows, tiles={}, leaves=b"", head=stored))
    pairs = ((key, sha256(row).digest()) for key, row in state.scan(b"\0" * 32, None))
    root = StateTree.build(world.genesis.tree_depth, pairs).root
    changed = msgspec.structs.replace(head, state_root=root)
    state.write(Batch(height=0, rows={}, tiles={}, leaves=b"", head=canonical.encode(changed)))


def entry_row(world: World, raw: bytes) -> bytes:
    """Make the row of an entry."""
    one = drawn(raw, 0)
    zero = unix_millis(0)
    header = Header(
        id=case_id(raw),
        version=1,
        state=EntryState.CURRENT.value,
        flags=(),
        opened_height=0,
        opened_time=zero,
        changed_height=0,
        changed_time=zero,
        patient=None,
    )
    entry = Entry(
        custodian=world.party.id,
        tag=one,
        root=one,
        commitment=one,
        size_class=14,
        kind=world.kind,
        level=3,
        month=24_300,  # type: ignore[arg-type]  # a number of months
        origin=Origin.SYSTEM,
        late=False,
    )
    return encode_case("entry", 1, Found(header, entry))


class Chain:
    """A chain over stores that are filled already, executing ready transactions block by block."""

    def __init__(self, state: State, blocks: Blocks, world: World) -> None:
        self._machine = Machine(state, world.registry, world.genesis, allocate=anonymous_memory)
        self._blocks = blocks
        self._world = world
        self.seconds: list[float] = []

    def block(self, transactions: tuple[bytes, ...]) -> None:
        """Execute, keep and commit one block, and note the seconds."""
        machine, world = self._machine, self._world
        start = time.perf_counter()
        height, stamp = machine.head.height + 1, unix_millis(machine.head.time + 1)
        header = BlockHeader(
            version=1,
            chain=machine.chain,
            height=height,
            time=stamp,
            parent=machine.head.block,
            transactions_root=transactions_root(transactions),
            app_hash=machine.head.app_hash,
            proposer=world.party.id,
            key_id=world.party.gateway.key_id,
        )
        executed = machine.execute(height, stamp, header.digest, transactions, lambda _: Checked.ALL)
        self._blocks.append(height, seal_block(header, transactions, world.party.gateway))
        machine.commit(executed)
        self.seconds.append(time.perf_counter() - start)

    @property
    def rate(self) -> float:
        """Operations a second of the median block."""
        return BLOCK / statistics.median(self.seconds)


def alternate(chains: tuple[Chain, ...], transactions: list[bytes]) -> None:
    """Give each block to every chain in turn, so that what else the machine does meets all of them."""
    size = len(transactions) * BLOCK // OPERATIONS
    gc.collect()
    gc.freeze()
    for at in range(0, len(transactions), size):
        for chain in chains:
            chain.block(tuple(transactions[at : at + size]))
    gc.unfreeze()


def in_memory(world: World, count: int) -> Chain:
    """Fill a store in memory."""
    state = MemoryState()
    fill(state, world, count)
    return Chain(state, MemoryBlocks(), world)


def on_disk(world: World, count: int, place: Path, stack: ExitStack) -> Chain:
    """Fill an LMDB; blocks go to segments beside it."""
    state = stack.enter_context(closing(LmdbState(place / str(count) / "state")))
    blocks = stack.enter_context(closing(SegmentBlocks(place / str(count) / "segments")))
    fill(state, world, count)
    return Chain(state, blocks, world)


def compared(what: str, few: Chain, many: Chain, bound: float) -> Iterator[Measurement]:
    """Give both rates and their ratio."""
    for chain, count in ((few, FEW), (many, MANY)):
        yield measured(f"growth: {what}, {count:,} live", chain.rate, "op/s")
    ratio = few.rate / many.rate
    yield judged(f"growth: {what}, 10 k → 1 M live", ratio, "times", ratio=ratio, kind="<=", bound=bound)


def measure() -> Iterator[Measurement]:
    """Give the growth in memory and on disk."""
    world = World(TREE_DEPTH)
    few, many = in_memory(world, FEW), in_memory(world, MANY)
    alternate((few, many), world.transactions(0, OPERATIONS, each=1))
    yield from compared("in memory, 1 an envelope", few, many, 1.3)
    del few, many
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        few, many = (on_disk(world, count, Path(folder), stack) for count in (FEW, MANY))
        alternate((few, many), world.transactions(0, OPERATIONS, each=100))
        yield from compared("durable, 100 an envelope", few, many, 2.5)

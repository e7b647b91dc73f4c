"""Part "follower": a node 100,000 operations behind catches up, against the state machine's rate; and its memory.

The follower is a process of its own: its engine over LMDB and segment files, its checking process, and a stream of
framed blocks from another process over a socket of the kernel. What a node adds beside its engine (TLS, read model,
reactors) is not in it. Blocks hold 1,000 operations in envelopes of 100, as a sequencer under load makes them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from bench import machine
from bench.report import Measurement, judged, measured
from bench.world import World
from yilian import canonical
from yilian.engine.follower import FollowerEngine
from yilian.engine.tuning import ease_collector
from yilian.errors import UnavailableError
from yilian.ledger.block import VERSION, BlockHeader, Genesis, seal_block, transactions_root
from yilian.ledger.machine import Machine
from yilian.ledger.ports import Blocks
from yilian.ledger.registry import Registry
from yilian.ledger.results import Checked, TransactionResult
from yilian.storage.lmdb import LmdbState
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.segments import SegmentBlocks
from yilian.values import HOUR, MINUTE, unix_millis
from yilian.workflows import catalog, governance

TREE_DEPTH = 20
OPERATIONS = 100_000
EACH = 100
BLOCK_OPERATIONS = 1_000
BLOCK_MS = 10 * MINUTE
"""100,000 operations take most of a day."""
RUNS = 5
WARM_UP, STRETCH = 2_000, 30_000
"""Operations that the state machine is measured with."""
LEAST_RATIO = 0.8
MOST_MB = 150.0
WAIT_S = 300.0
LOOK_S = 0.05
_LENGTH = 4


class Caught(msgspec.Struct, frozen=True):
    """What the follower's process says of itself."""

    seconds: float
    app_hash: str
    peak_mb: float
    checking_mb: float


class _SocketSource:
    """Frames of blocks from the socket that this process was given."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self.first: float | None = None

    def blocks_after(self, height: int) -> Iterator[bytes]:
        """Ask for the blocks after a height, and stream them."""
        self.first = self.first or time.perf_counter()
        self._stream.sendall(height.to_bytes(8, "big"))
        with self._stream.makefile("rb", buffering=1 << 18) as frames:
            while size := int.from_bytes(frames.read(_LENGTH), "big"):
                yield frames.read(size)

    def submit(self, transaction: bytes) -> TransactionResult:
        """Take nothing."""
        raise UnavailableError(f"{len(transaction)} bytes came, this line gives blocks alone: submit nothing")

    def close(self) -> None:
        """End the stream."""
        self._stream.shutdown(socket.SHUT_RDWR)


def measure() -> Iterator[Measurement]:
    """Give the figures of the follower."""
    world = World(TREE_DEPTH)
    blocks = MemoryBlocks()
    app_hash = record(world, blocks)
    runs: list[Caught] = []
    pairs: list[tuple[float, float]] = []
    with closing(machine.Pipeline(world)) as pipeline:
        pipeline.run(world.transactions(0, WARM_UP, each=1), 1)
        for run in range(RUNS):
            # one right after the other: what else the machine does then strikes both
            transactions = world.transactions(WARM_UP + run * STRETCH, STRETCH, each=EACH)
            rate = pipeline.run(transactions, EACH)
            runs.append(catch_up(world, blocks))
            pairs.append((OPERATIONS / runs[-1].seconds, rate))
    if {run.app_hash for run in runs} != {app_hash}:
        raise AssertionError("a follower stands elsewhere than its sequencer")
    own, rate = sorted(pairs, key=lambda pair: pair[0] / pair[1])[RUNS // 2]
    peak = max(run.peak_mb for run in runs)
    yield measured("state machine, 100 an envelope, right before", rate, "op/s")
    yield judged(
        "follower, 100,000 operations behind / state machine",
        own,
        "op/s",
        ratio=own / rate,
        kind=">=",
        bound=LEAST_RATIO,
    )
    yield judged("follower, peak of resident memory", peak, "MB", ratio=peak, kind="<=", bound=MOST_MB)
    yield measured("its checking process while it catches up", max(run.checking_mb for run in runs), "MB")


def record(world: World, blocks: Blocks) -> str:
    """Make the chain as its sequencer, a block of 1,000 operations every ten minutes; give its `app_hash` in hex."""
    made = Machine(MemoryState(), world.registry, world.genesis)
    for first in range(0, OPERATIONS, BLOCK_OPERATIONS):
        head = made.head
        time_now = unix_millis(head.time + BLOCK_MS)
        operations = [world.publication(number) for number in range(first, first + BLOCK_OPERATIONS)]
        transactions = tuple(
            world.transaction(operations[at : at + EACH], valid_until=time_now + HOUR)
            for at in range(0, BLOCK_OPERATIONS, EACH)
        )
        header = BlockHeader(
            version=VERSION,
            chain=made.chain,
            height=head.height + 1,
            time=time_now,
            parent=head.block,
            transactions_root=transactions_root(transactions),
            app_hash=head.app_hash,
            proposer=world.party.id,
            key_id=world.party.gateway.key_id,
        )
        made.commit(made.execute(header.height, time_now, header.digest, transactions, lambda _: Checked.SIGNATURES))
        blocks.append(header.height, seal_block(header, transactions, world.party.gateway))
    return made.head.app_hash.hex()


def catch_up(world: World, blocks: Blocks) -> Caught:
    """Run a follower from nothing to the newest block, in a process of its own."""
    here, there = socket.socketpair()
    with tempfile.TemporaryDirectory() as folder, here, there:
        (Path(folder) / "genesis.cbor").write_bytes(canonical.encode(world.genesis))
        command = [sys.executable, "-m", "bench.follower", folder, str(blocks.last_height()), str(there.fileno())]
        with subprocess.Popen(  # noqa: S603 - this interpreter, this module
            command, stdout=subprocess.PIPE, pass_fds=(there.fileno(),)
        ) as child:
            there.close()
            threading.Thread(target=_serve, args=(here, blocks), daemon=True).start()
            out, _ = child.communicate(timeout=WAIT_S)
    return msgspec.json.decode(out, type=Caught)


def _serve(stream: socket.socket, blocks: Blocks) -> None:
    try:
        after = int.from_bytes(stream.recv(8), "big")
        for height in range(after + 1, blocks.last_height() + 1):
            block = blocks.read(height)
            stream.sendall(len(block).to_bytes(_LENGTH, "big") + block)
    except OSError:
        return  # the follower has ended


def follow(folder: Path, height: int, descriptor: int) -> Caught:
    """Catch up to a height; the work of the child process."""
    ease_collector()
    genesis = canonical.decode((folder / "genesis.cbor").read_bytes(), Genesis)
    source = _SocketSource(socket.socket(fileno=descriptor))
    with closing(LmdbState(folder / "state")) as state, closing(SegmentBlocks(folder / "segments")) as blocks:
        state.keep_lean()  # as a node does with the store of a follower
        engine = FollowerEngine(
            genesis=genesis,
            registry=Registry((governance.WORKFLOW, catalog.WORKFLOW)),
            state=state,
            blocks=blocks,
            source=source,
        )
        with closing(engine):
            checking = 0.0
            while engine.wait_height(height, LOOK_S) < height:
                if engine.failure is not None:
                    raise AssertionError(engine.failure)
                checking = max(checking, _peak_mb(engine.checking_process))
            seconds = time.perf_counter() - (source.first or 0.0)
            return Caught(seconds, engine.head().app_hash.hex(), _peak_mb(os.getpid()), checking)


def _peak_mb(process: int | None) -> float:
    """Give the most memory that a process had resident so far; 0 where there is none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    return peak / 1024


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(follow(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))

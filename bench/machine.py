"""L1: the state machine in memory with real rules and tree, signatures checked on the second core, against raw verify.

Transactions come ready-made, in blocks of 1,000 operations; while one executes, the engine's own checking process
checks the next, and what would keep the executing core waiting is checked there. What the engine adds (queue, futures,
signed blocks, disk) is L2's. Raw verify is measured right before and after each run, on one idle core.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from bench.ceilings import verify_rate
from bench.report import Measurement, judged, measured
from bench.world import World
from yilian.engine.tuning import anonymous_memory
from yilian.engine.verification import Checker, CheckReply, Unpacker
from yilian.ledger.envelope import Envelope
from yilian.ledger.machine import Machine
from yilian.ledger.results import Checked
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.values import digest, unix_millis

TREE_DEPTH = 20
RUNS = 5
WAIT_S = 300.0
WARM_UP = 2_000
BLOCK_OPERATIONS = 1_000
OWN_SHARE = {1: 8, 100: 0}
"""Per cent of the transactions that the executing core checks itself, by operations an envelope: at one, checking takes
longer than executing, and neither core is to wait for the other."""
UNNAMED = digest(bytes(32))


class Pipeline:
    """The state machine over a store in memory, a block behind the process that checks forms and signatures."""

    def __init__(self, world: World) -> None:
        self._machine = Machine(MemoryState(), world.registry, world.genesis, allocate=anonymous_memory)
        self._checker = Checker(world.registry.command_types)
        self._unpacker = Unpacker(world.registry.command_types)
        self._keys = world.public_keys()
        self._time = world.start

    def close(self) -> None:
        """End the checking process."""
        self._checker.close()

    def run(self, transactions: list[bytes], each: int) -> float:
        """Check and execute everything, in blocks of 1,000 operations; give operations a second."""
        step = BLOCK_OPERATIONS // each
        blocks = [transactions[first : first + step] for first in range(0, len(transactions), step)]
        own = step * OWN_SHARE[each] // 100
        start = time.perf_counter()
        self._checker.send(self._keys, blocks[0][own:])
        for number, block in enumerate(blocks):
            reply = self._checker.receive()
            if number + 1 < len(blocks):
                self._checker.send(self._keys, blocks[number + 1][own:])
            self._execute(block, own, reply, each)
        return len(transactions) * each / (time.perf_counter() - start)

    def _execute(self, block: list[bytes], own: int, reply: CheckReply, each: int) -> None:
        verdicts = dict.fromkeys(block[:own], (Checked.NOTHING.value, b""))
        verdicts |= zip(block[own:], zip(reply.checked, reply.packed, strict=True), strict=True)

        def verified(transaction: bytes) -> Checked | Envelope:
            checked, packed = verdicts[transaction]
            return self._unpacker.unpack(packed) if packed else Checked(checked)

        machine = self._machine
        self._time = unix_millis(self._time + 1)
        executed = machine.execute(machine.head.height + 1, self._time, UNNAMED, block, verified)
        machine.commit(executed)
        if not all(reply.checked) or not all(
            len(result.answers) == each and all(answer.ok for answer in result.answers) for result in executed.results
        ):
            raise AssertionError("a transaction was not checked, or not done")


def run(world: World, make: Callable[[int], list[bytes]], each: int) -> tuple[float, float]:
    """Measure (operations a second, raw verifications a second), the median of some runs by their ratio."""
    pairs = []
    with closing(Pipeline(world)) as pipeline:
        number = WARM_UP
        pipeline.run(world.transactions(0, WARM_UP, each=1), 1)
        for _ in range(RUNS):
            transactions = make(number)
            number += len(transactions) * each
            gc.collect()
            before = verify_rate(world, 0.5)
            operations = pipeline.run(transactions, each)
            pairs.append((operations, (before + verify_rate(world, 0.5)) / 2))
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def person_signed(world: World) -> tuple[float, float]:
    """Measure operations that a data officer signs beside the gateway, one an envelope."""
    count = 4_000
    with closing(Pipeline(world)) as pipeline:
        pipeline.run(world.transactions(0, count, each=100), 100)
        restrictions = [world.transaction([world.restriction(each)]) for each in range(count)]
        raw = verify_rate(world, 0.5)
        return pipeline.run(restrictions, 1), raw


def measure() -> Iterator[Measurement]:
    """Give the figures of L1."""
    world = World(TREE_DEPTH)
    rates, raw = run(world, lambda first: world.transactions(first, 20_000, each=1), 1)
    yield judged("L1 publish, 1 operation an envelope / verify", rates, "op/s", ratio=rates / raw, kind=">=", bound=0.8)
    rates, raw = run(world, lambda first: world.transactions(first, 30_000, each=100), 100)
    yield judged("L1 publish, 100 an envelope / verify", rates, "op/s", ratio=rates / raw, kind=">=", bound=1.5)
    rates, raw = person_signed(world)
    yield judged("L1 restrict, signed by a person, 1 an envelope / verify", rates, "op/s", ratio=rates / raw)
    yield measured("L1 median of latency, one at a time", latency(world) * 1e3, "ms")


def latency(world: World) -> float:
    """Measure the seconds from submitting one operation to an idle engine until its answer, in memory."""
    with closing(world.engine(MemoryState(), MemoryBlocks(), second_core=True)) as engine:
        transactions = world.transactions(0, 200, each=1)
        seconds = []
        for transaction in transactions:
            start = time.perf_counter()
            engine.submit(transaction).result(WAIT_S)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

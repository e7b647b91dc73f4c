"""L1: the state machine in memory with real rules and tree, signatures checked on the second core, against raw verify.

Transactions come ready-made; the engine that overlaps checking and execution is the real one, over stores in memory.
Raw verify is measured right before and after each run, on one core that nothing else uses.
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
from yilian.engine.embedded import EmbeddedEngine
from yilian.storage.memory import MemoryBlocks, MemoryState

TREE_DEPTH = 20
RUNS = 3
WAIT_S = 300.0
WARM_UP = 1_500


def engine_of(world: World) -> EmbeddedEngine:
    """Open an engine over stores in memory."""
    return world.engine(MemoryState(), MemoryBlocks(), second_core=True)


def warm_up(engine: EmbeddedEngine, world: World) -> int:
    """Bring the checking process up; give the number of entries published."""
    number = 0
    while engine.checking_process is None or number < WARM_UP:
        submit_all(engine, world.transactions(number, WARM_UP, each=1), 1)
        number += WARM_UP
    return number


def submit_all(engine: EmbeddedEngine, transactions: list[bytes], each: int) -> float:
    """Submit transactions and wait for all answers; give operations a second."""
    start = time.perf_counter()
    futures = [engine.submit(transaction) for transaction in transactions]
    for future in futures:
        result = future.result(WAIT_S)
        if len(result.answers) != each or not all(answer.ok for answer in result.answers):
            raise AssertionError(f"a transaction was not done: {result}")
    return len(transactions) * each / (time.perf_counter() - start)


def run(world: World, make: Callable[[int], list[bytes]], each: int) -> tuple[float, float]:
    """Measure (operations a second, raw verifications a second), the median of some runs by their ratio."""
    pairs = []
    with closing(engine_of(world)) as engine:
        number = warm_up(engine, world)
        for _ in range(RUNS):
            transactions = make(number)
            number += len(transactions) * each
            gc.collect()
            before = verify_rate(world, 0.5)
            operations = submit_all(engine, transactions, each)
            pairs.append((operations, (before + verify_rate(world, 0.5)) / 2))
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def person_signed(world: World) -> tuple[float, float]:
    """Measure operations that a data officer signs beside the gateway, one an envelope."""
    count = 4_000
    with closing(engine_of(world)) as engine:
        number = warm_up(engine, world)
        submit_all(engine, world.transactions(number, count, each=100), 100)
        restrictions = [world.transaction([world.restriction(each)]) for each in range(number, number + count)]
        raw = verify_rate(world, 0.5)
        return submit_all(engine, restrictions, 1), raw


def measure() -> Iterator[Measurement]:
    """Give the figures of L1."""
    world = World(TREE_DEPTH)
    rates, raw = run(world, lambda first: world.transactions(first, 8_000, each=1), 1)
    yield judged("L1 publish, 1 operation an envelope / verify", rates, "op/s", ratio=rates / raw, kind=">=", bound=0.8)
    rates, raw = run(world, lambda first: world.transactions(first, 30_000, each=100), 100)
    yield judged("L1 publish, 100 an envelope / verify", rates, "op/s", ratio=rates / raw, kind=">=", bound=1.5)
    rates, raw = person_signed(world)
    yield judged("L1 restrict, signed by a person, 1 an envelope / verify", rates, "op/s", ratio=rates / raw)
    yield measured("L1 median of latency, one at a time", latency(world) * 1e3, "ms")


def latency(world: World) -> float:
    """Measure the seconds from submitting one operation to an idle engine until its answer, in memory."""
    with closing(engine_of(world)) as engine:
        transactions = world.transactions(0, 200, each=1)
        seconds = []
        for transaction in transactions:
            start = time.perf_counter()
            engine.submit(transaction).result(WAIT_S)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

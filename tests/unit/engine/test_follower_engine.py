"""The follower engine: it believes nothing, says what it finds, goes on reading alone, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest

from bench.world import World
from yilian.engine.embedded import EmbeddedEngine
from yilian.engine.follower import BROKEN_BLOCK, FORK, NOT_THE_SEQUENCER, OTHER_ANSWER, OTHER_STATE, FollowerEngine
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger.block import parse_block, seal_block, transactions_root
from yilian.ledger.envelope import TransactionCode
from yilian.ledger.ports import Batch, Blocks, State
from yilian.ledger.results import TransactionResult
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.values import digest, unix_millis

WAIT_S = 60.0
IDLE_S = 0.3


class Line:
    """A line to an engine of this process that can be cut, and whose blocks and answers can be changed."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.up = True
        self.streams = 0
        self.change: Callable[[int, bytes], bytes] = lambda _, data: data
        self.answer: Callable[[TransactionResult], TransactionResult] = lambda result: result
        self._closed = threading.Event()

    def blocks_after(self, height: int) -> Iterator[bytes]:
        """Stream blocks while the line is up."""
        self.streams += 1
        while self._check() and self.engine.wait_height(height + 1, IDLE_S) > height:
            height += 1
            yield self.change(height, self.engine.encoded_block(height))

    def submit(self, transaction: bytes) -> TransactionResult:
        """Hand a transaction in."""
        self._check()
        return self.answer(self.engine.submit(transaction).result(WAIT_S))

    def close(self) -> None:
        """Cut the line for good."""
        self._closed.set()

    def _check(self) -> bool:
        if not self.up or self._closed.is_set():
            raise UnavailableError("the sequencer is away, expected it to answer: start it")
        return True


class Problems:
    """Keeps what an engine tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []
        self.came = threading.Event()

    def __call__(self, name: str, detail: str, evidence: bytes) -> None:
        """Take one."""
        assert detail
        self.told.append((name, evidence))
        self.came.set()


@pytest.fixture(scope="module")
def world() -> World:
    return World(10)


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    with closing(world.engine(MemoryState(), MemoryBlocks())) as engine:
        yield Line(engine)


@contextmanager
def following(
    world: World,
    line: Line,
    *,
    state: State | None = None,
    blocks: Blocks | None = None,
    problems: Problems | None = None,
    second_core: bool = False,
) -> Iterator[FollowerEngine]:
    engine = FollowerEngine(
        genesis=world.genesis,
        registry=world.registry,
        state=state or MemoryState(),
        blocks=blocks or MemoryBlocks(),
        source=line,
        on_problem=problems,
        second_core=second_core,
    )
    with closing(engine):
        yield engine


def publish(world: World, engine: EmbeddedEngine | FollowerEngine, number: int) -> TransactionResult:
    return engine.submit(world.transaction([world.publication(number)])).result(WAIT_S)


def test_it_catches_up_and_stands_where_the_sequencer_stands(world: World, line: Line) -> None:
    for number in range(3):
        publish(world, line.engine, number)
    with following(world, line) as engine:
        heights: list[int] = []
        engine.subscribe(heights.append)
        assert engine.wait_height(3, WAIT_S) == 3
        publish(world, line.engine, 3)
        assert engine.wait_height(4, WAIT_S) == 4
        assert engine.head() == line.engine.head()
        assert engine.events(4) == line.engine.events(4)
        assert (engine.sequencer(), engine.failure, engine.away) == (world.party.id, None, None)
        assert 4 in heights


def test_what_it_submits_is_answered_once_it_has_executed_it(world: World, line: Line) -> None:
    with following(world, line) as engine:
        result = publish(world, engine, 1)
        case, _ = world.publish(1)
        assert [answer.ok for answer in result.answers] == [True]
        assert engine.head().height == 1
        assert engine.find_case(case) == line.engine.find_case(case)
        assert engine.submit(bytes(1_000_001)).result(0).code == TransactionCode.TOO_LARGE
        assert engine.submit(b"\x00").result(WAIT_S).code != TransactionCode.OK


def test_while_the_sequencer_is_away_it_reads_and_says_what_to_do(world: World, line: Line) -> None:
    with following(world, line) as engine:
        publish(world, engine, 1)
        line.up = False
        with pytest.raises(UnavailableError, match="start it"):
            publish(world, engine, 2)
        assert engine.head().height == 1
        assert engine.find_case(world.publish(1)[0]) is not None
        line.up = True
        assert [answer.ok for answer in publish(world, engine, 2).answers] == [True]
        assert engine.head() == line.engine.head()


def test_it_goes_on_from_the_height_of_its_stores(world: World, line: Line) -> None:
    state, blocks = MemoryState(), MemoryBlocks()
    with following(world, line, state=state, blocks=blocks) as engine:
        publish(world, engine, 1)
    for number in (2, 3):
        publish(world, line.engine, number)
    again = Line(line.engine)
    with following(world, again, state=state, blocks=blocks) as engine:
        assert engine.wait_height(3, WAIT_S) == 3
        assert engine.head() == line.engine.head()


def test_a_block_without_its_state_is_executed_again(world: World, line: Line) -> None:
    publish(world, line.engine, 1)
    blocks = MemoryBlocks()
    blocks.append(1, line.engine.encoded_block(1))
    line.up = False
    with following(world, line, blocks=blocks) as engine:
        assert engine.head() == line.engine.head()


class FailingOnce(MemoryState):
    """A store whose disk fails at one block, once."""

    fails = True

    def write(self, batch: Batch) -> None:
        if self.fails and batch.height == 2:
            self.fails = False
            raise UnavailableError("the disk is full, expected room: free space")
        super().write(batch)


def test_a_disk_that_failed_is_tried_again(world: World, line: Line) -> None:
    state, blocks = FailingOnce(), MemoryBlocks()
    for number in range(3):
        publish(world, line.engine, number)
    with following(world, line, state=state, blocks=blocks) as engine:
        assert engine.wait_height(3, WAIT_S) == 3
        assert (engine.failure, blocks.last_height()) == (None, 3)


def forged(world: World, data: bytes, **changes: object) -> bytes:
    header, block = parse_block(data)
    return seal_block(msgspec.structs.replace(header, **changes), block.transactions, world.party.gateway)


def by_another(world: World, data: bytes) -> bytes:
    header, block = parse_block(data)
    changed = msgspec.structs.replace(header, proposer=world.other.id, key_id=world.other.gateway.key_id)
    return seal_block(changed, block.transactions, world.other.gateway)


def with_a_late_one(world: World, data: bytes) -> bytes:
    header, _ = parse_block(data)
    late = (world.transaction([world.publication(77)], valid_until=world.start),)
    changed = msgspec.structs.replace(header, transactions_root=transactions_root(late))
    return seal_block(changed, late, world.party.gateway)


ZERO = digest(bytes(32))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param(lambda world, data: forged(world, data, app_hash=ZERO), OTHER_STATE, id="another-state"),
        pytest.param(lambda world, data: forged(world, data, parent=ZERO), FORK, id="another-history"),
        pytest.param(lambda world, data: forged(world, data, time=unix_millis(1)), BROKEN_BLOCK, id="time-runs-back"),
        pytest.param(lambda _, data: data[:-1], BROKEN_BLOCK, id="cut-off"),
        pytest.param(by_another, NOT_THE_SEQUENCER, id="another-proposer"),
        pytest.param(with_a_late_one, BROKEN_BLOCK, id="a-transaction-that-may-not-enter"),
    ],
)
def test_a_block_that_does_not_hold_stops_it_and_is_named(
    world: World, line: Line, change: Callable[[World, bytes], bytes], name: str
) -> None:
    problems = Problems()
    for number in range(2):
        publish(world, line.engine, number)
    shown: list[bytes] = []

    def second_is_wrong(height: int, data: bytes) -> bytes:
        if height == 2:
            data = change(world, data)
            shown.append(data)
        return data

    line.change = second_is_wrong
    with following(world, line, problems=problems) as engine:
        assert problems.came.wait(WAIT_S)
        assert engine.wait_height(2, WAIT_S) == 1
        assert (problems.told, (engine.failure or "").split(":")[0]) == ([(name, shown[0])], name)
        assert engine.find_case(world.publish(0)[0]) is not None
        with pytest.raises(UnavailableError, match="follows no longer"):
            engine.submit(world.transaction([world.publication(9)]))


def test_an_answer_that_the_log_does_not_bear_out_is_refused(world: World, line: Line) -> None:
    problems = Problems()

    def moved(result: TransactionResult) -> TransactionResult:
        (answer,) = result.answers
        return msgspec.structs.replace(result, answers=(msgspec.structs.replace(answer, leaf=answer.leaf + 1),))

    line.answer = moved
    with following(world, line, problems=problems) as engine:
        with pytest.raises(VerificationError, match="believe the log"):
            publish(world, engine, 1)
        assert problems.told == [(OTHER_ANSWER, b"")]
        assert engine.failure is None


def test_a_backlog_is_checked_on_the_second_core_with_the_same_result(world: World, line: Line) -> None:
    for transaction in world.transactions(0, 1_000, each=100):
        line.engine.submit(transaction).result(WAIT_S)
    with following(world, line, second_core=True) as engine:
        assert engine.wait_height(10, WAIT_S) == 10
        assert engine.head() == line.engine.head()


def test_closing_ends_it_while_the_line_is_silent(world: World, line: Line) -> None:
    with following(world, line) as engine:
        publish(world, engine, 1)
        engine.close()
        with pytest.raises(UnavailableError, match="stopped"):
            engine.submit(world.transaction([world.publication(2)]))

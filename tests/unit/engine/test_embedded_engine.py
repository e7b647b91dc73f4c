"""The embedded engine: order, answers, recovery, and the checks that run ahead on the second core."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.world import World, drawn
from yilian.crypto.intl import Ed25519Signer
from yilian.engine import ahead
from yilian.engine.embedded import EmbeddedEngine
from yilian.engine.verification import NOTHING, Checker, Unpacker, check
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.ledger.envelope import TransactionCode, encode_operation, parse
from yilian.ledger.members import Role
from yilian.ledger.ports import Batch
from yilian.ledger.results import Checked
from yilian.storage.lmdb import LmdbState
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.segments import SegmentBlocks
from yilian.values import key_id
from yilian.workflows.catalog.model import Entry, Restrict

WAIT_S = 60.0


@pytest.fixture(scope="module")
def world() -> World:
    return World(10)


@pytest.fixture
def engine(world: World) -> Iterator[EmbeddedEngine]:
    with closing(world.engine(MemoryState(), MemoryBlocks())) as opened:
        yield opened


def test_an_answer_comes_when_its_block_is_durable(world: World, engine: EmbeddedEngine) -> None:
    result = engine.submit(world.transaction([world.publication(1)])).result(WAIT_S)
    case, _ = world.publish(1)
    found = engine.find_case(case)
    assert (result.code, [answer.ok for answer in result.answers]) == (TransactionCode.OK, [True])
    assert found is not None
    assert found[0] == "entry"
    assert engine.reads().case(Entry, case) == found[1]
    assert (engine.head().height, engine.head().log_size) == (1, 1)


def test_a_transaction_that_may_not_enter_makes_no_block(world: World, engine: EmbeddedEngine) -> None:
    wrong = world.transaction([world.publication(1)], gateway=Ed25519Signer.from_seed(bytes(32)))
    assert engine.submit(wrong).result(WAIT_S).code == TransactionCode.KEY_NOT_VALID
    assert engine.submit(bytes(1_000_001)).result(0).code == TransactionCode.TOO_LARGE
    assert engine.head().height == 0


def test_the_same_transaction_again_makes_no_block(world: World, engine: EmbeddedEngine) -> None:
    transaction = world.transaction([world.publication(1)])
    first = engine.submit(transaction).result(WAIT_S)
    assert engine.submit(transaction).result(WAIT_S) == first
    assert engine.head().height == 1


def test_block_time_never_runs_back(world: World) -> None:
    times = iter([world.start + 5, world.start + 2])
    with closing(world.engine(MemoryState(), MemoryBlocks(), clock=lambda: next(times))) as engine:
        for number in (1, 2):
            engine.submit(world.transaction([world.publication(number)])).result(WAIT_S)
        assert [engine.block(height)[0].time for height in (1, 2)] == [world.start + 5] * 2


def test_an_event_says_who_did_what_and_what_changed(world: World, engine: EmbeddedEngine) -> None:
    engine.submit(world.transaction([world.publication(1)])).result(WAIT_S)
    engine.submit(world.transaction([world.restriction(1)])).result(WAIT_S)
    (event,) = engine.events(2)
    case, _ = world.publish(1)
    officer = world.party.person(Role.DATA_OFFICER)
    assert (event.height, event.index, event.leaf, event.time) == (2, 0, 1, world.start + 1)
    assert (event.actor, event.workflow, event.command, event.case_id) == (
        world.party.id,
        "catalog",
        "catalog.restrict",
        case,
    )
    assert event.body == Restrict()
    assert event.persons == ((officer.key_id, Role.DATA_OFFICER),)
    assert event.ok
    assert event.cases == (engine.find_case(case),)
    assert event.registers == ()
    with pytest.raises(NotFoundError):
        engine.events(3)


def test_waiting_and_subscribing_follow_the_height(world: World, engine: EmbeddedEngine) -> None:
    heights: list[int] = []
    seen = threading.Event()

    def note(height: int) -> None:
        heights.append(height)
        seen.set()

    unsubscribe = engine.subscribe(note)
    assert engine.wait_height(1, 0.0) == 0
    engine.submit(world.transaction([world.publication(1)]))
    assert engine.wait_height(1, WAIT_S) == 1
    assert seen.wait(WAIT_S)
    unsubscribe()
    engine.submit(world.transaction([world.publication(2)])).result(WAIT_S)
    assert heights == [1]


def test_closing_answers_what_was_taken_and_takes_no_more(world: World) -> None:
    engine = world.engine(MemoryState(), MemoryBlocks())
    futures = [engine.submit(world.transaction([world.publication(number)])) for number in range(30)]
    engine.close()
    engine.close()
    assert [future.result(0).code for future in futures] == [TransactionCode.OK] * 30
    with pytest.raises(UnavailableError, match="stopped"):
        engine.submit(world.transaction([world.publication(31)]))
    assert engine.wait_height(10**6, WAIT_S) == engine.head().height


def test_a_proposer_without_a_valid_gateway_key_makes_no_block(world: World) -> None:
    with closing(world.engine(MemoryState(), MemoryBlocks(), proposer=Ed25519Signer.from_seed(bytes(32)))) as engine:
        future = engine.submit(world.transaction([world.publication(1)]))
        with pytest.raises(UnavailableError, match="may not sign blocks"):
            future.result(WAIT_S)


class FailingState(MemoryState):
    """A store whose disk is full while `full` is set."""

    full = False

    def write(self, batch: Batch) -> None:
        if self.full:
            raise UnavailableError("the disk is full, expected room: free space")
        super().write(batch)


def test_a_full_disk_answers_unavailable_and_the_same_bytes_succeed_later(world: World) -> None:
    state, blocks = FailingState(), MemoryBlocks()
    transaction = world.transaction([world.publication(1)])
    with closing(world.engine(state, blocks)) as engine:
        state.full = True
        with pytest.raises(UnavailableError, match="disk is full"):
            engine.submit(transaction).result(WAIT_S)
        assert (engine.head().height, blocks.last_height()) == (0, 0)
        state.full = False
        assert engine.submit(transaction).result(WAIT_S).answers[0].ok


@contextmanager
def on_disk(folder: Path, world: World) -> Iterator[tuple[EmbeddedEngine, LmdbState, SegmentBlocks]]:
    with (
        closing(LmdbState(folder / "state", map_size=1 << 22)) as state,
        closing(SegmentBlocks(folder / "segments")) as blocks,
        closing(world.engine(state, blocks)) as engine,
    ):
        yield engine, state, blocks


def test_a_reopened_chain_goes_on_where_it_stood(world: World, tmp_path: Path) -> None:
    first, second = (world.transaction([world.publication(number)]) for number in (1, 2))
    with on_disk(tmp_path, world) as (engine, _, _):
        answer = engine.submit(first).result(WAIT_S)
        head = engine.head()
    with on_disk(tmp_path, world) as (engine, _, _):
        assert engine.head() == head
        assert engine.submit(first).result(WAIT_S) == answer
        assert engine.submit(second).result(WAIT_S).answers[0].leaf == 1


def test_a_block_without_its_state_is_executed_again(world: World) -> None:
    blocks = MemoryBlocks()
    with closing(world.engine(MemoryState(), blocks)) as engine:
        for number in range(3):
            engine.submit(world.transaction([world.publication(number)])).result(WAIT_S)
        head = engine.head()
    with closing(world.engine(MemoryState(), blocks)) as engine:
        assert engine.head() == head


def test_a_state_ahead_of_its_blocks_is_refused(world: World) -> None:
    state, blocks = MemoryState(), MemoryBlocks()
    with closing(world.engine(state, blocks)) as engine:
        engine.submit(world.transaction([world.publication(1)])).result(WAIT_S)
    blocks.truncate_after(0)
    with pytest.raises(VerificationError, match="lost blocks"):
        world.engine(state, blocks)


def test_blocks_of_another_history_are_refused(world: World) -> None:
    histories = []
    for number in (1, 2):
        state, blocks = MemoryState(), MemoryBlocks()
        with closing(world.engine(state, blocks)) as engine:
            engine.submit(world.transaction([world.publication(number)])).result(WAIT_S)
        histories.append((state, blocks))
    with pytest.raises(VerificationError, match="different chains"):
        world.engine(histories[0][0], histories[1][1])


def flood(engine: EmbeddedEngine, transactions: list[bytes]) -> list[bool]:
    futures = [engine.submit(transaction) for transaction in transactions]
    return [all(answer.ok for answer in future.result(WAIT_S).answers) for future in futures]


def test_a_backlog_is_checked_by_a_child_and_its_death_changes_nothing(world: World) -> None:
    with closing(world.engine(MemoryState(), MemoryBlocks(), second_core=True)) as engine:
        number = 0
        children = []
        while len(children) < 2:
            batch = world.transactions(number, 400, each=1)
            number += 400
            assert flood(engine, batch) == [True] * 400
            child = engine.checking_process
            if child is not None and child not in children:
                children.append(child)
                flooding = [engine.submit(each) for each in world.transactions(number, 400, each=1)]
                number += 400
                os.kill(child, signal.SIGKILL)
                assert all(future.result(WAIT_S).answers[0].ok for future in flooding)
            assert number < 40_000
        assert engine.head().log_size == number


def test_forged_signatures_do_not_pass_in_a_backlog(world: World) -> None:
    forger = Ed25519Signer.from_seed(drawn(b"forger", 1))
    with closing(world.engine(MemoryState(), MemoryBlocks(), second_core=True)) as engine:
        warm = 0
        while engine.checking_process is None:
            assert flood(engine, world.transactions(warm, 200, each=1)) == [True] * 200
            warm += 200
        good = world.transactions(warm, 300, each=1)
        forged = [
            world.transaction([world.publication(100_000 + number)], gateway=Forged(world, forger))
            for number in range(300)
        ]
        futures = [engine.submit(each) for pair in zip(good, forged, strict=True) for each in pair]
        codes = [future.result(WAIT_S).code for future in futures]
        assert codes == [TransactionCode.OK, TransactionCode.BAD_SIGNATURE] * 300


class Forged:
    """Signs with its own key and names the hospital's."""

    def __init__(self, world: World, forger: Ed25519Signer) -> None:
        self.suite = forger.suite
        self.public_key = world.party.gateway.public_key
        self.key_id = world.party.gateway.key_id
        self.sign = forger.sign


def keys_of(world: World) -> dict[bytes, bytes]:
    officer = world.party.person(Role.DATA_OFFICER)
    return {each.key_id: each.public_key for each in (world.party.gateway, officer)}


def test_the_check_ahead_looks_at_gateway_and_persons_and_form(world: World) -> None:
    commands, keys = world.registry.command_types, keys_of(world)
    many = world.transactions(1, 8, each=8)[0]
    person = world.transaction([world.restriction(1)])
    forger = Ed25519Signer.from_seed(bytes(32))
    core = world.core("catalog.restrict", world.publish(1)[0], Restrict(), op=bytes(16), version=1)
    signed = world.signed(core, Role.DATA_OFFICER)
    forged = world.transaction(
        [
            encode_operation(
                core,
                [
                    type(signed)(
                        key_id=signed.key_id,
                        role=signed.role,
                        valid_until=signed.valid_until,
                        signature=forger.sign(b"other"),
                    )
                ],
            )
        ]
    )
    missing: list[bytes] = []
    verdicts = [
        check(each, keys, commands, missing) for each in (many, person, forged, b"", many[:-1], b"\x82\x80\x80")
    ]
    assert [each.checked for each in verdicts] == [Checked.ALL, Checked.SIGNATURES, *[Checked.NOTHING] * 4]
    assert Unpacker(commands).unpack(verdicts[0].packed) == parse(many, commands)
    assert missing == []
    del keys[signed.key_id]
    assert check(person, keys, commands, missing) == NOTHING
    assert check(many, {}, commands, missing) == NOTHING
    assert missing == [signed.key_id, world.party.gateway.key_id]


def test_the_child_answers_as_the_check_does_and_asks_for_keys(world: World) -> None:
    transactions = [*world.transactions(1, 8, each=8), world.transaction([world.restriction(1)])]
    checker = Checker(world.registry.command_types)
    try:
        checker.send({}, transactions)
        first = checker.receive()
        assert (first.checked, first.missing) == (bytes(2), [key_id(world.party.gateway.key_id)])
        checker.send(keys_of(world), transactions)
        second = checker.receive()
        assert second.checked == bytes((Checked.ALL, Checked.SIGNATURES))
        parsed = Unpacker(world.registry.command_types).unpack(second.packed[0])
        assert parsed == parse(transactions[0], world.registry.command_types)
    finally:
        checker.close()


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 1000])
def test_operations_are_counted_off_the_bytes(world: World, count: int) -> None:
    operations = [b"\x00"] * count
    assert ahead.operations_in(world.transaction(operations)) == count


@pytest.mark.parametrize("data", [b"", b"\x82\x84\x43\xa1\x01\x27\xa0", b"\x82\x84\x43\xa1\x01\x27\xa0\x58\x80"])
def test_malformed_bytes_count_as_one_operation(data: bytes) -> None:
    assert ahead.operations_in(data) == 1


def test_a_full_queue_is_busy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "QUEUE_TRANSACTIONS", 1)
    queue = ahead.Ahead(world.registry.command_types, lambda _: None, second_core=False)
    queue.put(b"1")
    with pytest.raises(UnavailableError, match="busy"):
        queue.put(b"2")
    assert [item.transaction for item in queue.take()] == [b"1"]
    queue.close()
    assert queue.take() == []

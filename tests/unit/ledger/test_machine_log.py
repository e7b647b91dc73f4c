"""What the machine records: leaves, rows, answers, the app hash, and the window of operation ids."""

from __future__ import annotations

import pytest

from bench.world import Ledger, World, drawn
from yilian import canonical
from yilian.crypto import merkle
from yilian.crypto.suite import sha256
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger import envelope
from yilian.ledger.block import BlockHeader, seal_block, transactions_root
from yilian.ledger.cases import Header, Patient
from yilian.ledger.execution import WINDOW
from yilian.ledger.log import Leaf, LogProofs, changes_digest
from yilian.ledger.machine import Machine
from yilian.ledger.ports import Batch
from yilian.ledger.state import decode_case, encode_case, key_hash
from yilian.ledger.tree import StateTree, verify_state
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.values import digest, unix_millis
from yilian.workflows.catalog.model import Refusal


def test_an_empty_block_leaves_the_app_hash(ledger: Ledger) -> None:
    ledger.block(ledger.world.transaction([ledger.world.publication(1)]))
    before = ledger.machine.head
    ledger.block()
    after = ledger.machine.head
    assert (after.height, after.app_hash) == (before.height + 1, before.app_hash)


def test_a_leaf_says_in_canonical_bytes_what_happened(ledger: Ledger) -> None:
    world: World = ledger.world
    publication = world.publication(1)
    ledger.block(world.transaction([publication]))
    (record,) = ledger.machine.records(1)
    case, _ = world.publish(1)
    row = ledger.state.get(key_hash(b"case/" + case))
    assert record.rows == (row,)
    assert record.leaf == Leaf(
        height=1,
        time=unix_millis(world.start + 1),
        actor=world.party.id,
        op_id=record.leaf.op_id,
        operation=merkle.leaf_hash(publication),
        result=(),
        changes=changes_digest([(key_hash(b"case/" + case), sha256(row))]),
        claims_root=None,
    )
    leaf_hash = merkle.leaf_hash(canonical.encode(record.leaf))
    assert LogProofs(ledger.state.tile).leaf_hash(0) == leaf_hash
    assert ledger.machine.head.log_root == leaf_hash


def test_a_case_row_is_canonical_with_and_without_patient_and_flags(ledger: Ledger) -> None:
    world: World = ledger.world
    ledger.block(world.transaction([world.publication(1)]), world.transaction([world.restriction(1)]))
    case, _ = world.publish(1)
    word, found = ledger.machine.find_case(case)
    assert found.header.flags == ("RESTRICTED",)
    patient = Patient(key=None, home=world.party.id)
    headers = [
        found.header,
        Header(**{name: getattr(found.header, name) for name in Header.__struct_fields__} | {"patient": patient}),
    ]
    rows = [encode_case(word, 1, type(found)(header, found.fields)) for header in headers]
    assert rows == [canonical.encode([b"case/" + case, 1, word, header, found.fields]) for header in headers]
    assert [decode_case(row, world.registry.fields)[1].header for row in rows] == headers


def test_a_refused_operation_changes_nothing_but_the_log(ledger: Ledger) -> None:
    world: World = ledger.world
    case, command = world.publish(1, kind="nothing")
    core = world.core("catalog.publish", case, command, op=bytes(16))
    before, rows = ledger.machine.head, ledger.rows()
    executed = ledger.block(world.transaction([envelope.encode_operation(core)]))
    (answer,) = executed.results[0].answers
    assert answer.result == (("catalog", int(Refusal.UNKNOWN_TYPE)),)
    after = ledger.machine.head
    assert (ledger.rows(), after.state_root, after.log_size) == (rows, before.state_root, before.log_size + 1)
    assert after.app_hash != before.app_hash
    assert ledger.machine.records(1)[0].leaf.result == answer.result


def test_the_same_bytes_again_give_the_stored_answer_and_no_leaf(ledger: Ledger) -> None:
    world: World = ledger.world
    transaction = world.transaction([world.publication(1)])
    first = ledger.block(transaction).results[0].answers[0]
    again = ledger.block(transaction, world.transaction([world.publication(1)]))
    assert [result.answers[0] for result in again.results] == [first, first]
    assert ledger.machine.head.log_size == 1


def test_the_same_bytes_twice_in_a_block_are_done_once(ledger: Ledger) -> None:
    world: World = ledger.world
    publication = world.publication(1)
    executed = ledger.block(world.transaction([publication, publication]))
    first, second = executed.results[0].answers
    assert first.ok
    assert first == second
    assert ledger.machine.head.log_size == 1


@pytest.mark.parametrize("each", [pytest.param(2, id="in-one-block"), pytest.param(1, id="a-block-later")])
def test_an_operation_id_with_other_bytes_is_refused(ledger: Ledger, each: int) -> None:
    world: World = ledger.world
    operations = [
        envelope.encode_operation(world.core("catalog.publish", *world.publish(number), op=bytes(16)))
        for number in (1, 2)
    ]
    lots = [operations[at : at + each] for at in range(0, 2, each)]
    answers = [answer for lot in lots for answer in ledger.block(world.transaction(lot)).results[0].answers]
    assert [answer.result for answer in answers] == [(), ((KERNEL, int(KernelRefusal.OP_ID_REUSED)),)]
    assert ledger.machine.head.log_size == 2


def stored_chain(ledger: Ledger, *steps: tuple[int, list[bytes]]) -> MemoryBlocks:
    """Commit blocks (milliseconds later, transactions) and keep them as a sequencer does."""
    blocks = MemoryBlocks()
    machine: Machine = ledger.machine
    world: World = ledger.world
    for later, transactions in steps:
        header = BlockHeader(
            version=1,
            chain=machine.chain,
            height=machine.head.height + 1,
            time=unix_millis(machine.head.time + later),
            parent=machine.head.block,
            transactions_root=transactions_root(tuple(transactions)),
            app_hash=machine.head.app_hash,
            proposer=world.party.id,
            key_id=world.party.gateway.key_id,
        )
        executed = machine.execute(header.height, header.time, header.digest, transactions, lambda _: 0)
        machine.commit(executed)
        blocks.append(header.height, seal_block(header, tuple(transactions), world.party.gateway))
    return blocks


@pytest.mark.parametrize(
    ("later", "known"), [pytest.param(WINDOW, True, id="an-hour"), pytest.param(WINDOW + 1, False, id="over-an-hour")]
)
def test_the_window_of_operation_ids_survives_a_restart(ledger: Ledger, later: int, known: bool) -> None:
    world: World = ledger.world
    first = world.transaction([world.publication(1)], valid_until=world.start + WINDOW)
    second = world.transaction([world.publication(2)], valid_until=world.start + 2 * WINDOW)
    blocks = stored_chain(ledger, (1, [first, first]), (later, [second]))
    original: Machine = ledger.machine
    opened = Machine(ledger.state, world.registry, world.genesis)
    opened.restore_window(blocks)
    (record,) = opened.records(1)
    time = unix_millis(world.start + 1 + later)
    answers = [machine.answered(world.party.id, record.leaf.op_id, time) for machine in (original, opened)]
    assert answers[0] == answers[1]
    assert (answers[1] is not None) is known


def test_a_store_whose_rows_have_another_root_than_its_head_is_refused(ledger: Ledger) -> None:
    ledger.block(ledger.world.transaction([ledger.world.publication(1)]))
    other = MemoryState()
    machine = Machine(other, ledger.world.registry, ledger.world.genesis)
    executed = ledger.execute(ledger.world.transaction([ledger.world.publication(2)]))
    machine.commit(executed)
    with pytest.raises(VerificationError, match="root"):
        Machine(other, ledger.world.registry, ledger.world.genesis)


class FullState(MemoryState):
    """A store whose disk is full from the second block on."""

    def write(self, batch: Batch) -> None:
        if batch.height > 1:
            raise UnavailableError("the disk is full: free space")
        super().write(batch)


def test_a_failed_commit_leaves_the_machine_as_it_was(world: World) -> None:
    machine = Machine(FullState(), world.registry, world.genesis)
    first, second = (world.transaction([world.publication(number)]) for number in (1, 2))
    machine.commit(machine.execute(1, unix_millis(world.start + 1), digest(bytes(32)), [first], lambda _: 0))
    before = machine.head
    executed = machine.execute(2, unix_millis(world.start + 2), digest(bytes(32)), [second], lambda _: 0)
    with pytest.raises(UnavailableError):
        machine.commit(executed)
    again = machine.execute(2, unix_millis(world.start + 2), digest(bytes(32)), [second], lambda _: 0)
    assert machine.head == before
    assert again.head == executed.head


def test_blocks_follow_each_other_in_height_and_time(ledger: Ledger, world: World) -> None:
    for height, time in ((2, world.start + 1), (1, world.start - 1)):
        with pytest.raises(VerificationError, match="does not follow"):
            ledger.machine.execute(height, unix_millis(time), digest(bytes(32)), [], lambda _: 0)


def test_ten_thousand_keys_ground_into_one_bucket_stay_fast_and_provable() -> None:
    keys = sorted(b"\x12\x34\x56" + drawn(b"ground", number)[3:] for number in range(10_000))
    rows = [(key, sha256(key)) for key in keys]
    tree = StateTree.build(20, rows)
    hashes = {"count": 0}

    def stored(_: int) -> list[tuple[bytes, bytes]]:
        hashes["count"] += 1
        return rows

    undo = tree.update({keys[0]: sha256(b"new")}, stored)
    assert hashes["count"] == 1
    changed = [(keys[0], sha256(b"new")), *rows[1:]]
    assert tree.root == StateTree.build(20, changed).root
    proof = tree.prove(keys[5], lambda _: changed)
    assert verify_state(proof, keys[5], sha256(keys[5]), tree.root)
    absent = tree.prove(keys[5][:-1] + b"\0", lambda _: changed)
    assert verify_state(absent, keys[5][:-1] + b"\0", None, tree.root)
    assert max(len(canonical.encode(each)) for each in (proof, absent)) < 2_000
    tree.undo(undo)
    assert tree.root == StateTree.build(20, rows).root

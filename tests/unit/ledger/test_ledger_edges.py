"""Limits and faults of the ledger's parts that no ordinary block reaches."""

from __future__ import annotations

import cbor2
import pytest
from msgspec.structs import replace

from bench.world import Ledger, World
from yilian.crypto.suite import sha256
from yilian.ledger import envelope
from yilian.ledger.admission import Actor, check_newcomer, check_signature
from yilian.ledger.block import BlockHeader, parse_block, seal_block, transactions_root
from yilian.ledger.envelope import InvalidTransaction, TransactionCode
from yilian.ledger.log import Log, LogProofs
from yilian.ledger.members import Key, Member, Role
from yilian.ledger.reads import CommittedReads
from yilian.ledger.results import Checked, Head
from yilian.ledger.state import Directory
from yilian.ledger.tree import StateTree, verify_state
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.values import DAY, case_id, digest
from yilian.workflows.catalog.model import ChallengeCount, Entry


def _parsed(world: World) -> envelope.Envelope:
    return envelope.parse(world.transaction([world.publication(1)]), world.registry.command_types)


def test_a_newcomer_signs_one_operation_of_a_command_for_newcomers(ledger: Ledger) -> None:
    world = ledger.world
    member = ledger.machine.directory().member(world.party.id)
    assert member is not None
    newcomer = Actor(institution=world.party.id, role=Role.NEWCOMER, member=member)
    with pytest.raises(InvalidTransaction) as refused:
        check_newcomer(_parsed(world), newcomer, world.registry)
    assert refused.value.code == TransactionCode.NEWCOMER_LIMIT


def test_an_envelope_of_a_key_that_is_not_on_record_is_not_taken(ledger: Ledger) -> None:
    with pytest.raises(InvalidTransaction) as refused:
        check_signature(_parsed(ledger.world), Directory(MemoryState()))
    assert refused.value.code == TransactionCode.KEY_NOT_VALID


@pytest.mark.parametrize(
    "operation",
    [b"\x82\x80", b"\x82\xff\x80", b"\x82\x41\x00\x41\x80", cbor2.dumps([b"no core", []])],
    ids=["cut", "no-byte-string", "persons-that-are-none", "no-core"],
)
def test_an_operation_that_is_no_operation_is_malformed(world: World, operation: bytes) -> None:
    with pytest.raises(InvalidTransaction) as refused:
        envelope.parse(world.transaction([operation]), world.registry.command_types)
    assert refused.value.code == TransactionCode.MALFORMED


def test_an_envelope_that_was_parsed_and_checked_before_is_executed_as_it_is(ledger: Ledger) -> None:
    world = ledger.world
    transaction = world.transaction([world.publication(1)])
    parsed = envelope.parse(transaction, world.registry.command_types)
    machine = ledger.machine
    head = machine.head
    executed = machine.execute(head.height + 1, head.time, digest(bytes(32)), (transaction,), lambda _: parsed)
    (result,) = executed.results
    assert [answer.ok for answer in result.answers] == [True]


def test_a_transaction_is_checked_ahead_of_its_block(ledger: Ledger) -> None:
    world = ledger.world
    transaction = world.transaction([world.publication(1)])
    assert ledger.machine.check(transaction, ledger.machine.head.time).payload.actor == world.party.id
    assert Checked.NOTHING == 0


def test_a_derived_id_is_the_only_one_under_which_an_entry_opens(ledger: Ledger) -> None:
    world = ledger.world
    _, command = world.publish(1)
    other = case_id(bytes(32))
    core = world.core("catalog.publish", other, command, op=bytes(16))
    (result,) = ledger.block(world.transaction([envelope.encode_operation(core)])).results
    assert result.answers[0].result == ((KERNEL, KernelRefusal.NO_SUCH_CASE),)


def test_a_person_whose_signature_does_not_hold_is_no_signer(ledger: Ledger) -> None:
    world = ledger.world
    ledger.block(world.transaction([world.publication(1)]))
    core, persons = cbor2.loads(world.restriction(1))
    persons[0][-1] = bytes(64)
    (result,) = ledger.block(world.transaction([cbor2.dumps([core, persons])])).results
    assert result.answers[0].result == ((KERNEL, KernelRefusal.KEY_NOT_VALID),)


def test_the_log_does_not_begin_without_its_tiles() -> None:
    with pytest.raises(KeyError, match="log tile of level 0 is missing at size 3"):
        Log.load(3, lambda _level, _index: None)


def test_an_empty_log_has_the_empty_root() -> None:
    assert Log.load(0, lambda _level, _index: None).root() == digest(
        bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )


def test_proofs_of_what_the_log_does_not_hold_are_not_made(ledger: Ledger) -> None:
    ledger.block(ledger.world.transaction([ledger.world.publication(1)]))
    proofs = LogProofs(ledger.state.tile)
    with pytest.raises(ValueError, match="leaf 1 is not in a tree of 1"):
        proofs.inclusion_proof(1, 1)
    with pytest.raises(ValueError, match="no consistency proof from 2 to 1"):
        proofs.consistency_proof(2, 1)
    with pytest.raises(KeyError, match="log node 7 of level 0 is missing"):
        proofs.leaf_hash(7)


def test_a_state_proof_with_a_path_of_another_bucket_shows_nothing() -> None:
    key, value = bytes(32), sha256(b"value")
    tree = StateTree.build(4, [(key, value)])
    proof = tree.prove(key, lambda _: [(key, value)])
    assert verify_state(proof, key, value, tree.root)
    assert not verify_state(replace(proof, bucket_root=digest(bytes(32))), key, value, tree.root)
    assert not verify_state(proof, key, value, digest(bytes(32)))
    assert not verify_state(proof, key, digest(bytes(32)), tree.root)


def test_committed_reads_give_cases_registers_members_keys_and_parameters(ledger: Ledger) -> None:
    world = ledger.world
    ledger.block(world.transaction([world.publication(1)]))
    reads = CommittedReads(ledger.state, world.registry)
    case, _ = world.publish(1)
    entry = reads.case(Entry, case)
    assert entry is not None
    assert entry.fields.custodian == world.party.id
    assert reads.case(Entry, case_id(bytes(32))) is None
    assert reads.case(Member, case) is None
    assert reads.register(ChallengeCount, world.party.id, world.other.id) is None
    assert world.kind in reads.words("catalog.kinds")
    spec = reads.parameter("catalog.challenges") or reads.parameter("catalog.kinds")
    assert spec is not None
    assert reads.parameter("no.such") is None
    member, key = reads.member(world.party.id), reads.key(world.party.gateway.key_id)
    assert member is not None
    assert key is not None
    assert isinstance(key.fields, Key)
    with pytest.raises(KeyError):
        reads.number("no.such")


def _sealed(ledger: Ledger, parent: Head, *transactions: bytes) -> bytes:
    """Seal the block that brought the chain from `parent` to its head, of these transactions."""
    world, head = ledger.world, ledger.machine.head
    header = BlockHeader(
        version=1,
        chain=ledger.machine.chain,
        height=head.height,
        time=head.time,
        parent=parent.block,
        transactions_root=transactions_root(transactions),
        app_hash=parent.app_hash,
        proposer=world.party.id,
        key_id=world.party.gateway.key_id,
    )
    return seal_block(header, transactions, world.party.gateway)


def test_the_window_passes_over_blocks_that_nobody_can_repeat_any_more(ledger: Ledger) -> None:
    world, machine = ledger.world, ledger.machine
    blocks = MemoryBlocks()
    for number, later in ((1, 1), (2, 2 * DAY)):
        parent = machine.head
        transaction = world.transaction([world.publication(number)], valid_until=parent.time + later + 60_000)
        ledger.block(transaction, later=later)
        blocks.append(machine.head.height, _sealed(ledger, parent, transaction))
    machine.restore_window(blocks)
    (again,) = ledger.block(transaction, later=1).results
    assert again.answers[0].height == 2


def test_what_is_no_transaction_in_a_block_is_passed_over_when_its_operations_are_read(ledger: Ledger) -> None:
    transaction, parent = ledger.world.transaction([ledger.world.publication(1)]), ledger.machine.head
    ledger.block(transaction)
    _, block = parse_block(_sealed(ledger, parent, b"junk", transaction))
    ((operation, record),) = ledger.machine.operations(1, block)
    assert record.leaf.op_id == operation.core.op_id


def test_a_transaction_under_another_algorithm_is_malformed(world: World) -> None:
    decoded = cbor2.loads(world.transaction([world.publication(1)]))
    decoded[0][0] = b"\xa1\x01\x26"
    with pytest.raises(InvalidTransaction) as refused:
        envelope.parse(cbor2.dumps(decoded), world.registry.command_types)
    assert refused.value.code == TransactionCode.MALFORMED

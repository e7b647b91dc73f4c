"""What keeps a transaction out of a block: each reason has its code, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable

import cbor2
import msgspec
import pytest

from bench.world import Ledger, World, drawn
from yilian.crypto.intl import Ed25519Signer
from yilian.ledger import envelope
from yilian.ledger.admission import ENVELOPE_VALIDITY
from yilian.ledger.envelope import InvalidTransaction, TransactionCode
from yilian.ledger.results import Checked
from yilian.values import digest, unix_millis


def repacked(transaction: bytes, change: Callable[[list[object]], object]) -> bytes:
    """Decode a transaction, let `change` edit it, and encode it again."""
    decoded = cbor2.loads(transaction)
    change(decoded)
    return cbor2.dumps(decoded)


def signed_payload(world: World, change: dict[int, object]) -> bytes:
    """Sign a payload with some fields replaced, over one operation."""
    decoded = cbor2.loads(world.transaction([world.publication(1)]))
    payload = cbor2.loads(decoded[0][2])
    for index, value in change.items():
        payload[index] = value
    encoded = cbor2.dumps(payload)
    signature = envelope.cose.sign1(encoded, envelope.TX_TAG, world.party.gateway).signature
    decoded[0][2:] = [encoded, signature]
    return cbor2.dumps(decoded)


def with_body(world: World, change: Callable[[list[object]], object]) -> bytes:
    """Sign an operation whose body was edited."""
    core, persons = cbor2.loads(world.publication(1))
    fields = cbor2.loads(core)
    body = cbor2.loads(fields[6])
    change(body)
    fields[6] = cbor2.dumps(body)
    return world.transaction([cbor2.dumps([cbor2.dumps(fields), persons])])


def oversize(world: World) -> bytes:
    return b"\0" * (envelope.MAX_TRANSACTION_BYTES + 1)


def truncated(world: World) -> bytes:
    return world.transaction([world.publication(1)])[:-1]


def trailing(world: World) -> bytes:
    return world.transaction([world.publication(1)]) + b"\0"


def longer_integer(world: World) -> bytes:
    # version 1 as 0x1801: the same value in a longer form
    decoded = cbor2.loads(world.transaction([world.publication(1)]))
    payload = decoded[0][2]
    assert payload[:2] == b"\x87\x01"
    encoded = b"\x87\x18\x01" + payload[2:]
    decoded[0][2:] = [encoded, envelope.cose.sign1(encoded, envelope.TX_TAG, world.party.gateway).signature]
    return cbor2.dumps(decoded)


def short_signature(world: World) -> bytes:
    def cut(decoded: list[object]) -> None:
        decoded[0][3] = decoded[0][3][:63]

    return repacked(world.transaction([world.publication(1)]), cut)


def other_signature(world: World) -> bytes:
    def flip(decoded: list[object]) -> None:
        decoded[0][3] = bytes(64)

    return repacked(world.transaction([world.publication(1)]), flip)


def other_operation(world: World) -> bytes:
    def swap(decoded: list[object]) -> None:
        decoded[1] = [world.publication(2)]

    return repacked(world.transaction([world.publication(1)]), swap)


def unprotected(world: World) -> bytes:
    def fill(decoded: list[object]) -> None:
        decoded[0][1] = {"x": 1}

    return repacked(world.transaction([world.publication(1)]), fill)


def float_in_body(world: World) -> bytes:
    def change(body: list[object]) -> None:
        body[3] = 14.0

    return with_body(world, change)


def bignum_in_body(world: World) -> bytes:
    def change(body: list[object]) -> None:
        body[3] = 1 << 80

    return with_body(world, change)


def field_too_many(world: World) -> bytes:
    def change(body: list[object]) -> None:
        body.append(1)

    return with_body(world, change)


def unknown_command(world: World) -> bytes:
    case, command = world.publish(1)
    core = world.core("catalog.burn", case, command, op=bytes(16))
    return world.transaction([envelope.encode_operation(core)])


def fat_operation(world: World) -> bytes:
    return world.transaction([bytes(envelope.MAX_OPERATION_BYTES + 1)])


def stranger(world: World) -> bytes:
    return world.transaction([world.publication(1)], gateway=Ed25519Signer.from_seed(bytes(32)))


def other_members_key(world: World) -> bytes:
    return world.transaction([world.publication(1)], gateway=world.other.gateway)


MALFORMED, CODES = TransactionCode.MALFORMED, TransactionCode
CASES = [
    pytest.param(oversize, CODES.TOO_LARGE, id="oversize"),
    pytest.param(fat_operation, CODES.TOO_LARGE, id="operation-over-20-kB"),
    pytest.param(truncated, MALFORMED, id="truncated"),
    pytest.param(trailing, MALFORMED, id="trailing-byte"),
    pytest.param(longer_integer, MALFORMED, id="integer-not-shortest"),
    pytest.param(lambda world: signed_payload(world, {4: 1 << 80}), MALFORMED, id="bignum-in-payload"),
    pytest.param(lambda world: signed_payload(world, {0: 2}), MALFORMED, id="version-2"),
    pytest.param(short_signature, MALFORMED, id="63-byte-signature"),
    pytest.param(unprotected, MALFORMED, id="unprotected-header"),
    pytest.param(lambda world: signed_payload(world, {1: bytes(32)}), CODES.WRONG_CHAIN, id="wrong-chain"),
    pytest.param(lambda world: signed_payload(world, {4: world.start}), CODES.EXPIRED, id="expired"),
    pytest.param(
        lambda world: signed_payload(world, {4: world.start + ENVELOPE_VALIDITY + 2}), CODES.TOO_FAR_AHEAD, id="too-far"
    ),
    pytest.param(lambda world: signed_payload(world, {6: bytes(32)}), CODES.OPS_ROOT_DIFFERS, id="other-ops-root"),
    pytest.param(lambda world: signed_payload(world, {5: 2}), CODES.OPS_ROOT_DIFFERS, id="other-op-count"),
    pytest.param(other_operation, CODES.OPS_ROOT_DIFFERS, id="other-operation"),
    pytest.param(unknown_command, CODES.UNKNOWN_COMMAND, id="unknown-command"),
    pytest.param(float_in_body, CODES.SCHEMA, id="float-in-body"),
    pytest.param(bignum_in_body, CODES.SCHEMA, id="bignum-in-body"),
    pytest.param(field_too_many, CODES.SCHEMA, id="field-too-many"),
    pytest.param(lambda world: signed_payload(world, {3: drawn(b"key", 1)}), CODES.KEY_NOT_VALID, id="unknown-key"),
    pytest.param(stranger, CODES.KEY_NOT_VALID, id="key-of-a-stranger"),
    pytest.param(other_members_key, CODES.KEY_NOT_VALID, id="key-of-another-member"),
    pytest.param(other_signature, CODES.BAD_SIGNATURE, id="other-signature"),
]


@pytest.mark.parametrize(("make", "code"), CASES)
def test_a_wrong_transaction_has_a_code_and_leaves_no_trace(
    ledger: Ledger, world: World, make: Callable[[World], bytes], code: TransactionCode
) -> None:
    before = (ledger.machine.head.app_hash, ledger.machine.head.log_size, ledger.rows())

    executed = ledger.block(make(world))

    assert [result.code for result in executed.results] == [code]
    assert executed.results[0].answers == ()
    assert (ledger.machine.head.app_hash, ledger.machine.head.log_size, ledger.rows()) == before


@pytest.mark.parametrize(("make", "code"), CASES)
def test_the_check_before_a_block_gives_the_same_code(
    ledger: Ledger, world: World, make: Callable[[World], bytes], code: TransactionCode
) -> None:
    with pytest.raises(InvalidTransaction) as caught:
        ledger.machine.check(make(world), unix_millis(world.start + 1))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("valid_until", "code"),
    [
        pytest.param(0, CODES.EXPIRED, id="one-before-the-block"),
        pytest.param(1, CODES.OK, id="the-block's-time"),
        pytest.param(1 + ENVELOPE_VALIDITY, CODES.OK, id="an-hour-ahead"),
        pytest.param(2 + ENVELOPE_VALIDITY, CODES.TOO_FAR_AHEAD, id="over-an-hour-ahead"),
    ],
)
def test_validity_is_a_block_time_at_most_an_hour_ahead(
    ledger: Ledger, world: World, valid_until: int, code: TransactionCode
) -> None:
    transaction = world.transaction([world.publication(1)], valid_until=world.start + valid_until)
    assert ledger.block(transaction).results[0].code == code


def test_a_suspended_key_may_not_sign(ledger: Ledger, world: World) -> None:
    gateway = world.party.keys(world.start)[0]
    late = world.transaction([world.publication(1)], valid_until=gateway.valid_until + 2)
    executed = ledger.block(late, later=gateway.valid_until + 1 - world.start)
    assert executed.results[0].code == CODES.KEY_NOT_VALID


@pytest.mark.parametrize("checked", list(Checked))
def test_what_was_checked_before_gives_the_same_results(ledger: Ledger, world: World, checked: Checked) -> None:
    transactions = [
        world.transaction([world.publication(1), world.publication(2)]),
        world.transaction([world.restriction(1)]),
    ]
    executed = ledger.block(*transactions, checked=checked)
    answers = [answer for result in executed.results for answer in result.answers]
    assert [(answer.command, answer.ok, answer.leaf) for answer in answers] == [
        ("catalog.publish", True, 0),
        ("catalog.publish", True, 1),
        ("catalog.restrict", True, 2),
    ]


def test_an_envelope_holds_1_to_1000_operations(world: World) -> None:
    with pytest.raises(ValueError, match="0 operations"):
        world.transaction([])
    with pytest.raises(ValueError, match="1001 operations"):
        world.transaction([b"\0"] * 1001)


def test_an_envelope_of_structs_reads_back_as_signed(world: World) -> None:
    transaction = world.transaction([world.publication(1)])
    parsed = envelope.parse(transaction, world.registry.command_types)
    assert envelope.parse_checked(transaction, world.registry.command_types) == parsed
    assert parsed.operations[0].command == world.publish(1)[1]
    assert msgspec.structs.asdict(parsed.payload)["actor"] == world.party.id
    assert parsed.payload.chain == digest(world.chain)

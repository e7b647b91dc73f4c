"""Laws of the wire form: taking bytes apart by hand accepts exactly what strict decoding accepts."""

from __future__ import annotations

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.world import World
from yilian import canonical
from yilian.errors import VerificationError
from yilian.ledger import envelope
from yilian.ledger.envelope import InvalidTransaction

WORLD = World(8)
GOOD = WORLD.transactions(1, 3, each=3)[0]
SIGNED = WORLD.transaction([WORLD.restriction(1)])


def is_canonical(data: bytes) -> bool:
    """Say whether bytes are strict CBOR in their only form: the slow way."""
    try:
        canonical.decode_builtins(data)
    except VerificationError:
        return False
    return True


@given(
    transaction=st.sampled_from([GOOD, SIGNED]),
    at=st.integers(0, 10_000),
    byte=st.integers(0, 255),
    cut=st.integers(0, 3),
    more=st.binary(max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_changed_bytes_never_pass_as_another_form_of_the_same(
    transaction: bytes, at: int, byte: int, cut: int, more: bytes
) -> None:
    changed = bytearray(transaction)
    changed[at % len(changed)] = byte
    data = bytes(changed[: len(changed) - cut]) + more
    try:
        parsed = envelope.parse(data, WORLD.registry.command_types)
    except InvalidTransaction:
        return
    assert is_canonical(data)
    assert envelope.parse_checked(data, WORLD.registry.command_types) == parsed
    sign1, operations = cbor2.loads(data)
    assert (sign1[2], sign1[3]) == (parsed.sign1.payload, parsed.sign1.signature)
    assert len(operations) == len(parsed.operations)


@given(content=st.binary(max_size=300), before=st.binary(max_size=3), cut=st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_a_byte_string_is_split_off_where_it_stands(content: bytes, before: bytes, cut: int) -> None:
    encoded = cbor2.dumps(content)
    assert canonical.byte_string(content) == encoded
    data = before + encoded
    assert canonical.split_byte_string(data, len(before)) == (content, len(data))
    if cut:
        try:
            found, end = canonical.split_byte_string(data[:-cut], len(before))
        except VerificationError:
            return
        raise AssertionError(f"cut bytes gave {found.hex()} to {end}")


@given(items=st.lists(st.integers(0, 20), max_size=300))
@settings(max_examples=100, deadline=None)
def test_an_array_is_joined_and_split_as_cbor_does(items: list[int]) -> None:
    joined = canonical.array([cbor2.dumps(item) for item in items])
    assert joined == cbor2.dumps(items)
    count, start = canonical.split_array(joined, 0)
    assert (count, joined[start:]) == (len(items), b"".join(cbor2.dumps(item) for item in items))


@given(head=st.binary(min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_a_head_is_taken_only_in_its_shortest_form(head: bytes) -> None:
    try:
        count, start = canonical.split_array(head, 0)
    except VerificationError:
        return
    if count < 1 << 16:
        assert canonical.array([b""] * count) == head[:start]

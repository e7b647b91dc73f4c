"""What may stand on the ledger: ids, codes, digests, dates and bounded integers; and one byte form for each value."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from yilian.ledger import block, envelope, log, machine
from yilian.ledger.cases import Header, Patient
from yilian.workflows.registry import WORKFLOWS

FREE_TEXT = {
    ("Member", "name"),
    ("Admission", "name"),
    ("Admit", "name"),
    ("Join", "name"),
    ("Invite", "name"),
    ("MemberInvite", "name"),
}
"""Public display names; the only text that is no code."""
KERNEL_TYPES = (
    envelope.Payload,
    envelope.Core,
    envelope.PersonSignature,
    block.BlockHeader,
    block.Genesis,
    log.Leaf,
    machine.Head,
    Header,
    Patient,
)
COMMANDS = sorted(
    {row.command for workflow in WORKFLOWS for case in workflow.cases for row in case.rows},
    key=lambda one: one.__name__,
)
STORED = sorted(
    {case.fields for workflow in WORKFLOWS for case in workflow.cases}
    | {register for workflow in WORKFLOWS for register in workflow.registers},
    key=lambda one: one.__name__,
)


@pytest.mark.parametrize("kind", [*COMMANDS, *STORED, *KERNEL_TYPES], ids=lambda one: one.__name__)
def test_every_field_is_bounded_and_coded(kind: type[msgspec.Struct]) -> None:
    assert list(_faults(kind)) == []


@pytest.mark.parametrize("kind", [*COMMANDS, *KERNEL_TYPES], ids=lambda one: one.__name__)
def test_a_wire_type_has_one_byte_form(kind: type[msgspec.Struct]) -> None:
    info = inspect.type_info(kind)
    assert info.array_like
    assert info.forbid_unknown_fields
    assert [field.name for field in info.fields if not field.required] == []


def _faults(kind: type[msgspec.Struct]) -> Iterator[str]:
    info = inspect.type_info(kind)
    for field in info.fields:
        for fault in _type_faults(field.type, kind.__name__, field.name):
            yield f"{kind.__name__}.{field.name}: {fault}"


def _type_faults(info: inspect.Type, owner: str, name: str) -> Iterator[str]:
    match info:
        case inspect.UnionType(types=inner) | inspect.TupleType(item_types=inner):
            for one in inner:
                yield from _type_faults(one, owner, name)
        case inspect.VarTupleType(item_type=item):
            yield from _unbounded(info, "list")
            yield from _type_faults(item, owner, name)
        case inspect.StructType(cls=cls):
            yield from _faults(cls)
        case inspect.IntType(ge=least, le=most):
            if least is None or most is None:
                yield "unbounded integer"
        case inspect.StrType(pattern=pattern):
            yield from _unbounded(info, "text")
            if pattern is None and (owner, name) not in FREE_TEXT:
                yield "free text"
        case inspect.BytesType():
            yield from _unbounded(info, "bytes")
        case inspect.BoolType() | inspect.NoneType() | inspect.EnumType() | inspect.LiteralType():
            return
        case _:
            yield f"type {info}"


def _unbounded(info: inspect.VarTupleType | inspect.StrType | inspect.BytesType, what: str) -> Iterator[str]:
    if info.max_length is None:
        yield f"unbounded {what}"

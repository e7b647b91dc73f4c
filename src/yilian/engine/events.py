"""Committed blocks as events: each operation with the cases and registers that it changed, decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cbor2

from yilian.engine.port import ChangedRegister, Event
from yilian.errors import VerificationError
from yilian.ledger.block import Block, BlockHeader
from yilian.ledger.cases import Case, Found, Register
from yilian.ledger.machine import Machine
from yilian.ledger.registry import Registry
from yilian.ledger.state import decode_case, decode_register, register_key

RegisterTypes = Mapping[bytes, tuple[str, type[Register]]]


def register_types(registry: Registry) -> RegisterTypes:
    """Map the beginning of a register's natural key to (workflow, type)."""
    return {
        register_key(workflow.name, kind.word): (workflow.name, kind)
        for workflow in registry.workflows
        for kind in workflow.registers
    }


def events_of(machine: Machine, header: BlockHeader, block: Block, registers: RegisterTypes) -> Iterator[Event]:
    """Give the events of a committed block."""
    first = machine.first_leaf(header.height)
    for index, (operation, record) in enumerate(machine.operations(header.height, block)):
        core = operation.core
        cases: list[tuple[str, Found[Case]]] = []
        changed: list[ChangedRegister] = []
        for row in record.rows:
            natural_key = cbor2.loads(row)[0]
            if not natural_key.startswith(b"case/"):
                changed.append(_register(natural_key, row, registers))
                continue
            found = decode_case(row, machine.registry.fields)
            if found is not None:
                cases.append(found)
        yield Event(
            height=header.height,
            time=header.time,
            index=index,
            leaf=first + index,
            actor=record.leaf.actor,
            op_id=core.op_id,
            workflow=core.workflow,
            command=core.command,
            case_id=core.case_id,
            refs=core.refs,
            body=operation.command,
            persons=tuple((person.key_id, person.role) for person in operation.persons),
            result=record.leaf.result,
            cases=tuple(cases),
            registers=tuple(changed),
        )


def _register(natural_key: bytes, row: bytes, registers: RegisterTypes) -> ChangedRegister:
    for start, (workflow, kind) in registers.items():
        if natural_key.startswith(start):
            parts = _parts(natural_key[len(start) :])
            if parts is not None:
                return ChangedRegister(workflow=workflow, key=parts, value=decode_register(row, kind))
    raise VerificationError(
        f"a row of key {natural_key.hex()} belongs to no register of this chain's workflows: run `yilian node check`"
    )


def _parts(rest: bytes) -> tuple[bytes, ...] | None:
    """Split length-prefixed parts; None where the rest is no sequence of them."""
    parts = []
    while rest:
        size = int.from_bytes(rest[:2], "big")
        if len(rest) < 2 + size:
            return None
        parts.append(rest[2 : 2 + size])
        rest = rest[2 + size :]
    return tuple(parts)

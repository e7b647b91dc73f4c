"""What a verifier found: its steps in order, and what a receipt that holds says."""

from __future__ import annotations

from typing import Any

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a verification. `place` says of which operation, counted from 1; 0 of the whole file."""

    number: int
    name: str
    place: int
    ok: bool
    found: str
    expected: str


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """An institution whose key signed: who operates its machine, and how the key is held. Ids in hexadecimal."""

    institution: str
    operator: str
    held_by: str
    kind: str = ""
    """Of a witness: `LOG` or `EXECUTED`."""
    time: int = 0
    """Of a witness: its own clock, milliseconds."""


class SignerShown(msgspec.Struct, frozen=True, kw_only=True):
    """A key that signed an operation: the gateway's, a person's, or a patient's case key."""

    key_id: str
    institution: str
    """Empty for a patient."""
    operator: str
    """Who runs the institution's machine, by the current member row."""
    role: str
    held_by: str
    state: str
    """State of the key now; what it signed while it was valid stays valid."""
    compromised_since: int


class OperationShown(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that a receipt proves."""

    op_id: str
    workflow: str
    command: str
    case_id: str
    actor: str
    height: int
    time: int
    leaf_index: int
    result: tuple[tuple[str, int], ...]
    """Empty: done; else (workflow, number) of the refusal, those of consequences behind it."""
    mode: str
    """Who decided: `institution`, `person`, `patient` (own key), or `custodial` (the home signed for the patient)."""
    signers: tuple[SignerShown, ...]
    unchecked_persons: int
    """Persons named on a refused operation, whose signatures need not have held."""


class RowShown(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the current state."""

    natural_key: str
    word: str
    """Case type, empty for a register."""
    case_id: str
    state: str
    version: int
    flags: tuple[str, ...]
    changed_height: int
    changed_time: int
    patient: str
    """`key` where the patient's own key speaks, `home <id>` where an institution does, empty without patient."""
    fields: dict[str, Any]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries under its grant one use was: from the first to the last of so many that were allowed."""

    first: int
    last: int
    allowed: int
    forgiven: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A verification. Only where `ok` is true the rest may be believed."""

    ok: bool
    failed: str
    """Name of the step that failed, empty where all hold."""
    chain: str
    kind: str
    height: int
    time: int
    steps: tuple[Step, ...]
    sequencer: Holder | None = None
    witnesses: tuple[Holder, ...] = ()
    split_view_excluded: bool = False
    operations: tuple[OperationShown, ...] = ()
    rows: tuple[RowShown, ...] = ()
    absent: str = ""
    claim: tuple[str, str] | None = None
    """(name, value)"""
    delivery: Delivery | None = None

"""State as the contracts see it: typed rows over a store, changed in an overlay that a refusal throws away.

A row is canonical CBOR `[natural key, …]`, stored under H(natural key):

    case      [b"case/" ‖ id, shape, case type, header, fields]
    register  [b"reg/" ‖ workflow ‖ "/" ‖ word ‖ length-prefixed key parts, fields]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import cbor2
import msgspec

from yilian import canonical
from yilian.ledger.cases import C, Case, Found, Header, Register
from yilian.ledger.members import Key, Member, Parameters
from yilian.ledger.ports import State
from yilian.values import CaseId, InstitutionId, KeyId, case_id

R = TypeVar("R", bound=Register)

GOVERNANCE = "governance"
_UNKNOWN: Any = object()


def case_key(case: CaseId) -> bytes:
    """Give the natural key of a case."""
    return b"case/" + case


def register_key(workflow: str, word: str, parts: tuple[bytes, ...] = ()) -> bytes:
    """Give the natural key of a register row."""
    return f"reg/{workflow}/{word}".encode() + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def key_hash(natural_key: bytes) -> bytes:
    """Give the hash under which a row is stored and proven."""
    return sha256(natural_key).digest()


def natural_key_of(row: bytes) -> bytes:
    """Read the natural key that a row begins with; VerificationError where it begins with none."""
    _, start = canonical.split_array(row, 0)
    return canonical.split_byte_string(row, start)[0]


def encode_case(case_type: str, shape: int, found: Found[Any]) -> bytes:
    """Encode a case row; its header by hand, since this is on the path of every operation."""
    header = found.header
    patient = header.patient
    return b"".join(
        (
            b"\x85\x58\x25case/",
            header.id,
            _start(shape, case_type),
            header.id,
            _standing(header.version, header.state, header.flags),
            _moment(header.opened_height, header.opened_time),
            _moment(header.changed_height, header.changed_time),
            b"\xf6" if patient is None else canonical.encode(patient),
            canonical.encode(found.fields),
        )
    )


@lru_cache(maxsize=1024)
def _start(shape: int, case_type: str) -> bytes:
    return cbor2.dumps(shape) + cbor2.dumps(case_type) + b"\x89\x58\x20"


@lru_cache(maxsize=4096)
def _standing(version: int, state: str, flags: tuple[str, ...]) -> bytes:
    return cbor2.dumps(version) + cbor2.dumps(str(state)) + cbor2.dumps([str(flag) for flag in flags])


@lru_cache(maxsize=4096)
def _moment(height: int, time: int) -> bytes:
    return cbor2.dumps(height) + cbor2.dumps(time)


def encode_register(natural_key: bytes, value: Register) -> bytes:
    """Encode a register row."""
    return cbor2.dumps([natural_key, msgspec.to_builtins(value, builtin_types=(bytes,))])


class Layer:
    """Changed rows over a store: decoded for reading, encoded for writing, kept by natural key.

    What is put belongs to the operation that began last, until it is kept or dropped.
    """

    __slots__ = ("_before", "_decoded", "_store", "_types", "_written", "changed")

    def __init__(self, store: State, types: Mapping[str, type[Case]]) -> None:
        self._store = store
        self._types = types
        self._decoded: dict[bytes, Any] = {}
        self._written: dict[bytes, bytes] = {}
        self._before: dict[bytes, Any] = {}
        self.changed: dict[bytes, bytes] = {}
        """Natural key → row bytes, of the operations kept."""

    def begin(self) -> None:
        """Begin an operation."""
        self._written = {}
        self._before = {}

    def keep(self) -> dict[bytes, bytes]:
        """Keep what the operation put, and give its rows: natural key → row bytes."""
        self.changed.update(self._written)
        return self._written

    def drop(self) -> None:
        """Forget what the operation put."""
        for natural_key, value in self._before.items():
            if value is _UNKNOWN:
                del self._decoded[natural_key]
            else:
                self._decoded[natural_key] = value

    def find_case(self, case: CaseId) -> tuple[str, Found[Any]] | None:
        """Find a case of any type: (case type, header and fields)."""
        natural_key = b"case/" + case
        found: tuple[str, Found[Any]] | None = self._decoded.get(natural_key, _UNKNOWN)
        if found is _UNKNOWN:
            row = self._store.get(sha256(natural_key).digest())
            found = self._decoded[natural_key] = None if row is None else decode_case(row, self._types)
        return found

    def find_register(self, natural_key: bytes, kind: type[R]) -> R | None:
        """Find a register row under its natural key."""
        value: R | None = self._decoded.get(natural_key, _UNKNOWN)
        if value is _UNKNOWN:
            row = self._store.get(sha256(natural_key).digest())
            value = self._decoded[natural_key] = None if row is None else decode_register(row, kind)
        return value

    def put_case(self, case_type: str, shape: int, found: Found[Any]) -> None:
        """Write a case."""
        natural_key = b"case/" + found.header.id
        self._put(natural_key, (case_type, found), encode_case(case_type, shape, found))

    def put_register(self, natural_key: bytes, value: Register) -> None:
        """Write a register row."""
        self._put(natural_key, value, encode_register(natural_key, value))

    def _put(self, natural_key: bytes, value: object, row: bytes) -> None:
        if natural_key not in self._before:
            self._before[natural_key] = self._decoded.get(natural_key, _UNKNOWN)
        self._decoded[natural_key] = value
        self._written[natural_key] = row


class Directory:
    """Members, keys and parameters as of the last committed block; cached for the life of one block."""

    def __init__(self, store: State) -> None:
        self._store = store
        self._cases: dict[bytes, Found[Any] | None] = {}
        self._parameters: Mapping[str, tuple[int, tuple[str, ...]]] | None = None

    def member(self, institution: InstitutionId) -> Found[Member] | None:
        """Find a member."""
        return self._find(institution, "member", Member)

    def key(self, key: KeyId) -> Found[Key] | None:
        """Find a key."""
        return self._find(key, "key", Key)

    def number(self, parameter: str) -> int:
        """Get a numeric parameter; KeyError where the chain has none of this name."""
        return self._all()[parameter][0]

    def words(self, parameter: str) -> tuple[str, ...]:
        """Get a list parameter; KeyError where the chain has none of this name."""
        return self._all()[parameter][1]

    def _find(self, raw: bytes, word: str, kind: type[C]) -> Found[C] | None:
        if raw not in self._cases:
            row = self._store.get(key_hash(case_key(case_id(raw))))
            found = None if row is None else decode_case(row, {word: kind})
            self._cases[raw] = None if found is None else found[1]
        return self._cases[raw]

    def _all(self) -> Mapping[str, tuple[int, tuple[str, ...]]]:
        if self._parameters is None:
            row = self._store.get(key_hash(register_key(GOVERNANCE, Parameters.word)))
            items = () if row is None else decode_register(row, Parameters).items
            self._parameters = {item.name: (item.number, item.words) for item in items}
        return self._parameters


def decode_case(row: bytes, types: Mapping[str, type[Case]]) -> tuple[str, Found[Any]] | None:
    """Decode a case row; None where its type is not among `types`."""
    _, _, case_type, header, fields = cbor2.loads(row)
    kind = types.get(case_type)
    if kind is None:
        return None
    return case_type, Found(
        msgspec.convert(header, Header, builtin_types=(bytes,)), msgspec.convert(fields, kind, builtin_types=(bytes,))
    )


def decode_register(row: bytes, kind: type[R]) -> R:
    """Decode a register row."""
    return msgspec.convert(cbor2.loads(row)[1], kind, builtin_types=(bytes,))

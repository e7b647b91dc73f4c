"""Typed reads of the committed state, for services: what contracts see as `Reads`, of every workflow."""

from __future__ import annotations

from typing import TypeVar

from yilian.ledger.cases import Case, Found, Register
from yilian.ledger.members import Key, Member
from yilian.ledger.ports import State
from yilian.ledger.registry import Registry
from yilian.ledger.state import Directory, case_key, decode_case, decode_register, key_hash, register_key
from yilian.ledger.workflow import ParameterSpec
from yilian.values import CaseId, InstitutionId, KeyId

C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=Register)


class CommittedReads:
    """`Reads` over a store; for short use, from any thread.

    Cases and registers are those of the newest commit at each call; members, keys and parameters those of the first
    call that asked for one of them.
    """

    def __init__(self, state: State, registry: Registry) -> None:
        self._state = state
        self._registry = registry
        self._directory = Directory(state)

    def case(self, kind: type[C], case_id: CaseId) -> Found[C] | None:
        """Find a case of one type, or None where there is none under this id."""
        row = self._state.get(key_hash(case_key(case_id)))
        found = None if row is None else decode_case(row, {self._registry.case_words[kind]: kind})
        return None if found is None else found[1]

    def register(self, kind: type[R], *key: bytes) -> R | None:
        """Find a register row."""
        row = self._state.get(key_hash(register_key(self._registry.owner[kind], kind.word, key)))
        return None if row is None else decode_register(row, kind)

    def number(self, parameter: str) -> int:
        """Get a numeric parameter; KeyError where the chain has none of this name."""
        return self._directory.number(parameter)

    def words(self, parameter: str) -> tuple[str, ...]:
        """Get a list parameter; KeyError where the chain has none of this name."""
        return self._directory.words(parameter)

    def parameter(self, name: str) -> ParameterSpec | None:
        """Find what a parameter may be: its bounds and who guards it."""
        return self._registry.parameter(name)

    def member(self, institution: InstitutionId) -> Found[Member] | None:
        """Find a member."""
        return self._directory.member(institution)

    def key(self, key_id: KeyId) -> Found[Key] | None:
        """Find a key."""
        return self._directory.key(key_id)

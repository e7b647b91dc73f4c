"""Run one step that the kernel has judged: the contract's function, what it writes, and its consequences."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from yilian.errors import Refused
from yilian.ledger.cases import Case, Command, Found, Header, Register
from yilian.ledger.members import Key, Member
from yilian.ledger.registry import Bound, Registry
from yilian.ledger.state import Directory, Layer, register_key
from yilian.ledger.workflow import (
    KERNEL,
    SELF,
    Call,
    Consequence,
    KernelRefusal,
    Outcome,
    ParameterSpec,
    Row,
)
from yilian.values import CaseId, Digest, InstitutionId, KeyId, UnixMillis

C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=Register)

MAX_DEPTH = 3
MAX_CONSEQUENCES = 80
OVERDUE = "OVERDUE"


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What all operations of a block see alike."""

    chain: Digest
    height: int
    time: UnixMillis
    previous_app_hash: Digest
    directory: Directory


class Running:
    """Runs a step and its consequences over one layer."""

    __slots__ = ("_block", "_consequences", "_layer", "_registry")

    def __init__(self, registry: Registry, block: Circumstances, layer: Layer) -> None:
        self._registry = registry
        self._block = block
        self._layer = layer
        self._consequences = 0

    def step(  # noqa: PLR0917 - what a step is judged by
        self,
        bound: Bound,
        row: Row,
        call: Call,
        command: Command,
        case: Found[Any] | None,
        flags: tuple[str, ...] | None,
        depth: int = 0,
    ) -> None:
        """Call the function, write what it gives, and run its consequences; Refused where one of them says no."""
        name = bound.workflow.name
        reads = _LayerReads(self._registry, name, self._layer, self._block.directory)
        try:
            if case is None and not bound.moving:
                outcome = bound.function(call, command, reads)
            else:
                outcome = bound.function(call, command, case.fields if case is not None else None, reads)
        except Refused as refused:
            refused.workflow = refused.workflow or name
            raise
        self._write(bound, row, call, case, flags, outcome)
        for consequence in outcome.consequences:
            self._consequence(bound, call, consequence, depth + 1)

    def _write(  # noqa: PLR0917 - what a step is judged by
        self,
        bound: Bound,
        row: Row,
        call: Call,
        case: Found[Any] | None,
        flags: tuple[str, ...] | None,
        outcome: Outcome[Any],
    ) -> None:
        name = bound.workflow.name
        state = _next_state(bound, row, case, outcome)
        new_flags = flags or ()
        if outcome.flags is not None:
            kept = (OVERDUE,) if OVERDUE in new_flags else ()
            new_flags = tuple(sorted(dict.fromkeys((*outcome.flags, *kept))))
        old = case.header if case is not None else None
        if case is None or outcome.case != case.fields or state != case.state or new_flags != case.header.flags:
            header = Header(
                id=call.case_id,
                version=old.version + 1 if old else 1,
                state=state,
                flags=new_flags,
                opened_height=old.opened_height if old else call.height,
                opened_time=old.opened_time if old else call.time,
                changed_height=call.height,
                changed_time=call.time,
                patient=old.patient if old else outcome.patient,
            )
            self._layer.put_case(bound.case_type.word, bound.case_type.shape, Found(header, outcome.case))
        for put in outcome.registers:
            if self._registry.owner.get(type(put.value)) != name:
                raise TypeError(f"{name} writes register {type(put.value).__name__}, which is not its own")
            self._layer.put_register(register_key(name, put.value.word, put.key), put.value)

    def _consequence(self, sender: Bound, call: Call, consequence: Consequence, depth: int) -> None:
        self._consequences += 1
        if depth > MAX_DEPTH or self._consequences > MAX_CONSEQUENCES:
            raise refusal(
                KernelRefusal.CONSEQUENCE_REFUSED, f"more than {MAX_CONSEQUENCES} consequences or {MAX_DEPTH} deep"
            )
        bound = self._registry.by_type[type(consequence.command)]
        try:
            row, case = self._row_for(bound, sender.workflow.name, consequence.case_id)
            inner = msgspec.structs.replace(
                call,
                case_id=consequence.case_id,
                header=case.header if case is not None else None,
                caller=sender.workflow.name,
                refs=(),
            )
            flags = case.header.flags if case is not None else None
            self.step(bound, row, inner, consequence.command, case, flags, depth)
        except Refused as refused:
            number, where = refused.number, refused.workflow
            raise Refused(
                KernelRefusal.CONSEQUENCE_REFUSED,
                f"{bound.word} was refused: {refused}",
                workflow=KERNEL,
                inner=((where, number), *refused.inner),
            ) from refused

    def _row_for(self, bound: Bound, caller: str, case_id: CaseId) -> tuple[Row, Found[Any] | None]:
        def admits(row: Row) -> bool:
            return row.since <= self._block.height and any(
                one.kind == "workflow"
                and (one.caller == caller or (one.caller == SELF and bound.workflow.name == caller))
                for one in row.who.alternatives
            )

        there = self._layer.find_case(case_id)
        if there is None:
            opening = [row for row in bound.opening if admits(row)]
            if not opening:
                raise refusal(KernelRefusal.NO_SUCH_CASE, f"no {bound.case_type.word} {case_id.hex()}")
            return opening[0], None
        case_type, case = there
        if case_type != bound.case_type.word:
            raise refusal(KernelRefusal.NO_SUCH_CASE, f"{case_id.hex()} is no {bound.case_type.word}")
        moving = [row for row in bound.moving if admits(row) and case.state in row.from_states]
        if not moving:
            number = KernelRefusal.ILLEGAL_TRANSITION if bound.moving else KernelRefusal.STALE_VERSION
            raise refusal(number, f"{bound.word} does not leave {case.state}")
        return moving[0], case


class _LayerReads:
    """`Reads` of one workflow over a layer; anything undeclared is a programming error."""

    __slots__ = ("_directory", "_layer", "_registry", "_visible")

    def __init__(self, registry: Registry, workflow: str, layer: Layer, directory: Directory) -> None:
        self._registry = registry
        self._visible = registry.visible[workflow]
        self._layer = layer
        self._directory = directory

    def case(self, kind: type[C], case_id: CaseId) -> Found[C] | None:
        if self._registry.owner[kind] not in self._visible:
            raise TypeError(f"{kind.__name__} belongs to a workflow that is not declared in `asks`")
        found = self._layer.find_case(case_id)
        return found[1] if found is not None and found[0] == self._registry.case_words[kind] else None

    def register(self, kind: type[R], *key: bytes) -> R | None:
        owner = self._registry.owner[kind]
        if owner not in self._visible:
            raise TypeError(f"{kind.__name__} belongs to a workflow that is not declared in `asks`")
        return self._layer.find_register(register_key(owner, kind.word, key), kind)

    def number(self, parameter: str) -> int:
        return self._directory.number(parameter)

    def words(self, parameter: str) -> tuple[str, ...]:
        return self._directory.words(parameter)

    def parameter(self, name: str) -> ParameterSpec | None:
        return self._registry.parameter(name)

    def member(self, institution: InstitutionId) -> Found[Member] | None:
        return self._directory.member(institution)

    def key(self, key_id: KeyId) -> Found[Key] | None:
        return self._directory.key(key_id)


def _next_state(bound: Bound, row: Row, case: Found[Any] | None, outcome: Outcome[Any]) -> str:
    if outcome.to:
        same = case is not None and not row.to_states and outcome.to == case.state
        if outcome.to not in row.to_states and not same:
            raise TypeError(f"{bound.word} moved to {outcome.to}, its row allows {row.to_states}")
        return str(outcome.to)
    if len(row.to_states) > 1:
        raise TypeError(f"{bound.word} must choose among {row.to_states}")
    if row.to_states:
        return row.to_states[0]
    if case is None:
        raise TypeError(f"{bound.word} opens a case without a state")
    return case.state


def refusal(number: KernelRefusal, message: str) -> Refused:
    """Make a refusal by the kernel itself."""
    return Refused(number, message, workflow=KERNEL)

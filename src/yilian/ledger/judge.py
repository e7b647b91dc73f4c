"""Judge and run one operation: the fixed order of checks (kernel.md), then the contract, then its consequences.

The numbers in the comments are those of the table in kernel.md; check 1 (idempotency) is the machine's.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from yilian.crypto.suite import SuiteId, key_id_of, verify
from yilian.errors import Refused
from yilian.ledger.cases import Case, Command, Found, Header, Register
from yilian.ledger.envelope import Core, Operation, PersonSignature, person_message
from yilian.ledger.members import Key, Member, MemberState, Role, is_valid
from yilian.ledger.registry import Bound, Registry
from yilian.ledger.state import Directory, Layer, register_key
from yilian.ledger.workflow import (
    ANY,
    KERNEL,
    SELF,
    Alternative,
    Call,
    Consequence,
    KernelRefusal,
    Outcome,
    ParameterSpec,
    Person,
    Row,
)
from yilian.values import HOUR, CaseId, Digest, InstitutionId, KeyId, UnixMillis

C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=Register)

MAX_DEPTH = 3
MAX_CONSEQUENCES = 80
PERSON_VALIDITY = 24 * HOUR
OVERDUE = "OVERDUE"
CASE = "@case"
"""Position of the institution whose id is the case's id (a member joining)."""


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What all operations of a block see alike."""

    chain: Digest
    height: int
    time: UnixMillis
    previous_app_hash: Digest
    directory: Directory


class Actor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The institution that signed the envelope, by which kind of key."""

    institution: InstitutionId
    role: Role
    member: Found[Member]

    @property
    def suspended(self) -> bool:
        """Whether the member is suspended."""
        return self.member.state == MemberState.SUSPENDED


_Rows = tuple[tuple[Row, tuple[Alternative, ...]], ...]
"""Rows, each with those of its alternatives that the signers' roles fit."""


class Judge:
    """Judges operations of one block over one layer of state."""

    def __init__(self, registry: Registry, block: Block) -> None:
        self._registry = registry
        self._block = block
        self._admitted: dict[tuple[str, int, tuple[Role, ...]], _Rows] = {}

    def run(self, operation: Operation, actor: Actor, layer: Layer, *, signatures_hold: bool) -> None:
        """Judge one operation and write its changes to `layer`.

        `signatures_hold`: the persons' signatures over these bytes were verified before, with the keys on record.

        Raises:
            Refused: with the number of the first check that failed; `layer` is then to be thrown away.
        """
        core = operation.core
        bound = self._registry.commands[core.workflow, core.command]
        signers = operation.persons
        roles = tuple([person.role for person in signers]) if signers else (actor.role,)
        # 2. some row of this command allows the role
        admitted = self._rows_admitting(bound, len(signers), roles)
        if not any(alternatives for _, alternatives in admitted):
            raise _refusal(KernelRefusal.NOT_PERMITTED, f"{core.command} is not for {_words(roles)}: see who may do it")
        there = layer.find_case(core.case_id)
        case = there[1] if there is not None and there[0] == bound.case_type.word else None
        # 3. persons' keys
        persons = self._persons(operation, actor, case, admitted, signatures_hold=signatures_hold) if signers else ()
        # 4. the case, its version; 5. its state
        admitted = self._rows_by_state(bound, admitted, core, case, taken=there is not None)
        # 6. position and signers of the row
        row = self._row_by_position(admitted, operation, persons, actor, case)
        # 7. suspension
        if actor.suspended and not row.while_suspended:
            raise _refusal(
                KernelRefusal.MEMBER_SUSPENDED, f"a suspended member may not do {core.command}: ask for reinstatement"
            )
        # 8. deadlines
        flags = self._flags_by_time(row, case)
        call = self._call(operation, actor, persons, case)
        if row.opens and row.id_of is None and core.case_id != call.new_id():
            raise _refusal(KernelRefusal.NO_SUCH_CASE, f"a new case here has the id {call.new_id().hex()}: derive it")
        # 9. references
        if core.refs or row.refs:
            self._check_refs(row, core, layer)
        if row.opens and row.id_of is not None:
            wanted = row.id_of(call, operation.command)
            if core.case_id != wanted:
                raise _refusal(KernelRefusal.NO_SUCH_CASE, f"this case has the id {wanted.hex()}: derive it")
        # 10. the contract's own guards; 11. consequences
        _Run(self._registry, self._block, layer).step(bound, row, call, operation.command, case, flags)

    def _rows_admitting(self, bound: Bound, signed: int, roles: tuple[Role, ...]) -> _Rows:
        """Give the rows of a command that hold at this height, each with the alternatives that the roles fit."""
        admitted = self._admitted.get((bound.word, signed, roles))
        if admitted is None:
            admitted = tuple(
                (row, tuple(one for one in row.who.alternatives if _fits(one, signed, roles)))
                for row in bound.rows
                if row.since <= self._block.height
            )
            self._admitted[bound.word, signed, roles] = admitted
        return admitted

    def _persons(
        self, operation: Operation, actor: Actor, case: Found[Any] | None, admitted: _Rows, *, signatures_hold: bool
    ) -> tuple[Person, ...]:
        seen: list[KeyId] = []
        persons = []
        for signature in operation.persons:
            if signature.key_id in seen or not self._in_time(signature):
                raise _invalid_key(signature)
            seen.append(signature.key_id)
            if signature.role == Role.PATIENT:
                public_key: bytes = self._patient_key(signature, case)
                person = Person(key_id=signature.key_id, role=Role.PATIENT, institution=None, operator=None)
            else:
                key = self._block.directory.key(signature.key_id)
                if (
                    key is None
                    or key.fields.role != signature.role
                    or not is_valid(key.fields, key.state, self._block.time)
                    or not self._belongs(key.fields, actor, case, admitted)
                ):
                    raise _invalid_key(signature)
                public_key, person = key.fields.public_key, self._person(key.fields, signature)
            if public_key and not signatures_hold:
                message = person_message(operation.core_bytes, self._block.chain, actor.institution, signature)
                if not verify(SuiteId.INTL, public_key, message, signature.signature):
                    raise _invalid_key(signature)
            persons.append(person)
        return tuple(persons)

    def _in_time(self, signature: PersonSignature) -> bool:
        return self._block.time <= signature.valid_until <= self._block.time + PERSON_VALIDITY

    @staticmethod
    def _patient_key(signature: PersonSignature, case: Found[Any] | None) -> bytes:
        if case is None:
            return b""  # check 4 answers NO_SUCH_CASE: without the case nobody's key is known
        patient = case.header.patient
        if patient is None or patient.key is None or key_id_of(SuiteId.INTL, patient.key) != signature.key_id:
            raise _invalid_key(signature)
        return patient.key

    @staticmethod
    def _belongs(key: Key, actor: Actor, case: Found[Any] | None, admitted: _Rows) -> bool:
        if key.owner == actor.institution:
            return True
        seconds = [
            one.signers[1].position for row, _ in admitted for one in row.who.alternatives if len(one.signers) > 1
        ]
        return any(position != ANY and _at(position, key.owner, case, opens=False) for position in seconds)

    def _person(self, key: Key, signature: PersonSignature) -> Person:
        member = self._block.directory.member(key.owner)
        operator = member.fields.operator if member is not None else None
        return Person(key_id=signature.key_id, role=signature.role, institution=key.owner, operator=operator)

    @staticmethod
    def _rows_by_state(bound: Bound, admitted: _Rows, core: Core, case: Found[Any] | None, *, taken: bool) -> _Rows:
        opening = tuple([one for one in admitted if one[0].opens])
        if case is None:
            if taken:
                raise _refusal(KernelRefusal.NO_SUCH_CASE, f"{core.case_id.hex()} is no {bound.case_type.word}")
            if not opening:
                raise _refusal(KernelRefusal.NO_SUCH_CASE, f"no {bound.case_type.word} {core.case_id.hex()}: check it")
            if core.case_version:
                raise _refusal(KernelRefusal.STALE_VERSION, f"a new case has version 0, not {core.case_version}")
            return opening
        state, version = case.state, case.header.version
        moving = tuple([one for one in admitted if not one[0].opens])
        if opening and not any(row.any_version and state in row.from_states for row, _ in moving):
            raise _refusal(KernelRefusal.STALE_VERSION, f"{core.case_id.hex()} is open already, at version {version}")
        if core.case_version != version and not any(row.any_version for row, _ in moving):
            raise _refusal(
                KernelRefusal.STALE_VERSION, f"version {core.case_version}, the case is at {version}: read it again"
            )
        selected = tuple([one for one in moving if state in one[0].from_states])
        if not selected:
            raise _refusal(
                KernelRefusal.ILLEGAL_TRANSITION, f"{core.command} does not leave {state}: see what may be done now"
            )
        return selected

    def _row_by_position(  # noqa: PLR0917 - what a step is judged by
        self,
        admitted: _Rows,
        operation: Operation,
        persons: tuple[Person, ...],
        actor: Actor,
        case: Found[Any] | None,
    ) -> Row:
        for row, alternatives in admitted:
            for one in alternatives:
                if _stands(one, operation, persons, actor, case, opens=row.opens):
                    return row
        roles = tuple(person.role for person in persons) or (actor.role,)
        raise _refusal(
            KernelRefusal.NOT_PERMITTED,
            f"{operation.core.command} is not for {actor.institution.hex()} as {_words(roles)} in this case",
        )

    def _flags_by_time(self, row: Row, case: Found[Any] | None) -> tuple[str, ...] | None:
        if case is None:
            return None
        time = self._block.time
        if row.after and time <= getattr(case.fields, row.after):
            raise _refusal(KernelRefusal.TOO_EARLY, f"block time {time} is not past {row.after}: wait")
        if row.before and time > getattr(case.fields, row.before):
            raise _refusal(KernelRefusal.DEADLINE_PASSED, f"block time {time} is past {row.before}: it has lapsed")
        flags = case.header.flags
        if row.due and time > getattr(case.fields, row.due) and OVERDUE not in flags:
            flags = tuple(sorted((*flags, OVERDUE)))
        return flags

    def _check_refs(self, row: Row, core: Core, layer: Layer) -> None:
        counts = dict.fromkeys(range(len(row.refs)), 0)
        for ref in core.refs:
            found = layer.find_case(ref)
            matching = [
                index
                for index, declared in enumerate(row.refs)
                if found is not None
                and found[0] == declared.case_type
                and (not declared.states or found[1].state in declared.states)
            ]
            if not matching:
                raise _refusal(
                    KernelRefusal.REFERENCE_NOT_ADMISSIBLE, f"{core.command} may not name {ref.hex()}: see its refs"
                )
            counts[matching[0]] += 1
        repeated = len(dict.fromkeys(core.refs)) != len(core.refs)
        for index, declared in enumerate(row.refs):
            if repeated or not declared.at_least <= counts[index] <= declared.at_most:
                raise _refusal(
                    KernelRefusal.REFERENCE_NOT_ADMISSIBLE,
                    f"{counts[index]} {declared.case_type} named, {declared.at_least} to {declared.at_most} expected",
                )

    def _call(self, operation: Operation, actor: Actor, persons: tuple[Person, ...], case: Found[Any] | None) -> Call:
        block, member = self._block, actor.member.fields
        return Call(
            chain=block.chain,
            institution=actor.institution,
            operator=member.operator,
            kind=member.kind,
            suspended=actor.suspended,
            persons=persons,
            refs=operation.core.refs,
            time=block.time,
            height=block.height,
            op_id=operation.core.op_id,
            previous_app_hash=block.previous_app_hash,
            case_id=operation.core.case_id,
            header=case.header if case is not None else None,
            caller="",
        )


class _Run:
    """Runs a step and its consequences over one layer."""

    def __init__(self, registry: Registry, block: Block, layer: Layer) -> None:
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
            raise _refusal(
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
                raise _refusal(KernelRefusal.NO_SUCH_CASE, f"no {bound.case_type.word} {case_id.hex()}")
            return opening[0], None
        case_type, case = there
        if case_type != bound.case_type.word:
            raise _refusal(KernelRefusal.NO_SUCH_CASE, f"{case_id.hex()} is no {bound.case_type.word}")
        moving = [row for row in bound.moving if admits(row) and case.state in row.from_states]
        if not moving:
            number = KernelRefusal.ILLEGAL_TRANSITION if bound.moving else KernelRefusal.STALE_VERSION
            raise _refusal(number, f"{bound.word} does not leave {case.state}")
        return moving[0], case


class _LayerReads:
    """`Reads` of one workflow over a layer; anything undeclared is a programming error."""

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


def _fits(one: Alternative, signed: int, roles: tuple[Role, ...]) -> bool:
    """Say whether the presented roles are those that an alternative asks for (check 2)."""
    if one.kind == "node":
        return not signed and roles[0] in one.signers[0].roles
    if one.kind == "persons":
        return signed == len(one.signers) and all(
            role in signer.roles for role, signer in zip(roles, one.signers, strict=True)
        )
    if one.kind == "patient":
        if roles == (Role.PATIENT,):
            return True
        return signed == 1 and roles[0] in one.witnesses if one.witnesses else roles == (Role.NODE,) and not signed
    return False


def _stands(  # noqa: PLR0911, PLR0917 - one return a condition; what a step is judged by
    one: Alternative,
    operation: Operation,
    persons: tuple[Person, ...],
    actor: Actor,
    case: Found[Any] | None,
    *,
    opens: bool,
) -> bool:
    """Say whether the signers stand where an alternative wants them (check 6)."""
    if one.kind == "patient":
        if persons and persons[0].role == Role.PATIENT:
            return True
        home = case.header.patient.home if case is not None and case.header.patient is not None else None
        return home == actor.institution and getattr(operation.command, "paper", None) is not None
    if not _at(one.position, actor.institution, case, opens=opens):
        return False
    for signer, person in zip(one.signers[1:], persons[1:], strict=False):
        if person.institution is None or not _at(signer.position, person.institution, case, opens=opens):
            return False
        if signer.position == ANY and person.institution != actor.institution:
            return False
    if persons and one.kind == "persons" and persons[0].institution != actor.institution:
        return False
    return not one.distinct_operators or len(dict.fromkeys(person.operator for person in persons)) == len(persons)


def _at(position: str, institution: InstitutionId, case: Found[Any] | None, *, opens: bool) -> bool:
    if position == ANY:
        return True
    if position == CASE:
        return case is not None and bytes(case.header.id) == institution
    if case is None:
        return opens
    value = getattr(case.fields, position)
    return institution in value if isinstance(value, tuple) else institution == value


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


def _refusal(number: KernelRefusal, message: str) -> Refused:
    return Refused(number, message, workflow=KERNEL)


def _invalid_key(signature: PersonSignature) -> Refused:
    return _refusal(
        KernelRefusal.KEY_NOT_VALID,
        f"key {signature.key_id.hex()} as {signature.role.value} is not valid for this step: check key and validity",
    )


def _words(roles: tuple[Role, ...]) -> str:
    return " with ".join(role.value for role in roles)

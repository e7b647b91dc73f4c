"""Judge one operation in the fixed order of spec/judging.md; `running.py` then runs its contract and consequences.

The numbers in the comments are those of the table in spec/judging.md; check 1 (idempotency) is the machine's.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from yilian.crypto.suite import SuiteId, key_id_of, verify
from yilian.errors import Refused
from yilian.ledger.cases import Case, Found, Register
from yilian.ledger.envelope import Core, Operation, PersonSignature, person_message
from yilian.ledger.members import Key, Member, MemberState, Role, is_valid
from yilian.ledger.registry import Bound, Registry
from yilian.ledger.running import OVERDUE, Circumstances, Running, refusal
from yilian.ledger.state import Layer
from yilian.ledger.workflow import (
    ANY,
    Alternative,
    Call,
    KernelRefusal,
    Person,
    Row,
)
from yilian.values import HOUR, InstitutionId, KeyId

C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=Register)

PERSON_VALIDITY = 24 * HOUR
CASE = "@case"
"""Position of the institution whose id is the case's id (a member joining)."""


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

    def __init__(self, registry: Registry, block: Circumstances) -> None:
        self._registry = registry
        self._block = block
        self._admitted: dict[tuple[str, int, tuple[Role, ...]], _Rows] = {}

    def run(self, operation: Operation, actor: Actor, layer: Layer, *, signatures_hold: bool) -> None:
        """Judge one operation and write its changes to `layer`.

        `signatures_hold`: the persons' signatures over these bytes were verified before, with the keys on record.

        Raises:
            Refused: with the number of the first check that failed; what it put into `layer` is then to be dropped.
        """
        core = operation.core
        bound = self._registry.commands[core.workflow, core.command]
        signers = operation.persons
        roles = tuple([person.role for person in signers]) if signers else (actor.role,)
        # 2. some row of this command allows the role
        admitted = self._rows_admitting(bound, len(signers), roles)
        if not admitted:
            raise refusal(KernelRefusal.NOT_PERMITTED, f"{core.command} is not for {_words(roles)}: see who may do it")
        there = layer.find_case(core.case_id)
        case = there[1] if there is not None and there[0] == bound.case_type.word else None
        # 3. persons' keys
        persons = self._persons(operation, actor, case, admitted, signatures_hold=signatures_hold) if signers else ()
        # 4. the case, its version; 5. its state
        admitted = self._rows_by_state(bound, admitted, core, case, taken=there is not None)
        # 6. position and signers of the row
        row = self._row_by_position(admitted, operation, persons, actor, case)
        # 7. suspension
        suspended = actor.suspended
        if suspended and not row.while_suspended:
            raise refusal(
                KernelRefusal.MEMBER_SUSPENDED, f"a suspended member may not do {core.command}: ask for reinstatement"
            )
        # 8. deadlines
        flags = self._flags_by_time(row, case)
        call = self._call(operation, actor, persons, case, suspended=suspended)
        if row.opens and row.id_of is None and core.case_id != call.new_id():
            raise refusal(KernelRefusal.NO_SUCH_CASE, f"a new case here has the id {call.new_id().hex()}: derive it")
        # 9. references
        if core.refs or row.refs:
            self._check_refs(row, core, layer)
        if row.opens and row.id_of is not None:
            wanted = row.id_of(call, operation.command)
            if core.case_id != wanted:
                raise refusal(KernelRefusal.NO_SUCH_CASE, f"this case has the id {wanted.hex()}: derive it")
        # 10. the contract's own guards; 11. consequences
        Running(self._registry, self._block, layer).step(bound, row, call, operation.command, case, flags)

    def _rows_admitting(self, bound: Bound, signed: int, roles: tuple[Role, ...]) -> _Rows:
        """Give the rows of a command that hold at this height, each with the alternatives that the roles fit.

        Empty where the roles fit none of them.
        """
        admitted = self._admitted.get((bound.word, signed, roles))
        if admitted is None:
            admitted = tuple(
                (row, tuple(one for one in row.who.alternatives if _fits(one, signed, roles)))
                for row in bound.rows
                if row.since <= self._block.height
            )
            if not any(alternatives for _, alternatives in admitted):
                admitted = ()
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
        if case is None:
            opening = admitted if not bound.moving else tuple([one for one in admitted if one[0].opens])
            if taken:
                raise refusal(KernelRefusal.NO_SUCH_CASE, f"{core.case_id.hex()} is no {bound.case_type.word}")
            if not opening:
                raise refusal(KernelRefusal.NO_SUCH_CASE, f"no {bound.case_type.word} {core.case_id.hex()}: check it")
            if core.case_version:
                raise refusal(KernelRefusal.STALE_VERSION, f"a new case has version 0, not {core.case_version}")
            return opening
        opening = tuple([one for one in admitted if one[0].opens])
        state, version = case.state, case.header.version
        moving = tuple([one for one in admitted if not one[0].opens])
        if opening and not any(row.any_version and state in row.from_states for row, _ in moving):
            raise refusal(KernelRefusal.STALE_VERSION, f"{core.case_id.hex()} is open already, at version {version}")
        if core.case_version != version and not any(row.any_version for row, _ in moving):
            raise refusal(
                KernelRefusal.STALE_VERSION, f"version {core.case_version}, the case is at {version}: read it again"
            )
        selected = tuple([one for one in moving if state in one[0].from_states])
        if not selected:
            raise refusal(
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
                # whoever opens a case with the gateway key alone takes the position
                if (case is None and one.kind == "node" and one.position != CASE) or _stands(
                    one, operation, persons, actor, case, opens=row.opens
                ):
                    return row
        roles = tuple(person.role for person in persons) or (actor.role,)
        raise refusal(
            KernelRefusal.NOT_PERMITTED,
            f"{operation.core.command} is not for {actor.institution.hex()} as {_words(roles)} in this case",
        )

    def _flags_by_time(self, row: Row, case: Found[Any] | None) -> tuple[str, ...] | None:
        if case is None:
            return None
        time = self._block.time
        if row.after and time <= getattr(case.fields, row.after):
            raise refusal(KernelRefusal.TOO_EARLY, f"block time {time} is not past {row.after}: wait")
        if row.before and time > getattr(case.fields, row.before):
            raise refusal(KernelRefusal.DEADLINE_PASSED, f"block time {time} is past {row.before}: it has lapsed")
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
                raise refusal(
                    KernelRefusal.REFERENCE_NOT_ADMISSIBLE, f"{core.command} may not name {ref.hex()}: see its refs"
                )
            counts[matching[0]] += 1
        repeated = len(dict.fromkeys(core.refs)) != len(core.refs)
        for index, declared in enumerate(row.refs):
            if repeated or not declared.at_least <= counts[index] <= declared.at_most:
                raise refusal(
                    KernelRefusal.REFERENCE_NOT_ADMISSIBLE,
                    f"{counts[index]} {declared.case_type} named, {declared.at_least} to {declared.at_most} expected",
                )

    def _call(
        self,
        operation: Operation,
        actor: Actor,
        persons: tuple[Person, ...],
        case: Found[Any] | None,
        *,
        suspended: bool,
    ) -> Call:
        block, member = self._block, actor.member.fields
        return Call(
            chain=block.chain,
            institution=actor.institution,
            operator=member.operator,
            kind=member.kind,
            suspended=suspended,
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


def _invalid_key(signature: PersonSignature) -> Refused:
    return refusal(
        KernelRefusal.KEY_NOT_VALID,
        f"key {signature.key_id.hex()} as {signature.role.value} is not valid for this step: check key and validity",
    )


def _words(roles: tuple[Role, ...]) -> str:
    return " with ".join(role.value for role in roles)

"""Every state × command × signers × position × version × time × suspension of a case type, against its table.

The expected refusal is computed here, from the rows alone and in the order of spec/judging.md, and compared with what
the kernel answers. What the kernel lets pass to the contract is the legal set; it is compared with a frozen list in
`spec/`, so that a wrong table cannot agree with itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import msgspec

from yilian import canonical
from yilian.crypto.suite import SuiteId, key_id_of
from yilian.errors import Refused
from yilian.ledger.cases import Case, Command, Found, Header, Patient
from yilian.ledger.envelope import Core, Operation, PersonSignature, encode_core
from yilian.ledger.judge import CASE, Actor, Judge
from yilian.ledger.members import InstitutionKind, MemberState, Role
from yilian.ledger.registry import Bound
from yilian.ledger.running import Circumstances
from yilian.ledger.state import Layer
from yilian.ledger.workflow import ANY, KERNEL, Alternative, CaseType, KernelRefusal, Row, Workflow
from yilian.testing.consortium import Consortium, Party
from yilian.testing.samples import sample
from yilian.values import CaseId, case_id, digest, op_id, unix_millis

OUTSIDER = "outsider"
NO_CASE = ""
OP = op_id(b"\x05" * 16)
SAMPLE_CASE = case_id(b"\x07" * 32)
PAPER = b"\x07" * 32
DUE = 1_000_000


class Combination(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One point of the product."""

    command: str
    state: str
    roles: tuple[str, ...]
    actor: str
    second: str
    stale: bool
    late: bool
    suspended: bool


class CaseTypeCheck:
    """Runs the product for one case type."""

    def __init__(self, workflows: Sequence[Workflow], workflow: Workflow, case_type: CaseType) -> None:
        self._workflow = workflow
        self._case_type = case_type
        self._positions = tuple(
            dict.fromkeys(
                signer.position
                for row in case_type.rows
                for one in row.who.alternatives
                for signer in one.signers
                if signer.position not in {ANY, CASE}
            )
        )
        names = (*self._positions, CASE, OUTSIDER, "home")
        self._consortium = Consortium.found(
            dict.fromkeys(names, InstitutionKind.HOSPITAL), workflows=workflows, every_role=True
        )
        self._start = self._consortium.time
        self._directory = self._consortium.machine.directory()
        self._samples: dict[object, Any] = {}

    def run(self) -> tuple[list[str], list[str], int]:
        """Give the mismatches, the legal set as sorted lines, and the number of combinations."""
        mismatches, legal, count = [], [], 0
        for combination in self._combinations():
            count += 1
            expected = self._expected(combination)
            found = self._found(combination)
            # `while_suspended` rows may be narrowed by their function, which then gives the kernel's own number
            narrowed = _narrows(expected, found) and combination.suspended
            if expected != found and not narrowed:
                mismatches.append(f"{combination}: expected {expected!r}, found {found!r}")
            if found is None:
                legal.append(combination)
        return mismatches, summarise(legal, len(self._positions) + 3), count

    def _combinations(self) -> Iterator[Combination]:
        signers = dict.fromkeys(
            (
                (),
                (Role.NURSE,),
                (Role.PATIENT,),
                *(
                    tuple(signer.roles[index % len(signer.roles)] for signer in one.signers)
                    for row in self._case_type.rows
                    for one in row.who.alternatives
                    if one.kind == "persons"
                    for index in range(max(len(signer.roles) for signer in one.signers))
                ),
                *((role,) for row in self._case_type.rows for one in row.who.alternatives for role in one.witnesses),
            )
        )
        actors = (*self._positions, CASE, OUTSIDER, "home")
        commands = dict.fromkeys(row.name for row in self._case_type.rows)
        flags = (False, True)
        for command, state, roles, actor in product(commands, (NO_CASE, *self._case_type.states), signers, actors):
            seconds = (actor, OUTSIDER) if len(roles) > 1 and actor != OUTSIDER else (actor,)
            for second, stale, late, suspended in product(seconds, flags, flags, flags):
                yield Combination(
                    command=command,
                    state=state,
                    roles=tuple(role.value for role in roles),
                    actor=actor,
                    second=second,
                    stale=stale,
                    late=late,
                    suspended=suspended,
                )

    # what the table says

    def _expected(self, one: Combination) -> KernelRefusal | None:
        row = self._selected(one)
        if isinstance(row, KernelRefusal):
            return row
        if one.suspended and not row.while_suspended:
            return KernelRefusal.MEMBER_SUSPENDED
        if one.state != NO_CASE and row.after and not one.late:
            return KernelRefusal.TOO_EARLY
        if one.state != NO_CASE and row.before and one.late:
            return KernelRefusal.DEADLINE_PASSED
        return None

    def _selected(self, one: Combination) -> Row | KernelRefusal:  # noqa: PLR0911 - one return a check, in order
        rows = [row for row in self._case_type.rows if row.name == one.command]
        roles = tuple(Role(role) for role in one.roles)
        if not any(_roles_fit(way, roles) for row in rows for way in row.who.alternatives):
            return KernelRefusal.NOT_PERMITTED
        if one.second != one.actor and not self._second_may_differ(rows, one):
            return KernelRefusal.KEY_NOT_VALID
        if roles == (Role.PATIENT,) and one.state != NO_CASE and self._custodial(one):
            return KernelRefusal.KEY_NOT_VALID
        opening = [row for row in rows if row.opens]
        moving = [row for row in rows if not row.opens]
        if one.state == NO_CASE:
            if not opening:
                return KernelRefusal.NO_SUCH_CASE
            if one.stale:
                return KernelRefusal.STALE_VERSION
            selected = opening
        else:
            answering = any(row.any_version for row in moving)
            if opening and not any(row.any_version and one.state in row.from_states for row in moving):
                return KernelRefusal.STALE_VERSION
            if one.stale and not answering:
                return KernelRefusal.STALE_VERSION
            selected = [row for row in moving if one.state in row.from_states]
            if not selected:
                return KernelRefusal.ILLEGAL_TRANSITION
        fitting = [
            row
            for row in selected
            if any(_roles_fit(way, roles) and self._position_fits(way, row, one, roles) for way in row.who.alternatives)
        ]
        if not fitting:
            return KernelRefusal.NOT_PERMITTED
        return fitting[0]

    def _second_may_differ(self, rows: list[Row], one: Combination) -> bool:
        return one.state != NO_CASE and any(
            len(way.signers) > 1 and way.signers[1].position == one.second
            for row in rows
            for way in row.who.alternatives
        )

    def _position_fits(self, way: Alternative, row: Row, one: Combination, roles: tuple[Role, ...]) -> bool:
        if way.kind == "patient":
            if roles == (Role.PATIENT,):
                return True
            return one.state != NO_CASE and one.actor == "home" and "paper" in row.command.__struct_fields__
        if one.second != one.actor and way.signers[1].position != one.second:
            return False
        position = way.signers[0].position
        if position == ANY:
            return True
        return one.actor == position or (position != CASE and row.opens)

    @staticmethod
    def _custodial(one: Combination) -> bool:
        return one.actor == "home"

    # what the kernel does

    def _found(self, one: Combination) -> KernelRefusal | None:
        consortium = self._consortium
        bound = consortium.machine.registry.command(one.command)
        party, second = consortium[one.actor], consortium[one.second]
        time = unix_millis(self._start + (2 * DUE if one.late else 0))
        layer = Layer(consortium.state, consortium.machine.registry.fields)
        target = case_id(consortium[CASE].id) if self._uses_case_position() else SAMPLE_CASE
        directory = self._directory
        block = Circumstances(
            chain=consortium.chain,
            height=1,
            time=time,
            previous_app_hash=consortium.machine.head.app_hash,
            directory=directory,
        )
        command = self._command(bound.command)
        selected = self._selected(one)
        refs = () if isinstance(selected, KernelRefusal) else self._refs(selected, one, layer)
        if one.state != NO_CASE:
            target = self._opening_target(bound, party, command, refs) or target
            layer.put_case(self._case_type.word, self._case_type.shape, self._case(one, target))
        else:
            target = self._opening_target(bound, party, command, refs) or case_id(b"\x08" * 32)
        operation = self._operation(bound, one, command, target, refs=refs, parties=(party, second))
        member = directory.member(party.id)
        if member is None:
            raise AssertionError("every party is a member")
        if one.suspended:
            member = Found(msgspec.structs.replace(member.header, state=MemberState.SUSPENDED), member.fields)
        actor = Actor(institution=party.id, role=Role.NODE, member=member)
        try:
            Judge(consortium.machine.registry, block).run(operation, actor, layer, signatures_hold=True)
        except Refused as refused:
            if refused.workflow == KERNEL and refused.number != KernelRefusal.CONSEQUENCE_REFUSED:
                return KernelRefusal(refused.number)
        except LookupError:
            # the contract was reached: a case put straight into the state has no register rows of its own
            return None
        return None

    def _uses_case_position(self) -> bool:
        return any(
            signer.position == CASE
            for row in self._case_type.rows
            for one in row.who.alternatives
            for signer in one.signers
        )

    def _command(self, kind: type[Command]) -> Command:
        if kind not in self._samples:
            self._samples[kind] = sample(kind, {"paper": PAPER} if "paper" in kind.__struct_fields__ else {})
        made: Command = self._samples[kind]
        return made

    def _case(self, one: Combination, target: CaseId) -> Found[Case]:
        header = Header(
            id=target,
            version=3,
            state=one.state,
            flags=(),
            opened_height=0,
            opened_time=self._start,
            changed_height=0,
            changed_time=self._start,
            patient=self._patient(one),
        )
        if self._case_type.word not in self._samples:
            self._samples[self._case_type.word] = sample(self._case_type.fields, self._fixed())
        return Found(header, self._samples[self._case_type.word])

    def _fixed(self) -> dict[str, Any]:
        fixed: dict[str, Any] = {}
        for position in self._positions:
            institution = self._consortium[position].id
            plural = "tuple" in str(self._case_type.fields.__annotations__[position]).lower()
            fixed[position] = (institution,) if plural else institution
        for row in self._case_type.rows:
            for field in (row.after, row.before, row.due):
                if field:
                    fixed[field] = unix_millis(self._start + DUE)
        return fixed

    def _patient(self, one: Combination) -> Patient:
        if self._custodial(one):
            return Patient(key=None, home=self._consortium["home"].id)
        return Patient(key=self._consortium["home"].person(Role.PATIENT).public_key, home=None)

    def _refs(self, row: Row, one: Combination, layer: Layer) -> tuple[CaseId, ...]:
        refs: list[CaseId] = []
        for declared in row.refs:
            for index in range(declared.at_least):
                _, case_type = self._consortium.machine.registry.case_types[declared.case_type]
                ref = case_id(bytes((9, index)) * 16)
                state = declared.states[0] if declared.states else case_type.states[0]
                header = msgspec.structs.replace(self._case(one, ref).header, state=state)
                layer.put_case(case_type.word, case_type.shape, Found(header, sample(case_type.fields)))
                refs.append(ref)
        return tuple(refs)

    def _opening_target(self, bound: Bound, party: Party, command: Command, refs: tuple[CaseId, ...]) -> CaseId | None:
        if not bound.opening:
            return None
        call = self._consortium.call(party, OP, refs)
        derive = bound.opening[0].id_of
        if derive is None:
            return call.new_id()
        # where the id comes from a reference, a combination that does not reach check 9 has none
        return None if bound.opening[0].refs and not refs else derive(call, command)

    def _operation(
        self,
        bound: Bound,
        one: Combination,
        command: Command,
        target: CaseId,
        *,
        refs: tuple[CaseId, ...],
        parties: tuple[Party, Party],
    ) -> Operation:
        version = 0 if one.state == NO_CASE else 3
        core = Core(
            op_id=OP,
            workflow=bound.workflow.name,
            command=bound.word,
            case_id=target,
            case_version=version + 1 if one.stale else version,
            refs=refs,
            body=canonical.encode(command),
            claims_root=None,
        )
        persons = []
        for index, word in enumerate(one.roles):
            role, party = Role(word), parties[min(index, 1)]
            signer = self._consortium["home"].person(role) if role == Role.PATIENT else party.person(role, index)
            persons.append(
                PersonSignature(
                    key_id=key_id_of(SuiteId.INTL, signer.public_key),
                    role=role,
                    valid_until=unix_millis(self._start + 3 * DUE),
                    signature=b"\0" * 64,
                )
            )
        return Operation(digest(b"\0" * 32), encode_core(core), core, tuple(persons), command)


def summarise(legal: Sequence[Combination], everywhere: int) -> list[str]:
    """Write the legal set as one line a (command, state, signers, conditions), with the positions that it admits.

    `everywhere`: how many positions there are; where all of them may, the line says "anyone".
    """
    grouped: dict[tuple[str, str, str, str], list[Combination]] = {}
    for one in legal:
        where = one.actor if one.second == one.actor else f"{one.actor} with {one.second}"
        signers = " with ".join(one.roles) or "node"
        grouped.setdefault((one.command, one.state or "—", signers, where), []).append(one)
    said: dict[tuple[str, str, str, str], list[str]] = {}
    for (command, state, signers, where), ones in sorted(grouped.items()):
        versions = "any version" if any(one.stale for one in ones) else "current version"
        late, early = any(one.late for one in ones), any(not one.late for one in ones)
        times = "any time" if late and early else "after" if late else "before"
        suspended = "suspended too" if any(one.suspended for one in ones) else "not suspended"
        said.setdefault((command, state, signers, f"{versions} | {times} | {suspended}"), []).append(where)
    return [
        " | ".join((command, state, signers, ", ".join(where) if len(where) < everywhere else "anyone", conditions))
        for (command, state, signers, conditions), where in sorted(said.items())
    ]


def _narrows(expected: KernelRefusal | None, found: KernelRefusal | None) -> bool:
    """Say whether the table lets a suspended member pass and the function does not."""
    return expected is None and found == KernelRefusal.MEMBER_SUSPENDED


def _roles_fit(way: Alternative, roles: tuple[Role, ...]) -> bool:
    if way.kind == "node":
        return not roles and Role.NODE in way.signers[0].roles
    if way.kind == "persons":
        return len(roles) == len(way.signers) and all(
            role in signer.roles for role, signer in zip(roles, way.signers, strict=True)
        )
    if way.kind == "patient":
        home = len(roles) == 1 and roles[0] in way.witnesses if way.witnesses else not roles
        return roles == (Role.PATIENT,) or home
    return False

"""What a workflow is: a table of rows and pure functions; docs/develop/kernel.md teaches it.

A row says who may move which case from where to where, and when; `registry.py` binds each row to the function of the
same name in the workflow's `contract.py`. Everything that a contract may use stands in this module and in `cases.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import ModuleType
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from yilian.crypto.suite import tagged_hash
from yilian.ledger.cases import Case, Command, Found, Header, Patient, Register
from yilian.ledger.members import InstitutionKind, Key, Member, Role
from yilian.values import CaseId, Digest, InstitutionId, KeyId, OpId, UnixMillis, case_id

C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=Register)

SELF = "self"
"""In `workflow(...)`: a consequence of the row's own workflow."""
ANY = ""
"""Position of whoever acts, at any member."""


class RefusalCode(IntEnum):
    """Base of a workflow's refusals; numbers are frozen: add, never renumber or reuse."""


class KernelRefusal(RefusalCode):
    """Refusals by the kernel itself, in the order of its checks (spec/judging.md)."""

    OP_ID_REUSED = 1
    NOT_PERMITTED = 2
    KEY_NOT_VALID = 3
    NO_SUCH_CASE = 4
    STALE_VERSION = 5
    ILLEGAL_TRANSITION = 6
    MEMBER_SUSPENDED = 7
    TOO_EARLY = 8
    DEADLINE_PASSED = 9
    REFERENCE_NOT_ADMISSIBLE = 10
    CONSEQUENCE_REFUSED = 11


KERNEL = "kernel"


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """One signature that an alternative asks for: a role at a position (the name of a case field, or ANY)."""

    position: str
    roles: tuple[Role, ...]


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Alternatives of signers; join them with `|`."""

    alternatives: tuple[Alternative, ...]

    def __or__(self, other: Who) -> Who:
        return Who(alternatives=self.alternatives + other.alternatives)


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """One way to sign a row.

    kind: "node" the gateway key alone · "persons" one person, or two different ones · "patient" the header's patient ·
    "workflow" only as a consequence of the workflow named in `caller`.
    """

    kind: Literal["node", "persons", "patient", "workflow"]
    signers: tuple[Signer, ...] = ()
    distinct_operators: bool = False
    witnesses: tuple[Role, ...] = ()
    """Roles of which one person must sign beside a home that speaks for the patient; empty: the node alone."""
    caller: str = ""

    @property
    def position(self) -> str:
        """Position of the acting institution."""
        return self.signers[0].position if self.signers else ANY


def node(position: str) -> Who:
    """The gateway key of the institution at `position`, alone: an automatic step."""
    return Who(alternatives=(Alternative(kind="node", signers=(Signer(position=position, roles=(Role.NODE,)),)),))


def anyone() -> Who:
    """Any active member's node: for steps whose truth everybody can see."""
    return node(ANY)


def person(position: str, *roles: Role) -> Who:
    """A person with one of the roles, and the institution at `position`."""
    return Who(alternatives=(Alternative(kind="persons", signers=(Signer(position=position, roles=roles),)),))


def both(first: Who, second: Who, *, distinct_operators: bool = False) -> Who:
    """Two different people in one operation; `first` acts, `second` may stand at another position."""
    (one,) = first.alternatives
    (two,) = second.alternatives
    alternative = Alternative(
        kind="persons", signers=(one.signers[0], two.signers[0]), distinct_operators=distinct_operators
    )
    return Who(alternatives=(alternative,))


def patient(*witnesses: Role) -> Who:
    """The case's patient: its case key, or its home's node with the paper in `command.paper`.

    With `witnesses`, a home speaks only together with one of its people in one of these roles.
    """
    return Who(alternatives=(Alternative(kind="patient", witnesses=witnesses),))


def workflow(name: str) -> Who:
    """Only as a consequence of the workflow `name` (or SELF)."""
    return Who(alternatives=(Alternative(kind="workflow", caller=name),))


class Ref(msgspec.Struct, frozen=True, kw_only=True):
    """Other cases that a row names: their type by its word, admissible states (empty: any) and number."""

    case_type: str
    states: tuple[str, ...]
    at_least: int
    at_most: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a state table; see `opens` and `moves`."""

    name: str
    command: type[Command]
    from_states: tuple[str, ...]
    """Empty: the row opens a case."""
    to_states: tuple[str, ...]
    """Empty: the case stays in its state; several: the function chooses."""
    who: Who
    id_of: Callable[[Call, Any], CaseId] | None = None
    after: str = ""
    before: str = ""
    due: str = ""
    while_suspended: bool = False
    any_version: bool = False
    since: int = 0
    refs: tuple[Ref, ...] = ()

    @property
    def opens(self) -> bool:
        """Whether the row opens a case."""
        return not self.from_states


def opens(
    name: str,
    command: type[Command],
    to: str | tuple[str, ...],
    *,
    who: Who,
    id_of: Callable[[Call, Any], CaseId] | None = None,
    while_suspended: bool = False,
    any_version: bool = False,
    since: int = 0,
    refs: tuple[Ref, ...] = (),
) -> Row:
    """Declare a row that opens a case; its function takes (call, command, reads).

    `id_of` derives the id from fields of the command; without it the id is `call.new_id()` of the operation.
    Whoever acts takes the position: the function writes `call.institution` into the field.
    """
    return Row(
        name=name,
        command=command,
        from_states=(),
        to_states=_states(to),
        who=who,
        id_of=id_of,
        while_suspended=while_suspended,
        any_version=any_version,
        since=since,
        refs=refs,
    )


def moves(
    name: str,
    command: type[Command],
    from_: str | tuple[str, ...],
    to: str | tuple[str, ...] = (),
    *,
    who: Who,
    after: str = "",
    before: str = "",
    due: str = "",
    while_suspended: bool = False,
    any_version: bool = False,
    since: int = 0,
    refs: tuple[Ref, ...] = (),
) -> Row:
    """Declare a row that moves a case; its function takes (call, command, case, reads).

    `after`/`before` name case fields with times: legal only past it / only up to it. `due` names a field after which
    the step is still legal and the flag OVERDUE is set. `to` empty: same state; several: the function chooses.
    """
    return Row(
        name=name,
        command=command,
        from_states=_states(from_),
        to_states=_states(to),
        who=who,
        after=after,
        before=before,
        due=due,
        while_suspended=while_suspended,
        any_version=any_version,
        since=since,
        refs=refs,
    )


class Person(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A person whose signature the kernel verified."""

    key_id: KeyId
    role: Role
    institution: InstitutionId | None
    """Owner of the key; None for a patient's case key."""
    operator: InstitutionId | None


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Circumstances of a step, as the kernel checked them; for a consequence those of the outer operation."""

    chain: Digest
    institution: InstitutionId
    operator: InstitutionId
    kind: InstitutionKind
    suspended: bool
    persons: tuple[Person, ...]
    refs: tuple[CaseId, ...]
    time: UnixMillis
    height: int
    op_id: OpId
    previous_app_hash: Digest
    case_id: CaseId
    header: Header | None
    """Header of the case before the step; None where it is opened."""
    caller: str
    """Workflow that sent this consequence; empty for an operation."""

    def new_id(self, index: int = 0) -> CaseId:
        """Derive the id of the index-th case that this step opens; index 0 of an operation is its own case."""
        nested = b"" if not self.caller and self.header is None else self.case_id
        parts = (self.chain, self.institution, self.op_id, nested, index.to_bytes(4, "big"))
        return case_id(tagged_hash("yilian/case/v1", *parts))

    @property
    def state(self) -> str:
        """State of the case before the step; empty where it is opened."""
        return self.header.state if self.header is not None else ""


class Consequence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A command to another case, in the same operation; all or nothing."""

    case_id: CaseId
    command: Command


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A register row to write, of the own workflow."""

    key: tuple[bytes, ...]
    value: Register


class Outcome(msgspec.Struct, Generic[C], frozen=True, gc=False):
    """What a step does: the new fields, and where the row leaves a choice, the new state.

    `flags` None: unchanged. `patient` is for openings.
    """

    case: C
    to: str = ""
    flags: tuple[str, ...] | None = None
    patient: Patient | None = None
    registers: tuple[Put, ...] = ()
    consequences: tuple[Consequence, ...] = ()


class Reads(Protocol):
    """Typed, bounded reads of the own and the declared workflows' rows, as they stand inside this operation."""

    def case(self, kind: type[C], case_id: CaseId) -> Found[C] | None:
        """Find a case of one type, or None where there is none under this id."""
        ...

    def register(self, kind: type[R], *key: bytes) -> R | None:
        """Find a register row."""
        ...

    def number(self, parameter: str) -> int:
        """Get a numeric parameter of the chain."""
        ...

    def words(self, parameter: str) -> tuple[str, ...]:
        """Get a list parameter of the chain."""
        ...

    def parameter(self, name: str) -> ParameterSpec | None:
        """Find what a parameter may be: its bounds and who guards it; None where the chain has none of this name."""
        ...

    def member(self, institution: InstitutionId) -> Found[Member] | None:
        """Find a member as of the last block."""
        ...

    def key(self, key_id: KeyId) -> Found[Key] | None:
        """Find a key as of the last block."""
        ...


class CaseType(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of case: its word, typed fields, states and rows. `shape` numbers the fields' frozen form."""

    word: str
    fields: type[Case]
    states: tuple[str, ...]
    rows: tuple[Row, ...]
    shape: int = 1

    @property
    def terminal(self) -> tuple[str, ...]:
        """States that no command leaves."""
        left = [state for row in self.rows for state in row.from_states]
        return tuple(state for state in self.states if state not in left)


class ParameterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter that a workflow reads: default, bounds and the unit in words.

    `guarded`: governance itself reads it, so that changing it needs the quorum of a rule change. `may_be_empty`: a list
    that starts empty, and may be voted empty again.
    """

    name: str
    number: int = 0
    words: tuple[str, ...] = ()
    least: int = 0
    most: int = 2**63 - 1
    guarded: bool = False
    may_be_empty: bool = False

    @property
    def is_list(self) -> bool:
        """Whether its value is a list of words, not a number."""
        return bool(self.words) or self.may_be_empty


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """A shared process: case types with their tables, bound to pure functions.

    `asks` names the workflows whose `interface` it imports; `contract` is the module with one function a command, named
    like the command without the workflow's own prefix and with `_` for `.` (`accept`, `grant_issue`).
    """

    name: str
    cases: tuple[CaseType, ...]
    contract: ModuleType
    refusals: type[RefusalCode]
    registers: tuple[type[Register], ...] = ()
    parameters: tuple[ParameterSpec, ...] = ()
    asks: tuple[str, ...] = ()

    def function_name(self, command: str) -> str:
        """Name of the contract function that serves a command."""
        return command.removeprefix(self.name + ".").replace(".", "_")

    def functions(self) -> Mapping[str, Callable[..., Outcome[Any]]]:
        """Bind each command to its function.

        Raises:
            TypeError: a function is missing, or a public function of the contract serves no command.
        """
        commands = sorted({row.name for case in self.cases for row in case.rows})
        wanted = {self.function_name(command): command for command in commands}
        there = {
            name: value
            for name, value in vars(self.contract).items()
            if callable(value) and not name.startswith("_") and getattr(value, "__step__", False)
        }
        missing = [name for name in wanted if name not in there]
        left_over = [name for name in there if name not in wanted]
        if missing or left_over:
            raise TypeError(f"contract of {self.name}: functions missing {missing}, left over {left_over}")
        return {wanted[name]: there[name] for name in sorted(wanted)}


F = TypeVar("F", bound=Callable[..., Outcome[Any]])


def step(function: F) -> F:
    """Mark a contract function as the step of the command of its name."""
    function.__step__ = True  # type: ignore[attr-defined]  # an attribute of the function object, read by `functions`
    return function


def _states(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(state) for state in ((value,) if isinstance(value, str) else value))

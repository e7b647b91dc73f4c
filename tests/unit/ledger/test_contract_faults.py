"""A workflow whose contract does what it must not: the kernel stops it, as an error of the program or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from yilian.ledger.cases import Case, Command, Register
from yilian.ledger.members import InstitutionKind, Member, Role, Roster
from yilian.ledger.registry import Registry
from yilian.ledger.workflow import (
    ANY,
    KERNEL,
    SELF,
    Call,
    CaseType,
    Consequence,
    KernelRefusal,
    Outcome,
    ParameterSpec,
    Put,
    Reads,
    RefusalCode,
    Row,
    Workflow,
    both,
    moves,
    node,
    opens,
    person,
    step,
    workflow,
)
from yilian.testing.consortium import Consortium
from yilian.values import CaseId, InstitutionId, case_id, key_id
from yilian.workflows import governance


class Toy(Case, frozen=True, kw_only=True):
    count: int
    partner: InstitutionId


class Mark(Register, frozen=True, kw_only=True):
    word: ClassVar[str] = "mark"
    count: int


class Start(Command, frozen=True, kw_only=True):
    partner: InstitutionId


class Pair(Command, frozen=True, kw_only=True):
    pass


class PairWithPartner(Command, frozen=True, kw_only=True):
    pass


class Stateless(Command, frozen=True, kw_only=True):
    pass


class Act(Command, frozen=True, kw_only=True):
    what: str
    other: CaseId


class Inner(Command, frozen=True, kw_only=True):
    pass


class Unloved(Command, frozen=True, kw_only=True):
    pass


Function = Callable[[Call, Act, Toy, Reads], Outcome[Toy]]

ACTS: dict[str, Function] = {
    "astray": lambda _call, _act, case, _reads: Outcome(case, to="gone"),
    "undecided": lambda _call, _act, case, _reads: Outcome(case),
    "foreign": lambda _call, _act, case, _reads: Outcome(
        case, to="on", registers=(Put(key=(), value=Roster(members=())),)
    ),
    "peek-case": lambda _call, act, case, reads: Outcome(case, to=str(reads.case(Member, act.other))),
    "peek-register": lambda _call, _act, case, reads: Outcome(case, to=str(reads.register(Roster))),
    "own": lambda _call, _act, case, _reads: Outcome(
        replace(case, count=case.count + 1), to="on", registers=(Put(key=(b"k",), value=Mark(count=1)),)
    ),
    "look": lambda call, _act, case, reads: Outcome(
        replace(
            case,
            count=sum(
                (
                    reads.member(call.institution) is not None,
                    reads.key(key_id(bytes(32))) is None,
                    reads.parameter("toy.none") is None and reads.words("toy.words") == ("a",),
                    reads.register(Mark, b"k") is not None,
                    reads.case(Toy, call.case_id) is not None,
                    reads.number("toy.limit") == 3,
                )
            ),
        ),
        to="on",
    ),
    "endless": lambda call, act, case, _reads: Outcome(
        case, to="on", consequences=(Consequence(case_id=call.case_id, command=act),)
    ),
    "inner": lambda _call, act, case, _reads: Outcome(
        case, to="on", consequences=(Consequence(case_id=act.other, command=Inner()),)
    ),
    "spoil": lambda _call, act, case, _reads: Outcome(
        case,
        to="on",
        registers=(Put(key=(b"spoilt",), value=Mark(count=1)),),
        consequences=(Consequence(case_id=act.other, command=Inner()),),
    ),
    "unloved": lambda call, _act, case, _reads: Outcome(
        case, to="on", consequences=(Consequence(case_id=call.case_id, command=Unloved()),)
    ),
}


@step
def start(_call: Call, command: Start, _reads: Reads) -> Outcome[Toy]:
    return Outcome(Toy(count=0, partner=command.partner))


@step
def stateless(call: Call, _command: Stateless, _reads: Reads) -> Outcome[Toy]:
    return Outcome(Toy(count=0, partner=call.institution))


@step
def pair(_call: Call, _command: Pair, case: Toy, _reads: Reads) -> Outcome[Toy]:
    return Outcome(replace(case, count=case.count + 1))


@step
def partners(_call: Call, _command: PairWithPartner, case: Toy, _reads: Reads) -> Outcome[Toy]:
    return Outcome(replace(case, count=case.count + 1))


@step
def act(call: Call, command: Act, case: Toy, reads: Reads) -> Outcome[Toy]:
    return ACTS[command.what](call, command, case, reads)


@step
def inner(_call: Call, _command: Inner, case: Toy, _reads: Reads) -> Outcome[Toy]:
    return Outcome(case)


@step
def unloved(_call: Call, _command: Unloved, case: Toy, _reads: Reads) -> Outcome[Toy]:
    return Outcome(case)


def contract(**functions: Callable[..., Outcome[Toy]]) -> ModuleType:
    """Make a contract module of these functions."""
    module = ModuleType("toy_contract")
    vars(module).update(functions)
    return module


DOCTOR = Role.PHYSICIAN
ROWS: tuple[Row, ...] = (
    opens("toy.start", Start, "on", who=node(ANY)),
    opens("toy.stateless", Stateless, (), who=node(ANY)),
    moves("toy.act", Act, "on", ("on", "off"), who=node(ANY) | workflow(SELF)),
    moves(
        "toy.pair",
        Pair,
        "on",
        who=both(person(ANY, DOCTOR), person(ANY, DOCTOR)) | both(person(ANY, DOCTOR), person("partner", DOCTOR)),
    ),
    moves("toy.partners", PairWithPartner, "on", who=both(person(ANY, DOCTOR), person("partner", DOCTOR))),
    moves("toy.inner", Inner, "on", who=workflow(SELF)),
    moves("toy.unloved", Unloved, "off", who=workflow(SELF)),
)
TOY = Workflow(
    name="toy",
    cases=(CaseType(word="toy", fields=Toy, states=("on", "off"), rows=ROWS),),
    contract=contract(
        start=start, stateless=stateless, act=act, inner=inner, unloved=unloved, pair=pair, partners=partners
    ),
    refusals=RefusalCode,
    registers=(Mark,),
    parameters=(ParameterSpec(name="toy.limit", number=3), ParameterSpec(name="toy.words", words=("a",))),
)


@pytest.fixture
def consortium() -> Consortium:
    """Found a consortium that runs the faulty workflow."""
    return Consortium.found(
        {"hospital": InstitutionKind.HOSPITAL, "clinic": InstitutionKind.HOSPITAL},
        workflows=(governance.WORKFLOW, TOY),
    )


def _act(consortium: Consortium, what: str, other: CaseId | None = None) -> Any:  # noqa: ANN401 - an answer
    hospital = consortium["hospital"]
    toy = consortium.act(hospital, Start(partner=consortium["clinic"].id)).case_id
    return consortium.act(hospital, Act(what=what, other=other or toy), toy)


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("astray", "toy.act moved to gone"),
        ("undecided", "must choose among"),
        ("foreign", "writes register Roster, which is not its own"),
        ("peek-case", "Member belongs to a workflow that is not declared"),
        ("peek-register", "Roster belongs to a workflow that is not declared"),
    ],
)
def test_a_contract_that_leaves_its_bounds_is_an_error_of_the_program(
    consortium: Consortium, what: str, match: str
) -> None:
    with pytest.raises(TypeError, match=match):
        _act(consortium, what)


def test_an_opening_row_without_a_state_is_an_error_of_the_program(consortium: Consortium) -> None:
    with pytest.raises(TypeError, match="opens a case without a state"):
        consortium.act(consortium["hospital"], Stateless())


def test_a_contract_reads_members_keys_parameters_and_its_own_rows(consortium: Consortium) -> None:
    hospital = consortium["hospital"]
    toy = consortium.act(hospital, Start(partner=consortium["clinic"].id)).case_id
    assert consortium.act(hospital, Act(what="own", other=toy), toy).ok
    assert consortium.register(Mark, b"k") == Mark(count=1)
    assert consortium.act(hospital, Act(what="look", other=toy), toy).ok
    found = consortium.case(Toy, toy)
    assert found is not None
    assert found.fields.count == 6


@pytest.mark.parametrize(
    ("what", "other", "inner_number"),
    [
        ("endless", None, None),
        ("inner", case_id(bytes(32)), KernelRefusal.NO_SUCH_CASE),
        ("inner", "hospital", KernelRefusal.NO_SUCH_CASE),
        ("spoil", case_id(bytes(32)), KernelRefusal.NO_SUCH_CASE),
        ("unloved", None, KernelRefusal.ILLEGAL_TRANSITION),
    ],
    ids=["too-deep", "no-such-case", "case-of-another-type", "behind-a-register", "not-from-this-state"],
)
def test_a_consequence_that_cannot_be_refuses_the_whole_step(
    consortium: Consortium, what: str, other: CaseId | str | None, inner_number: KernelRefusal | None
) -> None:
    target = case_id(consortium["hospital"].id) if isinstance(other, str) else other
    answer = _act(consortium, what, target)
    assert not answer.ok
    assert answer.result[0] == (KERNEL, KernelRefusal.CONSEQUENCE_REFUSED)
    assert consortium.register(Mark, b"spoilt") is None
    assert inner_number is None or answer.result[1] == (KERNEL, inner_number)


def test_a_contract_lacks_no_function_and_has_none_left_over() -> None:
    broken = replace(
        TOY,
        contract=contract(
            start=start, stateless=stateless, act=act, inner=inner, pair=pair, partners=partners, other=start
        ),
    )
    with pytest.raises(TypeError, match=r"missing \['unloved'\], left over \['other'\]"):
        broken.functions()


def test_a_workflow_asks_only_workflows_that_stand_before_it() -> None:
    with pytest.raises(TypeError, match=r"toy asks \['referral'\]"):
        Registry((governance.WORKFLOW, replace(TOY, asks=("referral",))))


def test_nothing_is_declared_twice() -> None:
    with pytest.raises(TypeError, match="declared twice"):
        Registry((governance.WORKFLOW, TOY, TOY))


def test_a_state_that_no_command_leaves_is_terminal() -> None:
    (kind,) = replace(TOY, cases=(CaseType(word="toy", fields=Toy, states=("on", "end"), rows=ROWS),)).cases
    assert kind.terminal == ("end",)


@pytest.mark.parametrize(
    ("command", "signers", "number"),
    [
        (Pair(), ("hospital", "clinic"), None),
        (Pair(), ("hospital", "hospital"), None),
        (PairWithPartner(), ("hospital", "clinic"), None),
        (PairWithPartner(), ("hospital", "hospital"), KernelRefusal.NOT_PERMITTED),
        (PairWithPartner(), ("clinic", "clinic"), KernelRefusal.NOT_PERMITTED),
    ],
    ids=["own-and-partner", "two-own", "with-partner", "no-partner", "no-own"],
)
def test_two_people_stand_where_the_row_wants_them(
    consortium: Consortium, command: Command, signers: tuple[str, str], number: KernelRefusal | None
) -> None:
    hospital = consortium["hospital"]
    toy = consortium.act(hospital, Start(partner=consortium["clinic"].id)).case_id
    first, second = (consortium[name].person(DOCTOR, place) for place, name in enumerate(signers))
    answer = consortium.act(hospital, command, toy, persons=[(DOCTOR, first), (DOCTOR, second)])
    assert answer.result == (() if number is None else ((KERNEL, number),))


def test_a_case_opens_under_its_derived_id_alone(consortium: Consortium) -> None:
    hospital = consortium["hospital"]
    start_here = Start(partner=hospital.id)
    for taken in (case_id(b"\1" * 32), case_id(hospital.id)):
        answer = consortium.act(hospital, start_here, taken, version=0)
        assert answer.result == ((KERNEL, KernelRefusal.NO_SUCH_CASE),)

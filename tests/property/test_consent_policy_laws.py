"""Laws of the decision function: a deny never permits more, a narrower policy never permits more."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from yilian.ledger.members import InstitutionKind, Role
from yilian.values import case_id, institution_id, unix_millis
from yilian.workflows.consent.covers import ConsentQuestion, Item, decide
from yilian.workflows.consent.policy import (
    Access,
    Effect,
    Policy,
    Provision,
    Purpose,
    is_narrower,
    provision,
    provisions,
)

ENDS = 10
INSTITUTIONS = tuple(institution_id(bytes((number,)) * 32) for number in range(1, 4))
KINDS = (InstitutionKind.HOSPITAL, InstitutionKind.LABORATORY)
ROLES = (Role.PHYSICIAN, Role.NURSE)
PURPOSES = (Purpose.TREAT, Purpose.HRESCH)
CLASSES = ("C0006", "C0007")


def some(values: tuple[object, ...]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=len(values)).map(tuple)


def ranges(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most)).map(lambda pair: (min(pair), max(pair)))


@st.composite
def rules(draw: st.DrawFn, effect: Effect | None = None) -> Provision:
    chosen = effect or draw(st.sampled_from(Effect))
    purposes = draw(some(PURPOSES))
    return provision(
        chosen,
        *(purposes or PURPOSES[:1] if chosen == Effect.PERMIT else purposes),
        recipients=draw(some(INSTITUTIONS)),
        recipient_kinds=draw(some(KINDS)),
        roles=draw(some(ROLES)),
        custodians=draw(some(INSTITUTIONS)),
        kinds=draw(some(CLASSES)),
        levels=draw(ranges(1, 4)),
        months=draw(ranges(1, 4)),
        period=draw(ranges(0, ENDS)),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    begins, ends = draw(ranges(0, ENDS))
    return Policy(
        begins=unix_millis(begins),
        ends=unix_millis(ends),
        maximum=draw(st.integers(1, 9)),
        depth=draw(st.integers(0, 3)),
        access=draw(st.sampled_from(Access)),
        erase_by=draw(st.none() | st.integers(0, ENDS)),
        base=draw(rules()),
        exceptions=tuple(draw(st.lists(rules(), max_size=3))),
    )


@st.composite
def questions(draw: st.DrawFn) -> ConsentQuestion:
    begins, until = draw(ranges(0, ENDS))
    return ConsentQuestion(
        consent=case_id(bytes(32)),
        custodian=draw(st.sampled_from(INSTITUTIONS)),
        recipient=draw(st.sampled_from(INSTITUTIONS)),
        purpose=draw(st.sampled_from(PURPOSES)),
        begins=unix_millis(begins),
        until=unix_millis(until),
        role=draw(st.none() | st.sampled_from(ROLES)),
        uses=draw(st.integers(0, 9)),
        depth=draw(st.integers(0, 3)),
        level_cap=draw(st.integers(0, 4)),
    )


items = st.lists(
    st.builds(Item, kind=st.sampled_from(CLASSES), level=st.integers(1, 4), month=st.integers(1, 4)),
    min_size=1,
    max_size=2,
).map(tuple)
kinds = st.none() | st.sampled_from(KINDS)


def permits(policy: Policy, question: ConsentQuestion, wanted: tuple[Item, ...], kind: InstitutionKind | None) -> bool:
    return decide(policy, question, wanted, kind, committed=0).permit


@given(policies(), rules(Effect.DENY), questions(), items, kinds)
def test_adding_a_deny_never_permits_more(
    policy: Policy, deny: Provision, question: ConsentQuestion, wanted: tuple[Item, ...], kind: InstitutionKind | None
) -> None:
    stricter = replace(policy, exceptions=(*policy.exceptions, deny))

    assert permits(policy, question, wanted, kind) or not permits(stricter, question, wanted, kind)
    assert is_narrower(stricter, policy)


@st.composite
def amendments(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """Give a policy and another, near enough to it to be narrower now and then."""
    old = draw(policies())
    parts = {
        "begins": unix_millis(draw(st.integers(0, ENDS))),
        "ends": unix_millis(draw(st.integers(0, ENDS))),
        "depth": draw(st.integers(0, 3)),
        "base": draw(rules()),
        "exceptions": tuple(draw(st.lists(st.sampled_from(provisions(old)) | rules(), max_size=4))),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), max_size=2, unique=True))
    return old, replace(old, **{name: parts[name] for name in chosen})


@given(amendments(), questions(), items, kinds)
def test_a_narrower_policy_never_permits_more(
    pair: tuple[Policy, Policy], question: ConsentQuestion, wanted: tuple[Item, ...], kind: InstitutionKind | None
) -> None:
    old, new = pair
    assume(is_narrower(new, old))

    assert permits(old, question, wanted, kind) or not permits(new, question, wanted, kind)


@given(policies())
def test_a_policy_is_as_narrow_as_itself(policy: Policy) -> None:
    assert is_narrower(policy, policy)


@given(policies(), questions(), items, kinds, st.integers(1, 9))
def test_a_list_is_permitted_when_each_of_its_entries_is(
    policy: Policy, question: ConsentQuestion, wanted: tuple[Item, ...], kind: InstitutionKind | None, taken: int
) -> None:
    together = decide(policy, question, wanted, kind, committed=taken).permit
    apart = [decide(policy, question, (item,), kind, committed=taken).permit for item in wanted]

    assert together == all(apart)


@given(policies(), questions(), items, kinds)
def test_a_decision_names_the_rule_and_the_duties_or_the_reason(
    policy: Policy, question: ConsentQuestion, wanted: tuple[Item, ...], kind: InstitutionKind | None
) -> None:
    decision = decide(policy, question, wanted, kind, committed=0)

    rule = provisions(policy)[decision.matched_provision] if decision.matched_provision is not None else None
    assert decision.permit == (decision.refusal is None) == (decision.obligations is not None)
    assert not decision.permit or (rule is not None and rule.effect == Effect.PERMIT)

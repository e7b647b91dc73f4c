"""Proposals and ballots: who may vote, when it is decided, when it applies."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.workflows.governance.council import ALL, Council, refused, refused_by_kernel
from yilian.crypto.suite import sha256
from yilian.ledger.members import Constitution, InstitutionKind, Member, MemberState, Parameters, Role, Rule
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KernelRefusal, ParameterSpec, RefusalCode, Workflow
from yilian.testing.consortium import Consortium
from yilian.values import DAY, case_id, institution_id, unix_millis
from yilian.workflows import governance
from yilian.workflows.governance.founding import default_constitution
from yilian.workflows.governance.model import (
    KEY_VALIDITY,
    NEWCOMER_WAIT,
    SUITES,
    ProposalExpire,
    ProposalOpen,
    ProposalState,
    ProposalVoid,
    ProposalVote,
    ProposalWithdraw,
    Refusal,
)
from yilian.workflows.governance.records import (
    Action,
    Ballot,
    Choice,
    ParameterChange,
    Proposal,
    Reinstate,
    Remove,
    RuleChange,
    Suspend,
    Tally,
)

MOST = 7


def state_of(council: Council, proposal: Answer) -> str:
    found = council.consortium.case(Proposal, proposal.case_id)
    assert found is not None
    return str(found.state)


def suspend(council: Council, name: str) -> Suspend:
    return Suspend(institution=council.consortium[name].id, reason="incident")


def rule(council: Council, action: str) -> Rule:
    constitution = council.consortium.register(Constitution)
    return next(row for row in constitution.rules if row.action == action)


def test_a_proposal_fixes_its_electorate_its_quorum_and_its_end(council: Council) -> None:
    c = council.consortium
    answer = council.open("centre", suspend(council, "clinic"))
    found = c.case(Proposal, answer.case_id)
    assert found.fields == Proposal(
        proposer=c["centre"].id,
        action=suspend(council, "clinic"),
        electorate=tuple(c[name].id for name in ALL),
        numerator=2,
        denominator=3,
        strict=False,
        delay=unix_millis(0),
        closes=unix_millis(c.time + 14 * DAY),
        applies=unix_millis(0),
    )


def test_five_of_seven_suspend_and_four_do_not(council: Council) -> None:
    proposal = council.open("centre", suspend(council, "clinic"))
    states = []
    for name in ("centre", "second", "township", "hospital", "laboratory"):
        council.vote(name, proposal.case_id)
        states.append(state_of(council, proposal))
    assert states == ["open", "open", "open", "open", "approved"]


def test_a_proposal_is_rejected_as_soon_as_its_quorum_is_out_of_reach(council: Council) -> None:
    proposal = council.open("centre", suspend(council, "clinic"))
    council.vote("second", proposal.case_id, Choice.NO)
    assert state_of(council, proposal) == ProposalState.OPEN
    council.vote("township", proposal.case_id, Choice.ABSTAIN)
    assert state_of(council, proposal) == ProposalState.REJECTED


def test_exactly_half_is_not_more_than_half() -> None:
    votes = {"a": InstitutionKind.HOSPITAL, "b": InstitutionKind.HOSPITAL}
    c = Consortium.found(votes, workflows=(governance.WORKFLOW, _with_parameter()))
    answer = _open(c, "a", ParameterChange(name="sample.limit", number=3, words=()))
    assert answer.ok
    _vote(c, "a", answer)
    assert c.case(Proposal, answer.case_id).state == ProposalState.OPEN
    _vote(c, "b", answer)
    assert c.case(Proposal, answer.case_id).state == ProposalState.APPROVED


def test_a_new_ballot_replaces_the_old_one(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    council.vote("second", proposal.case_id, Choice.NO)
    council.vote("second", proposal.case_id, Choice.YES)
    assert c.register(Tally, proposal.case_id) == Tally(yes=1, no=0, abstained=0)
    assert c.register(Ballot, proposal.case_id, c["second"].id).choice == Choice.YES


def test_an_undecided_ballot_raises_no_version(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    council.vote("second", proposal.case_id)
    assert c.case(Proposal, proposal.case_id).header.version == 1


def test_the_one_concerned_has_no_vote_and_stays_in_the_denominator(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    assert refused(council.vote("clinic", proposal.case_id, Choice.NO), Refusal.NO_VOTE_HERE)
    assert c["clinic"].id in c.case(Proposal, proposal.case_id).fields.electorate


def test_a_suspended_member_votes_on_others_and_opens_nothing(council: Council) -> None:
    assert council.carry(suspend(council, "clinic"), ("centre", "second", "township", "hospital", "laboratory")).ok
    proposal = council.open("centre", suspend(council, "laboratory"))
    assert council.vote("clinic", proposal.case_id).ok
    answer = council.open("clinic", suspend(council, "centre"))
    assert refused_by_kernel(answer, KernelRefusal.MEMBER_SUSPENDED)


def test_a_decided_proposal_takes_no_more_ballots(council: Council) -> None:
    proposal = council.approve(suspend(council, "regulator"))
    assert refused_by_kernel(council.vote("laboratory", proposal), KernelRefusal.ILLEGAL_TRANSITION)


def test_no_ballot_counts_after_the_voting_period(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    c.advance(14 * DAY - 1)
    assert council.vote("second", proposal.case_id).ok
    assert refused_by_kernel(council.vote("township", proposal.case_id), KernelRefusal.DEADLINE_PASSED)


def test_an_undecided_proposal_expires_after_its_period_and_not_before(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    early = c.act(c["second"], ProposalExpire(), proposal.case_id)
    assert refused_by_kernel(early, KernelRefusal.TOO_EARLY)
    c.advance(14 * DAY)
    assert c.act(c["second"], ProposalExpire(), proposal.case_id).ok
    assert state_of(council, proposal) == ProposalState.EXPIRED


def test_only_the_proposer_withdraws(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    other = c.act(c["second"], ProposalWithdraw(), proposal.case_id, persons=[Role.OFFICER])
    assert refused_by_kernel(other, KernelRefusal.NOT_PERMITTED)
    assert c.act(c["centre"], ProposalWithdraw(), proposal.case_id, persons=[Role.OFFICER]).ok
    assert state_of(council, proposal) == ProposalState.WITHDRAWN


def test_a_ballot_needs_an_officer(council: Council) -> None:
    c = council.consortium
    answer = _open(c, "centre", suspend(council, "clinic"), role=Role.PHYSICIAN)
    assert refused_by_kernel(answer, KernelRefusal.NOT_PERMITTED)


def test_an_equal_proposal_waits_until_the_first_is_settled(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", suspend(council, "clinic"))
    assert refused(council.open("second", suspend(council, "clinic")), Refusal.EQUAL_PROPOSAL_OPEN)
    c.act(c["centre"], ProposalWithdraw(), proposal.case_id, persons=[Role.OFFICER])
    assert council.open("second", suspend(council, "clinic")).ok


def test_an_approved_proposal_still_stands_in_the_way_of_an_equal_one(council: Council) -> None:
    council.approve(suspend(council, "regulator"))
    assert refused(council.open("second", suspend(council, "regulator")), Refusal.EQUAL_PROPOSAL_OPEN)


def test_a_proposal_past_its_period_stands_in_nobodys_way(council: Council) -> None:
    council.open("centre", suspend(council, "clinic"))
    council.consortium.advance(14 * DAY)
    assert council.open("second", suspend(council, "clinic")).ok


def test_an_action_applies_after_its_delay_and_not_before(council: Council) -> None:
    c = council.consortium
    action = Remove(institution=c["regulator"].id, reason="closed")
    proposal = council.approve(action)
    assert refused_by_kernel(council.apply(proposal), KernelRefusal.TOO_EARLY)
    c.advance(7 * DAY)
    assert council.apply(proposal).ok
    assert c.case(Member, case_id(c["regulator"].id)).state == MemberState.REMOVED


def test_an_action_applies_once(council: Council) -> None:
    proposal = council.approve(suspend(council, "regulator"))
    assert council.apply(proposal).ok
    assert refused_by_kernel(council.apply(proposal), KernelRefusal.ILLEGAL_TRANSITION)


def test_what_became_impossible_is_void_and_cannot_be_applied(council: Council) -> None:
    c = council.consortium
    slow = council.approve(Remove(institution=c["regulator"].id, reason="closed"))
    assert council.carry(Remove(institution=c["regulator"].id, reason="merged")).ok
    assert refused(council.apply(slow), Refusal.ACTION_NOT_POSSIBLE)
    assert c.act(c["centre"], ProposalVoid(), slow).ok
    assert c.case(Proposal, slow).state == ProposalState.VOID


def test_what_is_possible_is_not_void(council: Council) -> None:
    c = council.consortium
    proposal = council.approve(suspend(council, "regulator"))
    assert refused(c.act(c["centre"], ProposalVoid(), proposal), Refusal.STILL_POSSIBLE)


def test_a_rule_may_keep_kinds_from_proposing(council: Council) -> None:
    only_hospitals = replace(rule(council, "member.suspend"), proposers=(InstitutionKind.HOSPITAL,))
    assert council.carry(RuleChange(rule=only_hospitals)).ok
    assert refused(council.open("centre", suspend(council, "clinic")), Refusal.RULE_FORBIDS_PROPOSER)
    assert council.open("hospital", suspend(council, "clinic")).ok


def test_an_action_without_a_rule_cannot_be_proposed() -> None:
    empty = Constitution(version=1, rules=())
    c = Consortium.found({"a": InstitutionKind.HOSPITAL}, workflows=(governance.WORKFLOW,), constitution=empty)
    answer = _open(c, "a", Suspend(institution=c["a"].id, reason="none"))
    assert refused(answer, Refusal.ACTION_NOT_POSSIBLE)


def test_a_rule_change_replaces_its_row_and_raises_the_version(council: Council) -> None:
    longer = replace(rule(council, "member.suspend"), voting_period=unix_millis(30 * DAY))
    assert council.carry(RuleChange(rule=longer)).ok
    constitution = council.consortium.register(Constitution)
    assert constitution.version == 2
    assert rule(council, "member.suspend") == longer
    assert [row.action for row in constitution.rules] == [row.action for row in default_constitution().rules]


def test_an_open_proposal_keeps_the_rule_under_which_it_was_opened(council: Council) -> None:
    proposal = council.open("centre", suspend(council, "clinic"))
    stricter = replace(rule(council, "member.suspend"), numerator=1, denominator=1)
    council.carry(RuleChange(rule=stricter))
    found = council.consortium.case(Proposal, proposal.case_id)
    assert (found.fields.numerator, found.fields.denominator) == (2, 3)


@pytest.mark.parametrize("action", ["rule.change", "member.remove", "member.admit"])
def test_the_quorum_that_protects_members_never_falls_below_two_thirds(council: Council, action: str) -> None:
    lower = replace(rule(council, action), numerator=665, denominator=1000)
    assert refused(council.open("centre", RuleChange(rule=lower)), Refusal.QUORUM_TOO_LOW)
    assert council.open("centre", RuleChange(rule=replace(lower, numerator=667))).ok


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"action": "member.reward"}, id="unknown-action"),
        pytest.param({"numerator": 4, "denominator": 3}, id="more-than-everybody"),
        pytest.param({"numerator": 3, "denominator": 3, "strict": True}, id="more-than-all"),
        pytest.param({"delay": 366 * DAY + 1}, id="delay-over-a-year"),
        pytest.param({"voting_period": 366 * DAY + 1}, id="vote-over-a-year"),
        pytest.param({"voting_period": 0}, id="no-time-to-vote"),
    ],
)
def test_a_rule_that_cannot_work_is_not_proposed(council: Council, changes: dict[str, Any]) -> None:
    changed = replace(rule(council, "member.suspend"), **changes)
    assert refused(council.open("centre", RuleChange(rule=changed)), Refusal.ACTION_NOT_POSSIBLE)


def test_a_parameter_that_governance_reads_changes_by_the_rule_of_rule_changes(council: Council) -> None:
    c = council.consortium
    proposal = council.open("centre", ParameterChange(name=NEWCOMER_WAIT, number=DAY, words=()))
    fields = c.case(Proposal, proposal.case_id).fields
    assert (fields.numerator, fields.denominator, fields.strict, fields.delay) == (2, 3, False, 14 * DAY)


def test_an_applied_parameter_holds_from_the_next_block(council: Council) -> None:
    c = council.consortium
    before = {item.name: item for item in c.register(Parameters).items}
    assert council.carry(ParameterChange(name=NEWCOMER_WAIT, number=DAY, words=())).ok
    after = {item.name: item for item in c.register(Parameters).items}
    assert after == before | {NEWCOMER_WAIT: replace(before[NEWCOMER_WAIT], number=DAY)}
    assert list(after) == sorted(after)
    assert c.machine.directory().number(NEWCOMER_WAIT) == DAY


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(ParameterChange(name="no.such", number=1, words=()), id="unknown"),
        pytest.param(ParameterChange(name=KEY_VALIDITY, number=DAY - 1, words=()), id="below"),
        pytest.param(ParameterChange(name=KEY_VALIDITY, number=20 * 366 * DAY + 1, words=()), id="above"),
        pytest.param(ParameterChange(name=KEY_VALIDITY, number=DAY, words=("x",)), id="words-for-a-number"),
        pytest.param(ParameterChange(name=SUITES, number=1, words=("intl",)), id="number-for-words"),
        pytest.param(ParameterChange(name=SUITES, number=0, words=()), id="no-words"),
    ],
)
def test_a_parameter_outside_its_bounds_is_not_proposed(council: Council, action: Action) -> None:
    assert refused(council.open("centre", action), Refusal.ACTION_NOT_POSSIBLE)


def test_a_list_that_starts_empty_takes_words_and_may_be_emptied_again() -> None:
    listed = ParameterSpec(name="sample.pairs", may_be_empty=True)
    sample = msgspec.structs.replace(_with_parameter(), parameters=(listed,))
    c = Consortium.found({"a": InstitutionKind.HOSPITAL}, workflows=(governance.WORKFLOW, sample))
    assert _open(c, "a", ParameterChange(name="sample.pairs", number=0, words=("a:b",))).ok
    assert _open(c, "a", ParameterChange(name="sample.pairs", number=0, words=())).ok
    assert refused(_open(c, "a", ParameterChange(name="sample.pairs", number=1, words=())), Refusal.ACTION_NOT_POSSIBLE)


def test_anothers_parameter_stays_within_its_own_bounds() -> None:
    c = Consortium.found({"a": InstitutionKind.HOSPITAL}, workflows=(governance.WORKFLOW, _with_parameter()))
    assert _open(c, "a", ParameterChange(name="sample.limit", number=MOST, words=())).ok
    over = _open(c, "a", ParameterChange(name="sample.limit", number=MOST + 1, words=()))
    assert refused(over, Refusal.ACTION_NOT_POSSIBLE)


@pytest.mark.parametrize("kind", [Suspend, Reinstate, Remove])
def test_a_stranger_is_neither_suspended_nor_reinstated_nor_removed(
    council: Council, kind: type[Suspend | Reinstate | Remove]
) -> None:
    stranger = kind(institution=institution_id(sha256(b"stranger")), reason="none")
    assert refused(council.open("centre", stranger), Refusal.NOT_A_MEMBER)


def test_a_member_in_order_is_not_reinstated(council: Council) -> None:
    action = Reinstate(institution=council.consortium["clinic"].id, reason="none")
    assert refused(council.open("centre", action), Refusal.ACTION_NOT_POSSIBLE)


def _open(c: Consortium, name: str, action: Action, role: Role = Role.OFFICER) -> Answer:
    return c.act(c[name], ProposalOpen(action=action), persons=[role])


def _vote(c: Consortium, name: str, proposal: Answer) -> None:
    vote = ProposalVote(choice=Choice.YES)
    assert c.act(c[name], vote, proposal.case_id, persons=[Role.OFFICER]).ok


def _with_parameter() -> Workflow:
    return Workflow(
        name="sample",
        cases=(),
        contract=ModuleType("contract"),
        refusals=RefusalCode,
        parameters=(ParameterSpec(name="sample.limit", number=1, most=MOST),),
    )

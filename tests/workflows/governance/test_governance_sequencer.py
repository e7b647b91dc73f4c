"""The sequencer and the witness policy: changed by two thirds of the members, and by nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from tests.workflows.governance.council import ALL, SEVEN, Council, refused
from yilian import canonical
from yilian.ledger.members import Constitution, InstitutionKind, Member, MemberState, Role
from yilian.ledger.reads import CommittedReads
from yilian.ledger.state import register_key
from yilian.testing.consortium import Consortium
from yilian.values import DAY, case_id, institution_id, unix_millis
from yilian.workflows import governance
from yilian.workflows.governance import interface
from yilian.workflows.governance.founding import default_constitution
from yilian.workflows.governance.model import WITNESSES, MemberAnnounceLeave, MemberLeave, Refusal
from yilian.workflows.governance.records import (
    LATER_ACTIONS,
    Action,
    ParameterChange,
    Proposal,
    Remove,
    RuleChange,
    Sequencer,
    SequencerReplace,
    Suspend,
    WitnessPolicyChange,
)

OTHERS = len(SEVEN) - 1


def replacement(council: Council, name: str) -> SequencerReplace:
    return SequencerReplace(institution=council.consortium[name].id, reason="moved")


def sequencer(council: Council) -> str:
    found = interface.sequencer(CommittedReads(council.consortium.state, council.consortium.machine.registry))
    return next(name for name in ALL if council.consortium[name].id == found)


def test_the_first_founder_orders_until_another_is_voted(council: Council) -> None:
    assert sequencer(council) == "centre"
    assert council.consortium.register(Sequencer) is None


def test_two_thirds_replace_the_sequencer_at_once(council: Council) -> None:
    proposal = council.approve(replacement(council, "hospital"))
    height = council.consortium.machine.head.height
    assert council.apply(proposal).ok
    assert council.consortium.register(Sequencer) == Sequencer(
        institution=council.consortium["hospital"].id, since=height + 2
    )
    assert sequencer(council) == "hospital"
    assert council.carry(replacement(council, "centre")).ok
    assert sequencer(council) == "centre"


def test_the_sequencers_row_lies_where_a_reader_looks_for_it(council: Council) -> None:
    assert register_key("governance", Sequencer.word) == b"reg/governance/sequencer"
    assert council.carry(replacement(council, "hospital")).ok
    assert council.consortium.register(Sequencer).since == council.consortium.machine.head.height + 1


def test_only_an_active_member_that_is_not_the_sequencer_becomes_it(council: Council) -> None:
    suspended = Suspend(institution=council.consortium["clinic"].id, reason="incident")
    assert council.carry(suspended, ("centre", "second", "township", "hospital", "laboratory")).ok
    assert refused(council.open("centre", replacement(council, "clinic")), Refusal.ACTION_NOT_POSSIBLE)
    assert refused(council.open("second", replacement(council, "centre")), Refusal.ACTION_NOT_POSSIBLE)
    stranger = SequencerReplace(institution=council.newcomer().id, reason="moved")
    assert refused(council.open("centre", stranger), Refusal.NOT_A_MEMBER)


def test_the_sequencer_is_neither_removed_nor_gone_before_it_is_replaced(council: Council) -> None:
    c = council.consortium
    removal = Remove(institution=c["centre"].id, reason="closed")
    assert refused(council.open("second", removal), Refusal.STILL_SEQUENCER)
    party, soon = c["centre"], unix_millis(c.time + DAY)
    assert c.act(party, MemberAnnounceLeave(leaves_on=soon), case_id(party.id), persons=[Role.OFFICER]).ok
    c.advance(2 * DAY)
    early = c.act(party, MemberLeave(), case_id(party.id), persons=[Role.OFFICER])
    assert refused(early, Refusal.STILL_SEQUENCER)
    assert council.carry(replacement(council, "hospital"), ("second", "township", "hospital", "clinic", "regulator")).ok
    assert c.act(party, MemberLeave(), case_id(party.id), persons=[Role.OFFICER]).ok
    assert c.case(Member, case_id(party.id)).state == MemberState.LEFT


def test_the_witness_policy_changes_by_two_thirds_after_fourteen_days(council: Council) -> None:
    proposal = council.open("centre", WitnessPolicyChange(needed=2))
    fields = council.consortium.case(Proposal, proposal.case_id).fields
    assert (fields.numerator, fields.denominator, fields.strict, fields.delay) == (2, 3, False, 14 * DAY)
    assert council.carry(WitnessPolicyChange(needed=3)).ok
    assert council.consortium.machine.directory().number(WITNESSES) == 3


def test_no_more_witnesses_are_asked_for_than_operators_act_besides_the_sequencers(council: Council) -> None:
    assert refused(council.open("centre", WitnessPolicyChange(needed=OTHERS + 1)), Refusal.TOO_FEW_OPERATORS)
    assert council.open("centre", WitnessPolicyChange(needed=OTHERS)).ok


def test_members_of_one_operator_count_once() -> None:
    hosted = dict.fromkeys(("a", "b"), InstitutionKind.HOSPITAL)
    council = Council(Consortium.found(hosted, operators={"b": "a"}, workflows=(governance.WORKFLOW,)))
    assert refused(council.open("a", WitnessPolicyChange(needed=1)), Refusal.TOO_FEW_OPERATORS)


def test_a_policy_that_lost_its_operators_is_void(council: Council) -> None:
    proposal = council.approve(WitnessPolicyChange(needed=OTHERS))
    gone = Remove(institution=council.consortium["regulator"].id, reason="closed")
    assert council.carry(gone).ok
    assert refused(council.apply(proposal), Refusal.TOO_FEW_OPERATORS)


def test_a_plain_change_of_parameter_leaves_the_witness_policy_alone(council: Council) -> None:
    plain = ParameterChange(name=WITNESSES, number=1, words=())
    assert refused(council.open("centre", plain), Refusal.ACTION_NOT_POSSIBLE)


def test_a_constitution_older_than_an_action_takes_up_its_rule_by_a_change_of_rule() -> None:
    rules = default_constitution().rules
    older = Constitution(version=1, rules=tuple(row for row in rules if row.action not in LATER_ACTIONS))
    council = Council(Consortium.found(SEVEN, workflows=(governance.WORKFLOW,), constitution=older))
    action = replacement(council, "hospital")
    assert refused(council.open("centre", action), Refusal.ACTION_NOT_POSSIBLE)
    for row in (row for row in rules if row.action in LATER_ACTIONS):
        lower = replace(row, numerator=1, denominator=2)
        assert refused(council.open("centre", RuleChange(rule=lower)), Refusal.QUORUM_TOO_LOW)
        assert council.carry(RuleChange(rule=row)).ok
    assert council.consortium.register(Constitution) == Constitution(version=3, rules=rules)
    assert council.carry(action).ok


def test_an_action_written_before_there_were_more_reads_and_writes_the_same() -> None:
    data = bytes.fromhex("836e" + b"member.suspend".hex() + "5820" + "07" * 32 + "68" + b"incident".hex())
    decoded: Action = canonical.decode(data, Action)  # type: ignore[arg-type]  # a union is decoded like a type
    assert decoded == Suspend(institution=institution_id(b"\x07" * 32), reason="incident")
    assert canonical.encode(decoded) == data

"""Members: invited, joined, suspended, reinstated, removed, gone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.workflows.governance.council import Council, one_time_key, refused, refused_by_kernel
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId, key_id_of, sha256
from yilian.ledger.cases import Found
from yilian.ledger.envelope import InvalidTransaction, TransactionCode
from yilian.ledger.members import HeldBy, Key, KeyState, Member, MemberState, Role, Roster
from yilian.ledger.state import encode_register, key_hash, register_key
from yilian.ledger.workflow import KernelRefusal
from yilian.testing.consortium import Party
from yilian.values import DAY, case_id, public_key, unix_millis
from yilian.workflows.governance import interface
from yilian.workflows.governance.contract import MOST_MEMBERS
from yilian.workflows.governance.model import (
    SUITES,
    MemberAnnounceLeave,
    MemberExpire,
    MemberLeave,
    MemberRemove,
    Refusal,
)
from yilian.workflows.governance.records import (
    Choice,
    ParameterChange,
    Proposal,
    Reinstate,
    Remove,
    RuleChange,
    Suspend,
)


def member(council: Council, name: str) -> Found[Member]:
    found = council.consortium.case(Member, case_id(council.consortium[name].id))
    assert found is not None
    return found


def key_state(council: Council, signer: Ed25519Signer) -> str:
    return str(council.consortium.case(Key, case_id(signer.key_id)).state)


def invited(council: Council) -> Party:
    party = council.newcomer()
    assert council.carry(council.admit(party)).ok
    return party


# ----------------------------------------------------------------------------------------------------- invitation, join


def test_an_applied_admission_invites_with_the_one_time_key(council: Council) -> None:
    party = invited(council)
    found = member(council, "newcomer")
    assert found.state == MemberState.INVITED
    assert found.fields.expires == council.consortium.time + 14 * DAY
    one_time = council.consortium.case(Key, case_id(key_id_of(SuiteId.INTL, council.admit(party).one_time_key)))
    assert (one_time.fields.owner, one_time.fields.role) == (party.id, Role.NEWCOMER)
    assert one_time.fields.valid_until == found.fields.expires


def test_a_newcomer_joins_with_the_keys_that_were_voted_on(council: Council) -> None:
    party = invited(council)
    assert council.join(party).ok
    assert member(council, "newcomer").state == MemberState.ACTIVE
    assert council.consortium.register(Roster).members[-1] == party.id
    gateway = council.consortium.case(Key, case_id(party.gateway.key_id)).fields
    officer = council.consortium.case(Key, case_id(party.person(Role.OFFICER).key_id)).fields
    assert (gateway.role, gateway.exchange_key) == (Role.NODE, party.exchange.public_key)
    assert (officer.role, officer.held_by) == (Role.OFFICER, HeldBy.DEVICE)


def test_a_joined_member_acts_from_the_next_block(council: Council) -> None:
    party = invited(council)
    assert council.join(party).ok
    assert council.open("newcomer", Suspend(institution=council.consortium["clinic"].id, reason="none")).ok


def test_a_replayed_invitation_enters_no_block(council: Council) -> None:
    party = invited(council)
    assert council.join(party).ok
    one_time = one_time_key(party)
    assert key_state(council, one_time) == KeyState.ROTATED
    with pytest.raises(InvalidTransaction) as caught:
        council.join(party)
    assert caught.value.code == TransactionCode.KEY_NOT_VALID


def test_a_stolen_invitation_binds_no_other_keys(council: Council) -> None:
    party = invited(council)
    thief = Ed25519Signer.from_seed(sha256(b"thief"))
    command = council.join_command(party)
    stolen = replace(command, officer=council.key(party, thief))
    assert refused(council.join(party, stolen), Refusal.NOT_AS_VOTED)
    assert refused(council.join(party, replace(command, ca_fingerprint=sha256(b"other"))), Refusal.NOT_AS_VOTED)
    without = replace(command, gateway=replace(command.gateway, exchange_key=None))
    assert refused(council.join(party, without), Refusal.NOT_AS_VOTED)


def test_a_newcomer_accepts_the_constitution_in_force(council: Council) -> None:
    party = invited(council)
    assert refused(council.join(party, council.join_command(party, constitution=2)), Refusal.OTHER_CONSTITUTION)


def test_a_newcomer_shows_that_it_holds_its_keys(council: Council) -> None:
    party = invited(council)
    command = council.join_command(party)
    forged = replace(command, gateway=replace(command.gateway, possession=bytes(64)))
    assert refused(council.join(party, forged), Refusal.NO_POSSESSION_PROOF)


def test_a_newcomers_officer_key_stays_off_its_node(council: Council) -> None:
    party = invited(council)
    command = council.join_command(party)
    on_node = replace(command, officer=replace(command.officer, held_by=HeldBy.NODE))
    assert refused(council.join(party, on_node), Refusal.OFFICER_KEY_ON_NODE)


def test_a_full_roster_takes_nobody(council: Council) -> None:
    c = council.consortium
    party = invited(council)
    full = Roster(members=(c["centre"].id,) * MOST_MEMBERS)
    executed = c.block([])
    row = encode_register(register_key("governance", Roster.word), full)
    rows = {key_hash(register_key("governance", Roster.word)): row}
    c.state.write(replace(executed.batch, rows=rows))
    assert refused(council.join(party), Refusal.TOO_MANY_MEMBERS)


def test_an_invitation_lapses(council: Council) -> None:
    c = council.consortium
    party = invited(council)
    assert refused_by_kernel(c.act(c["centre"], MemberExpire(), case_id(party.id)), KernelRefusal.TOO_EARLY)
    c.advance(14 * DAY)
    with pytest.raises(InvalidTransaction):
        council.join(party)
    assert c.act(c["centre"], MemberExpire(), case_id(party.id)).ok
    assert member(council, "newcomer").state == MemberState.LAPSED


def test_an_institution_on_record_is_not_admitted_again(council: Council) -> None:
    party = invited(council)
    assert refused(council.open("centre", council.admit(party)), Refusal.ALREADY_MEMBER)


def test_an_admission_names_a_member_or_the_newcomer_as_operator(council: Council) -> None:
    party = council.newcomer()
    action = council.admit(party)
    assert refused(council.open("centre", replace(action, operator=party.id[::-1])), Refusal.NOT_A_MEMBER)
    assert council.open("centre", replace(action, operator=council.consortium["hospital"].id)).ok


@pytest.mark.parametrize(
    ("suite", "refusal"),
    [(0, Refusal.SUITE_NOT_ALLOWED), (2, Refusal.SUITE_NOT_ALLOWED)],
)
def test_an_admission_in_a_foreign_suite_is_refused(council: Council, suite: int, refusal: Refusal) -> None:
    action = replace(council.admit(council.newcomer()), suite=suite)
    assert refused(council.open("centre", action), refusal)


def test_a_one_time_key_is_neither_weak_nor_used(council: Council) -> None:
    action = council.admit(council.newcomer())
    weak = replace(action, one_time_key=public_key(bytes(32)))
    assert refused(council.open("centre", weak), Refusal.WEAK_KEY)
    used = replace(action, one_time_key=council.consortium["centre"].gateway.public_key)
    assert refused(council.open("centre", used), Refusal.KEY_REUSED)


def test_a_suite_leaves_the_chain_by_vote(council: Council) -> None:
    assert council.carry(ParameterChange(name=SUITES, number=0, words=("gm",))).ok
    assert refused(council.open("centre", council.admit(council.newcomer())), Refusal.SUITE_NOT_ALLOWED)


# ----------------------------------------------------------------------------------------------------- newcomer's vote


def test_a_newcomer_counts_only_in_proposals_opened_thirty_days_after_it_joined(council: Council) -> None:
    c = council.consortium
    party = invited(council)
    assert council.join(party).ok
    joined = c.time
    assert member(council, "newcomer").fields.votes_from == joined + 30 * DAY
    c.advance(30 * DAY - 2)
    early = council.open("centre", Suspend(institution=c["clinic"].id, reason="early"))
    assert party.id not in c.case(Proposal, early.case_id).fields.electorate
    late = council.open("centre", Suspend(institution=c["clinic"].id, reason="late"))
    assert party.id in c.case(Proposal, late.case_id).fields.electorate
    assert refused(council.vote("newcomer", early.case_id, Choice.NO), Refusal.NO_VOTE_HERE)
    assert council.vote("newcomer", late.case_id, Choice.NO).ok


# ------------------------------------------------------------------------------------- suspension, removal, leave


def test_a_suspended_member_is_reinstated_by_more_than_half(council: Council) -> None:
    clinic = council.consortium["clinic"].id
    voters = ("centre", "second", "township", "hospital", "laboratory")
    assert council.carry(Suspend(institution=clinic, reason="incident"), voters).ok
    assert member(council, "clinic").state == MemberState.SUSPENDED
    assert council.carry(Reinstate(institution=clinic, reason="repaired"), voters[:4]).ok
    assert member(council, "clinic").state == MemberState.ACTIVE


def test_a_reinstated_member_that_was_leaving_announces_again(council: Council) -> None:
    c = council.consortium
    _announce(council, "clinic", unix_millis(c.time + 300 * DAY))
    voters = ("centre", "second", "township", "hospital", "laboratory")
    assert council.carry(Suspend(institution=c["clinic"].id, reason="incident"), voters).ok
    assert council.carry(Reinstate(institution=c["clinic"].id, reason="repaired"), voters[:4]).ok
    assert member(council, "clinic").state == MemberState.ACTIVE
    assert member(council, "clinic").fields.leaves_on == 0


def test_a_removed_members_gateway_is_no_longer_heard(council: Council) -> None:
    c = council.consortium
    assert council.carry(Remove(institution=c["regulator"].id, reason="closed")).ok
    with pytest.raises(InvalidTransaction) as caught:
        council.open("regulator", Suspend(institution=c["clinic"].id, reason="none"))
    assert caught.value.code == TransactionCode.KEY_NOT_VALID


def test_nobody_removes_a_member_but_a_vote(council: Council) -> None:
    c = council.consortium
    answer = c.act(c["centre"], MemberRemove(), case_id(c["clinic"].id))
    assert refused_by_kernel(answer, KernelRefusal.NOT_PERMITTED)


def test_a_leaving_member_acts_until_its_date_and_then_leaves(council: Council) -> None:
    c = council.consortium
    _announce(council, "clinic", unix_millis(c.time + 10 * DAY))
    assert council.open("clinic", Suspend(institution=c["centre"].id, reason="none")).ok
    leave = c.act(c["clinic"], MemberLeave(), case_id(c["clinic"].id), persons=[Role.OFFICER])
    assert refused_by_kernel(leave, KernelRefusal.TOO_EARLY)
    c.advance(10 * DAY)
    assert c.act(c["clinic"], MemberLeave(), case_id(c["clinic"].id), persons=[Role.OFFICER]).ok
    assert member(council, "clinic").state == MemberState.LEFT


def test_any_node_says_that_an_announced_date_has_passed(council: Council) -> None:
    c = council.consortium
    _announce(council, "clinic", unix_millis(c.time + 10 * DAY))
    c.advance(11 * DAY)
    assert c.act(c["hospital"], MemberLeave(), case_id(c["clinic"].id)).ok
    proposal = council.open("centre", Suspend(institution=c["second"].id, reason="none"))
    assert c["clinic"].id not in c.case(Proposal, proposal.case_id).fields.electorate


def test_a_leave_is_announced_for_the_future(council: Council) -> None:
    c = council.consortium
    command = MemberAnnounceLeave(leaves_on=unix_millis(c.time + 1))
    answer = c.act(c["clinic"], command, case_id(c["clinic"].id), persons=[Role.OFFICER])
    assert refused(answer, Refusal.DATE_NOT_POSSIBLE)


def test_nobody_announces_anothers_leave(council: Council) -> None:
    c = council.consortium
    command = MemberAnnounceLeave(leaves_on=unix_millis(c.time + DAY))
    answer = c.act(c["centre"], command, case_id(c["clinic"].id), persons=[Role.OFFICER])
    assert refused_by_kernel(answer, KernelRefusal.NOT_PERMITTED)


# ----------------------------------------------------------------------------------------------------------- interface


def test_the_interface_says_whose_entries_count(council: Council) -> None:
    c = council.consortium
    voters = ("centre", "second", "township", "hospital", "laboratory")
    assert council.carry(Suspend(institution=c["clinic"].id, reason="incident"), voters).ok
    assert council.carry(Remove(institution=c["regulator"].id, reason="closed"), voters).ok
    reads, stranger = c.machine.directory(), council.newcomer()
    names = ("centre", "clinic", "regulator")
    assert [interface.is_living(reads, c[name].id) for name in names] == [True, True, False]
    assert not interface.is_living(reads, stranger.id)
    assert interface.member(reads, c["regulator"].id).state == MemberState.REMOVED


def test_an_institutions_id_follows_from_its_first_ca(council: Council) -> None:
    party = council.consortium["centre"]
    assert interface.institution_id_of(party.ca_fingerprint) == party.id


def test_a_rule_change_is_named_by_its_tag(council: Council) -> None:
    row = interface.rule(_Registers(council), council.admit(council.newcomer()))
    assert interface.action_name(RuleChange(rule=row)) == "rule.change"


class _Registers:
    """Register reads of a consortium, as the interface wants them."""

    def __init__(self, council: Council) -> None:
        self.register = council.consortium.register


def _announce(council: Council, name: str, date: int) -> None:
    c = council.consortium
    command = MemberAnnounceLeave(leaves_on=unix_millis(date))
    assert c.act(c[name], command, case_id(c[name].id), persons=[Role.OFFICER]).ok

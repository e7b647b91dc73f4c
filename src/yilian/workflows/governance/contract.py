"""The steps of governance: proposals and ballots, members, keys. Each holds its own guards only."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.errors import Refused
from yilian.ledger.members import Constitution, InstitutionKind, Key, Member, Role, Roster
from yilian.ledger.workflow import Call, Consequence, Outcome, Put, Reads, step
from yilian.values import KeyId, UnixMillis, case_id, institution_id, unix_millis
from yilian.workflows.governance import interface
from yilian.workflows.governance.decisions import check_not_sequencer, check_possible, concerned, effects, outcome
from yilian.workflows.governance.keys import Bearer, as_key, check_endorsement, check_key
from yilian.workflows.governance.model import (
    NEWCOMER_WAIT,
    KeyBind,
    KeyRegister,
    KeyResume,
    KeyRevoke,
    KeyRotate,
    KeySpend,
    KeySuspend,
    MemberAnnounceLeave,
    MemberExpire,
    MemberInvite,
    MemberJoin,
    MemberLeave,
    MemberReinstate,
    MemberRemove,
    MemberSuspend,
    NewKey,
    ProposalApply,
    ProposalExpire,
    ProposalOpen,
    ProposalState,
    ProposalVoid,
    ProposalVote,
    ProposalWithdraw,
    Refusal,
    key_case_id,
)
from yilian.workflows.governance.records import (
    Action,
    Ballot,
    Choice,
    Invitation,
    LastProposal,
    Proposal,
    Tally,
)

MOST_MEMBERS = 1024

# ----------------------------------------------------------------------------------------------------------- proposals


@step
def proposal_open(call: Call, command: ProposalOpen, reads: Reads) -> Outcome[Proposal]:
    """Put an action to the vote of those who are members now, under the rule that holds now.

    Refuses: RULE_FORBIDS_PROPOSER, ACTION_NOT_POSSIBLE and what `check_possible` refuses, EQUAL_PROPOSAL_OPEN.
    """
    action = command.action
    rule = interface.rule(reads, action)
    if rule is None:
        raise Refused(
            Refusal.ACTION_NOT_POSSIBLE,
            f"the constitution has no rule for {interface.action_name(action)}: propose what it knows",
        )
    if rule.proposers and call.kind not in rule.proposers:
        raise Refused(
            Refusal.RULE_FORBIDS_PROPOSER,
            f"a {call.kind} proposes {rule.action}, expected {', '.join(rule.proposers)}: ask one of them",
        )
    check_possible(action, reads)
    _check_no_equal(call, action, reads)
    case = Proposal(
        proposer=call.institution,
        action=action,
        electorate=interface.electorate(reads, call.time),
        numerator=rule.numerator,
        denominator=rule.denominator,
        strict=rule.strict,
        delay=rule.delay,
        closes=unix_millis(call.time + rule.voting_period),
        applies=unix_millis(0),
    )
    return Outcome(
        case,
        registers=(
            Put(key=(interface.action_digest(action),), value=LastProposal(proposal=call.case_id)),
            Put(key=(call.case_id,), value=Tally(yes=0, no=0, abstained=0)),
        ),
    )


@step
def proposal_vote(call: Call, command: ProposalVote, case: Proposal, reads: Reads) -> Outcome[Proposal]:
    """Count a member's ballot, in place of its earlier one, and decide as soon as the ballots decide.

    Refuses: NO_VOTE_HERE.
    """
    voter = call.institution
    if voter not in case.electorate or voter == concerned(case.action):
        raise Refused(
            Refusal.NO_VOTE_HERE,
            f"{voter.hex()} votes, expected one of the electorate of {call.case_id.hex()} that it does not concern: "
            "leave it to them",
        )
    before = reads.register(Ballot, call.case_id, voter)
    tally = reads.register(Tally, call.case_id) or Tally(yes=0, no=0, abstained=0)
    if before is not None:
        tally = _count(tally, before.choice, -1)
    tally = _count(tally, command.choice, 1)
    ballot = Ballot(choice=command.choice, key_id=call.persons[0].key_id, operator=call.operator, time=call.time)
    decided = outcome(case, tally)
    if decided == ProposalState.APPROVED:
        case = replace(case, applies=unix_millis(call.time + case.delay))
    return Outcome(
        case,
        to=decided,
        registers=(
            Put(key=(call.case_id, voter), value=ballot),
            Put(key=(call.case_id,), value=tally),
        ),
    )


@step
def proposal_withdraw(call: Call, command: ProposalWithdraw, case: Proposal, reads: Reads) -> Outcome[Proposal]:
    """Take the proposal back."""
    return Outcome(case)


@step
def proposal_expire(call: Call, command: ProposalExpire, case: Proposal, reads: Reads) -> Outcome[Proposal]:
    """Make visible that the voting period ended undecided."""
    return Outcome(case)


@step
def proposal_apply(call: Call, command: ProposalApply, case: Proposal, reads: Reads) -> Outcome[Proposal]:
    """Carry out the approved action; the kernel goes by it from the next block.

    Refuses: what `check_possible` refuses; then `proposal.void` remains.
    """
    check_possible(case.action, reads)
    done = effects(case.action, call, reads)
    return Outcome(case, registers=done.registers, consequences=done.consequences)


@step
def proposal_void(call: Call, command: ProposalVoid, case: Proposal, reads: Reads) -> Outcome[Proposal]:
    """Close a proposal whose action has become impossible.

    Refuses: STILL_POSSIBLE.
    """
    try:
        check_possible(case.action, reads)
    except Refused:
        return Outcome(case)
    raise Refused(
        Refusal.STILL_POSSIBLE,
        f"{call.case_id.hex()} can still be applied, expected a lost precondition: apply it from {case.applies}",
    )


# ------------------------------------------------------------------------------------------------------------- members


@step
def member_invite(call: Call, command: MemberInvite, reads: Reads) -> Outcome[Member]:
    """Register an institution as voted; it is a member once it joins."""
    return Outcome(
        command.member,
        registers=(Put(key=(call.case_id,), value=Invitation(key_id=command.one_time_key)),),
    )


@step
def member_join(call: Call, command: MemberJoin, case: Member, reads: Reads) -> Outcome[Member]:
    """Make the newcomer a member: bind its keys, spend its one-time key, add it to the roster.

    Refuses: NOT_AS_VOTED, OTHER_CONSTITUTION, TOO_MANY_MEMBERS, and what `check_key` refuses.
    """
    _check_as_voted(command, case)
    constitution = reads.register(Constitution)
    if constitution is None or command.constitution != constitution.version:
        raise Refused(
            Refusal.OTHER_CONSTITUTION,
            f"version {command.constitution} is accepted, another one holds now: read the constitution, then accept it",
        )
    roster = reads.register(Roster) or Roster(members=())
    if len(roster.members) >= MOST_MEMBERS:
        raise Refused(
            Refusal.TOO_MANY_MEMBERS, f"the roster is full, expected fewer than {MOST_MEMBERS}: join as a hosted site"
        )
    owner = call.institution
    gateway, officer = Bearer(owner, case.kind, Role.NODE), Bearer(owner, case.kind, Role.OFFICER)
    check_key(call, command.gateway, gateway, reads)
    check_key(call, command.officer, officer, reads)
    invitation = reads.register(Invitation, call.case_id)
    spent = () if invitation is None else (_spend(invitation.key_id),)
    return Outcome(
        replace(case, votes_from=unix_millis(call.time + reads.number(NEWCOMER_WAIT))),
        registers=(Put(key=(), value=Roster(members=(*roster.members, owner))),),
        consequences=(_bind(command.gateway, gateway), _bind(command.officer, officer), *spent),
    )


@step
def member_expire(call: Call, command: MemberExpire, case: Member, reads: Reads) -> Outcome[Member]:
    """Make visible that an invitation was not taken up in time."""
    return Outcome(case)


@step
def member_suspend(call: Call, command: MemberSuspend, case: Member, reads: Reads) -> Outcome[Member]:
    """Suspend, as voted."""
    return Outcome(case)


@step
def member_reinstate(call: Call, command: MemberReinstate, case: Member, reads: Reads) -> Outcome[Member]:
    """Reinstate, as voted; one that was LEAVING announces again."""
    return Outcome(replace(case, leaves_on=unix_millis(0)))


@step
def member_remove(call: Call, command: MemberRemove, case: Member, reads: Reads) -> Outcome[Member]:
    """Remove, as voted."""
    return Outcome(case)


@step
def member_announce_leave(call: Call, command: MemberAnnounceLeave, case: Member, reads: Reads) -> Outcome[Member]:
    """Announce a leave; until the date the member acts like any other.

    Refuses: DATE_NOT_POSSIBLE.
    """
    if command.leaves_on <= call.time:
        raise Refused(
            Refusal.DATE_NOT_POSSIBLE,
            f"leaves_on is {command.leaves_on}, the block is at {call.time}: choose a later time",
        )
    return Outcome(replace(case, leaves_on=command.leaves_on))


@step
def member_leave(call: Call, command: MemberLeave, case: Member, reads: Reads) -> Outcome[Member]:
    """Leave, the announced time being past.

    Refuses: STILL_SEQUENCER.
    """
    check_not_sequencer(institution_id(call.case_id), reads)
    return Outcome(case)


# ---------------------------------------------------------------------------------------------------------------- keys


@step
def key_register(call: Call, command: KeyRegister, reads: Reads) -> Outcome[Key]:
    """Register a key of the acting member. Refuses: what `check_key` refuses."""
    bearer = Bearer(call.institution, call.kind, command.role)
    check_key(call, command.key, bearer, reads)
    return Outcome(as_key(command.key, bearer))


@step
def key_bind(call: Call, command: KeyBind, reads: Reads) -> Outcome[Key]:
    """Register a key that the calling step has checked."""
    return Outcome(command.key)


@step
def key_rotate(call: Call, command: KeyRotate, case: Key, reads: Reads) -> Outcome[Key]:
    """Let a new key of the same owner and role follow; a gateway pair as one.

    Refuses: what `check_key` refuses; NO_POSSESSION_PROOF for an endorsement that does not hold.
    """
    new = command.key if command.key.licence is not None else replace(command.key, licence=case.licence)
    bearer = Bearer(case.owner, call.kind, case.role)
    check_key(call, new, bearer, reads)
    if command.endorsement is not None:
        check_endorsement(call, new, case, command.endorsement)
    return Outcome(case, consequences=(_bind(new, bearer),))


@step
def key_spend(call: Call, command: KeySpend, case: Key, reads: Reads) -> Outcome[Key]:
    """Use up a one-time key."""
    return Outcome(case)


@step
def key_suspend(call: Call, command: KeySuspend, case: Key, reads: Reads) -> Outcome[Key]:
    """Stop a key for a while."""
    return Outcome(case)


@step
def key_resume(call: Call, command: KeyResume, case: Key, reads: Reads) -> Outcome[Key]:
    """Let a suspended key sign again."""
    return Outcome(case)


@step
def key_revoke(call: Call, command: KeyRevoke, case: Key, reads: Reads) -> Outcome[Key]:
    """Stop a key for good: by its owner's officer, its holder, or a regulator's inspector with a second officer.

    Refuses: MAY_NOT_REVOKE, DATE_NOT_POSSIBLE.
    """
    first = call.persons[0]
    own = first.role == Role.OFFICER or case_id(first.key_id) == call.case_id
    if not own and (len(call.persons) == 1 or call.kind != InstitutionKind.REGULATOR):
        raise Refused(
            Refusal.MAY_NOT_REVOKE,
            f"{first.role} of a {call.kind} revokes, expected the owner's officer, the holder, or a regulator's "
            "inspector with a second officer: ask one of them",
        )
    if command.compromised_since > call.time:
        raise Refused(
            Refusal.DATE_NOT_POSSIBLE,
            f"compromised_since is {command.compromised_since}, the block is at {call.time}: name an earlier time",
        )
    return Outcome(replace(case, compromised_since=command.compromised_since))


# ------------------------------------------------------------------------------------------------------------- helpers


def _check_no_equal(call: Call, action: Action, reads: Reads) -> None:
    last = reads.register(LastProposal, interface.action_digest(action))
    found = reads.case(Proposal, last.proposal) if last is not None else None
    if found is not None and _is_pending(found.state, found.fields, call.time):
        raise Refused(
            Refusal.EQUAL_PROPOSAL_OPEN,
            f"{found.header.id.hex()} proposes the same and is {found.state}, expected no equal one: vote on that",
        )


def _is_pending(state: str, proposal: Proposal, time: UnixMillis) -> bool:
    return state == ProposalState.APPROVED or (state == ProposalState.OPEN and time <= proposal.closes)


def _count(tally: Tally, choice: Choice, by: int) -> Tally:
    match choice:
        case Choice.YES:
            return replace(tally, yes=tally.yes + by)
        case Choice.NO:
            return replace(tally, no=tally.no + by)
        case Choice.ABSTAIN:  # pragma: no branch - the last choice
            return replace(tally, abstained=tally.abstained + by)


def _check_as_voted(command: MemberJoin, case: Member) -> None:
    exchange = command.gateway.exchange_key
    same_keys = exchange is not None and case.keys_digest == interface.keys_digest(
        command.gateway.public_key, exchange, command.officer.public_key
    )
    if command.ca_fingerprint != case.ca_fingerprint or not same_keys:
        raise Refused(
            Refusal.NOT_AS_VOTED,
            f"CA {command.ca_fingerprint.hex()} or the keys differ from those voted on (CA "
            f"{case.ca_fingerprint.hex()}, keys {case.keys_digest.hex()}): join with the keys of your request",
        )


def _bind(new: NewKey, bearer: Bearer) -> Consequence:
    return Consequence(case_id=key_case_id(new.suite, new.public_key), command=KeyBind(key=as_key(new, bearer)))


def _spend(key: KeyId) -> Consequence:
    return Consequence(case_id=case_id(key), command=KeySpend())

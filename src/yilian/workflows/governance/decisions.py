"""What an action needs, when a proposal is decided, and what an approved action does.

Pure; the steps in `contract.py` are built from it.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from yilian.crypto.suite import SuiteId, is_weak
from yilian.errors import Refused
from yilian.ledger.cases import Command
from yilian.ledger.members import (
    LIVING,
    Constitution,
    HeldBy,
    Key,
    Member,
    MemberState,
    Parameter,
    Parameters,
    Role,
    Rule,
)
from yilian.ledger.workflow import Call, Consequence, Put, Reads
from yilian.values import DAY, InstitutionId, case_id, key_id, unix_millis
from yilian.workflows.governance import interface
from yilian.workflows.governance.interface import ACTING
from yilian.workflows.governance.model import (
    INVITATION_PERIOD,
    SUITES,
    WITNESSES,
    KeyBind,
    MemberInvite,
    MemberReinstate,
    MemberRemove,
    MemberSuspend,
    ProposalState,
    Refusal,
    key_case_id,
)
from yilian.workflows.governance.records import (
    LATER_ACTIONS,
    MEMBER_ACTIONS,
    TWO_THIRDS_ACTIONS,
    Action,
    Admit,
    ParameterChange,
    Proposal,
    Reinstate,
    Remove,
    RuleChange,
    Sequencer,
    SequencerReplace,
    Suspend,
    Tally,
    WitnessPolicyChange,
)

LONGEST_PERIOD = 366 * DAY
"""Longest delay and voting period of a rule: so no time that follows from one leaves its 64 bits."""


class Effects(NamedTuple):
    """What applying an action changes."""

    registers: tuple[Put, ...] = ()
    consequences: tuple[Consequence, ...] = ()


# ----------------------------------------------------------------------------------------------------------- decisions


def concerned(action: Action) -> InstitutionId | None:
    """Give the member that has no vote on an action, since it is about it."""
    return action.institution if isinstance(action, MEMBER_ACTIONS) else None


def outcome(case: Proposal, tally: Tally) -> ProposalState:
    """Say what the ballots cast so far make of a proposal.

    REJECTED as soon as the quorum is out of reach even if all that are silent said yes.
    """
    blocked = int(concerned(case.action) in case.electorate)
    silent = len(case.electorate) - blocked - tally.yes - tally.no - tally.abstained
    if _reached(case, tally.yes):
        return ProposalState.APPROVED
    return ProposalState.OPEN if _reached(case, tally.yes + silent) else ProposalState.REJECTED


def _reached(case: Proposal, yes: int) -> bool:
    left, right = yes * case.denominator, case.numerator * len(case.electorate)
    return left > right or (left == right and not case.strict and yes > 0)


# ------------------------------------------------------------------------------------------------------- preconditions


def check_possible(action: Action, reads: Reads) -> None:
    """Refuse an action that the consortium, as it stands now, does not allow.

    Refuses: NOT_A_MEMBER, ALREADY_MEMBER, KEY_REUSED, WEAK_KEY, SUITE_NOT_ALLOWED, QUORUM_TOO_LOW,
        ACTION_NOT_POSSIBLE, TOO_FEW_OPERATORS, STILL_SEQUENCER.
    """
    match action:
        case Admit():
            _check_admission(action, reads)
        case Suspend():
            _check_state(reads, action.institution, ACTING)
        case Reinstate():
            _check_state(reads, action.institution, (MemberState.SUSPENDED,))
        case Remove():
            _check_state(reads, action.institution, LIVING)
            check_not_sequencer(action.institution, reads)
        case ParameterChange():
            _check_parameter(action, reads)
        case RuleChange():
            _check_rule(action.rule, reads)
        case SequencerReplace():
            _check_replacement(action, reads)
        case WitnessPolicyChange():  # pragma: no branch - the last action
            _check_witnesses(action.needed, interface.sequencer(reads), reads)


def _check_admission(action: Admit, reads: Reads) -> None:
    newcomer = interface.institution_id_of(action.ca_fingerprint)
    known = reads.case(Member, case_id(newcomer))
    if known is not None:
        raise Refused(
            Refusal.ALREADY_MEMBER,
            f"{newcomer.hex()} is {known.state} here, expected an unknown institution: invite it with a CA of its own",
        )
    if action.operator != newcomer:
        _check_state(reads, action.operator, ACTING)
    check_suite(action.suite, reads)
    if is_weak(SuiteId(action.suite), action.one_time_key):
        raise Refused(
            Refusal.WEAK_KEY,
            f"one-time key {action.one_time_key.hex()} is weak, expected a key of the prime-order group: draw another",
        )
    one_time = key_case_id(action.suite, action.one_time_key)
    if reads.case(Key, one_time) is not None:
        raise Refused(
            Refusal.KEY_REUSED, f"key {one_time.hex()} is registered already, expected a fresh one: draw another"
        )


def _check_parameter(action: ParameterChange, reads: Reads) -> None:
    spec = interface.parameter(reads, action.name)
    if spec is None:
        _impossible(f"parameter {action.name} is unknown, expected one of this chain: correct its name")
    elif spec.name == WITNESSES:
        _impossible(f"{spec.name} is changed by witness_policy.change alone: propose that")
    elif spec.is_list and (action.number != 0 or not (action.words or spec.may_be_empty)):
        _impossible(f"{action.name} takes words, {len(action.words)} came: send number 0 and at least one word")
    elif not spec.is_list and (action.words or not spec.least <= action.number <= spec.most):
        _impossible(
            f"{action.name} came as {action.number} with {len(action.words)} words, expected a number from "
            f"{spec.least} to {spec.most}: choose one between"
        )


def _check_rule(rule: Rule, reads: Reads) -> None:
    constitution = reads.register(Constitution)
    known = () if constitution is None else tuple(row.action for row in constitution.rules)
    if rule.action not in known and rule.action not in LATER_ACTIONS:
        _impossible(f"the constitution has no rule for {rule.action}, expected one to replace: correct its name")
    if rule.numerator > rule.denominator or (rule.strict and rule.numerator == rule.denominator):
        _impossible(f"quorum {rule.numerator}/{rule.denominator} can never be reached: ask for all members at most")
    if rule.delay > LONGEST_PERIOD or not 0 < rule.voting_period <= LONGEST_PERIOD:
        _impossible(
            f"delay {rule.delay} ms and voting period {rule.voting_period} ms came, expected at most {LONGEST_PERIOD}, "
            "and time to vote: choose between"
        )
    if rule.action in TWO_THIRDS_ACTIONS and 3 * rule.numerator < 2 * rule.denominator:
        raise Refused(
            Refusal.QUORUM_TOO_LOW,
            f"quorum {rule.numerator}/{rule.denominator} for {rule.action}, expected 2/3 or more: "
            "fewer must never change the rules or remove a member",
        )


def _check_replacement(action: SequencerReplace, reads: Reads) -> None:
    _check_state(reads, action.institution, (MemberState.ACTIVE,))
    if action.institution == interface.sequencer(reads):
        _impossible(f"{action.institution.hex()} is the sequencer already, expected another member: propose another")
    _check_witnesses(reads.number(WITNESSES), action.institution, reads)


def _check_witnesses(needed: int, sequencer: InstitutionId, reads: Reads) -> None:
    there = len(interface.operators(reads, sequencer))
    if needed > there:
        raise Refused(
            Refusal.TOO_FEW_OPERATORS,
            f"{needed} operators would have to cosign, {there} act besides that of the sequencer "
            f"{sequencer.hex()}: ask for {there} at most",
        )


def check_not_sequencer(institution: InstitutionId, reads: Reads) -> None:
    """Refuse to part with the member that orders the operations. Refuses: STILL_SEQUENCER."""
    if institution == interface.sequencer(reads):
        raise Refused(
            Refusal.STILL_SEQUENCER,
            f"{institution.hex()} orders the operations, expected another member: carry sequencer.replace first",
        )


def check_suite(suite: int, reads: Reads) -> None:
    """Refuse a suite that this chain does not allow. Refuses: SUITE_NOT_ALLOWED."""
    allowed = reads.words(SUITES)
    if not any(known == suite and known.name.lower() in allowed for known in SuiteId):
        raise Refused(
            Refusal.SUITE_NOT_ALLOWED, f"suite {suite} came, expected one of {', '.join(allowed)}: use a key of that"
        )


def _check_state(reads: Reads, institution: InstitutionId, states: tuple[MemberState, ...]) -> None:
    found = reads.case(Member, case_id(institution))
    if found is None or found.state in {MemberState.INVITED, MemberState.LAPSED}:
        raise Refused(
            Refusal.NOT_A_MEMBER, f"{institution.hex()} never joined, expected a member: correct the institution's id"
        )
    if MemberState(found.state) not in states:
        _impossible(
            f"{institution.hex()} is {found.state}, expected {' or '.join(states)}: propose what fits its state"
        )


def _impossible(message: str) -> None:
    raise Refused(Refusal.ACTION_NOT_POSSIBLE, message)


# ------------------------------------------------------------------------------------------------------------- effects


def effects(action: Action, call: Call, reads: Reads) -> Effects:  # noqa: PLR0911 - one return an action
    """Give what an approved action changes; `check_possible` has passed."""
    match action:
        case Admit():
            return _admit(action, call, reads)
        case Suspend():
            return _tell(action.institution, MemberSuspend())
        case Reinstate():
            return _tell(action.institution, MemberReinstate())
        case Remove():
            return _tell(action.institution, MemberRemove())
        case ParameterChange():
            return _set_parameter(Parameter(name=action.name, number=action.number, words=action.words), reads)
        case RuleChange():
            return _set_rule(action.rule, reads)
        case SequencerReplace():
            new = Sequencer(institution=action.institution, since=call.height + 1)
            return Effects(registers=(Put(key=(), value=new),))
        case WitnessPolicyChange():  # pragma: no branch - the last action
            return _set_parameter(Parameter(name=WITNESSES, number=action.needed, words=()), reads)


def _tell(institution: InstitutionId, command: Command) -> Effects:
    return Effects(consequences=(Consequence(case_id=case_id(institution), command=command),))


def _admit(action: Admit, call: Call, reads: Reads) -> Effects:
    newcomer = interface.institution_id_of(action.ca_fingerprint)
    expires = unix_millis(call.time + reads.number(INVITATION_PERIOD))
    one_time = key_case_id(action.suite, action.one_time_key)
    member = Member(
        kind=action.kind,
        operator=action.operator,
        name=action.name,
        legal_name=action.legal_name,
        district=action.district,
        grade=action.grade,
        ca_fingerprint=action.ca_fingerprint,
        keys_digest=action.keys_digest,
        votes_from=unix_millis(0),
        expires=expires,
        leaves_on=unix_millis(0),
    )
    key = Key(
        owner=newcomer,
        role=Role.NEWCOMER,
        suite=action.suite,
        public_key=action.one_time_key,
        exchange_key=None,
        held_by=HeldBy.NODE,
        licence=None,
        valid_from=call.time,
        valid_until=expires,
        compromised_since=unix_millis(0),
    )
    invite = MemberInvite(member=member, one_time_key=key_id(one_time))
    return Effects(
        consequences=(
            Consequence(case_id=case_id(newcomer), command=invite),
            Consequence(case_id=one_time, command=KeyBind(key=key)),
        )
    )


def _set_parameter(new: Parameter, reads: Reads) -> Effects:
    before = reads.register(Parameters)
    others = tuple(item for item in before.items if item.name != new.name) if before is not None else ()
    items = tuple(sorted((*others, new), key=lambda item: item.name))
    return Effects(registers=(Put(key=(), value=Parameters(items=items)),))


def _set_rule(rule: Rule, reads: Reads) -> Effects:
    constitution = reads.register(Constitution) or Constitution(version=0, rules=())
    others = (row for row in constitution.rules if row.action != rule.action)
    rules = tuple(sorted((*others, rule), key=lambda row: row.action))
    changed = replace(constitution, version=constitution.version + 1, rules=rules)
    return Effects(registers=(Put(key=(), value=changed),))

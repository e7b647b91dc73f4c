"""Commands, tables, refusals and parameters of governance.

Members and keys are typed in `ledger.members`, proposals in `records.py`.

Pure: every node computes the same from it. Numbers of refusals and shapes of structs are ledger format.
"""

from __future__ import annotations

from enum import StrEnum

from yilian.crypto.suite import SuiteId, key_id_of
from yilian.ledger.cases import Command, Part
from yilian.ledger.members import HeldBy, Key, KeyState, Member, MemberState, Role
from yilian.ledger.workflow import (
    ANY,
    SELF,
    Alternative,
    Call,
    ParameterSpec,
    RefusalCode,
    Signer,
    Who,
    anyone,
    both,
    moves,
    opens,
    person,
    workflow,
)
from yilian.values import DAY, MINUTE, CaseId, Digest, KeyId, Natural, PublicKey, Signature, UnixMillis, Word
from yilian.values import case_id as as_case_id
from yilian.workflows.governance.records import Action, Choice

SELF_POSITION = "@case"
"""Position of the institution whose id is the id of the case: the member itself."""

NEWCOMER_WAIT = "governance.newcomer_wait"
KEY_VALIDITY = "governance.key_validity"
INVITATION_PERIOD = "governance.invitation_period"
OFFICER_KEY_ON_NODE = "governance.officer_key_on_node"
SUITES = "governance.suites"
WITNESSES = "governance.witnesses"

PARAMETERS = (
    ParameterSpec(name=INVITATION_PERIOD, number=14 * DAY, least=MINUTE, most=366 * DAY, guarded=True),
    ParameterSpec(name=KEY_VALIDITY, number=3 * 366 * DAY, least=DAY, most=20 * 366 * DAY, guarded=True),
    ParameterSpec(name=NEWCOMER_WAIT, number=30 * DAY, least=0, most=366 * DAY, guarded=True),
    ParameterSpec(name=OFFICER_KEY_ON_NODE, number=0, least=0, most=1, guarded=True),
    ParameterSpec(name=SUITES, words=("intl",), guarded=True),
    ParameterSpec(name=WITNESSES, number=0, least=0, most=64, guarded=True),
)
"""Milliseconds, but for the last three: 0 or 1, names of suites in lower case, a number of operators."""


class ProposalState(StrEnum):
    """States of a proposal."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    APPLIED = "applied"
    VOID = "void"


class Refusal(RefusalCode):
    """Why governance says no."""

    NOT_A_MEMBER = 1
    ALREADY_MEMBER = 2
    NO_VOTE_HERE = 3
    RULE_FORBIDS_PROPOSER = 4
    KEY_REUSED = 5
    WEAK_KEY = 6
    SUITE_NOT_ALLOWED = 7
    ROLE_NOT_FOR_KIND = 8
    OFFICER_KEY_ON_NODE = 9
    NO_POSSESSION_PROOF = 10
    NOT_AS_VOTED = 11
    QUORUM_TOO_LOW = 12
    ACTION_NOT_POSSIBLE = 13
    EQUAL_PROPOSAL_OPEN = 14
    STILL_POSSIBLE = 15
    OTHER_CONSTITUTION = 16
    LICENCE_MISSING = 17
    VALIDITY_OUT_OF_LIMIT = 18
    EXCHANGE_KEY_MISPLACED = 19
    DATE_NOT_POSSIBLE = 20
    MAY_NOT_REVOKE = 21
    TOO_MANY_MEMBERS = 22
    TOO_FEW_OPERATORS = 23
    STILL_SEQUENCER = 24


class ProposalOpen(Command, frozen=True, kw_only=True):
    """Ask the members to decide an action."""

    action: Action


class ProposalVote(Command, frozen=True, kw_only=True):
    """Cast a ballot; it replaces the member's earlier one as long as nothing is decided."""

    choice: Choice


class ProposalWithdraw(Command, frozen=True, kw_only=True):
    """Take a proposal back."""


class ProposalExpire(Command, frozen=True, kw_only=True):
    """Say that the voting period of a proposal is over."""


class ProposalApply(Command, frozen=True, kw_only=True):
    """Carry out what was approved, once its delay is over."""


class ProposalVoid(Command, frozen=True, kw_only=True):
    """Say that what was approved has become impossible."""


class MemberInvite(Command, frozen=True, kw_only=True):
    """Register an institution that was voted in, with its one-time key."""

    member: Member
    one_time_key: KeyId


class NewKey(Part, frozen=True, kw_only=True):
    """A public key that a member asks to register, with proof that its private half is there."""

    suite: Natural
    public_key: PublicKey
    exchange_key: PublicKey | None
    """X25519 half; for gateway keys (role NODE), and for them only."""
    held_by: HeldBy
    licence: Digest | None
    """Commitment of the licence; must be there for physicians and pharmacists."""
    valid_from: UnixMillis
    valid_until: UnixMillis
    possession: Signature
    """By this key over `interface.possession_message`."""


class MemberJoin(Command, frozen=True, kw_only=True):
    """Take up an invitation: bind the CA and the keys that were voted on."""

    ca_fingerprint: Digest
    gateway: NewKey
    officer: NewKey
    constitution: Natural
    """Version of the constitution that the newcomer accepts."""


class MemberExpire(Command, frozen=True, kw_only=True):
    """Say that an invitation has lapsed."""


class MemberSuspend(Command, frozen=True, kw_only=True):
    """Suspend a member, as voted."""


class MemberReinstate(Command, frozen=True, kw_only=True):
    """Reinstate a member, as voted."""


class MemberRemove(Command, frozen=True, kw_only=True):
    """Remove a member, as voted."""


class MemberAnnounceLeave(Command, frozen=True, kw_only=True):
    """Announce from when the member will be gone."""

    leaves_on: UnixMillis


class MemberLeave(Command, frozen=True, kw_only=True):
    """Leave, once the announced time is past."""


class KeyRegister(Command, frozen=True, kw_only=True):
    """Register a key of the acting member: a person's, a device's, another gateway pair."""

    role: Role
    key: NewKey


class KeyBind(Command, frozen=True, kw_only=True):
    """Register a key that another step of governance has judged."""

    key: Key


class KeyRotate(Command, frozen=True, kw_only=True):
    """Replace a key by a new one of the same owner and role."""

    key: NewKey
    """Its `licence` None: the old key's licence goes on."""
    endorsement: Signature | None
    """By the old key over the same message, where it is at hand."""


class KeySpend(Command, frozen=True, kw_only=True):
    """Use up a one-time key."""


class KeySuspend(Command, frozen=True, kw_only=True):
    """Stop a key for a while."""


class KeyResume(Command, frozen=True, kw_only=True):
    """Let a suspended key sign again."""


class KeyRevoke(Command, frozen=True, kw_only=True):
    """Stop a key for good."""

    reason: Word
    compromised_since: UnixMillis
    """Information, 0 where unknown: what was valid at its block stays valid and is marked."""


_MEMBER_OFFICER = person(ANY, Role.OFFICER)
_OWNER = person("owner", Role.OFFICER)
_HOLDER_ROLES = tuple(role for role in Role if role not in {Role.NODE, Role.NEWCOMER, Role.PATIENT, Role.OFFICER})
_NEWCOMER = Who(
    alternatives=(Alternative(kind="node", signers=(Signer(position=SELF_POSITION, roles=(Role.NEWCOMER,)),)),)
)

PROPOSAL_ROWS = (
    opens("proposal.open", ProposalOpen, ProposalState.OPEN, who=_MEMBER_OFFICER),
    moves(
        "proposal.vote",
        ProposalVote,
        ProposalState.OPEN,
        (ProposalState.OPEN, ProposalState.APPROVED, ProposalState.REJECTED),
        who=_MEMBER_OFFICER,
        before="closes",
        while_suspended=True,
        any_version=True,
    ),
    moves(
        "proposal.withdraw",
        ProposalWithdraw,
        ProposalState.OPEN,
        ProposalState.WITHDRAWN,
        who=person("proposer", Role.OFFICER),
    ),
    moves(
        "proposal.expire",
        ProposalExpire,
        ProposalState.OPEN,
        ProposalState.EXPIRED,
        who=anyone(),
        after="closes",
        any_version=True,
    ),
    moves(
        "proposal.apply", ProposalApply, ProposalState.APPROVED, ProposalState.APPLIED, who=anyone(), after="applies"
    ),
    moves("proposal.void", ProposalVoid, ProposalState.APPROVED, ProposalState.VOID, who=anyone()),
)

_ACTING = (MemberState.ACTIVE, MemberState.LEAVING)

MEMBER_ROWS = (
    opens("member.invite", MemberInvite, MemberState.INVITED, who=workflow(SELF)),
    moves("member.join", MemberJoin, MemberState.INVITED, MemberState.ACTIVE, who=_NEWCOMER, before="expires"),
    moves(
        "member.expire",
        MemberExpire,
        MemberState.INVITED,
        MemberState.LAPSED,
        who=anyone(),
        after="expires",
        any_version=True,
    ),
    moves("member.suspend", MemberSuspend, _ACTING, MemberState.SUSPENDED, who=workflow(SELF)),
    moves("member.reinstate", MemberReinstate, MemberState.SUSPENDED, MemberState.ACTIVE, who=workflow(SELF)),
    moves("member.remove", MemberRemove, (*_ACTING, MemberState.SUSPENDED), MemberState.REMOVED, who=workflow(SELF)),
    moves(
        "member.announce_leave",
        MemberAnnounceLeave,
        MemberState.ACTIVE,
        MemberState.LEAVING,
        who=person(SELF_POSITION, Role.OFFICER),
    ),
    moves(
        "member.leave",
        MemberLeave,
        MemberState.LEAVING,
        MemberState.LEFT,
        who=person(SELF_POSITION, Role.OFFICER) | anyone(),
        after="leaves_on",
    ),
)


def _registered(_call: Call, command: KeyRegister) -> CaseId:
    return key_case_id(command.key.suite, command.key.public_key)


def key_case_id(suite: int, public_key: PublicKey) -> CaseId:
    """Give the case id of a key: its key id; the contract refuses suites that the chain does not allow."""
    known = SuiteId(suite) if suite in tuple(SuiteId) else SuiteId.INTL
    return as_case_id(key_id_of(known, public_key))


KEY_ROWS = (
    opens("key.register", KeyRegister, KeyState.ACTIVE, who=_MEMBER_OFFICER, id_of=_registered),
    opens("key.bind", KeyBind, KeyState.ACTIVE, who=workflow(SELF)),
    moves("key.rotate", KeyRotate, KeyState.ACTIVE, KeyState.ROTATED, who=_OWNER, while_suspended=True),
    moves("key.spend", KeySpend, KeyState.ACTIVE, KeyState.ROTATED, who=workflow(SELF)),
    moves(
        "key.suspend",
        KeySuspend,
        KeyState.ACTIVE,
        KeyState.SUSPENDED,
        who=_OWNER,
        while_suspended=True,
        any_version=True,
    ),
    moves("key.resume", KeyResume, KeyState.SUSPENDED, KeyState.ACTIVE, who=_OWNER),
    moves(
        "key.revoke",
        KeyRevoke,
        (KeyState.ACTIVE, KeyState.SUSPENDED),
        KeyState.REVOKED,
        who=_OWNER
        | person("owner", *_HOLDER_ROLES)
        | both(person(ANY, Role.INSPECTOR), person(ANY, Role.SECOND_OFFICER)),
        while_suspended=True,
        any_version=True,
    ),
)

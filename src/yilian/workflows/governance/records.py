"""What governance keeps: actions that can be proposed, the proposal, and the registers beside it.

Pure. Shapes of structs are ledger format.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from yilian.ledger.cases import Case, Part, Register
from yilian.ledger.members import DisplayName, InstitutionKind, Rule
from yilian.values import CaseId, Digest, InstitutionId, KeyId, Natural, PublicKey, UnixMillis, Word


class Choice(StrEnum):
    """What a ballot says."""

    YES = "yes"
    NO = "no"
    ABSTAIN = "abstain"


class Admit(Part, frozen=True, kw_only=True, tag="member.admit"):
    """Invite an institution; it can bind only the CA and the keys named here."""

    ca_fingerprint: Digest
    """SHA-256 of the DER bytes of its CA certificate."""
    keys_digest: Digest
    """`interface.keys_digest` of its gateway pair and first OFFICER key."""
    kind: InstitutionKind
    operator: InstitutionId
    """Who runs its machine: itself (`interface.institution_id_of`), or a member."""
    name: DisplayName
    legal_name: Digest
    """Commitment of the legal name."""
    district: Word
    grade: Word
    suite: Natural
    one_time_key: PublicKey
    """Its private half travels in the invitation; good for one `member.join`."""


class Suspend(Part, frozen=True, kw_only=True, tag="member.suspend"):
    """Let a member do no more than stop, answer and hand back."""

    institution: InstitutionId
    reason: Word


class Reinstate(Part, frozen=True, kw_only=True, tag="member.reinstate"):
    """Lift a suspension."""

    institution: InstitutionId
    reason: Word


class Remove(Part, frozen=True, kw_only=True, tag="member.remove"):
    """Remove a member for good."""

    institution: InstitutionId
    reason: Word


class ParameterChange(Part, frozen=True, kw_only=True, tag="parameter.change"):
    """Give a parameter another number, or another list of words."""

    name: Word
    number: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    words: Annotated[tuple[Word, ...], Meta(max_length=128)]


class RuleChange(Part, frozen=True, kw_only=True, tag="rule.change"):
    """Replace the row of the constitution that has this rule's action."""

    rule: Rule


class SequencerReplace(Part, frozen=True, kw_only=True, tag="sequencer.replace"):
    """Let another member order the operations."""

    institution: InstitutionId
    reason: Word


class WitnessPolicyChange(Part, frozen=True, kw_only=True, tag="witness_policy.change"):
    """Ask for another number of witnesses under a checkpoint."""

    needed: Annotated[int, Meta(ge=0, le=64)]
    """k: distinct operators, without the sequencer's, that must have cosigned; 0 asks for none."""


Action = Admit | Suspend | Reinstate | Remove | ParameterChange | RuleChange | SequencerReplace | WitnessPolicyChange
"""What a proposal would do; the tag is the name of the action."""
MEMBER_ACTIONS = (Suspend, Reinstate, Remove)
TWO_THIRDS_ACTIONS = ("member.admit", "member.remove", "rule.change", "sequencer.replace", "witness_policy.change")
"""Rules whose quorum never falls below 2/3: whoever admits could outvote the rest later."""
LATER_ACTIONS = ("sequencer.replace", "witness_policy.change")
"""Actions without a row in constitutions older than they are: a change of rule may add the row."""


class Proposal(Case, frozen=True, kw_only=True):
    """What the members are asked to decide, under the rule that held when it was opened."""

    proposer: InstitutionId
    action: Action
    electorate: Annotated[tuple[InstitutionId, ...], Meta(max_length=1024)]
    """Who counts in the tally, the one concerned included; fixed at the opening."""
    numerator: Annotated[int, Meta(ge=1, le=1000)]
    denominator: Annotated[int, Meta(ge=1, le=1000)]
    strict: bool
    delay: UnixMillis
    closes: UnixMillis
    """Last time of voting."""
    applies: UnixMillis
    """From when it may be applied; 0 until approved."""


class Ballot(Register, frozen=True, kw_only=True):
    """A member's last word on a proposal; key: (proposal id, institution id)."""

    word: ClassVar[str] = "ballot"

    choice: Choice
    key_id: KeyId
    """The OFFICER key that signed it."""
    operator: InstitutionId
    time: UnixMillis


class Tally(Register, frozen=True, kw_only=True):
    """Ballots of a proposal by choice; key: (proposal id)."""

    word: ClassVar[str] = "tally"

    yes: Natural
    no: Natural
    abstained: Natural


class LastProposal(Register, frozen=True, kw_only=True):
    """The newest proposal of an action; key: (digest of the action)."""

    word: ClassVar[str] = "last_proposal"

    proposal: CaseId


class Sequencer(Register, frozen=True, kw_only=True):
    """Who orders the operations, once voted; one row, absent as long as the first founder does."""

    word: ClassVar[str] = "sequencer"

    institution: InstitutionId
    since: Natural
    """First height that it orders."""


class Invitation(Register, frozen=True, kw_only=True):
    """The one-time key of an invited member; key: (institution id)."""

    word: ClassVar[str] = "invitation"

    key_id: KeyId

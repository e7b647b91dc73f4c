"""What other workflows may ask governance, and the derivations that a node needs before it asks.

Members are read as of the last committed block: a change takes effect from the next one.
"""

from __future__ import annotations

from yilian.canonical import encode
from yilian.crypto.suite import tagged_hash
from yilian.ledger.block import member_id
from yilian.ledger.cases import Found
from yilian.ledger.members import LIVING, Constitution, Member, MemberState, Roster, Rule
from yilian.ledger.workflow import ParameterSpec, Reads
from yilian.values import Digest, InstitutionId, PublicKey, UnixMillis
from yilian.workflows.governance.records import Action, ParameterChange, Sequencer

ACTING = (MemberState.ACTIVE, MemberState.LEAVING)
"""States in which a member does all that a member may."""


def institution_id_of(ca_fingerprint: Digest) -> InstitutionId:
    """Derive the id of an institution from the SHA-256 fingerprint of its first CA certificate (DER)."""
    return member_id(ca_fingerprint)


def keys_digest(gateway_public: PublicKey, exchange_public: PublicKey, officer_public: PublicKey) -> Digest:
    """Name the keys that a newcomer may bind: Ed25519 and X25519 of the gateway, Ed25519 of the first OFFICER."""
    return tagged_hash("yilian/keys/v1", gateway_public, exchange_public, officer_public)


def possession_message(
    chain: Digest, owner: InstitutionId, public_key: PublicKey, exchange_key: PublicKey | None
) -> bytes:
    """Give the 32 bytes that a new key signs: its holder asks for its registration, here, for this owner.

    A gateway key signs for its X25519 half too. Nobody can register another's key as its own.
    """
    exchange = (exchange_key,) if exchange_key is not None else ()
    return tagged_hash("yilian/possession/v1", chain, owner, public_key, *exchange)


def action_digest(action: Action) -> Digest:
    """Name an action by its content: equal actions have equal digests."""
    return tagged_hash("yilian/action/v1", encode(action))


def action_name(action: Action) -> str:
    """Give the name of an action as the constitution and the console use it, such as `member.admit`."""
    return str(action.__struct_config__.tag)


def member(reads: Reads, institution: InstitutionId) -> Found[Member] | None:
    """Find a member in any state, also one that has left."""
    return reads.member(institution)


def is_living(reads: Reads, institution: InstitutionId) -> bool:
    """Say whether an institution is ACTIVE, SUSPENDED or LEAVING: its entries count, its obligations bind."""
    found = reads.member(institution)
    return found is not None and found.state in LIVING


def sequencer(reads: Reads) -> InstitutionId:
    """Name the member that orders the operations: the one voted last, else the first founder."""
    voted = reads.register(Sequencer)
    if voted is not None:
        return voted.institution
    roster = reads.register(Roster)
    if roster is None or not roster.members:
        raise LookupError("a chain without members has no sequencer, expected founders in its genesis")
    return roster.members[0]


def operators(reads: Reads, besides: InstitutionId) -> tuple[InstitutionId, ...]:
    """List who operates machines of acting members, without the operator of the member `besides`."""
    roster = reads.register(Roster)
    members = [reads.member(institution) for institution in (roster.members if roster is not None else ())]
    left_out = reads.member(besides)
    there = dict.fromkeys(found.fields.operator for found in members if found is not None and found.state in ACTING)
    return tuple(operator for operator in there if left_out is None or operator != left_out.fields.operator)


def electorate(reads: Reads, time: UnixMillis) -> tuple[InstitutionId, ...]:
    """List who counts in a proposal opened at `time`: living members past their waiting time, in order of joining."""
    roster = reads.register(Roster)
    everybody = roster.members if roster is not None else ()
    return tuple(institution for institution in everybody if _counts(reads, institution, time))


def rule(reads: Reads, action: Action) -> Rule | None:
    """Find the rule under which an action is decided; None where the constitution has none.

    A parameter that governance itself reads is changed under the rule of rule changes.
    """
    name = action_name(action)
    if isinstance(action, ParameterChange):
        spec = parameter(reads, action.name)
        if spec is not None and spec.guarded:
            name = "rule.change"
    constitution = reads.register(Constitution)
    rows = constitution.rules if constitution is not None else ()
    return next((row for row in rows if row.action == name), None)


def parameter(reads: Reads, name: str) -> ParameterSpec | None:
    """Find a parameter of the chain with the bounds of its number; None where the chain has none of this name."""
    return reads.parameter(name)


def _counts(reads: Reads, institution: InstitutionId, time: UnixMillis) -> bool:
    found = reads.member(institution)
    return found is not None and found.state in LIVING and found.fields.votes_from <= time

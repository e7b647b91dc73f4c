"""What keeps a transaction out of a block though its form is right: chain, time, key, membership, signature."""

from __future__ import annotations

from yilian.crypto import cose
from yilian.crypto.suite import SuiteId, verify
from yilian.ledger import envelope as envelopes
from yilian.ledger.envelope import Envelope, InvalidTransaction, TransactionCode
from yilian.ledger.judge import Actor
from yilian.ledger.members import LIVING, MemberState, Role, is_valid
from yilian.ledger.registry import Registry
from yilian.ledger.state import Directory
from yilian.values import HOUR, Digest, UnixMillis

ENVELOPE_VALIDITY = HOUR


def check_actor(envelope: Envelope, chain: Digest, directory: Directory, time: UnixMillis) -> Actor:
    """Find out who signed an envelope, by key and membership at a block time.

    Raises:
        InvalidTransaction: another chain, not valid now, or a key that may not sign envelopes.
    """
    payload = envelope.payload
    if payload.chain != chain:
        raise InvalidTransaction(
            TransactionCode.WRONG_CHAIN, f"signed for chain {payload.chain.hex()}, this is {chain.hex()}"
        )
    if time > payload.valid_until:
        raise InvalidTransaction(
            TransactionCode.EXPIRED, f"valid until {payload.valid_until}, block time is {time}: sign anew"
        )
    if payload.valid_until > time + ENVELOPE_VALIDITY:
        raise InvalidTransaction(
            TransactionCode.TOO_FAR_AHEAD,
            f"valid until {payload.valid_until}, at most {time + ENVELOPE_VALIDITY} at block time {time}: sign shorter",
        )
    key, member = directory.key(payload.key_id), directory.member(payload.actor)
    if key is None or member is None or key.fields.owner != payload.actor:
        raise _bad_key(envelope)
    role = key.fields.role
    living = member.state in LIVING and role == Role.NODE
    invited = member.state == MemberState.INVITED and role == Role.NEWCOMER
    if not is_valid(key.fields, key.state, time) or not (living or invited):
        raise _bad_key(envelope)
    return Actor(institution=payload.actor, role=role, member=member)


def check_newcomer(envelope: Envelope, actor: Actor, registry: Registry) -> None:
    """Hold a one-time key of an invitation to one operation without persons, of a command that is for NEWCOMER.

    Raises:
        InvalidTransaction: anything else; a stolen invitation is useless.
    """
    if actor.role != Role.NEWCOMER:
        return
    operations = envelope.operations
    if len(operations) != 1 or operations[0].persons or operations[0].core.command not in registry.for_newcomers:
        raise InvalidTransaction(
            TransactionCode.NEWCOMER_LIMIT,
            f"a one-time key signs one operation of {', '.join(registry.for_newcomers)}, without persons",
        )


def check_signature(envelope: Envelope, directory: Directory) -> None:
    """Check the gateway's signature over an envelope.

    Raises:
        InvalidTransaction: it does not hold.
    """
    key = directory.key(envelope.payload.key_id)
    if key is None:
        raise _bad_key(envelope)
    message = cose.to_be_signed(envelope.sign1.protected, envelope.sign1.payload, envelopes.TX_TAG)
    if not verify(SuiteId.INTL, key.fields.public_key, message, envelope.sign1.signature):
        raise InvalidTransaction(
            TransactionCode.BAD_SIGNATURE,
            f"the signature of key {envelope.payload.key_id.hex()} does not hold: sign the bytes that you send",
        )


def _bad_key(envelope: Envelope) -> InvalidTransaction:
    return InvalidTransaction(
        TransactionCode.KEY_NOT_VALID,
        f"key {envelope.payload.key_id.hex()} may not sign for {envelope.payload.actor.hex()} now: "
        "use the member's valid gateway key",
    )

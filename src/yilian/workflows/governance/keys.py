"""What a new key must be before it is registered. Pure; used by the steps in `contract.py`."""

from __future__ import annotations

from yilian.crypto.suite import SuiteId, is_weak, verify
from yilian.errors import Refused
from yilian.ledger.members import HeldBy, InstitutionKind, Key, Role, may_hold
from yilian.ledger.workflow import Call, Reads
from yilian.values import Digest, InstitutionId, unix_millis
from yilian.workflows.governance import interface
from yilian.workflows.governance.decisions import check_suite
from yilian.workflows.governance.model import KEY_VALIDITY, OFFICER_KEY_ON_NODE, NewKey, Refusal, key_case_id

EXCHANGE_KEY_SIZE = 32
LICENSED = (Role.PHYSICIAN, Role.PHARMACIST)


class Bearer:
    """Whose key it is to be."""

    __slots__ = ("kind", "owner", "role")

    def __init__(self, owner: InstitutionId, kind: InstitutionKind, role: Role) -> None:
        self.owner = owner
        self.kind = kind
        self.role = role


def check_key(call: Call, new: NewKey, bearer: Bearer, reads: Reads) -> None:
    """Refuse a key that must not be registered.

    Refuses: SUITE_NOT_ALLOWED, WEAK_KEY, NO_POSSESSION_PROOF, KEY_REUSED, ROLE_NOT_FOR_KIND, OFFICER_KEY_ON_NODE,
    LICENCE_MISSING, EXCHANGE_KEY_MISPLACED, VALIDITY_OUT_OF_LIMIT.
    """
    check_suite(new.suite, reads)
    name = key_case_id(new.suite, new.public_key)
    if is_weak(SuiteId(new.suite), new.public_key):
        raise Refused(
            Refusal.WEAK_KEY, f"key {name.hex()} is weak, expected a key of the prime-order group: make another"
        )
    if not _is_possessed(call.chain, new, bearer.owner):
        raise Refused(
            Refusal.NO_POSSESSION_PROOF,
            f"key {name.hex()} did not sign for {bearer.owner.hex()}: sign the possession message with the new key",
        )
    if reads.case(Key, name) is not None:
        raise Refused(Refusal.KEY_REUSED, f"key {name.hex()} is registered already, expected a fresh one: make another")
    _check_bearer(new, bearer, reads)
    limit = call.time + reads.number(KEY_VALIDITY)
    if not (call.time < new.valid_until <= limit and new.valid_from <= new.valid_until):
        raise Refused(
            Refusal.VALIDITY_OUT_OF_LIMIT,
            f"key {name.hex()} would hold from {new.valid_from} to {new.valid_until}, expected an end after "
            f"{call.time} and by {limit}: choose another period",
        )


def check_endorsement(call: Call, new: NewKey, old: Key, endorsement: bytes) -> None:
    """Refuse a successor that the old key is said to endorse and does not. Refuses: NO_POSSESSION_PROOF."""
    message = interface.possession_message(call.chain, old.owner, new.public_key, new.exchange_key)
    if not verify(SuiteId(old.suite), old.public_key, message, endorsement):
        raise Refused(
            Refusal.NO_POSSESSION_PROOF,
            f"the endorsement is not by key {call.case_id.hex()}: sign the possession message with it, or leave it out",
        )


def as_key(new: NewKey, bearer: Bearer) -> Key:
    """Give the record of a key that has been checked."""
    return Key(
        owner=bearer.owner,
        role=bearer.role,
        suite=new.suite,
        public_key=new.public_key,
        exchange_key=new.exchange_key,
        held_by=new.held_by,
        licence=new.licence,
        valid_from=new.valid_from,
        valid_until=new.valid_until,
        compromised_since=unix_millis(0),
    )


def _is_possessed(chain: Digest, new: NewKey, owner: InstitutionId) -> bool:
    message = interface.possession_message(chain, owner, new.public_key, new.exchange_key)
    return verify(SuiteId(new.suite), new.public_key, message, new.possession)


def _check_bearer(new: NewKey, bearer: Bearer, reads: Reads) -> None:
    if bearer.role != Role.NODE and not may_hold(bearer.kind, bearer.role):
        raise Refused(
            Refusal.ROLE_NOT_FOR_KIND,
            f"role {bearer.role} at a {bearer.kind}, expected a role of that kind: register it at another institution",
        )
    if bearer.role == Role.OFFICER and new.held_by == HeldBy.NODE and reads.number(OFFICER_KEY_ON_NODE) == 0:
        raise Refused(
            Refusal.OFFICER_KEY_ON_NODE,
            "an officer's key on a node, expected device or hardware: keep it where the officer alone reaches it",
        )
    if bearer.role in LICENSED and new.licence is None:
        raise Refused(
            Refusal.LICENCE_MISSING, f"a {bearer.role} without a licence, expected its commitment: add `licence`"
        )
    sized = new.exchange_key is not None and len(new.exchange_key) == EXCHANGE_KEY_SIZE
    if sized != (bearer.role == Role.NODE) or (new.exchange_key is not None and not sized):
        raise Refused(
            Refusal.EXCHANGE_KEY_MISPLACED,
            f"role {bearer.role} came {'with' if new.exchange_key is not None else 'without'} an exchange key, "
            f"expected {EXCHANGE_KEY_SIZE} bytes of X25519 for node and none for others: correct `exchange_key`",
        )

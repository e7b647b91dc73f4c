"""What other workflows may ask consent, and the commands that they may send it."""

from __future__ import annotations

from yilian.ledger.cases import Found
from yilian.ledger.workflow import Reads
from yilian.values import CaseId
from yilian.workflows.consent.covers import ConsentQuestion, Decision, Item, Obligations, covers, is_alive, is_attested
from yilian.workflows.consent.emergency_model import Emergency, EmergencyState
from yilian.workflows.consent.model import (
    LIVING,
    Basis,
    Consent,
    ConsentState,
    Counters,
    EndGrant,
    Grant,
    GrantState,
    IssueGrant,
    Refusal,
    Use,
    UseState,
)
from yilian.workflows.consent.policy import Access, Effect, Policy, Provision, Purpose, provision

__all__ = [
    "Access",
    "Basis",
    "Consent",
    "ConsentQuestion",
    "ConsentState",
    "Counters",
    "Decision",
    "Effect",
    "Emergency",
    "EmergencyState",
    "EndGrant",
    "Grant",
    "GrantState",
    "IssueGrant",
    "Item",
    "Obligations",
    "Policy",
    "Provision",
    "Purpose",
    "Refusal",
    "Use",
    "UseState",
    "consent",
    "counters",
    "covers",
    "emergency",
    "grant",
    "is_alive",
    "is_attested",
    "living",
    "provision",
    "use",
]


def consent(reads: Reads, consent_id: CaseId) -> Found[Consent] | None:
    """Find a consent, whatever its state."""
    return reads.case(Consent, consent_id)


def grant(reads: Reads, grant_id: CaseId) -> Found[Grant] | None:
    """Find a grant, whatever its state."""
    return reads.case(Grant, grant_id)


def use(reads: Reads, use_id: CaseId) -> Found[Use] | None:
    """Find a use, whatever its state."""
    return reads.case(Use, use_id)


def emergency(reads: Reads, emergency_id: CaseId) -> Found[Emergency] | None:
    """Find an emergency access, whatever its state."""
    return reads.case(Emergency, emergency_id)


def counters(reads: Reads, grant_id: CaseId) -> Counters | None:
    """Find the counts of a grant."""
    return reads.register(Counters, grant_id)


def living(reads: Reads, grant_id: CaseId) -> bool:
    """Say whether a grant is ISSUED, SUSPENDED or EXHAUSTED, so that `EndGrant` may be sent to it."""
    found = reads.case(Grant, grant_id)
    return found is not None and found.state in LIVING

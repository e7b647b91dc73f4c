"""Which workflows exist, and in which order: part of consensus, so one explicit tuple."""

from __future__ import annotations

from yilian.workflows import audit, catalog, consent, governance, referral

WORKFLOWS = (
    governance.WORKFLOW,
    catalog.WORKFLOW,
    consent.WORKFLOW,
    audit.WORKFLOW,
    referral.WORKFLOW,
)

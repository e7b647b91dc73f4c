"""Consent 授权: the one gate. Nothing leaves a custodian without a grant, each use is ordered by the ledger.

A consent is the patient's policy: classes, purposes, periods. A grant is a list of entries of one custodian for one
recipient, with a number of deliveries; it relies on a consent or on another lawful basis. A use is one reservation, in
which the ledger itself delivers the last part of the key. An emergency access asks afterwards: the patient is told, and
others review. Patients sign with a key of their own or through the home that holds the paper; only custodians grant.

Source: spec/release.md; IHE PCF 1.1 (policies), FHIR R4 Consent, GB/T 39725-2020 (levels).
"""

from __future__ import annotations

from yilian.ledger.workflow import CaseType, Workflow
from yilian.workflows.consent import contract
from yilian.workflows.consent.copies import COPY_ROWS, Copy, CopyState
from yilian.workflows.consent.emergency_model import Emergency, EmergencyRecord, EmergencyState
from yilian.workflows.consent.model import (
    Attestations,
    Consent,
    ConsentState,
    Counters,
    Grant,
    GrantState,
    Holdings,
    Refusal,
    Use,
    UseState,
)
from yilian.workflows.consent.parameters import PARAMETERS
from yilian.workflows.consent.tables import CONSENT_ROWS, EMERGENCY_ROWS, GRANT_ROWS, USE_ROWS

WORKFLOW = Workflow(
    name="consent",
    cases=(
        CaseType(word="consent", fields=Consent, states=tuple(ConsentState), rows=CONSENT_ROWS),
        CaseType(word="grant", fields=Grant, states=tuple(GrantState), rows=GRANT_ROWS),
        CaseType(word="use", fields=Use, states=tuple(UseState), rows=USE_ROWS),
        CaseType(word="emergency", fields=Emergency, states=tuple(EmergencyState), rows=EMERGENCY_ROWS),
        CaseType(word="copy", fields=Copy, states=tuple(CopyState), rows=COPY_ROWS),
    ),
    contract=contract,
    refusals=Refusal,
    registers=(Attestations, Holdings, Counters, EmergencyRecord),
    parameters=PARAMETERS,
    asks=("catalog",),
)

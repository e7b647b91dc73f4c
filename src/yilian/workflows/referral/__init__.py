"""Referral 双向转诊: a patient moves up, down or sideways with the records that the next doctor needs.

Every step is timed and on record, the records stay with their custodian until the receiver has accepted, and the loop
is closed by a result. Who: physicians and nodes of the referring and the receiving institution, and the patient.
Source: FHIR R4 ServiceRequest and Task; WS/T 500-2016.
"""

from __future__ import annotations

from yilian.ledger.workflow import CaseType, Workflow
from yilian.workflows.referral import contract
from yilian.workflows.referral.model import PARAMETERS, Referral, Refusal, State
from yilian.workflows.referral.table import TABLE

WORKFLOW = Workflow(
    name="referral",
    cases=(CaseType(word="referral", fields=Referral, states=tuple(State), rows=TABLE),),
    contract=contract,
    refusals=Refusal,
    parameters=PARAMETERS,
    asks=("catalog", "consent"),
)

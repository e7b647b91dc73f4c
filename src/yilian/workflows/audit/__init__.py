"""Audit 审计: every disclosure seen from both sides, every gap visible, supervision without reading records.

Source and recipient of a use each commit to their own event, and state each day how many there were. Regulators inspect
within an approved scope, on grants of the custodians; auditors sample the paper behind custodial signatures.

Source: IHE BALP 1.1 (privacy disclosure at source and at recipient), ATNA.
"""

from __future__ import annotations

from yilian.ledger.workflow import CaseType, Workflow
from yilian.workflows.audit import contract
from yilian.workflows.audit.model import (
    PARAMETERS,
    Disclosure,
    DisclosureState,
    Inspection,
    InspectionState,
    Paper,
    PaperState,
    Refusal,
    Sequence,
)
from yilian.workflows.audit.statements import STATEMENT_ROWS, Stated, Statement, StatementState
from yilian.workflows.audit.table import DISCLOSURE_ROWS, INSPECTION_ROWS, PAPER_ROWS

WORKFLOW = Workflow(
    name="audit",
    cases=(
        CaseType(word="disclosure", fields=Disclosure, states=tuple(DisclosureState), rows=DISCLOSURE_ROWS),
        CaseType(word="inspection", fields=Inspection, states=tuple(InspectionState), rows=INSPECTION_ROWS),
        CaseType(word="paper", fields=Paper, states=tuple(PaperState), rows=PAPER_ROWS),
        CaseType(word="statement", fields=Statement, states=tuple(StatementState), rows=STATEMENT_ROWS),
    ),
    contract=contract,
    refusals=Refusal,
    registers=(Sequence, Stated),
    parameters=PARAMETERS,
    asks=("catalog", "consent"),
)

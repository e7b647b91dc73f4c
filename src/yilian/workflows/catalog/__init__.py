"""Catalogue 目录: that a record exists, where, of what kind, how sensitive, unchanged since when; never the record.

Custodians publish an entry for each sealed record and keep the record. Whoever relies on an entry may challenge the
custodian to show that it still holds the ciphertext; other custodians, recipients and auditors may dispute an entry.
Every other workflow points here.

Source: IHE MHD 4.2 (metadata of DocumentReference), WS/T 500-2016 (classes), GB/T 39725-2020 (levels).
"""

from __future__ import annotations

from yilian.ledger.workflow import CaseType, Workflow
from yilian.workflows.catalog import contract
from yilian.workflows.catalog.model import (
    CHALLENGE_ROWS,
    ENTRY_ROWS,
    PARAMETERS,
    Challenge,
    ChallengeCount,
    ChallengeState,
    Entry,
    EntryState,
    Erasure,
    Refusal,
)

WORKFLOW = Workflow(
    name="catalog",
    cases=(
        CaseType(word="entry", fields=Entry, states=tuple(EntryState), rows=ENTRY_ROWS),
        CaseType(word="challenge", fields=Challenge, states=tuple(ChallengeState), rows=CHALLENGE_ROWS),
    ),
    contract=contract,
    refusals=Refusal,
    registers=(ChallengeCount, Erasure),
    parameters=PARAMETERS,
)

"""治理 governance: who is a member, which keys speak for whom, which rules hold, decided by the members' signed votes.

Who: OFFICER of every member (ballots, keys of its own people), any member's node (time-outs, applying what was
approved), a regulator's INSPECTOR with a SECOND_OFFICER (revocation of keys), NEWCOMER (joining, nothing else).
Source: the members' constitution.
"""

from __future__ import annotations

from yilian.ledger.members import Constitution, Key, KeyState, Member, MemberState, Parameters, Roster
from yilian.ledger.workflow import CaseType, Workflow
from yilian.workflows.governance import contract
from yilian.workflows.governance.model import (
    KEY_ROWS,
    MEMBER_ROWS,
    PARAMETERS,
    PROPOSAL_ROWS,
    ProposalState,
    Refusal,
)
from yilian.workflows.governance.records import Ballot, Invitation, LastProposal, Proposal, Sequencer, Tally

WORKFLOW = Workflow(
    name="governance",
    cases=(
        CaseType(word="proposal", fields=Proposal, states=tuple(ProposalState), rows=PROPOSAL_ROWS),
        CaseType(word="member", fields=Member, states=tuple(MemberState), rows=MEMBER_ROWS),
        CaseType(word="key", fields=Key, states=tuple(KeyState), rows=KEY_ROWS),
    ),
    contract=contract,
    refusals=Refusal,
    registers=(Parameters, Constitution, Roster, Ballot, Tally, LastProposal, Invitation, Sequencer),
    parameters=PARAMETERS,
)

"""A person may sign up to a day ahead, so an operation with such a signature is remembered as long as it is valid."""

from __future__ import annotations

from tests.workflows.governance.council import SEVEN, Council
from yilian.ledger import envelope
from yilian.ledger.block import BlockHeader, seal_block, transactions_root
from yilian.ledger.machine import Machine
from yilian.ledger.members import Role
from yilian.storage.memory import MemoryBlocks
from yilian.testing.consortium import Consortium
from yilian.values import DAY, HOUR, CaseId, unix_millis
from yilian.workflows import governance
from yilian.workflows.governance.model import ProposalOpen, ProposalVote
from yilian.workflows.governance.records import Ballot, Choice, ParameterChange


class Offline(Council):
    """A council of which one officer signs ballots on a device, for a whole day."""

    def __init__(self) -> None:
        super().__init__(Consortium.found(SEVEN, workflows=(governance.WORKFLOW,)))
        change = ParameterChange(name="governance.newcomer_wait", number=DAY, words=())
        self.proposal = self.consortium.act(
            self.consortium["centre"], ProposalOpen(action=change), persons=[Role.OFFICER]
        ).case_id

    def ballot(self, choice: Choice, days: int = 1) -> bytes:
        party = self.consortium["hospital"]
        core = self.consortium.core(party, ProposalVote(choice=choice), self.proposal)
        until = unix_millis(self.consortium.time + days * DAY)
        signer = party.person(Role.OFFICER)
        person = envelope.sign_core(
            core, signer, Role.OFFICER, chain=self.consortium.chain, actor=party.id, valid_until=until
        )
        return envelope.encode_operation(core, [person])

    def send(self, operation: bytes) -> bool:
        """Put an operation into a fresh envelope of the officer's node, and say whether the log has a leaf of it."""
        before = self.consortium.machine.head.log_size
        self.consortium.block([self.consortium.transaction(self.consortium["hospital"], [operation])])
        return self.consortium.machine.head.log_size > before

    def choice(self, proposal: CaseId) -> Choice:
        row = self.consortium.register(Ballot, proposal, self.consortium["hospital"].id)
        assert row is not None
        return row.choice


def test_a_ballot_that_was_replaced_cannot_be_cast_again_by_the_node_that_kept_it() -> None:
    council = Offline()
    yes = council.ballot(Choice.YES)
    assert council.send(yes)
    council.consortium.advance(2 * HOUR)
    assert council.send(council.ballot(Choice.NO))
    council.consortium.advance(2 * HOUR)
    assert not council.send(yes)
    assert council.choice(council.proposal) == Choice.NO


def test_it_is_forgotten_once_the_signature_is_not_valid_any_more() -> None:
    council = Offline()
    yes = council.ballot(Choice.YES)
    assert council.send(yes)
    council.consortium.advance(DAY + HOUR)
    assert council.send(yes)
    assert council.consortium.machine.records(council.consortium.machine.head.height)[0].leaf.result


def test_a_restart_remembers_it_too() -> None:
    council = Offline()
    yes = council.ballot(Choice.YES)
    council.send(yes)
    council.consortium.advance(3 * HOUR)
    council.send(council.ballot(Choice.NO))
    machine = council.consortium.machine
    opened = Machine(council.consortium.state, machine.registry, machine.genesis)
    opened.restore_window(_blocks(council.consortium))
    actor, time = council.consortium["hospital"].id, council.consortium.time
    drawn = machine.records(2)[0].leaf.op_id
    assert machine.answered(actor, drawn, time) is not None
    assert opened.answered(actor, drawn, time) == machine.answered(actor, drawn, time)


def _blocks(consortium: Consortium) -> MemoryBlocks:
    """Keep the blocks of a consortium as a sequencer does; only heights, times and transactions matter here."""
    blocks, gateway = MemoryBlocks(), consortium["hospital"].gateway
    for height, (time, transactions) in enumerate(consortium.transactions, 1):
        header = BlockHeader(
            version=1,
            chain=consortium.chain,
            height=height,
            time=time,
            parent=consortium.machine.head.block,
            transactions_root=transactions_root(transactions),
            app_hash=consortium.machine.head.app_hash,
            proposer=consortium["hospital"].id,
            key_id=gateway.key_id,
        )
        blocks.append(height, seal_block(header, transactions, gateway))
    return blocks

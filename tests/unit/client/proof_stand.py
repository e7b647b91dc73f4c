"""A chain on which every kind of receipt can be made: a real engine over what a story of consent and use has signed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.workflows.consent.consent_story import Story
from yilian import canonical
from yilian.client.report import Report
from yilian.client.verify import verify_receipt
from yilian.crypto.suite import Signer, sha256
from yilian.engine.embedded import EmbeddedEngine
from yilian.ledger import envelope
from yilian.ledger.cases import Patient
from yilian.ledger.checkpoint import Checkpoint, Note, SignatureKind, cosign, parse_note, sign
from yilian.ledger.claims import claims_root, make_claims
from yilian.ledger.members import Role
from yilian.ledger.multiproof import Shown, ShownRow, join, pack
from yilian.ledger.receipt import Kind, LoggedOperation, Receipt, open_row, parse_receipt
from yilian.ledger.registry import Registry
from yilian.ledger.results import app_hash_of
from yilian.ledger.state import key_hash
from yilian.ledger.tree import StateTree
from yilian.ledger.trust import Trust, TrustedKey
from yilian.node.projections import Projector
from yilian.node.proofs import Prover
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.sql import SqlIndex
from yilian.values import CaseId, OpId, UnixMillis, case_id, op_id, unix_millis
from yilian.workflows.audit.model import DisclosureReceived, DisclosureSent
from yilian.workflows.catalog.model import Restrict
from yilian.workflows.consent.model import Revoke, UseConfirm

replace = msgspec.structs.replace
Receipts = dict[Kind, bytes]
WITNESSES = ("hospital", "laboratory")
CLAIMS = make_claims({"diagnosis-count": "3", "sex": "f", "year": "1961"}, [sha256(bytes((n,))) for n in range(3)])


class Stand:
    """The story's chain behind an engine, with a sequencer (the centre) and two witnesses."""

    def __init__(self, folder: Path) -> None:
        self.story = Story()
        self.claimed = self._tell()
        world = self.story.consortium
        self._time = world.machine.head.time
        self.engine = EmbeddedEngine(
            genesis=world.machine.genesis,
            registry=world.machine.registry,
            state=MemoryState(),
            blocks=MemoryBlocks(),
            proposer=self.story["centre"].gateway,
            proposer_id=self.story["centre"].id,
            clock=lambda: self._time,
            second_core=False,
        )
        self.index = SqlIndex(folder / "index.db")
        self.registry: Registry = world.machine.registry
        self._projector = Projector(self)
        self._taken = 0
        self.follow()
        self.prover = Prover(self.engine, self.index, self.note, wait_s=0.2)

    @property
    def now(self) -> UnixMillis:
        """The time of the newest block."""
        return self.engine.head().time

    def follow(self) -> None:
        """Take over what the story has done since."""
        blocks = self.story.consortium.transactions
        for time, transactions in blocks[self._taken :]:
            self._time = time
            for transaction in transactions:
                self.engine.submit(transaction).result(60)
        self._taken = len(blocks)
        self._projector.catch_up()

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()
        self.index.close()

    def checkpoint(self) -> Checkpoint:
        """Give the checkpoint of the newest block."""
        return self.engine.head().checkpoint(self.engine.chain)

    def note(self) -> Note:
        """Give it signed by the sequencer and both witnesses."""
        return self.signed(self.checkpoint())

    def signed(self, checkpoint: Checkpoint, *, kind: SignatureKind = SignatureKind.EXECUTED) -> Note:
        """Sign a checkpoint as the sequencer and the witnesses do."""
        lines = [sign(checkpoint, self.story["centre"].gateway)]
        for name in WITNESSES:
            party = self.story[name]
            lines.append(cosign(checkpoint, kind, party.gateway, institution=party.id, now=checkpoint.time))
        return Note(checkpoint, tuple(lines))

    def trust(self, needed: int = len(WITNESSES)) -> Trust:
        """Give what a reader believes."""
        return Trust(
            format=1,
            name="test",
            chain=self.engine.chain.hex(),
            sequencer=(self._trusted("centre"),),
            witnesses=tuple(self._trusted(name) for name in WITNESSES),
            needed=needed,
        )

    def receipts(self) -> dict[Kind, bytes]:
        """Make one receipt of each kind."""
        prover = self.prover
        return {
            Kind.OPERATION: prover.operation(self.claimed),
            Kind.STATE: prover.state(self.agreed),
            Kind.ABSENCE: prover.absence(self.missing),
            Kind.CASE: prover.case(self.used),
            Kind.EXCHANGE: prover.exchange(self.used),
            Kind.CLAIM: prover.claim(self.claimed, "sex", CLAIMS),
        }

    def _trusted(self, name: str) -> TrustedKey:
        party = self.story[name]
        return TrustedKey(
            institution=party.id.hex(),
            operator=party.operator.hex(),
            public_key=party.gateway.public_key.hex(),
            held_by="node",
        )

    def _tell(self) -> OpId:
        story = self.story
        entries = story.entries(2)
        self.agreed = story.consent()
        story.attest(self.agreed, "centre")
        self.granted = story.grant(entries, self.agreed)
        first = story.reserve(self.granted, entries[:1])
        story.deliver(first)
        self.used = story.reserve(self.granted, entries)
        story.deliver(self.used)
        story.do("hospital", UseConfirm(), self.used)
        story.do("centre", DisclosureSent(event=sha256(b"sent")), None, refs=(self.used,))
        story.do("hospital", DisclosureReceived(event=sha256(b"received")), None, refs=(self.used,))
        self.custodial = self._custodial()
        claimed = self._batch(entries)
        self.missing = case_id(sha256(b"nobody's case"))
        self.refused = self._refused()
        return claimed

    def _custodial(self) -> CaseId:
        story = self.story
        paper = sha256(b"paper")
        entry = story.entry(commitment=paper)
        proposal = story.proposal(story.policy(depth=0), patient=Patient(key=None, home=story["centre"].id))
        named = story.do("centre", proposal)
        story.do("centre", story.signature(paper=paper, paper_entry=entry), named, (Role.PHYSICIAN,))
        return named

    def _batch(self, entries: tuple[CaseId, ...]) -> OpId:
        """Have the centre sign three operations together; one of them makes claims."""
        world, centre = self.story.consortium, self.story["centre"]
        named = op_id(world.draw()[:16])
        operations = []
        for number in range(3):
            core = world.core(centre, Restrict(), entries[1])
            if number == 1:
                made = msgspec.structs.replace(
                    canonical.decode(core, envelope.Core), op_id=named, claims_root=claims_root(CLAIMS)
                )
                core = envelope.encode_core(made)
            officer: Signer = centre.person(Role.DATA_OFFICER)
            operations.append(envelope.encode_operation(core, [world.sign(centre, core, Role.DATA_OFFICER, officer)]))
        results = world.block([world.transaction(centre, operations)]).results
        assert all(answer.ok for answer in results[0].answers)
        return named

    def _refused(self) -> OpId:
        """Have the hospital try what only the patient may."""
        answer = self.story.act("hospital", Revoke(paper=None), self.agreed)
        assert not answer.ok
        return answer.op_id


def restated(stand: Stand, receipt: Receipt, rows: Sequence[bytes]) -> bytes:
    """Put a receipt over another state, of these rows alone, that sequencer and witnesses have signed."""
    depth = receipt.state.depth
    hashed = {key_hash(open_row(row).natural_key): row for row in rows}
    leaves = [(key, sha256(row)) for key, row in sorted(hashed.items())]
    tree = StateTree.build(depth, leaves)

    def stored(index: int) -> list[tuple[bytes, bytes]]:
        return [leaf for leaf in leaves if tree.bucket(leaf[0]) == index]

    proofs = {key: tree.prove(key, stored) for key, _ in leaves}
    present = tuple(
        ShownRow(row=hashed[key], count=proof.count, index=proof.rows[0].index, path=pack(proof.rows[0].path))
        for key, proof in proofs.items()
    )
    checkpoint = parse_note(receipt.checkpoint).checkpoint
    app_hash = app_hash_of(checkpoint.log_size, checkpoint.log_root, tree.root, receipt.parameters_root)
    note = stand.signed(msgspec.structs.replace(checkpoint, app_hash=app_hash))
    state = Shown(depth=depth, present=present, absent=(), siblings=join(depth, proofs))
    return canonical.encode(msgspec.structs.replace(receipt, state=state, checkpoint=note.encode()))


def edited(data: bytes, change: Callable[[Receipt], Receipt]) -> bytes:
    """Change a receipt and encode it again."""
    return canonical.encode(change(parse_receipt(data)))


def later(time: UnixMillis, milliseconds: int) -> UnixMillis:
    """Give a time some milliseconds on."""
    return unix_millis(time + milliseconds)


def checked(stand: Stand, data: bytes, trust: Trust | None = None) -> Report:
    return verify_receipt(data, trust or stand.trust(), now=stand.now)


def failing(stand: Stand, data: bytes) -> str:
    report = checked(stand, data)
    assert not report.ok
    assert [step.ok for step in report.steps] == [True] * (len(report.steps) - 1) + [False]
    return report.failed


def with_operation(data: bytes, change: Callable[[LoggedOperation], LoggedOperation], place: int = 0) -> bytes:
    def changed(receipt: Receipt) -> Receipt:
        operations = list(receipt.operations)
        operations[place] = change(operations[place])
        return replace(receipt, operations=tuple(operations))

    return edited(data, changed)


def swapped(packed: bytes) -> bytes:
    return packed[32:64] + packed[:32] + packed[64:]


def noted(data: bytes, change: Callable[[Note], Note]) -> bytes:
    return edited(data, lambda receipt: replace(receipt, checkpoint=change(parse_note(receipt.checkpoint)).encode()))

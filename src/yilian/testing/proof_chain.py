"""A chain from fixed seeds on which every kind of receipt can be made, the same bytes in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from yilian import canonical
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.engine.embedded import EmbeddedEngine
from yilian.ledger import envelope
from yilian.ledger.block import Founder, Genesis
from yilian.ledger.cases import Command, Patient
from yilian.ledger.checkpoint import Checkpoint, Note, SignatureKind, SignatureLine, cosign, sign
from yilian.ledger.claims import claims_root, make_claims
from yilian.ledger.machine import Machine
from yilian.ledger.members import Constitution, InstitutionKind, Parameter, Parameters, Role, Rule
from yilian.ledger.receipt import Receipt
from yilian.ledger.registry import Registry
from yilian.ledger.trust import Trust, TrustedKey
from yilian.node.projections import Projector
from yilian.node.proofs import Prover
from yilian.storage.memory import MemoryBlocks, MemoryState
from yilian.storage.sql import SqlIndex
from yilian.testing.consortium import NOON, TREE_DEPTH, Consortium, Party
from yilian.testing.stores import MemoryState as Tried
from yilian.values import DAY, CaseId, OpId, case_id, op_id, public_key, unix_millis
from yilian.workflows import audit, catalog, consent, governance
from yilian.workflows.audit.model import DisclosureReceived, DisclosureSent
from yilian.workflows.catalog.model import Origin, Publish, Restrict
from yilian.workflows.consent.interface import Access, Basis, Effect, Policy, Purpose, provision
from yilian.workflows.consent.model import (
    Attest,
    GrantIssue,
    Propose,
    Revoke,
    Sign,
    UseConfirm,
    UseDeliver,
    UseReserve,
)

KINDS = {
    "centre": InstitutionKind.COMMUNITY_CENTRE,
    "hospital": InstitutionKind.HOSPITAL,
    "laboratory": InstitutionKind.LABORATORY,
}
NUMBERS = {
    "audit.evidence_age": 0,
    "audit.pair_complete": 600_000,
    "consent.acknowledgement": 3_600_000,
    "consent.attestations": 16,
    "consent.children": 16,
    "consent.depth": 3,
    "consent.dispute_window": 259_200_000,
    "consent.lapse": 2_592_000_000,
    "consent.lease": 600_000,
    "consent.living": 64,
    "governance.witnesses": 2,
}
WITNESSES = ("hospital", "laboratory")
CLAIMS = make_claims(
    {"batch": "B-17", "pages": "3", "reason": "转诊"}, [sha256(b"salt", bytes((number,))) for number in range(3)]
)
STRANGER = Ed25519Signer.from_seed(sha256(b"a stranger"))

Change = Callable[[Receipt], Receipt]
replace = msgspec.structs.replace


def genesis(parties: Sequence[Party]) -> Genesis:
    """Give the start of the chain; rules and parameters stand here, so that new ones do not change the vectors."""
    rule = Rule(
        action="member.admit",
        proposers=(),
        numerator=2,
        denominator=3,
        strict=False,
        delay=unix_millis(3 * DAY),
        voting_period=unix_millis(14 * DAY),
    )
    return Genesis(
        version=1,
        name="vectors of receipts",
        time=NOON,
        suites=(parties[0].keys(NOON)[0].suite,),
        tree_depth=TREE_DEPTH,
        workflows=("governance", "catalog", "consent", "audit"),
        founders=tuple(Founder(member=party.member(), keys=party.keys(NOON)) for party in parties),
        constitution=Constitution(version=1, rules=(rule,)),
        parameters=Parameters(items=tuple(_parameters())),
    )


def _parameters() -> Iterator[Parameter]:
    for name, number in sorted({**NUMBERS, "catalog.kinds": 0}.items()):
        yield Parameter(name=name, number=number, words=("C0002", "C0007") if name == "catalog.kinds" else ())


class Chain:
    """A consortium that exchanged a record, behind an engine that proves it."""

    def __init__(self, folder: Path) -> None:
        parties = {name: Party(name, kind, name) for name, kind in KINDS.items()}
        store = Tried()
        self.registry = Registry((governance.WORKFLOW, catalog.WORKFLOW, consent.WORKFLOW, audit.WORKFLOW))
        self.genesis = genesis(tuple(parties.values()))
        self.world = Consortium(parties, Machine(store, self.registry, self.genesis), store)
        self.wallet = Ed25519Signer.from_seed(sha256(b"wallet"))
        self._tell()
        self._time = NOON
        self.engine = EmbeddedEngine(
            genesis=self.genesis,
            registry=self.registry,
            state=MemoryState(),
            blocks=MemoryBlocks(),
            proposer=parties["centre"].gateway,
            proposer_id=parties["centre"].id,
            clock=lambda: self._time,
            second_core=False,
        )
        self.index = SqlIndex(folder / "index.db")
        for moment, transactions in self.world.transactions:
            self._time = moment
            for transaction in transactions:
                self.engine.submit(transaction).result(60)
        Projector(self).catch_up()
        self.prover = Prover(self.engine, self.index, self.note)

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()
        self.index.close()

    def do(self, who: str, command: Command, case: CaseId | None = None, **options: Any) -> CaseId:  # noqa: ANN401
        """Take a step that is done; `options` as `Consortium.act`."""
        answer = self.world.act(self.world[who], command, case, **options)
        if not answer.ok:
            raise AssertionError(f"{answer.command} was refused: {answer.result} {answer.message}")
        return answer.case_id

    def _tell(self) -> None:
        world, drawn = self.world, self.world.draw
        entries = (self._publish(), self._publish())
        patient = ((Role.PATIENT, self.wallet),)
        policy = Policy(
            begins=unix_millis(0),
            ends=unix_millis(NOON + 90 * DAY),
            maximum=100,
            depth=0,
            access=Access.VIEW,
            erase_by=None,
            base=provision(Effect.PERMIT, Purpose.TREAT),
            exceptions=(),
        )
        proposal = Propose(
            patient=Patient(key=self.wallet.public_key, home=None),
            text=sha256(b"text"),
            language="zh",
            policy_uri=sha256(b"policy"),
            policy=policy,
            replaces=None,
        )
        self.consent = self.do("centre", proposal)
        self.do("centre", Sign(text=sha256(b"text"), paper=None, paper_entry=None), self.consent, persons=patient)
        self.do("centre", Attest(), self.consent)
        terms = GrantIssue(
            basis=Basis.CONSENT,
            covered_by=self.consent,
            recipient=world["hospital"].id,
            purpose=Purpose.TREAT,
            entries=entries,
            level_cap=4,
            begins=world.time,
            ends=unix_millis(NOON + 30 * DAY),
            deliveries=10,
            depth=0,
        )
        self.grant = self.do("centre", terms)
        reservation = UseReserve(
            grant=self.grant,
            purpose=Purpose.TREAT,
            entries=entries[:1],
            one_time=public_key(drawn()),
            message=sha256(drawn()),
        )
        self.use = self.do("hospital", reservation, persons=(Role.PHYSICIAN,))
        self.do("centre", UseDeliver(mask=sha256(drawn())), self.use)
        self.do("hospital", UseConfirm(), self.use)
        self.do("centre", DisclosureSent(event=sha256(b"sent")), refs=(self.use,))
        self.do("hospital", DisclosureReceived(event=sha256(b"received")), refs=(self.use,))
        self.claimed = self._batch(entries)
        self.refused = world.act(world["hospital"], Revoke(paper=None), self.consent).op_id
        self.do("centre", Revoke(paper=None), self.consent, persons=patient)

    def _publish(self) -> CaseId:
        drawn = self.world.draw
        publish = Publish(
            tag=sha256(drawn()),
            root=sha256(drawn()),
            commitment=sha256(drawn()),
            size_class=12,
            kind="C0007",
            level=3,
            month=24_316,  # type: ignore[arg-type]  # a number of months
            origin=Origin.SYSTEM,
            late=False,
        )
        return self.do("centre", publish)

    def _batch(self, entries: Sequence[CaseId]) -> OpId:
        """Sign three operations together; the second makes claims."""
        world, centre = self.world, self.world["centre"]
        named = op_id(world.draw()[:16])
        operations = []
        for number, entry in enumerate((entries[0], entries[1], entries[1])):
            core = world.core(centre, Restrict(), entry, operation=named if number == 1 else None)
            if number == 1:
                claiming = replace(canonical.decode(core, envelope.Core), claims_root=claims_root(CLAIMS))
                core = envelope.encode_core(claiming)
            person = world.sign(centre, core, Role.DATA_OFFICER, centre.person(Role.DATA_OFFICER))
            operations.append(envelope.encode_operation(core, (person,)))
        world.block([world.transaction(centre, operations)])
        return named

    def checkpoint(self) -> Checkpoint:
        """Give the checkpoint of the newest block."""
        return self.engine.head().checkpoint(self.engine.chain)

    def note(self) -> Note:
        """Give it signed as the policy asks."""
        checkpoint = self.checkpoint()
        lines = (self.sequenced(checkpoint), *(self.cosigned(checkpoint, name) for name in WITNESSES))
        return Note(checkpoint, lines)

    def sequenced(self, checkpoint: Checkpoint) -> SignatureLine:
        """Sign as the sequencer."""
        return sign(checkpoint, self.world["centre"].gateway)

    def cosigned(
        self, checkpoint: Checkpoint, name: str, kind: SignatureKind = SignatureKind.EXECUTED
    ) -> SignatureLine:
        """Sign as a witness."""
        party = self.world[name]
        return cosign(checkpoint, kind, party.gateway, institution=party.id, now=checkpoint.time)

    def trust(self) -> Trust:
        """Give what a reader believes."""
        return Trust(
            format=1,
            name=self.genesis.name,
            chain=self.engine.chain.hex(),
            sequencer=(self._trusted("centre"),),
            witnesses=tuple(self._trusted(name) for name in WITNESSES),
            needed=len(WITNESSES),
        )

    def _trusted(self, name: str) -> TrustedKey:
        party = self.world[name]
        return TrustedKey(
            institution=party.id.hex(),
            operator=party.operator.hex(),
            public_key=party.gateway.public_key.hex(),
            held_by="node",
        )

    def receipts(self) -> dict[str, bytes]:
        """Give a receipt of each kind, by name."""
        prover = self.prover
        nobody = case_id(sha256(b"nobody"))
        return {
            "operation": prover.operation(self.claimed),
            "operation of an institution alone": prover.operation(0),
            "operation of a patient": prover.operation(self.engine.head().log_size - 1),
            "operation that was refused": prover.operation(self.refused),
            "state of a consent that was revoked": prover.state(self.consent),
            "absence": prover.absence(nobody),
            "case": prover.case(self.consent),
            "exchange": prover.exchange(self.use),
            "claim": prover.claim(self.claimed, "batch", CLAIMS),
        }

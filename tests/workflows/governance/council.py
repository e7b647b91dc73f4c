"""Seven members and what they usually do: propose, vote, apply, invite, join."""

from __future__ import annotations

from msgspec.structs import replace

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId, sha256
from yilian.ledger.members import HeldBy, InstitutionKind, Role
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.testing.consortium import Consortium, Party
from yilian.values import DAY, CaseId, PublicKey, case_id, unix_millis
from yilian.workflows import governance
from yilian.workflows.governance import interface
from yilian.workflows.governance.model import (
    MemberJoin,
    NewKey,
    ProposalApply,
    ProposalOpen,
    ProposalVote,
    Refusal,
)
from yilian.workflows.governance.records import Action, Admit, Choice

SEVEN = {
    "centre": InstitutionKind.COMMUNITY_CENTRE,
    "second": InstitutionKind.COMMUNITY_CENTRE,
    "township": InstitutionKind.COMMUNITY_CENTRE,
    "hospital": InstitutionKind.HOSPITAL,
    "clinic": InstitutionKind.HOSPITAL,
    "laboratory": InstitutionKind.LABORATORY,
    "regulator": InstitutionKind.REGULATOR,
}
ALL = tuple(SEVEN)
FIVE = ALL[:5]


class Council:
    """A consortium whose members vote."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium

    def open(self, name: str, action: Action) -> Answer:
        """Let one member propose."""
        command = ProposalOpen(action=action)
        return self.consortium.act(self.consortium[name], command, persons=[Role.OFFICER])

    def vote(self, name: str, proposal: CaseId, choice: Choice = Choice.YES) -> Answer:
        """Let one member vote."""
        command = ProposalVote(choice=choice)
        return self.consortium.act(self.consortium[name], command, proposal, persons=[Role.OFFICER])

    def apply(self, proposal: CaseId, name: str = "centre") -> Answer:
        """Let one member's node apply what was approved."""
        return self.consortium.act(self.consortium[name], ProposalApply(), proposal)

    def approve(self, action: Action, by: tuple[str, ...] = FIVE) -> CaseId:
        """Propose, and vote yes until it is approved."""
        proposal = self.open(by[0], action).case_id
        for name in by:
            assert self.vote(name, proposal).ok
        return proposal

    def carry(self, action: Action, by: tuple[str, ...] = FIVE) -> Answer:
        """Propose, approve, wait and apply."""
        proposal = self.approve(action, by)
        self.consortium.advance(14 * DAY)
        return self.apply(proposal)

    def newcomer(self, name: str = "newcomer", kind: InstitutionKind = InstitutionKind.PHARMACY) -> Party:
        """Make an institution that is no member yet, and let tests find it by name."""
        party = Party(name, kind, name)
        self.consortium.parties[name] = party
        return party

    def admit(self, party: Party) -> Admit:
        """Give the action that would admit it."""
        return Admit(
            ca_fingerprint=party.ca_fingerprint,
            keys_digest=interface.keys_digest(
                party.gateway.public_key, party.exchange.public_key, party.person(Role.OFFICER).public_key
            ),
            kind=party.kind,
            operator=party.operator,
            name=party.name,
            legal_name=sha256(b"legal name", party.name.encode()),
            district="320400",
            grade="none",
            suite=SuiteId.INTL,
            one_time_key=one_time_key(party).public_key,
        )

    def key(
        self,
        party: Party,
        signer: Ed25519Signer,
        *,
        exchange: PublicKey | None = None,
        held_by: HeldBy = HeldBy.DEVICE,
    ) -> NewKey:
        """Give a key of a party with its proof of possession, good for a year."""
        message = interface.possession_message(self.consortium.chain, party.id, signer.public_key, exchange)
        return NewKey(
            suite=SuiteId.INTL,
            public_key=signer.public_key,
            exchange_key=exchange,
            held_by=held_by,
            licence=None,
            valid_from=self.consortium.time,
            valid_until=unix_millis(self.consortium.time + 365 * DAY),
            possession=signer.sign(message),
        )

    def join_command(self, party: Party, constitution: int = 1) -> MemberJoin:
        """Give the command with which a newcomer takes up its invitation."""
        return MemberJoin(
            ca_fingerprint=party.ca_fingerprint,
            gateway=self.key(party, party.gateway, exchange=party.exchange.public_key, held_by=HeldBy.NODE),
            officer=self.key(party, party.person(Role.OFFICER)),
            constitution=constitution,
        )

    def join(self, party: Party, command: MemberJoin | None = None) -> Answer:
        """Let a newcomer join, signed by its one-time key."""
        return self.consortium.act(
            party, command or self.join_command(party), case_id(party.id), gateway=one_time_key(party)
        )

    def licensed(self, key: NewKey) -> NewKey:
        """Add the commitment of a licence."""
        return replace(key, licence=sha256(b"licence"))


def one_time_key(party: Party) -> Ed25519Signer:
    """Give the one-time key of the invitation of an institution."""
    return Ed25519Signer.from_seed(sha256(b"one-time", party.name.encode()))


def refused(answer: Answer, refusal: Refusal) -> bool:
    """Say whether governance refused, for this reason."""
    return answer.result == ((governance.WORKFLOW.name, int(refusal)),)


def refused_by_kernel(answer: Answer, refusal: KernelRefusal) -> bool:
    """Say whether the kernel refused, for this reason."""
    return answer.result == ((KERNEL, int(refusal)),)

"""A centre with records, a hospital that needs them, others to pass them on to, and a patient with a wallet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.ledger.cases import Case, Command, Found, Patient
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.results import Answer
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.testing.consortium import Consortium, Party
from yilian.values import DAY, CaseId, Digest, UnixMillis, digest, unix_millis
from yilian.workflows import audit, catalog, consent, governance
from yilian.workflows.catalog.model import Origin, Publish
from yilian.workflows.consent.interface import Access, Basis, Counters, Effect, Grant, Policy, Purpose, provision
from yilian.workflows.consent.model import (
    Attest,
    GrantDelegate,
    GrantIssue,
    Holdings,
    Propose,
    Refusal,
    Sign,
    UseDeliver,
    UseReserve,
)
from yilian.workflows.governance.model import ProposalApply, ProposalOpen, ProposalVote
from yilian.workflows.governance.records import Choice, Suspend

MONTH = 2026 * 12 + 4
TEXT = sha256(b"text shown")
PERSONS = Sequence[Role | tuple[Role, Ed25519Signer]]


class Story:
    """A consortium, and what has to happen before a test begins; every helper expects success."""

    def __init__(self, **parameters: int) -> None:
        self.consortium = Consortium.found(
            {
                "centre": InstitutionKind.COMMUNITY_CENTRE,
                "hospital": InstitutionKind.HOSPITAL,
                "branch": InstitutionKind.HOSPITAL,
                "laboratory": InstitutionKind.LABORATORY,
                "regulator": InstitutionKind.REGULATOR,
            },
            operators={"branch": "hospital"},
            parameters={name.replace("__", "."): value for name, value in parameters.items()},
            workflows=(governance.WORKFLOW, catalog.WORKFLOW, consent.WORKFLOW, audit.WORKFLOW),
        )
        self.wallet = Ed25519Signer.from_seed(sha256(b"wallet"))
        self.patient: PERSONS = ((Role.PATIENT, self.wallet),)
        self.by_key = Patient(key=self.wallet.public_key, home=None)

    def __getitem__(self, name: str) -> Party:
        return self.consortium[name]

    @property
    def time(self) -> UnixMillis:
        return self.consortium.time

    def later(self, milliseconds: int) -> UnixMillis:
        return unix_millis(self.time + milliseconds)

    def act(
        self,
        who: str,
        command: Command,
        case: CaseId | None = None,
        persons: PERSONS = (),
        **options: Any,  # noqa: ANN401 - fields of a command, or a step
    ) -> Answer:
        return self.consortium.act(self[who], command, case, persons=persons, **options)

    def do(
        self,
        who: str,
        command: Command,
        case: CaseId | None = None,
        persons: PERSONS = (),
        **options: Any,  # noqa: ANN401 - fields of a command, or a step
    ) -> CaseId:
        answer = self.act(who, command, case, persons, **options)
        assert answer.ok, (answer.result, answer.message)
        return answer.case_id

    def found(self, kind: type[Case], case: CaseId) -> Found[Any]:
        found = self.consortium.case(kind, case)
        assert found is not None
        return found

    def state(self, kind: type[Case], case: CaseId) -> str:
        return self.found(kind, case).state

    def counters(self, grant: CaseId) -> tuple[int, ...]:
        """n, reserved, delivered, forgiven, delegated."""
        row = self.consortium.register(Counters, grant)
        assert row is not None
        return row.n, row.reserved, row.delivered, row.forgiven, row.delegated

    def entry(self, who: str = "centre", **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command, or a step
        described = {
            "tag": digest(self.consortium.draw()),
            "root": digest(self.consortium.draw()),
            "commitment": digest(self.consortium.draw()),
            "size_class": 12,
            "kind": "C0007",
            "level": 3,
            "month": MONTH,
            "origin": Origin.SYSTEM,
            "late": False,
        }
        return self.do(who, Publish(**{**described, **fields}))

    def entries(self, number: int) -> tuple[CaseId, ...]:
        return tuple(self.entry() for _ in range(number))

    def policy(self, **fields: Any) -> Policy:  # noqa: ANN401 - fields of a command, or a step
        plain: dict[str, Any] = {
            "begins": unix_millis(0),
            "ends": self.later(90 * DAY),
            "maximum": 100,
            "depth": 3,
            "access": Access.VIEW,
            "erase_by": None,
            "base": provision(Effect.PERMIT, Purpose.TREAT),
            "exceptions": (),
        }
        return Policy(**{**plain, **fields})

    def proposal(self, policy: Policy | None = None, **fields: Any) -> Propose:  # noqa: ANN401 - fields of a command, or a step
        plain: dict[str, Any] = {
            "patient": self.by_key,
            "text": TEXT,
            "language": "zh",
            "policy_uri": sha256(b"policy"),
            "policy": policy or self.policy(),
            "replaces": None,
        }
        return Propose(**{**plain, **fields})

    def signature(self, **fields: Any) -> Sign:  # noqa: ANN401 - fields of a command, or a step
        plain: dict[str, Any] = {"text": TEXT, "paper": None, "paper_entry": None}
        return Sign(**{**plain, **fields})

    def consent(self, policy: Policy | None = None, **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command, or a step
        """Give an ACTIVE consent that the centre proposed and the wallet signed."""
        named = self.do("centre", self.proposal(policy, **fields))
        return self.do("centre", self.signature(), named, self.patient)

    def terms(self, covered_by: CaseId | None, entries: tuple[CaseId, ...], **fields: Any) -> GrantIssue:  # noqa: ANN401 - fields of a command, or a step
        plain: dict[str, Any] = {
            "basis": Basis.CONSENT,
            "covered_by": covered_by,
            "recipient": self["hospital"].id,
            "purpose": Purpose.TREAT,
            "entries": entries,
            "level_cap": 4,
            "begins": self.time,
            "ends": self.later(30 * DAY),
            "deliveries": 10,
            "depth": 3,
        }
        return GrantIssue(**{**plain, **fields})

    def grant(self, entries: tuple[CaseId, ...], covered_by: CaseId | None = None, **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command, or a step
        """Give an ISSUED grant of the centre to the hospital."""
        return self.do("centre", self.terms(covered_by or self.consent(), entries, **fields))

    def passing(self, grant: CaseId, to: str, **fields: Any) -> GrantDelegate:  # noqa: ANN401 - fields of a command, or a step
        parent = self.found(Grant, grant).fields
        plain: dict[str, Any] = {
            "recipient": self[to].id,
            "purpose": parent.purpose,
            "entries": parent.entries,
            "level_cap": parent.level_cap,
            "begins": parent.begins,
            "ends": parent.ends,
            "deliveries": 4,
            "depth": max(0, parent.depth - 1),
        }
        return GrantDelegate(**{**plain, **fields})

    def child(self, grant: CaseId, by: str, to: str, **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command, or a step
        """Pass a grant on and name the child."""
        before = self.living(grant)
        self.do(by, self.passing(grant, to, **fields), grant, (Role.PHYSICIAN,))
        return next(item for item in self.living(grant) if item not in before)

    def living(self, grant: CaseId) -> tuple[CaseId, ...]:
        row = self.consortium.register(Holdings, self.found(Grant, grant).fields.covered_by)
        return tuple(item.id for item in row.living) if row is not None else ()

    def reservation(self, grant: CaseId, entries: tuple[CaseId, ...], **fields: Any) -> UseReserve:  # noqa: ANN401 - fields of a command, or a step
        plain: dict[str, Any] = {
            "grant": grant,
            "purpose": Purpose.TREAT,
            "entries": entries,
            "one_time": self.consortium.draw(),
            "message": digest(self.consortium.draw()),
        }
        return UseReserve(**{**plain, **fields})

    def reserve(self, grant: CaseId, entries: tuple[CaseId, ...], who: str = "hospital", **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command, or a step
        return self.do(who, self.reservation(grant, entries, **fields), None, (Role.PHYSICIAN,))

    def deliver(self, use: CaseId, who: str = "centre") -> CaseId:
        return self.do(who, UseDeliver(mask=self.mask()), use)

    def mask(self) -> Digest:
        return digest(self.consortium.draw())

    def attest(self, consent_id: CaseId, who: str) -> None:
        self.do(who, Attest(), consent_id)

    def suspend_member(self, name: str) -> None:
        """Have the other members vote to suspend one, and apply it."""
        opening = ProposalOpen(action=Suspend(institution=self[name].id, reason="incident"))
        others = [other for other in self.consortium.parties if other != name]
        proposal = self.do(others[0], opening, None, (Role.OFFICER,))
        for other in others:
            self.act(other, ProposalVote(choice=Choice.YES), proposal, (Role.OFFICER,))
        self.do(others[0], ProposalApply(), proposal)


def by(refusal: Refusal) -> tuple[tuple[str, int], ...]:
    """Give the result of an operation that a guard of consent refused."""
    return (("consent", int(refusal)),)


def by_kernel(refusal: KernelRefusal) -> tuple[tuple[str, int], ...]:
    """Give the result of an operation that the kernel refused."""
    return ((KERNEL, int(refusal)),)

"""A consortium in which a centre signs for its patients, grants records and delivers them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yilian.crypto.suite import sha256
from yilian.ledger.cases import Command, Patient
from yilian.ledger.members import InstitutionKind, Role
from yilian.testing.consortium import Consortium, Party
from yilian.values import DAY, CaseId, Digest, digest, public_key, unix_millis
from yilian.workflows import audit, catalog, consent, governance
from yilian.workflows.catalog.model import Origin, Publish
from yilian.workflows.consent.model import Basis, GrantIssue, Propose, Sign, UseDeliver, UseReserve
from yilian.workflows.consent.policy import Access, Effect, Policy, Purpose, provision

MONTH = 2026 * 12 + 4


class World(Consortium):
    """The consortium, and what a story about audit needs to have happened before."""

    def done(
        self, party: Party, command: Command, case: CaseId | None = None, *roles: Role, refs: tuple[CaseId, ...] = ()
    ) -> CaseId:
        """Act, expect that it is done, and name the case."""
        answer = self.act(party, command, case, persons=roles, refs=refs)
        assert answer.ok, (answer.result, answer.message)
        return answer.case_id

    def published(self, party: Party, month: int = MONTH) -> tuple[CaseId, Digest]:
        """Publish a record of a month and give its entry and commitment."""
        commitment = digest(self.draw())
        command = Publish(
            tag=digest(self.draw()),
            root=digest(self.draw()),
            commitment=commitment,
            size_class=12,
            kind="C0007",
            level=3,
            month=month,  # type: ignore[arg-type]  # a literal of the unit
            origin=Origin.SYSTEM,
            late=False,
        )
        return self.done(party, command), commitment

    def policy(self) -> Policy:
        """Write a policy that permits treatment."""
        return Policy(
            begins=self.time,
            ends=unix_millis(self.time + 90 * DAY),
            maximum=100,
            depth=0,
            access=Access.VIEW,
            erase_by=None,
            base=provision(Effect.PERMIT, Purpose.TREAT),
            exceptions=(),
        )

    def custodial_consent(self) -> CaseId:
        """Have the centre propose a consent and sign it for its patient, with the paper that it published."""
        centre = self["centre"]
        paper_entry, paper = self.published(centre)
        text = sha256(b"text")
        proposal = Propose(
            patient=Patient(key=None, home=centre.id),
            text=text,
            language="zh",
            policy_uri=sha256(b"policy"),
            policy=self.policy(),
            replaces=None,
        )
        named = self.done(centre, proposal)
        return self.done(centre, Sign(text=text, paper=paper, paper_entry=paper_entry), named, Role.PHYSICIAN)

    def own_key_consent(self) -> CaseId:
        """Have the centre propose a consent to a patient who holds a key."""
        proposal = Propose(
            patient=Patient(key=public_key(self["centre"].person(Role.NURSE).public_key), home=None),
            text=sha256(b"text"),
            language="zh",
            policy_uri=sha256(b"policy"),
            policy=self.policy(),
            replaces=None,
        )
        return self.done(self["centre"], proposal)

    def reserved_use(self) -> CaseId:
        """Have the hospital reserve a use of a record of the centre."""
        covered_by = self.custodial_consent()
        entry, _ = self.published(self["centre"])
        grant = self.done(
            self["centre"],
            GrantIssue(
                basis=Basis.CONSENT,
                covered_by=covered_by,
                recipient=self["hospital"].id,
                purpose=Purpose.TREAT,
                entries=(entry,),
                level_cap=4,
                begins=self.time,
                ends=unix_millis(self.time + 30 * DAY),
                deliveries=5,
                depth=0,
            ),
        )
        return self.reserved("hospital", grant, entry, Role.PHYSICIAN, Purpose.TREAT)

    def reserved(self, recipient: str, grant: CaseId, entry: CaseId, role: Role, purpose: Purpose) -> CaseId:
        """Have a recipient reserve a delivery of one entry."""
        command = UseReserve(
            grant=grant,
            purpose=purpose,
            entries=(entry,),
            one_time=public_key(self.draw()),
            message=digest(self.draw()),
        )
        return self.done(self[recipient], command, None, role)

    def delivered_use(self) -> CaseId:
        """Have the centre deliver a record to the hospital."""
        return self.done(self["centre"], UseDeliver(mask=digest(self.draw())), self.reserved_use())


Told = Callable[[], CaseId]


@pytest.fixture
def world() -> World:
    """Give a centre, a hospital, two regulators and an audit body."""
    return World.found(
        {
            "centre": InstitutionKind.COMMUNITY_CENTRE,
            "hospital": InstitutionKind.HOSPITAL,
            "regulator": InstitutionKind.REGULATOR,
            "bureau": InstitutionKind.AUDIT_BODY,
        },
        workflows=(governance.WORKFLOW, catalog.WORKFLOW, consent.WORKFLOW, audit.WORKFLOW),
    )  # type: ignore[return-value]  # `found` makes the class that it is called on

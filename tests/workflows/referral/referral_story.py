"""A centre, hospitals and a patient with a wallet, and the way of one referral step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.ledger.cases import Case, Command, Found, Patient
from yilian.ledger.members import InstitutionKind, Role
from yilian.ledger.results import Answer
from yilian.testing.consortium import Consortium, Party
from yilian.values import DAY, MINUTE, CaseId, Day, Digest, day_of, digest, month_of, public_key, unix_millis
from yilian.workflows.catalog.interface import Origin, Publish
from yilian.workflows.catalog.model import (
    ChallengeAnswer,
    ChallengeExpire,
    ChallengeFail,
    ChallengeJudge,
    ChallengeOpen,
    ChallengePass,
    Withdraw,
)
from yilian.workflows.consent.interface import Access, Counters, Effect, Grant, Policy, Purpose, provision
from yilian.workflows.consent.model import (
    Attest,
    GrantRevoke,
    Propose,
    Revoke,
    Sign,
    UseConfirm,
    UseDeliver,
    UseReserve,
)
from yilian.workflows.governance.model import ProposalApply, ProposalOpen, ProposalVote
from yilian.workflows.governance.records import Choice, Suspend
from yilian.workflows.referral.model import (
    Accept,
    Arrive,
    Ask,
    Complete,
    Create,
    Direction,
    Missing,
    OpenDown,
    Receive,
    Referral,
    Schedule,
    State,
    Urgency,
    Verify,
)

C = TypeVar("C", bound=Case)

MEMBERS = {
    "centre": InstitutionKind.COMMUNITY_CENTRE,
    "hospital": InstitutionKind.HOSPITAL,
    "other": InstitutionKind.HOSPITAL,
    "laboratory": InstitutionKind.LABORATORY,
    "bureau": InstitutionKind.AUDIT_BODY,
}
GRADES = {"centre": "primary", "hospital": "tertiary", "other": "secondary"}
DOCTOR = (Role.PHYSICIAN,)
WALLET = Ed25519Signer.from_seed(sha256(b"wallet"))
AS_PATIENT = ((Role.PATIENT, WALLET),)


class Story:
    """A consortium with a consent, a request and two records of the centre, and what the parties usually do."""

    def __init__(
        self,
        *,
        parameters: Mapping[str, int] | None = None,
        words: Mapping[str, tuple[str, ...]] | None = None,
        grades: Mapping[str, str] | None = None,
        maximum: int = 1_000,
    ) -> None:
        self.consortium = Consortium.found(MEMBERS, grades=grades or GRADES, parameters=parameters, words=words)
        self.centre, self.hospital, self.other = (self.consortium[name] for name in ("centre", "hospital", "other"))
        self.request = self.publish(self.centre, kind="C0002")
        self.records = (self.publish(self.centre), self.publish(self.centre, level=4))
        self.consent = self.agree(maximum=maximum)

    def draw(self) -> Digest:
        """Give a digest that was not given before."""
        return digest(self.consortium.draw())

    def description(self, **fields: object) -> Publish:
        """Describe a record under a fresh tag."""
        plain: dict[str, Any] = {
            "tag": self.draw(),
            "root": self.draw(),
            "commitment": self.draw(),
            "size_class": 12,
            "kind": "C0007",
            "level": 3,
            "month": month_of(day_of(self.consortium.time)),
            "origin": Origin.SYSTEM,
            "late": False,
        }
        return Publish(**{**plain, **fields})

    def publish(self, party: Party, **fields: object) -> CaseId:
        """Publish an entry of a party."""
        return self.done(self.consortium.act(party, self.description(**fields)))

    def agree(self, *, kinds: tuple[str, ...] = (), maximum: int = 1_000, party: Party | None = None) -> CaseId:
        """Let a party propose a consent to everybody for treatment, for a year, and the patient sign it."""
        now = self.consortium.time
        policy = Policy(
            begins=now,
            ends=unix_millis(now + 365 * DAY),
            maximum=maximum,
            depth=1,
            access=Access.VIEW,
            erase_by=None,
            base=provision(Effect.PERMIT, Purpose.TREAT, kinds=kinds),
            exceptions=(),
        )
        text = self.draw()
        proposal = Propose(
            patient=Patient(key=WALLET.public_key, home=None),
            text=text,
            language="zh",
            policy_uri=self.draw(),
            policy=policy,
            replaces=None,
        )
        consent = self.done(self.consortium.act(party or self.centre, proposal, persons=DOCTOR))
        signing = Sign(text=text, paper=None, paper_entry=None)
        self.done(self.consortium.act(party or self.centre, signing, consent, persons=AS_PATIENT))
        return consent

    def attest(self, party: Party, consent: CaseId | None = None) -> None:
        """Let a custodian attest a consent."""
        self.done(self.consortium.act(party, Attest(), consent or self.consent))

    def creation(self, **fields: object) -> Create:
        """Give the command that asks the hospital to take the patient."""
        plain: dict[str, Any] = {
            "receiver": self.hospital.id,
            "direction": Direction.UP,
            "urgency": Urgency.ROUTINE,
            "request": self.request,
            "records": self.records,
            "consent": self.consent,
            "deliveries": 10,
            "view_until": unix_millis(self.consortium.time + 120 * DAY),
            "patient": Patient(key=WALLET.public_key, home=None),
        }
        return Create(**{**plain, **fields})

    def create(self, *, refs: Sequence[CaseId] = (), party: Party | None = None, **fields: object) -> Answer:
        """Create a referral as the centre's physician."""
        return self.consortium.act(party or self.centre, self.creation(**fields), persons=DOCTOR, refs=refs)

    def act(self, party: Party, command: Command, case: CaseId, *, refs: Sequence[CaseId] = ()) -> Answer:
        """Act as a party's node."""
        return self.consortium.act(party, command, case, refs=refs)

    def doctor(self, party: Party, command: Command, case: CaseId, *, refs: Sequence[CaseId] = ()) -> Answer:
        """Act as a party's physician."""
        return self.consortium.act(party, command, case, persons=DOCTOR, refs=refs)

    def challenge(self, entries: Sequence[CaseId], *, by: Party | None = None) -> CaseId:
        """Open a challenge to the centre."""
        command = ChallengeOpen(custodian=self.centre.id, entries=tuple(entries))
        return self.done(self.consortium.act(by or self.hospital, command))

    def passed(self, entries: Sequence[CaseId], *, by: Party | None = None) -> CaseId:
        """Challenge the centre, which holds the entries."""
        challenge = self.challenge(entries, by=by)
        self.done(self.act(self.centre, ChallengeAnswer(message=self.draw()), challenge))
        self.done(self.act(by or self.hospital, ChallengePass(), challenge))
        return challenge

    def lapsed(self, entries: Sequence[CaseId]) -> CaseId:
        """Challenge the centre, which does not answer."""
        challenge = self.challenge(entries)
        self.consortium.advance(2 * MINUTE)
        self.done(self.act(self.hospital, ChallengeExpire(), challenge))
        return challenge

    def failed(self, entries: Sequence[CaseId], lost: Sequence[CaseId]) -> CaseId:
        """Challenge the centre, which answers wrongly for the lost ones, as an auditor finds."""
        challenge = self.challenge(entries)
        message = self.draw()
        self.done(self.act(self.centre, ChallengeAnswer(message=message), challenge))
        self.done(self.act(self.hospital, ChallengeFail(entries=tuple(lost)), challenge))
        judging = ChallengeJudge(message=message, failed=tuple(lost))
        self.done(self.consortium.act(self.consortium["bureau"], judging, challenge, persons=[Role.AUDITOR]))
        return challenge

    def at(self, state: State, **fields: object) -> CaseId:
        """Bring a new referral to a state, on the straight way."""
        case = self.done(self.consortium.act(self.centre, self.creation(**fields), persons=DOCTOR))
        for reached, step in (
            (State.VERIFIED, self._verify),
            (State.RECEIVED, lambda one: self.act(self.hospital, Receive(), one)),
            (State.NEED_INFO, self._ask if state == State.NEED_INFO else None),
            (State.ACCEPTED, lambda one: self.doctor(self.hospital, Accept(), one)),
            (State.SCHEDULED, lambda one: self.doctor(self.hospital, Schedule(day=self.day(3)), one)),
            (State.IN_CARE, lambda one: self.act(self.hospital, Arrive(), one)),
            (State.COMPLETED, self._complete),
        ):
            if self.case(case).state == state:
                break
            if step is not None:
                self.done(step(case))
                assert self.case(case).state == reached
        assert self.case(case).state == state
        return case

    def _verify(self, case: CaseId) -> Answer:
        fields = self.case(case).fields
        challenge = self.passed((fields.request, *fields.records))
        return self.act(self.hospital, Verify(), case, refs=[challenge])

    def _ask(self, case: CaseId) -> Answer:
        return self.doctor(self.hospital, Ask(missing=(Missing.IMAGING,)), case)

    def _complete(self, case: CaseId) -> Answer:
        self.attest(self.hospital, self.case(case).fields.consent)
        result = self.publish(self.hospital, kind="C0053")
        return self.doctor(self.hospital, self.completion(result=result), case)

    def completion(self, **fields: object) -> Complete:
        """Give the command that gives a result back."""
        plain: dict[str, Any] = {
            "result": None,
            "deliveries": 2,
            "view_until": unix_millis(self.consortium.time + 60 * DAY),
            "publish": None,
        }
        return Complete(**{**plain, **fields})

    def read(self, party: Party, custodian: Party, grant: CaseId, entries: Sequence[CaseId]) -> CaseId:
        """Reserve as a physician, deliver and confirm."""
        reserving = self.reservation(grant, entries, Purpose.TREAT)
        use = self.done(self.consortium.act(party, reserving, persons=DOCTOR))
        self.done(self.act(custodian, UseDeliver(mask=self.draw()), use))
        self.done(self.act(party, UseConfirm(), use))
        return use

    def reservation(self, grant: CaseId, entries: Sequence[CaseId], purpose: Purpose) -> UseReserve:
        """Give the command with which a physician asks for deliveries."""
        return UseReserve(
            grant=grant,
            purpose=purpose,
            entries=tuple(entries),
            one_time=public_key(self.draw()),
            message=self.draw(),
        )

    def revoke(self, grant: CaseId) -> None:
        """Let the custodian revoke a grant."""
        self.done(self.act(self.centre, GrantRevoke(paper=None), grant))

    def revoke_consent(self) -> None:
        """Let the patient revoke the consent."""
        self.done(self.consortium.act(self.centre, Revoke(paper=None), self.consent, persons=AS_PATIENT))

    def withdraw(self, entry: CaseId) -> None:
        """Let the centre withdraw an entry."""
        self.done(self.consortium.act(self.centre, Withdraw(), entry, persons=[Role.DATA_OFFICER]))

    def opening_down(self, case: CaseId) -> OpenDown:
        """Give the command that only `referral.refer_down` may send."""
        return OpenDown(new=self.creation(direction=Direction.DOWN), predecessor=case)

    def consequence_id(self, party: Party, case: CaseId, operation: bytes) -> CaseId:
        """Derive the id of the first case that a step of a case opens beside itself."""
        call = self.consortium.call(party, operation)
        return replace(call, case_id=case, header=self.case(case).header).new_id(1)

    def suspend(self, party: Party) -> None:
        """Let the other members suspend one."""
        others = [one for one in self.consortium.parties.values() if one is not party]
        opening = ProposalOpen(action=Suspend(institution=party.id, reason="incident"))
        proposal = self.done(self.consortium.act(others[0], opening, persons=[Role.OFFICER]))
        for one in others:
            self.done(self.consortium.act(one, ProposalVote(choice=Choice.YES), proposal, persons=[Role.OFFICER]))
        self.done(self.consortium.act(others[0], ProposalApply(), proposal))

    def day(self, later: int) -> Day:
        """Give the day a number of days after today."""
        return day_of(unix_millis(self.consortium.time + later * DAY))

    def case(self, case: CaseId) -> Found[Referral]:
        """Get a referral."""
        return self.get(Referral, case)

    def grant(self, case: CaseId, place: int) -> Found[Grant]:
        """Get the grant over the request (0), the records (1) or the result (2) of a referral."""
        return self.get(Grant, self.case(case).fields.grants[place])

    def allowed(self, case: CaseId, place: int) -> int:
        """Get N of a grant of a referral."""
        row = self.consortium.register(Counters, self.case(case).fields.grants[place])
        assert row is not None
        return row.n

    def get(self, kind: type[C], case: CaseId) -> Found[C]:
        """Get a case that must be there."""
        found = self.consortium.case(kind, case)
        assert found is not None
        return found

    def done(self, answer: Answer) -> CaseId:
        """Take a step as done, and give its case."""
        assert answer.ok, f"{answer.command}: {answer.result} {answer.message}"
        return answer.case_id

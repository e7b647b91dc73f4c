"""The act of the wallet: a patient decides on a phone, and a grant is passed on within its bounds."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from yilian.client.wallet import Wallet, opened_case_id
from yilian.crypto.suite import sha256
from yilian.demo.consortium import CENTRAL, COMMUNITIES, LABORATORY, LAKESIDE, SECOND
from yilian.demo.faces import Face, ids, wait_until
from yilian.demo.journeys import Journey, look, treat
from yilian.demo.stage import Stage
from yilian.demo.telling import short
from yilian.errors import NotFoundError
from yilian.ledger.cases import Patient
from yilian.ledger.members import Role
from yilian.node.care import RESULT_DELIVERIES
from yilian.values import (
    DAY,
    EntryId,
    InstitutionId,
    UnixMillis,
    case_id,
    digest,
    institution_id,
    op_id,
    unix_millis,
)
from yilian.workflows.consent.asking import POLICY_URI, text_digest, treatment_policy
from yilian.workflows.consent.model import Basis, GrantDelegate, GrantIssue, Propose, Sign
from yilian.workflows.consent.policy import Access, Effect, Policy, Purpose, provision
from yilian.workflows.referral.model import Create, Direction, Urgency

MOST_TRIED, LEAST_ENTRIES = 8, 2
LASTS = 90 * DAY


class Decided:
    """What the patient of the wallet agreed to, for the acts that follow."""

    def __init__(self, stage: Stage) -> None:
        shown = stage.done.shown
        self.stage = stage
        self.place = next(place for place in COMMUNITIES if place.slug == shown.get("wallet_place", LAKESIDE.slug))
        self.chain = digest(bytes.fromhex(stage.face(LAKESIDE, "physician").me()["chain"]))
        self.wallet = _wallet(stage)
        self.entries = [entry for entry in shown.get("wallet_entries", "").split(",") if entry]
        self.subject = ""
        self.consent = shown.get("wallet_consent", "")
        self.grant = shown.get("wallet_grant", "")

    @property
    def physician(self) -> Face:
        """A physician of the custodian."""
        return self.stage.face(self.place, "physician")

    def id(self) -> InstitutionId:
        """Give the id of the custodian."""
        return institution_id(bytes.fromhex(self.stage.id(self.place)))

    def now(self) -> UnixMillis:
        """Give the time of the newest block, or of this machine where that is later."""
        return unix_millis(int(self.physician.get("/v1/ledger")["time"]))

    def issue(
        self, recipient: str, entries: Sequence[str], *, deliveries: int, depth: int = 0, lasts: int = LASTS // 2
    ) -> str:
        """Let the custodian's node grant entries on the consent, and give the grant."""
        now = self.now()
        command = GrantIssue(
            basis=Basis.CONSENT,
            covered_by=case_id(bytes.fromhex(self.consent)),
            recipient=institution_id(bytes.fromhex(recipient)),
            purpose=Purpose.TREAT,
            entries=ids(entries),
            level_cap=4,
            begins=now,
            ends=unix_millis(now + lasts),
            deliveries=deliveries,
            depth=depth,
        )
        grant: str = self.stage.face(self.place, "data-officer").take(command)["case_id"]
        return grant


def decide(stage: Stage) -> Decided:
    """Register a wallet, let it sign a consent, grant on it, and pass a part on."""
    decided = Decided(stage)
    if stage.is_done("wallet"):
        return decided
    stage.tell.chapter("wallet")
    _register(decided)
    stage.tell.say("wallet_made", name=stage.name(decided.place), count=len(decided.entries))
    _refer(decided)
    decided.consent = _consent(decided)
    stage.tell.say("wallet_signed", consent=short(decided.consent))
    _grant_and_delegate(decided)
    stage.show(
        wallet_place=decided.place.slug,
        wallet_entries=",".join(decided.entries),
        wallet_consent=decided.consent,
        wallet_grant=decided.grant,
    )
    stage.finish("wallet")
    return decided


def _wallet(stage: Stage) -> Wallet:
    """Open the patient's wallet, which lies beside the home as a phone would, or make it."""
    file, passphrase = stage.home.people / "phone.yilian-wallet", stage.home.passphrase(stage.settings)
    if file.exists():
        return Wallet.load(file, passphrase)
    stage.home.people.mkdir(mode=0o700, exist_ok=True)
    return Wallet.create(file, passphrase)


def _register(decided: Decided) -> None:
    """Find a resident of a community with some records there, and register a phone's wallet."""
    for place in COMMUNITIES:
        decided.place = place
        # not of high risk: those are referred on paper
        found = decided.physician.get("/v1/screenings/risks")
        for subject in [item["subject"] for item in found if item["risk_class"] != "high"][:MOST_TRIED]:
            decided.subject = subject
            decided.entries = _registered(decided)
            if len(decided.entries) >= LEAST_ENTRIES:
                return
    raise NotFoundError(f"no resident of a community has {LEAST_ENTRIES} records there: use more residents")


def _registered(decided: Decided) -> list[str]:
    """Register the wallet for a resident, and give the entries that its keys find."""
    face = decided.physician
    asked = {"subject": decided.subject, "exchange_key": decided.wallet.exchange_key.hex()}
    sealed = [
        (institution_id(bytes.fromhex(key["custodian"])), int(key["year"]), bytes.fromhex(key["wrapped"]))
        for key in face.post("/v1/wallets", asked)
    ]
    decided.wallet.add_keys(decided.chain, sealed)
    return [item.entry.hex() for item in decided.wallet.entries(decided.chain, lambda wanted: _look_up(face, wanted))]


def _look_up(face: Face, entries: Sequence[EntryId]) -> dict[EntryId, object]:
    """Give those of some ids that stand in the catalogue and are current."""
    found: dict[EntryId, object] = {}
    for entry in entries:
        with suppress(NotFoundError):
            row = face.case(entry.hex())
            if row["state"] == "current":
                found[entry] = row
    return found


def _consent(decided: Decided) -> str:
    """Let the wallet permit two hospitals and a laboratory to treat with these records, and to pass them on once."""
    stage, now = decided.stage, decided.now()
    recipients = tuple(institution_id(bytes.fromhex(stage.id(place))) for place in (CENTRAL, SECOND, LABORATORY))
    policy = Policy(
        begins=now,
        ends=unix_millis(now + LASTS),
        maximum=200,
        depth=1,
        access=Access.STORE,
        erase_by=None,
        base=provision(Effect.PERMIT, Purpose.TREAT, recipients=recipients, custodians=(decided.id(),)),
        exceptions=(),
    )
    return _signed(decided, policy)


def _signed(decided: Decided, policy: Policy) -> str:
    """Put a policy to the patient; the wallet makes a key for this case alone and signs. Gives the consent."""
    stage, op = decided.stage, op_id(secrets.token_bytes(16))
    signer = decided.wallet.case_signer(opened_case_id(decided.chain, decided.id(), op))
    text = text_digest(stage.tell.language)
    command = Propose(
        patient=Patient(key=signer.public_key, home=None),
        text=text,
        language=stage.tell.language,
        policy_uri=sha256(POLICY_URI.encode()),
        policy=policy,
        replaces=None,
    )
    consent: str = decided.physician.take(command, op_id=op.hex())["case_id"]
    decided.physician.take_with(signer, Role.PATIENT, Sign(text=text, paper=None, paper_entry=None), consent)
    return consent


def _refer(decided: Decided) -> None:
    """Refer the patient under a consent of the wallet: the request is published, the wallet signs, without paper."""
    stage, op = decided.stage, op_id(secrets.token_bytes(16))
    asked = {
        "subject": decided.subject,
        "receiver": stage.id(CENTRAL),
        "purpose": stage.tell.words("notes", "purpose"),
        "language": stage.tell.language,
    }
    made = decided.physician.post("/v1/referrals/requests", asked)
    # what may go along without a leave of its own: none of level 5, which only the custodian can tell
    decided.entries = made["records"]
    parameters = decided.physician.get("/v1/network/parameters")
    receiver, now = institution_id(bytes.fromhex(stage.id(CENTRAL))), decided.now()
    policy = treatment_policy(
        referrer=decided.id(),
        receiver=receiver,
        result_kinds=parameters["referral.result_classes"],
        begins=now,
        ends=unix_millis(now + LASTS),
        maximum=parameters["referral.request_deliveries"] + made["deliveries"] + RESULT_DELIVERIES,
    )
    consent = _signed(decided, policy)
    # a key of this case alone, as for every case: keys link nothing
    signer = decided.wallet.case_signer(opened_case_id(decided.chain, decided.id(), op))
    command = Create(
        receiver=receiver,
        direction=Direction.UP,
        urgency=Urgency.ROUTINE,
        request=case_id(bytes.fromhex(made["request"])),
        records=ids(made["records"]),
        consent=case_id(bytes.fromhex(consent)),
        deliveries=made["deliveries"],
        view_until=unix_millis(now + LASTS // 2),
        patient=Patient(key=signer.public_key, home=None),
    )
    case = decided.physician.take(command, op_id=op.hex())["case_id"]
    journey = Journey(referrer=decided.place, receiver=CENTRAL, subject=decided.subject)
    look(stage, journey, case)
    treat(stage, journey, case)
    stage.tell.say("wallet_referred", name=stage.name(decided.place), receiver=stage.name(CENTRAL), case=short(case))


def _grant_and_delegate(decided: Decided) -> None:
    """Grant to the hospital, which fetches and passes one entry on to the laboratory."""
    stage, entries = decided.stage, decided.entries[:LEAST_ENTRIES]
    hospital, technician = stage.face(CENTRAL, "physician"), stage.face(LABORATORY, "technician")
    decided.grant = decided.issue(stage.id(CENTRAL), entries, deliveries=8, depth=1)
    stage.tell.say(
        "granted", name=stage.name(decided.place), receiver=stage.name(CENTRAL), entries=len(entries), deliveries=8
    )
    hospital.get_records(decided.grant)
    fields = hospital.case(decided.grant)["fields"]
    hospital.take(delegation(decided, entries[:1], ends=fields["ends"], deliveries=2), decided.grant)
    # the list is of the read model, which follows the ledger a moment later
    laboratory = stage.id(LABORATORY)
    (child,) = wait_until(
        lambda: list(hospital.pages("/v1/cases", kind="grant", institution=laboratory, position="recipient")),
        "the grant that was passed on",
    )
    technician.get_records(child["case_id"])
    stage.show(passed_on=entries[0])
    stage.tell.say("delegated", receiver=stage.name(CENTRAL), third=stage.name(LABORATORY), deliveries=2)


def delegation(decided: Decided, entries: Sequence[str], *, ends: int, deliveries: int) -> GrantDelegate:
    """Write what passes entries on to the laboratory until some time."""
    return GrantDelegate(
        recipient=institution_id(bytes.fromhex(decided.stage.id(LABORATORY))),
        purpose=Purpose.TREAT,
        entries=ids(entries),
        level_cap=4,
        begins=decided.now(),
        ends=unix_millis(ends),
        deliveries=deliveries,
        depth=0,
    )

"""What the API may ask of a node: `web.app.NodeLike` over the open node and its services."""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from yilian.clinic.screening import RiskClass
from yilian.crypto.suite import Signer
from yilian.engine.gateway import Gateway, Signed
from yilian.engine.port import Engine
from yilian.errors import ConflictError, NoGrantError, SettingsError, UnavailableError
from yilian.ledger.block import Genesis, member_id
from yilian.ledger.claims import SALT_BYTES, Claim, make_claims
from yilian.ledger.members import Role, is_valid
from yilian.ledger.registry import Registry
from yilian.ledger.results import Answer as OperationAnswer
from yilian.node import care, exchange, notices, receipts, screening
from yilian.node.backup import backup_file, make_backup, sources_of
from yilian.node.checkpoints import LogFace
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.node.imports import run_import
from yilian.node.jobs import Progress
from yilian.node.organisations import OrganisationTable
from yilian.node.paths import import_path
from yilian.node.registration import get_subject
from yilian.node.upkeep import UpkeepApi
from yilian.node.views import fetched_view, verified_copy, wish_of
from yilian.standards.fhir.findings import Region
from yilian.storage.port import Index
from yilian.storage.vault.access import Answer, ApiKey
from yilian.storage.vault.records import RecordStatus
from yilian.values import MINUTE, CaseId, EntryId, InstitutionId, OpId, case_id, institution_id
from yilian.web.app import Caller, Document
from yilian.web.app.drafts import draft_view
from yilian.web.app.ports import ProofAsked
from yilian.web.app.views import (
    AuditAsked,
    AuditView,
    BackupAsked,
    CompletionAsked,
    EmergencyAsked,
    EmergencyView,
    FetchedView,
    ImportAsked,
    JobView,
    ReceivedView,
    ReferralAsked,
    ReferralView,
    RequestAsked,
    RequestView,
    ResultView,
    RiskView,
    ScreeningAsked,
    SubjectView,
    VerifiedView,
    WalletKeyView,
)
from yilian.web.kit.answers import DAY_MS, Kept
from yilian.web.kit.jsonform import to_json
from yilian.web.kit.keys import is_same
from yilian.workflows.audit.questions import Questions
from yilian.workflows.catalog import opening
from yilian.workflows.consent.emergency_model import EmergencyReason
from yilian.workflows.consent.model import Use
from yilian.workflows.consent.service import Identity

KNOWN_FOR_S = 1.0
"""How long a key once found is not looked up again; a revoked one works no longer than that."""
MOST_IDS = 20
FHIR_JSON = "application/fhir+json"

Report = Callable[[Mapping[str, int | float | str]], None]


class NodeApi:
    """The services of a node for the callers of its API; any thread."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.organisations = OrganisationTable(node.home.path / "organisations.toml", node.hosts)
        self._known: dict[bytes, tuple[float, Caller]] = {}
        self._stops: dict[bytes, threading.Event] = {}
        self.upkeep = UpkeepApi(node, self._start)

    # ------------------------------------------------------------------------------------------------ who and where

    @property
    def genesis(self) -> Genesis:
        """The start of the chain."""
        return self.node.genesis

    @property
    def engine(self) -> Engine:
        """The chain."""
        return self.node.engine

    @property
    def registry(self) -> Registry:
        """The workflows of the chain."""
        return self.node.registry

    @property
    def index(self) -> Index:
        """The read model."""
        return self.node.index

    @property
    def log(self) -> LogFace:
        """The log for auditors."""
        return LogFace(self.node.checkpoints)

    def slug_of(self, institution: InstitutionId) -> str:
        """Give the short name of an institution of this node; empty for another's."""
        host = self.node.host_of(institution)
        return "" if host is None else host.slug

    def identify(self, token_hash: bytes) -> Caller | None:
        """Find whom an API key stands for; see `NodeLike`."""
        known = self._known.get(token_hash)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        for host in tuple(self.node.hosts.values()):
            key = host.vault.access.find_api_key(token_hash)
            if key is not None and is_same(key.token_hash, token_hash) and not key.is_revoked:
                if not self._is_registered(host, key):
                    return None
                caller = Caller(
                    slug=host.slug, institution=host.id, key_id=key.key_id, role=Role(key.role), label=key.label
                )
                self._known = {**self._living(), token_hash: (time.monotonic() + KNOWN_FOR_S, caller)}
                return caller
        return None

    def _is_registered(self, host: Host, key: ApiKey) -> bool:
        """Say whether the ledger lets the person's key sign now: with it falls what the API key opens."""
        found = self.engine.directory().key(key.key_id)
        return (
            found is not None
            and (found.fields.owner, found.fields.role) == (host.id, Role(key.role))
            and is_valid(found.fields, found.state, self.node.clock())
        )

    def gateway(self, caller: Caller) -> Gateway:
        """Give the hand of the caller's institution on the ledger."""
        return self._host(caller).gateway

    def signer(self, caller: Caller) -> Signer | None:
        """Give the caller's own key where this node holds it."""
        person = self._host(caller).person_of_key(caller.key_id)
        return None if person is None else person.signer

    def send(self, caller: Caller, operation: Signed) -> OperationAnswer:
        """Send an operation; who is to know of it directly is told without waiting for either."""
        host = self._host(caller)
        notices.give(self.node, host, operation)
        (answer,) = host.gateway.send([operation])
        return answer

    def keep_claims(self, caller: Caller, op: OpId, values: Mapping[str, str]) -> tuple[Claim, ...]:
        """Salt and keep the claims of an operation; errors as `NodeLike`."""
        salts = [secrets.token_bytes(SALT_BYTES) for _ in values]
        return self._host(caller).vault.claims.keep(op, make_claims(values, salts))

    def prove(self, caller: Caller, asked: ProofAsked) -> bytes:
        """Make a receipt; errors as `NodeLike`."""
        return receipts.prove(self.node, self._host(caller), asked)

    def find_answer(self, caller: Caller, key_hash: bytes) -> Kept | None:
        """Give the answer kept under an idempotency key."""
        found = self._host(caller).vault.access.find_answer(key_hash)
        if found is None or found.expires < _now():
            return None
        return Kept(request=found.request, status=found.status, body=found.body)

    def keep_answer(self, caller: Caller, key_hash: bytes, kept: Kept) -> None:
        """Keep an answer for a day."""
        access = self._host(caller).vault.access
        access.forget_expired(_now())
        access.remember(
            Answer(
                key_hash=key_hash,
                request=kept.request,
                status=kept.status,
                body=kept.body,
                expires=_now() + DAY_MS,
            )
        )

    def ids_with_prefix(self, prefix: str) -> tuple[CaseId, ...]:
        """Give at most 20 ids of cases that begin with some hex digits."""
        if len(prefix) == 64:
            whole = case_id(bytes.fromhex(prefix))
            return (whole,) if self.engine.find_case(whole) is not None else ()
        members = [case_id(member_id(founder.member.ca_fingerprint)) for founder in self.genesis.founders]
        found = [one for one in members if one.hex().startswith(prefix)]
        first, last = (bytes.fromhex(prefix.ljust(64, digit)) for digit in "0f")
        found += [case_id(one) for one in self.index.ids_between(first, last, limit=MOST_IDS)]
        return tuple(dict.fromkeys(found))[:MOST_IDS]

    # ------------------------------------------------------------------------------------------------------- records

    def received(self, caller: Caller) -> tuple[ReceivedView, ...]:
        """List the copies that were delivered here."""
        host = self._host(caller)
        views = []
        for copy in host.vault.releases.copies():
            use = host.gateway.find(Use, copy.use_id)
            custodian = use.fields.custodian.hex() if use is not None else ""
            views.append(ReceivedView(entry_id=copy.entry_id.hex(), use_id=copy.use_id.hex(), custodian=custodian))
        return tuple(views)

    def open_record(self, caller: Caller, entry: EntryId) -> Document:
        """Decrypt and verify an own record, or a copy delivered here; errors as `NodeLike`."""
        host = self._host(caller)
        own = host.vault.records.find(entry)
        if own is not None and own.status != RecordStatus.ERASED:
            return Document(content=opening.open_record(host, entry), content_type=own.content_type)
        return Document(content=opening.open_copy(host, entry), content_type=FHIR_JSON)

    def verify_record(self, caller: Caller, entry: EntryId) -> VerifiedView:
        """Verify an own record, or a copy delivered here, without giving it out."""
        host = self._host(caller)
        if host.vault.records.find(entry) is None:
            return verified_copy(host, entry)
        found = opening.verify_record(host, entry)
        return VerifiedView(
            entry_id=found.entry_id.hex(),
            state=found.state,
            root=found.root.hex(),
            commitment=found.commitment.hex(),
            true_size=found.true_size,
        )

    def fetch(self, caller: Caller, grant: CaseId, entries: tuple[EntryId, ...]) -> FetchedView:
        """Fetch entries under a grant; a key on a device gets the reservation as a draft, the ledger then delivers."""
        host, signer = self._host(caller), self.signer(caller)
        if signer is not None:
            found = exchange.fetch(self.node, host, grant, entries=entries, signer=signer, role=caller.role)
            return fetched_view(found)
        asked = exchange.begin(self.node, host, grant, entries=entries, person=caller.key_id)
        return FetchedView(
            use_id=asked.draft.case_id.hex(),
            state="draft",
            entries=tuple(one.hex() for one in asked.entries),
            verified=False,
            draft=draft_view(self.engine, caller.institution, asked.draft, ((caller.key_id, caller.role),)),
        )

    # ---------------------------------------------------------------------------------------------------------- jobs

    def start_import(self, caller: Caller, asked: ImportAsked) -> bytes:
        """Start an import and give its job id."""
        host = self._host(caller)
        path = import_path(asked.path, self.node.home, host.slug, self.node.settings.imports.folders)

        def work(report: Report) -> Mapping[str, object]:
            done = run_import(
                host,
                path,
                self.organisations,
                explicit=asked.mapping or None,
                explicit_only=asked.only_mapped,
                report=report,
                batch=self.node.settings.imports.batch,
            )
            return done.figures()

        return self._start(host, "import", work)

    def start_backup(self, caller: Caller, asked: BackupAsked) -> bytes:
        """Start a backup of the node and give its job id."""
        host = self._host(caller)
        file = backup_file(self.node.home, self.node.settings, asked.name)

        def work(report: Report) -> Mapping[str, object]:
            sources = sources_of(self.node, host)
            made = make_backup(sources, file, asked.passphrase.encode(), with_blobs=asked.blobs, report=report)
            return made.figures()

        return self._start(host, "backup", work)

    def start_screening(self, caller: Caller, asked: ScreeningAsked) -> bytes:
        """Start a screening and give its job id."""
        host = self._host(caller)
        region = (
            Region(north=asked.north, urban=asked.urban)
            if asked.north is not None and asked.urban is not None
            else None
        )

        def work(report: Report) -> Mapping[str, object]:
            return screening.run_screening(host, by=caller.key_id, region=region, report=report).figures()

        return self._start(host, "screening", work)

    def job(self, caller: Caller, job_id: bytes) -> JobView:
        """Give a job of the caller's institution."""
        job = self.node.jobs.get(self._host(caller), job_id)
        return JobView(
            job_id=job.job_id.hex(),
            kind=job.kind,
            state=job.state.value,
            started=job.started,
            finished=job.finished,
            progress=msgspec.json.decode(job.progress, type=dict[str, Any]),
        )

    def cancel_job(self, caller: Caller, job_id: bytes) -> JobView:
        """Stop a job at its next report."""
        view = self.job(caller, job_id)
        stop = self._stops.get(job_id)
        if view.state != "RUNNING" or stop is None:
            raise ConflictError(f"job {view.job_id} is {view.state}, expected RUNNING: there is nothing to stop")
        stop.set()
        return view

    # -------------------------------------------------------------------------------------------------------- people

    def find_subject(self, caller: Caller, identifier: str) -> SubjectView:
        """Find a patient of the caller's institution."""
        host = self._host(caller)
        subject = get_subject(host.vault, identifier)
        records = host.vault.records.of_subject(subject.subject_ref)
        return SubjectView(
            subject=subject.subject_ref.hex(),
            entries=tuple(one.entry_id.hex() for one in records if one.status == RecordStatus.PUBLISHED),
        )

    def register_wallet(self, caller: Caller, subject: bytes, exchange_key: bytes) -> tuple[WalletKeyView, ...]:
        """Register a patient's wallet and give the subject keys sealed to it."""
        keys = opening.register_wallet(self._host(caller), subject, exchange_key)
        return tuple(
            WalletKeyView(custodian=key.custodian.hex(), year=key.year, wrapped=key.wrapped.hex()) for key in keys
        )

    def risks(self, caller: Caller, risk_class: str | None) -> tuple[RiskView, ...]:
        """Give the latest results of screening, the highest risk first."""
        host = self._host(caller)
        open_ = {item.subject_ref for item in screening.proposals(host)}
        wanted = None if risk_class is None else RiskClass(risk_class)
        return tuple(
            RiskView(
                subject=item.subject_ref.hex(),
                risk_class=None if item.risk_class is None else item.risk_class.value,
                model=item.model,
                percent=item.percent,
                version=item.version,
                missing=item.missing,
                referred=item.risk_class == RiskClass.HIGH and item.subject_ref not in open_,
            )
            for item in screening.results(host, wanted)
        )

    def refer(self, caller: Caller, asked: ReferralAsked) -> ReferralView:
        """Refer a patient with a witnessed consent on paper."""
        host, signer = self._host(caller), self._own_signer(caller)
        try:
            paper = base64.b64decode(asked.paper, validate=True)
        except binascii.Error:
            raise SettingsError("paper is no Base64: encode the scan anew") from None
        witnessed = care.Witnessed(paper=paper, content_type=asked.paper_type, witness=signer, role=caller.role)
        done = care.refer(host, wish_of(asked), signer, witnessed)
        return ReferralView(
            case_id=done.case.hex(),
            consent=done.consent.hex(),
            request=done.request.hex(),
            records=tuple(one.hex() for one in done.records),
        )

    def prepare_request(self, caller: Caller, asked: RequestAsked) -> RequestView:
        """Seal and publish the request of a referral."""
        made = care.prepare_request(self._host(caller), wish_of(asked))
        return RequestView(
            request=made.request.hex(), records=tuple(one.hex() for one in made.records), deliveries=made.deliveries
        )

    def open_emergency(self, caller: Caller, asked: EmergencyAsked) -> EmergencyView:
        """Tell one custodian whom it is about, and open an emergency access."""
        answer = exchange.open_emergency(
            self.node,
            self._host(caller),
            institution_id(bytes.fromhex(asked.custodian)),
            identity=Identity(identifiers=asked.identifiers),
            reason=EmergencyReason(asked.reason),
            lasts_ms=asked.minutes * MINUTE,
            signer=self._own_signer(caller),
        )
        return EmergencyView(case_id=answer.case_id.hex())

    def complete(self, caller: Caller, referral: CaseId, asked: CompletionAsked) -> ResultView:
        """Give the result of a referral back."""
        result = care.complete(
            self._host(caller),
            referral,
            self._own_signer(caller),
            text=asked.text,
            title=asked.title,
            deliveries=asked.deliveries,
            view_days=asked.days,
        )
        return ResultView(case_id=referral.hex(), result=result.hex())

    # --------------------------------------------------------------------------------------------------------- audit

    def audit_who(self, caller: Caller, asked: AuditAsked) -> AuditView:  # noqa: ARG002 - every member may ask
        """Say who got what, when, granted by whom, in what scope, which use of how many, passed on to whom."""
        filters = {name: bytes.fromhex(value) for name, value in msgspec.structs.asdict(asked).items() if value}
        return self._answered("who", Questions(self.index).deliveries(**filters))

    def audit_case(self, caller: Caller, case: CaseId) -> AuditView:  # noqa: ARG002 - as above
        """Tell the whole course of a case."""
        return self._answered("case", (Questions(self.index).case_file(case),))

    def audit_unmatched(self, caller: Caller) -> AuditView:  # noqa: ARG002 - as above
        """List disclosures of which only one side was told."""
        return self._answered("unmatched", Questions(self.index).unmatched())

    # ------------------------------------------------------------------------------------------------------- helpers

    def _host(self, caller: Caller) -> Host:
        return self.node.host(caller.slug)

    def _living(self) -> dict[bytes, tuple[float, Caller]]:
        now = time.monotonic()
        return {name: known for name, known in self._known.items() if known[0] > now}

    def _own_signer(self, caller: Caller) -> Signer:
        signer = self.signer(caller)
        if signer is None:
            raise NoGrantError(
                f"the key of {caller.label} lies on a device, expected one that this node holds: "
                "take the steps one by one, each drafted here and signed there"
            )
        return signer

    def _start(self, host: Host, kind: str, work: Callable[[Report], Mapping[str, object]]) -> bytes:
        stop = threading.Event()

        def run(progress: Progress) -> Mapping[str, object]:
            def report(figures: Mapping[str, int | float | str]) -> None:
                if stop.is_set():
                    raise UnavailableError("the job was cancelled: start it again, it goes on from there")
                progress.report(figures)

            return work(report)

        job_id = self.node.jobs.start(host, kind, run)
        self._stops = {**self._stops, job_id: stop}
        return job_id

    def _answered(self, question: str, rows: tuple[msgspec.Struct, ...]) -> AuditView:
        return AuditView(question=question, rows=tuple(to_json(row) for row in rows), height=self.index.height())


def _now() -> int:
    return time.time_ns() // 1_000_000

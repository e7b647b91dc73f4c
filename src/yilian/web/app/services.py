"""Work that a node does beside the ledger: records, imports, screening, referrals, wallets, questions of audit."""

from __future__ import annotations

from typing import Annotated, cast

from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter

from yilian.ledger.members import Role
from yilian.values import case_id
from yilian.web.app.context import Context, Req, once, says
from yilian.web.app.ledger import IdText, PathId
from yilian.web.app.permits import may
from yilian.web.app.steps import sign, submit
from yilian.web.app.views import (
    AnswerView,
    AuditAsked,
    AuditView,
    CompletionAsked,
    EmergencyAsked,
    EmergencyView,
    FetchAsked,
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
    SignAsked,
    SignatureView,
    SubjectAsked,
    SubjectView,
    SubmitAsked,
    VerifiedView,
    WalletAsked,
    WalletKeyView,
)

CARE = (Role.PHYSICIAN, Role.NURSE, Role.PHARMACIST, Role.TECHNICIAN, Role.DATA_OFFICER)
READERS = (*CARE, Role.INSPECTOR, Role.SECOND_OFFICER, Role.AUDITOR)
AUDIT = (
    Role.INSPECTOR,
    Role.AUDITOR,
    Role.SECOND_OFFICER,
    Role.DATA_OFFICER,
    Role.DISCLOSURE_OFFICER,
    Role.OFFICER,
)
"""Who may ask the questions of audit; what they are answered stands on the ledger, that every member has."""
KEEPERS = (Role.DATA_OFFICER, Role.OFFICER)
JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", description="16 bytes, hex")]
NO_STORE = {"cache-control": "no-store"}


def service_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the routes of the services."""
    return [
        *_signing(context),
        *_records(context),
        *_jobs(context),
        *_patients(context),
        *_referrals(context),
        *_audit(context),
    ]


def _signing(context: Context) -> list[HTTPRouteHandler]:
    @post(
        "/v1/submit",
        tags=["ledger"],
        summary="Submit a signed core",
        status_code=200,
        sync_to_thread=True,
        responses=says(AnswerView, 200),
    )
    def submit_core(request: Req, data: JSONBody[SubmitAsked]) -> Response[bytes]:
        """Put a drafted core with its persons' signatures into an envelope, and wait until it is durable."""
        return once(context, request, data, lambda: submit(context, request.user, data))

    @post("/v1/sign", tags=["ledger"], summary="Sign a draft", status_code=200, sync_to_thread=True)
    def sign_core(request: Req, data: JSONBody[SignAsked]) -> SignatureView:
        """Sign a drafted core with the caller's key that the node holds, for a step that two people sign."""
        return sign(context, request.user, data.core)

    return cast("list[HTTPRouteHandler]", [submit_core, sign_core])


def _records(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/records/received", tags=["records"], summary="Copies delivered here", sync_to_thread=True)
    def received(request: Req) -> list[ReceivedView]:
        """List the copies of other institutions' records that were delivered to this one."""
        may(request.user, *READERS)
        return list(node.received(request.user))

    @get("/v1/records/{entry:str}", tags=["records"], summary="Open a record", sync_to_thread=True)
    def open_record(request: Req, entry: PathId) -> Response[bytes]:
        """Decrypt a record of this institution, or a copy delivered to it, verified against the ledger on the way."""
        may(request.user, *READERS)
        document = node.open_record(request.user, case_id(bytes.fromhex(entry)))
        headers = NO_STORE | {"content-disposition": f'attachment; filename="{entry[:16]}.json"'}
        return Response(document.content, media_type=document.content_type, headers=headers)

    @post(
        "/v1/records/{entry:str}/verify",
        tags=["records"],
        summary="Verify a record",
        status_code=200,
        sync_to_thread=True,
    )
    def verify_record(request: Req, entry: PathId) -> VerifiedView:
        """Check blob, root, key and commitment of an own record, or of a copy delivered here; it is not given out."""
        may(request.user, *READERS)
        return node.verify_record(request.user, case_id(bytes.fromhex(entry)))

    @post(
        "/v1/records/fetch",
        tags=["records"],
        summary="Fetch under a grant",
        status_code=200,
        sync_to_thread=True,
        responses=says(FetchedView, 200),
    )
    def fetch(request: Req, data: JSONBody[FetchAsked]) -> Response[bytes]:
        """Fetch entries of a grant from their custodian, verify and confirm them.

        The ciphertext and the custodian's message come first, the reservation is ordered, then the ledger delivers.
        """
        may(request.user, *READERS)
        entries = tuple(case_id(bytes.fromhex(one)) for one in data.entries)
        grant = case_id(bytes.fromhex(data.grant))

        def work() -> FetchedView:
            return node.fetch(request.user, grant, entries)

        return once(context, request, data, work)

    return cast("list[HTTPRouteHandler]", [received, open_record, verify_record, fetch])


def _jobs(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @post(
        "/v1/imports",
        tags=["jobs"],
        summary="Import FHIR",
        status_code=202,
        sync_to_thread=True,
        responses=says(JobView, 202),
    )
    def start_import(request: Req, data: JSONBody[ImportAsked]) -> Response[bytes]:
        """Seal and publish what this institution made in a FHIR file, folder or archive on the node's machine."""
        may(request.user, *KEEPERS)
        return once(
            context,
            request,
            data,
            lambda: node.job(request.user, node.start_import(request.user, data)),
            status=202,
        )

    @post(
        "/v1/screenings",
        tags=["jobs"],
        summary="Screen residents",
        status_code=202,
        sync_to_thread=True,
        responses=says(JobView, 202),
    )
    def start_screening(request: Req, data: JSONBody[ScreeningAsked]) -> Response[bytes]:
        """Compute the cardiovascular risk of this institution's residents; results stay here."""
        may(request.user, Role.DATA_OFFICER, Role.PHYSICIAN)
        return once(
            context,
            request,
            data,
            lambda: node.job(request.user, node.start_screening(request.user, data)),
            status=202,
        )

    @get("/v1/jobs/{job:str}", tags=["jobs"], summary="How far a job is", sync_to_thread=True)
    def job(request: Req, job: JobId) -> JobView:
        """Give a job of this institution as it stands."""
        may(request.user, *KEEPERS, Role.PHYSICIAN)
        return node.job(request.user, bytes.fromhex(job))

    @delete("/v1/jobs/{job:str}", tags=["jobs"], summary="Cancel a job", status_code=200, sync_to_thread=True)
    def cancel(request: Req, job: JobId) -> JobView:
        """Stop a job at its next report; what it did by then stays, and a new one goes on from there."""
        may(request.user, *KEEPERS, Role.PHYSICIAN)
        return node.cancel_job(request.user, bytes.fromhex(job))

    return cast("list[HTTPRouteHandler]", [start_import, start_screening, job, cancel])


def _patients(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @post("/v1/subjects/find", tags=["records"], summary="Find a patient here", status_code=200, sync_to_thread=True)
    def find_subject(request: Req, data: JSONBody[SubjectAsked]) -> SubjectView:
        """Find a patient of this institution by an identifier, and name its entries."""
        may(request.user, *CARE)
        return node.find_subject(request.user, data.identifier)

    @post("/v1/wallets", tags=["records"], summary="Register a wallet", status_code=200, sync_to_thread=True)
    def register_wallet(request: Req, data: JSONBody[WalletAsked]) -> list[WalletKeyView]:
        """Register the wallet of a patient, and give this institution's subject keys sealed to it."""
        may(request.user, *CARE)
        keys = node.register_wallet(request.user, bytes.fromhex(data.subject), bytes.fromhex(data.exchange_key))
        return list(keys)

    @get("/v1/screenings/risks", tags=["referral"], summary="Whom a screening found", sync_to_thread=True)
    def risks(
        request: Req, risk_class: Annotated[str | None, QueryParameter(pattern="^(high|medium|low)$")] = None
    ) -> Response[list[RiskView]]:
        """List the latest results of screening here, the highest risk first."""
        may(request.user, Role.PHYSICIAN)
        return Response(list(node.risks(request.user, risk_class)), headers=NO_STORE)

    @post(
        "/v1/emergencies",
        tags=["referral"],
        summary="Ask without the patient's word",
        status_code=201,
        sync_to_thread=True,
        responses=says(EmergencyView, 201),
    )
    def open_emergency(request: Req, data: JSONBody[EmergencyAsked]) -> Response[bytes]:
        """Name the patient to one custodian, sealed, and open an emergency access; it is reviewed afterwards."""
        may(request.user, Role.PHYSICIAN)
        return once(context, request, data, lambda: node.open_emergency(request.user, data), status=201)

    return cast("list[HTTPRouteHandler]", [find_subject, register_wallet, risks, open_emergency])


def _referrals(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @post(
        "/v1/referrals",
        tags=["referral"],
        summary="Refer a patient",
        status_code=201,
        sync_to_thread=True,
        responses=says(ReferralView, 201),
    )
    def refer(request: Req, data: JSONBody[ReferralAsked]) -> Response[bytes]:
        """Seal and publish request and paper, have the consent signed as the home, and open the referral."""
        may(request.user, Role.PHYSICIAN)
        return once(context, request, data, lambda: node.refer(request.user, data), status=201)

    @post(
        "/v1/referrals/requests",
        tags=["referral"],
        summary="Publish the request of a referral",
        status_code=201,
        sync_to_thread=True,
        responses=says(RequestView, 201),
    )
    def prepare_request(request: Req, data: JSONBody[RequestAsked]) -> Response[bytes]:
        """Seal and publish a request; consent and referral then follow step by step, signed by the patient's wallet."""
        may(request.user, Role.PHYSICIAN)
        return once(context, request, data, lambda: node.prepare_request(request.user, data), status=201)

    @post(
        "/v1/referrals/{case:str}/result",
        tags=["referral"],
        summary="Answer a referral",
        status_code=201,
        sync_to_thread=True,
        responses=says(ResultView, 201),
    )
    def complete(request: Req, case: PathId, data: JSONBody[CompletionAsked]) -> Response[bytes]:
        """Seal and publish the result, complete the referral with it, and grant it to the referrer."""
        may(request.user, Role.PHYSICIAN)
        referral = case_id(bytes.fromhex(case))
        return once(context, request, data, lambda: node.complete(request.user, referral, data), status=201)

    return cast("list[HTTPRouteHandler]", [refer, prepare_request, complete])


def _audit(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/audit/who", tags=["audit"], summary="Who got what", sync_to_thread=True)
    def audit_who(
        *,
        request: Req,
        entry: IdText = None,
        grant: IdText = None,
        use: IdText = None,
        custodian: IdText = None,
        recipient: IdText = None,
    ) -> AuditView:
        """Say who got what, when, granted by whom, in what scope, which use of how many, passed on to whom."""
        may(request.user, *AUDIT)
        asked = AuditAsked(entry=entry, grant=grant, use=use, custodian=custodian, recipient=recipient)
        return node.audit_who(request.user, asked)

    @get("/v1/audit/case/{case:str}", tags=["audit"], summary="The course of a case", sync_to_thread=True)
    def audit_case(request: Req, case: PathId) -> AuditView:
        """Tell the whole course of a case, with the cases that came of it."""
        may(request.user, *AUDIT)
        return node.audit_case(request.user, case_id(bytes.fromhex(case)))

    @get("/v1/audit/unmatched", tags=["audit"], summary="One-sided disclosures", sync_to_thread=True)
    def audit_unmatched(request: Req) -> AuditView:
        """List the disclosures of which only one side was told."""
        may(request.user, *AUDIT)
        return node.audit_unmatched(request.user)

    return cast("list[HTTPRouteHandler]", [audit_who, audit_case, audit_unmatched])

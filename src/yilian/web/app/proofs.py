"""Receipts over HTTP: what stands on the ledger, as a file that anybody checks offline.

GET /v1/proofs/operation/{op_id or leaf}     that an operation was executed; ?format=cose for a COSE receipt
GET /v1/proofs/state/{case}                  a case as it stands
GET /v1/proofs/absence/{case}                that there is no such case
GET /v1/proofs/case/{case}                   every operation that changed a case
GET /v1/proofs/exchange/{use}                consent, grant, use and both disclosures
GET /v1/proofs/claim/{op_id}?name=…          one claim, for the institution that made it
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from yilian.errors import SettingsError
from yilian.ledger.receipt import SUFFIX, Kind
from yilian.values import MAX_INT
from yilian.web.app.context import Context, Req
from yilian.web.app.ledger import PathId
from yilian.web.app.ports import ProofAsked

MEDIA_TYPE = "application/octet-stream"
COSE_MEDIA_TYPE = "application/cose"
"""RFC 9052 section 11.6 registers it with the parameter cose-type."""
COSE_SUFFIX = ".cose"
OP_DIGITS = 32

Operation = Annotated[str, PathParameter(pattern="^([0-9a-f]{32}|[0-9]{1,19})$", description="16 bytes, hex; or leaf")]
OpHex = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", description="16 bytes, hex")]
Name = Annotated[str, QueryParameter(min_length=1, max_length=64, description="Name of the claim")]
Form = Annotated[Literal["proof", "cose"], QueryParameter(name="format", description="proof or cose")]


def proof_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the routes that give receipts."""
    return [*_of_operations(context), *_of_cases(context)]


def _of_operations(context: Context) -> list[HTTPRouteHandler]:
    @get(
        "/v1/proofs/operation/{operation:str}",
        tags=["proofs"],
        summary="Prove an operation",
        sync_to_thread=True,
        responses=_FILE,
    )
    def prove_operation(request: Req, operation: Operation, form: Form = "proof") -> Response[bytes]:
        """Prove that an operation was executed, when, with which result, and whose keys signed it.

        It is named by its id, or by its leaf in the log (decimal). As COSE receipt it is only the inclusion (RFC 9942),
        signed with the gateway key of the caller's institution.
        """
        if len(operation) == OP_DIGITS:
            asked = ProofAsked(kind=Kind.OPERATION, subject=bytes.fromhex(operation), cose=form == "cose")
            return _answer(context, request, asked)
        leaf = int(operation)
        if leaf > MAX_INT:
            raise SettingsError(f"leaf {leaf}, expected at most {MAX_INT}: give an operation id of 32 hex digits")
        return _answer(context, request, ProofAsked(kind=Kind.OPERATION, leaf=leaf, cose=form == "cose"))

    @get(
        "/v1/proofs/claim/{operation:str}",
        tags=["proofs"],
        summary="Prove one claim of an operation",
        sync_to_thread=True,
        responses=_FILE,
    )
    def prove_claim(request: Req, operation: OpHex, name: Name) -> Response[bytes]:
        """Prove one claim without the others; only the institution that made the claims holds them."""
        return _answer(context, request, ProofAsked(kind=Kind.CLAIM, subject=bytes.fromhex(operation), name=name))

    return cast("list[HTTPRouteHandler]", [prove_operation, prove_claim])


def _of_cases(context: Context) -> list[HTTPRouteHandler]:
    @get("/v1/proofs/state/{case:str}", tags=["proofs"], summary="Prove a case", sync_to_thread=True, responses=_FILE)
    def prove_state(request: Req, case: PathId) -> Response[bytes]:
        """Prove a case as the newest witnessed block left it, such as a consent in force or revoked."""
        return _answer(context, request, ProofAsked(kind=Kind.STATE, subject=bytes.fromhex(case)))

    @get(
        "/v1/proofs/absence/{case:str}",
        tags=["proofs"],
        summary="Prove that a case is absent",
        sync_to_thread=True,
        responses=_FILE,
    )
    def prove_absence(request: Req, case: PathId) -> Response[bytes]:
        """Prove that there is no case of this id."""
        return _answer(context, request, ProofAsked(kind=Kind.ABSENCE, subject=bytes.fromhex(case)))

    @get(
        "/v1/proofs/case/{case:str}",
        tags=["proofs"],
        summary="Prove the course of a case",
        sync_to_thread=True,
        responses=_FILE,
    )
    def prove_case(request: Req, case: PathId) -> Response[bytes]:
        """Prove every operation that changed a case, in order, and the case as it stands."""
        return _answer(context, request, ProofAsked(kind=Kind.CASE, subject=bytes.fromhex(case)))

    @get(
        "/v1/proofs/exchange/{use:str}",
        tags=["proofs"],
        summary="Prove an exchange of records",
        sync_to_thread=True,
        responses=_FILE,
    )
    def prove_exchange(request: Req, use: PathId) -> Response[bytes]:
        """Prove one use of records: consent, grant, which delivery it was, and what both sides put on record."""
        return _answer(context, request, ProofAsked(kind=Kind.EXCHANGE, subject=bytes.fromhex(use)))

    return cast("list[HTTPRouteHandler]", [prove_state, prove_absence, prove_case, prove_exchange])


_FILE = {
    200: ResponseSpec(data_container=bytes, generate_examples=False, media_type=MEDIA_TYPE, description="The file")
}


def _answer(context: Context, request: Req, asked: ProofAsked) -> Response[bytes]:
    content = context.node.prove(request.user, asked)
    suffix = COSE_SUFFIX if asked.cose else SUFFIX
    subject = asked.subject.hex()[:16] if asked.leaf is None else str(asked.leaf)
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{asked.kind}-{subject}{suffix}"',
    }
    return Response(content, media_type=COSE_MEDIA_TYPE if asked.cose else MEDIA_TYPE, headers=headers)

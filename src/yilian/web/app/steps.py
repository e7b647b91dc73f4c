"""Steps of workflows over HTTP: each command of each table gets a route to act and a route to draft.

POST /v1/workflows/{workflow}/{command}          sign here and wait until it is durable
POST /v1/workflows/{workflow}/{command}/draft    the core that a wallet or a device signs
POST /v1/submit                                  the core with its signatures
POST /v1/transactions                            an envelope that a member's own gateway signed, raw bytes
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Annotated, Any, cast

import cbor2
import msgspec
from litestar import HttpMethod, Response
from litestar.handlers import HTTPRouteHandler, asgi
from litestar.params import JSONBody
from litestar.types import Receive, Scope, Send

from yilian import canonical
from yilian.engine.gateway import Draft, Signed, check
from yilian.errors import NoGrantError, SettingsError, YilianError
from yilian.ledger import envelope
from yilian.ledger.cases import Case, Command, Found
from yilian.ledger.claims import MAX_CLAIMS, Claim, Value
from yilian.ledger.envelope import Core, PersonSignature
from yilian.ledger.members import Role
from yilian.ledger.registry import Bound
from yilian.ledger.results import Answer, TransactionResult
from yilian.values import CaseId, OpId, Word, case_id, key_id, op_id, unix_millis
from yilian.web.app import permits
from yilian.web.app.context import Context, Req, once, op_id_of, says, serve_problem
from yilian.web.app.drafts import draft_view
from yilian.web.app.ports import Caller
from yilian.web.app.views import (
    AnswerView,
    Asked,
    DraftView,
    Hex16,
    Hex32,
    SignatureView,
    SignerAsked,
    SubmitAsked,
)
from yilian.web.kit.jsonform import from_json, twin
from yilian.web.kit.text import words


class StepAsked(Asked, frozen=True, kw_only=True):
    """Base of every step: the case (none opens one), cases it names, the version it expects, a chosen op_id."""

    case_id: Hex32 | None = None
    refs: Annotated[tuple[Hex32, ...], msgspec.Meta(max_length=envelope.MAX_REFS)] = ()
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    """By default the current one."""
    op_id: Hex16 | None = None
    """16 random bytes; by default drawn here. The same ones twice are one operation."""
    claims: Annotated[dict[Word, Value], msgspec.Meta(max_length=MAX_CLAIMS)] = msgspec.field(default_factory=dict)
    """Name → text: kept here, the ledger gets their salted root; each can be proved alone (`/v1/proofs/claim`)."""


def step_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make two routes a command of every registered workflow."""
    routes = []
    for bound in context.node.registry.commands.values():
        if all(one.kind == "workflow" for row in bound.rows for one in row.who.alternatives):
            continue
        body = _body(bound.command)
        routes.append(_route(context, bound, body, _act, suffix=""))
        routes.append(_route(context, bound, _draft_body(bound.command), _draft, suffix="/draft"))
    return routes


def act(context: Context, request: Req, bound: Bound, data: Any) -> AnswerView:  # noqa: ANN401 - a body of `_body`
    """Sign a step as the caller and wait for the ledger's answer."""
    node, caller = context.node, request.user
    gateway = node.gateway(caller)
    draft, found = _drafted(context, request, bound, data)
    signing = permits.signing_of(bound, found, caller)
    persons: tuple[PersonSignature, ...] = ()
    if signing.by_person:
        signer = node.signer(caller)
        if signer is None:
            raise NoGrantError(
                f"the key of {caller.label} lies on a device, not on this node: "
                f"POST {request.url.path}/draft, sign its message there, and POST /v1/submit"
            )
        persons = (gateway.sign(draft.core, signer, caller.role),)
    answer = node.send(caller, Signed(core=draft.core, persons=persons))
    return answer_view(context, check(answer))


def sign(context: Context, caller: Caller, core_hex: str) -> SignatureView:
    """Sign a core with the caller's key that this node holds: for steps that two people sign.

    Raises:
        NoGrantError: the key lies on a device.
        VerificationError: these bytes are no core.
    """
    signer = context.node.signer(caller)
    if signer is None:
        raise NoGrantError(f"the key of {caller.label} lies on a device, not on this node: sign the draft there")
    core = bytes.fromhex(core_hex)
    canonical.decode(core, Core)
    made = context.node.gateway(caller).sign(core, signer, caller.role)
    return SignatureView(
        key_id=made.key_id.hex(),
        role=made.role.value,
        valid_until=made.valid_until,
        signature=made.signature.hex(),
    )


def submit(context: Context, caller: Caller, data: SubmitAsked) -> AnswerView:
    """Put a signed core into an envelope of the caller's institution, and wait for the ledger's answer.

    Raises:
        NoGrantError: no person signed, and the API key has not the scope `node`.
    """
    if not data.persons and not caller.acts_as_node:
        raise NoGrantError("no person signed, and this API key may not act as the node: sign the draft first")
    core = bytes.fromhex(data.core)
    canonical.decode(core, Core)
    persons = tuple(
        PersonSignature(
            key_id=key_id(bytes.fromhex(one.key_id)),
            role=role_of(one.role),
            valid_until=unix_millis(one.valid_until),
            signature=bytes.fromhex(one.signature),
        )
        for one in data.persons
    )
    answer = context.node.send(caller, Signed(core=core, persons=persons))
    return answer_view(context, check(answer))


def answer_view(context: Context, answer: Answer) -> AnswerView:
    """Describe what became of an operation that was done."""
    found = context.node.engine.find_case(answer.case_id)
    return AnswerView(
        case_id=answer.case_id.hex(),
        op_id=answer.op_id.hex(),
        command=answer.command,
        state=found[1].state if found is not None else "",
        height=answer.height,
        leaf=answer.leaf,
    )


def transactions_route(context: Context) -> Any:  # noqa: ANN401 - an ASGI route handler
    """Make the raw route: one envelope of at most 1 MB in, its answers out once they are durable."""

    @asgi("/v1/transactions", copy_scope=True)
    async def transactions(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if cast("dict[str, Any]", scope).get("method") != "POST":
                raise SettingsError("only POST is served here: POST an envelope")
            body = await _read_body(receive, envelope.MAX_TRANSACTION_BYTES)
            result = await asyncio.wrap_future(context.node.engine.submit(body))
        except YilianError as error:
            await serve_problem(context, error, scope, send)
            return
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        as_json = b"application/json" in accept
        content = encode_result(result, as_json=as_json)
        kind = b"application/json" if as_json else b"application/cbor"
        status = 200 if not result.code else 422
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content)), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    return transactions


def encode_result(result: TransactionResult, *, as_json: bool) -> bytes:
    """Encode `[code, message, [[op_id, case_id, [[workflow, number] …], leaf, height, message] …]]`."""
    answers = [
        [one.op_id, one.case_id, [list(pair) for pair in one.result], one.leaf, one.height, one.message]
        for one in result.answers
    ]
    if not as_json:
        # plain values already, on the path of every transaction: nothing for `canonical` to convert
        return cbor2.dumps([int(result.code), result.message, answers])
    plain = [[one[0].hex(), one[1].hex(), *one[2:]] for one in answers]  # type: ignore[attr-defined]  # ids
    return msgspec.json.encode([int(result.code), result.message, plain])


def role_of(word: str) -> Role:
    """Take a word as a role; SettingsError for another word."""
    try:
        return Role(word)
    except ValueError:
        raise SettingsError(f"{word!r} is no role: use one of {', '.join(Role)}") from None


def _drafted(context: Context, request: Req, bound: Bound, data: Any) -> tuple[Draft, Found[Case] | None]:  # noqa: ANN401 - a body of `_body`
    node, caller = context.node, request.user
    command = from_json(data.command, bound.command)
    target: CaseId | None = None if data.case_id is None else case_id(bytes.fromhex(data.case_id))
    if target is None and not bound.opening:
        raise SettingsError(f"{bound.word} moves a case: name it as case_id")
    found = node.engine.find_case(target) if target is not None else None
    op: OpId | None = op_id_of(request) if data.op_id is None else op_id(bytes.fromhex(data.op_id))
    refs = tuple(case_id(bytes.fromhex(one)) for one in data.refs)
    claims: tuple[Claim, ...] = ()
    if data.claims:
        op = op_id(secrets.token_bytes(16)) if op is None else op
        claims = node.keep_claims(caller, op, data.claims)
    draft = node.gateway(caller).draft(command, target, refs=refs, op=op, version=data.version, claims=claims)
    return draft, found[1] if found is not None else None


def _act(context: Context, bound: Bound, request: Req, data: Any) -> Response[bytes]:  # noqa: ANN401 - a body of `_body`
    return once(context, request, data, lambda: act(context, request, bound, data))


def _draft(context: Context, bound: Bound, request: Req, data: Any) -> Response[bytes]:  # noqa: ANN401 - a body of `_body`
    caller = request.user
    draft, _ = _drafted(context, request, bound, data)
    signers = tuple((key_id(bytes.fromhex(one.key_id)), role_of(one.role)) for one in data.signers)
    own = ((caller.key_id, caller.role),)
    view = draft_view(context.node.engine, caller.institution, draft, signers or own)
    return Response(msgspec.json.encode(view), status_code=200, media_type="application/json")


Serve = Callable[[Context, Bound, Req, Any], Response[bytes]]


def _route(
    context: Context, bound: Bound, body: type[msgspec.Struct], serve: Serve, *, suffix: str
) -> HTTPRouteHandler:
    def handler(request: Any, data: Any) -> Any:  # noqa: ANN401 - annotated below, at run time
        return serve(context, bound, request, data)

    name = bound.word.replace(".", "_") + suffix.replace("/", "_")
    answer = AnswerView if not suffix else DraftView
    handler.__name__ = name
    handler.__annotations__ = {"request": Req, "data": JSONBody[body], "return": Response[bytes]}  # type: ignore[misc, valid-type]  # built at run time
    handler.__doc__ = _description(bound, suffix)
    package = f"yilian.workflows.{bound.workflow.name}"
    title = words(package, "en", "commands", bound.word)
    return HTTPRouteHandler(
        f"/v1/workflows/{bound.workflow.name}/{bound.word}{suffix}",
        http_method=HttpMethod.POST,
        status_code=200,
        sync_to_thread=True,
        name=name,
        operation_id=name,
        summary=f"{title} · {words(package, 'zh', 'commands', bound.word)}" + (" (draft)" if suffix else ""),
        description=_description(bound, suffix),
        tags=[bound.workflow.name],
        responses=says(answer, 200),
    )(handler)


def _description(bound: Bound, suffix: str) -> str:
    who = dict.fromkeys(permits.described(one) for row in bound.rows for one in row.who.alternatives)
    states = dict.fromkeys(state for row in bound.moving for state in row.from_states)
    first = (bound.command.__doc__ or bound.word).strip()
    parts = [first, f"Signed by: {'; '.join(who)}."]
    if states:
        parts.append(f"From: {', '.join(states)}.")
    if bound.opening:
        parts.append(f"Without case_id it opens a {bound.case_type.word}.")
    if suffix:
        parts.append("Answers the core to be signed on a device; nothing is recorded.")
    return "\n\n".join(parts)


def _body(command: type[Command]) -> type[msgspec.Struct]:
    return _named(command, "Step", [])


def _draft_body(command: type[Command]) -> type[msgspec.Struct]:
    signers = Annotated[tuple[SignerAsked, ...], msgspec.Meta(max_length=envelope.MAX_PERSONS)]
    return _named(command, "Draft", [("signers", signers, ())])


def _named(command: type[Command], suffix: str, more: list[Any]) -> type[msgspec.Struct]:
    form = twin(command)
    field = ("command", form) if form.__struct_fields__ else ("command", form, form())
    return msgspec.defstruct(
        f"{command.__name__}{suffix}",
        [field, *more],
        bases=(StepAsked,),
        namespace={"__doc__": command.__doc__},
        module=command.__module__,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


async def _read_body(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise SettingsError("the line was cut before the whole envelope came: send it again")
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise SettingsError(f"more than {limit} bytes in an envelope: send several")
        if not message.get("more_body"):
            return b"".join(parts)

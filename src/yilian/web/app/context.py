"""What every route works with: the node, texts, the caller, and one way to answer an error."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from anyio import to_thread
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import Scope, Send

from yilian.crypto.suite import tagged_hash
from yilian.errors import YilianError
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import OpId, op_id
from yilian.web.app.ports import Caller, NodeLike
from yilian.web.kit import keys
from yilian.web.kit.answers import Kept, Once
from yilian.web.kit.problems import MEDIA_TYPE, Named, Problem, Unauthenticated, plain, problem_of
from yilian.web.kit.text import Language, words

_LOG = structlog.get_logger("yilian.api")
Req = Request[Caller, Any, Any]
IDEMPOTENCY_KEY = "idempotency-key"
OPEN_PATHS = ("/healthz", "/readyz", "/openapi.json")


class Context:
    """The node behind the routes, and what they share."""

    def __init__(self, node: NodeLike) -> None:
        self.node = node
        self.once = Once()
        self._refusals = {item.name: item.refusals for item in node.registry.workflows}

    def now(self) -> int:
        """Give the time of this machine, milliseconds."""
        return time.time_ns() // 1_000_000

    def name(self, workflow: str, number: int, language: Language) -> Named:
        """Name a refusal in the user's language."""
        kind = KernelRefusal if workflow == KERNEL else self._refusals.get(workflow)
        try:
            name = kind(number).name if kind is not None else str(number)
        except ValueError:
            name = str(number)
        package = "yilian.web.app" if workflow == KERNEL else f"yilian.workflows.{workflow}"
        known = workflow == KERNEL or workflow in self._refusals
        title = words(package, language, "refusals", name) if known else name
        return Named(workflow=workflow, number=number, name=name, title=title)


class _Memory:
    """The kept answers of one caller's institution."""

    def __init__(self, node: NodeLike, caller: Caller) -> None:
        self._node = node
        self._caller = caller

    def find_answer(self, key_hash: bytes) -> Kept | None:
        return self._node.find_answer(self._caller, key_hash)

    def keep_answer(self, key_hash: bytes, kept: Kept) -> None:
        self._node.keep_answer(self._caller, key_hash, kept)


def once(
    context: Context, request: Req, data: msgspec.Struct, work: Callable[[], msgspec.Struct], *, status: int = 200
) -> Response[bytes]:
    """Answer a request that signs: a repeat under one `Idempotency-Key` gets the answer that was given."""
    caller = request.user
    code, content = context.once.answer(
        _Memory(context.node, caller),
        key=request.headers.get(IDEMPOTENCY_KEY),
        owner=_owner(caller),
        request=request.url.path.encode() + b"\0" + msgspec.json.encode(data),
        work=lambda: (status, msgspec.json.encode(work())),
    )
    return Response(content, status_code=code, media_type="application/json")


def op_id_of(request: Req) -> OpId | None:
    """Derive an operation's id from the `Idempotency-Key`, so that a repeat after a crash acts once; None without."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    return None if key is None else op_id(tagged_hash("yilian/idempotency/v1", _owner(request.user), key.encode())[:16])


def authentication(context: Context) -> type[AbstractAuthenticationMiddleware]:
    """Make the middleware that knows callers by their API keys; everything but `OPEN_PATHS` needs one."""

    class KeyAuthentication(AbstractAuthenticationMiddleware):
        async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
            shown = keys.bearer(connection.headers.get("authorization"))
            caller = await to_thread.run_sync(context.node.identify, shown)
            if caller is None:
                raise Unauthenticated("the API key is unknown or revoked, expected one of this node: ask its officer")
            return AuthenticationResult(user=caller, auth=None)

    return KeyAuthentication


def says(view: type[Any], status: int) -> dict[int, ResponseSpec]:
    """Describe the answer of a route that gives encoded bytes."""
    return {status: ResponseSpec(data_container=view, generate_examples=False, description="Done")}


def language_of(headers: Mapping[str, str]) -> Language:
    """Choose Chinese or English by `Accept-Language`, whichever comes first; English by default."""
    for part in headers.get("accept-language", "").lower().split(","):
        tag = part.strip().split(";")[0]
        if tag.startswith("zh"):
            return "zh"
        if tag.startswith("en"):
            return "en"
    return "en"


def problem_response(problem: Problem) -> Response[bytes]:
    """Answer with a problem."""
    headers = {"cache-control": "no-store"}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def describe(context: Context, error: Exception, *, path: str, headers: Mapping[str, str]) -> Problem:
    """Describe any error as a problem; what was not raised on purpose is logged and says nothing of its cause."""
    language, trace_id = language_of(headers), secrets.token_hex(8)
    if isinstance(error, YilianError):
        return problem_of(error, context.name, language=language, instance=path, trace_id=trace_id)
    if isinstance(error, HTTPException):
        name = {401: "Unauthenticated", 404: "NotFoundError", 405: "MethodNotAllowed", 413: "TooLarge"}.get(
            error.status_code, "SettingsError" if error.status_code < 500 else "Internal"
        )
        return plain(error.status_code, name, _detail(error), language=language, instance=path, trace_id=trace_id)
    if isinstance(error, RecursionError):
        detail = "the body is nested too deep, expected what the schema says: send that"
        return plain(400, "SettingsError", detail, language=language, instance=path, trace_id=trace_id)
    _LOG.exception("request failed", trace_id=trace_id, error=type(error).__name__)
    detail = f"something broke inside the node: tell its operator trace {trace_id}"
    return plain(500, "Internal", detail, language=language, instance=path, trace_id=trace_id)


async def serve_problem(context: Context, error: Exception, scope: Scope, send: Send) -> None:
    """Answer a raw ASGI request with a problem."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    problem = describe(context, error, path=scope["path"], headers=headers)
    content = msgspec.json.encode(problem)
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", b"%d" % len(content)),
                (b"cache-control", b"no-store"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": content, "more_body": False})


def _owner(caller: Caller) -> bytes:
    return bytes(caller.institution) + bytes(caller.key_id)


def _detail(error: HTTPException) -> str:
    extra = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict):
        first = extra[0]
        return f"{first.get('key', 'body')}: {first.get('message', error.detail)}: correct that field"
    if error.status_code == 404:
        return "there is no such path: see /openapi.json"
    return str(error.detail)

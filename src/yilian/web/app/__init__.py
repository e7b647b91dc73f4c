"""The HTTP API of a node: `create_app(node)` mounts a route for every command of every workflow, and the services.

Deny by default: everything but `/healthz`, `/readyz` and `/openapi.json` needs an API key, which stands for one
registered person. Errors are problem details (RFC 9457). The description is OpenAPI 3.1; no page loads anything from
elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from litestar import Litestar, Response, get
from litestar.datastructures import ResponseHeader
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware

from yilian.errors import YilianError
from yilian.web.app.backups import backup_routes
from yilian.web.app.context import OPEN_PATHS, Context, authentication, describe, problem_response
from yilian.web.app.description import Description, openapi_config
from yilian.web.app.ledger import ledger_routes
from yilian.web.app.log import log_routes
from yilian.web.app.ports import NODE_ROLES, Caller, Document, NodeLike
from yilian.web.app.proofs import proof_routes
from yilian.web.app.services import service_routes
from yilian.web.app.steps import step_routes, transactions_route
from yilian.web.app.stream import stream_routes
from yilian.web.app.upkeep import upkeep_routes
from yilian.web.app.views import ReadyView

__all__ = ["NODE_ROLES", "Caller", "Document", "NodeLike", "create_app"]

MAX_BODY_BYTES = 1_100_000
MAX_LAG = 1_000
"""Blocks that the read model may be behind before the node says that it is not ready."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}


def create_app(node: NodeLike) -> Litestar:
    """Make the API of a node; serve it with uvicorn."""
    context = Context(node)
    routes: list[Any] = [
        *_health(context),
        *step_routes(context),
        transactions_route(context),
        *ledger_routes(context),
        *service_routes(context),
        *proof_routes(context),
        *log_routes(context),
        *upkeep_routes(context),
        *backup_routes(context),
        *stream_routes(context),
        *_workflow_routes(context),
    ]

    def failed(request: Any, error: Exception) -> Response[bytes]:  # noqa: ANN401 - any connection
        return problem_response(describe(context, error, path=request.url.path, headers=request.headers))

    description = Description()
    app = Litestar(
        [*routes, description.route()],
        middleware=[DefineMiddleware(authentication(context), exclude=[f"^{path}$" for path in OPEN_PATHS])],
        exception_handlers={YilianError: failed, HTTPException: failed, Exception: failed},
        response_headers=[ResponseHeader(name=name, value=value) for name, value in _HEADERS.items()],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=openapi_config(),
        logging_config=None,
    )
    description.app = app
    return app


def _health(context: Context) -> list[Any]:
    node = context.node

    @get("/healthz", tags=["operation"], summary="Whether the process serves", sync_to_thread=False, security=[])
    def health() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @get("/readyz", tags=["operation"], summary="Whether the node can work", sync_to_thread=True, security=[])
    def ready() -> Response[ReadyView]:
        """Say whether ledger and read model are there, and how many blocks the read model is behind."""
        height = node.engine.head().height
        lag = max(0, height - node.index.height())
        view = ReadyView(ready=lag <= MAX_LAG, height=height, lag=lag)
        return Response(view, status_code=200 if view.ready else 503)

    return [health, ready]


def _workflow_routes(context: Context) -> list[Any]:
    """Mount what a workflow's own `routes.py` adds: a function `routes(context)` beside the generated ones."""
    found: list[Any] = []
    for workflow in context.node.registry.workflows:
        name = f"yilian.workflows.{workflow.name}.routes"
        if find_spec(name) is not None:
            found += import_module(name).routes(context)
    return found

"""The API's description of itself: OpenAPI 3.1 as JSON; no page, and nothing loaded from elsewhere."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from litestar import Litestar, Response, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from yilian.web.app.context import OPEN_PATHS
from yilian.web.kit.problems import MEDIA_TYPE, Problem

OPENAPI = "application/vnd.oai.openapi+json;version=3.1"
_CBOR = {"schema": {"type": "string", "format": "binary"}}
_TRANSACTIONS = {
    "post": {
        "tags": ["ledger"],
        "summary": "Submit an envelope",
        "description": (
            "One envelope of at most 1 MB that a member's own gateway signed, as raw bytes; answered once durable "
            "with `[code, message, [[op_id, case_id, [[workflow, number] …], leaf, height, message] …]]`, as CBOR or, "
            "where `Accept` says so, as JSON with hex ids. A code other than 0: nothing entered a block (status 422)."
        ),
        "operationId": "transactions",
        "requestBody": {"required": True, "content": {"application/cbor": _CBOR}},
        "responses": {
            "200": {"description": "Durable", "content": {"application/cbor": _CBOR}},
            "422": {"description": "Not taken into a block", "content": {"application/cbor": _CBOR}},
        },
    }
}


class Description:
    """Serves the description; made when it is first asked for, since a node starts more often than that."""

    def __init__(self) -> None:
        self.app: Litestar | None = None
        self._content = b""

    def route(self) -> Any:  # noqa: ANN401 - a route handler
        """Make the route."""

        @get("/openapi.json", include_in_schema=False, sync_to_thread=True, media_type=OPENAPI)
        def openapi() -> Response[bytes]:
            if not self._content and self.app is not None:
                self._content = msgspec.json.encode(described(self.app))
            return Response(self._content, media_type=OPENAPI)

        return openapi


def described(app: Litestar) -> dict[str, Any]:
    """Describe an application: every error is a problem, and the raw route is there too."""
    document: dict[str, Any] = app.openapi_schema.to_schema()
    problem, parts = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] |= parts
    refused = {"description": "A problem", "content": {MEDIA_TYPE: {"schema": problem[0]}}}
    document["paths"]["/v1/transactions"] = msgspec.to_builtins(_TRANSACTIONS)
    for path, item in document["paths"].items():
        for operation in item.values():
            operation["responses"].pop("400", None)
            operation["responses"]["default"] = refused
            if path in OPEN_PATHS:
                operation["security"] = []
    return document


class _NoPages(Router):
    """Takes none of the pages that litestar would add: these load scripts from elsewhere."""

    def register(self, value: Any) -> list[Any]:  # noqa: ANN401, ARG002 - whatever a router takes
        """Register nothing."""
        return []


def openapi_config() -> OpenAPIConfig:
    """Say what the API is, and that it wants an API key; no pages."""
    key = SecurityScheme(type="http", scheme="bearer", description="API key of a registered person")
    return OpenAPIConfig(
        title="yilian 医链",
        version=_version(),
        description="Circulate medical data between institutions on a consortium ledger.",
        security=[{"key": []}],
        components=Components(security_schemes={"key": key}),
        use_handler_docstrings=True,
        # an empty list would stand for all pages there are
        render_plugins=[JsonRenderPlugin()],
        openapi_router=_NoPages("/schema", route_handlers=[]),
    )


def _version() -> str:
    try:
        return version("yilian")
    except PackageNotFoundError:
        return "0"

"""The log for auditors, what readers of receipts have to believe, and what the sequencer was caught at.

GET /v1/log/checkpoint        the newest signed note that satisfies the policy (C2SP tlog-checkpoint)
GET /v1/log/tile/{path}       tiles and bundles of leaves (C2SP tlog-tiles)
GET /v1/trust                 the trust file
GET /v1/alerts                alerts by name, with the notes that show them
"""

from __future__ import annotations

from typing import Annotated, cast

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from yilian.errors import NotFoundError, VerificationError
from yilian.ledger.checkpoint import parse_note
from yilian.ledger.tiles import parse_path
from yilian.ledger.trust import Trust
from yilian.values import MAX_INT
from yilian.web.app.context import Context
from yilian.web.app.views import View

OCTETS = "application/octet-stream"
MOST_ALERTS = 200
TilePath = Annotated[str, PathParameter(description="Such as 0/x001/067, or entries/067.p/12")]
_FILE = {200: ResponseSpec(data_container=bytes, generate_examples=False, media_type=OCTETS, description="Bytes")}
_TEXT = {200: ResponseSpec(data_container=str, generate_examples=False, media_type="text/plain", description="A note")}


class AlertView(View, frozen=True, kw_only=True):
    """What a sequencer was caught at, and the evidence: notes as text, other bytes in hex."""

    id: int
    kind: str
    time: int
    text: str
    evidence: tuple[str, ...]


def log_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the routes."""
    node = context.node

    @get("/v1/log/checkpoint", tags=["log"], summary="The newest checkpoint", sync_to_thread=True, responses=_TEXT)
    def checkpoint() -> Response[bytes]:
        """Give the newest note whose cosignatures satisfy the policy; tiles of its size are served."""
        content = node.log.checkpoint().encode()
        return Response(content, media_type="text/plain; charset=utf-8", headers={"cache-control": "no-cache"})

    @get("/v1/log/tile/{path:path}", tags=["log"], summary="A tile of the log", sync_to_thread=True, responses=_FILE)
    def tile(path: TilePath) -> Response[bytes]:
        """Give 256 hashes of the log or leaves, or the first ones of the last tile (C2SP tlog-tiles)."""
        try:
            asked = parse_path(path.strip("/"))
        except VerificationError as error:
            raise NotFoundError(str(error)) from error
        if asked.level is None:
            content = node.log.entries(asked.index, asked.width)
        else:
            content = node.log.tile(asked.level, asked.index, asked.width)
        return Response(content, media_type=OCTETS)

    @get("/v1/trust", tags=["log"], summary="What readers of receipts believe", sync_to_thread=True)
    def trust() -> Trust:
        """Give chain, sequencer keys, witness keys and how many must sign; compare its chain by telephone."""
        return node.log.trust()

    @get("/v1/alerts", tags=["log"], summary="What the sequencer was caught at", sync_to_thread=True)
    def alerts(
        after: Annotated[int, QueryParameter(ge=0, le=MAX_INT, description="Id of the last one seen")] = 0,
    ) -> list[AlertView]:
        """List alerts by name, the oldest first, with the notes that show them."""
        return [
            AlertView(
                id=one.id,
                kind=one.kind,
                time=one.time,
                text=one.text,
                evidence=tuple(_shown(raw) for raw in (one.first, one.second) if raw),
            )
            for one in node.log.alerts(after=after, limit=MOST_ALERTS)
        ]

    return cast("list[HTTPRouteHandler]", [checkpoint, tile, trust, alerts])


def _shown(evidence: bytes) -> str:
    try:
        return parse_note(evidence).encode().decode()
    except VerificationError:
        return evidence.hex()

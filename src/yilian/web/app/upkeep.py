"""Routes of what keeps evidence good: outside timestamps, the check of what is kept sealed, daily statements."""

from __future__ import annotations

from typing import Annotated, cast

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter

from yilian.ledger.members import Role
from yilian.web.app.context import Context, Req, once, says
from yilian.web.app.permits import may
from yilian.web.app.services import KEEPERS
from yilian.web.app.upkeep_views import AnchorFileView, AnchorsView, CoveredView, IntegrityAsked, IntegrityView
from yilian.web.app.views import JobView

MAY_LOOK = (*KEEPERS, Role.AUDITOR, Role.INSPECTOR, Role.SECOND_OFFICER)
Height = Annotated[int, PathParameter(ge=0, description="Height that the checkpoint is at, or below")]
StatedDay = Annotated[int, PathParameter(ge=0, le=1_000_000, description="Days since 1970-01-01, at UTC+8")]
EventNumber = Annotated[int, PathParameter(ge=1, description="Number that the ledger gave the event")]
Before = Annotated[int | None, QueryParameter(ge=0, description="Only timestamps before this time, milliseconds")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="Rows at most")]


def upkeep_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the routes."""
    node = context.node

    @get("/v1/anchors", tags=["ledger"], summary="Outside timestamps", sync_to_thread=True)
    def anchors(request: Req, before: Before = None, limit: Limit = 20) -> AnchorsView:  # noqa: ARG001 - any member
        """List the checkpoints that outside authorities stamped, the newest first."""
        return node.upkeep.anchors(before, limit)

    @get("/v1/anchors/{height:int}", tags=["ledger"], summary="One outside timestamp", sync_to_thread=True)
    def anchor(request: Req, height: Height) -> AnchorFileView:  # noqa: ARG001 - any member
        """Give the first timestamp of a checkpoint at this height or above, with the token."""
        return node.upkeep.anchor(height)

    @get("/v1/integrity", tags=["records"], summary="What of the sealed bytes is wrong", sync_to_thread=True)
    def integrity(request: Req) -> IntegrityView:
        """Say how far the check of this institution's sealed bytes is, and which are missing or changed."""
        may(request.user, *MAY_LOOK)
        return node.upkeep.integrity(request.user)

    @post(
        "/v1/integrity",
        tags=["jobs"],
        summary="Check the sealed bytes",
        status_code=202,
        sync_to_thread=True,
        responses=says(JobView, 202),
    )
    def start_integrity(request: Req, data: JSONBody[IntegrityAsked]) -> Response[bytes]:
        """Read every sealed record and copy of this institution again, from where the last check stopped."""
        may(request.user, *KEEPERS)
        return once(
            context,
            request,
            data,
            lambda: node.job(request.user, node.upkeep.start_integrity(request.user, data)),
            status=202,
        )

    @get(
        "/v1/audit/statements/{day:int}/{number:int}",
        tags=["audit"],
        summary="Show that a statement covers an event",
        sync_to_thread=True,
    )
    def covered(request: Req, day: StatedDay, number: EventNumber) -> CoveredView:
        """Give a line of this institution's daily statement with its path to the root on the ledger."""
        may(request.user, *MAY_LOOK)
        return node.upkeep.covered(request.user, day, number)

    return cast("list[HTTPRouteHandler]", [anchors, anchor, integrity, start_integrity, covered])

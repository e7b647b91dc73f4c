"""The route by which an officer has the node backed up, into the folder that its operator configured."""

from __future__ import annotations

from typing import cast

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from yilian.ledger.members import Role
from yilian.web.app.context import Context, Req, once, says
from yilian.web.app.permits import may
from yilian.web.app.views import BackupAsked, JobView


def backup_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the route."""
    node = context.node

    @post(
        "/v1/backups",
        tags=["jobs"],
        summary="Back up the node",
        status_code=202,
        sync_to_thread=True,
        responses=says(JobView, 202),
    )
    def start_backup(request: Req, data: JSONBody[BackupAsked]) -> Response[bytes]:
        """Begin a backup of the running node; its job says how far it is, and at last file, size and height."""
        may(request.user, Role.OFFICER)
        return once(
            context,
            request,
            data,
            lambda: node.job(request.user, node.start_backup(request.user, data)),
            status=202,
        )

    return cast("list[HTTPRouteHandler]", [start_backup])

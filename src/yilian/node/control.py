"""The operator's side door: beside the API, for who can read `node.json` of the home; and the client for it.

GET  /node/status                    where the chain stands, who is here
POST /node/invite                    get ready for a newcomer, and list the doors to name to it
POST /node/join                      take up an invitation for an institution of this home
POST /node/keys                      make a person's key, ready for `key.register`
"""

from __future__ import annotations

import asyncio
import hmac
import http
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import httpx
import msgspec
import structlog

from yilian import canonical, errors
from yilian.errors import NotFoundError, Refused, UnavailableError, VerificationError, YilianError
from yilian.node.addresses import Peer, Peers
from yilian.node.home import Home

PREFIX = "/node/"
MAX_BODY = 1_000_000
TIMEOUT_S = 60.0
_LOG = structlog.get_logger("yilian.control")

Scope = Any
Body = Mapping[str, Any]


class NodeFile(msgspec.Struct, frozen=True, kw_only=True):
    """`node.json`: how to reach the running node of a home. Removed when it stops."""

    pid: int
    url: str
    """Of the API."""
    token: str
    """For `/node/…` only."""
    chain: str
    doors: dict[str, str]
    """Institution → address for other institutions."""


class Operations(Protocol):
    """What the side door opens; a running node is one. Each takes and gives plain JSON."""

    def status(self) -> Body:
        """Say where the chain stands and who is here."""
        ...

    def join(self, body: Body) -> Body:
        """Take up an invitation."""
        ...

    def invite(self, body: Body) -> Body:
        """Get ready for a newcomer."""
        ...

    def make_key(self, body: Body) -> Body:
        """Make a person's key."""
        ...


class ControlApp:
    """An ASGI application that answers `/node/…` itself and hands everything else to the API."""

    def __init__(self, api: Callable[..., Awaitable[None]], operations: Operations, token: str) -> None:
        self._api = api
        self._token = token.encode()
        self._routes: dict[tuple[str, str], Callable[[Body], Body]] = {
            ("GET", "/node/status"): lambda _: operations.status(),
            ("POST", "/node/invite"): operations.invite,
            ("POST", "/node/join"): operations.join,
            ("POST", "/node/keys"): operations.make_key,
        }

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._api(scope, receive, send)
            return
        status, answer = await self._answer(scope, receive)
        content = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Callable[..., Any]) -> tuple[int, Body]:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            return http.HTTPStatus.UNAUTHORIZED, _problem(VerificationError("this is no token of the node's operator"))
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            return http.HTTPStatus.NOT_FOUND, _problem(NotFoundError(f"there is no {scope['path']} here"))
        content = await _read(receive)
        try:
            body = msgspec.json.decode(content or b"{}", type=dict[str, Any])
            return http.HTTPStatus.OK, await asyncio.to_thread(route, body)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return http.HTTPStatus.BAD_REQUEST, _problem(errors.SettingsError("the body is no JSON object: send one"))
        except YilianError as error:
            return http.HTTPStatus.UNPROCESSABLE_ENTITY, _problem(error)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a server
            _LOG.error("control failed", route=scope["path"], exc_info=error)
            return http.HTTPStatus.INTERNAL_SERVER_ERROR, _problem(UnavailableError("the node failed: read its log"))


class NodeControl:
    """Speaks to the side door of the node that runs a home.

    Raises:
        UnavailableError: no node runs there, or it does not answer.
    """

    def __init__(self, home: Home) -> None:
        self.file = read_node_file(home)
        self._client = httpx.Client(
            base_url=self.file.url,
            headers={"Authorization": f"Bearer {self.file.token}"},
            timeout=TIMEOUT_S,
            # few calls, seconds apart: none leaves a connection behind
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def status(self) -> dict[str, Any]:
        """Say where the chain stands and who is here."""
        return self._call("GET", "/node/status")

    def join(self, slug: str, invitation: bytes, officer_possession: bytes | None = None) -> dict[str, Any]:
        """Take up an invitation for an institution of the node's home.

        `officer_possession` is by the officer's key over `joining.officer_message`, where the node does not hold it.
        """
        body = {"institution": slug, "invitation": invitation.hex()}
        if officer_possession is not None:
            body["officer_possession"] = officer_possession.hex()
        return self._call("POST", "/node/join", body)

    def invite(self, ca_der: bytes) -> tuple[Peer, ...]:
        """Get the members' nodes ready for a newcomer's certificates, and list the doors to name to it."""
        answer = self._call("POST", "/node/invite", {"ca": ca_der.hex()})
        return canonical.decode(bytes.fromhex(answer["peers"]), Peers).peers

    def make_key(self, slug: str, person: Mapping[str, Any]) -> dict[str, Any]:
        """Make the key of a person (fields of `PersonSpec`), or give the one that is there, for `key.register`."""
        return self._call("POST", "/node/keys", {"institution": slug, "person": dict(person)})

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"the node at {self.file.url} does not answer ({type(error).__name__}): "
                "see `yilian node status`, or start it"
            ) from error
        if response.is_success:
            return answer
        raise _error(answer)


def read_node_file(home: Home) -> NodeFile:
    """Read how to reach the running node; UnavailableError where none runs."""
    try:
        return msgspec.json.decode(home.node_file.read_bytes(), type=NodeFile)
    except (OSError, msgspec.DecodeError) as error:
        raise UnavailableError(
            f"no node runs in {home.path}: start it with `yilian node start --home {home.path}`"
        ) from error


def _problem(error: YilianError) -> dict[str, Any]:
    problem: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, Refused):
        problem |= {"number": error.number, "workflow": error.workflow, "inner": [list(item) for item in error.inner]}
    return problem


def _error(answer: Mapping[str, Any]) -> YilianError:
    message = str(answer.get("message", "the node refused"))
    if answer.get("error") == "Refused":
        inner = tuple((str(item[0]), int(item[1])) for item in answer.get("inner", ()))
        return Refused(int(answer["number"]), message, workflow=str(answer["workflow"]), inner=inner)
    kind = getattr(errors, str(answer.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, YilianError) and kind is not Refused:
        return kind(message)
    return VerificationError(message)


async def _read(receive: Callable[..., Any]) -> bytes:
    content = b""
    while True:
        message: dict[str, Any] = await receive()
        content += bytes(message.get("body", b""))
        if not message.get("more_body") or len(content) > MAX_BODY:
            return content[: MAX_BODY + 1]

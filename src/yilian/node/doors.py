"""The doors of a node: sockets, HTTP servers, mutual TLS, and the record of who was turned away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from yilian.errors import UnavailableError, YilianError
from yilian.node.host import Host
from yilian.storage.vault.audit import EdgeRefusal

TLS_NON_MEMBER = "TLS_NON_MEMBER"
STRANGERS = frozenset({"CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"})
"""Reasons of OpenSSL for a handshake that failed because the other side is no member."""
GRACE_S = 5
STARTING_S = 30.0
MOST_PENDING = 256
MOST_A_MINUTE = 600
_LOG = structlog.get_logger("yilian.doors")

Application = Callable[..., Any]


class EdgeRecorder:
    """Writes who was turned away into the audit record of the institution, beside the event loop.

    So that a flood of strangers costs neither memory, disk nor the loop's time, what comes while 256 wait, or beyond
    600 of an institution in a minute, is only counted.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="edge")
        self._pending = threading.BoundedSemaphore(MOST_PENDING)
        self._taken: dict[str, tuple[int, int]] = {}
        self.dropped = 0

    def record(self, host: Host, kind: str, detail: str) -> None:
        """Add a refusal to the institution's audit record, soon."""
        minute = int(time.monotonic() // 60)
        of, taken = self._taken.get(host.slug, (minute, 0))
        taken = taken + 1 if of == minute else 1
        self._taken[host.slug] = (minute, taken)
        if taken > MOST_A_MINUTE or not self._pending.acquire(blocking=False):
            self.dropped += 1
            return
        refusal = EdgeRefusal(time=time.time_ns() // 1_000_000, kind=kind, number=0, detail=detail)
        try:
            self._pool.submit(self._write, host, refusal)
        except RuntimeError:
            self._pending.release()

    def close(self) -> None:
        """Write what waits, then stop."""
        self._pool.shutdown(wait=True)

    def _write(self, host: Host, refusal: EdgeRefusal) -> None:
        try:
            host.vault.audit.append_refusal(refusal)
        except YilianError as error:
            _LOG.error("refusal not recorded", institution=host.slug, kind=refusal.kind, error=type(error).__name__)
        finally:
            self._pending.release()


class Door:
    """One HTTP server on one socket."""

    def __init__(self, app: Application, listener: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        config = uvicorn.Config(
            app,
            http=HttpToolsProtocol if tls is None else MutualTlsProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Serve; return once requests are taken.

        Raises:
            UnavailableError: the application did not start.
        """
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        deadline = time.monotonic() + STARTING_S
        while not self._server.started:
            if self._task.done() or time.monotonic() > deadline:
                raise UnavailableError(f"the server on port {self.port} did not start: read the node's log")
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Take no new request, finish those under way within some seconds, and close."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._listener.close()


class MutualTlsProtocol(HttpToolsProtocol):
    """HTTP that tells the application who is at the other end.

    The scope's `extensions.tls.client_cert_der` holds the leaf of the peer, as DER bytes.
    """

    _certificate = b""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as uvicorn declares it
        """Read the certificate that the handshake has verified."""
        super().connection_made(transport)
        self._certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""

    def on_message_begin(self) -> None:
        """Put the certificate into the scope of each request."""
        super().on_message_begin()
        scope: Any = self.scope
        scope.setdefault("extensions", {})["tls"] = {"client_cert_der": self._certificate}


def listen(host: str, port: int) -> socket.socket:
    """Take a port, 0 for any free one.

    Raises:
        UnavailableError: somebody else has it.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"port {port} of {host}: {error.strerror}, expected a free one: stop what uses it, or "
            "set another (`node start --port … --base-port …`, or api.port and peer.base_port in node.toml)"
        ) from error
    return listener


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the node, which closes all its doors in order."""
        yield

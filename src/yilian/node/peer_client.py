"""The client side of what goes between institutions: mutual TLS, the other side judged by its CA on the ledger."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import msgspec

from yilian import canonical
from yilian.engine.port import Engine
from yilian.errors import ConflictError, NoGrantError, NotFoundError, UnavailableError, VerificationError, YilianError
from yilian.ledger.members import LIVING, Key, KeyState, Role
from yilian.node.host import Host
from yilian.node.pki import TrustStore
from yilian.values import CaseId, Digest, InstitutionId, PublicKey, case_id, key_id
from yilian.workflows.catalog.possession import MAX_ANSWER
from yilian.workflows.consent.message import MAX_MESSAGE
from yilian.workflows.consent.ports import (
    BlobsRequest,
    ExchangeRequest,
    ReleaseRequest,
    RevocationNotice,
    SealedIdentity,
)

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 3.0
"""Shorter than the door keeps an idle connection, so that none is used while it closes."""
MAX_LEAVES = 64 << 20
WHOLE_WITHIN_S, SLOWEST = 30.0, 64 << 10
"""How long a whole answer may take: seconds, and bytes a second beyond."""
_TRIES = 2


class PeerClients:
    """Lines from the institutions of this process to the others; one pool of connections a pair. Thread-safe.

    Args:
        address_of: gives where the door of an institution is, such as `https://127.0.0.1:8471`, or "" where unknown.
    """

    def __init__(
        self,
        engine: Engine,
        trust: TrustStore,
        *,
        address_of: Callable[[InstitutionId], str],
        timeout_s: float = 30.0,
    ) -> None:
        self._engine = engine
        self._trust = trust
        self._address_of = address_of
        self._timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        self._lock = threading.Lock()
        self._clients: dict[tuple[InstitutionId, Digest, str], httpx.Client] = {}

    def of(self, host: Host) -> PeerClient:
        """Give the line of one institution: the `Peers` of its services."""
        return PeerClient(self, host)

    def client(self, host: Host, other: InstitutionId) -> httpx.Client:
        """Give the connections of a pair; UnavailableError where the other is no member or its door is unknown."""
        member = self._engine.directory().member(other)
        if member is None or member.state not in LIVING:
            raise UnavailableError(f"{other.hex()} is no living member: check the id")
        address = self._address_of(other)
        if not address:
            raise UnavailableError(f"the door of {other.hex()} is not known or not open: try again later")
        name = (host.id, member.fields.ca_fingerprint, address)
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                context = self._trust.client_context(host.tls, member.fields.ca_fingerprint)
                client = self._clients[name] = httpx.Client(
                    base_url=address,
                    verify=context,
                    timeout=self._timeout,
                    limits=httpx.Limits(max_connections=16, keepalive_expiry=KEEPALIVE_S),
                    trust_env=False,
                    follow_redirects=False,
                )
        return client

    def key_of(self, other: InstitutionId, raw_key_id: bytes) -> Key:
        """Give a gateway key that an institution names; VerificationError where the ledger knows it not as one."""
        found = self._engine.find_case(case_id(key_id(raw_key_id)))
        fields = found[1].fields if found is not None else None
        is_valid = found is not None and found[1].state == KeyState.ACTIVE
        if not isinstance(fields, Key) or not is_valid or fields.owner != other or fields.role != Role.NODE:
            raise VerificationError(f"key {raw_key_id.hex()} is no gateway key of {other.hex()}: ask it again")
        return fields

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


class PeerClient:
    """The `Peers` of one institution."""

    def __init__(self, clients: PeerClients, host: Host) -> None:
        self._clients = clients
        self._host = host

    def message(self, custodian: InstitutionId, request: ExchangeRequest) -> bytes:
        """Ask a custodian for a signed message M."""
        body = canonical.encode(request)
        return self.call(custodian, "POST", "/peer/exchange", content=body, most=MAX_MESSAGE)

    @contextmanager
    def release(self, custodian: InstitutionId, request: ReleaseRequest) -> Iterator[Iterator[bytes]]:
        """Stream a signed message M and blob files, each after its length in 8 bytes."""
        with self._stream(custodian, "/peer/releases", canonical.encode(request)) as pieces:
            yield pieces

    def leaves(self, custodian: InstitutionId, root: Digest, basis: CaseId) -> bytes:
        """Fetch header and leaf hashes of a blob."""
        path = f"/peer/blobs/{root.hex()}/leaves?grant={basis.hex()}"
        return self.call(custodian, "GET", path, most=MAX_LEAVES)

    @contextmanager
    def blob(
        self, custodian: InstitutionId, root: Digest, basis: CaseId, *, start: int = 0
    ) -> Iterator[Iterator[bytes]]:
        """Stream the bytes of a blob file from an offset on."""
        client = self._clients.client(self._host, custodian)
        path = f"/peer/blobs/{root.hex()}?grant={basis.hex()}"
        headers = {"range": f"bytes={start}-"} if start else {}
        with transported(custodian), client.stream("GET", path, headers=headers) as answer:
            check_answer(answer, custodian)
            if start and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                raise VerificationError(f"{custodian.hex()} answered from the beginning, expected {start}: ask again")
            yield answer.iter_raw()

    @contextmanager
    def blobs(self, custodian: InstitutionId, roots: tuple[Digest, ...], basis: CaseId) -> Iterator[Iterator[bytes]]:
        """Stream whole blob files, each after its length in 8 bytes."""
        body = canonical.encode(BlobsRequest(grant=basis, roots=roots))
        with self._stream(custodian, "/peer/blobs", body) as pieces:
            yield pieces

    @contextmanager
    def _stream(self, custodian: InstitutionId, path: str, body: bytes) -> Iterator[Iterator[bytes]]:
        client = self._clients.client(self._host, custodian)
        with transported(custodian), client.stream("POST", path, content=body) as answer:
            check_answer(answer, custodian)
            yield answer.iter_raw()

    def challenge_answer(self, custodian: InstitutionId, challenge: CaseId) -> bytes:
        """Fetch the signed segment message that answers a challenge."""
        return self.call(custodian, "POST", f"/peer/challenges/{challenge.hex()}", most=MAX_ANSWER)

    def push_referral(self, receiver: InstitutionId, referral: CaseId) -> None:
        """Tell the receiver of a referral; returns once it has acknowledged."""
        self.call(receiver, "POST", f"/peer/referrals/{referral.hex()}")

    def revocation(self, custodian: InstitutionId, notice: RevocationNotice) -> None:
        """Tell a custodian of a revocation at once."""
        self.call(custodian, "POST", "/peer/revocations", content=canonical.encode(notice))

    def identity(self, home: InstitutionId, identity: SealedIdentity) -> None:
        """Tell the home of a custodial case whom it is about."""
        self.call(home, "POST", "/peer/identities", content=canonical.encode(identity))

    def emergency(self, custodian: InstitutionId, identity: SealedIdentity) -> None:
        """Tell a custodian whom an emergency is about."""
        path = f"/peer/emergencies/{identity.case.hex()}"
        self.call(custodian, "POST", path, content=canonical.encode(identity))

    def exchange_key(self, other: InstitutionId) -> PublicKey:
        """Give the X25519 key that the ledger names beside the gateway key which an institution uses now.

        Raises:
            VerificationError: the ledger names none for the key that it says it uses.
        """
        named = self._clients.key_of(other, self.call(other, "GET", "/peer/key", most=32))
        if named.exchange_key is None:
            raise VerificationError(f"the gateway key of {other.hex()} has no X25519 half: ask it to rotate its key")
        return named.exchange_key

    def call(self, other: InstitutionId, method: str, path: str, *, content: bytes = b"", most: int = 4096) -> bytes:
        """Ask another door for at most `most` bytes, twice where it does not answer; errors as it says."""
        client = self._clients.client(self._host, other)
        for attempt in range(_TRIES):
            try:
                with transported(other), client.stream(method, path, content=content) as answer:
                    check_answer(answer, other)
                    return read_body(answer, most)
            except UnavailableError:
                if attempt + 1 == _TRIES:
                    raise
        raise AssertionError("the last attempt returns or raises")


def read_body(answer: httpx.Response, most: int, *, within_s: float = WHOLE_WITHIN_S) -> bytes:
    """Read an answer; VerificationError where it is longer than `most` bytes, UnavailableError where it only trickles.

    `within_s`, and a second more for each `SLOWEST` bytes of `most`: the time until which all of it must be here.
    """
    body = bytearray()
    until = time.monotonic() + within_s + most // SLOWEST
    for piece in answer.iter_raw():
        body += piece
        if time.monotonic() > until:
            raise UnavailableError(f"an answer trickles, {len(body)} bytes came: ask again later")
        if len(body) > most:
            raise VerificationError(f"an answer of more than {most} bytes came: refuse it")
    return bytes(body)


class _Problem(msgspec.Struct, frozen=True):
    """What is read of a problem document (RFC 9457)."""

    detail: str = ""
    code: str = ""


def check_answer(answer: httpx.Response, other: InstitutionId) -> None:
    """Raise what an error answer says."""
    if answer.is_success:
        return
    try:
        problem = msgspec.json.decode(read_body(answer, 16_384), type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem(detail=f"status {answer.status_code}")
    text = f"{other.hex()} refused with {problem.code or answer.status_code}: {problem.detail}"[:1000]
    kinds: dict[int, type[YilianError]] = {
        400: VerificationError,
        403: NoGrantError,
        404: NotFoundError,
        409: ConflictError,
        422: VerificationError,
    }
    raise kinds.get(answer.status_code, UnavailableError)(text)


@contextmanager
def transported(other: InstitutionId) -> Iterator[None]:
    """Turn what fails below HTTP into UnavailableError, or VerificationError where a stranger answers."""
    try:
        yield
    except httpx.TransportError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise VerificationError(
                f"what answers as {other.hex()} shows a certificate of another CA: check its address"
            ) from error
        raise UnavailableError(f"{other.hex()} does not answer ({type(error).__name__}): try again later") from error

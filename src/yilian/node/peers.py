"""The door of an institution for the others: what goes between institutions, over mutual TLS.

Every request is judged anew: client leaf → CA that issued it → living member on the ledger; then what the path asks.
What is refused is kept in the institution's own audit record, with a kind and a number. The client is `peer_client`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec

from yilian import canonical
from yilian.crypto.blob import BlobReader, blob_prefix
from yilian.errors import (
    ConflictError,
    NoGrantError,
    NotFoundError,
    Refused,
    UnavailableError,
    VerificationError,
    YilianError,
)
from yilian.ledger.members import LIVING, MemberState
from yilian.node import bootstrap, ledger_doors, witness_doors
from yilian.node.compose import Node
from yilian.node.doors import TLS_NON_MEMBER
from yilian.node.evidence import check_evidence
from yilian.node.host import Host
from yilian.node.peer_client import PeerClient, PeerClients
from yilian.storage.vault.audit import EdgeRefusal
from yilian.storage.vault.releases import Note, NoteKind
from yilian.values import CaseId, Digest, InstitutionId, case_id
from yilian.workflows.audit.model import Refusal as AuditRefusal
from yilian.workflows.catalog import possession
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.catalog.model import Challenge, ChallengeState
from yilian.workflows.consent import release, service
from yilian.workflows.consent.model import Refusal
from yilian.workflows.consent.ports import (
    BlobsRequest,
    ExchangeRequest,
    ReleaseRequest,
    RevocationNotice,
    SealedIdentity,
)
from yilian.workflows.consent.transfer import FRAME
from yilian.workflows.governance.interface import institution_id_of
from yilian.workflows.referral.model import Referral

__all__ = ["PIECE", "PeerClient", "Peers", "peer_app"]

PIECE = 1 << 20
"""Bytes of a blob that are read at once."""
MAX_BODY = 64 << 10
NO_GRANT = "NO_GRANT"
REMEMBER_LEAF_S = 300.0

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_STATUS: tuple[tuple[type[YilianError], int], ...] = (
    (Refused, 403),
    (NoGrantError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (VerificationError, 400),
    (UnavailableError, 503),
)
_RANGE = re.compile(r"bytes=([0-9]{1,18})-\Z")


class Peers(PeerClients):
    """The lines of a node's institutions to the others; doors of this process are found by themselves."""

    def __init__(self, node: Node) -> None:
        def address_of(institution: InstitutionId) -> str:
            host = node.host_of(institution)
            return host.peer_address if host is not None else node.find_address(institution)

        timeout_s = float(node.settings.peer.timeout_s)
        super().__init__(node.engine, node.trust, address_of=address_of, timeout_s=timeout_s)


def peer_app(node: Node, host: Host) -> App:
    """Give the ASGI application of one institution's door.

    The server puts the peer's leaf certificate, DER, into `scope["extensions"]["tls"]["client_cert_der"]`.
    """
    door = _Door(node, host)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await door.request(scope, receive, send)

    return app


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    status: int = 200
    body: bytes = b""
    media: str = "application/cbor"


class _Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the blob with this root, from `start` on."""

    root: bytes
    start: int
    size: int


class _Files(msgspec.Struct, frozen=True, kw_only=True):
    """Whole blobs, each after its length, behind `first`; all that comes of them is `length` bytes."""

    first: bytes
    length: int
    begun: bytes
    """The first piece of the blobs, read already: for a small record it is all."""
    pieces: Iterator[bytes]


_Answer = _Reply | _Stream | _Files | ledger_doors.Sender


class _Door:
    """Handles the requests of one door; the work runs in threads."""

    def __init__(self, node: Node, host: Host) -> None:
        self._node = node
        self._host = host
        self._leaves: dict[bytes, tuple[float, InstitutionId | None]] = {}

    async def request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge the peer, do what the path asks, and answer or refuse."""
        try:
            most = ledger_doors.MAX_BODY if scope["path"] == "/peer/transactions" else MAX_BODY
            body = await _read_body(receive, most)
            answer = await asyncio.to_thread(self._handle, scope, body)
        except YilianError as error:
            answer = _problem(error)
        if callable(answer):
            await answer(receive, send)
        elif isinstance(answer, _Stream):
            await self._stream(answer, send)
        elif isinstance(answer, _Files):
            await self._send_files(answer, send)
        else:
            await _send(send, answer)

    def _handle(self, scope: Scope, body: bytes) -> _Answer:
        peer = self._peer(scope)
        try:
            return self._route(scope, peer, body)
        except (Refused, NoGrantError) as error:
            self._refuse(*_kind(error), f"{peer.hex()}: {error}")
            raise
        except ConflictError as error:
            self._refuse("DECLINED", 0, f"{peer.hex()}: {error}")
            raise

    def _peer(self, scope: Scope) -> InstitutionId:
        """Say which living member speaks; every request is judged against the newest block."""
        leaf = ((scope.get("extensions") or {}).get("tls") or {}).get("client_cert_der") or b""
        institution = self._institution_of(bytes(leaf))
        member = self._node.engine.directory().member(institution) if institution is not None else None
        is_asked = ledger_doors.is_for_newcomers(scope["path"])
        states = (*LIVING, MemberState.INVITED) if is_asked else LIVING
        is_living = member is not None and member.state in states
        if (
            institution is None
            or member is None
            or not is_living
            or (institution_id_of(member.fields.ca_fingerprint) != institution)
        ):
            self._refuse(TLS_NON_MEMBER, 0, f"{scope['method']} of no living member")
            raise NoGrantError("the certificate belongs to no living member: join the consortium first")
        return institution

    def _institution_of(self, leaf: bytes) -> InstitutionId | None:
        now = time.monotonic()
        known = self._leaves.get(leaf)
        if known is not None and now - known[0] < REMEMBER_LEAF_S:
            return known[1]
        anchor = self._node.trust.issuer_of(leaf) if leaf else None
        institution = institution_id_of(anchor) if anchor is not None else None
        if len(self._leaves) > 4096:
            self._leaves.clear()
        if institution is not None:
            self._leaves[leaf] = (now, institution)
        return institution

    def _route(self, scope: Scope, peer: InstitutionId, body: bytes) -> _Answer:
        parts = scope["path"].strip("/").split("/")
        if parts[:1] == ["peer"] and scope["method"] in {"GET", "POST"}:
            if scope["method"] == "GET":
                return self._get(parts[1:], peer, scope)
            return self._post(parts[1:], peer, body)
        raise NotFoundError(f"there is no {scope['method']} of {len(parts)} parts here: see the peer protocol")

    def _get(self, parts: list[str], peer: InstitutionId, scope: Scope) -> _Answer:
        match parts:
            case [what] if what in ledger_doors.GET:
                return _of_ledger(ledger_doors.answer_get(self._node, peer, what, scope["query_string"]))
            case ["blobs", root, "leaves"]:
                return self._leaf_hashes(self._released(peer, _id(root), scope))
            case ["blobs", root]:
                return self._blob(self._released(peer, _id(root), scope), scope)
            case ["key"]:
                return _Reply(body=self._host.gateway.key_id)
            case ["snapshot", *rest]:
                return _Reply(body=bootstrap.answer_get(self._node, rest, scope["query_string"]))
            case [what] if what in witness_doors.GET:
                return _Reply(body=witness_doors.answer_get(self._node, what, scope["query_string"]))
            case _:
                raise NotFoundError(f"there is no GET of {len(parts)} parts here: see the peer protocol")

    def _post(self, parts: list[str], peer: InstitutionId, body: bytes) -> _Answer:
        match parts:
            case [what] if what in ledger_doors.POST or what in witness_doors.POST:
                answered = ledger_doors.answer_post if what in ledger_doors.POST else witness_doors.answer_post
                return _of_ledger(answered(self._node, peer, what, body))
            case ["exchange"]:
                check_evidence(self._node)
                request = canonical.decode(body, ExchangeRequest)
                return _Reply(body=release.prepare_message(self._host, peer, request, self._node.clock()))
            case ["blobs"]:
                asked = canonical.decode(body, BlobsRequest)
                return self._files(peer, asked.grant, asked.roots)
            case ["releases"]:
                check_evidence(self._node)
                wanted = canonical.decode(body, ReleaseRequest)
                message = release.prepare_message(self._host, peer, wanted.exchange, self._node.clock())
                return self._files(peer, wanted.exchange.grant, wanted.roots, message=message)
            case ["challenges", challenge]:
                return self._challenge(peer, case_id(_id(challenge)))
            case ["referrals", referral]:
                self._referral(peer, case_id(_id(referral)))
            case ["revocations"]:
                notice = canonical.decode(body, RevocationNotice)
                service.stop(self._host, peer, notice.case, self._node.clock())
            case ["identities"]:
                self._keep(peer, NoteKind.CUSTODIAL_IDENTITY, canonical.decode(body, SealedIdentity))
            case ["emergencies", _]:
                self._keep(peer, NoteKind.EMERGENCY_IDENTITY, canonical.decode(body, SealedIdentity))
            case _:
                raise NotFoundError(f"there is no POST of {len(parts)} parts here: see the peer protocol")
        return _Reply(status=204)

    def _released(self, peer: InstitutionId, root: bytes, scope: Scope) -> bytes:
        """Give a root that a living grant of the peer names; ciphertext opens nothing by itself."""
        named = parse_qs(scope["query_string"].decode("ascii", "replace")).get("grant", [""])[0]
        self._check_released(peer, case_id(_id(named)), (root,))
        return root

    def _check_released(self, peer: InstitutionId, grant_id: CaseId, roots: Sequence[bytes]) -> None:
        grant = release.check_party(self._host, peer, grant_id)
        entries = (self._host.gateway.find(Entry, entry) for entry in grant.fields.entries)
        released = {entry.fields.root for entry in entries if entry is not None}
        for root in roots:
            if root not in released:
                raise Refused(
                    Refusal.NOT_IN_LIST,
                    f"root {root.hex()} is of no entry of grant {grant_id.hex()}: ask for what it lists",
                    workflow="consent",
                )

    def _files(self, peer: InstitutionId, grant: CaseId, roots: Sequence[Digest], *, message: bytes = b"") -> _Files:
        self._check_released(peer, grant, roots)
        first = len(message).to_bytes(FRAME, "big") + message if message else b""
        sized = [(root, self._host.blobs.size(root)) for root in roots]
        pieces = self._pieces(sized)
        begun = next(pieces, b"")
        length = len(first) + sum(FRAME + size for _, size in sized)
        return _Files(first=first, length=length, begun=begun, pieces=pieces)

    def _leaf_hashes(self, root: bytes) -> _Reply:
        with self._host.blobs.open(root) as blob:
            reader = BlobReader(blob)
            body = blob_prefix(reader.header_bytes) + b"".join(reader.leaf_hashes())
        return _Reply(body=body, media="application/octet-stream")

    def _blob(self, root: bytes, scope: Scope) -> _Stream:
        size = self._host.blobs.size(root)
        asked = next((value for name, value in scope["headers"] if name == b"range"), None)
        if asked is None:
            return _Stream(root=root, start=0, size=size)
        matched = _RANGE.match(asked.decode("ascii", "replace"))
        if matched is None or int(matched[1]) >= size:
            raise VerificationError(f"the range asked is not `bytes=N-` below {size}: ask from where you stopped")
        return _Stream(root=root, start=int(matched[1]), size=size)

    def _challenge(self, peer: InstitutionId, challenge: CaseId) -> _Reply:
        found = self._host.gateway.find(Challenge, challenge)
        if found is None or found.fields.custodian != self._host.id or found.fields.challenger != peer:
            raise NoGrantError(f"challenge {challenge.hex()} is not between these two: open one")
        if found.state == ChallengeState.OPEN:
            raise UnavailableError(f"challenge {challenge.hex()} is not answered yet: ask again")
        return _Reply(body=possession.make_answer(self._host, found)[1])

    def _referral(self, peer: InstitutionId, referral: CaseId) -> None:
        found = self._host.gateway.find(Referral, referral)
        if found is None:
            raise NotFoundError(f"there is no referral {referral.hex()} here yet: push it again")
        if found.fields.receiver != self._host.id or found.fields.referrer != peer:
            raise NoGrantError(f"referral {referral.hex()} is not from you to this institution: check its receiver")
        note = Note(about=referral, kind=NoteKind.REFERRAL_PUSHED, by=peer, time=self._node.clock())
        self._host.vault.releases.put_note(note)

    def _keep(self, peer: InstitutionId, kind: NoteKind, identity: SealedIdentity) -> None:
        kept = self._host.vault.releases.find_note(identity.case, kind)
        if kept is not None and kept.by != peer:
            raise NoGrantError(f"case {identity.case.hex()} was named by another institution before: open your own")
        note = Note(about=identity.case, kind=kind, by=peer, time=self._node.clock(), body=identity.sealed)
        self._host.vault.releases.put_note(note)

    def _refuse(self, kind: str, number: int, detail: str) -> None:
        refusal = EdgeRefusal(time=self._node.clock(), kind=kind, number=number, detail=detail[:500])
        self._host.vault.audit.append_refusal(refusal)

    async def _stream(self, stream: _Stream, send: Send) -> None:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(stream.size - stream.start).encode()),
            (b"accept-ranges", b"bytes"),
        ]
        if stream.start:
            headers.append((b"content-range", f"bytes {stream.start}-{stream.size - 1}/{stream.size}".encode()))
        status = 206 if stream.start else 200
        with await asyncio.to_thread(self._host.blobs.open, stream.root) as blob:
            blob.seek(stream.start)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            left = stream.size - stream.start
            while left:
                piece = await asyncio.to_thread(blob.read, min(PIECE, left))
                if not piece:
                    raise UnavailableError(f"blob {stream.root.hex()} ended early: run `yilian node check`")
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": bool(left)})

    async def _send_files(self, files: _Files, send: Send) -> None:
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(files.length).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = files.length
        piece = files.first or files.begun  # the peer checks M while the first blob is encrypted
        while piece:
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": bool(left)})
            if not left:
                return
            is_first = piece is files.first
            piece = files.begun if is_first else await asyncio.to_thread(next, files.pieces, b"")

    def _pieces(self, blobs: Sequence[tuple[Digest, int]]) -> Iterator[bytes]:
        """Read blobs of these roots and sizes, about 1 MiB together."""
        waiting: list[bytes] = []
        length = 0
        for root, size in blobs:
            waiting.append(size.to_bytes(FRAME, "big"))
            with self._host.blobs.open(root) as blob:
                left = size
                while left:
                    read = blob.read(min(PIECE, left))
                    if not read:
                        raise UnavailableError(f"blob {root.hex()} ended early: run `yilian node check`")
                    left -= len(read)
                    length += len(read)
                    waiting.append(read)
                    if length >= PIECE:
                        yield b"".join(waiting)
                        waiting.clear()
                        length = 0
        if waiting:
            yield b"".join(waiting)


def _of_ledger(answer: bytes | ledger_doors.Sender) -> _Answer:
    if not isinstance(answer, bytes):
        return answer
    return _Reply(body=answer) if answer else _Reply(status=204)


def _kind(error: Refused | NoGrantError) -> tuple[str, int]:
    if not isinstance(error, Refused):
        return NO_GRANT, 0
    if error.workflow == "audit":
        return AuditRefusal(error.number).name, error.number
    # a stranger: nobody granted it anything, whichever way the contract would say so
    if error.number in {Refusal.NO_GRANT, Refusal.NOT_THE_RECIPIENT}:
        return NO_GRANT, error.number
    return Refusal(error.number).name, error.number


def _problem(error: YilianError) -> _Reply:
    status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
    code = _kind(error)[0] if isinstance(error, Refused | NoGrantError) else type(error).__name__
    document = {
        "type": "about:blank",
        "title": type(error).__name__,
        "status": status,
        "detail": str(error),
        "code": code,
    }
    return _Reply(status=status, body=msgspec.json.encode(document), media="application/problem+json")


def _id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise NotFoundError(f"a path names {len(text)} characters, expected 64 of hexadecimal: check the id") from error
    if len(raw) != 32:
        raise NotFoundError(f"a path names {len(raw)} bytes, expected 32: check the id")
    return raw


async def _read_body(receive: Receive, most: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise UnavailableError(
                "the peer left before its request was whole, expected all of its body: send it again"
            )
        body += message.get("body", b"")
        if len(body) > most:
            raise VerificationError(f"a request of more than {most} bytes: send less")
        if not message.get("more_body", False):
            return bytes(body)


async def _send(send: Send, reply: _Reply) -> None:
    headers = [(b"content-length", str(len(reply.body)).encode())] if reply.status != 204 else []
    if reply.body:
        headers.append((b"content-type", reply.media.encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

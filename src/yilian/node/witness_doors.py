"""How nodes show each other checkpoints: the client side, and what the doors of `node.peers` answer.

GET  /peer/checkpoint?height=      a note with all cosignatures; the newest without a height
GET  /peer/consistency?from=&to=   the RFC 6962 proof between two sizes, as CBOR
POST /peer/cosignature             a note with the caller's own line → 204
POST /peer/checkpoints             the caller's newest note → the newest note here: one exchange exposes two histories
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import MAX_NOTE, Note, parse_note
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.values import Digest, InstitutionId

if TYPE_CHECKING:
    from yilian.node.checkpoints import Checkpoints

GET = frozenset({"checkpoint", "consistency"})
POST = frozenset({"cosignature", "checkpoints"})
MAX_PROOF = 8 << 10


class _Proof(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    hashes: Annotated[tuple[Digest, ...], Meta(max_length=128)]


def fetch_note(node: Node, host: Host, other: InstitutionId) -> Note:
    """Fetch the newest note of another member; errors as every call of a peer."""
    return parse_note(node.peers.of(host).call(other, "GET", "/peer/checkpoint", most=MAX_NOTE))


def fetch_consistency(  # noqa: PLR0917 - who asks whom, from which size to which
    node: Node, host: Host, other: InstitutionId, old: int, size: int
) -> tuple[Digest, ...]:
    """Fetch the proof between two sizes; NotFoundError where the other's log does not hold them."""
    path = f"/peer/consistency?from={old}&to={size}"
    answer = node.peers.of(host).call(other, "GET", path, most=MAX_PROOF)
    return canonical.decode(answer, _Proof).hashes


def push_cosignature(node: Node, host: Host, other: InstitutionId, note: Note) -> None:
    """Give the sequencer an own line."""
    node.peers.of(host).call(other, "POST", "/peer/cosignature", content=note.encode())


def exchange_notes(node: Node, host: Host, other: InstitutionId, note: Note) -> Note:
    """Show a note and be shown the newest one of another member."""
    answer = node.peers.of(host).call(other, "POST", "/peer/checkpoints", content=note.encode(), most=MAX_NOTE)
    return parse_note(answer)


def answer_get(node: Node, what: str, query: bytes) -> bytes:
    """Answer a GET of a living member."""
    checkpoints = _checkpoints(node)
    if what == "consistency":
        old, size = _number(query, "from"), _number(query, "to")
        if old is None or size is None:
            raise VerificationError("a consistency proof goes `from` one size `to` another: name both")
        return canonical.encode(_Proof(hashes=checkpoints.history.consistency(old, size)))
    height = _number(query, "height")
    note = checkpoints.newest_seen() if height is None else checkpoints.note(height)
    return note.encode()


def answer_post(node: Node, peer: InstitutionId, what: str, body: bytes) -> bytes:
    """Answer a POST of a living member."""
    checkpoints, note = _checkpoints(node), parse_note(body)
    if what == "cosignature":
        checkpoints.receive_cosignature(peer, note)
        return b""
    return checkpoints.receive_note(peer, note).encode()


def _checkpoints(node: Node) -> Checkpoints:
    if node.checkpoints is None:
        raise UnavailableError("this node makes no checkpoints yet: ask again")
    found: Checkpoints = node.checkpoints
    return found


def _number(query: bytes, name: str) -> int | None:
    text = parse_qs(query.decode("ascii", "replace")).get(name, [""])[0]
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise NotFoundError(f"{name} is no number, expected decimal digits: see the peer protocol")
    return int(text)

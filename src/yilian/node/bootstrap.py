"""Begin with a snapshot of another member instead of executing every block, and give snapshots to who begins.

GET /peer/snapshot/manifest          CBOR [manifest, checkpoint note at its height]; taken anew where it is an hour old
GET /peer/snapshot/chunk/N?height=H  chunk N of the snapshot at height H, gzip

Nothing of it is believed: the note must satisfy a trust file (or the app hash be known otherwise), and every row, leaf
and block is recomputed against it before the stores have their names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Protocol
from urllib.parse import parse_qs

import httpx
import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.engine.tuning import anonymous_memory
from yilian.errors import NotFoundError, VerificationError, YilianError
from yilian.ledger.checkpoint import MAX_NOTE, Checkpoint, Note, SignatureKind, parse_note, verify_line
from yilian.ledger.results import Head
from yilian.ledger.snapshot import MAX_MANIFEST, Restoration, check_head, parse_manifest
from yilian.ledger.trust import Trust, believe
from yilian.node.addresses import Peer
from yilian.node.backup import ledger_stores
from yilian.node.compose import Node
from yilian.node.genesis import Founding
from yilian.node.home import Home
from yilian.node.host import TlsFiles
from yilian.node.peer_client import CONNECT_TIMEOUT_S, check_answer, read_body, transported
from yilian.node.pki import TrustStore, fingerprint
from yilian.node.stores import NewStores
from yilian.storage.snapshots import MOST_PACKED, Snapshot, Snapshots, unpack_chunk
from yilian.values import HOUR, Digest, UnixMillis, public_key

PATH = "snapshot"
FRESH_MS = HOUR
TAKING_S = 600.0
"""How long a member may take to make a snapshot."""
WITNESSED_S = 20.0
"""How long witnesses are waited for before a manifest is given with the lines that there are."""
_taking = threading.Lock()


class Offer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What a member offers: a manifest, and the checkpoint of its height as a signed note, empty where it has none."""

    manifest: Annotated[bytes, Meta(max_length=MAX_MANIFEST)]
    note: Annotated[bytes, Meta(max_length=MAX_NOTE)]


class SnapshotSource(Protocol):
    """Where a snapshot comes from; errors as a call of a peer."""

    def offer(self) -> Offer:
        """Give manifest and note."""
        ...

    def packed(self, height: int, number: int) -> bytes:
        """Give a chunk, compressed."""
        ...


def bootstrap(
    home: Home,
    founding: Founding,
    source: SnapshotSource,
    trusted: Trust | Digest,
    *,
    now: UnixMillis | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Head:
    """Fill the stores of a home that has none from a snapshot; afterwards its node follows from there.

    Args:
        home: without state and segments.
        founding: the verified genesis of the chain.
        source: a member's door, or a folder.
        trusted: what is believed of checkpoints, or the app hash that the snapshot must have.
        now: this machine's clock; a note whose cosignatures are over a day old is then refused.
        progress: told (chunk, of so many).

    Raises:
        VerificationError: the note or the snapshot does not hold; the home has no stores then.
        ConflictError: the home has stores already.
    """
    offer = source.offer()
    manifest = parse_manifest(offer.manifest)
    check_head(manifest, trusted if isinstance(trusted, bytes) else _believed(offer.note, trusted, now))

    def read(number: int) -> bytes:
        size = manifest.chunks[number].size
        return unpack_chunk(source.packed(manifest.head.height, number), number, size)

    with NewStores(home.ledger, first_block=manifest.first_block) as stores:
        head = Restoration(manifest, founding.genesis, read, stores, allocate=anonymous_memory, progress=progress).run()
        stores.finish(head)
    return head


def _believed(note: bytes, trust: Trust, now: UnixMillis | None) -> Checkpoint:
    if not note:
        raise VerificationError("the member offers no checkpoint of its snapshot's height: ask another, or ask again")
    parsed = _as_policy_asks(parse_note(note), trust)
    believe(parsed, trust, executed=True, now=now, max_age=None if now is None else 24 * HOUR)
    return parsed.checkpoint


def _as_policy_asks(note: Note, trust: Trust) -> Note:
    """Keep of a note's lines the sequencer's and as many of witnesses that executed as the policy asks for."""
    kept, operators = list(note.lines[:1]), {key.operator for key in trust.sequencer}
    for line in note.lines[1:]:
        for key in trust.witnesses:
            if len(kept) > trust.needed or line.name != key.institution or key.operator in operators:
                continue
            raw = public_key(bytes.fromhex(key.public_key))
            if verify_line(note.checkpoint, line, raw) == SignatureKind.EXECUTED:
                kept.append(line)
                operators.add(key.operator)
    return Note(note.checkpoint, tuple(kept))


class DoorSnapshots:
    """A member's door as a source of snapshots; a context manager.

    Args:
        peer: whose door, judged by its CA.
        tls: certificates of the institution that asks.
    """

    def __init__(self, peer: Peer, tls: TlsFiles) -> None:
        self._peer = peer
        context = TrustStore([peer.ca]).client_context(tls, fingerprint(peer.ca))
        timeout = httpx.Timeout(TAKING_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx.Client(base_url=peer.address, verify=context, timeout=timeout, trust_env=False)

    def __enter__(self) -> DoorSnapshots:  # noqa: PYI034 - final in use
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._client.close()

    def offer(self) -> Offer:
        """Give manifest and note."""
        return canonical.decode(self._get("manifest", MAX_MANIFEST + MAX_NOTE + 64), Offer)

    def packed(self, height: int, number: int) -> bytes:
        """Give a chunk, compressed."""
        return self._get(f"chunk/{number}?height={height}", MOST_PACKED)

    def _get(self, path: str, most: int) -> bytes:
        other = self._peer.institution
        with transported(other), self._client.stream("GET", f"/peer/{PATH}/{path}") as answer:
            check_answer(answer, other)
            return read_body(answer, most)


# --------------------------------------------------------------------------------------------------------- the door


def answer_get(node: Node, parts: list[str], query: bytes) -> bytes:
    """Answer a GET below `/peer/snapshot`."""
    match parts:
        case ["manifest"]:
            snapshot = _fresh(node)
            return canonical.encode(Offer(manifest=snapshot.manifest_bytes, note=_note(node, snapshot)))
        case ["chunk", number] if number.isascii() and number.isdigit() and len(number) < 9:
            newest = Snapshots(node.home.ledger / "snapshots").newest()
            asked = parse_qs(query.decode("ascii", "replace")).get("height", [""])[0]
            if newest is None or asked != str(newest.manifest.head.height):
                raise NotFoundError("the snapshot of this height is no longer kept here: begin with its manifest")
            return newest.packed(int(number))
        case _:
            raise NotFoundError("there is only manifest and chunk/N below snapshot: see the peer protocol")


def _fresh(node: Node) -> Snapshot:
    """Give the newest snapshot, taken now where it is older than an hour and blocks have come."""
    snapshots = Snapshots(node.home.ledger / "snapshots")
    with _taking:
        newest, head = snapshots.newest(), node.engine.head()
        is_fresh = newest is not None and (
            newest.manifest.head.height == head.height or newest.manifest.head.time > node.clock() - FRESH_MS
        )
        if newest is None or not is_fresh:
            state, blocks = ledger_stores(node.engine)
            newest = snapshots.take(state, blocks, node.chain)
    return newest


def _note(node: Node, snapshot: Snapshot) -> bytes:
    """Give the note of a snapshot's height as the policy wants it, empty where there is none yet."""
    height = snapshot.manifest.head.height
    if node.checkpoints is None:
        return b""
    try:
        node.checkpoints.wait_covers(height, WITNESSED_S)
        note = node.checkpoints.note(height)
    except YilianError:
        return b""
    encoded: bytes = note.encode()
    return encoded

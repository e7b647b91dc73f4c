"""What a door gives of the ledger to nodes that follow it.

GET  /peer/genesis                 the content of `genesis.cbor`
GET  /peer/blocks?after=H          the blocks after a height, each behind its length in 4 bytes (big-endian); the
                                   answer goes on with new ones and ends when none came for some seconds
POST /peer/transactions            raw bytes of a transaction → two such frames: at once the promise (empty where none
                                   is given), then CBOR [code, message, answers], code null where it is not known,
                                   answers of [op_id, case_id, command, [[workflow, number] …], leaf, height, words]
GET  /peer/addresses               where the doors of members are: CBOR [[[institution, CA, address] …]]
POST /peer/address                 the caller's own address → the same list
POST /peer/cas                     CA certificates (same list, addresses empty) that newcomers will show → 204

A newcomer that the members have invited may ask for all but the last two, and hand in its own transactions alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from yilian import canonical
from yilian.errors import NoGrantError, NotFoundError, UnavailableError, VerificationError, YilianError
from yilian.ledger import envelope
from yilian.ledger.envelope import MAX_TRANSACTION_BYTES, InvalidTransaction
from yilian.ledger.members import LIVING, MemberState
from yilian.ledger.results import TransactionResult
from yilian.node import pki
from yilian.node.addresses import Peer, Peers
from yilian.node.compose import Node
from yilian.node.sequencer_line import HEIGHT_HEADER, LENGTH, LONG_POLL_S
from yilian.values import InstitutionId
from yilian.workflows.governance.interface import institution_id_of

GET = frozenset({"genesis", "blocks", "addresses"})
POST = frozenset({"transactions", "address", "cas"})
FOR_NEWCOMERS = frozenset({"genesis", "blocks", "addresses", "transactions"})
MAX_BODY = MAX_TRANSACTION_BYTES + 1024
PIECE = 512 << 10
"""Bytes of blocks that are read together."""
LOOK_S = 0.5
"""How often a waiting stream looks whether the node stops."""
MOST_UNUSED_CAS = 256
"""CA certificates kept for newcomers that the ledger does not name yet."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Sender = Callable[[Receive, Send], Awaitable[None]]


def is_for_newcomers(path: str) -> bool:
    """Say whether an invited institution that has not joined yet may ask this."""
    asked = path.strip("/").removeprefix("peer/")
    return asked in FOR_NEWCOMERS or asked.startswith("snapshot/")


def answer_get(node: Node, peer: InstitutionId, what: str, query: bytes) -> bytes | Sender:
    """Answer a GET of a member or newcomer."""
    match what:
        case "genesis":
            return node.founding.content
        case "addresses":
            return canonical.encode(Peers(peers=doors_of(node)))
        case _:
            return _Blocks(node, peer, _after(query)).send


def answer_post(node: Node, peer: InstitutionId, what: str, body: bytes) -> bytes | Sender:
    """Answer a POST of a member or, of transactions, of a newcomer."""
    match what:
        case "transactions":
            return _take(node, peer, body)
        case "address":
            return _announced(node, peer, body)
        case _:
            _keep_cas(node, canonical.decode(body, Peers).peers)
            return b""


def doors_of(node: Node) -> tuple[Peer, ...]:
    """List the doors of living members that this node knows: its own institutions first, then what it was told."""
    own = [
        Peer(institution=host.id, ca=node.home.ca_der(host.slug), address=host.peer_address)
        for host in node.hosts.values()
        if host.peer_address
    ]
    here = {peer.institution for peer in own}
    directory = node.engine.directory()
    others = []
    for peer in node.addresses.all():
        member = directory.member(peer.institution)
        if peer.institution not in here and member is not None and member.state in LIVING:
            others.append(peer)
    return (*own, *others)


def _after(query: bytes) -> int:
    asked = parse_qs(query.decode("ascii", "replace")).get("after", [""])[0]
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 15):
        raise VerificationError(f"after={asked[:20]!r}, expected a height: send a number from 0 on")
    return int(asked)


class _Blocks:
    """The stream of blocks after a height."""

    def __init__(self, node: Node, peer: InstitutionId, after: int) -> None:
        head = node.engine.head().height
        if after > head:
            raise NotFoundError(
                f"you are at block {after}, this node at {head}: it lost blocks or lies behind; compare checkpoints"
            )
        if after < head:
            node.engine.encoded_block(after + 1)  # NotFoundError, before the answer begins, where it was pruned
        self._node, self._peer = node, peer
        self._height, self._head = after, head

    async def send(self, receive: Receive, send: Send) -> None:
        """Send blocks until none came for some seconds, the peer leaves or may no longer ask, or the node stops."""
        loop, moved = asyncio.get_running_loop(), asyncio.Event()
        unsubscribe = self._node.engine.subscribe(lambda _: _wake(loop, moved))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await _start(send, (HEIGHT_HEADER.encode(), b"%d" % self._head))
            deadline = time.monotonic() + LONG_POLL_S
            while not self._node.stopping.is_set() and not gone.done():
                moved.clear()
                may_go_on = self._may_go_on()
                frames = await asyncio.to_thread(self._read)
                if frames:
                    await send({"type": "http.response.body", "body": frames, "more_body": True})
                if not may_go_on:
                    break  # with the block that says so
                if frames:
                    deadline = time.monotonic() + LONG_POLL_S
                    continue
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), min(left, LOOK_S))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            unsubscribe()
            gone.cancel()

    def _may_go_on(self) -> bool:
        member = self._node.engine.directory().member(self._peer)
        return member is not None and member.state in {*LIVING, MemberState.INVITED}

    def _read(self) -> bytes:
        engine = self._node.engine
        head = engine.head().height
        frames = bytearray()
        while self._height < head and len(frames) < PIECE:
            frames += _frame(engine.encoded_block(self._height + 1))
            self._height += 1
        return bytes(frames)


def _take(node: Node, peer: InstitutionId, transaction: bytes) -> Sender:
    member = node.engine.directory().member(peer)
    if member is not None and member.state == MemberState.INVITED:
        _check_own(node, peer, transaction)
    future = node.engine.submit(transaction)
    promises = node.checkpoints is not None and node.line is None
    promise = node.checkpoints.promise(transaction, node.clock()) if promises else b""

    async def send_both(_: Receive, send: Send) -> None:
        await _start(send)
        await send({"type": "http.response.body", "body": _frame(promise), "more_body": True})
        answer = await _answer(future)
        await send({"type": "http.response.body", "body": _frame(answer), "more_body": False})

    return send_both


def _check_own(node: Node, peer: InstitutionId, transaction: bytes) -> None:
    """Hold a newcomer to what it signed itself; that it is `member.join` is the kernel's to judge."""
    try:
        actor = envelope.parse(transaction, node.registry.command_types).payload.actor
    except InvalidTransaction:
        return  # answered with its code
    if actor != peer:
        raise NoGrantError(f"{peer.hex()} is invited and hands in a transaction of another: join first")


async def _answer(future: Future[TransactionResult]) -> bytes:
    try:
        result = await asyncio.wrap_future(future)
    except YilianError as error:
        return canonical.encode([None, str(error), []])
    answers = [
        [one.op_id, one.case_id, one.command, [list(pair) for pair in one.result], one.leaf, one.height, one.message]
        for one in result.answers
    ]
    return canonical.encode([int(result.code), result.message, answers])


def _announced(node: Node, peer: InstitutionId, body: bytes) -> bytes:
    if len(body) > 256:
        raise VerificationError(f"an address of {len(body)} bytes, expected at most 256: send https://HOST:PORT")
    member = node.engine.directory().member(peer)
    ca_der = node.trust.find(member.fields.ca_fingerprint) if member is not None else None
    if ca_der is None:
        raise NoGrantError(f"no CA of {peer.hex()} is here: join first")
    node.addresses.learn([Peer(institution=peer, ca=ca_der, address=body.decode("utf-8", "replace"))])
    return canonical.encode(Peers(peers=doors_of(node)))


def _keep_cas(node: Node, peers: tuple[Peer, ...]) -> None:
    for peer in peers:
        keep_ca(node, peer.ca)


def keep_ca(node: Node, ca_der: bytes) -> None:
    """Keep a CA certificate so that its institution can speak here; what it may do, the ledger says.

    Raises:
        VerificationError: it is no CA.
        UnavailableError: too many are kept for institutions that nobody invited.
    """
    if node.trust.find(pki.fingerprint(ca_der)) is not None:
        return
    pki.check_ca(ca_der)
    directory = node.engine.directory()
    anchors = map(pki.fingerprint, node.trust.cas())
    unused = sum(directory.member(institution_id_of(anchor)) is None for anchor in anchors)
    if unused >= MOST_UNUSED_CAS:
        raise UnavailableError(f"{unused} certificates wait for an invitation, at most {MOST_UNUSED_CAS}: vote first")
    node.home.store_ca(ca_der)
    node.trust.add(ca_der)


def _frame(content: bytes) -> bytes:
    return LENGTH.pack(len(content)) + content


async def _start(send: Send, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/octet-stream"), (b"cache-control", b"no-store"), *more]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _wake(loop: asyncio.AbstractEventLoop, moved: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(moved.set)

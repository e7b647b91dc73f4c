"""The line of a node to the sequencer: mutual TLS as one of its institutions, to the door that was announced last."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress

import httpx
import msgspec

from yilian import canonical
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger.envelope import TransactionCode
from yilian.ledger.members import LIVING
from yilian.ledger.ports import State
from yilian.ledger.results import Answer, TransactionResult
from yilian.ledger.sequencer import sequencer_of
from yilian.ledger.state import Directory
from yilian.node.addresses import Addresses, Peer, Peers
from yilian.node.host import TlsFiles
from yilian.node.peer_client import CONNECT_TIMEOUT_S, KEEPALIVE_S, check_answer, read_body, transported
from yilian.node.pki import TrustStore
from yilian.values import Digest, InstitutionId, case_id, op_id

LENGTH = struct.Struct(">I")
LONG_POLL_S = 10.0
"""After so long without a new block a stream ends, to be asked for again."""
HEIGHT_HEADER = "yilian-height"
"""Of an answer with blocks: the height of who sends them."""
MAX_FRAME = 8 << 20
"""A block holds a megabyte of transactions and one more transaction at most."""
MAX_LIST = 16 << 20
MAX_GENESIS = 16 << 20
CONNECTIONS = 16


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """As whom a line speaks."""

    institution: InstitutionId
    tls: TlsFiles


class SequencerLine:
    """`engine.follower.Source` over the doors of members. Thread-safe.

    Args:
        state: committed state of this node: says who the sequencer is, and its CA.
        trust: CA certificates.
        addresses: where doors are.
        identities: institutions of this node; the first that is a living member speaks, else the first.
        fixed: address of the sequencer's door that goes before what was announced, "" for none.
        timeout_s: how long one answer may take.
    """

    def __init__(
        self,
        state: State,
        trust: TrustStore,
        addresses: Addresses,
        *,
        identities: list[Identity],
        fixed: str = "",
        timeout_s: float = 30.0,
    ) -> None:
        self._state = state
        self._trust = trust
        self._addresses = addresses
        self.identities = identities
        self._fixed = fixed
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._clients: dict[tuple[InstitutionId, Digest, str], httpx.Client] = {}
        self._streaming: socket.socket | None = None
        self._closed = False
        self.target: int | None = None
        """Height of the sequencer when the newest stream of blocks began, None before the first."""
        self.on_promise: Callable[[bytes, bytes], None] | None = None
        """Told (promise, transaction) as soon as the sequencer has promised to include it."""
        self.on_answer: Callable[[bytes], None] | None = None
        """Told the transaction when its answer came."""

    def blocks_after(self, height: int) -> Iterator[bytes]:
        """Stream blocks; see `Source.blocks_after`."""
        sequencer, client = self._reach(None)
        timeout = httpx.Timeout(LONG_POLL_S + self._timeout_s, connect=CONNECT_TIMEOUT_S)
        path = f"/peer/blocks?after={height}"
        with self._answering(sequencer), client.stream("GET", path, timeout=timeout) as answer:
            check_answer(answer, sequencer)
            named = answer.headers.get(HEIGHT_HEADER, "")
            self.target = int(named) if named.isascii() and named.isdigit() else height
            self._streaming = answer.extensions["network_stream"].get_extra_info("socket")
            try:
                yield b""
                with closing(frames(answer.iter_raw())) as blocks:
                    yield from blocks
            finally:
                self._streaming = None

    def submit(self, transaction: bytes) -> TransactionResult:
        """Hand in a transaction; see `Source.submit`."""
        sequencer, client = self._reach(None)
        with self._answering(sequencer), client.stream("POST", "/peer/transactions", content=transaction) as answer:
            check_answer(answer, sequencer)
            parts = frames(answer.iter_raw())
            promise = next(parts, b"")
            if promise and self.on_promise is not None:
                self.on_promise(promise, transaction)
            result = next(parts, b"")
        if not result:
            raise UnavailableError(f"{sequencer.hex()} left before it answered: ask for the operation's state later")
        if self.on_answer is not None:
            self.on_answer(transaction)
        return _result(result)

    def genesis(self) -> bytes:
        """Fetch the content of the chain's `genesis.cbor`."""
        return self._call("GET", "/peer/genesis", None, most=MAX_GENESIS)

    def fetch_addresses(self) -> tuple[Peer, ...]:
        """Ask where the doors of members are."""
        return canonical.decode(self._call("GET", "/peer/addresses", None, most=MAX_LIST), Peers).peers

    def announce(self, institution: InstitutionId, address: str) -> tuple[Peer, ...]:
        """Say where the door of an institution of this node is, and be told of the others."""
        answer = self._call("POST", "/peer/address", institution, content=address.encode(), most=MAX_LIST)
        return canonical.decode(answer, Peers).peers

    def hand_on_ca(self, institution: InstitutionId, ca_der: bytes) -> None:
        """Hand on the CA certificate of an institution that is to be invited."""
        body = canonical.encode(Peers(peers=(Peer(institution=institution, ca=ca_der, address=""),)))
        self._call("POST", "/peer/cas", None, content=body, most=64)

    def close(self) -> None:
        """Break off what waits; later calls raise UnavailableError."""
        self._closed = True
        stream = self._streaming
        if stream is not None:
            with suppress(OSError):
                # the plain method: that of a TLS socket would take its state from the thread that reads
                socket.socket.shutdown(stream, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the connections, once nobody waits any more."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _call(
        self, method: str, path: str, identity: InstitutionId | None, *, content: bytes = b"", most: int
    ) -> bytes:
        sequencer, client = self._reach(identity)
        with self._answering(sequencer), client.stream(method, path, content=content) as answer:
            check_answer(answer, sequencer)
            return read_body(answer, most)

    def _reach(self, speaker: InstitutionId | None) -> tuple[InstitutionId, httpx.Client]:
        """Give the sequencer and connections to its door."""
        if self._closed:
            raise UnavailableError("this node stops, expected it running: try again once it is started")
        sequencer = sequencer_of(self._state)
        directory = Directory(self._state)
        member = directory.member(sequencer)
        address = self._fixed or self._addresses.find(sequencer)
        if member is None or not address:
            raise UnavailableError(
                f"the door of the sequencer {sequencer.hex()} is not known: reads go on; set peer.sequencer to its "
                "address and start the node again"
            )
        identity = self._identity(speaker, directory)
        name = (identity.institution, member.fields.ca_fingerprint, address)
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = httpx.Client(
                    base_url=address,
                    verify=self._trust.client_context(identity.tls, member.fields.ca_fingerprint),
                    timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
                    limits=httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=KEEPALIVE_S),
                    trust_env=False,
                    follow_redirects=False,
                )
        return sequencer, client

    def _identity(self, speaker: InstitutionId | None, directory: Directory) -> Identity:
        for identity in self.identities:
            member = directory.member(identity.institution)
            if identity.institution == speaker or (speaker is None and member is not None and member.state in LIVING):
                return identity
        if not self.identities:
            raise UnavailableError("this node has no institution to speak as: make one with `yilian node init`")
        return self.identities[0]

    @contextmanager
    def _answering(self, sequencer: InstitutionId) -> Iterator[None]:
        try:
            with transported(sequencer):
                yield
        except UnavailableError as error:
            raise UnavailableError(f"the sequencer: {error}; reads go on here meanwhile") from error


def frames(pieces: Iterator[bytes]) -> Generator[bytes]:
    """Cut a stream into its frames, each behind its length; what is not whole at its end is dropped."""
    held = bytearray()
    for piece in pieces:
        held += piece
        at = 0
        while len(held) - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(held, at)
            if size > MAX_FRAME:
                raise VerificationError(f"a frame of {size} bytes, expected at most {MAX_FRAME}: refuse it")
            if len(held) - at - LENGTH.size < size:
                break
            at += LENGTH.size + size
            yield bytes(held[at - size : at])
        del held[:at]


def _result(content: bytes) -> TransactionResult:
    raw = canonical.decode_builtins(content)
    try:
        code, message, answers = raw
        if code is None:
            raise UnavailableError(str(message))
        return TransactionResult(
            code=TransactionCode(code),
            message=str(message),
            answers=tuple(
                Answer(
                    op_id=op_id(op),
                    case_id=case_id(case),
                    command=str(command),
                    result=tuple((str(workflow), int(number)) for workflow, number in result),
                    leaf=int(leaf),
                    height=int(height),
                    message=str(words),
                )
                for op, case, command, result, leaf, height, words in answers
            ),
        )
    except (ValueError, TypeError) as error:
        raise VerificationError(f"the sequencer's answer does not read ({error}): compare versions") from error

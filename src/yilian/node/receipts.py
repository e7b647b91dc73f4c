"""Receipts for callers of the API: finds what is asked for, proves it, or exports it as COSE receipt."""

from __future__ import annotations

import time

from yilian import canonical
from yilian.crypto.cose_receipt import Inclusion
from yilian.errors import NotFoundError
from yilian.ledger.checkpoint import parse_note
from yilian.ledger.multiproof import unpack
from yilian.ledger.receipt import Kind, parse_receipt
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.node.proofs import Prover
from yilian.values import CaseId, OpId, case_id, op_id
from yilian.web.app.ports import ProofAsked

CATCH_UP_S = 5.0
"""How long the read model, which knows where operations stand, may take to reach the block that is the newest now."""
_PAUSE_S = 0.01


def prove(node: Node, host: Host, asked: ProofAsked) -> bytes:
    """Make a receipt for an institution of this node.

    Raises:
        NotFoundError: no such operation, case or use; or the institution keeps no such claim.
        ConflictError: the case whose absence is asked for exists, or several members chose the operation id.
        UnavailableError: no checkpoint of the newest block with enough cosignatures.
    """
    checkpoints = node.checkpoints
    prover = Prover(node.engine, node.index, checkpoints.newest, wait=checkpoints.wait_covers)
    if asked.kind not in {Kind.STATE, Kind.ABSENCE}:
        _catch_up(node)
    match asked.kind:
        case Kind.OPERATION:
            found = _operation(prover, host, op_id(asked.subject) if asked.leaf is None else asked.leaf)
            return _as_cose(host, found) if asked.cose else found
        case Kind.CLAIM:
            claimed = op_id(asked.subject)
            return prover.claim(claimed, asked.name, host.vault.claims.of(claimed), actor=host.id)
        case Kind.STATE:
            return prover.state(_case(asked))
        case Kind.ABSENCE:
            return prover.absence(_case(asked))
        case Kind.CASE:
            return prover.case(_case(asked))
        case Kind.EXCHANGE:
            return prover.exchange(_case(asked))


def _operation(prover: Prover, host: Host, operation: OpId | int) -> bytes:
    """Prove an operation; where several members chose its id, the institution's own."""
    if isinstance(operation, int):
        return prover.operation(operation)
    try:
        return prover.operation(operation, actor=host.id)
    except NotFoundError:
        return prover.operation(operation)


def _as_cose(host: Host, content: bytes) -> bytes:
    receipt = parse_receipt(content)
    (logged,) = receipt.operations
    inclusion = Inclusion(
        leaf=canonical.encode(logged.leaf),
        index=logged.leaf_index,
        tree_size=parse_note(receipt.checkpoint).checkpoint.log_size,
        path=unpack(logged.path),
    )
    return host.gateway.sign_receipt(inclusion, logged.leaf.op_id.hex())


def _case(asked: ProofAsked) -> CaseId:
    return case_id(asked.subject)


def _catch_up(node: Node) -> None:
    height, until = node.engine.head().height, time.monotonic() + CATCH_UP_S
    while node.index.height() < height and time.monotonic() < until:
        time.sleep(_PAUSE_S)

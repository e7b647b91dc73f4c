"""Whether what stands behind the ledger is fresh enough to release records on it: fail closed (X-Road's rule).

Two limits, both off by default: the chain's parameter `audit.evidence_age` for the newest cosigned checkpoint, and the
node's setting `anchoring.max_age` for the newest outside timestamp.
"""

from __future__ import annotations

from contextlib import suppress

from yilian.errors import Refused, UnavailableError
from yilian.ledger.checkpoint import Note, signed_at
from yilian.node import anchoring
from yilian.node.compose import Node
from yilian.node.signers import needed
from yilian.workflows.audit.model import EVIDENCE_AGE, Refusal


def evidence_age(node: Node) -> int | None:
    """Give how long ago (ms) the oldest cosignature of the newest checkpoint was made; None where the policy has none.

    Raises:
        UnavailableError: no checkpoint satisfies the policy yet.
    """
    if not needed(node.engine):
        return None
    if node.checkpoints is None:
        raise UnavailableError("this node keeps no checkpoints: start it with `yilian node start`")
    note: Note = node.checkpoints.newest()
    return int(node.clock() - min(signed_at(line) for line in note.lines[1:]) * 1000)


def why_too_old(node: Node) -> str:
    """Say why nothing may be released for want of fresh evidence; empty where it may."""
    limit = _limit(node)
    if limit and needed(node.engine):
        age: int | None = None
        with suppress(UnavailableError):
            age = evidence_age(node)
        if age is None or age > limit:
            found = "no checkpoint is cosigned" if age is None else f"the newest cosigned checkpoint is {age} ms old"
            return f"{found}, expected one of {limit} ms at most ({EVIDENCE_AGE}): see that the members' nodes run"
    return anchoring.is_too_old(node)


def check_evidence(node: Node) -> None:
    """Refuse to begin an exchange while the evidence is too old. Refuses: audit EVIDENCE_TOO_OLD."""
    why = why_too_old(node)
    if why:
        raise Refused(Refusal.EVIDENCE_TOO_OLD, why, workflow="audit")


def _limit(node: Node) -> int:
    try:
        return node.engine.directory().number(EVIDENCE_AGE)
    except KeyError:  # a chain older than the parameter
        return 0

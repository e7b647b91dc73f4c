"""What the state machine answers: heads, answers, what a block's operations did."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from yilian.ledger.cases import Part
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.envelope import Envelope, TransactionCode
from yilian.ledger.log import Leaf
from yilian.values import CaseId, Digest, Natural, OpId, UnixMillis, digest


class Checked(IntEnum):
    """What of a transaction was checked before its block: nothing, its signatures and form, or its signatures alone.

    Signatures are checked with the public keys of the key ids that they name; a key id is a hash of its key.
    """

    NOTHING = 0
    ALL = 1
    SIGNATURES = 2


Verified = Callable[[bytes], int | Envelope]
"""Says of a transaction's bytes what was checked, as `Checked`; or gives its envelope where all was."""

Result = tuple[tuple[str, int], ...]
"""Empty: done; else (workflow, number) of the refusal, those of consequences behind it."""


class Head(Part, frozen=True, kw_only=True):
    """Where the chain stands after a block."""

    height: Natural
    time: UnixMillis
    block: Digest
    """Digest of the newest header; the chain's id before block 1."""
    app_hash: Digest
    log_size: Natural
    log_root: Digest
    state_root: Digest
    parameters_root: Digest

    def checkpoint(self, chain: Digest) -> Checkpoint:
        """Give what sequencer and witnesses sign after this block."""
        return Checkpoint(
            chain=chain,
            log_size=self.log_size,
            log_root=self.log_root,
            app_hash=self.app_hash,
            height=self.height,
            time=self.time,
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one operation. `leaf` is its index in the log."""

    op_id: OpId
    case_id: CaseId
    command: str
    result: Result
    leaf: int
    height: int
    message: str = ""
    """Words for the sender, never on record."""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return not self.result


class TransactionResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one transaction: a code, and an answer an operation where the code is OK."""

    code: TransactionCode
    answers: tuple[Answer, ...] = ()
    message: str = ""


class OperationRecord(Part, frozen=True, kw_only=True):
    """A leaf and the rows that its operation wrote, as stored with the block: what projections and audits read."""

    leaf: Leaf
    rows: Annotated[tuple[bytes, ...], Meta(max_length=512)]


class BlockRecords(Part, frozen=True, kw_only=True):
    """What the operations of one block did, in the order of their leaves."""

    first: Natural
    """Index of the first leaf in the log."""
    records: tuple[OperationRecord, ...]


def app_hash_of(log_size: int, log_root: bytes, state_root: bytes, parameters_root: bytes) -> Digest:
    """Give what all engines agree on after a block; no height or time in it, so that an empty block leaves it alone."""
    return digest(
        sha256(b"yilian/app/v1" + log_size.to_bytes(8, "big") + log_root + state_root + parameters_root).digest()
    )

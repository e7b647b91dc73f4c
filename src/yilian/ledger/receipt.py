"""The receipt `.yilian-proof`: facts of a chain with all that proves them, in one file. Pure.

    receipt   = [format, kind, subject, checkpoint note, parameters root, state, operations, changes, claim]
    operation = [operation bytes, index and path in its envelope, COSE_Sign1, patients' keys, leaf, index and path]

Deterministic CBOR (RFC 8949 section 4.2.1) of the structs below. The checkpoint and the state stand once a file: the
state root follows from the rows shown, log size and log root stand in the note, and with the parameters root they give
the note's app hash. A leaf proves its operation, the time and the result; a key's row says whose key signed and how it
is held. `spec/proofs.md` lists the steps by which a reader checks a file.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Final

from msgspec import Meta, structs

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.suite import SuiteId, sha256
from yilian.errors import VerificationError
from yilian.ledger.cases import Part
from yilian.ledger.checkpoint import MAX_NOTE
from yilian.ledger.claims import ClaimProof, verify_claim
from yilian.ledger.envelope import MAX_OPERATION_BYTES, TX_TAG, Core, Payload, PersonSignature
from yilian.ledger.log import Leaf
from yilian.ledger.multiproof import Hashes, Shown, unpack
from yilian.values import Digest, Natural, PublicKey

FORMAT: Final = 1
SUFFIX: Final = ".yilian-proof"
MAX_RECEIPT: Final = 16 << 20
MAX_OPERATIONS: Final = 4_096
EXCHANGE_COMMANDS: Final = ("use.reserve", "use.deliver", "use.confirm", "disclosure.sent", "disclosure.received")
"""What became of one record exchange, in the order in which a receipt shows it."""


class Kind(StrEnum):
    """What a receipt proves."""

    OPERATION = "operation"
    """That an operation was executed, when, and with which result."""
    STATE = "state"
    """That a row (a case as it stands, or a register) is in the current state."""
    ABSENCE = "absence"
    """That no row stands under a key."""
    CASE = "case"
    """Every operation that changed a case, in order, and the case as it stands."""
    EXCHANGE = "exchange"
    """One use of records: its consent, grant and disclosure, and the operations of both sides."""
    CLAIM = "claim"
    """One claim of an operation, without its others."""


class LoggedOperation(Part, frozen=True, kw_only=True):
    """One operation with its way into the log."""

    operation: Annotated[bytes, Meta(max_length=MAX_OPERATION_BYTES)]
    index: Natural
    """Place among the operations of its envelope."""
    siblings: Hashes
    """Path (RFC 6962) from the operation to the `ops_root` that was signed; at most ten."""
    sign1: cose.Sign1
    """What the institution's gateway key signed."""
    patients: Annotated[tuple[PublicKey, ...], Meta(max_length=3)]
    """Public keys of patients among its persons, in their order: a case key has no row, its id is its hash."""
    leaf: Leaf
    leaf_index: Natural
    path: Hashes
    """Path from the leaf to the log root of the checkpoint."""


class Change(Part, frozen=True, kw_only=True):
    """What one operation left of a case, and the digests of all that it changed."""

    row: Annotated[bytes, Meta(max_length=1 << 20)]
    digests: Annotated[bytes, Meta(max_length=64 * 512)]
    """(key hash, value hash) of every row changed, in order of key hash, packed: what the leaf's digest covers."""


class Receipt(Part, frozen=True, kw_only=True):
    """A receipt file. What a kind does not need is empty."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    kind: Kind
    subject: Annotated[bytes, Meta(max_length=1_000)]
    """Natural key of the row that it is about; empty for an operation or a claim."""
    checkpoint: Annotated[bytes, Meta(max_length=MAX_NOTE)]
    parameters_root: Digest
    state: Shown
    operations: Annotated[tuple[LoggedOperation, ...], Meta(max_length=MAX_OPERATIONS)]
    changes: Annotated[tuple[Change, ...], Meta(max_length=MAX_OPERATIONS)]
    """One an operation, for a case alone."""
    claim: ClaimProof | None


class _Operation(Part, frozen=True, kw_only=True):
    core: bytes
    persons: Annotated[tuple[PersonSignature, ...], Meta(max_length=3)]


class Opened(Part, frozen=True, kw_only=True):
    """The parts of an operation, decoded."""

    core_bytes: bytes
    core: Core
    persons: tuple[PersonSignature, ...]
    payload: Payload


class Row(Part, frozen=True, kw_only=True):
    """A row of the state, decoded without its type: (shape, case type, header) of a case, else None."""

    natural_key: bytes
    case: tuple[int, str, tuple[Any, ...]] | None
    fields: tuple[Any, ...]


def encode_receipt(receipt: Receipt) -> bytes:
    """Give the bytes of a receipt file."""
    return canonical.encode(receipt)


def parse_receipt(data: bytes) -> Receipt:
    """Decode a receipt file strictly.

    Raises:
        VerificationError: too long, no receipt of this format, or another encoding than the only one.
    """
    if len(data) > MAX_RECEIPT:
        raise VerificationError(f"a receipt of {len(data)} bytes, expected at most {MAX_RECEIPT}: ask for several")
    return canonical.decode(data, Receipt)


def open_operation(logged: LoggedOperation) -> Opened:
    """Decode an operation and the payload of its envelope strictly; VerificationError where they are none."""
    operation = canonical.decode(logged.operation, _Operation)
    return Opened(
        core_bytes=operation.core,
        core=canonical.decode(operation.core, Core),
        persons=operation.persons,
        payload=canonical.decode(logged.sign1.payload, Payload),
    )


def is_in_envelope(logged: LoggedOperation, payload: Payload) -> bool:
    """Say whether an operation stands among those that were signed together."""
    leaf = merkle.leaf_hash(logged.operation)
    path = unpack(logged.siblings)
    return merkle.verify_inclusion(leaf, logged.index, payload.op_count, path, payload.ops_root)


def is_signed(logged: LoggedOperation, public_key: bytes) -> bool:
    """Say whether a gateway key signed the envelope of an operation."""
    return cose.verify1(logged.sign1, TX_TAG, SuiteId.INTL, public_key)


def is_in_log(logged: LoggedOperation, size: int, root: bytes) -> bool:
    """Say whether a leaf stands in the log of this size and root."""
    leaf = merkle.leaf_hash(canonical.encode(logged.leaf))
    return merkle.verify_inclusion(leaf, logged.leaf_index, size, unpack(logged.path), root)


def is_covered(change: Change, key: bytes, changes: bytes) -> bool:
    """Say whether a row, under its key hash, is among the changes of which a leaf holds the digest."""
    pairs = [change.digests[at : at + 64] for at in range(0, len(change.digests), 64)]
    ordered = all(len(pair) == 64 for pair in pairs) and all(one[:32] < two[:32] for one, two in pairwise(pairs))
    if not ordered or sha256(b"yilian/changes/v1", change.digests) != changes:
        return False
    return key + sha256(change.row) in pairs


def least_count(claim: ClaimProof, root: bytes) -> int:
    """Give the least number of claims with which a proof holds: the only one that a receipt may name.

    A root (RFC 6962) does not bind the size of its tree, so the number says nothing that could be relied on.
    """
    for count in range(claim.index + 1, claim.count):
        if verify_claim(structs.replace(claim, count=count), root):
            return count
    return claim.count


def open_row(row: bytes) -> Row:
    """Decode a row strictly, without its type.

    Raises:
        VerificationError: no row.
    """
    raw = canonical.decode_builtins(row)
    if isinstance(raw, list) and raw and isinstance(raw[0], bytes):
        natural_key = raw[0]
        if len(raw) == 2 and isinstance(raw[1], list):
            return Row(natural_key=natural_key, case=None, fields=tuple(raw[1]))
        if len(raw) == 5 and [type(part) for part in raw[1:]] == [int, str, list, list]:
            return Row(natural_key=natural_key, case=(raw[1], raw[2], tuple(raw[3])), fields=tuple(raw[4]))
    raise VerificationError(f"{len(row)} bytes are no row of the state, neither a case nor a register: refuse the file")

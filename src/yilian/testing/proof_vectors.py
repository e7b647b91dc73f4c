"""Vectors of receipts: one of each kind, and what becomes of each when somebody changes it.

Each change names the step of the verification that must fail (`spec/proofs.md`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from yilian import canonical
from yilian.crypto.cose_receipt import Inclusion, sign_receipt
from yilian.ledger.checkpoint import Checkpoint, Note, SignatureKind, SignatureLine, cosign, origin, parse_note
from yilian.ledger.multiproof import unpack
from yilian.ledger.receipt import Kind, LoggedOperation, Receipt, parse_receipt
from yilian.ledger.state import case_key
from yilian.testing.proof_chain import STRANGER, Chain
from yilian.values import case_id, digest, institution_id, unix_millis

OPERATION, ALONE, PATIENT = "operation", "operation of an institution alone", "operation of a patient"
STATE, ABSENCE, CASE, EXCHANGE, CLAIM = "state of a consent that was revoked", "absence", "case", "exchange", "claim"

replace = msgspec.structs.replace


class Changed(NamedTuple):
    """A receipt that was changed."""

    of: str
    name: str
    failed: str
    content: bytes


def changes(chain: Chain, receipts: dict[str, bytes]) -> Iterator[Changed]:
    """Give every changed receipt."""
    yield from _files(receipts)
    yield from _notes(chain, receipts)
    yield from _states(receipts)
    yield from _operations(receipts)
    yield from _kinds(receipts)


def vector() -> dict[str, Any]:
    """Give the content of `spec/vectors/proofs.json`."""
    with tempfile.TemporaryDirectory() as folder, closing(Chain(Path(folder))) as chain:
        receipts = chain.receipts()
        valid = [
            {"name": name, "kind": parse_receipt(content).kind.value, "receipt": content.hex()}
            for name, content in receipts.items()
        ]
        changed = [
            {"of": one.of, "name": one.name, "failed": one.failed} | _splice(receipts[one.of], one.content)
            for one in changes(chain, receipts)
        ]
        trust = msgspec.to_builtins(chain.trust())
        return {"trust": trust, "valid": valid, "changed": changed, "cose": _cose(chain, receipts[OPERATION])}


def _splice(before: bytes, after: bytes) -> dict[str, Any]:
    """Say what to do to the bytes: at an offset, remove so many, put others there."""
    start = _shared(before, after)
    end = _shared(before[start:][::-1], after[start:][::-1])
    return {"at": start, "removed": len(before) - start - end, "put": after[start : len(after) - end].hex()}


def _shared(one: bytes, other: bytes) -> int:
    """Count the bytes with which both begin."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _cose(chain: Chain, content: bytes) -> dict[str, Any]:
    receipt = parse_receipt(content)
    (logged,) = receipt.operations
    inclusion = Inclusion(
        leaf=canonical.encode(logged.leaf),
        index=logged.leaf_index,
        tree_size=chain.engine.head().log_size,
        path=unpack(logged.path),
    )
    signer = chain.world["centre"].gateway
    subject = logged.leaf.op_id.hex()
    made = sign_receipt(inclusion, signer, issuer=origin(chain.engine.chain), subject=subject)
    return {
        "receipt": made.hex(),
        "public_key": signer.public_key.hex(),
        "leaf": inclusion.leaf.hex(),
        "leaf_index": inclusion.index,
        "tree_size": inclusion.tree_size,
        "root": inclusion.root.hex(),
        "subject": subject,
    }


def _files(receipts: dict[str, bytes]) -> Iterator[Changed]:
    whole = receipts[OPERATION]
    yield Changed(OPERATION, "nothing in the file", "file", b"")
    yield Changed(OPERATION, "the last byte missing", "file", whole[:-1])
    yield Changed(OPERATION, "a byte behind the end", "file", whole + b"\0")
    yield Changed(OPERATION, "the format number in two bytes", "file", whole[:1] + b"\x18\x01" + whole[2:])
    yield Changed(OPERATION, "another format", "file", whole[:1] + b"\x02" + whole[2:])


def _notes(chain: Chain, receipts: dict[str, bytes]) -> Iterator[Changed]:
    note = parse_note(parse_receipt(receipts[STATE]).checkpoint)
    sequencer, first, second = note.lines

    def with_note(name: str, failed: str, content: bytes) -> Changed:
        return _edited(receipts, STATE, name, failed, lambda one: replace(one, checkpoint=content))

    def with_lines(name: str, *lines: SignatureLine) -> Changed:
        return with_note(name, "trust", Note(note.checkpoint, lines).encode())

    text = note.encode()
    yield with_note("a number with a leading zero", "checkpoint", text.replace(b"height ", b"height 0"))
    yield with_note("no empty line before the signatures", "checkpoint", text.replace(b"\n\n", b"\n"))
    yield with_note(
        "a checkpoint of another chain",
        "trust",
        _signed(chain, replace(note.checkpoint, chain=digest(bytes(32)))).encode(),
    )
    yield with_note("a smaller log, signed anew", "app_hash", _signed(chain, _smaller(note)).encode())
    yield with_note("a checkpoint with another time, signatures as they were", "trust", _later(note).encode())
    yield with_lines("no signature")
    yield with_lines("witnesses alone", first, second)
    yield with_lines("one witness too few", sequencer, first)
    yield with_lines("the same witness twice", sequencer, first, first)
    yield with_lines("the sequencer not first", first, sequencer, second)
    yield with_lines("a line of a stranger", sequencer, first, second, _of_stranger(note.checkpoint))
    yield with_lines("a stranger in place of a witness", sequencer, first, _of_stranger(note.checkpoint))
    logged = chain.cosigned(note.checkpoint, "laboratory", SignatureKind.LOG)
    yield with_lines("a witness that saw only the log", sequencer, first, logged)
    flipped = replace(second, body=second.body[:-1] + bytes((second.body[-1] ^ 1,)))
    yield with_lines("a bit of a signature flipped", sequencer, first, flipped)
    earlier = cosign(
        note.checkpoint,
        SignatureKind.EXECUTED,
        chain.world["laboratory"].gateway,
        institution=chain.world["laboratory"].id,
        now=unix_millis(note.checkpoint.time - 60_000),
    )
    yield with_lines("a witness whose clock was a minute behind", sequencer, first, earlier)


def _states(receipts: dict[str, bytes]) -> Iterator[Changed]:
    def on_state(name: str, failed: str, change: Callable[[Receipt], Receipt], *, of: str = STATE) -> Changed:
        return _edited(receipts, of, name, failed, change)

    yield on_state("another sibling", "app_hash", lambda one: _with_state(one, siblings=_flip(one.state.siblings)))
    yield on_state("a sibling missing", "state", lambda one: _with_state(one, siblings=one.state.siblings[:-32]))
    yield on_state("a sibling too many", "state", lambda one: _with_state(one, siblings=one.state.siblings + bytes(32)))
    yield on_state("another depth", "state", lambda one: _with_state(one, depth=one.state.depth + 1))
    yield on_state("a byte of the row changed", "app_hash", _with_row_changed)
    yield on_state("another count of rows in the bucket", "app_hash", _with_count)
    yield on_state("other parameters", "app_hash", lambda one: replace(one, parameters_root=digest(bytes(32))))
    yield on_state(
        "rows in another order", "state", lambda one: _with_state(one, present=one.state.present[::-1]), of=OPERATION
    )
    yield on_state("no row", "state", lambda one: _with_state(one, present=()))


def _operations(receipts: dict[str, bytes]) -> Iterator[Changed]:
    def on(name: str, failed: str, change: Callable[[LoggedOperation], LoggedOperation]) -> Changed:
        return _edited(
            receipts, OPERATION, name, failed, lambda one: replace(one, operations=(change(one.operations[0]),))
        )

    yield on("an operation cut short", "operation", lambda one: replace(one, operation=one.operation[:-1]))
    yield on("another place in the envelope", "envelope", lambda one: replace(one, index=one.index + 1))
    yield on("another sibling in the envelope", "envelope", lambda one: replace(one, siblings=_flip(one.siblings)))
    yield on("no siblings in the envelope", "envelope", lambda one: replace(one, siblings=b""))
    yield on("a leaf with another operation", "leaf", lambda one: _with_leaf(one, operation=digest(bytes(32))))
    yield on("a leaf with another claims root", "leaf", lambda one: _with_leaf(one, claims_root=None))
    yield on("a leaf with another actor", "leaf", lambda one: _with_leaf(one, actor=digest(bytes(32))))
    yield on("a leaf after the checkpoint", "leaf", lambda one: _with_leaf(one, height=1_000))
    yield on("a leaf with another time", "log", lambda one: _with_leaf(one, time=one.leaf.time - 1))
    yield on("a leaf with another result", "log", lambda one: _with_leaf(one, result=(("kernel", 2),)))
    yield on("another index in the log", "log", lambda one: replace(one, leaf_index=one.leaf_index - 1))
    yield on("another hash in the log's path", "log", lambda one: replace(one, path=_flip(one.path)))
    yield on("a hash too few in the log's path", "log", lambda one: replace(one, path=one.path[:-32]))
    yield on("a hash too many in the log's path", "log", lambda one: replace(one, path=one.path + bytes(32)))
    yield on("another signature of the gateway", "signature", _with_gateway_signature)
    yield on("a public key of a patient that nobody needs", "persons", _with_patient)
    patient = parse_receipt(receipts[PATIENT])
    without = replace(patient.operations[0], patients=())
    yield Changed(
        PATIENT,
        "the patient's public key missing",
        "persons",
        canonical.encode(replace(patient, operations=(without,))),
    )


def _kinds(receipts: dict[str, bytes]) -> Iterator[Changed]:
    def on(of: str, name: str, failed: str, change: Callable[[Receipt], Receipt]) -> Changed:
        return _edited(receipts, of, name, failed, change)

    operation = parse_receipt(receipts[OPERATION])
    nobody = case_key(case_id(bytes(32)))
    yield on(OPERATION, "called a state", "parts", lambda one: replace(one, kind=Kind.STATE))
    yield on(OPERATION, "with a subject", "parts", lambda one: replace(one, subject=nobody))
    yield on(ALONE, "rows that no step needs", "rows", lambda one: replace(one, state=operation.state))
    yield on(STATE, "another subject", "subject", lambda one: replace(one, subject=nobody))
    yield on(ABSENCE, "another subject", "subject", lambda one: replace(one, subject=nobody))
    yield on(ABSENCE, "another absent key", "app_hash", lambda one: _with_absent(one, nobody))
    yield on(CASE, "the last operation left out", "subject", lambda one: _without(one, len(one.operations) - 1))
    yield on(CASE, "the first operation left out", "changes", lambda one: _without(one, 0))
    yield on(CASE, "a change missing", "parts", lambda one: replace(one, changes=one.changes[1:]))
    yield on(CASE, "operations in another order", "changes", _reversed)
    yield on(EXCHANGE, "operations in another order", "exchange", _exchanged)
    yield on(EXCHANGE, "an operation left out", "parts", lambda one: replace(one, operations=one.operations[1:]))
    yield on(CLAIM, "another value", "claim", lambda one: _with_claim(one, value="B-18"))
    yield on(CLAIM, "another salt", "claim", lambda one: _with_claim(one, salt=bytes(32)))
    yield on(CLAIM, "another place among the claims", "claim", _with_claim_index)
    yield on(CLAIM, "more claims than the path needs", "claim", _with_claim_count)
    yield on(CLAIM, "no claim", "parts", lambda one: replace(one, claim=None))


def _edited(  # noqa: PLR0917 - what a change is
    receipts: dict[str, bytes], of: str, name: str, failed: str, change: Callable[[Receipt], Receipt]
) -> Changed:
    return Changed(of, name, failed, canonical.encode(change(parse_receipt(receipts[of]))))


def _signed(chain: Chain, checkpoint: Checkpoint) -> Note:
    lines = (chain.sequenced(checkpoint), *(chain.cosigned(checkpoint, name) for name in ("hospital", "laboratory")))
    return Note(checkpoint, lines)


def _smaller(note: Note) -> Checkpoint:
    return replace(note.checkpoint, log_size=note.checkpoint.log_size - 1)


def _later(note: Note) -> Note:
    return Note(replace(note.checkpoint, time=unix_millis(note.checkpoint.time + 1)), note.lines)


def _of_stranger(checkpoint: Checkpoint) -> SignatureLine:
    institution = institution_id(STRANGER.key_id)
    return cosign(checkpoint, SignatureKind.EXECUTED, STRANGER, institution=institution, now=checkpoint.time)


def _flip(content: bytes) -> bytes:
    return bytes((content[0] ^ 1,)) + content[1:]


def _with_state(receipt: Receipt, **fields: object) -> Receipt:
    return replace(receipt, state=replace(receipt.state, **fields))


def _with_row_changed(receipt: Receipt) -> Receipt:
    (shown,) = receipt.state.present
    row = shown.row.replace(b"revoked", b"revokeD")
    return _with_state(receipt, present=(replace(shown, row=row),))


def _with_count(receipt: Receipt) -> Receipt:
    (shown,) = receipt.state.present
    # a count to which index and path fit as well
    return _with_state(receipt, present=(replace(shown, count=shown.count + 1, path=bytes(32), index=0),))


def _with_absent(receipt: Receipt, key: bytes) -> Receipt:
    (absent,) = receipt.state.absent
    moved = replace(absent, natural_key=key, count=0, neighbours=())
    return replace(_with_state(receipt, absent=(moved,)), subject=key)


def _with_leaf(logged: LoggedOperation, **fields: object) -> LoggedOperation:
    return replace(logged, leaf=replace(logged.leaf, **fields))


def _with_gateway_signature(logged: LoggedOperation) -> LoggedOperation:
    return replace(logged, sign1=replace(logged.sign1, signature=_flip(logged.sign1.signature)))


def _with_patient(logged: LoggedOperation) -> LoggedOperation:
    return replace(logged, patients=(STRANGER.public_key,))


def _without(receipt: Receipt, place: int) -> Receipt:
    operations, left = list(receipt.operations), list(receipt.changes)
    del operations[place], left[place]
    return replace(receipt, operations=tuple(operations), changes=tuple(left))


def _reversed(receipt: Receipt) -> Receipt:
    return replace(receipt, operations=receipt.operations[::-1], changes=receipt.changes[::-1])


def _exchanged(receipt: Receipt) -> Receipt:
    first, second, *others = receipt.operations
    return replace(receipt, operations=(second, first, *others))


def _with_claim(receipt: Receipt, **fields: object) -> Receipt:
    if receipt.claim is None:
        raise AssertionError("a receipt of a claim has one")
    return replace(receipt, claim=replace(receipt.claim, claim=replace(receipt.claim.claim, **fields)))


def _with_claim_index(receipt: Receipt) -> Receipt:
    if receipt.claim is None:
        raise AssertionError("a receipt of a claim has one")
    return replace(receipt, claim=replace(receipt.claim, index=receipt.claim.index + 1))


def _with_claim_count(receipt: Receipt) -> Receipt:
    if receipt.claim is None:
        raise AssertionError("a receipt of a claim has one")
    return replace(receipt, claim=replace(receipt.claim, count=receipt.claim.count + 1))

"""Steps of a verification by the kind of a receipt: what it says beyond its operations and rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yilian.client.checking import Checking
from yilian.client.report import Delivery, OperationShown, RowShown
from yilian.client.shapes import fields_of, plain
from yilian.client.signing import header_of
from yilian.crypto.suite import tagged_hash
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.claims import verify_claim
from yilian.ledger.receipt import (
    EXCHANGE_COMMANDS,
    Kind,
    Receipt,
    Row,
    is_covered,
    least_count,
    open_operation,
    open_row,
)
from yilian.ledger.state import case_key, key_hash
from yilian.values import case_id

DISCLOSURE_TAG = "yilian/disclosure/v1"
_NUMBERS = {
    Kind.OPERATION: (1, 0, False, False),
    Kind.STATE: (0, 0, False, True),
    Kind.ABSENCE: (0, 1, False, True),
    Kind.EXCHANGE: (len(EXCHANGE_COMMANDS), 0, False, True),
    Kind.CLAIM: (1, 0, True, False),
}
"""Operations, absent rows, whether there is a claim, whether there is a subject."""


def check_subject(checking: Checking, receipt: Receipt, checkpoint: Checkpoint) -> None:
    """Check what a receipt of its kind says, and that it holds nothing more."""
    with checking.step("parts", f"the parts of a receipt of kind {receipt.kind}, no more") as step:
        _check_parts(receipt)
        step.found = f"{len(receipt.operations)} operations"
    match receipt.kind:
        case Kind.OPERATION:
            pass
        case Kind.STATE:
            with checking.step("subject", "the row in the current state") as step:
                shown = _show(checking, checking.row(receipt.subject, receipt.subject.hex()))
                step.found = f"{shown.word} {shown.case_id} {shown.state}".strip() or "a register"
        case Kind.ABSENCE:
            with checking.step("subject", "the absent row that the file is about") as step:
                checking.absent = receipt.subject.hex()
                if receipt.state.absent[0].natural_key != receipt.subject:
                    raise VerificationError("another row is shown to be absent: refuse the file")
                step.found = f"no row under {receipt.subject.hex()}"
        case Kind.CASE:
            _check_case(checking, receipt)
        case Kind.EXCHANGE:
            with checking.step("exchange", "one use with its grant, consent, disclosure and operations") as step:
                checking.delivery = _check_exchange(checking, receipt, checkpoint)
                step.found = _delivered(checking.delivery)
        case Kind.CLAIM:
            _check_claim(checking, receipt)
    checking.equal("rows", ", ".join(key.hex() for key in checking.unused) or "none", "none")


def _check_parts(receipt: Receipt) -> None:
    if receipt.kind == Kind.CASE:
        whole = bool(receipt.operations) and len(receipt.operations) == len(receipt.changes)
        if not whole or receipt.state.absent or receipt.claim is not None or not receipt.subject:
            raise VerificationError("a case has one change an operation and nothing else: refuse the file")
        return
    found = (
        len(receipt.operations),
        len(receipt.state.absent),
        receipt.claim is not None,
        bool(receipt.subject),
    )
    if found != _NUMBERS[receipt.kind] or receipt.changes:
        raise VerificationError(
            f"{found[0]} operations, {found[1]} absent rows, {len(receipt.changes)} changes, expected "
            f"{_NUMBERS[receipt.kind][0]}, {_NUMBERS[receipt.kind][1]} and none: refuse the file"
        )


def _show(checking: Checking, row: Row) -> RowShown:
    fields = {name: plain(value) for name, value in fields_of(row).items()}
    if row.case is None:
        shown = RowShown(
            natural_key=row.natural_key.hex(),
            word="",
            case_id="",
            state="",
            version=0,
            flags=(),
            changed_height=0,
            changed_time=0,
            patient="",
            fields=fields,
        )
    else:
        word, header = header_of(row, row.natural_key.hex())
        if row.natural_key != case_key(header.id):
            raise VerificationError(f"the row of {row.natural_key.hex()} has id {header.id.hex()}: refuse the file")
        patient = ""
        if header.patient is not None:
            home = header.patient.home
            patient = "key" if home is None else f"home {home.hex()}"
        shown = RowShown(
            natural_key=row.natural_key.hex(),
            word=word,
            case_id=header.id.hex(),
            state=header.state,
            version=header.version,
            flags=header.flags,
            changed_height=header.changed_height,
            changed_time=header.changed_time,
            patient=patient,
            fields=fields,
        )
    checking.shown.append(shown)
    return shown


def _check_case(checking: Checking, receipt: Receipt) -> None:
    last = b""
    before = -1
    for place, (logged, change) in enumerate(zip(receipt.operations, receipt.changes, strict=True), start=1):
        checking.place = place
        with checking.step("changes", f"version {place} of the case, left by this operation") as step:
            row, leaf = open_row(change.row), logged.leaf
            word, header = header_of(row, receipt.subject.hex())
            if row.natural_key != receipt.subject or receipt.subject != case_key(header.id):
                raise VerificationError(f"a row of {row.natural_key.hex()}: refuse the file")
            if leaf.result or not is_covered(change, key_hash(receipt.subject), leaf.changes):
                raise VerificationError("the operation's leaf does not cover this row: refuse the file")
            if header.version != place:
                raise VerificationError(f"version {header.version}: an operation is missing, refuse the file")
            if (header.changed_height, header.changed_time) != (leaf.height, leaf.time) or logged.leaf_index <= before:
                raise VerificationError("the operation is not at its place in the log: refuse the file")
            step.found = f"{word} {header.state}, version {header.version}"
            last, before = change.row, logged.leaf_index
    checking.place = 0
    with checking.step("subject", "the row that the last operation left, in the current state") as step:
        row = checking.row(receipt.subject, receipt.subject.hex())
        current = next(shown.row for shown in receipt.state.present if open_row(shown.row) == row)
        if current != last:
            raise VerificationError("the current row is another: operations at the end are missing, refuse the file")
        shown = _show(checking, row)
        step.found = f"{shown.word} {shown.case_id} {shown.state}, all {shown.version} versions shown"


def _check_exchange(checking: Checking, receipt: Receipt, checkpoint: Checkpoint) -> Delivery:
    use_id = receipt.subject.removeprefix(b"case/")
    if len(use_id) == len(receipt.subject):
        raise VerificationError("the subject is no natural key of a case: refuse the file")
    use = _named(checking, use_id, "use")
    grant = _named(checking, use["grant"], "grant")
    disclosure_id = tagged_hash(DISCLOSURE_TAG, checkpoint.chain, use_id)
    disclosure = _named(checking, disclosure_id, "disclosure")
    if grant["covered_by"] is not None:
        _named(checking, grant["covered_by"], "consent")
    sides = (use["custodian"], use["recipient"])
    compared = (
        ("custodian and recipient of the grant", (grant["custodian"], grant["recipient"]), sides),
        ("source and recipient of the disclosure", (disclosure["source"], disclosure["recipient"]), sides),
        ("use of the disclosure", (disclosure["use"],), (use_id,)),
        ("entries beyond the grant", tuple(one for one in use["entries"] if one not in grant["entries"]), ()),
    )
    for name, found, expected in compared:
        if found != expected:
            raise VerificationError(f"{name}: {plain(found)}, expected {plain(expected)}: refuse the file")
    _check_steps(checking, receipt, use_id=use_id, disclosure_id=disclosure_id, use=use)
    return Delivery(
        first=use["first_number"],
        last=use["first_number"] + len(use["entries"]) - 1,
        allowed=use["allowed"],
        forgiven=use["forgiven"],
    )


def _check_steps(
    checking: Checking, receipt: Receipt, *, use_id: bytes, disclosure_id: bytes, use: Mapping[str, Any]
) -> None:
    """Make sure that the five operations are those of this use, each done by its side, in their order."""
    custodian, recipient = use["custodian"], use["recipient"]
    actors = (recipient, custodian, recipient, custodian, recipient)
    shown: list[OperationShown] = checking.operations
    for place, (command, actor) in enumerate(zip(EXCHANGE_COMMANDS, actors, strict=True)):
        one = shown[place]
        case = use_id if command.startswith("use.") else disclosure_id
        if (one.command, one.case_id, one.actor, one.result) != (command, case.hex(), actor.hex(), ()):
            raise VerificationError(f"operation {place + 1} is no {command} of this exchange: refuse the file")
        if case == disclosure_id and open_operation(receipt.operations[place]).core.refs != (use_id,):
            raise VerificationError(f"operation {place + 1} names another use: refuse the file")
    order = [one.leaf_index for one in shown[:3]]
    if order != sorted(order) or shown[1].time != use["delivered"] or use["first_number"] < 1:
        raise VerificationError("reservation, delivery and confirmation are not in their order: refuse the file")


def _named(checking: Checking, raw: bytes, word: str) -> Mapping[str, Any]:
    row = checking.row(case_key(case_id(raw)), f"{word} {raw.hex()}")
    shown = _show(checking, row)
    if shown.word != word:
        raise VerificationError(f"case {raw.hex()} is a {shown.word}, expected a {word}: refuse the file")
    return fields_of(row)


def _check_claim(checking: Checking, receipt: Receipt) -> None:
    claim, root = receipt.claim, receipt.operations[0].leaf.claims_root
    with checking.step("claim", f"a claim under root {root.hex() if root is not None else 'none'}") as step:
        if claim is None or root is None or not verify_claim(claim, root):
            raise VerificationError("the claim leads to another root: refuse the file")
        if claim.count != least_count(claim, root):
            # the root does not bind how many claims there are: one number, the least, keeps one form of the file
            raise VerificationError(f"{claim.count} claims are said to be there, expected the least number: refuse")
        checking.claim = (claim.claim.name, claim.claim.value)
        step.found = f"claim {claim.claim.name}"


def _delivered(delivery: Delivery) -> str:
    numbers = str(delivery.first) if delivery.first == delivery.last else f"{delivery.first} to {delivery.last}"
    return f"delivery {numbers} of {delivery.allowed}"

"""Check a receipt file offline, step by step, against what its reader trusts. Never raises for what a file holds.

The steps are those of `spec/proofs.md`, in its order; the first one that fails ends the check.
"""

from __future__ import annotations

from yilian.client.checking import Checking, Failed
from yilian.client.report import Holder, Report
from yilian.client.signing import check_operation
from yilian.client.subjects import check_subject
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import CLOCK_TOLERANCE, Note, parse_note
from yilian.ledger.multiproof import root_of
from yilian.ledger.receipt import Receipt, open_row, parse_receipt
from yilian.ledger.results import app_hash_of
from yilian.ledger.state import key_hash
from yilian.ledger.trust import Believed, Trust, believe
from yilian.values import UnixMillis

__all__ = ["Report", "verify_receipt"]


def verify_receipt(data: bytes, trust: Trust | None, *, now: UnixMillis, max_age: int | None = None) -> Report:
    """Check a receipt file.

    Args:
        data: the bytes of the file.
        trust: what the reader believes; without it the report names the chain that would have to be believed.
        now: the reader's clock, milliseconds; a checkpoint from its future is refused.
        max_age: the oldest that a cosignature may be, milliseconds; None asks for none.
    """
    checking = Checking()
    try:
        _check(checking, data, trust, now, max_age)
    except Failed:
        pass
    except Exception as error:  # noqa: BLE001 - whatever a file does to this program, it is not verified
        checking.fail("file", f"{type(error).__name__} while checking", "a file that this program can check")
    return checking.report()


def _check(  # noqa: PLR0917 - the arguments of `verify_receipt`
    checking: Checking, data: bytes, trust: Trust | None, now: UnixMillis, max_age: int | None
) -> None:
    # 1. the file
    with checking.step("file", "a receipt in its only encoding") as step:
        receipt = parse_receipt(data)
        checking.kind = receipt.kind.value
        step.found = f"{len(data)} bytes, kind {receipt.kind}"
    # 2. to 4. the checkpoint, who stands behind it, how old it is
    with checking.step("checkpoint", "a checkpoint note") as step:
        note = parse_note(receipt.checkpoint)
        checking.note = note
        step.found = f"height {note.checkpoint.height}, {note.checkpoint.log_size} operations"
    if trust is None:
        chain = note.checkpoint.chain.hex()
        checking.fail("trust", "nothing that is trusted", f"a trust file that names genesis digest {chain}")
    with checking.step("trust", f"the sequencer and {trust.needed} witnesses of chain {trust.chain}") as step:
        believed = believe(note, trust, executed=True)
        _hold(checking, believed)
        step.found = f"the sequencer and {len(believed.cosigners)} witnesses"
    with checking.step("age", "no future" if max_age is None else f"at most {max_age} ms old") as step:
        _check_age(checking, note, trust, now=now, max_age=max_age)
        step.found = f"{now - note.checkpoint.time} ms since its block"
    # 5. and 6. the rows of the state, and its place in the app hash
    with checking.step("state", "every row at its place in one state") as step:
        _read_rows(receipt, checking)
        root = root_of(receipt.state, [key_hash(key) for key in checking.rows])
        step.found = f"{len(receipt.state.present)} present, {len(receipt.state.absent)} absent, root {root.hex()}"
    found = app_hash_of(note.checkpoint.log_size, note.checkpoint.log_root, root, receipt.parameters_root)
    checking.equal("app_hash", found.hex(), note.checkpoint.app_hash.hex())
    # 7. to 12. each operation
    for place, logged in enumerate(receipt.operations, start=1):
        checking.place = place
        checking.operations.append(check_operation(checking, logged, note.checkpoint))
    checking.place = 0
    # 13. and on, what the kind says
    check_subject(checking, receipt, note.checkpoint)


def _hold(checking: Checking, believed: Believed) -> None:
    key = believed.sequencer
    checking.sequencer = Holder(institution=key.institution, operator=key.operator, held_by=key.held_by)
    checking.witnesses = tuple(
        Holder(
            institution=one.key.institution,
            operator=one.key.operator,
            held_by=one.key.held_by,
            kind=one.kind.name,
            time=one.time,
        )
        for one in believed.cosigners
    )
    checking.split_view_excluded = believed.split_view_excluded


def _check_age(checking: Checking, note: Note, trust: Trust, *, now: UnixMillis, max_age: int | None) -> None:
    ahead = max([note.checkpoint.time, *(one.time for one in checking.witnesses)]) - now
    if ahead > CLOCK_TOLERANCE:
        raise VerificationError(f"signed {ahead} ms in the future: a clock is off, set yours or refuse the file")
    if max_age is not None:
        believe(note, trust, executed=True, now=now, max_age=max_age)


def _read_rows(receipt: Receipt, checking: Checking) -> None:
    for shown in receipt.state.present:
        row = open_row(shown.row)
        checking.rows[row.natural_key] = row
    hashes = [key_hash(key) for key in checking.rows]
    if len(hashes) != len(receipt.state.present) or hashes != sorted(hashes):
        raise VerificationError("the rows are not each once in order of key hash: refuse the file")
    checking.unused = dict.fromkeys(checking.rows)

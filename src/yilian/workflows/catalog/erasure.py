"""The end of an entry: its data, key and salt are destroyed everywhere, and the fact stays (chapter 2, rows 19).

The custodian names who was delivered copies; each of them answers through `consent`. The entry is ERASED once the
custodian and all that are still members have answered.
"""

from __future__ import annotations

from msgspec.structs import replace as changed

from yilian.errors import Refused
from yilian.ledger.running import OVERDUE
from yilian.ledger.workflow import Call, Outcome, Put, Reads, step
from yilian.values import InstitutionId, unix_millis
from yilian.workflows.catalog.interface import is_gone
from yilian.workflows.catalog.model import ConfirmErased, Entry, EntryState, Erase, Erasure, ErasureBasis, Refusal


@step
def erase(call: Call, command: Erase, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Begin to erase a record: its retention period is over, or the patient has a right to it.

    Refuses: RETENTION_RUNNING.
    """
    opened = call.time if call.header is None else call.header.opened_time
    keep_until = opened + reads.number("catalog.retention")
    if command.basis == ErasureBasis.RETENTION_OVER and call.time <= keep_until:
        raise Refused(
            Refusal.RETENTION_RUNNING,
            f"the record is to be kept until {keep_until}, the block is at {call.time}: wait, or name the right on "
            "which it is erased before",
        )
    recipients = tuple(one for one in dict.fromkeys(command.recipients) if one != case.custodian)
    erasure = Erasure(basis=command.basis, begun=call.time, destroyed=unix_millis(0), waiting=recipients)
    answer_by = unix_millis(call.time + reads.number("catalog.erasure"))
    return Outcome(changed(case, answer_by=answer_by), registers=(Put(key=(call.case_id,), value=erasure),))


@step
def confirm_erased(call: Call, command: ConfirmErased, case: Entry, reads: Reads) -> Outcome[Entry]:  # noqa: ARG001 - one signature
    """Record that the custodian destroyed data, keys and salt, or that a recipient has answered for its copies.

    Refuses: ERASURE_CONFIRMED.
    """
    erasure = reads.register(Erasure, call.case_id)
    if erasure is None:  # an entry is ERASING by `erase` alone, which writes the row
        raise LookupError(f"entry {call.case_id.hex()} has no erasure")
    by_custodian = not call.caller
    waiting = tuple(one for one in erasure.waiting if _owes(one, call, reads))
    if by_custodian and erasure.destroyed and waiting == erasure.waiting:
        raise Refused(
            Refusal.ERASURE_CONFIRMED,
            f"the custodian confirmed at {erasure.destroyed}, {len(waiting)} recipients have not: wait for them",
        )
    destroyed = erasure.destroyed or (call.time if by_custodian else unix_millis(0))
    after = changed(erasure, destroyed=destroyed, waiting=waiting)
    return Outcome(
        case,
        flags=_flags(call, case),
        to=EntryState.ERASED if destroyed and not waiting else EntryState.ERASING,
        registers=(Put(key=(call.case_id,), value=after),),
    )


def _flags(call: Call, case: Entry) -> tuple[str, ...] | None:
    """Mark a late answer, also one that comes as a consequence, for which no row is judged."""
    if call.header is None or call.time <= case.answer_by:
        return None
    return tuple(sorted({*call.header.flags, OVERDUE}))


def _owes(recipient: InstitutionId, call: Call, reads: Reads) -> bool:
    answers = bool(call.caller) and recipient == call.institution
    return not answers and not is_gone(reads, recipient)

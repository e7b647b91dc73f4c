"""What became of a delivered copy once its custodian erases the record: destroyed too, or kept under an own duty."""

from __future__ import annotations

from enum import StrEnum

from yilian.crypto.suite import tagged_hash
from yilian.errors import Refused
from yilian.ledger.cases import Case, Command
from yilian.ledger.workflow import ANY, Call, Consequence, Outcome, Reads, Ref, node, opens, step
from yilian.values import CaseId, Digest, EntryId, InstitutionId, UnixMillis, case_id
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent.model import Refusal, Use

COPY_TAG = "yilian/copy/v1"


class CopyState(StrEnum):
    """What became of a recipient's copy."""

    ERASED = "erased"
    KEPT = "kept"


class Duty(StrEnum):
    """By which own duty a recipient keeps its copy."""

    MEDICAL_RECORD = "medical_record"
    LEGAL_CLAIM = "legal_claim"
    STATUTORY_DUTY = "statutory_duty"


class Copy(Case, frozen=True, kw_only=True):
    """A recipient's answer for its copies of an entry; its id follows from both, so there is one."""

    entry: EntryId
    custodian: InstitutionId
    recipient: InstitutionId
    duty: Duty | None
    answered: UnixMillis


class CopyAnswer(Command, frozen=True, kw_only=True):
    """Say that no copy of an entry is left here, or name the duty to keep it; the operation names a use as its ref."""

    entry: EntryId
    duty: Duty | None


def copy_id(chain: Digest, entry: EntryId, recipient: InstitutionId) -> CaseId:
    """Derive the id of a recipient's answer: H(tag ‖ chain ‖ entry ‖ recipient)."""
    return case_id(tagged_hash(COPY_TAG, chain, entry, recipient))


def id_of_copy(call: Call, command: CopyAnswer) -> CaseId:
    """Derive the id of the answer of the acting institution."""
    return copy_id(call.chain, command.entry, call.institution)


COPY_ROWS = (
    opens(
        "copy.answer",
        CopyAnswer,
        (CopyState.ERASED, CopyState.KEPT),
        who=node(ANY),
        id_of=id_of_copy,
        while_suspended=True,
        refs=(
            Ref(
                case_type="use",
                states=("delivered", "confirmed", "disputed", "forgiven", "released"),
                at_least=1,
                at_most=1,
            ),
        ),
    ),
)


@step
def copy_answer(call: Call, command: CopyAnswer, reads: Reads) -> Outcome[Copy]:
    """Put a recipient's answer on record, and tell the catalogue while the entry still waits for it.

    Refuses: NOT_THE_RECIPIENT, NOT_IN_LIST, NOT_BEING_ERASED.
    """
    use, entry = reads.case(Use, call.refs[0]), catalog.entry(reads, command.entry)
    if use is None or use.fields.recipient != call.institution:
        raise Refused(
            Refusal.NOT_THE_RECIPIENT,
            f"use {call.refs[0].hex()} is not one of {call.institution.hex()}: name an own use of the entry",
        )
    if command.entry not in use.fields.entries:
        raise Refused(
            Refusal.NOT_IN_LIST,
            f"use {call.refs[0].hex()} did not deliver entry {command.entry.hex()}: name the one that did",
        )
    if entry is None or entry.state not in (catalog.EntryState.ERASING, catalog.EntryState.ERASED):
        raise Refused(
            Refusal.NOT_BEING_ERASED,
            f"entry {command.entry.hex()} is not being erased: keep the copy, or delete it without a step",
        )
    waits = entry.state == catalog.EntryState.ERASING
    return Outcome(
        Copy(
            entry=command.entry,
            custodian=entry.fields.custodian,
            recipient=call.institution,
            duty=command.duty,
            answered=call.time,
        ),
        to=CopyState.ERASED if command.duty is None else CopyState.KEPT,
        consequences=(Consequence(case_id=command.entry, command=catalog.ConfirmErased()),) if waits else (),
    )

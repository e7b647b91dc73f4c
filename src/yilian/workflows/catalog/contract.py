"""The steps of entries and challenges; the kernel has checked schema, keys, rows, positions, deadlines and refs."""

from __future__ import annotations

from msgspec.structs import replace as changed

from yilian.crypto.suite import tagged_hash
from yilian.errors import Refused
from yilian.ledger.members import Role
from yilian.ledger.workflow import Call, Consequence, Outcome, Put, Reads, step
from yilian.values import EntryId, InstitutionId, day_of, unix_millis
from yilian.workflows.catalog import interface
from yilian.workflows.catalog.erasure import confirm_erased, erase
from yilian.workflows.catalog.model import (
    RESTRICTED,
    WS_T_500,
    Challenge,
    ChallengeAnswer,
    ChallengeCount,
    ChallengeExpire,
    ChallengeFail,
    ChallengeJudge,
    ChallengeOpen,
    ChallengePass,
    ChallengeState,
    Description,
    Dispute,
    DisputeReason,
    Entry,
    EntryState,
    Publish,
    PublishSuccessor,
    Refusal,
    Replace,
    Resolution,
    Resolve,
    Restrict,
    Unrestrict,
    Withdraw,
    id_of_entry,
)

__all__ = [
    "challenge_answer",
    "challenge_expire",
    "challenge_fail",
    "challenge_judge",
    "challenge_open",
    "challenge_pass",
    "confirm_erased",
    "dispute",
    "erase",
    "publish",
    "publish_successor",
    "replace",
    "resolve",
    "restrict",
    "unrestrict",
    "withdraw",
]

CHALLENGE_TAG = "yilian/challenge/v1"


@step
def publish(call: Call, command: Publish, reads: Reads) -> Outcome[Entry]:
    """Enter a record; the hot path, one row written and one parameter read.

    Refuses: UNKNOWN_TYPE, TYPE_TOO_FINE.
    """
    _check_kind(reads, command.kind)
    return Outcome(_described(call.institution, command, None))


@step
def publish_successor(call: Call, command: PublishSuccessor, reads: Reads) -> Outcome[Entry]:
    """Open the entry that replaces another; `replace` has checked it."""
    flags = (RESTRICTED,) if command.restricted else ()
    return Outcome(_described(call.institution, command, command.replaces), flags=flags)


@step
def replace(call: Call, command: Replace, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Supersede an entry and open its successor, to which RESTRICTED goes over.

    Refuses: LEVEL_LOWERED, UNKNOWN_TYPE, TYPE_TOO_FINE.
    """
    if command.level < case.level:
        raise Refused(
            Refusal.LEVEL_LOWERED,
            f"found level {command.level}, expected at least {case.level}, the level of the entry replaced: raise it",
        )
    _check_kind(reads, command.kind)
    successor = PublishSuccessor(
        tag=command.tag,
        root=command.root,
        commitment=command.commitment,
        size_class=command.size_class,
        kind=command.kind,
        level=command.level,
        month=command.month,
        origin=command.origin,
        late=command.late,
        replaces=call.case_id,
        restricted=RESTRICTED in _flags(call),
    )
    return Outcome(case, consequences=(Consequence(case_id=id_of_entry(call, command), command=successor),))


@step
def restrict(call: Call, command: Restrict, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Set the flag RESTRICTED; again is no change."""
    return Outcome(case, flags=tuple(sorted({*_flags(call), RESTRICTED})))


@step
def unrestrict(call: Call, command: Unrestrict, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Take the flag RESTRICTED away; again is no change."""
    return Outcome(case, flags=tuple(flag for flag in _flags(call) if flag != RESTRICTED))


@step
def dispute(call: Call, command: Dispute, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Put an entry in doubt; its custodian owes an answer.

    Refuses: OWN_ENTRY, NOT_CUSTODIAN, ENTRY_NOT_CURRENT, NOT_YOUR_CHALLENGE.
    """
    if not call.caller:
        _check_disputer(call, command, case, reads)
    return Outcome(
        changed(
            case,
            disputer=call.institution,
            dispute_reason=command.reason,
            answer_by=unix_millis(call.time + reads.number("catalog.dispute_answer")),
        ),
    )


@step
def resolve(call: Call, command: Resolve, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Keep a disputed entry, or mark it as entered in error."""
    stands = command.resolution in (Resolution.RIGHT, Resolution.SHOWN_AGAIN)
    return Outcome(case, to=EntryState.CURRENT if stands else EntryState.ENTERED_IN_ERROR)


@step
def withdraw(call: Call, command: Withdraw, case: Entry, reads: Reads) -> Outcome[Entry]:
    """Take an entry out of circulation."""
    return Outcome(case)


@step
def challenge_open(call: Call, command: ChallengeOpen, reads: Reads) -> Outcome[Challenge]:
    """Ask for the segments that a value picks, which no one could know before the last block.

    Refuses: ENTRY_TWICE, NOT_CUSTODIAN, ENTRY_NOT_CURRENT, CHALLENGE_LIMIT.
    """
    _check_once(command.entries)
    for entry_id in command.entries:
        _check_challenged(reads, entry_id, command.custodian)
    count = _counted(call, command.custodian, reads)
    own = call.institution == command.custodian
    wait = reads.number("catalog.self_check_answer" if own else "catalog.challenge_answer")
    case = Challenge(
        challenger=call.institution,
        custodian=command.custodian,
        entries=command.entries,
        value=tagged_hash(CHALLENGE_TAG, call.previous_app_hash, *command.entries),
        deadline=unix_millis(call.time + wait),
    )
    return Outcome(case, registers=(Put(key=(call.institution, command.custodian), value=count),))


@step
def challenge_answer(call: Call, command: ChallengeAnswer, case: Challenge, reads: Reads) -> Outcome[Challenge]:
    """Keep the digest of the signed segment message; the challenger has its time to check."""
    deadline = unix_millis(call.time + reads.number("catalog.challenge_check"))
    return Outcome(changed(case, answer=command.message, deadline=deadline))


@step
def challenge_pass(call: Call, command: ChallengePass, case: Challenge, reads: Reads) -> Outcome[Challenge]:
    """Record that the custodian holds the ciphertext; that it opens is first proven at a use."""
    return Outcome(case)


@step
def challenge_fail(call: Call, command: ChallengeFail, case: Challenge, reads: Reads) -> Outcome[Challenge]:
    """Name what did not check; the entries stay CURRENT until an auditor has judged.

    Refuses: ENTRY_TWICE, NOT_CHALLENGED.
    """
    _check_once(command.entries)
    _check_among(command.entries, case.entries)
    deadline = unix_millis(call.time + reads.number("catalog.challenge_proof"))
    return Outcome(changed(case, contested=command.entries, deadline=deadline))


@step
def challenge_judge(call: Call, command: ChallengeJudge, case: Challenge, reads: Reads) -> Outcome[Challenge]:
    """Decide by the signed message; what failed and is still current becomes disputed in the same operation.

    Refuses: SAME_OPERATOR, ANSWER_DIFFERS, ENTRY_TWICE, NOT_CHALLENGED.
    """
    for side in (case.challenger, case.custodian):
        if call.operator == _operator(reads, side):
            raise Refused(
                Refusal.SAME_OPERATOR,
                f"the judge and {side.hex()} stand under operator {call.operator.hex()}, expected an operator of "
                "neither side: ask another auditor",
            )
    if command.message != case.answer:
        raise Refused(
            Refusal.ANSWER_DIFFERS,
            f"found message {command.message.hex()}, expected the one answered with: have the challenger open that one",
        )
    _check_once(command.failed)
    _check_among(command.failed, case.contested)
    disputed = tuple(entry_id for entry_id in command.failed if interface.is_current(reads, entry_id))
    return Outcome(
        changed(
            case,
            failed=command.failed,
            undisputed=tuple(entry_id for entry_id in command.failed if entry_id not in disputed),
        ),
        to=ChallengeState.FAILED if command.failed else ChallengeState.PASSED,
        consequences=tuple(
            Consequence(case_id=entry_id, command=Dispute(reason=DisputeReason.CHALLENGE_FAILED, own_entry=None))
            for entry_id in disputed
        ),
    )


@step
def challenge_expire(call: Call, command: ChallengeExpire, case: Challenge, reads: Reads) -> Outcome[Challenge]:
    """Make the end of the time visible; a LAPSED challenge lets its challenger dispute the entries."""
    return Outcome(case)


def _described(custodian: InstitutionId, command: Description, replaces: EntryId | None) -> Entry:
    return Entry(
        custodian=custodian,
        tag=command.tag,
        root=command.root,
        commitment=command.commitment,
        size_class=command.size_class,
        kind=command.kind,
        level=command.level,
        month=command.month,
        origin=command.origin,
        late=command.late,
        replaces=replaces,
    )


def _check_kind(reads: Reads, kind: str) -> None:
    if kind in reads.words("catalog.kinds"):
        return
    if kind.startswith(WS_T_500):
        raise Refused(
            Refusal.TYPE_TOO_FINE,
            f"found type {kind}, expected a class of the chain's list: publish under a class that others share",
        )
    raise Refused(
        Refusal.UNKNOWN_TYPE,
        f"found type {kind}, expected a class code of WS/T 500 on the chain's list: take one of catalog.kinds",
    )


def _check_disputer(call: Call, command: Dispute, case: Entry, reads: Reads) -> None:
    if not call.persons:
        _check_lapsed(call, command, reads)
    elif call.persons[0].role == Role.DATA_OFFICER:
        _check_other_custodian(call, command, case, reads)


def _check_other_custodian(call: Call, command: Dispute, case: Entry, reads: Reads) -> None:
    if call.institution == case.custodian:
        raise Refused(
            Refusal.OWN_ENTRY,
            "found the custodian itself, expected an officer of another custodian: replace or withdraw the entry",
        )
    own = interface.entry(reads, command.own_entry) if command.own_entry is not None else None
    if own is None or own.fields.custodian != call.institution:
        raise Refused(
            Refusal.NOT_CUSTODIAN,
            f"found no entry of {call.institution.hex()} named, expected one: name the own entry that contradicts",
        )
    if not interface.has_current_state(reads, own):
        raise Refused(
            Refusal.ENTRY_NOT_CURRENT,
            f"the own entry {own.header.id.hex()} is {own.state}, expected current: name a current one",
        )


def _check_lapsed(call: Call, command: Dispute, reads: Reads) -> None:
    found = interface.challenge(reads, call.refs[0])
    proves = (
        found is not None
        and found.fields.challenger == call.institution
        and call.case_id in found.fields.entries
        and command.reason == DisputeReason.CHALLENGE_FAILED
    )
    if not proves:
        raise Refused(
            Refusal.NOT_YOUR_CHALLENGE,
            f"challenge {call.refs[0].hex()} does not let {call.institution.hex()} dispute {call.case_id.hex()} for "
            f"{command.reason}, expected an own lapsed challenge of this entry and reason challenge_failed: name that",
        )


def _check_challenged(reads: Reads, entry_id: EntryId, custodian: InstitutionId) -> None:
    found = interface.entry(reads, entry_id)
    if found is not None and found.fields.custodian != custodian:
        raise Refused(
            Refusal.NOT_CUSTODIAN,
            f"entry {entry_id.hex()} is of {found.fields.custodian.hex()}, expected {custodian.hex()}: "
            "open one challenge a custodian",
        )
    if found is None or not interface.has_current_state(reads, found):
        raise Refused(
            Refusal.ENTRY_NOT_CURRENT,
            f"entry {entry_id.hex()} is {found.state if found else 'unknown'}, expected current: leave it out",
        )


def _check_once(entries: tuple[EntryId, ...]) -> None:
    if len(dict.fromkeys(entries)) != len(entries):
        raise Refused(
            Refusal.ENTRY_TWICE, f"found an entry twice among {len(entries)}, expected each once: name it once"
        )


def _check_among(named: tuple[EntryId, ...], entries: tuple[EntryId, ...]) -> None:
    for entry_id in named:
        if entry_id not in entries:
            raise Refused(
                Refusal.NOT_CHALLENGED,
                f"entry {entry_id.hex()} is not among the {len(entries)} in question, expected one of them: drop it",
            )


def _counted(call: Call, custodian: InstitutionId, reads: Reads) -> ChallengeCount:
    day = day_of(call.time)
    row = reads.register(ChallengeCount, call.institution, custodian)
    count = row.count if row is not None and row.day == day else 0
    limit = reads.number("catalog.challenges_a_day")
    if count >= limit:
        raise Refused(
            Refusal.CHALLENGE_LIMIT,
            f"found {count} challenges to {custodian.hex()} today, expected at most {limit}: go on tomorrow",
        )
    return ChallengeCount(day=day, count=count + 1)


def _operator(reads: Reads, institution: InstitutionId) -> InstitutionId:
    member = reads.member(institution)
    return institution if member is None else member.fields.operator


def _flags(call: Call) -> tuple[str, ...]:
    return () if call.header is None else call.header.flags

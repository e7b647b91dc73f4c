"""What the steps of a referral check, each with its own refusal number: entries, parties, consent, challenges."""

from __future__ import annotations

from collections.abc import Sequence

from yilian.errors import Refused
from yilian.ledger.cases import Found, Patient
from yilian.ledger.members import LIVING, Member, MemberState
from yilian.ledger.workflow import Call, Reads
from yilian.values import CaseId, Day, EntryId, InstitutionId, UnixMillis, day_of, month_of
from yilian.workflows.catalog import interface as catalog
from yilian.workflows.consent import interface as consent
from yilian.workflows.consent.interface import ConsentQuestion, Purpose
from yilian.workflows.referral.model import MAX_RECORDS, Create, Direction, Referral, Refusal


def check_listed_once(entries: Sequence[EntryId]) -> None:
    """Refuse a list that names an entry twice: LISTED_TWICE."""
    for index, entry_id in enumerate(entries):
        if entry_id in entries[:index]:
            raise Refused(
                Refusal.LISTED_TWICE, f"entry {entry_id.hex()} is listed twice, expected once: list each entry once"
            )


def own_current(reads: Reads, entry_id: EntryId, custodian: InstitutionId) -> catalog.Entry:
    """Get an entry that is CURRENT and of this custodian; refuse others: RECORD_NOT_CURRENT, NOT_YOUR_RECORD."""
    found = catalog.current(reads, entry_id)
    if found is None:
        raise Refused(
            Refusal.RECORD_NOT_CURRENT,
            f"entry {entry_id.hex()} is not current, expected a current one: leave it out or name its successor",
        )
    if found.fields.custodian != custodian:
        raise Refused(
            Refusal.NOT_YOUR_RECORD,
            f"entry {entry_id.hex()} is kept by {found.fields.custodian.hex()}, expected {custodian.hex()}: "
            "ask its custodian for a grant of its own",
        )
    return found.fields


def check_own_current(reads: Reads, entries: Sequence[EntryId], custodian: InstitutionId) -> None:
    """Refuse an entry that is not CURRENT, or not of this custodian: RECORD_NOT_CURRENT, NOT_YOUR_RECORD."""
    for entry_id in entries:
        own_current(reads, entry_id, custodian)


def highest_level(reads: Reads, entries: Sequence[EntryId]) -> int:
    """Give the highest level of entries that exist, 1 to 4."""
    found = (catalog.entry(reads, entry_id) for entry_id in entries)
    return max((entry.fields.level for entry in found if entry is not None), default=1)


def check_count(records: Sequence[EntryId]) -> None:
    """Refuse more records than one challenge and one grant can hold beside the request: TOO_MANY_RECORDS."""
    if len(records) > MAX_RECORDS:
        raise Refused(
            Refusal.TOO_MANY_RECORDS,
            f"found {len(records)} records, expected at most {MAX_RECORDS}: drop some of them",
        )


def check_consent(call: Call, command: Create, reads: Reads) -> None:
    """Refuse a consent that covers not both ways: NO_TREATMENT_BASIS.

    It must cover the receiver over request and records until the end of view, for all deliveries that the case will
    grant, and the referrer over the classes of result (parameter) by the receiver, who attests once the patient came.
    """
    level = highest_level(reads, (command.request, *command.records))
    there = ConsentQuestion(
        consent=command.consent,
        custodian=call.institution,
        recipient=command.receiver,
        purpose=Purpose.TREAT,
        begins=call.time,
        until=command.view_until,
        entries=(command.request, *command.records),
        uses=command.deliveries + reads.number("referral.request_deliveries"),
        level_cap=level,
    )
    check_covered(reads, there)
    kinds = reads.words("referral.result_classes")
    if not kinds:
        return
    month = month_of(day_of(call.time))
    back = ConsentQuestion(
        consent=command.consent,
        custodian=command.receiver,
        recipient=call.institution,
        purpose=Purpose.TREAT,
        begins=call.time,
        until=command.view_until,
        items=tuple(consent.Item(kind=kind, level=level, month=month) for kind in kinds),
        attested=False,
    )
    check_covered(reads, back)


def check_covered(reads: Reads, question: ConsentQuestion) -> None:
    """Refuse what the consent does not cover: NO_TREATMENT_BASIS."""
    decision = consent.covers(reads, question)
    if not decision.permit:
        why = decision.refusal.name if decision.refusal is not None else "denied"
        raise Refused(
            Refusal.NO_TREATMENT_BASIS,
            f"consent {question.consent.hex()} does not cover {question.recipient.hex()} over records of "
            f"{question.custodian.hex()} ({why}), expected a consent in force for treatment: ask the patient",
        )


def check_patient(reads: Reads, patient: Patient) -> None:
    """Refuse a case for which nobody, or more than one, speaks for the patient: PATIENT_NOT_NAMED."""
    if (patient.key is None) == (patient.home is None):
        raise Refused(
            Refusal.PATIENT_NOT_NAMED,
            "found neither or both of case key and home, expected one of them: name who speaks for the patient",
        )
    if patient.home is not None:
        member = reads.member(patient.home)
        if member is None or member.state not in LIVING:
            raise Refused(
                Refusal.PATIENT_NOT_NAMED,
                f"home {patient.home.hex()} is no living member, expected one: name the home that holds the paper",
            )


def check_direction(call: Call, command: Create, reads: Reads) -> None:
    """Refuse a direction that does not fit the grades: DIRECTION_WRONG.

    UP goes to a higher grade, DOWN to a lower, SAME to an equal one, by the order of the parameter `referral.grades`.
    A grade that is not in the list has no rank: then any direction fits.
    """
    here, there = _rank(reads, call.institution), _rank(reads, command.receiver)
    if here is None or there is None:
        return
    fitting = Direction.UP if there > here else Direction.DOWN if there < here else Direction.SAME
    if command.direction != fitting:
        raise Refused(
            Refusal.DIRECTION_WRONG,
            f"direction is {command.direction}, expected {fitting} by the grades of both: correct it",
        )


def check_relation(call: Call, command: Create, reads: Reads) -> None:
    """Refuse oneself, an institution that is not ACTIVE, and kinds not allowed by parameter: RELATION_NOT_ALLOWED."""
    receiver = reads.member(command.receiver)
    if command.receiver == call.institution or receiver is None or receiver.state != MemberState.ACTIVE:
        raise Refused(
            Refusal.RELATION_NOT_ALLOWED,
            f"receiver {command.receiver.hex()} is the referrer or no active member, expected another active member: "
            "choose another receiver",
        )
    allowed = reads.words("referral.relations")
    relation = f"{call.kind.value}:{receiver.fields.kind.value}"
    if allowed and relation not in allowed:
        raise Refused(
            Refusal.RELATION_NOT_ALLOWED,
            f"relation {relation} is not allowed, expected one of {', '.join(allowed)}: choose another receiver",
        )


def is_defective(call: Call, case: Referral, reads: Reads) -> bool:
    """Judge the receiver's challenges that the refs name: True where an entry is proven missing.

    An entry counts as lost where no challenge over it PASSED and one LAPSED, or FAILED in this entry.

    Refuses: CHALLENGE_MISSING, where a challenge is not the receiver's to the referrer since creation, or nothing is
    lost but request or a record still CURRENT has none PASSED; RECORD_NOT_CURRENT, where no record is CURRENT any more.
    """
    passed: tuple[EntryId, ...] = ()
    lost: tuple[EntryId, ...] = ()
    for ref in call.refs:
        found = _own_challenge(call, case, reads, ref)
        if found.state == catalog.ChallengeState.PASSED:
            passed += found.fields.entries
        elif found.state == catalog.ChallengeState.FAILED:
            lost += found.fields.failed
        else:
            lost += found.fields.entries
    if any(entry_id in lost and entry_id not in passed for entry_id in (case.request, *case.records)):
        return True
    current = tuple(entry_id for entry_id in case.records if catalog.is_current(reads, entry_id))
    for entry_id in (case.request, *current):
        if entry_id not in passed:
            raise Refused(
                Refusal.CHALLENGE_MISSING,
                f"no passed challenge over entry {entry_id.hex()} is named, expected one over request and every record "
                "still current: challenge it and name the challenge",
            )
    if not current:
        raise Refused(
            Refusal.RECORD_NOT_CURRENT,
            f"none of {len(case.records)} records is current, expected at least one: the referrer may cancel",
        )
    return False


def check_day(day: Day, time: UnixMillis) -> None:
    """Refuse an appointment on a day that is over: DAY_PAST."""
    if day < day_of(time):
        raise Refused(Refusal.DAY_PAST, f"day is {day}, the block is on {day_of(time)}: choose today or a later day")


def returning(reads: Reads, ending: Sequence[CaseId]) -> int:
    """Give how many deliveries return to the consent's budget when these living grants end."""
    rows = (consent.counters(reads, grant_id) for grant_id in ending)
    return sum(
        max(0, row.n - row.reserved - (row.delivered - row.forgiven) - row.delegated) for row in rows if row is not None
    )


def _own_challenge(call: Call, case: Referral, reads: Reads, ref: CaseId) -> Found[catalog.Challenge]:
    found = catalog.challenge(reads, ref)
    opened = call.header.opened_time if call.header is not None else call.time
    if (
        found is None
        or found.fields.challenger != call.institution
        or found.fields.custodian != case.referrer
        or found.header.opened_time < opened
    ):
        raise Refused(
            Refusal.CHALLENGE_MISSING,
            f"challenge {ref.hex()} is not by the receiver to the referrer since the request, expected such a one: "
            "challenge request and records anew",
        )
    return found


def _rank(reads: Reads, institution: InstitutionId) -> int | None:
    member: Found[Member] | None = reads.member(institution)
    grades = reads.words("referral.grades")
    if member is None or member.fields.grade not in grades:
        return None
    return grades.index(member.fields.grade)

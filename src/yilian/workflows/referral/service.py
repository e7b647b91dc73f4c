"""The steps of a referral that carry more than a form: create, complete, refer down; and what fits between members.

What spans several workflows (request, consent, records) is put together in `node.care`.
"""

from __future__ import annotations

import msgspec

from yilian.crypto.suite import Signer, tagged_hash
from yilian.engine.gateway import Gateway
from yilian.errors import ConflictError, NotFoundError
from yilian.ledger.cases import Found, Patient
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.workflow import Reads
from yilian.values import CaseId, EntryId, InstitutionId, OpId, UnixMillis, case_id
from yilian.workflows.referral.model import Complete, Create, Direction, ReferDown, Referral, State, Urgency


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the referrer fixes: N deliveries of the records, until the end of view."""

    receiver: InstitutionId
    urgency: Urgency
    request: EntryId
    records: tuple[EntryId, ...]
    consent: CaseId
    deliveries: int
    view_until: UnixMillis
    patient: Patient


def get_referral(gateway: Gateway, case: CaseId, *states: State) -> Found[Referral]:
    """Give a referral.

    Raises:
        NotFoundError: there is none under this id.
        ConflictError: it stands in none of `states`, where any are given.
    """
    found = gateway.find(Referral, case)
    if found is None:
        raise NotFoundError(f"there is no referral {case.hex()}: check the id")
    if states and found.state not in states:
        wanted = " or ".join(states)
        raise ConflictError(f"referral {case.hex()} is {found.state}, expected {wanted}: read it again")
    return found


def direction_between(reads: Reads, here: InstitutionId, there: InstitutionId) -> Direction:
    """Give the direction by the grades of both, in the order of the chain's parameter; UP where one has no rank."""
    grades = reads.words("referral.grades")
    ranks = []
    for institution in (here, there):
        member = reads.member(institution)
        grade = member.fields.grade if member is not None else ""
        ranks.append(grades.index(grade) if grade in grades else None)
    first, second = ranks
    if first is None or second is None or second > first:
        return Direction.UP
    return Direction.SAME if first == second else Direction.DOWN


def create(gateway: Gateway, terms: Terms, physician: Signer, *, op: OpId | None = None) -> CaseId:
    """Ask another institution to take a patient, and give the referral's id.

    `op` is given where the patient's key was derived from the case id before.

    Raises:
        Refused: by the ledger, such as NO_TREATMENT_BASIS.
    """
    persons = [(physician, Role.PHYSICIAN)]
    return gateway.act(_create(gateway, terms), persons=persons, op=op).case_id


def refer_down(gateway: Gateway, case: CaseId, terms: Terms, physician: Signer, *, op: OpId) -> CaseId:
    """Close a completed referral and open the follow-up in one step; gives the new referral's id.

    Raises:
        Refused: by the ledger, such as DIRECTION_WRONG.
    """
    command = ReferDown(new=_create(gateway, terms))
    gateway.act(command, case, persons=[(physician, Role.PHYSICIAN)], op=op)
    return follow_up_id(gateway, case, op)


def follow_up_id(gateway: Gateway, case: CaseId, op: OpId) -> CaseId:
    """Derive the id of the referral that `refer_down` opens with this operation id."""
    parts = (gateway.engine.chain, gateway.institution, op, case, (1).to_bytes(4, "big"))
    return case_id(tagged_hash("yilian/case/v1", *parts))


def complete(
    gateway: Gateway,
    case: CaseId,
    result: EntryId,
    physician: Signer,
    *,
    deliveries: int,
    view_until: UnixMillis,
) -> Answer:
    """Give the result, an entry of one's own, back to the referrer.

    Raises:
        Refused: by the ledger.
    """
    command = Complete(result=result, deliveries=deliveries, view_until=view_until, publish=None)
    return gateway.act(command, case, persons=[(physician, Role.PHYSICIAN)])


def _create(gateway: Gateway, terms: Terms) -> Create:
    direction = direction_between(gateway.engine.reads(), gateway.institution, terms.receiver)
    return Create(
        receiver=terms.receiver,
        direction=direction,
        urgency=terms.urgency,
        request=terms.request,
        records=terms.records,
        consent=terms.consent,
        deliveries=terms.deliveries,
        view_until=terms.view_until,
        patient=terms.patient,
    )

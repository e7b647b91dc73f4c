"""Who may take which step: an alternative of a table row against an API key, before the kernel judges for good.

It says which signatures an operation needs, and what a case's page offers. The kernel decides; a wrong guess here costs
a refusal on record, never a right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from yilian.errors import NoGrantError
from yilian.ledger.cases import Case, Found
from yilian.ledger.members import Role
from yilian.ledger.registry import Bound
from yilian.ledger.workflow import ANY, Alternative, CaseType, Row
from yilian.values import InstitutionId
from yilian.web.app.ports import Caller
from yilian.web.app.views import ActionView
from yilian.web.kit.text import Language, words

CASE_ITSELF = "@case"


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is signed: by the caller's own key, or by the gateway key alone."""

    by_person: bool


def signing_of(bound: Bound, found: Found[Case] | None, caller: Caller) -> Signing:
    """Say how a caller signs a step: as an alternative that fits wholly, else as one that fits its role.

    Where the role fits and the institution does not, the ledger itself refuses, so that the attempt is on record.

    Raises:
        NoGrantError: no alternative is for the caller's role, or it takes more than one signature.
    """
    rows = bound.opening or bound.moving
    if found is not None:
        rows = tuple(row for row in bound.moving if found.state in row.from_states) or bound.moving or rows
    alternatives = [one for row in rows for one in row.who.alternatives]
    fitting = [one for one in alternatives if fits(one, found, caller)]
    fitting = fitting or [one for one in alternatives if fits_role(one, caller)]
    if any(signs_as_person(one, caller) for one in fitting):
        return Signing(by_person=True)
    if fitting:
        return Signing(by_person=False)
    needed = sorted({described(one) for one in alternatives if one.kind != "workflow"})
    raise NoGrantError(
        f"{bound.word} is not open to a {caller.role.value}, "
        f"expected {' or '.join(needed) or 'a consequence of another step'}: "
        "use a key of that role, or draft it and submit it with the signatures it needs"
    )


def fits(one: Alternative, found: Found[Case] | None, caller: Caller) -> bool:
    """Say whether a caller alone can sign an alternative."""
    if not fits_role(one, caller):
        return False
    if one.kind == "patient":
        patient = found.header.patient if found is not None else None
        return patient is not None and patient.home == caller.institution
    return stands_at(one.position, found, caller.institution)


def fits_role(one: Alternative, caller: Caller) -> bool:
    """Say whether an alternative is for the caller's role, wherever its institution stands."""
    match one.kind:
        case "node":
            return caller.acts_as_node
        case "persons":
            return len(one.signers) == 1 and caller.role in one.signers[0].roles
        case "patient":
            return caller.role in one.witnesses if one.witnesses else caller.acts_as_node
        case _:
            return False


def signs_as_person(one: Alternative, caller: Caller) -> bool:
    """Say whether the caller's own key signs beside the gateway in this alternative."""
    return one.kind == "persons" or (one.kind == "patient" and caller.role in one.witnesses)


def stands_at(position: str, found: Found[Case] | None, institution: InstitutionId) -> bool:
    """Say whether an institution stands at a position; whoever opens a case takes it."""
    if position == ANY or found is None:
        return True
    if position == CASE_ITSELF:
        return bytes(found.header.id) == institution
    value = getattr(found.fields, position, None)
    return institution in value if isinstance(value, tuple) else value == institution


def described(one: Alternative) -> str:
    """Say in a few words who signs an alternative."""
    if one.kind == "patient":
        return f"the patient (or the home with a {' or '.join(one.witnesses)})" if one.witnesses else "the patient"
    if one.kind == "workflow":
        return f"the workflow {one.caller}"
    parts = [
        f"{'|'.join(role.value for role in signer.roles)}" + (f" of the {signer.position}" if signer.position else "")
        for signer in one.signers
    ]
    return " with ".join(parts)


def actions_of(
    workflow: str, case_type: CaseType, found: Found[Case], caller: Caller, *, time: int, language: Language
) -> Iterator[ActionView]:
    """Give the steps that the table allows from the state of a case, the caller's own marked."""
    for row in case_type.rows:
        if found.state not in row.from_states or all(one.kind == "workflow" for one in row.who.alternatives):
            continue
        after, before = _moment(found, row.after), _moment(found, row.before)
        in_time = (not after or time > after) and (not before or time <= before)
        yield ActionView(
            command=row.name,
            title=words(f"yilian.workflows.{workflow}", language, "commands", row.name),
            mine=in_time and any(fits(one, found, caller) for one in row.who.alternatives),
            who=" or ".join(described(one) for one in row.who.alternatives if one.kind != "workflow"),
            after=after,
            before=before,
            paper=_asks_paper(row, found),
        )


def needs_paper(row: Row) -> bool:
    """Say whether a row may be signed by a home with a paper."""
    return any(one.kind == "patient" for one in row.who.alternatives)


def may(caller: Caller, *roles: Role) -> None:
    """Make sure that a caller has one of some roles.

    Raises:
        NoGrantError: another role.
    """
    if caller.role not in roles:
        raise NoGrantError(
            f"this is not open to a {caller.role.value}, expected {', '.join(role.value for role in roles)}: "
            "use a key of such a role"
        )


def _asks_paper(row: Row, found: Found[Case]) -> bool:
    patient = found.header.patient
    return needs_paper(row) and patient is not None and patient.home is not None


def _moment(found: Found[Any], field: str) -> int | None:
    return int(getattr(found.fields, field)) or None if field else None

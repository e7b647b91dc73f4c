"""The auditor's questions, answered from the read model: who got what, a case in order, what only one side has.

"Who got what, when, granted by whom, in what scope, delivery n of N, passed on to whom". Nothing
here opens a record or names a patient: all of it stands on the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from yilian.storage.port import Index
from yilian.storage.rows import MAX_PAGE, CaseQuery, CaseRow, EventRow
from yilian.workflows.audit.model import WAS_ONE_SIDED, DisclosureState

DELIVERED = frozenset({"delivered", "confirmed", "disputed", "forgiven", "released"})
"""States of a use whose mask is public: each owes an event of both sides."""
MATCHED = frozenset({DisclosureState.MATCHED.value, DisclosureState.SETTLED.value})
_CASE_REFERENCES = ("grant", "consent", "covered_by", "grants", "predecessor", "use")
"""Fields of a case that name other cases of its story."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a grant allowed."""

    basis: str
    covered_by: str | None
    """Consent that it relied on, hex."""
    purpose: str
    entries: tuple[str, ...]
    level_cap: int
    begins: int
    ends: int
    depth: int
    """How many times it might be passed on."""


class PassedOn(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a grant given to somebody else."""

    grant: str
    recipient: str
    entries: tuple[str, ...]
    state: str
    granted_at: int


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One use, told in full. Ids in hex, times in milliseconds of block time."""

    use: str
    state: str
    recipient: str
    person: str
    """Key of the person who asked."""
    role: str
    custodian: str
    entries: tuple[str, ...]
    purpose: str
    reserved_at: int
    delivered_at: int
    """0 before delivery."""
    first_number: int
    """Number of the first of its deliveries, from 1; 0 before delivery."""
    last_number: int
    allowed: int
    """N of the grant at delivery; 0 before."""
    forgiven: int
    grant: str
    granted_by: str
    """Who issued the grant: the custodian, or who passed it on."""
    granted_at: int
    grant_state: str
    scope: Scope
    ancestors: tuple[str, ...]
    """Grants from which it was passed on, the nearest first."""
    passed_on: tuple[PassedOn, ...]
    pair: str
    """State of the disclosure pair; empty where neither side has recorded its event."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a case's story."""

    height: int
    index: int
    log_index: int
    time: int
    workflow: str
    command: str
    case: str
    kind: str
    """Type of the case; empty where the operation opened none."""
    actor: str
    state: str
    """State afterwards; empty where it was refused."""
    refused: tuple[tuple[str, int], ...]
    """(workflow, number), the outermost first; empty where it was done."""
    persons: tuple[tuple[str, str], ...]
    """(key, role) of who signed beside the institution."""


class CaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """A case with everything that belongs to its story, in the order in which it happened."""

    case: str
    kind: str
    state: str
    flags: tuple[str, ...]
    fields: dict[str, Any]
    parties: tuple[tuple[str, str], ...]
    """(position, institution)."""
    related: tuple[tuple[str, str, str], ...]
    """(case type, id, state) of grants, uses, challenges, disclosure pairs …"""
    steps: tuple[Step, ...]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A use that one side, or neither, has on record."""

    use: str
    pair: str
    """Id of the disclosure pair; empty where there is none."""
    state: str
    """`one_sided`, `sent`, `received` …, or `silent` where neither side came."""
    custodian: str
    recipient: str
    missing: tuple[str, ...]
    """Institutions whose event is missing."""
    since: int
    complete_by: int
    """Until when it may be completed without an alert; 0 where there is no pair."""


class Questions:
    """Answers from the read model as it stands; each call asks anew."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def deliveries(
        self,
        *,
        entry: bytes | None = None,
        grant: bytes | None = None,
        use: bytes | None = None,
        custodian: bytes | None = None,
        recipient: bytes | None = None,
    ) -> tuple[Delivery, ...]:
        """Say who got what, when, granted by whom, in what scope, as which use of how many, passed on to whom.

        What is None is not asked. Uses that never came to a delivery are left out, but for one asked for by its id.
        The oldest first.

        Raises:
            NotFoundError: there is no such use, grant or entry.
        """
        view = _View(self._index)
        if use is not None:
            return tuple(view.delivery(row) for row in (self._index.get_case(use),) if row.kind == "use")
        if entry is not None:
            custodian = bytes.fromhex(_fields(self._index.get_case(entry))["custodian"])
        if grant is not None:
            custodian = bytes.fromhex(_fields(self._index.get_case(grant))["custodian"])
        place = (custodian, "custodian") if custodian is not None else (recipient, "recipient" if recipient else None)
        found = []
        for row in _cases(self._index, "use", institution=place[0], position=place[1]):
            fields = _fields(row)
            if row.state not in DELIVERED:
                continue
            if entry is not None and entry.hex() not in fields["entries"]:
                continue
            if grant is not None and fields["grant"] != grant.hex():
                continue
            if recipient is not None and fields["recipient"] != recipient.hex():
                continue
            found.append(view.delivery(row))
        return tuple(sorted(found, key=lambda item: (item.delivered_at, item.use)))

    def case_file(self, case: bytes) -> CaseFile:
        """Tell a case from its first step to the last, with its grants, uses, challenges and disclosure pairs.

        Raises:
            NotFoundError: there is no such case.
        """
        row = self._index.get_case(case)
        members = _View(self._index).story(row)
        steps = [step for member in members.values() for step in _steps(self._index, member)]
        return CaseFile(
            case=row.case_id.hex(),
            kind=row.kind,
            state=row.state,
            flags=row.flags,
            fields=_fields(row),
            parties=tuple((position, held.hex()) for position, held in row.positions),
            related=tuple(
                (member.kind, member.case_id.hex(), member.state)
                for member in sorted(members.values(), key=lambda one: (one.opened_height, one.kind, one.case_id))
                if member.case_id != row.case_id
            ),
            steps=tuple(sorted(steps, key=lambda step: (step.height, step.index))),
        )

    def unmatched(self) -> tuple[Gap, ...]:
        """List every delivered use that is not on record at both sides, at any moment, not only when it is late."""
        view = _View(self._index)
        gaps = []
        for row in view.uses:
            if row.state not in DELIVERED:
                continue
            pair = view.pairs.get(row.case_id.hex())
            if pair is None or pair.state not in MATCHED:
                gaps.append(_gap(row, pair))
        return tuple(sorted(gaps, key=lambda gap: (gap.since, gap.use)))

    def pairs(self) -> Mapping[str, int]:
        """Count the disclosure pairs by state; those once reported as one-sided also under WAS_ONE_SIDED."""
        counts: dict[str, int] = {}
        for row in _View(self._index).pairs.values():
            counts[row.state] = counts.get(row.state, 0) + 1
            if WAS_ONE_SIDED in row.flags:
                counts[WAS_ONE_SIDED] = counts.get(WAS_ONE_SIDED, 0) + 1
        return dict(sorted(counts.items()))

    def refusals(self) -> Mapping[tuple[str, int], int]:
        """Count the refused operations of the whole log by (workflow, number), of the refusal that decided.

        Behind CONSEQUENCE_REFUSED stands the one that refused it; the innermost counts.
        """
        counts: dict[tuple[str, int], int] = {}
        for event in _events(self._index):
            if event.result:
                refused = _refused(event)
                counts[refused[-1]] = counts.get(refused[-1], 0) + 1
        return dict(sorted(counts.items()))


class _View:
    """What one question reads more than once, read once."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[str, CaseRow] = {}

    @cached_property
    def pairs(self) -> dict[str, CaseRow]:
        """Disclosure pairs by their use."""
        return {_fields(row)["use"]: row for row in _cases(self._index, "disclosure")}

    @cached_property
    def uses(self) -> tuple[CaseRow, ...]:
        """All uses."""
        return tuple(_cases(self._index, "use"))

    @cached_property
    def grants(self) -> tuple[CaseRow, ...]:
        """All grants."""
        return tuple(_cases(self._index, "grant"))

    @cached_property
    def children(self) -> dict[str, list[CaseRow]]:
        """Grants by the grant that they were passed on from."""
        found: dict[str, list[CaseRow]] = {}
        for row in self.grants:
            ancestors = _fields(row)["ancestors"]
            if ancestors:
                found.setdefault(ancestors[0], []).append(row)
        return found

    def get(self, case: str) -> CaseRow:
        """Give a case by its id in hex."""
        if case not in self._known:
            self._known[case] = self._index.get_case(bytes.fromhex(case))
        return self._known[case]

    def delivery(self, row: CaseRow) -> Delivery:
        """Tell a use in full."""
        use, pair = _fields(row), self.pairs.get(row.case_id.hex())
        grant_row = self.get(use["grant"])
        grant = _fields(grant_row)
        first = use["first_number"]
        return Delivery(
            use=row.case_id.hex(),
            state=row.state,
            recipient=use["recipient"],
            person=use["person"],
            role=use["role"],
            custodian=use["custodian"],
            entries=tuple(use["entries"]),
            purpose=use["purpose"],
            reserved_at=row.opened_time,
            delivered_at=use["delivered"],
            first_number=first,
            last_number=first + len(use["entries"]) - 1 if first else 0,
            allowed=use["allowed"],
            forgiven=use["forgiven"],
            grant=use["grant"],
            granted_by=grant["issuer"],
            granted_at=grant_row.opened_time,
            grant_state=grant_row.state,
            scope=_scope(grant),
            ancestors=tuple(grant["ancestors"]),
            passed_on=tuple(self._passed_on(use["grant"])),
            pair=pair.state if pair is not None else "",
        )

    def story(self, row: CaseRow) -> dict[bytes, CaseRow]:
        """Gather the cases that belong to a case: what it names, what its steps name, and the uses of its grants."""
        found = {row.case_id: row}
        waiting = [row]
        if row.kind == "consent":
            waiting += [grant for grant in self.grants if _fields(grant)["covered_by"] == row.case_id.hex()]
        while waiting:
            current = waiting.pop()
            found[current.case_id] = current
            for related in self._related(current):
                if related.case_id not in found:
                    found[related.case_id] = related
                    waiting.append(related)
        return found

    def _related(self, row: CaseRow) -> Iterator[CaseRow]:
        # entries and consents lead on to other patients' cases of one institution: named, not followed
        if row.kind in {"consent", "entry"}:
            return
        fields = _fields(row)
        for name in _CASE_REFERENCES:
            value = fields.get(name)
            for case in value if isinstance(value, list) else [value]:
                if case is not None:
                    yield self.get(case)
        case = row.case_id.hex()
        if row.kind == "grant":
            yield from self.children.get(case, ())
            yield from (use for use in self.uses if _fields(use)["grant"] == case)
        elif row.kind == "use":
            if case in self.pairs:
                yield self.pairs[case]
        elif row.kind == "referral":
            yield from self._named_by_steps(row)

    def _named_by_steps(self, row: CaseRow) -> Iterator[CaseRow]:
        for event in _pages_of_case(self._index, row.case_id):
            for ref in _detail(event).get("_refs", ()):
                yield self.get(ref)

    def _passed_on(self, grant: str) -> Iterator[PassedOn]:
        for child in sorted(self.children.get(grant, ()), key=lambda row: (row.opened_height, row.case_id)):
            fields = _fields(child)
            yield PassedOn(
                grant=child.case_id.hex(),
                recipient=fields["recipient"],
                entries=tuple(fields["entries"]),
                state=child.state,
                granted_at=child.opened_time,
            )
            yield from self._passed_on(child.case_id.hex())


def _scope(grant: Mapping[str, Any]) -> Scope:
    return Scope(
        basis=grant["basis"],
        covered_by=grant["covered_by"],
        purpose=grant["purpose"],
        entries=tuple(grant["entries"]),
        level_cap=grant["level_cap"],
        begins=grant["begins"],
        ends=grant["ends"],
        depth=grant["depth"],
    )


def _gap(row: CaseRow, pair: CaseRow | None) -> Gap:
    use, seen = _fields(row), _fields(pair) if pair is not None else {}
    sides = ((use["custodian"], "source_event"), (use["recipient"], "recipient_event"))
    return Gap(
        use=row.case_id.hex(),
        pair=pair.case_id.hex() if pair is not None else "",
        state=pair.state if pair is not None else "silent",
        custodian=use["custodian"],
        recipient=use["recipient"],
        missing=tuple(institution for institution, event in sides if seen.get(event) is None),
        since=use["delivered"],
        complete_by=seen.get("complete_by", 0),
    )


def _steps(index: Index, row: CaseRow) -> Iterator[Step]:
    for event in _pages_of_case(index, row.case_id):
        yield Step(
            height=event.height,
            index=event.index,
            log_index=event.log_index,
            time=event.time,
            workflow=event.workflow,
            command=event.command,
            case=event.case_id.hex(),
            kind=row.kind,
            actor=event.actor.hex(),
            state=event.state,
            refused=_refused(event),
            persons=tuple((key, role) for key, role in _detail(event).get("_persons", ())),
        )


def _refused(event: EventRow) -> tuple[tuple[str, int], ...]:
    return tuple((workflow, number) for workflow, number in _detail(event).get("_refusal", ()))


def _fields(row: CaseRow) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(row.fields)
    return fields


def _detail(event: EventRow) -> dict[str, Any]:
    detail: dict[str, Any] = msgspec.json.decode(event.detail) if event.detail else {}
    return detail


def _cases(
    index: Index, kind: str, *, institution: bytes | None = None, position: str | None = None
) -> Iterable[CaseRow]:
    cursor: str | None = None
    while True:
        page = index.find_cases(
            CaseQuery(kind=kind, institution=institution, position=position, limit=MAX_PAGE, cursor=cursor)
        )
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


def _pages_of_case(index: Index, case: bytes) -> Iterable[EventRow]:
    cursor: str | None = None
    while True:
        page = index.events_of_case(case, limit=MAX_PAGE, cursor=cursor)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


def _events(index: Index) -> Iterable[EventRow]:
    cursor: str | None = None
    last = index.height()
    while True:
        page = index.events_between(1, last, limit=MAX_PAGE, cursor=cursor)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return

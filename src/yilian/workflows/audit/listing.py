"""An institution's daily statements: which of its disclosure events a day has, stated and kept to be shown.

Numbers and times come from the read model of the ledger; the list is durable in the vault before the statement is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import merkle
from yilian.engine.gateway import Gateway, Signed
from yilian.errors import NotFoundError
from yilian.storage.port import Index
from yilian.storage.rows import CaseQuery, CaseRow
from yilian.storage.vault import Vault
from yilian.storage.vault.releases import Note, NoteKind
from yilian.values import CaseId, Day, Digest, InstitutionId, UnixMillis, case_id, day_of, digest, unix_millis
from yilian.workflows.audit.model import Sequence
from yilian.workflows.audit.statements import Stated, StatementPublish, statement_id, statement_leaf

PAGE = 500


class Stating(Protocol):
    """What stating needs of an institution."""

    @property
    def id(self) -> InstitutionId:
        """Its id."""
        ...

    @property
    def gateway(self) -> Gateway:
        """Its hand on the ledger."""
        ...

    @property
    def vault(self) -> Vault:
        """Where its lists are kept."""
        ...


class Line(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One event of a statement."""

    number: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    pair: CaseId
    """The disclosure pair that the event belongs to."""
    event: Digest
    """Commitment of the event, as on the ledger."""

    def leaf(self) -> Digest:
        """Hash the line as a leaf of the statement's tree."""
        return statement_leaf(self.number, self.pair, self.event)


class Listed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The list of a day, as the vault keeps it."""

    lines: tuple[Line, ...]


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """That a statement covers an event: `merkle.verify_inclusion(line.leaf(), index, size, path, root)` holds."""

    line: Line
    index: int
    size: int
    path: tuple[bytes, ...]


def last_stated(host: Stating) -> Stated | None:
    """Give how far the institution's statements go; None where it has made none."""
    return host.gateway.engine.reads().register(Stated, host.id)


def draw_up(host: Stating, index: Index, day: Day, now: UnixMillis) -> Signed | None:
    """List the events of a day, keep the list, and give the step that states it; None while the read model is behind.

    The day must be over and follow the one stated last.
    """
    reads = host.gateway.engine.reads()
    stated, given = reads.register(Stated, host.id), reads.register(Sequence, host.id)
    last = 0 if stated is None else stated.last
    wanted = (0 if given is None else given.last) - last
    found = _unstated(host, index, last, wanted)
    if len(found) < wanted:
        return None
    lines = tuple(line for time, line in found if day_of(time) <= day)
    case = statement_id(host.gateway.engine.chain, host.id, day)
    kept = Note(about=case, kind=NoteKind.STATEMENT, by=host.id, time=now, body=canonical.encode(Listed(lines=lines)))
    host.vault.releases.put_note(kept)
    root = merkle.root([line.leaf() for line in lines])
    command = StatementPublish(day=day, first=last + 1, count=len(lines), root=root)
    return Signed(core=host.gateway.draft(command, case).core)


def show_covered(host: Stating, day: Day, number: int) -> Covered:
    """Show that the statement of a day covers an event, by its number.

    Raises:
        NotFoundError: no list of that day is kept here, or it has no such number.
    """
    case = statement_id(host.gateway.engine.chain, host.id, day)
    note = host.vault.releases.find_note(case, NoteKind.STATEMENT)
    if note is None:
        raise NotFoundError(f"no list of day {day} is kept here: name a day that this institution stated")
    lines = canonical.decode(note.body, Listed).lines
    at = next((at for at, line in enumerate(lines) if line.number == number), None)
    if at is None:
        raise NotFoundError(f"the list of day {day} has no number {number}: name another day")
    path = merkle.inclusion_proof([line.leaf() for line in lines], at)
    return Covered(line=lines[at], index=at, size=len(lines), path=path)


def _unstated(host: Stating, index: Index, last: int, wanted: int) -> list[tuple[UnixMillis, Line]]:
    """Give the own events above a number with their block times, in order; too few where the read model is behind."""
    found: dict[int, tuple[UnixMillis, Line]] = {}
    if wanted:
        for row in _pairs(index, host.id):
            line = _own_line(row, host.id)
            if line is not None and line.number > last:
                found[line.number] = (_time_of(index, row.case_id, host.id), line)
            if len(found) == wanted:
                break
    return [found[number] for number in sorted(found)]


def _pairs(index: Index, institution: InstitutionId) -> Iterator[CaseRow]:
    cursor: str | None = None
    while True:
        page = index.find_cases(CaseQuery(kind="disclosure", institution=institution, limit=PAGE, cursor=cursor))
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


def _own_line(row: CaseRow, institution: InstitutionId) -> Line | None:
    fields: dict[str, Any] = msgspec.json.decode(row.fields)
    side = "source" if fields["source"] == institution.hex() else "recipient"
    event = fields[f"{side}_event"]
    if event is None:
        return None
    return Line(number=fields[f"{side}_number"], pair=case_id(row.case_id), event=digest(bytes.fromhex(event)))


def _time_of(index: Index, pair: bytes, institution: InstitutionId) -> UnixMillis:
    """Give the block time of the institution's own event of a pair."""
    for event in index.events_of_case(pair).items:
        own = event.command in {"disclosure.sent", "disclosure.received"} and event.actor == institution
        if own and not event.result:
            return unix_millis(event.time)
    raise NotFoundError(f"the read model has no event of pair {pair.hex()} by {institution.hex()}: wait until it has")

"""The rows of the read model, and the questions that it answers; no patient data: all of it stands on the ledger."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Row = TypeVar("Row")
MAX_PAGE = 1_000


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the log, refused ones too."""

    height: int
    index: int
    """Position in the block, from 0."""
    log_index: int
    """Position in the log, from 0."""
    time: int
    """Block time, milliseconds."""
    workflow: str
    command: str
    case_id: bytes
    actor: bytes
    op_id: bytes
    result: int
    """0 done, else the refusal's number."""
    state: str = ""
    """State of the case afterwards, empty where it was refused."""
    detail: str = ""
    """JSON text of what the command carried that people ask for."""


class CaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One case as the newest block left it."""

    case_id: bytes
    workflow: str
    kind: str
    """Type of the case, such as `grant`."""
    state: str
    version: int
    opener: bytes
    """Institution that opened it."""
    positions: tuple[tuple[str, bytes], ...] = ()
    """(position, institution), such as (`custodian`, …)."""
    fields: str = "{}"
    """JSON text of the case record."""
    flags: tuple[str, ...] = ()
    """Words such as `emergency`, in order."""
    opened_height: int
    opened_time: int
    changed_height: int
    changed_time: int


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue is searched by."""

    entry_id: bytes
    root: bytes
    custodian: bytes
    kind: str
    level: int
    month: int
    size_class: int
    status: str
    restricted: bool
    late: bool
    height: int
    """Height at which it was published."""
    time: int


class Projected(msgspec.Struct, frozen=True, kw_only=True):
    """What one block brought: new events, and the cases and entries that it changed, whole."""

    height: int
    events: tuple[EventRow, ...] = ()
    cases: tuple[CaseRow, ...] = ()
    entries: tuple[EntryRow, ...] = ()


class Page(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """Some rows, and the cursor that asks for the next ones; None at the end."""

    items: tuple[Row, ...]
    next: str | None


class CaseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which cases; what is None or empty is not asked. `institution` at any position, or at `position`."""

    workflow: str | None = None
    kind: str | None = None
    states: tuple[str, ...] = ()
    institution: bytes | None = None
    position: str | None = None
    flag: str | None = None
    limit: int = 50
    cursor: str | None = None


class EntryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; what is None is not asked. Months from `first_month` to `last_month`, both included."""

    custodian: bytes | None = None
    kind: str | None = None
    status: str | None = None
    level: int | None = None
    size_class: int | None = None
    restricted: bool | None = None
    first_month: int | None = None
    last_month: int | None = None
    limit: int = 50
    cursor: str | None = None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How often a command ended with a result."""

    workflow: str
    command: str
    result: int
    count: int

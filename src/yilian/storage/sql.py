"""The read model in SQL: events, cases and catalogue entries, and in the same transaction the height they stand at.

Everything here can be built again from the chain. So SQLite runs with synchronous=NORMAL: losing the last blocks with
the power only means to take them over once more.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from yilian.canonical import decode_builtins, encode
from yilian.errors import NotFoundError, SettingsError, VerificationError
from yilian.storage.database import WRITES, database_errors, open_sqlite
from yilian.storage.disk import Disk, disk_errors
from yilian.storage.rows import MAX_PAGE, CaseQuery, CaseRow, EntryQuery, EntryRow, EventRow, Page, Projected, Tally

SCHEMA_VERSION = 2
_MEND = "stop the node and delete it, the next start builds it again"
_SCHEMA = sa.MetaData()
_log = logging.getLogger(__name__)

_META = Table("meta", _SCHEMA, Column("name", String, primary_key=True), Column("value", BigInteger, nullable=False))
_EVENTS = Table(
    "events",
    _SCHEMA,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("log_index", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("workflow", String, nullable=False),
    Column("command", String, nullable=False),
    Column("case_id", LargeBinary, nullable=False),
    Column("actor", LargeBinary, nullable=False),
    Column("op_id", LargeBinary, nullable=False),
    Column("result", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("detail", Text, nullable=False),
    Index("events_case", "case_id", "height", "index"),
    Index("events_operation", "op_id"),
)
_CASES = Table(
    "cases",
    _SCHEMA,
    Column("case_id", LargeBinary, primary_key=True),
    Column("workflow", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("opener", LargeBinary, nullable=False),
    Column("positions", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("opened_height", BigInteger, nullable=False),
    Column("opened_time", BigInteger, nullable=False),
    Column("changed_height", BigInteger, nullable=False),
    Column("changed_time", BigInteger, nullable=False),
    Index("cases_kind", "kind", "state", "opened_height"),
    Index("cases_age", "opened_height", "case_id"),
)
_POSITIONS = Table(
    "positions",
    _SCHEMA,
    Column("case_id", LargeBinary, primary_key=True),
    Column("position", String, primary_key=True),
    Column("institution", LargeBinary, primary_key=True),
    Index("positions_institution", "institution", "position"),
)
_ENTRIES = Table(
    "entries",
    _SCHEMA,
    Column("entry_id", LargeBinary, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("custodian", LargeBinary, nullable=False),
    Column("kind", String, nullable=False),
    Column("level", Integer, nullable=False),
    Column("month", Integer, nullable=False),
    Column("size_class", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("restricted", Boolean, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Index("entries_search", "custodian", "kind", "month"),
    Index("entries_age", "height", "entry_id"),
)


class SqlIndex:
    """The `Index` port; any thread reads, one at a time writes.

    Args:
        place: a file for SQLite, or an SQLAlchemy URL of a PostgreSQL database.

    Raises:
        UnavailableError: the database cannot be opened.
    """

    def __init__(self, place: Path | str) -> None:
        if isinstance(place, Path):
            self._engine = open_sqlite(place, synchronous="NORMAL")
        else:
            self._engine = sa.create_engine(place, hide_parameters=True)
        self._lock = threading.Lock()
        try:
            with self._writing() as connection:
                _META.create(connection, checkfirst=True)
                if _meta(connection, "schema") != SCHEMA_VERSION:
                    _build(connection)
        except BaseException:
            self._engine.dispose()
            raise

    @classmethod
    def mended(cls, place: Path) -> SqlIndex:
        """Open a file that nobody else has open; one that does not hold is thrown away, to be built again.

        Raises:
            UnavailableError: the database cannot be opened.
        """
        try:
            return cls(place)
        except VerificationError as error:
            _log.warning("the read model is thrown away and built again: %s", error)
            with disk_errors(f"read model {place}"):
                for file in (place, place.with_name(f"{place.name}-wal"), place.with_name(f"{place.name}-shm")):
                    Disk().remove(file)
                Disk().sync_folder(place.parent)
            return cls(place)

    def apply(self, projected: Iterable[Projected]) -> None:
        """Take over what blocks brought, with the cursor, in one transaction; blocks it has already are passed over."""
        with self._writing() as connection:
            height = _meta(connection, "height")
            fresh = [block for block in projected if block.height > height]
            if not fresh:
                return
            _insert(connection, _EVENTS, [msgspec.structs.asdict(event) for block in fresh for event in block.events])
            _replace_cases(connection, {case.case_id: case for block in fresh for case in block.cases})
            entries = {entry.entry_id: entry for block in fresh for entry in block.entries}
            _delete(connection, _ENTRIES.c.entry_id, entries)
            _insert(connection, _ENTRIES, [msgspec.structs.asdict(entry) for entry in entries.values()])
            newest = max(block.height for block in fresh)
            connection.execute(_META.update().where(_META.c.name == "height").values(value=newest))

    def height(self) -> int:
        """Give the height of the newest block taken over, 0 where there is none."""
        with self._reading() as connection:
            return _meta(connection, "height")

    def get_case(self, case_id: bytes) -> CaseRow:
        """Give a case; NotFoundError where there is none."""
        with self._reading() as connection:
            row = connection.execute(sa.select(_CASES).where(_CASES.c.case_id == case_id)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"no case {case_id.hex()} up to height {self.height()}: check the id, or wait")
        return _case(row)

    def get_entry(self, entry_id: bytes) -> EntryRow:
        """Give an entry of the catalogue; NotFoundError where there is none."""
        with self._reading() as connection:
            row = (
                connection.execute(sa.select(_ENTRIES).where(_ENTRIES.c.entry_id == entry_id)).mappings().one_or_none()
            )
        if row is None:
            raise NotFoundError(f"no entry {entry_id.hex()} up to height {self.height()}: check the id, or wait")
        return EntryRow(**row)

    def find_cases(self, query: CaseQuery) -> Page[CaseRow]:
        """Give cases, the newest first; SettingsError for a cursor or limit that is none."""
        wanted = sa.select(_CASES).where(*_equals(_CASES, workflow=query.workflow, kind=query.kind))
        if query.states:
            wanted = wanted.where(_CASES.c.state.in_(query.states))
        if query.flag is not None:
            wanted = wanted.where(_CASES.c.flags.contains(f'"{query.flag}"', autoescape=True))
        if query.institution is not None or query.position is not None:
            held = sa.select(_POSITIONS.c.case_id).where(
                *_equals(_POSITIONS, institution=query.institution, position=query.position)
            )
            wanted = wanted.where(_CASES.c.case_id.in_(held))
        order = (_CASES.c.opened_height, _CASES.c.case_id)
        rows, following = self._page(wanted, order, limit=query.limit, cursor=query.cursor, newest_first=True)
        return Page(items=tuple(_case(row) for row in rows), next=following)

    def ids_between(self, first: bytes, last: bytes, *, limit: int) -> list[bytes]:
        """Give ids of cases from `first` to `last`, both included, in order."""
        column = _CASES.c.case_id
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(column).where(column.between(first, last)).order_by(column).limit(limit)
            )
            return [row[0] for row in rows]

    def find_entries(self, query: EntryQuery) -> Page[EntryRow]:
        """Give entries of the catalogue, the newest first; SettingsError for a cursor or limit that is none."""
        wanted = sa.select(_ENTRIES).where(
            *_equals(
                _ENTRIES, custodian=query.custodian, kind=query.kind, status=query.status, level=query.level,
                size_class=query.size_class, restricted=query.restricted,
            )
        )  # fmt: skip
        if query.first_month is not None:
            wanted = wanted.where(_ENTRIES.c.month >= query.first_month)
        if query.last_month is not None:
            wanted = wanted.where(_ENTRIES.c.month <= query.last_month)
        order = (_ENTRIES.c.height, _ENTRIES.c.entry_id)
        rows, following = self._page(wanted, order, limit=query.limit, cursor=query.cursor, newest_first=True)
        return Page(items=tuple(EntryRow(**row) for row in rows), next=following)

    def events_of_case(self, case_id: bytes, *, limit: int = 100, cursor: str | None = None) -> Page[EventRow]:
        """Give the events of a case, the oldest first."""
        return self._events(_EVENTS.c.case_id == case_id, limit, cursor)

    def events_between(self, first: int, last: int, *, limit: int = 100, cursor: str | None = None) -> Page[EventRow]:
        """Give the events of the blocks `first` … `last`, the oldest first."""
        return self._events(_EVENTS.c.height.between(first, last), limit, cursor)

    def events_of_operation(self, op_id: bytes) -> tuple[EventRow, ...]:
        """Give the events with an operation id, the oldest first: one, unless several members chose the same."""
        return self._events(_EVENTS.c.op_id == op_id, MAX_PAGE, None).items

    def tally(self) -> list[Tally]:
        """Count all events by workflow, command and result, in this order."""
        keys = (_EVENTS.c.workflow, _EVENTS.c.command, _EVENTS.c.result)
        with self._reading() as connection:
            rows = connection.execute(sa.select(*keys, sa.func.count()).group_by(*keys).order_by(*keys)).all()
        return [Tally(workflow=row[0], command=row[1], result=row[2], count=row[3]) for row in rows]

    def reset(self) -> None:
        """Forget everything, to be built again from the first block."""
        with self._writing() as connection:
            _build(connection)

    def close(self) -> None:
        """Release files and locks."""
        self._engine.dispose()

    def _events(self, where: sa.ColumnElement[bool], limit: int, cursor: str | None) -> Page[EventRow]:
        order = (_EVENTS.c.height, _EVENTS.c.index)
        wanted = sa.select(_EVENTS).where(where)
        rows, following = self._page(wanted, order, limit=limit, cursor=cursor, newest_first=False)
        return Page(items=tuple(EventRow(**row) for row in rows), next=following)

    def _page(
        self,
        wanted: sa.Select[Any],
        order: tuple[Column[Any], Column[Any]],
        *,
        limit: int,
        cursor: str | None,
        newest_first: bool,
    ) -> tuple[Sequence[sa.RowMapping], str | None]:
        if not 1 <= limit <= MAX_PAGE:
            raise SettingsError(f"limit is {limit}, expected 1 to {MAX_PAGE}: ask for fewer rows and follow the cursor")
        if cursor is not None:
            first, second = _decode_cursor(cursor, order)
            major, minor = order
            wanted = wanted.where(
                sa.or_(major < first, sa.and_(major == first, minor < second))
                if newest_first
                else sa.or_(major > first, sa.and_(major == first, minor > second))
            )
        ordered = wanted.order_by(*(column.desc() if newest_first else column for column in order))
        with self._reading() as connection:
            rows = connection.execute(ordered.limit(limit + 1)).mappings().all()
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        raw = encode([last[column.name] for column in order])
        return rows[:limit], base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with (
            self._lock,
            database_errors("read model", _MEND),
            self._engine.connect().execution_options(**WRITES) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with database_errors("read model", _MEND), self._engine.connect() as connection:
            yield connection


def _build(connection: sa.Connection) -> None:
    _SCHEMA.drop_all(connection)
    _SCHEMA.create_all(connection)
    connection.execute(_META.insert(), [{"name": "schema", "value": SCHEMA_VERSION}, {"name": "height", "value": 0}])


def _meta(connection: sa.Connection, name: str) -> int:
    return connection.execute(sa.select(_META.c.value).where(_META.c.name == name)).scalar() or 0


def _insert(connection: sa.Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _delete(connection: sa.Connection, column: Column[Any], keys: Iterable[bytes]) -> None:
    rows = [{"gone": key} for key in keys]
    if rows:
        connection.execute(column.table.delete().where(column == sa.bindparam("gone")), rows)


def _replace_cases(connection: sa.Connection, cases: dict[bytes, CaseRow]) -> None:
    _delete(connection, _CASES.c.case_id, cases)
    _delete(connection, _POSITIONS.c.case_id, cases)
    rows, held = [], []
    for case in cases.values():
        row = msgspec.structs.asdict(case)
        row["positions"] = json.dumps([[position, institution.hex()] for position, institution in case.positions])
        row["flags"] = json.dumps(case.flags)
        rows.append(row)
        held += [
            {"case_id": case.case_id, "position": position, "institution": institution}
            for position, institution in dict.fromkeys(case.positions)
        ]
    _insert(connection, _CASES, rows)
    _insert(connection, _POSITIONS, held)


def _case(row: sa.RowMapping) -> CaseRow:
    values = dict(row)
    values["positions"] = tuple((position, bytes.fromhex(held)) for position, held in json.loads(values["positions"]))
    values["flags"] = tuple(json.loads(values["flags"]))
    return CaseRow(**values)


def _equals(table: Table, **wanted: object) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def _decode_cursor(cursor: str, order: tuple[Column[Any], ...]) -> tuple[Any, Any]:
    try:
        values = decode_builtins(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        first, second = values
        if type(first) is int and type(second) is (int if order[1].name == "index" else bytes):
            return first, second
    except (VerificationError, binascii.Error, ValueError, TypeError) as error:
        raise SettingsError("the cursor is none of ours: give back `next` of the page before, unchanged") from error
    raise SettingsError("the cursor belongs to another question: give back `next` of the page before, unchanged")

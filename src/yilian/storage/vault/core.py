"""The vault's engine: one SQLite file, its keys, its transactions and its sealed tables.

Each row keeps its whole content in one sealed column (AES-256-GCM, bound to table and primary key); the other columns
are copies to search by: public ids, or HMAC blind indexes under a key of the vault. Reading compares them with the
content, so that a changed copy is noticed as well.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import cbor2
import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import exc
from sqlalchemy.dialects import sqlite

from yilian.canonical import decode_trusted, encode
from yilian.errors import NotFoundError, SettingsError, VerificationError
from yilian.storage.database import WRITES, database_errors, open_sqlite
from yilian.storage.vault.schema import META, SCHEMA

SCHEMA_VERSION = 1
KEY_BYTES = 32
_NONCE_BYTES = 12
_FETCH = 512
_DIALECT = sqlite.dialect(paramstyle="qmark")

R = TypeVar("R", bound=msgspec.Struct)
Columns = Mapping[str, object]


class VaultCore:
    """An open vault: any thread reads and writes; writers take turns.

    Args:
        path: the database file, made where it is absent.
        key: 32 bytes, from the institution's keystore; without it nothing here can be read again.

    Raises:
        SettingsError: the key is not the one that the vault was made with.
        VerificationError: the file is damaged.
        UnavailableError: the file cannot be opened.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(f"the vault key has {len(key)} bytes, expected {KEY_BYTES}: take it from the keystore")
        self._key = key
        self._blind_key = self._derive("blind")
        self._lock = threading.RLock()
        self._local = threading.local()
        self._engine = open_sqlite(path, synchronous="FULL")
        self._writer: sa.Connection | None = None
        self.tables: list[SealedTable[Any]] = []
        """Every sealed table, for checking."""
        try:
            self._prepare(path)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Write as a whole or not at all; durable when the block ends. Inside another one it joins that one.

        Never await inside: other writers of this thread would join.
        """
        joined = getattr(self._local, "connection", None)
        if joined is not None:
            yield joined
            return
        with self._lock, database_errors("vault"), self._kept_writer() as connection, connection.begin():
            self._local.connection = connection
            try:
                yield connection
            finally:
                self._local.connection = None
        if getattr(self._local, "scrub", False):
            self._local.scrub = False
            self.scrub()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read one committed state; inside a transaction of this thread, what that one has written so far."""
        joined = getattr(self._local, "connection", None)
        if joined is not None:
            yield joined
            return
        with database_errors("vault"), self._engine.connect() as connection:
            yield connection

    def rows(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Give what a SELECT finds as the driver gives it: every step of a use asks for a few rows, and they are cheap.

        Sees what `reading` sees.
        """
        joined = getattr(self._local, "connection", None)
        with database_errors("vault"):
            if joined is not None:
                return _rows(joined.connection.driver_connection, statement, values)
            pooled = self._engine.raw_connection()
            try:
                return _rows(pooled.driver_connection, statement, values)
            finally:
                pooled.close()

    def blind(self, domain: str, value: bytes) -> bytes:
        """Give the blind index (32 bytes) of a value: equal for equal values, nothing to who lacks the vault key."""
        return hmac.digest(self._blind_key, domain.encode() + b"\0" + value, "sha256")

    def cipher(self, table: str) -> AESGCM:
        """Give the cipher of a table; each has a key of its own, so that random nonces stay far from their limit."""
        return AESGCM(self._derive(f"table/{table}"))

    def scrub(self) -> None:
        """Let nothing deleted linger: SQLite zeroes deleted pages itself, here its write-ahead log is cut to nothing.

        Inside a transaction it happens when that ends. While somebody reads an older state, the next scrub does it.
        """
        if getattr(self._local, "connection", None) is not None:
            self._local.scrub = True
            return
        with self._lock, database_errors("vault"), self._engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            for pragma in ("busy_timeout=0", "wal_checkpoint(TRUNCATE)", "busy_timeout=30000"):
                raw.execute(f"PRAGMA {pragma}").close()

    def find_damage(self) -> list[str]:
        """Check the file's structure and that every row opens; names table and row id only."""
        problems: list[str] = []
        try:
            with self.reading() as connection:
                found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
            problems += [f"vault: {line}" for line in found if line != "ok"]
            for table in self.tables:
                problems += table.find_damage()
        except VerificationError as error:
            problems.append(str(error))
        return problems

    def close(self) -> None:
        """Release the file; the write-ahead log is folded in by the last connection."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._engine.dispose()

    @contextmanager
    def _kept_writer(self) -> Iterator[sa.Connection]:
        """Give the one connection that writes; kept open while it works, since opening costs as much as a row."""
        if self._writer is None:
            self._writer = self._engine.connect().execution_options(**WRITES)
        try:
            yield self._writer
        except (exc.DBAPIError, sqlite3.Error):
            self._writer.invalidate()
            self._writer.close()
            self._writer = None
            raise

    def _derive(self, purpose: str) -> bytes:
        return hmac.digest(self._key, b"yilian/vault/v1\0" + purpose.encode(), hashlib.sha256)

    def _prepare(self, path: Path) -> None:
        check = self._derive("check")
        with self.transaction() as connection:
            META.create(connection, checkfirst=True)
            stored = {row.name: row.value for row in connection.execute(sa.select(META))}
            if not stored:
                SCHEMA.create_all(connection)
                version = SCHEMA_VERSION.to_bytes(4)
                connection.execute(
                    META.insert(), [{"name": "key_check", "value": check}, {"name": "schema", "value": version}]
                )
                return
        if not hmac.compare_digest(stored.get("key_check", b""), check):
            raise SettingsError(f"the vault {path} was made with another key: take the one in this home's keystore")
        found = int.from_bytes(stored.get("schema", b""))
        if found != SCHEMA_VERSION:
            raise SettingsError(
                f"the vault {path} has schema {found}, this release reads {SCHEMA_VERSION}: use the one that made it"
            )
        with self.transaction() as connection:
            # a vault made by an earlier release lacks the tables that came later
            SCHEMA.create_all(connection)


class SealedTable(Generic[R]):
    """Typed access to one table.

    Args:
        vault: where it lies.
        table: a table of `vault.schema`.
        kind: the record's type; its fields are all sealed.
        columns: gives the record's searchable columns, by name; the primary key among them.
    """

    def __init__(self, vault: VaultCore, table: sa.Table, kind: type[R], *, columns: Callable[[R], Columns]) -> None:
        self._vault = vault
        self._table = table
        self._kind = kind
        self._columns = columns
        # SQLAlchemy's names are a kind of `str` that no encoder knows.
        self._label = str(table.name)
        self._cipher = vault.cipher(self._label)
        self._key_names = tuple(column.name for column in table.primary_key)
        self._names = tuple(column.name for column in table.columns)
        self._insert = _text(table.insert())
        self._replace = _text(table.insert().prefix_with("OR REPLACE"))
        # Names of columns and tables in a statement are those of `vault.schema`; values are always bound.
        self._all = _text(sa.select(table))
        self._order = ", ".join(self._key_names)
        self._highest = _text(sa.select(sa.func.max(table.c[self._key_names[0]])))
        self._lookups: dict[tuple[str, ...], str] = {}
        vault.tables.append(self)

    def insert(self, records: Iterable[R]) -> None:
        """Add records; ConflictError where one's key is taken, and then none is added."""
        self._store(self._insert, records)

    def put(self, records: Iterable[R]) -> None:
        """Add records, each in place of the one with its key."""
        self._store(self._replace, records)

    def append(self, record: R) -> int:
        """Add a record under the number after the highest, its field `seq`, 1 in an empty table; give that number."""
        with self._vault.transaction():
            ((highest,),) = self._vault.rows(self._highest)
            seq: int = (highest or 0) + 1
            self.insert([msgspec.structs.replace(record, seq=seq)])
        return seq

    def find(self, **key: object) -> R | None:
        """Give the one record with these column values, or None."""
        rows = self._vault.rows(self._lookup(tuple(key)) + " LIMIT 1", tuple(key.values()))
        return self._opened(rows[0]) if rows else None

    def find_all(self, **key: object) -> list[R]:
        """Give the records with these column values, in order of the primary key."""
        return [self._opened(row) for row in self._vault.rows(self._lookup(tuple(key)), tuple(key.values()))]

    def get(self, **key: object) -> R:
        """Give the one record with these column values; NotFoundError where there is none."""
        found = self.find(**key)
        if found is None:
            named = ", ".join(f"{name} {_show(value)}" for name, value in key.items())
            raise NotFoundError(f"the vault has no row in {self._label} with {named}: check the id")
        return found

    def select(self, *where: sa.ColumnElement[bool], order: sa.Column[Any] | None = None, limit: int = -1) -> list[R]:
        """Give the records that meet all conditions, in order of the primary key or of `order`."""
        order_by = (order,) if order is not None else tuple(self._table.primary_key)
        wanted = sa.select(self._table).where(*where).order_by(*order_by)
        with self._vault.reading() as connection:
            rows = connection.execute(wanted.limit(limit) if limit >= 0 else wanted).mappings().all()
        return [self._open(row) for row in rows]

    def find_in(self, name: str, values: Iterable[object]) -> list[R]:
        """Give the records whose column `name` has one of the values, with few questions to the database."""
        wanted = list(dict.fromkeys(values))
        found: list[R] = []
        for at in range(0, len(wanted), _FETCH):
            part = tuple(wanted[at : at + _FETCH])
            asked = f"{self._all} WHERE {name} IN ({','.join('?' * len(part))}) ORDER BY {self._order}"
            found += map(self._opened, self._vault.rows(asked, part))
        return found

    def each(self, *where: sa.ColumnElement[bool]) -> Iterator[R]:
        """Give the records that meet all conditions a few at a time, for tables that do not fit in memory."""
        wanted = sa.select(self._table).where(*where).order_by(*self._table.primary_key)
        with self._vault.reading() as connection:
            for row in connection.execute(wanted.execution_options(yield_per=_FETCH)).mappings():
                yield self._open(row)

    def count(self, *where: sa.ColumnElement[bool]) -> int:
        """Count the records that meet all conditions."""
        with self._vault.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(self._table).where(*where)).scalar_one()

    def delete(self, *where: sa.ColumnElement[bool]) -> int:
        """Delete the records that meet all conditions, at least one, and give their number."""
        if not where:
            raise ValueError(f"no condition for deleting from {self._label}")
        with self._vault.transaction() as connection:
            return connection.execute(self._table.delete().where(*where)).rowcount

    def find_damage(self) -> list[str]:
        """Open every row and name those that do not."""
        problems = []
        with self._vault.reading() as connection:
            for row in connection.execute(sa.select(self._table).execution_options(yield_per=_FETCH)).mappings():
                try:
                    self._open(row)
                except VerificationError as error:
                    problems.append(str(error))
        return problems

    def _lookup(self, names: tuple[str, ...]) -> str:
        wanted = self._lookups.get(names)
        if wanted is None:
            if unknown := set(names) - set(self._names):
                raise KeyError(f"{self._label} has no columns {sorted(unknown)}")
            named = " AND ".join(f"{name} = ?" for name in names)
            wanted = self._lookups[names] = f"{self._all} WHERE {named} ORDER BY {self._order}"
        return wanted

    def _opened(self, row: tuple[Any, ...]) -> R:
        return self._open(dict(zip(self._names, row, strict=True)))

    def _store(self, statement: str, records: Iterable[R]) -> None:
        rows = [self._seal(record) for record in records]
        if rows:
            values = [tuple(row[name] for name in self._names) for row in rows]
            with self._vault.transaction() as connection, database_errors(f"vault table {self._label}"):
                connection.exec_driver_sql(statement, values)

    def _seal(self, record: R) -> dict[str, object]:
        columns = dict(self._columns(record))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        columns["sealed"] = nonce + self._cipher.encrypt(nonce, encode(record), self._aad(columns))
        return columns

    def _open(self, row: Mapping[Any, Any]) -> R:
        sealed = row["sealed"]
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._aad(row))
            record = decode_trusted(plain, self._kind)
        except (InvalidTag, ValueError, TypeError, cbor2.CBORError, msgspec.ValidationError) as error:
            raise VerificationError(f"{self._name(row)} does not open: restore the vault from a backup") from error
        if any(row[name] != value for name, value in self._columns(record).items()):
            raise VerificationError(f"{self._name(row)} was changed from outside: restore the vault from a backup")
        return record

    def _aad(self, columns: Mapping[Any, Any]) -> bytes:
        return encode([self._label, [columns[name] for name in self._key_names]])

    def _name(self, row: Mapping[Any, Any]) -> str:
        return f"vault table {self._label}, row {' '.join(_show(row[name]) for name in self._key_names)}"


def _text(statement: sa.ClauseElement) -> str:
    """Give a statement as the driver takes it, its values in the order in which the statement names them."""
    return str(statement.compile(dialect=_DIALECT))


def _rows(driver: Any, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:  # noqa: ANN401 - sqlite3
    cursor = driver.execute(statement, values)
    try:
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
    finally:
        cursor.close()


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

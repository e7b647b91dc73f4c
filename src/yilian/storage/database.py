"""SQLite through SQLAlchemy as this project uses it: write-ahead log, real transactions, errors of our own tree.

Parameters never appear in messages or logs: they may be sealed, but they are nobody's business.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sql
from sqlalchemy import exc

from yilian.errors import ConflictError, UnavailableError, VerificationError
from yilian.storage.disk import FILE_MODE, Disk, disk_errors

WRITES = {"yilian_writes": True}
"""Execution options of a connection that will write: it takes SQLite's write lock at once, not in the middle."""
_DAMAGE = ("malformed", "not a database", "disk image", "corrupt")


def open_sqlite(path: Path, *, synchronous: Literal["FULL", "NORMAL"]) -> sql.Engine:
    """Open a database file, made for the owner only where it is absent.

    Args:
        path: the file; SQLite keeps two more beside it (`-wal`, `-shm`).
        synchronous: FULL for what cannot be rebuilt (durable at commit), NORMAL for what can (consistent, but the last
            commits may be lost with the power).

    Raises:
        UnavailableError: the file cannot be made or opened.
        VerificationError: the file is not a database.
    """
    with disk_errors(f"database {path}"):
        Disk().make_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        Disk().sync_folder(path.parent)
    engine = sql.create_engine(f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": 30.0})

    @sql.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3 or any driver
        # The driver's own transaction handling begins late and never around SELECT: we begin ourselves, below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "secure_delete=ON", "cache_size=-32768"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sql.event.listens_for(engine, "begin")
    def _begun(connection: sql.Connection) -> None:
        writes = connection.get_execution_options().get("yilian_writes")
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN").close()

    return engine


@contextmanager
def database_errors(what: str, mend: str = "restore it from a backup") -> Iterator[None]:
    """Turn an error of the database into one of our tree, without its parameters; `mend` says what helps a damaged one.

    Raises:
        ConflictError: a key is taken.
        VerificationError: the file is damaged.
        UnavailableError: all else: disk full, locked, unreachable.
    """
    try:
        yield
    except (exc.IntegrityError, sqlite3.IntegrityError) as error:
        raise ConflictError(f"{what}: a row with this key exists already: read it again, then repeat") from error
    except (exc.DBAPIError, sqlite3.Error) as error:
        found = str(error.orig if isinstance(error, exc.DBAPIError) else error)
        if any(word in found for word in _DAMAGE):
            raise VerificationError(f"{what} is damaged ({found}): {mend}") from error
        raise UnavailableError(f"{what}: {found}: free space or repair the disk, then repeat") from error

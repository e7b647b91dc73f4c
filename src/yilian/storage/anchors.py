"""Timestamps of checkpoints by outside authorities: which text was stamped, when, by whom, and the token. SQLite.

A token cannot be asked for again with the same time, so every commit is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table

from yilian.storage.database import WRITES, database_errors, open_sqlite

WHAT = "the store of timestamps"
_SCHEMA = sa.MetaData()
_ANCHORS = Table(
    "anchors",
    _SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("height", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False, index=True),
    Column("authority", String, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Index("anchors_height", "height"),
)


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that an authority has seen."""

    height: int
    time: int
    """The authority's time, milliseconds."""
    authority: str
    """Address that was asked."""
    note: bytes
    """The checkpoint as a signed note; its text, up to the empty line, is what was stamped."""
    response: bytes
    """The whole TimeStampResp (RFC 3161), DER: what `openssl ts -verify -in` reads."""


class AnchorStore:
    """The timestamps of one chain; thread safe.

    Args:
        path: database file, made where it is absent.

    Raises:
        UnavailableError: it cannot be opened.
        VerificationError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._engine = open_sqlite(path, synchronous="FULL")
        with self._writing() as connection:
            _SCHEMA.create_all(connection)
        self._newest = self._find(sa.select(_ANCHORS))

    def add(self, anchor: Anchor) -> None:
        """Keep a timestamp, durably."""
        with self._lock:
            with self._writing() as connection:
                connection.execute(_ANCHORS.insert(), [msgspec.structs.asdict(anchor)])
            if self._newest is None or self._newest.time <= anchor.time:
                self._newest = anchor

    def newest(self) -> Anchor | None:
        """Give the timestamp with the latest time, None before the first; asks no disk."""
        return self._newest

    def at(self, height: int) -> Anchor | None:
        """Give the first timestamp of a checkpoint at this height or above: it bounds the time of all up to there."""
        wanted = sa.select(_ANCHORS).where(_ANCHORS.c.height >= height)
        return self._find(wanted, _ANCHORS.c.height, _ANCHORS.c.time)

    def page(self, *, before: int | None = None, limit: int = 50) -> list[Anchor]:
        """Give timestamps older than `before` (milliseconds), the newest first."""
        wanted = sa.select(_ANCHORS).order_by(_ANCHORS.c.time.desc(), _ANCHORS.c.id.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(_ANCHORS.c.time < before)
        with database_errors(WHAT), self._engine.connect() as connection:
            return [_anchor(row) for row in connection.execute(wanted).mappings()]

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with (
            database_errors(WHAT),
            self._engine.connect().execution_options(**WRITES) as connection,
            connection.begin(),
        ):
            yield connection

    def _find(self, wanted: sa.Select[Any], *order: Column[Any]) -> Anchor | None:
        ordered = wanted.order_by(*(order or (_ANCHORS.c.time.desc(), _ANCHORS.c.id.desc()))).limit(1)
        with database_errors(WHAT), self._engine.connect() as connection:
            row = connection.execute(ordered).mappings().first()
        return None if row is None else _anchor(row)


def _anchor(row: sa.RowMapping) -> Anchor:
    return Anchor(**{name: row[name] for name in Anchor.__struct_fields__})

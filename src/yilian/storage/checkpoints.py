"""Checkpoints that were signed or seen, their cosignatures, what each witness last signed, alerts and promises: SQLite.

What a witness has signed must never be forgotten, so every commit is durable. Notes are kept by height: the first one
of a height stands, another one of the same height is evidence and belongs into an alert.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text
from sqlalchemy.dialects.sqlite import insert

from yilian.ledger.checkpoint import Note, SignatureKind, SignatureLine, parse_note, signed_at
from yilian.storage.database import WRITES, database_errors, open_sqlite
from yilian.values import HOUR, Digest, InstitutionId, UnixMillis, digest, unix_millis

KEPT = 10_000
"""Newest notes that are all kept; of older ones the last of each hour."""
WHAT = "the checkpoint store"
_SCHEMA = sa.MetaData()
_NOTES = Table(
    "notes",
    _SCHEMA,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("log_size", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Index("notes_size", "log_size"),
)
_LINES = Table(
    "cosignatures",
    _SCHEMA,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, primary_key=True),
    Column("kind", Integer, primary_key=True, autoincrement=False),
    Column("seconds", BigInteger, nullable=False),
    Column("line", LargeBinary, nullable=False),
)
_SEEN = Table(
    "seen",
    _SCHEMA,
    Column("institution", LargeBinary, primary_key=True),
    Column("height", BigInteger, nullable=False),
    Column("log_size", BigInteger, nullable=False),
    Column("log_root", LargeBinary, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("time", BigInteger, nullable=False),
)
_ALERTS = Table(
    "alerts",
    _SCHEMA,
    Column("id", Integer, primary_key=True),
    Column("name", LargeBinary, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("first", LargeBinary, nullable=False),
    Column("second", LargeBinary, nullable=False),
)
_PROMISES = Table(
    "promises",
    _SCHEMA,
    Column("digest", LargeBinary, primary_key=True),
    Column("include_by", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("promise", LargeBinary, nullable=False),
    Index("promises_due", "include_by"),
)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a witness signed last; it signs nothing smaller and nothing that does not extend it."""

    institution: InstitutionId
    height: int
    log_size: int
    log_root: Digest
    kind: SignatureKind
    time: UnixMillis
    """Its own clock when it signed."""


class StoredAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with its evidence: one or two encoded notes, empty where there is none."""

    id: int
    kind: str
    time: UnixMillis
    text: str
    first: bytes
    second: bytes


class StoredPromise(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that was not yet seen kept."""

    digest: Digest
    """Of the transaction."""
    include_by: UnixMillis
    since: int
    """Height of the newest block when it was given: a later one holds the transaction."""
    promise: bytes


class CheckpointStore:
    """An open store: any thread reads and writes; writers take turns.

    Raises:
        VerificationError: the file is damaged.
        UnavailableError: the disk is full or failed.
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_sqlite(path, synchronous="FULL")
        self._writing = threading.Lock()
        with database_errors(WHAT), self._engine.begin() as connection:
            _SCHEMA.create_all(connection)

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    # --------------------------------------------------------------------------------------------------------- notes

    def keep(self, note: Note, cosignatures: Iterable[tuple[SignatureKind, SignatureLine]] = ()) -> None:
        """Keep a note, whose first line is the sequencer's, and verified cosignatures; of each the newest stays."""
        self.keep_signed(note, cosignatures, ())

    def keep_signed(
        self, note: Note, cosignatures: Iterable[tuple[SignatureKind, SignatureLine]], seen: Iterable[Seen]
    ) -> None:
        """Keep a note, cosignatures, and what own witnesses signed by them, in one durable step."""
        checkpoint = note.checkpoint
        first = Note(checkpoint, note.lines[:1])
        row = {
            "height": checkpoint.height,
            "log_size": checkpoint.log_size,
            "time": checkpoint.time,
            "note": first.encode(),
        }
        with self._writing, database_errors(WHAT), self._engine.execution_options(**WRITES).begin() as connection:
            connection.execute(insert(_NOTES).values(row).on_conflict_do_nothing())
            for kind, line in cosignatures:
                _put_line(connection, checkpoint.height, kind, line)
            for one in seen:
                values = msgspec.structs.asdict(one) | {"kind": int(one.kind)}
                connection.execute(
                    insert(_SEEN).values(values).on_conflict_do_update(index_elements=["institution"], set_=values)
                )

    def find(self, height: int) -> Note | None:
        """Give the note of a height with all cosignatures, newest first; None where there is none."""
        notes = self._notes(sa.select(_NOTES.c.note).where(_NOTES.c.height == height))
        return notes[0] if notes else None

    def newest(self, *, limit: int = 1, below: int | None = None) -> list[Note]:
        """Give the newest notes, those with a height under `below` where it is given."""
        wanted = sa.select(_NOTES.c.note).order_by(_NOTES.c.height.desc()).limit(limit)
        return self._notes(wanted if below is None else wanted.where(_NOTES.c.height < below))

    def largest(self) -> Note | None:
        """Give the note with the largest log size."""
        notes = self._notes(
            sa.select(_NOTES.c.note).order_by(_NOTES.c.log_size.desc(), _NOTES.c.height.desc()).limit(1)
        )
        return notes[0] if notes else None

    def of_size(self, log_size: int) -> Note | None:
        """Give a note of a log size; None where there is none."""
        notes = self._notes(sa.select(_NOTES.c.note).where(_NOTES.c.log_size == log_size).limit(1))
        return notes[0] if notes else None

    def prune(self, kept: int = KEPT) -> int:
        """Drop what is older than the newest notes but for the last of each hour; give how many went."""
        with self._writing, database_errors(WHAT), self._engine.execution_options(**WRITES).begin() as connection:
            least = connection.execute(
                sa.select(_NOTES.c.height).order_by(_NOTES.c.height.desc()).offset(kept - 1).limit(1)
            ).scalar()
            if least is None:
                return 0
            lasting = sa.select(sa.func.max(_NOTES.c.height)).group_by(_NOTES.c.time // HOUR)
            gone = sa.select(_NOTES.c.height).where(_NOTES.c.height < least, _NOTES.c.height.not_in(lasting))
            heights = list(connection.execute(gone).scalars())
            for start in range(0, len(heights), 500):
                some = heights[start : start + 500]
                connection.execute(_LINES.delete().where(_LINES.c.height.in_(some)))
                connection.execute(_NOTES.delete().where(_NOTES.c.height.in_(some)))
        return len(heights)

    # ----------------------------------------------------------------------------------------------------- witnesses

    def seen(self, institution: InstitutionId) -> Seen | None:
        """Give what a witness signed last."""
        with database_errors(WHAT), self._engine.connect() as connection:
            row = connection.execute(sa.select(_SEEN).where(_SEEN.c.institution == institution)).one_or_none()
        if row is None:
            return None
        return Seen(
            institution=institution,
            height=row.height,
            log_size=row.log_size,
            log_root=digest(row.log_root),
            kind=SignatureKind(row.kind),
            time=unix_millis(row.time),
        )

    # -------------------------------------------------------------------------------------------------------- alerts

    def add_alert(self, name: bytes, alert: StoredAlert) -> bool:
        """Keep an alert under a name that says what it is about; False where it stands already. Its id is drawn."""
        values = msgspec.structs.asdict(alert) | {"name": name}
        del values["id"]
        with self._writing, database_errors(WHAT), self._engine.execution_options(**WRITES).begin() as connection:
            done = connection.execute(insert(_ALERTS).values(values).on_conflict_do_nothing())
            return bool(done.rowcount)

    def alerts(self, *, after: int = 0, limit: int = 1_000) -> list[StoredAlert]:
        """Give alerts with an id above `after`, the oldest first."""
        wanted = sa.select(_ALERTS).where(_ALERTS.c.id > after).order_by(_ALERTS.c.id).limit(limit)
        with database_errors(WHAT), self._engine.connect() as connection:
            rows = connection.execute(wanted).all()
        return [
            StoredAlert(
                id=row.id,
                kind=row.kind,
                time=unix_millis(row.time),
                text=row.text,
                first=row.first,
                second=row.second,
            )
            for row in rows
        ]

    # ------------------------------------------------------------------------------------------------------ promises

    def keep_promise(self, promise: StoredPromise) -> None:
        """Keep a promise until it was seen kept; of several about one transaction the earliest stays."""
        values = msgspec.structs.asdict(promise)
        with self._writing, database_errors(WHAT), self._engine.execution_options(**WRITES).begin() as connection:
            connection.execute(insert(_PROMISES).values(values).on_conflict_do_nothing())

    def drop_promises(self, digests: Sequence[bytes]) -> None:
        """Forget promises that were kept, or of which an alert tells."""
        with self._writing, database_errors(WHAT), self._engine.execution_options(**WRITES).begin() as connection:
            connection.execute(_PROMISES.delete().where(_PROMISES.c.digest.in_(digests)))

    def promises(self) -> list[StoredPromise]:
        """Give the promises that were not yet seen kept, the earliest due first."""
        with database_errors(WHAT), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_PROMISES).order_by(_PROMISES.c.include_by)).all()
        return [
            StoredPromise(
                digest=digest(row.digest),
                include_by=unix_millis(row.include_by),
                since=row.since,
                promise=row.promise,
            )
            for row in rows
        ]

    # ------------------------------------------------------------------------------------------------------- helpers

    def _notes(self, wanted: sa.Select[Any]) -> list[Note]:
        with database_errors(WHAT), self._engine.connect() as connection:
            notes = [parse_note(row) for row in connection.execute(wanted).scalars()]
            heights = [note.checkpoint.height for note in notes]
            rows = connection.execute(
                sa.select(_LINES).where(_LINES.c.height.in_(heights)).order_by(_LINES.c.seconds.desc(), _LINES.c.name)
            ).all()
        lines: dict[int, list[SignatureLine]] = {}
        for row in rows:
            lines.setdefault(row.height, []).append(SignatureLine(row.name, row.line[:4], row.line[4:]))
        return [Note(note.checkpoint, (*note.lines, *lines.get(note.checkpoint.height, ()))) for note in notes]


def _put_line(connection: sa.Connection, height: int, kind: SignatureKind, line: SignatureLine) -> None:
    values = {
        "height": height,
        "name": line.name,
        "kind": int(kind),
        "seconds": min(signed_at(line), 2**63 - 1),
        "line": line.key_hash + line.body,
    }
    put = insert(_LINES).values(values)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=["height", "name", "kind"], set_=values, where=_LINES.c.seconds < put.excluded.seconds
        )
    )

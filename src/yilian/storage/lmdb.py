"""The ledger's state in LMDB: one durable, atomic transaction a block.

LMDB has no checksums: a flipped byte reads back as another row, or kills the process by SIGBUS. Who checks a store
compares every row with the state root, and opens it (`LmdbState.reading`) in a child process.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import lmdb

from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError, YilianError
from yilian.ledger.ports import Batch
from yilian.storage.disk import FILE_MODE, Disk, disk_errors
from yilian.storage.residency import MappedFile

GIB = 1 << 30
HEAD_KEY = b"head"
_TILE = struct.Struct(">BQ")
_HEIGHT = struct.Struct(">Q")
LEAN_TOUCHES = 128
"""Reads and writes between two times; each may bring some dozens of pages with it."""
_GROWTH_WAIT_S = 60.0
_LOOK_EVERY = 1_000
"""Values between two looks of a long read for a writer that waits."""
_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
)


class LmdbState:
    """The `State` port on LMDB; at most one open instance a folder and process.

    Args:
        path: folder of the store, made where it is absent.
        map_size: bytes of address space to begin with; the file itself grows only with what is stored.
        max_map_size: bytes up to which the map doubles by itself when it is full.

    Raises:
        ConflictError: this process has the store open.
        VerificationError: the folder holds no LMDB of this format.
        UnavailableError: the disk failed.
    """

    def __init__(self, path: Path, *, map_size: int = 4 * GIB, max_map_size: int = 1024 * GIB) -> None:
        self._path = path
        self._max_map_size = max_map_size
        self._touched = 0
        self._gate = _Gate()
        with disk_errors(f"state store {path}"):
            Disk().make_folder(path)
        self._open(map_size=map_size, readonly=False)
        with disk_errors(f"state store {path}"):
            Disk().sync_folder(path)

    @classmethod
    def reading(cls, path: Path) -> LmdbState:
        """Open a store that exists without changing a byte of it; `write` raises UnavailableError.

        Raises:
            NotFoundError: the folder holds no store.
            VerificationError: what it holds is no LMDB of this format.
        """
        return _ReadOnly(path)

    _lean = False
    _mapping: MappedFile | None = None

    def _open(self, *, map_size: int, readonly: bool) -> None:
        self._mapping = None
        with self._errors():
            self._environment = lmdb.open(
                str(self._path),
                map_size=map_size,
                max_dbs=4,
                mode=FILE_MODE,
                readonly=readonly,
                readahead=False,
                max_spare_txns=8,
                max_readers=256,
            )
            try:
                self._rows = self._environment.open_db(b"rows", create=not readonly)
                self._tiles = self._environment.open_db(b"tiles", create=not readonly)
                self._leaves = self._environment.open_db(b"leaves", create=not readonly)
                self._head = self._environment.open_db(b"head", create=not readonly)
            except lmdb.Error:
                self._environment.close()
                raise

    def get(self, key_hash: bytes) -> bytes | None:
        """Give the row stored under a key hash, or None."""
        return self._read(self._rows, key_hash)

    def scan(self, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Give (key hash, row) in order of key hash, from `start` on, before `stop`; one state from first to last."""
        self._gate.enter()
        try:
            with self._errors(), self._environment.begin(db=self._rows) as transaction:
                cursor = transaction.cursor()
                if not (cursor.set_range(start) if start else cursor.first()):
                    return
                for key, row in cursor.iternext(keys=True, values=True):
                    if stop is not None and key >= stop:
                        return
                    yield key, row
        finally:
            if self._lean:
                self._touch(1)
            self._gate.leave()

    def tile(self, level: int, index: int) -> bytes | None:
        """Give the stored hashes of one tile of the log, or None."""
        return self._read(self._tiles, _TILE.pack(level, index))

    def leaves(self, height: int) -> bytes | None:
        """Give the leaves that the block at `height` added, or None where it added none."""
        return self._read(self._leaves, _HEIGHT.pack(height))

    def head(self) -> bytes | None:
        """Give the head of the last commit, or None before the first."""
        return self._read(self._head, HEAD_KEY)

    def write(self, batch: Batch) -> None:
        """Make one block's changes durable, atomically; the map doubles up to its cap where it is full.

        LMDB takes nothing more, not even reads, after a failed write of its root page: then the store is opened again,
        and what it holds says whether the batch was written.

        Raises:
            UnavailableError: the disk is full or failed, or the cap is reached; nothing of the batch was written.
            VerificationError: the store failed and does not open again; whether the batch was written is unknown.
        """
        while True:
            try:
                with self._errors():
                    self._write(batch)
                return
            except _MapFullError:
                self._grow()
            except UnavailableError:
                if not self._is_stuck():
                    raise
                if self._open_again() != batch.head:
                    raise
                return

    @contextmanager
    def frozen(self) -> Iterator[FrozenState]:
        """Read everything of one committed state while blocks are written; ends early where the map must grow.

        Raises:
            UnavailableError: a writer waits for room: begin again.
        """
        self._gate.enter()
        try:
            with self._errors(), self._environment.begin() as transaction:
                databases = (self._rows, self._tiles, self._leaves, self._head)
                yield FrozenState(transaction, databases, self._gate)
        finally:
            self._gate.leave()

    def fill(
        self,
        *,
        rows: Sequence[tuple[bytes, bytes]] = (),
        tiles: Mapping[tuple[int, int], bytes] | None = None,
        leaves: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Put parts of a snapshot into a store that is being made; it has no head before the last `write`.

        Raises:
            UnavailableError: as `write`.
        """
        placed = sorted((_TILE.pack(*place), tile) for place, tile in (tiles or {}).items())
        packed = [(_HEIGHT.pack(height), content) for height, content in leaves]
        while True:
            try:
                with self._errors(), self._environment.begin(write=True) as transaction:
                    transaction.cursor(self._rows).putmulti(list(rows))
                    transaction.cursor(self._tiles).putmulti(placed)
                    transaction.cursor(self._leaves).putmulti(packed)
                return
            except _MapFullError:
                self._grow()

    def close(self) -> None:
        """Release files and locks; a second close does nothing."""
        self._gate.alone()
        try:
            self._lean, self._mapping = False, None
            self._environment.close()
        finally:
            self._gate.open()

    def _read(self, database: lmdb._Database, key: bytes) -> bytes | None:
        self._gate.enter()
        try:
            with self._environment.begin(db=database) as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            self._fail(error)
        finally:
            if self._lean:
                self._touch(1)
            self._gate.leave()

    def keep_lean(self) -> None:
        """From now on give pages of the file back every some reads and writes; for machines of little memory."""
        self._lean = True

    def _touch(self, pages: int) -> None:
        """Count pages that were read; the caller keeps the map where it is, within the gate or as the writer."""
        self._touched += pages
        if self._touched >= LEAN_TOUCHES:
            self._touched = 0
            mapping = self._mapping
            if mapping is None:
                mapping = self._mapping = MappedFile(self._path / "data.mdb")
            mapping.release()

    def _write(self, batch: Batch) -> None:
        with self._environment.begin(write=True) as transaction:
            kept: list[tuple[bytes, bytes]] = []
            # Sorted keys touch each page of the B-tree once.
            for key in sorted(batch.rows):
                row = batch.rows[key]
                if row is None:
                    transaction.delete(key, db=self._rows)
                else:
                    kept.append((key, row))
            for first in range(0, len(kept), LEAN_TOUCHES):
                lot = kept[first : first + LEAN_TOUCHES]
                transaction.cursor(self._rows).putmulti(lot)
                if self._lean:
                    self._touch(len(lot))
            tiles = sorted((_TILE.pack(*place), tile) for place, tile in batch.tiles.items())
            transaction.cursor(self._tiles).putmulti(tiles)
            if batch.leaves:
                transaction.put(_HEIGHT.pack(batch.height), batch.leaves, db=self._leaves)
            transaction.put(HEAD_KEY, batch.head, db=self._head)

    def _grow(self) -> None:
        size = self._environment.info()["map_size"]
        larger = min(size * 2, self._max_map_size)
        if larger <= size:
            raise UnavailableError(
                f"state store {self._path} fills its map of {size} bytes, its cap is {self._max_map_size}: "
                "raise the cap, then repeat"
            )
        # The map may move: no transaction may be open in this process.
        self._gate.alone()
        try:
            with self._errors():
                self._mapping = None
                self._environment.set_mapsize(larger)
        finally:
            self._gate.open()

    def _is_stuck(self) -> bool:
        try:
            self._environment.begin().abort()
        except lmdb.PanicError:
            return True
        except lmdb.Error:
            return False
        return False

    def _open_again(self) -> bytes | None:
        """Open the store once more, and give its head."""
        try:
            self._gate.alone()
            try:
                size = self._environment.info()["map_size"]
                self._environment.close()
                self._open(map_size=size, readonly=False)
            finally:
                self._gate.open()
            return self.head()
        except YilianError as error:
            raise VerificationError(
                f"state store {self._path} failed while it wrote and does not open again ({error}): restart the node"
            ) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            self._fail(error)

    def _fail(self, error: lmdb.Error) -> NoReturn:
        if isinstance(error, lmdb.MapFullError):
            raise _MapFullError(f"state store {self._path}: {error}") from error
        if "already open in this process" in str(error):
            raise ConflictError(f"state store {self._path} is open in this process: close it first") from error
        if isinstance(error, _DAMAGED):
            raise VerificationError(
                f"state store {self._path} is damaged ({error}): restore it from a backup or replay the blocks"
            ) from error
        raise UnavailableError(
            f"state store {self._path}: {error}: free space or repair the disk, then repeat"
        ) from error


class FrozenState:
    """One committed state from first to last, for as long as `LmdbState.frozen` is open; one thread."""

    def __init__(self, transaction: lmdb.Transaction, databases: tuple[lmdb._Database, ...], gate: _Gate) -> None:
        self._transaction = transaction
        self._rows, self._tiles, self._leaves, self._head = databases
        self._gate = gate

    def head(self) -> bytes | None:
        """Give the head, or None before the first commit."""
        return self._get(self._head, HEAD_KEY)

    def rows(self) -> Iterator[bytes]:
        """Give every row in order of key hash."""
        return self._values(self._rows)

    def tile(self, level: int, index: int) -> bytes | None:
        """Give the stored hashes of one tile of the log, or None."""
        return self._get(self._tiles, _TILE.pack(level, index))

    def leaves(self) -> Iterator[bytes]:
        """Give the leaves of every block that added some, in order of height."""
        return self._values(self._leaves)

    def _values(self, database: lmdb._Database) -> Iterator[bytes]:
        for number, value in enumerate(self._transaction.cursor(database).iternext(keys=False, values=True)):
            if number % _LOOK_EVERY == 0 and self._gate.is_wanted:
                raise UnavailableError("the state store needs room while it is read as a whole: begin again")
            yield bytes(value)

    def _get(self, database: lmdb._Database, key: bytes) -> bytes | None:
        found = self._transaction.get(key, db=database)
        return None if found is None else bytes(found)


class _ReadOnly(LmdbState):
    """A store opened for reading alone."""

    def __init__(self, path: Path) -> None:  # the writer's set-up is what must not run
        self._path = path
        self._max_map_size = 0
        self._gate = _Gate()
        if not (path / "data.mdb").is_file():
            raise NotFoundError(f"{path} holds no data.mdb: name the folder of a state store")
        self._open(map_size=0, readonly=True)


class _MapFullError(UnavailableError):
    """LMDB's map is full; `write` grows it."""


class _Gate:
    """Lets readers pass together, and one that needs to be alone when all of them have left."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._readers = 0
        self._closed = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits to be alone."""
        return self._closed

    def enter(self) -> None:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._readers += 1

    def leave(self) -> None:
        with self._changed:
            self._readers -= 1
            if self._closed and not self._readers:
                self._changed.notify_all()

    def alone(self) -> None:
        with self._changed:
            self._closed = True
            if not self._changed.wait_for(lambda: not self._readers, timeout=_GROWTH_WAIT_S):
                self._closed = False
                self._changed.notify_all()
                raise UnavailableError(
                    f"{self._readers} reads of the state are open since {_GROWTH_WAIT_S:.0f} s: end them, then repeat"
                )

    def open(self) -> None:
        with self._changed:
            self._closed = False
            self._changed.notify_all()

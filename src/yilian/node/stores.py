"""New stores for a ledger, filled from a snapshot: a folder of a name of its own until all of it was verified."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Self

from yilian import canonical
from yilian.errors import ConflictError
from yilian.ledger.ports import Batch
from yilian.ledger.results import Head
from yilian.storage.disk import Disk, disk_errors
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks, write_base

_NEW = ".new-"


class NewStores:
    """The `Target` of a restoration: state and blocks in a folder beside the one that they are for.

    A context manager: what was not finished is removed. Nothing in it is synced before `finish`.
    """

    def __init__(self, ledger: Path, *, first_block: int) -> None:
        """Begin; ConflictError where the ledger's folder has a state or segments already."""
        self._ledger = ledger
        if (ledger / "state").exists() or (ledger / "segments").exists():
            raise ConflictError(f"{ledger} holds a ledger already: name a new home")
        with disk_errors(f"ledger {ledger}"):
            Disk().make_folder(ledger)
            for left in ledger.glob(f"{_NEW}*"):
                shutil.rmtree(left)
            self._folder = ledger / f"{_NEW}{secrets.token_hex(8)}"
            Disk().make_folder(self._folder / "segments")
            if first_block > 1:
                write_base(self._folder / "segments", first_block)
        self._state = LmdbState(self._folder / "state")
        self._blocks = SegmentBlocks(self._folder / "segments", disk=_Unsynced())
        self._is_closed = False

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not finished."""
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def put_rows(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Keep rows."""
        self._state.fill(rows=rows)

    def put_tiles(self, tiles: dict[tuple[int, int], bytes]) -> None:
        """Keep tiles of the log."""
        self._state.fill(tiles=tiles)

    def tile(self, level: int, index: int) -> bytes | None:
        """Give a tile."""
        return self._state.tile(level, index)

    def put_records(self, records: list[tuple[int, bytes]]) -> None:
        """Keep what blocks did."""
        self._state.fill(leaves=records)

    def put_block(self, height: int, block: bytes) -> None:
        """Keep the next block."""
        self._blocks.append(height, block)

    def get(self, key_hash: bytes) -> bytes | None:
        """Give a row."""
        return self._state.get(key_hash)

    def finish(self, head: Head) -> None:
        """Give the state its head, make everything durable, and put it where the ledger belongs.

        The blocks come first and the state second: a state without its blocks could not be explained.
        """
        self._state.write(Batch(height=head.height, rows={}, tiles={}, leaves=b"", head=canonical.encode(head)))
        self._close()
        with disk_errors(f"ledger {self._ledger}"):
            for file in (self._folder / "segments").iterdir():
                _sync(file)
            Disk().sync_folder(self._folder / "segments")
            for name in ("segments", "state"):
                Disk().rename(self._folder / name, self._ledger / name)
                Disk().sync_folder(self._ledger)

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._state.close()
            self._blocks.close()


class _Unsynced(Disk):
    """Writes without waiting; who uses it syncs at the end."""

    def sync(self, descriptor: int) -> None:
        """Do not wait."""


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        Disk().sync(descriptor)
    finally:
        os.close(descriptor)

"""What services need of a disk: `Blobs`, sealed records found by their root, and `Index`, the read model.

`ledger.ports` holds what the ledger needs (`State`, `Blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from yilian.storage.rows import CaseQuery, CaseRow, EntryQuery, EntryRow, EventRow, Page, Projected, Tally


class BlobWriter(Protocol):
    """A blob that arrives in pieces; what is appended survives a cut and is found again under the same name."""

    @property
    def length(self) -> int:
        """Bytes appended so far, those of earlier attempts included."""
        ...

    def append(self, piece: bytes) -> None:
        """Add bytes at the end; UnavailableError where the disk is full or failed."""
        ...

    def read(self) -> BinaryIO:
        """Open what is there so far for reading, to check it before going on."""
        ...

    def truncate(self, length: int) -> None:
        """Drop the bytes from `length` on."""
        ...

    def commit(self, root: bytes) -> None:
        """Make the blob durable under its root; nothing can be appended afterwards."""
        ...

    def discard(self) -> None:
        """Drop what was appended."""
        ...


class Blobs(Protocol):
    """Sealed records, found by their root (32 bytes). The caller checks that content and root belong together.

    Implementations may differ in speed and in where the bytes lie, in nothing else.
    """

    def put(self, root: bytes, content: bytes | Iterable[bytes]) -> int:
        """Make a blob durable and give its size in bytes; replaces what stood under this root.

        Raises:
            UnavailableError: the disk is full or failed; what stood there still stands.
        """
        ...

    def put_many(self, blobs: Iterable[tuple[bytes, bytes]]) -> None:
        """Make many blobs durable with fewer waits than one by one; on an error some may stand."""
        ...

    def open(self, root: bytes) -> BinaryIO:
        """Open a blob for reading; NotFoundError where there is none."""
        ...

    def size(self, root: bytes) -> int:
        """Give a blob's size in bytes; NotFoundError where there is none."""
        ...

    def exists(self, root: bytes) -> bool:
        """Say whether there is a blob under this root."""
        ...

    def delete(self, root: bytes) -> None:
        """Drop a blob, durably; nothing happens where there is none."""
        ...

    def roots(self) -> Iterator[bytes]:
        """Give the root of every blob, in order."""
        ...

    def writer(self, name: str) -> AbstractContextManager[BlobWriter]:
        """Begin, or go on with, a blob that arrives in pieces; one writer a name at a time.

        Args:
            name: 1 to 128 letters, digits, `-`, `_` of the caller's choice.

        Raises:
            ConflictError: this name is being written already.
        """
        ...


class Index(Protocol):
    """The read model: what the ledger's events mean, in tables that can be asked. Rebuildable; no patient data."""

    def apply(self, projected: Iterable[Projected]) -> None:
        """Take over what blocks brought, with the cursor, in one transaction; blocks it has already are passed over."""
        ...

    def height(self) -> int:
        """Give the height of the newest block taken over, 0 where there is none."""
        ...

    def get_case(self, case_id: bytes) -> CaseRow:
        """Give a case; NotFoundError where there is none."""
        ...

    def find_cases(self, query: CaseQuery) -> Page[CaseRow]:
        """Give cases, the newest first."""
        ...

    def ids_between(self, first: bytes, last: bytes, *, limit: int) -> list[bytes]:
        """Give ids of cases from `first` to `last`, both included, in order; reads no more rows than it gives."""
        ...

    def find_entries(self, query: EntryQuery) -> Page[EntryRow]:
        """Give entries of the catalogue, the newest first."""
        ...

    def events_of_case(self, case_id: bytes, *, limit: int = 100, cursor: str | None = None) -> Page[EventRow]:
        """Give the events of a case, the oldest first."""
        ...

    def events_between(self, first: int, last: int, *, limit: int = 100, cursor: str | None = None) -> Page[EventRow]:
        """Give the events of the blocks `first` … `last`, the oldest first."""
        ...

    def events_of_operation(self, op_id: bytes) -> tuple[EventRow, ...]:
        """Give the events with an operation id, the oldest first: one, unless several members chose the same."""
        ...

    def tally(self) -> list[Tally]:
        """Count all events by workflow, command and result."""
        ...

    def reset(self) -> None:
        """Forget everything, to be built again from the first block."""
        ...

    def close(self) -> None:
        """Release files and locks."""
        ...

"""Sealed records as local files, found by their root: written, synced, renamed, and the folder synced.

`ab/cdef…` is the blob with the root abcdef… in hexadecimal. One level of 256 folders, made on the first open: with two
levels nearly every blob of an import would have a folder of its own to sync. `partial/` holds what still arrives.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from yilian.errors import ConflictError, NotFoundError, UnavailableError
from yilian.storage.disk import FILE_MODE, TEMPORARY, Disk, disk_errors

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_REST = re.compile(r"[0-9a-f]{62}\Z")
_SYNC_THREADS = 8
_BATCH = 512
_PARTIAL = "partial"


class LocalBlobs:
    """The `Blobs` port in a folder; thread safe, one process a folder.

    Args:
        path: folder, made where it is absent; temporary files of a crash are swept, arriving blobs are kept.
        disk: how bytes reach the device.

    Raises:
        UnavailableError: the disk failed.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self._writing: set[str] = set()
        with disk_errors(f"blob store {path}"):
            self._disk.make_folder(path)
            self._disk.make_folder(path / _PARTIAL)
            for number in range(256):
                self._disk.add_folder(path / f"{number:02x}")
            self._disk.sync_folder(path)
            for left in path.glob(f"??/*{TEMPORARY}"):
                self._disk.remove(left)

    def put(self, root: bytes, content: bytes | Iterable[bytes]) -> int:
        """Make a blob durable and give its size in bytes; replaces what stood under this root.

        Raises:
            UnavailableError: the disk is full or failed; what stood there still stands.
        """
        target = self._place(root)
        with disk_errors(f"blob {root.hex()}"):
            temporary, size = self._write(target, (content,) if isinstance(content, bytes) else content)
            self._finish(temporary, target)
            self._disk.sync_folder(target.parent)
        return size

    def put_many(self, blobs: Iterable[tuple[bytes, bytes]]) -> None:
        """Make many blobs durable; all are synced, then renamed, then each folder touched is synced once.

        Raises:
            UnavailableError: the disk is full or failed; some may stand, each whole.
        """
        waiting: list[tuple[bytes, bytes]] = []
        with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="blob-sync") as pool:
            for blob in blobs:
                waiting.append(blob)
                if len(waiting) == _BATCH:
                    self._put_batch(waiting, pool)
                    waiting = []
            self._put_batch(waiting, pool)

    def open(self, root: bytes) -> BinaryIO:
        """Open a blob for reading; NotFoundError where there is none."""
        try:
            return self._place(root).open("rb")
        except FileNotFoundError as error:
            raise _missing(root) from error
        except OSError as error:
            raise UnavailableError(
                f"blob {root.hex()}: {error.strerror}, expected a readable file: repair it"
            ) from error

    def size(self, root: bytes) -> int:
        """Give a blob's size in bytes; NotFoundError where there is none."""
        try:
            return self._place(root).stat().st_size
        except FileNotFoundError as error:
            raise _missing(root) from error

    def exists(self, root: bytes) -> bool:
        """Say whether there is a blob under this root."""
        return self._place(root).is_file()

    def delete(self, root: bytes) -> None:
        """Drop a blob, durably; nothing happens where there is none."""
        target = self._place(root)
        with disk_errors(f"blob {root.hex()}"):
            self._disk.remove(target)
            self._disk.sync_folder(target.parent)

    def roots(self) -> Iterator[bytes]:
        """Give the root of every blob, in order; other files in the folders are passed over."""
        for number in range(256):
            folder = f"{number:02x}"
            for name in sorted(path.name for path in (self._path / folder).iterdir()):
                if _REST.match(name):
                    yield bytes.fromhex(folder + name)

    @contextmanager
    def writer(self, name: str) -> Iterator[LocalBlobWriter]:
        """Begin, or go on with, a blob that arrives in pieces; without `commit` what came is kept for the next time.

        Raises:
            ConflictError: this name is being written already.
        """
        path = self._partial(name)
        with self._lock:
            if name in self._writing:
                raise ConflictError(f"partial blob {name} is being written: wait until that transfer ends")
            self._writing.add(name)
        try:
            with disk_errors(f"partial blob {name}"):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            writer = LocalBlobWriter(self, path, descriptor)
            try:
                yield writer
            finally:
                writer.close()
        finally:
            with self._lock:
                self._writing.discard(name)

    def partials(self) -> list[tuple[str, int]]:
        """Give (name, bytes there) of every blob that has not arrived whole."""
        found = sorted((self._path / _PARTIAL).iterdir())
        return [(path.name, path.stat().st_size) for path in found]

    def discard_partial(self, name: str) -> None:
        """Drop what arrived of a blob that nobody waits for any more."""
        with disk_errors(f"partial blob {name}"):
            self._disk.remove(self._partial(name))

    def _partial(self, name: str) -> Path:
        if not _NAME.match(name):
            raise ValueError("name of a partial blob is not 1 to 128 letters, digits, '-' or '_'")
        return self._path / _PARTIAL / name

    def _place(self, root: bytes) -> Path:
        if len(root) != 32:
            raise ValueError(f"root has {len(root)} bytes, expected 32")
        name = root.hex()
        return self._path / name[:2] / name[2:]

    def _write(self, target: Path, pieces: Iterable[bytes]) -> tuple[Path, int]:
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}{TEMPORARY}")
        size = 0
        descriptor = self._disk.create(temporary)
        try:
            try:
                for piece in pieces:
                    self._disk.write(descriptor, piece)
                    size += len(piece)
            finally:
                os.close(descriptor)
        except BaseException:
            self._drop(temporary)
            raise
        return temporary, size

    def _finish(self, temporary: Path, target: Path) -> None:
        try:
            self._sync(temporary)
            self._disk.rename(temporary, target)
        except OSError:
            self._drop(temporary)
            raise

    def _drop(self, path: Path) -> None:
        with suppress(OSError):
            self._disk.remove(path)

    def _sync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)

    def _put_batch(self, blobs: list[tuple[bytes, bytes]], pool: ThreadPoolExecutor) -> None:
        written: list[tuple[Path, Path]] = []
        with disk_errors(f"{len(blobs)} blobs in {self._path}"):
            try:
                for root, content in blobs:
                    target = self._place(root)
                    written.append((self._write(target, (content,))[0], target))
                # Side by side, so that the file system puts many of them into one commit of its journal.
                for _ in pool.map(self._sync, [temporary for temporary, _ in written]):
                    pass
                for temporary, target in written:
                    self._disk.rename(temporary, target)
            except OSError:
                for temporary, _ in written:
                    self._drop(temporary)
                raise
            for _ in pool.map(self._disk.sync_folder, sorted({target.parent for _, target in written})):
                pass


class LocalBlobWriter:
    """A blob that arrives in pieces in a file of its own; made by `LocalBlobs.writer`."""

    def __init__(self, blobs: LocalBlobs, path: Path, descriptor: int) -> None:
        self._blobs = blobs
        self._path = path
        self._descriptor: int | None = descriptor
        self._length = os.lseek(descriptor, 0, os.SEEK_END)

    @property
    def length(self) -> int:
        """Bytes appended so far, those of earlier attempts included."""
        return self._length

    def append(self, piece: bytes) -> None:
        """Add bytes at the end.

        Raises:
            UnavailableError: the disk is full or failed; what was there before still is.
        """
        descriptor = self._open()
        with disk_errors(f"partial blob {self._path.name}"):
            try:
                os.lseek(descriptor, self._length, os.SEEK_SET)
                self._blobs._disk.write(descriptor, piece)  # noqa: SLF001 - the store's own half
            except OSError:
                with suppress(OSError):
                    self._blobs._disk.cut(descriptor, self._length)  # noqa: SLF001 - as above
                raise
        self._length += len(piece)

    def read(self) -> BinaryIO:
        """Open what is there so far for reading."""
        return self._path.open("rb")

    def truncate(self, length: int) -> None:
        """Drop the bytes from `length` on."""
        if not 0 <= length <= self._length:
            raise ValueError(f"length {length} is outside 0 … {self._length}")
        with disk_errors(f"partial blob {self._path.name}"):
            self._blobs._disk.cut(self._open(), length)  # noqa: SLF001 - a writer is a part of its store
        self._length = length

    def commit(self, root: bytes) -> None:
        """Make the blob durable under its root.

        Raises:
            UnavailableError: the disk is full or failed; what was appended is kept.
        """
        descriptor = self._open()
        target = self._blobs._place(root)  # noqa: SLF001 - a writer is a part of its store
        disk = self._blobs._disk  # noqa: SLF001 - as above
        with disk_errors(f"blob {root.hex()}"):
            disk.sync(descriptor)
            if not _is_at(target, descriptor):  # an earlier commit may have failed behind this step
                disk.rename(self._path, target)
            disk.sync_folder(target.parent)
            disk.sync_folder(self._path.parent)
        self.close()

    def discard(self) -> None:
        """Drop what was appended."""
        self.close()
        with disk_errors(f"partial blob {self._path.name}"):
            self._blobs._disk.remove(self._path)  # noqa: SLF001 - a writer is a part of its store

    def close(self) -> None:
        """Leave the file as it is; `LocalBlobs.writer` does this at its end."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise ConflictError(f"partial blob {self._path.name} is closed: begin another writer")
        return self._descriptor


def _missing(root: bytes) -> NotFoundError:
    return NotFoundError(f"no blob with root {root.hex()} here: fetch it from its custodian")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False

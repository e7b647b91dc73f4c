"""The few calls that make bytes durable, in one class, so that a test can hand in a disk that fails.

Every file that matters is written, synced, renamed, and its folder synced.
Folders are made for the owner only (0700), files too (0600).
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yilian.errors import ConflictError, UnavailableError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
TEMPORARY = ".tmp"


class Disk:
    """The operating system's files; errors come out as `OSError` and are mapped by the store."""

    def create(self, path: Path) -> int:
        """Open a new file for writing, readable by its owner only; FileExistsError where the name is taken."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)

    def write(self, descriptor: int, content: bytes | memoryview) -> None:
        """Write all bytes at the file's position."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        """Return once the bytes and the length of a file are on the device."""
        os.fdatasync(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        """Let a file end after `size` bytes; `sync` makes it last."""
        os.ftruncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, atomically, replacing what bore it."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Take a name away; nothing happens where there is none. `sync_folder` makes it last."""
        path.unlink(missing_ok=True)

    def add_folder(self, folder: Path) -> None:
        """Make one folder for the owner only; nothing happens where it is there. `sync_folder` makes it last."""
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER_MODE)

    def sync_folder(self, folder: Path) -> None:
        """Return once the names in a folder are on the device."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, folder: Path) -> None:
        """Make a folder and what is missing above it, durably; a folder that exists is left as it is."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        self.add_folder(folder)
        self.sync_folder(folder.parent)

    def store(self, path: Path, content: bytes) -> None:
        """Make `path` hold exactly these bytes, durably: after a crash it holds either the old or the new ones."""
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
        descriptor = self.create(temporary)
        try:
            try:
                self.write(descriptor, content)
                self.sync(descriptor)
            finally:
                os.close(descriptor)
            self.rename(temporary, path)
        except OSError:
            with suppress(OSError):
                self.remove(temporary)
            raise
        self.sync_folder(path.parent)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an error of the operating system into an UnavailableError that names the store."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"{what}: {error.strerror or error}, expected a disk that takes bytes: free space or repair it, then repeat"
        ) from error


def lock_folder(folder: Path) -> int:
    """Take the lock of a store's folder until the given descriptor is closed.

    Raises:
        ConflictError: a process, this one included, holds it.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConflictError(f"{folder} is open already, expected it free: stop the other process first") from error
    return descriptor

"""One file operation that goes wrong: as an error, as fewer bytes than asked for, or because the process dies there."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from yilian.storage.disk import Disk


class Kind(StrEnum):
    """What becomes of the operation."""

    FULL = "disk full"
    """Nothing happens but ENOSPC."""
    BROKEN = "input/output error"
    """Nothing happens but EIO."""
    LATE = "error after it was done"
    """It happens, and EIO is told."""
    SHORT = "short write"
    """Half of the bytes; what does not write fails with ENOSPC."""
    KILL_BEFORE = "killed before"
    KILL_AFTER = "killed after"


ERRORS = (Kind.FULL, Kind.BROKEN, Kind.LATE, Kind.SHORT)
KILLS = (Kind.KILL_BEFORE, Kind.KILL_AFTER)


class Faults:
    """Counts the file operations of one store while it is armed, and lets one of them go wrong.

    Args:
        store: what the operations' paths must contain, such as `segments`.
        at: number of the operation that goes wrong, from 0; None only counts.
    """

    def __init__(self, store: str, at: int | None = None, kind: Kind = Kind.BROKEN) -> None:
        self.store, self.at, self.kind = store, at, kind
        self.calls: list[str] = []
        self.has_struck = False
        self._is_armed = False
        self._lock = threading.Lock()

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Count, and strike, until the block ends."""
        self._is_armed = True
        try:
            yield
        finally:
            self._is_armed = False

    def strikes(self, call: str, place: str) -> bool:
        """Count an operation; say whether it is the one that goes wrong."""
        if not self._is_armed or self.store not in place:
            return False
        with self._lock:
            number = len(self.calls)
            self.calls.append(call)
            if number != self.at:
                return False
            self.has_struck = True
        if self.kind == Kind.KILL_BEFORE:
            die()
        return True

    def error(self) -> int:
        """Give the number of the error that is told."""
        return errno.EIO if self.kind in {Kind.BROKEN, Kind.LATE} else errno.ENOSPC


def die() -> None:
    """End this process as a power switch would."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class FaultyDisk(Disk):
    """A disk whose operations may go wrong."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def create(self, path: Path) -> int:
        """Fail, or make a file."""
        made: list[int] = []
        try:
            self._do("create", str(path), lambda: made.append(super(FaultyDisk, self).create(path)))
        except OSError:
            if made:
                os.close(made[0])
            raise
        return made[0]

    def write(self, descriptor: int, content: bytes | memoryview) -> None:
        """Fail, write half, or write."""
        whole = memoryview(content)
        half = whole[: len(whole) // 2]
        write = super().write
        self._do("write", _path(descriptor), lambda: write(descriptor, whole), short=lambda: write(descriptor, half))

    def sync(self, descriptor: int) -> None:
        """Fail or sync."""
        sync = super().sync
        self._do("sync", _path(descriptor), lambda: sync(descriptor))

    def cut(self, descriptor: int, size: int) -> None:
        """Fail or cut."""
        cut = super().cut
        self._do("cut", _path(descriptor), lambda: cut(descriptor, size))

    def rename(self, old: Path, new: Path) -> None:
        """Fail or rename."""
        rename = super().rename
        self._do("rename", str(new), lambda: rename(old, new))

    def remove(self, path: Path) -> None:
        """Fail or remove."""
        remove = super().remove
        self._do("remove", str(path), lambda: remove(path))

    def add_folder(self, folder: Path) -> None:
        """Fail or make a folder."""
        add_folder = super().add_folder
        self._do("add_folder", str(folder), lambda: add_folder(folder))

    def sync_folder(self, folder: Path) -> None:
        """Fail or sync."""
        sync_folder = super().sync_folder
        self._do("sync_folder", str(folder), lambda: sync_folder(folder))

    def _do(
        self, call: str, place: str, done: Callable[[], object], *, short: Callable[[], object] | None = None
    ) -> None:
        faults = self._faults
        if not faults.strikes(call, place):
            done()
            return
        if faults.kind in {Kind.LATE, Kind.KILL_AFTER}:
            done()
        elif faults.kind == Kind.SHORT and short is not None:
            short()
        if faults.kind == Kind.KILL_AFTER:
            die()
        raise OSError(faults.error(), os.strerror(faults.error()))


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())

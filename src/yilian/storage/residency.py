"""Keep mapped files from filling a process's resident memory: the kernel keeps their pages cached anyway.

LMDB maps its whole file, and every page once read counts as resident until somebody needs the memory. On a machine with
little of it the process gives them back itself; a page read again comes from the kernel's cache.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

MADV_DONTNEED = 4
"""Of <sys/mman.h> on Linux: for a shared mapping of a file it forgets no byte, only that the pages are mapped."""
_MAPS = Path("/proc/self/maps")


class MappedFile:
    """The shared mapping of a file in this process as it stands now; nothing where the system lists none."""

    def __init__(self, file: Path) -> None:
        suffix = f" {file.resolve()}"
        self._places: list[tuple[int, int]] = []
        try:
            lines = _MAPS.read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        for line in lines:
            addresses, permissions, *_ = line.split(maxsplit=2)
            if line.endswith(suffix) and permissions.endswith("s"):
                start, end = (int(part, 16) for part in addresses.split("-"))
                self._places.append((start, end - start))
        self._madvise = ctypes.CDLL(None).madvise

    @property
    def size(self) -> int:
        """Bytes of address space."""
        return sum(length for _, length in self._places)

    def release(self) -> None:
        """Let no page be resident; the next read of one maps it again. The file must be mapped still."""
        for start, length in self._places:
            self._madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_DONTNEED)

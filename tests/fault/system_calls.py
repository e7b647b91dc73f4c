"""Failing system calls below libraries that are not ours: LMDB and SQLite.

Their calls into the C library go through addresses that the loader filled in; here these addresses are replaced by
functions of this process. So neither a compiler nor `ptrace` is needed. Linux, ELF with 64 bits, x86-64 or AArch64.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fault.faults import Faults, Kind, die

LMDB = ("/lmdb/cpython",)
SQLITE = ("/libsqlite3.so", "/_sqlite3.cpython", "/libpython3", os.path.realpath(sys.executable))
"""Parts of paths: of files that are mapped, the first is the one with the library in it."""
# Every call by which either changes a file: its return type, and whether its third argument is a number of bytes.
_CALLS = {
    "write": (ctypes.c_ssize_t, True),
    "pwrite": (ctypes.c_ssize_t, True),
    "pwrite64": (ctypes.c_ssize_t, True),
    "writev": (ctypes.c_ssize_t, False),
    "fdatasync": (ctypes.c_int, False),
    "fsync": (ctypes.c_int, False),
    "ftruncate": (ctypes.c_int, False),
    "ftruncate64": (ctypes.c_int, False),
    "unlink": (ctypes.c_int, False),
}
_WORDS = (ctypes.c_ssize_t,) * 4
# Relocations that hold an address of a symbol: absolute, GLOB_DAT, JUMP_SLOT.
_ADDRESSES = {"x86_64": {1, 6, 7}, "aarch64": {257, 1025, 1026}}
_RELA = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD, _DYNAMIC, _FIXED = 1, 2, 2
_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 5, 6, 7, 8, 23


def why_not(library: tuple[str, ...]) -> str | None:
    """Say what is missing for failing the calls of a library that is loaded, None where it can be done."""
    if sys.platform != "linux" or platform.machine() not in _ADDRESSES:
        return f"system calls are replaced on Linux, x86-64 or AArch64, this is {sys.platform} {platform.machine()}"
    if _mapped(library) is None:
        return f"none of {', '.join(library)} is loaded"
    return None


@contextmanager
def failing(library: tuple[str, ...], faults: Faults) -> Iterator[None]:
    """Lead the file operations of a library that is loaded through `faults` until the block ends."""
    found = _mapped(library)
    if found is None:
        raise RuntimeError(why_not(library))
    kept = []
    before: list[tuple[int, int]] = []
    for address, name in _slots(*found):
        function = _replacement(name, faults)
        kept.append(function)
        before.append((address, ctypes.c_uint64.from_address(address).value))
        _store(address, ctypes.cast(function, ctypes.c_void_p).value or 0)
    try:
        yield
    finally:
        for address, value in before:
            _store(address, value)


def _replacement(name: str, faults: Faults) -> object:
    returned, counts_bytes = _CALLS[name]
    real = ctypes.CDLL(None, use_errno=True)[name]
    real.restype, real.argtypes = returned, _WORDS

    def called(first: int, second: int, third: int, fourth: int) -> int:
        if not faults.strikes(name, _place(name, first)):
            return int(real(first, second, third, fourth))
        if faults.kind == Kind.SHORT and counts_bytes:
            return int(real(first, second, third // 2, fourth))
        if faults.kind in {Kind.LATE, Kind.KILL_AFTER}:
            real(first, second, third, fourth)
        if faults.kind == Kind.KILL_AFTER:
            die()
        ctypes.set_errno(faults.error())
        return -1

    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, *_WORDS, use_errno=True)(called)


def _place(name: str, first: int) -> str:
    if name == "unlink":
        return os.fsdecode(ctypes.string_at(first))
    try:
        return str(Path(f"/proc/self/fd/{first}").readlink())
    except OSError:
        return ""


def _mapped(library: tuple[str, ...]) -> tuple[Path, int] | None:
    """Give the file that holds a loaded library, and the address of its first byte."""
    starts = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and int(offset, 16) == 0:
            starts.setdefault(path[0], int(span.partition("-")[0], 16))
    return next(((Path(path), start) for part in library for path, start in starts.items() if part in path), None)


def _slots(path: Path, base: int) -> Iterator[tuple[int, str]]:
    """Give the addresses at which a library keeps where the calls are, with their names."""
    image = path.read_bytes()
    loads, dynamic = _segments(image)
    if struct.unpack_from("<H", image, 16)[0] == _FIXED:
        base = 0

    def offset(address: int) -> int:
        return next(at + address - start for start, size, at in loads if start <= address < start + size)

    symbols, names = offset(dynamic[_DT_SYMTAB]), offset(dynamic[_DT_STRTAB])
    for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
        if table not in dynamic:
            continue
        start = offset(dynamic[table])
        for place, info, _ in _RELA.iter_unpack(image[start : start + dynamic[size]]):
            if info & 0xFFFFFFFF not in _ADDRESSES[platform.machine()]:
                continue
            name_at = names + _SYMBOL.unpack_from(image, symbols + (info >> 32) * _SYMBOL.size)[0]
            name = image[name_at : image.index(b"\0", name_at)].decode()
            if name in _CALLS:
                yield base + place, name


def _segments(image: bytes) -> tuple[list[tuple[int, int, int]], dict[int, int]]:
    """Give the loaded parts of an image as (address, size, offset), and its dynamic section."""
    (headers,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic: dict[int, int] = {}
    for number in range(count):
        kind, _, at, address, _, in_file, _, _ = _SEGMENT.unpack_from(image, headers + number * size)
        if kind == _LOAD:
            loads.append((address, in_file, at))
        elif kind == _DYNAMIC:
            dynamic = dict(struct.iter_unpack("<QQ", image[at : at + in_file]))
    return loads, dynamic


def _store(address: int, value: int) -> None:
    page = address & ~(mmap.PAGESIZE - 1)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    # a word never lies across two pages, since it is aligned
    if libc.mprotect(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.c_uint64.from_address(address).value = value

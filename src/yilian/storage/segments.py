"""The chain of blocks in append-only segment files, each block with its length and checksum, synced before it counts.

A record is length (4 bytes, big-endian) ‖ CRC-32 (4) ‖ height (8, big-endian) ‖ block. The checksum covers length,
height and block. Files are named 00000001.seg, 00000002.seg … and hold heights without a gap.
A crash can leave one incomplete record, at the very end: opening drops it. Anything else is damage, and is never
repaired in silence.

Heights start at 1, or at the base that a file `base` names: older segments were pruned, or the store began with a
snapshot. A segment below the base is one that pruning did not get to remove.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from yilian.storage.disk import Disk, disk_errors, lock_folder

SEGMENT_BYTES = 64 * 1024 * 1024
MAX_BLOCK_BYTES = 2**31 - 1
SUFFIX = ".seg"
BASE_FILE = "base"
_HEADER = struct.Struct(">IIQ")
_LENGTH_AND_HEIGHT = struct.Struct(">IQ")
# So many heights are looked for behind a bad record, to tell a torn end from damage in the middle.
_LOOK_AHEAD = 8


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """A record that does not hold. `is_torn_end`: nothing valid follows, so a crash may have left it."""

    segment: str
    offset: int
    height: int
    """The height that should stand there."""
    is_torn_end: bool
    found: str

    def __str__(self) -> str:
        return (
            f"segment {self.segment}, offset {self.offset}: {self.found}, expected block {self.height}: "
            "fetch the blocks from another holder or restore the segment from a backup"
        )


class _Segment:
    """One file: the offsets of its records, and its valid length in bytes."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        self.offsets = array("Q")
        self.size = 0


class SegmentBlocks:
    """The `Blocks` port in segment files; one open instance a folder, one thread appends, any thread reads.

    Args:
        path: folder, made where it is absent.
        segment_bytes: size at which a new file is begun.
        committed: height that the state has executed; no record at or below it is ever dropped as torn.
        disk: how bytes reach the device.

    Raises:
        VerificationError: a damaged record that is not a torn end; names segment and offset.
        ConflictError: the folder is open already.
        UnavailableError: the disk failed.
    """

    def __init__(
        self, path: Path, *, segment_bytes: int = SEGMENT_BYTES, committed: int = 0, disk: Disk | None = None
    ) -> None:
        self._path = path
        self._segment_bytes = segment_bytes
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._tail: int | None = None
        self.dropped: Damage | None = None
        """The torn record that opening dropped, None where the end was whole."""
        with disk_errors(f"block store {path}"):
            self._disk.make_folder(path)
            self._folder_lock = lock_folder(path)
            try:
                self._base = read_base(path)
                self._segments = self._load(committed)
            except BaseException:
                os.close(self._folder_lock)
                raise

    def append(self, height: int, block: bytes) -> None:
        """Make a block durable; return only after it is.

        Raises:
            ConflictError: the height is not the next one.
            UnavailableError: the disk is full or failed; the block is not there.
        """
        if not 0 < len(block) <= MAX_BLOCK_BYTES:
            raise ValueError(f"block {height} has {len(block)} bytes, expected 1 to {MAX_BLOCK_BYTES}")
        with self._lock:
            if self._failure is not None:
                raise UnavailableError(f"block store {self._path} failed before ({self._failure}): open it again")
            last = self._last_height()
            if height != last + 1:
                raise ConflictError(f"block {height} came after block {last}: append block {last + 1}")
            record = _HEADER.pack(len(block), _checksum(height, block), height) + block
            with disk_errors(f"block {height} in {self._path}"):
                segment = self._segment_for(height, len(record))
                self._write(segment, record)
            segment.offsets.append(segment.size)
            segment.size += len(record)

    def read(self, height: int) -> bytes:
        """Give the bytes of one block, checked against its length and checksum.

        Raises:
            NotFoundError: no such height.
            VerificationError: the stored bytes do not hold; names segment and offset.
            UnavailableError: the disk failed.
        """
        with self._lock:
            segment, offset, end = self._place(height)
        with disk_errors(f"block {height} in {self._path}"), segment.path.open("rb") as file:
            file.seek(offset)
            record = file.read(end - offset)
        found = _fault(record, 0, height)
        if found is not None:
            raise VerificationError(
                str(Damage(segment=segment.path.name, offset=offset, height=height, is_torn_end=False, found=found))
            )
        return record[_HEADER.size :]

    def last_height(self) -> int:
        """Give the newest height, 0 where there is no block."""
        with self._lock:
            return self._last_height()

    def first_height(self) -> int:
        """Give the height of the oldest block that is kept, or would be: 1, unless older ones were pruned."""
        return self._base

    def can_prune_below(self, height: int) -> bool:
        """Say whether a segment holds only blocks below `height`."""
        with self._lock:
            return any(self._base < each.first <= height for each in self._segments)

    def prune_below(self, height: int) -> int:
        """Remove the segments that hold only blocks below `height`, durably, and give the oldest height kept.

        The base is written first: after a crash opening removes what was left. The newest segment always stays.
        """
        with self._lock, disk_errors(f"block store {self._path}"):
            kept = [each.first for each in self._segments if each.first <= height]
            if not kept or kept[-1] <= self._base:
                return self._base
            write_base(self._path, kept[-1], self._disk)
            self._base = kept[-1]
            while self._segments[0].first < self._base:
                self._disk.remove(self._segments.pop(0).path)
            self._disk.sync_folder(self._path)
            return self._base

    def truncate_after(self, height: int) -> None:
        """Drop the blocks above `height`, from the newest down, durably."""
        with self._lock, disk_errors(f"block store {self._path}"):
            self._close_tail()
            while len(self._segments) > 1 and self._segments[-1].first > height:
                self._disk.remove(self._segments.pop().path)
                self._disk.sync_folder(self._path)
            if not self._segments:
                return
            segment = self._segments[-1]
            kept = max(0, height + 1 - segment.first)
            if kept < len(segment.offsets):
                size = segment.offsets[kept]
                _cut(self._disk, segment.path, size)
                del segment.offsets[kept:]
                segment.size = size

    def close(self) -> None:
        """Release files and locks; a second close does nothing."""
        with self._lock:
            self._close_tail()
            if self._folder_lock >= 0:
                os.close(self._folder_lock)
                self._folder_lock = -1
            self._failure = "it was closed"

    def _load(self, committed: int) -> list[_Segment]:
        segments: list[_Segment] = []
        height = self._base
        paths = _segment_paths(self._path)
        while len(paths) > 1 and 0 < _first_height(paths[0]) < self._base:
            self._disk.remove(paths.pop(0))
        for path in paths:
            segment, damage = _scan(path, height, is_last=path == paths[-1], thorough=path == paths[-1])
            if damage is not None:
                if not damage.is_torn_end or damage.height <= committed:
                    raise VerificationError(str(damage))
                _cut(self._disk, path, segment.size)
                self.dropped = damage
            segments.append(segment)
            height += len(segment.offsets)
        if height <= committed:
            raise VerificationError(
                f"block store {self._path} ends at block {height - 1}, the state is at {committed}: "
                "the disk lost blocks, fetch them from another holder or restore a backup"
            )
        return segments

    def _last_height(self) -> int:
        if not self._segments:
            return self._base - 1
        return self._segments[-1].first + len(self._segments[-1].offsets) - 1

    def _place(self, height: int) -> tuple[_Segment, int, int]:
        if not self._base <= height <= self._last_height():
            raise NotFoundError(f"block {height} is not among {self._base} … {self._last_height()}: name one of these")
        segment = self._segments[bisect_right(self._segments, height, key=lambda each: each.first) - 1]
        at = height - segment.first
        end = segment.offsets[at + 1] if at + 1 < len(segment.offsets) else segment.size
        return segment, segment.offsets[at], end

    def _segment_for(self, height: int, size: int) -> _Segment:
        if self._segments:
            segment = self._segments[-1]
            if not segment.offsets or segment.size + size <= self._segment_bytes:
                return segment
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 1
        self._close_tail()
        segment = _Segment(self._path / f"{number:08}{SUFFIX}", height)
        os.close(self._disk.create(segment.path))
        try:
            self._disk.sync_folder(self._path)
        except OSError:
            with suppress(OSError):
                self._disk.remove(segment.path)
            raise
        self._segments.append(segment)
        return segment

    def _write(self, segment: _Segment, record: bytes) -> None:
        if self._tail is None:
            self._tail = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.lseek(self._tail, segment.size, os.SEEK_SET)
            self._disk.write(self._tail, record)
        except OSError:
            self._take_back(segment)
            raise
        try:
            self._disk.sync(self._tail)
        except OSError as error:
            # After a failed sync the kernel may believe that the bytes are down: only a new open tells the truth.
            self._failure = f"sync of {segment.path.name} failed: {error.strerror}"
            self._take_back(segment)
            raise

    def _take_back(self, segment: _Segment) -> None:
        try:
            _cut(self._disk, segment.path, segment.size)
        except OSError as error:
            self._failure = f"cutting {segment.path.name} back to {segment.size} bytes failed: {error.strerror}"

    def _close_tail(self) -> None:
        if self._tail is not None:
            with suppress(OSError):
                os.close(self._tail)
            self._tail = None


def read_base(path: Path) -> int:
    """Give the height of the oldest block that a folder of segments keeps.

    Raises:
        VerificationError: the file that says so is damaged.
    """
    file = path / BASE_FILE
    if not file.is_file():
        return 1
    height, _, checksum = file.read_text(encoding="ascii", errors="replace").strip().partition(" ")
    if not height.isdecimal() or checksum != f"{zlib.crc32(height.encode()):08x}":
        raise VerificationError(f"{file} does not hold, expected a height and its checksum: restore it from a backup")
    return int(height)


def write_base(path: Path, height: int, disk: Disk | None = None) -> None:
    """Say, durably, that a folder of segments keeps blocks from `height` on."""
    (disk or Disk()).store(path / BASE_FILE, f"{height} {zlib.crc32(str(height).encode()):08x}\n".encode())


def find_damage(path: Path) -> Iterator[Damage]:
    """Read every record of a folder of segments and give what does not hold, without changing anything.

    A torn end (at most one, the last) may come from a crash, if the state has not executed its height.
    After damage in the middle of a segment the rest of that segment is looked through from the next valid record.

    Raises:
        UnavailableError: the disk failed.
    """
    height = read_base(path)
    lost_count = False
    paths = [file for file in _segment_paths(path) if not 0 < _first_height(file) < height]
    for file in paths:
        start = 0
        if lost_count:
            height = max(height, _first_height(file))
            lost_count = False
        while True:
            with disk_errors(f"block store {path}"):
                segment, damage = _scan(file, height, is_last=file == paths[-1], thorough=True, start=start)
            height += len(segment.offsets)
            if damage is None:
                break
            yield damage
            resumed = _next_valid(file, damage.offset, damage.height)
            if resumed is None:
                height += 1
                lost_count = True
                break
            start, height = resumed


def _scan(path: Path, first: int, *, is_last: bool, thorough: bool, start: int = 0) -> tuple[_Segment, Damage | None]:
    segment = _Segment(path, first)
    segment.size = start
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return segment, None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            while segment.size < size:
                height = first + len(segment.offsets)
                found = _fault(content, segment.size, height) if thorough else _misfit(content, segment.size, height)
                if found is not None:
                    torn = is_last and _follower(content, segment.size, height) is None
                    return segment, Damage(
                        segment=path.name, offset=segment.size, height=height, is_torn_end=torn, found=found
                    )
                segment.offsets.append(segment.size)
                segment.size += _HEADER.size + _HEADER.unpack_from(content, segment.size)[0]
    return segment, None


def _misfit(content: bytes | mmap.mmap, offset: int, height: int) -> str | None:
    """Say what is wrong with a record's header, None where it fits."""
    rest = len(content) - offset
    if rest < _HEADER.size:
        return f"{rest} bytes are left, a header has {_HEADER.size}"
    length, _, stored = _HEADER.unpack_from(content, offset)
    if stored != height:
        return f"the record says block {stored}"
    if rest - _HEADER.size < length:
        return f"the record says {length} bytes, {rest - _HEADER.size} are left"
    return None


def _fault(content: bytes | mmap.mmap, offset: int, height: int) -> str | None:
    """Say what is wrong with a record, None where length, height and checksum hold."""
    found = _misfit(content, offset, height)
    if found is not None:
        return found
    length, checksum, _ = _HEADER.unpack_from(content, offset)
    body = offset + _HEADER.size
    if _checksum(height, content[body : body + length]) != checksum:
        return "the checksum does not match"
    return None


def _follower(content: bytes | mmap.mmap, offset: int, height: int) -> tuple[int, int] | None:
    """Give (offset, height) of the first valid record behind a bad one."""
    for later in range(height + 1, height + 1 + _LOOK_AHEAD):
        wanted = later.to_bytes(8)
        at = content.find(wanted, offset + 8)
        while at != -1:
            if _fault(content, at - 8, later) is None:
                return at - 8, later
            at = content.find(wanted, at + 1)
    return None


def _first_height(path: Path) -> int:
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    return _HEADER.unpack(header)[2] if len(header) == _HEADER.size else 0


def _next_valid(path: Path, offset: int, height: int) -> tuple[int, int] | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _follower(content, offset, height)


def _checksum(height: int, block: bytes) -> int:
    return zlib.crc32(block, zlib.crc32(_LENGTH_AND_HEIGHT.pack(len(block), height)))


def _segment_paths(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{SUFFIX}"))


def _cut(disk: Disk, path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        disk.cut(descriptor, size)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)

"""A disk that is full or fails: nothing half-written stays, what was acknowledged stays, and it goes on afterwards."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yilian.errors import UnavailableError
from yilian.storage.blobs import LocalBlobs
from yilian.storage.disk import Disk
from yilian.storage.segments import SegmentBlocks, find_damage

ROOT, OTHER = b"\x01" * 32, b"\x02" * 32


class FailingDisk(Disk):
    """A disk with so many bytes left, on which the calls named in `failing` fail."""

    def __init__(self) -> None:
        self.bytes_left = 1 << 40
        self.failing: frozenset[str] = frozenset()

    def write(self, descriptor: int, content: bytes | memoryview) -> None:
        fitting = memoryview(content)[: self.bytes_left]
        super().write(descriptor, fitting)
        self.bytes_left -= len(fitting)
        if len(fitting) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self, descriptor: int) -> None:
        self._fail("sync")
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._fail("rename")
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self._fail("sync_folder")
        super().sync_folder(folder)

    def _fail(self, call: str) -> None:
        if call in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


@pytest.mark.parametrize("room", [0, 1, 15, 16, 20])
def test_a_block_that_does_not_fit_is_not_there_and_fits_later(tmp_path: Path, room: int) -> None:
    disk = FailingDisk()
    blocks = SegmentBlocks(tmp_path, disk=disk)
    blocks.append(1, b"first")
    disk.bytes_left = room
    with pytest.raises(UnavailableError, match="No space left"):
        blocks.append(2, b"second")
    assert (blocks.last_height(), (tmp_path / "00000001.seg").stat().st_size) == (1, 21)
    disk.bytes_left = 1 << 20
    blocks.append(2, b"second")
    assert (blocks.read(1), blocks.read(2), list(find_damage(tmp_path))) == (b"first", b"second", [])
    blocks.close()


def test_after_a_failed_sync_the_store_must_be_opened_again(tmp_path: Path) -> None:
    disk = FailingDisk()
    blocks = SegmentBlocks(tmp_path, disk=disk)
    blocks.append(1, b"first")
    disk.failing = frozenset({"sync"})
    with pytest.raises(UnavailableError, match="Input/output error"):
        blocks.append(2, b"second")
    disk.failing = frozenset()
    with pytest.raises(UnavailableError, match="open it again"):
        blocks.append(2, b"second")
    assert blocks.read(1) == b"first"
    blocks.close()
    again = SegmentBlocks(tmp_path, committed=1)
    again.append(2, b"second")
    assert again.last_height() == 2
    again.close()


def test_a_new_segment_whose_name_is_not_durable_is_not_used(tmp_path: Path) -> None:
    disk = FailingDisk()
    blocks = SegmentBlocks(tmp_path, segment_bytes=32, disk=disk)
    blocks.append(1, b"first")
    disk.failing = frozenset({"sync_folder"})
    with pytest.raises(UnavailableError):
        blocks.append(2, b"a second block")
    assert files(tmp_path) == ["00000001.seg"]
    disk.failing = frozenset()
    blocks.append(2, b"a second block")
    assert (files(tmp_path), blocks.read(2)) == (["00000001.seg", "00000002.seg"], b"a second block")
    blocks.close()


@pytest.mark.parametrize("failing", ["write", "sync", "rename"])
def test_a_blob_that_cannot_be_stored_leaves_the_old_one(tmp_path: Path, failing: str) -> None:
    disk = FailingDisk()
    blobs = LocalBlobs(tmp_path, disk=disk)
    blobs.put(ROOT, b"old")
    disk.failing = frozenset({failing})
    disk.bytes_left = 2 if failing == "write" else 1 << 20
    with pytest.raises(UnavailableError):
        blobs.put(ROOT, b"newer")
    with blobs.open(ROOT) as file:
        assert (file.read(), files(tmp_path)) == (b"old", ["01" * 31])


@pytest.mark.parametrize("failing", ["write", "sync", "rename"])
def test_an_import_that_fails_leaves_no_half_blob(tmp_path: Path, failing: str) -> None:
    disk = FailingDisk()
    blobs = LocalBlobs(tmp_path, disk=disk)
    disk.failing = frozenset({failing})
    disk.bytes_left = 7 if failing == "write" else 1 << 20
    with pytest.raises(UnavailableError):
        blobs.put_many([(ROOT, b"first"), (OTHER, b"second")])
    assert files(tmp_path) == []


def test_a_transfer_keeps_what_came_before_the_disk_was_full(tmp_path: Path) -> None:
    disk = FailingDisk()
    blobs = LocalBlobs(tmp_path, disk=disk)
    with blobs.writer("transfer-1") as writer:
        writer.append(b"sea")
        disk.bytes_left = 1
        with pytest.raises(UnavailableError, match="No space left"):
            writer.append(b"led")
        disk.bytes_left = 1 << 20
    with blobs.writer("transfer-1") as writer:
        assert writer.length == 3
        writer.append(b"led")
        disk.failing = frozenset({"rename"})
        with pytest.raises(UnavailableError):
            writer.commit(ROOT)
        disk.failing = frozenset()
        writer.commit(ROOT)
    assert blobs.size(ROOT) == 6


def test_a_stored_file_is_old_or_new(tmp_path: Path) -> None:
    disk = FailingDisk()
    disk.store(tmp_path / "file", b"old")
    disk.bytes_left = 1
    with pytest.raises(OSError, match="No space left"):
        disk.store(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


FILLED = """
import resource, signal, sys
from pathlib import Path
from yilian.errors import UnavailableError
from yilian.ledger.ports import Batch
from yilian.storage.lmdb import LmdbState

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = LmdbState(Path(sys.argv[1]))
def batch(height, rows):
    keys = {(height << 32 | part).to_bytes(32): b"r" * 200 for part in range(rows)}
    return Batch(height=height, rows=keys, tiles={}, leaves=b"", head=b"%d" % height)
state.write(batch(1, 10))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    state.write(batch(2, 5_000))
except UnavailableError:
    pass
else:
    sys.exit("a batch larger than the disk was written")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert (state.head(), len(list(state.scan(b"", None)))) == (b"1", 10)
state.write(batch(2, 5_000))
assert (state.head(), len(list(state.scan(b"", None)))) == (b"2", 5_010)
"""


def test_a_state_that_the_disk_has_no_room_for_is_not_written_and_is_later(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

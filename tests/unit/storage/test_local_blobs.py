"""What LocalBlobs does beyond the port: files, sweeping, arriving blobs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from yilian.errors import ConflictError
from yilian.storage.blobs import LocalBlobs

ROOT = b"\xab" * 32


def test_a_blob_is_a_file_of_the_owner_named_by_its_root(tmp_path: Path) -> None:
    LocalBlobs(tmp_path / "blobs").put(ROOT, b"sealed")
    path = tmp_path / "blobs" / "ab" / ("ab" * 31)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"sealed", 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_opening_sweeps_temporary_files_and_keeps_arriving_blobs(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    with blobs.writer("transfer-1") as writer:
        writer.append(b"sea")
    left = tmp_path / "ab" / ("ab" * 31 + ".0123.tmp")
    left.write_bytes(b"half")
    assert list(blobs.roots()) == []
    again = LocalBlobs(tmp_path)
    assert (left.exists(), again.partials()) == (False, [("transfer-1", 3)])
    again.discard_partial("transfer-1")
    assert again.partials() == []


def test_what_raises_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)

    def pieces() -> object:
        yield b"first"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        blobs.put(ROOT, pieces())  # type: ignore[arg-type] # a generator typed as object
    assert list((tmp_path / "ab").iterdir()) == []


def test_a_committed_writer_takes_nothing_more(tmp_path: Path) -> None:
    with LocalBlobs(tmp_path).writer("transfer-1") as writer:
        writer.append(b"sealed")
        writer.commit(ROOT)
        with pytest.raises(ConflictError):
            writer.append(b"more")


@pytest.mark.parametrize("length", [-1, 4])
def test_a_writer_is_cut_only_inside_its_length(tmp_path: Path, length: int) -> None:
    with LocalBlobs(tmp_path).writer("transfer-1") as writer:
        writer.append(b"sea")
        with pytest.raises(ValueError, match="outside"):
            writer.truncate(length)

"""The calls that make bytes durable."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from yilian.errors import ConflictError, UnavailableError
from yilian.storage.disk import Disk, disk_errors, lock_folder


def test_a_stored_file_holds_the_bytes_and_leaves_no_other(tmp_path: Path) -> None:
    Disk().store(tmp_path / "file", b"old")
    Disk().store(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_folders_are_made_for_the_owner(tmp_path: Path) -> None:
    Disk().make_folder(tmp_path / "a" / "b")
    Disk().make_folder(tmp_path / "a" / "b")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]


def test_an_error_of_the_disk_names_the_store(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="blob store: No such file"), disk_errors("blob store"):
        (tmp_path / "none").read_bytes()


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    held = lock_folder(tmp_path)
    with pytest.raises(ConflictError, match="open already"):
        lock_folder(tmp_path)
    os.close(held)
    os.close(lock_folder(tmp_path))

"""A receipt's file is whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from yilian.cli.proof import write_whole
from yilian.errors import SettingsError, UnavailableError


def test_a_file_takes_the_place_of_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"before")

    write_whole(tmp_path / "one", b"after")

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"one": b"after"}


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space left on device: free the disk"):
        write_whole(tmp_path / "one", b"after")

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"one": b"before"}


@pytest.mark.parametrize("name", [".", "no/such/folder/one"])
def test_what_is_no_place_for_a_file_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="with -o"):
        write_whole(tmp_path / name, b"after")

    assert list(tmp_path.iterdir()) == []

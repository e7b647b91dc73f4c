"""Pages of a mapped file are given back, and read again unchanged."""

from __future__ import annotations

import mmap
from contextlib import closing
from pathlib import Path

from yilian.ledger.ports import Batch
from yilian.storage.lmdb import LmdbState
from yilian.storage.residency import MappedFile

SIZE = 1 << 20


def _state(number: int) -> Batch:
    rows: dict[bytes, bytes | None] = {bytes([number]) * 31 + bytes([each]): bytes([each]) * 300 for each in range(200)}
    return Batch(height=number, rows=rows, tiles={}, leaves=b"", head=bytes([number]))


def test_released_pages_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x07" * SIZE)
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)) as content:
        before = content[:]
        mapped = MappedFile(path)
        mapped.release()

        assert mapped.size == SIZE
        assert content[:] == before


def test_a_file_that_is_not_mapped_has_nothing_to_release(tmp_path: Path) -> None:
    mapped = MappedFile(tmp_path / "none")
    mapped.release()

    assert mapped.size == 0


def test_a_lean_store_holds_what_was_written_through_growth_and_close(tmp_path: Path) -> None:
    with closing(LmdbState(tmp_path / "state", map_size=1 << 18)) as state:
        state.keep_lean()
        for number in range(1, 9):
            state.write(_state(number))
        found = [state.get(key) for key in _state(3).rows]
        scanned = sum(1 for _ in state.scan(b"", None))

    assert found == list(_state(3).rows.values())
    assert scanned == 8 * 200

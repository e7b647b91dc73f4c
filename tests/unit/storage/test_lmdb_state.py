"""What LmdbState does beyond the port."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from yilian.ledger.ports import Batch
from yilian.storage import lmdb
from yilian.storage.lmdb import LmdbState

SMALL = 1 << 18


def big_batch(height: int, rows: int = 2_000) -> Batch:
    keys = {(height << 32 | index).to_bytes(32): b"r" * 200 for index in range(rows)}
    return Batch(height=height, rows=keys, tiles={}, leaves=b"leaves", head=b"head %d" % height)


def test_a_full_map_grows_by_itself(tmp_path: Path) -> None:
    state = LmdbState(tmp_path, map_size=SMALL, max_map_size=1 << 24)
    state.write(big_batch(1))
    assert (len(list(state.scan(b"", None))), state.head()) == (2_000, b"head 1")
    state.close()


def test_at_the_cap_nothing_of_the_batch_is_written(tmp_path: Path) -> None:
    state = LmdbState(tmp_path, map_size=SMALL, max_map_size=SMALL)
    state.write(big_batch(1, rows=10))
    with pytest.raises(UnavailableError, match="raise the cap"):
        state.write(big_batch(2))
    assert (len(list(state.scan(b"", None))), state.head(), state.leaves(2)) == (10, b"head 1", None)
    state.write(big_batch(2, rows=10))
    assert state.head() == b"head 2"
    state.close()


def test_the_map_does_not_move_under_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb, "_GROWTH_WAIT_S", 0.01)
    state = LmdbState(tmp_path, map_size=SMALL, max_map_size=1 << 24)
    state.write(big_batch(1, rows=10))
    scan = state.scan(b"", None)
    next(scan)
    with pytest.raises(UnavailableError, match="1 reads"):
        state.write(big_batch(2))
    assert len(list(scan)) == 9
    state.write(big_batch(2))
    assert state.head() == b"head 2"
    state.close()


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    state = LmdbState(tmp_path)
    state.write(big_batch(1))
    state.close()
    state.close()
    again = LmdbState(tmp_path, map_size=SMALL)
    assert (len(list(again.scan(b"", None))), again.leaves(1)) == (2_000, b"leaves")
    again.close()


def test_a_process_opens_a_store_once(tmp_path: Path) -> None:
    state = LmdbState(tmp_path)
    with pytest.raises(ConflictError):
        LmdbState(tmp_path)
    state.close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    LmdbState(tmp_path / "new").close()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new", tmp_path / "new" / "data.mdb")]
    assert modes == [0o700, 0o600]


def test_a_store_opened_for_reading_reads_and_refuses_to_write(tmp_path: Path) -> None:
    state = LmdbState(tmp_path)
    state.write(big_batch(1, rows=3))
    state.close()
    before = (tmp_path / "data.mdb").read_bytes()
    reading = LmdbState.reading(tmp_path)
    assert (len(list(reading.scan(b"", None))), reading.head()) == (3, b"head 1")
    with pytest.raises(UnavailableError):
        reading.write(big_batch(2, rows=1))
    reading.close()
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_reading_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        LmdbState.reading(tmp_path / "none")


def test_a_file_of_another_kind_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"\xaa" * 16_384)
    with pytest.raises(VerificationError, match="damaged"):
        LmdbState(tmp_path)

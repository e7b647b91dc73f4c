"""One suite over every adapter of the `State` port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from yilian.ledger.ports import Batch, State
from yilian.storage.lmdb import LmdbState
from yilian.testing.stores import MemoryState

A, B, C, D = (bytes([first]) + bytes(31) for first in (0x00, 0x10, 0x11, 0xFF))
SAME_BUCKET_AS_B = B[:31] + b"\x01"


@pytest.fixture(params=["lmdb", "memory"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    store: State = LmdbState(tmp_path / "state") if request.param == "lmdb" else MemoryState()
    yield store
    store.close()


def batch(height: int = 1, rows: dict[bytes, bytes | None] | None = None, leaves: bytes = b"") -> Batch:
    return Batch(height=height, rows=rows or {}, tiles={}, leaves=leaves, head=b"head %d" % height)


def test_an_empty_state_has_nothing(state: State) -> None:
    assert (state.get(A), state.tile(0, 0), state.leaves(1), state.head()) == (None, None, None, None)
    assert list(state.scan(b"", None)) == []


def test_a_batch_is_read_back_whole(state: State) -> None:
    state.write(Batch(height=7, rows={A: b"a", D: b""}, tiles={(0, 0): b"t", (1, 2**40): b"u"}, leaves=b"l", head=b"h"))
    assert (state.get(A), state.get(D), state.get(B)) == (b"a", b"", None)
    assert (state.tile(0, 0), state.tile(1, 2**40), state.tile(0, 2**40)) == (b"t", b"u", None)
    assert (state.leaves(7), state.leaves(6), state.head()) == (b"l", None, b"h")


def test_a_later_batch_replaces_and_removes(state: State) -> None:
    state.write(Batch(height=1, rows={A: b"1", B: b"1"}, tiles={(0, 0): b"old"}, leaves=b"", head=b"h1"))
    state.write(Batch(height=2, rows={A: None, B: b"2", C: None}, tiles={(0, 0): b"new"}, leaves=b"", head=b"h2"))
    assert (state.get(A), state.get(B), state.get(C)) == (None, b"2", None)
    assert (state.tile(0, 0), state.head(), list(state.scan(b"", None))) == (b"new", b"h2", [(B, b"2")])


def test_a_block_without_leaves_has_none(state: State) -> None:
    state.write(batch(height=3))
    assert state.leaves(3) is None


def test_a_scan_gives_rows_in_order_of_key(state: State) -> None:
    state.write(batch(rows={D: b"d", SAME_BUCKET_AS_B: b"b+", B: b"b", A: b"a", C: b"c"}))
    assert [row for _, row in state.scan(b"", None)] == [b"a", b"b", b"b+", b"c", b"d"]


@pytest.mark.parametrize(
    ("start", "stop", "rows"),
    [
        pytest.param(B, C, [b"b", b"b+"], id="start-is-in-stop-is-not"),
        pytest.param(SAME_BUCKET_AS_B, C, [b"b+"], id="start-inside-a-bucket"),
        pytest.param(B, SAME_BUCKET_AS_B, [b"b"], id="stop-inside-a-bucket"),
        pytest.param(b"\x10", b"\x12", [b"b", b"b+", b"c"], id="prefixes"),
        pytest.param(C, None, [b"c", b"d"], id="to-the-end"),
        pytest.param(C, C, [], id="nothing-between"),
        pytest.param(D, B, [], id="backwards"),
        pytest.param(b"\xff\xff", None, [], id="behind-the-last"),
    ],
)
def test_a_scan_keeps_its_bounds(state: State, start: bytes, stop: bytes | None, rows: list[bytes]) -> None:
    state.write(batch(rows={A: b"a", B: b"b", SAME_BUCKET_AS_B: b"b+", C: b"c", D: b"d"}))
    assert [row for _, row in state.scan(start, stop)] == rows


def test_a_scan_sees_one_state_though_another_is_written(state: State) -> None:
    state.write(batch(rows={A: b"1", B: b"1", D: b"1"}))
    scan = state.scan(b"", None)
    first = next(scan)
    state.write(batch(height=2, rows={B: b"2", C: b"2", D: None}))
    assert [first, *scan] == [(A, b"1"), (B, b"1"), (D, b"1")]


def test_many_random_keys_come_back_sorted(state: State) -> None:
    keys = [(index * 2654435761 % 2**32).to_bytes(4) + bytes(28) for index in range(5_000)]
    state.write(batch(rows=dict.fromkeys(keys, b"x")))
    state.write(batch(height=2, rows=dict.fromkeys(keys[::2], None)))
    assert [key for key, _ in state.scan(b"", None)] == sorted(keys[1::2])

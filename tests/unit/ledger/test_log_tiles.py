"""Tiles of the log: their paths in one spelling, and which there are for a size (C2SP tlog-tiles)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yilian import canonical
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.log import Leaf
from yilian.ledger.tiles import Tile, encode_bundle, leaf_hash, parse_bundle, parse_leaf, parse_path, tiles_of
from yilian.values import institution_id, op_id, unix_millis

LEAF = Leaf(
    height=1,
    time=unix_millis(2),
    actor=institution_id(sha256(b"actor")),
    op_id=op_id(bytes(16)),
    operation=sha256(b"operation"),
    result=(),
    changes=sha256(b"changes"),
    claims_root=None,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(level=0, index=0), "0/000"),
        (Tile(level=1, index=1_234_067), "1/x001/x234/067"),
        (Tile(level=0, index=273, width=112), "0/273.p/112"),
        (Tile(level=None, index=1_000, width=1), "entries/x001/000.p/1"),
    ],
)
def test_a_path_is_the_one_of_the_specification(tile: Tile, path: str) -> None:
    assert (tile.path, parse_path(path)) == (path, tile)


@given(st.builds(Tile, level=st.none() | st.integers(0, 7), index=st.integers(0, 10**12), width=st.integers(1, 256)))
def test_parsing_a_path_undoes_writing_it(tile: Tile) -> None:
    assert parse_path(tile.path) == tile


@pytest.mark.parametrize(
    "text", ["", "0", "0/1", "0/x000/001", "8/000", "0/000.p/256", "0/000.p/0", "0/000/", "entries/00x", "0/٠٠٠"]
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        parse_path(text)


def test_a_log_has_these_tiles() -> None:
    size = 256 * 256 + 256 + 3
    tiles = [tile.path for tile in tiles_of(size)]
    assert tiles[256:258] == ["entries/256", "entries/257.p/3"]
    assert tiles[-4:] == ["0/257.p/3", "1/000", "1/001.p/1", "2/000.p/1"]
    assert len(tiles) == 2 * 258 + 3
    assert list(tiles_of(0)) == []


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_a_bundle_gives_its_leaves_back(leaves: list[bytes]) -> None:
    assert parse_bundle(encode_bundle(leaves), len(leaves)) == tuple(leaves)


@pytest.mark.parametrize(("data", "width"), [(b"\0\1a\0", 1), (b"\0\5a", 1), (b"\0\1a", 2), (b"\0\1a\0\1b", 1)])
def test_a_bundle_of_another_number_or_with_more_bytes_is_refused(data: bytes, width: int) -> None:
    with pytest.raises(VerificationError, match="fetch it again"):
        parse_bundle(data, width)


def test_a_leaf_is_read_strictly_and_hashed_as_the_log_does() -> None:
    raw = canonical.encode(LEAF)
    assert parse_leaf(raw) == LEAF
    assert leaf_hash(raw) == sha256(b"\0", raw)
    with pytest.raises(VerificationError):
        parse_leaf(raw + b"\0")

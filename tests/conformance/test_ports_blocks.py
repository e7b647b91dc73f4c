"""One suite over every adapter of the `Blocks` port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from yilian.errors import ConflictError, NotFoundError
from yilian.ledger.ports import Blocks
from yilian.storage.segments import SegmentBlocks
from yilian.testing.stores import MemoryBlocks


@pytest.fixture(params=["segments", "small-segments", "memory"])
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blocks]:
    stores: dict[str, Callable[[], Blocks]] = {
        "segments": lambda: SegmentBlocks(tmp_path / "blocks"),
        "small-segments": lambda: SegmentBlocks(tmp_path / "blocks", segment_bytes=64),
        "memory": MemoryBlocks,
    }
    store = stores[request.param]()
    yield store
    store.close()


def fill(blocks: Blocks, count: int) -> None:
    for height in range(1, count + 1):
        blocks.append(height, b"block %d" % height)


def test_an_empty_chain_is_at_height_0(blocks: Blocks) -> None:
    assert blocks.last_height() == 0


def test_appended_blocks_are_read_back(blocks: Blocks) -> None:
    fill(blocks, 20)
    assert blocks.last_height() == 20
    assert [blocks.read(height) for height in range(1, 21)] == [b"block %d" % height for height in range(1, 21)]


@pytest.mark.parametrize("height", [0, 3, 5])
def test_only_the_next_height_is_taken(blocks: Blocks, height: int) -> None:
    fill(blocks, 3)
    with pytest.raises(ConflictError):
        blocks.append(height, b"x")
    assert blocks.last_height() == 3


@pytest.mark.parametrize("height", [-1, 0, 4])
def test_a_height_that_is_not_there_is_not_found(blocks: Blocks, height: int) -> None:
    fill(blocks, 3)
    with pytest.raises(NotFoundError):
        blocks.read(height)


@pytest.mark.parametrize("kept", [0, 1, 4, 5, 9, 12])
def test_truncating_drops_what_is_above_and_appending_goes_on(blocks: Blocks, kept: int) -> None:
    fill(blocks, 9)
    blocks.truncate_after(kept)
    left = min(kept, 9)
    assert blocks.last_height() == left
    blocks.append(left + 1, b"again")
    assert blocks.read(left + 1) == b"again"
    assert [blocks.read(height) for height in range(1, left + 1)] == [b"block %d" % h for h in range(1, left + 1)]

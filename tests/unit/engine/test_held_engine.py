"""A held engine: it makes no block, takes over those that others keep, and goes on from there."""

from __future__ import annotations

from contextlib import closing

import pytest

from bench.world import World
from yilian.errors import ConflictError, UnavailableError, VerificationError
from yilian.storage.memory import MemoryBlocks, MemoryState

WAIT_S = 60.0


def test_a_held_engine_takes_over_blocks_and_then_makes_the_next() -> None:
    world = World(10)
    with (
        closing(world.engine(MemoryState(), MemoryBlocks())) as whole,
        closing(world.engine(MemoryState(), MemoryBlocks())) as restored,
    ):
        for number in (1, 2):
            whole.submit(world.transaction([world.publication(number)])).result(WAIT_S)
        restored.hold("restored")
        with pytest.raises(UnavailableError, match=r"makes no block yet \(restored\)"):
            restored.submit(world.transaction([world.publication(3)]))
        with pytest.raises(VerificationError, match="height"):
            restored.adopt(whole.encoded_block(2))
        for height in (1, 2):
            restored.adopt(whole.encoded_block(height))
        assert (restored.head(), restored.held) == (whole.head(), "restored")
        restored.release()
        with pytest.raises(ConflictError, match="blocks are made here"):
            restored.adopt(whole.encoded_block(2))
        restored.submit(world.transaction([world.publication(3)])).result(WAIT_S)
        assert (restored.head().height, restored.held) == (3, None)

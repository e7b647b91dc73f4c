"""`State` and `Blocks` in memory, for tests."""

from __future__ import annotations

from yilian.storage.memory import MemoryBlocks, MemoryState

__all__ = ["MemoryBlocks", "MemoryState"]

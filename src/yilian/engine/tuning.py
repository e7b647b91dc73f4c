"""What a process that serves an engine sets once at its start."""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 50_000, 20, 100


def ease_collector() -> None:
    """Let Python's collector of circles run seldom, and pass over everything that stands already.

    Values of the ledger form no circles. With the default of 700 new objects a run, the collector walks thousands of
    waiting answers again and again: measured, a tenth of the time of an operation.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)

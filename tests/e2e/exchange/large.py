"""Move one large record between two institutions of one process and print by how much its peak memory grew.

Run as a program with a folder and a size in bytes: prints JSON with `added_mb` for both sides together.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.e2e.exchange.pair import Pair, found_home
from yilian.values import day_of, month_of
from yilian.workflows.catalog.opening import publish_file
from yilian.workflows.catalog.service import Label


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


class _Added:
    """Peak of resident memory since its beginning, above what was resident then."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _status_mb("VmRSS")

    def mb(self) -> float:
        return _status_mb("VmHWM") - self._before


def main(folder: Path, size: int) -> None:
    """Publish, fetch and verify a small record, then a large one; measure the second."""
    pair = Pair(found_home(folder)).start()
    pair.register()
    small = pair.publish(b"small" * 1000)
    warm = pair.fetch(pair.grant(small))
    source = folder / "large"
    with source.open("wb") as file:
        file.truncate(size)
        file.write(b"not all zeros")
    sealing = _Added()
    month = month_of(day_of(pair.node.clock()))
    with source.open("rb") as file:
        entry = publish_file(pair.centre, Label(subject_ref=pair.subject, kind="C0002", level=3, month=month), file)
    sealing_mb = sealing.mb()
    fetching = _Added()
    started = time.monotonic()
    fetched = pair.fetch(pair.grant((entry,)))
    seconds = time.monotonic() - started
    added_mb = fetching.mb()
    pair.stop()
    print(  # noqa: T201 - what the test reads
        json.dumps(
            {
                "verified": warm.verified and fetched.verified,
                "sealing_mb": sealing_mb,
                "added_mb": added_mb,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

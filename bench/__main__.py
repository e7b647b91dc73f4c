"""Run all parts, or those named: `python -m bench [PART …]`; ends with 1 where a target is missed.

A part is a module of this package with `measure()`, which gives its measurements one by one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

from bench import ceilings, report
from bench.report import Measurement
from yilian.engine.tuning import ease_collector

PARTS = ("machine", "follower", "growth", "ingest", "http", "exchange", "proofs")


def measurements(parts: tuple[str, ...]) -> Iterator[Measurement]:
    """Give everything, with the machine's ceilings before and after."""
    yield from ceilings.measure("before")
    for part in parts:
        yield from importlib.import_module(f"bench.{part}").measure()
    yield from ceilings.measure("after")


def main() -> int:
    """Measure, print and keep."""
    parts = tuple(sys.argv[1:]) or PARTS
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        print(f"unknown part {', '.join(unknown)}: there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    ease_collector()
    done = []
    for each in measurements(parts):
        done.append(each)
        print(report.table([each]).splitlines()[1], file=sys.stderr, flush=True)
    print(report.table(done))
    report.keep(done)
    return 1 if any(each.ok is False for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())

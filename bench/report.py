"""What a measurement is, how it is judged, printed and kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

LATEST = Path(__file__).parent / "latest.json"


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `ratio` to what its part names; `ok` None where there is no target."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    target: str | None = None
    """Such as `>= 0.8`, of the ratio."""
    ok: bool | None = None


Kind = Literal[">=", "<="]


def measured(name: str, value: float, unit: str) -> Measurement:
    """Make a line without target."""
    return Measurement(name=name, value=round(value, 3), unit=unit)


def judged(
    name: str, value: float, unit: str, *, ratio: float, kind: Kind | None = None, bound: float = 0.0
) -> Measurement:
    """Make a line with a ratio, and with `kind` a target for it."""
    if kind is None:
        return Measurement(name=name, value=round(value, 3), unit=unit, ratio=round(ratio, 3))
    ok = ratio >= bound if kind == ">=" else ratio <= bound
    return Measurement(
        name=name, value=round(value, 3), unit=unit, ratio=round(ratio, 3), target=f"{kind} {bound:g}", ok=ok
    )


def rate(step: Callable[[], int], seconds: float) -> float:
    """Repeat a step for so long and give its units a second; the step says how many it did."""
    done = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        done += step()
    return done / elapsed


def table(measurements: Iterable[Measurement]) -> str:
    """Lay measurements out in columns."""
    lines = [f"{'':58} {'value':>13} {'unit':10} {'ratio':>7} {'target':>8}"]
    for each in measurements:
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        verdict = {None: "", True: "ok", False: "MISSED"}[each.ok]
        lines.append(f"{each.name:58} {each.value:13,.1f} {each.unit:10} {ratio:>7} {each.target or '':>8} {verdict}")
    return "\n".join(lines)


def keep(measurements: Iterable[Measurement], path: Path = LATEST) -> None:
    """Write measurements as JSON: a list of {name, value, unit, ratio, target, ok}."""
    path.write_text(json.dumps([msgspec.structs.asdict(each) for each in measurements], indent=1) + "\n")

"""How measurements are judged, laid out and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import exchange, report


@pytest.mark.parametrize(
    ("kind", "ratio", "ok"), [(">=", 0.8, True), (">=", 0.79, False), ("<=", 0.8, True), ("<=", 0.81, False)]
)
def test_a_ratio_at_its_bound_is_in_order(kind: report.Kind, ratio: float, ok: bool) -> None:
    line = report.judged("x", 1.0, "op/s", ratio=ratio, kind=kind, bound=0.8)
    assert (line.ok, line.target) == (ok, f"{kind} 0.8")


def test_a_line_without_target_is_not_judged() -> None:
    line = report.judged("x", 1.0, "op/s", ratio=2.0)
    assert (line.ok, line.target, line.ratio) == (None, None, 2.0)


def test_the_table_says_which_target_is_missed() -> None:
    lines = [
        report.measured("plain", 1234.5, "ms"),
        report.judged("good", 1.0, "x", ratio=1.0, kind=">=", bound=1.0),
        report.judged("bad", 1.0, "x", ratio=0.5, kind=">=", bound=1.0),
    ]
    _, plain, good, bad = report.table(lines).splitlines()
    assert "1,234.5 ms" in plain
    assert good.endswith("ok")
    assert bad.endswith("MISSED")


def test_measurements_are_kept_with_exactly_their_fields(tmp_path: Path) -> None:
    report.keep([report.measured("plain", 1.5, "ms")], tmp_path / "latest.json")
    assert json.loads((tmp_path / "latest.json").read_text()) == [
        {"name": "plain", "value": 1.5, "unit": "ms", "ratio": None, "target": None, "ok": None}
    ]


def test_the_exchange_is_judged_by_its_95th_percentiles() -> None:
    seconds = {
        "plain fetch": [0.010] * 20,
        "commit": [0.002] * 20,
        "transfer": [0.015] * 20,
        "whole exchange": [0.025] * 20,
        exchange.IN_MEMORY: [0.005] * 20,
    }
    judged = [line for line in exchange.judge(seconds) if line.target]
    assert [(line.ratio, line.ok) for line in judged] == [(1.5, True), (1.562, False)]
    assert exchange.percentile_95(list(range(1, 22))) == 20

"""The measurement of receipts, on a small chain."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench import proofs


def test_each_kind_gives_size_and_both_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "PROOFS", 3)

    with closing(proofs.Stand(tmp_path, logged=5_000, live=100, executed=200)) as stand:
        lines = list(proofs.measured_on(stand))

    assert [line.name for line in lines] == [
        f"proofs: {kind}, {what}"
        for kind in ("operation", "presence", "absence")
        for what in ("bytes beyond it", "made", "checked")
    ]
    assert [line.target for line in lines] == ["<= 1"] * 9
    assert all(line.ok for line in lines if line.unit == "bytes")

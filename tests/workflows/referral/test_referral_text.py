"""Every word that a person meets has 中文 and English."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from yilian.workflows import referral
from yilian.workflows.referral.model import (
    CancelReason,
    Direction,
    Flag,
    Missing,
    Referral,
    RejectReason,
    Urgency,
)
from yilian.workflows.referral.table import TABLE

TEXT = tomllib.loads((Path(referral.__file__).parent / "text.toml").read_text(encoding="utf-8"))
VALUES = tuple(dict.fromkeys((*Direction, *Urgency, *RejectReason, *CancelReason, *Missing)))
INPUTS = tuple(
    dict.fromkeys(
        field for row in TABLE for field in row.command.__struct_fields__ if field not in Referral.__struct_fields__
    )
)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        pytest.param(TEXT["flags"], tuple(Flag), id="flags"),
        pytest.param(TEXT["inputs"], INPUTS, id="inputs"),
        pytest.param(TEXT["values"], VALUES, id="values"),
    ],
)
def test_flags_inputs_and_values_are_all_named_and_no_other(section: Mapping[str, Any], words: tuple[str, ...]) -> None:
    assert sorted(section) == sorted(str(word) for word in words)

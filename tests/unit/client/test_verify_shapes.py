"""The names of fields that a verifier reads rows by: those of the registry, and frozen."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from tools import freeze_shapes
from yilian.client.shapes import fields_of, is_for_patients, plain
from yilian.errors import VerificationError
from yilian.ledger.receipt import Row


def test_the_table_is_the_registry_s() -> None:
    text = files("yilian.client").joinpath("shapes.json").read_text(encoding="utf-8")
    assert text == freeze_shapes.text(), "run tools/freeze_shapes.py and review what changed"
    assert json.loads(text)["cases"]["key"]["1"][0] == "owner"


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(Row(natural_key=b"case/", case=(2, "use", ()), fields=(1,)), id="a-shape-to-come"),
        pytest.param(Row(natural_key=b"case/", case=(1, "unknown", ()), fields=(1,)), id="an-unknown-type"),
        pytest.param(Row(natural_key=b"case/", case=(1, "use", ()), fields=(1,)), id="too-few-fields"),
        pytest.param(Row(natural_key=b"reg/nobody/nothing", case=None, fields=(1,)), id="an-unknown-register"),
    ],
)
def test_a_row_that_is_not_known_is_not_guessed(row: Row) -> None:
    with pytest.raises(VerificationError, match="install a newer yilian"):
        fields_of(row)


def test_registers_are_named_by_their_key() -> None:
    row = Row(natural_key=b"reg/audit/sequence\x00\x20" + bytes(32), case=None, fields=(7,))
    assert fields_of(row) == {"last": 7}


def test_only_the_patients_own_commands_are_for_patients() -> None:
    assert is_for_patients("consent.sign")
    assert not is_for_patients("grant.revoke")


def test_bytes_are_told_in_hexadecimal() -> None:
    assert plain([b"\x01", (2, None, "x")]) == ["01", [2, None, "x"]]

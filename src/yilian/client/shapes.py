"""Names of the fields of rows, so that a verifier reads them without the workflows; see tools/freeze_shapes.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from yilian.errors import VerificationError
from yilian.ledger.receipt import Row


def fields_of(row: Row) -> Mapping[str, Any]:
    """Give a row's fields by name.

    Raises:
        VerificationError: this version does not know the type and shape of the row.
    """
    names = _names_of(row)
    if names is None or len(names) != len(row.fields):
        what = f"{row.case[1]} of shape {row.case[0]}" if row.case else row.natural_key.hex()
        raise VerificationError(f"no names for {len(row.fields)} fields of {what}: install a newer yilian")
    return dict(zip(names, row.fields, strict=True))


def is_for_patients(command: str) -> bool:
    """Say whether nobody but the patient, or the home that speaks for the patient, may sign a command."""
    return command in _table()["patient_commands"]


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """Give a decoded value as JSON has it: bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def _names_of(row: Row) -> Sequence[str] | None:
    table = _table()
    if row.case is not None:
        shape, word, _ = row.case
        return table["cases"].get(word, {}).get(str(shape))  # type: ignore[no-any-return]  # JSON of our own
    for word, names in table["registers"].items():
        if row.natural_key.startswith(f"reg/{word}".encode()):
            return names  # type: ignore[no-any-return]  # JSON of our own
    return None


@cache
def _table() -> Any:  # noqa: ANN401 - JSON
    return json.loads(files("yilian.client").joinpath("shapes.json").read_text(encoding="utf-8"))

"""Every word of the consentue has both languages."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from yilian.workflows.consent import WORKFLOW


def test_every_state_command_refusal_field_and_parameter_has_both_languages() -> None:
    text = tomllib.loads(files("yilian.workflows.consent").joinpath("text.toml").read_text(encoding="utf-8"))

    assert set(text["cases"]) == {case.word for case in WORKFLOW.cases}
    assert {word: tuple(states) for word, states in text["states"].items()} == {
        case.word: case.states for case in WORKFLOW.cases
    }
    assert set(text["commands"]) == {row.name for case in WORKFLOW.cases for row in case.rows}
    assert tuple(text["refusals"]) == tuple(code.name for code in WORKFLOW.refusals)
    assert tuple(text["parameters"]) == tuple(spec.name for spec in WORKFLOW.parameters)
    assert {word: tuple(fields) for word, fields in text["fields"].items()} == {
        case.word: case.fields.__struct_fields__ for case in WORKFLOW.cases
    }

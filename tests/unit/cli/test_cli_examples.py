"""Every verb's help ends with an example, and every example is a command line that the verb takes."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

NOUNS = ("record", "screen", "consent", "grant", "referral", "audit", "proof", "wallet", "log")


def _verbs() -> Iterator[Any]:
    for noun in NOUNS:
        group = typer.main.get_command(importlib.import_module(f"yilian.cli.{noun}").app)
        for name, command in group.commands.items():  # type: ignore[attr-defined]  # a group
            yield pytest.param(noun, name, command, id=f"{noun} {name}")


@pytest.mark.parametrize(("noun", "name", "command"), list(_verbs()))
def test_the_example_in_the_help_is_a_line_that_the_verb_takes(  # the type of a command is typer's own
    noun: str,
    name: str,
    command: Any,  # noqa: ANN401
) -> None:
    example = re.search(r"Example: (yilian .*)", " ".join(str(command.help).split()))

    assert example is not None
    words = shlex.split(example[1].split(" < ")[0])
    assert words[:2] == ["yilian", noun] or (noun, words[1]) == ("consent", "grant")
    context = command.make_context(name, words[3:], resilient_parsing=False)
    assert context.params


def test_screening_without_a_verb_has_an_example_too() -> None:
    group = typer.main.get_command(importlib.import_module("yilian.cli.screen").app)

    assert "Example: yilian screen --north --urban" in str(group.help)
